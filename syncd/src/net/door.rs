//! The door: accepts TCP connections, recognises knocks and lets handshakes in at a bounded rate. To everybody else
//! it is a port that takes bytes and says nothing.
//! Invariant: not one byte is written to a connection whose knock and message 1 have not verified.

use super::config::{Own, unix_now};
use super::event::InviteId;
use super::greet::{Greeted, Heard, Path, hear, read_knock};
use super::halfopen::HalfOpen;
use super::keys::{Keys, Who};
use super::knocks::Answered;
use super::rate::Bucket;
use protocol::limits::{INVITE_ATTEMPTS_MAX, KNOCK_SLACK_WINDOWS, KNOCK_WIDE_SLACK_WINDOWS, REPLAY_KEEP_SECS};
use protocol::model::Timestamp;
use protocol::wire::handshake::HandshakeError;
use protocol::wire::knock::{Candidate, Knock, Match, ReplayCache};
use protocol::wire::message::CloseCode;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Bytes of a stranger that are read; the rest stays in the kernel until the time is up.
const DRAIN_LEN_MAX: usize = 16 * 1024;
/// Connections and questions that wait for the door.
const QUEUE: usize = 64;

/// Who may knock; replaced as a whole when it changes.
#[derive(Default)]
pub(super) struct Keyring {
    pub(super) keys: Vec<Entry>,
}

/// One key and what becomes of whoever knocks with it.
pub(super) struct Entry {
    pub(super) keys: Arc<Keys>,
    /// Greeted with this instead of a session.
    pub(super) refuse: Option<CloseCode>,
}

/// A knock that was recognised.
pub(super) struct Admitted {
    pub(super) keys: Arc<Keys>,
    pub(super) refuse: Option<CloseCode>,
}

/// What the door tells the hub.
pub(super) enum Arrival {
    /// Somebody came in.
    Greeted(Who, Box<Greeted>),
    /// Somebody who knows the secret cannot be talked to; why, in words.
    Misfit(Who, String),
    /// Three runs of an invite have failed.
    Spent(InviteId),
}

/// A connection whose knock is not for us. Whoever takes it writes nothing unless the knock is for itself.
pub struct Stranger {
    pub(crate) stream: TcpStream,
    pub(crate) from: SocketAddr,
    pub(crate) knock: Knock,
    /// Strangers are read and ignored until then.
    pub(crate) until: Instant,
}

enum Ask {
    Knock { knock: Knock, only: Option<Who>, reply: oneshot::Sender<Option<Admitted>> },
    RunFailed(Who),
}

/// Asks the door from other tasks.
#[derive(Clone)]
pub(super) struct DoorHandle(mpsc::Sender<Ask>);

impl DoorHandle {
    /// Whether `knock` opens a handshake; with `only`, for nobody else.
    pub(super) async fn admit(&self, knock: Knock, only: Option<Who>) -> Option<Admitted> {
        let (reply, admitted) = oneshot::channel();
        self.0.send(Ask::Knock { knock, only, reply }).await.ok()?;
        admitted.await.ok()?
    }

    /// A handshake that was let in came to nothing.
    pub(super) async fn run_failed(&self, who: Who) {
        // The door is gone only at shutdown.
        let _ = self.0.send(Ask::RunFailed(who)).await;
    }
}

/// The state of the door; one task owns it.
pub(super) struct Door {
    own: Arc<Own>,
    keyring: watch::Receiver<Arc<Keyring>>,
    arrivals: mpsc::Sender<Arrival>,
    handle: DoorHandle,
    asks: mpsc::Receiver<Ask>,
    guard: Guard,
    half_open: HalfOpen<Id>,
    connections: JoinSet<()>,
    aborts: BTreeMap<Id, (SocketAddr, AbortHandle)>,
}

/// What decides about knocks.
struct Guard {
    started: Instant,
    replay: ReplayCache,
    /// 50 wide clock searches a second.
    wide: Bucket,
    /// 5 handshakes a second, 20 at once.
    all: Bucket,
    /// 30 handshakes a minute.
    each: BTreeMap<Who, Bucket>,
    /// Runs of invites, begun and failed.
    runs: BTreeMap<InviteId, (u8, u8)>,
}

