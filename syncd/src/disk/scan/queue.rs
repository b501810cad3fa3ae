//! The work of one scan, shared by its threads, and the findings on their way to the caller.
//! Bounded: files wait in a short queue, and a thread that finds it full does its own work first.

use super::observe::{Reached, observe};
use super::{BATCH_MAX, ScanEvent, Scanner, Sink};
use crate::disk::fs::{Fs, problem};
use crate::disk::hash::Hasher;
use protocol::model::{Chunking, RelPath};
use protocol::sync::{Observation, Observed, Problem};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Batches under way to the caller.
const BATCHES_MAX: usize = 4;
/// Jobs of files that wait; each holds a directory open.
const FILE_JOBS_MAX: usize = 64;
/// Names looked at between two `Progress`.
const PROGRESS_EVERY: u64 = 4096;

/// One file to read.
pub(super) struct FileJob {
    pub path: RelPath,
    pub previous: Option<Chunking>,
}

/// Something to do for whichever thread is free.
pub(super) enum Job<F: Fs> {
    /// List a directory; `None` is the root.
    Enter(Option<RelPath>),
    /// Read files of one directory.
    Hash(Arc<F::Dir>, Vec<FileJob>),
}

/// Collects findings of one thread and hands them over in batches.
pub(super) struct Teller<'a> {
    sink: Sink<'a>,
    batch: Vec<ScanEvent>,
    complete: bool,
    entries: u64,
}

impl<'a> Teller<'a> {
    pub(super) fn new(sink: Sink<'a>) -> Self {
        Self { sink, batch: Vec::new(), complete: true, entries: 0 }
    }

    pub(super) fn tell(&mut self, event: ScanEvent) {
        self.batch.push(event);
        if self.batch.len() >= BATCH_MAX {
            self.flush();
        }
    }

    pub(super) fn found(&mut self, path: &RelPath, observed: Observed) {
        self.tell(ScanEvent::Found(Observation { path: path.clone(), observed, manifest: None }));
    }

    pub(super) fn problem(&mut self, path: Option<&RelPath>, problem: Problem) {
        self.tell(ScanEvent::Problem { path: path.cloned(), problem });
    }

    /// Something was not looked at.
    pub(super) fn incomplete(&mut self) {
        self.complete = false;
    }

    pub(super) fn is_cancelled(&mut self, cancel: &AtomicBool) -> bool {
        let cancelled = cancel.load(Ordering::Relaxed);
        self.complete &= !cancelled;
        cancelled
    }

    /// Counts a name.
    pub(super) fn entry(&mut self) {
        self.entries += 1;
    }

    pub(super) fn flush(&mut self) {
        if !self.batch.is_empty() {
            (self.sink)(std::mem::take(&mut self.batch));
        }
    }
}

struct Work<F: Fs> {
    enter: Vec<Option<RelPath>>,
    hash: Vec<(Arc<F::Dir>, Vec<FileJob>)>,
    /// Threads that may still find more work.
    active: usize,
}

struct Shared<'a, F: Fs> {
    scanner: &'a Scanner<'a, F>,
    root_fs: u64,
    work: Mutex<Work<F>>,
    more: Condvar,
    entries: AtomicU64,
    bytes: AtomicU64,
    complete: AtomicBool,
}

/// Scans, and tells the caller on its own thread.
pub(super) fn run<F: Fs>(scanner: &Scanner<'_, F>, scope: Option<&RelPath>, sink: Sink<'_>) {
    let mut complete = true;
    let mut teller = Teller::new(sink);
    let start = match scope {
        None => Some(None),
        Some(path) => enter(scanner, path.clone(), &mut teller).map(Some),
    };
    complete &= teller.complete;
    teller.flush();
    let root = scanner.fs.open_dir(None).and_then(|root| scanner.fs.stat_dir(&root));
    match (start, root) {
        (None, _) => {}
        (Some(_), Err(error)) => {
            let problem = problem(&error, "cannot open the folder");
            sink(vec![ScanEvent::Problem { path: None, problem }]);
            complete = false;
        }
        (Some(start), Ok(root)) => complete &= run_from(scanner, start, root.fs, sink),
    }
    let mut teller = Teller::new(sink);
    scanner.look_at_locals(scope, &mut teller);
    complete &= teller.complete;
    teller.tell(ScanEvent::Done { complete });
    teller.flush();
}

/// The directory at which a scan of `path` starts, when there is one. Its own findings are told.
fn enter<F: Fs>(scanner: &Scanner<'_, F>, mut path: RelPath, teller: &mut Teller<'_>) -> Option<RelPath> {
    loop {
        match observe(scanner, &path, teller) {
            Reached::Leaf => return None,
            Reached::Directory { .. } => return Some(path),
            // Strictly above, so this ends.
            Reached::Unknown(above) => path = above,
        }
    }
}

