//! One honest device: what the node does with its realm (`syncd/src/node/realm.rs`), over the daemon's own exchange. A
//! pairing is the keys that a session can begin with; keys are told apart by where they come from, not derived.

use super::flaw::{Flaw, judged};
use super::thief::Thief;
use protocol::model::{DeviceId, LinkHash, RealmId};
use protocol::realm::{Author, Commit, Denied, DeviceName, Link, Newcomer, Realm, Refused, Role, Roster};
use protocol::wire::identity::{Identity, PublicIdentity};
use protocol::wire::kdf::{Secret32, UnixSeconds};
use protocol::wire::message::{EpochSecret, Heads, LinkBytes, Links, Message, Secrets};
use std::collections::{BTreeMap, BTreeSet};
use syncd::membership::{Exchange, Kept, Taking};

/// A secret is renewed by itself no more often than this.
const ROTATION_REST_SECS: u64 = 60;
/// States that a device can be put back to.
const BACKUPS_MAX: usize = 8;

/// What a session begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// What two devices gave each other when they were paired.
    Met(u64),
    /// That of an epoch.
    Epoch([u8; 32]),
}

/// Another device as it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its keys.
    pub public: PublicIdentity,
    /// What is dialled with.
    pub key: Key,
    /// What was before.
    pub previous: Option<Key>,
}

/// What is on disk.
#[derive(Clone, Default)]
pub struct Saved {
    /// The realm.
    pub kept: Option<Kept>,
    /// The other devices.
    pub known: BTreeMap<DeviceId, Known>,
}

/// What a device sends.
pub struct Sent {
    /// To whom.
    pub to: DeviceId,
    /// What.
    pub message: Message,
    /// It has a reason to send that, as far as it knows: the receiver is not removed, and a member if these are secrets.
    pub fault: Option<&'static str>,
}

/// One device.
pub struct Device {
    /// Who it is, until it leaves.
    pub identity: Identity,
    /// Its id.
    pub id: DeviceId,
    /// What is on disk, which is what is in memory.
    pub disk: Saved,
    /// Who is connected.
    pub peers: BTreeSet<DeviceId>,
    /// To be sent.
    pub outbox: Vec<Sent>,
    /// Links that it signed and took in.
    pub signed: Vec<Link>,
    /// Sessions that it broke off, and why.
    pub broken: Vec<(DeviceId, Refused)>,
    /// Set: it is killed as soon as its next change is saved. What becomes of it is for the world.
    pub torn: bool,
    /// It was killed.
    pub killed: bool,
    /// Somebody else has it.
    pub thief: Option<Thief>,
    /// Every secret that ever came here.
    pub wallet: BTreeMap<[u8; 32], Secret32>,
    /// It was put back once: what it shared with others is then no longer what they share with it.
    pub restored: bool,
    /// States that it can be put back to, the last one last.
    pub backups: Vec<Saved>,
    /// What newcomers are to be.
    pub roles: BTreeMap<DeviceId, Role>,
    exchange: Exchange,
    /// From whom HEADS came.
    heard: BTreeSet<DeviceId>,
    rotated: Option<u64>,
    due_since: Option<u64>,
    flaw: Option<Flaw>,
}

/// A name as the simulator gives them.
#[must_use]
pub fn named(text: &str) -> DeviceName {
    DeviceName::new(text).expect("short and plain")
}

impl Device {
    /// A new one.
    #[must_use]
    pub fn new(identity: Identity, flaw: Option<Flaw>) -> Self {
        Self {
            id: identity.id(),
            identity,
            disk: Saved::default(),
            peers: BTreeSet::new(),
            outbox: Vec::new(),
            signed: Vec::new(),
            broken: Vec::new(),
            torn: false,
            killed: false,
            thief: None,
            wallet: BTreeMap::new(),
            restored: false,
            backups: Vec::new(),
            roles: BTreeMap::new(),
            exchange: Exchange::default(),
            heard: BTreeSet::new(),
            rotated: None,
            due_since: None,
            flaw,
        }
    }

    /// Its realm, as it judges it.
    #[must_use]
    pub fn view(&self) -> Option<Realm> {
        self.disk.kept.as_ref().map(|kept| judged(self.flaw, kept.roster(), kept.realm().clone()))
    }

    /// Its roster.
    #[must_use]
    pub fn roster(&self) -> Option<&Roster> {
        match &self.thief {
            Some(thief) => Some(&thief.roster),
            None => self.disk.kept.as_ref().map(Kept::roster),
        }
    }

