//! Pairing as the control API sees it: a stream of events per attempt, ended by `Paired` or `Failed`.

use super::Node;
use super::roles::role_of;
use crate::control::NewEvent;
use crate::keys::Pairing;
use crate::net::{InviteId, PairingEvent as NetPairing, Via};
use protocol::realm::Role;
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, ErrorCode, EventKind, PairingEvent};
use protocol::wire::invite::{InviteCode, InviteLink};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a code is good when nothing else is said, and at most.
const CODE_LIFE: Duration = Duration::from_secs(600);
const CODE_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a joiner looks for the device that shows the code.
const SEARCH: Duration = Duration::from_secs(60);
/// Events of one attempt: code, check, waiting, paired.
const EVENTS_MAX: usize = 8;

/// One attempt that a client watches.
pub(super) struct Attempt {
    events: mpsc::Sender<PairingEvent>,
    decide: Option<oneshot::Sender<bool>>,
    /// What the other device may do in the realm.
    role: Option<Role>,
    /// Where the user said that it is.
    address: Option<String>,
}

/// Whether an address that a person typed has to be remembered as such: one that was dialled from here is known anyway, a
/// name or what the proxy reached is not.
fn outlasts_pairing(address: &str, via: Via) -> bool {
    via == Via::Proxy || address.parse::<SocketAddr>().is_err()
}

impl Node {
    pub(super) async fn show_code(
        &mut self,
        show: &api::PairShow,
    ) -> Result<mpsc::Receiver<PairingEvent>, ControlError> {
        self.may_add()?;
        let mut random = [0; protocol::wire::invite::CODE_LEN];
        getrandom::fill(&mut random).map_err(|_| ControlError::internal("no randomness for a code"))?;
        let code = InviteCode::from_random(random);
        let life = show.timeout_s.map_or(CODE_LIFE, Duration::from_secs).min(CODE_LIFE_MAX);
        let invite = self.net.open_invite(code.clone(), life).await.map_err(|error| {
            ControlError::refused(format!("{error:#}")).hint("wait until an open code is used or has expired")
        })?;
        let (pairing, link) = (invite.id, invite.link);
        // Last of all that can fail: the recovery code is shown or not made.
        let recovery_code = match self.found_realm().await {
            Ok(code) => code.map(|code| code.words().to_string()),
            Err(error) => {
                self.net.close_invite(pairing).await;
                return Err(error);
            }
        };
        let (events, stream) = mpsc::channel(EVENTS_MAX);
        let expires_s = life.as_secs();
        let (code, link) = (code.to_string(), link.to_string());
        let shown = PairingEvent::Code { pairing: pairing.0, code, link, expires_s, recovery_code };
        // The channel is new and has room.
        let _ = events.try_send(shown);
        self.watch_attempt(pairing, events, show.role, None);
        Ok(stream)
    }

    pub(super) async fn join_code(
        &mut self,
        join: &api::PairJoin,
    ) -> Result<mpsc::Receiver<PairingEvent>, ControlError> {
        self.may_add()?;
        let link: InviteLink = join
            .code
            .parse()
            .map_err(|error: protocol::wire::invite::InviteError| ControlError::bad_request(error.to_string()))?;
        let address = match &join.address {
            None => None,
            Some(address) => Some(address.parse().map_err(|_| {
                ControlError::bad_request(format!("{address} is not HOST:PORT")).hint("for example 192.168.1.7:28730")
            })?),
        };
        let search = join.timeout_s.map_or(SEARCH, Duration::from_secs);
        let pairing = self.net.join_invite(link, address, search).await;
        let pairing = pairing.map_err(|error| ControlError::refused(format!("{error:#}")))?;
        let (events, stream) = mpsc::channel(EVENTS_MAX);
        let words = "looking for the device that shows this code".to_string();
        // The channel is new and has room.
        let _ = events.try_send(PairingEvent::Searching { pairing: pairing.0, words });
        self.watch_attempt(pairing, events, join.role, join.address.clone());
        Ok(stream)
    }

    /// When the client hangs up, the code is void.
    fn watch_attempt(
        &mut self,
        pairing: InviteId,
        events: mpsc::Sender<PairingEvent>,
        role: Option<api::DeviceRole>,
        address: Option<String>,
    ) {
        let (net, gone) = (self.net.clone(), events.clone());
        tokio::spawn(async move {
            gone.closed().await;
            net.close_invite(pairing).await;
        });
        self.attempts.insert(pairing.0, Attempt { events, decide: None, role: role.map(role_of), address });
    }

