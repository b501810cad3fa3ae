//! The disk of the `disk` profile: the real commit protocol, recovery and scanner over a file system in memory that
//! is killed or loses its power at any operation and on both sides of any transaction. Users act also in the middle
//! of a batch. What users did is durable at once: they are careful programs; what syncd did is as durable as it made it.

use super::database::Database;
use super::flaw::Flaw;
use super::flawed_fs::FlawedFs;
use super::rng::Rng;
use super::scenario::Act;
use super::user::{Deed, Files, Object, Thing, User};
use protocol::model::{Content, Mode, Mtime, RelPath};
use protocol::sync::{Action, ActionId, Disk, Fingerprint, Kind, Outcome};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use syncd::disk::fs::Fs;
use syncd::disk::fs::sim::{Fault, SimFs, crash, until_crash};
use syncd::disk::hash::HashOptions;
use syncd::disk::ignore::Ignore;
use syncd::disk::scan::{Next, ScanEvent, Scanner};
use syncd::disk::sim_journal::CommitPoint;
use syncd::disk::{Stage, commit, recover, versions};

/// Seconds after which displaced objects have surely left `hold/`.
const HOLD_OVER_SECS: u64 = 700;

/// One device's volume.
#[derive(Clone)]
pub struct Volume {
    fs: Arc<FlawedFs>,
    /// Time stamps are multiples of this.
    tick: Duration,
}

/// What a user does in the middle of a batch.
#[derive(Clone, Debug)]
pub struct Race {
    /// File system operations of the batch before it.
    pub after: u64,
    /// Who.
    pub user: User,
    /// What.
    pub act: Act,
}

/// How a batch went.
pub struct Ran {
    /// By action; `None`: the process was killed in it.
    pub outcomes: Option<Vec<(ActionId, Outcome)>>,
    /// What users did meanwhile.
    pub deeds: Vec<Deed>,
}

impl Volume {
    /// An empty volume with a prepared folder.
    #[must_use]
    pub fn new(tick: Duration, ahead: Duration, flaw: Option<Flaw>) -> Self {
        let fs = FlawedFs::new(SimFs::new(), flaw);
        fs.prepare_private().expect("a fresh volume");
        fs.set_tick(u64::try_from(tick.as_nanos()).expect("a tick is short"));
        fs.advance(ahead);
        Self { fs: Arc::new(fs), tick }
    }

