//! An entry says what stands at a path, which events wrote it, and what it replaced.

use super::{Chunk, Chunking, ContentHash, Mtime, RelPath, Version};
use crate::limits::{ANCESTORS_MAX, INLINE_CHUNKS_MAX, SYMLINK_TARGET_LEN_MAX, VERSION_REPLICAS_MAX};
use serde::{Deserialize, Serialize};

/// Permission bits 0777; setuid, setgid and sticky cannot be expressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u16", into = "u16")]
pub struct Mode(u16);

impl Mode {
    /// Keeps the low nine bits.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self((bits & 0o777) as u16)
    }

    /// The nine bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
}

impl From<u16> for Mode {
    fn from(bits: u16) -> Self {
        Self::new(u32::from(bits))
    }
}

impl From<Mode> for u16 {
    fn from(mode: Mode) -> Self {
        mode.0
    }
}

/// A regular file's content: size in bytes, BLAKE3 of the whole, how it was chunked, and up to
/// `INLINE_CHUNKS_MAX` chunks. A file with more chunks has none inline; its manifest is fetched by hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileContent {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of all bytes.
    pub hash: ContentHash,
    /// The size class that cut it.
    pub chunking: Chunking,
    /// All chunks, or none when there are more than fit.
    pub chunks: Vec<Chunk>,
}

/// What stands at a path. The order is the rank by which a conflict is decided: later variants win.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Deleted.
    Tombstone,
    /// A symbolic link; the target is bytes and never followed.
    Symlink(Vec<u8>),
    /// A regular file.
    File(FileContent),
    /// A directory.
    Directory,
}

/// Short hash of an earlier content, enough to recognise it (BLAKE3, first 16 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AncestorHash(pub [u8; 16]);

impl Content {
    /// Everything but a tombstone.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !matches!(self, Self::Tombstone)
    }

    /// Whether this is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }

    /// The file, if it is one.
    #[must_use]
    pub const fn file(&self) -> Option<&FileContent> {
        match self {
            Self::File(file) => Some(file),
            _ => None,
        }
    }

    /// A total order key over contents: equal keys mean equal content.
    /// Files by their hash, links by the hash of their target; the rest has no bytes.
    #[must_use]
    pub fn identity(&self) -> (u8, ContentHash) {
        match self {
            Self::Tombstone => (0, ContentHash([0; 32])),
            Self::Symlink(target) => (1, ContentHash::of(target)),
            Self::File(file) => (2, file.hash),
            Self::Directory => (3, ContentHash([0; 32])),
        }
    }

    /// Same kind and same bytes; how a file was chunked does not matter.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// How a later device recognises this content as an old one; nothing for tombstones and directories.
    #[must_use]
    pub fn ancestor_hash(&self) -> Option<AncestorHash> {
        match self {
            Self::Tombstone | Self::Directory => None,
            Self::Symlink(_) | Self::File(_) => {
                let mut short = [0; 16];
                short.copy_from_slice(&self.identity().1.0[..16]);
                Some(AncestorHash(short))
            }
        }
    }
}

/// The state of one path at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// All events that this state descends from.
    pub version: Version,
    /// What stands there.
    pub content: Content,
    /// The events that wrote the content: one, or the union after equal contents met.
    pub content_at: Version,
    /// Permission bits; 0 for tombstones and links.
    pub mode: Mode,
    /// The events that wrote the mode.
    pub mode_at: Version,
    /// Modification time of files and links; zero for directories and tombstones.
    pub mtime: Mtime,
    /// The last contents before this one, newest first.
    pub ancestors: Vec<AncestorHash>,
    /// Found by a scan that had no history of the path: its bytes may be an old version of another's.
    pub found: bool,
}

impl Entry {
    /// Whether it is not a tombstone.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.content.is_live()
    }

    /// Same content, mode and mtime: what a user sees, versions aside.
    #[must_use]
    pub fn same_fields(&self, other: &Self) -> bool {
        self.content.same(&other.content) && self.mode == other.mode && self.mtime == other.mtime
    }

    /// Whether the content of `self` is one that `later` lists as replaced.
    #[must_use]
    pub fn is_ancestor_of(&self, later: &Self) -> bool {
        self.content.ancestor_hash().is_some_and(|hash| later.ancestors.contains(&hash))
    }

    /// Ancestors of a state that replaces this one by `next`: this content first, no duplicates, bounded.
    #[must_use]
    pub fn ancestors_for(&self, next: &Content) -> Vec<AncestorHash> {
        if self.content.same(next) {
            return self.ancestors.clone();
        }
        let newest = self.content.ancestor_hash();
        let mut all: Vec<AncestorHash> = newest.into_iter().collect();
        all.extend(self.ancestors.iter().filter(|hash| Some(**hash) != newest));
        let keep = if next.is_live() { ANCESTORS_MAX } else { 1 };
        all.truncate(keep);
        all
    }
}

/// One line of an index: a path and its entry, at a sequence number of the device that sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where.
    pub path: RelPath,
    /// What.
    pub entry: Entry,
}

/// Why a row from a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// No event, or more replicas than allowed.
    #[error("the version names no replica or too many")]
    Version,
    /// `content_at` or `mode_at` is not within the version.
    #[error("an entry claims events that its version lacks")]
    Causality,
    /// Inline chunks do not add up to the size.
    #[error("the chunks do not add up to the file")]
    Chunks,
    /// Symlink target empty, too long or with a NUL.
    #[error("the symlink target is not one")]
    Symlink,
    /// Nanoseconds of 1e9 or more.
    #[error("the modification time is not one")]
    Mtime,
    /// More ancestors than allowed.
    #[error("too many ancestors")]
    Ancestors,
}

impl Row {
    /// Checks what a peer sent: everything that the type does not already forbid.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), RowError> {
        let entry = &self.entry;
        if entry.version.is_empty() || entry.version.len() > VERSION_REPLICAS_MAX {
            return Err(RowError::Version);
        }
        let caused = |at: &Version| !at.is_empty() && at.is_within(&entry.version);
        if !caused(&entry.content_at) || !caused(&entry.mode_at) {
            return Err(RowError::Causality);
        }
        if entry.ancestors.len() > ANCESTORS_MAX {
            return Err(RowError::Ancestors);
        }
        if entry.mtime.nanos >= 1_000_000_000 {
            return Err(RowError::Mtime);
        }
        check_content(&entry.content)
    }
}

fn check_content(content: &Content) -> Result<(), RowError> {
    match content {
        Content::Tombstone | Content::Directory => Ok(()),
        Content::Symlink(target) => {
            let valid = !target.is_empty() && target.len() <= SYMLINK_TARGET_LEN_MAX && !target.contains(&0);
            if valid { Ok(()) } else { Err(RowError::Symlink) }
        }
        Content::File(file) => {
            if file.chunks.len() > INLINE_CHUNKS_MAX {
                return Err(RowError::Chunks);
            }
            let inline = !file.chunks.is_empty() || file.size == 0;
            if inline && super::chunk::check_lengths(&file.chunks, file.size, file.chunking).is_err() {
                return Err(RowError::Chunks);
            }
            Ok(())
        }
    }
}
