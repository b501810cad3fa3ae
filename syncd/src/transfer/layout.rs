//! Where a file's chunks lie, which of them are missing, and where a hash occurs in a list.
//! Pure arithmetic; chunk numbers are u32 because `CHUNKS_PER_FILE_MAX` is far below that.

use protocol::limits::{CHUNK_LEN_MAX, CHUNKS_PER_FILE_MAX};
use protocol::model::{Chunk, ChunkHash, Chunking, FileContent, Manifest};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

const _: () = assert!(CHUNKS_PER_FILE_MAX < u32::MAX as u64);

/// A chunk list with the offset of every chunk.
#[derive(Debug)]
pub(super) struct Layout {
    manifest: Arc<Manifest>,
    offsets: Box<[u64]>,
}

impl Layout {
    /// Of a list that was checked against its file's size.
    pub fn new(manifest: Arc<Manifest>) -> Self {
        let mut offset = 0;
        let offsets = manifest.chunks.iter().map(|chunk| {
            let at = offset;
            offset += u64::from(chunk.len);
            at
        });
        Self { offsets: offsets.collect(), manifest }
    }

    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// How many chunks.
    pub fn len(&self) -> u32 {
        u32::try_from(self.offsets.len()).expect("a file has at most CHUNKS_PER_FILE_MAX chunks")
    }

    pub fn chunk(&self, index: u32) -> Chunk {
        self.manifest.chunks[index as usize]
    }

    pub fn offset(&self, index: u32) -> u64 {
        self.offsets[index as usize]
    }

    /// Where the chunk ends.
    pub fn end(&self, index: u32) -> u64 {
        self.offset(index) + u64::from(self.chunk(index).len)
    }

    /// The run of `count` chunks from `first` on.
    pub fn run(&self, first: u32, count: u32) -> Run {
        let len = (first..first + count).map(|index| self.chunk(index).len).sum();
        Run { first, count, offset: self.offset(first), len }
    }
}

/// Neighbouring chunks of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub first: u32,
    pub count: u32,
    /// Where the first one starts.
    pub offset: u64,
    /// Bytes of all of them.
    pub len: u32,
}

/// Bytes that a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// Its first chunk.
    pub first: u64,
    /// All of them, if they are several.
    pub all: u64,
}

/// Chunk numbers that nobody was asked for: disjoint stretches, first to end (exclusive).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing(BTreeMap<u32, u32>);

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all of them.
    pub fn len(&self, layout: &Layout) -> u64 {
        self.0.iter().map(|(first, end)| layout.end(*end - 1) - layout.offset(*first)).sum()
    }

    pub fn insert(&mut self, first: u32, count: u32) {
        if count == 0 {
            return;
        }
        let (mut start, mut end) = (first, first + count);
        while let Some((&at, &until)) = self.0.range(..=end).next_back() {
            if until < start {
                break;
            }
            (start, end) = (start.min(at), end.max(until));
            self.0.remove(&at);
        }
        self.0.insert(start, end);
    }

    /// The first stretch from `from` on, first to end; its beginning is cut off at `from`.
    pub fn stretch(&self, from: u32) -> Option<(u32, u32)> {
        let around = self.0.range(..=from).next_back().filter(|(_, end)| **end > from).map(|(_, end)| (from, *end));
        around.or_else(|| self.0.range(from..).next().map(|(first, end)| (*first, *end)))
    }

    /// The first stretch inside `first..end`.
    pub fn stretch_within(&self, first: u32, end: u32) -> Option<(u32, u32)> {
        self.stretch(first).filter(|(start, _)| *start < end).map(|(start, until)| (start, until.min(end)))
    }

    /// Takes a run of at most `portion` from the front of a stretch; `None` when not one chunk fits.
    pub fn take(&mut self, (first, end): (u32, u32), layout: &Layout, portion: Portion) -> Option<Run> {
        let mut bytes = 0;
        let fitting = (first..end).take_while(|index| {
            bytes += u64::from(layout.chunk(*index).len);
            bytes <= if *index == first { portion.first } else { portion.all }
        });
        let count = u32::try_from(fitting.count()).expect("a stretch has at most u32 chunks");
        if count == 0 {
            return None;
        }
        self.remove(first, count);
        Some(layout.run(first, count))
    }

    fn remove(&mut self, first: u32, count: u32) {
        let Some((&at, &end)) = self.0.range(..=first).next_back() else { return };
        self.0.remove(&at);
        if at < first {
            self.0.insert(at, first);
        }
        if first + count < end {
            self.0.insert(first + count, end);
        }
    }

    /// The middle of the longest stretch: where another source starts, away from the others.
    pub fn middle(&self) -> u32 {
        let longest = self.0.iter().max_by_key(|(first, end)| *end - *first);
        longest.map_or(0, |(first, end)| first + (end - first) / 2)
    }
}

