//! The network: finds paired devices on the LAN, at known addresses or through a relay, and keeps one encrypted
//! session with each. Imports `protocol` only; what messages mean is decided elsewhere.
//! Invariants: a stranger gets not one byte; nobody is contacted but paired devices, addresses and relays that the
//! user gave, and the LAN groups; every queue is bounded and every task ends with [`Net::shutdown`].

use anyhow::{Context as _, Result, anyhow, bail};
use config::Own;
use door::Door;
use hub::{Command, Hub, JoinRequest, Parts};
use knocks::{Answered, KnockFile};
use protocol::model::DeviceId;
use protocol::wire::invite::{InviteCode, InviteLink};
use protocol::wire::pair::PairSecret;
use protocol::wire::relay::{Endpoint, RelayLink};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod address;
mod backoff;
mod changes;
mod channel;
mod config;
mod connect;
mod dial;
mod door;
mod event;
mod greet;
mod halfopen;
mod hub;
mod keys;
mod knocks;
mod lan;
mod pairing;
mod park;
mod portmap;
mod punch;
mod pursuit;
mod rate;
mod rendezvous;
mod session;
mod socks;
#[cfg(test)]
mod tests;

pub use address::plausible;
pub use config::{About, Internet, LanMode, Liveness, NetConfig, PeerConfig, RelayWay, Tuning};
pub use connect::{Proxy, ProxyFor};
pub use dial::Route;
pub use door::Stranger;
pub use event::{
    Connected, DownReason, InviteId, NetEvent, Outside, PairingEvent, PairingSide, PeerStatus, Tried, Via,
};
pub use session::{DataSink, Replies, Reply, Session, SessionEnded, SessionId, SinkError, TrySendError};
pub use socks::Login;

pub(crate) use config::{random, unix_now};
pub(crate) use door::drain;
pub(crate) use greet::{read_knock, tune};
pub(crate) use halfopen::{HALF_OPEN_MAX, HalfOpen, prefix};
pub(crate) use rate::Bucket;

/// Connections that the kernel holds for us before they are accepted.
const BACKLOG: i32 = 128;
/// Commands that wait for the hub.
const COMMANDS: usize = 64;
/// Addresses in an invite's link: it has to fit a QR code.
const LINK_ADDRESSES: usize = 4;
/// Shutting down takes no longer, whatever hangs.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// A running network; clones are the same one.
#[derive(Clone)]
pub struct Net {
    commands: mpsc::Sender<Command>,
    own: Arc<Own>,
    listening: Arc<[SocketAddr]>,
    relays: watch::Sender<Vec<RelayLink>>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// An invite that is open here.
pub struct InviteHandle {
    /// Names it in events.
    pub id: InviteId,
    /// The code with hints where we can be found, for people to pass on.
    pub link: InviteLink,
}

impl Net {
    /// Binds the listeners and starts everything, within a tokio runtime. `events` must be read steadily; whoever reads it may call any
    /// method here, but must not wait for `Session::send` of a session whose messages it does not read meanwhile.
    ///
    /// # Errors
    /// When a listener cannot be bound.
    pub fn start(config: NetConfig, events: mpsc::Sender<NetEvent>) -> Result<Self> {
        let listeners: Vec<TcpListener> =
            config.listen.iter().map(|address| listen(*address, &config.listen)).collect::<Result<_>>()?;
        let listening: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?;
        let (knocks, answered) = known_knocks(config.knocks.as_deref());
        let mut own = Own::new(config.identity, config.hello, config.proxy, config.tuning);
        own.knocks = knocks;
        let own = Arc::new(own);
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (arrived, arrivals) = mpsc::channel(COMMANDS);
        let keyring = watch::Sender::new(Arc::default());
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let (door, door_handle) = Door::new(Arc::clone(&own), keyring.subscribe(), arrived, answered);
        let parts = Parts {
            own: Arc::clone(&own),
            listening: listening.clone(),
            events,
            commands: command_queue,
            arrivals,
            door: door_handle,
            keyring,
            stop: stop.clone(),
            tracker: tracker.clone(),
        };
        let relays = watch::Sender::new(config.relays.clone());
        let hub = Hub::new(parts, config.relays, config.internet, config.peers);
        tracker.spawn(door.run(listeners, stop.clone()));
        tracker.spawn(hub.run(config.lan));
        Ok(Self { commands, own, listening: listening.into(), relays, stop, tracker })
    }

