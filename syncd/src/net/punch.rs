//! A punch: two devices that are connected through a relay dial each other at one moment, from the ports that they listen
//! on, so that the router before each takes the other's opening for an answer to its own (SPEC 15). The relayed session
//! carries the appointment only. What comes of it is an ordinary connection with an ordinary handshake.
//! Invariant: nothing but addresses that the other device named is dialled, each once per try, and at most a few.

use super::address::{is_within_reach, plausible};
use super::config::{Own, random, unix_now};
use super::connect::{Target, from_own_port, targets};
use super::dial::{Gate, Missed, Reached, Route};
use super::door::DoorHandle;
use super::greet::{Path, ask, hear, read_knock, tune};
use super::keys::Keys;
use super::lan::Interface;
use super::session::Session;
use anyhow::{Context as _, Result, anyhow, bail};
use protocol::limits::PUNCH_ADDRESSES_MAX;
use protocol::wire::message::{Message, Punch};
use protocol::wire::pair::Direction;
use protocol::wire::relay::{JoinRequest, JoinStatus, JoiningClient, MESSAGE_2_LEN, RelayLink};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Words of the other end that wait for a punch.
pub(super) const WORDS: usize = 4;
/// The other end has so long for each of its words.
const WORD_WAIT: Duration = Duration::from_secs(10);
/// A round trip is timed for so long at most.
const RTT_WAIT: Duration = Duration::from_secs(3);
/// Connecting goes on for so long: three SYNs of an ordinary kernel (RFC 6298: 1 s, then 2 s).
const CONNECT_WAIT: Duration = Duration::from_secs(4);
/// The larger id waits so long, and two round trips, for the knock of the smaller one before it knocks itself: that one's
/// listener may have taken the connection.
const KNOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Tries before the first long wait, and the pause between them.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);
/// Without anybody to carry an appointment both dial whenever their clocks show a multiple of this, from ports of that moment: what
/// a router, or the other end's listener, still holds of a try that only one end made would spoil every later one...
const SLOT: Duration = Duration::from_secs(30);
/// ...for so long, four SYNs, so that clocks may differ by some seconds...
const SLOT_WAIT: Duration = Duration::from_secs(8);
/// ...and the larger id waits so long for the knock.
const SLOT_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries of one connection.
const AGAIN: Duration = Duration::from_millis(250);
/// Waits after that: ten minutes, doubled up to six hours.
const REST: Duration = Duration::from_secs(600);
const REST_MAX: Duration = Duration::from_secs(6 * 3600);

/// When to try the next punch.
pub(super) struct Tries {
    failed: u32,
    next: Instant,
}

impl Tries {
    pub(super) const fn new(now: Instant) -> Self {
        Self { failed: 0, next: now }
    }

    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Which try the next one is.
    pub(super) fn number(&self) -> u8 {
        u8::try_from(self.failed % 256).expect("a remainder of 256 fits")
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.failed = self.failed.saturating_add(1);
        let wait = match self.failed.checked_sub(TRIES) {
            None => PAUSE,
            Some(rests) => REST.saturating_mul(1 << rests.min(10)).min(REST_MAX),
        };
        self.next = now + wait;
    }
}

/// What dialling from the port that we listen on needs.
#[derive(Clone)]
pub(super) struct Volley {
    pub(super) own: Arc<Own>,
    pub(super) keys: Arc<Keys>,
    /// Those that the other end may still go by, where nobody carries an appointment.
    pub(super) before: Option<Arc<Keys>>,
    pub(super) listening: Vec<SocketAddr>,
    pub(super) near: Vec<Interface>,
    pub(super) door: DoorHandle,
    pub(super) gate: Gate,
    /// Whether a connection that is refused is tried again.
    pub(super) insists: bool,
}

/// One dial.
struct Shot {
    target: SocketAddr,
    local: SocketAddr,
    keys: Arc<Keys>,
}

/// What a punch needs.
pub(super) struct Aim {
    pub(super) volley: Volley,
    /// The relayed session that carries the appointment.
    pub(super) session: Session,
    /// Relays that may tell how we look from outside, the best first.
    pub(super) relays: Vec<RelayLink>,
    /// What the other end says about this punch.
    pub(super) words: mpsc::Receiver<Message>,
}

/// How we look from outside; while it is held the router keeps what it has made of our port.
struct View {
    aims: Vec<SocketAddr>,
    _observed_on: Option<TcpStream>,
}

