//! A receiver's guard: what one peer may take away before a person is asked, what happens to the rest, and how a hold
//! ends. One engine with everything around it made up; two devices and real files are `tests/e2e/guard.rs`.

mod agreement;
mod fetches;
mod history;
mod readers;
mod receiver;
mod restored;

use protocol::model::{Content, RelPath, Row};
use protocol::sync::engine::Event;
use protocol::sync::{Change, DeclineCode, Journal, Rows};
use receiver::{Peer, Receiver, path, paths, standing, text, words};
use std::time::Duration;

/// More than the guard looks back.
const LATER: Duration = Duration::from_secs(601);

/// A receiver with `files` files on which a peer's deletion of the first `deleted` is held.
fn holding(files: usize, deleted: usize) -> (Receiver, Peer) {
    let (mut receiver, mut peer) = Receiver::with(files);
    let rows = everything(&mut peer, deleted);
    receiver.hears(&mut peer, rows);
    assert_eq!(receiver.held(), format!("DeletionsThere {deleted} of {files} by 1"));
    (receiver, peer)
}

/// The first files go, and the directories that are empty then.
fn everything(peer: &mut Peer, files: usize) -> Vec<Row> {
    let mut gone = paths(files);
    gone.extend(directories(files));
    gone.sort();
    peer.deletes(&gone)
}

/// Directories with nothing but the first files.
fn directories(files: usize) -> Vec<RelPath> {
    let all = paths(files + 1);
    let mut full: Vec<RelPath> = all[..files].iter().filter_map(RelPath::parent).collect();
    full.dedup();
    full.retain(|dir| files < 100 || all[files].parent().as_ref() != Some(dir));
    full
}

fn declined_rows(receiver: &Receiver) -> usize {
    let is_declined = |row: &&protocol::sync::LocalRow| row.wants.iter().any(|want| want.declined.is_some());
    receiver.store.rows().values().filter(is_declined).count()
}

#[test]
fn deletions_are_held_by_the_senders_rule() {
    for (files, deleted, held) in [
        (9, 9, false),
        (10, 9, false),
        (10, 10, true),
        (30, 30, true),
        (1_200, 1_000, false),
        (1_200, 1_001, true),
        (3_000, 1_000, false),
        (3_000, 1_500, false),
        (3_000, 1_501, true),
        (3_000, 1_600, true),
        (3_000, 3_000, true),
    ] {
        let (mut receiver, mut peer) = Receiver::with(files);
        let rows = everything(&mut peer, deleted);
        receiver.hears(&mut peer, rows);
        let name = format!("{deleted} of {files}");
        let expected = if held { format!("DeletionsThere {deleted} of {files} by 1") } else { String::new() };
        assert_eq!(receiver.held(), expected, "{name}");
        assert_eq!(words(&receiver.told), expected, "{name}: told once");
        let left = if held { files } else { files - deleted };
        assert_eq!((receiver.files(), receiver.removed.len()), (left, files - left), "{name}: all or nothing");
        let waiting = |it: &protocol::sync::engine::Declined| it.code == Some(DeclineCode::WaitingForApproval);
        let told = receiver.declined.values().filter(|it| waiting(it)).count();
        assert_eq!(told, if held { deleted + directories(deleted).len() } else { 0 }, "{name}: the peer knows");
        assert!(receiver.is_idle(), "{name}");
    }
}

#[test]
fn nothing_goes_before_all_was_read() {
    let (mut receiver, mut peer) = Receiver::with(3_000);
    let mut rows = peer.deletes(&paths(1_600));
    let rest = rows.split_off(900);
    receiver.hears_part(&mut peer, rows, 700);
    assert_eq!((receiver.files(), receiver.held()), (3_000, String::new()), "not known yet whether it is too much");
    assert_eq!(receiver.wake_at(), None, "a peer that is there goes on");
    receiver.hears(&mut peer, rest);
    assert_eq!((receiver.files(), receiver.held()), (3_000, "DeletionsThere 1600 of 3000 by 1".to_owned()));
}

