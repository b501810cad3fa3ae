//! Beacons in the local network: by IPv6 alone, on each of several networks, and what repeats and floods of them do.

use crate::devices::{PORT, are_connected, device, pair_at};
use crate::is_long;
use crate::lab::{Space, Switch, is_possible};
use protocol::wire::beacon::{GROUP_V4, PORT as BEACON_PORT};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::harness::{Device, World, until, within};

const SETTINGS: &str = "lan = \"always\"\n";
/// Two devices of one network meet within it.
const MEETS: Duration = Duration::from_secs(15);
/// Between two datagrams of a flood: so many a second are not looked at.
const FLOOD: Duration = Duration::from_micros(500);

/// A device on several networks, listening on both families.
fn on(world: &World, name: &str, space: &Space) -> Device {
    let mut device = world.prepare(name, SETTINGS);
    device.run_under(&space.under());
    device.listen_at(&format!("[::]:{PORT}"));
    device.start();
    device
}

/// Forgets where the others were met: only beacons are left to find them by.
fn forget_addresses(device: &Device, other: &str) {
    // An address that nobody has takes the place of all that was learned.
    device.ok(&["device", "address", other, "192.0.2.1:9"]);
}

fn meet(a: &Device, b: &Device) -> Duration {
    let begun = Instant::now();
    let met = within(MEETS, || are_connected(a, b, "lan").then(|| begun.elapsed()));
    met.unwrap_or_else(|| panic!("the two do not hear each other:\na: {}\nb: {}", a.ok(&["net"]), b.ok(&["net"])))
}

#[test]
fn devices_hear_each_other_by_ipv6_alone_and_on_the_second_network() {
    if !is_possible("devices_hear_each_other_by_ipv6_alone_and_on_the_second_network") {
        return;
    }
    let world = World::new();
    let (first, second) = (Switch::new("first"), Switch::new("second"));
    let (near_a, near_b) = (Space::new("a"), Space::new("b"));
    // a is on two networks, b on the second one only.
    let _ = first.plug(&near_a, "lan0", "192.168.1.1/24", None);
    let _ = second.plug(&near_a, "lan1", "192.168.2.1/24", None);
    let _ = second.plug(&near_b, "lan0", "192.168.2.2/24", None);
    let (mut a, mut b) = (on(&world, "a", &near_a), on(&world, "b", &near_b));
    pair_at(&a, Ipv4Addr::new(192, 168, 2, 1), &b);
    meet(&a, &b);
    for device in [&mut a, &mut b] {
        device.stop();
    }
    for (space, interface) in [(&near_a, "lan0"), (&near_a, "lan1"), (&near_b, "lan0")] {
        space.ip(&format!("-4 address flush dev {interface}"));
    }
    for device in [&mut a, &mut b] {
        device.start();
    }
    forget_addresses(&a, "b");
    forget_addresses(&b, "a");
    for device in [&mut a, &mut b] {
        device.stop();
        device.start();
    }
    let took = meet(&a, &b);
    println!("without any IPv4: met after {took:.1?}");
}

/// Datagrams of the group that a listener in `space` hears until `until` says so.
fn overheard(space: &Space, until: impl Fn() -> bool + Send + Sync) -> Vec<Vec<u8>> {
    space.inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, BEACON_PORT)).expect("the port is free");
        socket.join_multicast_v4(&GROUP_V4, &Ipv4Addr::UNSPECIFIED).expect("there is a network");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
        let (mut heard, mut buffer) = (Vec::new(), [0; 2048]);
        while !until() {
            if let Ok((len, _)) = socket.recv_from(&mut buffer) {
                heard.push(buffer[..len].to_vec());
            }
        }
        heard
    })
}

#[test]
fn a_repeated_beacon_leads_nowhere_and_a_flood_of_them_keeps_nobody_apart() {
    if !is_possible("a_repeated_beacon_leads_nowhere_and_a_flood_of_them_keeps_nobody_apart") {
        return;
    }
    let world = World::new();
    let lan = Switch::new("lan");
    let [near_a, near_b, thief] = ["a", "b", "thief"].map(Space::new);
    for (space, number) in [(&near_a, 1), (&near_b, 2), (&thief, 3)] {
        let _ = lan.plug(space, "lan0", &format!("192.168.7.{number}/24"), None);
        space.ip("route add 224.0.0.0/4 dev lan0");
    }
    let (mut a, mut b) = (device(&world, "a", &near_a, SETTINGS), device(&world, "b", &near_b, SETTINGS));
    pair_at(&a, Ipv4Addr::new(192, 168, 7, 1), &b);
    meet(&a, &b);

    // Connected, both are silent; once one is gone, the other calls for it.
    let quiet = Duration::from_secs(if is_long() { 150 } else { 8 });
    let begun = Instant::now();
    assert_eq!(overheard(&thief, || begun.elapsed() > quiet).len(), 0, "beacons while everybody is connected");
    b.stop();
    let begun = Instant::now();
    let beacons = overheard(&thief, || begun.elapsed() > Duration::from_secs(5));
    assert!((1..=4).contains(&beacons.len()), "{} beacons within 5 s", beacons.len());

    // b looks for a, hears a's beacons from another host, and calls nobody there.
    a.stop();
    b.start();
    forget_addresses(&b, "a");
    let called = thief.inside(|| {
        let caught = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("the port is free");
        caught.set_nonblocking(true).expect("a socket");
        let socket = UdpSocket::bind((Ipv4Addr::new(192, 168, 7, 3), 0)).expect("a socket");
        let repeats = || {
            for beacon in &beacons {
                socket.send_to(beacon, (GROUP_V4, BEACON_PORT)).expect("the network is there");
            }
            caught.accept().ok()
        };
        within(Duration::from_secs(4), repeats).map(|(_, from): (_, SocketAddr)| from)
    });
    assert_eq!(called, None, "a repeated beacon made a device call whoever repeated it");

    // Beacons of nobody by the thousand, from one host: the true ones are still heard.
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            thief.inside(|| {
                let socket = UdpSocket::bind((Ipv4Addr::new(192, 168, 7, 3), 0)).expect("a socket");
                let mut sent = 0_u64;
                let begun = Instant::now();
                while !over.load(Ordering::Relaxed) && begun.elapsed() < 2 * MEETS {
                    let ahead = begun + FLOOD * u32::try_from(sent).expect("a short flood");
                    if ahead > Instant::now() {
                        std::thread::yield_now();
                        continue;
                    }
                    sent += 1;
                    let beacon = &beacons[usize::try_from(sent).expect("a count") % beacons.len()];
                    // The queue of an interface may be full.
                    let _ = socket.send_to(beacon, (GROUP_V4, BEACON_PORT));
                }
            });
        });
        a.start();
        let met = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meet(&a, &b)));
        over.store(true, Ordering::Relaxed);
        println!("under a flood: met after {:.1?}", met.expect("the two meet"));
    });
    until("both are calm", || are_connected(&a, &b, "lan").then_some(()));
}
