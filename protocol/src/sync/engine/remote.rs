//! What peers announce: rows become wants, digests are compared, declines are kept or taken back.

use super::around::all_wanted;
use super::compare::compared;
use super::guard::Guard;
use super::readers::is_refused;
use super::{Alarm, Declined, DigestWords, Effect, Engine, FolderMode, IndexBatch, View};
use crate::limits::DECLINED_MAX;
use crate::model::{DeviceId, Entry, RelPath, Row, Sequence, Timestamp};
use crate::sync::local::{Change, Cursor, Decline, DeclineCode, LocalRow, Want};
use crate::sync::reconcile::{Decision, Rules, is_fork, reconcile, says_more};

/// Local findings in one page when all of them are gone through.
const PAGE: usize = 512;
/// Most concurrent wants kept for one path: one per device that edited it unseen by the others.
const WANTS_PER_PATH_MAX: usize = 64;

impl Engine {
    pub(super) fn index_received(
        &mut self,
        now: Timestamp,
        id: DeviceId,
        batch: IndexBatch,
        view: View<'_>,
    ) -> Vec<Effect> {
        let Some(replica) = self.peers.get(&id).map(|peer| peer.replica) else {
            return Vec::new();
        };
        let at = self.cursor(&id, replica, view.rows);
        if batch.replica != replica || batch.from > at {
            // A gap, or a replica that we do not know yet: ask again from where we are.
            return vec![Effect::IndexGet { peer: id, replica, from: at }];
        }
        if batch.rows.iter().any(|row| self.is_made_elsewhere(row, view)) {
            return self.went_back(id);
        }
        let mut effects = Vec::new();
        let mut changes = Vec::new();
        for row in batch.rows {
            self.row_received(now, id, row, &mut changes, &mut effects, view);
        }
        let sequence = at.max(batch.to);
        if sequence > at || view.rows.cursor(&id).is_none_or(|cursor| cursor.replica != replica) {
            changes.push(Change::Cursor { peer: id, cursor: Cursor { replica, sequence } });
            changes.extend(self.remembers(id, replica, sequence));
        }
        if !changes.is_empty() {
            effects.insert(0, Effect::Commit(changes));
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.head = Some(batch.head.max(batch.to));
        }
        // What was refused of these very rows; nothing as a rule.
        let refused = std::mem::take(&mut self.refused);
        let told = refused.chunks(DECLINED_MAX).map(<[Declined]>::to_vec);
        let told = told.chain(refused.is_empty().then(Vec::new));
        effects.extend(told.map(|declined| Effect::IndexAck { peer: id, replica, sequence, declined }));
        self.pump.more_is_known();
        effects
    }

    fn row_received(
        &mut self,
        now: Timestamp,
        id: DeviceId,
        row: Row,
        changes: &mut Vec<Change>,
        effects: &mut Vec<Effect>,
        view: View<'_>,
    ) {
        let Row { path, entry } = row;
        // What it announces beside what it declined settles nothing.
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.declined.get(&path).is_some_and(|declined| declined.version.is_within(&entry.version))
        {
            peer.declined.remove(&path);
        }
        let known = view.rows.get(&path);
        if self.peers.get(&id).is_some_and(|peer| !peer.writes) {
            changes.extend(self.announced_by_reader(id, path, entry, &known));
            return;
        }
        if known.entry().is_some_and(|have| is_fork(have, &entry)) {
            effects.push(Effect::Alarm(Alarm::Fork { path: path.clone(), peer: id }));
        } else if !entry.version.is_news_to(known.entry()) && !known.entry().is_some_and(|have| says_more(have, &entry))
        {
            return;
        }
        let declined = self.declined_at_once(&path, &entry, view);
        let declined = declined.or_else(|| self.guarded(now, id, &path, &known, &entry));
        // Also what was declined of another peer before this one announced it.
        let is_it = |want: &&Want| want.entry.version == entry.version && !is_refused(want);
        let before = || known.wants.iter().find(is_it)?.declined.as_ref();
        if let Some(decline) = declined.as_ref().or_else(before) {
            self.declines(&path, &entry.version, Some(decline));
        }
        self.pump.wanted(&path, &known, &entry);
        if let Some(wants) = wants_with(&known, id, entry, declined, &self.config.rules) {
            changes.push(Change::Wants { path, wants });
        }
    }

    fn declined_at_once(&self, path: &RelPath, entry: &Entry, view: View<'_>) -> Option<Decline> {
        if self.config.mode == FolderMode::SendOnly {
            let words = "this device only sends in this folder".to_string();
            return Some(Decline { code: DeclineCode::SendOnly, words });
        }
        if view.disk.is_ignored(path, entry.content.is_directory()) {
            return Some(ignored());
        }
        None
    }

