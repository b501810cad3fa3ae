//! Paired devices: which of them is connected, and which of two sessions stays when both ends dialled.

use super::Hub;
use crate::net::config::{Own, PeerConfig};
use crate::net::event::{DownReason, NetEvent, PeerStatus, Via, close_words};
use crate::net::greet::Greeted;
use crate::net::keys::{Keys, Who};
use crate::net::pairing::hang_up;
use crate::net::pursuit::{Pursuit, Wanted};
use crate::net::session::{self, Ended, Session, SessionId, Start};
use protocol::limits::PEERS_MAX;
use protocol::model::DeviceId;
use protocol::wire::message::{Addresses, CloseCode, Message, capability};
use protocol::wire::pair::PairSecret;
use protocol::wire::relay::Endpoint;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A session that ended sooner is a failed attempt.
const SETTLED: Duration = Duration::from_secs(30);
/// After another connection took over, we do not dial for so long.
const TAKEOVER: Duration = Duration::from_secs(2);
/// Keys are renewed after so long, by a new connection before the old one goes (plus up to a tenth, so that
/// sessions do not do it together).
const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// Clocks that differ by less are not worth a word.
const SKEW_SECS: u64 = 120;
/// A session that may be dead has so long to show that it lives.
const PROBE: Duration = Duration::from_secs(2);

pub(super) struct Peer {
    pub(super) config: PeerConfig,
    pub(super) pursuit: Pursuit,
    /// Of the other secrets that it may come with.
    also: Vec<Arc<Keys>>,
    live: Option<Session>,
    /// The present session is old enough to be replaced.
    renewing: bool,
    ahead_secs: Option<i64>,
    /// Since when a second instance or boot has been seen beside the present session.
    doubt: Option<(SessionId, Instant)>,
}

impl Peer {
    fn new(own: &Own, config: PeerConfig) -> Self {
        let (keys, also) = keys_of(own, &config);
        let mut pursuit = Pursuit::new(keys, config.typed.clone(), config.learned.clone(), own);
        pursuit.before = config.before.as_ref().map(|secret| Arc::new(Keys::of_peer(&own.identity, &config, secret)));
        Self { config, pursuit, also, live: None, renewing: false, ahead_secs: None, doubt: None }
    }

    /// Of all secrets, the one that we dial with first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<Keys>> {
        std::iter::once(&self.pursuit.keys).chain(&self.also)
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.live.as_ref()
    }

    /// The present session, if a relay passes it on and the peer knows of punches.
    pub(super) fn relayed(&self) -> Option<&Session> {
        let knows = |session: &&Session| session.hello().capabilities & capability::PUNCH != 0;
        self.live.as_ref().filter(|session| session.via() == Via::Relay).filter(knows)
    }

    pub(super) fn wanted(&self) -> Wanted {
        match &self.live {
            _ if self.config.paused => Wanted::No,
            None => Wanted::Anyhow,
            Some(session) if session.via() == Via::Relay || self.renewing => Wanted::Directly,
            Some(_) => Wanted::No,
        }
    }

    /// A second one of this peer came. True when the first was seen to live after that: the identity is copied.
    fn doubts(&mut self, now: Instant) -> bool {
        let Some(session) = &self.live else { return false };
        let (doubted, since) = *self.doubt.get_or_insert((session.id(), now));
        if doubted != session.id() {
            self.doubt = Some((session.id(), now));
            return false;
        }
        now - since > PROBE && session.silent_for() < now - since
    }

    pub(super) fn status(&self) -> PeerStatus {
        PeerStatus {
            peer: self.config.id(),
            connected: self.live.as_ref().map(Session::connected),
            paused: self.config.paused,
            last_error: self.pursuit.misfit.clone().or_else(|| self.pursuit.last_error.clone()),
            clock_ahead_secs: self.ahead_secs,
            tried: self.pursuit.tried().to_vec(),
            next_try: (self.wanted() != Wanted::No)
                .then(|| self.pursuit.next_dial())
                .flatten()
                .map(|at| at.saturating_duration_since(Instant::now())),
        }
    }
}

