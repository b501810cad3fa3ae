//! With the help of strangers, once a person switched that on: two devices behind routers find each other in a public table,
//! without any relay.

use crate::devices::{Relay, are_connected, arrives, by_relay, device, pair_by_link, send, share_something, via};
use crate::is_long;
use crate::lab::{Lab, Site};
use crate::nat::{Kind, Nat, Strays};
use mainline::Testnet;
use std::time::{Duration, Instant};
use tests::harness::{Device, World, assert_same, settle, within};

/// Nodes of the table.
const NODES: usize = 20;
/// Two looks at the table, and one or two of the moments that both clocks agree on.
const MEETS_WITHIN: Duration = Duration::from_secs(120);
/// Without help nothing happens for so long.
const ALONE: Duration = Duration::from_secs(8);

/// A table of strangers at a public address.
struct Table {
    site: Site,
    nodes: Testnet,
}

impl Table {
    fn start(lab: &Lab) -> Self {
        let site = lab.site("table", None);
        let address = site.address;
        let nodes = site.space.inside(|| Testnet::builder(NODES).bind_address(address).build());
        Self { site, nodes: nodes.expect("twenty sockets") }
    }

    fn entrances(&self) -> String {
        self.nodes.bootstrap[..4].join(",")
    }
}

/// No relay from now on.
fn forget_relays(devices: [&mut Device; 2], table: &Table) {
    for device in devices {
        device.ok(&["config", "set", "relays", ""]);
        device.ok(&["config", "set", "internet_nodes", &table.entrances()]);
        device.stop();
        device.start();
    }
}

fn check(test: &str, a: Nat, b: Nat) {
    let Some(lab) = Lab::new(test) else { return };
    let (world, table) = (World::new(), Table::start(&lab));
    let relay = Relay::start(&world, "relay", lab.site("relay", None));
    let (home_a, home_b) = (lab.home("a", a, None), lab.home("b", b, None));
    // So that neither knows where the other is when the relay is gone.
    home_a.router.space.wall(home_b.router.address);
    let settings = by_relay(&[&relay.link]);
    let mut a = device(&world, "a", &home_a.host, &settings);
    let mut b = device(&world, "b", &home_b.host, &settings);
    pair_by_link(&a, &b);
    share_something(&a, &b);
    drop(relay);
    forget_relays([&mut a, &mut b], &table);
    home_a.router.space.open();
    table.site.space.count();
    let met = within(ALONE, || via(&a).or(via(&b)));
    assert_eq!((met, table.site.space.counted().0), (None, 0), "nobody helps before the switch is thrown");
    let begun = Instant::now();
    for device in [&a, &b] {
        device.ok(&["net", "internet", "on"]);
    }
    let direct = within(MEETS_WITHIN, || are_connected(&a, &b, "direct").then(|| begun.elapsed()));
    let words = || format!("a: {}\nb: {}", a.ok(&["net"]), b.ok(&["net"]));
    let Some(took) = direct else { panic!("the two do not meet:\n{}", words()) };
    let content = send(&a, "large", 3, 3_000_000);
    arrives(&b, "large", &content, Duration::from_secs(60));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    println!("{test}: met after {took:.1?}");
    // The table hears no more from devices that are connected.
    let before = table.site.space.counted().0;
    let asked = within(ALONE, || (table.site.space.counted().0 > before + 4096).then_some(()));
    assert!(asked.is_none(), "connected, and the table is still asked");
    for device in [&a, &b] {
        device.ok(&["net", "internet", "off"]);
    }
}

#[test]
fn two_devices_behind_cone_routers_meet_without_any_relay() {
    let [a, b] = [Kind::FullCone, Kind::PortRestricted].map(Nat::silent);
    check("two_devices_behind_cone_routers_meet_without_any_relay", a, b);
}

#[test]
fn two_devices_behind_strict_routers_meet_by_the_clock() {
    let strict = Nat::silent(Kind::PortRestricted);
    check("two_devices_behind_strict_routers_meet_by_the_clock", strict, strict);
}

/// A refusal that comes before the other end has dialled is made good by the next try of the same moment.
#[test]
fn two_devices_behind_routers_that_refuse_meet_by_the_clock() {
    if !is_long() {
        return eprintln!("two_devices_behind_routers_that_refuse_meet_by_the_clock: only with SYNCD_REACH=long");
    }
    let refusing = Nat { kind: Kind::PortRestricted, strays: Strays::Refused };
    check("two_devices_behind_routers_that_refuse_meet_by_the_clock", refusing, refusing);
}