    pub(super) fn digest_received(&mut self, id: DeviceId, words: DigestWords, view: View<'_>) -> Vec<Effect> {
        let state = view.rows.state();
        let idle = self.is_idle(view.rows);
        let Some(replica) = self.peers.get(&id).map(|peer| peer.replica) else {
            return Vec::new();
        };
        let at = self.cursor(&id, replica, view.rows);
        let current = idle
            && words.idle
            && words.replica == replica
            && words.head == at
            && words.your_replica == self.replica
            && words.your_applied == state.head;
        if self.is_unknown_here(words.your_replica, words.your_applied, view) {
            return self.went_back(id);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return Vec::new();
        };
        let ours = compared(&id, peer, view.rows);
        let equal = words.digest == ours.digest;
        peer.digest = Some(words);
        if !current {
            return Vec::new();
        }
        if equal {
            peer.mismatches = 0;
            return Vec::new();
        }
        if !peer.writes {
            return self.reader_differs(id, view);
        }
        // Where each declines what the other has, each digest counts the other's: they differ, and nobody is wrong.
        let is_crossed = |path| view.rows.get(path).declined_from(&id).next().is_some();
        if ours.is_doubtful || ours.is_partial || peer.declined.keys().any(is_crossed) {
            return Vec::new();
        }
        peer.mismatches += 1;
        match peer.mismatches {
            1 => {
                peer.head = None;
                let cursor = Cursor { replica, sequence: Sequence(0) };
                vec![
                    Effect::Commit(vec![Change::Cursor { peer: id, cursor }]),
                    Effect::IndexGet { peer: id, replica, from: Sequence(0) },
                ]
            }
            2 => vec![Effect::Alarm(Alarm::Diverged { peer: id })],
            _ => Vec::new(),
        }
    }

    /// What another mode left behind is decided again: declines of a send-only folder, findings of a receive-only one.
    pub(super) fn started(&mut self, view: View<'_>) -> Vec<Effect> {
        let mut codes = Vec::new();
        if !self.config.guard {
            codes.push(DeclineCode::WaitingForApproval);
        }
        if self.config.mode != FolderMode::SendOnly {
            codes.push(DeclineCode::SendOnly);
        }
        let mut effects: Vec<Effect> = self.run_begins().into_iter().collect();
        effects.extend(self.undecline(&codes, view));
        if self.config.mode != FolderMode::ReceiveOnly {
            effects.extend(forget_locals(view));
        }
        self.pump.restart();
        effects
    }

    /// Switches the guard of a running engine. `None`, and nothing is changed, while something waits for a person: what
    /// becomes of that is decided by a start under the other rule.
    pub fn set_guard(&mut self, on: bool, view: View<'_>) -> Option<Vec<Effect>> {
        if on == self.config.guard {
            return Some(Vec::new());
        }
        if self.stale.is_some() || !self.held().is_empty() || self.restored.len() > 0 {
            return None;
        }
        self.config.guard = on;
        self.guard = Guard::new();
        let effects = if on { Vec::new() } else { self.undecline(&[DeclineCode::WaitingForApproval], view) };
        self.guard.committing(&effects);
        self.pump.restart();
        Some(effects)
    }

    /// Takes back every decline with one of these codes, so that the wants are decided again.
    pub(super) fn undecline(&mut self, codes: &[DeclineCode], view: View<'_>) -> Vec<Effect> {
        let mut changes = Vec::new();
        for (path, row) in all_wanted(view.rows) {
            let mut wants = row.wants;
            let mut changed = false;
            for want in &mut wants {
                if want.declined.as_ref().is_some_and(|decline| codes.contains(&decline.code)) {
                    want.declined = None;
                    changed = true;
                    self.declines(&path, &want.entry.version, None);
                }
            }
            if changed {
                changes.push(Change::Wants { path, wants });
            }
        }
        if changes.is_empty() {
            return Vec::new();
        }
        if codes.iter().any(|code| *code != DeclineCode::WaitingForApproval) {
            self.guard.count_anew();
        }
        vec![Effect::Commit(changes)]
    }

    /// Other ignore rules hold: what they match is declined, what they no longer match is decided again.
    pub(super) fn ignore_changed(&mut self, view: View<'_>) -> Vec<Effect> {
        self.pump.restart();
        let changes: Vec<Change> =
            all_wanted(view.rows).filter_map(|(path, row)| self.ignore_row(path, &row, view)).collect();
        if changes.is_empty() {
            return Vec::new();
        }
        self.guard.count_anew();
        vec![Effect::Commit(changes)]
    }

    fn ignore_row(&mut self, path: RelPath, row: &LocalRow, view: View<'_>) -> Option<Change> {
        let mut wants = row.wants.clone();
        for want in &mut wants {
            let code = want.declined.as_ref().map(|decline| decline.code);
            let is_matched = view.disk.is_ignored(&path, want.entry.content.is_directory());
            let declined = match code {
                None if is_matched => Some(ignored()),
                Some(DeclineCode::Ignored) if !is_matched => None,
                _ => continue,
            };
            self.declines(&path, &want.entry.version, declined.as_ref());
            want.declined = declined;
        }
        (wants != row.wants).then_some(Change::Wants { path, wants })
    }

    pub(super) fn approve_remote(&mut self, view: View<'_>) -> Vec<Effect> {
        self.guard.approved();
        self.pump.restart();
        self.undecline(&[DeclineCode::WaitingForApproval], view)
    }

