//! A device's database as its shell sees it: rows, transactions, and what a power cut leaves of them. Without a flaw
//! every call goes straight through to the database underneath.

use super::flaw::Flaw;
use protocol::model::{Content, DeviceId, Digest, FileContent, Manifest, RelPath, ReplicaId, Row, Sequence};
use protocol::sync::{Change, Cursor, FolderState, Have, Held, Installing, Journal, LocalRow, Observed, Rows};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use syncd::disk::sim_journal::{CommitPoint, MemJournal};

/// Called before and after every transaction; may crash the process.
pub type Hook = Box<dyn FnMut(CommitPoint) + Send>;

/// One device's database.
pub struct Database {
    under: MemJournal,
    flaw: Option<Flaw>,
    /// Before the last transaction.
    before_last: Mutex<Option<MemJournal>>,
}

impl Database {
    /// An empty one of a new replica.
    #[must_use]
    pub fn new(replica: ReplicaId, flaw: Option<Flaw>) -> Self {
        Self { under: MemJournal::new(replica), flaw, before_last: Mutex::new(None) }
    }

    /// A copy that goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { under: self.under.fork(), flaw: self.flaw, before_last: Mutex::new(None) }
    }

    /// Its flaw.
    #[must_use]
    pub const fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// See `Hook`.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.under.set_hook(hook);
    }

    /// Every row, also of tombstones and of wants alone.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<RelPath, LocalRow> {
        self.under.rows()
    }

    /// The process ends, perhaps with the power.
    pub fn end(&mut self, power: bool) {
        self.under.set_hook(None);
        let before = self.before_last.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before.filter(|_| power) {
            self.under = before;
        }
    }

    /// What a daemon with that flaw does before it settles anything.
    pub fn start(&self) {
        let drops = match self.flaw {
            Some(Flaw::Recovery) => self.installing().into_iter().map(|row| Change::Installed(row.id)).collect(),
            Some(Flaw::Tombstones) => {
                let rows = self.rows().into_iter().filter(|(_, row)| row.have.is_some() && !row.is_live());
                rows.map(|(path, _)| Change::Lost { path }).collect()
            }
            _ => Vec::new(),
        };
        if !drops.is_empty() {
            self.under.commit(drops);
        }
    }

    /// The changes as a flawed shell would write them.
    fn flawed(&self, changes: Vec<Change>) -> Vec<Change> {
        let written = |change: Change| match (self.flaw, change) {
            (Some(Flaw::Installing), Change::Installing(_))
            | (Some(Flaw::Held), Change::Held(_))
            | (Some(Flaw::Counter), Change::Counter(_)) => None,
            (Some(Flaw::RenameFirst), Change::Installing(row)) => Some(recorded(row)),
            (Some(Flaw::Racy), Change::Have { path, have }) => {
                Some(Change::Have { path, have: Have { racy: false, ..have } })
            }
            (Some(Flaw::Racy), Change::Seen { path, fingerprint, .. }) => {
                Some(Change::Seen { path, fingerprint, racy: false })
            }
            (_, change) => Some(change),
        };
        changes.into_iter().filter_map(written).collect()
    }
}

/// An action as if it had been carried out.
fn recorded(row: Installing) -> Change {
    let fingerprint = row.expected.as_ref().and_then(|have| have.fingerprint).filter(|_| row.entry.is_live());
    let racy = matches!(row.entry.content, Content::File(_));
    Change::Have { path: row.path, have: Have { entry: row.entry, fingerprint, racy } }
}

impl Rows for Database {
    fn get(&self, path: &RelPath) -> LocalRow {
        self.under.get(path)
    }

    fn live_below(&self, dir: &RelPath) -> Option<RelPath> {
        self.under.live_below(dir)
    }

    fn children(&self, dir: Option<&RelPath>) -> Vec<(RelPath, Have)> {
        self.under.children(dir)
    }

    fn below(&self, dir: Option<&RelPath>, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Have)> {
        self.under.below(dir, after, limit)
    }

    fn wanted(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        self.under.wanted(after, limit)
    }

    fn wanted_reversed(&self, before: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        self.under.wanted_reversed(before, limit)
    }

    fn since(&self, after: Sequence, limit: usize) -> Vec<(Sequence, Row)> {
        self.under.since(after, limit)
    }

    fn state(&self) -> FolderState {
        self.under.state()
    }

    fn cursor(&self, peer: &DeviceId) -> Option<Cursor> {
        self.under.cursor(peer)
    }

    fn manifest(&self, content: &FileContent) -> Option<Manifest> {
        self.under.manifest(content)
    }

    fn holders(&self, content: &FileContent, limit: usize) -> Vec<RelPath> {
        self.under.holders(content, limit)
    }

    fn effective_digest(&self, peer: &DeviceId) -> Digest {
        self.under.effective_digest(peer)
    }

    fn declines_others(&self, peer: &DeviceId) -> bool {
        self.under.declines_others(peer)
    }

    fn locals(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Observed)> {
        self.under.locals(after, limit)
    }
}

impl Journal for Database {
    fn commit(&self, changes: Vec<Change>) {
        if self.flaw == Some(Flaw::DurableFirst) {
            *self.before_last.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.under.fork());
        }
        let mut changes = self.flawed(changes);
        if self.flaw == Some(Flaw::OneTransaction) && changes.len() > 1 {
            let rest = changes.split_off(changes.len() / 2);
            self.under.commit(changes);
            changes = rest;
        }
        self.under.commit(changes);
    }

    fn installing(&self) -> Vec<Installing> {
        self.under.installing()
    }

    fn held(&self) -> Vec<Held> {
        self.under.held()
    }
}
