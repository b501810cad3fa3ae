//! A disk in memory that keeps apart what programs see (`live`) and what a power cut leaves at least (`disk`). A change
//! of names is a list of edits that take hold together and stay pending until a directory that they touch is synced;
//! data and attributes of an inode reach `disk` on their own, pages of 4 KiB each for itself. What a cut makes of all
//! that is in `cut.rs`. Invariant: an inode in `live` is in `disk` too, as it was made or last synced.

use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

/// Number of an inode.
pub type Ino = u64;
/// The top directory.
pub const ROOT: Ino = 1;
/// What a disk writes in one piece, in bytes.
pub const PAGE_LEN: usize = 4096;

pub type Done<T> = Result<T, Errno>;

/// The bytes of a file; pages that were never written are holes.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    pub len: u64,
    pub pages: BTreeMap<u64, Arc<[u8; PAGE_LEN]>>,
}

#[derive(Clone, Debug)]
pub enum Node {
    File(Bytes),
    Directory(BTreeMap<Vec<u8>, Ino>),
    Symlink(Vec<u8>),
    /// A socket or pipe, by the kind bits of its mode.
    Special(u32),
}

#[derive(Clone, Debug)]
pub struct Attrs {
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
}

#[derive(Clone, Debug)]
pub struct Inode {
    pub node: Node,
    pub attrs: Attrs,
}

/// One name changes from one inode (or none) to another (or none).
#[derive(Clone, Debug)]
pub struct Edit {
    pub dir: Ino,
    pub name: Vec<u8>,
    pub from: Option<Ino>,
    pub to: Option<Ino>,
}

/// What of an inode is newer in `live` than in `disk`.
#[derive(Clone, Debug)]
pub struct Dirt {
    /// Numbers of pages.
    pub pages: BTreeSet<u64>,
    /// The shortest that it was since the last sync.
    pub shortest: u64,
}

/// How the kernel and programs hold an inode without a name.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    names: u32,
    lookups: u64,
}

#[derive(Debug)]
pub struct Volume {
    pub live: BTreeMap<Ino, Inode>,
    pub disk: BTreeMap<Ino, Inode>,
    pub pending: Vec<Vec<Edit>>,
    pub dirty: BTreeMap<Ino, Dirt>,
    uses: BTreeMap<Ino, Uses>,
    next: Ino,
}

impl Volume {
    /// An empty disk.
    pub fn new(now: SystemTime) -> Self {
        let attrs = Attrs { mode: 0o755, uid: 0, gid: 0, mtime: now, ctime: now };
        let root = Inode { node: Node::Directory(BTreeMap::new()), attrs };
        Self::of(BTreeMap::from([(ROOT, root)]), ROOT + 1)
    }

    /// A disk on which nothing is pending. Numbers of inodes are given once.
    pub fn of(inodes: BTreeMap<Ino, Inode>, next: Ino) -> Self {
        let mut uses: BTreeMap<Ino, Uses> = BTreeMap::from([(ROOT, Uses { names: 1, lookups: 1 })]);
        for inode in inodes.values() {
            let Node::Directory(entries) = &inode.node else { continue };
            entries.values().for_each(|to| uses.entry(*to).or_default().names += 1);
        }
        Self { disk: inodes.clone(), live: inodes, pending: Vec::new(), dirty: BTreeMap::new(), uses, next }
    }

    /// The number that the next inode gets.
    pub const fn next(&self) -> Ino {
        self.next
    }

    pub fn inode(&self, ino: Ino) -> Done<&Inode> {
        self.live.get(&ino).ok_or(Errno::STALE)
    }

    fn inode_mut(&mut self, ino: Ino) -> Done<&mut Inode> {
        self.live.get_mut(&ino).ok_or(Errno::STALE)
    }

    pub fn links(&self, ino: Ino) -> u32 {
        self.uses.get(&ino).map_or(0, |uses| uses.names)
    }

    pub fn entries(&self, dir: Ino) -> Done<&BTreeMap<Vec<u8>, Ino>> {
        match &self.inode(dir)?.node {
            Node::Directory(entries) => Ok(entries),
            Node::File(_) | Node::Symlink(_) | Node::Special(_) => Err(Errno::NOTDIR),
        }
    }

    pub fn find(&self, dir: Ino, name: &[u8]) -> Done<Option<Ino>> {
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(self.entries(dir)?.get(name).copied())
    }