#[test]
fn a_session_that_ends_in_the_middle_lets_nothing_through() {
    let (mut receiver, mut peer) = Receiver::with(3_000);
    let mut rows = peer.deletes(&paths(1_600));
    let rest = rows.split_off(900);
    receiver.hears_part(&mut peer, rows, 700);
    receiver.loses(&peer);
    receiver.waits(Duration::from_secs(60));
    assert_eq!(receiver.files(), 3_000);
    receiver.meets(&peer);
    receiver.hears(&mut peer, rest);
    assert_eq!((receiver.files(), receiver.held()), (3_000, "DeletionsThere 1600 of 3000 by 1".to_owned()));
}

#[test]
fn a_device_that_stays_away_is_judged_by_what_it_said() {
    for restarts in [false, true] {
        let (mut receiver, mut peer) = Receiver::with(3_000);
        let rows = peer.deletes(&paths(900));
        receiver.hears_part(&mut peer, rows, 700);
        receiver.loses(&peer);
        if restarts {
            receiver.restarts();
        }
        let due = receiver.wake_at().expect("a timer");
        receiver.waits(due.since(receiver.now));
        assert_eq!((receiver.files(), receiver.held()), (2_100, String::new()), "restarts: {restarts}");
        assert_eq!(receiver.wake_at(), None);
    }
}

#[test]
fn what_went_lately_counts() {
    for (between, held) in
        [(Duration::from_secs(60), "DeletionsThere 700 of 2100 by 1".to_owned()), (LATER, String::new())]
    {
        let (mut receiver, mut peer) = Receiver::with(3_000);
        let all = paths(1_600);
        let rows = peer.deletes(&all[..900]);
        receiver.hears(&mut peer, rows);
        assert_eq!(receiver.files(), 2_100);
        receiver.waits(between);
        let rows = peer.deletes(&all[900..]);
        receiver.hears(&mut peer, rows);
        assert_eq!(receiver.held(), held, "{between:?}");
    }
}

#[test]
fn while_deletions_are_held_the_rest_flows() {
    let (mut receiver, mut peer) = holding(3_000, 1_600);
    let mut another = receiver.meets_another(2, &peer);
    let (edited, new, gone) = (paths(2_000)[1_999].clone(), path("d0000/new"), paths(2_001)[2_000].clone());
    let rows = vec![peer.sets(&edited, text("edited")), peer.sets(&new, text("new"))];
    receiver.hears(&mut peer, rows);
    assert_eq!(receiver.content(&edited), Some(text("edited")));
    assert_eq!(receiver.content(&new), Some(text("new")), "also in a directory that waits to go");
    let rows = another.deletes(std::slice::from_ref(&gone));
    receiver.hears(&mut another, rows);
    assert_eq!(receiver.content(&gone), None, "another device is not held");
    let more = paths(2_500)[2_400..].to_vec();
    let rows = peer.deletes(&more);
    receiver.hears(&mut peer, rows);
    assert_eq!(receiver.held(), "DeletionsThere 1700 of 3000 by 1", "but this one deletes nothing until answered");
    assert_eq!(receiver.told.len(), 1);
}

#[test]
fn directories_of_held_deletions_stay_as_they_are() {
    let (mut receiver, mut peer) = Receiver::with(3_000);
    let (before, head) = (receiver.directories(), receiver.store.state().head);
    let rows = everything(&mut peer, 3_000);
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.directories(), receiver.store.state().head), (before, head), "neither removed nor revived");
    receiver.happens(Event::Approve);
    assert_eq!((receiver.directories(), receiver.files()), (0, 0));
}

#[test]
fn a_directory_that_another_device_deletes_waits_for_what_is_held_in_it() {
    let (mut receiver, mut peer) = Receiver::with(30);
    let mut another = receiver.meets_another(2, &peer);
    let rows = peer.deletes(&paths(30));
    receiver.hears(&mut peer, rows);
    let rows = another.deletes(&[path("d0000")]);
    let head = receiver.store.state().head;
    receiver.hears(&mut another, rows);
    assert_eq!((receiver.directories(), receiver.store.state().head), (1, head));
    receiver.happens(Event::Approve);
    assert_eq!((receiver.directories(), receiver.files()), (0, 0));
}

