//! What a power cut leaves: everything that was synced, and of the rest any part that POSIX permits. Changes of names are
//! kept or lost whole; data is kept, lost or torn page by page, and zeros where a file had been cut or grew; attributes go
//! their own way.

use super::volume::{Bytes, Dirt, Edit, Ino, Inode, Node, PAGE_LEN, ROOT, Volume, apply_if_possible};
use std::collections::BTreeMap;
use std::sync::Arc;
use tests::sim::rng::Rng;

/// How much of what was not synced had reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    /// All of it: the cut is a crash.
    All,
    /// None.
    None,
    /// Names up to a moment, as a journal commits them, and any data.
    Journal,
    /// Anything.
    Any,
}

impl Volume {
    /// The disk when the power is back.
    pub fn after_cut(mut self, rng: &mut Rng) -> Self {
        let luck = *rng.pick(&[
            Luck::All,
            Luck::None,
            Luck::None,
            Luck::Journal,
            Luck::Journal,
            Luck::Any,
            Luck::Any,
            Luck::Any,
        ]);
        for edits in surviving(std::mem::take(&mut self.pending), luck, rng) {
            apply_if_possible(&mut self.disk, &edits);
        }
        for (ino, dirt) in std::mem::take(&mut self.dirty) {
            let (Some(live), Some(disk)) = (self.live.get(&ino), self.disk.get_mut(&ino)) else { continue };
            if luck == Luck::All || luck != Luck::None && rng.chance(50) {
                disk.attrs = live.attrs.clone();
            }
            if let (Node::File(new), Node::File(old)) = (&live.node, &mut disk.node) {
                *old = torn(old, new, &dirt, luck, rng);
            }
        }
        let next = self.next();
        Self::of(reachable(&self.disk), next)
    }
}

fn surviving(pending: Vec<Vec<Edit>>, luck: Luck, rng: &mut Rng) -> Vec<Vec<Edit>> {
    let until = rng.below(pending.len() + 1);
    let kept = pending.into_iter().enumerate().filter(|(at, _)| match luck {
        Luck::All => true,
        Luck::None => false,
        Luck::Journal => *at < until,
        Luck::Any => rng.chance(50),
    });
    kept.map(|(_, edits)| edits).collect()
}

/// As before, as written, cut short, zeros, or a mixture.
fn torn(old: &Bytes, new: &Bytes, dirt: &Dirt, luck: Luck, rng: &mut Rng) -> Bytes {
    match (luck, rng.below(5)) {
        (Luck::All, _) | (_, 0) => return new.clone(),
        (Luck::None, _) | (_, 1) => return old.clone(),
        // Truncated, and not yet written again.
        (_, 2) => return shortened(old, dirt.shortest),
        _ => {}
    }
    let zeros = rng.chance(30);
    let mut mixed = Bytes { len: if rng.chance(70) { new.len } else { old.len }, pages: old.pages.clone() };
    for page in &dirt.pages {
        if rng.chance(50) {
            match new.pages.get(page) {
                Some(bytes) => mixed.pages.insert(*page, Arc::clone(bytes)),
                None => mixed.pages.remove(page),
            };
        } else if zeros && *page * PAGE_LEN as u64 >= dirt.shortest {
            // Allocated anew and not written; what is overwritten in place is old or new.
            mixed.pages.remove(page);
        }
    }
    let len = mixed.len;
    shortened(&mixed, len)
}

fn shortened(bytes: &Bytes, len: u64) -> Bytes {
    let len = len.min(bytes.len);
    let (last, within) = (len / PAGE_LEN as u64, usize::try_from(len % PAGE_LEN as u64).expect("less than a page"));
    let mut pages = bytes.pages.clone();
    pages.split_off(&(last + u64::from(within > 0)));
    if let Some(page) = pages.get_mut(&last) {
        Arc::make_mut(page)[within..].fill(0);
    }
    Bytes { len, pages }
}

/// What a file system check leaves: everything that has a name.
fn reachable(inodes: &BTreeMap<Ino, Inode>) -> BTreeMap<Ino, Inode> {
    let mut found = BTreeMap::new();
    let mut todo = vec![ROOT];
    while let Some(ino) = todo.pop() {
        let inode = inodes[&ino].clone();
        if let Node::Directory(entries) = &inode.node {
            todo.extend(entries.values().copied().filter(|to| !found.contains_key(to)));
        }
        found.insert(ino, inode);
    }
    found
}
