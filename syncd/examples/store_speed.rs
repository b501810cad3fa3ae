//! Measures a folder's database: bulk commits in path order, listing directories, reading rows, opening.
//! Run it with `cargo run --release -p syncd --example store_speed [FILES [BATCH]]`.

use protocol::model::{
    Chunk, ChunkHash, Chunking, Content, ContentHash, Entry, Event, FileContent, Mode, Mtime, RelPath, ReplicaId,
    Sequence, Version,
};
use protocol::sync::{Change, Fingerprint, Have, Journal, Kind, Rows};
use std::time::{Duration, Instant};
use syncd::store::Store;

/// Rows in one page of an index exchange.
const PAGE: usize = 512;

fn main() -> anyhow::Result<()> {
    let files: u64 = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let batch_len: usize = std::env::args().nth(2).map_or(Ok(PAGE), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("folder.redb");
    let store = Store::open(&path, || ReplicaId([1; 8]))?.store;
    let rows = tree(files);
    println!("{} rows, {} directories", rows.len(), rows.iter().filter(|(_, have)| have.fingerprint.is_none()).count());

    for (name, counter) in [("first commit", 1), ("replace every entry", 2)] {
        let mut slowest = Duration::ZERO;
        let took = timed(|| {
            for batch in rows.chunks(batch_len) {
                let changes = batch.iter().map(|(path, have)| change(path, have, counter)).collect();
                slowest = slowest.max(timed(|| store.commit(changes)));
            }
        });
        report(name, rows.len(), took);
        println!("{:28} slowest batch {slowest:.1?}, file {} MB", "", std::fs::metadata(&path)?.len() / 1_000_000);
    }
    let one = |n: u64| store.commit(vec![change(&rows[n as usize * 7].0, &rows[n as usize * 7].1, 3 + n)]);
    report("commits of one row", 200, timed(|| (0..200).for_each(one)));
    let directories: Vec<_> = rows.iter().filter(|(_, have)| have.entry.content.is_directory()).collect();
    let mut seen = 0;
    let took = timed(|| {
        seen += store.children(None).len();
        for (path, _) in &directories {
            seen += store.children(Some(path)).len();
        }
    });
    report("children of every directory", seen, took);
    println!("{:28} {:.1?} a directory", "", took / u32::try_from(directories.len())?);
    report("get, every path", rows.len(), timed(|| rows.iter().for_each(|(path, _)| drop(store.get(path)))));
    let mut after = Sequence(0);
    let took = timed(|| {
        while let Some((last, _)) = store.since(after, PAGE).pop() {
            after = last;
        }
    });
    report("since, pages of 512", rows.len(), took);
    drop(store);
    report("open and check", 1, timed(|| drop(Store::open(&path, || ReplicaId([2; 8])))));
    Ok(())
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn report(name: &str, count: usize, took: Duration) {
    println!("{name:28} {count:>8} in {took:>9.2?}  {:>9.0}/s", count as f64 / took.as_secs_f64());
}

/// `files` files in about a thirteenth as many directories, in path order.
fn tree(files: u64) -> Vec<(RelPath, Have)> {
    let mut rows = std::collections::BTreeMap::new();
    for n in 0..files {
        let hash = ContentHash::of(&n.to_le_bytes());
        let group = n / 13;
        let top = ["Documents", "Pictures", "projects", "Music"][(group % 4) as usize];
        let dirs = [top.to_owned(), format!("{top}/{:03}-archive", group / 4 % 300)];
        let parent = format!("{}/{:05}", dirs[1], group);
        for dir in dirs.iter().chain([&parent]) {
            rows.insert(parse(dir), have(Content::Directory, None));
        }
        let name = format!("{parent}/IMG_{}_{n}.jpg", &hash.to_hex()[..6]);
        let size = 1000 + n * 37 % 200_000;
        let chunks = vec![Chunk { hash: ChunkHash(hash.0), len: size as u32 }];
        let content = Content::File(FileContent { size, hash, chunking: Chunking::Whole, chunks });
        rows.insert(parse(&name), have(content, Some((n, size))));
    }
    rows.into_iter().collect()
}

fn parse(path: &str) -> RelPath {
    RelPath::parse(path.as_bytes()).expect("a valid path")
}

fn have(content: Content, file: Option<(u64, u64)>) -> Have {
    let mtime = Mtime { secs: 1_700_000_000, nanos: 123_456_789 };
    let mode = Mode::new(0o644);
    let fingerprint = file.map(|(n, size)| Fingerprint {
        fs: 0xfeed_beef_1234_5678,
        inode: 1_000_000 + n,
        kind: Kind::File,
        size,
        mtime,
        ctime: mtime,
        mode,
    });
    let none = Version::default();
    let entry = Entry {
        version: none.clone(),
        content,
        content_at: none.clone(),
        mode,
        mode_at: none,
        mtime,
        ancestors: Vec::new(),
        found: true,
    };
    Have { entry, fingerprint, racy: false }
}

fn change(path: &RelPath, have: &Have, counter: u64) -> Change {
    let mut have = have.clone();
    let version = Version::of(Event { replica: ReplicaId([7; 8]), counter });
    have.entry.content_at = version.clone();
    have.entry.mode_at = version.clone();
    have.entry.version = version;
    Change::Have { path: path.clone(), have }
}
