//! What two devices compare when one or both of them ignore a path.

use crate::receiver::{Peer, Receiver, path, paths, text};
use protocol::model::{Content, RelPath};

/// A device that ignores `p` and has another version of it than its peer, which may have declined ours.
fn ignoring(name: &RelPath) -> (Receiver, Peer) {
    let (mut receiver, peer) = Receiver::with(30);
    receiver.user_puts(name, text("ours"), 1_500_000_000);
    receiver.ignores(name);
    (receiver, peer)
}

#[test]
fn a_path_that_one_ignores_counts_as_held() {
    let name = path("p");
    let (mut receiver, mut peer) = ignoring(&name);
    let row = peer.sets(&name, text("theirs"));
    receiver.hears(&mut peer, vec![row]);
    receiver.compares(&peer);
    assert!(receiver.is_in_sync(&peer));
    assert_eq!(receiver.content(&name), Some(text("ours")));
}

#[test]
fn a_path_that_both_ignore_is_left_out_by_both() {
    let name = path("p");
    for theirs in [text("theirs"), Content::Directory, Content::Tombstone] {
        let (mut receiver, mut peer) = ignoring(&name);
        let row = peer.sets(&name, theirs.clone());
        receiver.hears(&mut peer, vec![row]);
        peer.ignores(&name);
        for _ in 0..3 {
            receiver.compares(&peer);
        }
        assert!(receiver.is_in_sync(&peer), "{theirs:?}");
        assert_eq!(receiver.digests[&peer.id].digest, peer.digest(), "{theirs:?}: and it sees that too");
        // The rest counts as ever.
        let edit = peer.sets(&paths(30)[7], text("an edit"));
        receiver.hears(&mut peer, vec![edit]);
        receiver.compares(&peer);
        assert!(receiver.is_in_sync(&peer), "{theirs:?}");
        // It takes ours after all, and says so: then it counts again.
        let merged = peer.adopts(&receiver.last(&name));
        receiver.hears(&mut peer, vec![merged]);
        receiver.compares(&peer);
        assert!(receiver.is_in_sync(&peer), "{theirs:?}");
        assert_ne!(receiver.digests[&peer.id].digest, peer.digest_without(&name), "{theirs:?}");
    }
}

/// Both ignore what a third device changed: each has told the others so.
#[test]
fn what_both_ignore_of_a_third_is_left_out_too() {
    let name = path("p");
    let (mut receiver, mut peer) = ignoring(&name);
    let ours = receiver.last(&name);
    let mut third = receiver.meets_another(2, &peer);
    let news = third.adopts(&ours);
    let newer = third.sets(&name, text("of the third"));
    receiver.hears(&mut third, vec![news, newer]);
    receiver.compares(&peer);
    assert!(!receiver.is_in_sync(&peer), "it may not have heard of it");
    assert!(receiver.declined.contains_key(&name), "it is told what is ignored here");
    peer.ignores(&name);
    receiver.compares(&peer);
    assert!(receiver.is_in_sync(&peer) && receiver.digests[&peer.id].idle);
    // It has not forgotten when it comes back, and hears again what is ignored here.
    receiver.loses(&peer);
    receiver.declined.clear();
    receiver.meets(&peer);
    assert!(receiver.declined.contains_key(&name));
    receiver.compares(&peer);
    assert!(receiver.is_in_sync(&peer));
}
