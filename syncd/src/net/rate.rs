//! Token buckets: so many at once, then one per interval. Time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// `burst` at once, then one per `interval`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    burst: u32,
    interval: Duration,
    tokens: u32,
    filled_at: Instant,
}

impl Bucket {
    pub(crate) const fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        Self { burst, interval, tokens: burst, filled_at: now }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at);
        let gained = u32::try_from(passed.as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        if gained >= self.burst - self.tokens {
            self.tokens = self.burst;
            self.filled_at = now;
        } else {
            self.tokens += gained;
            self.filled_at += self.interval * gained;
        }
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, Duration::from_secs(2), start);
        let takes = |bucket: &mut Bucket, at: u64| bucket.take(start + Duration::from_secs(at));
        let rows =
            [(0, true), (0, true), (0, true), (0, false), (1, false), (2, true), (3, false), (4, true), (100, true)];
        for (at, expected) in rows {
            assert_eq!(takes(&mut bucket, at), expected, "after {at} s");
        }
    }
}
