//! The simulator as a test: two thousand seeds hold on either disk, a seed replays exactly, and every rule that looks optional is
//! missed when it is switched off. More: `cargo run --release -p tests --bin sim -- --seeds 1000000 --jobs 2 --profile mixed`.

use tests::sim::check::{Demand, run};
use tests::sim::scenario::{Profile, SWITCHES, Scenario};

/// Seeds that `cargo test` runs; fresh ones come from the command above.
const SEEDS: u64 = 2000;
/// Copied devices.
const CLONES: u64 = 400;
/// A rule that is switched off must be missed within so many.
const SEEDS_TO_MISS_MAX: u64 = 6000;

/// Runs seeds on both cores; the first that does not hold, with its story.
fn first_failing(
    seeds: std::ops::Range<u64>,
    demand: Demand,
    scenario: impl Fn(u64) -> Scenario + Sync,
) -> Option<(u64, String)> {
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
                    let scenario = scenario(seed);
                    // A switched-off rule may also break an assertion of the engine: that is noticing it.
                    let outcome = std::panic::catch_unwind(|| run(&scenario, demand, false).0);
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
    hold("flat", Profile::Flat);
}

#[test]
fn seeds_hold_over_the_real_commit_protocol() {
    hold("disk", Profile::Disk);
}

fn hold(name: &str, profile: Profile) {
    if let Some((seed, words)) = first_failing(0..SEEDS, Demand::All, |seed| Scenario::draw(seed, profile)) {
        let replay = format!("cargo run --release -p tests --bin sim -- --profile {name} --seed {seed}");
        panic!("seed {seed} does not hold; replay: {replay}\n{words}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let scenario = Scenario::draw(seed, if seed % 2 == 0 { Profile::Flat } else { Profile::Disk });
        let (first, trace) = run(&scenario, Demand::All, true);
        let (second, again) = run(&scenario, Demand::All, true);
        assert_eq!(trace, again, "seed {seed}");
        assert_eq!(first.ok().map(|summary| summary.hash), second.ok().map(|summary| summary.hash), "seed {seed}");
    }
}

/// Prints how many seeds it took, so that a weakened simulator shows.
fn is_missed(rule: &str, profile: Profile) {
    let switch = SWITCHES.iter().find(|(name, _)| *name == rule).expect("a rule of the table").1;
    let without = |seed| {
        let mut scenario = Scenario::draw(seed, profile);
        switch(&mut scenario.config);
        scenario
    };
    match first_failing(0..SEEDS_TO_MISS_MAX, Demand::All, without) {
        Some((seed, words)) => {
            println!("without {rule}: seed {seed}: {}", words.lines().next().unwrap_or_default());
        }
        None => panic!("{SEEDS_TO_MISS_MAX} seeds hold without {rule}: the simulator would not notice"),
    }
}

#[test]
fn the_resolvers_bump_is_missed() {
    is_missed("resolver_bumps", Profile::Flat);
}

#[test]
fn the_bump_for_metadata_is_missed() {
    is_missed("metadata_bumps", Profile::Disk);
}

#[test]
fn content_events_are_missed() {
    is_missed("content_at", Profile::Flat);
}

#[test]
fn a_free_conflict_name_is_missed() {
    is_missed("free_name", Profile::Flat);
}

#[test]
fn reviving_is_missed() {
    is_missed("revive", Profile::Flat);
}

#[test]
fn a_replica_of_its_own_for_a_new_database_is_missed() {
    is_missed("own_replica", Profile::Flat);
}

/// Two devices that claim to be one: what the other wrote under the same event may be lost, but all end alike.
#[test]
fn the_fork_row_is_missed() {
    let clones = |seed, forks| {
        let mut scenario = Scenario::draw(seed, Profile::Flat).with_clone();
        scenario.config.rules.forks = forks;
        scenario
    };
    let diverges = |forks| first_failing(0..CLONES, Demand::Convergence, |seed| clones(seed, forks));
    assert_eq!(diverges(true), None);
    assert!(diverges(false).is_some(), "{CLONES} copied devices converge without the fork row");
}

/// An index that is put back from a backup would use its counters again: peers that remember where they read it notice.
#[test]
fn an_index_that_went_back_is_noticed() {
    let backups = |seed, runs| {
        let mut scenario = Scenario::draw(seed, Profile::Flat).with_backup();
        scenario.config.runs = runs;
        scenario
    };
    let loses = |runs| first_failing(0..SEEDS, Demand::Kept, |seed| backups(seed, runs));
    assert_eq!(loses(true), None);
    assert!(loses(false).is_some(), "{SEEDS} indexes that went back lose nothing without runs");
}
