//! The realm at work: what peers are told of it and tell us, who is taken in, and what follows when the list of devices
//! changes. Invariant: every change is on disk before anybody hears of it, and a device that was removed is cut off
//! before anything else is done.

use super::Node;
use super::folders::refused;
use crate::control::NewEvent;
use crate::keys::{DeviceLimits, Pairing};
use crate::membership::{Exchange, Kept, Taking, new_secret};
use protocol::model::{DeviceId, FolderId, LinkHash, RealmId};
use protocol::realm::{
    Author, Commit, Denied, DeviceName, Link, Newcomer, Op, Realm, RecoveryCode, Refused, Role, Signer,
};
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, EventKind, PairingEvent};
use protocol::wire::kdf::UnixSeconds;
use protocol::wire::message::{CloseCode, EpochSecret, Heads, LinkBytes, Links, Message, capability};
use protocol::wire::pair::PairSecret;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The realm's secret is renewed by itself no more often than this, whatever others do; each admin that is there and comes
/// before this device has so long to do it first.
const ROTATION_REST: Duration = Duration::from_secs(60);
/// So long the word that this device leaves may take to go out.
const FAREWELL: Duration = Duration::from_millis(200);
/// What a device is called whose name the realm does not take.
const NAMELESS: &str = "device";

/// What goes on with peers about the realm.
#[derive(Default)]
pub(super) struct Talk {
    /// Paired devices that belong to another realm, with others.
    strangers: BTreeSet<DeviceId>,
    /// When this device last renewed the realm's secret by itself.
    rotated: Option<Instant>,
    /// Since when it is due, and this device could do it.
    due_since: Option<Instant>,
    exchange: Exchange,
    /// Folders here run as those of a device that only reads.
    pub(super) only_reads: bool,
    /// Folders here that this device is out of, by the list.
    pub(super) out_of: BTreeSet<FolderId>,
}

impl Node {
    /// Founds a realm where there is none; the code is shown once and stored nowhere.
    pub(super) async fn found_realm(&mut self) -> Result<Option<RecoveryCode>, ControlError> {
        if self.membership.kept().is_some() {
            return Ok(None);
        }
        let name = device_name(&self.config.settings().name);
        let (kept, code) = Kept::found(&self.identity, name, now()).map_err(|error| refused(&error))?;
        self.keep_realm(Some(kept)).map_err(|error| refused(&error))?;
        tracing::info!("a realm is founded");
        self.realm_changed().await;
        self.meet_strangers().await;
        Ok(Some(code))
    }

    /// On another session what was said on the last one may be lost.
    pub(super) fn realm_begins(&mut self, id: &DeviceId) {
        self.realm.exchange.begins(id);
        self.tell_heads(id);
    }

    /// What a peer is told of the realm; nothing where it is not understood.
    fn tell_heads(&self, id: &DeviceId) {
        let heads = self.membership.kept().map(|kept| kept.heads(&self.id, id)).unwrap_or_default();
        self.say(id, &Message::Heads(heads));
    }

    fn say(&self, id: &DeviceId, message: &Message) {
        if let Some(peer) = self.peers.get(id).filter(|peer| peer.session.hello().capabilities & capability::REALM != 0)
            && peer.session.try_send(message).is_err()
        {
            peer.session.close(CloseCode::BUSY);
        }
    }

    fn tell_everybody(&mut self) {
        let peers: Vec<DeviceId> = self.peers.keys().copied().collect();
        for id in peers {
            self.tell_heads(&id);
            self.pass_on(&id);
            self.tell_of_others(&id);
            self.tell_relaying(&id);
        }
    }

    pub(super) async fn realm_message(&mut self, id: DeviceId, message: Message) {
        let outcome = match message {
            Message::Heads(heads) => self.heads_told(id, heads).await,
            Message::Links(links) => self.links_told(id, &links).await,
            Message::Secrets(secrets) => self.secrets_told(&id, &secrets.secrets).await,
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            tracing::warn!(peer = %id.short(), "what a peer says of the realm is of no use: {error:#}");
        }
    }

