//! A device's disk in either profile, and what its shell does with it: scans, looks and batches.

use super::database::Database;
use super::oracle::Identity;
use super::rng::Rng;
use super::tree::{Node, Tree};
use super::user::{Deed, Files, Object};
use super::volume::{Losses, Race, Volume};
use super::weather::Faults;
use protocol::model::{ContentHash, FileContent, Mtime, RelPath};
use protocol::sync::engine::Event;
use protocol::sync::{Action, ActionId, Change, Disk, Have, Installing, Journal, Observation, Outcome, Rows, Step};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::Duration;
use syncd::disk::fs::sim::UserFile;
use syncd::disk::scan::ScanEvent;

/// Paths that one event of a scan tells of: few, so that other things happen in between.
const SCAN_PAGE: usize = 3;

/// A disk.
pub enum Drive {
    /// See `tree`.
    Flat(Flat),
    /// See `volume`.
    Disk(Volume),
}

/// The simple tree with what is under way on it.
#[derive(Clone, Default)]
pub struct Flat {
    tree: Tree,
    temps: BTreeSet<ContentHash>,
    /// How far a scan has come.
    scan: Option<Option<RelPath>>,
    /// Actions that happened and are not recorded: what recovery records.
    executed: Vec<Change>,
}

/// A batch of actions on its way.
pub struct Batch {
    /// Those not begun.
    pub actions: VecDeque<Action>,
    /// Of those that ended.
    pub outcomes: Vec<(ActionId, Outcome)>,
    /// To be recorded.
    pub counter: u64,
}

/// What else happened in a turn.
#[derive(Default)]
pub struct Meanwhile {
    /// What users did.
    pub deeds: Vec<Deed>,
    /// A file that was missing for a moment while it was replaced.
    pub vanished: Option<RelPath>,
}

/// How far a batch came in one turn.
pub enum Turn {
    /// More is to come.
    Going,
    /// It is recorded.
    Over(Meanwhile),
    /// The process was killed in it.
    Killed(Meanwhile),
}

impl Drive {
    /// For the engine's questions.
    #[must_use]
    pub fn disk(&self) -> &dyn Disk {
        match self {
            Self::Flat(flat) => &flat.tree,
            Self::Disk(volume) => volume,
        }
    }

    /// For users.
    pub fn files(&mut self) -> &mut dyn Files {
        match self {
            Self::Flat(flat) => &mut flat.tree,
            Self::Disk(volume) => volume,
        }
    }

