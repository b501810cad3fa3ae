//! The latest changes of a folder, in memory: what `syncctl log` shows. Bounded; the truth is in the index.

use protocol::model::{Content, Entry, RelPath, ReplicaId};
use protocol::sync::{Action, ActionId, Outcome, Step};
use std::collections::{BTreeMap, VecDeque};

/// Changes remembered.
const LOG_MAX: usize = 1000;

/// How a path changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Not there before.
    Added,
    /// Other content.
    Changed,
    /// Other mode or time.
    Touched,
    /// Gone.
    Deleted,
    /// Came from another path.
    Moved,
    /// A conflict copy.
    Conflict,
}

impl What {
    pub(super) fn of_local(entry: &Entry) -> Self {
        match entry.content {
            Content::Tombstone => Self::Deleted,
            _ if entry.version.iter().count() == 1 && entry.ancestors.is_empty() => Self::Added,
            _ => Self::Changed,
        }
    }
}

/// One change.
#[derive(Clone, Debug)]
pub struct Record {
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Where.
    pub path: RelPath,
    /// How.
    pub what: What,
    /// Made on this device.
    pub local: bool,
    /// The replica that wrote it, when it came from elsewhere.
    pub by: Option<ReplicaId>,
    /// Of a file.
    pub bytes: Option<u64>,
}

/// The ring.
#[derive(Debug)]
pub(super) struct ChangeLog {
    records: VecDeque<Record>,
    under_way: BTreeMap<ActionId, Record>,
    clock: fn() -> u64,
}

impl ChangeLog {
    pub(super) const fn new(clock: fn() -> u64) -> Self {
        Self { records: VecDeque::new(), under_way: BTreeMap::new(), clock }
    }

    pub(super) fn add(&mut self, what: What, path: &RelPath, entry: &Entry, publish: impl Fn(&Record)) {
        let bytes = entry.content.file().map(|file| file.size);
        self.push(Record { time_ms: (self.clock)(), path: path.clone(), what, local: true, by: None, bytes }, publish);
    }

    pub(super) fn applying(&mut self, actions: &[Action]) {
        self.under_way.clear();
        for action in actions {
            let standing = action.expected.as_ref().is_some_and(|have| have.entry.is_live());
            let what = match action.step {
                Step::Remove => What::Deleted,
                Step::SetMetadata => What::Touched,
                Step::MoveFrom { .. } => What::Moved,
                Step::Record => continue,
                _ if is_conflict_copy(&action.path) && !standing => What::Conflict,
                _ if standing => What::Changed,
                _ => What::Added,
            };
            let record = Record {
                time_ms: 0,
                path: action.path.clone(),
                what,
                local: false,
                by: action.entry.content_at.iter().last().map(|event| event.replica),
                bytes: action.entry.content.file().map(|file| file.size),
            };
            self.under_way.insert(action.id, record);
        }
    }

    pub(super) fn applied(&mut self, outcomes: &[(ActionId, Outcome)], publish: impl Fn(&Record)) {
        for (id, outcome) in outcomes {
            if let Some(mut record) = self.under_way.remove(id)
                && *outcome == Outcome::Done
            {
                record.time_ms = (self.clock)();
                self.push(record, &publish);
            }
        }
    }

    fn push(&mut self, record: Record, publish: impl Fn(&Record)) {
        publish(&record);
        if self.records.len() >= LOG_MAX {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Newest first.
    pub(super) fn latest(&self) -> Vec<Record> {
        self.records.iter().rev().cloned().collect()
    }
}

/// For words only: nothing is ever decided by a name.
fn is_conflict_copy(path: &RelPath) -> bool {
    path.name().windows(15).any(|part| part == b".sync-conflict-")
}
