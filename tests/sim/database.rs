//! A device's database as its shell sees it: rows, transactions, and what a power cut leaves of them. Without a flaw
//! every call goes straight through to the database underneath.

use super::flaw::Flaw;
use super::rng::Rng;
use protocol::model::{Content, DeviceId, Digest, FileContent, Manifest, RelPath, ReplicaId, Row, RunId, Sequence};
use protocol::sync::{Change, Cursor, FolderState, Have, Held, History, Installing, Journal, LocalRow, Observed, Rows};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use syncd::disk::fs::sim::crash;
use syncd::disk::sim_journal::MemJournal;
use syncd::store::Store;
use syncd::store::sim::SimDisk;

/// Asked before and after every transaction, and within it where it is written: whether the process ends there.
pub type Hook = Box<dyn FnMut() -> bool + Send>;

/// Where the rows are.
enum Under {
    /// Plain maps, always durable.
    Maps(MemJournal),
    /// The real database on a disk that is killed and loses its power.
    Redb { disk: SimDisk, store: Option<Box<Store>> },
}

/// Transactions that a flawed database may lose.
const NOT_DURABLE_MAX: usize = 6;

/// One device's database.
pub struct Database {
    under: Under,
    hook: Arc<Mutex<Option<Hook>>>,
    flaw: Option<Flaw>,
    /// As it was before each of the last transactions, where a power cut may take them back.
    not_durable: Mutex<VecDeque<MemJournal>>,
}

impl Database {
    /// An empty one of a new replica. `real`: the database that syncd has.
    #[must_use]
    pub fn new(replica: ReplicaId, flaw: Option<Flaw>, real: bool) -> Self {
        let under = if real {
            let disk = SimDisk::default();
            let store = open(&disk, replica);
            Under::Redb { disk, store }
        } else {
            Under::Maps(MemJournal::new(replica))
        };
        Self { under, hook: Arc::default(), flaw, not_durable: Mutex::default() }
    }

