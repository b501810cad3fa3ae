//! Many files that go back to contents they had before, with the times they had then: somebody put back a backup of the
//! data, and on the other devices it would undo what was done since. Such findings wait for a moment, as deletions
//! do, and are held when they are many. A program that writes old bytes anew gives them a new time and is not meant.
//! A file whose bytes differ though nobody wrote them (a disk that fails, a crash) is never a change: it is held as well.

use super::deletions::live_files;
use super::guard::Lately;
use super::{Alarm, Effect, Engine, HeldWhat, Hold, View};
use crate::model::{RelPath, Timestamp};
use crate::sync::local::{Change, LocalRow, Observed, Want};
use std::collections::BTreeSet;
use std::time::Duration;

/// So many files go back without a question, within ten minutes.
const RESTORED_MAX: u64 = 100;
/// Findings wait until none came for this long.
const QUIET: Duration = Duration::from_millis(500);
/// But never longer than this.
const QUIET_CAP: Duration = Duration::from_secs(30);
/// A file whose bytes are older than its inode's last change by this much was given its time by whoever put it there.
const BACKDATED_SECS: i64 = 60;

#[derive(Debug, Default)]
pub(super) struct Restored {
    pending: BTreeSet<RelPath>,
    first: Option<Timestamp>,
    last: Timestamp,
    held: BTreeSet<RelPath>,
    held_of: u64,
    suspects: BTreeSet<RelPath>,
    /// The next finding there is taken as a change.
    let_through: BTreeSet<RelPath>,
    lately: Lately,
}

impl Restored {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        let first = self.first?;
        Some(self.last.after(QUIET).min(first.after(QUIET_CAP)))
    }

    pub(super) fn holds(&self) -> impl Iterator<Item = Hold> + use<> {
        let hold = |what, paths: &BTreeSet<RelPath>| {
            let (files, sample) = (paths.len() as u64, paths.iter().take(10).cloned().collect());
            (files > 0).then_some(Hold { what, peer: None, files, of: self.held_of.max(files), sample })
        };
        let restored = hold(HeldWhat::RestoredHere, &self.held);
        restored.into_iter().chain(hold(HeldWhat::SuspectHere, &self.suspects))
    }

    pub(super) fn suspects(&self) -> impl Iterator<Item = &RelPath> {
        self.suspects.iter()
    }

    /// Something else stands there now.
    pub(super) fn forget(&mut self, path: &RelPath) {
        self.held.remove(path);
        self.suspects.remove(path);
        self.let_through.remove(path);
        if self.pending.remove(path) && self.pending.is_empty() {
            self.first = None;
        }
    }
}

/// A content that the row lists as replaced, with a time that was set.
fn is_old(row: &LocalRow, observed: &Observed) -> bool {
    let (Observed::File { fingerprint, .. }, Some(entry)) = (observed, row.entry()) else {
        return false;
    };
    let backdated = fingerprint.ctime.secs.saturating_sub(fingerprint.mtime.secs) > BACKDATED_SECS;
    let content = observed.content();
    let replaced = content.ancestor_hash().is_some_and(|hash| entry.ancestors.contains(&hash));
    backdated && replaced && !content.same(&entry.content)
}

impl Engine {
    /// Whether a finding waits: it is an old content, and may be one of many.
    pub(super) fn waits_as_restored(
        &mut self,
        now: Timestamp,
        path: &RelPath,
        row: &LocalRow,
        observed: &Observed,
    ) -> bool {
        let is_wanted = row.wants.iter().any(|want| want.declined.is_none());
        if !self.config.guard || is_wanted || !is_old(row, observed) || self.restored.let_through.contains(path) {
            self.restored.forget(path);
            return false;
        }
        if !self.restored.held.contains(path) && self.restored.pending.insert(path.clone()) {
            self.restored.first.get_or_insert(now);
            self.restored.last = now;
        }
        true
    }

    pub(super) fn publish_restored(&mut self, now: Timestamp, view: View<'_>) -> Vec<Effect> {
        if self.restored.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let pending = std::mem::take(&mut self.restored.pending);
        self.restored.first = None;
        let count = pending.len() as u64;
        if !self.restored.held.is_empty() || count + self.restored.lately.sum(now) > RESTORED_MAX {
            self.restored.held.extend(pending);
            self.restored.held_of = live_files(view);
            return self.alarm_of(HeldWhat::RestoredHere);
        }
        self.restored.lately.add(now, count);
        self.let_through(pending)
    }

    fn alarm_of(&self, what: HeldWhat) -> Vec<Effect> {
        let holds = self.restored.holds().filter(|hold| hold.what == what);
        holds.map(|hold| Effect::Alarm(Alarm::Held(hold))).collect()
    }

    pub(super) fn suspected(&mut self, path: RelPath, view: View<'_>) -> Vec<Effect> {
        let is_file = view.rows.get(&path).entry().is_some_and(|entry| entry.content.file().is_some());
        if !is_file || !self.restored.suspects.insert(path) {
            return Vec::new();
        }
        self.restored.held_of = live_files(view);
        self.alarm_of(HeldWhat::SuspectHere)
    }

    fn let_through(&mut self, paths: BTreeSet<RelPath>) -> Vec<Effect> {
        let looks = paths.iter().map(|path| Effect::Look { path: path.clone(), subtree: false }).collect();
        self.restored.let_through.extend(paths);
        looks
    }

    /// A person meant it: it goes out as a change.
    pub(super) fn approve_restored(&mut self, view: View<'_>) -> Vec<Effect> {
        let held = std::mem::take(&mut self.restored.held);
        self.restored.lately = Lately::default();
        // Read again although its fingerprint is the recorded one.
        let reread = |path: &RelPath| {
            let fingerprint = view.rows.get(path).have.and_then(|have| have.fingerprint)?;
            Some(Change::Seen { path: path.clone(), fingerprint, racy: true })
        };
        let suspects = std::mem::take(&mut self.restored.suspects);
        let changes: Vec<Change> = suspects.iter().filter_map(reread).collect();
        let mut effects: Vec<Effect> = (!changes.is_empty()).then_some(Effect::Commit(changes)).into_iter().collect();
        effects.extend(suspects.into_iter().map(|path| Effect::Look { path, subtree: false }));
        effects.extend(self.let_through(held));
        effects
    }

    /// What was there before comes back from the others, as after a rejected deletion; the old contents become versions
    /// here.
    pub(super) fn reject_restored(&mut self, view: View<'_>) -> Vec<Effect> {
        let sources: Vec<_> = self.peers.keys().copied().collect();
        let mut held = std::mem::take(&mut self.restored.held);
        held.append(&mut self.restored.suspects);
        let mut changes = Vec::new();
        for path in &held {
            let row = view.rows.get(path);
            if let Some(entry) = row.entry().filter(|entry| entry.is_live()).cloned() {
                let mut wants = row.wants;
                wants.push(Want { entry, sources: sources.clone(), declined: None });
                changes.push(Change::Lost { path: path.clone() });
                changes.push(Change::Wants { path: path.clone(), wants });
            }
        }
        let mut effects = Vec::new();
        if !changes.is_empty() {
            self.pump.restart();
            effects.push(Effect::Commit(changes));
        }
        effects.extend(held.into_iter().map(|path| Effect::SetAside { path }));
        effects
    }
}
