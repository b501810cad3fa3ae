//! Local changes: what the scanner and the watcher found becomes entries.

use super::{Effect, Engine, FolderMode, View};
use crate::model::{Content, Entry, RelPath, Timestamp};
use crate::sync::local::{Change, Have, LocalRow, Observation, Observed};
use crate::sync::observe::{Seen, observe};
use std::collections::{BTreeMap, BTreeSet};

impl Engine {
    pub(super) fn observed(&mut self, now: Timestamp, found: Vec<Observation>, view: View<'_>) -> Vec<Effect> {
        let mut changes = Vec::new();
        let mut effects = Vec::new();
        // Rows of this batch are not committed yet: a child may lean on a directory found just before it.
        let mut directories = BTreeSet::new();
        let mut taken: BTreeMap<RelPath, Observed> = BTreeMap::new();
        for observation in found {
            let path = observation.path.clone();
            if self.pump.is_applying(&path) {
                self.pump.look_after(&path);
                self.deferred = true;
                continue;
            }
            if let Some(parent) = path.parent()
                && !directories.contains(&parent)
                && !view.rows.get(&parent).is_directory()
            {
                // Its directory was not recorded yet, or is about to change: look from the top down.
                effects.push(Effect::Look { path: parent, subtree: true });
                self.deferred = true;
                continue;
            }
            match age(&observation, &view) {
                Age::Current => {}
                Age::Overtaken => continue,
                Age::Stale => {
                    effects.push(Effect::Look { path, subtree: false });
                    self.deferred = true;
                    continue;
                }
            }
            if let Some(earlier) = taken.get(&path) {
                // Against the row of before this batch it would be the same change once more.
                if *earlier != observation.observed {
                    effects.push(Effect::Look { path, subtree: false });
                    self.deferred = true;
                }
                continue;
            }
            taken.insert(path.clone(), observation.observed.clone());
            if matches!(observation.observed, Observed::Directory { .. }) {
                directories.insert(path);
            }
            self.observe_one(now, observation, &mut changes, view);
        }
        if !changes.is_empty() {
            changes.push(Change::Counter(self.counter));
            effects.insert(0, Effect::Commit(changes));
        }
        effects
    }

    fn observe_one(&mut self, now: Timestamp, found: Observation, changes: &mut Vec<Change>, view: View<'_>) {
        let Observation { path, observed, manifest } = found;
        let row = view.rows.get(&path);
        let Some(seen) = seen(&observed) else {
            return;
        };
        if self.deletions.reappeared(&path) {
            self.pump.more_is_known();
        }
        if self.config.mode == FolderMode::ReceiveOnly {
            changes.extend(self.observe_receive_only(&path, &row, observed, seen));
            return;
        }
        if self.waits_as_restored(now, &path, &row, &observed) {
            return;
        }
        let replaced = row.is_directory() && !matches!(observed, Observed::Directory { .. });
        if replaced && view.rows.live_below(&path).is_some() {
            if self.pump.is_applying_below(&path) {
                // What is recorded there next must not go over a tombstone of ours.
                self.pump.look_after(&path);
                self.deferred = true;
                return;
            }
            // What was in it went with it, which no listing of its own will show.
            let Some(gone) = self.deleted_with_directory(now, &path, view) else {
                return;
            };
            changes.extend(gone);
        }
        let (fingerprint, racy) = (observed.fingerprint().copied(), is_racy(&observed));
        let Some(entry) = observe(row.entry(), seen, self.next_event(), self.history) else {
            changes.extend(seen_again(path, &row, &observed));
            return;
        };
        self.take_event();
        changes.extend(manifest.map(Change::Manifest));
        let is_new_file = !row.is_live() && entry.content.file().is_some();
        let hash = entry.content.file().map(|file| file.hash);
        changes.push(Change::Have { path: path.clone(), have: Have { entry, fingerprint, racy } });
        self.pump.local_change(&path);
        if is_new_file && let Some(hash) = hash {
            self.pair_move(now, &path, hash, changes, view);
        }
    }

    /// In a receive-only folder a local change is a note beside the row: no version, no announcement.
    fn observe_receive_only(&self, path: &RelPath, row: &LocalRow, observed: Observed, seen: Seen) -> Vec<Change> {
        let same = row.entry().filter(|entry| entry.is_live()).is_some_and(|entry| {
            let seen = seen.normalized();
            entry.content.same(&seen.content) && entry.mode == seen.mode && entry.mtime == seen.mtime
        });
        let path = path.clone();
        if same {
            let mut changes = seen_again(path.clone(), row, &observed);
            if row.local.is_some() {
                changes.push(Change::Local { path, local: None });
            }
            return changes;
        }
        vec![Change::Local { path, local: Some(observed) }]
    }

    pub(super) fn scan_ended(&mut self, whole: bool) -> Vec<Effect> {
        self.scans = self.scans.saturating_sub(1);
        if !whole || self.history {
            return Vec::new();
        }
        if self.deferred {
            self.rescan_due = true;
            return Vec::new();
        }
        self.history = true;
        self.pump.restart();
        vec![Effect::Commit(vec![Change::Scanned])]
    }

    /// The first scan again, once nothing is under way that could get in its way.
    pub(super) fn scan_again(&mut self) -> Vec<Effect> {
        let is_calm = self.scans == 0 && self.pump.in_flight() == 0;
        if is_calm && std::mem::take(&mut self.rescan_due) { vec![Effect::Scan] } else { Vec::new() }
    }

    /// The tombstone that records a local deletion of `entry`.
    pub(super) fn tombstone(&mut self, entry: &Entry) -> Entry {
        let event = self.take_event();
        let seen = Seen { content: Content::Tombstone, mode: entry.mode, mtime: entry.mtime };
        observe(Some(entry), seen, event, true).expect("a live entry differs from a tombstone")
    }
}

/// How a finding stands to the disk of now. Between the look and this moment a user may have gone on, or an action
/// may have been carried out and recorded: taken as a local change, it would undo that everywhere.
enum Age {
    Current,
    /// What is recorded stands there: nothing to tell.
    Overtaken,
    /// Something else stands there, or nothing: look again.
    Stale,
}

fn age(found: &Observation, view: &View<'_>) -> Age {
    let (Some(now), Some(seen)) = (view.disk.fingerprint(&found.path), found.observed.fingerprint()) else {
        return Age::Stale;
    };
    if now.unchanged_since(seen) {
        return Age::Current;
    }
    let recorded = view.rows.get(&found.path).have.and_then(|have| have.fingerprint);
    match recorded {
        Some(recorded) if now.unchanged_since(&recorded) => Age::Overtaken,
        // A file that is being written all the time must not wait until that ends; more findings will follow.
        _ if now.inode == seen.inode && now.kind == seen.kind => Age::Current,
        _ => Age::Stale,
    }
}

fn seen(observed: &Observed) -> Option<Seen> {
    let fingerprint = observed.fingerprint()?;
    Some(Seen { content: observed.content(), mode: fingerprint.mode, mtime: fingerprint.mtime })
}

const fn is_racy(observed: &Observed) -> bool {
    matches!(observed, Observed::File { racy: true, .. })
}

fn seen_again(path: RelPath, row: &LocalRow, observed: &Observed) -> Vec<Change> {
    let (Some(fingerprint), Some(have)) = (observed.fingerprint().copied(), &row.have) else {
        return Vec::new();
    };
    let racy = is_racy(observed);
    let same = have.racy == racy && have.fingerprint.is_some_and(|earlier| fingerprint.unchanged_since(&earlier));
    if same { Vec::new() } else { vec![Change::Seen { path, fingerprint, racy }] }
}
