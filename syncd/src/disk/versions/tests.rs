//! Where displaced objects end up, and what can be had back.

use super::*;
use crate::disk::fs::sim::{Fault, OpKind};
use crate::disk::fs::{RealFs, SimFs};
use crate::disk::testing::{NOW, World, path};
use protocol::model::Mtime;
use protocol::sync::{ActionId, Outcome, Rows};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DUE: i64 = NOW + 601;
const DAY: i64 = 86_400;

fn world(bytes: &[u8]) -> World<SimFs> {
    let world = World::simulated();
    world.fs.user_mkdir(&path("d")).unwrap();
    world.scan("d");
    world.fs.user_write(&path("d/a.txt"), bytes).unwrap();
    world.scan("d/a.txt");
    world
}

fn release_at(world: &World<SimFs>, now: i64) -> usize {
    release(&*world.fs, &world.journal, now).unwrap()
}

/// Files below versions/ with their bytes.
fn kept(world: &World<SimFs>) -> BTreeMap<String, Vec<u8>> {
    let all = world.fs.private_tree().into_iter().filter(|(_, found)| found.kind == Kind::File);
    all.filter_map(|(at, found)| Some((at.strip_prefix("versions/")?.to_owned(), found.bytes))).collect()
}

fn tree(world: &World<SimFs>) -> Vec<(String, Vec<u8>)> {
    let files = world.fs.tree().into_iter().filter(|(_, found)| found.kind == Kind::File);
    files.map(|(at, found)| (at.display(), found.bytes)).collect()
}

fn digits(bytes: &[u8]) -> String {
    ContentHash::of(bytes).to_hex()[..7].to_owned()
}

#[test]
fn a_replaced_file_becomes_a_version_after_ten_minutes() {
    let world = world(b"old");
    assert_eq!(world.commit(&[world.install(1, "d/a.txt", b"new")]), [Outcome::Done]);
    assert_eq!(release_at(&world, NOW + 599), 0);
    assert_eq!(release_at(&world, DUE), 1);
    let name = format!("d/a.txt~20231114-221500~{}", digits(b"old"));
    assert_eq!(kept(&world), BTreeMap::from([(name, b"old".to_vec())]));
    assert!(world.journal.held().is_empty());
    assert_eq!(release_at(&world, DUE), 0);
}

#[test]
fn a_late_write_becomes_a_conflict_copy() {
    let world = world(b"old");
    let open = world.fs.user_open(&path("d/a.txt")).unwrap();
    assert_eq!(world.commit(&[world.install(1, "d/a.txt", b"new")]), [Outcome::Done]);
    open.append(b" and more");
    assert_eq!(release_at(&world, NOW + DAY), 0, "not while a program has it open");
    drop(open);
    assert_eq!(release_at(&world, NOW + DAY), 1);
    let copies: Vec<_> = tree(&world).into_iter().filter(|(at, _)| at.contains("sync-conflict")).collect();
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].1, b"old and more");
    assert!(copies[0].0.ends_with(&format!("-{}.txt", digits(b"old and more"))), "{}", copies[0].0);
    assert!(kept(&world).is_empty());
}

#[test]
fn a_late_write_whose_directory_is_gone_is_recovered() {
    let world = world(b"old");
    let open = world.fs.user_open(&path("d/a.txt")).unwrap();
    let removals = [world.remove(1, "d/a.txt"), world.remove(2, "d")];
    assert_eq!(world.commit(&removals), [Outcome::Done, Outcome::Done]);
    open.append(b"!");
    drop(open);
    assert_eq!(release_at(&world, DUE), 1);
    let kept = kept(&world);
    assert_eq!(kept.len(), 1);
    assert!(kept.iter().all(|(at, bytes)| at.starts_with("recovered/") && bytes == b"old!"), "{kept:?}");
}

#[test]
fn a_version_never_shares_its_inode() {
    let world = world(b"old");
    world.fs.user_link(&path("d/a.txt"), &path("other")).unwrap();
    world.scan("d/a.txt");
    assert_eq!(world.commit(&[world.install(1, "d/a.txt", b"new")]), [Outcome::Done]);
    assert_eq!(release_at(&world, DUE), 1);
    world.fs.user_write(&path("other"), b"written later").unwrap();
    assert_eq!(kept(&world).into_values().collect::<Vec<_>>(), [b"old".to_vec()]);
    assert!(world.fs.private_tree().keys().all(|at| !at.starts_with("hold/")));
}

