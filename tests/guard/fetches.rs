//! What is asked for is what is still wanted.

use super::receiver::{Peer, Receiver, paths, text};
use protocol::model::{Chunking, Content, ContentHash, FileContent, RelPath};
use protocol::sync::engine::Event;
use protocol::sync::{Problem, ProblemCode};

/// A receiver that waits for a new content of its first file.
fn waiting() -> (Receiver, Peer, RelPath) {
    let (mut receiver, mut peer) = Receiver::with(2);
    let path = paths(1).remove(0);
    receiver.serves_nothing = true;
    let row = peer.sets(&path, text("first"));
    receiver.hears(&mut peer, vec![row]);
    assert_eq!(fetching(&receiver, &path), Some(ContentHash::of(b"first")));
    (receiver, peer, path)
}

fn fetching(receiver: &Receiver, path: &RelPath) -> Option<ContentHash> {
    receiver.fetching.get(path).copied()
}

#[test]
fn a_content_that_was_replaced_is_not_waited_for() {
    let (mut receiver, mut peer, path) = waiting();
    let row = peer.sets(&path, text("second"));
    receiver.hears(&mut peer, vec![row]);
    assert_eq!(fetching(&receiver, &path), Some(ContentHash::of(b"second")));
    // What was under way when the first was withdrawn means the first.
    let problem = Problem { code: ProblemCode::NoSource, words: String::new() };
    receiver.happens(Event::FetchFailed { path: path.clone(), content: ContentHash::of(b"first"), problem });
    receiver.happens(Event::Fetched { path: path.clone(), content: ContentHash::of(b"first") });
    assert_ne!(receiver.content(&path), Some(text("first")));
    assert!(!receiver.is_idle(), "it waits for the second");
    receiver.happens(Event::Fetched { path: path.clone(), content: ContentHash::of(b"second") });
    assert_eq!((receiver.content(&path), receiver.is_idle()), (Some(text("second")), true));
}

#[test]
fn a_content_that_was_deleted_is_not_waited_for() {
    let (mut receiver, mut peer, path) = waiting();
    let row = peer.sets(&path, Content::Tombstone);
    receiver.hears(&mut peer, vec![row]);
    assert_eq!((fetching(&receiver, &path), receiver.content(&path), receiver.is_idle()), (None, None, true));
}

#[test]
fn another_event_with_the_same_content_does_not_begin_anew() {
    let (mut receiver, mut peer, path) = waiting();
    let row = peer.sets(&path, text("first"));
    receiver.hears(&mut peer, vec![row]);
    let row = peer.chmods(&path);
    receiver.hears(&mut peer, vec![row]);
    assert_eq!(fetching(&receiver, &path), Some(ContentHash::of(b"first")));
    receiver.happens(Event::Fetched { path: path.clone(), content: ContentHash::of(b"first") });
    assert_eq!((receiver.content(&path), receiver.is_idle()), (Some(text("first")), true));
}

#[test]
fn what_the_user_wrote_meanwhile_is_not_waited_for() {
    let (mut receiver, _, path) = waiting();
    receiver.user_writes(&path, "first");
    assert_eq!((fetching(&receiver, &path), receiver.content(&path)), (None, Some(text("first"))));
}

#[test]
fn a_content_that_will_be_due_at_another_path_is_not_given_up() {
    let (mut receiver, _, path) = waiting();
    // The later edit has the name. The other device makes a copy of its own, and that is to come here.
    receiver.user_writes(&path, "ours");
    assert_eq!(fetching(&receiver, &path), Some(ContentHash::of(b"first")));
    receiver.happens(Event::Fetched { path: path.clone(), content: ContentHash::of(b"first") });
    assert_eq!(receiver.content(&path), Some(text("ours")));
}

#[test]
fn a_content_that_takes_up_all_the_room_is_withdrawn_as_well() {
    let (mut receiver, mut peer) = Receiver::with(2);
    let path = paths(1).remove(0);
    receiver.serves_nothing = true;
    let (size, hash, chunking) = (1 << 40, ContentHash::of(b"large"), Chunking::Whole);
    let large = Content::File(FileContent { size, hash, chunking, chunks: Vec::new() });
    let row = peer.sets(&path, large);
    receiver.hears(&mut peer, vec![row]);
    assert_eq!(fetching(&receiver, &path), Some(hash));
    let row = peer.sets(&path, text("small"));
    receiver.hears(&mut peer, vec![row]);
    assert_eq!(fetching(&receiver, &path), Some(ContentHash::of(b"small")));
}
