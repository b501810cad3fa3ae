//! How much of a link with a long round trip is used.

use crate::devices::{arrives, device, pace, pair_at, send};
use crate::hub::Wire;
use crate::is_long;
use crate::lab::Lab;
use std::time::{Duration, Instant};
use tests::harness::{World, assert_same, noise, settle, share, until};

const MBIT: u64 = 100;
const BITS: f64 = MBIT as f64 * 1e6;
/// 50 ms there and back.
const WIRE: Wire = Wire::limited(25, MBIT);

struct Stretch {
    large: usize,
    small: u64,
    /// Share of the link that a large file takes.
    least: f64,
    /// Longest time for the small files, from the connection to the last of them on the disk.
    most: Duration,
}

/// The long form is for a release build; otherwise it is only to be seen that nothing waits for round trips.
fn stretch() -> Stretch {
    if is_long() {
        Stretch { large: 200_000_000, small: 2000, least: 0.9, most: Duration::from_secs(5) }
    } else {
        Stretch { large: 48_000_000, small: 500, least: 0.6, most: Duration::from_secs(12) }
    }
}

const SMALL_LEN: usize = 4096;

#[test]
fn a_long_round_trip_costs_little_of_the_link() {
    let Some(lab) = Lab::new("a_long_round_trip_costs_little_of_the_link") else { return };
    let world = World::new();
    let (at_a, at_b) = (lab.site("a", Some(WIRE)), lab.site("b", None));
    let [a, b] =
        [("a", &at_a), ("b", &at_b)].map(|(name, site)| device(&world, name, &site.space, "lan = \"never\"\n"));
    pair_at(&a, at_a.address, &b);
    share(&[&a, &b]);
    settle(&[&a, &b]);
    let Stretch { large, small, least, most } = stretch();

    let before = b.traffic().0;
    let content = send(&a, "large", 1, large);
    let of_large = pace(&b, before, large, Duration::from_secs(120)) / BITS;
    arrives(&b, "large", &content, Duration::from_secs(120));
    settle(&[&a, &b]);

    a.ok(&["device", "pause", b.name()]);
    let name = |at: u64| format!("small/{}/{at}", at % 20);
    (0..small).for_each(|at| a.put(name(at), noise(1000 + at, SMALL_LEN)));
    until("the files are looked at", || (a.folder()["local"]["files"] == small + 1).then_some(()));
    let begun = Instant::now();
    a.ok(&["device", "resume", b.name()]);
    settle(&[&b]);
    let took = begun.elapsed();
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let of_small = (small as usize * SMALL_LEN) as f64 * 8.0 / took.as_secs_f64() / BITS;
    println!(
        "{large} bytes: {:.0} % of {MBIT} Mbit/s; {small} files of {SMALL_LEN}: {took:.1?}, {:.0} %",
        of_large * 100.0,
        of_small * 100.0
    );
    assert!(of_large >= least, "a large file used {:.0} % of the link", of_large * 100.0);
    assert!(took <= most, "small files took {took:.1?}");
}
