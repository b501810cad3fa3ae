//! Two threads that look at the disk for a folder: one scans the whole tree or subtrees, one looks at single paths,
//! so that an edit is seen while a scan of a million files runs. Both report through one bounded channel.
//!
//! Invariant: what is reported was on disk under the folder's own marker; a missing or foreign root reports nothing.

use super::report::StopCause;
use super::shared::Shared;
use crate::disk::fs::{Fs, RealFs, problem};
use crate::disk::hash::{HashOptions, HashOutcome, Hasher, wall_clock};
use crate::disk::make_durable;
use crate::disk::scan::{self, Next, ScanEvent};
use crate::disk::watch::{Barrier, Dirty, Watcher};
use crossbeam_channel::Sender;
use protocol::model::RelPath;
use protocol::sync::{Observation, Problem, Rows};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Found objects in one report.
const BATCH_MAX: usize = 256;
/// A stopped folder looks whether its root is back.
const ROOT_POLL: Duration = Duration::from_secs(5);
/// How long a barrier waits for its own event before the whole folder is scanned instead.
const BARRIER_WAIT: Duration = Duration::from_secs(3);
/// Threads that list and hash during a scan.
const SCAN_WORKERS: usize = 2;

/// What shall be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Everything.
    Whole,
    /// A path and everything below it.
    Subtree(RelPath),
    /// One path.
    Path(RelPath),
    /// One path whose bytes were not what the index says.
    Doubt(RelPath),
    /// The ignore files changed.
    Ignore,
    /// Report when everything that changed before now has been reported.
    Barrier,
}

/// What was seen.
#[derive(Debug)]
pub(super) enum Seen {
    /// A scan begins.
    Started,
    /// It ended.
    Ended {
        /// It covered the folder and nothing was unreadable.
        whole: bool,
        /// What it went over; `None`: everything.
        scope: Option<RelPath>,
    },
    /// New or changed.
    Found(Vec<Observation>),
    /// Gone.
    Missing(Vec<RelPath>),
    /// Cannot be synced.
    Problem(Option<RelPath>, Problem),
    /// Its bytes differ from the index though nothing else about it does: nobody wrote them.
    Suspect(RelPath),
    /// Looked at, and nothing is wrong with it.
    Fine(RelPath),
    /// Everything before the barrier has been reported.
    Barrier,
    /// The ignore files changed.
    IgnoreChanged,
    /// The root is, or is not, what it was.
    Root(Result<(), StopCause>),
    /// How much of the folder is not watched, in words; `None`: all is.
    Watching(Option<String>),
}

#[derive(Debug, Default)]
struct Pending {
    whole: bool,
    subtrees: BTreeSet<RelPath>,
    paths: BTreeSet<RelPath>,
    doubts: BTreeSet<RelPath>,
    ignore: bool,
    barrier: bool,
    /// Another scan interval holds.
    tuned: bool,
    /// The scanner has reached the barrier; the looker reports it.
    scanner_passed: bool,
    stop: bool,
}

/// What the two threads still have to look at. Adding never blocks.
#[derive(Debug, Default)]
pub(super) struct LookQueue {
    pending: Mutex<Pending>,
    changed: Condvar,
    /// Ends a scan within one entry.
    cancel: AtomicBool,
}

