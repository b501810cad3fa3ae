//! The guard at work: it counts what is heard, judges it before anything is dispatched, puts on hold what is too much
//! and lets go what no longer is.

use super::{Held, Incoming, Loss, Recall, Sweep, too_many};
use crate::model::{Content, DeviceId, Entry, RelPath, Timestamp};
use crate::sync::engine::around::all_wanted;
use crate::sync::engine::deletions::{GUARD_MIN, GUARD_WINDOW, live_files};
use crate::sync::engine::guard::Guard;
use crate::sync::engine::{Alarm, Effect, Engine, HeldWhat, View};
use crate::sync::local::{Change, Decline, DeclineCode, LocalRow, Want};
use crate::sync::reconcile::{Decision, reconcile};
use std::collections::BTreeSet;

/// Wanted rows read at a time; those of one page that are held make one transaction.
const PAGE: usize = 2048;

fn waiting(loss: Loss) -> Decline {
    let what = if loss == Loss::Replaces { "its new content" } else { "its deletion" };
    let words = format!("{what} came with very many others and waits for approval");
    Decline { code: DeclineCode::WaitingForApproval, words }
}

fn is_waiting(want: &Want) -> bool {
    want.declined.as_ref().is_some_and(|decline| decline.code == DeclineCode::WaitingForApproval)
}

