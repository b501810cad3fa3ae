//! What a scan tells, as tables of small trees, on the simulated and on the real disk.

use super::*;
use crate::disk::fs::sim::{Fault, Folding, OpKind};
use crate::disk::fs::{Errno, Fs, RealFs, SimFs};
use crate::disk::hash::{HashOptions, wall_clock};
use crate::disk::sim_journal::MemJournal;
use protocol::model::{Entry, Event, Mode, Mtime, ReplicaId, Version};
use protocol::sync::{Change, Have, Journal, Observed, ProblemCode};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// A disk, what is recorded of it, and a scanner of both.
struct World<F: Fs> {
    fs: F,
    rows: MemJournal,
    ignore: Ignore,
    workers: usize,
    granularity: Duration,
    now: Box<dyn Fn() -> Mtime + Sync>,
    counter: u64,
    cancel: AtomicBool,
}

const REPLICA: ReplicaId = ReplicaId([1; 8]);

impl World<SimFs> {
    fn sim() -> Self {
        let fs = SimFs::new();
        let clock = fs.clone();
        fs.prepare_private().unwrap();
        let mut world = Self::of(fs, Box::new(move || clock.now()));
        world.granularity = Duration::ZERO;
        world
    }

    /// `d/` makes a directory, `x` writes a file, `l>t` makes a link, `-x` deletes, `a=b` renames.
    fn user(&mut self, changes: &str) -> &mut Self {
        for change in changes.split_whitespace() {
            self.fs.advance(Duration::from_secs(10));
            if let Some(dir) = change.strip_suffix('/') {
                self.fs.user_mkdir(&path(dir)).unwrap();
            } else if let Some((link, target)) = change.split_once('>') {
                self.fs.user_symlink(&path(link), target.as_bytes()).unwrap();
            } else if let Some(gone) = change.strip_prefix('-') {
                self.fs.user_delete(&path(gone)).unwrap();
            } else if let Some((from, to)) = change.split_once('=') {
                self.fs.user_rename(&path(from), &path(to)).unwrap();
            } else {
                self.fs.user_write(&path(change), change.as_bytes()).unwrap();
            }
        }
        self.fs.advance(Duration::from_secs(10));
        self
    }
}

impl World<RealFs> {
    fn real() -> (Self, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let fs = RealFs::open(dir.path()).unwrap();
        fs.prepare_private().unwrap();
        let mut world = Self::of(fs, Box::new(wall_clock));
        world.workers = 2;
        world.granularity = Duration::ZERO;
        (world, dir)
    }
}

impl<F: Fs> World<F> {
    fn of(fs: F, now: Box<dyn Fn() -> Mtime + Sync>) -> Self {
        Self {
            fs,
            rows: MemJournal::new(REPLICA),
            ignore: Ignore::default(),
            workers: 1,
            granularity: Duration::from_millis(10),
            now,
            counter: 0,
            cancel: AtomicBool::new(false),
        }
    }

    fn scanner(&self) -> Scanner<'_, F> {
        let hash = HashOptions { now: &*self.now, granularity: self.granularity, cancel: &self.cancel };
        Scanner { fs: &self.fs, rows: &self.rows, ignore: &self.ignore, hash, workers: self.workers }
    }

    fn events(&self, scope: Option<&str>) -> Vec<ScanEvent> {
        let mut all = Vec::new();
        self.scanner().scan(scope.map(path).as_ref(), &mut |batch| {
            assert!(batch.len() <= BATCH_MAX);
            all.extend(batch);
        });
        all
    }

    /// Scans, and records what it told.
    fn record(&mut self, scope: Option<&str>) -> String {
        let events = self.events(scope);
        self.commit(&events);
        words(&events)
    }

    fn commit(&mut self, events: &[ScanEvent]) {
        for event in events {
            self.counter += 1;
            let at = Version::of(Event { replica: REPLICA, counter: self.counter });
            let change = match event {
                ScanEvent::Found(found) => change_of(&found.path, &found.observed, &at),
                ScanEvent::Missing(path) => change_of(path, &Observed::Absent, &at),
                _ => continue,
            };
            self.rows.commit(vec![change]);
        }
    }

    fn observe(&self, at: &str) -> (String, Next) {
        let mut all = Vec::new();
        let next = self.scanner().observe(&path(at), &mut |batch| all.extend(batch));
        (words(&all), next)
    }
}