/// Somebody writes through another name while the file is taken away, and its place is taken before it can go back.
#[test]
fn a_conflict_copy_never_shares_its_inode() {
    let world = world(b"old");
    world.fs.user_link(&path("d/a.txt"), &path("other")).unwrap();
    world.scan("d/a.txt");
    let fs = SimFs::clone(&world.fs);
    world.fs.set_hook(Some(Box::new(move |op| {
        match (op.kind, op.name.as_slice()) {
            (OpKind::Rename, b"0000000000000001") => fs.user_write(&path("other"), b"edit").unwrap(),
            (OpKind::Rename, b"a.txt") => fs.user_write(&path("d/a.txt"), b"in its place").unwrap(),
            _ => {}
        }
        Fault::None
    })));
    assert_eq!(world.commit(&[world.remove(1, "d/a.txt")]), [Outcome::DiskMoved]);
    world.fs.set_hook(None);
    world.fs.user_write(&path("other"), b"written later").unwrap();
    let bytes: Vec<Vec<u8>> = tree(&world).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(bytes, [b"edit".to_vec(), b"in its place".to_vec(), b"written later".to_vec()]);
    assert!(world.fs.private_tree().keys().all(|at| !at.starts_with("hold/")));
}

#[test]
fn what_no_row_names_is_kept_as_a_file_of_its_own() {
    let world = world(b"old");
    world.fs.user_link(&path("d/a.txt"), &path("other")).unwrap();
    world.scan("d/a.txt");
    world.commit(&[world.remove(1, "d/a.txt")]);
    world.journal.commit(vec![Change::Released(ActionId(1))]);
    crate::disk::recover(&*world.fs, &world.journal, DUE).unwrap();
    world.fs.user_write(&path("other"), b"written later").unwrap();
    assert_eq!(kept(&world).into_values().collect::<Vec<_>>(), [b"old".to_vec()]);
    assert!(world.fs.private_tree().keys().all(|at| !at.starts_with("hold/")));
}

#[test]
fn long_names_are_cut_and_found() {
    let world = World::simulated();
    let long = "\u{e9}".repeat(127);
    world.fs.user_write(&path(&long), b"old").unwrap();
    world.scan(&long);
    assert_eq!(world.commit(&[world.remove(1, &long)]), [Outcome::Done]);
    release_at(&world, DUE);
    let found = list(&*world.fs, &world.journal, &path(&long)).unwrap();
    assert_eq!(found.len(), 1);
    assert!(kept(&world).into_keys().all(|name| name.len() <= 255 && name.chars().all(|c| c != '\u{fffd}')));
}

#[test]
fn one_object_in_trouble_keeps_no_other() {
    let world = world(b"old");
    world.fs.user_write(&path("b"), b"other").unwrap();
    world.scan("b");
    assert_eq!(world.commit(&[world.remove(1, "d/a.txt"), world.remove(2, "b")]), [Outcome::Done, Outcome::Done]);
    world.fs.set_hook(Some(Box::new(|op| {
        let fails = op.kind == OpKind::Open && op.name == b"0000000000000001";
        if fails { Fault::Errno(Errno::IO) } else { Fault::None }
    })));
    assert!(release(&*world.fs, &world.journal, DUE).is_err());
    world.fs.set_hook(None);
    assert_eq!(kept(&world).len(), 1);
    assert_eq!(release_at(&world, DUE), 1);
    assert_eq!(kept(&world).len(), 2);
}

#[test]
fn versions_are_listed_and_restored() {
    let world = world(b"one");
    for (id, bytes) in [(1, b"two"), (2, b"six")] {
        let action = world.install(id, "d/a.txt", bytes);
        let outcome = crate::disk::commit(&*world.fs, &world.journal, &[action], 0, NOW + id as i64).unwrap();
        assert_eq!(outcome, [Outcome::Done]);
    }
    release_at(&world, NOW + 601);
    let at = path("d/a.txt");
    let found = list(&*world.fs, &world.journal, &at).unwrap();
    let held: Vec<_> = found.iter().map(|version| (version.replaced_at, &version.id)).collect();
    assert!(matches!(held[..], [(_, VersionId::Held(ActionId(2))), (_, VersionId::Kept(_))]), "{held:?}");

    // An unscanned edit stands at the path: it is kept as well.
    world.fs.user_write(&at, b"unseen").unwrap();
    restore(&*world.fs, &world.journal, &at, &found[1].id, ActionId(9), NOW + 700).unwrap();
    assert_eq!(tree(&world), [("d/a.txt".to_owned(), b"one".to_vec())]);
    assert_ne!(world.fs.tree()[&at].mtime, Mtime::default());
    release_at(&world, NOW + DAY);
    let mut bytes: Vec<_> = kept(&world).into_values().collect();
    bytes.sort();
    assert_eq!(bytes, [b"one".to_vec(), b"two".to_vec(), b"unseen".to_vec()]);

    // Where nothing stands, directories included.
    world.fs.user_delete(&path("d")).unwrap();
    restore(&*world.fs, &world.journal, &at, &found[1].id, ActionId(10), NOW + 800).unwrap();
    assert_eq!(tree(&world), [("d/a.txt".to_owned(), b"one".to_vec())]);
}