    /// Which realm it is in.
    #[must_use]
    pub fn realm_id(&self) -> Option<RealmId> {
        self.disk.kept.as_ref().map(|kept| kept.realm().id)
    }

    /// Epochs whose secrets it holds, the latest first.
    #[must_use]
    pub fn epochs(&self) -> Vec<[u8; 32]> {
        self.disk.kept.as_ref().map(|kept| kept.heads(&self.id, &self.id).epochs).unwrap_or_default()
    }

    /// Whether it is honest, and one of its realm as far as it knows.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.thief.is_none() && self.view().is_some_and(|realm| realm.members.contains_key(&self.id))
    }

    /// Whether it pairs with others: alone, or as an admin.
    #[must_use]
    pub fn may_add(&self) -> bool {
        let own = self.view().and_then(|realm| realm.members.get(&self.id).map(|member| member.role));
        own.is_none_or(|role| role == Role::Admin)
    }

    /// What it dials another one with.
    pub fn dials_with(&self, peer: &DeviceId) -> impl Iterator<Item = Key> + use<> {
        let known = self.disk.known.get(peer).copied();
        known.into_iter().flat_map(|known| [known.key].into_iter().chain(known.previous))
    }

    /// What it answers another one to.
    #[must_use]
    pub fn answers_to(&self, peer: &DeviceId) -> BTreeSet<Key> {
        let Some(known) = self.disk.known.get(peer) else { return BTreeSet::new() };
        let mut keys: BTreeSet<Key> = [known.key].into_iter().chain(known.previous).collect();
        if self.thief.is_some() {
            keys.extend(self.wallet.keys().copied().map(Key::Epoch));
        } else if self.disk.kept.as_ref().is_some_and(|kept| kept.realm().members.contains_key(peer)) {
            keys.extend(self.epochs().into_iter().map(Key::Epoch));
        }
        keys
    }

    /// A session begins.
    pub fn connected(&mut self, peer: DeviceId) {
        self.peers.insert(peer);
        if self.flaw != Some(Flaw::Remembers) {
            self.exchange.begins(&peer);
        }
        if self.thief.is_some() {
            // It says that it knows nothing, so it gets everything.
            let realm = self.realm_id().map(|id| *id.as_bytes());
            return self.say(peer, Message::Heads(Heads { realm, others: 1, ..Heads::default() }));
        }
        self.tell_heads(peer);
    }

    /// It ends.
    pub fn disconnected(&mut self, peer: &DeviceId) {
        self.peers.remove(peer);
    }

    /// Started again: what was in memory only is lost.
    pub fn restarted(&mut self) {
        (self.torn, self.killed) = (false, false);
        self.outbox.clear();
        self.peers.clear();
        self.exchange = Exchange::default();
        (self.rotated, self.due_since) = (None, None);
        if self.thief.is_none() && self.flaw != Some(Flaw::Unsettled) {
            self.realm_changed();
        }
    }

    fn tell_heads(&mut self, peer: DeviceId) {
        let heads = self.disk.kept.as_ref().map(|kept| kept.heads(&self.id, &peer)).unwrap_or_default();
        self.say(peer, Message::Heads(heads));
    }

    /// Sends something, if there is a session.
    pub fn say(&mut self, to: DeviceId, message: Message) {
        if !self.peers.contains(&to) {
            return;
        }
        let realm = self.disk.kept.as_ref().filter(|_| self.thief.is_none()).map(Kept::realm);
        let is_removed = realm.is_some_and(|realm| realm.removed.contains(&to));
        let is_member = realm.is_none_or(|realm| realm.members.contains_key(&to));
        let fault = match &message {
            _ if is_removed => Some("a message to a device that is known to be removed"),
            Message::Secrets(_) if !is_member => Some("secrets to a device that is no member"),
            _ => None,
        };
        self.outbox.push(Sent { to, message, fault });
    }

    /// Something came.
    pub fn message(&mut self, from: DeviceId, message: Message, now: UnixSeconds) {
        if let Message::Secrets(Secrets { secrets }) = &message {
            let real = secrets.iter().filter(|told| self.is_real(told));
            let real: Vec<_> = real.map(|told| (told.epoch, told.secret.clone())).collect();
            self.wallet.extend(real);
        }
        if let Some(thief) = &mut self.thief {
            return thief.hears(&message);
        }
        match message {
            Message::Heads(heads) => self.heads_told(from, heads, now),
            Message::Links(links) => self.links_told(from, &links, now),
            Message::Secrets(told) => {
                self.exchange.told_secrets(&from, &told.secrets);
                self.learn(&told.secrets);
            }
            _ => {}
        }
    }

    /// Whether a secret is that of its epoch, which a thief may lie about.
    fn is_real(&self, told: &EpochSecret) -> bool {
        let commit = Commit::to(&told.secret);
        let begins = |link: &Link| *link.hash().as_bytes() == told.epoch;
        let links = self.roster().into_iter().flat_map(Roster::links);
        links.filter(|link| begins(link)).any(|link| super::thief::commit(link) == Some(commit))
    }

    fn heads_told(&mut self, from: DeviceId, heads: Heads, now: UnixSeconds) {
        if self.flaw != Some(Flaw::Remembers) || self.heard.insert(from) {
            self.exchange.heard(from, heads.clone());
        }
        let Some(kept) = &self.disk.kept else { return };
        if heads.realm.map(RealmId) != Some(kept.realm().id) {
            return self.stranger_met(from, &heads, now);
        }
        self.pass_on(from);
        self.agree(from);
    }

    fn agree(&mut self, with: DeviceId) {
        let epoch = self.disk.kept.as_ref().and_then(|kept| self.exchange.agreed(kept, &with));
        if let (Some(epoch), Some(known)) = (epoch, self.disk.known.get_mut(&with)) {
            let key = Key::Epoch(*epoch.as_bytes());
            if known.key != key {
                known.previous = Some(std::mem::replace(&mut known.key, key));
            }
        }
    }

    fn pass_on(&mut self, to: DeviceId) {
        let Some(kept) = &self.disk.kept else { return };
        let mut messages = self.exchange.owed(kept, &self.id, &to);
        match self.flaw {
            Some(Flaw::TellsSecrets) if !messages.is_empty() && !kept.realm().members.contains_key(&to) => {
                messages.push(Message::Secrets(Secrets { secrets: kept.secrets_beyond(&[]) }));
            }
            Some(Flaw::KeepsSecret) => messages.retain(|message| {
                let latest = kept.realm().epoch().link;
                let tells = |told: &EpochSecret| LinkHash(told.epoch) == latest;
                !matches!(message, Message::Secrets(told) if kept.realm().epochs.len() > 1 && told.secrets.iter().any(tells))
            }),
            Some(Flaw::ChildrenFirst) => messages.iter_mut().for_each(|message| {
                if let Message::Links(links) = message {
                    links.links.reverse();
                }
            }),
            Some(Flaw::NewestOnly) => messages.iter_mut().for_each(|message| {
                if let Message::Links(links) = message {
                    let older = links.links.len().saturating_sub(1);
                    links.links.drain(..older);
                }
            }),
            _ => {}
        }
        messages.into_iter().for_each(|message| self.say(to, message));
    }

    fn stranger_met(&mut self, from: DeviceId, heads: &Heads, now: UnixSeconds) {
        let (Some(kept), Some(known)) = (&self.disk.kept, self.disk.known.get(&from)) else { return };
        if kept.taking(&self.id, &from, heads) != Taking::In {
            return;
        }
        let role = self.roles.get(&from).copied().unwrap_or(Role::Admin);
        let newcomer = Newcomer { identity: known.public, role, name: named("new") };
        match kept.roster().add(Author::Device(&self.identity), newcomer, now) {
            Ok(link) => self.sign(link, None),
            Err(Denied::AlreadyMember) => {}
            Err(_) => return,
        }
        self.pass_on(from);
    }

    /// As a daemon that has come into a realm.
    pub fn meet_strangers(&mut self, now: UnixSeconds) {
        let Some(realm) = self.disk.kept.as_ref().map(|kept| kept.realm().id) else { return };
        for (id, heads) in self.exchange.strangers(realm) {
            self.stranger_met(id, &heads, now);
        }
    }

    fn links_told(&mut self, from: DeviceId, links: &Links, now: UnixSeconds) {
        let outcome = self.exchange.offered(self.disk.kept.as_ref(), &self.id, &from, links);
        if let Some(kept) = outcome.kept {
            self.keep(kept);
            if outcome.joins {
                self.meet_strangers(now);
            }
        }
        if let Some(refused) = outcome.refused {
            self.broken.push((from, refused));
        }
    }

    fn learn(&mut self, secrets: &[EpochSecret]) {
        let Some(mut kept) = self.disk.kept.clone() else { return };
        if kept.learn(secrets) {
            self.keep(kept);
        }
    }

    /// Takes in a link of its own, with the secret if it begins an epoch.
    pub fn sign(&mut self, link: Link, secret: Option<Secret32>) {
        let Some(mut kept) = self.disk.kept.clone() else { return };
        kept.insert([link.as_bytes()]).expect("an honest link is taken by whoever made it");
        if let Some(secret) = secret {
            let epoch = *link.hash().as_bytes();
            self.wallet.insert(epoch, secret.clone());
            kept.learn(&[EpochSecret { epoch, secret }]);
        }
        self.signed.push(link);
        self.keep(kept);
    }

    /// Saves the realm, then acts on it, unless it is killed in between.
    pub fn keep(&mut self, kept: Kept) {
        if self.killed {
            return;
        }
        self.backups.push(self.disk.clone());
        if self.backups.len() > BACKUPS_MAX {
            self.backups.remove(0);
        }
        self.disk.kept = Some(kept);
        if self.torn {
            self.killed = true;
        } else {
            self.realm_changed();
        }
    }

    fn realm_changed(&mut self) {
        let Some(realm) = self.view() else { return };
        let Some(kept) = &self.disk.kept else { return };
        if !realm.members.contains_key(&self.id) {
            return self.forget(|id, _| realm.members.contains_key(id) || realm.removed.contains(id));
        }
        let gone = |id: &DeviceId, known: &Known| kept.cuts_off(id, matches!(known.key, Key::Epoch(_)));
        let gone: BTreeSet<DeviceId> =
            self.disk.known.iter().filter(|(id, known)| gone(id, known)).map(|(id, _)| *id).collect();
        if self.flaw == Some(Flaw::TellsFirst) {
            self.tell_everybody();
        }
        self.forget(|id, _| gone.contains(id));
        if let (Some(epoch), Some(kept)) = (self.epochs().first(), &self.disk.kept) {
            let key = Key::Epoch(*epoch);
            for (id, member) in realm.members.iter().filter(|(id, _)| **id != self.id) {
                // The list may have forked: what both have then is the oldest.
                let oldest = self.epochs().last().map(|epoch| Key::Epoch(*epoch)).filter(|oldest| *oldest != key);
                let known = Known { public: member.identity, key, previous: oldest };
                let known = self.disk.known.entry(*id).or_insert(known);
                if let Key::Epoch(of) = known.key
                    && let Some(epoch) = kept.instead_of(LinkHash(of))
                {
                    known.previous = Some(std::mem::replace(&mut known.key, Key::Epoch(*epoch.as_bytes())));
                }
            }
        }
        if self.flaw != Some(Flaw::AgreesOnce) {
            self.peers.clone().into_iter().for_each(|id| self.agree(id));
        }
        if self.flaw != Some(Flaw::Silent) || self.signed.last().is_some_and(|link| self.is_newest(link)) {
            self.tell_everybody();
        }
    }

    fn is_newest(&self, link: &Link) -> bool {
        self.roster().and_then(|roster| roster.links().last()).is_some_and(|last| last.hash() == link.hash())
    }

    fn forget(&mut self, is_gone: impl Fn(&DeviceId, &Known) -> bool) {
        self.disk.known.retain(|id, known| !is_gone(id, known));
        self.peers.retain(|id| self.disk.known.contains_key(id));
    }

    fn tell_everybody(&mut self) {
        for id in self.peers.clone() {
            self.tell_heads(id);
            self.pass_on(id);
        }
    }

    /// What a timer does: renews the secret if that is due and for this device to do.
    pub fn rotate_due(&mut self, now: UnixSeconds, secret: Secret32) {
        let Some(kept) = self.disk.kept.as_ref().filter(|_| self.flaw != Some(Flaw::NeverRotates)) else {
            return;
        };
        let turn = kept.renewal_turn(&self.id, |id| self.peers.contains(id));
        let Some(turn) = turn else {
            self.due_since = None;
            return;
        };
        let since = *self.due_since.get_or_insert(now.0);
        let rests = self.rotated.is_some_and(|then| now.0 < then + ROTATION_REST_SECS);
        if rests || now.0 < since + ROTATION_REST_SECS * turn as u64 {
            return;
        }
        self.rotated = Some(now.0);
        if let Ok(link) = kept.roster().rotate(Author::Device(&self.identity), Commit::to(&secret), now) {
            self.sign(link, Some(secret));
        }
    }

    /// Tells everybody who is there that it leaves.
    pub fn farewell(&mut self, now: UnixSeconds) -> Option<Link> {
        let kept = self.disk.kept.as_ref()?;
        let link = kept.roster().leave(&self.identity, now).ok()?;
        let members: Vec<DeviceId> = kept.realm().members.keys().copied().collect();
        for id in members {
            self.say(id, Message::Links(Links { links: vec![LinkBytes(link.as_bytes().to_vec())] }));
        }
        Some(link)
    }
}