fn change_of(path: &RelPath, observed: &Observed, at: &Version) -> Change {
    let fingerprint = observed.fingerprint().copied();
    let entry = Entry {
        version: at.clone(),
        content: observed.content(),
        content_at: at.clone(),
        mode: fingerprint.map_or(Mode::default(), |print| print.mode),
        mode_at: at.clone(),
        mtime: Mtime::default(),
        ancestors: Vec::new(),
        found: false,
    };
    let racy = matches!(observed, Observed::File { racy: true, .. });
    Change::Have { path: path.clone(), have: Have { entry, fingerprint, racy } }
}

/// `x` found, `d/` directory, `l>t` link, `x~` racy file, `-x` missing, `!x:Code` problem, `...` not complete.
fn words(events: &[ScanEvent]) -> String {
    let mut words: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            ScanEvent::Found(Observation { path, observed, .. }) => Some(match observed {
                Observed::Directory { .. } => format!("{}/", path.display()),
                Observed::File { racy, .. } => format!("{}{}", path.display(), if *racy { "~" } else { "" }),
                Observed::Symlink { target, .. } => format!("{}>{}", path.display(), target.escape_ascii()),
                Observed::Absent => panic!("absence is told as Missing"),
            }),
            ScanEvent::Missing(path) => Some(format!("-{}", path.display())),
            ScanEvent::Problem { path, problem } => {
                let path = path.as_ref().map_or_else(|| ".".to_owned(), RelPath::display);
                Some(format!("!{path}:{:?}", problem.code))
            }
            ScanEvent::Progress { .. } | ScanEvent::Done { complete: true } => None,
            ScanEvent::Done { complete: false } => Some("...".to_owned()),
        })
        .collect();
    words.sort_by_key(|word| word == "...");
    words.join(" ")
}

/// Records a tree, changes it, and compares what a scan of the whole tells. A second scan tells nothing of it again.
fn check(name: &str, before: &str, change: &str, expected: &str) {
    let mut world = World::sim();
    world.user(before).record(None);
    assert_eq!(world.record(None), "", "{name}: nothing changed yet");
    world.user(change);
    assert_eq!(world.record(None), expected, "{name}");
    let again = words(&world.events(None));
    assert!(again.split(' ').all(|word| word.is_empty() || word.starts_with('!') || word == "..."), "{name}: {again}");
}

#[test]
fn differences() {
    check("new tree", "", "a d/ d/e/ d/e/f l>a", "d/ l>a a d/e/ d/e/f");
    check("changed", "a b d/ d/c", "a d/c", "a d/c");
    check("removed", "a b", "-a", "-a");
    check("removed tree", "d/ d/a d/e/ d/e/b dx", "-d/e/b -d/e -d/a -d", "-d -d/a -d/e -d/e/b");
    check("renamed", "a b", "a=c", "-a c");
    check("renamed directory", "d/ d/a d/e/ d/e/b", "d=n", "-d -d/a -d/e -d/e/b n/ n/e/ n/a n/e/b");
    check("file to directory", "a", "-a a/ a/b", "a/ a/b");
    check("directory to file", "a/ a/b a/c", "-a/b -a/c -a a", "-a/b -a/c a");
    check("file to link", "a", "-a a>t", "a>t");
    check("link changed", "a>t", "-a a>u", "a>u");
    check("link to a loop", "", "d/ d/up>.. d/self>self", "d/ d/self>self d/up>..");
    check("empty directory to link", "d/", "-d d>elsewhere", "d>elsewhere");
    check("swapped", "a b", "a=t b=a t=b", "a b");
}

