//! Reads a file once and says what it holds: chunks, chunk list and whole-file hash, between two equal fingerprints.
//! Never maps a file into memory and never reads what is no regular file. Invariant: what is returned is what the
//! path held at one instant, or the file changed again within a tick of its clock, which `racy` says.

use super::fs::{Errno, Fs, errno};
use protocol::limits::INLINE_CHUNKS_MAX;
use protocol::model::{Chunk, ChunkHash, Chunking, ContentHash, FileContent, Manifest, Mtime};
use protocol::sync::{Fingerprint, Kind};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes read at once; larger windows leave the cache (CRATES.md 1.3).
const WINDOW_LEN: usize = 4 * 1024 * 1024;
/// Waits before a file that changed under the reader is read again.
const TRY_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// Clock and patience of a reader.
#[derive(Clone, Copy)]
pub struct HashOptions<'a> {
    /// Wall clock of the machine that stamps the files.
    pub now: &'a (dyn Fn() -> Mtime + Sync),
    /// How far a file's time stamps may lie behind `now`.
    pub granularity: Duration,
    /// Stops within one window.
    pub cancel: &'a AtomicBool,
}

/// What a file held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// For the entry.
    pub content: FileContent,
    /// The chunk list, when it does not fit into the entry.
    pub manifest: Option<Manifest>,
    /// Before, after, and of the path.
    pub fingerprint: Fingerprint,
    /// Changed too recently to tell another change apart by its time stamps.
    pub racy: bool,
}

/// What became of an attempt to hash a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOutcome {
    /// A file.
    Hashed(Hashed),
    /// It changed every time it was read.
    Busy,
    /// No regular file stands there any more.
    NotAFile,
    /// Told to stop.
    Cancelled,
}

/// Hashes files one after the other with one buffer.
#[derive(Debug, Default)]
pub struct Hasher {
    window: Vec<u8>,
    /// Bytes read so far.
    pub bytes: u64,
}

enum Attempt {
    Stable(Hashed),
    Changed,
    NotAFile,
    Cancelled,
}

impl Hasher {
    /// Hashes the file `name` in `dir`, cut as its last version (`previous`) was where that still suits its size.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn hash_file<F: Fs>(
        &mut self,
        fs: &F,
        dir: &F::Dir,
        name: &[u8],
        previous: Option<Chunking>,
        options: &HashOptions<'_>,
    ) -> io::Result<HashOutcome> {
        let mut waits = TRY_AGAIN_AFTER.iter();
        loop {
            match self.attempt(fs, dir, name, previous, options)? {
                Attempt::Stable(hashed) => return Ok(HashOutcome::Hashed(hashed)),
                Attempt::NotAFile => return Ok(HashOutcome::NotAFile),
                Attempt::Cancelled => return Ok(HashOutcome::Cancelled),
                Attempt::Changed => match waits.next() {
                    Some(wait) => std::thread::sleep(*wait),
                    None => return Ok(HashOutcome::Busy),
                },
            }
        }
    }

    fn attempt<F: Fs>(
        &mut self,
        fs: &F,
        dir: &F::Dir,
        name: &[u8],
        previous: Option<Chunking>,
        options: &HashOptions<'_>,
    ) -> io::Result<Attempt> {
        let started = (options.now)();
        let file = match fs.open(dir, name) {
            Err(error) if matches!(errno(&error), Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return Ok(Attempt::NotAFile);
            }
            done => done?,
        };
        let before = fs.stat_file(&file)?;
        if before.kind != Kind::File {
            return Ok(Attempt::NotAFile);
        }
        let mut cutter = Cutter::new(before.size, previous);
        while cutter.read < before.size {
            if options.cancel.load(Ordering::Relaxed) {
                return Ok(Attempt::Cancelled);
            }
            let more = self.fill(&cutter, before.size);
            let end = cutter.left + more;
            if fs.read_at(&file, &mut self.window[cutter.left..end], cutter.read)? < more {
                return Ok(Attempt::Changed);
            }
            self.bytes += more as u64;
            cutter.take(&mut self.window[..end], more);
            // A long read of a file that is being written is cut short.
            if cutter.read < before.size && fs.stat_file(&file)? != before {
                return Ok(Attempt::Changed);
            }
        }
        // The handle may have outlived the name, and the name may have been given to another file.
        if fs.stat_file(&file)? != before || fs.stat(dir, name)? != Some(before) {
            return Ok(Attempt::Changed);
        }
        let racy = is_racy(&before, started, options.granularity);
        Ok(Attempt::Stable(cutter.finish(before, racy)))
    }

    /// Makes room for the next read; returns how many bytes it takes.
    fn fill(&mut self, cutter: &Cutter, size: u64) -> usize {
        // A chunk is only cut when the longest one would fit, so a window holds at least two.
        let len = WINDOW_LEN.max(2 * cutter.chunking.max_len());
        let rest = usize::try_from(size - cutter.read).unwrap_or(usize::MAX);
        let more = rest.min(len - cutter.left);
        if self.window.len() < cutter.left + more {
            self.window.resize(cutter.left + more, 0);
        }
        more
    }
}

