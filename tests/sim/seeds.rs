//! The simulator as a test: fifteen hundred seeds hold on either disk, a seed replays exactly, kept runs hold, and rules and
//! steps that look optional are missed when they are left out. More: `cargo run --release -p tests --bin sim -- --seeds 1000000 --jobs 2 --profile mixed`.

#[path = "realm/seeds.rs"]
mod realm;

use tests::sim::check::{Demand, Violation, run};
use tests::sim::flaw::mutant;
use tests::sim::hunt::{Caught, first_failing};
use tests::sim::regress;
use tests::sim::scenario::{Profile, Scenario};

/// Seeds that `cargo test` runs; fresh ones come from the command above.
const SEEDS: u64 = 1500;
/// Those with the real database, of which each takes as long as twenty of the others.
const SEEDS_WHOLE: u64 = 50;
/// Those with a disk that folds names: what it cannot hold is tried again for good, which takes long.
const SEEDS_FOLDED: u64 = 300;
/// Fleets, and how many days each lives.
const FLEETS: u64 = 10;
const DAYS: u32 = 10;
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

#[test]
fn seeds_hold_with_the_real_database() {
    holds("--profile whole", SEEDS_WHOLE, |seed| Scenario::draw(seed, Profile::Whole));
}

fn hold(name: &str, profile: Profile) {
    holds(&format!("--profile {name}"), SEEDS, |seed| Scenario::draw(seed, profile));
}

fn holds(options: &str, seeds: u64, scenario: impl Fn(u64) -> Scenario + Sync) {
    if let Some(Caught { seed, violation }) = first_failing(0..seeds, Demand::All, 2, scenario) {
        let Violation { property, words } = violation;
        let replay = format!("cargo run --release -p tests --bin sim -- {options} --seed {seed}");
        panic!("seed {seed} does not hold; replay: {replay}\n{property}: {words}");
    }
}

/// A device whose disk takes different spellings for one name loses nothing, and nothing is lost elsewhere because of it.
#[test]
fn a_disk_that_folds_names_loses_nothing() {
    let scenario = |seed| Scenario::draw(seed, Profile::Disk).with_folding();
    let found = first_failing(0..SEEDS_FOLDED, Demand::Folded, 2, scenario);
    assert_eq!(found, None, "replay: cargo run --release -p tests --bin sim -- --profile disk --folding --seed N");
}

/// Rests are checked every night, and what one day left behind meets the next.
#[test]
fn fleets_hold_for_days() {
    holds(&format!("--profile disk --days {DAYS}"), FLEETS, |seed| Scenario::draw_days(seed, Profile::Disk, DAYS));
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let profile = [Profile::Flat, Profile::Disk, Profile::Whole][(seed % 3) as usize];
        let scenario = Scenario::draw(seed, profile);
        let (first, trace) = run(&scenario, Demand::All, true);
        let (second, again) = run(&scenario, Demand::All, true);
        assert_eq!(trace, again, "seed {seed}");
        assert_eq!(first.ok().map(|summary| summary.hash), second.ok().map(|summary| summary.hash), "seed {seed}");
    }
}

#[test]
fn kept_runs_hold() {
    for (path, kept) in regress::all().expect("kept runs are read") {
        if let Err(Violation { property, words }) = kept.holds() {
            panic!("{} does not hold ({}): {property}: {words}", path.display(), kept.story);
        }
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

/// Those of the shells that a few hundred runs notice. All: `sim --mutants`.
const QUICK: [&str; 17] = [
    "sync_dir",
    "sync_file",
    "ctime",
    "no_replace",
    "atomic_swap",
    "empty_only",
    "attributes",
    "verified_temps",
    "recovery",
    "durable_first",
    "rename_first",
    "installing",
    "held",
    "racy",
    "counter",
    "tombstones",
    "links",
];

#[test]
fn steps_of_the_shells_are_missed() {
    QUICK.into_iter().for_each(is_missed);
}

#[test]
fn the_resolvers_bump_is_missed() {
    is_missed("resolver_bumps");
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

/// An index that is put back from a backup would use its counters again: peers that remember where they read it notice.
#[test]
fn an_index_that_went_back_is_noticed() {
    let backups = |seed, runs| {
        let mut scenario = Scenario::draw(seed, Profile::Flat).with_backup();
        scenario.config.runs = runs;
        scenario
    };
    let loses = |runs| first_failing(0..SEEDS, Demand::Kept, 2, |seed| backups(seed, runs));
    assert_eq!(loses(true), None);
    assert!(loses(false).is_some(), "{SEEDS} indexes that went back lose nothing without runs");
}