impl LookQueue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("no thread panics while it holds the look queue")
    }

    pub(super) fn add(&self, look: Look) {
        let mut pending = self.lock();
        match look {
            Look::Whole => pending.whole = true,
            Look::Subtree(path) => drop(pending.subtrees.insert(path)),
            Look::Path(path) => drop(pending.paths.insert(path)),
            Look::Doubt(path) => drop(pending.doubts.insert(path)),
            Look::Ignore => pending.ignore = true,
            Look::Barrier => pending.barrier = true,
        }
        self.changed.notify_all();
    }

    /// What the watcher saw.
    pub(super) fn dirty(&self, dirty: Dirty) {
        let mut pending = self.lock();
        pending.whole |= dirty.overflow;
        for path in dirty.paths {
            pending.ignore |= is_ignore_file(&path);
            pending.paths.insert(path);
        }
        pending.subtrees.extend(dirty.subtrees);
        self.changed.notify_all();
    }

    /// A path that could not be taken in before.
    pub(super) fn again(&self, path: RelPath) {
        let mut pending = self.lock();
        pending.ignore |= is_ignore_file(&path);
        pending.paths.insert(path);
        self.changed.notify_all();
    }

    /// Something waits to be looked at.
    pub(super) fn is_busy(&self) -> bool {
        let pending = self.lock();
        pending.whole || !pending.subtrees.is_empty() || !pending.paths.is_empty()
    }

    /// Another scan interval holds from now on.
    pub(super) fn tuned(&self) {
        self.lock().tuned = true;
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.cancel.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Waits for single paths; `None`: end.
    fn next_paths(&self) -> Option<PathWork> {
        let mut pending = self.lock();
        loop {
            if pending.stop {
                return None;
            }
            let barrier = pending.scanner_passed;
            if !pending.paths.is_empty() || !pending.doubts.is_empty() || pending.ignore || barrier {
                pending.scanner_passed = false;
                return Some(PathWork {
                    paths: std::mem::take(&mut pending.paths),
                    doubts: std::mem::take(&mut pending.doubts),
                    ignore: std::mem::take(&mut pending.ignore),
                    barrier,
                });
            }
            pending = self.changed.wait(pending).expect("no thread panics while it holds the look queue");
        }
    }

    /// Waits for scans, for that of everything until `due`; `None`: end.
    fn next_scan(&self, due: Instant) -> Option<ScanWork> {
        let mut pending = self.lock();
        loop {
            if pending.stop {
                return None;
            }
            let wait = due.saturating_duration_since(Instant::now());
            let is_due = wait.is_zero();
            if is_due || pending.whole || !pending.subtrees.is_empty() || pending.barrier || pending.tuned {
                return Some(ScanWork {
                    whole: std::mem::take(&mut pending.whole) || is_due,
                    subtrees: std::mem::take(&mut pending.subtrees),
                    barrier: std::mem::take(&mut pending.barrier),
                    tuned: std::mem::take(&mut pending.tuned),
                });
            }
            let waited = self.changed.wait_timeout(pending, wait);
            pending = waited.expect("no thread panics while it holds the look queue").0;
        }
    }
}

struct PathWork {
    paths: BTreeSet<RelPath>,
    doubts: BTreeSet<RelPath>,
    ignore: bool,
    barrier: bool,
}

struct ScanWork {
    whole: bool,
    subtrees: BTreeSet<RelPath>,
    barrier: bool,
    tuned: bool,
}

/// The scanning thread.
pub(super) struct Scanner {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<LookQueue>,
    pub(super) out: Sender<Seen>,
    pub(super) watcher: Option<Watcher>,
    /// The root was not what it should be when it was last looked at; false at the start.
    pub(super) stopped: bool,
    /// What was told of the watcher last.
    pub(super) watching: Option<String>,
}

impl Scanner {
    pub(super) fn run(mut self) {
        let mut due = Instant::now() + self.shared.tuning().scan_interval;
        while let Some(work) = self.queue.next_scan(due) {
            self.tell_watching();
            let root = self.shared.check_root();
            if self.stopped || root.is_err() {
                self.stopped = root.is_err();
                if self.out.send(Seen::Root(root)).is_err() {
                    return;
                }
            }
            if self.stopped {
                due = Instant::now() + ROOT_POLL;
                continue;
            }
            let looked = work.barrier && self.barrier();
            if work.whole && !looked {
                self.scan(None);
            }
            if work.whole || looked || work.tuned {
                due = Instant::now() + self.pause();
            }
            for path in roots_of(work.subtrees) {
                self.scan(Some(&path));
            }
            if work.barrier {
                self.queue.lock().scanner_passed = true;
                self.queue.changed.notify_all();
            }
            if self.stopped {
                due = Instant::now() + ROOT_POLL;
            }
        }
    }