    /// Everything in the folder.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<RelPath, Object> {
        match self {
            Self::Flat(flat) => flat.tree.objects(),
            Self::Disk(volume) => volume.objects(),
        }
    }

    /// A copy that goes its own way, with nothing under way.
    #[must_use]
    pub fn fork(&self) -> Self {
        match self {
            Self::Flat(flat) => Self::Flat(Flat { tree: flat.tree.clone(), ..Flat::default() }),
            Self::Disk(volume) => Self::Disk(volume.fork()),
        }
    }

    /// The wall clock, where the disk has one.
    #[must_use]
    pub fn clock(&self) -> Option<Mtime> {
        match self {
            Self::Flat(_) => None,
            Self::Disk(volume) => Some(volume.now()),
        }
    }

    /// The clock goes.
    pub fn advance(&self, by: Duration) {
        if let Self::Disk(volume) = self {
            volume.advance(by);
        }
    }

    /// Displaced objects find their place.
    pub fn release(&self, store: &Database) {
        if let Self::Disk(volume) = self {
            volume.release(store);
        }
    }

    /// The process ends. Returns what careless programs lose by that.
    pub fn end(&mut self, power: bool, rng: &mut Rng) -> Losses {
        match self {
            Self::Flat(flat) => {
                flat.scan = None;
                Losses::default()
            }
            Self::Disk(volume) => volume.end(power, rng),
        }
    }

    /// The database is gone, and with it what recovery would have recorded.
    pub fn forget(&mut self) {
        if let Self::Flat(flat) = self {
            flat.executed.clear();
        }
    }

    /// What a start settles before anything else.
    ///
    /// # Errors
    /// When the disk does not answer: the daemon does not start.
    pub fn recover(&mut self, store: &Database) -> io::Result<()> {
        match self {
            Self::Flat(flat) => {
                let mut changes = std::mem::take(&mut flat.executed);
                changes.extend(store.installing().into_iter().map(|row| Change::Installed(row.id)));
                store.commit(changes);
                Ok(())
            }
            Self::Disk(volume) => volume.recover(store),
        }
    }

    /// A batch begins.
    pub fn start(&self, store: &Database, batch: &Batch) {
        if let Self::Flat(_) = self {
            let mut changes: Vec<Change> = batch.actions.iter().map(installing).collect();
            changes.push(Change::Counter(batch.counter));
            store.commit(changes);
        }
    }

    /// The batch goes on: one action of the simple tree, or all of them through the commit protocol.
    pub fn act(&mut self, store: &Database, batch: &mut Batch, dies_after: Option<u64>, races: Vec<Race>) -> Turn {
        match self {
            Self::Flat(flat) => flat.act(store, batch),
            Self::Disk(volume) => {
                let actions: Vec<Action> = batch.actions.drain(..).collect();
                let ran = volume.act(store, &actions, batch.counter, dies_after, races);
                let meanwhile = Meanwhile { deeds: ran.deeds, vanished: ran.vanished };
                match ran.outcomes {
                    Some(outcomes) => {
                        batch.outcomes = outcomes;
                        Turn::Over(meanwhile)
                    }
                    None => Turn::Killed(meanwhile),
                }
            }
        }
    }

    /// Contents that actions put there and that are not recorded yet.
    #[must_use]
    pub fn applied(&self) -> BTreeMap<RelPath, Identity> {
        let Self::Flat(flat) = self else {
            return BTreeMap::new();
        };
        let haves = flat.executed.iter().filter_map(|change| match change {
            Change::Have { path, have } => Some((path.clone(), have.entry.content.identity())),
            _ => None,
        });
        haves.collect()
    }

    /// A content came.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn stage(&mut self, content: ContentHash, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Flat(flat) => {
                flat.temps.insert(content);
                Ok(())
            }
            Self::Disk(volume) => volume.stage(bytes),
        }
    }

    /// Whether a content stands at a path.
    #[must_use]
    pub fn holds(&self, path: &RelPath, content: &FileContent) -> bool {
        let is_it = |file: Option<&FileContent>| file.is_some_and(|file| file.hash == content.hash);
        match self {
            Self::Flat(flat) => is_it(flat.tree.get(path).and_then(|node| node.content.file())),
            Self::Disk(volume) => is_it(volume.objects().get(path).and_then(|object| object.content.file())),
        }
    }

    /// The bytes of a file, where the disk has any.
    #[must_use]
    pub fn read(&self, path: &RelPath) -> Vec<u8> {
        match self {
            Self::Flat(_) => Vec::new(),
            Self::Disk(volume) => volume.read(path),
        }
    }

    /// What is kept outside the tree without a path of its own.
    #[must_use]
    pub fn recovered(&self) -> Vec<Identity> {
        match self {
            Self::Flat(_) => Vec::new(),
            Self::Disk(volume) => volume.recovered(),
        }
    }

    /// A path as the disk spells what stands there.
    #[must_use]
    pub fn spelling(&self, path: &RelPath) -> RelPath {
        match self {
            Self::Flat(_) => path.clone(),
            Self::Disk(volume) => volume.spelling(path),
        }
    }

    /// A version or a conflict copy that is the same file as something else; `moved` are files that peers moved.
    #[must_use]
    pub fn shared(&self, moved: &BTreeSet<RelPath>) -> Option<String> {
        match self {
            Self::Flat(_) => None,
            Self::Disk(volume) => volume.shared(moved),
        }
    }

    /// Faults end.
    pub fn heal(&self) {
        if let Self::Disk(volume) = self {
            volume.heal();
        }
    }

    /// They begin again.
    pub fn ail(&self, faults: &Faults) {
        if let Self::Disk(volume) = self {
            volume.ail(faults);
        }
    }

    /// Opens a file for a program that keeps it open, where the disk has such.
    #[must_use]
    pub fn open(&self, path: &RelPath) -> Option<UserFile> {
        match self {
            Self::Flat(_) => None,
            Self::Disk(volume) => volume.open(path),
        }
    }

    /// Whether a whole scan is in the middle.
    #[must_use]
    pub const fn is_scanning(&self) -> bool {
        matches!(self, Self::Flat(Flat { scan: Some(_), .. }))
    }

    /// The next part of a whole scan, as the engine hears it.
    pub fn scan(&mut self, store: &Database, races: Vec<Race>) -> (Vec<Event>, Vec<Deed>) {
        match self {
            Self::Flat(flat) => (flat.scan(store), Vec::new()),
            Self::Disk(volume) => {
                let (found, deeds) = volume.scan(store, races);
                let whole = found.iter().all(|event| !matches!(event, ScanEvent::Done { complete: false }));
                let mut events = vec![Event::ScanStarted];
                events.extend(told(found));
                events.push(Event::ScanEnded { whole });
                (events, deeds)
            }
        }
    }

    /// Looks at one path.
    pub fn look(&self, store: &Database, path: &RelPath, subtree: bool) -> Vec<Event> {
        match self {
            Self::Flat(flat) => flat.look(store, path, subtree),
            Self::Disk(volume) => told(volume.look(store, path, subtree)),
        }
    }
}

