//! The running watcher of one folder: the system's events go into a `Coalescer`, and a thread hands over what is due.
//! The event callback only takes a lock for a map insert; it never blocks, reads or panics.
//! Invariant: a subtree is handed over after the system watches it, so what a scan then misses has its own event.

use super::coalesce::{Coalescer, Dirty};
use super::hint::{Hint, cookie_name, hints};
use super::state::{WatchState, slow_events};
use notify::event::EventKindMask;
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher as _};
use protocol::model::Timestamp;
use protocol::model::path::PRIVATE_DIR;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How soon hints that the receiver had no room for are offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// How soon directories that could not be watched are tried again; twice as long after every failure.
const WATCH_AGAIN: Duration = Duration::from_secs(5);
/// But at least this often: somebody may have raised a limit.
const WATCH_AGAIN_MAX: Duration = Duration::from_secs(3600);

/// Takes hints, or gives them back when it has no room: they are merged with later ones and offered again.
pub type Emit = Box<dyn FnMut(Dirty) -> Result<(), Dirty> + Send>;

/// Whether all changes made before a barrier have been handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// They have.
    Passed,
    /// Events do not come, or not in time: only a scan can tell.
    EventsOff,
}

/// Watches one folder until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    root: PathBuf,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Something changed in `inner`.
    changed: Condvar,
    started: Instant,
    root: PathBuf,
}

#[derive(Debug, Default)]
struct Inner {
    coalescer: Coalescer,
    state: WatchState,
    /// Something is not watched that may be later.
    again: Option<Again>,
    /// The last cookie handed out, the last whose event came back, and the last before which all is handed over.
    cookies: Cookies,
    stopping: bool,
}

/// The next attempt to watch what could not be watched.
#[derive(Clone, Copy, Debug)]
struct Again {
    at: Timestamp,
    pause: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cookies {
    written: u64,
    seen: u64,
    flushed: u64,
}

impl Inner {
    /// Notes an error of the system's watcher, which is tried again after a pause.
    fn degrade(&mut self, now: Timestamp, root: &Path, error: &notify::Error, pause: Duration) {
        self.state.degrade(root, error);
        self.again.get_or_insert(Again { at: now.after(pause), pause });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the maps whole, so a panic elsewhere does not spoil them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp::default().after(self.started.elapsed())
    }

    /// One event or error of the system's watcher.
    fn receive(&self, event: notify::Result<notify::Event>) {
        let now = self.now();
        let mut inner = self.lock();
        match event {
            Ok(event) => {
                for hint in hints(&self.root, &event) {
                    match hint {
                        Hint::Changed(path, reach) => inner.coalescer.touch(now, path, reach),
                        Hint::Lost => inner.coalescer.overflow(now),
                        Hint::Cookie(number) => inner.cookies.seen = inner.cookies.seen.max(number),
                    }
                }
            }
            Err(error) => {
                inner.degrade(now, &self.root, &error, WATCH_AGAIN);
                inner.coalescer.overflow(now);
            }
        }
        drop(inner);
        self.changed.notify_all();
    }
}

impl Watcher {
    /// Starts watching the directory at `root`: blocks while its directories are walked (0.1 s per 1,000). When the
    /// system cannot watch it, `state` says so and nothing is ever emitted.
    #[must_use]
    pub fn start(root: &Path, emit: Emit) -> Self {
        let inner = Mutex::new(Inner { state: slow_events(root), ..Inner::default() });
        let root = root.to_path_buf();
        let shared = Arc::new(Shared { inner, changed: Condvar::new(), started: Instant::now(), root: root.clone() });
        let watcher = match system_watcher(&shared) {
            Ok(watcher) => watcher,
            Err(error) => {
                shared.lock().state = WatchState::Off { words: format!("cannot watch the folder: {error}") };
                return Self { shared, root, thread: None };
            }
        };
        let thread_shared = Arc::clone(&shared);
        let spawned =
            std::thread::Builder::new().name("watch".into()).spawn(move || hand_over(&thread_shared, watcher, emit));
        let thread = match spawned {
            Ok(thread) => Some(thread),
            Err(error) => {
                shared.lock().state = WatchState::Off { words: format!("cannot start the watch thread: {error}") };
                None
            }
        };
        Self { shared, root, thread }
    }

    /// How much of the folder the system watches.
    #[must_use]
    pub fn state(&self) -> WatchState {
        self.shared.lock().state.clone()
    }

    /// Waits until every change made before this call has been handed over, quiet or not. Blocks up to `timeout`.
    #[must_use]
    pub fn barrier(&self, timeout: Duration) -> Barrier {
        // What is not watched has no events that a barrier could wait for.
        if self.state() != WatchState::On {
            return Barrier::EventsOff;
        }
        let number = {
            let mut inner = self.shared.lock();
            inner.cookies.written += 1;
            inner.cookies.written
        };
        let cookie = self.root.join(PRIVATE_DIR).join(cookie_name(number));
        // One left by a crash; its removal is an event as good as the next one's.
        let _ = std::fs::remove_file(&cookie);
        if std::fs::OpenOptions::new().write(true).create_new(true).open(&cookie).is_err() {
            return Barrier::EventsOff;
        }
        let passed = self.wait_flushed(number, timeout);
        // A cookie that stays is an empty file in the private directory.
        let _ = std::fs::remove_file(&cookie);
        if passed { Barrier::Passed } else { Barrier::EventsOff }
    }

