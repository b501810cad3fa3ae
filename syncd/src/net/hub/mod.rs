//! The one task that knows every peer, session and invite. Everything else in this module is a task that it starts,
//! or a value that it owns. It never waits for the receiver of events: sessions and pairings report for themselves.

use super::address::announced;
use super::changes;
use super::config::{Internet, LanMode, Own, PeerConfig, RelayWay, WayId};
use super::dial::Route;
use super::door::{Arrival, DoorHandle, Entry, Keyring};
use super::event::{InviteId, NetEvent, Outside, PeerStatus};
use super::keys::{Keys, Who};
use super::lan::{Interface, Lan, Seen, Sought, interfaces};
use super::pursuit::{Attempt, Means, Outcome, Wanted};
use super::session::{Ended, PunchWord, Session, SessionId};
use help::Help;
use invites::Invite;
use peers::Peer;
use protocol::limits::ADDRESSES_MAX;
use protocol::model::DeviceId;
use protocol::wire::message::CloseCode;
use protocol::wire::pair::PairSecret;
use protocol::wire::relay::{Endpoint, RelayLink};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod help;
mod invites;
mod peers;

/// How often interfaces and clocks are looked at: a machine that wakes up does not say so.
const WATCH: Duration = Duration::from_secs(4);
/// The wall clock ran on so much further than ours: the machine slept.
const SLEPT: Duration = Duration::from_secs(30);
/// After waking, or in a new network, a session has so long to show that it lives.
const PROBE: Duration = Duration::from_secs(2);
/// Sessions have so long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Without anything due the hub still looks around this often.
const IDLE: Duration = Duration::from_secs(60);

/// What `Net` asks for.
pub(super) enum Command {
    SetPeers(Vec<PeerConfig>),
    AddPeer(Box<PeerConfig>),
    RemovePeer(DeviceId),
    SetSecrets { peer: DeviceId, secret: PairSecret, also: Vec<PairSecret> },
    SetPaused(DeviceId, bool),
    SetAddresses { peer: DeviceId, typed: Vec<Endpoint>, learned: Vec<SocketAddr> },
    SetRelays(Vec<RelayLink>),
    SetOwnRelays(Vec<RelayWay>),
    SetLan(LanMode),
    SetInternet(Internet),
    Outside(oneshot::Sender<Outside>),
    Rerouted,
    Retry,
    OpenInvite { secret: PairSecret, lives: Duration, reply: oneshot::Sender<Option<InviteId>> },
    JoinInvite { request: JoinRequest, reply: oneshot::Sender<Option<InviteId>> },
    CloseInvite(InviteId),
    Announced(oneshot::Sender<Vec<SocketAddr>>),
    Status(oneshot::Sender<Vec<PeerStatus>>),
    Shutdown(oneshot::Sender<()>),
}

/// An invite to join.
pub(super) struct JoinRequest {
    pub(super) secret: PairSecret,
    pub(super) lives: Duration,
    pub(super) addresses: Vec<Endpoint>,
    pub(super) relays: Vec<RelayLink>,
}

/// What the hub starts with.
pub(super) struct Parts {
    pub(super) own: Arc<Own>,
    pub(super) listening: Vec<SocketAddr>,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) door: DoorHandle,
    pub(super) keyring: watch::Sender<Arc<Keyring>>,
    pub(super) stop: CancellationToken,
    pub(super) tracker: TaskTracker,
}

pub(super) struct Hub {
    parts: Parts,
    relays: Vec<RelayLink>,
    own_relays: Vec<RelayWay>,
    /// All of them, in the order in which they are used.
    ways: Vec<RelayWay>,
    peers: BTreeMap<DeviceId, Peer>,
    invites: BTreeMap<InviteId, Invite>,
    sessions: JoinSet<Ended>,
    attempts: JoinSet<Outcome>,
    /// Pairings under way, and short reports that wait for the receiver of events.
    pairings: JoinSet<Option<InviteId>>,
    sought: watch::Sender<Arc<Sought>>,
    sightings: (mpsc::Sender<Seen>, mpsc::Receiver<Seen>),
    punches: (mpsc::Sender<PunchWord>, mpsc::Receiver<PunchWord>),
    help: Help,
    lan: Option<CancellationToken>,
    bursts: u64,
    /// Counts changes of network.
    changes: u64,
    calls: u64,
    last_id: u64,
    interfaces: Vec<Interface>,
    watched: (Instant, SystemTime),
}

