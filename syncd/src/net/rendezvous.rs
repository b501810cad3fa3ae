//! Rendezvous on the internet without a server: while `internet` is on and a peer is not connected, this device leaves its
//! public addresses in BitTorrent's DHT under a place that only the two can compute, and looks there for the peer's.
//! Invariants: client only, in bursts, each under a fresh port and node id, so that nobody can follow a device through the table;
//! nothing goes out while the switch is off or everybody is connected; no address of a local network is ever left there.

use super::config::{random, random_between, unix_now};
use super::keys::Who;
use mainline::async_dht::AsyncDht;
use mainline::{Dht, MutableItem, SigningKey};
use protocol::limits::RENDEZVOUS_ADDRESSES_MAX;
use protocol::wire::kdf::UnixSeconds;
use protocol::wire::pair::{Direction, PairSecret};
use protocol::wire::rendezvous::{Note, Place, epochs};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Waits between looks: two devices that start together miss each other once, then a peer may be away for long.
const LOOKS: [Duration; 8] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
    Duration::from_secs(600),
    Duration::from_secs(1800),
    Duration::from_secs(3600),
];
/// The table forgets after two hours (BEP 44): what is left there is renewed after about one.
const RENEW: (Duration, Duration) = (Duration::from_secs(55 * 60), Duration::from_secs(65 * 60));
/// Changed addresses are left at most this often.
const CHANGED_APART: Duration = Duration::from_secs(300);
/// A note that is older says where a device was.
const NOTE_AGE_MAX_SECS: u64 = 3 * 3600;
/// One question to the table, and one burst as a whole.
const QUESTION: Duration = Duration::from_secs(20);
const BURST: Duration = Duration::from_secs(120);
/// Nodes that are remembered to enter the table by next time, without asking the well-known ones again.
const NODES_MAX: usize = 16;

/// Whom the table is asked about; replaced as a whole when it changes.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    /// The switch.
    pub(super) on: bool,
    /// Nodes to enter the table by; empty: the well-known ones.
    pub(super) nodes: Vec<String>,
    /// Of each: who, the secret, the direction in which we send.
    pub(super) devices: Vec<(Who, PairSecret, Direction)>,
    /// Addresses of ours that mean the same everywhere; one that a router maps to us comes first.
    pub(super) own: Vec<SocketAddr>,
    /// The port that we listen on with IPv4, for the address that the table sees us at.
    pub(super) port: Option<u16>,
    /// Counts starts and changes of network: each one looks at once.
    pub(super) bursts: u64,
}

/// What the table says about a device, or about us.
pub(super) enum Found {
    /// It left word.
    Peer(Who, Vec<SocketAddr>),
    /// The table sees us at this address.
    Ourselves(IpAddr),
    /// How the last burst ended, in words.
    State(String),
}

/// What was left for one device.
struct Left {
    addresses: Vec<SocketAddr>,
    at: Instant,
    renew_at: Instant,
}

/// The state between two bursts.
struct Table {
    found: mpsc::Sender<Found>,
    nodes: Vec<String>,
    /// By the place of day 0, which stands for a device and a secret.
    left: BTreeMap<[u8; 32], Left>,
    looks: usize,
    next: Instant,
}

/// Looks and leaves word whenever it is time, until `stop`.
pub(super) async fn run(mut wanted: watch::Receiver<Arc<Wanted>>, found: mpsc::Sender<Found>, stop: CancellationToken) {
    let mut table = Table { found, nodes: Vec::new(), left: BTreeMap::new(), looks: 0, next: Instant::now() };
    let mut now_wanted = Arc::clone(&wanted.borrow_and_update());
    loop {
        let idle = !now_wanted.on || now_wanted.devices.is_empty();
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let news = Arc::clone(&wanted.borrow_and_update());
                table.hear(&now_wanted, &news);
                now_wanted = news;
            }
            () = sleep_until(table.next), if !idle => {
                let burst = timeout(BURST, table.burst(&now_wanted));
                let ended = tokio::select! {
                    () = stop.cancelled() => return,
                    ended = burst => ended,
                };
                let words = match ended {
                    Ok(Ok(words) | Err(words)) => words,
                    Err(_) => "the table did not answer in time".to_owned(),
                };
                table.tell(Found::State(words));
                table.next = Instant::now() + LOOKS[table.looks.min(LOOKS.len() - 1)];
                table.looks += 1;
            }
        }
    }
}

