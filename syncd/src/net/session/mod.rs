//! A session: one encrypted connection with a peer, as the rest of the daemon uses it. Control messages overtake
//! data; a request is answered by one message or a stream of data; whoever stops waiting cancels by dropping.
//! Invariant: what a peer can make us hold is bounded by what we asked it for.

use super::config::Liveness;
use super::event::{Connected, DownReason, Via};
use bytes::Bytes;
use desk::Desk;
use protocol::limits::{DATA_PAYLOAD_LEN_MAX, MESSAGE_LEN_MAX, REQUEST_BYTES_OPEN_MAX, REQUESTS_OPEN_MAX};
use protocol::model::DeviceId;
use protocol::wire::message::{ChunkErrorCode, CloseCode, Hello, Message};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

mod desk;
mod read;
mod run;
mod write;

pub(super) use run::{Ended, Start, run};

/// A word about a punch, of which peer and session.
pub(super) type PunchWord = (DeviceId, SessionId, Message);

/// Control messages that wait to be written; a sender waits beyond that.
const CONTROL_QUEUE: usize = 32;
/// Data records that wait to be written: as much as two writes take.
const DATA_QUEUE: usize = 8;
/// Frames of one response that may wait for whoever asked. An honest response of `REQUEST_BYTES_MAX` is some 70.
const REPLY_QUEUE: usize = 512;
/// Bytes counted as one permit of the request budget.
const BYTES_PER_PERMIT: u64 = 1024;
/// Bytes that a response may have beyond the chunks asked for: block and record headers.
const RESPONSE_SLACK: u64 = 64 * 1024;
/// Bytes of a record's header, per chunk asked for.
const RECORD_OVERHEAD: u64 = 8;

/// Names a session on this device; never used twice while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is over")]
pub struct SessionEnded;

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// The queue is full; the peer or the network is slow.
    #[error("the session's queue is full")]
    Full,
    /// The session is over.
    #[error("the session is over")]
    Ended,
}

/// Why data is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The peer withdrew its request.
    #[error("the request was cancelled")]
    Cancelled,
    /// The session is over.
    #[error("the session is over")]
    Ended,
}

/// A part of the answer to a request.
#[derive(Debug)]
pub enum Reply {
    /// The whole answer.
    Message(Message),
    /// Bytes of a DATA response; the last ones have `end`.
    Data {
        /// At most `DATA_PAYLOAD_LEN_MAX` bytes, possibly none.
        payload: Bytes,
        /// Nothing comes after this.
        end: bool,
    },
    /// The peer cannot answer.
    Failed(ChunkErrorCode),
    /// The session is over, or the answer was complete before.
    Closed,
}

/// A handle to a session; clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    id: SessionId,
    peer: DeviceId,
    hello: Hello,
    via: Via,
    address: SocketAddr,
    initiated: bool,
    liveness: Liveness,
    control: mpsc::Sender<Control>,
    data: mpsc::Sender<DataRecord>,
    desk: Mutex<Desk>,
    /// Something urgent lies on the desk, or the session is to end.
    urgent: Notify,
    request_slots: Arc<Semaphore>,
    request_bytes: Arc<Semaphore>,
    /// The end was decided; the writer takes leave.
    closing: CancellationToken,
    /// Both halves stop.
    ended: CancellationToken,
    started: Instant,
    /// Nanoseconds after `started` when the last bytes came.
    heard_ns: AtomicU64,
    /// The last round trip that was timed.
    rtt: watch::Sender<Option<Duration>>,
    /// The reader waits for our own consumer: silence is not the peer's.
    held: AtomicBool,
    /// Bytes read from and written to the connection, with all that encryption and framing add.
    received: AtomicU64,
    sent: AtomicU64,
}

/// A message on its way to the writer.
struct Control {
    kind: u8,
    req: u32,
    body: Vec<u8>,
}

impl Control {
    fn of(req: u32, message: &Message) -> Self {
        let (kind, body) = message.encode();
        Self { kind, req, body }
    }
}

/// Data on its way to the writer.
struct DataRecord {
    req: u32,
    payload: Bytes,
    end: bool,
    cancelled: CancellationToken,
}

impl Session {
    /// Names it in events.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// The device at the other end.
    #[must_use]
    pub fn peer(&self) -> DeviceId {
        self.0.peer
    }

