//! What a relay knows of those it brings together: neither its memory nor its log, at its most talkative, holds an id or
//! a key of theirs. What it does know of itself is found by the same search.

use crate::caller::identity;
use crate::memory::{Needle, held};
use protocol::wire::relay::RelayLink;
use std::collections::BTreeSet;
use tests::harness::{Device, World, assert_same, noise, settle, share, skip, until};

/// Half of what is 32 bytes long: a copy that was partly written over counts too.
const HALF: usize = 16;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whatever names a device, as text.
fn names(device: &Device) -> Vec<Needle> {
    let identity = identity(device);
    let (public, id) = (identity.public(), identity.id());
    let name = |what: &str| format!("{what} of {}", device.name());
    let mut names = vec![(name("id"), id.to_string().into_bytes()), (name("short id"), id.short().into_bytes())];
    for (what, bytes) in [("id", id.0), ("Ed25519 key", public.ed), ("X25519 key", public.x)] {
        names.push((name(&format!("{what} in hexadecimal")), hex(&bytes).into_bytes()));
    }
    names
}

/// The same, and its keys and id in bytes.
fn needles(device: &Device) -> Vec<Needle> {
    let identity = identity(device);
    let (public, id) = (identity.public(), identity.id());
    let mut needles = names(device);
    for (what, bytes) in [("id", id.0), ("Ed25519 key", public.ed), ("X25519 key", public.x)] {
        for (half, bytes) in bytes.chunks(HALF).enumerate() {
            needles.push((format!("half {half} of the {what} of {}", device.name()), bytes.to_vec()));
        }
    }
    needles
}

/// Two devices that meet through the relay alone, and have.
fn through(world: &World, link: &str) -> [Device; 2] {
    let devices = ["a", "b"].map(|name| world.device(name));
    devices.iter().for_each(|device| drop(device.ok(&["config", "set", "relays", link])));
    let [a, b] = &devices;
    let mut showing = a.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    b.ok(&["pair", &code, "--yes"]);
    assert_eq!(showing.finish().0, 0);
    devices
}

#[test]
fn a_relay_holds_no_id_and_no_key_of_those_it_brings_together() {
    let test = "a_relay_holds_no_id_and_no_key_of_those_it_brings_together";
    let world = World::new();
    let mut relay = world.prepare("relay", "");
    relay.run_under(&["env", "SYNCD_LOG=warn,syncd=trace"]);
    let link = relay.serve_as_relay();
    let own: RelayLink = link.parse().expect("a link");
    let known = ("its own access key".to_owned(), own.access_key.expose().to_vec());
    if held(relay.pid(), std::slice::from_ref(&known)).is_none() {
        return skip(test, "another process's memory is read by root only");
    }

    let [a, mut b] = through(&world, &link);
    let mut needles: Vec<Needle> = [&a, &b].into_iter().flat_map(needles).collect();
    needles.push(known.clone());
    let only_its_own = |when: &str| {
        let held = held(relay.pid(), &needles).expect("it was read before");
        assert_eq!(held, BTreeSet::from([known.0.clone()]), "{when}");
    };
    only_its_own("after a pairing");
    a.put("f", noise(1, 3_000_000));
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let via = b.json(&["device", "list"])["devices"][0]["via"].clone();
    assert_eq!(via, "relay");
    only_its_own("during a splice");
    b.stop();
    until("the splice is over", || (!a.is_connected_to(&b)).then_some(()));
    only_its_own("after a splice");

    let log = relay.log();
    assert!(log.contains(&link), "the log is where it prints its link");
    for (what, name) in [&a, &b].into_iter().flat_map(names) {
        let name = String::from_utf8(name).expect("text");
        assert!(!log.contains(&name), "the relay's log holds the {what}:\n{log}");
    }
}
