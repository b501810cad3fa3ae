//! Content-defined chunks: FastCDC v2020 with frozen parameters, BLAKE3 over each chunk and over the whole file.
//! A manifest names its chunking, so that a mismatch costs deduplication and never correctness.

use super::{ChunkHash, ContentHash};
use crate::limits::{CHUNK_LEN_MAX, CHUNKS_PER_FILE_MAX};
use fastcdc::v2020::{FastCDC, Normalization};
use serde::{Deserialize, Serialize};

/// One chunk of a file: its hash and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Chunk {
    /// BLAKE3 of the bytes.
    pub hash: ChunkHash,
    /// Bytes; 1..=CHUNK_LEN_MAX.
    pub len: u32,
}

/// The size class that cut a file. The number is what travels; new classes get new numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Chunking {
    /// The whole file is one chunk (below 256 KiB).
    Whole,
    /// FastCDC, average 64 KiB.
    Avg64K,
    /// FastCDC, average 256 KiB.
    Avg256K,
    /// FastCDC, average 1 MiB.
    Avg1M,
    /// FastCDC, average 2 MiB.
    Avg2M,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Classes with the size in bytes below which they apply.
const CLASSES: [(Chunking, u64); 5] = [
    (Chunking::Whole, 256 * KIB),
    (Chunking::Avg64K, 64 * MIB),
    (Chunking::Avg256K, 4 * GIB),
    (Chunking::Avg1M, 256 * GIB),
    (Chunking::Avg2M, u64::MAX),
];

impl Chunking {
    /// The class for a file of `size` bytes whose last version had `previous`: it stays there until
    /// the size leaves that class by a factor of two, so that growth does not re-cut a file back and forth.
    #[must_use]
    pub fn choose(size: u64, previous: Option<Self>) -> Self {
        let by_size =
            |size: u64| CLASSES.iter().find(|(_, below)| size < *below).map_or(Self::Avg2M, |(class, _)| *class);
        match previous {
            Some(class) if class != Self::Whole => {
                let index = CLASSES.iter().position(|(c, _)| *c == class).unwrap_or(0);
                let low = if index == 0 { 0 } else { CLASSES[index - 1].1 };
                let high = CLASSES[index].1;
                if size >= low / 2 && size < high.saturating_mul(2) { class } else { by_size(size) }
            }
            _ => by_size(size),
        }
    }

    /// Average chunk length in bytes; `None` for one chunk per file.
    #[must_use]
    pub const fn average(self) -> Option<u32> {
        match self {
            Self::Whole => None,
            Self::Avg64K => Some(64 * 1024),
            Self::Avg256K => Some(256 * 1024),
            Self::Avg1M => Some(1024 * 1024),
            Self::Avg2M => Some(2 * 1024 * 1024),
        }
    }

    /// Longest chunk of this class in bytes.
    #[must_use]
    pub const fn max_len(self) -> usize {
        match self.average() {
            // A whole file is chosen below 256 KiB; while it grows during one version it may reach twice that.
            None => 512 * 1024,
            Some(average) => 2 * average as usize,
        }
    }

    /// Lengths of the chunks at the front of `window`. With `last` false a cut is only trusted while a whole
    /// longest chunk still fits, so the rest of the window is left for the next call.
    #[must_use]
    pub fn cut(self, window: &[u8], last: bool) -> Vec<usize> {
        let Some(average) = self.average() else {
            return if last && !window.is_empty() { vec![window.len()] } else { Vec::new() };
        };
        let (min, average, max) = (average as usize / 2, average as usize, 2 * average as usize);
        let mut cuts = Vec::new();
        let mut start = 0;
        while start < window.len() && (last || window.len() - start >= max) {
            // One cut at a time: the crate's iterator would hash past what we may trust.
            let rest = &window[start..];
            let cdc = FastCDC::with_level(rest, min, average, max, Normalization::Level3);
            let len = cdc.into_iter().next().map_or(rest.len(), |chunk| chunk.length);
            cuts.push(len);
            start += len;
        }
        cuts
    }
}

const _: () = assert!(Chunking::Avg2M.max_len() <= CHUNK_LEN_MAX);

/// The complete chunk list of one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// BLAKE3 of the whole.
    pub content: ContentHash,
    /// Bytes.
    pub size: u64,
    /// The class that cut it.
    pub chunking: Chunking,
    /// In file order.
    pub chunks: Vec<Chunk>,
}

/// Why a chunk list was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A chunk of no bytes or more than the class allows.
    #[error("a chunk's length is outside its class")]
    Length,
    /// The lengths do not add up to the size.
    #[error("the chunks do not add up to the file's size")]
    Sum,
    /// More chunks than any file has.
    #[error("too many chunks")]
    Count,
}

/// Checks that `chunks` can be a file of `size` bytes cut by `chunking`.
///
/// # Errors
/// The first rule that is broken.
pub fn check_lengths(chunks: &[Chunk], size: u64, chunking: Chunking) -> Result<(), ManifestError> {
    if chunks.len() as u64 > CHUNKS_PER_FILE_MAX {
        return Err(ManifestError::Count);
    }
    let mut sum = 0u64;
    for chunk in chunks {
        if chunk.len == 0 || chunk.len as usize > chunking.max_len() {
            return Err(ManifestError::Length);
        }
        sum += u64::from(chunk.len);
    }
    if sum == size { Ok(()) } else { Err(ManifestError::Sum) }
}

impl Manifest {
    /// Cuts and hashes `bytes` held in memory.
    #[must_use]
    pub fn of(bytes: &[u8], previous: Option<Chunking>) -> Self {
        let chunking = Chunking::choose(bytes.len() as u64, previous);
        let mut chunks = Vec::new();
        let mut start = 0;
        for len in chunking.cut(bytes, true) {
            let hash = ChunkHash::of(&bytes[start..start + len]);
            chunks.push(Chunk { hash, len: u32::try_from(len).expect("a chunk is at most CHUNK_LEN_MAX") });
            start += len;
        }
        Self { content: ContentHash::of(bytes), size: bytes.len() as u64, chunking, chunks }
    }

    /// The entry content that announces this manifest.
    #[must_use]
    pub fn to_content(&self) -> super::FileContent {
        let inline = self.chunks.len() <= crate::limits::INLINE_CHUNKS_MAX;
        super::FileContent {
            size: self.size,
            hash: self.content,
            chunking: self.chunking,
            chunks: if inline { self.chunks.clone() } else { Vec::new() },
        }
    }
}
