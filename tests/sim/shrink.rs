//! Makes a failing scenario small: drops steps in halves, then one by one, as long as the same property fails.

use super::check::{Demand, Violation, run};
use super::scenario::{Scenario, What};

/// Runs that shrinking may cost.
const TRIES_MAX: u32 = 3000;

/// The smallest scenario found, and what fails in it.
#[must_use]
pub fn shrink(scenario: &Scenario, violation: &Violation, demand: Demand) -> (Scenario, Violation) {
    let mut shrinker = Shrinker { best: scenario.clone(), violation: violation.clone(), demand, tries: 0 };
    loop {
        let before = shrinker.size();
        shrinker.drop_device();
        shrinker.drop_steps();
        shrinker.shorten_runs();
        if shrinker.size() == before || shrinker.tries >= TRIES_MAX {
            return (shrinker.best, shrinker.violation);
        }
    }
}

struct Shrinker {
    best: Scenario,
    violation: Violation,
    demand: Demand,
    tries: u32,
}

impl Shrinker {
    fn size(&self) -> (usize, u64, usize) {
        let events =
            |step: &super::scenario::Step| if let What::Run { events } = step.what { u64::from(events) } else { 0 };
        (self.best.steps.len(), self.best.steps.iter().map(events).sum(), self.best.config.devices)
    }

    fn keep_if_it_fails(&mut self, candidate: Scenario) -> bool {
        if self.tries >= TRIES_MAX {
            return false;
        }
        self.tries += 1;
        match run(&candidate, self.demand, false).0 {
            Err(violation) if violation.property == self.violation.property => {
                (self.best, self.violation) = (candidate, violation);
                true
            }
            _ => false,
        }
    }

    /// The last device goes, with all it did.
    fn drop_device(&mut self) {
        while self.best.config.devices > 2 {
            let mut candidate = self.best.clone();
            let last = candidate.config.devices - 1;
            candidate.config.devices = last;
            candidate.config.skew_secs.truncate(last);
            candidate.steps.retain(|step| match step.what {
                What::User { device, .. }
                | What::Scan { device }
                | What::Crash { device, .. }
                | What::Race { device, .. }
                | What::LoseIndex { device } => device != last,
                What::Join { a, b } | What::Cut { a, b } => a != last && b != last,
                What::Run { .. } | What::Night => true,
            });
            if !self.keep_if_it_fails(candidate) {
                return;
            }
        }
    }

    fn drop_steps(&mut self) {
        let mut span = (self.best.steps.len() / 2).max(1);
        loop {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut candidate = self.best.clone();
                let end = (at + span).min(candidate.steps.len());
                candidate.steps.drain(at..end);
                if !self.keep_if_it_fails(candidate) {
                    at += span;
                }
            }
            if span == 1 {
                return;
            }
            span /= 2;
        }
    }

    fn shorten_runs(&mut self) {
        for at in 0..self.best.steps.len() {
            while let What::Run { events } = self.best.steps[at].what {
                let mut candidate = self.best.clone();
                let shorter = events - (events / 3).max(1);
                candidate.steps[at].what = What::Run { events: shorter };
                if events <= 1 || !self.keep_if_it_fails(candidate) {
                    break;
                }
            }
        }
    }
}