#[test]
fn a_restore_onto_a_directory_is_refused() {
    let world = world(b"old");
    assert_eq!(world.commit(&[world.remove(1, "d/a.txt")]), [Outcome::Done]);
    release_at(&world, DUE);
    let at = path("d/a.txt");
    let found = list(&*world.fs, &world.journal, &at).unwrap();
    world.fs.user_mkdir(&at).unwrap();
    let refused = restore(&*world.fs, &world.journal, &at, &found[0].id, ActionId(9), NOW);
    assert_eq!(refused.map_err(|error| errno(&error)), Err(Errno::ISDIR));
    assert!(world.fs.private_tree().keys().all(|at| !at.starts_with("hold/")));
}

#[test]
fn pruning_keeps_what_is_young() {
    // Three versions of 10 bytes, replaced 40 days, 2 days and 1 hour ago.
    let now = NOW + 40 * DAY;
    let rows: [(&str, i64, u64, &[&str]); 5] = [
        ("nothing to do", 50 * DAY, 100, &["a", "b", "c"]),
        ("too old", 30 * DAY, 100, &["b", "c"]),
        ("too many bytes", 50 * DAY, 20, &["b", "c"]),
        ("far too many bytes", 50 * DAY, 5, &["c"]),
        ("no bytes at all", 0, 0, &["c"]),
    ];
    for (name, keep_secs, bytes_max, left) in rows {
        let world = World::simulated();
        for (id, at, since) in [(1, "x/y/a", NOW), (2, "b", now - 2 * DAY), (3, "c", now - 3_600)] {
            if id == 1 {
                world.fs.user_mkdir(&path("x")).unwrap();
                world.fs.user_mkdir(&path("x/y")).unwrap();
            }
            world.fs.user_write(&path(at), b"ten bytes!").unwrap();
            world.scan(at);
            let removal = world.remove(id, at);
            assert_eq!(crate::disk::commit(&*world.fs, &world.journal, &[removal], 0, since).unwrap(), [Outcome::Done]);
        }
        release_at(&world, now + DAY);
        let pruned = prune(&*world.fs, now, keep_secs, bytes_max).unwrap();
        let names: Vec<String> = kept(&world).into_keys().collect();
        let mut letters: Vec<&str> =
            names.iter().filter_map(|at| at.rsplit('/').next()).map(|name| &name[..1]).collect();
        letters.sort_unstable();
        assert_eq!(letters, left, "{name}");
        assert_eq!(pruned.kept_bytes, 10 * left.len() as u64, "{name}");
        assert_eq!((pruned.removed, pruned.removed_bytes), (3 - left.len(), 30 - pruned.kept_bytes), "{name}");
        let dirs = world.fs.private_tree().contains_key("versions/x");
        assert_eq!(dirs, left.contains(&"a"), "{name}: empty directories go");
    }
}

/// A version dated ahead is neither taken for an old one nor kept whatever it costs.
#[test]
fn versions_of_a_clock_that_was_ahead_go_last_and_only_for_their_bytes() {
    let now = NOW + 40 * DAY;
    let rows: [(&str, u64, &[&str]); 4] = [
        ("nothing to do", 100, &["a", "b", "c"]),
        ("the oldest first", 20, &["b", "c"]),
        ("then those ahead", 10, &["b"]),
        ("but for what may be of today", 0, &["b"]),
    ];
    for (name, bytes_max, left) in rows {
        let world = World::simulated();
        for (id, at, since) in [(1, "a", now - 2 * DAY), (2, "b", now + 3_600), (3, "c", now + 365 * DAY)] {
            world.fs.user_write(&path(at), b"ten bytes!").unwrap();
            world.scan(at);
            let removal = world.remove(id, at);
            assert_eq!(crate::disk::commit(&*world.fs, &world.journal, &[removal], 0, since).unwrap(), [Outcome::Done]);
        }
        release_at(&world, now + 1000 * DAY);
        prune(&*world.fs, now, 30 * DAY, bytes_max).unwrap();
        let names: Vec<String> = kept(&world).into_keys().map(|name| name[..1].to_owned()).collect();
        assert_eq!(names, left, "{name}");
    }
}

#[test]
fn a_clock_set_back_does_not_keep_objects_for_ever() {
    let world = world(b"old");
    assert_eq!(world.commit(&[world.remove(1, "d/a.txt")]), [Outcome::Done]);
    assert_eq!(release_at(&world, NOW - DAY), 1);
}