/// Finds a hash in a chunk list: 16 bytes a chunk.
#[derive(Debug)]
pub(super) struct ChunkIndex(Vec<(u64, u32)>);

impl ChunkIndex {
    pub fn new(layout: &Layout) -> Self {
        let mut sorted: Vec<_> = (0..layout.len()).map(|index| (prefix(&layout.chunk(index).hash), index)).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// The first chunk of `layout` (the one this index was made of) that equals `chunk`.
    pub fn find(&self, layout: &Layout, chunk: Chunk) -> Option<u32> {
        let key = prefix(&chunk.hash);
        let from = self.0.partition_point(|(other, _)| *other < key);
        let equal = self.0[from..].iter().take_while(|(other, _)| *other == key);
        equal.map(|(_, index)| *index).find(|index| layout.chunk(*index) == chunk)
    }
}

fn prefix(hash: &ChunkHash) -> u64 {
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// Whether a chunk holds nothing but zeros, without having it: FastCDC cuts a run of zeros at the class's maximum.
pub(super) fn is_zeros(chunk: Chunk, chunking: Chunking) -> bool {
    static KNOWN: [OnceLock<ChunkHash>; 5] = [const { OnceLock::new() }; 5];
    let class = match chunking {
        Chunking::Whole => 0,
        Chunking::Avg64K => 1,
        Chunking::Avg256K => 2,
        Chunking::Avg1M => 3,
        Chunking::Avg2M => 4,
    };
    chunk.len as usize == chunking.max_len()
        && *KNOWN[class].get_or_init(|| zeros_hash(chunking.max_len())) == chunk.hash
}

/// Hash of `len` zeros, at most `CHUNK_LEN_MAX`.
pub(super) fn zeros_hash(len: usize) -> ChunkHash {
    static BLOCK: [u8; 64 * 1024] = [0; 64 * 1024];
    assert!(len <= CHUNK_LEN_MAX, "a chunk is bounded");
    let mut hasher = blake3::Hasher::new();
    let mut left = len;
    while left > 0 {
        let part = left.min(BLOCK.len());
        hasher.update(&BLOCK[..part]);
        left -= part;
    }
    ChunkHash(*hasher.finalize().as_bytes())
}

/// Most chunks a file of this size can have: all but the last are at least half the average.
pub(super) fn chunk_count_max(size: u64, chunking: Chunking) -> u64 {
    let count = chunking.average().map_or(1, |average| size / (u64::from(average) / 2) + 1);
    count.min(CHUNKS_PER_FILE_MAX)
}

/// The list that travels inside an entry, if it is whole and can be that file.
pub(super) fn inline(content: &FileContent) -> Option<Manifest> {
    let FileContent { size, hash, chunking, chunks } = content;
    let whole = !chunks.is_empty() && protocol::model::chunk::check_lengths(chunks, *size, *chunking).is_ok();
    whole.then(|| Manifest { content: *hash, size: *size, chunking: *chunking, chunks: chunks.clone() })
}