    fn tell_watching(&mut self) {
        let watching = self.watcher.as_ref().and_then(|watcher| watcher.state().words());
        if watching != self.watching {
            self.watching.clone_from(&watching);
            // The folder task is gone when the folder stops; then nobody needs to know any more.
            let _ = self.out.send(Seen::Watching(watching));
        }
    }

    /// Until the next whole scan: the interval a quarter up or down, so that devices do not scan in step.
    fn pause(&self) -> Duration {
        let poll = self.watcher.as_ref().and_then(|watcher| watcher.state().poll_every());
        let interval = self.shared.tuning().scan_interval;
        let interval = poll.map_or(interval, |poll| poll.min(interval));
        interval.mul_f64(0.75 + 0.5 * self.shared.random_fraction())
    }

    /// Waits until the events of everything written before now are in the queue, or looks at everything; whether it did.
    fn barrier(&mut self) -> bool {
        let passed = self.watcher.as_ref().is_some_and(|watcher| watcher.barrier(BARRIER_WAIT) == Barrier::Passed);
        let mut pending = self.queue.lock();
        if !passed {
            pending.whole = true;
        }
        let whole = std::mem::take(&mut pending.whole);
        let subtrees = std::mem::take(&mut pending.subtrees);
        drop(pending);
        if whole {
            self.scan(None);
        }
        for path in roots_of(subtrees) {
            self.scan(Some(&path));
        }
        whole
    }

    fn scan(&mut self, scope: Option<&RelPath>) {
        let mut root_lost = false;
        let mut batch = Batch::new(&self.out, self.shared.fs());
        batch.send(Seen::Started);
        let ignore = self.shared.ignore();
        let mut complete = false;
        self.shared.scanner(&ignore, &self.queue.cancel, SCAN_WORKERS).scan(scope, &mut |events| {
            for event in events {
                match event {
                    ScanEvent::Done { complete: done } => complete = done,
                    ScanEvent::Problem { path: None, .. } => root_lost = true,
                    _ => {}
                }
                batch.event(event);
            }
        });
        batch.flush();
        complete &= !batch.has_failed;
        batch.send(Seen::Ended { whole: complete && scope.is_none(), scope: scope.cloned() });
        // The folder's task has stopped over it, and waits to hear that the root is back.
        self.stopped |= root_lost;
    }
}

/// The outermost of some paths: a subtree inside another is scanned with it.
fn roots_of(paths: BTreeSet<RelPath>) -> Vec<RelPath> {
    let mut roots: Vec<RelPath> = Vec::new();
    for path in paths {
        if !roots.last().is_some_and(|root| path.is_below(root)) {
            roots.push(path);
        }
    }
    roots
}

/// The thread that looks at single paths.
pub(super) struct Looker {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<LookQueue>,
    pub(super) out: Sender<Seen>,
}

impl Looker {
    pub(super) fn run(self) {
        while let Some(work) = self.queue.next_paths() {
            let mut batch = Batch::new(&self.out, self.shared.fs());
            if work.ignore {
                batch.send(Seen::IgnoreChanged);
            }
            if self.shared.check_root().is_ok() {
                for path in work.paths {
                    self.look(&path, &mut batch);
                }
                for path in work.doubts {
                    if self.look(&path, &mut batch) && self.is_rotten(&path) {
                        batch.send(Seen::Suspect(path));
                    }
                }
            } else {
                // The scanner says so, and scans when the root is back.
                self.queue.add(Look::Whole);
            }
            batch.flush();
            if work.barrier {
                batch.send(Seen::Barrier);
            }
        }
    }

    /// Whether nothing was to tell.
    fn look(&self, path: &RelPath, batch: &mut Batch<'_>) -> bool {
        let ignore = self.shared.ignore();
        let mut silent = true;
        let next = self.shared.scanner(&ignore, &self.queue.cancel, 1).observe(path, &mut |events| {
            for event in events {
                silent = false;
                batch.event(event);
            }
        });
        match next {
            Next::Subtree(path) => {
                self.queue.add(Look::Subtree(path));
                return false;
            }
            Next::Nothing if silent => batch.send(Seen::Fine(path.clone())),
            Next::Nothing => {}
        }
        silent
    }