#[test]
fn replacements_above_their_bound_are_held() {
    // The first batches of a peer are taken: that there are too many shows in the last one.
    for (files, rewritten, held) in [(900, 900, 0), (1_000, 1_000, 0), (1_300, 1_170, 0), (1_300, 1_171, 147)] {
        let (mut receiver, mut peer) = Receiver::with(files);
        let all = paths(files);
        let rows = peer.rewrites(&all[..rewritten], "new ");
        receiver.hears(&mut peer, rows);
        let name = format!("{rewritten} of {files}");
        let expected = if held > 0 { format!("ReplacementsThere {held} of {files} by 1") } else { String::new() };
        assert_eq!(receiver.held(), expected, "{name}");
        let is_old = |path: &&RelPath| receiver.content(path) == Some(standing(path));
        assert_eq!(all.iter().filter(is_old).count(), files - rewritten + held, "{name}");
    }
}

#[test]
fn one_file_written_over_and_over_is_one() {
    let (mut receiver, mut peer) = Receiver::with(20);
    for round in 0..1_200 {
        let rows = peer.rewrites(&paths(2), &round.to_string());
        receiver.hears(&mut peer, rows);
        receiver.waits(Duration::from_millis(250));
    }
    assert_eq!(receiver.held(), "");
}

#[test]
fn held_replacements_are_approved_or_put_back() {
    for approve in [true, false] {
        let (mut receiver, mut peer) = Receiver::with(1_100);
        let rows = peer.rewrites(&paths(1_100), "new ");
        receiver.hears(&mut peer, rows);
        assert_eq!(receiver.held(), "ReplacementsThere 588 of 1100 by 1");
        let late = paths(1_100).pop().expect("a path");
        let rows = peer.rewrites(std::slice::from_ref(&late), "newer ");
        receiver.hears(&mut peer, rows);
        assert_eq!(receiver.held(), "ReplacementsThere 588 of 1100 by 1", "a newer one takes its place");
        let gone = paths(1)[0].clone();
        let rows = peer.deletes(std::slice::from_ref(&gone));
        receiver.hears(&mut peer, rows);
        assert_eq!(receiver.content(&gone), None, "deletions have a rule of their own");
        receiver.happens(if approve { Event::Approve } else { Event::Reject });
        let expected = if approve { text(&format!("newer {late:?}")) } else { standing(&late) };
        assert_eq!(receiver.content(&late), Some(expected));
        assert_eq!((receiver.held().as_str(), declined_rows(&receiver), receiver.is_idle()), ("", 0, true));
    }
}

#[test]
fn a_rename_is_no_deletion() {
    let renamed = |at: &RelPath| path(&format!("r/{}", String::from_utf8_lossy(at.as_bytes()).replace('/', "-")));
    for (name, interleaved, creates_last) in
        [("creates, then deletions", false, false), ("one by one", true, false), ("creates that moved on", false, true)]
    {
        let (mut receiver, mut peer) = Receiver::with(2_500);
        let old = paths(2_500);
        let mut rows = vec![peer.sets(&path("r"), Content::Directory)];
        let creates: Vec<Row> = old.iter().map(|at| peer.sets(&renamed(at), standing(at))).collect();
        let deletions = peer.deletes(&old);
        if interleaved {
            rows.extend(creates.into_iter().zip(deletions.into_iter().rev()).flat_map(<[Row; 2]>::from));
        } else if creates_last {
            rows.extend(deletions.into_iter().chain(creates));
        } else {
            rows.extend(creates.into_iter().chain(deletions));
        }
        rows.extend(peer.deletes(&directories(2_500)));
        receiver.hears(&mut peer, rows);
        assert_eq!((receiver.held(), receiver.files(), receiver.directories()), (String::new(), 2_500, 1), "{name}");
        assert!(old.iter().all(|at| receiver.content(&renamed(at)) == Some(standing(at))), "{name}");
    }
}

#[test]
fn a_rename_that_two_devices_tell_of_is_none_either() {
    let (mut receiver, mut peer) = Receiver::with(200);
    let old = paths(200);
    let mut rows = vec![peer.sets(&path("r"), Content::Directory)];
    rows.extend(old.iter().enumerate().map(|(at, from)| peer.sets(&path(&format!("r/{at}")), standing(from))));
    receiver.hears_part(&mut peer, rows.clone(), 200);
    // The other one has done all of it when the first one is half through.
    let mut another = receiver.meets_another(2, &peer);
    rows.extend(peer.deletes(&old));
    receiver.hears(&mut another, rows);
    assert_eq!((receiver.held(), receiver.files()), (String::new(), 200));
}

