//! Folders in one direction.

use std::fs;
use tests::harness::{Device, FOLDER, World, assert_same, differences, pair, settle, until};

/// `a` sends only or `b` receives only.
fn one_way(world: &World, a_mode: &str, b_mode: &str) -> (Device, Device) {
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    a.put("f", "of a");
    a.put("d/g", "of a");
    a.put("h", "of a");
    a.ok(&["folder", "add", a.root(), "--name", FOLDER, "--mode", a_mode]);
    until("the folder is offered", || b.json(&["folder", "offers"])["offers"].get(0).cloned());
    b.ok(&["folder", "join", FOLDER, b.root(), "--mode", b_mode]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    (a, b)
}

#[test]
fn a_send_only_folder_takes_nothing_and_overrides() {
    let world = World::new();
    let (a, b) = one_way(&world, "send-only", "send-receive");
    b.put("f", "of b");
    b.put("new", "of b");
    fs::remove_file(b.at("h")).expect("gone");
    until("a counts what it declines", || (a.folder()["differences"] == 3).then_some(()));
    assert_eq!(a.get("f").as_deref(), Some(&b"of a"[..]));
    assert!(a.get("new").is_none() && a.get("h").is_some());
    a.put("d/g", "later of a");
    until("its own changes still go out", || (b.get("d/g").as_deref() == Some(b"later of a")).then_some(()));
    let said = b.fails(1, &["folder", "override", FOLDER]);
    assert!(said.contains("send-only"), "{said}");
    a.ok(&["folder", "override", FOLDER]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!((b.get("f").as_deref(), b.get("new")), (Some(&b"of a"[..]), None));
    assert_eq!(a.folder()["differences"], 0);
    let path = b.at("new");
    let versions = b.json(&["versions", path.to_str().expect("text")]);
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(1), "what was overruled is kept");
}

#[test]
fn a_receive_only_folder_gives_nothing_and_reverts() {
    let world = World::new();
    let (a, b) = one_way(&world, "send-receive", "receive-only");
    b.put("f", "of b");
    b.put("new", "of b");
    fs::remove_file(b.at("h")).expect("gone");
    until("b counts its own changes", || (b.folder()["differences"] == 3).then_some(()));
    assert_eq!(a.get("f").as_deref(), Some(&b"of a"[..]));
    assert!(a.get("new").is_none() && a.get("h").is_some());
    let said = a.fails(1, &["folder", "revert", FOLDER]);
    assert!(said.contains("receive-only"), "{said}");
    b.ok(&["folder", "revert", FOLDER]);
    until("theirs comes back", || (b.folder()["differences"] == 0).then_some(()));
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    let path = b.at("new");
    let versions = b.json(&["versions", path.to_str().expect("text")]);
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(1), "what was reverted is kept");
}

#[test]
fn a_change_that_meets_a_local_one_in_a_receive_only_folder_sets_it_aside() {
    let world = World::new();
    let (a, b) = one_way(&world, "send-receive", "receive-only");
    b.put("f", "of b");
    until("b counts its own change", || (b.folder()["differences"] == 1).then_some(()));
    a.put("f", "later of a");
    until("the change arrives", || (b.get("f").as_deref() == Some(b"later of a")).then_some(()));
    settle(&[&a, &b]);
    let copies = tests::harness::conflict_copies(&b.tree());
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(b.get(&copies[0]).as_deref(), Some(&b"of b"[..]));
    assert!(tests::harness::conflict_copies(&a.tree()).is_empty(), "it stays here");
}

#[test]
fn a_mode_can_be_changed_later() {
    let world = World::new();
    let (a, b) = one_way(&world, "send-only", "send-receive");
    b.put("new", "of b");
    until("a counts what it declines", || (a.folder()["differences"] == 1).then_some(()));
    a.ok(&["folder", "set", FOLDER, "mode", "send-receive"]);
    assert_eq!(a.folder()["mode"], "send-receive");
    crate::apart::meet(&a, &b);
    until("it takes what it declined", || a.get("new"));
    settle(&[&a, &b]);
    assert!(differences(&a.tree(), &b.tree()).is_empty());
}
