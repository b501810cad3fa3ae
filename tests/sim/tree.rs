//! The simple disk of the `flat` profile: a tree in memory that carries out each action at once, as a
//! compare-and-swap on the fingerprint. No operation of it can be torn.

use super::user::{Files, Object, Thing, moved};
use protocol::model::{Content, ContentHash, Mode, Mtime, RelPath};
use protocol::sync::{Action, Disk, Fingerprint, Have, Kind, Observed, Outcome, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use syncd::disk::fs::sim::Names;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Kind and bytes.
    pub content: Content,
    /// Permission bits.
    pub mode: Mode,
    /// Modification time.
    pub mtime: Mtime,
    inode: u64,
    changed: u64,
}

/// A folder's files.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<RelPath, Node>,
    clock: u64,
}

impl Node {
    /// What lstat says.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let kind = match self.content {
            Content::Symlink(_) => Kind::Symlink,
            Content::Directory => Kind::Directory,
            Content::File(_) | Content::Tombstone => Kind::File,
        };
        Fingerprint {
            fs: 1,
            inode: self.inode,
            kind,
            size: self.content.file().map_or(0, |file| file.size),
            mtime: self.mtime,
            ctime: Mtime { secs: self.changed.cast_signed(), nanos: 0 },
            mode: self.mode,
        }
    }

    /// As a scan reports it.
    #[must_use]
    pub fn observed(&self) -> Observed {
        let fingerprint = self.fingerprint();
        match &self.content {
            Content::Directory => Observed::Directory { fingerprint },
            Content::Symlink(target) => Observed::Symlink { fingerprint, target: target.clone() },
            Content::File(content) => Observed::File { fingerprint, content: content.clone(), racy: false },
            Content::Tombstone => Observed::Absent,
        }
    }
}

impl Tree {
    /// What stands at a path.
    #[must_use]
    pub fn get(&self, path: &RelPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Whether a directory stands there; the root does.
    #[must_use]
    pub fn is_directory(&self, path: Option<&RelPath>) -> bool {
        path.is_none_or(|path| self.get(path).is_some_and(|node| node.content.is_directory()))
    }

    /// Paths strictly after `after`, at most `limit`.
    #[must_use]
    pub fn after(&self, after: Option<&RelPath>, limit: usize) -> Vec<RelPath> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.nodes.range::<RelPath, _>((from, Bound::Unbounded)).take(limit).map(|(path, _)| path.clone()).collect()
    }

    /// Paths strictly below `dir`.
    #[must_use]
    pub fn below(&self, dir: &RelPath) -> Vec<RelPath> {
        let rest = self.nodes.range::<RelPath, _>((Bound::Excluded(dir), Bound::Unbounded));
        rest.map(|(path, _)| path).take_while(|path| path.is_below(dir)).cloned().collect()
    }

    fn install(&mut self, path: &RelPath, content: Content, mode: Mode, mtime: Mtime) {
        self.clock += 1;
        let node = Node { content, mode, mtime, inode: self.clock, changed: self.clock };
        self.nodes.insert(path.clone(), node);
    }

    fn set_attributes(&mut self, path: &RelPath, mode: Mode, mtime: Mtime) {
        self.clock += 1;
        let Some(inode) = self.get(path).map(|node| node.inode) else { return };
        for node in self.nodes.values_mut().filter(|node| node.inode == inode) {
            (node.mode, node.mtime, node.changed) = (mode, mtime, self.clock);
        }
    }

    fn remove(&mut self, path: &RelPath) -> Option<Node> {
        self.nodes.remove(path)
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath) {
        self.clock += 1;
        if let Some(mut node) = self.nodes.remove(from) {
            node.changed = self.clock;
            self.nodes.insert(to.clone(), node);
        }
    }

    fn stands(&self, path: &RelPath, expected: Option<&Have>) -> bool {
        let fingerprint = expected.and_then(|have| have.fingerprint);
        match (self.get(path), fingerprint) {
            (None, None) => true,
            (Some(node), Some(earlier)) => node.fingerprint().unchanged_since(&earlier),
            _ => false,
        }
    }

    fn is_empty_or_no_directory(&self, path: &RelPath) -> bool {
        !self.is_directory(Some(path)) || self.below(path).is_empty()
    }