#[test]
fn one_copy_does_not_pay_for_all_files_that_equal_it() {
    let (mut receiver, mut peer) = Receiver::with(10);
    let same: Vec<RelPath> = paths(1_020)[10..].to_vec();
    let rows = same.iter().map(|at| peer.sets(at, text("the same"))).collect();
    receiver.hears(&mut peer, rows);
    receiver.waits(LATER);
    let mut rows = vec![peer.sets(&path("copy"), text("the same"))];
    rows.extend(peer.deletes(&same));
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.held().as_str(), receiver.files()), ("DeletionsThere 1009 of 1020 by 1", 1_020));
}

#[test]
fn files_that_came_just_now_do_not_pay_for_their_own_deletion() {
    let (mut receiver, mut peer) = Receiver::with(0);
    let mut rows = vec![peer.sets(&path("d0000"), Content::Directory)];
    rows.extend(peer.restores(&paths(30)));
    receiver.hears(&mut peer, rows);
    let rows = peer.rewrites(&paths(30), "new ");
    receiver.hears(&mut peer, rows);
    let rows = peer.deletes(&paths(30));
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.held().as_str(), receiver.files()), ("DeletionsThere 30 of 30 by 1", 30));
}

#[test]
fn approved_deletions_are_carried_out_and_counted_no_more() {
    let (mut receiver, mut peer) = holding(3_000, 1_600);
    receiver.happens(Event::Approve);
    assert_eq!((receiver.held(), receiver.files(), declined_rows(&receiver)), (String::new(), 1_400, 0));
    let rows = peer.deletes(&paths(2_200)[1_600..]);
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.held(), receiver.files()), (String::new(), 800));
    receiver.restarts();
    assert_eq!((receiver.held(), receiver.told.len()), (String::new(), 0));
}

#[test]
fn rejected_deletions_are_taken_back_everywhere() {
    let (mut receiver, mut peer) = holding(3_000, 1_600);
    let tombstones: Vec<Row> = paths(1_600).iter().map(|at| peer.last(at)).collect();
    receiver.happens(Event::Reject);
    assert_eq!((receiver.held(), receiver.files(), declined_rows(&receiver)), (String::new(), 3_000, 0));
    for Row { path, entry } in tombstones {
        let ours = receiver.store.get(&path).have.expect("it stands here").entry;
        assert!(entry.version.is_within(&ours.version) && ours.version != entry.version, "above theirs: {path:?}");
        assert_eq!(ours.content, standing(&path));
    }
    assert_eq!(receiver.directories(), 30, "with their directories");
    // What comes after the answer is judged by itself.
    let rows = peer.deletes(&paths(2_000)[1_700..]);
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.held(), receiver.files()), (String::new(), 2_700));
}

#[test]
fn an_answer_is_no_answer_to_what_is_still_being_read() {
    let (mut receiver, peer) = holding(3_000, 1_600);
    let mut another = receiver.meets_another(2, &peer);
    another.restores(&paths(1_600));
    let rows = another.deletes(&paths(3_000)[1_600..2_900]);
    receiver.hears_part(&mut another, rows, 1);
    receiver.happens(Event::Approve);
    assert_eq!(receiver.files(), 1_400, "those of the first device went, the others are not judged yet");
    let rows = vec![another.sets(&path("last"), text("last"))];
    receiver.hears(&mut another, rows);
    assert_eq!(receiver.held(), "DeletionsThere 1300 of 1400 by 2");
}

#[test]
fn a_peer_that_puts_things_back_ends_the_hold() {
    let (mut receiver, mut peer) = holding(3_000, 1_600);
    let mut rows: Vec<Row> = directories(1_590).iter().map(|dir| peer.sets(dir, Content::Directory)).collect();
    rows.extend(peer.restores(&paths(1_590)));
    receiver.hears(&mut peer, rows);
    assert_eq!(receiver.held(), "DeletionsThere 10 of 3000 by 1");
    assert_eq!(declined_rows(&receiver), 11, "ten files and their directory");
    let rows = peer.restores(&paths(1_600)[1_590..]);
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.held(), declined_rows(&receiver), receiver.files()), (String::new(), 0, 3_000));
    assert!(receiver.is_idle());
    let rows = peer.deletes(&paths(100));
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.held(), receiver.files()), (String::new(), 2_900), "and it deletes again");
}

