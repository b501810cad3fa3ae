//! Ignored paths stay where they are: ignoring publishes nothing and deletes nothing.

use crate::apart::{cut, heal, noticed};
use std::fs;
use tests::harness::{FOLDER, World, assert_same, differences, pair_of, settle, until};

#[test]
fn ignored_files_are_not_synced_and_the_rules_are() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put(".syncignore", "*.tmp\n/build/\n!keep.tmp\n");
    settle(&[&a, &b]);
    a.put("x.tmp", "no");
    a.put("build/out", "no");
    a.put("sub/build/out", "yes");
    a.put("keep.tmp", "yes");
    b.put("y.tmp", "of b");
    settle(&[&a, &b]);
    let names: Vec<_> = b.tree().into_keys().filter(|path| path != b"y.tmp").collect();
    assert_eq!(names, [&b".syncignore"[..], b"keep.tmp", b"sub", b"sub/build", b"sub/build/out"]);
    assert!(a.get("y.tmp").is_none());
    let at = |name: &str| a.at(name).to_str().expect("text").to_owned();
    assert_eq!(a.ctl(&["ignore", "test", &at("keep.tmp")]).code, 1);
    let verdict = a.ctl(&["--json", "ignore", "test", &at("deep/x.tmp")]);
    let verdict: serde_json::Value = serde_json::from_str(&verdict.out).expect("a verdict");
    assert_eq!(
        (&verdict["ignored"], &verdict["line"], &verdict["file"]),
        (&true.into(), &1.into(), &".syncignore".into())
    );
}

#[test]
fn ignoring_a_synced_file_deletes_it_nowhere_and_unignoring_compares() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("notes/secret", "1");
    a.put("other", "1");
    settle(&[&a, &b]);
    a.put(".syncignore", "secret\n");
    settle(&[&a, &b]);
    assert!(a.get("notes/secret").is_some() && b.get("notes/secret").is_some());
    a.put("notes/secret", "2");
    settle(&[&a, &b]);
    assert_eq!(b.get("notes/secret").as_deref(), Some(&b"1"[..]));
    fs::remove_file(b.at("notes/secret")).expect("gone");
    settle(&[&b, &a]);
    assert_eq!(a.get("notes/secret").as_deref(), Some(&b"2"[..]), "a deletion of what is ignored stays at home");
    a.put(".syncignore", "");
    until("it is synced again", || (b.get("notes/secret").as_deref() == Some(b"2")).then_some(()));
    settle(&[&a, &b]);
    assert!(differences(&a.tree(), &b.tree()).is_empty(), "{:?}", differences(&a.tree(), &b.tree()));
}

#[test]
fn a_deleted_directory_that_is_kept_for_what_is_ignored_says_so() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    b.put(".stignore", "*.o\n");
    a.put("project/main", "synced");
    settle(&[&a, &b]);
    b.put("project/x.o", "of b");
    b.put("project/y.o", "of b");
    settle(&[&a, &b]);
    fs::remove_dir_all(a.at("project")).expect("a directory to delete");
    let words = "kept: it holds 2 items that are not synced";
    let problems = || b.folder()["problems"].as_array().expect("a list of problems").clone();
    let problem = until("the directory is a problem", || {
        problems().into_iter().find(|problem| problem["path"] == "project" && problem["words"] == words)
    });
    assert_eq!((&problem["code"], &problem["needs_person"]), (&"blocked".into(), &true.into()), "{problem}");
    assert!(b.ok(&["status"]).contains(words));
    assert!(b.get("project/x.o").is_some() && b.get("project/main").is_none());
    for name in ["project/x.o", "project/y.o"] {
        fs::remove_file(b.at(name)).expect("gone");
    }
    b.ok(&["folder", "rescan", FOLDER]);
    until("the directory goes", || (!b.at("project").exists()).then_some(()));
    until("the problem goes", || problems().is_empty().then_some(()));
    settle(&[&a, &b]);
}

#[test]
fn a_local_ignore_file_is_for_this_device_alone() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    b.put(".stignore", "big\n");
    settle(&[&a, &b]);
    a.put("big", "not for b");
    a.put("small", "for both");
    settle(&[&a, &b]);
    assert!(b.get("big").is_none() && b.get("small").is_some());
    assert!(a.get(".stignore").is_none(), "it is never synced");
}

/// What a device declined while a rule matched stays declined when only other rules change.
#[test]
fn another_rule_does_not_let_in_what_is_still_ignored() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    b.put(".stignore", "big\nhuge\n");
    settle(&[&a, &b]);
    a.put("big", "not for b");
    a.put("huge", "not yet");
    settle(&[&a, &b]);
    b.put(".stignore", "big\n");
    until("what no rule matches comes", || b.get("huge"));
    settle(&[&a, &b]);
    assert!(b.get("big").is_none(), "it is still ignored");
}

#[test]
fn private_files_of_other_tools_and_ours_stay_at_home() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    for name in
        [".stfolder/x", ".stversions/x", ".syncthing.f.tmp", "~syncthing~f.tmp", ".sync/x", "f.!sync", "d/.SYNCD/x"]
    {
        a.put(name, "private");
    }
    a.put("f", "synced");
    a.ok(&["folder", "rescan", tests::harness::FOLDER]);
    until("the file arrives", || b.get("f"));
    let waited = a.ctl(&["wait", "--timeout", "5"]);
    let names: Vec<String> = b.tree().keys().map(|path| tests::harness::shown(path)).collect();
    assert_eq!(names, ["d", "f"], "{waited:?}");
    assert!(a.get(".stfolder/x").is_some());
}

/// Each declines what the other has, for good: `wait` between them never ended.
#[test]
fn two_devices_that_ignore_a_path_and_know_different_versions_are_in_sync() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("p", "base");
    a.put("other", "base");
    settle(&[&a, &b]);
    cut(&a, &b);
    for (device, text, changes) in [(&a, "of a", 2), (&b, "of b", 1)] {
        device.put("p", text);
        noticed(device, "p", changes);
        device.put(".stignore", "p\n");
        // Started again, the folder reads its rules first.
        device.ok(&["folder", "pause", FOLDER]);
        device.ok(&["folder", "resume", FOLDER]);
    }
    heal(&a, &b);
    settle(&[&a, &b]);
    b.put("other", "edited");
    settle(&[&b, &a]);
    assert_eq!(a.get("other").as_deref(), Some(&b"edited"[..]));
    assert_eq!((a.get("p").as_deref(), b.get("p").as_deref()), (Some(&b"of a"[..]), Some(&b"of b"[..])));
    for device in [&a, &b] {
        assert!(device.events("held").is_empty() && device.folder()["problems_total"] == 0);
    }
    for device in [&a, &b] {
        fs::remove_file(device.at(".stignore")).expect("gone");
    }
    until("it is synced again", || (a.get("p").is_some() && a.get("p") == b.get("p")).then_some(()));
    settle(&[&a, &b]);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 1);
}
