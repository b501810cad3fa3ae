//! The writing half: urgent words first, then control messages, then data, up to four records in one write; PINGs
//! when nothing else goes out, and the verdict that a peer has gone silent.

use super::desk::Urgent;
use super::{Control, DataRecord, Inner};
use crate::net::config::{Liveness, random_between};
use crate::net::event::DownReason;
use protocol::wire::frame::{FLAG_END, FrameError, Sealer};
use protocol::wire::message::{ChunkErrorCode, CloseCode, Message, kind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// One write takes this much: four full records.
const WRITE_LEN: usize = 4 * 64 * 1024;
/// Records of data in one write.
const RECORDS_PER_WRITE: usize = 4;
/// Our own consumer holds the reader up: the peer hears from us this often, so that it does not give us up.
const HELD_PING: Duration = Duration::from_secs(4);
/// A write that moves nothing for so long is over.
const STUCK: Duration = Duration::from_secs(60);
/// While bytes of ours go out somebody takes them, though the answer to a probe may stand in a queue behind others.
const PROGRESS: Duration = Duration::from_secs(1);
/// The last words may take this long.
const GOODBYE: Duration = Duration::from_millis(400);

impl From<FrameError> for DownReason {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

pub(super) struct Writer {
    pub(super) inner: Arc<Inner>,
    pub(super) stream: OwnedWriteHalf,
    pub(super) sealer: Sealer,
    pub(super) control: mpsc::Receiver<Control>,
    pub(super) data: mpsc::Receiver<DataRecord>,
}

/// What the writer knows of time.
struct Pulse {
    sent: Instant,
    ping_after: Duration,
    asked: Option<Instant>,
    /// When the kernel last took bytes of ours.
    moved: Instant,
}

impl Writer {
    /// Writes until the session ends; both halves are stopped when it returns.
    pub(super) async fn run(mut self) {
        let reason = self.pump().await;
        if matches!(reason, DownReason::Cut(_)) {
            // The peer may have said why before it closed: the reader finds it.
            let _ = timeout(GOODBYE, self.inner.closing.cancelled()).await;
        }
        self.inner.finish(None, reason);
        let ending = self.inner.desk().ending().cloned();
        if let Some(code) = ending.and_then(|ending| ending.code) {
            // The connection may be gone already; there is nobody to tell.
            let _ = timeout(GOODBYE, self.say_goodbye(code)).await;
        }
        self.inner.ended.cancel();
    }

    async fn say_goodbye(&mut self, code: CloseCode) -> std::io::Result<()> {
        let mut out = Vec::new();
        let (kind, body) = Message::Close(code).encode();
        if self.sealer.seal_message(kind, 0, &body, &mut out).is_ok() {
            self.stream.write_all(&out).await?;
        }
        self.stream.shutdown().await
    }

    async fn pump(&mut self) -> DownReason {
        let mut out = Vec::with_capacity(WRITE_LEN + 4096);
        let now = Instant::now();
        let mut pulse = Pulse { sent: now, ping_after: ping_after(&self.inner.liveness), asked: None, moved: now };
        loop {
            let reason = match self.turn(&mut pulse, &mut out).await {
                Ok(()) => self.inner.desk().ending().map(|ending| ending.reason.clone()),
                Err(reason) => Some(reason),
            };
            if let Some(reason) = reason {
                return reason;
            }
        }
    }

    /// One write, or one wait for something to write.
    async fn turn(&mut self, pulse: &mut Pulse, out: &mut Vec<u8>) -> Result<(), DownReason> {
        out.clear();
        self.gather(out)?;
        let wake = self.check(pulse)?;
        if out.is_empty() && !self.inner.closing.is_cancelled() {
            self.wait(wake, out).await?;
        }
        if !out.is_empty() {
            self.write(out, pulse).await?;
            pulse.sent = Instant::now();
        }
        Ok(())
    }

    /// Seals what waits, in order of urgency.
    fn gather(&mut self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        loop {
            let Some(urgent) = self.inner.desk().next_urgent() else { break };
            let (message, req) = match urgent {
                Urgent::Ping => (Message::Ping, self.inner.desk().ping_leaves(Instant::now())),
                Urgent::Pong(req) => (Message::Pong, req),
                Urgent::Cancel(req) => (Message::Cancel, req),
                Urgent::Abandon(req) => (Message::ChunkErr(ChunkErrorCode::Unreadable), req),
            };
            let (kind, body) = message.encode();
            self.sealer.seal_message(kind, req, &body, out)?;
        }
        while out.len() < WRITE_LEN {
            let Ok(control) = self.control.try_recv() else { break };
            self.sealer.seal_message(control.kind, control.req, &control.body, out)?;
        }
        for _ in 0..RECORDS_PER_WRITE {
            if out.len() >= WRITE_LEN {
                break;
            }
            let Ok(record) = self.data.try_recv() else { break };
            self.seal_data(&record, out)?;
        }
        Ok(())
    }

    fn seal_data(&mut self, record: &DataRecord, out: &mut Vec<u8>) -> Result<(), FrameError> {
        if record.cancelled.is_cancelled() {
            return Ok(());
        }
        let flags = if record.end { FLAG_END } else { 0 };
        self.sealer.seal_data(kind::DATA, flags, record.req, &record.payload, out)
    }

    /// Waits for anything to do. A message that comes is sealed here, control first.
    async fn wait(&mut self, wake: Instant, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let inner = Arc::clone(&self.inner);
        tokio::select! {
            biased;
            () = inner.closing.cancelled() => {}
            () = inner.urgent.notified() => {}
            Some(control) = self.control.recv() => {
                self.sealer.seal_message(control.kind, control.req, &control.body, out)?;
            }
            Some(record) = self.data.recv() => self.seal_data(&record, out)?,
            () = sleep_until(wake) => {}
        }
        Ok(())
    }

    /// A peer that takes nothing is found out here as well: where the network is gone this is where the writer stands.
    async fn write(&mut self, mut out: &[u8], pulse: &mut Pulse) -> Result<(), DownReason> {
        let inner = Arc::clone(&self.inner);
        let (mut moved, mut closing) = (Instant::now(), inner.closing.is_cancelled());
        while !out.is_empty() {
            let wake = if closing { moved + GOODBYE } else { self.check(pulse)?.min(moved + STUCK) };
            let wrote = tokio::select! {
                biased;
                wrote = self.stream.write(out) => wrote,
                // Once more, with less patience: half a frame would make CLOSE unreadable.
                () = inner.closing.cancelled(), if !closing => {
                    (moved, closing) = (Instant::now(), true);
                    continue;
                }
                // What is urgent goes out with the next write; whether anybody is there is asked at once.
                () = inner.urgent.notified(), if !closing => continue,
                () = sleep_until(wake) => {
                    let patience = if closing { GOODBYE } else { STUCK };
                    if moved.elapsed() >= patience {
                        return Err(DownReason::Silent);
                    }
                    continue;
                }
            };
            match wrote {
                Ok(len) if len > 0 => {
                    self.inner.sent.fetch_add(len as u64, Ordering::Relaxed);
                    (out, moved) = (&out[len..], Instant::now());
                    pulse.moved = moved;
                }
                Ok(_) => return Err(DownReason::Cut("nothing can be written".to_owned())),
                Err(error) => return Err(DownReason::Cut(error.to_string())),
            }
        }
        Ok(())
    }

    /// Whether the peer is still there; when to look again.
    fn check(&self, pulse: &mut Pulse) -> Result<Instant, DownReason> {
        let now = Instant::now();
        let Liveness { idle_dead, busy_ping, busy_dead, .. } = self.inner.liveness;
        let mut desk = self.inner.desk();
        let held = self.inner.held.load(Ordering::Relaxed);
        if let Some((begun, due)) = desk.probing() {
            if held || self.inner.silence_since(now, begun) < now - begun {
                desk.probe_answered();
            } else if now >= due.max(pulse.moved + PROGRESS) {
                return Err(DownReason::Silent);
            }
        }
        let ping_at = pulse.sent + if held { HELD_PING } else { pulse.ping_after };
        let mut wake = desk.probing().map_or(ping_at, |(_, due)| due.max(pulse.moved + PROGRESS).min(ping_at));
        if now >= ping_at {
            desk.ping();
            self.inner.urgent.notify_one();
            pulse.ping_after = ping_after(&self.inner.liveness);
            pulse.sent = now;
            wake = now + HELD_PING;
        }
        let since = desk.busy_since();
        let silence = self.inner.silence_since(now, since.unwrap_or(self.inner.started));
        let (ask_after, dead_after) = if since.is_some() { (busy_ping, busy_dead) } else { (idle_dead, idle_dead) };
        if silence >= dead_after {
            return Err(DownReason::Silent);
        }
        let asked_lately = pulse.asked.is_some_and(|asked| now - asked < busy_ping);
        if silence >= ask_after && !asked_lately {
            pulse.asked = Some(now);
            desk.ping();
            self.inner.urgent.notify_one();
        }
        let step = if silence < ask_after { ask_after - silence } else { (dead_after - silence).min(busy_ping) };
        if held {
            wake = wake.min(now + HELD_PING);
        }
        Ok(wake.min(now + step))
    }
}

fn ping_after(liveness: &Liveness) -> Duration {
    random_between(liveness.idle_ping.0, liveness.idle_ping.1)
}
