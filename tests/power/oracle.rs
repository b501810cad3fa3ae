//! What must be found after a power cut. A content that is durable on a device, by its user's fsync or because all were in
//! sync, stays on that device, in the tree or as a version, until that device's own user takes it back; in the trees it
//! stays until any user does. A write that was never synced may be lost or torn, and is then its user's last word on
//! that path and on no other. Invariant: nothing here asks a daemon.

use blake3::Hash;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use tests::harness::{Kind, Tree, shown};

/// What stands in the name of a conflict copy.
const COPY: &[u8] = b".sync-conflict-";

#[derive(Default)]
pub struct Oracle {
    /// By device: what must be on it, with its story.
    kept: [HashMap<Hash, String>; 2],
    /// What must be in the trees.
    live: HashMap<Hash, String>,
    /// Everything that was ever written as a whole.
    known: HashSet<Hash>,
    /// Names of files with writes that were not synced, since the last check.
    loose: BTreeSet<Vec<u8>>,
    /// The same before the act under way.
    loose_before: BTreeSet<Vec<u8>>,
    /// By device: paths that its user touched since the last check.
    touched: [BTreeSet<Vec<u8>>; 2],
    written: u64,
}

impl Oracle {
    /// A number for a content that nobody wrote before.
    pub const fn number(&mut self) -> u64 {
        self.written += 1;
        self.written
    }

    /// A user begins to act; until all of that is synced, its files are loose.
    pub fn begins(&mut self) {
        self.loose_before.clone_from(&self.loose);
    }

    /// The act that began is over and durable.
    pub fn all_is_synced(&mut self) {
        self.loose.clone_from(&self.loose_before);
    }

    /// A user is about to change something at a path.
    pub fn touches(&mut self, side: usize, path: &[u8]) {
        self.touched[side].insert(path.to_vec());
        self.loose.insert(base(path).to_vec());
    }

    /// A file changes its name: what was loose stays so.
    pub fn renames(&mut self, from: &[u8], to: &[u8]) {
        if self.loose_before.contains(base(from)) {
            self.loose_before.insert(base(to).to_vec());
        }
    }

    /// A user begins to write this.
    pub fn writes(&mut self, bytes: &[u8]) -> Hash {
        let hash = blake3::hash(bytes);
        self.known.insert(hash);
        hash
    }

    /// What a user wrote is durable, in the tree or through a handle of a file that had just been replaced.
    pub fn is_durable(&mut self, side: usize, hash: Hash, in_tree: bool, story: String) {
        if in_tree {
            self.live.insert(hash, story.clone());
        }
        self.kept[side].insert(hash, story);
    }

    /// A user overwrites or deletes this.
    pub fn taken_back(&mut self, side: usize, hash: &Hash) {
        self.kept[side].remove(hash);
        self.live.remove(hash);
    }

    /// What is wrong with two trees that agree, and with what is beside them.
    pub fn check(&self, tree: &Tree, private: &[HashSet<Hash>; 2], names: [&str; 2]) -> Vec<String> {
        let mut wrong = Vec::new();
        let there = contents(tree);
        for (side, name) in names.iter().enumerate() {
            let gone =
                self.kept[side].iter().filter(|(hash, _)| !there.contains(hash) && !private[side].contains(hash));
            wrong.extend(gone.map(|(_, story)| format!("{name} keeps nowhere what {story}")));
        }
        let gone = self.live.iter().filter(|(hash, _)| !there.contains(hash));
        wrong.extend(gone.map(|(_, story)| format!("the trees lack what {story}")));
        for (path, node) in tree {
            let Kind::File(_, hash) = node.kind else { continue };
            if !self.known.contains(&hash) && !self.loose.contains(base(origin(path))) {
                wrong.push(format!("nobody wrote what stands at {}", shown(path)));
            }
            if is_copy(path) && !self.both_touched(origin(path)) {
                wrong.push(format!("{} is a conflict copy and only one user acted", shown(path)));
            }
        }
        wrong
    }

    fn both_touched(&self, path: &[u8]) -> bool {
        let below = |one: &[u8], other: &[u8]| one == other || one.starts_with(&[other, b"/"].concat());
        self.touched.iter().all(|touched| touched.iter().any(|at| below(path, at) || below(at, path)))
    }

    /// All agree on this tree, durably.
    pub fn settled(&mut self, tree: &Tree) {
        let stories: BTreeMap<Vec<u8>, Hash> = tree
            .iter()
            .filter_map(
                |(path, node)| if let Kind::File(_, hash) = node.kind { Some((path.clone(), hash)) } else { None },
            )
            .collect();
        for (path, hash) in stories {
            let story = format!("all had at {}", shown(&path));
            self.known.insert(hash);
            self.live.entry(hash).or_insert_with(|| story.clone());
            for kept in &mut self.kept {
                kept.entry(hash).or_insert_with(|| story.clone());
            }
        }
        self.loose.clear();
        self.touched = Default::default();
    }
}

/// The last component.
fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

pub fn is_copy(path: &[u8]) -> bool {
    path.windows(COPY.len()).any(|part| part == COPY)
}

/// The path that a conflict copy belongs to; any other path is its own. Names here have no extension.
fn origin(path: &[u8]) -> &[u8] {
    path.windows(COPY.len()).position(|part| part == COPY).map_or(path, |at| &path[..at])
}

fn contents(tree: &Tree) -> HashSet<Hash> {
    tree.values().filter_map(|node| if let Kind::File(_, hash) = node.kind { Some(hash) } else { None }).collect()
}

/// Hashes of the files below a directory.
pub fn hashes(directory: &Path) -> HashSet<Hash> {
    let mut found = HashSet::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(hashes(&entry.path())),
            Ok(kind) if kind.is_file() => {
                found.extend(std::fs::read(entry.path()).ok().map(|bytes| blake3::hash(&bytes)));
            }
            _ => {}
        }
    }
    found
}
