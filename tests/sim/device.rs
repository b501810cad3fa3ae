//! One device of the `flat` profile: a real engine over a database and a tree in memory, with everything that its
//! shell would have under way. `Crashed` runs through it like an error: what follows does not happen.

use super::oracle::{Identity, Oracle};
use super::store::Store;
use super::tree::Tree;
use protocol::model::{ContentHash, DeviceId, FileContent, RelPath, ReplicaId, Timestamp, Version};
use protocol::sync::engine::{Alarm, Config, Effect, Engine, Event, View};
use protocol::sync::{Action, ActionId, Change, Have, Installing, Journal, Observation, Outcome, Rows, Step};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The daemon died at this point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crashed;

/// Times `advance` may be called before it must have come to rest.
const ADVANCE_MAX: usize = 2000;
/// Paths that a scan looks at in one event.
const SCAN_PAGE: usize = 3;

/// A wish for content.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// For which path.
    pub path: RelPath,
    /// Where the sources have it.
    pub origin: RelPath,
    /// What.
    pub content: FileContent,
    /// Who announced it.
    pub sources: Vec<DeviceId>,
}

/// A batch of actions on its way.
#[derive(Clone, Debug)]
struct Batch {
    actions: VecDeque<Action>,
    outcomes: Vec<(ActionId, Outcome)>,
    counter: u64,
}

/// One device.
pub struct Device {
    /// Its number.
    pub number: usize,
    /// Its id.
    pub id: DeviceId,
    /// Its database.
    pub store: Store,
    /// Its files.
    pub tree: Tree,
    /// The running core; `None` while the daemon is down.
    pub engine: Option<Engine>,
    /// Fetches under way.
    pub fetches: Vec<Fetch>,
    /// Paths to look at.
    pub looks: Vec<(RelPath, bool)>,
    /// Findings on their way to the engine.
    pub mail: VecDeque<Event>,
    /// Messages to be sent: whom and what.
    pub outbox: Vec<(DeviceId, Effect)>,
    /// What it cried.
    pub alarms: Vec<Alarm>,
    /// Effects left until it dies.
    pub dies_after: Option<u32>,
    /// How often digests differed although both sides were current.
    pub mismatches: u32,
    /// Actions carried out on the tree, ever.
    pub actions_done: u64,
    temps: BTreeSet<ContentHash>,
    batch: Option<Batch>,
    scan: Option<Option<RelPath>>,
    scan_again: bool,
    /// Evidence on disk of actions that are not recorded yet: what recovery records.
    executed: Vec<(ActionId, Vec<Change>)>,
}

impl Device {
    /// A device with an empty tree whose daemon is not running.
    #[must_use]
    pub fn new(number: usize, replica: ReplicaId) -> Self {
        Self {
            number,
            id: DeviceId([number as u8 + 1; 32]),
            store: Store::new(replica, 0),
            tree: Tree::default(),
            engine: None,
            fetches: Vec::new(),
            looks: Vec::new(),
            mail: VecDeque::new(),
            outbox: Vec::new(),
            alarms: Vec::new(),
            dies_after: None,
            mismatches: 0,
            actions_done: 0,
            temps: BTreeSet::new(),
            batch: None,
            scan: None,
            scan_again: false,
            executed: Vec::new(),
        }
    }

    /// The daemon starts: what was under way is settled, then a whole scan begins.
    pub fn boot(&mut self, config: Config) {
        self.recover();
        self.engine = Some(Engine::new(config, &self.store));
        self.scan_again = true;
    }

    /// The daemon dies; database and tree stay.
    pub fn crash(&mut self) {
        self.engine = None;
        self.dies_after = None;
        self.fetches.clear();
        self.looks.clear();
        self.mail.clear();
        self.outbox.clear();
        self.batch = None;
        self.scan = None;
    }

    /// The database goes, with what recovery would have needed it for.
    pub fn lose_index(&mut self, replica: ReplicaId) {
        self.store = Store::new(replica, 0);
        self.executed.clear();
    }

    /// Another device's database and files come here.
    pub fn become_clone(&mut self, store: Store, tree: Tree) {
        (self.store, self.tree) = (store, tree);
        self.executed.clear();
    }

    fn recover(&mut self) {
        let mut changes = Vec::new();
        for (_, records) in std::mem::take(&mut self.executed) {
            changes.extend(records);
        }
        changes.extend(self.store.installing().into_iter().map(|row| Change::Installed(row.id)));
        self.store.commit(changes);
    }

