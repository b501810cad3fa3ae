//! One synced folder at run time: the task that owns the engine, the threads that scan, look and commit, and the
//! start-up that settles what a crash left behind before anything else happens.

mod alarms;
mod commits;
mod holds;
mod links;
mod log;
mod look;
mod report;
mod shared;
mod status;
mod steady;
mod task;
mod troubles;
mod words;

pub use holds::{answered_words, answers_words, held_words};
pub use log::{Record, What};
pub use report::{Report, StopCause, UNDURABLE_WORDS, alarm_words};
pub use shared::{FetchRequest, Outside, ignore_rules, words_of};
pub use task::Input;
pub use words::folder_of;

use crate::disk::fs::{Fs, RealFs};
use crate::disk::marker::{Marker, MarkerCheck};
use crate::disk::presence::presence;
use crate::disk::recover;
use crate::disk::watch::Watcher;
use crate::store::Store;
use anyhow::{Context, Result};
use crossbeam_channel::{Sender, bounded, unbounded};
use look::{LookQueue, Looker, Scanner};
use protocol::model::FolderId;
use protocol::sync::ActionId;
use protocol::sync::engine::{Config, Engine};
use shared::Shared;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use task::Task;

/// Reports of the look threads that wait for the task.
const SEEN_QUEUE: usize = 16;

/// How long versions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Seconds.
    pub secs: i64,
    /// Bytes of all of them; the oldest go first.
    pub bytes_max: u64,
}

/// What may change while a folder runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Between whole scans.
    pub scan_interval: Duration,
    /// How long versions are kept and how many bytes of them.
    pub retention: Retention,
}

/// What a folder is started with.
pub struct Setup {
    /// Which.
    pub id: FolderId,
    /// Where.
    pub root: PathBuf,
    /// Its marker, as the folder's config file has it.
    pub marker: Marker,
    /// The directory that was there last; `None`: whatever has the marker.
    pub known_root: Option<String>,
    /// How it syncs.
    pub engine: Config,
    /// Whether file system events are used.
    pub watch: bool,
    /// Its database.
    pub store: Arc<Store>,
    /// Its root's file system.
    pub fs: Arc<RealFs>,
    /// What may change while it runs.
    pub tuning: Tuning,
    /// Whether links of others that lead out of the folder are refused.
    pub links_inside: bool,
    /// The ways out.
    pub outside: Arc<dyn Outside>,
}

/// A running folder. Dropping it stops its threads.
pub struct Folder {
    shared: Arc<Shared>,
    inbox: Sender<Input>,
    queue: Arc<LookQueue>,
    threads: Vec<JoinHandle<()>>,
}

impl Folder {
    /// Settles what a crash left behind, introduces the folder to those whom it will ask, then starts the threads: the
    /// task asks for what was wanted before at once, and whoever does not know the folder yet would never answer.
    ///
    /// # Errors
    /// A `StopCause` when the root or its marker is not what it should be, or why recovery cannot finish.
    pub fn start(setup: Setup, introduce: impl FnOnce(Sender<Input>)) -> Result<Self> {
        is_the_folder(&setup)?;
        let Setup { id, root, marker, engine, watch, store, fs, tuning, links_inside, .. } = setup;
        let outside = setup.outside;
        let now = i64::try_from(shared::wall_ms() / 1000).unwrap_or(i64::MAX);
        recover(&*fs, &*store, now).with_context(|| format!("cannot settle {} after the last run", root.display()))?;
        let shared = Arc::new(Shared::new(id, &root, marker, Arc::clone(&store), fs, tuning, outside)?);
        let queue = Arc::new(LookQueue::default());
        let watcher = watch.then(|| watcher(&root, &queue));
        let (inbox, inputs) = unbounded();
        introduce(inbox.clone());
        let (seen_out, seen_in) = bounded(SEEN_QUEUE);
        let (commits, batches) = bounded(1);
        let task = Task {
            engine: Engine::new(engine, &*store),
            shared: Arc::clone(&shared),
            inbox: inputs,
            looks: seen_in,
            queue: Arc::clone(&queue),
            commits,
            started: Instant::now(),
            replicas: BTreeMap::new(),
            troubles: troubles::Troubles::default(),
            ignore_applying: false,
            alarms: alarms::Alarms::default(),
            holds: holds::Holds::default(),
            stopped: None,
            watching: None,
            undurable: None,
            barriers: Vec::new(),
            log: log::ChangeLog::new(shared::wall_ms),
            was_idle: false,
        };
        queue.add(look::Look::Whole);
        let scanner = Scanner {
            shared: Arc::clone(&shared),
            queue: Arc::clone(&queue),
            out: seen_out.clone(),
            watcher,
            stopped: false,
            watching: None,
        };
        let looker = Looker { shared: Arc::clone(&shared), queue: Arc::clone(&queue), out: seen_out };
        let committer = commits::Committer { shared: Arc::clone(&shared), batches, inbox: inbox.clone(), links_inside };
        let threads = vec![
            spawn("folder", move || task.run())?,
            spawn("scan", move || scanner.run())?,
            spawn("look", move || looker.run())?,
            spawn("commit", move || committer.run())?,
        ];
        Ok(Self { shared, inbox, queue, threads })
    }

