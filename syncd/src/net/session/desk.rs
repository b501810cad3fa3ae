//! What is open on a session: requests of ours, requests of the peer, and short answers that go out before anything
//! else. Plain state behind a short lock; reader, writer and handles meet here.

use super::Reply;
use crate::net::event::DownReason;
use protocol::limits::REQUESTS_OPEN_MAX;
use protocol::wire::message::CloseCode;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// PONGs that wait to be written; a peer that asks faster gets fewer.
const PONGS_MAX: usize = 16;
/// Requests of the peer that may be open: it counts one as done a moment before or after we do.
const SERVING_MAX: usize = 2 * REQUESTS_OPEN_MAX;

/// A short message that overtakes all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgent {
    Ping,
    Pong(u32),
    /// We no longer want the answer to our request.
    Cancel(u32),
    /// We cannot finish the answer to the peer's request.
    Abandon(u32),
}

struct Asked {
    reply_to: mpsc::Sender<Reply>,
    /// Bytes that may still come.
    allowance: u64,
}

/// How the session is to end.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) code: Option<CloseCode>,
    pub(super) reason: DownReason,
}

#[derive(Default)]
pub(super) struct Desk {
    last_req: u32,
    asked: BTreeMap<u32, Asked>,
    serving: BTreeMap<u32, CancellationToken>,
    urgent: VecDeque<Urgent>,
    pongs: usize,
    /// The PING whose answer is timed, and when it was sealed.
    timed: Option<(u32, Instant)>,
    last_ping: u32,
    /// When the oldest of the present run of requests was opened.
    busy_since: Option<Instant>,
    probe: Option<(Instant, Instant)>,
    ending: Option<Ending>,
}

/// The peer asked for more than it may.
#[derive(Debug)]
pub(super) struct TooMany;

impl Desk {
    /// Opens a request; its number, or `None` when the session is over.
    pub(super) fn ask(&mut self, reply_to: mpsc::Sender<Reply>, allowance: u64, now: Instant) -> Option<u32> {
        if self.ending.is_some() {
            return None;
        }
        assert!(self.asked.len() < REQUESTS_OPEN_MAX, "the caller holds a request slot");
        loop {
            // 0 is for messages that answer nothing.
            self.last_req = self.last_req.checked_add(1).unwrap_or(1);
            if !self.asked.contains_key(&self.last_req) {
                break;
            }
        }
        self.asked.insert(self.last_req, Asked { reply_to, allowance });
        self.busy_since.get_or_insert(now);
        Some(self.last_req)
    }

    /// Where `len` bytes of an answer go, and whether they end it. `None`: nobody waits for it any more.
    pub(super) fn answer(&mut self, req: u32, len: u64, end: bool) -> Result<Option<mpsc::Sender<Reply>>, TooMany> {
        let Some(asked) = self.asked.get_mut(&req) else {
            return Ok(None);
        };
        asked.allowance = asked.allowance.checked_sub(len).ok_or(TooMany)?;
        let reply_to = asked.reply_to.clone();
        if end {
            self.asked.remove(&req);
            self.rest();
        }
        Ok(Some(reply_to))
    }

    /// Nobody waits for the answer any more; true when the peer is to be told.
    pub(super) fn withdraw(&mut self, req: u32) -> bool {
        let open = self.asked.remove(&req).is_some();
        if open {
            self.urgent.push_back(Urgent::Cancel(req));
            self.rest();
        }
        open
    }

    fn rest(&mut self) {
        if self.asked.is_empty() {
            self.busy_since = None;
        }
    }

    pub(super) const fn busy_since(&self) -> Option<Instant> {
        self.busy_since
    }

    /// The peer opened a request.
    pub(super) fn open(&mut self, req: u32) -> Result<(), TooMany> {
        if self.serving.len() >= SERVING_MAX || self.serving.contains_key(&req) {
            return Err(TooMany);
        }
        self.serving.insert(req, CancellationToken::new());
        Ok(())
    }

    /// Tells when the peer's request is withdrawn; already so when it is not open.
    pub(super) fn serving(&self, req: u32) -> CancellationToken {
        self.serving.get(&req).cloned().unwrap_or_else(|| {
            let withdrawn = CancellationToken::new();
            withdrawn.cancel();
            withdrawn
        })
    }

    /// The answer is complete.
    pub(super) fn served(&mut self, req: u32) {
        self.serving.remove(&req);
    }

    /// The peer withdrew its request.
    pub(super) fn cancel(&mut self, req: u32) {
        if let Some(token) = self.serving.remove(&req) {
            token.cancel();
        }
    }

    /// The answer will not be completed; true when the peer is to be told.
    pub(super) fn abandon(&mut self, req: u32) -> bool {
        let open = self.serving.remove(&req).is_some();
        if open {
            self.urgent.push_back(Urgent::Abandon(req));
        }
        open
    }

    pub(super) fn ping(&mut self) {
        if !self.urgent.contains(&Urgent::Ping) {
            self.urgent.push_back(Urgent::Ping);
        }
    }

    /// A PING is sealed; its number. One whose answer never came is timed no longer.
    pub(super) fn ping_leaves(&mut self, now: Instant) -> u32 {
        self.last_ping = self.last_ping.wrapping_add(1);
        self.timed = Some((self.last_ping, now));
        self.last_ping
    }

    /// The peer answered a PING: how long that took, unless another was sent since.
    pub(super) fn ping_answered(&mut self, req: u32, now: Instant) -> Option<Duration> {
        self.timed.take_if(|(timed, _)| *timed == req).map(|(_, sealed)| now - sealed)
    }

    pub(super) fn pong(&mut self, req: u32) {
        if self.pongs < PONGS_MAX {
            self.pongs += 1;
            self.urgent.push_back(Urgent::Pong(req));
        }
    }

    pub(super) fn next_urgent(&mut self) -> Option<Urgent> {
        let next = self.urgent.pop_front();
        if matches!(next, Some(Urgent::Pong(_))) {
            self.pongs -= 1;
        }
        next
    }

    /// Something must be heard within `wait`.
    pub(super) fn probe(&mut self, now: Instant, wait: Duration) {
        self.probe.get_or_insert((now, now + wait));
        self.ping();
    }

    /// When the probe began and when its answer is due.
    pub(super) const fn probing(&self) -> Option<(Instant, Instant)> {
        self.probe
    }

    pub(super) fn probe_answered(&mut self) {
        self.probe = None;
    }

    /// The first end counts.
    pub(super) fn finish(&mut self, code: Option<CloseCode>, reason: DownReason) {
        self.ending.get_or_insert(Ending { code, reason });
    }

    pub(super) const fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Ends every request, ours and the peer's.
    pub(super) fn clear(&mut self) {
        self.asked.clear();
        self.urgent.clear();
        self.pongs = 0;
        std::mem::take(&mut self.serving).into_values().for_each(|token| token.cancel());
    }
}
