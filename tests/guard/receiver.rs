//! One engine over a database in memory, on a disk that does what it is told, and peers whose indexes are written by
//! the test. What the engine asks for is done before anything else happens.

use protocol::model::{
    Chunking, Content, ContentHash, DeviceId, Digest, Entry, Event as Dot, FileContent, Mode, Mtime, RelPath,
    ReplicaId, Row, RunId, Sequence, Timestamp, Version,
};
use protocol::sync::engine::{
    Alarm, Config, Declined, DigestWords, Effect, Engine, Event, Hold, IndexBatch, RunWords, View,
};
use protocol::sync::{
    Action, Change, DeclineCode, Disk, Fingerprint, Have, Journal, Kind, Observation, Observed, Outcome, Rows, Step,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use syncd::disk::sim_journal::MemJournal;

/// Rows that a peer puts in one batch.
const BATCH: usize = 512;
/// Files in one directory.
const PER_DIRECTORY: usize = 100;

/// A disk on which stands what the rows say, but for what a user did.
struct Obedient {
    store: MemJournal,
    gone: BTreeSet<RelPath>,
    written: BTreeMap<RelPath, (Fingerprint, Content)>,
    ignored: BTreeSet<RelPath>,
}

impl Obedient {
    /// What a look at a file that a user wrote finds.
    fn found(&self, path: &RelPath) -> Option<Event> {
        let (fingerprint, content) = self.written.get(path)?;
        let content = content.file().expect("a file").clone();
        let observed = Observed::File { fingerprint: *fingerprint, content, racy: false };
        Some(Event::Observed(vec![Observation { path: path.clone(), observed, manifest: None }]))
    }
}

impl Disk for Obedient {
    fn is_absent(&self, path: &RelPath) -> bool {
        self.gone.contains(path) || !self.store.get(path).is_live()
    }

    fn fingerprint(&self, path: &RelPath) -> Option<Fingerprint> {
        let written = self.written.get(path).map(|(fingerprint, _)| *fingerprint);
        written.or_else(|| self.store.get(path).have.and_then(|have| have.fingerprint))
    }

    fn is_ignored(&self, path: &RelPath, _is_directory: bool) -> bool {
        self.ignored.contains(path)
    }
}

/// What a peer announces, written by the test.
pub struct Peer {
    pub id: DeviceId,
    pub replica: ReplicaId,
    rows: BTreeMap<RelPath, Entry>,
    counter: u64,
    sequence: u64,
    ignored: BTreeSet<RelPath>,
    /// Its changes count.
    pub writes: bool,
}

impl Peer {
    fn new(number: u8) -> Self {
        let (id, replica) = (DeviceId([number; 32]), ReplicaId([number; 8]));
        Self { id, replica, rows: BTreeMap::new(), counter: 0, sequence: 0, ignored: BTreeSet::new(), writes: true }
    }

    /// Its next row for this path.
    pub fn sets(&mut self, path: &RelPath, content: Content) -> Row {
        self.counter += 1;
        let event = Dot { replica: self.replica, counter: self.counter };
        let at = Version::of(event);
        let version = self.rows.get(path).map_or_else(|| at.clone(), |known| known.version.bumped(event));
        let entry = Entry {
            version,
            content,
            content_at: at.clone(),
            mode: Mode::new(0o644),
            mode_at: at,
            mtime: Mtime::from_secs(1_000_000_000 + self.counter.cast_signed()),
            ancestors: Vec::new(),
            found: false,
        };
        self.rows.insert(path.clone(), entry.clone());
        Row { path: path.clone(), entry }
    }

    /// It has what another has, as that one has it.
    pub fn copies(&mut self, other: &Self) {
        self.rows.clone_from(&other.rows);
    }

    /// It deletes these, files first.
    pub fn deletes(&mut self, paths: &[RelPath]) -> Vec<Row> {
        paths.iter().rev().map(|path| self.sets(path, Content::Tombstone)).collect()
    }

    /// It gives these new contents.
    pub fn rewrites(&mut self, paths: &[RelPath], with: &str) -> Vec<Row> {
        paths.iter().map(|path| self.sets(path, text(&format!("{with}{path:?}")))).collect()
    }

    /// It changes the mode of a file and nothing else.
    pub fn chmods(&mut self, path: &RelPath) -> Row {
        let mut entry = self.rows[path].clone();
        self.counter += 1;
        let event = Dot { replica: self.replica, counter: self.counter };
        (entry.version, entry.mode, entry.mode_at) =
            (entry.version.bumped(event), Mode::new(0o600), Version::of(event));
        self.rows.insert(path.clone(), entry.clone());
        Row { path: path.clone(), entry }
    }

    /// It has what another device announced, in place of what it had, and ignores it no longer.
    pub fn adopts(&mut self, row: &Row) -> Row {
        let Row { path, mut entry } = row.clone();
        self.ignored.remove(&path);
        if let Some(known) = self.rows.get(&path) {
            self.counter += 1;
            let event = Dot { replica: self.replica, counter: self.counter };
            entry.version = entry.version.join(&known.version).bumped(event);
        }
        self.rows.insert(path.clone(), entry.clone());
        Row { path, entry }
    }

    /// An ignore rule of it matches this path, and it declines what it hears of it.
    pub fn ignores(&mut self, path: &RelPath) {
        self.ignored.insert(path.clone());
    }

    /// Over its live rows, but for what it ignores.
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        let counted = |path: &RelPath, entry: &Entry| entry.is_live() && !self.ignored.contains(path);
        self.rows.iter().filter(|(path, entry)| counted(path, entry)).for_each(|(path, entry)| digest.add(path, entry));
        digest
    }

    /// The same without this path.
    pub fn digest_without(&self, path: &RelPath) -> Digest {
        let mut digest = self.digest();
        digest.remove(path, &self.rows[path]);
        digest
    }

    fn declined(&self, of: &MemJournal) -> Vec<Declined> {
        let ours = |path: &RelPath| of.get(path).entry().map(|entry| entry.version.clone()).unwrap_or_default();
        let declined = |path: &RelPath| Declined {
            path: path.clone(),
            version: ours(path),
            code: Some(DeclineCode::Ignored),
            words: "ignored".to_owned(),
        };
        self.ignored.iter().map(declined).collect()
    }

    /// What it announced of this path last.
    pub fn last(&self, path: &RelPath) -> Row {
        Row { path: path.clone(), entry: self.rows[path].clone() }
    }

    /// It puts back what it had, as a person does with a backup.
    pub fn restores(&mut self, paths: &[RelPath]) -> Vec<Row> {
        paths.iter().map(|path| self.sets(path, standing(path))).collect()
    }
}

