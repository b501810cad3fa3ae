//! LAN discovery: sends beacons while somebody is sought and listens for those of sought devices. Nothing is ever
//! answered; a sighting makes us dial. Where one group or interface fails, the others go on.

use super::config::{random, random_between, unix_now};
use super::keys::Who;
use super::rate::Bucket;
use protocol::limits::{BEACON_LEN_MAX, BEACON_WINDOW_SECS, KNOCK_WIDE_SLACK_WINDOWS, KNOCK_WINDOW_SECS};
use protocol::wire::beacon::Beacon;
use protocol::wire::kdf::Secret32;
use sockets::Sockets;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

mod sockets;

pub(super) use sockets::{Interface, interfaces};

/// Beacons after a start or a change, counted from it.
const BURST: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
/// Beacons after those: 60 s, 20 % more or less.
const STEADY: (Duration, Duration) = (Duration::from_secs(48), Duration::from_secs(72));
/// Two beacons are never closer than this, whoever asks for them.
const APART: Duration = Duration::from_millis(500);
/// Beacon windows either way that an ordinary clock may be off.
const SLACK: u64 = 1;
/// The same for a clock that is wrong: as far as knocks reach.
const WIDE_SLACK: u64 = KNOCK_WIDE_SLACK_WINDOWS * KNOCK_WINDOW_SECS / BEACON_WINDOW_SECS;
/// Sources whose rate is watched; over that the watch starts afresh.
const SOURCES_MAX: usize = 256;

/// Whom the LAN is asked about; replaced as a whole when it changes.
#[derive(Clone, Default)]
pub(super) struct Sought {
    /// For each: who, the key of our tags, the key of theirs.
    pub(super) devices: Vec<(Who, Secret32, Secret32)>,
    /// Counts starts and changes of network: each one starts the schedule over.
    pub(super) bursts: u64,
    /// Counts beacons that are wanted at once.
    pub(super) calls: u64,
}

/// A sought device was heard.
pub(super) struct Seen {
    pub(super) who: Who,
    pub(super) address: SocketAddr,
}

/// What stays the same while LAN discovery runs.
pub(super) struct Lan {
    pub(super) port: u16,
    /// TCP addresses that beacons point to.
    pub(super) listening: Vec<SocketAddr>,
    pub(super) sought: watch::Receiver<Arc<Sought>>,
    pub(super) seen: mpsc::Sender<Seen>,
}

/// When the next beacon goes out.
struct Schedule {
    begun: Instant,
    sent: usize,
    next: Instant,
    last: Option<Instant>,
}

impl Schedule {
    fn start(now: Instant) -> Self {
        Self { begun: now, sent: 0, next: now, last: None }
    }

    fn restart(&mut self, now: Instant) {
        *self = Self { last: self.last, ..Self::start(now) };
        self.next = self.earliest(now);
    }

    fn earliest(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| now.max(last + APART))
    }

    fn call(&mut self, now: Instant) {
        self.next = self.next.min(self.earliest(now));
    }

    fn sent(&mut self, now: Instant) {
        self.last = Some(now);
        self.sent += 1;
        self.next = match BURST.get(self.sent) {
            Some(after) => self.earliest(now).max(self.begun + *after),
            None => now + random_between(STEADY.0, STEADY.1),
        };
    }
}

/// Bounds on how much a flood of datagrams costs.
struct Limits {
    all: Bucket,
    wide: Bucket,
    each: BTreeMap<IpAddr, Bucket>,
}

impl Limits {
    fn new(now: Instant) -> Self {
        Self {
            all: Bucket::new(100, Duration::from_millis(10), now),
            wide: Bucket::new(5, Duration::from_millis(200), now),
            each: BTreeMap::new(),
        }
    }

    /// 20 a second per source, 100 in all. Daemons of one machine share an address: only the whole counts there.
    fn allow(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.each.len() >= SOURCES_MAX {
            self.each.clear();
        }
        let bucket = || Bucket::new(20, Duration::from_millis(50), now);
        let allowed = source.is_loopback() || self.each.entry(source).or_insert_with(bucket).take(now);
        allowed && self.all.take(now)
    }
}