impl Table {
    /// Somebody new is sought, the network changed or the switch was thrown: begins anew.
    fn hear(&mut self, before: &Wanted, news: &Wanted) {
        let is_new = |who: &Who| before.devices.iter().all(|(known, ..)| known != who);
        let more = news.devices.iter().any(|(who, ..)| is_new(who));
        if news.bursts != before.bursts || news.on != before.on || news.nodes != before.nodes || more {
            (self.looks, self.next) = (0, Instant::now());
        }
        if news.nodes != before.nodes {
            self.nodes.clear();
        }
    }

    fn tell(&self, found: Found) {
        // A full queue loses a sighting; the next look brings another.
        let _ = self.found.try_send(found);
    }

    /// Enters the table, leaves word, looks, and is gone.
    async fn burst(&mut self, wanted: &Wanted) -> Result<String, String> {
        let nodes = if self.nodes.is_empty() { wanted.nodes.clone() } else { self.nodes.clone() };
        let dht = enter(nodes).await?;
        if !timeout(QUESTION, dht.bootstrapped()).await.unwrap_or(false) {
            self.nodes.clear();
            return Err("no node of the table answers".to_owned());
        }
        let seen = dht.info().await.public_address().map(|address| IpAddr::V4(*address.ip()));
        if let Some(ip) = seen {
            self.tell(Found::Ourselves(ip));
        }
        let own = public_addresses(wanted, seen);
        let (left, looked) = (self.leave(&dht, wanted, &own).await, self.look(&dht, wanted).await);
        self.nodes = dht.to_bootstrap().await.into_iter().take(NODES_MAX).collect();
        Ok(format!("left word for {left}, found word of {looked}, of {} that are sought", wanted.devices.len()))
    }

    /// Leaves our addresses for every device for which it is time; for how many.
    async fn leave(&mut self, dht: &AsyncDht, wanted: &Wanted, own: &[SocketAddr]) -> usize {
        let name = |secret: &PairSecret, out: &Direction| *Place::of(secret, *out, 0).public();
        self.left.retain(|left, _| wanted.devices.iter().any(|(_, secret, out)| name(secret, out) == *left));
        if own.is_empty() {
            return 0;
        }
        let now = Instant::now();
        let mut writing = JoinSet::new();
        for (_, secret, out) in &wanted.devices {
            let place = name(secret, out);
            let due = self
                .left
                .get(&place)
                .is_none_or(|left| now >= left.renew_at || (left.addresses != own && now - left.at >= CHANGED_APART));
            if !due {
                continue;
            }
            let note = Note { time: unix_now(), addresses: own.to_vec() };
            let seq = i64::try_from(note.time.0).unwrap_or(i64::MAX);
            let items: Vec<MutableItem> = epochs(secret, note.time)
                .into_iter()
                .map(|epoch| item(&Place::of(secret, *out, epoch), &note, seq))
                .collect();
            let dht = dht.clone();
            writing.spawn(async move {
                let mut kept = false;
                for item in items {
                    kept |= matches!(timeout(QUESTION, dht.put_mutable(item, None)).await, Ok(Ok(_)));
                }
                kept.then_some(place)
            });
        }
        let mut count = 0;
        while let Some(written) = writing.join_next().await {
            if let Ok(Some(place)) = written {
                let renew_at = now + random_between(RENEW.0, RENEW.1);
                self.left.insert(place, Left { addresses: own.to_vec(), at: now, renew_at });
                count += 1;
            }
        }
        count
    }

    /// Looks for word of every device; of how many there was some.
    async fn look(&self, dht: &AsyncDht, wanted: &Wanted) -> usize {
        let mut reading = JoinSet::new();
        for (who, secret, out) in &wanted.devices {
            let now = unix_now();
            let places: Vec<Place> =
                epochs(secret, now).into_iter().map(|epoch| Place::of(secret, out.reverse(), epoch)).collect();
            let (dht, who) = (dht.clone(), *who);
            reading.spawn(async move {
                let mut newest: Option<Note> = None;
                for place in places {
                    let question = dht.get_mutable_most_recent(place.public(), Some(place.salt()));
                    let Ok(Some(item)) = timeout(QUESTION, question).await else { continue };
                    let note = place.open(item.value(), item.seq()).ok().filter(|note| is_fresh(note, now));
                    newest = newest.into_iter().chain(note).max_by_key(|note| note.time);
                }
                newest.map(|note| (who, note.addresses))
            });
        }
        let mut count = 0;
        while let Some(read) = reading.join_next().await {
            if let Ok(Some((who, addresses))) = read {
                self.tell(Found::Peer(who, addresses));
                count += 1;
            }
        }
        count
    }
}