/// The device under test.
pub struct Receiver {
    pub store: MemJournal,
    disk: Obedient,
    engine: Engine,
    config: Config,
    /// What the disk and the network answer, before anything else happens.
    answers: VecDeque<Event>,
    pub now: Timestamp,
    /// What a person was told.
    pub told: Vec<Hold>,
    /// What peers were told that is not applied here.
    pub declined: BTreeMap<RelPath, Declined>,
    /// Paths whose file went away, in order.
    pub removed: Vec<RelPath>,
    /// Peers whose index was asked for from its beginning.
    asked: BTreeSet<DeviceId>,
    /// The last digest that each peer was sent.
    pub digests: BTreeMap<DeviceId, DigestWords>,
    /// Paths that were to be looked at.
    pub looked: BTreeSet<RelPath>,
    /// What it last said of its run.
    pub said: Option<RunWords>,
    /// The peer that knows more of its index than it does.
    pub stale: Option<DeviceId>,
    /// A batch is taken and not carried out.
    pub rests: bool,
    batch: Option<(Vec<Action>, u64)>,
    /// No content that is asked for comes.
    pub serves_nothing: bool,
    /// What was asked for then, and not withdrawn.
    pub fetching: BTreeMap<RelPath, ContentHash>,
}

impl Receiver {
    /// It and a first peer have these files, which both wrote together; the peer is connected.
    pub fn with(files: usize) -> (Self, Peer) {
        let store = MemJournal::new(ReplicaId([0xaa; 8]));
        let mut peer = Peer::new(1);
        let mut changes = vec![Change::Scanned];
        for path in paths(files).iter().flat_map(|path| [path.parent(), Some(path.clone())]).flatten() {
            if !peer.rows.contains_key(&path) {
                let entry = peer.sets(&path, standing(&path)).entry;
                changes.push(Change::Have { path, have: Have { entry, fingerprint: None, racy: false } });
            }
        }
        store.commit(changes);
        let config = Config::default();
        let engine = Engine::new(config.clone(), &store);
        let disk = Obedient {
            store: store.clone(),
            gone: BTreeSet::new(),
            written: BTreeMap::new(),
            ignored: BTreeSet::new(),
        };
        let mut this = Self {
            store,
            disk,
            engine,
            config,
            answers: VecDeque::new(),
            now: Timestamp(1_000_000),
            told: Vec::new(),
            declined: BTreeMap::new(),
            removed: Vec::new(),
            asked: BTreeSet::new(),
            digests: BTreeMap::new(),
            looked: BTreeSet::new(),
            said: None,
            stale: None,
            rests: false,
            batch: None,
            serves_nothing: false,
            fetching: BTreeMap::new(),
        };
        this.happens(Event::Started);
        this.meets(&peer);
        (this, peer)
    }

