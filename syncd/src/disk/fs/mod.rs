//! The one IO seam: `Fs` is everything that syncd asks of a file system. It has exactly two implementations:
//! `RealFs` (Linux) and `SimFs` (deterministic, can crash). Every operation is a directory handle and a single
//! name, so that no path is ever resolved twice. Invariant: nothing outside the folder's root is reached, no
//! symbolic link is followed, and no operation here can destroy bytes in the user's tree: files leave it only by
//! rename, and `unlink` takes a handle of the private directory.

mod copy;
mod error;
mod lease;
mod opened_up;
mod real;
pub mod sim;
mod spelling;
#[cfg(test)]
mod tests;

pub use error::{Errno, errno, problem};
pub use real::RealFs;
pub use sim::SimFs;

use protocol::model::{Mode, Mtime, RelPath};
use protocol::sync::{Fingerprint, Kind};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::time::Duration;

/// A part of the private directory `.syncd/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// `.syncd/` itself: holds the marker.
    Base,
    /// `.syncd/tmp/`: bytes from peers.
    Tmp,
    /// `.syncd/hold/`: new objects about to be installed, and displaced ones.
    Hold,
    /// `.syncd/versions/`: what remote changes replaced.
    Versions,
}

impl Area {
    /// The areas below `.syncd/`, in the order in which they are made.
    pub const BELOW_BASE: [Self; 3] = [Self::Tmp, Self::Hold, Self::Versions];

    /// Its name below `.syncd/`; nothing for `.syncd/` itself.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Base => None,
            Self::Tmp => Some("tmp"),
            Self::Hold => Some("hold"),
            Self::Versions => Some("versions"),
        }
    }
}

/// A directory handle inside `.syncd/`, the only place where names may be removed for good.
#[derive(Debug)]
pub struct Private<D>(D);

impl<D> Deref for Private<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.0
    }
}

/// One name of a directory. The name may be one that no `RelPath` can hold (`.syncd`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The single component.
    pub name: Box<[u8]>,
    /// What it was when it was listed.
    pub kind: Kind,
}

/// Bytes on the file system, as an unprivileged user sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Available.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// Which directory the root's path leads to: another value means another disk or directory was put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootId {
    /// f_fsid.
    pub fs: u64,
    /// Inode number.
    pub inode: u64,
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.fs, self.inode)
    }
}

/// A directory's mode with which its owner may change the names in it.
pub(super) const fn writable(mode: Mode) -> Mode {
    Mode::new(mode.bits() | 0o300)
}

