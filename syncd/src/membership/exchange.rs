//! What this device and each peer know of each other's realm, and what follows: who gets which links and secrets, what
//! comes of those that are told, who is taken in, who is cut off, who renews the secret. No IO, no clock, no
//! randomness: the node runs it over sessions and the simulator over a network that it makes up.

use super::{Kept, insert, roster_of};
use protocol::limits::{LINKS_PER_MESSAGE_MAX, ROSTER_EPOCHS_HELD_MAX};
use protocol::model::{DeviceId, LinkHash, RealmId};
use protocol::realm::{Link, Op, Refused, Role, Roster};
use protocol::wire::message::{EpochSecret, Heads, LinkBytes, Links, Message, Secrets};
use std::collections::BTreeMap;

/// What goes on with peers about the realm.
#[derive(Default)]
pub struct Exchange {
    /// What connected peers know of their realm: what they said last, and what they were sent since.
    told: BTreeMap<DeviceId, Heads>,
    /// Epochs whose secrets they said that they have, or told us.
    holds: BTreeMap<DeviceId, Vec<[u8; 32]>>,
    /// Lists of realms that we are told of, and are not yet in.
    joining: BTreeMap<DeviceId, Roster>,
}

/// What comes of links that a peer told.
pub struct Outcome {
    /// The realm as it is to be kept from now on, if that changes.
    pub kept: Option<Kept>,
    /// It is another realm than before, or the first.
    pub joins: bool,
    /// Set when no honest device sends that; what came before the fault counts.
    pub refused: Option<Refused>,
}

impl Outcome {
    const fn of(kept: Option<Kept>, joins: bool) -> Self {
        Self { kept, joins, refused: None }
    }

    const fn refusal(refused: Refused) -> Self {
        Self { kept: None, joins: false, refused: Some(refused) }
    }
}

/// What becomes of a paired device that is in no realm, or in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It is taken in here.
    In,
    /// It takes this device in.
    Wait,
    /// Each belongs to others.
    Apart,
}

impl Exchange {
    /// On another session what was said on the last one may be lost.
    pub fn begins(&mut self, peer: &DeviceId) {
        self.told.remove(peer);
        self.holds.remove(peer);
        self.joining.remove(peer);
    }

    /// A peer says what it knows of its realm.
    pub fn heard(&mut self, peer: DeviceId, heads: Heads) {
        self.holds.insert(peer, heads.epochs.clone());
        self.told.insert(peer, heads);
    }

    /// Connected peers that are in no realm, or in another than this one, with what they said. Looked at when this device comes
    /// into a realm: nobody else may have a reason to speak.
    #[must_use]
    pub fn strangers(&self, realm: RealmId) -> Vec<(DeviceId, Heads)> {
        let is_stranger = |heads: &Heads| heads.realm.map(RealmId) != Some(realm);
        self.told.iter().filter(|(_, heads)| is_stranger(heads)).map(|(id, heads)| (*id, heads.clone())).collect()
    }

    /// A peer tells secrets: it has them, and need not be told.
    pub fn told_secrets(&mut self, peer: &DeviceId, secrets: &[EpochSecret]) {
        let holds = self.holds.entry(*peer).or_default();
        let told = self.told.get_mut(peer).map(|told| &mut told.epochs);
        for epochs in [holds].into_iter().chain(told) {
            for secret in secrets {
                // No honest device has more to tell.
                if epochs.len() < 2 * ROSTER_EPOCHS_HELD_MAX && !epochs.contains(&secret.epoch) {
                    epochs.push(secret.epoch);
                }
            }
        }
    }

    /// The epoch whose secret this device and a connected member dial each other with from now on: the latest that both
    /// have, as far as each has said.
    #[must_use]
    pub fn agreed(&self, kept: &Kept, peer: &DeviceId) -> Option<LinkHash> {
        let holds = self.holds.get(peer).filter(|_| kept.realm().members.contains_key(peer));
        kept.common_epoch(holds?)
    }

    /// What a peer lacks, by what it said last and what it was sent since; from now on it counts as sent.
    pub fn owed(&mut self, kept: &Kept, own: &DeviceId, peer: &DeviceId) -> Vec<Message> {
        let realm = kept.realm();
        let Some(told) = self.told.get_mut(peer) else { return Vec::new() };
        if told.realm.map(RealmId) != Some(realm.id) {
            // One that was taken in and does not know it, whoever did that, gets all of it.
            if !realm.members.contains_key(peer) || kept.taking(own, peer, told) != Taking::In {
                return Vec::new();
            }
            *told = Heads { realm: Some(*realm.id.as_bytes()), ..Heads::default() };
        }
        let known: Vec<LinkHash> = told.heads.iter().map(|hash| LinkHash(*hash)).collect();
        let links: Vec<LinkBytes> =
            kept.roster().links_after(&known).map(|link| LinkBytes(link.as_bytes().to_vec())).collect();
        let is_member = realm.members.contains_key(peer);
        let secrets = if is_member { kept.secrets_beyond(&told.epochs) } else { Vec::new() };
        told.heads = kept.heads(own, peer).heads;
        told.epochs.extend(secrets.iter().map(|secret| secret.epoch));
        let links = links.chunks(LINKS_PER_MESSAGE_MAX).map(|some| Message::Links(Links { links: some.to_vec() }));
        let secrets = Some(secrets).filter(|secrets| !secrets.is_empty());
        links.chain(secrets.map(|secrets| Message::Secrets(Secrets { secrets }))).collect()
    }