    /// What it said about itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// What it calls itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.hello.name
    }

    /// How it is reached.
    #[must_use]
    pub fn via(&self) -> Via {
        self.0.via
    }

    /// The other end of the connection: the device's, or the relay's.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Whether this device dialled.
    #[must_use]
    pub fn initiated(&self) -> bool {
        self.0.initiated
    }

    /// How long nothing has come; a scheduler gives requests to another peer after 5 s of it.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.0.silence_since(Instant::now(), self.0.started)
    }

    /// Resolves when the session is over.
    pub async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.ended.is_cancelled()
    }

    /// The last round trip that was timed: a PING at the start, and whenever nothing else was to say for a minute.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        *self.0.rtt.borrow()
    }

    /// Times a round trip now; `None` when nothing comes back within `wait`.
    pub(super) async fn measure_rtt(&self, wait: Duration) -> Option<Duration> {
        let mut rtt = self.0.rtt.subscribe();
        rtt.mark_unchanged();
        self.0.desk().ping();
        self.0.urgent.notify_one();
        timeout(wait, rtt.changed()).await.ok()?.ok()?;
        *rtt.borrow()
    }

    pub(super) fn connected(&self) -> Connected {
        let since = SystemTime::now().checked_sub(self.age()).unwrap_or(SystemTime::UNIX_EPOCH);
        Connected { session: self.0.id, via: self.0.via, address: self.0.address, rtt: self.rtt(), since }
    }

    pub(super) fn age(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Queues a message that asks for no answer; waits while the queue is full.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn send(&self, message: Message) -> Result<(), SessionEnded> {
        self.respond(0, message).await
    }

    /// Queues a message if there is room.
    ///
    /// # Errors
    /// When there is none, or the session is over.
    pub fn try_send(&self, message: &Message) -> Result<(), TrySendError> {
        if self.is_over() {
            return Err(TrySendError::Ended);
        }
        self.0.control.try_send(Control::of(0, message)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TrySendError::Full,
            mpsc::error::TrySendError::Closed(_) => TrySendError::Ended,
        })
    }

    /// Answers the peer's request `req` with one message; waits while the queue is full.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn respond(&self, req: u32, message: Message) -> Result<(), SessionEnded> {
        let control = Control::of(req, &message);
        tokio::select! {
            biased;
            () = self.0.ended.cancelled() => return Err(SessionEnded),
            sent = self.0.control.send(control) => sent.map_err(|_| SessionEnded)?,
        }
        if matches!(message, Message::Manifest(_) | Message::ChunkErr(_)) {
            self.0.desk().served(req);
        }
        Ok(())
    }

    /// Asks the peer. Waits while `REQUESTS_OPEN_MAX` requests, or `REQUEST_BYTES_OPEN_MAX` bytes, are open here.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn request(&self, message: Message) -> Result<Replies, SessionEnded> {
        let bytes = response_bytes(&message);
        let permits = u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT)).unwrap_or(u32::MAX).min(byte_permits());
        let (slots, budget) = (Arc::clone(&self.0.request_slots), Arc::clone(&self.0.request_bytes));
        // Both semaphores are closed when the session ends.
        let slot = slots.acquire_owned().await.map_err(|_| SessionEnded)?;
        let budget = budget.acquire_many_owned(permits).await.map_err(|_| SessionEnded)?;
        let (reply_to, replies) = mpsc::channel(REPLY_QUEUE);
        let req = self.0.desk().ask(reply_to, bytes, Instant::now()).ok_or(SessionEnded)?;
        let replies = Replies { req, replies, session: self.clone(), _permits: (slot, budget) };
        self.respond(req, message).await?;
        Ok(replies)
    }

    /// Where the data for the peer's request `req` goes.
    #[must_use]
    pub fn data_sink(&self, req: u32) -> DataSink {
        let cancelled = self.0.desk().serving(req);
        DataSink { req, session: self.clone(), cancelled, finished: false }
    }

    /// Bytes of the connection so far: received, sent.
    #[must_use]
    pub fn wire_bytes(&self) -> (u64, u64) {
        (self.0.received.load(Ordering::Relaxed), self.0.sent.load(Ordering::Relaxed))
    }

    /// Ends the session; the peer is told why.
    pub fn close(&self, code: CloseCode) {
        self.0.finish(Some(code), DownReason::Closed(code));
    }

    /// Ends the session if nothing comes within `wait`.
    pub(super) fn probe(&self, wait: Duration) {
        self.0.desk().probe(Instant::now(), wait);
        self.0.urgent.notify_one();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}, {:?}, {:?})", self.0.id.0, self.0.peer, self.0.via)
    }
}

