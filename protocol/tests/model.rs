//! The nouns at their edges: paths that may not exist, ids that people mistype, cut points that must never move.

use protocol::model::path::PathError;
use protocol::model::{
    Chunking, Content, ContentHash, DeviceId, Digest, Entry, Event, FolderId, Manifest, Mode, Mtime, RelPath,
    ReplicaId, Row, Version,
};

#[test]
fn paths() {
    let long = [b'a'; 256];
    let deep = vec![b"a".as_slice(); 501].join(b"/".as_slice());
    let rows: &[(&[u8], Option<PathError>)] = &[
        (b"a", None),
        (b"a/b c/\xff\n", None),
        (b"...", None),
        (b".syncdx/.git", None),
        (b"", Some(PathError::Empty)),
        (b"/a", Some(PathError::EmptyComponent)),
        (b"a/", Some(PathError::EmptyComponent)),
        (b"a//b", Some(PathError::EmptyComponent)),
        (b".", Some(PathError::Dots)),
        (b"a/../b", Some(PathError::Dots)),
        (b"a\0b", Some(PathError::Nul)),
        (b"a/.SyncD/tmp", Some(PathError::Private)),
        (&long, Some(PathError::LongComponent)),
        (&deep, Some(PathError::TooLong)),
    ];
    for (bytes, error) in rows {
        assert_eq!(RelPath::parse(bytes).err(), *error, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn paths_are_ordered_as_a_walk_visits_them() {
    let mut paths: Vec<RelPath> = ["a-b", "a/c", "a", "a/b/x", "a/b", "b", "a.txt"]
        .iter()
        .map(|p| RelPath::parse(p.as_bytes()).expect("valid"))
        .collect();
    paths.sort();
    let shown: Vec<String> = paths.iter().map(RelPath::display).collect();
    assert_eq!(shown, ["a", "a/b", "a/b/x", "a/c", "a-b", "a.txt", "b"]);
}

#[test]
fn names_cannot_rewrite_a_terminal() {
    let path = RelPath::parse("x\u{1b}[2J\n\u{202e}y".as_bytes()).expect("bytes are allowed");
    assert_eq!(path.display(), "x\\u{1b}[2J\\u{a}\\u{202e}y");
}

#[test]
fn ids_survive_spaces_case_and_groups_and_refuse_typos() {
    let id = DeviceId([7; 32]);
    let text = id.to_string();
    assert_eq!(text.len(), 61);
    let groups: Vec<&str> = text.as_bytes().chunks(4).map(|part| std::str::from_utf8(part).expect("ascii")).collect();
    assert_eq!(groups.join(" ").to_uppercase().parse(), Ok(id));
    let mut typo = text.clone().into_bytes();
    typo[20] = if typo[20] == b'q' { b'p' } else { b'q' };
    assert!(String::from_utf8(typo).expect("ascii").parse::<DeviceId>().is_err());
    assert!(text.parse::<FolderId>().is_err(), "a device is not a folder");
    assert_eq!(FolderId([9; 16]).to_string().parse(), Ok(FolderId([9; 16])));
}

/// Reproducible bytes without structure.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"syncd golden chunks").finalize_xof().fill(&mut bytes);
    bytes
}

/// Cut points are part of what devices share: were they to move, every large file would be sent again.
#[test]
fn cut_points_are_frozen() {
    let bytes = noise(1024 * 1024);
    let manifest = Manifest::of(&bytes, None);
    assert_eq!(manifest.chunking, Chunking::Avg64K);
    let lens: Vec<u32> = manifest.chunks.iter().map(|chunk| chunk.len).collect();
    assert_eq!(
        lens,
        [
            80_903, 67_952, 33_771, 74_324, 68_173, 67_567, 66_897, 71_000, 67_001, 82_831, 72_913, 65_998, 68_440,
            48_214, 81_927, 30_665
        ]
    );
    assert_eq!(
        manifest.content.to_hex(),
        ContentHash::of(&bytes).to_hex(),
        "the whole file's hash is that of its bytes"
    );
    let whole = Manifest::of(&bytes[..200_000], None);
    assert_eq!((whole.chunking, whole.chunks.len()), (Chunking::Whole, 1));
}

#[test]
fn cutting_in_windows_gives_the_same_chunks() {
    let bytes = noise(3 * 1024 * 1024);
    let expected: Vec<usize> = Manifest::of(&bytes, None).chunks.iter().map(|chunk| chunk.len as usize).collect();
    let (mut start, mut lens) = (0, Vec::new());
    while start < bytes.len() {
        let end = (start + 700_001).min(bytes.len());
        let cuts = Chunking::Avg64K.cut(&bytes[start..end], end == bytes.len());
        start += cuts.iter().sum::<usize>();
        lens.extend(cuts);
    }
    assert_eq!(lens, expected);
}

#[test]
fn an_insert_at_the_front_moves_few_chunks() {
    let bytes = noise(8 * 1024 * 1024);
    let before = Manifest::of(&bytes, None);
    let after = Manifest::of(&[&noise(1024), bytes.as_slice()].concat(), Some(before.chunking));
    let known: std::collections::BTreeSet<_> = before.chunks.iter().map(|chunk| chunk.hash).collect();
    let new: u64 =
        after.chunks.iter().filter(|chunk| !known.contains(&chunk.hash)).map(|chunk| u64::from(chunk.len)).sum();
    assert!(new <= 256 * 1024, "{new} bytes are new after an insert of 1 KiB");
}

#[test]
fn a_file_keeps_its_class_until_it_leaves_it_by_a_factor_of_two() {
    const MIB: u64 = 1024 * 1024;
    assert_eq!(Chunking::choose(255 * 1024, None), Chunking::Whole);
    assert_eq!(Chunking::choose(256 * 1024, None), Chunking::Avg64K);
    assert_eq!(Chunking::choose(64 * MIB, None), Chunking::Avg256K);
    assert_eq!(Chunking::choose(100 * MIB, Some(Chunking::Avg64K)), Chunking::Avg64K);
    assert_eq!(Chunking::choose(128 * MIB, Some(Chunking::Avg64K)), Chunking::Avg256K);
    assert_eq!(Chunking::choose(40 * MIB, Some(Chunking::Avg256K)), Chunking::Avg256K);
    assert_eq!(Chunking::choose(31 * MIB, Some(Chunking::Avg256K)), Chunking::Avg64K);
}

fn entry(text: &str, counter: u64) -> Entry {
    let at = Version::of(Event { replica: ReplicaId([1; 8]), counter });
    Entry {
        version: at.clone(),
        content: Content::File(Manifest::of(text.as_bytes(), None).to_content()),
        content_at: at.clone(),
        mode: Mode::new(0o100_644),
        mode_at: at,
        mtime: Mtime::from_secs(5),
        ancestors: Vec::new(),
        found: false,
    }
}

#[test]
fn digests_do_not_depend_on_order_and_forget_what_is_taken_out() {
    let rows: Vec<(RelPath, Entry)> = (0..20u64)
        .map(|i| (RelPath::parse(format!("f{i}").as_bytes()).expect("valid"), entry(&i.to_string(), i + 1)))
        .collect();
    let sum = |rows: &mut dyn Iterator<Item = &(RelPath, Entry)>| {
        rows.fold(Digest::default(), |mut digest, (path, entry)| {
            digest.add(path, entry);
            digest
        })
    };
    let forwards = sum(&mut rows.iter());
    assert_eq!(forwards, sum(&mut rows.iter().rev()));
    let mut without = forwards;
    without.remove(&rows[3].0, &rows[3].1);
    assert_ne!(without, forwards);
    assert_eq!(without, sum(&mut rows.iter().filter(|(path, _)| *path != rows[3].0)));
    let mut gone = entry("x", 99);
    gone.content = Content::Tombstone;
    let mut with_tombstone = forwards;
    with_tombstone.add(&rows[0].0, &gone);
    assert_eq!(with_tombstone, forwards, "tombstones never count");
}

#[test]
fn rows_of_peers_are_checked() {
    let good = Row { path: RelPath::parse(b"f").expect("valid"), entry: entry("x", 1) };
    assert_eq!(good.check(), Ok(()));
    type Spoil = fn(&mut Entry);
    let spoils: [(&str, Spoil); 6] = [
        ("no version", |entry| entry.version = Version::default()),
        ("an event from the future", |entry| {
            entry.content_at = Version::of(Event { replica: ReplicaId([9; 8]), counter: 1 });
        }),
        ("no content event", |entry| entry.content_at = Version::default()),
        ("nanoseconds", |entry| entry.mtime.nanos = 1_000_000_000),
        ("chunks that do not add up", |entry| {
            if let Content::File(file) = &mut entry.content {
                file.size += 1;
            }
        }),
        ("an empty link", |entry| entry.content = Content::Symlink(Vec::new())),
    ];
    for (name, spoil) in spoils {
        let mut bad = good.clone();
        spoil(&mut bad.entry);
        assert!(bad.check().is_err(), "{name}");
    }
}

#[test]
fn modes_above_0777_cannot_be_expressed() {
    assert_eq!(Mode::new(0o6755).bits(), 0o755);
    let encoded = postcard::to_stdvec(&0o7777u16).expect("encodes");
    assert_eq!(postcard::from_bytes::<Mode>(&encoded).expect("decodes").bits(), 0o777);
}
