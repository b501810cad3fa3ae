//! What one device knows about one folder, and the two traits through which the core reads and writes it.
//! Nothing here crosses the wire. The redb store and the simulator's store implement `Rows` and `Journal`.

use super::plan::ActionId;
use crate::limits::RUNS_MAX;
use crate::model::{
    Content, ContentHash, DeviceId, Digest, Entry, FileContent, Manifest, Mode, Mtime, RelPath, ReplicaId, Row, RunId,
    Sequence, Version,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Kind of a file system object, as far as we sync it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// FIFO, socket, device: never synced.
    Special,
}

/// What lstat says of an object. Any difference means: look at the bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// f_fsid of the file system (st_dev changes across reboots).
    pub fs: u64,
    /// Inode number.
    pub inode: u64,
    /// Kind.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Last change of the data.
    pub mtime: Mtime,
    /// Last change of the inode; catches what restores mtime.
    pub ctime: Mtime,
    /// Permission bits 0777.
    pub mode: Mode,
}

impl Fingerprint {
    /// Nothing moved since `earlier` was taken. A directory's size and times change with its children,
    /// so for two directories only the mode counts.
    #[must_use]
    pub fn unchanged_since(&self, earlier: &Self) -> bool {
        match (self.kind, earlier.kind) {
            (Kind::Directory, Kind::Directory) => self.mode == earlier.mode,
            _ => self == earlier,
        }
    }

    /// Its mtime lies within `granularity` of its ctime.
    #[must_use]
    pub fn is_young(&self, granularity: Duration) -> bool {
        let nanos = |at: Mtime| i128::from(at.secs) * 1_000_000_000 + i128::from(at.nanos);
        (nanos(self.ctime) - nanos(self.mtime)).unsigned_abs() <= granularity.as_nanos()
    }

    /// The same but for ctime, which a rename moves.
    #[must_use]
    pub fn same_but_ctime(&self, earlier: &Self) -> bool {
        Self { ctime: earlier.ctime, ..*self }.unchanged_since(earlier)
    }
}

/// What stands on this disk at a path, or the tombstone carried out there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// The entry.
    pub entry: Entry,
    /// Of the object on disk; `None` for tombstones.
    pub fingerprint: Option<Fingerprint>,
    /// Recorded within a timestamp tick of its last change: rehash at the next scan.
    pub racy: bool,
}

/// A maximal entry heard from peers and not applied here yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The entry.
    pub entry: Entry,
    /// Devices that announced it, so have it; at least one.
    pub sources: Vec<DeviceId>,
    /// Why this device does not apply it now; `None` while it is on its way.
    pub declined: Option<Decline>,
}

/// Why an entry is not applied: what a peer is told and `status` lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// For programs.
    pub code: DeclineCode,
    /// For people: one sentence.
    pub words: String,
}

/// Machine-readable reason of a decline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeclineCode {
    /// An ignore rule matches.
    Ignored,
    /// The folder is send-only here.
    SendOnly,
    /// The disk is full or over quota.
    NoSpace,
    /// The file system cannot hold this name.
    NameImpossible,
    /// A guard holds it until a person answers.
    WaitingForApproval,
    /// Something at or above the path cannot be read or written.
    Unreadable,
    /// The path is blocked by something that is not synced.
    Blocked,
    /// A member that may not write announced it.
    NotAWriter,
}

impl DeclineCode {
    /// Whether the cause may go by itself, so that the entry is tried again now and then.
    #[must_use]
    pub const fn passes(self) -> bool {
        match self {
            Self::NoSpace | Self::NameImpossible | Self::Unreadable | Self::Blocked => true,
            Self::Ignored | Self::SendOnly | Self::WaitingForApproval | Self::NotAWriter => false,
        }
    }
}

/// All that is known here about one path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRow {
    /// On this disk and announced.
    pub have: Option<Have>,
    /// Heard and not applied; usually none.
    pub wants: Vec<Want>,
    /// Receive-only folders: what the user did here, never announced.
    pub local: Option<Observed>,
}

impl LocalRow {
    /// The entry on disk.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        self.have.as_ref().map(|have| &have.entry)
    }

    /// Whether something live stands here.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.entry().is_some_and(Entry::is_live)
    }

    /// What a device announced and this one declines.
    pub fn declined_from(&self, peer: &DeviceId) -> impl Iterator<Item = &Want> {
        self.wants.iter().filter(|want| want.declined.is_some() && want.sources.contains(peer))
    }

    /// Whether a live directory stands here.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.entry().is_some_and(|entry| entry.content.is_directory())
    }
}

/// What a scan found at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Observed {
    /// ENOENT, and absent from a complete listing of its directory.
    Absent,
    /// A directory.
    Directory {
        /// lstat.
        fingerprint: Fingerprint,
    },
    /// A regular file, hashed between two equal fingerprints.
    File {
        /// fstat after hashing.
        fingerprint: Fingerprint,
        /// Its content.
        content: FileContent,
        /// Changed too recently for the clock to tell another change apart.
        racy: bool,
    },
    /// A symbolic link.
    Symlink {
        /// lstat.
        fingerprint: Fingerprint,
        /// Bytes of the target.
        target: Vec<u8>,
    },
}

