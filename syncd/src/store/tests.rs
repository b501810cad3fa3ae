//! The store against small named cases; `model` drives it against a reference, `recovery` damages it.

mod model;
mod recovery;

use super::{Store, codec};
use protocol::model::entry::AncestorHash;
use protocol::model::{
    Chunk, ChunkHash, Chunking, Content, ContentHash, DeviceId, Entry, Event, FileContent, Manifest, Mode, Mtime,
    RelPath, ReplicaId, Sequence, Version,
};
use protocol::sync::{Change, Decline, DeclineCode, Fingerprint, Have, Journal, Kind, LocalRow, Observed, Rows, Want};
use std::path::Path;
use tempfile::TempDir;

const REPLICA: ReplicaId = ReplicaId([1; 8]);

fn die(reason: &str) -> ! {
    panic!("fatal: {reason}")
}

fn open(path: &Path) -> Store {
    Store::open_with(path, || REPLICA, die).expect("it opens").store
}

fn new_store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(&dir.path().join("db"));
    (dir, store)
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a valid path")
}

fn version(events: &[(u8, u64)]) -> Version {
    events.iter().map(|(replica, counter)| Event { replica: ReplicaId([*replica; 8]), counter: *counter }).collect()
}

/// A file of `chunks` chunks that differs by `seed`; more than eight are not in the entry.
fn manifest(seed: u8, chunks: u32) -> Manifest {
    let content = ContentHash::of(&[seed]);
    let chunk = |n: u32| match chunks {
        1 => Chunk { hash: ChunkHash(content.0), len: 100 },
        _ => Chunk { hash: ChunkHash::of(&[seed, n as u8]), len: 70_000 + n },
    };
    let list: Vec<Chunk> = (0..chunks).map(chunk).collect();
    let size = list.iter().map(|chunk| u64::from(chunk.len)).sum();
    let chunking = if chunks == 1 { Chunking::Whole } else { Chunking::Avg64K };
    Manifest { content, size, chunking, chunks: list }
}

fn file(seed: u8, chunks: u32) -> Content {
    Content::File(manifest(seed, chunks).to_content())
}

fn file_content(seed: u8, chunks: u32) -> FileContent {
    manifest(seed, chunks).to_content()
}

fn entry(content: Content, events: &[(u8, u64)]) -> Entry {
    let version = version(events);
    Entry {
        content_at: version.clone(),
        mode_at: version.clone(),
        version,
        content,
        mode: Mode::new(0o644),
        mtime: Mtime::from_secs(1_700_000_000),
        ancestors: Vec::new(),
        found: false,
    }
}

fn fingerprint(inode: u64) -> Fingerprint {
    let (mtime, ctime) = (Mtime::from_secs(1), Mtime { secs: 2, nanos: 3 });
    Fingerprint { fs: 9, inode, kind: Kind::File, size: 100, mtime, ctime, mode: Mode::new(0o644) }
}

fn have(content: Content, events: &[(u8, u64)]) -> Have {
    let fingerprint = content.is_live().then(|| fingerprint(7));
    Have { entry: entry(content, events), fingerprint, racy: false }
}

fn put(at: &str, content: Content, events: &[(u8, u64)]) -> Change {
    Change::Have { path: path(at), have: have(content, events) }
}

const SOURCE: DeviceId = DeviceId([5; 32]);

fn want(content: Content, events: &[(u8, u64)], declined: bool) -> Want {
    let declined = declined.then(|| Decline { code: DeclineCode::Ignored, words: "an ignore rule".to_owned() });
    Want { entry: entry(content, events), sources: vec![SOURCE], declined }
}

fn names(rows: &[(RelPath, Have)]) -> Vec<String> {
    rows.iter().map(|(path, _)| path.display()).collect()
}

