//! The simulated volume: what running programs see (`live`), what a power cut leaves at least (`disk`), and the
//! operations between the two. A directory operation is a list of edits of single names that take hold together;
//! data and attributes of an inode reach `disk` on their own. Invariant: an inode in `live` is in `disk` too, in
//! the state in which it was made or last synced; a `pending` operation is durable only when it has been applied.

use super::folding::{Folding, are_apart};
use crate::disk::fs::{Errno, writable};
use protocol::model::{Mode, Mtime, RelPath};
use protocol::sync::{Fingerprint, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub(super) const ROOT: u64 = 2;
/// A directory of the volume that is not in the folder: for names that only other programs know.
pub(super) const OUTSIDE: u64 = 1;
/// f_fsid of the simulated volume.
const FS_ID: u64 = 7;
/// How far each change moves the clock, in nanoseconds.
const CHANGE_NS: u64 = 1_000;
/// A disk writes this many bytes in one piece; a torn write ends on a multiple of it.
const SECTOR_LEN: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, u64>),
    Symlink(Vec<u8>),
    /// A pipe, socket or device.
    Special,
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub node: Node,
    pub mode: Mode,
    pub mtime: Mtime,
    pub ctime: Mtime,
}

/// One name changes from one inode (or none) to another (or none).
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub dir: u64,
    pub name: Vec<u8>,
    pub from: Option<u64>,
    pub to: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub live: BTreeMap<u64, Inode>,
    disk: BTreeMap<u64, Inode>,
    pending: Vec<Vec<Edit>>,
    dirty: BTreeSet<u64>,
    /// Inodes whose data a failed sync counted as clean: nothing writes it any more until it changes again.
    unsynced: BTreeSet<u64>,
    next: u64,
    pub now: Mtime,
    pub tick_ns: u64,
    /// Handles of an earlier generation are dead: their process was killed.
    pub generation: u64,
    /// Handles of users' programs die with the power only.
    pub power_cuts: u64,
    /// Handles open for writing, by inode.
    pub writers: BTreeMap<u64, usize>,
    pub capacity: Option<u64>,
    /// Directories that syncd opened up, with the modes that they are to have.
    pub opened_up: BTreeMap<u64, Mode>,
    pub folding: Folding,
    /// Test of the tests: fsync answers well and does nothing.
    pub ignores_syncs: bool,
}

impl State {
    pub fn new() -> Self {
        let now = Mtime::from_secs(1_700_000_000);
        let root = Inode { node: Node::Directory(BTreeMap::new()), mode: Mode::new(0o755), mtime: now, ctime: now };
        let live = BTreeMap::from([(ROOT, root.clone()), (OUTSIDE, root)]);
        Self {
            disk: live.clone(),
            live,
            pending: Vec::new(),
            dirty: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            next: ROOT + 1,
            now,
            tick_ns: 1,
            generation: 0,
            power_cuts: 0,
            writers: BTreeMap::new(),
            capacity: None,
            opened_up: BTreeMap::new(),
            folding: Folding::default(),
            ignores_syncs: false,
        }
    }

    pub fn advance(&mut self, by_ns: u64) {
        let nanos = u64::from(self.now.nanos) + by_ns;
        self.now.secs += i64::try_from(nanos / 1_000_000_000).expect("a test's clock stays small");
        self.now.nanos = u32::try_from(nanos % 1_000_000_000).expect("a remainder of 1e9");
    }

    /// The time that a change made now is stamped with.
    fn stamp(&mut self) -> Mtime {
        self.advance(CHANGE_NS);
        let nanos = self.now.secs.cast_unsigned() * 1_000_000_000 + u64::from(self.now.nanos);
        let nanos = nanos - nanos % self.tick_ns;
        let rest = u32::try_from(nanos % 1_000_000_000).expect("a remainder of 1e9");
        Mtime { secs: (nanos / 1_000_000_000).cast_signed(), nanos: rest }
    }

    pub fn inode(&self, inode: u64) -> &Inode {
        &self.live[&inode]
    }