    /// A peer that has what `other` has, connected.
    pub fn meets_another(&mut self, number: u8, other: &Peer) -> Peer {
        let mut peer = Peer::new(number);
        peer.copies(other);
        self.meets(&peer);
        peer
    }

    /// A peer that only reads, with what `other` has, connected.
    pub fn meets_reader(&mut self, number: u8, other: &Peer) -> Peer {
        let mut peer = Peer::new(number);
        peer.copies(other);
        peer.writes = false;
        self.meets(&peer);
        peer
    }

    pub fn meets(&mut self, peer: &Peer) {
        self.happens(Event::Connected { peer: peer.id, replica: peer.replica, writes: peer.writes });
    }

    pub fn loses(&mut self, peer: &Peer) {
        self.happens(Event::Disconnected(peer.id));
    }

    /// A peer announces these rows and has no others.
    pub fn hears(&mut self, peer: &mut Peer, rows: Vec<Row>) {
        self.hears_part(peer, rows, 0);
    }

    /// A peer announces these rows and has `more` than that.
    pub fn hears_part(&mut self, peer: &mut Peer, rows: Vec<Row>, more: u64) {
        let head = Sequence(peer.sequence + rows.len() as u64 + more);
        for rows in rows.chunks(BATCH) {
            let from = Sequence(peer.sequence);
            peer.sequence += rows.len() as u64;
            let to = Sequence(peer.sequence);
            let batch = IndexBatch { replica: peer.replica, from, to, head, rows: rows.to_vec() };
            self.happens(Event::Index { peer: peer.id, batch });
        }
    }

    /// A peer that has read everything, and whose whole index was read as often as asked for, says what it holds.
    pub fn compares(&mut self, peer: &Peer) {
        if self.asked.remove(&peer.id) {
            let rows = peer.rows.keys().map(|path| peer.last(path)).collect();
            let (from, head) = (Sequence(0), Sequence(peer.sequence));
            let batch = IndexBatch { replica: peer.replica, from, to: head, head, rows };
            self.happens(Event::Index { peer: peer.id, batch });
        }
        let (replica, head) = (self.store.state().replica, self.store.state().head);
        self.happens(Event::IndexGet { peer: peer.id, replica, from: head, credit: 2 });
        let declined = peer.declined(&self.store);
        self.happens(Event::IndexAck { peer: peer.id, replica, sequence: head, declined });
        let words = DigestWords {
            replica: peer.replica,
            head: Sequence(peer.sequence),
            your_replica: replica,
            your_applied: head,
            digest: peer.digest(),
            idle: true,
        };
        self.happens(Event::Digest { peer: peer.id, words });
    }

    pub fn waits(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.happens(Event::Wake);
    }

    pub fn restarts(&mut self) {
        self.told.clear();
        self.engine = Engine::new(self.config.clone(), &self.store);
        self.happens(Event::Started);
    }

