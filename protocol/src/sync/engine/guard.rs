//! What a peer may take away in a short time: deletions by the sender's own rule, replacements by a larger one. What
//! goes beyond is declined as waiting and stays as it is until a person answers. Deletions of a peer wait until all
//! that it announced has been read, so that a mass deletion is held whole and not from its middle on.

use super::deletions::{GUARD_ALL_MIN, GUARD_MIN, GUARD_WINDOW, live_files};
use super::{Alarm, Effect, Engine, HeldWhat, Hold, View};
use crate::model::{Content, DeviceId, Entry, RelPath, Timestamp};
use crate::sync::local::{Change, Decline, DeclineCode, LocalRow, Want};
use crate::sync::reconcile::{Decision, reconcile};
use std::collections::{BTreeMap, VecDeque};

/// Wanted rows read at a time.
const PAGE: usize = 512;
/// Paths named in a hold.
const SAMPLE_MAX: usize = 10;

/// What a peer's entry does to a file or link that stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Deletes,
    Replaces,
    /// A directory goes: not counted, but held with what was in it.
    Directory,
}

/// How many changes lately, each with its time.
#[derive(Debug, Default)]
struct Lately(VecDeque<(Timestamp, u64)>);

impl Lately {
    fn add(&mut self, now: Timestamp, count: u64) {
        match self.0.back_mut() {
            Some((at, total)) if *at == now => *total += count,
            _ if count > 0 => self.0.push_back((now, count)),
            _ => {}
        }
    }

    fn sum(&mut self, now: Timestamp) -> u64 {
        while self.0.front().is_some_and(|(at, _)| now.since(*at) > GUARD_WINDOW) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, count)| count).sum()
    }
}

#[derive(Debug, Default)]
struct Held {
    files: u64,
    of: u64,
    sample: Vec<RelPath>,
}

#[derive(Debug, Default)]
struct Incoming {
    /// Deletions heard while its index was not read to the end.
    counted: u64,
    deleted: Lately,
    replaced: Lately,
    /// Nothing of it takes anything away until a person answers.
    holds: bool,
    deletions: Held,
    replacements: Held,
}

/// One per engine.
#[derive(Debug, Default)]
pub(super) struct Guard {
    incoming: BTreeMap<DeviceId, Incoming>,
    /// A device whose wants are being put on hold, and how far that has come.
    sweeping: Option<(DeviceId, Option<RelPath>)>,
}

impl Guard {
    /// Deletions of these devices are still being counted.
    pub(super) fn is_counting(&self, sources: &[DeviceId]) -> bool {
        sources.iter().any(|id| self.incoming.get(id).is_some_and(|incoming| incoming.counted > 0))
    }

    pub(super) fn held(&self) -> Vec<Hold> {
        let hold = |what, peer: &DeviceId, held: &Held| Hold {
            what,
            peer: Some(*peer),
            files: held.files,
            of: held.of,
            sample: held.sample.clone(),
        };
        let both = |(peer, incoming): (&DeviceId, &Incoming)| {
            let deletions = hold(HeldWhat::DeletionsThere, peer, &incoming.deletions);
            [deletions, hold(HeldWhat::ReplacementsThere, peer, &incoming.replacements)]
        };
        self.incoming.iter().flat_map(both).filter(|hold| hold.files > 0).collect()
    }

    /// A person answered.
    pub(super) fn answered(&mut self) {
        self.incoming.clear();
        self.sweeping = None;
    }

    fn hold(&mut self, id: DeviceId, path: &RelPath, loss: Loss, of: u64) -> Decline {
        let incoming = self.incoming.entry(id).or_default();
        let (held, words) = match loss {
            Loss::Deletes => (&mut incoming.deletions, "its deletion"),
            Loss::Replaces => (&mut incoming.replacements, "its new content"),
            Loss::Directory => return waiting("its deletion"),
        };
        held.files += 1;
        held.of = held.of.max(of);
        if held.sample.len() < SAMPLE_MAX {
            held.sample.push(path.clone());
        }
        waiting(words)
    }
}

fn waiting(what: &str) -> Decline {
    let words = format!("{what} came with very many others and waits for approval");
    Decline { code: DeclineCode::WaitingForApproval, words }
}

impl Engine {
    /// What a want takes away here.
    fn loss(&self, row: &LocalRow, theirs: &Entry) -> Option<Loss> {
        let ours = row.entry().filter(|entry| entry.is_live())?;
        let decision = reconcile(Some(ours), theirs, &self.config.rules);
        let after = match &decision {
            Decision::Nothing => return None,
            Decision::Take => &theirs.content,
            Decision::Adopt(entry) => &entry.content,
            // The loser of a conflict is set aside.
            Decision::Write { set_aside: true, .. } => return None,
            Decision::Write { merged, .. } => &merged.content,
        };
        match (&ours.content, after) {
            (Content::Directory, Content::Directory) => None,
            (Content::Directory, _) => Some(Loss::Directory),
            (_, Content::Tombstone) => Some(Loss::Deletes),
            (ours, after) => (!ours.same(after)).then_some(Loss::Replaces),
        }
    }

