//! Realms under the simulator as a test: seeds hold, a seed replays exactly, and each mistake of the table is noticed.
//! More: `cargo run --release -p tests --bin sim -- --realm --seeds 100000 --jobs 2`.

use tests::sim::check::Violation;
use tests::sim::realm::flaw::MUTANTS;
use tests::sim::realm::hunt::first_failing;
use tests::sim::realm::oracle::{Summary, run};
use tests::sim::realm::story::Story;

/// Seeds that `cargo test` runs; fresh ones come from the command above.
const SEEDS: u64 = 300;
/// A mistake must be noticed within so many.
const SEEDS_TO_MISS_MAX: u64 = 800;

/// Stories that did not hold once: somebody was taken in by two at once and founded a realm in between; and an outsider of whom
/// only a reader had said anything, which the oracle asked too much about.
const FAILED_ONCE: [u64; 2] = [2_076_021, 2_061_011];

#[test]
fn what_failed_once_holds() {
    for seed in FAILED_ONCE {
        assert_eq!(first_failing(seed..seed + 1, 1, None), None, "seed {seed}");
    }
}

#[test]
fn realms_hold() {
    if let Some((seed, Violation { property, words })) = first_failing(0..SEEDS, 2, None) {
        let replay = format!("cargo run --release -p tests --bin sim -- --realm --seed {seed}");
        panic!("seed {seed} does not hold; replay: {replay}\n{property}: {words}");
    }
}

#[test]
fn a_realm_replays_exactly() {
    for seed in 0..20 {
        let story = Story::draw(seed, None);
        let (first, trace) = run(&story, true);
        let (second, again) = run(&story, true);
        assert_eq!(trace, again, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
}

/// A simulator in which nothing happens would hold, too.
#[test]
fn realms_see_all_kinds_of_trouble() {
    let runs: Vec<Summary> = (0..60).filter_map(|seed| run(&Story::draw(seed, None), false).0.ok()).collect();
    let many = |what: fn(&Summary) -> bool| runs.iter().filter(|summary| what(summary)).count();
    let seen = [
        many(|run| run.members >= 2),
        many(|run| run.removed > 0),
        many(|run| run.thieves > 0),
        many(|run| run.links > 20),
        many(|run| run.shared > 0),
    ];
    println!("of {} runs: {seen:?} members, removed devices, thieves, links, shared folders", runs.len());
    for (what, (count, least)) in ["members", "removed devices", "thieves", "links", "shared folders"]
        .into_iter()
        .zip(seen.into_iter().zip([40, 30, 30, 20, 40]))
    {
        assert!(count > least, "{what}: {count}");
    }
}

#[test]
fn mistakes_with_realms_are_noticed() {
    for (name, flaw) in MUTANTS {
        match first_failing(0..SEEDS_TO_MISS_MAX, 2, Some(flaw)) {
            Some((seed, violation)) => println!("with {name}: {} runs: {}", seed + 1, violation.property),
            None => panic!("{SEEDS_TO_MISS_MAX} realms hold with {name}: the simulator would not notice"),
        }
    }
}