    /// A peer says what it knows of its realm.
    async fn heads_told(&mut self, id: DeviceId, heads: Heads) -> anyhow::Result<()> {
        // Also of a realm that this device may be about to join.
        self.realm.exchange.heard(id, heads.clone());
        let Some(kept) = self.membership.kept() else { return Ok(()) };
        if heads.realm.map(RealmId) != Some(kept.realm().id) {
            return self.stranger_met(id, &heads).await;
        }
        self.realm.strangers.remove(&id);
        self.pass_on(&id);
        self.agree(id).await
    }

    /// From now on both dial with the latest secret that both have. Looked at whenever either is heard of more: by what
    /// comes from the other, and by what this device learns later.
    async fn agree(&mut self, id: DeviceId) -> anyhow::Result<()> {
        let agreed = self.membership.kept().and_then(|kept| self.realm.exchange.agreed(kept, &id));
        let is_known = |epoch: &LinkHash| self.pairings.get(&id).is_some_and(|pairing| pairing.epoch == Some(*epoch));
        if let Some(epoch) = agreed.filter(|epoch| !is_known(epoch)) {
            self.agree_on(id, epoch)?;
            self.refresh_secrets(&id).await;
        }
        Ok(())
    }

    /// Sends what a peer lacks, by what it said last and what it was sent since.
    fn pass_on(&mut self, id: &DeviceId) {
        let Some(kept) = self.membership.kept() else { return };
        for message in self.realm.exchange.owed(kept, &self.id, id) {
            self.say(id, &message);
        }
    }

    fn agree_on(&mut self, id: DeviceId, epoch: LinkHash) -> anyhow::Result<()> {
        let secret = self.pair_secrets(&id).into_iter().find(|(of, _)| *of == epoch);
        let Some((_, secret)) = secret else { return Ok(()) };
        self.pairings.update(&id, |pairing| {
            pairing.previous = Some(std::mem::replace(&mut pairing.secret, secret));
            pairing.epoch = Some(epoch);
        })
    }

    fn pair_secrets(&self, id: &DeviceId) -> Vec<(LinkHash, PairSecret)> {
        let (Some(kept), Some(pairing)) = (self.membership.kept(), self.pairings.get(id)) else { return Vec::new() };
        kept.pair_secrets(&self.identity, &pairing.public)
    }

    async fn refresh_secrets(&self, id: &DeviceId) {
        if let Some(config) = self.pairings.get(id).map(|pairing| self.peer_config(pairing)) {
            self.net.set_secrets(*id, config.secret, config.also).await;
        }
    }

    pub(super) fn peer_config(&self, pairing: &Pairing) -> crate::net::PeerConfig {
        super::peer_config(pairing, self.membership.kept(), &self.identity)
    }

    /// A paired device that is in no realm, or in another.
    async fn stranger_met(&mut self, id: DeviceId, heads: &Heads) -> anyhow::Result<()> {
        let Some(kept) = self.membership.kept() else { return Ok(()) };
        match kept.taking(&self.id, &id, heads) {
            Taking::In => {}
            Taking::Wait => return Ok(()),
            Taking::Apart => {
                self.realm.strangers.insert(id);
                return Ok(());
            }
        }
        let Some(pairing) = self.pairings.get(&id) else { return Ok(()) };
        let role = pairing.admit.unwrap_or(Role::Admin);
        let newcomer = Newcomer { identity: pairing.public, role, name: device_name(&pairing.name) };
        match kept.roster().add(Author::Device(&self.identity), newcomer, now()) {
            Ok(link) => {
                let mut kept = kept.clone();
                kept.insert([link.as_bytes()])?;
                self.keep_realm(Some(kept))?;
                self.realm_changed().await;
            }
            // It has not heard of it yet.
            Err(Denied::AlreadyMember) => {}
            Err(denied) => {
                tracing::warn!(peer = %id.short(), "a device is not taken into the realm: {denied}");
                return Ok(());
            }
        }
        self.pass_on(&id);
        Ok(())
    }