impl Aim {
    /// Makes the appointment, as the smaller id, and keeps it.
    pub(super) async fn lead(mut self, attempt: u8) -> Result<Reached, Missed> {
        let gate = self.volley.gate.clone();
        let appointment = async {
            let view = self.look().await?;
            self.say(Message::PunchSyn(Punch { attempt, addresses: view.aims.clone() })).await?;
            let targets = loop {
                match self.word().await? {
                    Message::PunchAck(punch) if punch.attempt == attempt => break punch.addresses,
                    _ => {}
                }
            };
            // Both are ready: from here on it is a matter of half a round trip.
            let rtt = self.session.measure_rtt(RTT_WAIT).await.or(self.session.rtt()).unwrap_or_default();
            self.say(Message::PunchGo(attempt)).await?;
            sleep(rtt / 2).await;
            Ok((view, targets, rtt))
        };
        let ready = gate.unless_stopped(appointment).await?;
        self.fire(ready).await
    }

    /// Keeps the appointment that the other end makes, as the larger id.
    pub(super) async fn follow(mut self, punch: Punch) -> Result<Reached, Missed> {
        let gate = self.volley.gate.clone();
        let appointment = async {
            let view = self.look().await;
            let aims = view.as_ref().map(|view| view.aims.clone()).unwrap_or_default();
            self.say(Message::PunchAck(Punch { attempt: punch.attempt, addresses: aims })).await?;
            let view = view?;
            while !matches!(self.word().await?, Message::PunchGo(attempt) if attempt == punch.attempt) {}
            Ok((view, punch.addresses, self.session.rtt().unwrap_or_default()))
        };
        let ready = gate.unless_stopped(appointment).await?;
        self.fire(ready).await
    }

    async fn say(&self, message: Message) -> Result<()> {
        self.session.send(message).await.context("the relayed session ended")
    }

    async fn word(&mut self) -> Result<Message> {
        let word = timeout(WORD_WAIT, self.words.recv()).await.context("the other device does not answer")?;
        word.context("the other device began anew")
    }

    /// Finds out how we look from outside.
    async fn look(&self) -> Result<View> {
        let mut failure = anyhow!("no relay is there to say how this device looks from outside");
        let Volley { own, listening, near, .. } = &self.volley;
        let local = local_for(listening, &IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut observed = None;
        for relay in &self.relays {
            let Some(local) = local else { break };
            match observe(own, relay, local).await {
                // A relay in our own network sees us as nobody else does.
                Ok(found) if !is_global(found.0.ip()) => observed = observed.or(Some(found)),
                Ok(found) => {
                    observed = Some(found);
                    break;
                }
                Err(error) => failure = error.context(format!("relay {}", relay.at)),
            }
        }
        let (seen, observed_on) = observed.map_or((None, None), |(seen, stream)| (Some(seen), Some(stream)));
        let aims = aims(seen, listening, near);
        if aims.is_empty() {
            return Err(failure);
        }
        Ok(View { aims, _observed_on: observed_on })
    }

    async fn fire(self, ready: Result<(View, Vec<SocketAddr>, Duration)>) -> Result<Reached, Missed> {
        let (view, named, rtt) = ready.map_err(|error| Missed::unanswered(Route::Punch, format!("{error:#}")))?;
        let shots = self.volley.shots(&named);
        let fired = self.volley.fire(shots, CONNECT_WAIT, KNOCK_PATIENCE + 2 * rtt, Route::Punch).await;
        drop(view);
        fired
    }
}

impl Volley {
    /// Dials `named` when the clock says so, as the other end does: both found the other's addresses and nobody is between them.
    pub(super) async fn fire_by_the_clock(self, named: Vec<SocketAddr>) -> Result<Reached, Missed> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (slot, left) = next_slot(since_1970);
        self.gate.unless_stopped(sleep(left)).await?;
        // The other end may not know of the present secret yet, or still dial with the one before.
        let all = std::iter::once(&self.keys).chain(&self.before);
        let shots = all.flat_map(|keys| self.shots_of(slot, keys, &named)).collect();
        self.fire(shots, SLOT_WAIT, SLOT_PATIENCE, Route::Clock).await
    }

    fn shots_of(&self, slot: u64, keys: &Arc<Keys>, named: &[SocketAddr]) -> Vec<Shot> {
        let (ours, theirs) = (keys.secret.clock_port(keys.out, slot), keys.secret.clock_port(keys.out.reverse(), slot));
        let mut pairs = self.targets(named);
        for (target, local) in &mut pairs {
            target.set_port(theirs);
            local.set_port(ours);
        }
        pairs.sort_unstable();
        pairs.dedup();
        pairs.into_iter().map(|(target, local)| Shot { target, local, keys: Arc::clone(keys) }).collect()
    }

