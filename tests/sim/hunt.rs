//! Many seeds in order, until one does not hold.

use super::check::{Demand, Violation, run};
use super::flaw::Mutant;
use super::scenario::Scenario;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A seed that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Which.
    pub seed: u64,
    /// How.
    pub violation: Violation,
}

/// The lowest seed that does not hold: the same for any number of threads.
pub fn first_failing(
    seeds: Range<u64>,
    demand: Demand,
    threads: usize,
    scenario: impl Fn(u64) -> Scenario + Sync,
) -> Option<Caught> {
    let fails = |seed: u64| {
        // A mutant may also break an assertion in the middle of a drop: that is noticing it.
        match catch_unwind(AssertUnwindSafe(|| run(&scenario(seed), demand, false).0)) {
            Ok(outcome) => outcome.err(),
            Err(_) => Some(Violation { property: "no panic", words: "an assertion failed".to_owned() }),
        }
    };
    lowest(seeds, threads, fails).map(|(seed, violation)| Caught { seed, violation })
}

/// The lowest seed that fails, and how: the same for any number of threads.
pub fn lowest(
    seeds: Range<u64>,
    threads: usize,
    fails: impl Fn(u64) -> Option<Violation> + Sync,
) -> Option<(u64, Violation)> {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(None::<(u64, Violation)>);
    let lock = || found.lock().expect("no thread panics holding it");
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || lock().as_ref().is_some_and(|(found, _)| *found < seed) {
                        return;
                    }
                    let Some(violation) = fails(seed) else { continue };
                    let mut found = lock();
                    if found.as_ref().is_none_or(|(before, _)| seed < *before) {
                        *found = Some((seed, violation));
                    }
                }
            });
        }
    });
    found.into_inner().expect("no thread panics holding it")
}

impl Mutant {
    /// A run with it.
    #[must_use]
    pub fn scenario(&self, seed: u64) -> Scenario {
        let mut scenario = Scenario::draw(seed, self.profile);
        (self.set)(&mut scenario.config);
        if self.copies { scenario.with_clone() } else { scenario }
    }

    /// What its runs must keep.
    #[must_use]
    pub const fn demand(&self) -> Demand {
        if self.copies { Demand::Convergence } else { Demand::All }
    }

    /// The first run that notices it.
    #[must_use]
    pub fn caught_within(&self, seeds: u64, threads: usize) -> Option<Caught> {
        first_failing(0..seeds, self.demand(), threads, |seed| self.scenario(seed))
    }
}
