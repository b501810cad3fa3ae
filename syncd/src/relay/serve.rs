//! The sockets of a relay: one task per connection, one that owns the machine and gives them orders.

use super::RelayLimits;
use super::counts::Counters;
use super::machine::{ClientId, Effect, KeyId, Machine, Place};
use super::splice::splice;
use crate::net::{Bucket, HALF_OPEN_MAX, HalfOpen, Stranger, drain, prefix, random, read_knock, tune, unix_now};
use protocol::limits::KNOCK_SLACK_WINDOWS;
use protocol::limits::KNOCK_WIDE_SLACK_WINDOWS;
use protocol::model::Timestamp;
use protocol::wire::kdf::Secret32;
use protocol::wire::knock::{Candidate, Context, Knock, ReplayCache};
use protocol::wire::relay::{
    JoinReply, JoinRequest, JoinStatus, Joining, MESSAGE_1_LEN, Parked, RelayIdentity, WORD_LEN, Word, knock_key,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Reports that wait for the machine.
const QUEUE: usize = 256;
/// Orders that wait for one connection: a machine never has more than a few for it.
const ORDERS: usize = 8;
/// Who asked how it looks from here may stay for so long.
const OBSERVED: Duration = Duration::from_secs(60);
/// A client that takes no word for so long is gone.
const STUCK: Duration = Duration::from_secs(10);
/// Sources whose knocks are counted; over that the count starts afresh.
const SOURCES_MAX: usize = 4096;

/// What all connections share.
struct House {
    identity: RelayIdentity,
    limits: RelayLimits,
    counters: Arc<Counters>,
}

/// An access key that lets clients in.
#[derive(Clone)]
struct Key {
    id: KeyId,
    access: Secret32,
    knock: Secret32,
}

/// What a connection tells the machine.
enum Report {
    Knock {
        knock: Knock,
        from: SocketAddr,
        reply: oneshot::Sender<Option<Key>>,
    },
    Join {
        id: ClientId,
        place: Place,
        from: SocketAddr,
        orders: mpsc::Sender<Order>,
        reply: oneshot::Sender<JoinStatus>,
    },
    Word(ClientId, Word),
    Gone(ClientId),
}

/// What the machine tells a connection.
enum Order {
    Say(Word),
    Close,
    /// Take leave, then pass bytes between this connection and the one that comes.
    Lead(oneshot::Receiver<TcpStream>),
    /// Take leave, then hand this connection over.
    Follow(oneshot::Sender<TcpStream>),
}

/// Who may come in, and how often.
struct Guard {
    keys: Vec<Key>,
    last_key: u64,
    replay: ReplayCache,
    wide: Bucket,
    each: BTreeMap<[u8; 16], Bucket>,
    per_second: u32,
}

/// By which clients come.
pub(super) struct Entrances {
    pub(super) listeners: Vec<TcpListener>,
    /// Those that somebody else accepted, and whose knock was not for that one.
    pub(super) strangers: mpsc::Receiver<Stranger>,
}

/// A connection that came in; where somebody else had it first, its knock and how long strangers are listened to.
struct Guest {
    stream: TcpStream,
    from: SocketAddr,
    opened: Option<(Knock, Instant)>,
}

pub(super) struct Server {
    house: Arc<House>,
    machine: Machine,
    guard: Guard,
    started: Instant,
    orders: BTreeMap<ClientId, mpsc::Sender<Order>>,
    half_open: HalfOpen<ClientId>,
    /// Connections that have not joined, and how to end them.
    strangers: BTreeMap<ClientId, (SocketAddr, AbortHandle)>,
    last_id: u64,
}

impl Server {
    pub(super) fn new(
        identity: RelayIdentity,
        access_keys: Vec<Secret32>,
        limits: RelayLimits,
        counters: Arc<Counters>,
    ) -> Self {
        let now = Instant::now();
        let mut guard = Guard {
            keys: Vec::new(),
            last_key: 0,
            replay: ReplayCache::default(),
            wide: Bucket::new(50, Duration::from_millis(20), now),
            each: BTreeMap::new(),
            per_second: limits.knocks_per_second.max(1),
        };
        let none_before = guard.set(access_keys);
        assert!(none_before.is_empty(), "a relay begins without keys");
        Self {
            house: Arc::new(House { identity, limits, counters }),
            machine: Machine::new(limits),
            guard,
            started: now,
            orders: BTreeMap::new(),
            half_open: HalfOpen::default(),
            strangers: BTreeMap::new(),
            last_id: 0,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Serves until `shutdown`; `keys` are those that let clients in from then on.
    pub(super) async fn run(
        mut self,
        Entrances { listeners, mut strangers }: Entrances,
        mut keys: mpsc::Receiver<Vec<Secret32>>,
        shutdown: CancellationToken,
    ) {
        let (accepted, mut incoming) = mpsc::channel(HALF_OPEN_MAX);
        let (reports, mut heard) = mpsc::channel(QUEUE);
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, accepted.clone()));
        }
        let mut connections = JoinSet::new();
        loop {
            let wake = self.machine.wake_at().map_or(Duration::from_secs(60), |at| at.since(self.now()));
            tokio::select! {
                () = shutdown.cancelled() => {
                    // Awaited, so that the ports are free when we say that we have stopped.
                    accepting.shutdown().await;
                    connections.shutdown().await;
                    return;
                }
                Some(report) = heard.recv() => self.report(report),
                Some(keys) = keys.recv() => self.set_keys(keys),
                Some((stream, from)) = incoming.recv() => {
                    self.enter(Guest { stream, from, opened: None }, &reports, &mut connections);
                }
                Some(Stranger { stream, from, knock, until }) = strangers.recv() => {
                    self.enter(Guest { stream, from, opened: Some((knock, until)) }, &reports, &mut connections);
                }
                Some(ended) = connections.join_next() => {
                    // An aborted stranger is out of the tables already.
                    if let Ok(id) = ended {
                        self.leave(id);
                    }
                }
                () = sleep_until(Instant::now() + wake) => {
                    let effects = self.machine.tick(self.now());
                    self.carry_out(effects);
                }
            }
            self.house.counters.now(self.machine.totals());
        }
    }

    /// Whoever came in with a key that is no longer there has to go.
    fn set_keys(&mut self, keys: Vec<Secret32>) {
        for gone in self.guard.set(keys) {
            let effects = self.machine.expel(self.now(), gone);
            self.carry_out(effects);
        }
    }

    fn enter(
        &mut self,
        Guest { stream, from, opened }: Guest,
        reports: &mpsc::Sender<Report>,
        connections: &mut JoinSet<ClientId>,
    ) {
        if let Some(oldest) = self.half_open.make_room(from.ip())
            && let Some((_, abort)) = self.strangers.remove(&oldest)
        {
            abort.abort();
        }
        self.last_id += 1;
        let id = ClientId(self.last_id);
        let visit = Visit { id, from, house: Arc::clone(&self.house), reports: reports.clone() };
        let abort = connections.spawn(async move {
            visit.run(stream, opened).await;
            id
        });
        self.half_open.insert(from.ip(), id);
        self.strangers.insert(id, (from, abort));
    }

    /// Proven or gone: no longer half open.
    fn known(&mut self, id: ClientId) {
        if let Some((from, _)) = self.strangers.remove(&id) {
            self.half_open.remove(from.ip(), id);
        }
    }

    fn leave(&mut self, id: ClientId) {
        self.known(id);
        self.orders.remove(&id);
    }

    fn report(&mut self, report: Report) {
        let now = self.now();
        match report {
            Report::Knock { knock, from, reply } => {
                // The connection may have given up.
                let _ = reply.send(self.guard.admit(&knock, from, now));
            }
            Report::Join { id, place, from, orders, reply } => {
                self.known(id);
                let (status, effects) = match self.guard.knows(place.key) {
                    true => self.machine.join(now, id, place, prefix(from.ip())),
                    // Taken away since it knocked.
                    false => (JoinStatus::Denied, Vec::new()),
                };
                self.house.counters.joined(status == JoinStatus::Waiting);
                if status == JoinStatus::Waiting {
                    self.orders.insert(id, orders);
                }
                // If it has given up, it is reported gone next.
                let _ = reply.send(status);
                self.carry_out(effects);
            }
            Report::Word(id, word) => {
                let effects = self.machine.word(now, id, word);
                self.carry_out(effects);
            }
            Report::Gone(id) => {
                self.orders.remove(&id);
                let effects = self.machine.gone(now, id);
                self.carry_out(effects);
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Say(id, word) => self.order(id, Order::Say(word)),
                Effect::Close(id) => {
                    self.order(id, Order::Close);
                    // A full queue cannot be told: without its sender the connection ends as well.
                    self.orders.remove(&id);
                }
                Effect::Splice { low, high } => {
                    self.house.counters.spliced();
                    let (hand_over, taken) = oneshot::channel();
                    self.order(low, Order::Lead(taken));
                    self.order(high, Order::Follow(hand_over));
                }
            }
        }
    }

    fn order(&mut self, id: ClientId, order: Order) {
        let full = self.orders.get(&id).is_some_and(|orders| orders.try_send(order).is_err());
        if full {
            // It takes no orders: without a sender it ends.
            self.orders.remove(&id);
        }
    }
}

