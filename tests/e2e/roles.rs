//! What a device may do among one person's devices: one that only reads changes nothing anywhere else.

use crate::apart::meet;
use std::fs;
use tests::harness::{Device, FOLDER, World, assert_same, join, pair, pair_as, settle, share, until};

fn role_of(device: &Device, peer: &Device) -> String {
    let devices = device.json(&["device", "list"])["devices"].clone();
    let found = devices.as_array().expect("a list").iter().find(|listed| listed["name"] == peer.name()).cloned();
    found.map_or_else(String::new, |listed| listed["role"].as_str().unwrap_or_default().to_owned())
}

fn differences(device: &Device) -> u64 {
    device.folder()["differences"].as_u64().expect("a number")
}

/// A founder, a device with all rights, and one with `role`, each connected to the others and in the folder.
fn three(world: &World, role: &[&str]) -> [Device; 3] {
    let [a, b, c] = ["a", "b", "c"].map(|name| world.device(name));
    pair(&a, &b);
    pair_as(&a, &c, role);
    meet(&a, &b);
    meet(&a, &c);
    a.put("f", "of a");
    a.put("d/g", "of a");
    a.put("h", "of a");
    share(&[&a, &b]);
    join(&c);
    settle(&[&a, &b]);
    settle(&[&a, &c]);
    assert_same(&[&a, &b, &c], 0);
    [a, b, c]
}

#[test]
fn what_a_reader_changes_reaches_nobody_and_comes_back() {
    let world = World::new();
    let [a, b, c] = three(&world, &["--role", "reader"]);
    until("all know its role", || ([&a, &b].map(|device| role_of(device, &c)) == ["reader", "reader"]).then_some(()));
    assert_eq!(
        (c.json(&["realm", "show"])["role"].as_str(), c.folder()["mode"].as_str()),
        (Some("reader"), Some("receive-only"))
    );
    c.put("f", "of c");
    c.put("new", "of c");
    fs::remove_file(c.at("h")).expect("gone");
    until("it counts its own changes", || (differences(&c) == 3).then_some(()));
    // What others do still comes, and passes what it did by.
    b.put("d/g", "later of b");
    until("a change of a writer comes", || (c.get("d/g").as_deref() == Some(b"later of b")).then_some(()));
    settle(&[&a, &b]);
    for device in [&a, &b] {
        assert_eq!(device.get("f").as_deref(), Some(&b"of a"[..]));
        assert!(device.get("new").is_none() && device.get("h").is_some(), "on {}", device.name());
    }
    let shown = c.ok(&["status"]);
    assert!(shown.contains("3 changes"), "{shown}");
    c.ok(&["folder", "revert", FOLDER]);
    until("theirs comes back", || (differences(&c) == 0).then_some(()));
    settle(&[&c, &a]);
    assert_same(&[&a, &b, &c], 0);
    let path = c.at("new");
    let versions = c.json(&["versions", path.to_str().expect("text")]);
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(1), "what was reverted is kept");
    // It neither shares nor adds anything.
    let elsewhere = c.home().with_file_name("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    let said = c.fails(1, &["folder", "add", elsewhere.to_str().expect("text")]);
    assert!(said.contains("only reads"), "{said}");
    let said = c.fails(1, &["pair", "--yes"]);
    assert!(said.contains("may not add devices"), "{said}");
}

#[test]
fn what_a_device_did_before_it_heard_that_it_only_reads_is_refused() {
    let world = World::new();
    let [a, b, mut c] = three(&world, &["--no-admin"]);
    until("all know its role", || ([&a, &b].map(|device| role_of(device, &c)) == ["full", "full"]).then_some(()));
    c.put("h", "a writer's");
    settle(&[&c, &a]);
    settle(&[&a, &b]);
    assert_eq!(b.get("h").as_deref(), Some(&b"a writer's"[..]));
    c.stop();
    let said = a.ok(&["device", "role", "c", "reader"]);
    assert!(said.contains("only reads"), "{said}");
    until("b has heard", || (role_of(&b, &c) == "reader").then_some(()));
    // It starts where nobody is, and records what its user does.
    for device in [&a, &b] {
        device.ok(&["device", "pause", "c"]);
    }
    c.start();
    c.put("f", "of c");
    c.put("new", "of c");
    until("it is recorded as a writer's", || (c.folder()["state"] == "idle" && differences(&c) == 0).then_some(()));
    c.ok(&["folder", "rescan", FOLDER]);
    until("all of it", || (c.folder()["local"]["files"] == 4).then_some(()));
    for device in [&a, &b] {
        device.ok(&["device", "resume", "c"]);
    }
    until("it hears that it only reads", || (c.folder()["mode"] == "receive-only").then_some(()));
    meet(&a, &c);
    a.put("d/g", "later of a");
    until("a change of a writer comes", || (c.get("d/g").as_deref() == Some(b"later of a")).then_some(()));
    settle(&[&a, &b]);
    for device in [&a, &b] {
        assert_eq!(device.get("f").as_deref(), Some(&b"of a"[..]));
        assert!(device.get("new").is_none(), "on {}", device.name());
    }
    c.ok(&["folder", "revert", FOLDER]);
    until("theirs comes back", || {
        (c.get("f").as_deref() == Some(b"of a") && c.get("new").is_none() && differences(&c) == 0).then_some(())
    });
    settle(&[&c, &a]);
    assert_same(&[&a, &b, &c], 0);
    // A writer again, what it does counts again.
    a.ok(&["device", "role", "c", "full"]);
    until("it writes", || (c.folder()["mode"] == "send-receive").then_some(()));
    c.put("f", "of c, a writer");
    until("it reaches the others", || (b.get("f").as_deref() == Some(b"of c, a writer")).then_some(()));
    // Nobody gives itself more than it has, nor more to whoever was there before.
    assert!(c.fails(1, &["device", "role", "a", "reader"]).contains("admin"));
    assert!(b.fails(1, &["device", "role", "a", "reader"]).contains("older"));
}