    /// Dials all of them at once, for `wait`. The larger id waits for the other's knock for `patience`.
    async fn fire(self, shots: Vec<Shot>, wait: Duration, patience: Duration, route: Route) -> Result<Reached, Missed> {
        if shots.is_empty() {
            let words = "the other device knows no address where it could be met";
            return Err(Missed::unanswered(route, words));
        }
        let (volley, mut running) = (Arc::new(self), JoinSet::new());
        for shot in shots {
            let volley = Arc::clone(&volley);
            running.spawn(async move {
                let target = shot.target;
                volley.meet(shot, wait, patience).await.map_err(|error| format!("{target}: {error:#}"))
            });
        }
        let mut failures = Vec::new();
        while let Some(met) = volley.gate.unless_stopped(running.join_next()).await? {
            match met {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(words)) => failures.push(words),
                Err(_) => failures.push("an attempt stopped".to_owned()),
            }
        }
        failures.sort();
        Err(Missed::unanswered(route, format!("nothing came through ({})", failures.join("; "))))
    }

    /// From the port that we listen on.
    fn shots(&self, named: &[SocketAddr]) -> Vec<Shot> {
        let shot = |(target, local)| Shot { target, local, keys: Arc::clone(&self.keys) };
        self.targets(named).into_iter().map(shot).collect()
    }

    /// The addresses worth dialling, each with the one to dial from.
    fn targets(&self, named: &[SocketAddr]) -> Vec<(SocketAddr, SocketAddr)> {
        let fits = |address: &SocketAddr| is_within_reach(address.ip(), &self.near);
        let targets = plausible(named, None).into_iter().filter(fits).take(PUNCH_ADDRESSES_MAX);
        targets.filter_map(|target| Some((target, local_for(&self.listening, &target.ip())?))).collect()
    }

    /// A router that refuses strays may have done so a moment before its own device dialled: then once more.
    async fn connect(&self, target: SocketAddr, local: SocketAddr, wait: Duration) -> Result<TcpStream> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match from_own_port(&self.own, local, target, left).await {
                Ok(stream) => return Ok(stream),
                Err(_) if self.insists && left > AGAIN => sleep(AGAIN).await,
                Err(words) => bail!(words),
            }
        }
    }

    /// One connection, and the handshake on it. The smaller id speaks first, whoever dialled.
    async fn meet(&self, shot: Shot, wait: Duration, patience: Duration) -> Result<Reached> {
        let Shot { target, local, keys } = shot;
        let mut stream = self.connect(target, local, wait).await?;
        tune(&stream);
        if keys.out == Direction::High
            && let Some(knock) = read_knock(&mut stream, patience).await
        {
            let admitted = self.door.admit(knock, Some(keys.who)).await.context("somebody else knocked")?;
            let heard = hear(&mut stream, &knock, &self.own, &admitted.keys).await?;
            let greeted = heard.finish(stream, Path::direct(target), &self.own, admitted.refuse).await?;
            return Ok(Reached { greeted, permit: None });
        }
        let asked = ask(stream, Path::direct(target), &self.own, &keys).await?;
        let permit = self.gate.pass().await.map_err(|missed| anyhow!(missed.words))?;
        let greeted = asked.finish(&self.own).await?;
        Ok(Reached { greeted, permit: Some(permit) })
    }
}

/// The number of the next moment that all clocks agree on, and how long until then.
fn next_slot(since_1970: Duration) -> (u64, Duration) {
    let slot = since_1970.as_secs() / SLOT.as_secs() + 1;
    (slot, Duration::from_secs(slot * SLOT.as_secs()) - since_1970)
}

/// The address to dial from, for `remote`'s family: where we listen.
pub(super) fn local_for(listening: &[SocketAddr], remote: &IpAddr) -> Option<SocketAddr> {
    let reachable = |address: &&SocketAddr| !address.ip().is_loopback();
    let same = |address: &&SocketAddr| address.is_ipv4() == remote.is_ipv4();
    let own = listening.iter().filter(reachable).find(same).copied();
    // [::] alone serves both families.
    let dual = listening.iter().find(|address| address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    own.or_else(|| dual.map(|address| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())))
}

