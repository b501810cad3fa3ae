//! The sync engine of one folder on one device: a deterministic state machine. Events and rows go in, effects
//! come out. It holds cursors, actions in flight and retry times, never a tree.
//!
//! The shell calls `handle` with what happened, carries out the effects in order, then calls `advance` until it
//! returns nothing. Anything lost in a crash is found again: wants and cursors are rows, local changes are on disk.

mod around;
mod compare;
mod deletions;
mod guard;
mod history;
mod local;
mod moves;
mod peers;
mod pump;
mod readers;
mod remote;
mod restored;

pub use deletions::{HeldWhat, Hold};
pub use history::{RunWords, renewal};
pub use peers::{DigestWords, IndexBatch, PeerStatus};

use super::local::{Change, DeclineCode, Disk, Observation, Rows};
use super::plan::{Action, ActionId, Outcome, Problem};
use super::reconcile::Rules;
use crate::model::{
    ContentHash, DeviceId, Event as Dot, FileContent, RelPath, ReplicaId, RunId, Sequence, Timestamp, Version,
};
use deletions::Deletions;
use guard::Guard;
use peers::Peer;
use pump::Pump;
use restored::Restored;
use std::collections::BTreeMap;
use std::time::Duration;

/// Direction of a folder on this device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FolderMode {
    /// Both ways.
    #[default]
    SendReceive,
    /// Local changes go out, others' entries are declined.
    SendOnly,
    /// Others' entries come in, local changes stay here.
    ReceiveOnly,
}

/// What the engine is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Direction.
    pub mode: FolderMode,
    /// Whether mass deletions and replacements are held for approval.
    pub guard: bool,
    /// The decision table's rules; tests switch them off one by one.
    pub rules: Rules,
    /// Names this start of the folder; without one, whether the database went back is not asked.
    pub run: Option<RunId>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mode: FolderMode::SendReceive, guard: true, rules: Rules::default(), run: None }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A scan or the watcher found these objects new or changed.
    Observed(Vec<Observation>),
    /// A scan found these live rows gone: each absent from a complete listing.
    Missing(Vec<RelPath>),
    /// A scan begins.
    ScanStarted,
    /// It ended. `whole`: it covered the folder, nothing was unreadable and every finding was handed over.
    ScanEnded {
        /// See above.
        whole: bool,
    },
    /// A peer that shares this folder is connected.
    Connected {
        /// Who.
        peer: DeviceId,
        /// Its replica, once it has joined the folder.
        replica: ReplicaId,
        /// Its changes count. One that only reads is served, and serves what it has.
        writes: bool,
    },
    /// Its session ended.
    Disconnected(DeviceId),
    /// It wants our index.
    IndexGet {
        /// Who.
        peer: DeviceId,
        /// Our replica, as it knows it.
        replica: ReplicaId,
        /// The last of our sequence numbers that it has.
        from: Sequence,
        /// Batches it takes before it acknowledges.
        credit: u8,
    },
    /// Part of its index.
    Index {
        /// Who.
        peer: DeviceId,
        /// What.
        batch: IndexBatch,
    },
    /// It has recorded our index up to here.
    IndexAck {
        /// Who.
        peer: DeviceId,
        /// Our replica.
        replica: ReplicaId,
        /// Up to here.
        sequence: Sequence,
        /// What it does not apply, and why; replaces what it said of these paths before.
        declined: Vec<Declined>,
    },
    /// Its digest.
    Digest {
        /// Who.
        peer: DeviceId,
        /// What it says.
        words: DigestWords,
    },
    /// Its run, and what it remembers of ours.
    Run {
        /// Who.
        peer: DeviceId,
        /// What it says.
        words: RunWords,
    },
    /// The temp of this content is complete and verified.
    Fetched {
        /// For which path.
        path: RelPath,
        /// Which content.
        content: ContentHash,
    },
    /// It could not be had.
    FetchFailed {
        /// For which path.
        path: RelPath,
        /// Which content.
        content: ContentHash,
        /// Why.
        problem: Problem,
    },
    /// What became of an `Effect::Apply`, in its order.
    Applied(Vec<(ActionId, Outcome)>),
    /// A person answers what is held: carry it out.
    Approve,
    /// A person answers what is held: put it back.
    Reject,
    /// The engine begins its work.
    Started,
    /// The ignore rules changed: what was declined as ignored is decided again.
    IgnoreChanged,
    /// What could be had from nobody may be had by now.
    SourcesChanged,
    /// The bytes of a file differ from its row though its fingerprint does not: nobody wrote them.
    Suspect(RelPath),
    /// A timer.
    Wake,
}

/// An entry that a peer does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// Where.
    pub path: RelPath,
    /// Which version.
    pub version: Version,
    /// Why; `None`: no longer.
    pub code: Option<DeclineCode>,
    /// In words.
    pub words: String,
}

