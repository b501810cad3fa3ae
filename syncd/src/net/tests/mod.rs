//! Nets of one process over loopback: each test starts a few, watches their events and bounds every wait.

use super::*;
use protocol::wire::identity::{Identity, PublicIdentity};
use protocol::wire::kdf::Secret32;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::time::timeout;

mod pairing;
mod relayed;
mod sessions;
mod silence;

/// Longer than anything takes here, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tests do not hear each other's beacons. Below the ports that the system hands out.
fn beacon_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [low, high] = std::process::id().to_le_bytes()[..2] else { unreachable!("a process id has four bytes") };
    let base = 10_000 + (u16::from_le_bytes([low, high]) % 1_000) * 20;
    base + NEXT.fetch_add(1, Ordering::Relaxed)
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&Secret32::new([seed; 32]))
}

/// A device of these tests before it starts; seeds make identities, equal ones the same device.
struct Setup {
    seed: u8,
    peers: Vec<PeerConfig>,
    lan: LanMode,
    relays: Vec<RelayLink>,
    listen: Vec<SocketAddr>,
    instance: u8,
    tuning: Tuning,
}

impl Setup {
    fn new(seed: u8) -> Self {
        let tuning = Tuning {
            drain: Duration::from_millis(1500),
            knock_wait: Duration::from_millis(1000),
            relay_after: Duration::from_millis(100),
            backoff_unit: Duration::from_millis(50),
            ..Tuning::default()
        };
        let listen = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)];
        Self { seed, peers: Vec::new(), lan: LanMode::Off, relays: Vec::new(), listen, instance: seed, tuning }
    }

    /// Is paired with the device of `seed`, which may listen at `addresses`.
    fn peer(mut self, seed: u8, addresses: &[SocketAddr]) -> Self {
        self.peers.push(peer_config(self.seed, seed, addresses));
        self
    }

    fn lan(mut self, port: u16) -> Self {
        self.lan = LanMode::On;
        self.tuning.beacon_port = port;
        self
    }

    fn relay(mut self, link: &RelayLink) -> Self {
        self.relays.push(link.clone());
        self
    }

    fn start(self) -> Device {
        let hello = About {
            name: format!("device {}", self.seed),
            instance: [self.instance; 16],
            boot: random(),
            software: "syncd test".to_owned(),
        };
        let config = NetConfig {
            proxy: None,
            knocks: None,
            identity: Arc::new(identity(self.seed)),
            hello,
            listen: self.listen,
            lan: self.lan,
            internet: Internet::default(),
            relays: self.relays,
            peers: self.peers,
            tuning: self.tuning,
        };
        let (sender, events) = mpsc::channel(64);
        let net = Net::start(config, sender).expect("loopback can be listened on");
        Device { seed: self.seed, net, events }
    }
}

fn peer_config(own: u8, other: u8, addresses: &[SocketAddr]) -> PeerConfig {
    let public: PublicIdentity = identity(other).public();
    let secret = PairSecret::between(&identity(own), &public, &Secret32::new([0x77; 32])).expect("two devices");
    PeerConfig {
        before: None,
        identity: public,
        secret,
        also: Vec::new(),
        typed: Vec::new(),
        learned: addresses.to_vec(),
        paused: false,
    }
}

/// A device in a runtime of its own, which can be killed like a process.
struct Process {
    runtime: tokio::runtime::Runtime,
    device: Device,
}

impl Process {
    fn start(setup: Setup) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let entered = runtime.enter();
        let device = setup.start();
        drop(entered);
        Self { runtime, device }
    }

    /// All its tasks and sockets are gone, without goodbye.
    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

struct Device {
    seed: u8,
    net: Net,
    events: mpsc::Receiver<NetEvent>,
}

impl Device {
    fn address(&self) -> SocketAddr {
        self.net.listening()[0]
    }

    fn id(&self) -> DeviceId {
        identity(self.seed).id()
    }

    /// The first event that `pick` takes; others are dropped.
    async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(NetEvent) -> Option<T>) -> T {
        let work = async {
            loop {
                let event = self.events.recv().await.expect("a running net keeps its events open");
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        };
        let Ok(picked) = timeout(PATIENCE, work).await else {
            panic!("device {} waited for {what}; its peers: {:?}", self.seed, self.net.status().await);
        };
        picked
    }

    async fn session(&mut self) -> Session {
        self.wait("a session", |event| match event {
            NetEvent::SessionUp(session) => Some(session),
            _ => None,
        })
        .await
    }

    async fn down(&mut self, id: SessionId) -> DownReason {
        self.wait("the end of a session", |event| match event {
            NetEvent::SessionDown { session, reason, .. } if session == id => Some(reason),
            _ => None,
        })
        .await
    }
}

/// Two devices with a session, the second of which dialled.
async fn connected(a: u8, b: u8) -> ((Device, Session), (Device, Session)) {
    let mut first = Setup::new(a).peer(b, &[]).start();
    let mut second = Setup::new(b).peer(a, &[first.address()]).start();
    let (at_first, at_second) = tokio::join!(first.session(), second.session());
    ((first, at_first), (second, at_second))
}
