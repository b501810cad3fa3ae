//! An index that is older than what a peer knows of it.

use super::receiver::{Peer, Receiver, path, paths, text};
use protocol::model::{ReplicaId, RunId, Sequence, Version};
use protocol::sync::engine::{Event, RunWords, renewal};
use protocol::sync::{Journal, Rows};

/// A device in its second run, and a copy of its database from the first.
fn in_second_run() -> (Receiver, Peer, syncd::disk::sim_journal::MemJournal) {
    let (mut receiver, peer) = Receiver::with(5);
    receiver.runs(1);
    let backup = receiver.store.fork();
    receiver.user_writes(&paths(1)[0], "in the first run");
    receiver.runs(2);
    receiver.meets(&peer);
    receiver.user_writes(&paths(2)[1], "in the second run");
    (receiver, peer, backup)
}

fn tells(receiver: &mut Receiver, peer: &Peer, yours: Option<(RunId, Sequence)>) {
    let your_replica = receiver.store.state().replica;
    let words = RunWords { replica: peer.replica, run: RunId([9; 8]), your_replica, yours };
    receiver.happens(Event::Run { peer: peer.id, words });
}

fn run(number: u8) -> RunId {
    RunId([number; 8])
}

#[test]
fn a_history_holds_what_it_went_through_and_nothing_else() {
    let (receiver, _, _) = in_second_run();
    let (history, head) = (receiver.store.history(), receiver.store.state().head);
    let second = history.runs[1].1;
    assert!(second < head);
    for (number, sequence, holds) in [
        (1, Sequence(0), true),
        (1, second, true),
        (1, second.next(), false),
        (2, second.next(), true),
        (2, head, true),
        (2, head.next(), false),
        (3, Sequence(0), false),
    ] {
        assert_eq!(history.holds(run(number), sequence, head), holds, "run {number} at {sequence:?}");
    }
}

#[test]
fn a_peer_that_remembers_more_shows_it() {
    let head = |receiver: &Receiver| receiver.store.state().head;
    for (story, went_back, yours) in [
        ("nothing is known", false, None),
        ("this run", false, Some((2, 0))),
        ("an earlier run", false, Some((1, -1))),
        ("an earlier run that went further", true, Some((1, 0))),
        ("this run further on", true, Some((2, 1))),
        ("a run that never was", true, Some((7, -5))),
    ] {
        let (mut receiver, peer, _) = in_second_run();
        let at = |by: i64| Sequence(head(&receiver).0.checked_add_signed(by).expect("some sequence number"));
        let yours = yours.map(|(number, by)| (run(number), at(by)));
        tells(&mut receiver, &peer, yours);
        assert_eq!(receiver.stale.is_some(), went_back, "{story}");
        let confirmed = receiver.store.history().confirmed == receiver.store.state().counter;
        assert_eq!(confirmed, yours.is_some() && !went_back, "{story}");
    }
}

#[test]
fn the_numbers_of_old_messages_and_rows_show_it_too() {
    let (mut receiver, peer, _) = in_second_run();
    let (replica, head) = (receiver.store.state().replica, receiver.store.state().head);
    receiver.happens(Event::IndexGet { peer: peer.id, replica, from: head, credit: 2 });
    assert_eq!(receiver.stale, None);
    receiver.happens(Event::IndexGet { peer: peer.id, replica, from: head.next(), credit: 2 });
    assert_eq!(receiver.stale.take(), Some(peer.id));

    // A hostile counter of ours is only another index.
    for counter in [1, u64::MAX] {
        let (mut receiver, mut peer, _) = in_second_run();
        let mut row = peer.sets(&path("d0000/new"), text("new"));
        let event = protocol::model::Event { replica, counter };
        row.entry.version = row.entry.version.bumped(event);
        receiver.hears(&mut peer, vec![row]);
        assert_eq!(receiver.stale, Some(peer.id), "{counter}");
        let was = receiver.store.rows();
        receiver.user_writes(&paths(4)[3], "meanwhile");
        assert_eq!(receiver.store.rows(), was, "nothing is recorded until the index is renewed");
    }
}

#[test]
fn a_renewed_index_forgets_what_may_have_been_made_twice() {
    let (mut receiver, peer, backup) = in_second_run();
    let head = receiver.store.state().head;
    receiver.goes_back_to(backup);
    receiver.runs(3);
    receiver.meets(&peer);
    receiver.user_writes(&paths(3)[2], "after the restore");
    tells(&mut receiver, &peer, Some((run(2), head)));
    assert_eq!(receiver.stale, Some(peer.id));
    let before = receiver.store.state();
    let fresh = ReplicaId([0xbb; 8]);
    renewal(&receiver.store, fresh).into_iter().for_each(|changes| receiver.store.commit(changes));
    let after = receiver.store.state();
    assert_eq!((after.replica, after.scanned, after.counter), (fresh, false, before.counter));
    assert_eq!(receiver.store.cursor(&peer.id), None);
    assert!(receiver.store.get(&paths(3)[2]).have.is_none(), "its number may name another change");
    let kept = receiver.store.get(&paths(1)[0]).have.expect("older than the backup");
    assert_eq!(kept.entry.version.get(before.replica), 0);
    assert_ne!(kept.entry.version, Version::default());
}
