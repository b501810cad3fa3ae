//! A device that only reads: nothing that it announces changes anything, and it is told so.

use super::receiver::{Peer, Receiver, path, paths, text};
use protocol::sync::{DeclineCode, Rows};

fn with_reader(files: usize) -> (Receiver, Peer, Peer) {
    let (mut receiver, writer) = Receiver::with(files);
    let reader = receiver.meets_reader(9, &writer);
    (receiver, writer, reader)
}

fn refused(receiver: &Receiver) -> usize {
    receiver.declined.values().filter(|declined| declined.code == Some(DeclineCode::NotAWriter)).count()
}

#[test]
fn an_edit_of_a_reader_is_refused_and_it_is_told() {
    let (mut receiver, _, mut reader) = with_reader(5);
    let before: Vec<_> = paths(5).iter().map(|path| receiver.content(path)).collect();
    let mut rows = reader.rewrites(&paths(3), "by a reader");
    rows.push(reader.sets(&path("d0000/new"), text("by a reader")));
    rows.extend(reader.deletes(&paths(5)[4..]));
    receiver.hears(&mut reader, rows);
    assert_eq!(paths(5).iter().map(|path| receiver.content(path)).collect::<Vec<_>>(), before);
    assert_eq!((receiver.content(&path("d0000/new")), receiver.held()), (None, String::new()));
    assert_eq!(refused(&receiver), 5);
    assert!(receiver.is_idle());
    receiver.compares(&reader);
    assert!(receiver.is_in_sync(&reader), "its digest is what it says it has");
}

#[test]
fn all_deletions_of_a_reader_need_no_answer() {
    let (mut receiver, _, mut reader) = with_reader(50);
    let rows = reader.deletes(&paths(50));
    receiver.hears(&mut reader, rows);
    assert_eq!((receiver.files(), receiver.held(), receiver.removed.len()), (50, String::new(), 0));
}

#[test]
fn an_entry_of_a_reader_hides_no_change_of_a_writer() {
    // As new as anything: it claims to have seen what the writer does next.
    for reader_first in [true, false] {
        let (mut receiver, mut writer, mut reader) = with_reader(5);
        let file = &paths(1)[0];
        let change = writer.rewrites(std::slice::from_ref(file), "by the writer");
        reader.copies(&writer);
        let claim = reader.rewrites(std::slice::from_ref(file), "by a reader");
        if reader_first {
            receiver.hears(&mut reader, claim);
            receiver.hears(&mut writer, change.clone());
        } else {
            receiver.hears(&mut writer, change.clone());
            receiver.hears(&mut reader, claim);
        }
        assert_eq!(receiver.last(file), change[0], "reader first: {reader_first}");
        assert_eq!(refused(&receiver), 1);
    }
}

#[test]
fn a_reader_that_has_what_a_writer_announced_is_a_source() {
    let (mut receiver, mut writer, mut reader) = with_reader(5);
    receiver.serves_nothing = true;
    let change = writer.rewrites(&paths(1), "by the writer");
    reader.copies(&writer);
    receiver.hears(&mut writer, change.clone());
    receiver.hears(&mut reader, change.clone());
    let wants = receiver.store.get(&paths(1)[0]).wants;
    assert_eq!(
        (wants.len(), wants[0].declined.clone(), wants[0].sources.clone()),
        (1, None, vec![writer.id, reader.id])
    );
    // With other bytes under the same version it has something else.
    let mut other = change;
    other[0].entry.content = text("something else");
    receiver.hears(&mut reader, other);
    assert_eq!(refused(&receiver), 1);
}

#[test]
fn one_that_may_write_again_is_heard_from_the_beginning() {
    let (mut receiver, _, mut reader) = with_reader(5);
    let rows = reader.rewrites(&paths(2), "by a reader");
    receiver.hears(&mut reader, rows.clone());
    assert_eq!(refused(&receiver), 2);
    receiver.loses(&reader);
    reader.writes = true;
    receiver.meets(&reader);
    assert!(receiver.is_asked(&reader), "its index is read once more");
    receiver.compares(&reader);
    assert_eq!([0, 1].map(|at| receiver.last(&paths(2)[at])), [rows[0].clone(), rows[1].clone()]);
}

#[test]
fn what_a_reader_took_back_is_forgotten() {
    let (mut receiver, writer, mut reader) = with_reader(5);
    let claim = vec![reader.sets(&path("d0000/new"), text("by a reader"))];
    receiver.hears(&mut reader, claim);
    assert_eq!(refused(&receiver), 1);
    // It has gone back to what the others have, and announces nothing of the path any more.
    reader.copies(&writer);
    receiver.compares(&reader);
    assert!(receiver.is_asked(&reader), "its index is read once more");
    receiver.compares(&reader);
    assert!(receiver.is_in_sync(&reader) && receiver.is_idle());
    assert!(receiver.store.get(&path("d0000/new")).wants.is_empty());
}