/// NS2: the old spelling is gone, though the volume still answers for it.
#[test]
fn a_change_of_spelling_is_a_rename() {
    let mut world = World::sim();
    world.fs.set_folding(Folding { case: true, accents: true });
    world.user("a d/ d/x").record(None);
    world.user("a=A d=D");
    assert_eq!(world.observe("a").0, "-a");
    assert_eq!(world.observe("d/x").0, "-d/x");
    assert_eq!(world.record(None), "D/ -a -d -d/x A D/x");
    assert_eq!(world.record(None), "");
}

/// NS9: a directory that became a link keeps its files elsewhere, until a person says otherwise.
#[test]
fn a_directory_replaced_by_a_link_deletes_nothing() {
    check("moved to another disk", "d/ d/a", "-d/a -d d>/mnt/big", "!d:Blocked ...");
}

#[test]
fn mode_and_times() {
    let mut world = World::sim();
    world.user("a d/ d/b").record(None);
    world.fs.user_chmod(&path("a"), Mode::new(0o600)).unwrap();
    world.fs.user_chmod(&path("d"), Mode::new(0o700)).unwrap();
    assert_eq!(world.record(None), "d/ a");
    // DT6: same size, restored mtime: ctime tells.
    let mtime = world.rows.get(&path("d/b")).have.unwrap().fingerprint.unwrap().mtime;
    world.fs.advance(Duration::from_secs(5));
    world.fs.user_write(&path("d/b"), b"x/y").unwrap();
    world.fs.user_touch(&path("d/b"), mtime).unwrap();
    world.fs.advance(Duration::from_secs(5));
    assert_eq!(world.record(None), "d/b");
}

/// DT7: what changed within a tick of the clock is read again by the next scan.
#[test]
fn racy_files_are_read_again() {
    let mut world = World::sim();
    world.fs.set_tick(2_000_000_000);
    world.granularity = Duration::from_secs(2);
    world.fs.user_write(&path("a"), b"one").unwrap();
    assert_eq!(world.record(None), "a~");
    world.fs.user_write(&path("a"), b"two").unwrap();
    world.fs.advance(Duration::from_secs(10));
    assert_eq!(world.record(None), "a", "the same size, inode and time stamps");
    assert_eq!(world.record(None), "");
}

#[test]
fn scopes() {
    let mut world = World::sim();
    world.user("a d/ d/b d/e/ d/e/f").record(None);
    world.user("a d/b d/e/f");
    assert_eq!(world.record(Some("d/e")), "d/e/f");
    assert_eq!(world.record(Some("d/b")), "d/b", "a file");
    assert_eq!(world.record(Some("nowhere/x")), "");
    world.user("-d/e/f -d/e -d/b -d");
    assert_eq!(world.record(Some("d/e")), "-d/e -d/e/f", "its parent is gone");
    world.user("n/ n/m/ n/m/x");
    assert_eq!(world.record(Some("n/m/x")), "n/ n/m/ n/m/x", "from the topmost directory nobody knows");
    assert_eq!(world.record(None), "-d -d/b a");
}

#[test]
fn single_looks() {
    let mut world = World::sim();
    world.user("a d/ d/b d/e/ d/e/f l>a").record(None);
    let check = |world: &World<SimFs>, at: &str, expected: &str, next: Next| {
        assert_eq!(world.observe(at), (expected.to_owned(), next), "{at}");
    };
    for at in ["a", "d", "d/b", "l", "none", "d/none", "no/such", "a/below"] {
        check(&world, at, "", Next::Nothing);
    }
    world.user("a n/ n/m/ n/m/x -d/b");
    check(&world, "a", "a", Next::Nothing);
    check(&world, "d/b", "-d/b", Next::Nothing);
    check(&world, "n", "n/", Next::Subtree(path("n")));
    check(&world, "n/m", "", Next::Subtree(path("n")));
    check(&world, "n/m/x", "", Next::Subtree(path("n")));
    world.user("-d/e/f -d/e -d d");
    check(&world, "d/e/f", "-d/b -d/e -d/e/f d", Next::Nothing);
    world.user("-d");
    check(&world, "d/e", "-d/e -d/e/f", Next::Nothing);
}