/// One pass over the bytes of a file.
struct Cutter {
    chunking: Chunking,
    size: u64,
    chunks: Vec<Chunk>,
    whole: blake3::Hasher,
    /// Bytes taken so far.
    read: u64,
    /// Bytes at the front of the window that are read and not cut.
    left: usize,
}

impl Cutter {
    fn new(size: u64, previous: Option<Chunking>) -> Self {
        let chunking = Chunking::choose(size, previous);
        Self { chunking, size, chunks: Vec::new(), whole: blake3::Hasher::new(), read: 0, left: 0 }
    }

    /// Takes a window whose last `more` bytes are new, and moves what is left to its front.
    fn take(&mut self, window: &mut [u8], more: usize) {
        self.read += more as u64;
        let is_last = self.read == self.size;
        let lens = self.chunking.cut(window, is_last);
        let is_one_chunk = is_last && self.chunks.is_empty() && lens.len() == 1;
        if !is_one_chunk {
            self.whole.update(&window[self.left..]);
        }
        let mut start = 0;
        for len in lens {
            let hash = ChunkHash::of(&window[start..start + len]);
            self.chunks.push(Chunk { hash, len: u32::try_from(len).expect("a chunk is at most CHUNK_LEN_MAX") });
            start += len;
        }
        self.left = window.len() - start;
        window.copy_within(start.., 0);
    }

    fn finish(self, fingerprint: Fingerprint, racy: bool) -> Hashed {
        // The only chunk is the file, and is not hashed twice.
        let hash = match self.chunks.as_slice() {
            [only] => ContentHash(only.hash.0),
            _ => ContentHash(*self.whole.finalize().as_bytes()),
        };
        let manifest = Manifest { content: hash, size: self.size, chunking: self.chunking, chunks: self.chunks };
        let content = manifest.to_content();
        let manifest = (manifest.chunks.len() > INLINE_CHUNKS_MAX).then_some(manifest);
        Hashed { content, manifest, fingerprint, racy }
    }
}

/// Whether a change after `started` could leave the same time stamps: it would stamp the ctime anew, so only one
/// within the same tick. A ctime in the future, of a clock that was wrong, is left behind by any change.
fn is_racy(fingerprint: &Fingerprint, started: Mtime, granularity: Duration) -> bool {
    let nanos = |at: Mtime| i128::from(at.secs) * 1_000_000_000 + i128::from(at.nanos);
    (nanos(started) - nanos(fingerprint.ctime)).unsigned_abs() <= granularity.as_nanos()
}

/// The wall clock as a time stamp.
#[must_use]
pub fn wall_clock() -> Mtime {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Mtime { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() },
        // A clock before 1970: everything counts as racy, which costs time and nothing else.
        Err(_) => Mtime::from_secs(0),
    }
}

/// File systems that stamp with the kernel's coarse clock, at most one tick of 10 ms behind (magic numbers of statfs).
const FINE_FILE_SYSTEMS: [u32; 8] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0x794c_7630, // overlayfs
    0xca45_1a4e, // bcachefs
];

/// How far the time stamps of the file system at `root` may lie behind the clock: 2 s (FAT's) when it is not known.
#[must_use]
pub fn granularity(root: &Path) -> Duration {
    // The field is a signed word on some systems; the magic is its low 32 bits.
    let magic = |stat: rustix::fs::StatFs| (stat.f_type as u64 & 0xffff_ffff) as u32;
    match rustix::fs::statfs(root).map(magic) {
        Ok(magic) if FINE_FILE_SYSTEMS.contains(&magic) => Duration::from_millis(10),
        _ => Duration::from_secs(2),
    }
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
