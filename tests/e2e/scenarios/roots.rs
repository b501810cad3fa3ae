//! D-4: a root that disappears, or is emptied, deletes nothing on other devices unless a person says so. (D-4a, with a
//! disk that is pulled, is `guard::a_disk_that_is_not_mounted_deletes_nothing`.)

use super::aftermath;
use crate::apart::meet;
use std::fs;
use tests::harness::{Device, FOLDER, World, pair_of, settle, until};

/// More than the guard lets through before it asks.
const FILES: usize = 2_000;

fn fill(device: &Device) {
    for at in 0..FILES {
        device.put(format!("{}/{at}", at % 20), at.to_string());
    }
}

fn count(device: &Device) -> u64 {
    device.folder()["local"]["files"].as_u64().expect("a number")
}

fn held(device: &Device, kind: &str) -> u64 {
    until("the deletions are held", || {
        let holds = device.folder()["holds"].clone();
        holds.as_array()?.iter().find(|hold| hold["kind"] == kind)?["paths"].as_u64()
    })
}

/// As `rm -rf ROOT/*`.
fn empty(device: &Device) {
    for at in 0..20 {
        fs::remove_dir_all(device.at(at.to_string())).expect("gone");
    }
}

fn kept(device: &Device) -> usize {
    let listed = |at: usize| {
        let path = device.at(format!("{}/{at}", at % 20));
        device.json(&["versions", path.to_str().expect("text")])["versions"].as_array().map_or(0, Vec::len)
    };
    [0, 7, 1_000, FILES - 1].into_iter().map(listed).sum()
}

/// D-4b: what was taken back is equal again; what is approved at both ends goes, and the receiver keeps every file.
#[test]
fn d4b_an_emptied_root_asks_and_both_answers_are_done() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    empty(&b);
    assert_eq!(held(&b, "deletions_here"), FILES as u64);
    assert_eq!((count(&a), a.folder()["holds"].as_array().map(Vec::len)), (FILES as u64, Some(0)));
    b.ok(&["folder", "reject", FOLDER]);
    settle(&[&b, &a]);
    aftermath(&[&a, &b], 0);
    assert_eq!(count(&b), FILES as u64);
    empty(&b);
    assert_eq!(held(&b, "deletions_here"), FILES as u64);
    b.ok(&["folder", "approve", FOLDER]);
    assert_eq!(held(&a, "deletions_there"), FILES as u64);
    assert_eq!(count(&a), FILES as u64);
    a.ok(&["folder", "approve", FOLDER]);
    settle(&[&a, &b]);
    aftermath(&[&a, &b], 0);
    assert_eq!((count(&a), kept(&a)), (0, 4), "everything is gone, and A has a version of each");
}

/// D-4c: a peer without a guard deletes nine tenths. At most 1,000 may go before it shows, and those are versions.
#[test]
fn d4c_a_peer_that_deletes_most_of_it_is_held() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    fill(&a);
    settle(&[&a, &b]);
    b.ok(&["folder", "set", FOLDER, "mass_delete_guard", "off"]);
    meet(&b, &a);
    for at in 2..20 {
        fs::remove_dir_all(b.at(at.to_string())).expect("gone");
    }
    until("the peer has told all of it", || (count(&b) == FILES as u64 / 10).then_some(()));
    let gone = until("the rest is held", || {
        let gone = FILES as u64 - count(&a);
        (held(&a, "deletions_there") + gone == FILES as u64 * 9 / 10).then_some(gone)
    });
    assert!(gone <= 1_000, "{gone} files were deleted before the guard held the rest");
    a.ok(&["folder", "reject", FOLDER]);
    settle(&[&a, &b]);
    assert!(count(&a) >= FILES as u64 - gone);
    aftermath(&[&a, &b], 0);
}

/// D-4d: only the marker is there again, in an empty root: it still asks. A marker that somebody made stops the folder,
/// and what a person answers to that deletes nothing either.
#[test]
fn d4d_a_marker_alone_proves_nothing_about_the_files() {
    let world = World::new();
    let (a, mut b) = pair_of(&world);
    for at in 0..30 {
        a.put(format!("d/{at}"), at.to_string());
    }
    settle(&[&a, &b]);
    b.stop();
    let marker = fs::read(b.at(".syncd/marker")).expect("a marker");
    // Kept, so that the new root gets another inode.
    fs::rename(b.files(), world.path().join("aside")).expect("a rename");
    fs::create_dir(b.files()).expect("a directory");
    fs::create_dir(b.at(".syncd")).expect("a directory");
    fs::write(b.at(".syncd/marker"), "made by hand").expect("a file");
    b.start();
    assert_eq!(b.folder()["state"], "stopped", "a marker without the secret is none");
    assert!(b.ok(&["status"]).contains("`syncctl folder approve` makes it this folder's"));
    b.stop();
    fs::write(b.at(".syncd/marker"), &marker).expect("a file");
    b.start();
    assert_eq!(b.folder()["state"], "stopped", "a marker without the files is none either");
    fs::write(b.at(".syncd/marker"), "made by hand").expect("a file");
    b.ok(&["folder", "approve", FOLDER]);
    assert_eq!(fs::read(b.at(".syncd/marker")).expect("a marker"), marker, "a person made it this folder's");
    meet(&b, &a);
    assert_eq!(held(&b, "deletions_here"), 30);
    assert_eq!(count(&a), 30);
    b.ok(&["folder", "reject", FOLDER]);
    settle(&[&b, &a]);
    aftermath(&[&a, &b], 0);
    assert_eq!(count(&b), 30);
}