    fn existing(&self, dir: Ino, name: &[u8]) -> Done<Ino> {
        self.find(dir, name)?.ok_or(Errno::NOENT)
    }

    /// The kernel knows an inode once more.
    pub fn looked_up(&mut self, ino: Ino) {
        self.uses.entry(ino).or_default().lookups += 1;
    }

    /// The kernel forgets so many of its lookups.
    pub fn forget(&mut self, ino: Ino, lookups: u64) {
        if let Some(uses) = self.uses.get_mut(&ino) {
            uses.lookups = uses.lookups.saturating_sub(lookups);
        }
        self.drop_unused(ino);
    }

    fn drop_unused(&mut self, ino: Ino) {
        if self.uses.get(&ino).is_some_and(|uses| uses.names == 0 && uses.lookups == 0) {
            self.uses.remove(&ino);
            self.live.remove(&ino);
            self.dirty.remove(&ino);
        }
    }

    /// Makes something at a free name. Its data is not durable: a file whose name is durable before its data comes back
    /// empty.
    pub fn make(&mut self, dir: Ino, name: &[u8], node: Node, attrs: Attrs) -> Done<Ino> {
        if self.find(dir, name)?.is_some() {
            return Err(Errno::EXIST);
        }
        let (ino, at) = (self.next, attrs.ctime);
        self.next += 1;
        let made = Inode { node, attrs };
        self.disk.insert(ino, made.clone());
        self.live.insert(ino, made);
        self.edit(vec![Edit { dir, name: name.to_vec(), from: None, to: Some(ino) }], at);
        Ok(ino)
    }

    /// One more name for a file.
    pub fn link(&mut self, ino: Ino, dir: Ino, name: &[u8], now: SystemTime) -> Done<()> {
        if self.find(dir, name)?.is_some() {
            return Err(Errno::EXIST);
        }
        self.edit(vec![Edit { dir, name: name.to_vec(), from: None, to: Some(ino) }], now);
        Ok(())
    }

    pub fn unlink(&mut self, dir: Ino, name: &[u8], now: SystemTime) -> Done<()> {
        let ino = self.existing(dir, name)?;
        if matches!(self.inode(ino)?.node, Node::Directory(_)) {
            return Err(Errno::ISDIR);
        }
        self.edit(vec![Edit { dir, name: name.to_vec(), from: Some(ino), to: None }], now);
        Ok(())
    }

    pub fn rmdir(&mut self, dir: Ino, name: &[u8], now: SystemTime) -> Done<()> {
        let ino = self.existing(dir, name)?;
        if !self.entries(ino)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.edit(vec![Edit { dir, name: name.to_vec(), from: Some(ino), to: None }], now);
        Ok(())
    }

