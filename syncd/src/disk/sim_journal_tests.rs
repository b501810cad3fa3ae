//! The database in memory against a recount of everything that it keeps running totals of.

use super::sim_journal::MemJournal;
use super::testing::{entry, path};
use protocol::model::{
    Content, ContentHash, DeviceId, Digest, Event, FileContent, Manifest, ReplicaId, Sequence, Version,
};
use protocol::sync::{Change, Cursor, Decline, DeclineCode, Have, Journal, Rows, Totals, Want};

fn version(counter: u64) -> Version {
    Version::of(Event { replica: ReplicaId([9; 8]), counter })
}

fn have(content: Content, counter: u64) -> Have {
    Have { entry: entry(content, version(counter)), fingerprint: None, racy: false }
}

fn file(bytes: &[u8]) -> Content {
    Content::File(Manifest::of(bytes, None).to_content())
}

fn record(at: &str, content: Content, counter: u64) -> Change {
    Change::Have { path: path(at), have: have(content, counter) }
}

fn want(bytes: &[u8], counter: u64, from: &[u8], declined: bool) -> Want {
    let decline = Decline { code: DeclineCode::Ignored, words: String::new() };
    Want {
        entry: entry(file(bytes), version(counter)),
        sources: from.iter().map(|id| DeviceId([*id; 32])).collect(),
        declined: declined.then_some(decline),
    }
}

/// Digest and totals counted afresh.
fn recount(journal: &MemJournal) -> (Digest, Totals) {
    let (mut digest, mut totals) = (Digest::default(), Totals::default());
    for (path, row) in journal.rows() {
        let Some(entry) = row.entry() else { continue };
        digest.add(&path, entry);
        match &entry.content {
            Content::Tombstone => totals.tombstones += 1,
            Content::Symlink(_) => totals.symlinks += 1,
            Content::Directory => totals.directories += 1,
            Content::File(file) => {
                totals.files += 1;
                totals.bytes += file.size;
            }
        }
    }
    (digest, totals)
}

fn names(rows: Vec<(protocol::model::RelPath, Have)>) -> Vec<String> {
    rows.into_iter().map(|(path, _)| path.display()).collect()
}

fn filled() -> MemJournal {
    let journal = MemJournal::new(ReplicaId([1; 8]));
    journal.commit(vec![
        record("b", Content::Directory, 1),
        record("b/x", file(b"12345"), 2),
        record("b/y", Content::Directory, 3),
        record("b/y/z", Content::Symlink(b"t".to_vec()), 4),
        record("b!", file(b"12345"), 5),
        record("gone", Content::Tombstone, 6),
    ]);
    journal
}

#[test]
fn totals_and_digest_follow_every_change() {
    let journal = filled();
    for changes in [
        vec![],
        vec![record("b/x", file(b"1"), 7)],
        vec![record("b/x", Content::Tombstone, 8), record("gone", Content::Directory, 9)],
        vec![Change::Lost { path: path("b!") }],
        vec![record("b!", file(b""), 10)],
    ] {
        journal.commit(changes);
        let state = journal.state();
        assert_eq!((state.digest, state.totals), recount(&journal));
    }
}

#[test]
fn trees_are_read_in_order() {
    let journal = filled();
    let (b, bx) = (path("b"), path("b/x"));
    assert_eq!(names(journal.children(None)), ["b", "b!"]);
    assert_eq!(names(journal.children(Some(&b))), ["b/x", "b/y"]);
    assert_eq!(names(journal.below(None, None, 10)), ["b", "b/x", "b/y", "b/y/z", "b!"]);
    assert_eq!(names(journal.below(Some(&b), None, 2)), ["b/x", "b/y"]);
    assert_eq!(names(journal.below(Some(&b), Some(&bx), 10)), ["b/y", "b/y/z"]);
    assert_eq!(journal.live_below(&b), Some(bx.clone()));
    assert_eq!(journal.live_below(&bx), None);
    let content = Manifest::of(b"12345", None).to_content();
    assert_eq!(journal.holders(&content, 10), [bx.clone(), path("b!")]);
    assert_eq!(journal.holders(&content, 1), [bx]);
}

