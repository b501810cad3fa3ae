//! Volumes that take different spellings for one name, and keep the one by which it was made: APFS, NTFS, FAT, ext4
//! with casefold. Of accents a few letters are known, enough for tests.

use super::state::{Edit, Inode, Node, State};
use crate::disk::fs::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// What a volume does not tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folding {
    /// Upper and lower case.
    pub case: bool,
    /// An accented letter, and the letter with an accent after it.
    pub accents: bool,
}

/// Composed letters with what they are composed of.
const ACCENTED: [(char, &str); 4] =
    [('\u{e9}', "e\u{301}"), ('\u{c9}', "E\u{301}"), ('\u{fc}', "u\u{308}"), ('\u{dc}', "U\u{308}")];

impl Folding {
    /// The same for all spellings of a name.
    #[must_use]
    pub fn key(self, name: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(name) else { return name.to_vec() };
        let mut text = if self.case { text.to_lowercase() } else { text.to_owned() };
        if self.accents {
            for (letter, parts) in ACCENTED {
                text = text.replace(letter, parts);
            }
        }
        text.into_bytes()
    }

    fn is_any(self) -> bool {
        self != Self::default()
    }
}

impl State {
    /// What a name leads to, and how it is spelled there.
    pub fn folded(&self, dir: u64, name: &[u8]) -> io::Result<Option<(Vec<u8>, u64)>> {
        if let Some(inode) = self.lookup(dir, name)? {
            return Ok(Some((name.to_vec(), inode)));
        }
        if !self.folding.is_any() {
            return Ok(None);
        }
        let key = self.folding.key(name);
        let mut entries = self.entries(dir)?.iter();
        let found = entries.find(|(listed, _)| self.folding.key(listed) == key);
        Ok(found.map(|(listed, inode)| (listed.clone(), *inode)))
    }

    /// The directory that a program reaches by these names.
    pub fn reached<'n>(&self, names: impl Iterator<Item = &'n [u8]>, root: u64) -> io::Result<u64> {
        let mut dir = root;
        for name in names {
            let (_, inode) = self.folded(dir, name)?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
            dir = match self.inode(inode).node {
                Node::Directory(_) => inode,
                Node::Symlink(_) => return Err(Errno::LOOP.into()),
                Node::File(_) | Node::Special => return Err(Errno::NOTDIR.into()),
            };
        }
        Ok(dir)
    }
}

/// Whether the directories that an operation touched tell all their names apart.
pub(super) fn are_apart(inodes: &BTreeMap<u64, Inode>, edits: &[Edit], folding: Folding) -> bool {
    let is_apart = |dir: u64| match &inodes[&dir].node {
        Node::Directory(entries) => {
            let keys: BTreeSet<Vec<u8>> = entries.keys().map(|name| folding.key(name)).collect();
            keys.len() == entries.len()
        }
        Node::File(_) | Node::Symlink(_) | Node::Special => true,
    };
    !folding.is_any() || edits.iter().all(|edit| is_apart(edit.dir))
}