fn run_from<F: Fs>(scanner: &Scanner<'_, F>, start: Option<RelPath>, root_fs: u64, sink: Sink<'_>) -> bool {
    let work = Work { enter: vec![start], hash: Vec::new(), active: 0 };
    let shared = Shared {
        scanner,
        root_fs,
        work: Mutex::new(work),
        more: Condvar::new(),
        entries: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        complete: AtomicBool::new(true),
    };
    if scanner.workers <= 1 {
        shared.serve(sink);
    } else {
        std::thread::scope(|scope| {
            let (send, receive) = crossbeam_channel::bounded(BATCHES_MAX);
            for _ in 0..scanner.workers {
                let send = send.clone();
                let shared = &shared;
                scope.spawn(move || {
                    shared.serve(&mut |batch| {
                        // The receiver outlives the threads.
                        let _ = send.send(batch);
                    });
                });
            }
            drop(send);
            receive.iter().for_each(sink);
        });
    }
    shared.complete.into_inner()
}

impl<F: Fs> Shared<'_, F> {
    /// Works until nothing is left for anyone.
    fn serve(&self, sink: Sink<'_>) {
        let mut teller = Teller::new(sink);
        let mut hasher = Hasher::default();
        while let Some((job, _active)) = self.next() {
            self.carry_out(job, &mut teller, &mut hasher);
            self.progress(&mut teller, &mut hasher);
        }
        teller.flush();
        if !teller.complete {
            self.complete.store(false, Ordering::Relaxed);
        }
    }

    fn carry_out(&self, job: Job<F>, teller: &mut Teller<'_>, hasher: &mut Hasher) {
        match job {
            Job::Enter(path) => {
                let jobs = self.scanner.walk(path.as_ref(), self.root_fs, teller);
                // A directory is told before anyone can tell what is in it.
                teller.flush();
                for job in jobs {
                    if let Some((dir, files)) = self.push(job) {
                        self.hash(&dir, &files, teller, hasher);
                    }
                }
            }
            Job::Hash(dir, files) => self.hash(&dir, &files, teller, hasher),
        }
    }

    fn hash(&self, dir: &F::Dir, files: &[FileJob], teller: &mut Teller<'_>, hasher: &mut Hasher) {
        for file in files {
            if teller.is_cancelled(self.scanner.hash.cancel) {
                return;
            }
            self.scanner.tell_file(hasher, dir, &file.path, file.previous, teller);
        }
    }

    fn progress(&self, teller: &mut Teller<'_>, hasher: &mut Hasher) {
        let new = std::mem::take(&mut teller.entries);
        let bytes_hashed = self.bytes.fetch_add(hasher.bytes, Ordering::Relaxed) + std::mem::take(&mut hasher.bytes);
        let before = self.entries.fetch_add(new, Ordering::Relaxed);
        let entries = before + new;
        if before / PROGRESS_EVERY != entries / PROGRESS_EVERY {
            teller.tell(ScanEvent::Progress { entries, bytes_hashed });
            teller.flush();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Work<F>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a job for whoever is free; gives files back when enough of them wait.
    fn push(&self, job: Job<F>) -> Option<(Arc<F::Dir>, Vec<FileJob>)> {
        let mut work = self.lock();
        match job {
            Job::Enter(path) => work.enter.push(path),
            Job::Hash(dir, files) if work.hash.len() < FILE_JOBS_MAX => work.hash.push((dir, files)),
            Job::Hash(dir, files) => return Some((dir, files)),
        }
        drop(work);
        self.more.notify_one();
        None
    }

    /// The next job; files first, because they hold directories open. `None` when all is done.
    fn next(&self) -> Option<(Job<F>, Active<'_, F>)> {
        let mut work = self.lock();
        loop {
            if self.scanner.hash.cancel.load(Ordering::Relaxed) {
                if !work.enter.is_empty() || !work.hash.is_empty() {
                    self.complete.store(false, Ordering::Relaxed);
                }
                work.enter.clear();
                work.hash.clear();
            }
            let job = match work.hash.pop() {
                Some((dir, files)) => Some(Job::Hash(dir, files)),
                None => work.enter.pop().map(Job::Enter),
            };
            if let Some(job) = job {
                work.active += 1;
                return Some((job, Active(self)));
            }
            if work.active == 0 {
                return None;
            }
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A thread at work: while there is one, more work may come. Counts down even when the job panics, so that no other
/// thread waits for ever.
struct Active<'a, F: Fs>(&'a Shared<'a, F>);

impl<F: Fs> Drop for Active<'_, F> {
    fn drop(&mut self) {
        self.0.lock().active -= 1;
        self.0.more.notify_all();
    }
}
