//! What the network is told when it starts: who we are, where to listen, whom we know and how to find them.
//! Times and ports that tests shorten are in [`Tuning`]; its defaults are the protocol's.

use super::address::is_within_reach;
use super::connect::Proxy;
use super::door::Stranger;
use super::knocks::KnockFile;
use super::lan::Interface;
use protocol::limits::{NAME_LEN_MAX, PROTOCOL_VERSIONS};
use protocol::model::DeviceId;
use protocol::wire::beacon;
use protocol::wire::handshake::HelloHead;
use protocol::wire::identity::{Identity, PublicIdentity};
use protocol::wire::kdf::{UnixSeconds, kdf};
use protocol::wire::knock::Knock;
use protocol::wire::message::{Heads, Hello, capability};
use protocol::wire::pair::PairSecret;
use protocol::wire::relay::{Endpoint, RelayLink};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// What this program can do beyond the first version.
const CAPABILITIES: u32 = capability::ZSTD
    | capability::RUNS
    | capability::REALM
    | capability::TWINS
    | capability::PUNCH
    | capability::WHEREABOUTS
    | capability::OWN_RELAYS;

/// Everything the network needs to start.
pub struct NetConfig {
    /// This device's keys.
    pub identity: Arc<Identity>,
    /// What it says about itself to paired devices.
    pub hello: About,
    /// TCP addresses to listen on; port 0 picks one. When all are loopback, beacons go out on `lo` only.
    pub listen: Vec<SocketAddr>,
    /// Whether devices on the same network find each other.
    pub lan: LanMode,
    /// How connections are made; without, directly.
    pub proxy: Option<Proxy>,
    /// Relays to wait at, best first; the first two that answer are used.
    pub relays: Vec<RelayLink>,
    /// Whether strangers on the internet help to find devices.
    pub internet: Internet,
    /// Paired devices.
    pub peers: Vec<PeerConfig>,
    /// Where answered knocks are remembered; without, until the end of this run.
    pub knocks: Option<PathBuf>,
    /// Times and ports.
    pub tuning: Tuning,
}

/// What a device says about itself.
#[derive(Clone, Debug)]
pub struct About {
    /// What its owner calls it; cut at `NAME_LEN_MAX` bytes, control characters dropped.
    pub name: String,
    /// Drawn with the data directory.
    pub instance: [u8; 16],
    /// Drawn at each start.
    pub boot: [u8; 8],
    /// Program and version.
    pub software: String,
}

/// LAN discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanMode {
    /// No beacon is sent or heard.
    Off,
    /// Beacons while some expected device is not connected.
    On,
}

/// Help of strangers: a public table in which paired devices leave word for each other, and a port of the router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Internet {
    /// The switch.
    pub on: bool,
    /// Nodes to enter the table by, `HOST:PORT`; empty: the well-known ones.
    pub nodes: Vec<String>,
}

/// A paired device.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its public keys; they make up its id.
    pub identity: PublicIdentity,
    /// What we share with it; we dial with this one.
    pub secret: PairSecret,
    /// What we dialled with before, or if it was never met the oldest that it may know: tried in turn until it was met with the
    /// present one.
    pub before: Option<PairSecret>,
    /// What it may dial with instead: secrets of earlier and later epochs of the realm.
    pub also: Vec<PairSecret>,
    /// Addresses that the user gave.
    pub typed: Vec<Endpoint>,
    /// Addresses where it was met before, or that it named.
    pub learned: Vec<SocketAddr>,
    /// Sessions are refused and not sought.
    pub paused: bool,
}

impl PeerConfig {
    /// The device's id.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.identity.id()
    }
}

/// A relay to wait at.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayWay {
    /// What lets us in, and the address to try first.
    pub(super) link: RelayLink,
    /// Others of its addresses.
    also: Vec<Endpoint>,
    /// So many of all its addresses, the first ones, were given by the user.
    given: usize,
    /// The paired device whose port it is, if it is one.
    pub(super) of: Option<DeviceId>,
    pub(super) id: WayId,
}

/// Names a relay and the key that lets us in there; pairs that come by another do not meet there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WayId([u8; 32]);

impl From<RelayLink> for RelayWay {
    fn from(link: RelayLink) -> Self {
        Self { id: WayId::of(&link), link, also: Vec::new(), given: 1, of: None }
    }
}

