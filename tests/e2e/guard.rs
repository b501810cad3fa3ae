//! Many deletions or replacements at once are held until a person says what they mean, where they happen and where
//! they arrive; a root that is not there deletes nothing.

use std::fs;
use tests::harness::{Device, FOLDER, Mount, World, assert_same, join, pair, pair_of, settle, share, skip, until};

const FILES: usize = 30;

fn fill(device: &Device) {
    for at in 0..FILES {
        device.put(format!("d/{at}"), at.to_string());
    }
}

fn count(device: &Device) -> usize {
    fs::read_dir(device.at("d")).map_or(0, Iterator::count)
}

fn held(device: &Device) -> serde_json::Value {
    until("the deletions are held", || device.folder()["holds"].get(0).cloned())
}

#[test]
fn everything_deleted_at_once_is_held_and_can_be_taken_back() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    fs::remove_dir_all(a.at("d")).expect("gone");
    let hold = held(&a);
    assert_eq!((&hold["kind"], &hold["paths"]), (&"deletions_here".into(), &FILES.into()));
    assert_eq!(a.ctl(&["status", "--check"]).code, 1);
    assert!(a.ctl(&["status"]).out.contains("approve"));
    assert!(!a.events("held").is_empty());
    // Other changes go on meanwhile.
    a.put("meanwhile", "x");
    until("other changes flow", || b.get("meanwhile"));
    assert_eq!(count(&b), FILES);
    let waited = a.ctl(&["--json", "wait", "--timeout", "1"]);
    assert!(waited.code == 1 && waited.out.contains("held"), "{waited:?}");
    a.ok(&["folder", "reject", FOLDER]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(count(&a), FILES);
    assert_eq!(a.ctl(&["status", "--check"]).code, 0);
}

#[test]
fn everything_deleted_at_once_goes_on_when_approved_and_is_kept_as_versions() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    fs::remove_dir_all(a.at("d")).expect("gone");
    held(&a);
    let said = a.ok(&["folder", "approve", FOLDER]);
    assert!(said.contains("the deletion of 30 files is passed on"), "{said}");
    // Whoever receives it asks too.
    assert_eq!(held(&b)["kind"], "deletions_there");
    b.ok(&["folder", "approve", FOLDER]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(!b.at("d").exists());
    let path = b.at("d/7");
    let path = path.to_str().expect("text");
    assert_eq!(b.json(&["versions", path])["versions"].as_array().map(Vec::len), Some(1));
    b.ok(&["restore", path]);
    settle(&[&b, &a]);
    assert_eq!(a.get("d/7").as_deref(), Some(&b"7"[..]));
    assert_same(&[&a, &b], 0);
}