/// What the shell shall do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// One durable transaction, before anything that follows.
    Commit(Vec<Change>),
    /// Get this content into a verified temp; answer `Fetched` or `FetchFailed`.
    Fetch {
        /// For which path.
        path: RelPath,
        /// Where the sources have it.
        origin: RelPath,
        /// What.
        content: FileContent,
        /// Devices that announced it.
        sources: Vec<DeviceId>,
    },
    /// The content is no longer needed for this path.
    CancelFetch {
        /// Which.
        path: RelPath,
    },
    /// Carry these out as one batch; answer `Applied`. No second batch comes before that.
    Apply {
        /// In order.
        actions: Vec<Action>,
        /// To be recorded with them: the highest event counter in use.
        counter: u64,
    },
    /// Look at a path again; with `subtree` also at everything below.
    Look {
        /// Where.
        path: RelPath,
        /// How deep.
        subtree: bool,
    },
    /// Move what stands there, which no entry names, to the versions.
    SetAside {
        /// Where.
        path: RelPath,
    },
    /// What this action displaced is the user's own: it gets a conflict name beside the path.
    KeepBeside {
        /// Where it stood.
        path: RelPath,
        /// The action that displaced it.
        id: ActionId,
    },
    /// Scan the whole folder: some findings of the first scan came too early to be taken.
    Scan,
    /// Ask a peer for its index.
    IndexGet {
        /// Whom.
        peer: DeviceId,
        /// Its replica.
        replica: ReplicaId,
        /// After this one.
        from: Sequence,
    },
    /// Send a part of our index.
    Index {
        /// To whom.
        peer: DeviceId,
        /// What.
        batch: IndexBatch,
    },
    /// Acknowledge a part of theirs.
    IndexAck {
        /// To whom.
        peer: DeviceId,
        /// Its replica.
        replica: ReplicaId,
        /// Up to here.
        sequence: Sequence,
        /// What is not applied here.
        declined: Vec<Declined>,
    },
    /// Send our digest.
    Digest {
        /// To whom.
        peer: DeviceId,
        /// What.
        words: DigestWords,
    },
    /// Send our run, and what is remembered of theirs.
    Run {
        /// To whom.
        peer: DeviceId,
        /// What.
        words: RunWords,
    },
    /// Something that a person should know.
    Alarm(Alarm),
}

/// What needs a person's eye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Two devices use one replica id: a copied home or a restored one.
    Fork {
        /// Where it showed.
        path: RelPath,
        /// Who announced the other half.
        peer: DeviceId,
    },
    /// This database is older than what a peer knows of it: a restored or copied home. Nothing more is done until it
    /// was renewed (`renewal`) and the engine started again.
    Stale {
        /// Who knows more.
        peer: DeviceId,
        /// The replica that is not to be used any more.
        replica: ReplicaId,
    },
    /// After a full exchange the digests still differ.
    Diverged {
        /// From whom.
        peer: DeviceId,
    },
    /// Changes are held until `approve` or `reject`.
    Held(Hold),
}

/// The state machine.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    replica: ReplicaId,
    counter: u64,
    /// A whole scan has ended under this replica: from then on a new file is new.
    history: bool,
    /// A finding of the first scan was put off: that scan does not count as whole.
    deferred: bool,
    rescan_due: bool,
    scans: u32,
    peers: BTreeMap<DeviceId, Peer>,
    pump: Pump,
    deletions: Deletions,
    guard: Guard,
    restored: Restored,
    /// Declines to tell every peer with the next acknowledgement.
    declined_news: Vec<Declined>,
    /// Of the batch of a reader that is being taken in.
    refused: Vec<Declined>,
    /// The database went back, which this peer showed.
    stale: Option<DeviceId>,
}

/// What the engine sees of the world, read only.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The database.
    pub rows: &'a dyn Rows,
    /// The disk, for questions that cost one system call.
    pub disk: &'a dyn Disk,
}

/// Counts for status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// A scan is running.
    pub scanning: bool,
    /// Fetches and actions under way.
    pub in_flight: usize,
    /// Local deletions that wait for their batch.
    pub deletions_pending: usize,
    /// Paths that are retried later, with the reason.
    pub retrying: Vec<(RelPath, Problem)>,
    /// What waits for a person.
    pub held: Vec<Hold>,
    /// By peer.
    pub peers: BTreeMap<DeviceId, PeerStatus>,
}

impl Engine {
    /// An engine over a database; nothing in it is read but its state.
    #[must_use]
    pub fn new(config: Config, rows: &dyn Rows) -> Self {
        let state = rows.state();
        Self {
            config,
            replica: state.replica,
            counter: state.counter,
            history: state.scanned,
            deferred: false,
            rescan_due: false,
            scans: 0,
            peers: BTreeMap::new(),
            pump: Pump::default(),
            deletions: Deletions::default(),
            guard: Guard::new(),
            restored: Restored::default(),
            declined_news: Vec::new(),
            refused: Vec::new(),
            stale: None,
        }
    }

    /// Takes in what happened. The effects are carried out in order before `advance` is called.
    pub fn handle(&mut self, now: Timestamp, event: Event, view: View<'_>) -> Vec<Effect> {
        if let Some(peer) = self.stale {
            let again = matches!(event, Event::Connected { .. });
            return if again { self.went_back(peer) } else { Vec::new() };
        }
        let effects = self.taken_in(now, event, view);
        self.guard.committing(&effects);
        effects
    }