    /// A copy that goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        let under = match &self.under {
            Under::Maps(maps) => Under::Maps(maps.fork()),
            Under::Redb { disk, .. } => {
                let disk = disk.fork();
                let store = open(&disk, self.state().replica);
                Under::Redb { disk, store }
            }
        };
        Self { under, hook: Arc::default(), flaw: self.flaw, not_durable: Mutex::default() }
    }

    /// Whether it is the database that syncd has.
    #[must_use]
    pub const fn is_real(&self) -> bool {
        matches!(self.under, Under::Redb { .. })
    }

    fn under(&self) -> &dyn Journal {
        match &self.under {
            Under::Maps(maps) => maps,
            Under::Redb { store, .. } => &**store.as_ref().expect("it is open but while the process ends"),
        }
    }

    /// Its flaw.
    #[must_use]
    pub const fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// See `Hook`.
    pub fn set_hook(&self, hook: Option<Hook>) {
        let within = hook.is_some().then(|| {
            let hook = Arc::clone(&self.hook);
            Box::new(move || asked(&hook)) as Hook
        });
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
        if let Under::Redb { disk, .. } = &self.under {
            disk.set_ends(within);
        }
    }

    /// Every row, also of tombstones and of wants alone.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<RelPath, LocalRow> {
        if let Under::Maps(maps) = &self.under {
            return maps.rows();
        }
        let known = self.since(Sequence(0), usize::MAX).into_iter().map(|(_, row)| row.path);
        let wanted = self.wanted(None, usize::MAX).into_iter().map(|(path, _)| path);
        let local = self.locals(None, usize::MAX).into_iter().map(|(path, _)| path);
        known.chain(wanted).chain(local).map(|path| (path.clone(), self.get(&path))).collect()
    }

    /// The process ends, perhaps with the power.
    pub fn end(&mut self, power: bool, rng: &mut Rng) {
        self.set_hook(None);
        let mut before = std::mem::take(&mut *self.not_durable.lock().unwrap_or_else(PoisonError::into_inner));
        match &mut self.under {
            Under::Maps(maps) => {
                let back = rng.below(before.len() + 1);
                if power && back > 0 {
                    *maps = before.remove(back - 1).expect("a number below its length");
                }
            }
            Under::Redb { disk, store } => {
                let next = if power { disk.power_cut(|n| rng.below(n)) } else { disk.kill() };
                // Its handle is dead by now: what it does at its end changes nothing.
                *store = None;
                *disk = next;
                *store = open(disk, ReplicaId([0; 8]));
            }
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
            self.write(drops);
        }
    }

    fn write(&self, changes: Vec<Change>) {
        self.may_end();
        self.under().commit(changes);
        self.may_end();
    }

    fn may_end(&self) {
        if asked(&self.hook) {
            crash();
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

fn asked(hook: &Mutex<Option<Hook>>) -> bool {
    hook.lock().unwrap_or_else(PoisonError::into_inner).as_mut().is_some_and(|hook| hook())
}

fn open(disk: &SimDisk, replica: ReplicaId) -> Option<Box<Store>> {
    let store = Store::open_on(disk, replica, |_| crash());
    Some(Box::new(store.expect("a database survives every power cut")))
}

/// An action as if it had been carried out.
fn recorded(row: Installing) -> Change {
    let fingerprint = row.expected.as_ref().and_then(|have| have.fingerprint).filter(|_| row.entry.is_live());
    let racy = matches!(row.entry.content, Content::File(_));
    Change::Have { path: row.path, have: Have { entry: row.entry, fingerprint, racy } }
}

impl Rows for Database {
    fn get(&self, path: &RelPath) -> LocalRow {
        self.under().get(path)
    }

    fn live_below(&self, dir: &RelPath) -> Option<RelPath> {
        self.under().live_below(dir)
    }

    fn children(&self, dir: Option<&RelPath>) -> Vec<(RelPath, Have)> {
        self.under().children(dir)
    }

    fn below(&self, dir: Option<&RelPath>, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Have)> {
        self.under().below(dir, after, limit)
    }

    fn wanted(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        self.under().wanted(after, limit)
    }

    fn wanted_reversed(&self, before: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        self.under().wanted_reversed(before, limit)
    }

    fn since(&self, after: Sequence, limit: usize) -> Vec<(Sequence, Row)> {
        self.under().since(after, limit)
    }

    fn state(&self) -> FolderState {
        self.under().state()
    }

    fn cursor(&self, peer: &DeviceId) -> Option<Cursor> {
        self.under().cursor(peer)
    }

    fn history(&self) -> History {
        self.under().history()
    }

    fn remembered(&self, peer: &DeviceId, replica: ReplicaId) -> Option<(RunId, Sequence)> {
        self.under().remembered(peer, replica)
    }

    fn manifest(&self, content: &FileContent) -> Option<Manifest> {
        self.under().manifest(content)
    }

    fn holders(&self, content: &FileContent, limit: usize) -> Vec<RelPath> {
        self.under().holders(content, limit)
    }

    fn effective_digest(&self, peer: &DeviceId) -> Digest {
        self.under().effective_digest(peer)
    }

    fn declines_others(&self, peer: &DeviceId) -> bool {
        self.under().declines_others(peer)
    }

    fn locals(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Observed)> {
        self.under().locals(after, limit)
    }
}

impl Journal for Database {
    fn commit(&self, changes: Vec<Change>) {
        if self.flaw == Some(Flaw::DurableFirst)
            && let Under::Maps(maps) = &self.under
        {
            let mut before = self.not_durable.lock().unwrap_or_else(PoisonError::into_inner);
            before.push_front(maps.fork());
            before.truncate(NOT_DURABLE_MAX);
        }
        let mut changes = self.flawed(changes);
        if self.flaw == Some(Flaw::OneTransaction) && changes.len() > 1 {
            let rest = changes.split_off(changes.len() / 2);
            self.write(changes);
            changes = rest;
        }
        self.write(changes);
    }

    fn installing(&self) -> Vec<Installing> {
        self.under().installing()
    }

    fn held(&self) -> Vec<Held> {
        self.under().held()
    }
}