/// A file system, rooted at one folder. Errors are `io::Error` with an errno; `problem` puts them into words.
/// Blocking. Names are single components; one with `/` is EINVAL. A mount point below the root is EXDEV.
/// A volume may fold names, so that `a` leads to what is listed as `A`. To look and to open a directory is to ask for
/// the name as it is listed: otherwise an answer for one spelling would be believed of another. What makes a name, and
/// `stat_folded`, see what the volume sees, and so does all in `.syncd/`.
pub trait Fs: Send + Sync + 'static {
    /// An open directory: stays with the directory when that is renamed.
    type Dir: Send + Sync;
    /// An open regular file: stays with the inode when that is renamed.
    type File: Send + Sync;

    /// What the root's path leads to now (not what this handle was opened on).
    fn root_id(&self) -> io::Result<RootId>;
    /// Bytes free and in all.
    fn space(&self) -> io::Result<Space>;
    /// How far time stamps may lie behind the clock: within that, one write can leave the same stamps as another.
    fn granularity(&self) -> Duration;
    /// Whether fsync does what it says: false once a file system refused it (EINVAL, EOPNOTSUPP).
    fn is_durable(&self) -> bool;

    /// Makes `.syncd/` and its areas (0700). Only when a folder is added: a missing one is a missing disk.
    fn prepare_private(&self) -> io::Result<()>;
    /// Opens an area. ENOENT without `.syncd/`; an area missing below it is made.
    fn private(&self, area: Area) -> io::Result<Private<Self::Dir>>;
    /// Opens a directory inside the private one.
    fn private_child(&self, dir: &Private<Self::Dir>, name: &[u8]) -> io::Result<Private<Self::Dir>>;

    /// Opens a directory of the tree, resolved beneath the root without following links. `None`: the root.
    /// ENOENT, ENOTDIR or ELOOP when no directory stands there.
    fn open_dir(&self, path: Option<&RelPath>) -> io::Result<Self::Dir>;
    /// Opens the directory `name` in `dir`.
    fn open_child(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::Dir>;
    /// Every name in `dir`, in no order, without `.` and `..`: the complete list or an error.
    fn list(&self, dir: &Self::Dir) -> io::Result<Vec<Listed>>;
    /// lstat; `None` when there is no such name, spelled like that.
    fn stat(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Option<Fingerprint>>;
    /// lstat of what stands in the way of the name: on a volume that folds names perhaps of one spelled otherwise.
    fn stat_folded(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Option<Fingerprint>>;
    /// fstat of a directory.
    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Fingerprint>;
    /// The target of a symbolic link, as bytes.
    fn read_link(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Vec<u8>>;

    /// Opens a regular file for reading, without blocking and without following. ELOOP for a link, EISDIR for a
    /// directory, ENXIO for anything else.
    fn open(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::File>;
    /// Makes a private file (0600) for writing; EEXIST when the name is taken.
    fn create(&self, dir: &Private<Self::Dir>, name: &[u8]) -> io::Result<Self::File>;
    /// Opens a private file for reading and writing.
    fn open_write(&self, dir: &Private<Self::Dir>, name: &[u8]) -> io::Result<Self::File>;
    /// fstat of a file.
    fn stat_file(&self, file: &Self::File) -> io::Result<Fingerprint>;
    /// How many names the inode has.
    fn links(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads at `offset`; fewer bytes than asked only at the end of the file.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or extends with a hole.
    fn set_len(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Copies `len` bytes from `from` to the same offset in `to`, sharing extents where the file system can.
    /// Returns the bytes copied: fewer when `from` ends.
    fn copy_range(&self, from: &Self::File, to: &Self::File, offset: u64, len: u64) -> io::Result<u64>;
    /// Sets mode and mtime of an open file.
    fn set_attrs_of(&self, file: &Self::File, mode: Mode, mtime: Mtime) -> io::Result<()>;
    /// Whether some process has the file open for writing. A hint: false where it cannot be known.
    fn is_open_for_write(&self, file: &Self::File) -> io::Result<bool>;

    /// Sets mode (not of links) and mtime (when given) of whatever stands at the name, through a handle and only
    /// if it is still `expected`; ESTALE when it is not. Set-id and sticky bits stay as they are.
    fn set_attrs(
        &self,
        dir: &Self::Dir,
        name: &[u8],
        expected: &Fingerprint,
        mode: Mode,
        mtime: Option<Mtime>,
    ) -> io::Result<()>;
    /// Makes the names in a directory of ours changeable where its mode forbids that; false where there was no need, or no
    /// right. Every look shows its own mode until `close_again`, or until the process ends: the next start has to repair it.
    fn open_up(&self, dir: &Self::Dir) -> io::Result<bool>;
    /// Gives it back its mode, unless somebody set another one meanwhile.
    fn close_again(&self, dir: &Self::Dir) -> io::Result<()>;
    /// Makes a directory with exactly this mode.
    fn mkdir(&self, dir: &Self::Dir, name: &[u8], mode: Mode) -> io::Result<()>;
    /// Removes an empty directory; ENOTEMPTY otherwise, ENOTDIR for anything else.
    fn rmdir(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;
    /// Makes a symbolic link.
    fn symlink(&self, dir: &Self::Dir, name: &[u8], target: &[u8]) -> io::Result<()>;
    /// Removes a file or link inside the private directory.
    fn unlink(&self, dir: &Private<Self::Dir>, name: &[u8]) -> io::Result<()>;
    /// Renames; EEXIST when the new name is taken. Never overwrites.
    fn rename_noreplace(&self, from: (&Self::Dir, &[u8]), to: (&Self::Dir, &[u8])) -> io::Result<()>;
    /// Swaps two existing names atomically; EINVAL where the file system cannot.
    fn rename_exchange(&self, a: (&Self::Dir, &[u8]), b: (&Self::Dir, &[u8])) -> io::Result<()>;

    /// Lets the system begin to write a range of a file to its disk, so that a sync later has less to wait for. A hint
    /// that promises nothing.
    fn write_back(&self, _file: &Self::File, _offset: u64, _len: u64) {}
    /// Data and attributes of a file survive a power cut after this.
    fn sync_file(&self, file: &Self::File) -> io::Result<()>;
    /// The names in a directory, and its attributes, survive a power cut after this.
    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()>;
    /// Everything on the file system survives a power cut after this.
    fn sync_all(&self) -> io::Result<()>;
}