impl Lan {
    /// Sends and listens until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let loopback_only = self.listening.iter().all(|address| address.ip().is_loopback());
        let mut sockets = Sockets::open(self.port, loopback_only);
        let now = Instant::now();
        let (mut schedule, mut limits) = (Schedule::start(now), Limits::new(now));
        let mut sought = Arc::clone(&self.sought.borrow_and_update());
        let mut buffer = [0; BEACON_LEN_MAX + 1];
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.sought.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let news = Arc::clone(&self.sought.borrow_and_update());
                    let now = Instant::now();
                    if news.bursts != sought.bursts {
                        sockets.rejoin();
                        schedule.restart(now);
                    } else if news.calls != sought.calls {
                        schedule.call(now);
                    }
                    sought = news;
                }
                () = sleep_until(schedule.next), if !sought.devices.is_empty() => {
                    sockets.rejoin();
                    self.send(&sockets, &sought);
                    schedule.sent(Instant::now());
                }
                (len, from) = sockets.receive(&mut buffer) => {
                    if limits.allow(from.ip(), Instant::now()) {
                        self.look(&buffer[..len], from, &sought, &mut limits);
                    }
                }
            }
        }
    }

    fn send(&self, sockets: &Sockets, sought: &Sought) {
        let keys: Vec<Secret32> = sought.devices.iter().map(|(_, ours, _)| ours.clone()).collect();
        for interface in sockets.interfaces() {
            let Some(port) = tcp_port(&self.listening, interface.ip) else { continue };
            let beacon = Beacon::make(&keys, interface.ip, port, unix_now(), &random());
            if let Err(error) = sockets.send(interface, &beacon.encode()) {
                tracing::debug!(%error, "sending a beacon");
            }
        }
    }

    fn look(&self, datagram: &[u8], from: SocketAddr, sought: &Sought, limits: &mut Limits) {
        let Some(beacon) = Beacon::decode(datagram) else { return };
        let keys: Vec<Secret32> = sought.devices.iter().map(|(_, _, theirs)| theirs.clone()).collect();
        let mut found = beacon.find(&keys, from.ip(), unix_now(), SLACK);
        if found.is_empty() && !keys.is_empty() && limits.wide.take(Instant::now()) {
            found = beacon.find(&keys, from.ip(), unix_now(), WIDE_SLACK);
        }
        let mut address = from;
        address.set_port(beacon.tcp_port());
        for sighting in found {
            let who = sought.devices[sighting.index].0;
            // A full queue loses a sighting; the next beacon brings another.
            let _ = self.seen.try_send(Seen { who, address });
        }
    }
}

/// The port at which a device that sees us at `ip` reaches us.
fn tcp_port(listening: &[SocketAddr], ip: IpAddr) -> Option<u16> {
    let exact = listening.iter().find(|address| address.ip() == ip);
    let family = || listening.iter().find(|a| a.ip().is_unspecified() && a.is_ipv4() == ip.is_ipv4());
    let dual = || listening.iter().find(|a| a.ip().is_unspecified() && a.is_ipv6());
    exact.or_else(family).or_else(dual).map(SocketAddr::port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_about_every_minute() {
        let start = Instant::now();
        let mut schedule = Schedule::start(start);
        let mut sent = Vec::new();
        for _ in 0..5 {
            let at = schedule.next;
            sent.push((at - start).as_secs());
            schedule.sent(at);
        }
        assert_eq!(sent[..3], [0, 1, 3]);
        assert!((48..=75).contains(&(sent[3] - sent[2])) && (48..=75).contains(&(sent[4] - sent[3])), "{sent:?}");
    }

    #[test]
    fn calls_are_never_closer_than_allowed() {
        let start = Instant::now();
        let mut schedule = Schedule::start(start);
        schedule.sent(start);
        schedule.call(start);
        assert_eq!(schedule.next, start + APART);
        schedule.restart(start);
        assert_eq!(schedule.next, start + APART);
    }

    #[test]
    fn a_flood_costs_a_bounded_number_of_looks() {
        let start = Instant::now();
        let looked = |sources: u8, secs: u64| {
            let mut limits = Limits::new(start);
            let steps = secs * 1000;
            let mut looked = 0_u64;
            for step in 0..=steps {
                let now = start + Duration::from_millis(step);
                for source in 0..sources {
                    looked += u64::from(limits.allow(IpAddr::from([192, 0, 2, source]), now));
                }
            }
            looked
        };
        // What may come at once, and so many a second.
        assert!((200..=221).contains(&looked(1, 10)), "{} of one source", looked(1, 10));
        assert!((1000..=1101).contains(&looked(50, 10)), "{} of many", looked(50, 10));
    }

    #[test]
    fn a_beacon_names_the_port_that_is_reachable_there() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let listening = [address("0.0.0.0:1"), address("127.0.0.1:2"), address("[::1]:3")];
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(tcp_port(&listening, ip("192.168.1.1")), Some(1));
        assert_eq!(tcp_port(&listening, ip("127.0.0.1")), Some(2));
        assert_eq!(tcp_port(&listening, ip("::1")), Some(3));
        assert_eq!(tcp_port(&listening, ip("fe80::1")), None);
        assert_eq!(tcp_port(&[address("[::]:4")], ip("10.0.0.1")), Some(4));
    }
}