    /// Where we listen, with the ports that were picked.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// What peers are told from the next session on.
    pub fn set_name(&self, name: &str) {
        self.own.set_name(name);
    }

    /// Which realm this device is in, and with whom: who pairs with it is told the realm and how many others are in it.
    pub fn set_realm(&self, realm: Option<([u8; 32], Vec<DeviceId>)>) {
        self.own.set_realm(realm);
    }

    async fn tell(&self, command: Command) {
        // After shutdown there is nothing left to steer.
        let _ = self.commands.send(command).await;
    }

    async fn query<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await;
        answer.await.ok()
    }

    /// Replaces the paired devices; sessions with others are cut.
    pub async fn set_peers(&self, peers: Vec<PeerConfig>) {
        self.tell(Command::SetPeers(peers)).await;
    }

    /// Adds a device, or updates what is known of it.
    pub async fn add_peer(&self, peer: PeerConfig) {
        self.tell(Command::AddPeer(Box::new(peer))).await;
    }

    /// Forgets a device and cuts its session.
    pub async fn remove_peer(&self, peer: DeviceId) {
        self.tell(Command::RemovePeer(peer)).await;
    }

    /// Replaces the secrets shared with a device; a session that is up stays.
    pub async fn set_secrets(&self, peer: DeviceId, secret: PairSecret, also: Vec<PairSecret>) {
        self.tell(Command::SetSecrets { peer, secret, also }).await;
    }

    /// Pauses a device, or ends the pause.
    pub async fn set_paused(&self, peer: DeviceId, paused: bool) {
        self.tell(Command::SetPaused(peer, paused)).await;
    }

    /// Replaces a device's addresses: those that the user gave, and those learned (see [`plausible`]).
    pub async fn set_addresses(&self, peer: DeviceId, typed: Vec<Endpoint>, learned: Vec<SocketAddr>) {
        self.tell(Command::SetAddresses { peer, typed, learned }).await;
    }

    /// Replaces the relays.
    pub async fn set_relays(&self, relays: Vec<RelayLink>) {
        self.relays.send_replace(relays.clone());
        self.tell(Command::SetRelays(relays)).await;
    }

    /// Replaces the relays that are ports of paired devices; they come before the others.
    pub async fn set_own_relays(&self, relays: Vec<RelayWay>) {
        self.tell(Command::SetOwnRelays(relays)).await;
    }

    /// Hands connections whose knock is not for us to whoever else serves at our port, or to nobody.
    pub fn hand_over(&self, to: Option<mpsc::Sender<Stranger>>) {
        self.own.set_beside(to);
    }

    /// Makes connections by another proxy, or by none, from now on; sessions end and are made anew.
    pub async fn set_proxy(&self, proxy: Option<Proxy>) {
        self.own.set_proxy(proxy);
        self.tell(Command::Rerouted).await;
    }

    /// Turns LAN discovery on or off.
    pub async fn set_lan(&self, mode: LanMode) {
        self.tell(Command::SetLan(mode)).await;
    }

    /// Lets strangers help, or no longer.
    pub async fn set_internet(&self, internet: Internet) {
        self.tell(Command::SetInternet(internet)).await;
    }

    /// How this device looks from outside.
    pub async fn outside(&self) -> Outside {
        self.query(Command::Outside).await.unwrap_or_default()
    }

    /// Tries everything again at once and checks that sessions live: after waking up, or in a new network.
    pub async fn retry(&self) {
        self.tell(Command::Retry).await;
    }