fn keys_of(own: &Own, config: &PeerConfig) -> (Arc<Keys>, Vec<Arc<Keys>>) {
    let keys = |secret| Arc::new(Keys::of_peer(&own.identity, config, secret));
    (keys(&config.secret), config.also.iter().map(keys).collect())
}

/// What becomes of a new connection beside one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Replace,
    Refuse,
    /// The peer has started anew, or two run with one identity. Whether the old connection lives, decides.
    Doubt,
}

/// What the rule needs to know of either connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trait {
    relayed: bool,
    initiated: bool,
    instance: [u8; 16],
    boot: [u8; 8],
}

/// Which of two connections with one peer stays. Both ends decide alike, from what both know: a direct path beats a
/// relay; of equal ones stays the one that the smaller id initiated; of two initiated by the same end the newer,
/// since that end has given the older one up.
fn judge(old: Trait, new: Trait, we_are_smaller: bool) -> Verdict {
    if old.instance != new.instance || old.boot != new.boot {
        return Verdict::Doubt;
    }
    let better = if old.relayed == new.relayed {
        old.initiated == new.initiated || new.initiated == we_are_smaller
    } else {
        old.relayed
    };
    if better { Verdict::Replace } else { Verdict::Refuse }
}

impl Hub {
    pub(super) fn set_peers(&mut self, peers: Vec<PeerConfig>) {
        let kept: Vec<DeviceId> = peers.iter().map(PeerConfig::id).collect();
        let gone: Vec<DeviceId> = self.peers.keys().filter(|id| !kept.contains(id)).copied().collect();
        gone.into_iter().for_each(|id| self.remove_peer(id));
        peers.into_iter().for_each(|peer| self.add_peer(peer));
    }

    /// Adds a device, or takes over what changed about one.
    pub(super) fn add_peer(&mut self, config: PeerConfig) {
        let id = config.id();
        if let Some(peer) = self.peers.get_mut(&id) {
            if peer.config.secret == config.secret {
                let paused = config.paused;
                self.set_addresses(id, config.typed, config.learned);
                self.set_paused(id, paused);
                return;
            }
            // Paired anew: what was agreed before is void.
            self.remove_peer(id);
        }
        if self.peers.len() >= PEERS_MAX || id == self.parts.own.identity.id() {
            tracing::warn!("a device was not added: there are {PEERS_MAX} already, or it is this one");
            return;
        }
        self.peers.insert(id, Peer::new(&self.parts.own, config));
        self.burst();
    }

    /// The realm went on to another epoch: a session that is up stays, the next connection is made with the new secret.
    pub(super) fn set_secrets(&mut self, id: DeviceId, secret: PairSecret, also: Vec<PairSecret>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.config.secret == secret && peer.config.also == also {
            return;
        }
        let is_new = peer.config.secret != secret;
        (peer.config.secret, peer.config.also) = (secret, also);
        let (keys, also) = keys_of(&self.parts.own, &peer.config);
        peer.also = also;
        let before = std::mem::replace(&mut peer.pursuit.keys, keys);
        if is_new {
            peer.pursuit.before = Some(before);
        }
        if peer.live.is_none() {
            peer.pursuit.stop();
            peer.pursuit.restart(Instant::now(), self.parts.own.tuning.relay_after);
        }
        self.refresh();
    }

    pub(super) fn remove_peer(&mut self, id: DeviceId) {
        if let Some(peer) = self.peers.remove(&id) {
            if let Some(session) = &peer.live {
                session.close(CloseCode::REMOVED);
            }
            self.refresh();
        }
    }