#[test]
fn a_hold_survives_a_restart() {
    let world = World::new();
    let (mut a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    fs::remove_dir_all(a.at("d")).expect("gone");
    held(&a);
    a.stop();
    a.start();
    crate::apart::meet(&a, &b);
    held(&a);
    assert_eq!(count(&b), FILES);
    a.ok(&["folder", "reject", FOLDER]);
    settle(&[&a, &b]);
    assert_eq!(count(&a), FILES);
}

/// A's guard is off, and everything is deleted there.
fn deleted_unguarded(world: &World) -> (Device, Device) {
    let (a, b) = pair_of(world);
    a.ok(&["folder", "set", FOLDER, "mass_delete_guard", "off"]);
    crate::apart::meet(&a, &b);
    fill(&a);
    settle(&[&a, &b]);
    fs::remove_dir_all(a.at("d")).expect("gone");
    let hold = held(&b);
    assert_eq!((&hold["kind"], &hold["device"]["name"]), (&"deletions_there".into(), &"a".into()));
    assert_eq!((&hold["paths"], &hold["of_files"]), (&FILES.into(), &FILES.into()));
    assert_eq!(count(&b), FILES);
    (a, b)
}

#[test]
fn what_a_peer_deletes_at_once_is_held_here_and_can_be_given_back() {
    let world = World::new();
    let (a, b) = deleted_unguarded(&world);
    assert_eq!(b.ctl(&["status", "--check"]).code, 1);
    let status = b.ctl(&["status"]).out;
    let words = "30 of 30 files were deleted by a and are still here: `syncctl folder approve main` lets that happen, \
                 `reject` keeps them and gives them back";
    assert!(status.contains(words), "{status}");
    let events = b.events("held");
    assert_eq!((events.len(), &events[0]["device"]["name"]), (1, &"a".into()));
    let log = b.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN") && line.contains("deleted by")).collect();
    assert!(warnings.len() == 1 && !warnings[0].contains("d/"), "one warning without names: {warnings:?}");
    let waited = b.ctl(&["--json", "wait", "--timeout", "1"]);
    assert!(waited.code == 1 && waited.out.contains("held"), "{waited:?}");
    a.put("meanwhile", "x");
    until("other changes flow", || b.get("meanwhile"));
    let said = b.ok(&["folder", "reject", FOLDER]);
    assert!(said.contains("30 files that a deleted stay, and go back to it"), "{said}");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!((count(&a), b.ctl(&["status", "--check"]).code), (FILES, 0));
    assert!(b.ok(&["folder", "reject", FOLDER]).contains("nothing was held"));
}

#[test]
fn what_a_peer_deletes_at_once_goes_when_approved_here_and_is_kept_as_versions() {
    let world = World::new();
    let (a, b) = deleted_unguarded(&world);
    let said = b.ok(&["folder", "approve", FOLDER]);
    assert!(said.contains("30 files that a deleted are deleted here"), "{said}");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(!b.at("d").exists());
    let path = b.at("d/7");
    let path = path.to_str().expect("text");
    assert_eq!(b.json(&["versions", path])["versions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_a_peer_replaces_in_great_number_is_held_here_across_a_restart() {
    const MANY: usize = 1_100;
    let world = World::new();
    let (a, mut b) = pair_of(&world);
    let write = |words: &str| (0..MANY).for_each(|at| a.put(format!("d/{at}"), format!("{words} {at}")));
    let old = |b: &Device| (0..MANY).filter(|at| b.get(format!("d/{at}")) == Some(format!("old {at}").into())).count();
    write("old");
    settle(&[&a, &b]);
    write("new");
    // At most 1,000 may be through before it shows how many there are.
    let paths = |b: &Device| held(b)["paths"].as_u64().expect("a number");
    until("the rest is held", || (paths(&b) >= 100).then_some(()));
    b.stop();
    b.start();
    crate::apart::meet(&b, &a);
    let hold = held(&b);
    assert_eq!((&hold["kind"], &hold["device"]["name"]), (&"replacements_there".into(), &"a".into()));
    until("what is not held is taken", || (old(&b) as u64 == paths(&b)).then_some(()));
    assert!(old(&b) >= 100);
    b.ok(&["folder", "approve", FOLDER]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(old(&b), 0);
}

#[test]
fn a_guard_that_is_switched_off_lets_go_what_it_held() {
    let world = World::new();
    let (a, b) = deleted_unguarded(&world);
    b.ok(&["folder", "set", FOLDER, "mass_delete_guard", "off"]);
    until("the deletions", || (count(&b) == 0).then_some(()));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}

#[test]
fn a_renamed_directory_is_not_held_anywhere() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    fs::rename(a.at("d"), a.at("e")).expect("a rename");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!((count(&b), a.events("held").len() + b.events("held").len()), (0, 0));
}

#[test]
fn with_the_guard_off_everything_deleted_is_deleted() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.ok(&["folder", "set", FOLDER, "mass_delete_guard", "off"]);
    b.ok(&["folder", "set", FOLDER, "mass_delete_guard", "off"]);
    crate::apart::meet(&a, &b);
    fill(&a);
    settle(&[&a, &b]);
    fs::remove_dir_all(a.at("d")).expect("gone");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(!b.at("d").exists());
}

#[test]
fn a_few_deletions_are_not_held() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    for at in 0..FILES / 2 {
        fs::remove_file(a.at(format!("d/{at}"))).expect("gone");
    }
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(count(&b), FILES - FILES / 2);
}

#[test]
fn without_its_marker_a_folder_stops_and_nothing_is_deleted() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    let (marker, aside) = (a.at(".syncd"), world.path().join("aside"));
    fs::rename(&marker, &aside).expect("a rename");
    fs::remove_dir_all(a.at("d")).expect("gone");
    // It may have noticed by itself, and runs no more.
    let _ = a.ctl(&["folder", "rescan", FOLDER]);
    until("the folder stops", || (a.folder()["state"] == "stopped").then_some(()));
    assert!(a.folder()["state_words"].as_str().is_some_and(|words| words.contains("marker")));
    assert_eq!(a.ctl(&["status", "--check"]).code, 1);
    // Nothing is written into a root that is not ours either.
    b.put("new", "x");
    crate::apart::noticed(&b, "new", 1);
    assert_eq!(count(&b), FILES);
    assert!(a.get("new").is_none());
    fill(&a);
    fs::rename(&aside, &marker).expect("a rename");
    until("the folder goes on", || (a.folder()["state"] != "stopped").then_some(()));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(count(&b), FILES);
}