    /// It starts again under this run id.
    pub fn runs(&mut self, run: u8) {
        self.config.run = Some(RunId([run; 8]));
        self.restarts();
    }

    /// Its database becomes this one.
    pub fn goes_back_to(&mut self, store: MemJournal) {
        self.disk.store = store.clone();
        self.store = store;
    }

    /// A person switches the guard; whether the folder had to start again for it.
    pub fn guards(&mut self, guard: bool) -> bool {
        self.config.guard = guard;
        let switched = self.engine.set_guard(guard, View { rows: &self.store, disk: &self.disk });
        let starts = switched.is_none();
        self.carry_out(switched.unwrap_or_default());
        if starts {
            self.restarts();
        } else {
            self.happens(Event::Wake);
        }
        starts
    }

    pub fn happens(&mut self, event: Event) {
        let view = View { rows: &self.store, disk: &self.disk };
        let effects = self.engine.handle(self.now, event, view);
        self.carry_out(effects);
        for _ in 0..100_000 {
            let view = View { rows: &self.store, disk: &self.disk };
            let mut effects = self.engine.advance(self.now, view);
            if effects.is_empty() {
                let Some(event) = self.answers.pop_front() else {
                    return;
                };
                effects = self.engine.handle(self.now, event, view);
            }
            self.carry_out(effects);
        }
        panic!("advance does not come to rest");
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Commit(changes) => self.store.commit(changes),
                Effect::Fetch { path, content, .. } if self.serves_nothing => {
                    assert_eq!(self.fetching.insert(path, content.hash), None, "one content for a path at a time");
                }
                Effect::CancelFetch { path } => {
                    self.fetching.remove(&path).expect("what is withdrawn was asked for");
                }
                Effect::Fetch { path, content, .. } => {
                    self.answers.push_back(Event::Fetched { path, content: content.hash });
                }
                Effect::Apply { actions, counter } if self.rests => self.batch = Some((actions, counter)),
                Effect::Apply { actions, counter } => self.apply(&actions, counter),
                Effect::IndexAck { declined, .. } => {
                    self.declined.extend(declined.into_iter().map(|it| (it.path.clone(), it)));
                }
                Effect::Alarm(Alarm::Held(hold)) => self.told.push(hold),
                Effect::IndexGet { peer, from: Sequence(0), .. } => {
                    self.asked.insert(peer);
                }
                Effect::Digest { peer, words } => {
                    self.digests.insert(peer, words);
                }
                Effect::Look { path, .. } => {
                    self.answers.extend(self.disk.found(&path));
                    self.looked.insert(path);
                }
                Effect::SetAside { path } => drop(self.disk.written.remove(&path)),
                Effect::Run { words, .. } => self.said = Some(words),
                Effect::Alarm(Alarm::Stale { peer, .. }) => self.stale = Some(peer),
                Effect::Alarm(alarm) => panic!("{alarm:?}"),
                _ => {}
            }
        }
    }

    fn apply(&mut self, actions: &[Action], counter: u64) {
        let have = |entry: &Entry| Have { entry: entry.clone(), fingerprint: None, racy: false };
        let mut changes = vec![Change::Counter(counter)];
        for action in actions {
            if action.step == Step::Remove && !self.store.get(&action.path).is_directory() {
                self.removed.push(action.path.clone());
            }
            changes.push(Change::Have { path: action.path.clone(), have: have(&action.entry) });
            if let Step::MoveFrom { from, tombstone, .. } = &action.step {
                changes.push(Change::Have { path: from.clone(), have: have(tombstone) });
            }
        }
        self.store.commit(changes);
        let done = actions.iter().map(|action| (action.id, Outcome::Done)).collect();
        self.answers.push_back(Event::Applied(done));
    }

    /// It carries out the batch that it took.
    pub fn acts(&mut self) {
        self.rests = false;
        let (actions, counter) = self.batch.take().expect("a batch");
        self.apply(&actions, counter);
        self.happens(Event::Wake);
    }

    /// A user of this device deletes files.
    pub fn user_deletes(&mut self, paths: &[RelPath]) {
        self.disk.gone.extend(paths.iter().cloned());
        self.happens(Event::Missing(paths.to_vec()));
        self.waits(Duration::from_secs(1));
    }

    /// A user of this device writes a file.
    pub fn user_writes(&mut self, path: &RelPath, words: &str) {
        self.user_puts(path, text(words), 2_000_000_000);
    }

    /// A user of this device puts a file there, with a time of last change that may be long ago.
    pub fn user_puts(&mut self, path: &RelPath, content: Content, mtime_secs: i64) {
        self.user_puts_unseen(path, content, mtime_secs);
        self.finds(&[path]);
    }

    /// The same, before anything looks at it.
    pub fn user_puts_unseen(&mut self, path: &RelPath, content: Content, mtime_secs: i64) {
        let kind = Kind::File;
        let times = (Mtime::from_secs(mtime_secs), Mtime::from_secs(2_000_000_000));
        let (size, mode) = (content.file().expect("a file").size, Mode::new(0o644));
        let fingerprint = Fingerprint { fs: 1, inode: 1, kind, size, mtime: times.0, ctime: times.1, mode };
        self.disk.written.insert(path.clone(), (fingerprint, content));
    }

    /// One batch of findings, each of what a user put there last.
    pub fn finds(&mut self, paths: &[&RelPath]) {
        let found = paths.iter().flat_map(|path| self.disk.found(path)).flat_map(|found| match found {
            Event::Observed(found) => found,
            _ => Vec::new(),
        });
        let found = found.collect();
        self.happens(Event::Observed(found));
    }

    /// An ignore rule matches this path from now on.
    pub fn ignores(&mut self, path: &RelPath) {
        self.disk.ignored.insert(path.clone());
        self.happens(Event::IgnoreChanged);
    }

    /// What it announced of this path last.
    pub fn last(&self, path: &RelPath) -> Row {
        Row { path: path.clone(), entry: self.store.get(path).entry().expect("a row").clone() }
    }

    /// The digests of both are equal and current.
    pub fn is_in_sync(&self, peer: &Peer) -> bool {
        self.engine.status(&self.store).peers[&peer.id].in_sync
    }

    pub fn files(&self) -> usize {
        usize::try_from(self.store.state().totals.files).expect("few files")
    }

    pub fn directories(&self) -> u64 {
        self.store.state().totals.directories
    }

    /// The holds in words: what, how many, of how many, by whom.
    pub fn held(&self) -> String {
        words(&self.engine.held())
    }

    pub fn wake_at(&self) -> Option<Timestamp> {
        self.engine.wake_at()
    }

    /// Whether its index was asked for from the beginning.
    pub fn is_asked(&self, peer: &Peer) -> bool {
        self.asked.contains(&peer.id)
    }

    pub fn is_idle(&self) -> bool {
        self.engine.is_idle(&self.store)
    }

    pub fn content(&self, path: &RelPath) -> Option<Content> {
        self.store.get(path).entry().filter(|entry| entry.is_live()).map(|entry| entry.content.clone())
    }
}

pub fn words(holds: &[Hold]) -> String {
    let one = |hold: &Hold| {
        let peer = hold.peer.map_or(0, |peer| peer.0[0]);
        format!("{:?} {} of {} by {peer}", hold.what, hold.files, hold.of)
    };
    holds.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub fn text(words: &str) -> Content {
    let hash = ContentHash::of(words.as_bytes());
    Content::File(FileContent { size: words.len() as u64, hash, chunking: Chunking::Whole, chunks: Vec::new() })
}

/// What stands at a path at first.
pub fn standing(path: &RelPath) -> Content {
    if path.parent().is_none() { Content::Directory } else { text(&format!("{path:?}")) }
}

pub fn path(words: &str) -> RelPath {
    RelPath::parse(words.as_bytes()).expect("a valid path")
}

/// The first files, in order.
pub fn paths(files: usize) -> Vec<RelPath> {
    (0..files).map(|at| path(&format!("d{:04}/{at:06}", at / PER_DIRECTORY))).collect()
}