    fn taken_in(&mut self, now: Timestamp, event: Event, view: View<'_>) -> Vec<Effect> {
        match event {
            Event::Observed(found) => self.observed(now, found, view),
            Event::Missing(paths) => self.missing(now, paths, view),
            Event::ScanStarted => {
                self.scans += 1;
                self.deferred = false;
                Vec::new()
            }
            Event::ScanEnded { whole } => self.scan_ended(whole),
            Event::Connected { peer, replica, writes } => self.connected(peer, replica, writes, view),
            Event::Disconnected(peer) => {
                self.peers.remove(&peer);
                self.guard.left(now, &peer);
                Vec::new()
            }
            Event::IndexGet { peer, replica, from, credit } => self.index_asked(peer, replica, from, credit, view),
            Event::Index { peer, batch } => self.index_received(now, peer, batch, view),
            Event::IndexAck { peer, replica, sequence, declined } => {
                self.index_acknowledged(peer, replica, sequence, declined);
                Vec::new()
            }
            Event::Digest { peer, words } => self.digest_received(peer, words, view),
            Event::Run { peer, words } => self.run_told(peer, words, view),
            Event::Fetched { path, content } => self.fetched(&path, content),
            Event::FetchFailed { path, content, problem } => self.fetch_failed(now, &path, content, problem, view),
            Event::Applied(outcomes) => self.applied(now, outcomes, view),
            Event::Approve => self.approve(now, view),
            Event::Reject => self.reject(view),
            Event::Started => self.started(view),
            Event::IgnoreChanged => self.ignore_changed(view),
            Event::SourcesChanged => {
                self.pump.source_appeared();
                Vec::new()
            }
            Event::Suspect(path) => self.suspected(path, view),
            Event::Wake => Vec::new(),
        }
    }

    /// The next things to do. Called until it returns nothing.
    pub fn advance(&mut self, now: Timestamp, view: View<'_>) -> Vec<Effect> {
        if self.stale.is_some() {
            return Vec::new();
        }
        let effects = self.next(now, view);
        self.guard.committing(&effects);
        effects
    }

    fn next(&mut self, now: Timestamp, view: View<'_>) -> Vec<Effect> {
        let mut effects = self.keep_guard(now, view);
        if effects.is_empty() {
            effects = self.publish_deletions(now, view);
        }
        if effects.is_empty() {
            effects = self.publish_restored(now, view);
        }
        if effects.is_empty() {
            effects = self.dispatch(now, view);
        }
        if effects.is_empty() {
            effects = self.serve(view);
        }
        if effects.is_empty() {
            effects = self.scan_again();
        }
        effects
    }

    /// When `Event::Wake` is due, if ever.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.stale.is_some() {
            return None;
        }
        let guard = self.guard.due(|id| self.peers.contains_key(id));
        let deletions = self.deletions.due(self.scans > 0);
        [deletions, self.restored.due(), self.pump.next_retry(), guard].into_iter().flatten().min()
    }

    /// For status.
    #[must_use]
    pub fn status(&self, rows: &dyn Rows) -> Status {
        Status {
            scanning: self.scans > 0,
            in_flight: self.pump.in_flight(),
            deletions_pending: self.deletions.len(),
            retrying: self.pump.retrying(),
            held: self.held(),
            peers: self.peer_statuses(rows),
        }
    }

    /// What waits for a person.
    #[must_use]
    pub fn held(&self) -> Vec<Hold> {
        self.deletions.held().into_iter().chain(self.restored.holds()).chain(self.guard.held()).collect()
    }

    /// Files whose bytes changed though nobody wrote them, and that a person has not answered for.
    pub fn suspects(&self) -> impl Iterator<Item = &RelPath> {
        self.restored.suspects()
    }

    /// Nothing is scanned, fetched, applied or about to be published.
    #[must_use]
    pub fn is_idle(&self, rows: &dyn Rows) -> bool {
        let waits = self.deletions.len() + self.restored.len();
        self.scans == 0 && self.pump.in_flight() == 0 && waits == 0 && rows.state().need_entries == 0
    }

    /// The folder's mode on this device.
    #[must_use]
    pub const fn mode(&self) -> FolderMode {
        self.config.mode
    }

    fn next_event(&self) -> Dot {
        Dot { replica: self.replica, counter: self.counter + 1 }
    }

    /// Takes the next counter; the transaction that uses it must carry `Change::Counter`.
    fn take_event(&mut self) -> Dot {
        let event = self.next_event();
        self.counter = event.counter;
        event
    }

    fn take_action_id(&mut self) -> ActionId {
        ActionId(self.take_event().counter)
    }
}

/// How long to wait before a failed path is tried again: 1 s doubling to 1 h.
#[must_use]
pub fn back_off(attempts: u32) -> Duration {
    Duration::from_secs(1 << attempts.min(12)).min(Duration::from_secs(3600))
}