impl Door {
    pub(super) fn new(
        own: Arc<Own>,
        keyring: watch::Receiver<Arc<Keyring>>,
        arrivals: mpsc::Sender<Arrival>,
        answered: Vec<Answered>,
    ) -> (Self, DoorHandle) {
        let (sender, asks) = mpsc::channel(QUEUE);
        let handle = DoorHandle(sender);
        let now = Instant::now();
        let guard = Guard {
            started: now,
            replay: remembered(answered),
            wide: Bucket::new(50, Duration::from_millis(20), now),
            all: Bucket::new(20, Duration::from_millis(200), now),
            each: BTreeMap::new(),
            runs: BTreeMap::new(),
        };
        let door = Self {
            own,
            keyring,
            arrivals,
            handle: handle.clone(),
            asks,
            guard,
            half_open: HalfOpen::default(),
            connections: JoinSet::new(),
            aborts: BTreeMap::new(),
        };
        (door, handle)
    }

    /// Keeps the door until `stop`.
    pub(super) async fn run(mut self, listeners: Vec<TcpListener>, stop: CancellationToken) {
        let (accepted, mut incoming) = mpsc::channel(QUEUE);
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, accepted.clone()));
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    // Awaited, so that the port is free when we say that we have stopped.
                    accepting.shutdown().await;
                    self.connections.shutdown().await;
                    return;
                }
                Some(ask) = self.asks.recv() => self.answer(ask),
                Some((stream, from)) = incoming.recv() => self.enter(stream, from),
                Some(ended) = self.connections.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => error.id(),
                    };
                    if let Some((from, _)) = self.aborts.remove(&id) {
                        self.half_open.remove(from.ip(), id);
                    }
                }
            }
        }
    }

    fn enter(&mut self, stream: TcpStream, from: SocketAddr) {
        if let Some(id) = self.half_open.make_room(from.ip())
            && let Some((_, abort)) = self.aborts.get(&id)
        {
            abort.abort();
        }
        let (own, handle, arrivals) = (Arc::clone(&self.own), self.handle.clone(), self.arrivals.clone());
        let abort = self.connections.spawn(connection(stream, from, own, handle, arrivals));
        self.half_open.insert(from.ip(), abort.id());
        self.aborts.insert(abort.id(), (from, abort));
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Knock { knock, only, reply } => {
                let keyring = Arc::clone(&self.keyring.borrow());
                // The connection may have given up meanwhile.
                let _ = reply.send(self.guard.admit(&keyring, &knock, only));
            }
            Ask::RunFailed(Who::Peer(_)) => {}
            Ask::RunFailed(Who::Invite(id)) => {
                if self.guard.run_failed(id) {
                    // The hub drains this queue at any time; if it is full the invite still expires.
                    let _ = self.arrivals.try_send(Arrival::Spent(id));
                }
            }
        }
    }
}

impl Guard {
    fn admit(&mut self, keyring: &Keyring, knock: &Knock, only: Option<Who>) -> Option<Admitted> {
        let entries: Vec<&Entry> =
            keyring.keys.iter().filter(|entry| only.is_none_or(|who| who == entry.keys.who)).collect();
        let now = Instant::now();
        let found = self.find(&entries, knock, now)?;
        let entry = entries[found.index];
        if !self.replay.admit(*knock, timestamp(self.started, now)) {
            tracing::debug!("a knock was repeated");
            return None;
        }
        let who = entry.keys.who;
        let each = self.each.entry(who).or_insert_with(|| Bucket::new(30, Duration::from_secs(2), now));
        if !each.take(now) || !self.all.take(now) {
            tracing::debug!("handshakes come too fast");
            return None;
        }
        if let Who::Invite(id) = who {
            let runs = self.runs.entry(id).or_default();
            if runs.0 >= INVITE_ATTEMPTS_MAX {
                return None;
            }
            runs.0 += 1;
        }
        self.each.retain(|who, _| keyring.keys.iter().any(|entry| entry.keys.who == *who));
        self.runs.retain(|id, _| keyring.keys.iter().any(|entry| entry.keys.who == Who::Invite(*id)));
        Some(Admitted { keys: Arc::clone(&entry.keys), refuse: entry.refuse })
    }