    /// Tells the folder something. Never blocks: what peers send is bounded by the credit they have, what the
    /// threads send by the batches in flight.
    pub fn tell(&self, input: Input) {
        // A folder that has ended needs to know nothing.
        let _ = self.inbox.send(input);
    }

    /// Goes on under these settings.
    pub fn tune(&self, tuning: Tuning) {
        let before = self.shared.tuning();
        self.shared.tune(tuning);
        if before.scan_interval != tuning.scan_interval {
            self.queue.tuned();
        }
    }

    /// A way to tell it from elsewhere.
    #[must_use]
    pub fn sender(&self) -> Sender<Input> {
        self.inbox.clone()
    }

    /// Inputs that wait. A peer that lets this grow is cut off.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.inbox.len()
    }

    /// Ends the threads; returns when the last commit is done.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.tell(Input::Stop);
        self.queue.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of a folder panicked");
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.end();
    }
}

/// Before anything is settled, scanned or deleted: the marker is ours, and where another directory carries it than the
/// last time, the files are there too.
fn is_the_folder(setup: &Setup) -> Result<()> {
    let Setup { root, marker, fs, store, known_root, .. } = setup;
    match marker.check(&**fs).with_context(|| format!("cannot read the marker in {}", root.display()))? {
        MarkerCheck::Ok => {}
        MarkerCheck::Foreign => return Err(StopCause::MarkerForeign.into()),
        MarkerCheck::Missing => return Err(StopCause::MarkerMissing(root.display().to_string()).into()),
    }
    let id = fs.root_id().with_context(|| format!("cannot look at {}", root.display()))?.to_string();
    if known_root.as_ref().is_some_and(|known| *known != id) {
        let found = presence(&**fs, &**store);
        if !found.is_enough() {
            return Err(StopCause::OtherDisk(found).into());
        }
    }
    Ok(())
}

fn watcher(root: &Path, queue: &Arc<LookQueue>) -> Watcher {
    let queue = Arc::clone(queue);
    let emit = move |dirty| {
        queue.dirty(dirty);
        Ok(())
    };
    Watcher::start(root, Box::new(emit))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let run = crate::vital_thread(run);
    std::thread::Builder::new().name(name.to_string()).spawn(run).with_context(|| format!("cannot start thread {name}"))
}

/// An action id for what people ask for outside the engine: far above its counters, and used once.
pub fn fresh_action() -> ActionId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let floor = 1 << 63 | shared::wall_ms() << 8;
    let next = |last: u64| Some(floor.max(last + 1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|last| last);
    ActionId(floor.max(last + 1))
}

/// Whether a directory can be a folder's root: exists, is a directory, and can hold the private directory.
///
/// # Errors
/// In words for the person who typed the path.
pub fn open_root(root: &Path) -> Result<Arc<RealFs>> {
    let fs = RealFs::open(root).with_context(|| format!("cannot open {}", root.display()))?;
    fs.root_id().with_context(|| format!("cannot look at {}", root.display()))?;
    Ok(Arc::new(fs))
}