    /// A copy that goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { fs: Arc::new(self.fs.fork()), tick: self.tick }
    }

    /// The clock goes.
    pub fn advance(&self, by: Duration) {
        self.fs.advance(by);
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> Mtime {
        self.fs.now()
    }

    /// The process ends; with `power` so does everything that was not made durable.
    pub fn end(&self, power: bool, rng: &mut Rng) {
        if power {
            self.fs.power_cut(|n| rng.below(n));
        } else {
            self.fs.kill();
        }
    }

    /// What a start settles.
    pub fn recover(&self, store: &Database) {
        if self.fs.flaw() == Some(Flaw::KeptHold) {
            self.fs.empty_hold().expect("the simulated disk answers");
        }
        recover(&*self.fs, store, self.now().secs).expect("the simulated disk answers");
    }

    /// Displaced objects find their place, long after.
    pub fn release(&self, store: &Database) {
        self.advance(Duration::from_secs(HOLD_OVER_SECS));
        versions::release(&*self.fs, store, self.now().secs).expect("the simulated disk answers");
    }

    /// Bytes in `.syncd/`, for people.
    #[must_use]
    pub fn private_names(&self) -> Vec<String> {
        self.fs.private_tree().into_keys().collect()
    }

    /// Makes a verified temp of these bytes.
    pub fn stage(&self, bytes: &[u8]) {
        let Content::File(content) = Thing::File(bytes.to_vec()).content() else { return };
        let stage = Stage::new(Arc::clone(&self.fs)).expect("the private directory stands");
        if self.fs.flaw() == Some(Flaw::VerifiedTemps) {
            let left = stage.find(&content).expect("a temp opens");
            if left.is_some_and(|temp| temp.len_left().ok() == Some(content.size)) {
                return;
            }
        }
        let temp = stage.open(&content).expect("a temp opens");
        temp.write_at(bytes, 0).expect("the volume has room");
        stage.finish(&temp).expect("the bytes are the content");
    }

    /// Carries out a batch. `dies_after` counts file system operations and transactions.
    pub fn act(
        &self,
        store: &Database,
        actions: &[Action],
        counter: u64,
        dies_after: Option<u64>,
        races: Vec<Race>,
    ) -> Ran {
        let deeds = Arc::new(Mutex::new(Vec::new()));
        let countdown = Arc::new(Mutex::new(dies_after));
        self.arm(Arc::clone(&countdown), races, Arc::clone(&deeds));
        store.set_hook(Some(Box::new(move |_: CommitPoint| {
            if is_over(&countdown) {
                crash();
            }
        })));
        let done = until_crash(|| commit(&*self.fs, store, actions, counter, self.now().secs));
        self.fs.set_hook(None);
        store.set_hook(None);
        let outcomes = done.map(|done| actions.iter().map(|action| action.id).zip(done).collect());
        let deeds = std::mem::take(&mut *deeds.lock().expect("nobody panics with it"));
        Ran { outcomes, deeds }
    }

    fn arm(&self, countdown: Arc<Mutex<Option<u64>>>, mut races: Vec<Race>, deeds: Arc<Mutex<Vec<Deed>>>) {
        let mut files = self.clone();
        self.fs.set_hook(Some(Box::new(move |op| {
            let (due, later) = races.drain(..).partition(|race: &Race| race.after <= op.number);
            races = later;
            for race in due {
                let did = race.user.act(race.act, &mut files);
                deeds.lock().expect("nobody panics with it").extend(did);
            }
            if is_over(&countdown) { Fault::Crash } else { Fault::None }
        })));
    }

    /// The whole folder against its rows, in batches as they come. The last says whether all of it was seen.
    pub fn scan(&self, store: &Database) -> Vec<ScanEvent> {
        self.scanner(store, |scanner, out| scanner.scan(None, &mut |events| out.extend(events)))
    }

    /// One path, with what is below it where asked or where a directory is new.
    pub fn look(&self, store: &Database, path: &RelPath, subtree: bool) -> Vec<ScanEvent> {
        self.scanner(store, |scanner, out| {
            if subtree {
                scanner.scan(Some(path), &mut |events| out.extend(events));
                return;
            }
            if let Next::Subtree(at) = scanner.observe(path, &mut |events| out.extend(events)) {
                scanner.scan(Some(&at), &mut |events| out.extend(events));
            }
        })
    }

    fn scanner(
        &self,
        store: &Database,
        run: impl FnOnce(&Scanner<'_, FlawedFs>, &mut Vec<ScanEvent>),
    ) -> Vec<ScanEvent> {
        let (ignore, cancel, clock) = (Ignore::default(), AtomicBool::new(false), || self.fs.now());
        let hash = HashOptions { now: &clock, granularity: self.fs.granularity(), cancel: &cancel };
        let scanner = Scanner { fs: &*self.fs, rows: store, ignore: &ignore, hash, workers: 1 };
        let mut found = Vec::new();
        run(&scanner, &mut found);
        found
    }

    fn stat(&self, path: &RelPath) -> Option<Fingerprint> {
        let dir = self.fs.open_dir(path.parent().as_ref()).ok()?;
        self.fs.stat(&dir, path.name()).ok()?
    }
}

/// Counts down; true when the process ends here.
fn is_over(countdown: &Mutex<Option<u64>>) -> bool {
    match &mut *countdown.lock().expect("nobody panics with it") {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl Disk for Volume {
    fn is_absent(&self, path: &RelPath) -> bool {
        self.stat(path).is_none()
    }

    fn fingerprint(&self, path: &RelPath) -> Option<Fingerprint> {
        self.stat(path)
    }

    fn is_ignored(&self, _path: &RelPath, _is_directory: bool) -> bool {
        false
    }
}

/// Only the users' side of the volume: it is called from inside syncd's operations.
impl Files for Volume {
    fn objects(&self) -> BTreeMap<RelPath, Object> {
        let object = |found: syncd::disk::fs::sim::Found| {
            let thing = match found.kind {
                Kind::Directory => Thing::Directory,
                Kind::Symlink => Thing::Symlink(found.bytes),
                Kind::File | Kind::Special => Thing::File(found.bytes),
            };
            Object { content: thing.content(), mode: found.mode, mtime: found.mtime }
        };
        self.fs.tree().into_iter().map(|(path, found)| (path, object(found))).collect()
    }

    fn put(&mut self, path: &RelPath, thing: &Thing, _mode: Mode, mtime: Mtime) {
        let is_file = self.fs.tree().get(path).is_some_and(|found| found.kind == Kind::File);
        let done = match thing {
            // Some programs write in place, others rename a new file over the old one.
            Thing::File(bytes) if is_file && mtime.nanos.is_multiple_of(2) => self.fs.user_write(path, bytes),
            Thing::File(bytes) => self.fs.user_save(path, bytes),
            Thing::Symlink(target) => self.fs.user_symlink(path, target),
            Thing::Directory => self.fs.user_mkdir(path),
        };
        done.expect("the user knows what stands there");
        self.fs.user_fsync(path);
    }

    fn set_metadata(&mut self, path: &RelPath, mode: Mode, mtime: Mtime) {
        let is_mode = self.fs.tree().get(path).is_some_and(|found| found.mode == mode);
        let done = if is_mode { self.fs.user_touch(path, mtime) } else { self.fs.user_chmod(path, mode) };
        done.expect("the user knows what stands there");
        self.fs.user_fsync(path);
    }

    fn remove_all(&mut self, path: &RelPath) {
        self.fs.user_delete(path).expect("the user knows what stands there");
        self.fs.user_fsync(path);
    }

    fn rename_all(&mut self, from: &RelPath, to: &RelPath) {
        self.fs.user_rename(from, to).expect("the user knows what stands there");
        self.fs.user_fsync(to);
        self.fs.user_fsync(from);
    }
}
