//! The reading half: decrypts in place, hands answers to whoever asked and everything else to the events.
//! Invariant: nothing is buffered beyond what was asked for; when a consumer is slow the reader waits, and with it
//! the peer.

use super::desk::TooMany;
use super::{Inner, PunchWord, Reply};
use crate::net::event::{DownReason, NetEvent};
use bytes::Bytes;
use protocol::wire::frame::{FLAG_END, Frame, Opener};
use protocol::wire::message::{CloseCode, Joiner, Message, kind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// After CLOSE the peer has so long to close its side.
const LINGER: Duration = Duration::from_millis(300);

pub(super) struct Reader {
    pub(super) inner: Arc<Inner>,
    pub(super) stream: OwnedReadHalf,
    pub(super) opener: Opener,
    pub(super) joiner: Joiner,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) punches: mpsc::Sender<PunchWord>,
}

/// What a frame asks for.
enum Step {
    Nothing,
    Answer(mpsc::Sender<Reply>, Reply),
    Event(u32, Message),
    /// Of the hub's business.
    Punch(Message),
}

/// The end of a session, and what the peer is told.
type End = (Option<CloseCode>, DownReason);

fn broken(words: impl ToString) -> End {
    (Some(CloseCode::PROTOCOL), DownReason::Protocol(words.to_string()))
}

impl From<TooMany> for End {
    fn from(_: TooMany) -> Self {
        broken("it sent more than was asked for, or asked for too much")
    }
}

impl Reader {
    /// Reads until the session ends.
    pub(super) async fn run(&mut self) {
        if let Err((code, reason)) = self.pump().await {
            self.inner.finish(code, reason);
        }
    }

    /// Reads what still comes and forgets it: closing a socket with unread bytes would take back our last words.
    pub(super) async fn linger(mut self) {
        let mut rest = vec![0; 4096];
        let drain = async { while matches!(self.stream.read(&mut rest).await, Ok(len) if len > 0) {} };
        // A peer that does not close has had its time.
        let _ = timeout(LINGER, drain).await;
    }

    async fn pump(&mut self) -> Result<(), End> {
        let inner = Arc::clone(&self.inner);
        loop {
            // An error of the frames gets no word: the other end does not hold the keys, or bytes were altered.
            while let Some(frame) =
                self.opener.next().map_err(|error| (None, DownReason::Protocol(error.to_string())))?
            {
                match digest(&inner, &mut self.joiner, &frame)? {
                    Step::Nothing => {}
                    Step::Answer(reply_to, reply) => deliver(&inner, &reply_to, reply).await,
                    Step::Event(req, message) => {
                        let event = NetEvent::Message { session: inner.id, peer: inner.peer, req, message };
                        deliver(&inner, &self.events, event).await;
                    }
                    // Where too many wait, this one is lost, and with it one try.
                    Step::Punch(message) => drop(self.punches.try_send((inner.peer, inner.id, message))),
                }
                if inner.ended.is_cancelled() {
                    return Ok(());
                }
            }
            let read = tokio::select! {
                biased;
                () = inner.ended.cancelled() => return Ok(()),
                read = self.stream.read(self.opener.space()) => read,
            };
            match read {
                Ok(0) => return Err((None, DownReason::Cut("it was closed without a word".to_owned()))),
                Ok(len) => {
                    inner.received.fetch_add(len as u64, Ordering::Relaxed);
                    self.opener.filled(len);
                }
                Err(error) => return Err((None, DownReason::Cut(error.to_string()))),
            }
            inner.heard();
        }
    }
}

/// Hands `value` over; a slow receiver holds the reader up, which the liveness checks are told.
async fn deliver<T>(inner: &Inner, to: &mpsc::Sender<T>, value: T) {
    let value = match to.try_send(value) {
        // Closed: nobody waits any more, and whoever stopped waiting has said so elsewhere.
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
        Err(mpsc::error::TrySendError::Full(value)) => value,
    };
    inner.held.store(true, Ordering::Relaxed);
    inner.urgent.notify_one();
    tokio::select! {
        biased;
        () = inner.ended.cancelled() => {}
        // As above.
        _ = to.send(value) => {}
    }
    inner.heard();
    inner.held.store(false, Ordering::Relaxed);
}

fn digest(inner: &Inner, joiner: &mut Joiner, frame: &Frame<'_>) -> Result<Step, End> {
    if frame.kind == kind::DATA {
        let end = frame.flags & FLAG_END != 0;
        let waiting = inner.desk().answer(frame.req, frame.payload.len() as u64, end)?;
        let reply =
            |reply_to| Step::Answer(reply_to, Reply::Data { payload: Bytes::copy_from_slice(frame.payload), end });
        return Ok(waiting.map_or(Step::Nothing, reply));
    }
    match joiner.push(frame).map_err(broken)? {
        None => Ok(Step::Nothing),
        Some((number, req, body)) => {
            let message = Message::decode(number, body).map_err(broken)?;
            route(inner, req, message)
        }
    }
}

fn route(inner: &Inner, req: u32, message: Message) -> Result<Step, End> {
    let answer = |reply: Reply| -> Result<Step, End> {
        let waiting = inner.desk().answer(req, 0, true)?;
        Ok(waiting.map_or(Step::Nothing, |reply_to| Step::Answer(reply_to, reply)))
    };
    match message {
        Message::Ping => {
            inner.desk().pong(req);
            inner.urgent.notify_one();
            Ok(Step::Nothing)
        }
        Message::Pong => {
            if let Some(rtt) = inner.desk().ping_answered(req, Instant::now()) {
                inner.rtt.send_replace(Some(rtt));
            }
            Ok(Step::Nothing)
        }
        Message::Close(code) => Err((None, DownReason::ClosedByPeer(code))),
        Message::Cancel => {
            inner.desk().cancel(req);
            Ok(Step::Nothing)
        }
        Message::Manifest(_) => answer(Reply::Message(message)),
        Message::ChunkErr(code) => answer(Reply::Failed(code)),
        Message::ChunkGet(_) | Message::ManifestGet(_) => {
            inner.desk().open(req)?;
            Ok(Step::Event(req, message))
        }
        Message::Hello(_) | Message::PairAccept | Message::PairSecret(_) | Message::PairDone(_) => {
            Err(broken("a message came out of place"))
        }
        Message::PunchSyn(_) | Message::PunchAck(_) | Message::PunchGo(_) => Ok(Step::Punch(message)),
        Message::Heads(_)
        | Message::Links(_)
        | Message::Secrets(_)
        | Message::Twin
        | Message::Folders(_)
        | Message::IndexGet(_)
        | Message::Index(_)
        | Message::IndexAck(_)
        | Message::Digest(_)
        | Message::Run(_)
        | Message::Partial(_)
        | Message::Addresses(_)
        | Message::Whereabouts(_)
        | Message::OwnRelay(_) => Ok(Step::Event(req, message)),
    }
}