#[test]
fn sequences_name_the_last_change_of_a_path() {
    let journal = filled();
    journal.commit(vec![record("b", Content::Directory, 7)]);
    let since = |after: u64, limit: usize| -> Vec<(u64, String)> {
        let rows = journal.since(Sequence(after), limit);
        rows.into_iter().map(|(sequence, row)| (sequence.0, row.path.display())).collect()
    };
    let row = |sequence: u64, at: &str| (sequence, at.to_owned());
    assert_eq!(since(0, 2), [row(2, "b/x"), row(3, "b/y")]);
    assert_eq!(since(5, 10), [row(6, "gone"), row(7, "b")]);
    assert_eq!(journal.state().head, Sequence(7));
}

#[test]
fn wants_are_needed_declined_and_fulfilled() {
    let journal = filled();
    let before = journal.state().digest;
    let (a, bx) = (path("a"), path("b/x"));
    journal.commit(vec![
        Change::Wants { path: a.clone(), wants: vec![want(b"123", 20, &[1, 2], false)] },
        Change::Wants { path: bx.clone(), wants: vec![want(b"1", 21, &[1], true)] },
    ]);
    let state = journal.state();
    assert_eq!((state.need_entries, state.need_bytes, state.digest), (1, 3, before));
    let mut expected = before;
    expected.remove(&bx, &have(file(b"12345"), 2).entry);
    expected.add(&bx, &want(b"1", 21, &[1], true).entry);
    assert_eq!(journal.effective_digest(&DeviceId([1; 32])), expected);
    assert_eq!(journal.effective_digest(&DeviceId([2; 32])), before);
    let paths = |rows: Vec<(protocol::model::RelPath, _)>| rows.into_iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(paths(journal.wanted(None, 10)), [a.clone(), bx.clone()]);
    assert_eq!(paths(journal.wanted(Some(&a), 10)), std::slice::from_ref(&bx));
    assert_eq!(paths(journal.wanted_reversed(None, 1)), std::slice::from_ref(&bx));
    assert_eq!(paths(journal.wanted_reversed(Some(&bx), 10)), std::slice::from_ref(&a));

    journal.commit(vec![Change::Forget(DeviceId([1; 32]))]);
    assert_eq!(journal.get(&a).wants[0].sources, [DeviceId([2; 32])]);
    assert!(journal.get(&bx).wants.is_empty());
    journal.commit(vec![record("a", file(b"123"), 20)]);
    assert!(journal.get(&a).wants.is_empty());
}

#[test]
fn manifests_live_as_long_as_something_names_them() {
    let journal = filled();
    let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let manifest = Manifest::of(&bytes, None);
    let content = manifest.to_content();
    assert!(content.chunks.is_empty(), "too long for the entry");
    journal.commit(vec![Change::Manifest(manifest.clone()), record("big", Content::File(content.clone()), 7)]);
    assert_eq!(journal.manifest(&content), Some(manifest));
    journal.commit(vec![record("big", Content::Tombstone, 8)]);
    assert_eq!(journal.manifest(&content), None);
    let inline = Manifest::of(b"12345", None);
    assert_eq!(journal.manifest(&inline.to_content()), Some(inline));
    let empty = FileContent { size: 0, hash: ContentHash::of(b""), ..Manifest::of(b"", None).to_content() };
    assert!(journal.manifest(&empty).is_some_and(|manifest| manifest.chunks.is_empty()));
}

#[test]
fn cursors_and_counters_are_kept() {
    let journal = filled();
    let (peer, cursor) = (DeviceId([5; 32]), Cursor { replica: ReplicaId([6; 8]), sequence: Sequence(7) });
    journal.commit(vec![Change::Cursor { peer, cursor }, Change::Counter(5), Change::Counter(3)]);
    assert_eq!((journal.cursor(&peer), journal.state().counter), (Some(cursor), 5));
    let fork = journal.fork();
    fork.commit(vec![Change::Forget(peer)]);
    assert_eq!((fork.cursor(&peer), journal.cursor(&peer)), (None, Some(cursor)));
}
