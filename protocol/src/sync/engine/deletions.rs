//! Local deletions: they wait until the folder saw none for a while and go out as one batch, unless the content
//! turned up elsewhere (a move, which goes at once). A batch that looks like an accident is held.

use super::guard::too_many;
use super::{Alarm, Effect, Engine, FolderMode, View};
use crate::model::{ContentHash, DeviceId, Entry, RelPath, Timestamp};
use crate::sync::local::{Change, Have, LocalRow, Observed, Want};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Deletions wait until none came for this long.
const QUIET: Duration = Duration::from_millis(500);
/// But never longer than this.
const QUIET_CAP: Duration = Duration::from_secs(30);
/// The guard counts the deletions of this long.
pub(super) const GUARD_WINDOW: Duration = Duration::from_secs(600);
/// Deletions that are never held on their number alone.
pub(super) const GUARD_MIN: u64 = 1000;
/// Deleting all of this many files or more is held.
pub(super) const GUARD_ALL_MIN: u64 = 10;
/// Creations remembered for pairing with a later deletion.
const CREATED_MAX: usize = 20_000;
/// Rows in one transaction of a large batch.
const BATCH_MAX: usize = 4_096;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldWhat {
    /// Files vanished here; nobody was told yet.
    DeletionsHere,
    /// Files went back to contents that they had before; nobody was told yet.
    RestoredHere,
    /// The bytes of files changed though nobody wrote them; nobody was told.
    SuspectHere,
    /// A peer deleted files; they are still here.
    DeletionsThere,
    /// A peer gave files new contents; the old ones are still here.
    ReplacementsThere,
}

/// Changes that wait for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What they do.
    pub what: HeldWhat,
    /// The peer they come from.
    pub peer: Option<DeviceId>,
    /// How many files.
    pub files: u64,
    /// Of how many.
    pub of: u64,
    /// Some of the paths, the first in order.
    pub sample: Vec<RelPath>,
}

#[derive(Debug, Default)]
pub(super) struct Deletions {
    pending: BTreeSet<RelPath>,
    first: Option<Timestamp>,
    last: Timestamp,
    /// Pending file deletions by content, for moves.
    by_content: BTreeMap<ContentHash, BTreeSet<RelPath>>,
    /// Files created lately, by content.
    created: BTreeMap<ContentHash, RelPath>,
    created_order: VecDeque<ContentHash>,
    held: BTreeSet<RelPath>,
    held_files: u64,
    held_of: u64,
    /// When and how many files were deleted lately.
    published: VecDeque<(Timestamp, u64)>,
}

impl Deletions {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// When the batch goes out, unless a scan is still running: it may yet find where the content went.
    pub(super) fn due(&self, scanning: bool) -> Option<Timestamp> {
        let first = self.first?;
        let cap = first.after(QUIET_CAP);
        Some(if scanning { cap } else { self.last.after(QUIET).min(cap) })
    }

    pub(super) fn held(&self) -> Vec<Hold> {
        if self.held.is_empty() {
            return Vec::new();
        }
        vec![Hold {
            what: HeldWhat::DeletionsHere,
            peer: None,
            files: self.held_files.min(self.held.len() as u64),
            of: self.held_of,
            sample: self.held.iter().take(10).cloned().collect(),
        }]
    }

    pub(super) fn pending_below(&self, dir: &RelPath) -> bool {
        let below = |set: &BTreeSet<RelPath>| {
            set.range(dir.clone()..).find(|path| *path != dir).is_some_and(|path| path.is_below(dir))
        };
        below(&self.pending) || below(&self.held)
    }

    /// Takes a path back; whether it was waiting.
    pub(super) fn reappeared(&mut self, path: &RelPath) -> bool {
        let was_held = self.held.remove(path);
        let was_pending = self.pending.remove(path);
        if was_pending {
            self.by_content.retain(|_, paths| {
                paths.remove(path);
                !paths.is_empty()
            });
            self.settle();
        }
        was_held || was_pending
    }

    fn settle(&mut self) {
        if self.pending.is_empty() {
            self.first = None;
            self.by_content.clear();
        }
    }

    fn add(&mut self, now: Timestamp, path: RelPath, entry: &Entry) {
        if self.held.contains(&path) {
            return;
        }
        if let Some(file) = entry.content.file() {
            self.by_content.entry(file.hash).or_default().insert(path.clone());
        }
        if self.pending.insert(path) {
            self.first.get_or_insert(now);
            self.last = now;
        }
    }

    fn remember_created(&mut self, hash: ContentHash, path: &RelPath) {
        if self.created.insert(hash, path.clone()).is_none() {
            self.created_order.push_back(hash);
        }
        if self.created_order.len() > CREATED_MAX
            && let Some(oldest) = self.created_order.pop_front()
        {
            self.created.remove(&oldest);
        }
    }