    pub(super) fn set_paused(&mut self, id: DeviceId, paused: bool) {
        let relay_after = self.parts.own.tuning.relay_after;
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.config.paused != paused) else { return };
        peer.config.paused = paused;
        peer.pursuit.restart(Instant::now(), relay_after);
        if let Some(session) = peer.live.as_ref().filter(|_| paused) {
            session.close(CloseCode::PAUSED);
        }
        self.burst();
    }

    pub(super) fn set_addresses(&mut self, id: DeviceId, typed: Vec<Endpoint>, learned: Vec<SocketAddr>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.config.typed == typed && peer.config.learned == learned {
            return;
        }
        (peer.config.typed, peer.config.learned) = (typed.clone(), learned.clone());
        (peer.pursuit.typed, peer.pursuit.learned) = (typed, learned);
        peer.pursuit.proven.clear();
        peer.pursuit.restart(Instant::now(), self.parts.own.tuning.relay_after);
    }

    /// Whoever it is knows the secret, and cannot be talked to.
    pub(super) fn misfit(&mut self, who: Who, words: String) {
        match who {
            Who::Invite(invite) => self.fail_invite(invite, words),
            Who::Peer(id) => {
                if let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.live.is_none()) {
                    peer.pursuit.misfit = Some(words);
                }
            }
        }
    }

    /// A handshake is complete.
    pub(super) fn greeted(&mut self, who: Who, greeted: Greeted) {
        match who {
            Who::Invite(invite) => self.invite_reached(invite, greeted),
            Who::Peer(id) => self.peer_reached(id, greeted),
        }
    }

    fn peer_reached(&mut self, id: DeviceId, greeted: Greeted) {
        let own_id = self.parts.own.identity.id();
        let Some(peer) = self.peers.get_mut(&id) else {
            self.turn_away(greeted, CloseCode::REMOVED);
            return;
        };
        if peer.config.paused {
            self.turn_away(greeted, CloseCode::PAUSED);
            return;
        }
        if let Some(old) = peer.live.as_ref().filter(|session| !session.is_over()) {
            let verdict = judge(trait_of(old), trait_of_greeted(&greeted), own_id < id);
            if verdict != Verdict::Replace {
                // If the old one is dead after all, it is found out now and the peer comes back.
                old.probe(PROBE);
                if verdict == Verdict::Doubt && peer.doubts(Instant::now()) {
                    let code = CloseCode::IDENTITY_COPIED;
                    peer.pursuit.last_error = Some(close_words(code).to_owned());
                    self.turn_away(greeted, code);
                    self.report(NetEvent::Copied { peer: id });
                } else {
                    self.turn_away(greeted, CloseCode::DUPLICATE);
                }
                return;
            }
            old.close(CloseCode::DUPLICATE);
        }
        self.begin_session(id, greeted);
    }

    fn begin_session(&mut self, id: DeviceId, greeted: Greeted) {
        let (ahead, secret) = (greeted.ahead_secs, greeted.secret.clone());
        let addresses = self.announced();
        let start = Start { id: self.next_session(), greeted, liveness: self.parts.own.tuning.liveness };
        let (session, work) = session::run(start, self.parts.events.clone(), self.punches.0.clone());
        self.sessions.spawn(work);
        // The queue of a new session has room; without our addresses the peer keeps those it knows.
        let _ = session.try_send(&Message::Addresses(Addresses { addresses }));
        let now = Instant::now();
        let relay_after = self.parts.own.tuning.relay_after;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pursuit.stop();
            peer.pursuit.restart(now, relay_after);
            if session.via() == Via::Relay {
                // A better path is sought in the background, beginning with the first step of the back-off.
                peer.pursuit.retry_later(now, relay_after);
            }
            (peer.pursuit.last_error, peer.pursuit.misfit) = (None, None);
            if secret == peer.config.secret {
                peer.pursuit.before = None;
            }
            peer.ahead_secs = Some(ahead);
            peer.renewing = false;
            peer.live = Some(session);
        }
        self.is_there(id);
        self.refresh();
        if ahead.unsigned_abs() > SKEW_SECS {
            self.report(NetEvent::Skew { peer: id, ahead_secs: ahead });
        }
    }

    pub(super) fn session_ended(&mut self, ended: &Ended) {
        let relay_after = self.parts.own.tuning.relay_after;
        let Some(peer) = self.peers.get_mut(&ended.peer) else { return };
        let Some(session) = peer.live.take_if(|session| session.id() == ended.id) else { return };
        let now = Instant::now();
        peer.pursuit.last_error = Some(ended.reason.to_string());
        match ended.reason {
            DownReason::ClosedByPeer(CloseCode::DUPLICATE | CloseCode::RENEW) => peer.pursuit.hold(now + TAKEOVER),
            DownReason::ClosedByPeer(CloseCode::REMOVED | CloseCode::PAUSED | CloseCode::IDENTITY_COPIED) => {
                peer.pursuit.give_up(now);
            }
            _ if session.age() < SETTLED => peer.pursuit.retry_later(now, relay_after),
            _ => peer.pursuit.restart(now, relay_after),
        }
        self.burst();
    }

    /// The end that dialled renews keys: a new connection first, then the old one goes as any older one does.
    pub(super) fn renew_sessions(&mut self, now: Instant) {
        let relay_after = self.parts.own.tuning.relay_after;
        for peer in self.peers.values_mut().filter(|peer| !peer.renewing) {
            let Some(session) = &peer.live else { continue };
            let share = u32::from(session.id().0.to_le_bytes()[0]) * 100 / 255;
            let due = SESSION_LIFE + SESSION_LIFE * share / 1000;
            if session.initiated() && session.age() > due {
                if session.via() == Via::Relay {
                    session.close(CloseCode::RENEW);
                } else {
                    peer.renewing = true;
                    peer.pursuit.restart(now, relay_after);
                }
            }
        }
    }

    pub(super) fn turn_away(&mut self, mut greeted: Greeted, code: CloseCode) {
        self.pairings.spawn(async move {
            hang_up(&mut greeted.channel, code).await;
            None
        });
    }
}

