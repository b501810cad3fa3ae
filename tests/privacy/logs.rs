//! What a log at its usual level gives away after a day with all kinds of trouble: no name of a file or folder, no path.

use std::fs;
use tests::harness::{Device, World, assert_same, conflict_copies, is_root, pair, set_mode, settle, skip, until};

/// An ordinary user, for whom modes count.
const NOBODY: u32 = 65_534;
/// Part of every name in this test.
const TAG: &str = "tagged";
const FOLDER: &str = "tagged-folder";
/// With one that is not known, which is said.
const SETTINGS: &str = "lan = \"never\"\nfuture = 1\n";

fn ordinary(world: &World, name: &str) -> Option<Device> {
    let mut device = world.prepare(name, SETTINGS);
    if is_root() && !device.run_as(NOBODY, world) {
        return None;
    }
    device.start();
    Some(device)
}

fn put(device: &Device, path: &str, bytes: &str) {
    device.put(path, bytes);
    let mut at = path;
    while !at.is_empty() {
        device.own(at);
        at = at.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
}

/// Both devices write the same file while neither hears of the other.
fn conflict(a: &Device, b: &Device) {
    a.ok(&["device", "pause", b.name()]);
    until("the devices are apart", || (!a.is_connected_to(b) && !b.is_connected_to(a)).then_some(()));
    put(a, "tagged-directory/tagged-file", "of a");
    put(b, "tagged-directory/tagged-file", "of b, and longer");
    for device in [a, b] {
        device.ok(&["folder", "rescan", FOLDER]);
    }
    a.ok(&["device", "resume", b.name()]);
    until("the devices meet", || (a.is_connected_to(b) && b.is_connected_to(a)).then_some(()));
    settle(&[a, b]);
    assert_eq!(conflict_copies(&a.tree()).len(), 1);
}

/// Files that cannot be read, in a place that cannot be listed, of a kind that is not synced, where none can be written.
fn trouble(a: &Device, b: &Device) {
    for path in ["tagged-unreadable", "tagged-closed/tagged-inside", "tagged-full/tagged-f"] {
        put(a, path, "x");
    }
    settle(&[a, b]);
    set_mode(&a.at("tagged-unreadable"), 0);
    set_mode(&a.at("tagged-closed"), 0);
    set_mode(&b.at("tagged-full"), 0);
    put(a, "tagged-unreadable-too", "x");
    set_mode(&a.at("tagged-unreadable-too"), 0);
    std::os::unix::net::UnixListener::bind(a.at("tagged-socket")).expect("a socket");
    put(a, "tagged-full/tagged-g", "x");
    a.ok(&["folder", "rescan", FOLDER]);
    until("what cannot be read is a problem", || (a.folder()["problems_total"].as_u64()? >= 2).then_some(()));
    b.fails(1, &["restore", b.at("tagged-none").to_str().expect("text")]);
    a.fails(1, &["wait", "--timeout", "1"]);
    fs::remove_file(a.at("tagged-socket")).expect("a socket goes as a file does");
    set_mode(&a.at("tagged-closed"), 0o755);
    set_mode(&b.at("tagged-full"), 0o755);
    set_mode(&a.at("tagged-unreadable"), 0o644);
    set_mode(&a.at("tagged-unreadable-too"), 0o644);
    a.ok(&["folder", "rescan", FOLDER]);
    settle(&[a, b]);
}

/// The root is gone for a while.
fn root_gone(device: &Device) {
    let aside = device.files().with_file_name("tagged-aside");
    fs::rename(device.files(), &aside).expect("a rename");
    until("the folder stands still", || {
        // It may have noticed before, and refuse.
        let _ = device.ctl(&["folder", "rescan", FOLDER]);
        (device.folder()["state"] == "stopped").then_some(())
    });
    fs::rename(&aside, device.files()).expect("a rename");
    until("the folder goes on", || {
        // As above.
        let _ = device.ctl(&["folder", "rescan", FOLDER]);
        (device.folder()["state"] != "stopped").then_some(())
    });
}

#[test]
fn a_log_at_its_usual_level_holds_no_name_and_no_path() {
    let test = "a_log_at_its_usual_level_holds_no_name_and_no_path";
    let world = World::new();
    let (Some(mut a), Some(b)) = (ordinary(&world, "a"), ordinary(&world, "b")) else {
        return skip(test, "no other user may run the programs where they are");
    };
    assert_eq!(a.ok(&["config", "get", "log_level"]).trim(), "info");
    pair(&a, &b);
    put(&a, "tagged-directory/tagged-file", "tagged-content");
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    until("the folder is offered", || {
        let offers = b.json(&["folder", "offers"]);
        offers["offers"].as_array()?.iter().any(|offer| offer["name"] == FOLDER).then_some(())
    });
    b.ok(&["folder", "join", FOLDER, b.root()]);
    settle(&[&a, &b]);
    conflict(&a, &b);
    trouble(&a, &b);
    root_gone(&b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 1);
    fs::remove_dir_all(b.at("tagged-directory")).expect("gone");
    settle(&[&b, &a]);
    a.stop();
    a.start();
    let root = world.path().to_str().expect("text").to_owned();
    for device in [&a, &b] {
        let log = device.log();
        assert!(log.contains("unknown setting \"future\""), "{} logs what it does: {log}", device.name());
        for secret in [TAG, root.as_str(), device.home().to_str().expect("text")] {
            assert!(!log.contains(secret), "the log of {} holds {secret}:\n{log}", device.name());
        }
    }
}