/// Asks a relay how we look from outside, from the port that we listen on. The connection is kept: many routers make
/// something else of the port once it is closed.
async fn observe(own: &Own, link: &RelayLink, local: SocketAddr) -> Result<(SocketAddr, TcpStream)> {
    let found = targets(own, &link.at).await.map_err(|words| anyhow!(words))?;
    let v4 = |target| match target {
        Target::Address(address) => Some(address).filter(SocketAddr::is_ipv4),
        Target::Name(_) => None,
    };
    let address = found.into_iter().find_map(v4).context("it has no IPv4 address")?;
    let connected = from_own_port(own, local, address, own.tuning.connect_wait).await;
    let mut stream = connected.map_err(|words| anyhow!(words))?;
    let work = async {
        let (joining, opening) = JoiningClient::start(link, JoinRequest::Observe, unix_now(), &random())?;
        stream.write_all(&opening).await.context("sending")?;
        let mut reply = [0; MESSAGE_2_LEN];
        stream.read_exact(&mut reply).await.context("it does not know our access key, or is no relay")?;
        let (reply, _) = joining.read_reply(&reply)?;
        match reply.status {
            JoinStatus::Waiting => Ok(reply.observed),
            status => bail!("it does not tell: {status:?}"),
        }
    };
    let observed = timeout(own.tuning.handshake_wait, work).await.context("it does not answer")??;
    Ok((observed, stream))
}

/// What the other end is told to aim at: how we look from outside, the same address with our own port (a router that forwards
/// it, or keeps ports), and addresses of ours that mean the same everywhere.
fn aims(seen: Option<SocketAddr>, listening: &[SocketAddr], near: &[Interface]) -> Vec<SocketAddr> {
    let kept = |seen: SocketAddr| Some(SocketAddr::new(seen.ip(), local_for(listening, &seen.ip())?.port()));
    let own = near.iter().map(|interface| interface.ip).filter(|ip| is_global(*ip));
    let own = own.filter_map(|ip| Some(SocketAddr::new(ip, local_for(listening, &ip)?.port())));
    let mut aims: Vec<SocketAddr> = Vec::new();
    for address in seen.into_iter().chain(seen.and_then(kept)).chain(own) {
        if !aims.contains(&address) && aims.len() < PUNCH_ADDRESSES_MAX {
            aims.push(address);
        }
    }
    aims
}

/// Means the same machine from everywhere.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared)
        }
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn check(name: &str, seen: Option<&str>, listening: &[&str], near: &[&str], expected: &[&str]) {
        let listening: Vec<SocketAddr> = listening.iter().map(|text| address(text)).collect();
        let interface = |ip: &&str| Interface { ip: ip.parse().expect("an address"), index: 1, prefix_len: 24 };
        let near: Vec<Interface> = near.iter().map(interface).collect();
        let expected: Vec<SocketAddr> = expected.iter().map(|text| address(text)).collect();
        assert_eq!(aims(seen.map(address), &listening, &near), expected, "{name}");
    }

    #[test]
    fn what_the_other_end_aims_at() {
        let both = ["0.0.0.0:28730", "[::]:28730"];
        let mapped = ["198.51.100.7:40000", "198.51.100.7:28730"];
        check("behind a router", Some("198.51.100.7:40000"), &both, &["192.168.1.5"], &mapped);
        check("a router that keeps ports", Some("198.51.100.7:28730"), &both, &["10.0.0.5"], &["198.51.100.7:28730"]);
        check("unseen, with IPv6", None, &both, &["10.0.0.5", "2001:db8::5", "fe80::1"], &["[2001:db8::5]:28730"]);
        check("on both families at once", None, &["[::]:5000"], &["203.0.113.9"], &["203.0.113.9:5000"]);
        check("nothing outside", None, &["127.0.0.1:5000"], &["127.0.0.1", "203.0.113.9"], &[]);
        check("a carrier's private range", None, &both, &["100.64.3.4"], &[]);
    }

    #[test]
    fn slots_are_the_same_for_all() {
        let next = |ms| {
            let (slot, left) = next_slot(Duration::from_millis(ms));
            (slot, left.as_millis())
        };
        assert_eq!([next(0), next(1), next(29_999)], [(1, 30_000), (1, 29_999), (1, 1)]);
        assert_eq!([next(30_000), next(1_771_200_010_000)], [(2, 30_000), (59_040_001, 20_000)]);
    }

    #[test]
    fn three_tries_then_ever_longer_rests() {
        let now = Instant::now();
        let mut tries = Tries::new(now);
        let mut waits = Vec::new();
        for _ in 0..10 {
            tries.failed(now);
            waits.push((tries.next() - now).as_secs());
        }
        assert_eq!(waits, [2, 2, 600, 1200, 2400, 4800, 9600, 19_200, 21_600, 21_600]);
    }
}
