//! One device: a real engine over a database and a disk in memory, with everything that its shell would have under
//! way. `Crashed` runs through it like an error: what follows does not happen.

use super::database::Database;
use super::drive::{Batch, Drive, Turn};
use super::flaw::Flaw;
use super::oracle::{Identity, Known, Oracle};
use super::rng::Rng;
use super::scenario::Act;
use super::user::{Deed, Thing, Through, User, moved};
use super::volume::{Losses, Lost, Race, is_over};
use protocol::model::{Content, DeviceId, Entry, FileContent, RelPath, ReplicaId, Timestamp};
use protocol::sync::engine::{Alarm, Config, Effect, Engine, Event, View};
use protocol::sync::{Action, ActionId, Change, Fingerprint, Journal, Outcome, Rows, Step};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use syncd::disk::fs::sim::{Names, UserFile, until_crash};

/// The daemon died at this point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crashed;

/// Times `advance` may be called before it must have come to rest.
const ADVANCE_MAX: usize = 2000;

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

/// An action, and whether its entry is a peer's as it was announced.
type Given = (Action, bool);

/// One device.
pub struct Device {
    /// Its number.
    pub number: usize,
    /// Its id.
    pub id: DeviceId,
    /// Its database.
    pub store: Database,
    /// Its files.
    pub drive: Drive,
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
    /// Effects (operations and transactions in a batch) left until it dies.
    pub dies_after: Option<u32>,
    /// A peer showed that its index went back.
    pub stale: bool,
    /// When it dies the power goes too.
    pub by_power: bool,
    /// What users will do in the middle of the next batch.
    pub races: Vec<Race>,
    /// A file that a user could have found missing while it was replaced.
    pub vanished: Option<RelPath>,
    /// Something that the index knew of and a power cut took.
    pub taken: Option<RelPath>,
    /// Files that programs keep open, with the paths at which they opened them.
    open_files: Vec<(RelPath, UserFile)>,
    /// Where peers' moves took files.
    pub moved: BTreeSet<RelPath>,
    /// Actions carried out, ever.
    pub actions_done: u64,
    batch: Option<Batch>,
    /// The batch that is out, or was when the process died.
    given: Vec<Given>,
    /// Renames by users within it, from and to.
    renames: Vec<(RelPath, RelPath)>,
    scan_asked: bool,
    /// What is left of a database that dies in the middle of a transaction.
    chance: Rng,
}

impl Device {
    /// A device with an empty folder whose daemon is not running.
    #[must_use]
    pub fn new(number: usize, replica: ReplicaId, drive: Drive, flaw: Option<Flaw>, real: bool) -> Self {
        Self {
            number,
            id: DeviceId([number as u8 + 1; 32]),
            store: Database::new(replica, flaw, real),
            drive,
            engine: None,
            fetches: Vec::new(),
            looks: Vec::new(),
            mail: VecDeque::new(),
            outbox: Vec::new(),
            alarms: Vec::new(),
            dies_after: None,
            stale: false,
            by_power: false,
            races: Vec::new(),
            vanished: None,
            taken: None,
            open_files: Vec::new(),
            moved: BTreeSet::new(),
            actions_done: 0,
            batch: None,
            given: Vec::new(),
            renames: Vec::new(),
            scan_asked: false,
            chance: Rng::new(u64::from_be_bytes(replica.0), 0xdb),
        }
    }

    /// The daemon starts: what was under way is settled, then a whole scan begins. Nothing starts on a disk that does
    /// not answer.
    pub fn boot(&mut self, config: Config, oracle: &mut Oracle) {
        self.store.start();
        if self.drive.recover(&self.store).is_err() {
            return;
        }
        for (action, is_peers) in std::mem::take(&mut self.given) {
            if self.store.get(&action.path).entry() == Some(&action.entry) {
                self.tell(&action, is_peers, oracle);
            }
        }
        if let Some(run) = config.run {
            self.store.commit(vec![Change::Run(run)]);
        }
        self.engine = Some(Engine::new(config, &self.store));
        self.scan_asked = true;
    }