#[test]
fn ignored_paths_are_neither_found_nor_missing() {
    let mut world = World::sim();
    world.user("a.o keep d/ d/b.o d/c t/ t/x").record(None);
    world.ignore = Ignore::load(Some(b"*.o\n/t/\n"), None);
    assert_eq!(world.record(None), "");
    world.user("-a.o -t/x -t new.o d/b.o .stignore .stfolder/");
    assert_eq!(world.record(None), "");
    assert_eq!(world.observe("a.o").0 + &world.observe("d/b.o").0 + &world.observe("t/x").0, "");
    assert_eq!(world.record(Some("t")), "");
    world.user("-d/b.o -d/c -d");
    assert_eq!(world.record(None), "-d -d/c");
}

/// In a receive-only folder findings are recorded beside the entries: told once, and once more when undone.
#[test]
fn local_findings() {
    let mut world = World::sim();
    world.user("a b d/ d/c").record(None);
    let before = world.rows.get(&path("a")).have.unwrap().fingerprint.unwrap();
    world.user("a -b n/ n/x d/c");
    let found = world.events(None);
    assert_eq!(words(&found), "-b n/ a d/c n/x");
    let local = |event: &ScanEvent| match event {
        ScanEvent::Found(found) => Some((found.path.clone(), Some(found.observed.clone()))),
        ScanEvent::Missing(path) => Some((path.clone(), Some(Observed::Absent))),
        _ => None,
    };
    let record = |world: &World<SimFs>, events: &[ScanEvent]| {
        let changes = events.iter().filter_map(local).map(|(path, local)| Change::Local { path, local });
        world.rows.commit(changes.collect());
    };
    record(&world, &found);
    assert_eq!(words(&world.events(None)), "", "told once");
    assert_eq!(world.observe("n/x"), (String::new(), Next::Nothing), "its directory is known");
    world.user("b -n/x n/y");
    let found = world.events(None);
    assert_eq!(sorted(&words(&found)), "-n/x b n/y");
    record(&world, &found);
    world.user("-n/y");
    assert_eq!(world.observe("n/y").0, "-n/y");
    // The entry's own object is back: no difference to the entry, but one to the finding.
    let have = world.rows.get(&path("a")).have.unwrap();
    let now = world.fs.stat(&world.fs.open_dir(None).unwrap(), b"a").unwrap();
    assert_ne!(now, Some(before));
    world.rows.commit(vec![
        Change::Have { path: path("a"), have: Have { fingerprint: now, ..have } },
        Change::Local { path: path("a"), local: Some(Observed::Absent) },
    ]);
    assert_eq!(world.observe("a").0, "a");
    assert_eq!(sorted(&words(&world.events(Some("a")))), "a");
}

#[test]
fn private_names() {
    let mut world = World::sim();
    world.user("d/");
    let dir = world.fs.open_dir(Some(&path("d"))).unwrap();
    world.fs.mkdir(&dir, b".SyncD", Mode::new(0o700)).unwrap();
    let root = world.fs.open_dir(None).unwrap();
    world.fs.mkdir(&root, b".SYNCD", Mode::new(0o700)).unwrap();
    assert_eq!(world.record(None), "!.:Blocked d/ !d:Blocked");
}