/// A node of our own for one burst. Names are looked up, so not on a thread that moves packets.
async fn enter(nodes: Vec<String>) -> Result<AsyncDht, String> {
    let build = move || {
        let mut builder = Dht::builder();
        if !nodes.is_empty() {
            builder.bootstrap(&nodes);
        }
        builder.port(0).build()
    };
    match tokio::task::spawn_blocking(build).await {
        Ok(Ok(dht)) => Ok(dht.as_async()),
        Ok(Err(error)) => Err(format!("the table cannot be entered: {error}")),
        Err(_) => Err("the table cannot be entered".to_owned()),
    }
}

fn item(place: &Place, note: &Note, seq: i64) -> MutableItem {
    let value = place.seal(note, seq, &random());
    MutableItem::new(SigningKey::from_bytes(place.seed().expose()), &value, seq, Some(place.salt()))
}

fn is_fresh(note: &Note, now: UnixSeconds) -> bool {
    now.0.saturating_sub(note.time.0) <= NOTE_AGE_MAX_SECS
}

/// What is left for others: where a router leads to us, where the table sees us, what is ours and public.
fn public_addresses(wanted: &Wanted, seen: Option<IpAddr>) -> Vec<SocketAddr> {
    let seen = seen.and_then(|ip| Some(SocketAddr::new(ip, wanted.port?)));
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in wanted.own.iter().copied().chain(seen) {
        if !all.contains(&address) && all.len() < RENDEZVOUS_ADDRESSES_MAX {
            all.push(address);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::wire::kdf::Secret32;

    fn pair() -> PairSecret {
        PairSecret::from_secret(Secret32::new([7; 32]))
    }

    #[test]
    fn the_place_is_where_the_table_puts_it() {
        let note = Note { time: UnixSeconds(1_771_200_000), addresses: Vec::new() };
        let place = Place::of(&pair(), Direction::Low, 3);
        let item = item(&place, &note, 1);
        assert_eq!(item.key(), place.public());
        assert_eq!(item.target(), &MutableItem::target_from_key(place.public(), Some(place.salt())));
        assert_eq!(place.open(item.value(), item.seq()), Ok(note));
    }

    /// Two devices and twenty strangers on this machine.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_devices_find_each_other_in_a_table_of_strangers() {
        let build = || mainline::Testnet::builder(20).build();
        let strangers = tokio::task::spawn_blocking(build).await.expect("it runs").expect("twenty sockets");
        let address = |port: u16| SocketAddr::from(([203, 0, 113, 9], port));
        let stop = CancellationToken::new();
        let mut ends = Vec::new();
        for (out, port) in [(Direction::Low, 5001), (Direction::High, 5002)] {
            let who = Who::Invite(super::super::event::InviteId(u64::from(port)));
            let wanted = Wanted {
                on: true,
                nodes: strangers.bootstrap.clone(),
                devices: vec![(who, pair(), out)],
                own: vec![address(port)],
                ..Wanted::default()
            };
            let (found, finds) = mpsc::channel(16);
            let (to, wanted) = watch::channel(Arc::new(wanted));
            tokio::spawn(run(wanted, found, stop.clone()));
            ends.push((to, finds));
        }
        for ((_, finds), theirs) in ends.iter_mut().zip([5002, 5001]) {
            let search = async {
                loop {
                    if let Some(Found::Peer(_, addresses)) = finds.recv().await
                        && addresses.contains(&address(theirs))
                    {
                        return;
                    }
                }
            };
            timeout(Duration::from_secs(60), search).await.expect("the other one is found");
        }
        stop.cancel();
    }

    #[test]
    fn old_word_is_no_word() {
        let note = |secs| Note { time: UnixSeconds(secs), addresses: Vec::new() };
        let now = UnixSeconds(100_000);
        assert!(is_fresh(&note(100_000), now) && is_fresh(&note(100_000 - NOTE_AGE_MAX_SECS), now));
        assert!(!is_fresh(&note(100_000 - NOTE_AGE_MAX_SECS - 1), now));
    }
}