    /// This device has come into a realm: those that spoke before are not of it, and have said all that they have to.
    async fn meet_strangers(&mut self) {
        let Some(realm) = self.membership.kept().map(|kept| kept.realm().id) else { return };
        for (id, heads) in self.realm.exchange.strangers(realm) {
            if let Err(error) = self.stranger_met(id, &heads).await {
                tracing::warn!(peer = %id.short(), "a device is not taken into the realm: {error:#}");
            }
        }
    }

    async fn links_told(&mut self, id: DeviceId, links: &Links) -> anyhow::Result<()> {
        let before = self.membership.kept();
        let (outcome, had_one) = (self.realm.exchange.offered(before, &self.id, &id, links), before.is_some());
        // Who was paired to be less than this device takes it in nowhere.
        let is_less = self.pairings.get(&id).and_then(|pairing| pairing.admit).is_some_and(|role| role != Role::Admin);
        if outcome.joins && is_less {
            self.realm.strangers.insert(id);
            return Ok(());
        }
        if let Some(kept) = outcome.kept {
            if outcome.joins {
                tracing::info!(devices = kept.realm().members.len(), "this device joins a realm");
            }
            if outcome.joins && had_one {
                let words =
                    "this device joined the realm of another one: a recovery code that it has shown before is void";
                self.hub.publish(NewEvent::new(EventKind::ConfigChanged, words));
            }
            self.keep_realm(Some(kept))?;
            self.realm_changed().await;
            if outcome.joins {
                self.meet_strangers().await;
            }
        }
        outcome.refused.map_or(Ok(()), |refused| self.break_off(&id, &refused))
    }

    fn break_off(&self, id: &DeviceId, refused: &Refused) -> anyhow::Result<()> {
        if let Some(peer) = self.peers.get(id) {
            peer.session.close(CloseCode::PROTOCOL);
        }
        anyhow::bail!("{refused}")
    }

    async fn secrets_told(&mut self, id: &DeviceId, secrets: &[EpochSecret]) -> anyhow::Result<()> {
        self.realm.exchange.told_secrets(id, secrets);
        let Some(kept) = self.membership.kept() else { return Ok(()) };
        let mut kept = kept.clone();
        if kept.learn(secrets) {
            self.keep_realm(Some(kept))?;
            self.realm_changed().await;
        }
        Ok(())
    }

    pub(super) fn keep_realm(&mut self, kept: Option<Kept>) -> anyhow::Result<()> {
        self.membership.keep(kept)?;
        self.net.set_realm(realm_note(self.membership.kept()));
        self.keep_relaying();
        Ok(())
    }

    /// The list is saved before the pairings are, so a crash may have come in between: nobody whom the list shows as
    /// removed is let in because of it.
    pub(super) async fn realm_settled(&mut self) {
        let Some(realm) = self.membership.kept().map(Kept::realm) else { return };
        let of_realm = |id: &DeviceId| realm.members.contains_key(id) || realm.removed.contains(id);
        // That this device was removed is no news at every start.
        if self.pairings.all().iter().any(|pairing| of_realm(&pairing.id())) || realm.members.contains_key(&self.id) {
            self.realm_changed().await;
        }
    }