impl WayId {
    fn of(link: &RelayLink) -> Self {
        Self(kdf("relay way", &[&link.relay_x, link.access_key.expose()]))
    }
}

impl RelayWay {
    /// The port of a paired device: its link by the first of its addresses, and the others; `given` of all were given by the user.
    #[must_use]
    pub fn of_device(device: DeviceId, link: RelayLink, also: Vec<Endpoint>, given: usize) -> Self {
        Self { id: WayId::of(&link), link, also, given, of: Some(device) }
    }

    /// Whose port it is.
    #[must_use]
    pub const fn device(&self) -> Option<DeviceId> {
        self.of
    }

    fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        std::iter::once(&self.link.at).chain(&self.also)
    }

    /// Its addresses, best first. Of what was learned only those that mean it here, too; what the user gave always does.
    pub(super) fn within_reach<'w>(&'w self, near: &'w [Interface]) -> impl Iterator<Item = &'w Endpoint> {
        let fits =
            move |endpoint: &Endpoint| endpoint.host().parse::<IpAddr>().map_or(true, |ip| is_within_reach(ip, near));
        self.endpoints().enumerate().filter(move |(at, endpoint)| *at < self.given || fits(endpoint)).map(|(_, it)| it)
    }

    /// Its link by the address `at`, if that is one of its own; else by the first that is not IPv6.
    pub(super) fn link_at(&self, at: SocketAddr) -> RelayLink {
        let is_v6 = |endpoint: &&Endpoint| endpoint.host().parse::<Ipv6Addr>().is_ok();
        let same = self.endpoints().find(|endpoint| is_at(endpoint, at) && !is_v6(endpoint));
        let best = same.or_else(|| self.endpoints().find(|endpoint| !is_v6(endpoint)));
        RelayLink { at: best.unwrap_or(&self.link.at).clone(), ..self.link.clone() }
    }

    /// Whether `at` is one of its addresses.
    pub(super) fn is_at(&self, at: SocketAddr) -> bool {
        self.endpoints().any(|endpoint| is_at(endpoint, at))
    }
}

fn is_at(endpoint: &Endpoint, at: SocketAddr) -> bool {
    endpoint.port() == at.port() && endpoint.host() == at.ip().to_string()
}

/// Times, ports and versions; the defaults are the protocol's, tests change them.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// UDP port of beacons.
    pub beacon_port: u16,
    /// A connection that has not knocked by then is a stranger's.
    pub knock_wait: Duration,
    /// The whole handshake.
    pub handshake_wait: Duration,
    /// Strangers are read and ignored until this long after they connected.
    pub drain: Duration,
    /// TCP connect.
    pub connect_wait: Duration,
    /// Relays are tried after this long without success elsewhere.
    pub relay_after: Duration,
    /// First wait after a failure; the steps of the back-off are multiples of it.
    pub backoff_unit: Duration,
    /// First and last protocol version that this device speaks.
    pub versions: (u8, u8),
    /// When a session asks whether its peer is there, and when it stops asking.
    pub liveness: Liveness,
}

/// How long a session bears silence.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    /// Without a word of ours for so long we PING: uniform between the two, so that sessions do not beat together.
    pub idle_ping: (Duration, Duration),
    /// A peer that says nothing for so long is gone: two of its PINGs are missing.
    pub idle_dead: Duration,
    /// With requests open, silence that makes us PING...
    pub busy_ping: Duration,
    /// ...and silence that ends the session.
    pub busy_dead: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            idle_ping: (Duration::from_secs(50), Duration::from_secs(70)),
            idle_dead: Duration::from_secs(150),
            busy_ping: Duration::from_secs(5),
            busy_dead: Duration::from_secs(15),
        }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            beacon_port: beacon::PORT,
            knock_wait: Duration::from_secs(5),
            handshake_wait: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            connect_wait: Duration::from_secs(5),
            relay_after: Duration::from_secs(3),
            backoff_unit: Duration::from_secs(1),
            versions: PROTOCOL_VERSIONS,
            liveness: Liveness::default(),
        }
    }
}

