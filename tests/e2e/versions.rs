//! What others replace or delete is kept, listed and comes back.

use serde_json::Value;
use std::fs;
use tests::harness::{Device, World, assert_same, pair_of, settle};

fn versions(device: &Device, path: &str) -> Vec<Value> {
    let listed = device.json(&["versions", device.at(path).to_str().expect("text")]);
    listed["versions"].as_array().expect("a list").clone()
}

#[test]
fn replaced_and_deleted_files_are_kept_and_come_back() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("d/f", "one");
    a.put("other", "x");
    settle(&[&a, &b]);
    a.put("d/f", "two");
    settle(&[&a, &b]);
    a.put("d/f", "three");
    settle(&[&a, &b]);
    fs::remove_dir_all(a.at("d")).expect("gone");
    settle(&[&a, &b]);
    assert!(!b.at("d").exists());
    let kept = versions(&b, "d/f");
    let sizes: Vec<_> = kept.iter().map(|version| version["bytes"].as_u64()).collect();
    assert_eq!(sizes, [Some(5), Some(3), Some(3)], "{kept:?}");
    let deleted: Vec<_> = kept.iter().map(|version| version["deleted"] == true).collect();
    assert_eq!(deleted, [true, false, false]);
    assert!(versions(&a, "d/f").is_empty(), "what a person does here needs no version here");
    let path = b.at("d/f");
    let path = path.to_str().expect("text");
    b.ok(&["restore", path]);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(a.get("d/f").as_deref(), Some(&b"three"[..]));
    let first = kept[2]["id"].as_str().expect("an id");
    let restored = b.json(&["restore", path, "--id", first]);
    assert_eq!(restored["replaced"], true);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(a.get("d/f").as_deref(), Some(&b"one"[..]));
    assert_eq!(versions(&b, "d/f").len(), 4, "what restore replaced is a version itself");
    let said = b.fails(1, &["restore", b.at("never").to_str().expect("text")]);
    assert!(said.starts_with("error: "), "{said}");
    let said = b.fails(1, &["versions", "/nowhere/at/all"]);
    assert!(said.contains("no synced folder"), "{said}");
}

/// A restore is an edit made now, so that it wins over older ones and programs that go by times notice it.
#[test]
fn a_restored_file_has_its_old_mode_and_the_time_of_now() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("f", "old");
    tests::harness::set_mode(&a.at("f"), 0o751);
    tests::harness::set_mtime(&a.at("f"), 1_650_000_000, 42);
    settle(&[&a, &b]);
    a.put("f", "new");
    tests::harness::set_mode(&a.at("f"), 0o600);
    settle(&[&a, &b]);
    assert_eq!(versions(&b, "f")[0]["modified_ms"], 1_650_000_000_000_u64);
    b.ok(&["restore", b.at("f").to_str().expect("text")]);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    let node = a.tree()[&b"f"[..]].clone();
    assert_eq!((node.mode, a.get("f").as_deref()), (0o751, Some(&b"old"[..])));
    assert!(node.mtime.0 > 1_700_000_000);
}

#[test]
fn the_log_says_what_changed() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("d/f", "1");
    settle(&[&a, &b]);
    a.put("d/f", "2");
    settle(&[&a, &b]);
    fs::remove_file(a.at("d/f")).expect("gone");
    settle(&[&a, &b]);
    for device in [&a, &b] {
        let log = device.json(&["log", device.at("d/f").to_str().expect("text")]);
        let changes: Vec<_> =
            log["entries"].as_array().into_iter().flatten().map(|entry| entry["change"].clone()).collect();
        assert_eq!(changes, ["added", "changed", "deleted"], "{}: {log}", device.name());
        let times: Vec<_> =
            log["entries"].as_array().into_iter().flatten().map(|entry| entry["time_ms"].as_u64()).collect();
        assert!(times.is_sorted(), "oldest first: {log}");
    }
    let entry = b.json(&["log", "--limit", "1"])["entries"][0].clone();
    assert_eq!(
        (&entry["path"], &entry["change"], &entry["by"]["name"]),
        (&"d/f".into(), &"deleted".into(), &"a".into())
    );
}