/// Findings as they are handed over, a few at a time and in order.
fn told(found: Vec<ScanEvent>) -> Vec<Event> {
    let mut events = Vec::new();
    for event in found {
        match (event, events.last_mut()) {
            (ScanEvent::Found(it), Some(Event::Observed(all))) if all.len() < SCAN_PAGE => all.push(it),
            (ScanEvent::Found(it), _) => events.push(Event::Observed(vec![it])),
            (ScanEvent::Missing(it), Some(Event::Missing(all))) if all.len() < SCAN_PAGE => all.push(it),
            (ScanEvent::Missing(it), _) => events.push(Event::Missing(vec![it])),
            (ScanEvent::Problem { .. } | ScanEvent::Progress { .. } | ScanEvent::Done { .. }, _) => {}
        }
    }
    events
}

impl Flat {
    fn act(&mut self, store: &Database, batch: &mut Batch) -> Turn {
        if let Some(action) = batch.actions.pop_front() {
            let outcome = self.tree.execute(&action, &self.temps);
            if outcome == Outcome::Done {
                self.executed.extend(self.records(&action));
            }
            batch.outcomes.push((action.id, outcome));
            return Turn::Going;
        }
        let mut changes: Vec<Change> = batch.outcomes.iter().map(|(id, _)| Change::Installed(*id)).collect();
        changes.append(&mut self.executed);
        changes.push(Change::Counter(batch.counter));
        store.commit(changes);
        Turn::Over(Meanwhile::default())
    }

    fn records(&self, action: &Action) -> Vec<Change> {
        let fingerprint = self.tree.get(&action.path).filter(|_| action.entry.is_live()).map(Node::fingerprint);
        let have = Have { entry: action.entry.clone(), fingerprint, racy: false };
        let mut records = vec![Change::Have { path: action.path.clone(), have }];
        if let Step::MoveFrom { from, tombstone, .. } = &action.step {
            let have = Have { entry: tombstone.clone(), fingerprint: None, racy: false };
            records.push(Change::Have { path: from.clone(), have });
        }
        records
    }

    fn scan(&mut self, store: &Database) -> Vec<Event> {
        let Some(at) = self.scan.take() else {
            self.scan = Some(None);
            return vec![Event::ScanStarted];
        };
        let mut paths: BTreeSet<RelPath> = self.tree.after(at.as_ref(), SCAN_PAGE).into_iter().collect();
        paths.extend(store.below(None, at.as_ref(), SCAN_PAGE).into_iter().map(|(path, _)| path));
        let page: Vec<RelPath> = paths.into_iter().take(SCAN_PAGE).collect();
        let Some(last) = page.last().cloned() else {
            return vec![Event::ScanEnded { whole: true }];
        };
        self.scan = Some(Some(last));
        self.report(store, page)
    }

    fn look(&self, store: &Database, path: &RelPath, subtree: bool) -> Vec<Event> {
        let is_directory = self.tree.get(path).is_some_and(|node| node.content.is_directory());
        let is_new = is_directory && !store.get(path).is_directory();
        let mut paths: BTreeSet<RelPath> = [path.clone()].into();
        if subtree || is_new {
            paths.extend(self.tree.below(path));
        }
        if subtree || is_new || !is_directory {
            paths.extend(store.below(Some(path), None, usize::MAX).into_iter().map(|(path, _)| path));
        }
        self.report(store, paths.into_iter().collect())
    }

    fn report(&self, store: &Database, paths: Vec<RelPath>) -> Vec<Event> {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for path in paths {
            let row = store.get(&path);
            match self.tree.get(&path) {
                Some(node) => {
                    let recorded = row.have.and_then(|have| have.fingerprint);
                    if !recorded.is_some_and(|earlier| node.fingerprint().unchanged_since(&earlier)) {
                        found.push(Observation { path, observed: node.observed(), manifest: None });
                    }
                }
                None if row.is_live() => missing.push(path),
                None => {}
            }
        }
        let mut events = Vec::new();
        if !found.is_empty() {
            events.push(Event::Observed(found));
        }
        if !missing.is_empty() {
            events.push(Event::Missing(missing));
        }
        events
    }
}

fn installing(action: &Action) -> Change {
    let moved_from = match &action.step {
        Step::MoveFrom { from, from_have, tombstone } => Some((from.clone(), from_have.clone(), tombstone.clone())),
        _ => None,
    };
    let Action { id, path, entry, expected, .. } = action.clone();
    Change::Installing(Installing { id, path, entry, expected, moved_from, inode: None })
}