    pub(super) fn answer_pairing(&mut self, answer: api::PairAnswer) -> Result<api::Done, ControlError> {
        let decide = self.attempts.get_mut(&answer.pairing).and_then(|attempt| attempt.decide.take());
        let Some(decide) = decide else {
            return Err(ControlError::not_found("that pairing is not waiting for an answer"));
        };
        if decide.send(answer.accept).is_err() {
            return Err(ControlError::refused("the other device went away before the answer"));
        }
        let words = if answer.accept { "accepted here; waiting for the other device" } else { "declined" };
        if answer.accept
            && let Some(attempt) = self.attempts.get(&answer.pairing)
        {
            // A full queue means that the client does not read; it will see the outcome or nothing.
            let _ = attempt.events.try_send(PairingEvent::Waiting { pairing: answer.pairing });
        }
        Ok(api::Done::said(words))
    }

    pub(super) async fn pairing_event(&mut self, event: NetPairing) {
        match event {
            NetPairing::Reached { invite, id, decide, .. } if self.was_removed(&id) => {
                // The other device is told that it was declined here.
                let _ = decide.send(false);
                let why = ControlError::refused("that device was removed from your devices")
                    .hint("`syncctl realm leave` on it gives it a new identity; then it can be paired");
                self.end_attempt(invite, PairingEvent::Failed { why });
            }
            NetPairing::Reached { invite, name, id, check_number, via, decide, .. } => {
                if let Some(attempt) = self.attempts.get_mut(&invite.0) {
                    attempt.decide = Some(decide);
                    attempt.address.take_if(|address| !outlasts_pairing(address, via));
                    let device = api::Named { id: id.to_string(), name };
                    let (check, via) = (check_number.to_string().replace(' ', ""), super::status::via_word(via));
                    // A full queue means that the client does not read; then nobody accepts.
                    let _ = attempt.events.try_send(PairingEvent::Check { pairing: invite.0, device, check, via });
                }
            }
            NetPairing::Paired { invite, identity, name, secret, addresses } => {
                let attempt = self.attempts.get(&invite.0);
                let paired = Pairing {
                    public: identity,
                    name: self.free_device_name(&name, &identity.id()),
                    secret,
                    epoch: None,
                    previous: None,
                    admit: attempt.and_then(|attempt| attempt.role),
                    addresses: attempt.and_then(|attempt| attempt.address.clone()).into_iter().collect(),
                    learned: addresses.iter().map(ToString::to_string).collect(),
                    relays: false,
                    paused: false,
                    // Paired once more, it is still the same device.
                    limits: self.pairings.get(&identity.id()).map(|known| known.limits).unwrap_or_default(),
                    last_seen_ms: Some(super::wall_ms()),
                };
                let event = self.save_pairing(paired).await;
                self.end_attempt(invite, event);
            }
            NetPairing::Failed { invite, words } => {
                let why = ControlError::new(ErrorCode::Refused, words);
                self.end_attempt(invite, PairingEvent::Failed { why });
            }
        }
    }

    fn end_attempt(&mut self, pairing: InviteId, event: PairingEvent) {
        if let Some(attempt) = self.attempts.remove(&pairing.0) {
            // The client may have hung up; then nobody needs to know.
            let _ = attempt.events.try_send(event);
        }
    }

    pub(super) async fn save_pairing(&mut self, pairing: Pairing) -> PairingEvent {
        let device = api::Named { id: pairing.id().to_string(), name: pairing.name.clone() };
        if let Err(error) = self.pairings.insert(pairing.clone()) {
            return PairingEvent::Failed { why: ControlError::internal(format!("{error:#}")) };
        }
        self.net.add_peer(self.peer_config(&pairing)).await;
        tracing::info!(peer = %pairing.id().short(), "paired");
        let event = NewEvent::new(EventKind::DevicePaired, format!("paired with {}", pairing.name));
        self.hub.publish(event.device(device.clone()));
        PairingEvent::Paired { device }
    }

    /// Two devices of one name would be confusing: the later one gets a number.
    pub(super) fn free_device_name(&self, name: &str, id: &protocol::model::DeviceId) -> String {
        let taken = |name: &str| self.pairings.all().iter().any(|other| other.id() != *id && other.name == name);
        let name = if name.is_empty() { "device" } else { name };
        if !taken(name) {
            return name.to_string();
        }
        (2..).map(|n| format!("{name}-{n}")).find(|candidate| !taken(candidate)).unwrap_or_else(|| name.to_string())
    }
}
