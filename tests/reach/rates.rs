//! How much of a link with a long round trip is used.

use crate::devices::{arrives, pair_at, send};
use crate::hub::Wire;
use crate::is_long;
use crate::lab::Lab;
use std::time::{Duration, Instant};
use tests::harness::{Device, World, assert_same, noise, settle, share, until};

const MBIT: u64 = 100;
/// 50 ms there and back.
const WIRE: Wire = Wire::limited(25, MBIT);

struct Stretch {
    large: usize,
    small: u64,
    /// Shares of the link that are asked for: of a large file and of many small ones.
    least: (f64, f64),
}

/// The long form is for a release build; otherwise it is only to be seen that nothing waits for round trips.
fn stretch() -> Stretch {
    if is_long() {
        Stretch { large: 200_000_000, small: 2000, least: (0.9, 0.8) }
    } else {
        Stretch { large: 48_000_000, small: 500, least: (0.5, 0.1) }
    }
}

const SMALL_LEN: usize = 4096;

#[test]
fn a_long_round_trip_costs_little_of_the_link() {
    let Some(lab) = Lab::new("a_long_round_trip_costs_little_of_the_link") else { return };
    let world = World::new();
    let (at_a, at_b) = (lab.site("a", Some(WIRE)), lab.site("b", None));
    let device = |name, space: &crate::lab::Space| -> Device {
        crate::devices::device(&world, name, space, "lan = \"never\"\n")
    };
    let (a, b) = (device("a", &at_a.space), device("b", &at_b.space));
    pair_at(&a, at_a.address, &b);
    share(&[&a, &b]);
    settle(&[&a, &b]);
    at_b.space.count();
    let Stretch { large, small, least } = stretch();

    let content = send(&a, "large", 1, large);
    until("the transfer begins", || (at_b.space.counted().0 > 100_000).then_some(()));
    let begun = Instant::now();
    arrives(&b, "large", &content, Duration::from_secs(120));
    let of_large = share_of_link(large, begun.elapsed());
    settle(&[&a, &b]);

    a.ok(&["device", "pause", b.name()]);
    let name = |at: u64| format!("small/{}/{at}", at % 20);
    (0..small).for_each(|at| a.put(name(at), noise(1000 + at, SMALL_LEN)));
    let published = || a.events("local_change").len() as u64 >= small.min(100);
    until("the files are looked at", || published().then_some(()));
    settle_alone(&a);
    let begun = Instant::now();
    a.ok(&["device", "resume", b.name()]);
    settle(&[&b]);
    let took = begun.elapsed();
    let of_small = share_of_link(small as usize * SMALL_LEN, took);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    println!(
        "{large} bytes: {:.0} % of {MBIT} Mbit/s; {small} files of {SMALL_LEN}: {took:.1?}, {:.0} %",
        of_large * 100.0,
        of_small * 100.0
    );
    assert!(of_large >= least.0, "a large file used {:.0} % of the link", of_large * 100.0);
    assert!(of_small >= least.1, "small files used {:.0} % of the link", of_small * 100.0);
}

fn settle_alone(device: &Device) {
    until("it has looked at all", || (device.folder()["state"] == "idle").then_some(()));
}

fn share_of_link(bytes: usize, took: Duration) -> f64 {
    bytes as f64 * 8.0 / took.as_secs_f64() / (MBIT * 1_000_000) as f64
}
