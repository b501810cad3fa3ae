//! Counters for status: what is under way in a folder, and what went over the wire. Only ever read by people.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How much of the older rate is left after this time.
const RATE_HALF_LIFE: Duration = Duration::from_secs(3);
/// Readings closer together than this repeat the last rate.
const READING_MIN: Duration = Duration::from_millis(200);

/// How far a folder's fetches are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolderProgress {
    /// Contents under way.
    pub contents: u64,
    /// Bytes of them.
    pub bytes_wanted: u64,
    /// Bytes of them that are verified.
    pub bytes_done: u64,
}

/// File bytes over all sessions since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Bytes of chunks received, before decompression.
    pub received: u64,
    /// Bytes of chunks sent, after compression.
    pub sent: u64,
    /// Received a second, over the last seconds.
    pub received_per_second: u64,
    /// Sent a second, over the last seconds.
    pub sent_per_second: u64,
}

#[derive(Debug, Default)]
pub(super) struct FolderMeter {
    contents: AtomicU64,
    wanted: AtomicU64,
    done: AtomicU64,
}

impl FolderMeter {
    pub fn add_wanted(&self, bytes: u64) {
        self.contents.fetch_add(1, Ordering::Relaxed);
        self.wanted.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A content is complete or given up: it no longer counts.
    pub fn settle(&self, bytes: u64) {
        self.wanted.fetch_sub(bytes, Ordering::Relaxed);
        if self.contents.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.store(0, Ordering::Relaxed);
            return;
        }
        // Less was done of one that was given up; the error ends with the last content.
        let less = |done: u64| Some(done.saturating_sub(bytes));
        let _ = self.done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub fn progress(&self) -> FolderProgress {
        let bytes_wanted = self.wanted.load(Ordering::Relaxed);
        FolderProgress {
            contents: self.contents.load(Ordering::Relaxed),
            bytes_wanted,
            bytes_done: self.done.load(Ordering::Relaxed).min(bytes_wanted),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct WireMeter {
    received: AtomicU64,
    sent: AtomicU64,
    last: Mutex<Option<(Instant, Wire)>>,
}

impl WireMeter {
    pub fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn read(&self) -> Wire {
        let (received, sent) = (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed));
        let mut last = self.last.lock().expect("no thread panics while it holds this lock");
        let now = Instant::now();
        let Some((at, before)) = *last else {
            let wire = Wire { received, sent, ..Wire::default() };
            *last = Some((now, wire));
            return wire;
        };
        let passed = now - at;
        if passed < READING_MIN {
            return Wire { received, sent, ..before };
        }
        let keep = 0.5_f64.powf(passed.as_secs_f64() / RATE_HALF_LIFE.as_secs_f64());
        let rate = |old: u64, bytes: u64| {
            let present = bytes as f64 / passed.as_secs_f64();
            (old as f64 * keep + present * (1.0 - keep)) as u64
        };
        let wire = Wire {
            received,
            sent,
            received_per_second: rate(before.received_per_second, received - before.received),
            sent_per_second: rate(before.sent_per_second, sent - before.sent),
        };
        *last = Some((now, wire));
        wire
    }
}
