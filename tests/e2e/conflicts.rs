//! Changes made apart: nothing that a person wrote is lost, and all devices agree on what has which name. The
//! numbered scenarios D-1, D-5, D-6 and D-12 are in `scenarios`.

use crate::apart::{cut, heal, noticed};
use crate::scenarios::{NOON, write_at};
use std::fs;
use tests::harness::{World, assert_same, conflict_copies, pair_of, settle, tree};

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
