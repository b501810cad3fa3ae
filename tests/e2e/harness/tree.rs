//! An independent look at a directory: kinds, bytes, modes and times of everything below it but `.syncd`.

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file: its length and the hash of its bytes.
    File(u64, blake3::Hash),
    /// A symbolic link: its target.
    Link(Vec<u8>),
    /// A FIFO, socket or device.
    Special,
}

/// One entry. Directories have no time here: theirs changes with their content and is not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits without setuid, setgid and sticky; 0 for links.
    pub mode: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
}

/// Every entry below a directory by its path's bytes.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// Times that a tree is walked in which something vanishes meanwhile.
const WALKS_MAX: usize = 100;

/// Walks `root`; the private directory at its top is left out. Where something vanishes meanwhile it begins again.
///
/// # Panics
/// When something cannot be read.
#[must_use]
pub fn tree(root: &Path) -> Tree {
    for _ in 1..WALKS_MAX {
        let mut tree = Tree::new();
        match walk(root, &[], &mut tree) {
            Ok(()) => return tree,
            Err((_, error)) if error.kind() == ErrorKind::NotFound && root.exists() => {}
            Err((path, error)) => panic!("{}: {error}", path.display()),
        }
    }
    panic!("{} never stays as it is", root.display())
}

type Unread = (PathBuf, std::io::Error);

fn walk(directory: &Path, prefix: &[u8], tree: &mut Tree) -> Result<(), Unread> {
    let unread = |error| (directory.to_path_buf(), error);
    for entry in std::fs::read_dir(directory).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let name = entry.file_name();
        if prefix.is_empty() && name == ".syncd" {
            continue;
        }
        let path = if prefix.is_empty() { name.as_bytes().to_vec() } else { [prefix, b"/", name.as_bytes()].concat() };
        let node = node(&entry.path()).map_err(|error| (entry.path(), error))?;
        if node.kind == Kind::Directory {
            walk(&entry.path(), &path, tree)?;
        }
        tree.insert(path, node);
    }
    Ok(())
}

fn node(path: &Path) -> std::io::Result<Node> {
    let meta = std::fs::symlink_metadata(path)?;
    let mtime = (meta.mtime(), meta.mtime_nsec());
    let mode = meta.permissions().mode() & 0o777;
    if meta.is_dir() {
        return Ok(Node { kind: Kind::Directory, mode, mtime: (0, 0) });
    }
    if meta.is_symlink() {
        let target = std::fs::read_link(path)?;
        return Ok(Node { kind: Kind::Link(target.as_os_str().as_bytes().to_vec()), mode: 0, mtime });
    }
    if !meta.is_file() {
        return Ok(Node { kind: Kind::Special, mode, mtime });
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok(Node { kind: Kind::File(meta.len(), hasher.finalize()), mode, mtime })
}

/// What differs, a line each; at most so many that a person reads them.
#[must_use]
pub fn differences(left: &Tree, right: &Tree) -> Vec<String> {
    const SHOWN: usize = 20;
    let mut lines = Vec::new();
    let paths: std::collections::BTreeSet<&Vec<u8>> = left.keys().chain(right.keys()).collect();
    for path in paths {
        let (one, other) = (left.get(path), right.get(path));
        if one != other {
            lines.push(format!("{}: {one:?} / {other:?}", shown(path)));
        }
    }
    let total = lines.len();
    lines.truncate(SHOWN);
    if total > SHOWN {
        lines.push(format!("... {total} differences in all"));
    }
    lines
}

/// Paths of conflict copies.
#[must_use]
pub fn conflict_copies(tree: &Tree) -> Vec<String> {
    let is_copy = |path: &&Vec<u8>| path.windows(15).any(|part| part == b".sync-conflict-");
    tree.keys().filter(is_copy).map(|path| shown(path)).collect()
}

/// A path for people.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

/// Sets a mode, exactly.
///
/// # Panics
/// When that is not possible.
pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode can be set");
}

/// Sets the time of last change of a file, directory or link itself.
///
/// # Panics
/// When that is not possible.
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time can be set");
}