    /// Everything there is, by number.
    pub fn all(&self) -> impl Iterator<Item = (u64, &Inode)> {
        self.live.iter().map(|(number, inode)| (*number, inode))
    }

    pub fn entries(&self, dir: u64) -> io::Result<&BTreeMap<Vec<u8>, u64>> {
        match &self.inode(dir).node {
            Node::Directory(entries) => Ok(entries),
            Node::File(_) | Node::Symlink(_) | Node::Special => Err(Errno::NOTDIR.into()),
        }
    }

    pub fn lookup(&self, dir: u64, name: &[u8]) -> io::Result<Option<u64>> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(Errno::INVAL.into());
        }
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG.into());
        }
        Ok(self.entries(dir)?.get(name).copied())
    }

    pub fn existing(&self, dir: u64, name: &[u8]) -> io::Result<u64> {
        self.lookup(dir, name)?.ok_or_else(|| Errno::NOENT.into())
    }

    pub fn child_dir(&self, dir: u64, name: &[u8]) -> io::Result<u64> {
        let child = self.existing(dir, name)?;
        match self.inode(child).node {
            Node::Directory(_) => Ok(child),
            Node::Symlink(_) => Err(Errno::LOOP.into()),
            Node::File(_) | Node::Special => Err(Errno::NOTDIR.into()),
        }
    }

    pub fn resolve(&self, path: Option<&RelPath>) -> io::Result<u64> {
        path.map_or(Ok(ROOT), |path| path.components().try_fold(ROOT, |dir, name| self.child_dir(dir, name)))
    }

    pub fn fingerprint(&self, inode: u64) -> Fingerprint {
        let at = self.inode(inode);
        let (kind, size) = match &at.node {
            Node::File(bytes) => (Kind::File, bytes.len()),
            Node::Directory(entries) => (Kind::Directory, entries.len()),
            Node::Symlink(target) => (Kind::Symlink, target.len()),
            Node::Special => (Kind::Special, 0),
        };
        let own = self.opened_up.get(&inode).filter(|own| writable(**own) == at.mode);
        let mode = if kind == Kind::Symlink { Mode::new(0o777) } else { own.copied().unwrap_or(at.mode) };
        Fingerprint { fs: FS_ID, inode, kind, size: size as u64, mtime: at.mtime, ctime: at.ctime, mode }
    }

    pub fn links(&self, inode: u64) -> u64 {
        let names = self.live.values().filter_map(|at| match &at.node {
            Node::Directory(entries) => Some(entries.values().filter(|to| **to == inode).count()),
            Node::File(_) | Node::Symlink(_) | Node::Special => None,
        });
        names.sum::<usize>() as u64
    }

    /// Bytes of all files that have a name.
    pub fn used(&self) -> u64 {
        let bytes = reachable(&self.live).into_values().map(|at| match &at.node {
            Node::File(bytes) => bytes.len(),
            Node::Directory(_) | Node::Symlink(_) | Node::Special => 0,
        });
        bytes.sum::<usize>() as u64
    }

    /// A new inode without a name.
    pub fn make(&mut self, node: Node, mode: Mode) -> u64 {
        let at = self.stamp();
        let inode = self.next;
        self.next += 1;
        let made = Inode { node, mode, mtime: at, ctime: at };
        // Its data is not durable: a file whose name is durable before its data comes back empty.
        self.disk.insert(inode, made.clone());
        self.live.insert(inode, made);
        inode
    }

    /// What the modes of the directories permit.
    pub fn edit(&mut self, edits: Vec<Edit>) -> io::Result<()> {
        if edits.iter().any(|edit| self.inode(edit.dir).mode.bits() & 0o300 != 0o300) {
            return Err(Errno::ACCESS.into());
        }
        self.edit_as_root(edits)
    }

    /// Carries a directory operation out for running programs, and leaves it pending for the disk.
    pub fn edit_as_root(&mut self, edits: Vec<Edit>) -> io::Result<()> {
        for edit in &edits {
            if edit.dir > ROOT && self.links(edit.dir) == 0 {
                // A handle outlives its directory, but nothing can be made in it any more.
                return Err(Errno::NOENT.into());
            }
            debug_assert_eq!(
                self.lookup(edit.dir, &edit.name).ok().flatten(),
                edit.from,
                "edits say what they replace"
            );
        }
        let at = self.stamp();
        for edit in &edits {
            apply(&mut self.live, edit);
            for touched in [Some(edit.dir), edit.from, edit.to].into_iter().flatten() {
                let inode = self.live.get_mut(&touched).expect("an edit names inodes that exist");
                inode.ctime = at;
                if touched == edit.dir {
                    inode.mtime = at;
                }
            }
        }
        self.pending.push(edits);
        Ok(())
    }

    /// Changes data of a file; stamps mtime and ctime.
    pub fn change(&mut self, inode: u64, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let at = self.stamp();
        let used = self.capacity.map(|_| self.used());
        let found = self.live.get_mut(&inode).expect("a handle's inode stays");
        let Node::File(bytes) = &mut found.node else { return Err(Errno::ISDIR.into()) };
        let mut next = bytes.clone();
        change(&mut next);
        let more = next.len().saturating_sub(bytes.len()) as u64;
        if more > 0 && used.zip(self.capacity).is_some_and(|(used, capacity)| used + more > capacity) {
            return Err(Errno::NOSPC.into());
        }
        *bytes = next;
        (found.mtime, found.ctime) = (at, at);
        self.dirty.insert(inode);
        self.unsynced.remove(&inode);
        Ok(())
    }

    /// Sets attributes; stamps ctime.
    pub fn set_attrs(&mut self, inode: u64, mode: Option<Mode>, mtime: Option<Mtime>) {
        let at = self.stamp();
        let found = self.live.get_mut(&inode).expect("a handle's inode stays");
        found.mode = mode.unwrap_or(found.mode);
        found.mtime = mtime.unwrap_or(found.mtime);
        found.ctime = at;
        self.dirty.insert(inode);
    }

    pub fn sync_inode(&mut self, inode: u64) {
        if self.ignores_syncs {
            return;
        }
        let live = &self.live[&inode];
        let disk = self.disk.get_mut(&inode).expect("every live inode is on disk");
        (disk.mode, disk.mtime, disk.ctime) = (live.mode, live.mtime, live.ctime);
        if !matches!(live.node, Node::Directory(_)) && !self.unsynced.contains(&inode) {
            disk.node = live.node.clone();
        }
        self.dirty.remove(&inode);
    }

    /// A sync of an inode, or of all of them, failed; what was not written is forgotten.
    pub fn count_as_clean(&mut self, inode: Option<u64>) {
        let lost: Vec<u64> =
            self.dirty.iter().copied().filter(|dirty| inode.is_none_or(|inode| inode == *dirty)).collect();
        for inode in lost {
            self.dirty.remove(&inode);
            self.unsynced.insert(inode);
        }
    }

    /// Makes the names in `dir` durable: every pending operation that touches it, and the earlier ones on the
    /// same names, or in a directory that is removed, that those build upon.
    pub fn sync_names(&mut self, dir: u64) {
        if self.ignores_syncs {
            return;
        }
        let mut needed: BTreeSet<(u64, Vec<u8>)> = BTreeSet::new();
        let mut removed: BTreeSet<u64> = BTreeSet::from([dir]);
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
        let (durable, rest) = pending.into_iter().partition(|_| chosen.next() == Some(true));
        self.pending = rest;
        let durable: Vec<Vec<Edit>> = durable;
        durable.iter().for_each(|edits| apply_if_possible(&mut self.disk, edits, self.folding));
    }

    pub fn sync_all(&mut self) {
        if self.ignores_syncs {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        pending.iter().for_each(|edits| apply_if_possible(&mut self.disk, edits, self.folding));
        for inode in self.dirty.clone() {
            self.sync_inode(inode);
        }
    }

    /// A power cut. `choose(n)` picks one of `n` permitted outcomes wherever the hardware is free to.
    pub fn power_cut(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        for edits in std::mem::take(&mut self.pending) {
            if choose(2) == 1 {
                apply_if_possible(&mut self.disk, &edits, self.folding);
            }
        }
        for inode in std::mem::take(&mut self.dirty) {
            let live = self.live[&inode].clone();
            let disk = self.disk.get_mut(&inode).expect("every live inode is on disk");
            if choose(2) == 1 {
                (disk.mode, disk.mtime, disk.ctime) = (live.mode, live.mtime, live.ctime);
            }
            if let (Node::File(durable), Node::File(bytes)) = (&mut disk.node, live.node) {
                let before = std::mem::take(durable);
                *durable = torn(&before, &bytes, choose);
                // Real disks may keep bytes and lose the times that tell of them: who never syncs is on their own there.
                if *durable != before {
                    (disk.mtime, disk.ctime) = (live.mtime, live.ctime);
                }
            }
        }
        self.live = reachable(&self.disk);
        self.disk = self.live.clone();
        self.writers.clear();
        self.opened_up.clear();
        self.unsynced.clear();
        self.generation += 1;
        self.power_cuts += 1;
    }
}