    /// Opens an invite for `lives`. Nothing is reported before another device comes or the invite fails.
    ///
    /// # Errors
    /// When too many are open, or the network is shut down.
    pub async fn open_invite(&self, code: InviteCode, lives: Duration) -> Result<InviteHandle> {
        let secret = stretch(code.clone()).await?;
        let id = self.query(|reply| Command::OpenInvite { secret, lives, reply }).await;
        let id = id.context("the network is shut down")?.context("too many codes are open: close one first")?;
        let announced = self.query(Command::Announced).await.unwrap_or_default();
        let addresses = announced.iter().take(LINK_ADDRESSES).filter_map(|address| address.to_string().parse().ok());
        let relays = self.relays.borrow().iter().take(1).cloned().collect();
        Ok(InviteHandle { id, link: InviteLink { code, addresses: addresses.collect(), relays } })
    }

    /// Ends an invite, or an attempt to join one, without a report.
    pub async fn close_invite(&self, id: InviteId) {
        self.tell(Command::CloseInvite(id)).await;
    }

    /// Joins the invite of another device; gives up after `lives`. `address` comes before the link's own hints.
    ///
    /// # Errors
    /// When too many are being joined, or the network is shut down.
    pub async fn join_invite(&self, link: InviteLink, address: Option<Endpoint>, lives: Duration) -> Result<InviteId> {
        let secret = stretch(link.code.clone()).await?;
        let addresses = address.into_iter().chain(link.addresses).collect();
        let request = JoinRequest { secret, lives, addresses, relays: link.relays };
        let id = self.query(|reply| Command::JoinInvite { request, reply }).await;
        id.context("the network is shut down")?.ok_or_else(|| anyhow!("too many codes are being tried already"))
    }

    /// Every peer and how it is reached.
    pub async fn status(&self) -> Vec<PeerStatus> {
        self.query(Command::Status).await.unwrap_or_default()
    }

    /// Says goodbye to every peer and stops all tasks.
    pub async fn shutdown(&self) {
        let work = async {
            self.query(Command::Shutdown).await;
            self.stop.cancel();
            self.tracker.close();
            self.tracker.wait().await;
        };
        if tokio::time::timeout(SHUTDOWN, work).await.is_err() {
            tracing::warn!("the network did not stop in time");
        }
    }
}

/// A file that cannot be used makes openings that were recorded before worth one answer, no more: nobody is kept out for it.
fn known_knocks(path: Option<&Path>) -> (Option<KnockFile>, Vec<Answered>) {
    let Some(path) = path else { return (None, Vec::new()) };
    match KnockFile::open(path, unix_now()) {
        Ok((file, answered)) => (Some(file), answered),
        Err(error) => {
            tracing::warn!("which connections were opened before is not known: {error:#}");
            (None, Vec::new())
        }
    }
}

/// Argon2 takes a quarter of a second and 64 MiB: not on a thread that moves packets.
async fn stretch(code: InviteCode) -> Result<PairSecret> {
    tokio::task::spawn_blocking(move || code.pair_secret()).await.context("stretching the code")
}

fn listen(address: SocketAddr, all: &[SocketAddr]) -> Result<TcpListener> {
    let open = |address: SocketAddr, shared: bool| -> std::io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // On Windows this would let another program take the port over.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        // Connections that are made from this port (`punch`) need it, and it would let a second daemon of this user listen
        // beside us: an unshared socket sees first whether one does.
        #[cfg(unix)]
        socket.set_reuse_port(shared)?;
        if address.is_ipv6() {
            // Alone, [::] serves both families; beside an IPv4 listener it keeps to its own.
            socket.set_only_v6(all.iter().any(SocketAddr::is_ipv4))?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let bind = || -> std::io::Result<TcpListener> {
        // A port that the system picks is free.
        if address.port() != 0 {
            open(address, false)?;
        }
        let socket = open(address, true)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    match bind() {
        Ok(listener) => Ok(listener),
        Err(error) => bail!("cannot listen on {address}: {error}"),
    }
}
