//! What people wrote and have not themselves taken back. Every write carries a tag of its own; whoever overwrites or
//! deletes a file is asked what was in exactly that inode, and those tags need not be found any more. All others must be in
//! the trees of all devices, under whatever name. Invariant: nothing here asks a daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const OPEN: &[u8] = b"<<tag ";
const DIGITS: usize = 10;

#[derive(Default)]
pub struct Oracle {
    /// Tags that must be found, with who wrote them where.
    live: BTreeMap<u64, String>,
    written: u64,
}

impl Oracle {
    /// A new tag, as a line of a file.
    pub fn tag(&mut self, story: String) -> String {
        self.written += 1;
        self.live.insert(self.written, story);
        format!("<<tag {:0DIGITS$}>>\n", self.written)
    }

    /// A person overwrote or deleted these bytes.
    pub fn taken_back(&mut self, bytes: &[u8]) {
        for tag in tags(bytes) {
            self.live.remove(&tag);
        }
    }

    /// A person deleted this file, link or directory; it is out of the tree and nobody else touches it.
    pub fn taken_away(&mut self, path: &Path) {
        let found = tags_below(path, "");
        self.live.retain(|tag, _| !found.contains(tag));
    }

    pub const fn written(&self) -> u64 {
        self.written
    }

    pub fn live(&self) -> &BTreeMap<u64, String> {
        &self.live
    }
}

fn tags(bytes: &[u8]) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(OPEN.len()).position(|window| window == OPEN) {
        rest = &rest[at + OPEN.len()..];
        let digits = rest.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
        found.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    found
}

/// All tags in a file, or in the files below a directory but those below a directory called `without`.
pub fn tags_below(path: &Path, without: &str) -> BTreeSet<u64> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return BTreeSet::new() };
    if meta.is_file() {
        return std::fs::read(path).map(|bytes| tags(&bytes)).unwrap_or_default();
    }
    if !meta.is_dir() {
        return BTreeSet::new();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.file_name() != without);
    entries.flat_map(|entry| tags_below(&entry.path(), without)).collect()
}