    /// Whether the bytes of a file are not those that were recorded with its present fingerprint.
    fn is_rotten(&self, path: &RelPath) -> bool {
        let Some(have) = self.shared.store().get(path).have.filter(|have| !have.racy) else { return false };
        let options =
            HashOptions { now: &wall_clock, granularity: self.shared.granularity(), cancel: &self.queue.cancel };
        let fs = self.shared.fs();
        let Ok(dir) = fs.open_dir(path.parent().as_ref()) else { return false };
        match Hasher::default().hash_file(fs, &dir, path.name(), None, &options) {
            Ok(HashOutcome::Hashed(now)) => {
                let is_as_recorded = have.fingerprint.is_some_and(|before| now.fingerprint.unchanged_since(&before));
                is_as_recorded && have.entry.content.file().is_some_and(|file| file.hash != now.content.hash)
            }
            _ => false,
        }
    }
}

impl Shared {
    fn scanner<'a>(
        &'a self,
        ignore: &'a crate::disk::ignore::Ignore,
        cancel: &'a AtomicBool,
        workers: usize,
    ) -> scan::Scanner<'a, crate::disk::fs::RealFs> {
        let hash = HashOptions { now: &wall_clock, granularity: self.granularity(), cancel };
        scan::Scanner { fs: self.fs(), rows: self.store(), ignore, hash, workers }
    }
}

/// A change of one of these changes what is looked at.
fn is_ignore_file(path: &RelPath) -> bool {
    use crate::disk::ignore::IgnoreFile;
    [IgnoreFile::Shared, IgnoreFile::Local].iter().any(|file| path.as_bytes() == file.name().as_bytes())
}

/// Collects findings so that the folder task is not woken for each, and makes them durable before it hears of them.
/// Found before missing: a move needs both, and its create goes first.
struct Batch<'a> {
    out: &'a Sender<Seen>,
    fs: &'a RealFs,
    /// Some findings were not made durable, and not handed over.
    has_failed: bool,
    found: Vec<Observation>,
    missing: Vec<RelPath>,
    since: Instant,
}

/// A batch is handed over after this long even when it is not full.
const BATCH_AGE_MAX: Duration = Duration::from_millis(50);

impl<'a> Batch<'a> {
    fn new(out: &'a Sender<Seen>, fs: &'a RealFs) -> Self {
        Self { out, fs, has_failed: false, found: Vec::new(), missing: Vec::new(), since: Instant::now() }
    }

    fn event(&mut self, event: ScanEvent) {
        match event {
            ScanEvent::Found(observation) => self.found(observation),
            ScanEvent::Missing(path) => self.missing(path),
            ScanEvent::Problem { path, problem } => {
                // In order: what was found at the path before does not speak against it.
                self.flush();
                self.send(Seen::Problem(path, problem));
            }
            ScanEvent::Progress { .. } | ScanEvent::Done { .. } => {}
        }
    }

    fn found(&mut self, observation: Observation) {
        self.found.push(observation);
        self.flush_if_due();
    }

    fn missing(&mut self, path: RelPath) {
        self.missing.push(path);
        self.flush_if_due();
    }

    fn flush_if_due(&mut self) {
        if self.found.len() + self.missing.len() >= BATCH_MAX || self.since.elapsed() > BATCH_AGE_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.since = Instant::now();
        let (found, missing) = (std::mem::take(&mut self.found), std::mem::take(&mut self.missing));
        if let Err(error) = make_durable(self.fs, &found, &missing) {
            self.has_failed = true;
            let problem = problem(&error, "cannot make what changed durable");
            for path in found.into_iter().map(|found| found.path).chain(missing) {
                self.send(Seen::Problem(Some(path), problem.clone()));
            }
            return;
        }
        if !found.is_empty() {
            self.send(Seen::Found(found));
        }
        if !missing.is_empty() {
            self.send(Seen::Missing(missing));
        }
    }

    fn send(&self, seen: Seen) {
        // The folder task is gone when the folder stops; then nobody needs to know any more.
        let _ = self.out.send(seen);
    }
}
