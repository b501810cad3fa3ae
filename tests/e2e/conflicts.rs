//! Changes made apart: nothing that a person wrote is lost, and all devices agree on what has which name.

use crate::apart::{cut, heal, noticed};
use std::collections::BTreeSet;
use std::fs;
use tests::harness::{
    Device, Kind, World, assert_same, conflict_copies, mesh, pair_of, set_mtime, settle, share, tree,
};

/// A time that the tests count from.
const NOON: i64 = 1_750_000_000;

/// In one step, so that no look at the disk sees the content without its time.
fn write_at(device: &Device, path: &str, text: &str, seconds: i64) {
    let outside = device.home().with_file_name("written");
    fs::write(&outside, text).expect("a file");
    set_mtime(&outside, seconds, 0);
    fs::rename(&outside, device.at(path)).expect("a rename");
}

fn hashes(device: &Device) -> BTreeSet<[u8; 32]> {
    let files = device.tree().into_values().filter_map(|node| match node.kind {
        Kind::File(_, hash) => Some(*hash.as_bytes()),
        _ => None,
    });
    files.collect()
}

/// D-1: the later edit has the name, the other is beside it, and both devices say so alike.
#[test]
fn two_edits_made_apart_are_both_kept() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    for (name, a_at, b_at) in [("first.txt", NOON, NOON + 2), ("second.txt", NOON + 2, NOON)] {
        write_at(&a, name, "base", NOON - 100);
        settle(&[&a, &b]);
        cut(&a, &b);
        write_at(&a, name, "edit of a", a_at);
        write_at(&b, name, "edit of b", b_at);
        noticed(&a, name, 2);
        noticed(&b, name, 1);
        heal(&a, &b);
        settle(&[&a, &b]);
        let (winner, loser) = if a_at > b_at { ("edit of a", "edit of b") } else { ("edit of b", "edit of a") };
        assert_eq!(a.get(name).as_deref(), Some(winner.as_bytes()));
        let stem = name.trim_end_matches(".txt");
        let hash = blake3::hash(loser.as_bytes()).to_hex();
        let copy = format!("{stem}.sync-conflict-20250615-150640-{}.txt", &hash.as_str()[..7]);
        assert_eq!(a.get(&copy).as_deref(), Some(loser.as_bytes()), "{:?}", conflict_copies(&a.tree()));
    }
    assert_same(&[&a, &b], 2);
}

#[test]
fn the_same_edit_made_on_both_is_no_conflict() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("f", "base");
    settle(&[&a, &b]);
    cut(&a, &b);
    write_at(&a, "f", "the same", NOON);
    write_at(&b, "f", "the same", NOON + 1);
    noticed(&a, "f", 2);
    noticed(&b, "f", 1);
    heal(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(tree(b.files())[&b"f"[..]].mtime.0, NOON + 1, "the later time stays");
}

/// D-5: an edit wins over a deletion, whichever came first.
#[test]
fn an_edit_outlives_a_deletion() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let names = ["edited after", "edited before", "deleted twice"];
    for name in names.iter().chain(&["other"]) {
        a.put(name, "base");
    }
    settle(&[&a, &b]);
    cut(&a, &b);
    for name in names {
        fs::remove_file(a.at(name)).expect("gone");
        noticed(&a, name, 2);
    }
    b.put("edited after", "of b");
    write_at(&b, "edited before", "of b", NOON);
    fs::remove_file(b.at("deleted twice")).expect("gone");
    for name in names {
        noticed(&b, name, 1);
    }
    heal(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(a.get("edited after").as_deref(), Some(&b"of b"[..]));
    assert_eq!(a.get("edited before").as_deref(), Some(&b"of b"[..]));
    assert!(a.get("deleted twice").is_none());
}

/// D-6: a new file keeps exactly the directories above it.
#[test]
fn a_file_written_into_a_directory_that_was_deleted_elsewhere_stays() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    for at in 0..20 {
        a.put(format!("d/{at}"), "base");
        a.put(format!("keep/{at}"), "base");
    }
    settle(&[&a, &b]);
    cut(&a, &b);
    fs::remove_dir_all(a.at("d")).expect("gone");
    b.put("d/sub/new", "of b");
    b.put("d/7", "edit of b");
    noticed(&a, "d/19", 2);
    noticed(&b, "d/sub/new", 1);
    noticed(&b, "d/7", 1);
    heal(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let left: Vec<_> = a.tree().into_keys().filter(|path| path.starts_with(b"d")).collect();
    assert_eq!(left, [&b"d"[..], b"d/7", b"d/sub", b"d/sub/new"]);
    assert_eq!(a.folder()["problems_total"], 0);
}

