//! Two devices of one network, one of which loses it, changes its address or stands still in the middle of a transfer: it
//! goes on soon after, and nothing is lost or doubled.

use crate::devices::{PORT, arrives, moved, pair_at, send};
use crate::hub::{Hub, Wire};
use crate::is_long;
use crate::lab::{Space, Switch, is_possible};
use rustix::process::Signal;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tests::harness::{Device, World, assert_same, settle, share, within};

/// Counted from the moment when the network is back.
const RESUMES_WITHIN: Duration = Duration::from_secs(10);
/// As fast as the slower wireless networks are, so that a transfer lasts.
const WIRE: Wire = Wire::limited(2, 24);
/// What moves: some eleven seconds at this rate.
const LARGE: usize = 32 * 1024 * 1024;
/// What shows that a transfer runs: more than the requests and pings of one that does not.
const RUNS: u64 = 1024 * 1024;
const A: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 10);
const B: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 20);
const A_LATER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 98);
const B_LATER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 99);

/// A home network with two devices that hear each other's announcements.
struct Network {
    a: Device,
    b: Device,
    _world: World,
    at_a: Space,
    at_b: Space,
    _wires: [Option<Hub>; 2],
    _switch: Switch,
}

impl Network {
    fn new(test: &str) -> Option<Self> {
        if !is_possible(test) {
            return None;
        }
        let (switch, at_a, at_b) = (Switch::new("home"), Space::new("a"), Space::new("b"));
        let wires = [
            switch.plug(&at_a, "lan", &format!("{A}/24"), Some(WIRE)),
            switch.plug(&at_b, "lan", &format!("{B}/24"), None),
        ];
        let world = World::new();
        let device = |name, space: &Space| {
            let mut device = world.prepare(name, "");
            device.run_under(&space.under());
            device.listen_at(&format!("0.0.0.0:{PORT}"));
            device.start();
            device
        };
        let (a, b) = (device("a", &at_a), device("b", &at_b));
        pair_at(&a, A, &b);
        share(&[&a, &b]);
        settle(&[&a, &b]);
        at_b.count();
        Some(Self { a, b, _world: world, at_a, at_b, _wires: wires, _switch: switch })
    }

    /// `change` happens while `a` sends a large file to `b`, and ends when the network is as good as before.
    fn check(&self, what: &str, change: impl FnOnce(&Self)) {
        let content = send(&self.a, "large", 7, LARGE);
        assert!(moved(&self.at_b, 2 * RUNS, Duration::from_secs(60)).is_some(), "the transfer does not begin");
        change(self);
        let back = Instant::now();
        let resumed = moved(&self.at_b, RUNS, 6 * RESUMES_WITHIN);
        let resumed = resumed.expect("the transfer goes on");
        assert!(self.b.get("large").is_none(), "the transfer was over before it could be disturbed");
        arrives(&self.b, "large", &content, Duration::from_secs(120));
        let all = back.elapsed();
        settle(&[&self.a, &self.b]);
        assert_same(&[&self.a, &self.b], 0);
        let repeated = self.at_b.counted().0.saturating_sub(LARGE as u64) >> 10;
        println!("{what}: resumed after {resumed:.1?}, whole after {all:.1?}; {repeated} KiB beyond the file");
        assert!(resumed <= RESUMES_WITHIN, "the transfer went on only {resumed:.1?} after the network was back");
    }
}

/// Looks at the clock until so much time has passed.
fn pass(time: Duration) {
    let nothing: Option<()> = within(time, || None);
    assert!(nothing.is_none());
}

#[test]
fn a_transfer_goes_on_when_the_receiver_gets_another_address() {
    let Some(network) = Network::new("a_transfer_goes_on_when_the_receiver_gets_another_address") else { return };
    network.check("the receiver moves", |network| change_address(&network.at_b, B, B_LATER));
}

#[test]
fn a_transfer_goes_on_when_the_sender_gets_another_address() {
    let Some(network) = Network::new("a_transfer_goes_on_when_the_sender_gets_another_address") else { return };
    network.check("the sender moves", |network| change_address(&network.at_a, A, A_LATER));
}

fn change_address(space: &Space, from: Ipv4Addr, to: Ipv4Addr) {
    space.ip(&format!("address del {from}/24 dev lan"));
    space.ip(&format!("address add {to}/24 dev lan"));
}

#[test]
fn a_transfer_goes_on_when_the_network_is_back_after_5_s() {
    let Some(network) = Network::new("a_transfer_goes_on_when_the_network_is_back_after_5_s") else { return };
    network.check("no network for 5 s", |network| {
        network.at_b.ip("link set lan down");
        pass(Duration::from_secs(5));
        network.at_b.ip("link set lan up");
    });
}

#[test]
fn a_transfer_goes_on_when_the_receiver_stood_still() {
    let Some(network) = Network::new("a_transfer_goes_on_when_the_receiver_stood_still") else { return };
    network.check("the receiver stands still", |network| stand_still(&network.b));
}

#[test]
fn a_transfer_goes_on_when_the_sender_stood_still() {
    let Some(network) = Network::new("a_transfer_goes_on_when_the_sender_stood_still") else { return };
    network.check("the sender stands still", |network| stand_still(&network.a));
}

/// As a machine that sleeps with its network up: 20 s, or a minute in the long form.
fn stand_still(device: &Device) {
    device.signal(Signal::STOP);
    pass(Duration::from_secs(if is_long() { 60 } else { 20 }));
    device.signal(Signal::CONT);
}