impl Guard {
    /// Lets in by these keys from now on; those that it let in by until now and does no longer.
    fn set(&mut self, keys: Vec<Secret32>) -> Vec<KeyId> {
        let mut before = std::mem::take(&mut self.keys);
        for access in keys {
            let known = before.iter().position(|key| key.access == access).map(|at| before.swap_remove(at));
            let key = known.unwrap_or_else(|| {
                self.last_key += 1;
                let knock = knock_key(&access);
                Key { id: KeyId(self.last_key), access, knock }
            });
            self.keys.push(key);
        }
        before.into_iter().map(|key| key.id).collect()
    }

    fn knows(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// The access key that knocked.
    fn admit(&mut self, knock: &Knock, from: SocketAddr, at: Timestamp) -> Option<Key> {
        let now = Instant::now();
        if self.each.len() >= SOURCES_MAX {
            self.each.clear();
        }
        let interval = Duration::from_secs(1) / self.per_second;
        let bucket = || Bucket::new(self.per_second, interval, now);
        if !self.each.entry(prefix(from.ip())).or_insert_with(bucket).take(now) {
            return None;
        }
        let candidates: Vec<Candidate<'_>> =
            self.keys.iter().map(|key| Candidate { key: &key.knock, context: Context::Relay }).collect();
        let mut found = knock.find(&candidates, unix_now(), KNOCK_SLACK_WINDOWS);
        if found.is_none() && self.wide.take(now) {
            found = knock.find(&candidates, unix_now(), KNOCK_WIDE_SLACK_WINDOWS);
        }
        let found = found?;
        self.replay.admit(*knock, at).then(|| self.keys[found.index].clone())
    }
}

async fn accept(listener: TcpListener, accepted: mpsc::Sender<(TcpStream, SocketAddr)>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                if accepted.send((stream, from)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection.
struct Visit {
    id: ClientId,
    from: SocketAddr,
    house: Arc<House>,
    reports: mpsc::Sender<Report>,
}

impl Visit {
    async fn run(&self, mut stream: TcpStream, opened: Option<(Knock, Instant)>) {
        tune(&stream);
        let until = opened.map_or_else(|| Instant::now() + self.house.limits.drain, |(_, until)| until);
        let Some((key, request, joining)) = self.hear(&mut stream, opened.map(|(knock, _)| knock)).await else {
            drain(&mut stream, until).await;
            return;
        };
        let (orders, taken) = mpsc::channel(ORDERS);
        let status = match request {
            JoinRequest::Observe => Some(JoinStatus::Waiting),
            JoinRequest::Join { side, token } => self.join(Place { key, token, side }, orders).await,
        };
        let Some(status) = status else { return };
        let limits = &self.house.limits;
        let idle_secs = u16::try_from(limits.idle.as_secs()).unwrap_or(u16::MAX);
        let reply = JoinReply { status, observed: self.from, idle_secs, rate: limits.rate };
        let Ok((message, parked)) = joining.reply(&reply) else { return };
        let told = timeout(STUCK, stream.write_all(&message)).await;
        if request == JoinRequest::Observe && matches!(told, Ok(Ok(()))) {
            // As long as its connection stays, a client's router keeps what the client was told.
            drain(&mut stream, Instant::now() + OBSERVED).await;
        }
        if matches!(request, JoinRequest::Join { .. }) && status == JoinStatus::Waiting {
            if matches!(told, Ok(Ok(()))) {
                self.stay(stream, parked, taken).await;
            }
            // The machine is gone only at shutdown.
            let _ = self.reports.send(Report::Gone(self.id)).await;
        }
    }

    async fn hear(&self, stream: &mut TcpStream, knock: Option<Knock>) -> Option<(KeyId, JoinRequest, Joining)> {
        let wait = self.house.limits.handshake;
        let knock = match knock {
            Some(knock) => knock,
            None => read_knock(stream, wait).await?,
        };
        let (reply, admitted) = oneshot::channel();
        self.reports.send(Report::Knock { knock, from: self.from, reply }).await.ok()?;
        let key = admitted.await.ok()??;
        let mut message = [0; MESSAGE_1_LEN];
        timeout(wait, stream.read_exact(&mut message)).await.ok()?.ok()?;
        let (request, joining) = Joining::read(&self.house.identity, &key.access, &knock, &message, &random()).ok()?;
        Some((key.id, request, joining))
    }

    async fn join(&self, place: Place, orders: mpsc::Sender<Order>) -> Option<JoinStatus> {
        let (reply, status) = oneshot::channel();
        let report = Report::Join { id: self.id, place, from: self.from, orders, reply };
        self.reports.send(report).await.ok()?;
        status.await.ok()
    }

    /// Exchanges words until the client leaves or meets its other side.
    async fn stay(&self, mut stream: TcpStream, mut parked: Parked, mut orders: mpsc::Receiver<Order>) {
        let mut word = [0; WORD_LEN];
        let mut filled = 0;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Say(word)) => {
                        if !say(&mut stream, &mut parked, word).await {
                            return;
                        }
                    }
                    Some(Order::Lead(other)) => {
                        if say(&mut stream, &mut parked, Word::Spliced).await
                            && let Ok(Ok(other)) = timeout(STUCK, other).await
                        {
                            tokio::select! {
                                () = splice(stream, other, &self.house.limits, &self.house.counters) => {}
                                // Its key was taken away.
                                _ = orders.recv() => {}
                            }
                        }
                        return;
                    }
                    Some(Order::Follow(hand_over)) => {
                        if say(&mut stream, &mut parked, Word::Spliced).await && hand_over.send(stream).is_ok() {
                            // The leader reports the end; this connection is its business now.
                            orders.recv().await;
                        }
                        return;
                    }
                    Some(Order::Close) | None => return,
                },
                read = stream.read(&mut word[filled..]) => {
                    match read {
                        Ok(len) if len > 0 => filled += len,
                        _ => return,
                    }
                    if filled == WORD_LEN {
                        filled = 0;
                        let Ok(word) = parked.open(&word) else { return };
                        if self.reports.send(Report::Word(self.id, word)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }
}

async fn say(stream: &mut TcpStream, parked: &mut Parked, word: Word) -> bool {
    let Ok(message) = parked.seal(word) else { return false };
    matches!(timeout(STUCK, stream.write_all(&message)).await, Ok(Ok(())))
}
