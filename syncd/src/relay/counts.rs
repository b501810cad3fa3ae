//! What a relay counts, for who runs it: numbers only, of nobody in particular.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counted while it runs.
#[derive(Debug, Default)]
pub(super) struct Counters {
    waiting: AtomicU64,
    splices: AtomicU64,
    joined: AtomicU64,
    refused: AtomicU64,
    spliced: AtomicU64,
    bytes: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients that wait now.
    pub waiting: u64,
    /// Pairs of clients that are joined now.
    pub splices: u64,
    /// Clients that were taken in since the start.
    pub joined: u64,
    /// Clients with an access key for which there was no room.
    pub refused: u64,
    /// Pairs that were joined since the start.
    pub spliced: u64,
    /// Bytes passed on between them.
    pub bytes: u64,
}

impl Counters {
    pub(super) fn now(&self, (waiting, splices): (usize, usize)) {
        self.waiting.store(waiting as u64, Ordering::Relaxed);
        self.splices.store(splices as u64, Ordering::Relaxed);
    }

    pub(super) fn joined(&self, taken_in: bool) {
        let counter = if taken_in { &self.joined } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn spliced(&self) {
        self.spliced.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            waiting: read(&self.waiting),
            splices: read(&self.splices),
            joined: read(&self.joined),
            refused: read(&self.refused),
            spliced: read(&self.spliced),
            bytes: read(&self.bytes),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waiting, splices, joined, refused, spliced, bytes } = self;
        write!(f, "now {waiting} waiting and {splices} pairs joined; since the start {joined} clients taken in, ")?;
        write!(f, "{refused} refused, {spliced} pairs joined, {bytes} bytes passed on")
    }
}