fn apply(inodes: &mut BTreeMap<u64, Inode>, edit: &Edit) {
    let dir = inodes.get_mut(&edit.dir).expect("an edit's directory exists");
    let Node::Directory(entries) = &mut dir.node else { unreachable!("an edit's directory is one") };
    match edit.to {
        Some(inode) => entries.insert(edit.name.clone(), inode),
        None => entries.remove(&edit.name),
    };
}

/// Inodes that lose a name in an operation and get none.
fn gone(edits: &[Edit]) -> impl Iterator<Item = u64> {
    edits.iter().filter_map(|edit| edit.from).filter(|inode| edits.iter().all(|edit| edit.to != Some(*inode)))
}

/// All edits of an operation or none: none when an earlier operation on one of its names was lost, or when it
/// removes a directory that is not empty because of that. No file system loses the content of a directory so.
fn apply_if_possible(inodes: &mut BTreeMap<u64, Inode>, edits: &[Edit], folding: Folding) {
    let fits = |edit: &Edit| match &inodes[&edit.dir].node {
        Node::Directory(entries) => entries.get(&edit.name).copied() == edit.from,
        Node::File(_) | Node::Symlink(_) | Node::Special => false,
    };
    if !edits.iter().all(fits) {
        return;
    }
    let mut next = inodes.clone();
    edits.iter().for_each(|edit| apply(&mut next, edit));
    let is_empty = |inode: u64| !matches!(&next[&inode].node, Node::Directory(entries) if !entries.is_empty());
    if gone(edits).all(is_empty) && are_apart(&next, edits, folding) {
        *inodes = next;
    }
}