    /// The daemon dies; database and disk stay.
    pub fn crash(&mut self, rng: &mut Rng, oracle: &mut Oracle) {
        self.engine = None;
        self.dies_after = None;
        self.fetches.clear();
        self.looks.clear();
        self.mail.clear();
        self.outbox.clear();
        self.batch = None;
        self.renames.clear();
        let power = std::mem::take(&mut self.by_power);
        self.store.end(power, rng);
        let Losses { tree: lost, displaced } = self.drive.end(power, rng);
        displaced.iter().for_each(|(was, is)| oracle.torn(self.number, was, is));
        for Lost { deed, fingerprint } in &lost {
            let have = self.store.get(&deed.path).have.filter(|have| !have.racy);
            let recorded = have.and_then(|have| have.fingerprint);
            let is_that =
                |recorded: Fingerprint, was: Fingerprint| was.unchanged_since(&recorded) && was.inode == recorded.inode;
            if recorded.zip(*fingerprint).is_some_and(|(recorded, was)| is_that(recorded, was)) {
                self.taken.get_or_insert_with(|| deed.path.clone());
            }
        }
        // Nobody heard of it: the power is one more user.
        let deeds: Vec<Deed> = lost.into_iter().map(|lost| lost.deed).collect();
        self.tell_deeds(&deeds, oracle);
    }

    /// The database goes, with what recovery would have needed it for.
    pub fn lose_index(&mut self, replica: ReplicaId) {
        self.store = Database::new(replica, self.store.flaw(), self.store.is_real());
        self.drive.forget();
        self.given.clear();
        self.renames.clear();
    }

    /// The database is an earlier one.
    pub fn put_back(&mut self, store: Database) {
        self.store = store;
        self.drive.forget();
        self.given.clear();
        self.renames.clear();
    }

