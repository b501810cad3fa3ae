//! D-2 and D-3: what a person does, or a crash, at the very moment at which a change of another device is put in place.

use super::{aftermath, write_at};
use crate::apart::meet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use tests::harness::{
    Device, Hold, Rename, World, conflict_copies, noise, pair_of, set_mode, set_mtime, settle, skip, until,
};

/// Files are longer than what an index row could hold.
const LEN: usize = 9000;

fn of(tag: u64) -> Vec<u8> {
    noise(tag, LEN)
}

const BASE: u64 = 0;
const OF_A: u64 = 1;
const OF_B: u64 = 2;

/// What A does, how many renames B may do before it is held and at which, what a person on B does then, which content
/// has the name in the end and which is beside it.
type Row<'a> = (&'a str, &'a dyn Fn(&str), (u32, Rename), &'a dyn Fn(&str), Option<u64>, Option<u64>);

/// D-2 i to v and 2c, and what the same moment is for a new file and for a rename. (D-2 vi needs no held daemon: see
/// `trouble::an_edit_at_the_moment_of_a_remote_change_is_kept`.)
#[test]
fn d2_what_a_person_does_at_the_moment_of_a_commit_is_kept() {
    let test = "d2_what_a_person_does_at_the_moment_of_a_commit_is_kept";
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("other", "x");
    let edit = |name: &str| a.put(name, of(OF_A));
    let remove = |name: &str| fs::remove_file(a.at(name)).expect("gone");
    let rename = |name: &str| fs::rename(a.at(name), a.at(format!("{name} moved"))).expect("a rename");
    let put = |name: &str| b.put(name, of(OF_B));
    let put_with_old_time = |name: &str| {
        let before = fs::metadata(b.at(name)).expect("it is there");
        b.put(name, of(OF_B));
        set_mtime(&b.at(name), before.mtime(), before.mtime_nsec());
    };
    let exchange = (1, Rename::Exchange);
    let away = (0, Rename::IntoFree);
    let rows: [Row<'_>; 8] = [
        ("i: write", &edit, exchange, &put, Some(OF_B), Some(OF_A)),
        ("ii: write with the old time", &edit, exchange, &put_with_old_time, Some(OF_A), Some(OF_B)),
        ("iii: save", &edit, exchange, &|name| b.save(name, of(OF_B)), Some(OF_B), Some(OF_A)),
        ("iv: delete", &edit, exchange, &|name| fs::remove_file(b.at(name)).expect("gone"), Some(OF_A), None),
        ("v: chmod", &edit, exchange, &|name| set_mode(&b.at(name), 0o600), Some(OF_A), None),
        ("2c: write while it is deleted", &remove, away, &put, Some(OF_B), None),
        ("write while it is renamed", &rename, away, &put, Some(OF_B), None),
        ("new on both", &edit, (1, Rename::IntoFree), &put, Some(OF_B), Some(OF_A)),
    ];
    for (name, ..) in &rows {
        if *name != "new on both" {
            a.put(name, of(BASE));
        }
    }
    settle(&[&a, &b]);
    let mut copies = 0;
    for (name, on_a, (free, at), on_b, named, beside) in rows {
        let Some(hold) = Hold::after(&b, free) else {
            return skip(test, "strace is missing or may not trace");
        };
        on_a(name);
        hold.reached(at);
        on_b(name);
        drop(hold);
        settle(&[&a, &b]);
        settle(&[&a, &b]);
        assert_eq!(a.get(name), named.map(of), "{name}");
        let all = conflict_copies(&a.tree());
        copies += usize::from(beside.is_some());
        assert_eq!(all.len(), copies, "{name}: {all:?}");
        if let Some(beside) = beside {
            assert!(
                all.iter().any(|copy| copy.starts_with(name) && a.get(copy) == Some(of(beside))),
                "{name}: {all:?}"
            );
        }
    }
    assert_eq!(a.tree()[&b"v: chmod"[..]].mode, 0o600);
    assert_eq!(a.get("write while it is renamed moved"), Some(of(BASE)));
    aftermath(&[&a, &b], copies);
}

/// D-2b: what a program writes through an old handle after the file was replaced, or deleted, is kept. When its ten
/// minutes are over it becomes a conflict copy: `soak late` waits for that.
#[test]
fn d2b_a_program_that_still_has_the_file_open_loses_nothing() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    for name in ["replaced", "deleted", "other"] {
        a.put(name, "base");
    }
    settle(&[&a, &b]);
    let open = |name| fs::OpenOptions::new().append(true).open(b.at(name)).expect("it opens");
    let handles = [open("replaced"), open("deleted")];
    a.put("replaced", "of a");
    fs::remove_file(a.at("deleted")).expect("gone");
    settle(&[&a, &b]);
    assert_eq!((b.get("replaced").as_deref(), b.get("deleted")), (Some(&b"of a"[..]), None));
    for (mut handle, late) in handles.into_iter().zip(["to the replaced", "to the deleted"]) {
        handle.write_all(late.as_bytes()).expect("the handle is good");
    }
    aftermath(&[&a, &b], 0);
    let held: Vec<Vec<u8>> = fs::read_dir(b.at(".syncd/hold"))
        .expect("it is there")
        .map(|entry| fs::read(entry.expect("a listing goes on").path()).expect("it can be read"))
        .collect();
    for late in ["baseto the replaced", "baseto the deleted"] {
        assert!(held.iter().any(|bytes| bytes == late.as_bytes()), "{late} is kept");
    }
}

fn versions(device: &Device, path: &str) -> usize {
    let listed = device.json(&["versions", device.at(path).to_str().expect("text")]);
    listed["versions"].as_array().map_or(0, Vec::len)
}

/// D-3: the daemon dies before the exchange, or the one that published dies right after its user wrote. In the end the
/// new content is everywhere, the old one is a version, and it was never told of as something new.
#[test]
fn d3_a_crash_before_the_exchange_and_one_after_the_edit() {
    let test = "d3_a_crash_before_the_exchange_and_one_after_the_edit";
    let world = World::new();
    let (mut a, mut b) = pair_of(&world);
    a.put("f", of(BASE));
    settle(&[&a, &b]);
    let Some(hold) = Hold::after(&b, 1) else {
        return skip(test, "strace is missing or may not trace");
    };
    a.put("f", of(OF_A));
    hold.reached(Rename::Exchange);
    hold.kill(&mut b);
    assert_eq!(b.get("f"), Some(of(BASE)));
    b.start();
    meet(&b, &a);
    settle(&[&a, &b]);
    assert_eq!(b.get("f"), Some(of(OF_A)));
    assert!(b.events("local_change").is_empty() && a.events("remote_change").is_empty(), "the old one is no news");
    assert_eq!(versions(&b, "f"), 1);
    for round in 0..3 {
        write_at(&a, "f", &format!("round {round}"), super::NOON + round);
        a.kill();
        a.start();
        meet(&b, &a);
        until("the edit arrives", || (b.get("f") == Some(format!("round {round}").into())).then_some(()));
    }
    assert!(a.events("remote_change").is_empty());
    aftermath(&[&a, &b], 0);
}