impl Observed {
    /// The fingerprint of what stands there.
    #[must_use]
    pub const fn fingerprint(&self) -> Option<&Fingerprint> {
        match self {
            Self::Absent => None,
            Self::Directory { fingerprint } | Self::File { fingerprint, .. } | Self::Symlink { fingerprint, .. } => {
                Some(fingerprint)
            }
        }
    }

    /// As an entry's content.
    #[must_use]
    pub fn content(&self) -> Content {
        match self {
            Self::Absent => Content::Tombstone,
            Self::Directory { .. } => Content::Directory,
            Self::File { content, .. } => Content::File(content.clone()),
            Self::Symlink { target, .. } => Content::Symlink(target.clone()),
        }
    }
}

/// One finding of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where.
    pub path: RelPath,
    /// What.
    pub observed: Observed,
    /// The chunk list, when it does not fit into the entry.
    pub manifest: Option<Manifest>,
}

/// How far this device has read a peer's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The peer's replica; a new one starts again at 0.
    pub replica: ReplicaId,
    /// The last of its sequence numbers recorded here.
    pub sequence: Sequence,
}

/// What a database remembers of itself under its present replica, to notice that it was put back to an earlier state or
/// copied: what peers remember of it must be in here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Starts of the folder, each with the head at that time; oldest first, the last `RUNS_MAX`.
    pub runs: Vec<(RunId, Sequence)>,
    /// Events of this replica up to this one were made before a peer last confirmed the history: none of them is made
    /// twice.
    pub confirmed: u64,
}

impl History {
    /// Whether this database once was at `sequence` in `run`; now it is at `head`.
    #[must_use]
    pub fn holds(&self, run: RunId, sequence: Sequence, head: Sequence) -> bool {
        let at = self.runs.iter().position(|(known, _)| *known == run);
        at.is_some_and(|at| sequence <= self.runs.get(at + 1).map_or(head, |(_, ended)| *ended))
    }

    /// A start at `head`.
    pub fn begin(&mut self, run: RunId, head: Sequence) {
        self.runs.push((run, head));
        let over = self.runs.len().saturating_sub(RUNS_MAX);
        self.runs.drain(..over);
    }
}

/// Live rows counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes in regular files.
    pub bytes: u64,
    /// Tombstones.
    pub tombstones: u64,
}

/// Of a folder as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderState {
    /// This database's incarnation.
    pub replica: ReplicaId,
    /// The highest event counter in use; durable.
    pub counter: u64,
    /// A whole scan has ended under this replica: from then on a file without a row is a new file.
    pub scanned: bool,
    /// The highest sequence number recorded.
    pub head: Sequence,
    /// Over live `have` rows.
    pub digest: Digest,
    /// Over live `have` rows.
    pub totals: Totals,
    /// Rows with wants that are not declined, and the bytes of the files among them.
    pub need_entries: u64,
    /// See `need_entries`.
    pub need_bytes: u64,
}

/// Journal row: an action that may have reached the tree. Settled at start before anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installing {
    /// Names `hold/<id>`.
    pub id: ActionId,
    /// Where.
    pub path: RelPath,
    /// What stands there when it is done.
    pub entry: Entry,
    /// What stood there before, with its fingerprint.
    pub expected: Option<Have>,
    /// Of a move: the old path, its fingerprint there and the tombstone to record.
    pub moved_from: Option<(RelPath, Have, Entry)>,
    /// Inode of the object that comes there; `None` for one that is made in place.
    pub inode: Option<u64>,
}

/// Journal row: a displaced object in `hold/<id>`, until it has become a version or a conflict copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Names `hold/<id>`.
    pub id: ActionId,
    /// Where it stood.
    pub path: RelPath,
    /// lstat in `hold/`.
    pub fingerprint: Fingerprint,
    /// What it held when it was displaced.
    pub content: Content,
    /// Wall clock, seconds since 1970, when it was displaced.
    pub since: i64,
}