/// This device, as the tasks that shake hands need it.
pub(super) struct Own {
    pub(super) identity: Arc<Identity>,
    pub(super) tuning: Tuning,
    pub(super) knocks: Option<KnockFile>,
    about: About,
    /// The name may change while we run.
    name: Mutex<String>,
    /// By which connections are made; may change while we run.
    proxy: Mutex<Option<Proxy>>,
    /// Who else serves at our port; may change while we run.
    beside: Mutex<Option<mpsc::Sender<Stranger>>>,
    /// Which realm this device is in, and with whom, for who pairs with it.
    realm: Mutex<Option<([u8; 32], Vec<DeviceId>)>>,
}

impl Own {
    pub(super) fn new(identity: Arc<Identity>, about: About, proxy: Option<Proxy>, tuning: Tuning) -> Self {
        let (name, proxy) = (Mutex::new(plain(&about.name)), Mutex::new(proxy));
        let about = About { software: plain(&about.software), ..about };
        Self { identity, tuning, knocks: None, about, name, proxy, beside: Mutex::default(), realm: Mutex::default() }
    }

    pub(super) fn set_name(&self, name: &str) {
        *self.name.lock().expect("no holder of the name panics") = plain(name);
    }

    /// Takes care that `knock` opens nothing more, after a restart either.
    pub(super) async fn answers(self: &Arc<Self>, knock: Knock) {
        let own = Arc::clone(self);
        let append = move || own.knocks.as_ref().map_or(Ok(()), |knocks| knocks.append(&knock, unix_now()));
        match tokio::task::spawn_blocking(append).await {
            Ok(Ok(())) => {}
            // Whoever is paired gets in all the same.
            Ok(Err(error)) => tracing::warn!("that a connection was opened is not remembered: {error:#}"),
            // Only at shutdown.
            Err(_) => {}
        }
    }

    pub(super) fn proxy(&self) -> Option<Proxy> {
        self.proxy.lock().expect("no holder of the proxy panics").clone()
    }

    pub(super) fn set_proxy(&self, proxy: Option<Proxy>) {
        *self.proxy.lock().expect("no holder of the proxy panics") = proxy;
    }

    /// Who gets connections whose knock is not for us.
    pub(super) fn beside(&self) -> Option<mpsc::Sender<Stranger>> {
        self.beside.lock().expect("no holder of it panics").clone()
    }

    pub(super) fn set_beside(&self, beside: Option<mpsc::Sender<Stranger>>) {
        *self.beside.lock().expect("no holder of it panics") = beside;
    }

    pub(super) fn set_realm(&self, realm: Option<([u8; 32], Vec<DeviceId>)>) {
        *self.realm.lock().expect("no holder of the realm panics") = realm;
    }

    /// What `peer` is told of it while pairing.
    pub(super) fn realm(&self, peer: &DeviceId) -> Heads {
        let own = self.identity.id();
        match &*self.realm.lock().expect("no holder of the realm panics") {
            None => Heads::default(),
            Some((realm, members)) => {
                let others = members.iter().filter(|member| **member != own && *member != peer).count();
                let others = u16::try_from(others).unwrap_or(u16::MAX);
                Heads { realm: Some(*realm), others, ..Heads::default() }
            }
        }
    }

    pub(super) const fn head(&self) -> HelloHead {
        HelloHead { instance: self.about.instance, boot: self.about.boot, capabilities: CAPABILITIES }
    }

    /// HELLO to a device that we see at `observed`.
    pub(super) fn hello(&self, observed: Option<SocketAddr>) -> Hello {
        Hello {
            instance: self.about.instance,
            boot: self.about.boot,
            ed: self.identity.public().ed,
            name: self.name.lock().expect("no holder of the name panics").clone(),
            software: self.about.software.clone(),
            capabilities: CAPABILITIES,
            clock: unix_now(),
            observed,
        }
    }
}

/// What HELLO may carry: no control characters, at most `NAME_LEN_MAX` bytes.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars().filter(|c| !c.is_control()) {
        if plain.len() + character.len_utf8() > NAME_LEN_MAX {
            break;
        }
        plain.push(character);
    }
    plain
}

/// This device's clock.
pub(crate) fn unix_now() -> UnixSeconds {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since_1970.as_secs())
}

/// Fresh random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A number in `low..high`, for jitter.
pub(crate) fn random_between(low: Duration, high: Duration) -> Duration {
    let share = f64::from(u32::from_be_bytes(random())) / f64::from(u32::MAX);
    low + (high.saturating_sub(low)).mul_f64(share)
}