fn trait_of(session: &Session) -> Trait {
    Trait {
        relayed: session.via() == Via::Relay,
        initiated: session.initiated(),
        instance: session.hello().instance,
        boot: session.hello().boot,
    }
}

fn trait_of_greeted(greeted: &Greeted) -> Trait {
    Trait {
        relayed: greeted.via == Via::Relay,
        initiated: greeted.initiated,
        instance: greeted.hello.instance,
        boot: greeted.hello.boot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Trait = Trait { relayed: false, initiated: true, instance: [1; 16], boot: [2; 8] };

    /// The same connection as the other end sees it.
    fn mirrored(connection: Trait) -> Trait {
        Trait { initiated: !connection.initiated, ..connection }
    }

    #[test]
    fn both_ends_keep_the_same_connection() {
        let relayed = |relayed| Trait { relayed, ..BASE };
        let initiated = |connection, initiated| Trait { initiated, ..connection };
        for (one, other) in [(false, false), (true, false), (false, true), (true, true)] {
            for smaller in [true, false] {
                let (a, b) = (initiated(relayed(one), true), initiated(relayed(other), false));
                let keeps_a = judge(a, b, smaller) != Verdict::Replace;
                assert_eq!(keeps_a, judge(b, a, smaller) == Verdict::Replace, "in whichever order they came");
                let there = judge(mirrored(a), mirrored(b), !smaller) != Verdict::Replace;
                assert_eq!(keeps_a, there, "at the other end: relayed {one} {other}, smaller {smaller}");
            }
        }
    }

    #[test]
    fn newer_ones_replace_older_ones_of_the_same_end() {
        assert_eq!(judge(BASE, BASE, true), Verdict::Replace);
        let rebooted = Trait { boot: [3; 8], ..BASE };
        assert_eq!(judge(BASE, rebooted, true), Verdict::Doubt);
        let copied = Trait { instance: [9; 16], ..BASE };
        assert_eq!(judge(BASE, copied, false), Verdict::Doubt);
    }
}