    /// Carries out one action, or leaves everything as it is.
    pub fn execute(&mut self, action: &Action, temps: &BTreeSet<ContentHash>) -> Outcome {
        let Action { path, expected, entry, step, .. } = action;
        if !self.stands(path, expected.as_ref()) {
            return Outcome::DiskMoved;
        }
        if entry.is_live() && !self.is_directory(path.parent().as_ref()) {
            return Outcome::DiskMoved;
        }
        if !entry.content.is_directory() && !self.is_empty_or_no_directory(path) {
            return Outcome::NotEmpty { items: self.below(path).len() };
        }
        match step {
            Step::InstallFile => {
                if !entry.content.file().is_some_and(|file| temps.contains(&file.hash)) {
                    return Outcome::NoContent;
                }
                self.install(path, entry.content.clone(), entry.mode, entry.mtime);
            }
            Step::InstallSymlink | Step::MakeDirectory => {
                self.install(path, entry.content.clone(), entry.mode, entry.mtime);
            }
            Step::Remove => {
                self.remove(path);
            }
            Step::SetMetadata => self.set_attributes(path, entry.mode, entry.mtime),
            Step::MoveFrom { from, from_have, .. } => {
                if !self.stands(from, Some(from_have)) {
                    return Outcome::DiskMoved;
                }
                self.rename(from, path);
                self.set_attributes(path, entry.mode, entry.mtime);
            }
            Step::Record => {}
        }
        Outcome::Done
    }
}

impl Disk for Tree {
    fn is_absent(&self, path: &RelPath) -> bool {
        self.get(path).is_none()
    }

    fn fingerprint(&self, path: &RelPath) -> Option<Fingerprint> {
        self.get(path).map(Node::fingerprint)
    }

    fn is_ignored(&self, _path: &RelPath, _is_directory: bool) -> bool {
        false
    }
}

impl Files for Tree {
    fn objects(&self) -> BTreeMap<RelPath, Object> {
        let object = |node: &Node| Object { content: node.content.clone(), mode: node.mode, mtime: node.mtime };
        self.nodes.iter().map(|(path, node)| (path.clone(), object(node))).collect()
    }

    fn begin(&mut self, _salt: u64) {}

    fn put(&mut self, path: &RelPath, thing: &Thing, mode: Mode, mtime: Mtime) {
        let content = thing.content();
        let old = self.get(path).filter(|node| node.content.file().is_some() && content.file().is_some());
        // As on a volume: some programs write in place.
        let Some(inode) = old.filter(|_| mtime.nanos.is_multiple_of(2)).map(|node| node.inode) else {
            return self.install(path, content, mode, mtime);
        };
        self.clock += 1;
        let changed = Node { content, mode, mtime, inode, changed: self.clock };
        self.nodes.values_mut().filter(|node| node.inode == inode).for_each(|node| *node = changed.clone());
    }

    fn rewrite(&mut self, _path: &RelPath, _bytes: &[u8], _mtime: Mtime) {
        unreachable!("only the disk profile has programs that put an mtime back")
    }

    fn put_pipe(&mut self, _path: &RelPath) {
        unreachable!("only the disk profile has pipes")
    }

    fn set_metadata(&mut self, path: &RelPath, mode: Mode, mtime: Mtime) {
        self.set_attributes(path, mode, mtime);
    }

    fn remove_all(&mut self, path: &RelPath) {
        self.nodes.retain(|other, _| other != path && !other.is_below(path));
    }

    fn rename_all(&mut self, from: &RelPath, to: &RelPath) {
        let mut moving = vec![from.clone()];
        moving.extend(self.below(from));
        for old in moving {
            self.rename(&old, &moved(&old, from, to));
        }
    }

    fn spelling(&self, path: &RelPath) -> RelPath {
        path.clone()
    }

    fn link(&mut self, from: &RelPath, to: &RelPath) {
        self.clock += 1;
        let node = self.nodes.get_mut(from).expect("the user knows what stands there");
        node.changed = self.clock;
        let node = node.clone();
        self.nodes.insert(to.clone(), node);
    }

    fn others(&self, path: &RelPath) -> Names {
        let Some(inode) = self.get(path).map(|node| node.inode) else { return Names::default() };
        let others = self.nodes.iter().filter(|(other, node)| *other != path && node.inode == inode);
        Names { tree: others.map(|(other, _)| other.clone()).collect(), ..Names::default() }
    }

    fn link_outside(&mut self, _from: &RelPath) {
        unreachable!("only the disk profile has something outside the folder")
    }

    fn write_outside(&mut self, _bytes: &[u8]) {
        unreachable!("only the disk profile has something outside the folder")
    }

    fn names_of_outside(&self) -> Names {
        Names::default()
    }
}