#[test]
fn a_directory_and_a_file_made_apart_under_one_name_are_both_kept() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    cut(&a, &b);
    a.put("p/inside", "of a");
    b.put("p", "a file of b");
    noticed(&a, "p/inside", 1);
    noticed(&b, "p", 1);
    heal(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 1);
    assert_eq!(b.get("p/inside").as_deref(), Some(&b"of a"[..]));
    let copy = conflict_copies(&a.tree()).remove(0);
    assert_eq!(a.get(copy).as_deref(), Some(&b"a file of b"[..]));
}

#[test]
fn a_file_that_two_devices_renamed_apart_has_both_names() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("old", "content");
    a.put("other", "x");
    settle(&[&a, &b]);
    cut(&a, &b);
    fs::rename(a.at("old"), a.at("name of a")).expect("a rename");
    fs::rename(b.at("old"), b.at("name of b")).expect("a rename");
    noticed(&a, "name of a", 1);
    noticed(&b, "name of b", 1);
    heal(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let names: Vec<_> = a.tree().into_keys().collect();
    assert_eq!(names, [&b"name of a"[..], b"name of b", b"other"]);
}

#[test]
fn a_mode_and_a_content_changed_apart_are_both_taken() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("script", "base");
    settle(&[&a, &b]);
    cut(&a, &b);
    tests::harness::set_mode(&a.at("script"), 0o755);
    b.put("script", "edited");
    noticed(&a, "script", 2);
    noticed(&b, "script", 1);
    heal(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let node = tree(a.files())[&b"script"[..]].clone();
    assert_eq!((node.mode, a.get("script").as_deref()), (0o755, Some(&b"edited"[..])));
}

/// D-12: with three devices, one winner and two copies of each, under the same names everywhere; conflicts on a copy
/// make another copy. Names that a pattern would match are taken literally.
#[test]
fn a_storm_of_conflicts_loses_nothing() {
    let world = World::new();
    let (a, b, c) = (world.device("a"), world.device("b"), world.device("c"));
    let all = [&a, &b, &c];
    mesh(&all);
    share(&all);
    settle(&all);
    let names = ["[ab].txt", "x*.txt", "a?b", "plain"];
    let apart = |apart: bool| {
        for (one, other) in [(&a, &b), (&a, &c), (&b, &c)] {
            if apart { cut(one, other) } else { heal(one, other) }
        }
    };
    apart(true);
    for (at, device) in (0..).zip(&all) {
        for name in names {
            write_at(device, name, &format!("{name} of {}", device.name()), NOON + at);
            noticed(device, name, 1);
        }
    }
    apart(false);
    settle(&all);
    settle(&all);
    assert_same(&all, names.len() * 2);
    assert_eq!(hashes(&a).len(), names.len() * 3, "every content is kept");
    for name in names {
        assert_eq!(b.get(name), Some(format!("{name} of c").into_bytes()), "the latest has the name");
    }
    let copy = conflict_copies(&a.tree()).into_iter().find(|copy| copy.starts_with("plain")).expect("a copy");
    apart(true);
    write_at(&a, &copy, "edit of a copy on a", NOON);
    write_at(&b, &copy, "edit of a copy on b", NOON + 1);
    for device in [&a, &b] {
        noticed(device, &copy, 1);
    }
    apart(false);
    settle(&all);
    settle(&all);
    assert_same(&all, names.len() * 2 + 1);
    let kept = hashes(&c);
    for text in ["edit of a copy on a", "edit of a copy on b"] {
        assert!(kept.contains(blake3::hash(text.as_bytes()).as_bytes()), "{text}");
    }
}

#[test]
fn a_deleted_conflict_copy_stays_deleted() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    cut(&a, &b);
    write_at(&a, "f", "of a", NOON);
    write_at(&b, "f", "of b", NOON + 1);
    noticed(&a, "f", 1);
    noticed(&b, "f", 1);
    heal(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 1);
    let copy = conflict_copies(&a.tree()).remove(0);
    fs::remove_file(b.at(&copy)).expect("gone");
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(a.get("f").as_deref(), Some(&b"of b"[..]));
}
