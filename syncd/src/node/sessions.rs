//! Peers come and go: what they are told about folders, and which folders meet on a session.

use super::Node;
use super::addresses::with_met;
use super::folders::State;
use crate::control::NewEvent;
use crate::folder::{Input, folder_of};
use crate::net::{DownReason, NetEvent, Session, SessionId, TrySendError};
use protocol::model::{DeviceId, FolderId, ReplicaId};
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, ErrorCode, EventKind};
use protocol::wire::message::{CloseCode, FolderOffer, Folders, Message, OfferMode};
use std::collections::BTreeMap;

/// Inputs of a folder that may wait before the peer that sends more is cut off.
const BACKLOG_MAX: usize = 50_000;

/// What is known of a connected peer.
pub(super) struct Peer {
    pub(super) session: Session,
    /// Its changes count.
    pub(super) writes: bool,
    /// Older ones that are still up: when both ends dialled, the network closes one of two in a moment.
    others: Vec<Session>,
    /// The folders it shares with us.
    pub(super) offers: BTreeMap<FolderId, FolderOffer>,
    /// Those where our engine was told of it, with the replica it had.
    met: BTreeMap<FolderId, ReplicaId>,
}

impl Peer {
    /// One of its sessions that are up.
    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions().find(|live| live.id() == id)
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        std::iter::once(&self.session).chain(&self.others)
    }
}

/// Adds the bytes of a session.
fn add(sum: &mut (u64, u64), session: &Session) {
    let (received, sent) = session.wire_bytes();
    *sum = (sum.0 + received, sum.1 + sent);
}