/// One write to a folder's database. A list of them is one durable transaction, applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Records what stands at a path. Takes the next sequence number, updates digest and totals, drops the
    /// wants that the entry's version contains, and clears `local`.
    Have {
        /// Where.
        path: RelPath,
        /// What.
        have: Have,
    },
    /// Refreshes fingerprint and raciness of an unchanged entry: no sequence number, nothing announced.
    Seen {
        /// Where.
        path: RelPath,
        /// As now on disk.
        fingerprint: Fingerprint,
        /// As in `Have`.
        racy: bool,
    },
    /// Replaces the wants of a path; empty removes them.
    Wants {
        /// Where.
        path: RelPath,
        /// All of them.
        wants: Vec<Want>,
    },
    /// Replaces the receive-only finding of a path.
    Local {
        /// Where.
        path: RelPath,
        /// What the user did here.
        local: Option<Observed>,
    },
    /// Keeps a chunk list by content hash. The store drops lists that no `have` and no want names any more.
    Manifest(Manifest),
    /// How far a peer's index is recorded.
    Cursor {
        /// Whose.
        peer: DeviceId,
        /// Where.
        cursor: Cursor,
    },
    /// The highest event counter in use.
    Counter(u64),
    /// An action starts.
    Installing(Installing),
    /// It is settled.
    Installed(ActionId),
    /// A displaced object is kept.
    Held(Held),
    /// It has found its place.
    Released(ActionId),
    /// A whole scan has ended under this replica.
    Scanned,
    /// Forgets a `have` as if this replica had never held it: no sequence number, nothing announced.
    Lost {
        /// Where.
        path: RelPath,
    },
    /// The folder starts under this run id.
    Run(RunId),
    /// A peer confirmed the history: none of this replica's events up to this one is made twice.
    Confirmed(u64),
    /// A peer's index is recorded up to here, as its run of that time had it.
    Remember {
        /// Whose.
        peer: DeviceId,
        /// Its replica.
        replica: ReplicaId,
        /// Its run.
        run: RunId,
        /// The last of its sequence numbers recorded here.
        sequence: Sequence,
    },
    /// The database goes on under a new replica, without history and as before its first scan.
    Renewed(ReplicaId),
    /// Forgets a peer: its cursor, and its name in sources (wants without sources go).
    Forget(DeviceId),
}

/// Read access to a folder's database. Infallible: an index that cannot be read stops the daemon (exit 75).
pub trait Rows {
    /// All about one path.
    fn get(&self, path: &RelPath) -> LocalRow;
    /// Some live row strictly below `dir`.
    fn live_below(&self, dir: &RelPath) -> Option<RelPath>;
    /// Names and haves directly in `dir` (`None`: the root), live ones only, in order.
    fn children(&self, dir: Option<&RelPath>) -> Vec<(RelPath, Have)>;
    /// Live haves strictly below `dir` (`None`: all), after `after`, in order, at most `limit`.
    fn below(&self, dir: Option<&RelPath>, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Have)>;
    /// Rows with at least one want, in path order strictly after `after`, at most `limit`.
    fn wanted(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)>;
    /// The same downwards: strictly before `before` (`None`: from the end), children before parents.
    fn wanted_reversed(&self, before: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)>;
    /// Announced rows after a sequence number, ascending, at most `limit`.
    fn since(&self, after: Sequence, limit: usize) -> Vec<(Sequence, Row)>;
    /// Of the folder as a whole.
    fn state(&self) -> FolderState;
    /// How far a peer's index is recorded.
    fn cursor(&self, peer: &DeviceId) -> Option<Cursor>;
    /// What this database remembers of itself.
    fn history(&self) -> History;
    /// A run of a peer under this replica, and how far its index was recorded then.
    fn remembered(&self, peer: &DeviceId, replica: ReplicaId) -> Option<(RunId, Sequence)>;
    /// The chunk list of a content: from the entry, or kept by hash.
    fn manifest(&self, content: &FileContent) -> Option<Manifest>;
    /// Paths whose `have` holds a file of exactly this content, at most `limit`.
    fn holders(&self, content: &FileContent, limit: usize) -> Vec<RelPath>;
    /// Digest over live rows as compared with `peer`: what it announced and this device declines counts in place of
    /// what stands at the path. What others announced does not, for `peer` may never have heard of it.
    fn effective_digest(&self, peer: &DeviceId) -> Digest;
    /// Whether something may be declined here that `peer` did not announce, or announced at an older version: then
    /// digests may differ though nobody is wrong.
    fn declines_others(&self, peer: &DeviceId) -> bool;
    /// Paths with a receive-only finding, in order after `after`, at most `limit`.
    fn locals(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Observed)>;
}

/// Questions about the disk that cost one system call each.
pub trait Disk {
    /// lstat says ENOENT (or ENOTDIR above). Any other error is false: absence must be certain.
    fn is_absent(&self, path: &RelPath) -> bool;
    /// What lstat says of the path now; `None` also when it cannot be asked.
    fn fingerprint(&self, path: &RelPath) -> Option<Fingerprint>;
    /// An ignore rule matches the path or a directory above it.
    fn is_ignored(&self, path: &RelPath, is_directory: bool) -> bool;
}

/// Write access to a folder's database, and the rows that a start must settle.
pub trait Journal: Rows {
    /// One durable transaction. Returns when it would survive a power cut.
    fn commit(&self, changes: Vec<Change>);
    /// Actions that were under way.
    fn installing(&self) -> Vec<Installing>;
    /// Displaced objects that have not found their place.
    fn held(&self) -> Vec<Held>;
}

impl Version {
    /// Whether a row at this version adds anything to one at `have`.
    #[must_use]
    pub fn is_news_to(&self, have: Option<&Entry>) -> bool {
        have.is_none_or(|have| !self.is_within(&have.version))
    }
}

/// The content hash of a file entry, for lookups.
#[must_use]
pub fn file_hash(entry: &Entry) -> Option<ContentHash> {
    entry.content.file().map(|file| file.hash)
}