fn is_of(want: &Want, id: DeviceId) -> bool {
    want.sources.first() == Some(&id)
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
    pub(in crate::sync::engine) fn guarded(
        &mut self,
        now: Timestamp,
        id: DeviceId,
        path: &RelPath,
        known: &LocalRow,
        entry: &Entry,
    ) -> Option<Decline> {
        if !self.config.guard || known.wants.iter().any(|want| entry.version.is_within(&want.entry.version)) {
            return None;
        }
        self.content_came(now, path, known, entry);
        let loss = self.loss(known, entry)?;
        let is_known = |want: &Want| is_of(want, id) && self.loss(known, &want.entry) == Some(loss);
        if !known.wants.iter().any(is_known) && !self.takes_away(now, id, path, known, loss) {
            return None;
        }
        let incoming = self.guard.incoming.entry(id).or_default();
        if !incoming.held(loss).on {
            return None;
        }
        incoming.hold(path, loss);
        Some(waiting(loss))
    }

    fn content_came(&mut self, now: Timestamp, path: &RelPath, known: &LocalRow, entry: &Entry) {
        let stands = known.entry().is_some_and(|ours| ours.content.same(&entry.content));
        if let Some(file) = entry.content.file().filter(|_| !stands) {
            self.guard.came(now, file.hash, path);
        }
    }

    /// False: it is half of a move.
    fn takes_away(&mut self, now: Timestamp, id: DeviceId, path: &RelPath, known: &LocalRow, loss: Loss) -> bool {
        let standing = known.entry().and_then(|ours| ours.content.file()).map(|file| file.hash);
        let guard = &mut self.guard;
        standing.inspect(|content| guard.arrived.left(content, path));
        match loss {
            Loss::Deletes if standing.is_some_and(|content| guard.arrived.pays(&content)) => return false,
            Loss::Deletes if guard.incoming.get(&id).is_some_and(|incoming| incoming.deletions.on) => {}
            Loss::Deletes => guard.deletes(id, known.entry()),
            Loss::Replaces => guard.incoming.entry(id).or_default().replaced.add(now, path),
            Loss::Directory => {}
        }
        true
    }

    /// Before anything is dispatched: what is to be held is declined, and what no longer is goes on.
    pub(in crate::sync::engine) fn keep_guard(&mut self, now: Timestamp, view: View<'_>) -> Vec<Effect> {
        if !self.config.guard {
            return Vec::new();
        }
        if let Some(recall) = self.guard.recall.take() {
            self.recall(now, recall, view);
        }
        let mut effects = self.recheck(view);
        if effects.is_empty() {
            self.judge(now, view);
            effects = self.sweep(view);
        }
        if effects.is_empty() { self.end_or_tell(view) } else { effects }
    }

    /// Rows that were held, after something was recorded there.
    fn recheck(&mut self, view: View<'_>) -> Vec<Effect> {
        let mut changes = Vec::new();
        for path in std::mem::take(&mut self.guard.touched) {
            self.guard.incoming.values_mut().flat_map(Incoming::both).for_each(|held| held.remove(&path));
            let row = view.rows.get(&path);
            let mut wants = row.wants.clone();
            for want in wants.iter_mut().filter(|want| is_waiting(want)) {
                match (self.loss(&row, &want.entry), want.sources.first()) {
                    (Some(loss), Some(id)) => self.guard.incoming.entry(*id).or_default().hold(&path, loss),
                    _ => self.release(&path, want),
                }
            }
            if wants != row.wants {
                changes.push(Change::Wants { path, wants });
            }
        }
        self.go_on(changes)
    }

    /// What is no longer held is decided again.
    fn go_on(&mut self, changes: Vec<Change>) -> Vec<Effect> {
        if changes.is_empty() {
            return Vec::new();
        }
        self.pump.restart();
        vec![Effect::Commit(changes)]
    }

    fn release(&mut self, path: &RelPath, want: &mut Want) {
        want.declined = None;
        self.declines(path, &want.entry.version, None);
    }

    /// Which devices took too much. Deletions are judged once its whole index is read, or once it has been away for
    /// as long as deletions count.
    fn judge(&mut self, now: Timestamp, view: View<'_>) {
        let is_suspect = |incoming: &Incoming| {
            incoming.counted > 0 || (!incoming.replacements.on && incoming.replaced.len() > GUARD_MIN)
        };
        for incoming in self.guard.incoming.values_mut().filter(|incoming| incoming.deletions.on) {
            incoming.settle();
        }
        let suspects = self.guard.incoming.iter().filter(|(_, incoming)| is_suspect(incoming));
        let suspects: Vec<DeviceId> = suspects.map(|(id, _)| *id).collect();
        for id in suspects {
            let is_read = if self.peers.contains_key(&id) { Some(self.is_read(&id, view.rows)) } else { None };
            let live = live_files(view);
            let Some(incoming) = self.guard.incoming.get_mut(&id) else {
                continue;
            };
            if incoming.replaced.len() > GUARD_MIN.max(live / 10 * 9) && !incoming.replacements.on {
                incoming.replacements.begin(live);
                incoming.sweep = Some(Sweep::default());
            }
            if incoming.counted > 0 && is_read.unwrap_or_else(|| now >= incoming.away.after(GUARD_WINDOW)) {
                let counted = incoming.settle();
                let lately = incoming.deleted.sum(now);
                if too_many(counted, lately, live) {
                    incoming.deletions.begin(live);
                    incoming.sweep = Some(Sweep::default());
                } else {
                    incoming.deleted.add(now, counted);
                }
                self.pump.more_is_known();
            }
        }
    }

    /// Puts what a device takes away on hold, a page at a time.
    fn sweep(&mut self, view: View<'_>) -> Vec<Effect> {
        let sweeping = |guard: &Guard| {
            guard.incoming.iter().find_map(|(id, incoming)| incoming.sweep.clone().map(|sweep| (*id, sweep)))
        };
        while let Some((id, Sweep { after })) = sweeping(&self.guard) {
            let page = view.rows.wanted(after.as_ref(), PAGE);
            let next = page.last().map(|(last, _)| Sweep { after: Some(last.clone()) });
            if let Some(incoming) = self.guard.incoming.get_mut(&id) {
                incoming.sweep = next;
            }
            let changes: Vec<Change> =
                page.into_iter().filter_map(|(path, row)| self.hold_row(id, path, row)).collect();
            if !changes.is_empty() {
                return vec![Effect::Commit(changes)];
            }
        }
        Vec::new()
    }

    fn hold_row(&mut self, id: DeviceId, path: RelPath, row: LocalRow) -> Option<Change> {
        let mut wants = row.wants.clone();
        for want in wants.iter_mut().filter(|want| want.declined.is_none() && is_of(want, id)) {
            let Some(loss) = self.loss(&row, &want.entry) else {
                continue;
            };
            let incoming = self.guard.incoming.entry(id).or_default();
            if !incoming.held(loss).on {
                continue;
            }
            incoming.hold(&path, loss);
            let decline = waiting(loss);
            self.declines(&path, &want.entry.version, Some(&decline));
            want.declined = Some(decline);
        }
        (wants != row.wants).then_some(Change::Wants { path, wants })
    }

    /// A hold without files is over, and directories that were to go with them are decided again. Of one that began
    /// a person is told.
    fn end_or_tell(&mut self, view: View<'_>) -> Vec<Effect> {
        let mut released = BTreeSet::new();
        let mut began = Vec::new();
        for (id, incoming) in &mut self.guard.incoming {
            let whats = [HeldWhat::DeletionsThere, HeldWhat::ReplacementsThere];
            for (held, what) in incoming.both().into_iter().zip(whats).filter(|(held, _)| held.on) {
                match held.hold(what, *id) {
                    None => released.extend(std::mem::take(held).directories.into_iter().map(|path| (path, *id))),
                    Some(hold) if !std::mem::replace(&mut held.told, true) => began.push(hold),
                    Some(_) => {}
                }
            }
        }
        let mut changes = Vec::new();
        for (path, id) in released {
            let mut wants = view.rows.get(&path).wants;
            let held = wants.iter_mut().filter(|want| is_waiting(want) && is_of(want, id));
            held.for_each(|want| self.release(&path, want));
            changes.push(Change::Wants { path, wants });
        }
        let mut effects = self.go_on(changes);
        effects.extend(began.into_iter().map(|hold| Effect::Alarm(Alarm::Held(hold))));
        effects
    }

    /// What is held stays held; with `All`, what is not judged yet is counted anew.
    fn recall(&mut self, now: Timestamp, what: Recall, view: View<'_>) {
        for incoming in self.guard.incoming.values_mut() {
            if what == Recall::All {
                incoming.settle();
                incoming.away = now;
            }
            for held in incoming.both() {
                held.on = false;
                held.files.clear();
                held.directories.clear();
            }
        }
        for (path, row) in all_wanted(view.rows) {
            for want in &row.wants {
                self.recall_want(now, what, &path, &row, want);
            }
        }
        let live = live_files(view);
        for incoming in self.guard.incoming.values_mut() {
            incoming.sweep = None;
            for held in incoming.both() {
                if held.on {
                    held.begin(live);
                } else {
                    *held = Held::default();
                }
            }
            // A crash may have come before all of it was put on hold.
            if incoming.both().iter().any(|held| held.on) {
                incoming.sweep = Some(Sweep::default());
            }
        }
    }

    fn recall_want(&mut self, now: Timestamp, what: Recall, path: &RelPath, row: &LocalRow, want: &Want) {
        let (Some(id), loss) = (want.sources.first().copied(), self.loss(row, &want.entry)) else {
            return;
        };
        match (want.declined.as_ref().map(|decline| decline.code), loss) {
            (Some(DeclineCode::WaitingForApproval), None) => {
                self.guard.touched.insert(path.clone());
            }
            (Some(DeclineCode::WaitingForApproval), Some(loss)) => {
                let incoming = self.guard.incoming.entry(id).or_default();
                incoming.hold(path, loss);
                let held = if loss == Loss::Replaces { &mut incoming.replacements } else { &mut incoming.deletions };
                held.on = true;
            }
            (None, loss) if what == Recall::All => {
                self.content_came(now, path, row, &want.entry);
                if loss == Some(Loss::Deletes) {
                    self.takes_away(now, id, path, row, Loss::Deletes);
                    self.guard.incoming.entry(id).or_default().away = now;
                }
            }
            _ => {}
        }
    }
}