impl Hub {
    pub(super) fn new(parts: Parts, relays: Vec<RelayLink>, internet: Internet, peers: Vec<PeerConfig>) -> Self {
        let mut hub = Self {
            ways: relays.iter().cloned().map(RelayWay::from).collect(),
            relays,
            own_relays: Vec::new(),
            peers: BTreeMap::new(),
            invites: BTreeMap::new(),
            sessions: JoinSet::new(),
            attempts: JoinSet::new(),
            pairings: JoinSet::new(),
            sought: watch::Sender::new(Arc::default()),
            sightings: mpsc::channel(64),
            punches: mpsc::channel(64),
            help: Help::new(internet),
            lan: None,
            bursts: 0,
            changes: 0,
            calls: 0,
            last_id: 0,
            interfaces: interfaces(),
            watched: (Instant::now(), SystemTime::now()),
            parts,
        };
        hub.set_peers(peers);
        hub
    }

    /// Runs until it is told to stop, or nobody is left to tell it.
    pub(super) async fn run(mut self, lan: LanMode) {
        self.set_lan(lan);
        self.help.start(&self.parts.tracker, &self.parts.stop);
        let news = Arc::new(Notify::new());
        self.parts.tracker.spawn(changes::report(Arc::clone(&news), self.parts.stop.clone()));
        let mut watch_at = Instant::now() + WATCH;
        let goodbye = loop {
            self.advance();
            let wake = self.wake_at().min(watch_at);
            tokio::select! {
                command = self.parts.commands.recv() => match command {
                    Some(Command::Shutdown(done)) => break Some(done),
                    Some(command) => self.command(command),
                    None => break None,
                },
                Some(arrival) = self.parts.arrivals.recv() => match arrival {
                    Arrival::Greeted(who, greeted) => self.greeted(who, *greeted),
                    Arrival::Misfit(who, words) => self.misfit(who, words),
                    Arrival::Spent(invite) => self.spent(invite),
                },
                Some(outcome) = self.attempts.join_next() => {
                    // An attempt that was stopped has nothing to say.
                    if let Ok(outcome) = outcome {
                        self.attempted(outcome);
                    }
                }
                Some(ended) = self.sessions.join_next() => {
                    if let Ok(ended) = ended {
                        self.session_ended(&ended);
                    }
                }
                Some(ended) = self.pairings.join_next() => {
                    if let Ok(Some(invite)) = ended {
                        self.invites.remove(&invite);
                        self.refresh();
                    }
                }
                Some(seen) = self.sightings.1.recv() => self.seen(&seen),
                Some(word) = self.punches.1.recv() => self.punch_word(word),
                Some(helped) = self.help.next() => self.helped(helped),
                () = news.notified() => watch_at = Instant::now(),
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= watch_at {
                self.look_around();
                watch_at = Instant::now() + WATCH;
            }
        };
        self.say_goodbye().await;
        if let Some(done) = goodbye {
            // Whoever asked may have left.
            let _ = done.send(());
        }
    }

    async fn say_goodbye(&mut self) {
        self.parts.stop.cancel();
        self.peers.values().filter_map(Peer::session).for_each(|session| session.close(CloseCode::DONE));
        self.attempts.abort_all();
        self.pairings.abort_all();
        let farewells = async { while self.sessions.join_next().await.is_some() {} };
        // A session whose end nobody takes note of is dropped.
        let _ = timeout(GOODBYE, farewells).await;
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::SetPeers(peers) => self.set_peers(peers),
            Command::AddPeer(peer) => self.add_peer(*peer),
            Command::RemovePeer(peer) => self.remove_peer(peer),
            Command::SetSecrets { peer, secret, also } => self.set_secrets(peer, secret, also),
            Command::SetPaused(peer, paused) => self.set_paused(peer, paused),
            Command::SetAddresses { peer, typed, learned } => self.set_addresses(peer, typed, learned),
            Command::SetRelays(relays) => {
                self.relays = relays;
                self.relays_changed();
            }
            Command::SetOwnRelays(relays) => {
                self.own_relays = relays;
                self.relays_changed();
            }
            Command::SetLan(mode) => self.set_lan(mode),
            Command::SetInternet(internet) => {
                self.help.internet = internet;
                self.burst();
            }
            Command::Outside(reply) => {
                // As below.
                let _ = reply.send(self.help.outside.clone());
            }
            Command::Rerouted => self.rerouted(),
            Command::Retry => self.start_over(now),
            Command::OpenInvite { secret, lives, reply } => {
                // Whoever asked may have left; the invite then expires.
                let _ = reply.send(self.open_invite(secret, lives));
            }
            Command::JoinInvite { request, reply } => {
                // As above.
                let _ = reply.send(self.join_invite(request));
            }
            Command::CloseInvite(invite) => self.close_invite(invite),
            Command::Announced(reply) => {
                // As above.
                let _ = reply.send(self.announced());
            }
            Command::Status(reply) => {
                // As above.
                let _ = reply.send(self.peers.values().map(Peer::status).collect());
            }
            Command::Shutdown(_) => unreachable!("the loop takes it out"),
        }
    }

