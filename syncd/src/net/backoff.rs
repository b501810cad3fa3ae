//! When to try again: quickly at first, then ever more rarely. Time and jitter are arguments.

use std::time::Duration;
use tokio::time::Instant;

/// Waits after the first, second, ... failure, in units (seconds, but for tests). The last one repeats.
const STEPS: [u32; 9] = [1, 2, 5, 10, 30, 60, 120, 300, 600];

/// The wait before the next attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    unit: Duration,
    failures: usize,
    next: Instant,
}

impl Backoff {
    /// Due at once.
    pub(super) const fn new(unit: Duration, now: Instant) -> Self {
        Self { unit, failures: 0, next: now }
    }

    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Waits the next step, 25 % more or less. `jitter` is random in 0..=255.
    pub(super) fn failed(&mut self, now: Instant, jitter: u8) {
        let steps = STEPS[self.failures.min(STEPS.len() - 1)];
        self.failures = (self.failures + 1).min(STEPS.len());
        self.next = now + (self.unit * steps).mul_f64(0.75 + 0.5 * f64::from(jitter) / 255.0);
    }

    /// Waits no longer than until `latest`.
    pub(super) fn at_latest(&mut self, latest: Instant) {
        self.next = self.next.min(latest);
    }

    /// Waits as long as it ever does.
    pub(super) fn give_up(&mut self, now: Instant, jitter: u8) {
        self.failures = STEPS.len();
        self.failed(now, jitter);
    }

    /// Something changed: starts over at `next`.
    pub(super) fn reset(&mut self, next: Instant) {
        (self.failures, self.next) = (0, next);
    }

    /// Not before `next`, without forgetting the failures.
    pub(super) fn hold_until(&mut self, next: Instant) {
        self.next = self.next.max(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_ten_minutes_and_start_over() {
        let now = Instant::now();
        let mut backoff = Backoff::new(Duration::from_secs(1), now);
        assert_eq!(backoff.next(), now);
        for step in [1, 2, 5, 10, 30, 60, 120, 300, 600, 600] {
            backoff.failed(now, 0);
            assert_eq!(backoff.next() - now, Duration::from_secs(step).mul_f64(0.75));
        }
        backoff.failed(now, 255);
        assert_eq!(backoff.next() - now, Duration::from_secs(750));
        backoff.reset(now);
        backoff.failed(now, 0);
        assert_eq!(backoff.next() - now, Duration::from_millis(750));
    }
}
