//! What the disk layer is asked to do, and what it answers. Every action is a compare-and-swap:
//! when the disk is not as expected, nothing is changed and the path is looked at again.

use super::local::{DeclineCode, Have};
use crate::model::{Entry, RelPath};
use serde::{Deserialize, Serialize};

/// Names one action of this database, and its place in `hold/`. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionId(pub u64);

/// One change of the tree. When it is carried out, `entry` becomes the path's `have`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Names the action.
    pub id: ActionId,
    /// Where.
    pub path: RelPath,
    /// What must stand there; `None` or a tombstone: nothing.
    pub expected: Option<Have>,
    /// What is recorded when it is done.
    pub entry: Entry,
    /// How.
    pub step: Step,
}

/// How an action changes the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Puts the verified temp of the entry's content there. What stood there is held.
    InstallFile,
    /// Makes a link with the entry's target. What stood there is held.
    InstallSymlink,
    /// Makes a directory; a file or link that stood there is held.
    MakeDirectory,
    /// Takes away what stands there: files and links are held, a directory must be empty.
    Remove,
    /// Sets mode and mtime in place: the content is already right.
    SetMetadata,
    /// Renames the expected object at `from` to the path, sets mode and mtime, and records `tombstone` at `from`.
    MoveFrom {
        /// The old path.
        from: RelPath,
        /// What must stand there.
        from_have: Have,
        /// What is recorded there.
        tombstone: Entry,
    },
    /// Nothing on disk: only the record changes (versions met, or a tombstone for what was never here).
    Record,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out, durable and recorded.
    Done,
    /// The disk was not as expected and was left (or put back) as it was: look at the path (and `from`) again.
    DiskMoved,
    /// The directory holds something that has no row: look at the subtree again.
    NotEmpty {
        /// How many names are in it, to tell a person; 0: not known.
        items: usize,
    },
    /// No verified temp of that content: fetch it again.
    NoContent,
    /// It cannot be done now. Nothing was changed.
    Failed(Problem),
}

/// Why a path does not get on, for status and for the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: ProblemCode,
    /// For people, with the errno.
    pub words: String,
}

/// Machine-readable cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProblemCode {
    /// ENOSPC, EDQUOT, EFBIG.
    NoSpace,
    /// EACCES, EPERM, immutable.
    Permission,
    /// EROFS.
    ReadOnly,
    /// ENAMETOOLONG, EILSEQ, EINVAL: the file system cannot hold the name.
    Name,
    /// EIO, ESTALE and everything else.
    Io,
    /// Keeps changing while it is read.
    Busy,
    /// Not a file, directory or link.
    Special,
    /// No connected device can serve it.
    NoSource,
    /// Those that can serve it are reached over connections that cost by the byte.
    Metered,
    /// Something that is not synced stands in the way.
    Blocked,
}

impl ProblemCode {
    /// Nothing is wrong with the path or its content: it only cannot be fetched from anybody now.
    #[must_use]
    pub const fn wants_source(self) -> bool {
        matches!(self, Self::NoSource | Self::Metered)
    }

    /// What the peers are told.
    #[must_use]
    pub const fn decline(self) -> DeclineCode {
        match self {
            Self::NoSpace => DeclineCode::NoSpace,
            Self::Name => DeclineCode::NameImpossible,
            Self::Blocked => DeclineCode::Blocked,
            Self::Permission
            | Self::ReadOnly
            | Self::Io
            | Self::Busy
            | Self::Special
            | Self::NoSource
            | Self::Metered => DeclineCode::Unreadable,
        }
    }
}