impl Node {
    pub(super) async fn net_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::SessionUp(session) => {
                self.session_up(session);
                self.keep_ways().await;
            }
            NetEvent::SessionDown { peer, session, reason } => {
                if reason == DownReason::ClosedByPeer(CloseCode::IDENTITY_COPIED) {
                    self.copy_refused(peer);
                }
                self.session_down(peer, session, &reason.to_string());
            }
            NetEvent::Copied { peer } => self.copy_came(peer),
            NetEvent::Message { peer, message: Message::Twin, .. } => self.twin_came(peer),
            NetEvent::Message { session, peer, message: Message::Addresses(named), .. } => {
                self.addresses_named(session, peer, &named.addresses).await;
            }
            NetEvent::Message { peer, message: Message::Whereabouts(whereabouts), .. } => {
                self.whereabouts_told(&peer, &whereabouts).await;
            }
            NetEvent::Message { peer, message: Message::OwnRelay(open), .. } => self.relaying_told(&peer, open).await,
            NetEvent::Message {
                peer,
                message: message @ (Message::Heads(_) | Message::Links(_) | Message::Secrets(_)),
                ..
            } => {
                self.realm_message(peer, message).await;
            }
            NetEvent::Message { session, peer, req, message } => self.message(session, peer, req, message),
            NetEvent::Pairing(event) => self.pairing_event(event).await,
            NetEvent::Skew { peer, ahead_secs } => {
                tracing::warn!(peer = %peer.short(), ahead_secs, "the clocks of this device and a peer differ");
                self.skews.insert(peer, ahead_secs);
            }
        }
    }

    fn session_up(&mut self, session: Session) {
        let id = session.peer();
        if self.pairings.get(&id).is_none() {
            session.close(CloseCode::REMOVED);
            return;
        }
        // The address of a relay or proxy, or the port that a peer dialled from, would not lead back to it.
        let address = Some(session.address()).filter(|_| session.initiated() && session.via().shows_address());
        self.note_seen(&id, address);
        self.router.set(id, session.clone());
        self.transfer.session_up(session.clone());
        let name = self.device_name(&id);
        tracing::info!(peer = %id.short(), via = ?session.via(), "connected");
        let event = NewEvent::new(EventKind::DeviceConnected, format!("{name} is connected"));
        self.hub.publish(event.device(api::Named { id: id.to_string(), name }));
        let writes = self.writes(&id);
        match self.peers.get_mut(&id) {
            None => {
                let (others, offers, met) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
                self.peers.insert(id, Peer { session, writes, others, offers, met });
            }
            Some(peer) => {
                peer.writes = writes;
                let before = std::mem::replace(&mut peer.session, session);
                peer.others.push(before);
            }
        }
        self.start_over(&id);
    }

    /// On another session what was said on the last one may be lost: folders are offered and met anew.
    fn start_over(&mut self, id: &DeviceId) {
        self.part_folders(id);
        self.realm_begins(id);
        self.tell_whereabouts(id);
        self.tell_relaying(id);
        self.offer_to(id);
        self.meet(id);
    }

    fn note_seen(&mut self, id: &DeviceId, address: Option<std::net::SocketAddr>) {
        let now = super::wall_ms();
        let saved = self.pairings.update(id, |pairing| {
            pairing.last_seen_ms = Some(now);
            if let Some(address) = address {
                pairing.learned = with_met(&pairing.learned, address);
            }
        });
        if let Err(error) = saved {
            tracing::warn!("the time a device was seen is not saved: {error:#}");
        }
    }

    fn session_down(&mut self, id: DeviceId, session: SessionId, reason: &str) {
        self.transfer.session_down(session);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let carried = self.carried.entry(id).or_default();
        peer.others.retain(|other| {
            let stays = other.id() != session && !other.is_over();
            if !stays {
                add(carried, other);
            }
            stays
        });
        if peer.session.id() != session {
            return;
        }
        if let Some(other) = peer.others.pop() {
            add(carried, &peer.session);
            peer.session = other.clone();
            self.router.set(id, other);
            self.start_over(&id);
            return;
        }
        self.part(&id);
        tracing::info!(peer = %id.short(), reason, "disconnected");
        let name = self.device_name(&id);
        let event = NewEvent::new(EventKind::DeviceDisconnected, format!("{name} is no longer connected: {reason}"));
        self.hub.publish(event.device(api::Named { id: id.to_string(), name }));
    }

    /// Tells the folders that a peer is gone.
    pub(super) fn part(&mut self, id: &DeviceId) {
        self.router.remove(id);
        self.part_folders(id);
        if let Some(peer) = self.peers.remove(id) {
            let carried = self.carried.entry(*id).or_default();
            peer.sessions().for_each(|session| add(carried, session));
        }
        self.grant();
    }

    /// Bytes received from and sent to a device since this daemon started, whatever sessions they took.
    pub(super) fn wire_bytes(&self, id: &DeviceId) -> (u64, u64) {
        let mut sum = self.carried.get(id).copied().unwrap_or_default();
        self.peers.get(id).into_iter().flat_map(Peer::sessions).for_each(|session| add(&mut sum, session));
        sum
    }

    fn part_folders(&mut self, id: &DeviceId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        for folder in std::mem::take(&mut peer.met).into_keys() {
            if let Some(running) = self.folders.get(&folder).and_then(|slot| slot.running()) {
                running.folder.tell(Input::Disconnected(*id));
            }
        }
    }

    fn message(&mut self, session: SessionId, id: DeviceId, req: u32, message: Message) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let Some(on) = peer.session(session).cloned() else {
            return;
        };
        match message {
            Message::Folders(folders) => self.offered(id, folders),
            message @ (Message::ManifestGet(_) | Message::ChunkGet(_)) => {
                self.transfer.serve(on, req, message);
            }
            Message::Partial(partial) => self.transfer.partial(id, partial),
            Message::Index(index) if self.previews.contains_key(&(id, index.folder)) => self.previewed(id, index),
            message => {
                let met = |folder: &FolderId| self.peers.get(&id).is_some_and(|peer| peer.met.contains_key(folder));
                let Some(folder) = folder_of(&message).filter(met) else {
                    return;
                };
                let Some(running) = self.folders.get(&folder).and_then(|slot| slot.running()) else {
                    return;
                };
                if running.folder.backlog() > BACKLOG_MAX {
                    tracing::warn!(peer = %id.short(), "a peer sends more than can be taken; it is cut off");
                    self.peers[&id].session.close(CloseCode::BUSY);
                    return;
                }
                running.folder.tell(Input::Message(id, message));
            }
        }
    }

    /// A peer says what it shares with us.
    fn offered(&mut self, id: DeviceId, folders: Folders) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let before = std::mem::take(&mut peer.offers);
        peer.offers = folders.offers.into_iter().map(|offer| (offer.id, offer)).collect();
        let fresh: Vec<FolderOffer> =
            peer.offers.values().filter(|offer| !before.contains_key(&offer.id)).cloned().collect();
        let name = self.device_name(&id);
        for offer in fresh.iter().filter(|offer| !self.folders.contains_key(&offer.id)) {
            let words = format!("{name} offers the folder {}", offer.name);
            let event = NewEvent::new(EventKind::FolderOffered, words)
                .folder(api::Named { id: offer.id.to_string(), name: offer.name.clone() })
                .device(api::Named { id: id.to_string(), name: name.clone() });
            self.hub.publish(event);
        }
        self.meet(&id);
    }

    /// Tells our engines about the folders that both sides have joined, and about those no longer shared.
    pub(super) fn meet(&mut self, id: &DeviceId) {
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        let mut now = BTreeMap::new();
        for (folder, slot) in &self.folders {
            let theirs = peer.offers.get(folder).and_then(|offer| offer.replica);
            if let (State::Running(_), Some(replica), true) = (&slot.state, theirs, self.shares(folder, id)) {
                now.insert(*folder, replica);
            }
        }
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let writes = peer.writes;
        let before = std::mem::replace(&mut peer.met, now.clone());
        for (folder, replica) in &before {
            let gone = now.get(folder) != Some(replica);
            if let Some(running) = self.folders.get(folder).and_then(|slot| slot.running()).filter(|_| gone) {
                running.folder.tell(Input::Disconnected(*id));
            }
        }
        for (folder, replica) in now {
            let fresh = before.get(&folder) != Some(&replica);
            if let Some(running) = self.folders.get(&folder).and_then(|slot| slot.running()).filter(|_| fresh) {
                running.folder.tell(Input::Connected { peer: *id, replica, writes });
            }
        }
        self.grant();
    }

    /// A folder that was stopped and started has forgotten whom it met.
    pub(super) fn unmeet(&mut self, folder: &FolderId) {
        for peer in self.peers.values_mut() {
            peer.met.remove(folder);
        }
    }

    /// Which peers may read which folders from us.
    pub(super) fn grant(&self) {
        let met = |(id, peer): (&DeviceId, &Peer)| (*id, peer.met.keys().copied().collect());
        self.grants.set(self.peers.iter().map(met).collect());
    }

    /// Says to one peer what we share with it. Before our engine hears of it, so that it knows our replica first.
    pub(super) fn offer_to(&mut self, id: &DeviceId) {
        let offers: Vec<FolderOffer> = self
            .folders
            .values()
            .filter(|slot| self.shares(&slot.config.id, id))
            .map(|slot| FolderOffer {
                id: slot.config.id,
                name: slot.config.name.clone(),
                replica: slot.running().map(|running| running.replica),
                mode: match self.mode_of(&slot.config) {
                    api::FolderMode::SendReceive => OfferMode::SendReceive,
                    api::FolderMode::SendOnly => OfferMode::SendOnly,
                    api::FolderMode::ReceiveOnly => OfferMode::ReceiveOnly,
                },
            })
            .chain(self.preview_offers(id))
            .collect();
        if let Some(peer) = self.peers.get(id)
            && peer.session.try_send(&Message::Folders(Folders { offers })) == Err(TrySendError::Full)
        {
            peer.session.close(CloseCode::BUSY);
        }
    }

    /// Folders changed: every peer hears it, and engines meet or part.
    pub(super) fn offer_everywhere(&mut self) {
        let ids: Vec<DeviceId> = self.peers.keys().copied().collect();
        for id in ids {
            self.offer_to(&id);
            self.meet(&id);
        }
    }

    /// Folders that connected peers offer and that are not here.
    pub(super) fn offers(&self) -> Vec<api::Offer> {
        let mut offers: BTreeMap<FolderId, api::Offer> = BTreeMap::new();
        for (id, peer) in &self.peers {
            for offer in peer.offers.values().filter(|offer| !self.folders.contains_key(&offer.id)) {
                let device = api::Named { id: id.to_string(), name: self.device_name(id) };
                offers
                    .entry(offer.id)
                    .or_insert_with(|| api::Offer {
                        id: offer.id.to_string(),
                        name: offer.name.clone(),
                        devices: Vec::new(),
                        counts: None,
                    })
                    .devices
                    .push(device);
            }
        }
        offers.into_values().collect()
    }

    pub(super) fn find_offer(&self, name: &str) -> Result<(FolderId, String), ControlError> {
        let mut found: BTreeMap<FolderId, String> = BTreeMap::new();
        for offer in self.peers.values().flat_map(|peer| peer.offers.values()) {
            let id = offer.id.to_string();
            if !self.folders.contains_key(&offer.id)
                && (offer.name == name || id == name || (name.len() >= 6 && id.starts_with(name)))
            {
                found.insert(offer.id, offer.name.clone());
            }
        }
        let joined = self.folders.values().any(|slot| slot.config.name == name);
        let count = found.len();
        match found.into_iter().next() {
            Some(one) if count == 1 => Ok(one),
            Some(_) => {
                Err(ControlError::new(ErrorCode::Ambiguous, format!("several offered folders are called {name}"))
                    .hint("name it by its id from `syncctl folder offers`"))
            }
            None if joined => Err(ControlError::new(ErrorCode::Exists, format!("folder {name} is already here"))),
            None => Err(ControlError::not_found(format!("no connected device offers a folder {name}"))
                .hint("`syncctl folder offers` shows what is offered")),
        }
    }

    pub(super) fn device_name(&self, id: &DeviceId) -> String {
        self.pairings.get(id).map_or_else(|| id.short(), |pairing| pairing.name.clone())
    }
}
