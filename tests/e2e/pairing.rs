//! Two devices become a pair, and the many ways in which they must not.

use crate::apart::meet;
use std::fs;
use std::process::{Command, Stdio};
use tests::harness::{Device, World, assert_same, pair, settle, share, skip, until};

/// Starts to show a code; the code, and the command that waits.
fn show(device: &Device, timeout_s: &str) -> (String, impl FnOnce() -> (i32, String)) {
    let mut showing = device.spawn(&["--json", "pair", "--yes", "--timeout", timeout_s]);
    let first = showing.json().expect("the code comes first");
    let code = first["code"].as_str().expect("the first line holds the code").to_owned();
    assert!(first["link"].as_str().is_some_and(|link| !link.is_empty()), "{first}");
    (code, move || showing.finish())
}

fn devices(device: &Device) -> Vec<String> {
    let list = device.json(&["device", "list"]);
    let devices = list["devices"].as_array().expect("a list of devices");
    devices.iter().map(|device| device["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_code_and_an_address_pair_two_devices_that_show_the_same_number() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    let mut showing = a.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    let mut typing = b.spawn(&["--json", "pair", &code, "--yes", "--address", &a.address()]);
    let numbers = [&mut showing, &mut typing].map(|talk| {
        let mut number = None;
        while let Some(line) = talk.json() {
            number = number.or_else(|| line["check"].as_str().map(str::to_owned));
        }
        number.expect("both sides show a check number")
    });
    assert_eq!(numbers[0], numbers[1]);
    assert!(numbers[0].len() == 6 && numbers[0].bytes().all(|byte| byte.is_ascii_digit()), "{numbers:?}");
    assert_eq!((showing.finish().0, typing.finish().0), (0, 0));
    for (device, peer) in [(&a, &b), (&b, &a)] {
        until("they connect", || device.is_connected_to(peer).then_some(()));
        let known = &device.json(&["device", "list"])["devices"][0];
        assert_eq!((&known["id"], &known["name"]), (&peer.json(&["id"])["id"], &peer.name().into()));
        assert_ne!(known["via"], "relay");
    }
}

#[test]
fn a_code_alone_pairs_two_devices_in_the_same_network() {
    let world = World::new();
    let [a, b] = ["a", "b"].map(|name| {
        let mut device = world.prepare(name, "");
        device.listen_at("127.0.0.1:0");
        device.start();
        device
    });
    let (code, finish) = show(&a, "60");
    b.ok(&["pair", &code, "--yes"]);
    assert_eq!(finish().0, 0);
    until("they connect", || a.is_connected_to(&b).then_some(()));
    assert_eq!(b.json(&["device", "list"])["devices"][0]["via"], "lan");
    a.put("f", "over the network");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}

/// Nobody tells `b` where `a` is now but `a` itself, on a session that it began.
#[test]
fn a_device_that_got_another_port_is_found_there_after_one_meeting() {
    let world = World::new();
    let (mut a, mut b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    meet(&a, &b);
    b.ok(&["device", "address", "a", &a.address()]);
    a.stop();
    let before = a.address();
    a.listen_at("127.0.0.1:0");
    a.start();
    assert_ne!(a.address(), before);
    meet(&b, &a);
    let learned = |device: &Device| fs::read(device.home().join("keys/pairings")).expect("the pairings");
    until("the address is kept", || String::from_utf8_lossy(&learned(&b)).contains(&a.address()).then_some(()));
    assert!(String::from_utf8_lossy(&learned(&b)).contains(&before), "what a person typed stays");
    for device in [&mut a, &mut b] {
        device.stop();
    }
    // From now on `a` would look for `b` in vain.
    b.listen_at("127.0.0.1:0");
    b.start();
    a.start();
    meet(&b, &a);
    let other = &b.json(&["device", "list"])["devices"][0];
    assert_eq!(other["address"], a.address(), "{other}");
}

#[test]
fn a_relay_brings_together_two_devices_that_cannot_reach_each_other() {
    let world = World::new();
    let mut relay = world.prepare("relay", "");
    let link = relay.serve_as_relay();
    let (a, b) = (world.device("a"), world.device("b"));
    for device in [&a, &b] {
        device.ok(&["config", "set", "relays", &link]);
    }
    let (code, finish) = show(&a, "60");
    let said = b.ok(&["pair", &code, "--yes"]);
    assert!(said.contains("(through a relay)"), "{said}");
    assert_eq!(finish().0, 0);
    a.put("d/f", "through a relay");
    b.put("g", "and back");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.json(&["device", "list"])["devices"][0]["via"], "relay");
    assert!(!relay.log().contains("through a relay"));
}

#[test]
fn a_wrong_code_pairs_nobody_and_says_so() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    let (code, finish) = show(&a, "8");
    let wrong = another_code(&code);
    let said = b.fails(1, &["pair", &wrong, "--yes", "--address", &a.address(), "--timeout", "3"]);
    assert!(said.contains("error: "), "{said}");
    let said = b.fails(1, &["pair", "not-a-code", "--yes", "--address", &a.address()]);
    assert!(said.contains("error: ") && said.contains("code"), "{said}");
    assert_eq!(finish().0, 1, "nobody came");
    assert!(devices(&a).is_empty() && devices(&b).is_empty());
}

/// A well-formed code that is not `code`: that of a third device would do as well, but needs one.
fn another_code(code: &str) -> String {
    let world = World::new();
    let other = world.device("other");
    let (another, _) = show(&other, "5");
    assert_ne!(another, code);
    another
}

#[test]
fn a_code_works_once() {
    let world = World::new();
    let (a, b, c) = (world.device("a"), world.device("b"), world.device("c"));
    let (code, finish) = show(&a, "60");
    b.ok(&["pair", &code, "--yes", "--address", &a.address()]);
    assert_eq!(finish().0, 0);
    let said = c.fails(1, &["pair", &code, "--yes", "--address", &a.address(), "--timeout", "3"]);
    assert!(said.contains("error: "), "{said}");
    assert_eq!(devices(&a), ["b"]);
    assert!(devices(&c).is_empty());
}

#[test]
fn a_code_expires() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    let (code, finish) = show(&a, "1");
    let (exit, said) = finish();
    assert_eq!(exit, 1);
    assert!(said.contains("error: "), "{said}");
    b.fails(1, &["pair", &code, "--yes", "--address", &a.address(), "--timeout", "2"]);
    assert!(devices(&a).is_empty() && devices(&b).is_empty());
}

