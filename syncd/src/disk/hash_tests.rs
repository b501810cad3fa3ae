//! A file is hashed the same however it is read, and what changes meanwhile is told.

use super::*;
use crate::disk::fs::{RealFs, SimFs};
use protocol::model::RelPath;

/// Bytes without repetition, the same every time.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn hash<F: Fs>(fs: &F, name: &str, previous: Option<Chunking>) -> HashOutcome {
    let cancel = AtomicBool::new(false);
    let options = HashOptions { now: &wall_clock, granularity: Duration::from_millis(10), cancel: &cancel };
    let root = fs.open_dir(None).unwrap();
    Hasher::default().hash_file(fs, &root, name.as_bytes(), previous, &options).unwrap()
}

/// A file read in windows is cut and hashed as if it were read at once.
#[test]
fn windows_do_not_show() {
    let fs = SimFs::new();
    let path = RelPath::parse(b"f").unwrap();
    let kib = 1024;
    let mib = 1024 * kib;
    let lens = [0, 1, 256 * kib - 1, 256 * kib, 4 * mib - 1, 4 * mib, 4 * mib + 1, 11 * mib + 7];
    let rows = lens.into_iter().map(|len| (len, None)).chain([
        (200 * kib, Some(Chunking::Avg64K)),
        (40 * mib, Some(Chunking::Avg256K)),
        (mib, Some(Chunking::Avg256K)),
        (9 * mib, Some(Chunking::Whole)),
    ]);
    for (len, previous) in rows {
        let bytes = noise(len);
        fs.user_write(&path, &bytes).unwrap();
        let HashOutcome::Hashed(hashed) = hash(&fs, "f", previous) else { panic!("{len} {previous:?}") };
        let expected = Manifest::of(&bytes, previous);
        assert_eq!(hashed.content, expected.to_content(), "{len} {previous:?}");
        let long = expected.chunks.len() > INLINE_CHUNKS_MAX;
        assert_eq!(hashed.manifest, long.then_some(expected), "{len} {previous:?}");
        assert_eq!(hashed.fingerprint.size, len as u64);
    }
}

#[test]
fn what_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let fs = RealFs::open(dir.path()).unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::os::unix::fs::symlink("d", dir.path().join("l")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("p"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for name in ["d", "l", "p", "none"] {
        assert_eq!(hash(&fs, name, None), HashOutcome::NotAFile, "{name}");
    }
}

#[test]
fn racy_is_within_a_tick_of_the_last_change() {
    let at = |secs: i64, nanos: u32| Mtime { secs, nanos };
    let zero = Duration::ZERO;
    let second = Duration::from_secs(1);
    let rows = [
        (at(10, 0), at(10, 0), at(10, 0), zero, true),
        (at(9, 999_999_999), at(9, 999_999_999), at(10, 0), zero, false),
        (at(3, 0), at(9, 0), at(10, 0), second, true),
        // A time that was set is no time of a change.
        (at(10, 0), at(3, 0), at(10, 0), second, false),
        (at(8, 0), at(8, 999_999_999), at(10, 0), second, false),
        (at(4_000_000_000, 0), at(8, 0), at(10, 0), second, false),
        // A clock that was wrong: any change leaves it behind.
        (at(3, 0), at(4_000_000_000, 0), at(10, 0), second, false),
        (at(-5, 0), at(i64::MIN, 0), at(10, 0), second, false),
    ];
    let base = {
        let fs = SimFs::new();
        fs.user_write(&RelPath::parse(b"f").unwrap(), b"x").unwrap();
        fs.stat(&fs.open_dir(None).unwrap(), b"f").unwrap().unwrap()
    };
    for (mtime, ctime, started, granularity, expected) in rows {
        let fingerprint = Fingerprint { mtime, ctime, ..base };
        assert_eq!(is_racy(&fingerprint, started, granularity), expected, "{mtime:?} {ctime:?} {started:?}");
    }
}
