//! How fast content may move: one pace holds for one device, or for all together; `limits` says which for whom.
//! Time comes in as an argument. Invariant: over any stretch of time no more passes than the rate allows, and beyond
//! that at most what `CREDIT` saved up and one piece, which may leave a debt that is waited for.

#[cfg(test)]
mod tests;

use protocol::limits::REQUEST_BYTES_MAX;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// What was not used lately is kept for so long: it makes up for a sleep that took longer than it should.
const CREDIT: Duration = Duration::from_millis(250);
/// Requests a second under a limit, so that it shows as a steady flow.
const PORTIONS_PER_SECOND: u64 = 4;
/// Smaller requests would cost more than they smooth.
const PORTION_MIN: u64 = 64 * 1024;
/// Only a change of the cap ends a hold; who waits for that looks again this rarely.
const HOLD_LOOK: Duration = Duration::from_secs(3600);

/// How much content may move one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cap {
    /// As fast as it goes.
    #[default]
    Free,
    /// Bytes a second.
    Rate(NonZeroU64),
    /// Nothing for now.
    Hold,
}

impl Cap {
    /// Bytes a second; 0: no limit.
    #[must_use]
    pub fn of(rate: u64) -> Self {
        NonZeroU64::new(rate).map_or(Self::Free, Self::Rate)
    }
}

/// A token bucket, kept as the moment when it owes nothing.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    cap: Cap,
    /// What it owes, in bytes, as of when it was held.
    held: u64,
    free_at: Instant,
}

impl Pace {
    /// Without a limit.
    pub const fn free(now: Instant) -> Self {
        Self { cap: Cap::Free, held: 0, free_at: now }
    }

    pub const fn cap(&self) -> Cap {
        self.cap
    }

    /// From now on. What is owed is waited for at the new rate; a hold keeps it.
    pub fn set(&mut self, now: Instant, cap: Cap) {
        if cap == self.cap {
            return;
        }
        let owed = match self.cap {
            Cap::Free => 0,
            Cap::Rate(rate) => bytes_in(self.free_at.saturating_duration_since(now), rate),
            Cap::Hold => self.held,
        };
        self.cap = cap;
        match cap {
            Cap::Free => self.free_at = now,
            Cap::Rate(rate) => self.free_at = now + time_for(owed, rate),
            Cap::Hold => self.held = owed,
        }
    }

    /// When the next piece may go; `None`: now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match self.cap {
            Cap::Free => None,
            Cap::Rate(_) => Some(self.free_at).filter(|at| *at > now),
            Cap::Hold => Some(now + HOLD_LOOK),
        }
    }

    /// A piece goes.
    pub fn spend(&mut self, now: Instant, bytes: u64) {
        let Cap::Rate(rate) = self.cap else { return };
        let saved = now.checked_sub(CREDIT).unwrap_or(now);
        self.free_at = self.free_at.max(saved) + time_for(bytes, rate);
    }

    /// Bytes of a piece that keep the flow steady.
    pub fn portion(&self) -> u64 {
        match self.cap {
            Cap::Rate(rate) => (rate.get() / PORTIONS_PER_SECOND).clamp(PORTION_MIN, REQUEST_BYTES_MAX),
            Cap::Free | Cap::Hold => REQUEST_BYTES_MAX,
        }
    }
}

fn time_for(bytes: u64, rate: NonZeroU64) -> Duration {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

fn bytes_in(time: Duration, rate: NonZeroU64) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate.get()) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// A pace that many tasks keep together, first come, first served.
pub(super) struct Gate {
    pace: Mutex<Pace>,
    /// One task at a time waits for the pace, the others for their turn.
    turn: Semaphore,
    changed: Notify,
}

impl Gate {
    pub fn open() -> Self {
        Self { pace: Mutex::new(Pace::free(Instant::now())), turn: Semaphore::new(1), changed: Notify::new() }
    }

    /// From now on, also for who waits already.
    pub fn set(&self, cap: Cap) {
        self.pace().set(Instant::now(), cap);
        self.changed.notify_one();
    }

    /// Waits until `bytes` may go.
    pub async fn pass(&self, bytes: usize) {
        if self.pace().cap() == Cap::Free {
            return;
        }
        let _turn = self.turn.acquire().await.expect("the semaphore is never closed");
        while let Some(due) = self.try_pass(bytes as u64) {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn try_pass(&self, bytes: u64) -> Option<Instant> {
        let now = Instant::now();
        let mut pace = self.pace();
        let due = pace.due(now);
        if due.is_none() {
            pace.spend(now, bytes);
        }
        due
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("no thread panics while it holds this lock")
    }
}
