//! The simulator as a test: two thousand seeds hold on either disk, a seed replays exactly, and every rule that looks optional is
//! missed when it is switched off. More: `cargo run --release -p tests --bin sim -- --seeds 1000000 --jobs 2 --profile mixed`.

use tests::sim::check::{Demand, Violation, run};
use tests::sim::flaw::mutant;
use tests::sim::hunt::{Caught, first_failing};
use tests::sim::scenario::{Profile, Scenario};

/// Seeds that `cargo test` runs; fresh ones come from the command above.
const SEEDS: u64 = 2000;
/// Copied devices.
const CLONES: u64 = 400;
/// A rule that is switched off must be missed within so many.
const SEEDS_TO_MISS_MAX: u64 = 6000;

#[test]
fn seeds_hold() {
    hold("flat", Profile::Flat);
}

#[test]
fn seeds_hold_over_the_real_commit_protocol() {
    hold("disk", Profile::Disk);
}

fn hold(name: &str, profile: Profile) {
    if let Some(caught) = first_failing(0..SEEDS, Demand::All, 2, |seed| Scenario::draw(seed, profile)) {
        let (seed, Violation { property, words }) = (caught.seed, caught.violation);
        let replay = format!("cargo run --release -p tests --bin sim -- --profile {name} --seed {seed}");
        panic!("seed {seed} does not hold; replay: {replay}\n{property}: {words}");
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

/// Prints how many runs it took, so that a weakened simulator shows.
fn is_missed(name: &str) {
    let mutant = mutant(name).expect("an entry of the table");
    match mutant.caught_within(SEEDS_TO_MISS_MAX, 2) {
        Some(Caught { seed, violation }) => println!("without {name}: {} runs: {}", seed + 1, violation.property),
        None => panic!("{SEEDS_TO_MISS_MAX} seeds hold without {name}: the simulator would not notice"),
    }
}

#[test]
fn the_resolvers_bump_is_missed() {
    is_missed("resolver_bumps");
}

#[test]
fn the_bump_for_metadata_is_missed() {
    is_missed("metadata_bumps");
}

#[test]
fn content_events_are_missed() {
    is_missed("content_at");
}

#[test]
fn a_free_conflict_name_is_missed() {
    is_missed("free_name");
}

#[test]
fn reviving_is_missed() {
    is_missed("revive");
}

#[test]
fn a_replica_of_its_own_for_a_new_database_is_missed() {
    is_missed("own_replica");
}

/// Two devices that claim to be one: what the other wrote under the same event may be lost, but all end alike.
#[test]
fn the_fork_row_is_missed() {
    let clones = |seed, forks| {
        let mut scenario = Scenario::draw(seed, Profile::Flat).with_clone();
        scenario.config.rules.forks = forks;
        scenario
    };
    let diverges = |forks| first_failing(0..CLONES, Demand::Convergence, 2, |seed| clones(seed, forks));
    assert_eq!(diverges(true), None);
    assert!(diverges(false).is_some(), "{CLONES} copied devices converge without the fork row");
}
