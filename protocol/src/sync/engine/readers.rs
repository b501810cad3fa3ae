//! Devices of the realm that only read. What one announces changes nothing here: it says what it has, and so what it can
//! serve. An entry of its own is refused, and it is told so. Refused entries are kept beside the wants, since the digest
//! of the device that announced them counts them; no decision about anything else sees them.

use super::around::all_wanted;
use super::{Declined, Effect, Engine, View};
use crate::model::{DeviceId, Entry, RelPath, Sequence};
use crate::sync::local::{Change, Cursor, Decline, DeclineCode, LocalRow, Want};
use std::collections::BTreeSet;

/// Whether a want is what a reader would like to have written.
pub(super) fn is_refused(want: &Want) -> bool {
    want.declined.as_ref().is_some_and(|decline| decline.code == DeclineCode::NotAWriter)
}

impl Engine {
    /// An entry that a reader announces.
    pub(super) fn announced_by_reader(
        &mut self,
        id: DeviceId,
        path: RelPath,
        entry: Entry,
        known: &LocalRow,
    ) -> Option<Change> {
        let mut wants = known.wants.clone();
        // It announces one entry of a path, in place of the one before.
        wants.retain(|want| !(is_refused(want) && want.sources == [id]));
        if entry.version.is_news_to(known.entry()) {
            let is_it = |want: &&mut Want| {
                !is_refused(want) && want.entry.version == entry.version && want.entry.same_fields(&entry)
            };
            if let Some(want) = wants.iter_mut().find(is_it) {
                let is_new = !want.sources.contains(&id);
                want.sources.extend(is_new.then_some(id));
            } else {
                let decline = refused();
                // To others it is nothing: they refuse it as well.
                let (version, code, words) = (entry.version.clone(), Some(decline.code), decline.words.clone());
                self.refused.push(Declined { path: path.clone(), version, code, words });
                wants.push(Want { entry, sources: vec![id], declined: Some(decline) });
            }
        }
        (wants != known.wants).then_some(Change::Wants { path, wants })
    }

    /// What was refused of a device that writes now: forgotten, to be heard again from the beginning of its index.
    pub(super) fn readmit(&self, id: DeviceId, view: View<'_>) -> Option<Effect> {
        self.peers.get(&id).filter(|peer| peer.writes)?;
        self.forget_claims(id, view).map(Effect::Commit)
    }

    /// A reader says that it holds something else. What it took back it announces no more, so all that was refused of it is
    /// forgotten and its index read once more; it is no alarm.
    pub(super) fn reader_differs(&mut self, id: DeviceId, view: View<'_>) -> Vec<Effect> {
        let claims = self.forget_claims(id, view);
        let (Some(peer), Some(claims)) = (self.peers.get_mut(&id), claims) else { return Vec::new() };
        peer.mismatches += 1;
        if peer.mismatches > 1 {
            return Vec::new();
        }
        peer.head = None;
        let (replica, from) = (peer.replica, Sequence(0));
        vec![Effect::Commit(claims), Effect::IndexGet { peer: id, replica, from }]
    }

    /// Without what was refused of a device, its index to be read from the beginning; `None` when nothing was.
    fn forget_claims(&self, id: DeviceId, view: View<'_>) -> Option<Vec<Change>> {
        let peer = self.peers.get(&id)?;
        let of_it = |want: &Want| is_refused(want) && want.sources == [id];
        let mut changes = Vec::new();
        for (path, row) in all_wanted(view.rows) {
            let wants: Vec<Want> = row.wants.iter().filter(|want| !of_it(want)).cloned().collect();
            if wants.len() < row.wants.len() {
                changes.push(Change::Wants { path, wants });
            }
        }
        if changes.is_empty() {
            return None;
        }
        let cursor = Cursor { replica: peer.replica, sequence: Sequence(0) };
        changes.push(Change::Cursor { peer: id, cursor });
        Some(changes)
    }

    /// What this device recorded before it heard that it only reads, and the others refuse: it goes to the versions, and what
    /// they have is heard again from the beginning.
    pub(super) fn forget_refused(&mut self, effects: &mut Vec<Effect>, view: View<'_>) -> Vec<Change> {
        let is_refused = |declined: &&Declined| declined.code == Some(DeclineCode::NotAWriter);
        let told = self.peers.values().flat_map(|peer| peer.declined.values()).filter(is_refused);
        let is_ours =
            |told: &&Declined| view.rows.get(&told.path).entry().is_some_and(|have| have.version == told.version);
        let refused: BTreeSet<RelPath> = told.filter(is_ours).map(|told| told.path.clone()).collect();
        if refused.is_empty() {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for (id, peer) in &mut self.peers {
            peer.declined.retain(|path, _| !refused.contains(path));
            let (replica, sequence) = (peer.replica, Sequence(0));
            changes.push(Change::Cursor { peer: *id, cursor: Cursor { replica, sequence } });
            effects.push(Effect::IndexGet { peer: *id, replica, from: sequence });
        }
        for path in refused {
            if view.rows.get(&path).is_live() {
                effects.push(Effect::SetAside { path: path.clone() });
            }
            changes.push(Change::Lost { path });
        }
        changes
    }
}

fn refused() -> Decline {
    Decline { code: DeclineCode::NotAWriter, words: "the device that changed it only reads".to_string() }
}