    fn announced(&self) -> Vec<SocketAddr> {
        let ips: Vec<IpAddr> = self.interfaces.iter().map(|interface| interface.ip).collect();
        let mut announced = announced(&self.parts.listening, &ips);
        if let Some(mapped) = self.help.outside.mapped.filter(|mapped| !announced.contains(mapped)) {
            announced.insert(0, mapped);
            announced.truncate(ADDRESSES_MAX);
        }
        // Where we are is what the proxy is to hide: nobody is to call us there around it.
        let proxy = self.parts.own.proxy();
        announced.retain(|address| proxy.as_ref().is_none_or(|proxy| !proxy.covers(address.ip())));
        announced
    }

    /// Connections are made in another way from now on.
    fn rerouted(&mut self) {
        let now = Instant::now();
        for peer in self.peers.values_mut() {
            peer.pursuit.stop();
            peer.pursuit.restart(now, self.parts.own.tuning.relay_after);
            if let Some(session) = peer.session() {
                session.close(CloseCode::DONE);
            }
        }
        for invite in self.invites.values_mut().filter(|invite| invite.is_open()) {
            invite.pursuit.stop();
            invite.pursuit.restart(now, self.parts.own.tuning.relay_after);
        }
    }

    fn relays_changed(&mut self) {
        let given = self.relays.iter().cloned().map(RelayWay::from);
        let ways: Vec<RelayWay> = self.own_relays.iter().cloned().chain(given).collect();
        let before = std::mem::replace(&mut self.ways, ways);
        // Waits at those that are gone end by themselves, new ones begin; those that go on are left alone.
        let moved = self.ways.iter().filter(|way| !before.contains(way)).map(|way| way.id).collect::<Vec<_>>();
        self.try_again(&moved);
    }

    fn try_again(&mut self, relays: &[WayId]) {
        let now = Instant::now();
        self.peers.values_mut().for_each(|peer| peer.pursuit.try_again(relays, now));
    }

    /// A device is there: whoever could not wait at its port tries that again.
    fn is_there(&mut self, device: DeviceId) {
        let its: Vec<WayId> = self.ways.iter().filter(|way| way.of == Some(device)).map(|way| way.id).collect();
        self.try_again(&its);
    }