    /// rename(2); the kernel has seen to it that no directory moves below itself.
    pub fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8]), how: Rename, now: SystemTime) -> Done<()> {
        let moved = self.existing(from.0, from.1)?;
        let there = self.find(to.0, to.1)?;
        let edit = |at: (Ino, &[u8]), from, to| Edit { dir: at.0, name: at.1.to_vec(), from, to };
        match (how, there) {
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            (_, Some(there)) if there == moved => return Ok(()),
            (Rename::Exchange, Some(_)) => {
                self.edit(vec![edit(from, Some(moved), there), edit(to, there, Some(moved))], now);
            }
            (Rename::Plain | Rename::NoReplace, there) => {
                if let Some(there) = there {
                    self.may_replace(moved, there)?;
                }
                self.edit(vec![edit(from, Some(moved), None), edit(to, there, Some(moved))], now);
            }
        }
        Ok(())
    }

    fn may_replace(&self, moved: Ino, there: Ino) -> Done<()> {
        match (&self.inode(moved)?.node, &self.inode(there)?.node) {
            (Node::Directory(_), Node::Directory(entries)) if !entries.is_empty() => Err(Errno::NOTEMPTY),
            (Node::Directory(_), Node::Directory(_)) => Ok(()),
            (Node::Directory(_), _) => Err(Errno::NOTDIR),
            (_, Node::Directory(_)) => Err(Errno::ISDIR),
            _ => Ok(()),
        }
    }

    /// Carries a change of names out for running programs, and leaves it pending for the disk.
    fn edit(&mut self, edits: Vec<Edit>, now: SystemTime) {
        for edit in &edits {
            apply(&mut self.live, edit);
            for touched in [Some(edit.dir), edit.from, edit.to].into_iter().flatten() {
                let inode = self.live.get_mut(&touched).expect("an edit names inodes that are there");
                inode.attrs.ctime = now;
                if touched == edit.dir {
                    inode.attrs.mtime = now;
                }
            }
            if let Some(to) = edit.to {
                self.uses.entry(to).or_default().names += 1;
            }
        }
        for gone in edits.iter().filter_map(|edit| edit.from) {
            self.uses.entry(gone).or_default().names -= 1;
            self.drop_unused(gone);
        }
        self.pending.push(edits);
    }

    /// At most `len` bytes of a file.
    pub fn read(&self, ino: Ino, offset: u64, len: usize) -> Done<Vec<u8>> {
        let bytes = self.bytes(ino)?;
        let end = bytes.len.min(offset.saturating_add(len as u64));
        let mut read = Vec::with_capacity(len);
        let mut at = offset;
        while at < end {
            let (page, within) = place(at);
            let take = (PAGE_LEN - within).min(usize::try_from(end - at).expect("at most what was asked for"));
            match bytes.pages.get(&page) {
                Some(found) => read.extend_from_slice(&found[within..within + take]),
                None => read.resize(read.len() + take, 0),
            }
            at += take as u64;
        }
        Ok(read)
    }

    fn bytes(&self, ino: Ino) -> Done<&Bytes> {
        match &self.inode(ino)?.node {
            Node::File(bytes) => Ok(bytes),
            Node::Directory(_) => Err(Errno::ISDIR),
            Node::Symlink(_) | Node::Special(_) => Err(Errno::INVAL),
        }
    }

    /// The bytes of a file that is about to change, and what is known of the change.
    fn change(&mut self, ino: Ino, now: SystemTime) -> Done<(&mut Bytes, &mut Dirt)> {
        let len = self.bytes(ino)?.len;
        let dirt = self.dirty.entry(ino).or_insert_with(|| Dirt { pages: BTreeSet::new(), shortest: len });
        let inode = self.live.get_mut(&ino).ok_or(Errno::STALE)?;
        (inode.attrs.mtime, inode.attrs.ctime) = (now, now);
        match &mut inode.node {
            Node::File(bytes) => Ok((bytes, dirt)),
            Node::Directory(_) | Node::Symlink(_) | Node::Special(_) => Err(Errno::INVAL),
        }
    }

    pub fn write(&mut self, ino: Ino, offset: u64, data: &[u8], now: SystemTime) -> Done<()> {
        let (bytes, dirt) = self.change(ino, now)?;
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let (page, within) = place(at);
            let take = (PAGE_LEN - within).min(rest.len());
            let slot = bytes.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_LEN]));
            Arc::make_mut(slot)[within..within + take].copy_from_slice(&rest[..take]);
            dirt.pages.insert(page);
            rest = &rest[take..];
            at += take as u64;
        }
        bytes.len = bytes.len.max(at);
        Ok(())
    }

    /// Cuts a file, or extends it by a hole.
    pub fn resize(&mut self, ino: Ino, len: u64, now: SystemTime) -> Done<()> {
        let (bytes, dirt) = self.change(ino, now)?;
        if len < bytes.len {
            let (last, within) = place(len);
            let gone = bytes.pages.split_off(&(last + u64::from(within > 0)));
            dirt.pages.extend(gone.into_keys());
            if let Some(page) = bytes.pages.get_mut(&last) {
                Arc::make_mut(page)[within..].fill(0);
                dirt.pages.insert(last);
            }
        }
        bytes.len = len;
        dirt.shortest = dirt.shortest.min(len);
        Ok(())
    }

    /// Changes attributes; the change is as little durable as data.
    pub fn set_attrs(&mut self, ino: Ino, set: impl FnOnce(&mut Attrs), now: SystemTime) -> Done<()> {
        let inode = self.inode_mut(ino)?;
        set(&mut inode.attrs);
        inode.attrs.ctime = now;
        let len = if let Node::File(bytes) = &inode.node { bytes.len } else { 0 };
        self.dirty.entry(ino).or_insert_with(|| Dirt { pages: BTreeSet::new(), shortest: len });
        Ok(())
    }

    /// fsync of a file: its data and attributes.
    pub fn sync_inode(&mut self, ino: Ino) {
        let dirt = self.dirty.remove(&ino);
        let (Some(live), Some(disk)) = (self.live.get(&ino), self.disk.get_mut(&ino)) else { return };
        disk.attrs = live.attrs.clone();
        let (Some(dirt), Node::File(from), Node::File(to)) = (dirt, &live.node, &mut disk.node) else { return };
        for page in dirt.pages {
            match from.pages.get(&page) {
                Some(bytes) => to.pages.insert(page, Arc::clone(bytes)),
                None => to.pages.remove(&page),
            };
        }
        to.len = from.len;
    }

    /// fsync of a directory: its attributes, every pending change of names that touches it, and the earlier ones on the
    /// same names, or in a directory that is removed, that those build upon.
    pub fn sync_names(&mut self, dir: Ino) {
        self.sync_inode(dir);
        let mut needed: BTreeSet<(Ino, Vec<u8>)> = BTreeSet::new();
        let mut removed: BTreeSet<Ino> = BTreeSet::from([dir]);
        let mut chosen = vec![false; self.pending.len()];
        for (index, edits) in self.pending.iter().enumerate().rev() {
            let keys: Vec<_> = edits.iter().map(|edit| (edit.dir, edit.name.clone())).collect();
            if keys.iter().any(|key| removed.contains(&key.0) || needed.contains(key)) {
                needed.extend(keys);
                removed.extend(gone(edits));
                chosen[index] = true;
            }
        }
        let mut chosen = chosen.into_iter();
        let pending = std::mem::take(&mut self.pending);
        let (durable, rest): (Vec<_>, Vec<_>) = pending.into_iter().partition(|_| chosen.next() == Some(true));
        self.pending = rest;
        durable.iter().for_each(|edits| apply_if_possible(&mut self.disk, edits));
    }

    /// syncfs.
    pub fn sync_all(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        pending.iter().for_each(|edits| apply_if_possible(&mut self.disk, edits));
        for ino in self.dirty.keys().copied().collect::<Vec<_>>() {
            self.sync_inode(ino);
        }
    }
}

