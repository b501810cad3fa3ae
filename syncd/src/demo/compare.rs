//! The judge: walks two trees and compares what is really on disk. Shares no code with the daemon, asks no index and
//! trusts no hash: kinds, names, bytes, modes, link targets and modification times are read and compared side by side.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The daemons' own directory in each folder: not part of the tree.
const PRIVATE: &str = ".syncd";
/// Differences that are listed; more help nobody.
const LISTED_MAX: usize = 8;
/// Bytes that are read at a time.
const BLOCK: usize = 256 << 10;

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) links: u64,
    pub(super) bytes: u64,
}

impl Census {
    pub(super) fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.links += other.links;
        self.bytes += other.bytes;
    }
}

/// The trees differ.
#[derive(Debug, Default)]
pub(super) struct Differences {
    listed: Vec<String>,
    total: u64,
}

impl Differences {
    fn add(&mut self, path: &Path, what: fmt::Arguments<'_>) {
        self.total += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(format!("{}: {what}", path.display()));
        }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the two trees differ in {} places", self.total)?;
        for line in &self.listed {
            write!(f, "\n        {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Differences {}

/// Compares two trees; what they hold when they are equal.
///
/// # Errors
/// What differs, or why a tree cannot be read.
pub(super) fn compare(a: &Path, b: &Path) -> anyhow::Result<Census> {
    let mut walk = Walk { a, b, census: Census::default(), found: Differences::default() };
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let (here, there) = (names(&a.join(&below))?, names(&b.join(&below))?);
        for name in here.union(&there) {
            if below.as_os_str().is_empty() && name == PRIVATE {
                continue;
            }
            let path = below.join(name);
            if walk.object(&path)? {
                todo.push(path);
            }
        }
    }
    if walk.found.total == 0 { Ok(walk.census) } else { Err(walk.found.into()) }
}

fn names(dir: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}

struct Walk<'a> {
    a: &'a Path,
    b: &'a Path,
    census: Census,
    found: Differences,
}

impl Walk<'_> {
    /// True: a directory on both sides, to be entered.
    fn object(&mut self, path: &Path) -> io::Result<bool> {
        let (in_a, in_b) = (self.a.join(path), self.b.join(path));
        let (meta_a, meta_b) = match (look(&in_a)?, look(&in_b)?) {
            (Some(a), Some(b)) => (a, b),
            (Some(_), None) => return self.only("A", path),
            (None, Some(_)) => return self.only("B", path),
            (None, None) => return Ok(false),
        };
        if meta_a.file_type() != meta_b.file_type() {
            self.found.add(path, format_args!("another kind of object"));
            return Ok(false);
        }
        let (mode_a, mode_b) = (meta_a.mode() & 0o7777, meta_b.mode() & 0o7777);
        if mode_a != mode_b && !meta_a.is_symlink() {
            self.found.add(path, format_args!("mode {mode_a:o} in A, {mode_b:o} in B"));
        }
        if meta_a.is_dir() {
            self.census.directories += 1;
            return Ok(true);
        }
        if (meta_a.mtime(), meta_a.mtime_nsec()) != (meta_b.mtime(), meta_b.mtime_nsec()) {
            self.found.add(path, format_args!("another modification time"));
        }
        if meta_a.is_symlink() {
            self.census.links += 1;
            if fs::read_link(&in_a)? != fs::read_link(&in_b)? {
                self.found.add(path, format_args!("another target"));
            }
            return Ok(false);
        }
        self.census.files += 1;
        self.census.bytes += meta_a.len();
        if meta_a.len() != meta_b.len() {
            self.found.add(path, format_args!("{} bytes in A, {} in B", meta_a.len(), meta_b.len()));
        } else if !same_bytes(&in_a, &in_b)? {
            self.found.add(path, format_args!("other bytes"));
        }
        Ok(false)
    }

    fn only(&mut self, side: &str, path: &Path) -> io::Result<bool> {
        self.found.add(path, format_args!("only in {side}"));
        Ok(false)
    }
}

fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut block_a, mut block_b) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let (len_a, len_b) = (fill(&mut a, &mut block_a)?, fill(&mut b, &mut block_b)?);
        if block_a[..len_a] != block_b[..len_b] {
            return Ok(false);
        }
        if len_a < BLOCK {
            return Ok(true);
        }
    }
}

/// Fills the block unless the file ends.
fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < block.len() {
        match file.read(&mut block[len..])? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}