/// DT16: what cannot be read or listed to its end is not missing.
#[test]
fn unreadable_means_unchanged() {
    let tree = "a d/ d/b d/e/ d/e/f z";
    let cases: [(&str, OpKind, &str, &str); 4] = [
        ("a listing that fails", OpKind::List, "", "!.:Io ..."),
        ("a directory that cannot be opened", OpKind::OpenDir, "d", "!d:Io ..."),
        ("a name that cannot be looked at", OpKind::Stat, "d", "!d:Io ..."),
        ("a file that cannot be opened", OpKind::Open, "z", "!z:Io ..."),
    ];
    for (name, kind, at, expected) in cases {
        let mut world = World::sim();
        world.user(tree).record(None);
        world.user("z");
        if kind != OpKind::Open {
            world.record(None);
        }
        world.fs.set_hook(Some(Box::new(move |op| {
            if op.kind == kind && op.name == at.as_bytes() { Fault::Errno(Errno::IO) } else { Fault::None }
        })));
        assert_eq!(words(&world.events(None)), expected, "{name}");
        world.fs.set_hook(None);
    }
}

/// A name that lstat does not confirm as gone is left alone, whatever the listing said.
#[test]
fn absence_needs_two_witnesses() {
    let mut world = World::sim();
    world.user("a b").record(None);
    world.user("-a");
    world.fs.set_hook(Some(Box::new(|op| {
        if op.kind == OpKind::Stat && op.name == b"a" { Fault::Errno(Errno::STALE) } else { Fault::None }
    })));
    assert_eq!(words(&world.events(None)), "!a:Io ...");
    assert_eq!(world.observe("a").0, "!a:Io");
}

/// DT8: a file that changes under the reader is told as it was at one instant, or as busy.
#[test]
fn a_moving_file() {
    let mut world = World::sim();
    world.user("a");
    let user = world.fs.clone();
    let meddle = move |times: u32| {
        let (user, mut left) = (user.clone(), times);
        Box::new(move |op: &crate::disk::fs::sim::Op| {
            if op.kind == OpKind::Read && left > 0 {
                left -= 1;
                user.advance(Duration::from_secs(5));
                user.user_write(&path("a"), &left.to_le_bytes()).unwrap();
                user.advance(Duration::from_secs(5));
            }
            Fault::None
        })
    };
    world.fs.set_hook(Some(meddle(100)));
    assert_eq!(words(&world.events(None)), "!a:Busy ...");
    world.fs.set_hook(Some(meddle(2)));
    assert_eq!(world.record(None), "a");
    let content = world.rows.get(&path("a")).have.unwrap().entry.content;
    assert_eq!(content.file().unwrap().hash, protocol::model::ContentHash::of(&0u32.to_le_bytes()));
}

#[test]
fn cancelled_at_once() {
    let mut world = World::sim();
    world.user("a b d/ d/c").record(None);
    world.user("-a -b");
    world.cancel.store(true, Ordering::Relaxed);
    assert_eq!(words(&world.events(None)), "...");
}