/// D-4: the disk of a folder is pulled while the daemon runs, and again while it does not.
#[test]
fn a_disk_that_is_not_mounted_deletes_nothing() {
    let test = "a_disk_that_is_not_mounted_deletes_nothing";
    let world = World::new();
    let kept = world.path().join("kept");
    let Some(disk) = Mount::tmpfs(&kept, 16) else {
        return skip(test, "mounting needs root");
    };
    let (mut a, b) = (world.device("a"), world.device("b"));
    let mut root = disk.also_at(&world.path().join("disk"));
    a.move_files(&world.path().join("disk"));
    pair(&a, &b);
    fill(&a);
    share(&[&a, &b]);
    settle(&[&a, &b]);
    root.pull();
    // As above.
    let _ = a.ctl(&["folder", "rescan", FOLDER]);
    until("the folder stops", || (a.folder()["state"] == "stopped").then_some(()));
    assert_eq!(count(&b), FILES);
    root.put_back(&disk);
    until("the folder goes on", || (a.folder()["state"] != "stopped").then_some(()));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    a.stop();
    root.pull();
    a.start();
    assert_eq!(a.folder()["state"], "stopped");
    assert_eq!((count(&b), a.ctl(&["status", "--check"]).code), (FILES, 1));
    assert!(!a.at(".syncd").exists(), "nothing is written where the disk should be");
    root.put_back(&disk);
    until("the folder goes on by itself", || (a.folder()["state"] != "stopped").then_some(()));
    crate::apart::meet(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(count(&b), FILES);
    assert!(b.events("remote_change").len() <= FILES + 1, "what came back is nothing new");
    // Gone before what is mounted there.
    a.stop();
}

#[test]
fn a_joined_directory_may_be_the_emptier_one() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    fill(&b);
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    join(&b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(count(&a), FILES, "first contact deletes nothing");
}

/// Puts another directory into the folder's place, which has its marker and `files` of its files.
fn put_another(device: &Device, aside: &std::path::Path, files: usize) {
    fs::rename(device.files(), aside).expect("a rename");
    for directory in [".syncd", "d"] {
        fs::create_dir_all(device.at(directory)).expect("a directory");
    }
    fs::copy(aside.join(".syncd/marker"), device.at(".syncd/marker")).expect("a copy");
    for at in 0..files {
        fs::copy(aside.join(format!("d/{at}")), device.at(format!("d/{at}"))).expect("a copy");
    }
}

fn asks_about_the_disk(device: &Device, words: &str) {
    until("the folder stops", || (device.folder()["state"] == "stopped").then_some(()));
    let why = until("it has looked", || {
        let status = device.folder();
        status["state_words"].as_str().filter(|said| said.contains(words)).map(str::to_owned)
    });
    assert!(why.contains("`syncctl folder approve`"), "{why}");
    let status = device.ctl(&["status"]);
    assert!(status.out.contains(words) && device.ctl(&["status", "--check"]).code == 1, "{}", status.out);
    let told = |event: &serde_json::Value| event["words"].as_str().is_some_and(|said| said.contains(words));
    assert_eq!(device.events("problem").iter().filter(|event| told(event)).count(), 1, "it is told once");
    assert!(device.log().contains(words));
}

/// DT14: a marker that was copied to another disk with few of the files, under a running daemon and before a start.
#[test]
fn a_copied_marker_without_the_files_asks() {
    let world = World::new();
    let (mut a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    let (right, wrong) = (world.path().join("right"), world.path().join("wrong"));
    put_another(&a, &right, 9);
    // As above.
    let _ = a.ctl(&["folder", "rescan", FOLDER]);
    asks_about_the_disk(&a, "only 10 of 31 entries");
    b.put("new", "x");
    crate::apart::noticed(&b, "new", 1);
    assert!(count(&b) == FILES && a.get("new").is_none());
    fs::rename(a.files(), &wrong).and_then(|()| fs::rename(&right, a.files())).expect("a rename");
    until("it goes on when the right one is back", || (a.folder()["state"] != "stopped").then_some(()));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    // A whole copy is the folder, wherever it is.
    a.stop();
    fs::rename(a.files(), &right).expect("a rename");
    let copied = std::process::Command::new("cp").arg("-a").arg(&right).arg(a.files()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    fs::remove_file(a.at("d/29")).expect("gone");
    a.start();
    settle(&[&a, &b]);
    assert!(count(&b) == FILES - 1 && a.events("problem").is_empty());
    a.stop();
    fs::remove_dir_all(&right).expect("gone");
    put_another(&a, &right, 0);
    a.start();
    asks_about_the_disk(&a, "only 1 of 31 entries");
    assert!(a.ok(&["folder", "approve", FOLDER]).contains("this folder from now on"));
    // Approved, it still deletes nothing elsewhere without another answer.
    assert_eq!(held(&a)["kind"], "deletions_here");
    assert_eq!(count(&b), FILES - 1);
    a.ok(&["folder", "reject", FOLDER]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(count(&a), FILES - 1);
}