    /// A peer tells links, parents first: of our realm, or of one that it takes us into.
    pub fn offered(&mut self, ours: Option<&Kept>, own: &DeviceId, peer: &DeviceId, links: &Links) -> Outcome {
        let bytes = || links.links.iter().map(|link| link.0.as_slice());
        let Some(first) = bytes().next().and_then(|link| Link::parse(link).ok()) else {
            return Outcome::refusal(Refused::Malformed);
        };
        if let Some(ours) = ours.filter(|kept| kept.realm().id == first.realm()) {
            let mut kept = ours.clone();
            let refused = kept.insert(bytes()).err();
            let changed = kept.roster().hash() != ours.roster().hash();
            return Outcome { kept: changed.then_some(kept), joins: false, refused };
        }
        let roster = match self.joining.remove(peer).filter(|roster| roster.id() == first.realm()) {
            // Of a realm that one of the two was in when it was sent. Should this device join it, HEADS bring all of it.
            None if !matches!(first.op(), Op::Genesis(_)) => return Outcome::of(None, false),
            None => roster_of(bytes()),
            Some(mut roster) => bytes().try_for_each(|link| insert(&mut roster, link)).map(|()| roster),
        };
        let kept = match roster {
            Ok(roster) => Kept::of(roster),
            Err(refused) => return Outcome::refusal(refused),
        };
        if kept.replaces(ours, own, peer) {
            return Outcome::of(Some(kept), true);
        }
        if !kept.realm().members.contains_key(own) {
            // The rest is still to come.
            self.joining.insert(*peer, kept.roster().clone());
        }
        Outcome::of(None, false)
    }
}

impl Kept {
    /// Who takes in whom when `peer` tells of no realm, or of another: who is alone joins the other. Of two that are
    /// alone, the one whose realm has the smaller id takes the other in.
    #[must_use]
    pub fn taking(&self, own: &DeviceId, peer: &DeviceId, heads: &Heads) -> Taking {
        let (we_are_alone, they_are_alone) = (self.others(own, peer) == 0, heads.others == 0);
        match (we_are_alone, they_are_alone, heads.realm) {
            (_, true, None) | (false, true, _) => Taking::In,
            (true, true, Some(theirs)) if self.realm().id < RealmId(theirs) => Taking::In,
            (true, ..) => Taking::Wait,
            (false, false, _) => Taking::Apart,
        }
    }

    /// Whether a device stays a member with one more link. Whoever takes back what added it would choose the next secret and be
    /// out itself.
    #[must_use]
    pub fn stays_with(&self, own: &DeviceId, link: &Link) -> bool {
        let mut after = self.clone();
        after.insert([link.as_bytes()]).is_ok() && after.realm().members.contains_key(own)
    }

    /// Whether a paired device is to be cut off: one that was removed, or that was met as a member (`by_realm`) and is
    /// none any more, since whoever added it had no right to.
    #[must_use]
    pub fn cuts_off(&self, id: &DeviceId, by_realm: bool) -> bool {
        self.realm().removed.contains(id) || by_realm && !self.realm().members.contains_key(id)
    }

    /// The epoch to dial a member with instead of `epoch`, if that has lost its effect or is too old to be held. The other
    /// may never have agreed on it, and knows it no more either.
    #[must_use]
    pub fn instead_of(&self, epoch: LinkHash) -> Option<LinkHash> {
        let held = |secret: &&EpochSecret| secret.epoch == *epoch.as_bytes();
        let latest = self.secrets.first().filter(|_| !self.secrets.iter().any(|secret| held(&secret)));
        latest.map(|secret| LinkHash(secret.epoch))
    }

    /// How many come before this device to renew the secret, if that is due and an admin's: of those that are there the most
    /// senior is the first, so that not all do it at once. Whoever comes later waits its turn, so that one that will not do it
    /// keeps nobody from it.
    #[must_use]
    pub fn renewal_turn(&self, own: &DeviceId, is_here: impl Fn(&DeviceId) -> bool) -> Option<usize> {
        let realm = self.realm();
        let is_admin = |id: &DeviceId| realm.members.get(id).is_some_and(|member| member.role == Role::Admin);
        if !realm.rotation_due || !is_admin(own) {
            return None;
        }
        let age = |id: &DeviceId| realm.members.get(id).map(|member| (member.generation, *id));
        let before = realm.members.keys().filter(|id| *id != own && is_here(id) && is_admin(id) && age(id) < age(own));
        Some(before.count())
    }
}