    /// Counts an entry that was just heard; what holds it, if its device is held.
    pub(super) fn guarded(
        &mut self,
        now: Timestamp,
        id: DeviceId,
        path: &RelPath,
        known: &LocalRow,
        entry: &Entry,
        view: View<'_>,
    ) -> Option<Decline> {
        let heard = known.wants.iter().any(|want| want.entry.version == entry.version);
        if !self.config.guard || heard {
            return None;
        }
        let loss = self.loss(known, entry)?;
        let moved = || known.entry().is_some_and(|ours| self.pump.moves.comes_elsewhere(ours, path));
        if loss == Loss::Deletes && moved() {
            return None;
        }
        let live = live_files(view);
        let incoming = self.guard.incoming.entry(id).or_default();
        if !incoming.holds {
            match loss {
                Loss::Deletes => incoming.counted += 1,
                Loss::Replaces => {
                    incoming.replaced.add(now, 1);
                    incoming.holds = incoming.replaced.sum(now) > GUARD_MIN.max(live / 10 * 9);
                }
                Loss::Directory => {}
            }
            if !incoming.holds {
                return None;
            }
            self.guard.sweeping = Some((id, None));
        }
        Some(self.guard.hold(id, path, loss, live))
    }

    /// A device has been read to the end, or went away: its deletions go on, or are held all together.
    pub(super) fn count_deletions(&mut self, now: Timestamp, id: DeviceId, view: View<'_>) {
        let Some(incoming) = self.guard.incoming.get_mut(&id).filter(|incoming| incoming.counted > 0) else {
            return;
        };
        let counted = std::mem::take(&mut incoming.counted);
        let (lately, live) = (incoming.deleted.sum(now), live_files(view));
        if too_many(counted, lately, live) {
            incoming.holds = true;
            self.guard.sweeping = Some((id, None));
        } else {
            incoming.deleted.add(now, counted);
        }
        self.pump.more_is_known();
    }

    /// Puts what a device takes away on hold, a page at a time. Nothing else is dispatched meanwhile.
    pub(super) fn sweep(&mut self, view: View<'_>) -> Vec<Effect> {
        while let Some((id, after)) = self.guard.sweeping.take() {
            let page = view.rows.wanted(after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else {
                let held = self.guard.held().into_iter().filter(|hold| hold.peer == Some(id));
                return held.map(|hold| Effect::Alarm(Alarm::Held(hold))).collect();
            };
            self.guard.sweeping = Some((id, Some(last.clone())));
            let live = live_files(view);
            let changes: Vec<Change> =
                page.into_iter().filter_map(|(path, row)| self.hold_row(id, path, row, live)).collect();
            if !changes.is_empty() {
                return vec![Effect::Commit(changes)];
            }
        }
        Vec::new()
    }

    fn hold_row(&mut self, id: DeviceId, path: RelPath, row: LocalRow, live: u64) -> Option<Change> {
        let mut wants = row.wants.clone();
        let mut changed = false;
        for want in wants.iter_mut().filter(|want| want.declined.is_none() && want.sources.contains(&id)) {
            if let Some(loss) = self.loss(&row, &want.entry) {
                let decline = self.guard.hold(id, &path, loss, live);
                self.declines(&path, &want.entry.version, Some(&decline));
                want.declined = Some(decline);
                changed = true;
            }
        }
        changed.then_some(Change::Wants { path, wants })
    }

    /// After a start: what was held stays held, and what was not decided yet is counted anew.
    pub(super) fn recall_holds(&mut self, now: Timestamp, view: View<'_>) {
        let mut after = None;
        let live = live_files(view);
        loop {
            let page = view.rows.wanted(after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else {
                break;
            };
            after = Some(last.clone());
            for (path, row) in page {
                for want in &row.wants {
                    self.recall(&path, &row, want, live);
                }
            }
        }
        let devices: Vec<DeviceId> = self.guard.incoming.keys().copied().collect();
        for id in devices {
            self.count_deletions(now, id, view);
        }
    }

    fn recall(&mut self, path: &RelPath, row: &LocalRow, want: &Want, live: u64) {
        let (Some(id), Some(loss)) = (want.sources.first().copied(), self.loss(row, &want.entry)) else {
            return;
        };
        match want.declined.as_ref().map(|decline| decline.code) {
            Some(DeclineCode::WaitingForApproval) => {
                self.guard.hold(id, path, loss, live);
                self.guard.incoming.entry(id).or_default().holds = true;
            }
            None if loss == Loss::Deletes => self.guard.incoming.entry(id).or_default().counted += 1,
            _ => {}
        }
    }

    /// A newer entry took the place of one that was held.
    pub(super) fn no_longer_held(&mut self, row: &LocalRow, next: &[Want]) {
        for want in &row.wants {
            let is_held = want.declined.as_ref().is_some_and(|why| why.code == DeclineCode::WaitingForApproval);
            let stays = next.iter().any(|other| other.entry.version == want.entry.version);
            let Some(incoming) = want.sources.iter().find(|id| self.guard.incoming.contains_key(id)) else {
                continue;
            };
            if !is_held || stays {
                continue;
            }
            let loss = self.loss(row, &want.entry);
            let Some(incoming) = self.guard.incoming.get_mut(incoming) else {
                continue;
            };
            match loss {
                Some(Loss::Deletes) => incoming.deletions.files = incoming.deletions.files.saturating_sub(1),
                Some(Loss::Replaces) => incoming.replacements.files = incoming.replacements.files.saturating_sub(1),
                _ => {}
            }
            if incoming.deletions.files == 0 && incoming.replacements.files == 0 {
                incoming.holds = false;
            }
        }
    }
}

/// The rule for deletions, on either end: `files` at once after `lately` in the window, of `live` that there are.
pub(super) fn too_many(files: u64, lately: u64, live: u64) -> bool {
    let all = files >= live && live >= GUARD_ALL_MIN;
    all || files + lately > GUARD_MIN.max((live + lately) / 2)
}