#[test]
fn real_special_files_never_block() {
    let (mut world, dir) = World::real();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("a"), "a").unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    assert_eq!(sorted(&world.record(None)), "!fifo:Special !socket:Special a");
    // In place of a file: nothing is said about the file.
    std::fs::remove_file(at("a")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("a"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(sorted(&world.record(None)), "!a:Special !fifo:Special !socket:Special");
}

fn sorted(words: &str) -> String {
    let mut words: Vec<&str> = words.split(' ').collect();
    words.sort_unstable();
    words.join(" ")
}

#[test]
fn real_links_are_not_followed() {
    let (mut world, dir) = World::real();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::os::unix::fs::symlink("/", dir.path().join("d/root")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("d/up")).unwrap();
    assert_eq!(world.record(None), "d/ d/root>/ d/up>..");
    assert_eq!(world.observe("d/up/d/up"), (String::new(), Next::Nothing), "nothing is below a link");
    assert_eq!(world.record(None), "");
}

/// NS4: names are bytes.
#[test]
fn real_names_that_are_not_text() {
    use std::os::unix::ffi::OsStringExt;
    let (mut world, dir) = World::real();
    let name = PathBuf::from(std::ffi::OsString::from_vec(b"\xff\n\x1b*".to_vec()));
    std::fs::write(dir.path().join(&name), "x").unwrap();
    world.record(None);
    assert!(world.rows.get(&RelPath::parse(b"\xff\n\x1b*").unwrap()).is_live());
    assert_eq!(world.record(None), "");
}

#[test]
fn real_mounts_are_frozen() {
    // Only where a mount lies below a directory that can be a root: the devices of this machine.
    let fs = RealFs::open(std::path::Path::new("/dev")).unwrap();
    let world = World::of(fs, Box::new(wall_clock));
    let mut told = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let Some(mount) = mounts.lines().find_map(|line| line.split(' ').nth(1)?.strip_prefix("/dev/").map(path)) else {
        eprintln!("skipped: nothing is mounted below /dev");
        return;
    };
    let next = world.scanner().observe(&mount, &mut |batch| told.extend(batch));
    assert_eq!(next, Next::Nothing);
    let blocked =
        |event: &ScanEvent| matches!(event, ScanEvent::Problem { problem, .. } if problem.code == ProblemCode::Blocked);
    assert!(told.iter().all(blocked) && told.len() == 1, "{told:?}");
}

/// Several threads tell the same as one, directories before what is in them.
#[test]
fn threads_agree() {
    let (mut world, dir) = World::real();
    for directory in 0..30 {
        let below = dir.path().join(format!("d{directory}/e"));
        std::fs::create_dir_all(&below).unwrap();
        for file in 0..40 {
            std::fs::write(below.join(format!("{file}")), format!("{directory} {file}")).unwrap();
        }
    }
    world.workers = 1;
    let one = words(&world.events(None));
    world.workers = 4;
    let events = world.events(None);
    assert_eq!(sorted(&one), sorted(&words(&events)));
    let mut known = std::collections::BTreeSet::new();
    for event in &events {
        if let ScanEvent::Found(found) = event {
            let parent = found.path.parent();
            assert!(parent.is_none_or(|parent| known.contains(&parent)), "{:?} before its directory", found.path);
            known.insert(found.path.clone());
        }
    }
    assert_eq!(known.len(), 30 * 42);
}

/// What the folder does with hints.
fn follow(world: &mut World<RealFs>, dirty: &crate::disk::watch::Dirty) {
    let scopes = dirty.subtrees.iter().map(|path| Some(path.display()));
    for scope in scopes.chain(dirty.overflow.then_some(None)) {
        world.record(scope.as_deref());
    }
    for path in &dirty.paths {
        let mut events = Vec::new();
        let next = world.scanner().observe(path, &mut |batch| events.extend(batch));
        world.commit(&events);
        if let Next::Subtree(top) = next {
            world.record(Some(&top.display()));
        }
    }
}

/// DT2: nothing made inside a directory before it was watched is lost.
#[test]
fn real_files_in_new_directories_are_all_found() {
    use crate::disk::watch::Watcher;
    let (mut world, dir) = World::real();
    let (send, receive) = crossbeam_channel::unbounded();
    // The receiver lives as long as the watcher.
    let _watcher = Watcher::start(dir.path(), Box::new(move |dirty| send.send(dirty).map_err(|unsent| unsent.0)));
    let root = dir.path().to_owned();
    let user = std::thread::spawn(move || {
        for directory in 0..200 {
            let deep = root.join(format!("{directory}/y/z"));
            std::fs::create_dir_all(&deep).unwrap();
            for file in 0..20 {
                std::fs::write(deep.join(file.to_string()), "x").unwrap();
            }
        }
    });
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while world.rows.state().totals.files < 4000 {
        let dirty = receive.recv_deadline(limit).expect("more hints as long as files are unknown");
        follow(&mut world, &dirty);
    }
    let totals = world.rows.state().totals;
    user.join().unwrap();
    assert_eq!((totals.files, totals.directories), (4000, 600));
}