/// How a rename treats what stands at its new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    Plain,
    NoReplace,
    Exchange,
}

fn place(offset: u64) -> (u64, usize) {
    let len = PAGE_LEN as u64;
    (offset / len, usize::try_from(offset % len).expect("less than a page"))
}

fn apply(inodes: &mut BTreeMap<Ino, Inode>, edit: &Edit) {
    let dir = inodes.get_mut(&edit.dir).expect("an edit's directory is there");
    let Node::Directory(entries) = &mut dir.node else { unreachable!("an edit's directory is one") };
    match edit.to {
        Some(to) => entries.insert(edit.name.clone(), to),
        None => entries.remove(&edit.name),
    };
}

/// Inodes that lose a name in an operation and get none.
fn gone(edits: &[Edit]) -> impl Iterator<Item = Ino> {
    edits.iter().filter_map(|edit| edit.from).filter(|ino| edits.iter().all(|edit| edit.to != Some(*ino)))
}

/// All edits of an operation or none: none when an earlier one on its names was lost, when it removes a directory that
/// is not empty because of that, or moves one below itself. No file system loses the content of a directory so.
pub fn apply_if_possible(inodes: &mut BTreeMap<Ino, Inode>, edits: &[Edit]) {
    let fits = |edit: &Edit| match inodes.get(&edit.dir).map(|inode| &inode.node) {
        Some(Node::Directory(entries)) => entries.get(&edit.name).copied() == edit.from,
        _ => false,
    };
    let is_empty = |ino: Ino| match inodes.get(&ino).map(|inode| &inode.node) {
        Some(Node::Directory(entries)) => entries.is_empty(),
        _ => true,
    };
    let below_itself = |edit: &Edit| edit.to.is_some_and(|to| is_below(inodes, edit.dir, to));
    if edits.iter().all(fits) && gone(edits).all(is_empty) && !edits.iter().any(below_itself) {
        edits.iter().for_each(|edit| apply(inodes, edit));
    }
}

/// Whether a directory is another, or below it.
fn is_below(inodes: &BTreeMap<Ino, Inode>, dir: Ino, other: Ino) -> bool {
    let Some(Node::Directory(entries)) = inodes.get(&other).map(|inode| &inode.node) else { return false };
    dir == other || entries.values().any(|child| is_below(inodes, dir, *child))
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