#[test]
fn another_device_that_took_it_back_ends_the_hold() {
    let (mut receiver, peer) = holding(30, 30);
    let mut another = receiver.meets_another(2, &peer);
    let mut rows = vec![another.sets(&path("d0000"), Content::Directory)];
    rows.extend(another.restores(&paths(30)));
    receiver.hears(&mut another, rows);
    assert_eq!((receiver.held(), declined_rows(&receiver), receiver.files()), (String::new(), 0, 30));
}

#[test]
fn what_the_user_does_here_is_no_longer_held() {
    let (mut receiver, _peer) = holding(30, 30);
    receiver.user_deletes(&paths(5));
    assert_eq!(receiver.held(), "DeletionsThere 25 of 30 by 1");
    receiver.user_writes(&paths(6)[5], "mine");
    assert_eq!(receiver.held(), "DeletionsThere 24 of 30 by 1");
    receiver.happens(Event::Approve);
    assert_eq!(
        (receiver.held(), receiver.files()),
        (String::new(), 1),
        "an edit outlives a deletion that had not seen it"
    );
    assert_eq!(receiver.content(&paths(6)[5]), Some(text("mine")));
}

#[test]
fn an_entry_that_two_devices_tell_of_counts_once() {
    let (mut receiver, mut peer) = Receiver::with(3_000);
    let mut another = receiver.meets_another(2, &peer);
    let rows = peer.deletes(&paths(1_600));
    receiver.hears(&mut peer, rows.clone());
    receiver.hears(&mut another, rows);
    assert_eq!(receiver.held(), "DeletionsThere 1600 of 3000 by 1");
    receiver.restarts();
    assert_eq!(receiver.held(), "DeletionsThere 1600 of 3000 by 1");
}

#[test]
fn a_restart_keeps_the_holds_of_every_device_and_tells_again() {
    let (mut receiver, mut peer) = Receiver::with(30);
    let mut another = receiver.meets_another(2, &peer);
    for deleting in [&mut peer, &mut another] {
        let rows = everything(deleting, 30);
        receiver.hears(deleting, rows);
    }
    let held = "DeletionsThere 30 of 30 by 1, DeletionsThere 30 of 30 by 2";
    assert_eq!((receiver.held().as_str(), words(&receiver.told).as_str()), (held, held));
    receiver.restarts();
    assert_eq!((receiver.held().as_str(), words(&receiver.told).as_str()), (held, held));
    assert_eq!((receiver.files(), receiver.is_idle()), (30, true));
    receiver.happens(Event::Approve);
    assert_eq!((receiver.held().as_str(), receiver.files(), receiver.directories()), ("", 0, 0));
}

#[test]
fn a_crash_while_rows_are_put_on_hold_lets_nothing_through() {
    let (mut receiver, peer) = holding(3_000, 1_600);
    for at in &paths(1_600)[800..] {
        let mut wants = receiver.store.get(at).wants;
        wants.iter_mut().for_each(|want| want.declined = None);
        receiver.store.commit(vec![Change::Wants { path: at.clone(), wants }]);
    }
    receiver.restarts();
    receiver.meets(&peer);
    assert_eq!((receiver.held(), receiver.files()), ("DeletionsThere 1600 of 3000 by 1".to_owned(), 3_000));
}

#[test]
fn without_the_guard_nothing_is_held() {
    let (mut receiver, mut peer) = Receiver::with(30);
    assert!(!receiver.guards(false), "at once");
    let rows = everything(&mut peer, 30);
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.held(), receiver.files(), receiver.directories()), (String::new(), 0, 0));
}

#[test]
fn a_guard_that_is_switched_on_holds_from_then_on() {
    let (mut receiver, mut peer) = Receiver::with(3_000);
    assert!(!receiver.guards(false) && !receiver.guards(true), "at once");
    let rows = everything(&mut peer, 1_600);
    receiver.hears(&mut peer, rows);
    assert_eq!((receiver.held(), receiver.files()), ("DeletionsThere 1600 of 3000 by 1".to_owned(), 3_000));
    assert!(!receiver.guards(true) && !receiver.held().is_empty(), "it was on");
}

#[test]
fn a_guard_that_is_switched_on_holds_what_is_decided_and_not_under_way() {
    let (mut receiver, mut peer) = Receiver::with(6_000);
    assert!(!receiver.guards(false));
    let mut rows = peer.deletes(&paths(4_000));
    let rest = rows.split_off(3_900);
    receiver.rests = true;
    receiver.hears_part(&mut peer, rows, 100);
    assert!(!receiver.guards(true), "at once");
    receiver.acts();
    assert_eq!(
        (receiver.files(), receiver.held()),
        (5_488, String::new()),
        "one batch was out; the rest is not judged"
    );
    receiver.hears(&mut peer, rest);
    assert_eq!((receiver.files(), receiver.held()), (5_488, "DeletionsThere 3488 of 5488 by 1".to_owned()));
}