    fn published_lately(&mut self, now: Timestamp) -> u64 {
        while self.published.front().is_some_and(|(at, _)| now.since(*at) > GUARD_WINDOW) {
            self.published.pop_front();
        }
        self.published.iter().map(|(_, count)| count).sum()
    }
}

impl Engine {
    pub(super) fn missing(&mut self, now: Timestamp, paths: Vec<RelPath>, view: View<'_>) -> Vec<Effect> {
        let mut changes = Vec::new();
        for path in paths {
            if self.pump.is_applying(&path) {
                self.pump.look_after(&path);
                continue;
            }
            self.restored.forget(&path);
            let row = view.rows.get(&path);
            if self.config.mode == FolderMode::ReceiveOnly {
                changes.extend(missing_receive_only(path, &row));
                continue;
            }
            let Some(entry) = row.entry().filter(|entry| entry.is_live()) else {
                continue;
            };
            let created = entry.content.file().and_then(|file| self.deletions.created.get(&file.hash));
            let moved = created.is_some_and(|to| *to != path && view.rows.get(to).is_live());
            if moved && view.disk.is_absent(&path) {
                let entry = entry.clone();
                changes.push(self.deleted(path, &entry));
            } else {
                self.deletions.add(now, path, &entry.clone());
            }
        }
        self.commit(changes)
    }

    fn commit(&self, mut changes: Vec<Change>) -> Vec<Effect> {
        if changes.is_empty() {
            return Vec::new();
        }
        changes.push(Change::Counter(self.counter));
        vec![Effect::Commit(changes)]
    }

    fn deleted(&mut self, path: RelPath, entry: &Entry) -> Change {
        let tombstone = self.tombstone(entry);
        self.pump.local_change(&path);
        Change::Have { path, have: Have { entry: tombstone, fingerprint: None, racy: false } }
    }

    /// A new file whose content was just deleted elsewhere: the deletion goes out beside the create.
    pub(super) fn pair_move(
        &mut self,
        _now: Timestamp,
        path: &RelPath,
        hash: ContentHash,
        changes: &mut Vec<Change>,
        view: View<'_>,
    ) {
        self.deletions.remember_created(hash, path);
        let from = self.deletions.by_content.get(&hash).and_then(|paths| paths.first()).cloned();
        let is_gone = |from: &RelPath| from != path && !self.pump.is_applying(from) && view.disk.is_absent(from);
        let Some(from) = from.filter(is_gone) else {
            return;
        };
        self.deletions.reappeared(&from);
        if let Some(entry) = view.rows.get(&from).entry().filter(|entry| entry.is_live()) {
            changes.push(self.deleted(from, &entry.clone()));
        }
    }

    pub(super) fn publish_deletions(&mut self, now: Timestamp, view: View<'_>) -> Vec<Effect> {
        if self.deletions.due(self.scans > 0).is_none_or(|due| due > now) {
            return Vec::new();
        }
        let pending = std::mem::take(&mut self.deletions.pending);
        self.deletions.settle();
        // A directory that is to go may have waited for these, also for what a peer's deletion took meanwhile.
        self.pump.more_is_known();
        let mut effects = Vec::new();
        let mut gone = Vec::new();
        for path in pending {
            let row = view.rows.get(&path);
            let Some(entry) = row.entry().filter(|entry| entry.is_live()).cloned() else {
                continue;
            };
            if self.pump.is_applying(&path) {
                self.pump.look_after(&path);
            } else if view.disk.is_absent(&path) {
                gone.push((path, entry));
            } else {
                effects.push(Effect::Look { path, subtree: false });
            }
        }
        let (gone, lived_in) = whole_directories(gone, view);
        effects.extend(lived_in.into_iter().map(|path| Effect::Look { path, subtree: true }));
        let files = gone.iter().filter(|(_, entry)| !entry.content.is_directory()).count() as u64;
        if self.guard_holds(now, files, view) {
            let before = if self.deletions.held.is_empty() { 0 } else { self.deletions.held_files };
            self.deletions.held_files = before + files;
            self.deletions.held_of = live_files(view);
            self.deletions.held.extend(gone.into_iter().map(|(path, _)| path));
            effects.extend(self.deletions.held().into_iter().map(|hold| Effect::Alarm(Alarm::Held(hold))));
            return effects;
        }
        self.deletions.published.push_back((now, files));
        effects.extend(self.tombstones(gone));
        effects
    }