    fn set_lan(&mut self, mode: LanMode) {
        let running = self.lan.is_some();
        match mode {
            LanMode::Off => {
                if let Some(stop) = self.lan.take() {
                    stop.cancel();
                }
            }
            LanMode::On if !running && !self.parts.listening.is_empty() => {
                let stop = self.parts.stop.child_token();
                let lan = Lan {
                    port: self.parts.own.tuning.beacon_port,
                    listening: self.parts.listening.clone(),
                    sought: self.sought.subscribe(),
                    seen: self.sightings.0.clone(),
                };
                self.parts.tracker.spawn(lan.run(stop.clone()));
                self.lan = Some(stop);
            }
            LanMode::On => {}
        }
        self.refresh();
    }

    /// Tells the door and the LAN whom we know and whom we seek.
    fn refresh(&mut self) {
        let refuse = |peer: &Peer| peer.config.paused.then_some(CloseCode::PAUSED);
        let peers = self.peers.values().flat_map(|peer| peer.keys().map(move |keys| (keys, refuse(peer))));
        let shown = self.invites.values().filter(|invite| invite.is_open_here()).map(|i| (&i.pursuit.keys, None));
        let keys = peers.chain(shown).map(|(keys, refuse)| Entry { keys: Arc::clone(keys), refuse }).collect();
        self.parts.keyring.send_replace(Arc::new(Keyring { keys }));

        let sought = self.peers.values().filter(|peer| peer.wanted() != Wanted::No);
        // Those that we dial with before the others, where there is no room for all.
        let peers = sought.clone().map(|peer| &peer.pursuit.keys).chain(sought.flat_map(|peer| peer.keys().skip(1)));
        let invites = self.invites.values().filter(|invite| invite.is_open()).map(|invite| &invite.pursuit.keys);
        let device = |keys: &Arc<Keys>| (keys.who, keys.lan_out.clone(), keys.lan_in.clone());
        let sought = Sought {
            // Invites first: people are waiting.
            devices: invites.chain(peers).take(protocol::limits::PEERS_MAX).map(device).collect(),
            bursts: self.bursts,
            calls: self.calls,
        };
        self.sought.send_replace(Arc::new(sought));
        self.ask_for_help();
    }

    /// Beacons start over: somebody new is sought, or the network changed.
    fn burst(&mut self) {
        self.bursts += 1;
        self.refresh();
    }

