//! Whether the wall clock can be believed when something is to be removed for its age. Invariant: a clock that was set,
//! or that nobody has watched yet, is not believed before it has kept its pace for an hour.

use std::time::{Duration, Instant};

/// How long the clock must have kept its pace: by then a time server, or the person who set it, has put it right.
const PROBATION: Duration = Duration::from_secs(3600);
/// Seconds that the clock may gain or lose between two looks. A machine that slept overnight is not one whose clock
/// was set, and what is kept is kept for days.
const DRIFT_MAX_SECS: u64 = 24 * 3600;

/// A watched clock.
#[derive(Debug)]
pub(super) struct Steady {
    looked: Instant,
    wall: i64,
    since: Instant,
}

impl Steady {
    /// `wall` in seconds since 1970.
    pub(super) const fn new(now: Instant, wall: i64) -> Self {
        Self { looked: now, wall, since: now }
    }

    /// Takes in one look at both clocks; whether the wall clock can be believed.
    pub(super) fn look(&mut self, now: Instant, wall: i64) -> bool {
        let passed = i64::try_from((now - self.looked).as_secs()).unwrap_or(i64::MAX);
        if wall.abs_diff(self.wall.saturating_add(passed)) > DRIFT_MAX_SECS {
            self.since = now;
        }
        (self.looked, self.wall) = (now, wall);
        now - self.since >= PROBATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_believed_when_it_kept_its_pace_for_an_hour() {
        const DAY: i64 = 24 * 3600;
        let (started, wall) = (Instant::now(), 1_750_000_000);
        let mut clock = Steady::new(started, wall);
        // Minutes of the monotonic clock, how far the other is ahead of it, whether it is believed.
        for (minutes, ahead, believed) in [
            (2, 0, false),
            (58, 0, false),
            (60, 0, true),
            (62, 3600, true),
            (64, 12 * 3600, true),
            (66, 365 * DAY, false),
            (68, 12 * 3600, false),
            (126, 12 * 3600, false),
            (128, 12 * 3600, true),
            (130, -3650 * DAY, false),
            (188, -3650 * DAY, false),
            (190, -3650 * DAY, true),
            (192, 0, false),
        ] {
            let now = started + Duration::from_secs(minutes * 60);
            let seconds = i64::try_from(minutes * 60).unwrap();
            assert_eq!(clock.look(now, wall + seconds + ahead), believed, "minute {minutes}");
        }
    }
}
