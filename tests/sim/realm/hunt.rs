//! Many seeds in order until one does not hold, and the smallest story that fails the same way.

use super::flaw::Flaw;
use super::oracle::run;
use super::story::{Step, Story};
use crate::sim::check::Violation;
use crate::sim::hunt::lowest;
use std::ops::Range;

/// Runs that shrinking may cost.
const TRIES_MAX: u32 = 3000;

/// The lowest seed that does not hold, and how: the same for any number of threads.
#[must_use]
pub fn first_failing(seeds: Range<u64>, threads: usize, flaw: Option<Flaw>) -> Option<(u64, Violation)> {
    lowest(seeds, threads, |seed| run(&Story::draw(seed, flaw), false).0.err())
}

/// Drops steps in halves, then one by one, as long as the same property fails.
#[must_use]
pub fn shrink(story: &Story, violation: &Violation) -> (Story, Violation) {
    let (mut best, mut violation, mut tries) = (story.clone(), violation.clone(), 0);
    let mut fails = |candidate: &Story, tries: &mut u32| {
        *tries += 1;
        let failed = run(candidate, false).0.err().filter(|failed| failed.property == violation.property);
        failed.map(|failed| violation = failed).is_some()
    };
    let mut len = best.steps.len().div_ceil(2);
    while len > 0 && tries < TRIES_MAX {
        let (before, mut at) = (best.steps.len(), 0);
        while at < best.steps.len() && tries < TRIES_MAX {
            let mut candidate = best.clone();
            candidate.steps.drain(at..(at + len).min(best.steps.len()));
            if fails(&candidate, &mut tries) {
                best = candidate;
            } else {
                at += len;
            }
        }
        if len > 1 || best.steps.len() == before {
            len /= 2;
        }
    }
    for at in 0..best.steps.len() {
        while let Step::Run { events } = best.steps[at] {
            let mut candidate = best.clone();
            candidate.steps[at] = Step::Run { events: events.saturating_sub(1) };
            if events == 0 || tries >= TRIES_MAX || !fails(&candidate, &mut tries) {
                break;
            }
            best = candidate;
        }
    }
    (best, violation)
}