    fn advance(&mut self) {
        let now = Instant::now();
        self.expire_invites(now);
        self.renew_sessions(now);
        for peer in self.peers.values_mut() {
            // A proxy has no port for the other end to aim at.
            let relayed = peer.relayed().filter(|_| self.parts.own.proxy().is_none()).cloned();
            let wanted = peer.wanted();
            let means = means(&self.parts, &self.ways, &self.interfaces, relayed, &mut self.attempts);
            peer.pursuit.advance(wanted, now, means);
        }
        for invite in self.invites.values_mut() {
            let wanted = invite.wanted();
            let means = means(&self.parts, &invite.relays, &self.interfaces, None, &mut self.attempts);
            invite.pursuit.advance(wanted, now, means);
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let (ways, proxied) = (&self.ways, self.parts.own.proxy().is_some());
        let peers = self.peers.values().filter_map(|peer| {
            peer.pursuit.wake_at(peer.wanted(), ways, !proxied && peer.relayed().is_some(), &self.interfaces)
        });
        let invites = self.invites.values().flat_map(|invite| {
            let pursuit = invite.pursuit.wake_at(invite.wanted(), &invite.relays, false, &self.interfaces);
            pursuit.into_iter().chain(invite.is_open().then_some(invite.until))
        });
        peers.chain(invites).min().unwrap_or(now + IDLE).min(now + IDLE)
    }

    fn attempted(&mut self, outcome: Outcome) {
        let Outcome { who, attempt, round, result } = outcome;
        let now = Instant::now();
        let pursuit = match who {
            Who::Peer(peer) => self.peers.get_mut(&peer).map(|peer| &mut peer.pursuit),
            Who::Invite(invite) => self.invites.get_mut(&invite).map(|invite| &mut invite.pursuit),
        };
        let Some(pursuit) = pursuit else {
            if let Ok(reached) = result {
                self.greeted(who, reached.greeted);
            }
            return;
        };
        pursuit.ended(attempt, round, result.as_ref().err(), now);
        match result {
            Ok(reached) => {
                let address = reached.greeted.address;
                match attempt {
                    Attempt::Dial if reached.greeted.via.shows_address() => {
                        pursuit.reached(address);
                        pursuit.note(Route::Address(address), None);
                    }
                    Attempt::Punch => pursuit.note(Route::Punch, None),
                    Attempt::Clock => pursuit.note(Route::Clock, None),
                    // The session says so itself.
                    Attempt::Dial | Attempt::Park(_) => {}
                }
                self.greeted(who, reached.greeted);
                drop(reached.permit);
            }
            Err(missed) if missed.answered => self.run_lost(who, &missed.words),
            Err(_) => {}
        }
    }

    /// A peer speaks of a punch, over a session that is up.
    fn punch_word(&mut self, (peer, session, message): PunchWord) {
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        let relayed = peer.relayed().filter(|relayed| relayed.id() == session).cloned();
        if relayed.is_none() || self.parts.own.proxy().is_some() {
            return;
        }
        let means = means(&self.parts, &self.ways, &self.interfaces, relayed, &mut self.attempts);
        peer.pursuit.punch_word(message, Instant::now(), means);
    }

    fn seen(&mut self, seen: &Seen) {
        let now = Instant::now();
        match seen.who {
            Who::Peer(peer) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.pursuit.sighted(seen.address, now);
                }
            }
            Who::Invite(invite) => {
                let Some(invite) = self.invites.get_mut(&invite) else { return };
                invite.pursuit.sighted(seen.address, now);
                if invite.is_open_here() {
                    // The joiner looks for us: it dials when it hears us.
                    self.calls += 1;
                    self.refresh();
                }
            }
        }
    }

    /// Notices that the machine slept or changed networks.
    fn look_around(&mut self) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let (then, wall_then) = std::mem::replace(&mut self.watched, (now, wall));
        let slept = wall.duration_since(wall_then).is_ok_and(|passed| passed > (now - then) + SLEPT);
        let interfaces = interfaces();
        let moved = !lasting(&interfaces).eq(lasting(&self.interfaces));
        self.interfaces = interfaces;
        if slept || moved {
            self.start_over(now);
        }
    }

    fn start_over(&mut self, now: Instant) {
        self.changes += 1;
        for peer in self.peers.values_mut() {
            peer.pursuit.restart(now, self.parts.own.tuning.relay_after);
            if let Some(session) = peer.session() {
                session.probe(PROBE);
            }
        }
        self.burst();
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn next_session(&mut self) -> SessionId {
        SessionId(self.next_id())
    }

    /// Reports without waiting for the receiver.
    fn report(&mut self, event: NetEvent) {
        let events = self.parts.events.clone();
        self.pairings.spawn(async move {
            // The receiver is gone only when the node is.
            let _ = events.send(event).await;
            None
        });
    }
}

fn means<'a>(
    parts: &'a Parts,
    relays: &'a [RelayWay],
    near: &'a [Interface],
    relayed: Option<Session>,
    attempts: &'a mut JoinSet<Outcome>,
) -> Means<'a> {
    Means { own: &parts.own, door: &parts.door, relays, near, listening: &parts.listening, relayed, attempts }
}

/// Addresses that say which networks we are in. Link-local ones come and go with every container.
fn lasting(interfaces: &[Interface]) -> impl Iterator<Item = IpAddr> {
    let passing = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    interfaces.iter().map(|interface| interface.ip).filter(move |ip| !passing(ip))
}