    pub(super) fn reject_remote(&mut self, view: View<'_>) -> Vec<Effect> {
        self.guard.rejected();
        self.assert_ours(DeclineCode::WaitingForApproval, view)
    }

    /// What this device does not apply for `code` is overruled: our entries at the join and one event of ours.
    pub fn assert_ours(&mut self, code: DeclineCode, view: View<'_>) -> Vec<Effect> {
        let mut changes: Vec<Change> =
            all_wanted(view.rows).filter_map(|(path, row)| self.assert_row(path, row, code)).collect();
        if !changes.is_empty() {
            changes.push(Change::Counter(self.counter));
            return vec![Effect::Commit(changes)];
        }
        Vec::new()
    }

    /// Receive-only: what was done here goes to versions, and theirs comes back.
    pub fn revert(&mut self, view: View<'_>) -> Vec<Effect> {
        let sources: Vec<DeviceId> = self.peers.keys().copied().collect();
        let mut changes = Vec::new();
        let mut effects = Vec::new();
        let mut after = None;
        loop {
            let page = view.rows.locals(after.as_ref(), PAGE);
            let Some((last, _)) = page.last() else {
                break;
            };
            after = Some(last.clone());
            for (path, _) in page {
                let row = view.rows.get(&path);
                match row.entry().filter(|entry| entry.is_live()) {
                    Some(entry) => {
                        let mut wants = row.wants.clone();
                        wants.push(Want { entry: entry.clone(), sources: sources.clone(), declined: None });
                        self.pump.revert(&path);
                        changes.push(Change::Lost { path: path.clone() });
                        changes.push(Change::Wants { path, wants });
                    }
                    None => effects.push(Effect::SetAside { path }),
                }
            }
        }
        self.pump.restart();
        changes.extend(self.forget_refused(&mut effects, view));
        // Children before their directories, which must be empty to go.
        effects.reverse();
        if !changes.is_empty() {
            effects.insert(0, Effect::Commit(changes));
        }
        effects
    }

    fn assert_row(&mut self, path: RelPath, row: LocalRow, code: DeclineCode) -> Option<Change> {
        let is_held = |want: &&Want| want.declined.as_ref().is_some_and(|decline| decline.code == code);
        let theirs: Vec<_> = row.wants.iter().filter(is_held).collect();
        if theirs.is_empty() {
            return None;
        }
        let version = theirs.iter().fold(crate::model::Version::default(), |all, want| all.join(&want.entry.version));
        let event = self.take_event();
        let mut have = row.have.unwrap_or_else(|| nothing_here(&theirs[0].entry));
        have.entry.version = have.entry.version.join(&version).bumped(event);
        have.entry.content_at = crate::model::Version::of(event);
        have.entry.mode_at = crate::model::Version::of(event);
        Some(Change::Have { path, have })
    }
}

/// A tombstone for a path that only others have.
fn nothing_here(theirs: &Entry) -> crate::sync::Have {
    let entry = Entry {
        content: crate::model::Content::Tombstone,
        mode: crate::model::Mode::default(),
        mtime: crate::model::Mtime::default(),
        ancestors: theirs.ancestors_for(&crate::model::Content::Tombstone),
        ..theirs.clone()
    };
    crate::sync::Have { entry, fingerprint: None, racy: false }
}

/// The maximal wants of a path after `entry` was heard from `id`; `None` when nothing changes.
fn wants_with(
    known: &LocalRow,
    id: DeviceId,
    entry: Entry,
    declined: Option<Decline>,
    rules: &Rules,
) -> Option<Vec<Want>> {
    let mut wants = known.wants.clone();
    for want in wants.iter_mut().filter(|want| !is_refused(want)) {
        if want.entry.version == entry.version {
            let is_new = !want.sources.contains(&id);
            want.sources.extend(is_new.then_some(id));
            // The events behind equal values that met in another order there.
            if let Decision::Adopt(merged) = reconcile(Some(&want.entry), &entry, rules) {
                want.entry = merged;
                return Some(wants);
            }
            return is_new.then_some(wants);
        }
        if entry.version.is_within(&want.entry.version) {
            return None;
        }
    }
    wants.retain(|want| !want.entry.version.is_within(&entry.version));
    if wants.iter().filter(|want| !is_refused(want)).count() < WANTS_PER_PATH_MAX {
        wants.push(Want { entry, sources: vec![id], declined });
    }
    Some(wants)
}

fn ignored() -> Decline {
    Decline { code: DeclineCode::Ignored, words: "an ignore rule of this device matches".to_string() }
}

/// The scan that follows finds what a receive-only folder had noted, and records it as changes.
fn forget_locals(view: View<'_>) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut after = None;
    loop {
        let page = view.rows.locals(after.as_ref(), PAGE);
        let Some((last, _)) = page.last() else {
            return effects;
        };
        after = Some(last.clone());
        let forget = |(path, _)| Change::Local { path, local: None };
        effects.push(Effect::Commit(page.into_iter().map(forget).collect()));
    }
}