/// A displaced file that could not be looked at just then is still watched for late writes.
#[test]
fn an_object_that_could_not_be_looked_at_is_not_forgotten() {
    let was_replaced = [1, 2, 3, 4].map(|failing| {
        let world = world(b"old");
        let writer = world.fs.user_open(&path("d/a.txt")).unwrap();
        let action = world.install(1, "d/a.txt", b"new");
        let failed = Arc::new(AtomicBool::new(false));
        let (mut displaced, mut looks, flag) = (false, 0, Arc::clone(&failed));
        world.fs.set_hook(Some(Box::new(move |op| {
            displaced |= op.kind == OpKind::Exchange;
            let is_look = displaced && op.kind == OpKind::Stat && op.name == b"0000000000000001";
            looks += u32::from(is_look);
            if !is_look || looks != failing {
                return Fault::None;
            }
            flag.store(true, Ordering::Relaxed);
            Fault::Errno(Errno::IO)
        })));
        let outcomes = world.commit(&[action]);
        world.fs.set_hook(None);
        writer.append(b" and late");
        drop(writer);
        release_at(&world, DUE);
        let is_in_tree = world.fs.tree().values().any(|found| found.bytes == b"old and late");
        assert!(is_in_tree, "look {failing}, {outcomes:?}: {:?}", world.fs.private_tree());
        failed.load(Ordering::Relaxed) && outcomes == [Outcome::Done]
    });
    assert!(was_replaced.contains(&true), "every failed look kept the file where it was");
}

/// Where files cannot be exchanged the old one waits under a second name, and may have to stay there.
#[test]
fn an_object_under_its_second_name_is_not_forgotten() {
    for restarts in [false, true] {
        let world = world(b"old");
        let writer = world.fs.user_open(&path("d/a.txt")).unwrap();
        let action = world.install(1, "d/a.txt", b"new");
        let mut is_moved_in = false;
        world.fs.set_hook(Some(Box::new(move |op| match op.kind {
            OpKind::Exchange => Fault::Errno(Errno::INVAL),
            OpKind::Rename if is_moved_in && op.name == b"0000000000000001" => Fault::Errno(Errno::NOSPC),
            kind => {
                is_moved_in |= kind == OpKind::Rename && op.name == b"a.txt";
                Fault::None
            }
        })));
        assert_eq!(world.commit(&[action]), [Outcome::Done]);
        world.fs.set_hook(None);
        assert!(world.fs.private_tree().contains_key("hold/0000000000000001.old"));
        if restarts {
            crate::disk::recover(&*world.fs, &world.journal, NOW).unwrap();
        }
        writer.append(b" and late");
        drop(writer);
        assert_eq!(release_at(&world, DUE), 1);
        let is_in_tree = world.fs.tree().values().any(|found| found.bytes == b"old and late");
        assert!(is_in_tree, "after a restart: {restarts}: {:?}", world.fs.private_tree());
    }
}

#[test]
fn the_same_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(RealFs::open(dir.path()).unwrap());
    std::fs::write(dir.path().join("a"), "old").unwrap();
    world.scan("a");
    let writer = std::fs::OpenOptions::new().append(true).open(dir.path().join("a")).unwrap();
    assert_eq!(world.commit(&[world.install(1, "a", b"new")]), [Outcome::Done]);
    assert_eq!(release(&*world.fs, &world.journal, DUE).unwrap(), 0);
    drop(writer);
    assert_eq!(release(&*world.fs, &world.journal, DUE).unwrap(), 1);
    let found = list(&*world.fs, &world.journal, &path("a")).unwrap();
    assert_eq!(found.len(), 1);
    restore(&*world.fs, &world.journal, &path("a"), &found[0].id, ActionId(2), NOW).unwrap();
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"old");
    assert_eq!(world.journal.held()[0].path, path("a"));
    assert_eq!(world.journal.state().totals.files, 1);
}

#[test]
fn version_names_parse_back() {
    let hash = "0123456789abcdef".repeat(4);
    for digits in HASH_DIGITS {
        for name in ["a", "a~b", "~", "a~20230101-000000~0123456"] {
            let made = version_name(name.as_bytes(), NOW, &hash[..digits]);
            let parsed = parse_version_name(&made).unwrap();
            assert_eq!(parsed, (name.as_bytes(), NOW, &hash.as_bytes()[..digits]));
        }
    }
    for foreign in ["a", "a~b", "a~20230101-000000", "a~20230101-000000~012345", "a~20230101-000000~012345g"] {
        assert_eq!(parse_version_name(foreign.as_bytes()), None, "{foreign}");
    }
}
