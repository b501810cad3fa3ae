//! A device that the others can reach is a relay for them at the port it listens on: for those of its realm, and for nobody
//! else.

use crate::devices::{PORT, arrives, device, pair_at, send};
use crate::lab::{Lab, Site};
use crate::nat::{Kind, Nat};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tests::harness::{Device, World, assert_same, noise, settle, share, until, within};

/// Without a relay two devices behind such routers do not meet for so long.
const ALONE: Duration = Duration::from_secs(8);
/// Connections of strangers, and how long each listens.
const STRANGERS: u64 = 12;
const LISTENS: Duration = Duration::from_millis(400);

/// How a device is connected to another; `None`: not at all.
fn way(device: &Device, other: &Device) -> Option<String> {
    let list = device.json(&["device", "list"]);
    let all = list["devices"].as_array().expect("a list");
    let found = all.iter().find(|listed| listed["name"] == other.name())?;
    (found["connected"] == true).then(|| found["via"].as_str().expect("a connection has a way").to_owned())
}

fn meet_by_relay(a: &Device, b: &Device) {
    until("the two meet through the third", || {
        [way(a, b), way(b, a)].iter().all(|way| way.as_deref() == Some("relay")).then_some(())
    });
}

fn are_apart(a: &Device, b: &Device, why: &str) {
    let met = within(ALONE, || way(a, b).or_else(|| way(b, a)));
    assert_eq!(met, None, "{why}");
}

/// What strangers say to a port comes to nothing: not one byte is answered.
fn is_silent(port_of: &Site, from: &Site) {
    let answered: usize = from.space.inside(|| {
        let talk = |seed| {
            let mut stream = TcpStream::connect((port_of.address, PORT)).expect("the port is open");
            stream.set_read_timeout(Some(LISTENS)).expect("a time");
            // As long as a relay's client, and as a device.
            let words = noise(seed, if seed % 2 == 0 { 168 } else { 1292 });
            // One that hangs up answers nothing either.
            let _ = stream.write_all(&words);
            stream.read(&mut [0; 64]).unwrap_or(0)
        };
        (0..STRANGERS).map(talk).sum()
    });
    assert_eq!(answered, 0, "a stranger got an answer");
}

#[test]
fn a_device_within_reach_is_a_relay_for_its_realm_alone() {
    let Some(lab) = Lab::new("a_device_within_reach_is_a_relay_for_its_realm_alone") else { return };
    let world = World::new();
    let (server, elsewhere) = (lab.site("c", None), lab.site("elsewhere", None));
    let homes = ["a", "b"].map(|role| lab.home(role, Nat::silent(Kind::Symmetric), None));
    let mut c = device(&world, "c", &server.space, "lan = \"never\"\n");
    let [a, b] =
        [("a", &homes[0]), ("b", &homes[1])].map(|(name, home)| device(&world, name, &home.host, "lan = \"never\"\n"));
    // Before there is anybody to serve: those that are paired later come to know of it at once.
    c.ok(&["net", "relay", "on"]);
    for other in [&a, &b] {
        pair_at(&c, server.address, other);
    }
    until("all know each other", || {
        let knows =
            |one: &Device| one.json(&["device", "list"])["devices"].as_array().is_some_and(|all| all.len() == 2);
        [&a, &b, &c].iter().all(|one| knows(one)).then_some(())
    });
    meet_by_relay(&a, &b);
    assert!(c.json(&["net"])["relaying"] == true);
    assert_eq!(a.json(&["net"])["relays"], serde_json::json!(["c (your device)"]));
    share(&[&a, &b]);
    let content = send(&a, "large", 3, 3_000_000);
    arrives(&b, "large", &content, Duration::from_secs(60));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    is_silent(&server, &elsewhere);

    // It is there again after a restart, and gone when it is switched off.
    c.stop();
    until("what the third passed on is over", || way(&a, &b).is_none().then_some(()));
    c.start();
    meet_by_relay(&a, &b);
    c.ok(&["net", "relay", "off"]);
    until("what the third passed on is over", || way(&a, &b).is_none().then_some(()));
    are_apart(&a, &b, "the third passes nothing on any more");
    is_silent(&server, &elsewhere);
    c.ok(&["net", "relay", "on"]);
    meet_by_relay(&a, &b);

    // Whoever is removed gets in nowhere: the keys are those of the realm without it.
    c.ok(&["device", "remove", "b", "--yes"]);
    until("the removed device is cut off", || way(&a, &b).is_none().then_some(()));
    are_apart(&b, &a, "it was removed");
    assert_eq!((way(&b, &c), way(&a, &c).as_deref()), (None, Some("direct")));
}
