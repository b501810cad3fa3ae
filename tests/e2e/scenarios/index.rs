//! D-7: an index is lost while both devices change files. (Damaged indexes and two that are lost: see `index`.)

use super::{NOON, aftermath, write_at};
use std::fs;
use tests::harness::{World, conflict_copies, noise, pair_of, settle};

const FILES: u64 = 1_000;

fn path(at: u64) -> String {
    format!("{}/{at}", at % 5)
}

fn content(at: u64) -> Vec<u8> {
    noise(at, 1_500)
}

/// What the others changed meanwhile is no conflict, since the old bytes are an old version; what both changed is, and so
/// is what only the device without history changed, since nothing says which is newer. Nothing is deleted.
#[test]
fn d7_a_lost_index_costs_neither_edits_nor_transfers() {
    let world = World::new();
    let (a, mut b) = pair_of(&world);
    for at in 0..FILES {
        a.put(path(at), content(at));
    }
    settle(&[&a, &b]);
    b.stop();
    fs::remove_file(crate::index::index(&b)).expect("gone");
    for at in 0..5 {
        write_at(&a, &path(at), &format!("a{at}"), NOON);
    }
    write_at(&b, &path(4), "b4", NOON + 9);
    for at in [10, 11] {
        b.put(path(at), format!("b{at}"));
    }
    for at in [20, 21] {
        fs::remove_file(b.at(path(at))).expect("gone");
    }
    b.put("added", "on b");
    b.start();
    crate::apart::meet(&a, &b);
    settle(&[&b, &a]);
    aftermath(&[&a, &b], 3);
    for at in 0..4 {
        assert_eq!(b.get(path(at)), Some(format!("a{at}").into_bytes()), "old bytes are no conflict");
    }
    assert_eq!(a.get(path(4)).as_deref(), Some(&b"b4"[..]), "the later edit has the name");
    for at in [20, 21] {
        assert_eq!(a.get(path(at)), Some(content(at)), "without history nothing is deleted");
    }
    assert_eq!(a.get("added").as_deref(), Some(&b"on b"[..]));
    // The rows of a whole index, and no content.
    assert!(b.traffic().0 < 400_000, "equal files do not move: {:?}", b.traffic());
    let copies = conflict_copies(&a.tree());
    assert!(copies.iter().any(|copy| a.get(copy).as_deref() == Some(b"a4")), "{copies:?}");
}
