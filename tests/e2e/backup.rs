//! A home or its files come back from a backup, or a home is copied: nothing that anybody wrote is lost, and a person
//! is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::harness::{Device, FOLDER, World, assert_same, pair_of, set_mtime, settle, until};

/// A copy of everything that a device keeps: its home and its folder.
fn backup(device: &Device, world: &World, name: &str) -> PathBuf {
    let to = world.path().join(name);
    fs::create_dir(&to).expect("a directory");
    copy(device.home(), &to.join("home"));
    copy(device.files(), &to.join("files"));
    to
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(done.success());
}

fn put_back(device: &Device, backup: &Path) {
    for (name, at) in [("home", device.home()), ("files", device.files())] {
        fs::remove_dir_all(at).expect("gone");
        copy(&backup.join(name), at);
    }
}

fn contents(device: &Device) -> Vec<String> {
    let paths = device.tree().into_keys().map(|path| String::from_utf8(path).expect("text"));
    paths.filter_map(|path| device.get(path)).map(|bytes| String::from_utf8(bytes).expect("text")).collect()
}

fn is_told(device: &Device) -> bool {
    let problems = device.json(&["status"])["problems"].clone();
    problems.as_array().into_iter().flatten().any(|problem| problem["code"] == "index_renewed")
}

/// D-9: after the restore the device counts its changes from an old number on, as it did before.
#[test]
fn a_device_put_back_from_a_backup_overwrites_nothing_newer() {
    let world = World::new();
    let (a, mut b) = pair_of(&world);
    b.put("f", "old of b");
    b.put("g", "old of b too");
    settle(&[&a, &b]);
    b.stop();
    let kept = backup(&b, &world, "backup");
    b.start();
    crate::apart::meet(&b, &a);
    b.put("f", "later of b");
    b.put("g", "later of b too");
    b.put("new", "new of b");
    settle(&[&b, &a]);
    b.stop();
    put_back(&b, &kept);
    // What is done now gets numbers that other changes have had.
    for at in 0..4 {
        b.put(format!("after{at}"), format!("after {at}"));
    }
    b.put("f", "edited after the restore");
    set_mtime(&b.at("f"), 2_000_000_000, 0);
    b.start();
    crate::apart::meet(&b, &a);
    until("the device notices", || is_told(&b).then_some(()));
    crate::apart::meet(&b, &a);
    settle(&[&a, &b]);
    let copies = tests::harness::conflict_copies(&a.tree());
    assert_same(&[&a, &b], copies.len());
    let all = contents(&a);
    for text in ["later of b", "edited after the restore", "later of b too", "new of b", "after 0", "after 3"] {
        assert!(all.iter().any(|content| content == text), "{text}: {all:?}");
    }
    assert_eq!(a.get("g").as_deref(), Some(&b"later of b too"[..]), "what is old is older, and no edit");
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(b.ctl(&["status", "--check"]).code, 1);
    let status = b.ctl(&["status"]).out;
    assert!(status.contains("older than what a knows of it") && status.contains("folder approve main"), "{status}");
    assert!(!b.events("problem").is_empty() && b.log().contains("older than what a peer knows"));
    b.ok(&["folder", "approve", FOLDER]);
    assert_eq!(b.ctl(&["status", "--check"]).code, 0, "a person has read it");
    assert!(!is_told(&a));
}

/// D-8: two devices that began as one home write different things under the same numbers.
#[test]
fn a_copied_home_is_noticed_by_whichever_comes_second_and_both_halves_are_kept() {
    let world = World::new();
    let (a, mut b) = pair_of(&world);
    b.put("f", "base");
    settle(&[&a, &b]);
    b.stop();
    let twin = backup(&b, &world, "twin");
    b.put("f", "of the original");
    b.put("o", "only of the original");
    b.start();
    crate::apart::meet(&b, &a);
    settle(&[&b, &a]);
    b.stop();
    let original = backup(&b, &world, "original");
    put_back(&b, &twin);
    b.put("f", "of the copy");
    b.put("c", "only of the copy");
    b.start();
    crate::apart::meet(&b, &a);
    until("the copy notices", || is_told(&b).then_some(()));
    crate::apart::meet(&b, &a);
    settle(&[&a, &b]);
    let both = ["of the original", "only of the original", "of the copy", "only of the copy"];
    let has_all = |device: &Device| both.iter().all(|text| contents(device).iter().any(|content| content == text));
    assert!(has_all(&a) && has_all(&b), "{:?} {:?}", contents(&a), contents(&b));
    assert_eq!(b.ctl(&["status", "--check"]).code, 1);
    assert!(b.ctl(&["status"]).out.contains("remove the copy"));
    b.stop();
    // The original comes back: its numbers are its own again.
    put_back(&b, &original);
    b.put("o", "later of the original");
    b.start();
    crate::apart::meet(&b, &a);
    settle(&[&b, &a]);
    assert_eq!(a.get("o").as_deref(), Some(&b"later of the original"[..]));
    assert!(has_all(&a) || contents(&a).iter().any(|content| content == "of the copy"), "{:?}", contents(&a));
    assert!(!is_told(&b));
}

/// Only the files come back, with their old times, under an index that goes on.
#[test]
fn many_files_that_go_back_to_old_contents_are_held_until_a_person_says_what_is_meant() {
    const FILES: u64 = 120;
    let world = World::new();
    let (a, b) = pair_of(&world);
    let name = |at: u64| format!("d/{at}");
    let write = |words: &str, secs: i64| {
        for at in 0..FILES {
            b.put(name(at), format!("{words} {at}"));
            set_mtime(&b.at(name(at)), secs, 0);
        }
        settle(&[&b, &a]);
    };
    write("old", 1_600_000_000);
    let kept = world.path().join("d");
    copy(&b.at("d"), &kept);
    write("new", 1_700_000_000);
    let restore = || {
        copy(&kept, b.files());
        until("it is held", || b.folder()["holds"].get(0).cloned())
    };
    let hold = restore();
    assert_eq!((&hold["kind"], &hold["paths"]), (&"restored_here".into(), &FILES.into()));
    assert_eq!(b.ctl(&["status", "--check"]).code, 1);
    let status = b.ctl(&["status"]).out;
    assert!(status.contains("as if restored from a backup") && status.contains("folder approve main"), "{status}");
    assert!(!b.events("held").is_empty() && b.log().contains("as if restored from a backup"));
    b.put("meanwhile", "x");
    until("other changes flow", || a.get("meanwhile"));
    assert_eq!(a.get("d/7").as_deref(), Some(&b"new 7"[..]));
    b.ok(&["folder", "reject", FOLDER]);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.get("d/7").as_deref(), Some(&b"new 7"[..]));
    assert_eq!(b.ctl(&["status", "--check"]).code, 0);
    restore();
    b.ok(&["folder", "approve", FOLDER]);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(a.get("d/7").as_deref(), Some(&b"old 7"[..]));
}