/// What un-synced data may look like after a power cut: as before, as written, cut short, zeros, or a mixture.
fn torn(durable: &[u8], written: &[u8], choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
    if durable == written {
        return durable.to_vec();
    }
    match choose(5) {
        0 => durable.to_vec(),
        1 => written.to_vec(),
        2 => written[..written.len() / 2].to_vec(),
        3 => vec![0; written.len()],
        _ => {
            let mut mixed = written.to_vec();
            for (index, sector) in mixed.chunks_mut(SECTOR_LEN).enumerate() {
                if choose(2) == 0 {
                    let old = durable.get(index * SECTOR_LEN..).unwrap_or_default();
                    sector.fill(0);
                    let len = old.len().min(sector.len());
                    sector[..len].copy_from_slice(&old[..len]);
                }
            }
            mixed
        }
    }
}

/// What a file system check leaves: everything that has a name.
fn reachable(inodes: &BTreeMap<u64, Inode>) -> BTreeMap<u64, Inode> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![ROOT, OUTSIDE];
    while let Some(inode) = waiting.pop() {
        let at = inodes[&inode].clone();
        if let Node::Directory(entries) = &at.node {
            waiting.extend(entries.values().copied().filter(|to| !found.contains_key(to)));
        }
        found.insert(inode, at);
    }
    found
}
