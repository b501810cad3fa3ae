//! D-1, D-5 and D-6: two people change the same file, or a directory and a file in it, while their devices are apart.

use super::{DAY, NOON, aftermath, write_at};
use crate::apart::{cut, heal, noticed};
use std::fs;
use tests::harness::{World, pair_of, settle};

/// D-1: the later edit has the name, the other is beside it under one name on both devices, whoever was first, however
/// wrong a clock is, and whichever device dials. An edit made in the same second is decided by its content.
#[test]
fn d1_two_edits_made_apart_are_both_kept() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let rows = [
        ("a first", NOON, NOON + 2),
        ("b first", NOON + 2, NOON),
        ("clock of b a year behind", NOON, NOON + 2 - 365 * DAY),
        ("clock of b a year ahead", NOON, NOON + 2 + 365 * DAY),
        ("at once", NOON, NOON),
    ];
    let mut copies = 0;
    for (parts, joins) in [(&a, &b), (&b, &a)] {
        let name = |row: &str| format!("{row}, {} parts.txt", parts.name());
        for (row, ..) in rows {
            write_at(&a, &name(row), "base", NOON - 400 * DAY);
        }
        settle(&[&a, &b]);
        cut(parts, joins);
        for (row, a_at, b_at) in rows {
            write_at(&a, &name(row), "edit of a", a_at);
            write_at(&b, &name(row), "edit of b", b_at);
        }
        for (row, ..) in rows {
            noticed(&a, &name(row), 2);
            noticed(&b, &name(row), 1);
        }
        heal(parts, joins);
        settle(&[&a, &b]);
        for (row, a_at, b_at) in rows {
            let hash = |text: &str| *blake3::hash(text.as_bytes()).as_bytes();
            let a_wins = (a_at, hash("edit of a")) > (b_at, hash("edit of b"));
            let (winner, loser) = if a_wins { ("edit of a", "edit of b") } else { ("edit of b", "edit of a") };
            assert_eq!(a.get(name(row)).as_deref(), Some(winner.as_bytes()), "{row}");
            let stamp = match a_at.min(b_at) {
                NOON => "20250615-150640",
                _ => "20240615-150642",
            };
            let digits = blake3::hash(loser.as_bytes()).to_hex();
            let stem = name(row).replace(".txt", "");
            let copy = format!("{stem}.sync-conflict-{stamp}-{}.txt", &digits.as_str()[..7]);
            assert_eq!(a.get(&copy).as_deref(), Some(loser.as_bytes()), "{copy}");
            copies += 1;
        }
    }
    aftermath(&[&a, &b], copies);
}

/// D-5: an edit wins over a deletion, whichever came first and whatever the clocks say; two deletions are one.
#[test]
fn d5_an_edit_outlives_a_deletion() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let edits = [("edited now", None), ("edited a day ago", Some(-DAY)), ("edited tomorrow", Some(DAY))];
    let names = edits.map(|(name, _)| name);
    for name in names.iter().chain(&["deleted twice", "other"]) {
        write_at(&a, name, "base", NOON - 2 * DAY);
    }
    settle(&[&a, &b]);
    cut(&a, &b);
    // Half of the edits come before the deletion, half after it; neither device can know.
    for name in names.iter().chain(&["deleted twice"]) {
        fs::remove_file(a.at(name)).expect("gone");
    }
    for (name, at) in edits {
        match at {
            Some(at) => write_at(&b, name, "of b", NOON + at),
            None => b.put(name, "of b"),
        }
    }
    fs::remove_file(b.at("deleted twice")).expect("gone");
    for name in names.iter().chain(&["deleted twice"]) {
        noticed(&a, name, 2);
        noticed(&b, name, 1);
    }
    heal(&a, &b);
    settle(&[&a, &b]);
    for name in names {
        assert_eq!(a.get(name).as_deref(), Some(&b"of b"[..]), "{name}");
        let notice = a.events("remote_change").into_iter().any(|event| event["path"] == name);
        assert!(notice, "the deleter hears that {name} is back");
    }
    assert!(a.get("deleted twice").is_none());
    aftermath(&[&a, &b], 0);
}

/// D-6: a new file and an edited one keep exactly the directories above them.
#[test]
fn d6_files_written_into_a_directory_that_was_deleted_elsewhere_stay() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    for at in 1..=50 {
        a.put(format!("d/{at}"), "base");
        a.put(format!("keep/{at}"), "base");
    }
    settle(&[&a, &b]);
    cut(&a, &b);
    fs::remove_dir_all(a.at("d")).expect("gone");
    b.put("d/sub/new", "of b");
    b.put("d/7", "edit of b");
    noticed(&a, "d/50", 2);
    noticed(&b, "d/sub/new", 1);
    noticed(&b, "d/7", 1);
    heal(&a, &b);
    settle(&[&a, &b]);
    aftermath(&[&a, &b], 0);
    let left: Vec<_> = a.tree().into_keys().filter(|path| path.starts_with(b"d")).collect();
    assert_eq!(left, [&b"d"[..], b"d/7", b"d/sub", b"d/sub/new"]);
    assert_eq!(a.get("d/7").as_deref(), Some(&b"edit of b"[..]));
    assert_eq!(a.get("d/sub/new").as_deref(), Some(&b"of b"[..]));
}