    /// Children before their directories, so that a peer never sees a directory go with something in it.
    fn tombstones(&mut self, gone: Vec<(RelPath, Entry)>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut changes = Vec::new();
        for (path, entry) in gone.into_iter().rev() {
            changes.push(self.deleted(path, &entry));
            if changes.len() >= BATCH_MAX {
                effects.extend(self.commit(std::mem::take(&mut changes)));
            }
        }
        effects.extend(self.commit(changes));
        effects
    }

    /// Something else stands where a directory was: all that was in it is gone, and goes out before what replaced
    /// it. `None`: so many that a person is asked first.
    pub(super) fn deleted_with_directory(
        &mut self,
        now: Timestamp,
        dir: &RelPath,
        view: View<'_>,
    ) -> Option<Vec<Change>> {
        let mut below = Vec::new();
        loop {
            let page = view.rows.below(Some(dir), below.last().map(|(path, _): &(RelPath, Have)| path), BATCH_MAX);
            if page.is_empty() {
                break;
            }
            below.extend(page);
        }
        let files = below.iter().filter(|(_, have)| !have.entry.content.is_directory()).count() as u64;
        if self.guard_holds(now, files, view) {
            for (path, have) in below {
                self.deletions.add(now, path, &have.entry);
            }
            return None;
        }
        self.deletions.published.push_back((now, files));
        let mut changes = Vec::new();
        for (path, have) in below.into_iter().rev() {
            self.deletions.reappeared(&path);
            changes.push(self.deleted(path, &have.entry));
        }
        Some(changes)
    }

    fn guard_holds(&mut self, now: Timestamp, files: u64, view: View<'_>) -> bool {
        if !self.config.guard || files == 0 {
            return false;
        }
        let lately = self.deletions.published_lately(now);
        let live = live_files(view);
        too_many(files, lately, live)
    }

    pub(super) fn approve(&mut self, now: Timestamp, view: View<'_>) -> Vec<Effect> {
        let held = std::mem::take(&mut self.deletions.held);
        let gone: Vec<_> = held
            .into_iter()
            .filter(|path| !self.pump.is_applying(path) && view.disk.is_absent(path))
            .filter_map(|path| {
                let entry = view.rows.get(&path).entry().filter(|entry| entry.is_live()).cloned();
                entry.map(|entry| (path, entry))
            })
            .collect();
        self.deletions.published.clear();
        self.deletions.published.push_back((now, 0));
        let mut effects = self.approve_remote(view);
        effects.extend(self.approve_restored(view));
        // What stands in place of a directory that was held waits for a look.
        let parents: BTreeSet<RelPath> = gone.iter().filter_map(|(path, _)| path.parent()).collect();
        effects.extend(self.tombstones(gone));
        effects.extend(parents.into_iter().map(|path| Effect::Look { path, subtree: false }));
        effects
    }

    /// Puts back what was held: this device forgets that it had it, and wants it from the others.
    pub(super) fn reject(&mut self, view: View<'_>) -> Vec<Effect> {
        let held = std::mem::take(&mut self.deletions.held);
        let sources: Vec<_> = self.peers.keys().copied().collect();
        let mut changes = Vec::new();
        for path in held {
            let row = view.rows.get(&path);
            let Some(entry) = row.entry().filter(|entry| entry.is_live()).cloned() else {
                continue;
            };
            let mut wants = row.wants;
            wants.push(Want { entry, sources: sources.clone(), declined: None });
            changes.push(Change::Lost { path: path.clone() });
            changes.push(Change::Wants { path, wants });
        }
        self.pump.restart();
        let mut effects = self.reject_remote(view);
        effects.extend(self.reject_restored(view));
        effects.extend(self.commit(changes));
        effects
    }
}

/// A directory goes only with everything in it; one that still has a live child is looked at again.
fn whole_directories(gone: Vec<(RelPath, Entry)>, view: View<'_>) -> (Vec<(RelPath, Entry)>, Vec<RelPath>) {
    let mut going: BTreeSet<RelPath> = gone.iter().map(|(path, _)| path.clone()).collect();
    let mut lived_in = Vec::new();
    for (path, entry) in gone.iter().rev() {
        let whole = !entry.content.is_directory()
            || view.rows.children(Some(path)).iter().all(|(child, _)| going.contains(child));
        if !whole {
            going.remove(path);
            lived_in.push(path.clone());
        }
    }
    (gone.into_iter().filter(|(path, _)| going.contains(path)).collect(), lived_in)
}

pub(super) fn live_files(view: View<'_>) -> u64 {
    let totals = view.rows.state().totals;
    totals.files + totals.symlinks
}

fn missing_receive_only(path: RelPath, row: &LocalRow) -> Vec<Change> {
    let local = if row.is_live() { Some(Observed::Absent) } else { None };
    if row.local == local { Vec::new() } else { vec![Change::Local { path, local }] }
}
