//! Two devices that only a relay brings together: how fast it is, and what happens when it is gone.

use crate::devices::{
    Relay, are_connected, arrives, by_relay, device, moved, pace, pair_by_link, send, share_something,
};
use crate::hub::Wire;
use crate::is_long;
use crate::lab::{Home, Lab};
use crate::nat::{Kind, Nat};
use std::time::{Duration, Instant};
use tests::harness::{Device, World, assert_same, settle};

/// Two devices behind routers that let nobody in.
fn pair(world: &World, homes: [&Home; 2], links: &[&str]) -> [Device; 2] {
    let settings = by_relay(links);
    let [a, b] = [("a", homes[0]), ("b", homes[1])].map(|(name, home)| device(world, name, &home.host, &settings));
    pair_by_link(&a, &b);
    share_something(&a, &b);
    assert!(are_connected(&a, &b, "relay"));
    [a, b]
}

#[test]
fn a_relay_that_dies_in_a_transfer_is_replaced_by_the_next() {
    const LARGE: usize = 24 * 1024 * 1024;
    let Some(lab) = Lab::new("a_relay_that_dies_in_a_transfer_is_replaced_by_the_next") else { return };
    let world = World::new();
    let homes = ["a", "b"].map(|role| lab.home(role, Nat::silent(Kind::Symmetric), Some(Wire::limited(5, 24))));
    let mut relays = ["one", "two"].map(|name| Relay::start(&world, name, lab.site(name, None)));
    let links = relays.each_ref().map(|relay| relay.link.clone());
    let [a, b] = pair(&world, homes.each_ref(), &links.each_ref().map(String::as_str));
    homes[1].host.count();
    let before = relays.each_ref().map(Relay::carried);
    let content = send(&a, "large", 3, LARGE);
    assert!(moved(&homes[1].host, 4 << 20, Duration::from_secs(60)).is_some(), "the transfer does not begin");
    let carried = [0, 1].map(|at| relays[at].carried() - before[at]);
    let used = usize::from(carried[1] > carried[0]);
    relays[used].device.kill();
    let died = Instant::now();
    let resumed = moved(&homes[1].host, 1 << 20, Duration::from_secs(60)).expect("the transfer goes on");
    assert!(b.get("large").is_none(), "the transfer was over before the relay died");
    arrives(&b, "large", &content, Duration::from_secs(60));
    let all = died.elapsed();
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let other = relays[1 - used].carried() - before[1 - used];
    assert!(other > 1 << 20, "only {other} bytes went through the relay that is left");
    println!("through the other relay after {resumed:.1?}, whole after {all:.1?}");
}

/// The slower of two links is what counts, and a relay between them costs little of it.
#[test]
fn through_a_relay_files_move_as_fast_as_the_slower_link() {
    const MBIT: [u64; 2] = [40, 20];
    // On a machine that does nothing else; beside other tests the relay itself waits for its turn.
    let least = if is_long() { 0.9 } else { 0.8 };
    const LARGE: usize = 24 * 1024 * 1024;
    let Some(lab) = Lab::new("through_a_relay_files_move_as_fast_as_the_slower_link") else { return };
    let world = World::new();
    let home = |role, mbit| lab.home(role, Nat::silent(Kind::Symmetric), Some(Wire::limited(10, mbit)));
    let homes = [home("a", MBIT[0]), home("b", MBIT[1])];
    let relay = Relay::start(&world, "relay", lab.site("relay", None));
    let [a, b] = pair(&world, homes.each_ref(), &[&relay.link]);
    for (from, to, seed) in [(&a, &b, 1), (&b, &a, 2)] {
        let (name, before) = (format!("from {}", from.name()), to.traffic().0);
        let content = send(from, &name, seed, LARGE);
        let rate = pace(to, before, LARGE, Duration::from_secs(60)) / 1e6;
        arrives(to, &name, &content, Duration::from_secs(60));
        println!("{name}: {rate:.1} Mbit/s of {}", MBIT[1]);
        assert!(rate >= least * MBIT[1] as f64, "{name}: {rate:.1} Mbit/s where the slower link has {}", MBIT[1]);
    }
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}

/// Two machines with one key behind one name, which the two devices look up in opposite orders.
#[test]
fn both_come_to_the_same_machine_of_those_behind_a_name() {
    const NAME: &str = "relays.example";
    let Some(lab) = Lab::new("both_come_to_the_same_machine_of_those_behind_a_name") else { return };
    let world = World::new();
    let homes = ["a", "b"].map(|role| lab.home(role, Nat::silent(Kind::Symmetric), None));
    let first = Relay::start(&world, "one", lab.site("one", None));
    let keys = std::fs::read(first.device.home().join("keys/relay")).expect("a relay has keys");
    let second = Relay::start_with(&world, "two", lab.site("two", None), &keys);
    let addresses = [first.site.address, second.site.address];
    for (home, order) in homes.iter().zip([[0, 1], [1, 0]]) {
        let line = |at: usize| format!("{} {NAME}\n", addresses[at]);
        home.host.names(&order.map(line).concat());
    }
    let link = first.link.replace(&addresses[0].to_string(), NAME);
    let [a, b] = pair(&world, homes.each_ref(), &[&link]);
    let mut relays = [first, second];
    let before = relays.each_ref().map(Relay::carried);
    let content = send(&a, "large", 3, 4 << 20);
    arrives(&b, "large", &content, Duration::from_secs(60));
    let used = usize::from(relays[1].carried() - before[1] > relays[0].carried() - before[0]);
    relays[used].device.kill();
    let other = relays[1 - used].carried();
    let content = send(&a, "more", 4, 4 << 20);
    arrives(&b, "more", &content, Duration::from_secs(90));
    assert!(relays[1 - used].carried() - other > 4 << 20, "the machine that is left carried it");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}
