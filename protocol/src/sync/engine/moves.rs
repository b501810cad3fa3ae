//! Moves among what peers announce: a file that goes at one path and comes with the same content at another.
//! Only hints, kept in memory: without them the content is copied or fetched, and nothing is lost.

use super::around::Surroundings;
use super::{Engine, View};
use crate::model::{ContentHash, Entry, RelPath};
use crate::sync::decide::{Draft, Plan, is_open};
use crate::sync::local::{Have, LocalRow};
use crate::sync::plan::Step;
use std::collections::BTreeMap;

/// Contents remembered, going and coming each.
const MOVES_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Live files here that a peer deleted.
    going: BTreeMap<ContentHash, RelPath>,
    /// Files that a peer made where nothing stands here.
    coming: BTreeMap<ContentHash, RelPath>,
}

impl Moves {
    /// A row of a peer was recorded as wanted.
    pub(super) fn wanted(&mut self, path: &RelPath, known: &LocalRow, entry: &Entry) {
        let standing = known.entry().filter(|have| have.is_live());
        match (standing, entry.content.file()) {
            (Some(have), None) if !entry.is_live() => {
                if let Some(file) = have.content.file().filter(|_| self.going.len() < MOVES_MAX) {
                    self.going.insert(file.hash, path.clone());
                }
            }
            (None, Some(file)) if self.coming.len() < MOVES_MAX => {
                self.coming.insert(file.hash, path.clone());
            }
            _ => {}
        }
    }

    /// A move was tried; it is not tried again.
    pub(super) fn tried(&mut self, from: &RelPath, entry: &Entry) {
        if let Some(file) = entry.content.file()
            && self.going.get(&file.hash) == Some(from)
        {
            self.going.remove(&file.hash);
        }
    }

    pub(super) fn clear(&mut self) {
        self.going.clear();
        self.coming.clear();
    }
}

impl Engine {
    /// The old path of a move to `draft`'s: a live file of its content that a peer deleted, undisturbed here.
    pub(super) fn move_source(&self, draft: &Draft, view: View<'_>) -> Option<(RelPath, Have, Draft)> {
        if draft.expected.as_ref().is_some_and(|have| have.entry.is_live()) {
            return None;
        }
        let content = draft.entry.content.file()?;
        let from = self.pump.moves.going.get(&content.hash).filter(|from| **from != draft.path)?;
        if self.pump.is_in_flight(from) {
            return None;
        }
        let row = view.rows.get(from);
        let have = row.have.clone().filter(|have| have.entry.content.same(&draft.entry.content))?;
        // Its event comes after the one the create may use.
        let mut event = self.next_event();
        event.counter += 1;
        match self.plan(from, &row, event, view)?.1 {
            Plan::Do(source) if source.step == Step::Remove && source.path == *from && row.local.is_none() => {
                Some((from.clone(), have, source))
            }
            _ => None,
        }
    }

    /// A file that is to go while its content is about to come at another path: the create will take it along. What
    /// is not going to come here after all holds up nothing.
    pub(super) fn is_about_to_move(&self, draft: &Draft, view: View<'_>) -> bool {
        let standing = draft.expected.as_ref().filter(|_| draft.step == Step::Remove);
        let Some(file) = standing.and_then(|have| have.entry.content.file()) else {
            return false;
        };
        let moves = &self.pump.moves;
        let Some(to) = moves.coming.get(&file.hash).filter(|to| **to != draft.path) else {
            return false;
        };
        let row = view.rows.get(to);
        let around = Surroundings { engine: self, view };
        let comes = |entry: &Entry| entry.content.file().is_some_and(|coming| coming.hash == file.hash);
        // A directory above it may be what cannot be made, perhaps for the very file that is to go.
        let mut ways = std::iter::successors(Some(to.clone()), RelPath::parent);
        moves.going.get(&file.hash) == Some(&draft.path)
            && !row.is_live()
            && !ways.any(|way| self.pump.is_retried(&way))
            && row
                .wants
                .iter()
                .any(|want| want.declined.is_none() && comes(&want.entry) && is_open(&around, &row, want))
    }
}
