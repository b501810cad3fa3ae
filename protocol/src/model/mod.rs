//! The nouns: ids, paths, versions, chunks, entries, index rows. Parsed at the edge and then trusted.

pub mod chunk;
pub mod entry;
pub mod id;
pub mod index;
pub mod path;
pub mod time;
pub mod version;

pub use chunk::{Chunk, Chunking, Manifest};
pub use entry::{Content, Entry, FileContent, Mode, Row};
pub use id::{ChunkHash, ContentHash, DeviceId, FolderId, LinkHash, RealmId, ReplicaId, RunId};
pub use index::{Digest, Sequence};
pub use path::RelPath;
pub use time::{Mtime, Timestamp};
pub use version::{Event, Version};