    /// The list of devices, or a secret, changed, and is saved: whoever was removed goes, whoever was added comes.
    pub(super) async fn realm_changed(&mut self) {
        let Some(kept) = self.membership.kept() else { return };
        let realm = kept.realm().clone();
        if !realm.members.contains_key(&self.id) {
            return self.cast_out(&realm).await;
        }
        let is_gone = |pairing: &&Pairing| kept.cuts_off(&pairing.id(), pairing.epoch.is_some());
        let gone: Vec<DeviceId> = self.pairings.all().iter().filter(is_gone).map(Pairing::id).collect();
        for id in gone {
            let name = self.device_name(&id);
            if let Err(error) = self.forget_pairing(id).await {
                tracing::error!("a device that was removed from the realm cannot be forgotten: {error:#}");
            }
            let words = format!("{name} was removed from your devices; it keeps the files it already has");
            self.hub.publish(NewEvent::new(EventKind::DeviceRemoved, words));
        }
        let members: Vec<DeviceId> = realm.members.keys().filter(|id| **id != self.id).copied().collect();
        for id in members {
            if let Some(pairing) = self.pairings.get(&id) {
                let kept = self.membership.kept();
                let epoch = kept.and_then(|kept| kept.instead_of(pairing.epoch?));
                let replaced = epoch.map_or(Ok(()), |epoch| self.agree_on(id, epoch));
                self.refresh_secrets(&id).await;
                if let Err(error) = replaced.and(self.agree(id).await) {
                    tracing::error!("another device of the realm cannot be kept: {error:#}");
                }
            } else if let Some(member) = realm.members.get(&id) {
                self.add_member(member).await;
            }
        }
        self.keep_ways().await;
        self.roles_changed();
        self.sharing_changed();
        self.tell_everybody();
    }

    /// Another device of the realm, which this one may never have met.
    async fn add_member(&mut self, member: &protocol::realm::Member) {
        let Some(kept) = self.membership.kept() else { return };
        // Without a secret there is nothing to meet with; it comes with SECRETS. The list may have forked, and what both have
        // then is the oldest.
        let mut secrets = kept.pair_secrets(&self.identity, &member.identity).into_iter();
        let Some((epoch, secret)) = secrets.next() else { return };
        let oldest = secrets.last().map(|(_, secret)| secret);
        let pairing = Pairing {
            public: member.identity,
            name: self.free_device_name(member.name.as_str(), &member.identity.id()),
            secret,
            epoch: Some(epoch),
            previous: oldest,
            admit: None,
            addresses: Vec::new(),
            learned: Vec::new(),
            relays: false,
            paused: false,
            limits: DeviceLimits::default(),
            last_seen_ms: None,
        };
        if let PairingEvent::Failed { why } = self.save_pairing(pairing).await {
            // The next change of the list tries again.
            tracing::error!("another device of the realm cannot be kept: {why}");
        }
    }

    /// Another device of the realm has removed this one.
    async fn cast_out(&mut self, realm: &Realm) {
        tracing::warn!("this device was removed from the realm");
        // Those that were removed themselves included.
        let of_realm = |id: &DeviceId| realm.members.contains_key(id) || realm.removed.contains(id);
        let known: Vec<DeviceId> = self.pairings.all().iter().map(Pairing::id).filter(of_realm).collect();
        for id in known {
            if let Err(error) = self.forget_pairing(id).await {
                tracing::error!("a device cannot be forgotten: {error:#}");
            }
        }
        let words = "this device was removed from your devices; the files stay, and change no more";
        self.hub.publish(NewEvent::new(EventKind::DeviceRemoved, words));
    }

    /// Whether a device belongs to the realm.
    pub(super) fn member_role(&self, id: &DeviceId) -> Option<Role> {
        self.membership.kept().and_then(|kept| kept.realm().members.get(id)).map(|member| member.role)
    }

    /// A member by its name, or, if `disowned`, also one that was removed before by its whole id.
    pub(super) fn member_named(&self, name: &str, disowned: bool) -> Option<DeviceId> {
        let removed = || name.parse().ok().filter(|id| disowned && self.was_removed(id));
        self.find_device(name).ok().filter(|id| self.member_role(id).is_some()).or_else(removed)
    }