#[test]
fn a_listing_skips_grandchildren_and_tombstones() {
    let (_dir, store) = new_store();
    let rows = [
        ("a", Content::Directory),
        ("a/b", Content::Directory),
        ("a/b/c", Content::Directory),
        ("a/b/c/d", file(1, 1)),
        ("a/b!", file(2, 1)),
        ("a/gone", Content::Tombstone),
        ("a/gone/x", Content::Tombstone),
        ("a/was-dir", file(3, 1)),
        ("a/was-dir/x", Content::Tombstone),
        ("a!", file(4, 1)),
        ("b", Content::Symlink(b"a".to_vec())),
    ];
    store.commit(rows.into_iter().map(|(at, content)| put(at, content, &[(1, 1)])).collect());
    assert_eq!(names(&store.children(None)), ["a", "a!", "b"]);
    assert_eq!(names(&store.children(Some(&path("a")))), ["a/b", "a/b!", "a/was-dir"]);
    assert_eq!(names(&store.children(Some(&path("a/gone")))), [""; 0]);
    assert_eq!(names(&store.below(Some(&path("a/b")), None, 9)), ["a/b/c", "a/b/c/d"]);
    assert_eq!(names(&store.below(None, Some(&path("a/b/c")), 2)), ["a/b/c/d", "a/b!"]);
    assert_eq!(names(&store.below(Some(&path("a/b")), Some(&path("a!")), 9)), [""; 0]);
    assert_eq!(store.live_below(&path("a/gone")), None);
    assert_eq!(store.live_below(&path("a/b")), Some(path("a/b/c")));
}