    fn wait_flushed(&self, number: u64, timeout: Duration) -> bool {
        let waiting = |inner: &mut Inner| inner.cookies.flushed < number && !inner.stopping;
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), timeout, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.cookies.flushed >= number
    }

    /// Lets the pause before the next attempt be over.
    #[cfg(test)]
    pub(super) fn try_again_now(&self) {
        let mut inner = self.shared.lock();
        let now = self.shared.now();
        inner.again.iter_mut().for_each(|again| again.at = now);
        drop(inner);
        self.shared.changed.notify_all();
    }

    /// What the system's callback does, for tests that need an event the system will not send.
    #[cfg(test)]
    pub(super) fn inject(&self, event: notify::Result<notify::Event>) {
        self.shared.receive(event);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Watches recursively, without following links and without events for mere reads.
fn system_watcher(shared: &Arc<Shared>) -> notify::Result<RecommendedWatcher> {
    let config = Config::default().with_event_kinds(EventKindMask::CORE).with_follow_symlinks(false);
    let receiver = Arc::clone(shared);
    let mut watcher = RecommendedWatcher::new(move |event| receiver.receive(event), config)?;
    match watcher.watch(&shared.root, RecursiveMode::Recursive) {
        // Directories found before the limit are watched: better than nothing.
        Err(error)
            if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) && error.paths != [shared.root.clone()] =>
        {
            let now = shared.now();
            shared.lock().degrade(now, &shared.root, &error, WATCH_AGAIN);
        }
        done => done?,
    }
    Ok(watcher)
}

/// The thread: waits for what is due, and hands it over.
fn hand_over(shared: &Shared, mut watcher: RecommendedWatcher, mut emit: Emit) {
    while let Some(due) = next_due(shared) {
        if let Some(pause) = due.again {
            watch_again(shared, &mut watcher, pause);
        }
        // Watches for new directories are added after their events came in. The watcher answers this question
        // after that, so the scan of a subtree starts when its own changes are no longer missed.
        if !due.dirty.subtrees.is_empty() || due.dirty.overflow {
            // Without an answer the watcher is gone, and there is nothing to wait for.
            let _ = watcher.watched_paths();
        }
        let handed_over = offer(shared, &mut emit, due.dirty);
        if !handed_over {
            return;
        }
        let mut inner = shared.lock();
        inner.cookies.flushed = inner.cookies.flushed.max(due.cookie);
        drop(inner);
        shared.changed.notify_all();
    }
}

/// Another attempt at everything: what is watched already stays so. When it succeeds, what went by unseen is looked at.
fn watch_again(shared: &Shared, watcher: &mut RecommendedWatcher, pause: Duration) {
    let watched = watcher.watch(&shared.root, RecursiveMode::Recursive);
    let now = shared.now();
    let mut inner = shared.lock();
    // What failed meanwhile has its own next attempt.
    if inner.again.is_none() {
        inner.state = slow_events(&shared.root);
    }
    match watched {
        Ok(()) => inner.coalescer.overflow(now),
        Err(error) => inner.degrade(now, &shared.root, &error, (pause * 2).min(WATCH_AGAIN_MAX)),
    }
}

struct Due {
    dirty: Dirty,
    /// What could not be watched is to be tried again, after this pause.
    again: Option<Duration>,
    /// All events before this cookie's are in `dirty` or were handed over before.
    cookie: u64,
}

/// Blocks until something is due; `None` when the watcher stops.
fn next_due(shared: &Shared) -> Option<Due> {
    let mut inner = shared.lock();
    loop {
        if inner.stopping {
            return None;
        }
        let now = shared.now();
        if inner.cookies.seen > inner.cookies.flushed {
            return Some(Due { dirty: inner.coalescer.flush(now), again: None, cookie: inner.cookies.seen });
        }
        let dirty = inner.coalescer.poll(now);
        let again = inner.again.take_if(|again| again.at <= now).map(|again| again.pause);
        if !dirty.is_empty() || again.is_some() {
            return Some(Due { dirty, again, cookie: 0 });
        }
        // A millisecond at least: times are cut to milliseconds, so a wait of zero would spin.
        let wake_at = [inner.coalescer.wake_at(), inner.again.map(|again| again.at)].into_iter().flatten().min();
        let wait = wake_at.map(|at| at.since(now).max(Duration::from_millis(1)));
        inner = match wait {
            Some(wait) => shared.changed.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0,
            None => shared.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

/// Offers until it is taken; false when the watcher stops first.
fn offer(shared: &Shared, emit: &mut Emit, mut dirty: Dirty) -> bool {
    while !dirty.is_empty() {
        match emit(dirty) {
            Ok(()) => break,
            Err(back) => dirty = back,
        }
        let waited = shared.changed.wait_timeout_while(shared.lock(), OFFER_AGAIN, |inner| !inner.stopping);
        if waited.unwrap_or_else(PoisonError::into_inner).0.stopping {
            return false;
        }
    }
    true
}