    /// Takes a device out of the realm for ever, and if it is disowned all that it did to the list with it; `code` overrides
    /// whatever this device may not do itself.
    pub(super) async fn remove_member(
        &mut self,
        id: DeviceId,
        code: Option<&str>,
        disown: bool,
    ) -> Result<api::Done, ControlError> {
        let kept = self.membership.kept().ok_or_else(|| ControlError::not_found("there is no realm"))?;
        let (name, before) = (self.device_name(&id), added_by(kept, &id));
        let code = self.recovery_code(code)?;
        let author = code.as_ref().map_or(Author::Device(&self.identity), Author::Recovery);
        let secret = new_secret().map_err(|error| refused(&error))?;
        let commit = Commit::to(&secret);
        let link = match disown {
            false => kept.roster().remove(author, id, commit, now()),
            true => kept.roster().disown(author, id, commit, now()),
        };
        let link = link.map_err(|denied| {
            ControlError::refused(denied.to_string())
                .hint("`syncctl device remove NAME --recovery-code -` asks for the code that was shown with the first pairing")
        })?;
        if !kept.stays_with(&self.id, &link) {
            let words = format!("{name} had added this device, which would go with it");
            return Err(
                ControlError::refused(words).hint("do it on a device that was not added by it, nor by one it added")
            );
        }
        let mut kept = kept.clone();
        kept.insert([link.as_bytes()]).map_err(|error| ControlError::internal(error.to_string()))?;
        kept.learn(&[EpochSecret { epoch: *link.hash().as_bytes(), secret }]);
        if kept.realm().rotation_due {
            // The epoch of a disowning is an old one. Where this fails an admin does it within a minute.
            rotated(&mut kept, author)
                .unwrap_or_else(|error| tracing::warn!("the realm's secret is not renewed: {error:#}"));
        }
        let stays = added_by(&kept, &id);
        self.keep_realm(Some(kept)).map_err(|error| refused(&error))?;
        self.realm_changed().await;
        let gone: Vec<String> = before.into_iter().filter(|added| !stays.contains(added)).collect();
        let mut words = format!("{name} is removed from your devices; it keeps the files it already has");
        if !gone.is_empty() {
            words += &format!("; {}, added by it, went with it", gone.join(", "));
        }
        if !stays.is_empty() && !disown {
            words += &format!(
                "; it had added {}: remove what you do not know, or all with `syncctl device remove {id} --disown`",
                stays.join(", ")
            );
        }
        Ok(api::Done::said(words))
    }

    /// Whether a device was taken out of the realm: it can come back only as another one.
    pub(super) fn was_removed(&self, id: &DeviceId) -> bool {
        self.membership.kept().is_some_and(|kept| kept.realm().removed.contains(id))
    }

    /// Begins a new epoch when somebody who is no member may know the secret of this one, and it is for this device to do.
    pub(super) async fn rotate_due(&mut self) {
        let is_here = |id: &DeviceId| self.peers.contains_key(id);
        let turn = self.membership.kept().and_then(|kept| kept.renewal_turn(&self.id, is_here));
        let Some(turn) = turn.and_then(|turn| u32::try_from(turn).ok()) else {
            self.realm.due_since = None;
            return;
        };
        let since = *self.realm.due_since.get_or_insert_with(Instant::now);
        let rests = self.realm.rotated.is_some_and(|then| then.elapsed() < ROTATION_REST);
        if since.elapsed() < ROTATION_REST * turn || rests {
            return;
        }
        self.realm.rotated = Some(Instant::now());
        if let Err(error) = self.rotate().await {
            tracing::warn!("the realm's secret is not renewed: {error:#}");
        }
    }

    async fn rotate(&mut self) -> anyhow::Result<()> {
        let Some(kept) = self.membership.kept() else { return Ok(()) };
        let mut kept = kept.clone();
        rotated(&mut kept, Author::Device(&self.identity))?;
        self.keep_realm(Some(kept))?;
        tracing::info!("the realm has a new secret");
        self.realm_changed().await;
        Ok(())
    }

