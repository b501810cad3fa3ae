//! A session begins at a relay because the direct way is blocked; when it opens in the middle of a transfer, the rest goes
//! there.

use crate::devices::{Relay, are_connected, arrives, by_relay, device, moved, pair_by_link, send, share_something};
use crate::hub::Wire;
use crate::is_long;
use crate::lab::Lab;
use crate::nat::{Kind, Nat};
use std::time::{Duration, Instant};
use tests::harness::{World, assert_same, settle, within};

/// A relay is slower than the direct way is, so that the transfer still runs when that opens.
const RELAY_WIRE: Wire = Wire::limited(10, 16);
const HOME_WIRE: Wire = Wire::limited(10, 100);
/// The relay carries no more content so soon after the direct way opened.
const MOVES_WITHIN: Duration = Duration::from_secs(60);
/// Bytes that a device asks for before it has any.
const WINDOW: u64 = 16 << 20;
/// How long the direct way stays blocked in the long form.
const LONG_BLOCKED: Duration = Duration::from_secs(140);
/// Bytes that a relay carries in a second without a transfer: less than pings and searches are.
const QUIET: u64 = 64 * 1024;

#[test]
fn a_transfer_leaves_the_relay_when_the_direct_way_opens() {
    let large = if is_long() { 512 << 20 } else { 128 << 20 };
    let Some(lab) = Lab::new("a_transfer_leaves_the_relay_when_the_direct_way_opens") else { return };
    let world = World::new();
    let relay = Relay::start(&world, "relay", lab.site("relay", Some(RELAY_WIRE)));
    let (server, home) = (lab.site("a", None), lab.home("b", Nat::silent(Kind::PortRestricted), Some(HOME_WIRE)));
    home.router.space.wall(server.address);
    let settings = by_relay(&[&relay.link]);
    let (a, b) = (device(&world, "a", &server.space, &settings), device(&world, "b", &home.host, &settings));
    pair_by_link(&a, &b);
    share_something(&a, &b);
    assert!(are_connected(&a, &b, "relay"));
    home.host.count();
    let before = (a.traffic().1, b.traffic().0);
    let content = send(&a, "large", 5, large);
    assert!(moved(&home.host, 8 << 20, Duration::from_secs(60)).is_some(), "the transfer does not begin");
    if is_long() {
        // By now the devices look for each other at long intervals.
        let nothing: Option<()> = within(LONG_BLOCKED, || None);
        assert!(nothing.is_none());
    }
    home.router.space.open();
    let opened = Instant::now();
    let carried = relay.carried();
    let direct = within(MOVES_WITHIN, || are_connected(&a, &b, "direct").then(|| opened.elapsed()));
    let direct = direct.expect("the devices meet directly once they can");
    let at_switch = relay.carried();
    // What is under way at the relay still arrives.
    let quiet =
        within(MOVES_WITHIN, || moved(&relay.site.space, QUIET, Duration::from_secs(2)).is_none().then_some(()));
    assert!(quiet.is_some(), "the relay still carries content");
    assert!(b.get("large").is_none(), "the transfer was over before it could move");
    arrives(&b, "large", &content, Duration::from_secs(if is_long() { 400 } else { 120 }));
    let whole = opened.elapsed();
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let after = relay.carried() - at_switch;
    let moved = [a.traffic().1 - before.0, b.traffic().0 - before.1].map(|bytes| bytes >> 20);
    println!(
        "direct after {direct:.1?}, whole after {whole:.1?}; the relay carried {} MiB meanwhile and {} KiB afterwards; \
         sent {} MiB, received {} MiB of {}",
        (at_switch - carried) >> 20,
        after >> 10,
        moved[0],
        moved[1],
        large >> 20
    );
    assert!(after < WINDOW, "the relay carried {after} bytes after the devices met directly");
    let most = (large + (large / 20) + (16 << 20)) as u64 >> 20;
    assert!(moved.iter().all(|bytes| *bytes <= most), "{moved:?} MiB moved for a file of {} MiB", large >> 20);
}