    /// A point at which the daemon may die.
    fn may_die(&mut self) -> Result<(), Crashed> {
        match self.dies_after {
            Some(0) => Err(Crashed),
            Some(left) => {
                self.dies_after = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Hands an event to the engine and carries out all that follows.
    pub fn event(&mut self, now: Timestamp, event: Event, oracle: &mut Oracle) -> Result<(), Crashed> {
        let view = View { rows: &self.store, disk: &self.tree };
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        let effects = engine.handle(now, event, view);
        self.effects(effects, false, oracle)?;
        for _ in 0..ADVANCE_MAX {
            let view = View { rows: &self.store, disk: &self.tree };
            let engine = self.engine.as_mut().expect("it did not die");
            let effects = engine.advance(now, view);
            if effects.is_empty() {
                return Ok(());
            }
            self.effects(effects, true, oracle)?;
        }
        panic!("advance does not come to rest on device {}", self.number);
    }

    fn effects(&mut self, effects: Vec<Effect>, advancing: bool, oracle: &mut Oracle) -> Result<(), Crashed> {
        for effect in effects {
            self.may_die()?;
            match effect {
                Effect::Commit(changes) => self.commit(changes, advancing, oracle),
                Effect::Fetch { path, origin, content, sources } => {
                    self.fetches.push(Fetch { path, origin, content, sources });
                }
                Effect::CancelFetch { path } => self.fetches.retain(|fetch| fetch.path != path),
                Effect::Apply { actions, counter } => self.start(actions, counter)?,
                Effect::Look { path, subtree } => self.looks.push((path, subtree)),
                Effect::Scan => self.scan_again = true,
                Effect::Alarm(alarm) => self.alarms.push(alarm),
                Effect::SetAside { path } => {
                    unreachable!("no simulated folder is receive-only: nothing reverts {path:?}")
                }
                Effect::IndexGet { peer, .. }
                | Effect::Index { peer, .. }
                | Effect::IndexAck { peer, .. }
                | Effect::Digest { peer, .. } => self.outbox.push((peer, effect)),
            }
        }
        Ok(())
    }

    /// `advancing`: what is recorded was decided, not found on disk.
    fn commit(&mut self, changes: Vec<Change>, advancing: bool, oracle: &mut Oracle) {
        for change in changes.iter().filter(|_| advancing) {
            if let Change::Have { path, have } = change
                && have.entry.is_live()
                && self.is_own(have)
            {
                oracle.system(self.number, path, &have.entry.content);
            }
        }
        self.store.commit(changes);
    }

    /// Written by this device just now, not taken from a peer.
    fn is_own(&self, have: &Have) -> bool {
        let state = self.store.state();
        let mut events = have.entry.content_at.iter();
        let own = events.next().is_some_and(|event| event.replica == state.replica && event.counter > 0);
        own && events.next().is_none() && have.entry.content_at != Version::default()
    }

    fn start(&mut self, actions: Vec<Action>, counter: u64) -> Result<(), Crashed> {
        assert!(self.batch.is_none(), "one batch at a time");
        let mut changes: Vec<Change> = actions.iter().map(installing).collect();
        changes.push(Change::Counter(counter));
        self.store.commit(changes);
        self.batch = Some(Batch { actions: actions.into(), outcomes: Vec::new(), counter });
        self.may_die()
    }

    /// Whether a batch is on its way.
    #[must_use]
    pub const fn is_acting(&self) -> bool {
        self.batch.is_some()
    }

    /// For a person: what `act` will do.
    #[must_use]
    pub fn next_action(&self) -> String {
        match self.batch.as_ref().and_then(|batch| batch.actions.front()) {
            Some(action) => {
                let step = format!("{:?}", action.step);
                format!(
                    "{} {:?} {}",
                    step.split(' ').next().unwrap_or_default(),
                    action.path,
                    super::words::entry(&action.entry)
                )
            }
            None => format!("ends the batch {:?}", self.batch.as_ref().map(|batch| &batch.outcomes)),
        }
    }

    /// Carries out the next action of the batch, or ends it.
    pub fn act(&mut self, now: Timestamp, oracle: &mut Oracle) -> Result<(), Crashed> {
        let Some(batch) = &mut self.batch else {
            return Ok(());
        };
        let Some(action) = batch.actions.pop_front() else {
            return self.end_batch(now, oracle);
        };
        let before = self.tree.get(&action.path).map(|node| node.content.clone());
        let outcome = self.tree.execute(&action, &self.temps);
        batch.outcomes.push((action.id, outcome.clone()));
        if outcome == Outcome::Done {
            self.actions_done += 1;
            let records = self.records(&action);
            self.tell(&action, before.is_none_or(|before| !before.same(&action.entry.content)), oracle);
            self.executed.push((action.id, records));
        }
        self.may_die()
    }

    fn tell(&self, action: &Action, content_changed: bool, oracle: &mut Oracle) {
        let have = Have { entry: action.entry.clone(), fingerprint: None, racy: false };
        let copied = self.store.get(&action.path).wants.iter().all(|want| want.entry.version != action.entry.version);
        if action.entry.is_live() && copied && self.is_own(&have) {
            oracle.system(self.number, &action.path, &action.entry.content);
        }
        if content_changed {
            oracle.shown(self.number, &action.path, &action.entry.content);
        }
        if let Step::MoveFrom { from, tombstone, .. } = &action.step {
            oracle.shown(self.number, from, &tombstone.content);
        }
    }

    fn records(&self, action: &Action) -> Vec<Change> {
        let fingerprint =
            self.tree.get(&action.path).filter(|_| action.entry.is_live()).map(super::tree::Node::fingerprint);
        let have = Have { entry: action.entry.clone(), fingerprint, racy: false };
        let mut records = vec![Change::Have { path: action.path.clone(), have }];
        if let Step::MoveFrom { from, tombstone, .. } = &action.step {
            let have = Have { entry: tombstone.clone(), fingerprint: None, racy: false };
            records.push(Change::Have { path: from.clone(), have });
        }
        records
    }

    fn end_batch(&mut self, now: Timestamp, oracle: &mut Oracle) -> Result<(), Crashed> {
        let batch = self.batch.take().expect("asked only while one is there");
        self.may_die()?;
        let mut changes: Vec<Change> = batch.outcomes.iter().map(|(id, _)| Change::Installed(*id)).collect();
        for (_, records) in std::mem::take(&mut self.executed) {
            changes.extend(records);
        }
        changes.push(Change::Counter(batch.counter.max(self.store.state().counter)));
        self.store.commit(changes);
        self.may_die()?;
        self.event(now, Event::Applied(batch.outcomes), oracle)
    }

    /// Contents that actions put on disk and that are not recorded yet.
    #[must_use]
    pub fn applied(&self) -> BTreeMap<RelPath, Identity> {
        let records = self.executed.iter().flat_map(|(_, records)| records);
        let haves = records.filter_map(|change| match change {
            Change::Have { path, have } => Some((path.clone(), have.entry.content.identity())),
            _ => None,
        });
        haves.collect()
    }

    /// The content came.
    pub fn fetched(&mut self, content: ContentHash) {
        self.temps.insert(content);
    }

    /// A whole scan shall run.
    pub fn ask_scan(&mut self) {
        self.scan_again = true;
    }

    /// Whether a scan has work to do.
    #[must_use]
    pub const fn is_scanning(&self) -> bool {
        self.scan.is_some() || self.scan_again
    }

    /// The next part of the scan.
    pub fn scan(&mut self) {
        let Some(at) = self.scan.take() else {
            if std::mem::take(&mut self.scan_again) {
                self.scan = Some(None);
                self.mail.push_back(Event::ScanStarted);
            }
            return;
        };
        let mut paths: BTreeSet<RelPath> = self.tree.after(at.as_ref(), SCAN_PAGE).into_iter().collect();
        paths.extend(self.store.live_after(at.as_ref(), SCAN_PAGE));
        let page: Vec<RelPath> = paths.into_iter().take(SCAN_PAGE).collect();
        let Some(last) = page.last().cloned() else {
            self.mail.push_back(Event::ScanEnded { whole: true });
            return;
        };
        self.report(page);
        self.scan = Some(Some(last));
    }

    /// Looks at one path, and below it where asked or where a directory is new.
    pub fn look(&mut self, nth: usize) {
        let (path, subtree) = self.looks.swap_remove(nth);
        let node = self.tree.get(&path);
        let is_directory = node.is_some_and(|node| node.content.is_directory());
        let is_new = is_directory && !self.store.get(&path).is_directory();
        let mut paths: BTreeSet<RelPath> = [path.clone()].into();
        if subtree || is_new {
            paths.extend(self.tree.below(&path));
        }
        if subtree || is_new || !is_directory {
            paths.extend(self.store.live_paths_below(&path));
        }
        self.report(paths.into_iter().collect());
    }

    fn report(&mut self, paths: Vec<RelPath>) {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for path in paths {
            let row = self.store.get(&path);
            match self.tree.get(&path) {
                Some(node) => {
                    let recorded = row.have.filter(|have| !have.racy).and_then(|have| have.fingerprint);
                    if !recorded.is_some_and(|earlier| node.fingerprint().unchanged_since(&earlier)) {
                        found.push(Observation { path, observed: node.observed(), manifest: None });
                    }
                }
                None if row.is_live() => missing.push(path),
                None => {}
            }
        }
        if !found.is_empty() {
            self.mail.push_back(Event::Observed(found));
        }
        if !missing.is_empty() {
            self.mail.push_back(Event::Missing(missing));
        }
    }

    /// Whether this device can serve a content at a path, or has it locally.
    #[must_use]
    pub fn holds(&self, path: &RelPath, content: &FileContent) -> bool {
        let is_it = |entry: Option<&FileContent>| entry.is_some_and(|file| file.hash == content.hash);
        let row = self.store.get(path);
        is_it(row.entry().and_then(|entry| entry.content.file()))
            && is_it(self.tree.get(path).and_then(|node| node.content.file()))
    }

    /// Nothing is under way but timers.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.fetches.is_empty()
            && self.looks.is_empty()
            && self.mail.is_empty()
            && self.outbox.is_empty()
            && !self.is_acting()
            && !self.is_scanning()
    }
}

fn installing(action: &Action) -> Change {
    let moved_from = match &action.step {
        Step::MoveFrom { from, from_have, tombstone } => Some((from.clone(), from_have.clone(), tombstone.clone())),
        _ => None,
    };
    let Action { id, path, entry, expected, .. } = action.clone();
    Change::Installing(Installing { id, path, entry, expected, moved_from })
}