    pub(super) fn realm_status(&self) -> api::RealmStatus {
        let devices = self.membership.kept().map_or(0, |kept| kept.realm().members.len());
        api::RealmStatus { devices: devices as u64, role: self.member_role(&self.id).map(role_word) }
    }

    /// Leaves the realm. The others are told as far as they are there; this device becomes another one, since the one
    /// that left can never come back, and starts anew. Folders and files stay as they are.
    pub(super) async fn leave_realm(&mut self) -> Result<api::Done, ControlError> {
        let Some(kept) = self.membership.kept() else {
            return Err(ControlError::not_found("this device is in no realm").hint("`syncctl pair` makes one"));
        };
        // One that was removed has nothing more to say.
        if let Ok(link) = kept.roster().leave(&self.identity, now()) {
            let links = Message::Links(Links { links: vec![LinkBytes(link.as_bytes().to_vec())] });
            // To anybody else it would be a link of no realm.
            let members = self.peers.keys().filter(|id| kept.realm().members.contains_key(*id));
            members.for_each(|id| self.say(id, &links));
            tokio::time::sleep(FAREWELL).await;
        }
        // The realm last: with it a crash in between can be gone on from, by leaving once more.
        crate::keys::renew(&self.home.keys()).map_err(|error| refused(&error))?;
        self.pairings.clear().map_err(|error| refused(&error))?;
        self.keep_realm(None).map_err(|error| refused(&error))?;
        self.end = Some(super::Ended::Renewed);
        tracing::info!("this device left its realm and has a new identity");
        Ok(api::Done::said("this device is on its own now, under a new identity; folders and files stay as they are"))
    }

    /// Problems of the realm that need a person.
    pub(super) fn realm_problem(&self, id: &DeviceId) -> Option<String> {
        let words = "it belongs to other devices of its own: run `syncctl realm leave` on it, or here, and pair again";
        self.realm.strangers.contains(id).then(|| words.to_owned())
    }
}

/// What who pairs with this device is told.
pub(super) fn realm_note(kept: Option<&Kept>) -> Option<([u8; 32], Vec<DeviceId>)> {
    kept.map(|kept| (*kept.realm().id.as_bytes(), kept.realm().members.keys().copied().collect()))
}

/// Begins an epoch.
fn rotated(kept: &mut Kept, author: Author<'_>) -> anyhow::Result<()> {
    let secret = new_secret()?;
    let link = kept.roster().rotate(author, Commit::to(&secret), now())?;
    kept.insert([link.as_bytes()])?;
    kept.learn(&[EpochSecret { epoch: *link.hash().as_bytes(), secret }]);
    Ok(())
}

/// Members that a device has added, by name.
fn added_by(kept: &Kept, id: &DeviceId) -> Vec<String> {
    let newcomer = |link: &Link| match link.op() {
        Op::Add { device, .. } if link.signer() == Signer::Device(*id) => Some(device.id()),
        _ => None,
    };
    let ids: BTreeSet<DeviceId> = kept.roster().links().filter_map(newcomer).collect();
    ids.iter().filter_map(|id| kept.realm().members.get(id)).map(|member| member.name.as_str().to_owned()).collect()
}

pub(super) fn now() -> UnixSeconds {
    UnixSeconds(super::wall_ms() / 1000)
}

fn device_name(name: &str) -> DeviceName {
    let nameless = || DeviceName::new(NAMELESS).expect("a plain word");
    DeviceName::new(name).unwrap_or_else(|_| nameless())
}

/// For people and scripts.
pub(super) const fn role_word(role: Role) -> api::DeviceRole {
    match role {
        Role::Admin => api::DeviceRole::Admin,
        Role::Full => api::DeviceRole::Full,
        Role::Reader => api::DeviceRole::Reader,
    }
}