/// Bytes that the answer to `message` may have.
fn response_bytes(message: &Message) -> u64 {
    match message {
        Message::ChunkGet(get) => {
            let chunks: u64 = get.items.iter().map(|item| u64::from(item.count) + 1).sum();
            let bytes: u64 = get.items.iter().map(|item| u64::from(item.len)).sum();
            bytes + RECORD_OVERHEAD * chunks + RESPONSE_SLACK
        }
        _ => MESSAGE_LEN_MAX as u64,
    }
}

/// Permits of the request budget: the protocol's bound and the headers of two full requests.
fn byte_permits() -> u32 {
    let bytes = REQUEST_BYTES_OPEN_MAX + 4 * RESPONSE_SLACK;
    u32::try_from(bytes / BYTES_PER_PERMIT).expect("the budget is some 16,000 permits")
}

impl Inner {
    fn new(start: &Start, control: mpsc::Sender<Control>, data: mpsc::Sender<DataRecord>) -> Self {
        Self {
            id: start.id,
            peer: start.greeted.remote.id(),
            hello: start.greeted.hello.clone(),
            via: start.greeted.via,
            address: start.greeted.address,
            initiated: start.greeted.initiated,
            liveness: start.liveness,
            control,
            data,
            desk: Mutex::new(Desk::default()),
            urgent: Notify::new(),
            request_slots: Arc::new(Semaphore::new(REQUESTS_OPEN_MAX)),
            request_bytes: Arc::new(Semaphore::new(byte_permits() as usize)),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            started: Instant::now(),
            heard_ns: AtomicU64::new(0),
            rtt: watch::Sender::new(None),
            held: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// The lock is never held across an await.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("no holder of the desk panics")
    }

    fn heard(&self) {
        let ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.heard_ns.store(ns, Ordering::Relaxed);
    }

    /// How long nothing has come, counted from `since` at the earliest; zero while we ourselves hold the reader up.
    fn silence_since(&self, now: Instant, since: Instant) -> Duration {
        if self.held.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let heard = self.started + Duration::from_nanos(self.heard_ns.load(Ordering::Relaxed));
        now.saturating_duration_since(heard.max(since))
    }

    /// Ends the session once: the writer sends `code` if there is one, then both halves stop.
    fn finish(&self, code: Option<CloseCode>, reason: DownReason) {
        self.desk().finish(code, reason);
        self.closing.cancel();
    }
}

/// The answer to a request, as it comes. Dropping it early withdraws the request. Read it steadily: a full queue
/// holds up everything else on the session.
pub struct Replies {
    req: u32,
    replies: mpsc::Receiver<Reply>,
    session: Session,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Replies {
    /// The next part; `Closed` when nothing can come any more.
    pub async fn recv(&mut self) -> Reply {
        self.replies.recv().await.unwrap_or(Reply::Closed)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        if self.session.0.desk().withdraw(self.req) {
            self.session.0.urgent.notify_one();
        }
    }
}

/// Takes the data that answers a peer's request. Dropped before its end, the request fails at the peer.
pub struct DataSink {
    req: u32,
    session: Session,
    cancelled: CancellationToken,
    finished: bool,
}

impl DataSink {
    /// Queues bytes behind all control messages; waits while the queue is full.
    ///
    /// # Errors
    /// When the peer withdrew its request or the session is over.
    pub async fn send(&mut self, mut payload: Bytes, end: bool) -> Result<(), SinkError> {
        while payload.len() > DATA_PAYLOAD_LEN_MAX {
            let part = payload.split_to(DATA_PAYLOAD_LEN_MAX);
            self.queue(part, false).await?;
        }
        self.queue(payload, end).await?;
        if end {
            self.finished = true;
            self.session.0.desk().served(self.req);
        }
        Ok(())
    }

    /// Resolves when the data is no longer wanted.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    async fn queue(&self, payload: Bytes, end: bool) -> Result<(), SinkError> {
        let record = DataRecord { req: self.req, payload, end, cancelled: self.cancelled.clone() };
        tokio::select! {
            biased;
            () = self.session.0.ended.cancelled() => Err(SinkError::Ended),
            () = self.cancelled.cancelled() => Err(SinkError::Cancelled),
            sent = self.session.0.data.send(record) => sent.map_err(|_| SinkError::Ended),
        }
    }
}

impl Drop for DataSink {
    fn drop(&mut self) {
        if !self.finished && self.session.0.desk().abandon(self.req) {
            self.session.0.urgent.notify_one();
        }
    }
}