#[test]
fn an_equal_entry_takes_no_sequence_number() {
    let (_dir, store) = new_store();
    store.commit(vec![put("a", file(1, 1), &[(1, 1)])]);
    let mut again = have(file(1, 1), &[(1, 1)]);
    again.fingerprint = Some(fingerprint(8));
    again.racy = true;
    store.commit(vec![Change::Have { path: path("a"), have: again.clone() }]);
    assert_eq!(store.get(&path("a")).have, Some(again));
    assert_eq!(store.state().head, Sequence(1));
    store.commit(vec![put("a", file(1, 1), &[(1, 2)])]);
    let index = store.since(Sequence(0), 9);
    assert_eq!(index.iter().map(|(sequence, _)| sequence.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_have_drops_the_wants_it_contains_and_the_local_finding() {
    let (_dir, store) = new_store();
    let (older, newer) = (want(file(1, 1), &[(1, 1)], false), want(file(2, 1), &[(2, 1)], true));
    store.commit(vec![
        Change::Wants { path: path("a"), wants: vec![older, newer.clone()] },
        Change::Local { path: path("a"), local: Some(Observed::Absent) },
        put("a", file(3, 1), &[(1, 2)]),
    ]);
    let expected = LocalRow { have: Some(have(file(3, 1), &[(1, 2)])), wants: vec![newer], local: None };
    assert_eq!(store.get(&path("a")), expected);
}

#[test]
fn a_declined_want_counts_in_place_of_what_stands_there() {
    let (_dir, store) = new_store();
    let (_dir_b, other) = new_store();
    store.commit(vec![put("a", file(1, 1), &[(1, 1)]), put("b", file(2, 1), &[(1, 2)])]);
    let gone = want(Content::Tombstone, &[(1, 1), (2, 2)], true);
    let newer = want(file(3, 1), &[(1, 2), (2, 1)], true);
    store.commit(vec![
        Change::Wants { path: path("a"), wants: vec![gone] },
        Change::Wants { path: path("b"), wants: vec![newer] },
    ]);
    other.commit(vec![put("b", file(3, 1), &[(1, 2), (2, 1)])]);
    let stranger = DeviceId([6; 32]);
    assert_eq!(store.effective_digest(&SOURCE), other.state().digest);
    assert_eq!(store.effective_digest(&stranger), store.state().digest);
    assert_ne!(store.state().digest, other.state().digest);
    assert_eq!(store.state().need_entries, 0);
    store.commit(vec![
        Change::Wants { path: path("a"), wants: vec![] },
        Change::Wants { path: path("b"), wants: vec![] },
    ]);
    assert_eq!(store.effective_digest(&SOURCE), store.state().digest);
}

#[test]
fn a_chunk_list_lives_as_long_as_a_row_names_it() {
    let (_dir, store) = new_store();
    let (content, list) = (file_content(1, 9), manifest(1, 9));
    store.commit(vec![Change::Manifest(list.clone())]);
    assert_eq!(store.manifest(&content), Some(list.clone()));
    assert_eq!(store.sweep_manifests(), 1);
    assert_eq!(store.manifest(&content), None);

    let wants = vec![want(file(1, 9), &[(2, 1)], false)];
    store.commit(vec![Change::Wants { path: path("a"), wants }, Change::Manifest(list.clone())]);
    store.commit(vec![put("a", file(1, 9), &[(2, 1)]), put("b", file(1, 9), &[(2, 1)])]);
    assert_eq!(store.holders(&content, 9), [path("a"), path("b")]);
    store.commit(vec![put("a", Content::Tombstone, &[(2, 2)])]);
    assert_eq!((store.sweep_manifests(), store.manifest(&content)), (0, Some(list)));
    store.commit(vec![put("b", file(2, 1), &[(2, 3)])]);
    assert_eq!(store.manifest(&content), None);
    assert_eq!(store.manifest(&file_content(2, 1)), Some(manifest(2, 1)));
}

#[test]
fn a_tombstone_takes_at_most_120_bytes_and_a_chunk_36() {
    let events = [(1, 1_000_000), (2, 2_000_000)];
    let mut tombstone = entry(Content::Tombstone, &events);
    tombstone.mtime = Mtime::default();
    tombstone.ancestors = vec![AncestorHash([3; 16])];
    tombstone.content_at = version(&events[..1]);
    tombstone.mode_at = tombstone.content_at.clone();
    let row = codec::encode_row(&Have { entry: tombstone, fingerprint: None, racy: false }, Sequence(1 << 24));
    assert!(40 + row.len() <= 120, "{} bytes", row.len());

    let (nine, ten) = (codec::encode_manifest(&manifest(1, 9)), codec::encode_manifest(&manifest(1, 10)));
    assert_eq!(ten.len() - nine.len(), 36);
    assert_eq!(codec::decode_manifest(ContentHash::of(&[1]), &ten).expect("it decodes"), manifest(1, 10));
}

#[test]
fn row_bytes_are_frozen() {
    let row = codec::encode_row(&have(file(1, 1), &[(1, 300)]), Sequence(5));
    assert_eq!(codec::decode_row(&row).expect("it decodes"), (Sequence(5), have(file(1, 1), &[(1, 300)])));
    // Version, flags (file, both `_at` elided, one chunk, fingerprint), sequence, {replica 1: 300}.
    let front = [1, 0b1111_0010, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0xac, 0x02];
    assert_eq!(row[..front.len()], front);
    assert_eq!(ContentHash::of(&row).to_hex(), "3aabea725dbb981fd5a250fb3fda9594daaa21e843ef3a743679809de07c2556");
}

#[test]
fn damaged_values_are_errors() {
    let row = codec::encode_row(&have(file(1, 3), &[(1, 1), (2, 2)]), Sequence(5));
    for len in 0..row.len() {
        assert!(codec::decode_row(&row[..len]).is_err(), "cut to {len} bytes");
    }
    let list = codec::encode_manifest(&manifest(1, 9));
    assert!(codec::decode_manifest(ContentHash::of(&[1]), &list[..list.len() - 1]).is_err());
    assert!(codec::decode::<u64>(&[2, 0]).is_err(), "another version of the encoding");
    assert!(codec::decode::<u64>(&[1, 0, 0]).is_err(), "a tail");
}
