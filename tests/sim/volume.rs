//! The disk of the `disk` profile: the real commit protocol, recovery and scanner over a file system in memory that
//! is killed or loses its power at any operation and on both sides of any transaction. Users act also in the middle
//! of a batch. What careful programs did is durable at once, what careless ones did may go with the power, as long as
//! nobody has heard of it; what syncd did is as durable as it made it.

use super::database::Database;
use super::flaw::Flaw;
use super::flawed_fs::FlawedFs;
use super::oracle::{Identity, is_copy};
use super::rng::Rng;
use super::scenario::Act;
use super::user::{Deed, Files, Object, Thing, Through, User, moved};
use super::weather::{Faults, Weather};
use protocol::model::{Content, Mode, Mtime, RelPath};
use protocol::sync::{Action, ActionId, Disk, Fingerprint, Kind, Outcome, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use syncd::disk::fs::sim::{Fault, Folding, Names, Op, OpKind, SimFs, UserFile, until_crash};
use syncd::disk::fs::{Errno, Fs, errno};
use syncd::disk::hash::HashOptions;
use syncd::disk::ignore::Ignore;
use syncd::disk::scan::{Next, ScanEvent, Scanner};
use syncd::disk::stage::FinishError;
use syncd::disk::{Stage, commit, make_durable, recover, versions};

/// What volumes that fold names do not tell apart.
pub const FOLDING: Folding = Folding { case: true, accents: true };
/// The name outside the folder that users give files.
const OUTSIDE: &[u8] = b"outside";
/// Seconds after which displaced objects have surely left `hold/`.
const HOLD_OVER_SECS: u64 = 700;

/// One device's volume.
#[derive(Clone)]
pub struct Volume {
    fs: Arc<FlawedFs>,
    /// Time stamps are multiples of this.
    tick: Duration,
    weather: Arc<Mutex<Weather>>,
    /// Some programs here never call fsync.
    has_careless: bool,
    /// The program at work does.
    is_careful: bool,
    /// What careless programs changed.
    loose: Arc<Mutex<BTreeSet<RelPath>>>,
}

/// What a power cut took.
pub struct Lost {
    /// Where, from what was there to what is.
    pub deed: Deed,
    /// Of what was there.
    pub fingerprint: Option<Fingerprint>,
}

/// What careless programs lose when the process ends.
#[derive(Default)]
pub struct Losses {
    /// In the tree.
    pub tree: Vec<Lost>,
    /// Of files that syncd had displaced: what was in them, and what is.
    pub displaced: Vec<(Content, Content)>,
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

impl Race {
    /// Some users are never as quick as between a check and the rename that follows it.
    fn is_due(&self, op: &Op) -> bool {
        let renames = matches!(op.kind, OpKind::Rename | OpKind::Exchange);
        if self.after % 4 == 3 { renames && self.after / 4 <= op.number } else { self.after <= op.number }
    }
}

/// How a batch went.
pub struct Ran {
    /// By action; `None`: the process was killed in it.
    pub outcomes: Option<Vec<(ActionId, Outcome)>>,
    /// What users did meanwhile.
    pub deeds: Vec<Deed>,
    /// A file that was missing for a moment while it was replaced.
    pub vanished: Option<RelPath>,
}

/// What the hook of a batch or a scan has seen and done.
#[derive(Default)]
struct Meanwhile {
    deeds: Vec<Deed>,
    vanished: Option<RelPath>,
}

impl Volume {
    /// An empty volume with a prepared folder.
    #[must_use]
    pub fn new(tick: Duration, ahead: Duration, flaw: Option<Flaw>, weather: Weather, has_careless: bool) -> Self {
        let fs = FlawedFs::new(SimFs::new(), flaw);
        fs.prepare_private().expect("a fresh volume");
        fs.set_tick(u64::try_from(tick.as_nanos()).expect("a tick is short"));
        fs.advance(ahead);
        let weather = Arc::new(Mutex::new(weather));
        let volume = Self { fs: Arc::new(fs), tick, weather, has_careless, is_careful: true, loose: Arc::default() };
        volume.arm(None, Vec::new(), Vec::new(), Arc::default());
        volume
    }

    /// The same on a volume that takes different spellings for one name.
    #[must_use]
    pub fn folding(self) -> Self {
        self.fs.set_folding(FOLDING);
        self
    }

    /// A copy that goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        let weather = Arc::new(Mutex::new(self.weather.lock().expect("nobody panics with it").clone()));
        let loose = Arc::new(Mutex::new(self.loose().clone()));
        let fork = Self { fs: Arc::new(self.fs.fork()), weather, loose, ..self.clone() };
        fork.arm(None, Vec::new(), Vec::new(), Arc::default());
        fork
    }

    /// Nothing fails any more, and what is in nobody's way any more goes.
    pub fn heal(&self) {
        self.weather.lock().expect("nobody panics with it").clear();
        self.disarm();
        for (path, _) in self.fs.tree().into_iter().filter(|(_, found)| found.kind == Kind::Special) {
            self.fs.user_delete(&path).expect("a user may remove a pipe");
            self.fs.user_fsync(&path);
        }
    }

    /// The faults begin again.
    pub fn ail(&self, faults: &Faults) {
        self.weather.lock().expect("nobody panics with it").ail(faults);
    }

    /// Opens a file for a program that keeps it open.
    #[must_use]
    pub fn open(&self, path: &RelPath) -> Option<UserFile> {
        let is_file = self.fs.tree().get(path).is_some_and(|found| found.kind == Kind::File);
        if is_file { self.fs.user_open(path).ok() } else { None }
    }

    /// The bytes of a file.
    #[must_use]
    pub fn read(&self, path: &RelPath) -> Vec<u8> {
        self.fs.tree().remove(path).map(|found| found.bytes).unwrap_or_default()
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

    /// The process ends; with `power` so does everything that was not made durable. Returns what careless programs
    /// lose by that.
    pub fn end(&self, power: bool, rng: &mut Rng) -> Losses {
        if !power {
            self.fs.kill();
            self.disarm();
            return Losses::default();
        }
        self.fs.set_hook(None);
        let loose = std::mem::take(&mut *self.loose());
        let is_loose = |path: &RelPath| loose.iter().any(|top| path == top || path.is_below(top));
        let mut before = if loose.is_empty() { BTreeMap::new() } else { self.objects() };
        before.retain(|path, _| is_loose(path));
        let before: BTreeMap<RelPath, (Content, Option<Fingerprint>)> =
            before.into_iter().map(|(path, object)| (path.clone(), (object.content, self.stat(&path)))).collect();
        let files = if loose.is_empty() { BTreeMap::new() } else { self.fs.files() };
        self.fs.power_cut(|n| rng.below(n));
        let displaced = if files.is_empty() { Vec::new() } else { self.displaced_since(&files) };
        let mut after = if loose.is_empty() { BTreeMap::new() } else { self.objects() };
        after.retain(|path, _| is_loose(path));
        let paths: BTreeSet<RelPath> = before.keys().chain(after.keys()).cloned().collect();
        let lost = paths.into_iter().filter_map(|path| {
            let (content, fingerprint) = before.get(&path).cloned().map_or((None, None), |(was, at)| (Some(was), at));
            let now = after.get(&path).map(|object| object.content.clone());
            let deed = Deed { path, before: content, after: now, through: Through::This };
            (deed.before != deed.after).then_some(Lost { deed, fingerprint })
        });
        let tree = lost.collect();
        self.disarm();
        Losses { tree, displaced }
    }

    /// What has other bytes now among the private ones.
    fn displaced_since(&self, before: &BTreeMap<u64, Vec<u8>>) -> Vec<(Content, Content)> {
        let now = self.fs.private_files().into_iter();
        let changed = now.filter_map(|(inode, is)| Some((before.get(&inode)?.clone(), is)));
        let content = |bytes: Vec<u8>| Thing::File(bytes).content();
        changed.filter(|(was, is)| was != is).map(|(was, is)| (content(was), content(is))).collect()
    }

    fn loose(&self) -> MutexGuard<'_, BTreeSet<RelPath>> {
        self.loose.lock().expect("nobody panics with it")
    }

    /// A program ends what it did at a path.
    fn close(&self, path: &RelPath) {
        if self.is_careful {
            self.fs.user_fsync(path);
        } else {
            self.loose().insert(path.clone());
        }
    }

    /// What a start settles.
    ///
    /// # Errors
    /// When the disk does not answer: the daemon does not start.
    pub fn recover(&self, store: &Database) -> io::Result<()> {
        if self.fs.flaw() == Some(Flaw::KeptHold) {
            self.fs.empty_hold()?;
        }
        recover(&*self.fs, store, self.now().secs).map(drop)
    }

    /// Displaced objects find their place, long after.
    pub fn release(&self, store: &Database) {
        self.advance(Duration::from_secs(HOLD_OVER_SECS));
        versions::release(&*self.fs, store, self.now().secs).expect("the simulated disk answers");
    }

    /// What is kept outside the tree without a path of its own.
    #[must_use]
    pub fn recovered(&self) -> Vec<Identity> {
        let kept = self.fs.private_tree().into_iter().filter(|(path, _)| path.starts_with("versions/recovered/"));
        kept.map(|(_, found)| Thing::File(found.bytes).content().identity()).collect()
    }

    /// A version, or a conflict copy, that is a file which the user sees under another name too. What a peer moved is
    /// still the same file. After `release`.
    #[must_use]
    pub fn shared(&self, moved: &BTreeSet<RelPath>) -> Option<String> {
        let is_moved = |path: &str| moved.iter().any(|moved| moved.display() == path);
        let is_ours = |path: &String| {
            let copy = RelPath::parse(path.as_bytes()).is_ok_and(|path| is_copy(&path)) && !is_moved(path);
            copy || path.starts_with(".syncd/versions/")
        };
        self.fs.shared().into_iter().find(is_ours)
    }

    /// Makes a verified temp of these bytes.
    ///
    /// # Errors
    /// What the disk answers.
    pub fn stage(&self, bytes: &[u8]) -> io::Result<()> {
        let Content::File(content) = Thing::File(bytes.to_vec()).content() else { return Ok(()) };
        let stage = Stage::new(Arc::clone(&self.fs))?;
        if self.fs.flaw() == Some(Flaw::VerifiedTemps) {
            let left = stage.find(&content)?;
            if left.is_some_and(|temp| temp.len_left().ok() == Some(content.size)) {
                return Ok(());
            }
        }
        let temp = stage.open(&content)?;
        temp.write_at(bytes, 0)?;
        stage.finish(&temp).map_err(|error| match error {
            FinishError::Io(error) => error,
            FinishError::WrongContent => panic!("the bytes are the content"),
        })
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
        let meanwhile = Arc::new(Mutex::new(Meanwhile::default()));
        let countdown = Arc::new(Mutex::new(dies_after));
        let replaced = self.replaced(actions);
        self.arm(Some(Arc::clone(&countdown)), races, replaced, Arc::clone(&meanwhile));
        store.set_hook(Some(Box::new(move || is_over(&countdown))));
        let done = until_crash(|| commit(&*self.fs, store, actions, counter, self.now().secs));
        self.disarm();
        store.set_hook(None);
        // Without a barrier the daemon ends itself, which is one more way to be killed.
        let outcomes = done.and_then(Result::ok).map(|done| actions.iter().map(|action| action.id).zip(done).collect());
        let Meanwhile { deeds, vanished } = std::mem::take(&mut *meanwhile.lock().expect("nobody panics with it"));
        Ran { outcomes, deeds, vanished }
    }

    /// Files that a batch replaces by files: nobody may find one missing meanwhile.
    fn replaced(&self, actions: &[Action]) -> Vec<RelPath> {
        if !self.weather.lock().expect("nobody panics with it").has_exchange() {
            return Vec::new();
        }
        let is_swap = |action: &&Action| {
            let was = action.expected.as_ref().map(|have| &have.entry.content);
            matches!(was, Some(Content::File(_) | Content::Symlink(_)))
                && matches!(action.step, Step::InstallFile | Step::InstallSymlink)
        };
        let paths = actions.iter().filter(is_swap).map(|action| action.path.clone());
        paths.filter(|path| self.fs.user_sees(path)).collect()
    }

    /// Only the weather is left.
    fn disarm(&self) {
        self.arm(None, Vec::new(), Vec::new(), Arc::default());
    }

    fn arm(
        &self,
        countdown: Option<Arc<Mutex<Option<u64>>>>,
        mut races: Vec<Race>,
        mut replaced: Vec<RelPath>,
        meanwhile: Arc<Mutex<Meanwhile>>,
    ) {
        let is_fair = self.weather.lock().expect("nobody panics with it").is_fair();
        if is_fair && countdown.is_none() && races.is_empty() {
            self.fs.set_hook(None);
            return;
        }
        // The volume holds the hook: a handle of the whole would never be dropped.
        let (fs, weather, tick) = (Arc::downgrade(&self.fs), Arc::clone(&self.weather), self.tick);
        let (loose, has_careless) = (Arc::clone(&self.loose), self.has_careless);
        self.fs.set_hook(Some(Box::new(move |op| {
            let Some(fs) = fs.upgrade() else { return Fault::None };
            if let Some(path) = replaced.iter().find(|path| !fs.user_sees(path)) {
                meanwhile.lock().expect("nobody panics with it").vanished.get_or_insert(path.clone());
            }
            let (due, later) = races.drain(..).partition(|race: &Race| race.is_due(op));
            races = later;
            for race in due {
                let (fs, weather, loose) = (Arc::clone(&fs), Arc::clone(&weather), Arc::clone(&loose));
                let mut files = Self { fs, tick, weather, has_careless, is_careful: true, loose };
                let did = race.user.act(race.act, &mut files);
                meanwhile.lock().expect("nobody panics with it").deeds.extend(did);
                // From here on a file may be missing because of a user.
                replaced.clear();
            }
            if countdown.as_ref().is_some_and(|countdown| is_over(countdown)) {
                return Fault::Crash;
            }
            weather.lock().expect("nobody panics with it").strike(op)
        })));
    }

    /// The whole folder against its rows, in batches as they come, while users are at work. The last event says whether
    /// all of it was seen.
    pub fn scan(&self, store: &Database, races: Vec<Race>) -> (Vec<ScanEvent>, Vec<Deed>) {
        let meanwhile = Arc::new(Mutex::new(Meanwhile::default()));
        self.arm(None, races, Vec::new(), Arc::clone(&meanwhile));
        let found = self.scanner(store, |scanner, out| scanner.scan(None, &mut |events| out.extend(events)));
        self.disarm();
        let deeds = std::mem::take(&mut meanwhile.lock().expect("nobody panics with it").deeds);
        (found, deeds)
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
        let mut events = Vec::new();
        run(&scanner, &mut events);
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for event in &events {
            match event {
                ScanEvent::Found(it) => found.push(it.clone()),
                ScanEvent::Missing(path) => missing.push(path.clone()),
                ScanEvent::Problem { .. } | ScanEvent::Progress { .. } | ScanEvent::Done { .. } => {}
            }
        }
        if self.fs.flaw() != Some(Flaw::DurableFindings) && make_durable(&*self.fs, &found, &missing).is_err() {
            return vec![ScanEvent::Done { complete: false }];
        }
        events
    }

    fn stat(&self, path: &RelPath) -> Option<Fingerprint> {
        let dir = self.fs.open_dir(path.parent().as_ref()).ok()?;
        self.fs.stat(&dir, path.name()).ok()?
    }
}

/// Counts down; true when the process ends here.
pub fn is_over(countdown: &Mutex<Option<u64>>) -> bool {
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
        match self.fs.open_dir(path.parent().as_ref()) {
            Ok(dir) => matches!(self.fs.stat(&dir, path.name()), Ok(None)),
            Err(_) if self.fs.flaw() == Some(Flaw::CompleteListing) => true,
            Err(error) => matches!(errno(&error), Errno::NOENT | Errno::NOTDIR | Errno::LOOP),
        }
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
        let object = |found: syncd::disk::fs::sim::Found| -> Option<Object> {
            let thing = match found.kind {
                Kind::Directory => Thing::Directory,
                Kind::Symlink => Thing::Symlink(found.bytes),
                Kind::File => Thing::File(found.bytes),
                Kind::Special => return None,
            };
            Some(Object { content: thing.content(), mode: found.mode, mtime: found.mtime })
        };
        self.fs.tree().into_iter().filter_map(|(path, found)| Some((path, object(found)?))).collect()
    }

    fn begin(&mut self, salt: u64) {
        self.is_careful = !self.has_careless || (salt / 8).is_multiple_of(2);
    }

    fn put(&mut self, path: &RelPath, thing: &Thing, _mode: Mode, mtime: Mtime) {
        let is_file = self.fs.tree().get(path).is_some_and(|found| found.kind == Kind::File);
        let done = match thing {
            // Some programs write in place, others rename a new file over the old one.
            Thing::File(bytes) if is_file && mtime.nanos.is_multiple_of(2) => self.fs.user_write(path, bytes),
            Thing::File(bytes) => self.fs.user_save(path, bytes),
            Thing::Symlink(target) => self.fs.user_symlink(path, target),
            Thing::Directory => {
                if self.fs.user_sees(path) {
                    self.fs.user_delete(path).expect("a pipe, which nobody counts");
                }
                self.fs.user_mkdir(path)
            }
        };
        done.expect("the user knows what stands there");
        self.close(path);
    }

    /// A tick after whatever happened there last: within it no stamp could tell.
    fn rewrite(&mut self, path: &RelPath, bytes: &[u8], mtime: Mtime) {
        self.advance(self.tick);
        let done = self.fs.user_write(path, bytes).and_then(|()| self.fs.user_touch(path, mtime));
        done.expect("the user knows what stands there");
        self.close(path);
    }

    fn put_pipe(&mut self, path: &RelPath) {
        self.fs.user_mkfifo(path).expect("the user knows what stands there");
        self.close(path);
    }

    fn set_metadata(&mut self, path: &RelPath, mode: Mode, mtime: Mtime) {
        let is_mode = self.fs.tree().get(path).is_some_and(|found| found.mode == mode);
        let done = if is_mode { self.fs.user_touch(path, mtime) } else { self.fs.user_chmod(path, mode) };
        done.expect("the user knows what stands there");
        self.close(path);
    }

    fn remove_all(&mut self, path: &RelPath) {
        self.fs.user_delete(path).expect("the user knows what stands there");
        self.close(path);
    }

    fn rename_all(&mut self, from: &RelPath, to: &RelPath) {
        self.fs.user_rename(from, to).expect("the user knows what stands there");
        let mut loose = self.loose();
        let along: Vec<RelPath> = loose.iter().filter(|path| path.is_below(from)).map(|p| moved(p, from, to)).collect();
        loose.extend(along);
        drop(loose);
        self.close(to);
        self.close(from);
    }

    fn spelling(&self, path: &RelPath) -> RelPath {
        self.fs.user_spelling(path)
    }

    fn link(&mut self, from: &RelPath, to: &RelPath) {
        // A pipe, which nobody counts, may stand there.
        if self.fs.user_sees(to) {
            self.fs.user_delete(to).expect("the user sees it");
        }
        self.fs.user_link(from, to).expect("the user knows what stands there");
        self.fs.user_fsync(to);
    }

    fn others(&self, path: &RelPath) -> Names {
        let mut names = self.fs.names_of(path);
        names.tree.retain(|other| other != path);
        names
    }

    fn link_outside(&mut self, from: &RelPath) {
        self.fs.user_link_outside(from, OUTSIDE).expect("the user knows what stands there");
    }

    fn write_outside(&mut self, bytes: &[u8]) {
        // There may be none yet.
        let _ = self.fs.user_write_outside(OUTSIDE, bytes);
    }

    fn names_of_outside(&self) -> Names {
        self.fs.names_of_outside(OUTSIDE)
    }
}
