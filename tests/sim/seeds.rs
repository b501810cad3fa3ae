//! The simulator as a test: two thousand seeds hold, a seed replays exactly, and every rule that looks optional is
//! missed when it is switched off. More seeds: `cargo run --release -p tests --bin sim -- --seeds 1000000 --jobs 2`.

use tests::sim::check::{Demand, run};
use tests::sim::scenario::{Config, Profile, Scenario};

/// Seeds that `cargo test` runs; fresh ones come from the command above.
const SEEDS: u64 = 2000;
/// A rule that is switched off must be missed within so many.
const SEEDS_TO_MISS_MAX: u64 = 6000;

/// Runs seeds on both cores; the first that does not hold, with its story.
fn first_failing(seeds: std::ops::Range<u64>, change: impl Fn(&mut Config) + Sync) -> Option<(u64, String)> {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let found = std::sync::Mutex::new(None::<(u64, String)>);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end || found.lock().expect("no thread panics holding it").is_some() {
                        return;
                    }
                    let mut scenario = Scenario::draw(seed, Profile::Flat);
                    change(&mut scenario.config);
                    // A switched-off rule may also break an assertion of the engine: that is noticing it.
                    let outcome = std::panic::catch_unwind(|| run(&scenario, Demand::All, false).0);
                    let words = match outcome {
                        Ok(Ok(_)) => continue,
                        Ok(Err(violation)) => format!("{}: {}", violation.property, violation.words),
                        Err(_) => "an assertion failed".to_string(),
                    };
                    *found.lock().expect("no thread panics holding it") = Some((seed, words));
                }
            });
        }
    });
    found.into_inner().expect("no thread panics holding it")
}

#[test]
fn seeds_hold() {
    if let Some((seed, words)) = first_failing(0..SEEDS, |_| {}) {
        panic!("seed {seed} does not hold; replay: cargo run -p tests --bin sim -- --seed {seed}\n{words}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let scenario = Scenario::draw(seed, Profile::Flat);
        let (first, trace) = run(&scenario, Demand::All, true);
        let (second, again) = run(&scenario, Demand::All, true);
        assert_eq!(trace, again, "seed {seed}");
        assert_eq!(first.ok().map(|summary| summary.hash), second.ok().map(|summary| summary.hash), "seed {seed}");
    }
}

/// What is switched off, and by what.
type Switch = (&'static str, fn(&mut Config));

/// Prints how many seeds it took, so that a weakened simulator shows.
fn is_missed((rule, switch): Switch) {
    match first_failing(0..SEEDS_TO_MISS_MAX, switch) {
        Some((seed, words)) => {
            println!("without {rule}: seed {seed}: {}", words.lines().next().unwrap_or_default());
        }
        None => panic!("{SEEDS_TO_MISS_MAX} seeds hold without {rule}: the simulator would not notice"),
    }
}

#[test]
fn the_resolvers_bump_is_missed() {
    is_missed(("the resolver's bump", |config| config.rules.resolver_bumps = false));
}

#[test]
fn content_events_are_missed() {
    is_missed(("content_at", |config| config.rules.content_at = false));
}

#[test]
fn reviving_is_missed() {
    is_missed(("a live child reviving its directory", |config| config.rules.revive = false));
}

#[test]
fn a_replica_of_its_own_for_a_new_database_is_missed() {
    is_missed(("counters bound to the database's replica", |config| config.reuse_replica = true));
}