    fn find(&mut self, entries: &[&Entry], knock: &Knock, now: Instant) -> Option<Match> {
        let candidates: Vec<Candidate<'_>> =
            entries.iter().map(|entry| Candidate { key: &entry.keys.knock_in, context: entry.keys.context }).collect();
        let found = knock.find(&candidates, unix_now(), KNOCK_SLACK_WINDOWS);
        if found.is_some() || !self.wide.take(now) {
            return found;
        }
        knock.find(&candidates, unix_now(), KNOCK_WIDE_SLACK_WINDOWS)
    }

    /// Whether that was the last run the invite had.
    fn run_failed(&mut self, id: InviteId) -> bool {
        let Some(runs) = self.runs.get_mut(&id) else { return false };
        runs.1 = runs.1.saturating_add(1);
        runs.1 >= INVITE_ATTEMPTS_MAX
    }
}

/// Milliseconds, counted so that what is remembered from before the start has a number too.
fn timestamp(started: Instant, now: Instant) -> Timestamp {
    moment(Duration::from_secs(REPLAY_KEEP_SECS) + (now - started))
}

fn moment(since: Duration) -> Timestamp {
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn remembered(answered: Vec<Answered>) -> ReplayCache {
    let mut replay = ReplayCache::default();
    for (knock, age) in answered {
        // One that is there twice is remembered once.
        let _ = replay.admit(knock, moment(Duration::from_secs(REPLAY_KEEP_SECS).saturating_sub(age)));
    }
    replay
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
                // Out of files, or the connection was gone before it was accepted: the listener lives on.
                tracing::debug!(%error, "accepting a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection from outside, until it is greeted, or the time for strangers is up.
async fn connection(
    mut stream: TcpStream,
    from: SocketAddr,
    own: Arc<Own>,
    door: DoorHandle,
    arrivals: mpsc::Sender<Arrival>,
) {
    let until = Instant::now() + own.tuning.drain;
    let admitted = match read_knock(&mut stream, own.tuning.knock_wait).await {
        None => None,
        Some(knock) => match door.admit(knock, None).await {
            Some(admitted) => Some((knock, admitted)),
            None => {
                let Some(back) = pass_on(&own, Stranger { stream, from, knock, until }) else { return };
                stream = back;
                None
            }
        },
    };
    let Some((knock, admitted)) = admitted else {
        drain(&mut stream, until).await;
        return;
    };
    let Some(heard) = listen(&mut stream, &knock, &own, &door, &admitted, &arrivals).await else {
        drain(&mut stream, until).await;
        return;
    };
    super::greet::tune(&stream);
    let who = admitted.keys.who;
    match heard.finish(stream, Path::direct(from), &own, admitted.refuse).await {
        Ok(greeted) => {
            // The hub is gone only at shutdown.
            let _ = arrivals.send(Arrival::Greeted(who, Box::new(greeted))).await;
        }
        Err(error) => {
            tracing::debug!(%error, "a handshake failed");
            door.run_failed(who).await;
        }
    }
}

/// Hands a stranger to whoever else serves at this port; the connection, if nobody takes it.
fn pass_on(own: &Own, stranger: Stranger) -> Option<TcpStream> {
    let Some(beside) = own.beside() else { return Some(stranger.stream) };
    // With too many to look at, this one is ignored like any other.
    beside.try_send(stranger).err().map(|unsent| unsent.into_inner().stream)
}

async fn listen(
    stream: &mut TcpStream,
    knock: &Knock,
    own: &Own,
    door: &DoorHandle,
    admitted: &Admitted,
    arrivals: &mpsc::Sender<Arrival>,
) -> Option<Heard> {
    match hear(stream, knock, own, &admitted.keys).await {
        Ok(heard) => Some(heard),
        Err(error) => {
            let who = admitted.keys.who;
            if let HandshakeError::Versions { .. } = error {
                // The hub is gone only at shutdown.
                let _ = arrivals.send(Arrival::Misfit(who, error.to_string())).await;
            }
            door.run_failed(who).await;
            None
        }
    }
}

/// Reads and forgets until `until`. Closing at a certain byte, or at once, is what gives silent ports away.
pub(crate) async fn drain(stream: &mut TcpStream, until: Instant) {
    let mut sink = [0; 1024];
    let mut left = DRAIN_LEN_MAX;
    while left > 0 {
        let len = left.min(sink.len());
        match timeout_at(until, stream.read(&mut sink[..len])).await {
            Ok(Ok(read)) if read > 0 => left -= read,
            // The time is up, or the stranger has left.
            _ => return,
        }
    }
    sleep_until(until).await;
}
