//! What a peer may take away in a short time: deletions by the sender's own rule, replacements by a larger one. What
//! goes beyond is declined as waiting and stays as it is until a person answers. Deletions of a peer wait until all
//! that it announced has been read, so that a mass deletion is held whole and not from its middle on.
//!
//! Invariant: what is held is what the rows say; the sets here only count it, and are rebuilt from the rows.

mod counts;
mod keep;

use super::deletions::{GUARD_ALL_MIN, GUARD_MIN, GUARD_WINDOW};
use super::{Effect, HeldWhat, Hold};
use crate::model::{ContentHash, DeviceId, Entry, RelPath, Timestamp};
use crate::sync::local::{Change, Want};
pub(super) use counts::Lately;
use counts::{Arrived, PathsLately, take_one};
use std::collections::{BTreeMap, BTreeSet};

/// Paths named in a hold.
const SAMPLE_MAX: usize = 10;

/// What a peer's entry does to what stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Deletes,
    Replaces,
    /// A directory goes: not counted, but held with what was in it.
    Directory,
}

/// Changes of one kind, from one peer, that wait for a person.
#[derive(Debug, Default)]
struct Held {
    /// Whatever more of this kind it announces waits too, until a person answers or nothing waits any more.
    on: bool,
    /// A person was told.
    told: bool,
    /// Files and links here when it began.
    of: u64,
    files: BTreeSet<RelPath>,
    directories: BTreeSet<RelPath>,
}

impl Held {
    fn begin(&mut self, live: u64) {
        self.on = true;
        self.of = self.of.max(live);
    }

    fn contains(&self, path: &RelPath) -> bool {
        self.files.contains(path) || self.directories.contains(path)
    }

    fn remove(&mut self, path: &RelPath) {
        self.files.remove(path);
        self.directories.remove(path);
    }

    fn hold(&self, what: HeldWhat, peer: DeviceId) -> Option<Hold> {
        let files = self.files.len() as u64;
        let sample = self.files.iter().take(SAMPLE_MAX).cloned().collect();
        (files > 0).then(|| Hold { what, peer: Some(peer), files, of: self.of.max(files), sample })
    }
}

/// How far the wants were gone through.
#[derive(Clone, Debug, Default)]
struct Sweep {
    after: Option<RelPath>,
}

/// What one peer would take away.
#[derive(Debug, Default)]
struct Incoming {
    /// Files that it deletes, not judged yet.
    counted: u64,
    /// Those of them that no content which came has paid for.
    unpaired: BTreeMap<ContentHash, u64>,
    /// When it went away before its deletions were judged.
    away: Timestamp,
    deleted: Lately,
    replaced: PathsLately,
    deletions: Held,
    replacements: Held,
    /// What was let through and is not carried out yet is being put on hold.
    sweep: Option<Sweep>,
}

impl Incoming {
    fn held(&self, loss: Loss) -> &Held {
        if loss == Loss::Replaces { &self.replacements } else { &self.deletions }
    }

    fn hold(&mut self, path: &RelPath, loss: Loss) {
        let fresh = match loss {
            Loss::Deletes => &mut self.deletions.files,
            Loss::Directory => &mut self.deletions.directories,
            Loss::Replaces => &mut self.replacements.files,
        };
        fresh.insert(path.clone());
    }

    /// Nothing is left to be judged.
    fn settle(&mut self) -> u64 {
        self.unpaired.clear();
        std::mem::take(&mut self.counted)
    }

    fn both(&mut self) -> [&mut Held; 2] {
        [&mut self.deletions, &mut self.replacements]
    }
}

/// What has to be read from the rows again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Recall {
    /// What is held.
    Holds,
    /// That, and what is not judged yet.
    All,
}

/// One per engine.
#[derive(Debug, Default)]
pub(super) struct Guard {
    incoming: BTreeMap<DeviceId, Incoming>,
    arrived: Arrived,
    /// Rows that were held before something was recorded there.
    touched: BTreeSet<RelPath>,
    recall: Option<Recall>,
}

impl Guard {
    /// What a database holds is read before anything is decided.
    pub(super) fn new() -> Self {
        Self { recall: Some(Recall::All), ..Self::default() }
    }