#[test]
fn what_is_counted_when_the_guard_is_switched_off_goes_on() {
    let (mut receiver, mut peer) = Receiver::with(3_000);
    let mut rows = peer.deletes(&paths(1_600));
    let rest = rows.split_off(900);
    receiver.hears_part(&mut peer, rows, 700);
    assert_eq!(receiver.files(), 3_000);
    assert!(!receiver.guards(false), "at once");
    receiver.hears(&mut peer, rest);
    assert_eq!((receiver.held(), receiver.files(), receiver.is_idle()), (String::new(), 1_400, true));
}

#[test]
fn a_guard_that_is_switched_off_lets_go() {
    let (mut receiver, peer) = holding(3_000, 1_600);
    assert!(receiver.guards(false), "what is held is decided by a start");
    receiver.meets(&peer);
    assert_eq!((receiver.held(), receiver.files(), receiver.directories()), (String::new(), 1_400, 14));
    receiver.guards(true);
    assert_eq!((receiver.held(), declined_rows(&receiver)), (String::new(), 0));
}

#[test]
fn a_device_that_is_removed_takes_its_hold_along() {
    let (mut receiver, peer) = holding(30, 30);
    receiver.store.commit(vec![Change::Forget(peer.id)]);
    receiver.loses(&peer);
    assert_eq!((receiver.held(), declined_rows(&receiver), receiver.files()), (String::new(), 0, 30));
}

/// A deletion waits for the create that would take its content along, and only for one that is going to come.
#[test]
fn what_was_deleted_here_holds_up_no_deletion_there() {
    let (mut receiver, mut peer) = Receiver::with(2);
    let [one, other] = [&paths(2)[0], &paths(2)[1]];
    let alike = vec![peer.sets(one, text("alike")), peer.sets(other, text("alike"))];
    receiver.hears(&mut peer, alike);
    receiver.user_deletes(std::slice::from_ref(other));
    let apart = vec![peer.chmods(other), peer.sets(one, Content::Tombstone)];
    receiver.hears(&mut peer, apart);
    assert_eq!((receiver.content(one), receiver.content(other)), (None, None));
    assert_eq!(receiver.removed, std::slice::from_ref(one));
}

/// The other one edited a file, the first one deleted that edit with all the rest: what is held of the first takes the
/// place of what the other announced, and the two differ until a person answers, without anybody being wrong.
#[test]
fn what_is_held_of_one_device_is_no_alarm_about_another() {
    let (mut receiver, mut peer) = Receiver::with(30);
    let mut another = receiver.meets_another(2, &peer);
    let edit = another.sets(&paths(30)[7], text("an edit"));
    peer.copies(&another);
    let rows = everything(&mut peer, 30);
    receiver.hears(&mut peer, rows);
    assert_eq!(receiver.held(), "DeletionsThere 30 of 30 by 1");
    receiver.hears(&mut another, vec![edit]);
    for _ in 0..3 {
        receiver.compares(&another);
    }
    assert!(!receiver.digests[&another.id].idle, "the other one shall not cry of it either");
    receiver.compares(&peer);
    assert!(receiver.digests[&peer.id].idle, "what is declined of this one counts as held");
}

#[test]
fn what_one_batch_says_twice_is_one_change() {
    let (mut receiver, _) = Receiver::with(103);
    let before = receiver.store.state();
    let directory = path("d0001");
    receiver.user_puts_unseen(&directory, text("a file now"), 2_000_000_000);
    receiver.finds(&[&directory, &directory, &directory]);
    let after = receiver.store.state();
    assert_eq!(after.counter - before.counter, 4, "three files went and one came");
    assert_eq!((receiver.files(), receiver.directories()), (101, 1));
    assert_eq!(receiver.held(), "");

    let new = path("new");
    receiver.user_puts_unseen(&new, text("new"), 2_000_000_000);
    receiver.finds(&[&new, &new]);
    assert_eq!(receiver.store.state().counter - after.counter, 1);
}
