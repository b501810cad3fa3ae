//! Open invites, shown here or joined from here: a pseudo-pair that is sought like a peer, until one handshake
//! passes, then a pairing, then nothing.

use super::{Hub, JoinRequest};
use crate::net::config::RelayWay;
use crate::net::event::{InviteId, NetEvent, PairingEvent, PairingSide};
use crate::net::greet::Greeted;
use crate::net::keys::{Keys, Who};
use crate::net::pairing::Pairing;
use crate::net::pursuit::{Pursuit, Wanted};
use protocol::limits::{INVITE_ATTEMPTS_MAX, INVITES_OPEN_MAX, RELAYS_MAX};
use protocol::wire::message::CloseCode;
use protocol::wire::pair::PairSecret;
use protocol::wire::relay::{Endpoint, RelayLink};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Longest that an invite may be open.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// People compare numbers for so long, even when the code was about to expire.
const DECIDE: Duration = Duration::from_secs(300);

pub(super) struct Invite {
    side: PairingSide,
    pub(super) pursuit: Pursuit,
    pub(super) relays: Vec<RelayWay>,
    pub(super) until: Instant,
    lost_runs: u8,
    pairing: Option<AbortHandle>,
}

impl Invite {
    /// Nobody has come yet.
    pub(super) fn is_open(&self) -> bool {
        self.pairing.is_none()
    }

    pub(super) fn is_open_here(&self) -> bool {
        self.is_open() && self.side == PairingSide::Shows
    }

    pub(super) fn wanted(&self) -> Wanted {
        if self.is_open() { Wanted::Anyhow } else { Wanted::No }
    }
}

impl Drop for Invite {
    fn drop(&mut self) {
        if let Some(pairing) = self.pairing.take() {
            pairing.abort();
        }
    }
}

impl Hub {
    pub(super) fn open_invite(&mut self, secret: PairSecret, lives: Duration) -> Option<InviteId> {
        self.add_invite(PairingSide::Shows, secret, lives, Vec::new(), self.relays.clone())
    }

    pub(super) fn join_invite(&mut self, request: JoinRequest) -> Option<InviteId> {
        let JoinRequest { secret, lives, addresses, mut relays } = request;
        for relay in &self.relays {
            if !relays.contains(relay) {
                relays.push(relay.clone());
            }
        }
        relays.truncate(RELAYS_MAX);
        self.add_invite(PairingSide::Joins, secret, lives, addresses, relays)
    }

    fn add_invite(
        &mut self,
        side: PairingSide,
        secret: PairSecret,
        lives: Duration,
        typed: Vec<Endpoint>,
        relays: Vec<RelayLink>,
    ) -> Option<InviteId> {
        let open = self.invites.values().filter(|invite| invite.side == side).count();
        if open >= INVITES_OPEN_MAX {
            return None;
        }
        let id = InviteId(self.next_id());
        let keys = Arc::new(Keys::of_invite(id, secret, side));
        let pursuit = Pursuit::new(keys, typed, Vec::new(), &self.parts.own);
        let until = Instant::now() + lives.min(LIFE_MAX);
        let relays = relays.into_iter().map(RelayWay::from).collect();
        self.invites.insert(id, Invite { side, pursuit, relays, until, lost_runs: 0, pairing: None });
        self.burst();
        Some(id)
    }

    /// The user no longer wants it; nothing is reported.
    pub(super) fn close_invite(&mut self, id: InviteId) {
        if self.invites.remove(&id).is_some() {
            self.refresh();
        }
    }

    pub(super) fn fail_invite(&mut self, id: InviteId, words: String) {
        if self.invites.remove(&id).is_some() {
            self.report(NetEvent::Pairing(PairingEvent::Failed { invite: id, words }));
            self.refresh();
        }
    }

    /// Three runs of an invite shown here have failed.
    pub(super) fn spent(&mut self, id: InviteId) {
        if self.invites.get(&id).is_some_and(Invite::is_open) {
            let words = "three attempts with this code broke off, so it is void: show a new one".to_owned();
            self.fail_invite(id, words);
        }
    }

    /// A run had begun and was lost. Whoever joins stops after three, as whoever shows does.
    pub(super) fn run_lost(&mut self, who: Who, words: &str) {
        let Who::Invite(id) = who else { return };
        let Some(invite) = self.invites.get_mut(&id).filter(|invite| invite.is_open()) else { return };
        invite.lost_runs += 1;
        if invite.side == PairingSide::Joins && invite.lost_runs >= INVITE_ATTEMPTS_MAX {
            self.fail_invite(id, format!("the connection broke off three times: {words}"));
        }
    }

    pub(super) fn expire_invites(&mut self, now: Instant) {
        let due = |invite: &Invite| invite.is_open() && invite.until <= now;
        let expired: Vec<InviteId> = self.invites.iter().filter(|(_, invite)| due(invite)).map(|(id, _)| *id).collect();
        for id in expired {
            let Some(invite) = self.invites.get(&id) else { continue };
            let words = match invite.side {
                PairingSide::Shows => "the code expired before another device used it".to_owned(),
                PairingSide::Joins => no_answer(invite.pursuit.last_error.as_deref()),
            };
            self.fail_invite(id, words);
        }
    }

    /// A handshake under an invite has passed: the code is used up, whatever people decide.
    pub(super) fn invite_reached(&mut self, id: InviteId, greeted: Greeted) {
        let announced = self.announced();
        let Some(invite) = self.invites.get_mut(&id).filter(|invite| invite.is_open()) else {
            self.turn_away(greeted, CloseCode::DONE);
            return;
        };
        let pairing = Pairing {
            own: Arc::clone(&self.parts.own),
            invite: id,
            side: invite.side,
            greeted,
            announced,
            until: invite.until.max(Instant::now() + DECIDE),
            events: self.parts.events.clone(),
        };
        invite.pairing = Some(self.pairings.spawn(async move {
            pairing.run().await;
            Some(id)
        }));
        invite.pursuit.stop();
        self.refresh();
    }
}

fn no_answer(last_error: Option<&str>) -> String {
    let words = "no device answered to this code: it may be mistyped, used up or expired, or the other device \
                 cannot be reached from here (give its address with --address)";
    match last_error {
        Some(error) => format!("{words}; last attempt: {error}"),
        None => words.to_owned(),
    }
}