#[test]
fn hanging_up_voids_the_code() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    let mut showing = a.spawn(&["--json", "pair", "--yes"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    drop(showing);
    // The daemon hears of it when the connection is gone; until then a new code may be refused, but never paired with.
    let (_, finish) = until("another code can be shown", || {
        let talk = a.ctl(&["--json", "pair", "--yes", "--timeout", "1"]);
        talk.out.contains("\"code\"").then(|| show(&a, "4"))
    });
    b.fails(1, &["pair", &code, "--yes", "--address", &a.address(), "--timeout", "2"]);
    assert_eq!(finish().0, 1);
    assert!(devices(&a).is_empty() && devices(&b).is_empty());
}

#[test]
fn without_a_terminal_both_sides_must_say_yes_beforehand() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    for said in [a.fails(2, &["pair"]), b.fails(2, &["pair", "1234", "--address", &a.address()])] {
        assert!(said.contains("no terminal") && said.contains("--yes"), "{said}");
    }
    assert!(devices(&a).is_empty() && devices(&b).is_empty());
}

#[test]
fn a_person_who_sees_another_number_says_no_and_nobody_is_paired() {
    let test = "a_person_who_sees_another_number_says_no_and_nobody_is_paired";
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip(test, "the tool `script`, which makes a terminal, is not here");
    }
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    let (code, finish) = show(&a, "20");
    let mut at_terminal = b.at_terminal(&["pair", &code, "--address", &a.address()]);
    at_terminal.hear("same number?");
    at_terminal.say("n\n");
    assert_eq!(at_terminal.finish().0, 1);
    let (exit, said) = finish();
    assert_eq!(exit, 1);
    assert!(said.contains("error: "), "{said}");
    assert!(devices(&a).is_empty() && devices(&b).is_empty());
}

#[test]
fn a_removed_device_is_cut_off_at_once() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    share(&[&a, &b]);
    a.put("before", "shared");
    settle(&[&a, &b]);
    let said = a.fails(2, &["device", "remove", "b"]);
    assert!(said.contains("--yes"), "{said}");
    a.ok(&["device", "remove", "b", "--yes"]);
    assert!(devices(&a).is_empty());
    until("the session ends", || (!b.is_connected_to(&a)).then_some(()));
    a.put("after", "not shared");
    b.put("theirs", "not shared");
    crate::apart::noticed(&a, "after", 1);
    crate::apart::noticed(&b, "theirs", 1);
    let waited = b.ctl(&["--json", "wait", "--timeout", "1"]);
    assert!(waited.code == 1 && waited.out.contains("no_peer"), "{waited:?}");
    assert!(b.get("after").is_none() && a.get("theirs").is_none());
    assert_eq!(b.get("before").as_deref(), Some(&b"shared"[..]), "what it has stays there");
}

#[test]
fn devices_are_renamed_and_found_by_the_new_name() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    assert_eq!(b.json(&["id", "--name", "laptop of Ada"])["name"], "laptop of Ada");
    a.ok(&["device", "rename", "b", "laptop"]);
    assert_eq!(devices(&a), ["laptop"]);
    a.ok(&["device", "pause", "laptop"]);
    until("the session ends", || (!b.is_connected_to(&a)).then_some(()));
    let said = a.fails(1, &["device", "pause", "b"]);
    assert!(said.contains("no paired device b") && said.contains("hint: "), "{said}");
}
