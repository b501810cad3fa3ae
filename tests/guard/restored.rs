//! Files that go back to older contents here, as a backup of the data brings them.

use super::receiver::{Peer, Receiver, paths, standing, text, words};
use protocol::model::Content;
use protocol::sync::Rows;
use protocol::sync::engine::Event;
use std::time::Duration;

/// Long before the inode was last changed.
const LONG_AGO: i64 = 1_500_000_000;

/// A device on which the first files were rewritten once.
fn rewritten(files: usize) -> (Receiver, Peer) {
    let (mut receiver, mut peer) = Receiver::with(files);
    let mut rewrite = |path: protocol::model::RelPath| {
        let mut row = peer.sets(&path, text(&format!("newer {path:?}")));
        row.entry.ancestors = standing(&path).ancestor_hash().into_iter().collect();
        row
    };
    let rows = paths(files).into_iter().map(&mut rewrite).collect();
    receiver.hears(&mut peer, rows);
    (receiver, peer)
}

fn restores(receiver: &mut Receiver, files: usize, mtime_secs: i64) {
    for path in paths(files) {
        receiver.user_puts(&path, standing(&path), mtime_secs);
    }
    receiver.waits(Duration::from_secs(1));
}

/// Files that this device would tell others it went back to.
fn published(receiver: &Receiver, files: usize) -> usize {
    paths(files).iter().filter(|path| receiver.content(path) == Some(standing(path))).count()
}

#[test]
fn many_that_go_back_are_held_and_few_or_new_ones_are_not() {
    for (files, back, mtime_secs, held) in [
        (300, 100, LONG_AGO, false),
        (300, 101, LONG_AGO, true),
        (300, 300, LONG_AGO, true),
        // A program that wrote the old bytes: a version control system, an editor's undo.
        (300, 300, 2_000_000_000, false),
    ] {
        let (mut receiver, _) = rewritten(files);
        restores(&mut receiver, back, mtime_secs);
        let name = format!("{back} of {files} at {mtime_secs}");
        let expected = if held { format!("RestoredHere {back} of {files} by 0") } else { String::new() };
        assert_eq!((receiver.held(), words(&receiver.told)), (expected.clone(), expected), "{name}");
        assert_eq!(published(&receiver, back), if held { 0 } else { back }, "{name}");
        assert!(receiver.is_idle(), "{name}");
    }
}

#[test]
fn what_is_held_goes_out_when_a_person_says_so() {
    let (mut receiver, _) = rewritten(200);
    restores(&mut receiver, 200, LONG_AGO);
    receiver.happens(Event::Approve);
    assert_eq!((receiver.held(), published(&receiver, 200)), (String::new(), 200));
}

#[test]
fn what_is_held_gives_way_to_what_it_was_when_a_person_says_so() {
    let (mut receiver, _) = rewritten(200);
    restores(&mut receiver, 200, LONG_AGO);
    receiver.happens(Event::Reject);
    assert_eq!(receiver.held(), "");
    for path in paths(200) {
        let newer: Content = text(&format!("newer {path:?}"));
        assert_eq!(receiver.content(&path), Some(newer), "{path:?}");
        assert!(receiver.store.get(&path).wants.is_empty());
    }
}

/// Somebody goes on working with the restored files.
#[test]
fn a_hold_ends_with_its_files() {
    let (mut receiver, _) = rewritten(150);
    restores(&mut receiver, 150, LONG_AGO);
    for path in paths(150) {
        receiver.user_writes(&path, "edited");
    }
    assert_eq!(receiver.held(), "");
    assert_eq!(receiver.content(&paths(1)[0]), Some(text("edited")));
}

/// Bytes that nobody wrote are no edit.
#[test]
fn bytes_that_rotted_are_held_until_a_person_answers() {
    for approves in [true, false] {
        let (mut receiver, _) = rewritten(20);
        let (rotten, was) = (paths(1).remove(0), receiver.content(&paths(1)[0]));
        receiver.happens(Event::Suspect(rotten.clone()));
        receiver.happens(Event::Suspect(rotten.clone()));
        assert_eq!(words(&receiver.told), "SuspectHere 1 of 20 by 0", "told once");
        assert_eq!(receiver.content(&rotten), was);
        receiver.happens(if approves { Event::Approve } else { Event::Reject });
        assert_eq!((receiver.held(), receiver.content(&rotten)), (String::new(), was));
        assert_eq!(receiver.looked.contains(&rotten), approves, "read again");
    }
}