    /// Another device's database and files come here.
    pub fn become_clone(&mut self, of: &(Database, Drive)) {
        (self.store, self.drive) = (of.0.fork(), of.1.fork());
        self.given.clear();
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
        let view = View { rows: &self.store, disk: self.drive.disk() };
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        let effects = engine.handle(now, event, view);
        self.effects(effects, false, oracle)?;
        for _ in 0..ADVANCE_MAX {
            let view = View { rows: &self.store, disk: self.drive.disk() };
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
                Effect::Commit(mut changes) => {
                    if self.store.flaw() == Some(Flaw::OneTransaction) && changes.len() > 1 {
                        let rest = changes.split_off(changes.len() / 2);
                        self.commit(changes, advancing, oracle)?;
                        self.may_die()?;
                        changes = rest;
                    }
                    self.commit(changes, advancing, oracle)?;
                }
                Effect::Fetch { path, origin, content, sources } => {
                    self.fetches.push(Fetch { path, origin, content, sources });
                }
                Effect::CancelFetch { path } => self.fetches.retain(|fetch| fetch.path != path),
                Effect::Apply { actions, counter } => self.start(actions, counter)?,
                Effect::Look { path, subtree } => self.looks.push((path, subtree)),
                Effect::Scan => self.scan_asked = true,
                Effect::Alarm(Alarm::Stale { .. }) => self.stale = true,
                Effect::Alarm(alarm) => self.alarms.push(alarm),
                Effect::KeepBeside { path, .. } | Effect::SetAside { path } => {
                    unreachable!("nobody reverts a simulated folder or rejects what is held in it: {path:?}")
                }
                Effect::IndexGet { peer, .. }
                | Effect::Index { peer, .. }
                | Effect::IndexAck { peer, .. }
                | Effect::Digest { peer, .. }
                | Effect::Run { peer, .. } => self.outbox.push((peer, effect)),
            }
        }
        Ok(())
    }

    /// `advancing`: what is recorded was decided, not found on disk.
    fn commit(&mut self, changes: Vec<Change>, advancing: bool, oracle: &mut Oracle) -> Result<(), Crashed> {
        let counter = self.store.state().counter;
        for change in &changes {
            match change {
                Change::Have { path, have } if self.is_own(&have.entry, self.store.get(path).entry()) => {
                    if advancing {
                        oracle.system(self.number, path, &have.entry.content);
                    } else {
                        oracle.found(self.number, path, &have.entry.content);
                    }
                }
                Change::Counter(next) => assert!(*next >= counter, "a counter never falls"),
                _ => {}
            }
        }
        let Some(left) = self.dies_after.filter(|_| self.store.is_real()) else {
            self.store.commit(changes);
            return Ok(());
        };
        let countdown = Arc::new(Mutex::new(Some(u64::from(left))));
        let counts = Arc::clone(&countdown);
        self.store.set_hook(Some(Box::new(move || is_over(&counts))));
        let done = until_crash(|| self.store.commit(changes));
        self.store.set_hook(None);
        let left = countdown.lock().expect("nobody panics with it").map(|left| u32::try_from(left).unwrap_or(0));
        self.dies_after = left;
        if done.is_none() {
            self.end_database();
            return Err(Crashed);
        }
        Ok(())
    }

    /// At the moment of death: the next question about its rows goes to what is left.
    fn end_database(&mut self) {
        self.store.end(self.by_power, &mut self.chance);
    }

    /// Live and written by this device just now: neither taken from a peer nor only recorded anew.
    fn is_own(&self, entry: &Entry, before: Option<&Entry>) -> bool {
        let replica = self.store.state().replica;
        let mut events = entry.content_at.iter();
        let is_ours = events.next().is_some_and(|event| event.replica == replica) && events.next().is_none();
        entry.is_live() && is_ours && before.is_none_or(|before| before.content_at != entry.content_at)
    }

    fn start(&mut self, actions: Vec<Action>, counter: u64) -> Result<(), Crashed> {
        assert!(self.batch.is_none(), "one batch at a time");
        let is_peers = |action: &Action| {
            let wants = self.store.get(&action.path).wants;
            wants.iter().any(|want| want.entry.version == action.entry.version)
        };
        self.given = actions.iter().map(|action| (action.clone(), is_peers(action))).collect();
        let batch = Batch { actions: actions.into(), outcomes: Vec::new(), counter };
        self.drive.start(&self.store, &batch);
        self.batch = Some(batch);
        self.may_die()
    }

    /// Whether a batch is on its way.
    #[must_use]
    pub const fn is_acting(&self) -> bool {
        self.batch.is_some()
    }

    /// For a person: what `act` will do.
    #[must_use]
    pub fn next_actions(&self) -> String {
        let Some(batch) = &self.batch else {
            return String::new();
        };
        let words = |action: &Action| {
            let step = format!("{:?}", action.step);
            let step = step.split(' ').next().unwrap_or_default();
            format!("{step} {:?} {}", action.path, super::words::entry(&action.entry))
        };
        if batch.actions.is_empty() {
            return format!("ends the batch {:?}", batch.outcomes);
        }
        batch.actions.iter().map(words).collect::<Vec<_>>().join("; ")
    }

    /// The batch goes on.
    pub fn act(&mut self, now: Timestamp, oracle: &mut Oracle) -> Result<(), Crashed> {
        let Some(mut batch) = self.batch.take() else {
            return Ok(());
        };
        self.may_die()?;
        let mut races = std::mem::take(&mut self.races);
        let made = self.made_by(&races);
        races.retain(|race| !self.is_question(&race.user, race.act, &made));
        self.renames.clear();
        for race in &races {
            if let Act::Rename(from, to) = race.act {
                self.renames.push((race.user.paths[from].clone(), race.user.paths[to].clone()));
            }
        }
        oracle.renamed_within(&self.renames);
        let turn = self.drive.act(&self.store, &mut batch, self.dies_after.map(u64::from), races);
        match turn {
            Turn::Going => {
                self.batch = Some(batch);
                self.may_die()
            }
            Turn::Killed(meanwhile) => {
                self.end_database();
                self.vanished = self.vanished.take().or(meanwhile.vanished);
                self.tell_deeds(&meanwhile.deeds, oracle);
                Err(Crashed)
            }
            Turn::Over(meanwhile) => {
                self.vanished = self.vanished.take().or(meanwhile.vanished);
                self.tell_deeds(&meanwhile.deeds, oracle);
                self.renames.clear();
                for (action, is_peers) in std::mem::take(&mut self.given) {
                    if batch.outcomes.contains(&(action.id, Outcome::Done)) {
                        self.actions_done += 1;
                        self.tell(&action, is_peers, oracle);
                    }
                }
                self.may_die()?;
                self.event(now, Event::Applied(batch.outcomes), oracle)
            }
        }
    }

    /// A link in the place of a directory that holds something, as far as the database knows, is a question to a
    /// person: until it is answered nothing below moves (`disk/scan/entry.rs`). Users here answer nothing.
    /// `made`: where a link may stand by then.
    #[must_use]
    pub fn is_question(&self, user: &User, act: Act, made: &[RelPath]) -> bool {
        let objects = self.drive.objects();
        let is_link = |path: &RelPath| {
            let stands = objects.get(path).map(|object| &object.content);
            let comes = self.given.iter().filter(|(action, _)| action.path == *path);
            let mut either = comes.map(|(action, _)| &action.entry.content).chain(stands);
            made.contains(path) || either.any(|content| matches!(content, Content::Symlink(_)))
        };
        let spelled = |at: usize| self.drive.spelling(&user.paths[at]);
        let place = match act {
            Act::Link(at) => spelled(at),
            Act::Rename(from, to) if is_link(&spelled(from)) => spelled(to),
            _ => return false,
        };
        let given = || self.given.iter().any(|(action, _)| action.path.is_below(&place));
        self.store.live_below(&place).is_some() || given()
    }

    /// Where what users do in the middle of something puts a link, or something that may be one.
    fn made_by(&self, races: &[Race]) -> Vec<RelPath> {
        let place = |race: &Race| match race.act {
            Act::Link(at) | Act::Rename(_, at) => Some(self.drive.spelling(&race.user.paths[at])),
            _ => None,
        };
        races.iter().filter_map(place).collect()
    }

    /// What users did, and what this device had recorded of those paths.
    pub fn tell_deeds(&self, deeds: &[Deed], oracle: &mut Oracle) {
        let applied = self.drive.applied();
        let first_contact = !self.store.state().scanned;
        for deed in deeds {
            if let Through::Hidden(names) = &deed.through {
                self.tell_hidden(deed, names, oracle);
                continue;
            }
            let row = self.store.get(&deed.path);
            let of_row = || row.entry().map(|entry| entry.content.identity());
            let put = applied.get(&deed.path).copied();
            let recorded = put.or_else(of_row);
            // What a batch put there counts only for what came after it.
            let before = deed.before.as_ref().unwrap_or(&Content::Tombstone).identity();
            let recorded = if recorded == Some(before) { recorded } else { self.given_over(&deed.path).or(recorded) };
            let (moved_from, was_about_to_go) = (self.moving_to(&deed.path), self.is_given_before(&deed.path));
            let known = Known { recorded, put, first_contact, moved_from, was_about_to_go };
            oracle.user(self.number, &deed.path, deed.before.as_ref(), deed.after.as_ref(), &known);
        }
    }

    /// A file changed that is in `hold/` under `names`, and by the database's account at some path.
    fn tell_hidden(&self, deed: &Deed, names: &[String], oracle: &mut Oracle) {
        let Some(after) = &deed.after else { return };
        let is_it = |id: ActionId| names.contains(&format!("hold/{:016x}", id.0));
        let held = self.store.held().into_iter().filter(|held| is_it(held.id)).map(|held| held.path);
        let given = self.given.iter().flat_map(|(action, _)| match &action.step {
            Step::MoveFrom { from, .. } => vec![action.path.clone(), from.clone()],
            _ => vec![action.path.clone()],
        });
        let paths: BTreeSet<RelPath> = held.chain(given).collect();
        paths.iter().for_each(|path| oracle.hidden(self.number, path, after));
    }

    /// What the batch that is out takes to be at a path.
    fn given_over(&self, path: &RelPath) -> Option<Identity> {
        let (action, _) = self.given.iter().find(|(action, _)| action.path == *path)?;
        Some(action.expected.as_ref()?.entry.content.identity())
    }

    /// Whether the batch that is out acts on what was at `path` before a user's rename within it.
    fn is_given_before(&self, path: &RelPath) -> bool {
        let below = self.renames.iter().filter(|(_, to)| path.is_below(to));
        below.map(|(from, to)| moved(path, to, from)).any(|old| {
            let takes_old = |action: &Action| match &action.step {
                Step::MoveFrom { from, .. } => *from == old || action.path == old,
                _ => action.path == old,
            };
            self.given.iter().any(|(action, _)| takes_old(action))
        })
    }

    /// Where the batch that is out takes the file from that comes to this path.
    fn moving_to(&self, path: &RelPath) -> Option<RelPath> {
        self.given.iter().find_map(|(action, _)| match &action.step {
            Step::MoveFrom { from, .. } if action.path == *path => Some(from.clone()),
            _ => None,
        })
    }

    /// An action is recorded. Only from then on its content counts as seen: before, a crash may take it back.
    fn tell(&mut self, action: &Action, is_peers: bool, oracle: &mut Oracle) {
        if !is_peers && self.is_own(&action.entry, action.expected.as_ref().map(|have| &have.entry)) {
            oracle.system(self.number, &action.path, &action.entry.content);
        }
        oracle.shown(self.number, &action.path, &action.entry.content);
        if let Step::MoveFrom { from, tombstone, .. } = &action.step {
            self.moved.insert(action.path.clone());
            oracle.shown(self.number, from, &tombstone.content);
        }
    }

    /// A whole scan shall run.
    pub fn ask_scan(&mut self) {
        self.scan_asked = true;
    }

    /// Whether a scan has work to do.
    #[must_use]
    pub const fn is_scanning(&self) -> bool {
        self.scan_asked || self.drive.is_scanning()
    }

    /// The next part of the scan. Some of what users will do in the middle of something happens in this one.
    pub fn scan(&mut self, oracle: &mut Oracle) {
        if !self.drive.is_scanning() {
            self.scan_asked = false;
        }
        let (mut here, later): (Vec<_>, Vec<_>) = self.races.drain(..).partition(|race| race.user.salt % 3 == 0);
        self.races = later;
        let made = self.made_by(&here);
        here.retain(|race| !self.is_question(&race.user, race.act, &made));
        let (found, deeds) = self.drive.scan(&self.store, here);
        self.tell_deeds(&deeds, oracle);
        self.mail.extend(found);
    }

    /// A program opens a file and keeps it open.
    pub fn open(&mut self, path: &RelPath) {
        self.open_files.extend(self.drive.open(path).map(|file| (path.clone(), file)));
    }

    /// A program writes into a file that it keeps open. What it writes into one that the sync has displaced must
    /// become a conflict copy somewhere. Returns the path when the file still has one.
    pub fn append(&mut self, nth: u8, bytes: &[u8], oracle: &mut Oracle) -> Option<RelPath> {
        let at = usize::from(nth) % self.open_files.len().max(1);
        let (opened_at, file) = self.open_files.get(at)?;
        let content = || Thing::File(file.bytes()).content();
        let names = file.names();
        if names == Names::default() {
            return None;
        }
        let before = content();
        file.append(bytes);
        file.fsync();
        let after = content();
        if names.tree.is_empty() && names.outside == 0 {
            oracle.late(self.number, opened_at, &before, &after);
            return None;
        }
        let mut deeds: Vec<Deed> = Vec::new();
        let mut did = |path: RelPath, through| {
            deeds.push(Deed { path, before: Some(before.clone()), after: Some(after.clone()), through });
        };
        if !names.private.is_empty() {
            did(opened_at.clone(), Through::Hidden(names.private));
        }
        // The kernel tells of the name by which it was opened, whatever that is by now.
        let told = names.tree.iter().find(|path| *path == opened_at).or(names.tree.first()).cloned();
        for path in names.tree {
            let through = if Some(&path) == told.as_ref() { Through::This } else { Through::Other };
            did(path, through);
        }
        self.tell_deeds(&deeds, oracle);
        told
    }

    /// Programs close their files.
    pub fn close_files(&mut self) {
        self.open_files.clear();
    }

    /// Looks at one path.
    pub fn look(&mut self, nth: usize) {
        let (path, subtree) = self.looks.swap_remove(nth);
        let found = self.drive.look(&self.store, &path, subtree);
        self.mail.extend(found);
    }

    /// Whether this device can serve a content at a path, or has it there for itself.
    #[must_use]
    pub fn holds(&self, path: &RelPath, content: &FileContent) -> bool {
        let row = self.store.get(path);
        let recorded = row.entry().and_then(|entry| entry.content.file());
        recorded.is_some_and(|file| file.hash == content.hash) && self.drive.holds(path, content)
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