    /// The deletions of the device that announced this want are not judged yet.
    pub(super) fn is_counting(&self, want: &Want) -> bool {
        let first = want.sources.first().and_then(|id| self.incoming.get(id));
        !want.entry.is_live() && first.is_some_and(|incoming| incoming.counted > 0)
    }

    pub(super) fn held(&self) -> Vec<Hold> {
        let both = |(peer, incoming): (&DeviceId, &Incoming)| {
            let deletions = incoming.deletions.hold(HeldWhat::DeletionsThere, *peer);
            [deletions, incoming.replacements.hold(HeldWhat::ReplacementsThere, *peer)]
        };
        self.incoming.iter().flat_map(both).flatten().collect()
    }

    /// When a device that is away has been away for long enough.
    pub(super) fn due(&self, is_here: impl Fn(&DeviceId) -> bool) -> Option<Timestamp> {
        let waiting = self.incoming.iter().filter(|(id, incoming)| incoming.counted > 0 && !is_here(id));
        waiting.map(|(_, incoming)| incoming.away.after(GUARD_WINDOW)).min()
    }

    /// A session ended, perhaps in the middle of its index, perhaps because the device is removed.
    pub(super) fn left(&mut self, now: Timestamp, id: &DeviceId) {
        if let Some(incoming) = self.incoming.get_mut(id) {
            incoming.away = now;
            if incoming.both().iter().any(|held| held.on) {
                self.recall = self.recall.max(Some(Recall::Holds));
            }
        }
    }

    /// What was declined for another reason is decided again: it has not been counted.
    pub(super) fn count_anew(&mut self) {
        self.recall = Some(Recall::All);
    }

    /// Something is about to be recorded at this path.
    pub(super) fn touch(&mut self, path: &RelPath) {
        let is_held = |incoming: &Incoming| incoming.deletions.contains(path) || incoming.replacements.contains(path);
        if self.incoming.values().any(is_held) {
            self.touched.insert(path.clone());
        }
    }

    /// Sees every transaction before it is made.
    pub(super) fn committing(&mut self, effects: &[Effect]) {
        let commits = effects.iter().filter_map(|effect| match effect {
            Effect::Commit(changes) => Some(changes),
            _ => None,
        });
        for change in commits.flatten() {
            match change {
                Change::Have { path, .. } | Change::Wants { path, .. } | Change::Lost { path } => self.touch(path),
                Change::Forget(_) => self.recall = self.recall.max(Some(Recall::Holds)),
                _ => {}
            }
        }
    }

    /// A person let everything happen that was held.
    pub(super) fn approved(&mut self) {
        for incoming in self.incoming.values_mut() {
            (incoming.deletions, incoming.replacements) = (Held::default(), Held::default());
            (incoming.deleted, incoming.replaced) = (Lately::default(), PathsLately::default());
            incoming.sweep = None;
        }
    }

    /// A person took everything back. What was held is recorded as ours, and so is no longer held.
    pub(super) fn rejected(&mut self) {
        for incoming in self.incoming.values_mut() {
            incoming.replaced = PathsLately::default();
        }
    }

    /// A content came where it did not stand: somebody's deletion of it was a move.
    fn came(&mut self, now: Timestamp, content: ContentHash, path: &RelPath) {
        for incoming in self.incoming.values_mut() {
            if take_one(&mut incoming.unpaired, &content) {
                incoming.counted -= 1;
                return;
            }
        }
        self.arrived.add(now, content, path);
    }

    fn deletes(&mut self, id: DeviceId, standing: Option<&Entry>) {
        let incoming = self.incoming.entry(id).or_default();
        if let Some(file) = standing.and_then(|entry| entry.content.file()) {
            *incoming.unpaired.entry(file.hash).or_default() += 1;
        }
        incoming.counted += 1;
    }
}

/// The rule for deletions, on either end: `files` at once after `lately` in the window, of `live` that there are.
pub(super) fn too_many(files: u64, lately: u64, live: u64) -> bool {
    let all = files >= live && live >= GUARD_ALL_MIN;
    all || files + lately > GUARD_MIN.max((live + lately) / 2)
}
