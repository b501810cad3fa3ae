//! The folder task: one thread that owns the engine. It turns what happens into events, carries out the effects in
//! order, and answers questions. It never waits for the disk or the network: looks, fetches and commits run
//! elsewhere and come back as inputs.
//!
//! Invariant: effects are carried out in the order in which the engine gave them, and `advance` sees their rows.

use super::alarms::Alarms;
use super::holds::Holds;
use super::log::{ChangeLog, What};
use super::look::{Look, LookQueue, Seen};
use super::report::{Report, StopCause, UNDURABLE_WORDS};
use super::shared::{FetchRequest, Shared};
use super::troubles::Troubles;
use super::words::{self, Outgoing};
use crossbeam_channel::{Receiver, Sender, after, never, select};
use protocol::model::{ContentHash, DeviceId, Manifest, RelPath, ReplicaId, Timestamp};
use protocol::sync::engine::{Alarm, Effect, Engine, Event, View};
use protocol::sync::{Action, ActionId, Change, DeclineCode, Journal, Observed, Outcome, Problem, ProblemCode, Rows};
use protocol::wire::message::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Inputs taken before `advance` runs again: batches the work without starving it.
const INPUTS_PER_TURN: usize = 64;
/// Rounds of `advance` in a row before inputs are looked at again.
const ROUNDS_PER_TURN: usize = 64;

/// What a folder is told from outside.
#[derive(Debug)]
pub enum Input {
    /// A peer's session is up and it has joined the folder under this replica.
    Connected {
        /// Who.
        peer: DeviceId,
        /// Its replica of the folder.
        replica: ReplicaId,
        /// Its changes count.
        writes: bool,
    },
    /// Its session ended, or it left the folder.
    Disconnected(DeviceId),
    /// A message about this folder.
    Message(DeviceId, Message),
    /// Something for the engine as it is.
    Engine(Event),
    /// The temp of a content is complete; its chunk list when a peer had to be asked for it.
    Fetched {
        /// For which path.
        path: RelPath,
        /// Which content.
        content: ContentHash,
        /// Recorded before the entry is.
        manifest: Option<Arc<Manifest>>,
    },
    /// The commit thread is done with a batch.
    Applied(Vec<(ActionId, Outcome)>),
    /// Send-only: ours overrule what the others wrote.
    Override,
    /// Receive-only: what was done here goes to versions, theirs comes back.
    Revert,
    /// Look at everything.
    Rescan,
    /// Look at one path.
    Look(RelPath),
    /// Look at one path whose bytes were not what the index says.
    Doubt(RelPath),
    /// For status.
    Report(oneshot::Sender<Report>),
    /// Answered when everything that changed before now has been looked at.
    Barrier(oneshot::Sender<()>),
    /// The ignore rules were changed.
    IgnoreChanged,
    /// Whether mass changes are held from now on; answered false where that takes a start of the folder.
    Guard(bool, oneshot::Sender<bool>),
    /// The folder's root is or is not what it was.
    Root(Result<(), StopCause>),
    /// End.
    Stop,
}

pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Engine,
    pub(super) inbox: Receiver<Input>,
    pub(super) looks: Receiver<Seen>,
    pub(super) queue: Arc<LookQueue>,
    pub(super) commits: Sender<(Vec<Action>, u64)>,
    pub(super) started: Instant,
    /// Replicas of connected peers, to read their digests.
    pub(super) replicas: BTreeMap<DeviceId, ReplicaId>,
    pub(super) troubles: Troubles,
    /// The batch that is being applied brings another `.syncignore`.
    pub(super) ignore_applying: bool,
    pub(super) alarms: Alarms,
    pub(super) holds: Holds,
    pub(super) stopped: Option<StopCause>,
    /// Why not all changes are seen at once, and since when (Unix seconds).
    pub(super) watching: Option<(String, i64)>,
    /// Since when it is known that the file system refuses fsync (Unix seconds).
    pub(super) undurable: Option<i64>,
    pub(super) barriers: Vec<oneshot::Sender<()>>,
    pub(super) log: ChangeLog,
    pub(super) was_idle: bool,
}

impl Task {
    pub(super) fn run(mut self) {
        self.handle(Event::Started);
        loop {
            let busy = self.advance();
            match self.next_input(busy) {
                Turn::Stop => return,
                Turn::Idle => {}
                Turn::Input(input) => {
                    if !self.take(input) {
                        return;
                    }
                }
                Turn::Seen(seen) => self.seen(seen),
                Turn::Wake => self.handle(Event::Wake),
            }
            for _ in 0..INPUTS_PER_TURN {
                if let Ok(input) = self.inbox.try_recv() {
                    if !self.take(input) {
                        return;
                    }
                } else if let Ok(seen) = self.looks.try_recv() {
                    self.seen(seen);
                } else {
                    break;
                }
            }
        }
    }

    fn next_input(&self, busy: bool) -> Turn {
        let wake = self.engine.wake_at().into_iter().chain(self.troubles.next_look()).chain(self.holds.next()).min();
        let wake = wake.map(|at| at.since(self.now()).max(Duration::from_millis(1)));
        let timer = match (busy, wake) {
            (true, _) => after(Duration::ZERO),
            (false, Some(wait)) => after(wait),
            (false, None) => never(),
        };
        select! {
            recv(self.inbox) -> input => input.map_or(Turn::Stop, Turn::Input),
            recv(self.looks) -> seen => seen.map_or(Turn::Stop, Turn::Seen),
            recv(timer) -> _ => if busy { Turn::Idle } else { Turn::Wake },
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// False: end.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Connected { peer, replica, writes } => {
                self.replicas.insert(peer, replica);
                self.handle(Event::Connected { peer, replica, writes });
            }
            Input::Disconnected(peer) => {
                self.replicas.remove(&peer);
                self.handle(Event::Disconnected(peer));
            }
            Input::Message(peer, message) => {
                let event = self.replicas.get(&peer).and_then(|replica| words::event(peer, *replica, message));
                if let Some(event) = event {
                    self.handle(event);
                }
            }
            Input::Engine(event) => {
                if matches!(event, Event::Approve) {
                    self.alarms.answered().iter().for_each(|alarm| self.shared.alarm_over(alarm));
                }
                self.handle(event);
            }
            Input::Fetched { path, content, manifest } => {
                if let Some(manifest) = manifest {
                    self.shared.store().commit(vec![Change::Manifest(Arc::unwrap_or_clone(manifest))]);
                }
                self.handle(Event::Fetched { path, content });
            }
            Input::Applied(outcomes) => {
                self.log.applied(&outcomes, |record| self.shared.publish(record));
                self.handle(Event::Applied(outcomes));
                if std::mem::take(&mut self.ignore_applying) {
                    self.queue.add(Look::Ignore);
                }
            }
            Input::Override => self.overrule(),
            Input::Revert => self.revert(),
            Input::Rescan => self.queue.add(Look::Whole),
            Input::Look(path) => self.queue.add(Look::Path(path)),
            Input::Doubt(path) => self.queue.add(Look::Doubt(path)),
            Input::Report(reply) => {
                // A closed reply means that nobody waits any more.
                let _ = reply.send(self.report());
            }
            Input::Barrier(reply) => {
                self.barriers.push(reply);
                self.queue.add(Look::Barrier);
            }
            Input::IgnoreChanged => self.ignore_changed(),
            Input::Guard(on, reply) => self.guard(on, reply),
            Input::Root(state) => self.root(state),
            Input::Stop => return false,
        }
        true
    }

    fn guard(&mut self, on: bool, reply: oneshot::Sender<bool>) {
        let shared = Arc::clone(&self.shared);
        let effects = self.engine.set_guard(on, View { rows: shared.store(), disk: shared.disk() });
        // A closed reply means that the daemon stops.
        let _ = reply.send(effects.is_some());
        self.carry_out(effects.unwrap_or_default());
    }

    fn root(&mut self, state: Result<(), StopCause>) {
        let stopped = state.err();
        if self.stopped == stopped {
            return;
        }
        let resumed = stopped.is_none();
        self.stopped = stopped;
        self.shared.set_stopped(self.stopped.clone());
        if resumed {
            self.queue.add(Look::Whole);
            // Barriers that came in between were passed by nobody.
            if !self.barriers.is_empty() {
                self.queue.add(Look::Barrier);
            }
        }
    }

    fn ignore_changed(&mut self) {
        if let Err((file, problem)) = self.shared.reload_ignore() {
            // The rules that hold go on: without any, what is ignored would be published.
            self.troubles.rules_failed(file, problem, self.now(), self.shared.wall_secs());
            return;
        }
        self.troubles.rules_read();
        self.handle(Event::IgnoreChanged);
        self.queue.add(Look::Whole);
    }

    /// What could not be taken in is looked at again from time to time.
    fn look_again(&mut self) {
        for path in self.troubles.due(self.now()) {
            self.queue.again(path);
        }
    }

    fn seen(&mut self, seen: Seen) {
        match seen {
            Seen::Started => {
                self.troubles.scan_started();
                self.handle(Event::ScanStarted);
            }
            Seen::Ended { whole, scope } => {
                self.troubles.scan_ended(scope.as_ref());
                self.handle(Event::ScanEnded { whole });
            }
            // What was seen before the barrier led to more to look at.
            Seen::Barrier if self.queue.is_busy() => self.queue.add(Look::Barrier),
            Seen::Barrier => {
                for reply in self.barriers.drain(..) {
                    // A closed reply means that nobody waits any more.
                    let _ = reply.send(());
                }
            }
            Seen::Root(state) => self.root(state),
            Seen::Watching(words) => self.watching = words.map(|words| (words, self.shared.wall_secs())),
            Seen::IgnoreChanged => self.ignore_changed(),
            _ if self.stopped.is_some() => {}
            Seen::Found(found) => {
                for observation in &found {
                    self.is_well(&observation.path, matches!(observation.observed, Observed::Directory { .. }));
                }
                self.handle(Event::Observed(found));
            }
            Seen::Missing(paths) => {
                for path in &paths {
                    self.troubles.remove(path);
                }
                self.handle(Event::Missing(paths));
            }
            Seen::Problem(None, problem) => self.root(Err(StopCause::Root(problem.words))),
            Seen::Problem(Some(path), problem) => {
                self.troubles.add(path, problem, self.now(), self.shared.wall_secs());
            }
            Seen::Suspect(path) => self.handle(Event::Suspect(path)),
            Seen::Fine(path) => {
                let is_directory = self.shared.store().get(&path).is_directory();
                self.is_well(&path, is_directory);
            }
        }
    }

    /// A look found nothing wrong with a path. What is wrong inside a directory only a scan of it can tell.
    fn is_well(&mut self, path: &RelPath, is_directory: bool) {
        if !self.troubles.contains(path) {
            return;
        }
        if is_directory {
            self.queue.add(Look::Subtree(path.clone()));
        } else {
            self.troubles.remove(path);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        let shared = Arc::clone(&self.shared);
        let view = View { rows: shared.store(), disk: shared.disk() };
        let effects = self.engine.handle(now, event, view);
        self.carry_out(effects);
    }

    /// True: there is more to do at once.
    fn advance(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let view = View { rows: shared.store(), disk: shared.disk() };
        for _ in 0..ROUNDS_PER_TURN {
            let effects = self.engine.advance(self.now(), view);
            if effects.is_empty() {
                self.note_idle();
                self.note_agreement();
                self.note_durability();
                self.remind();
                self.look_again();
                return false;
            }
            self.carry_out(effects);
        }
        true
    }

    fn note_idle(&mut self) {
        let idle = self.engine.is_idle(self.shared.store());
        if idle != self.was_idle {
            self.was_idle = idle;
            self.shared.state_changed(idle);
            if idle && self.stopped.is_none() {
                // Nothing is wanted, and only this thread asks for content: what a crash or a newer version left is
                // of no use.
                self.shared.clear_temps();
            }
        }
    }

    /// Said once: nothing can be done about it but to use another file system.
    fn note_durability(&mut self) {
        if self.undurable.is_none() && !self.shared.is_durable() {
            self.undurable = Some(self.shared.wall_secs());
            tracing::warn!(folder = %self.shared.id(), "{UNDURABLE_WORDS}");
            self.shared.problem(UNDURABLE_WORDS);
        }
    }

    /// A device from which the folder differed, and that agrees now, is no alarm any more.
    fn note_agreement(&mut self) {
        if self.alarms.is_empty() {
            return;
        }
        let peers = self.engine.status(self.shared.store()).peers;
        for alarm in self.alarms.over(|peer| peers.get(peer).is_some_and(|peer| peer.in_sync)) {
            tracing::info!(folder = %self.shared.id(), "over: {}", super::report::alarm_words(&alarm, DeviceId::short));
            self.shared.alarm_over(&alarm);
        }
    }

    /// What is still held after days is said again. Never approved by itself.
    fn remind(&mut self) {
        let due = self.holds.update(&self.engine.held(), self.now(), self.shared.wall_secs());
        for hold in due {
            self.warn(&Alarm::Held(hold));
        }
    }

    fn warn(&self, alarm: &Alarm) {
        tracing::warn!(folder = %self.shared.id(), "{}", super::report::alarm_words(alarm, DeviceId::short));
        self.shared.alarm(alarm);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match words::outgoing(self.shared.id(), effect) {
                Outgoing::Message(peer, message) => self.shared.send(peer, message),
                Outgoing::Here(effect) => self.carry_out_here(effect),
            }
        }
    }

    fn carry_out_here(&mut self, effect: Effect) {
        match effect {
            Effect::Commit(changes) => {
                self.note_changes(&changes);
                self.shared.store().commit(changes);
            }
            Effect::Fetch { path, origin, content, sources } => {
                self.shared.fetch(FetchRequest { folder: self.shared.id(), path, origin, content, sources });
            }
            Effect::KeepBeside { path, id } => {
                let (fs, store, now) = (self.shared.fs(), self.shared.store(), self.shared.wall_secs());
                if let Err(error) = crate::disk::versions::keep_beside(fs, store, &path, id, now) {
                    tracing::warn!("a local change stays among the versions: {error}");
                }
                self.queue.add(path.parent().map_or(Look::Whole, Look::Subtree));
            }
            Effect::SetAside { path } => {
                let (fs, store, now) = (self.shared.fs(), self.shared.store(), self.shared.wall_secs());
                let id = super::fresh_action();
                if let Err(error) = crate::disk::versions::set_aside(fs, store, &path, id, now) {
                    tracing::warn!("a file that was to be set aside stays where it is: {error}");
                }
                self.queue.add(Look::Path(path));
            }
            Effect::CancelFetch { path } => self.shared.cancel_fetch(&path),
            Effect::Apply { actions, counter } => self.apply(actions, counter),
            Effect::Look { path, subtree } => {
                self.queue.add(if subtree { Look::Subtree(path) } else { Look::Path(path) });
            }
            Effect::Scan => self.queue.add(Look::Whole),
            Effect::Alarm(alarm) => {
                self.warn(&alarm);
                self.alarms.add(alarm, self.shared.wall_secs());
            }
            Effect::IndexGet { .. }
            | Effect::Index { .. }
            | Effect::IndexAck { .. }
            | Effect::Digest { .. }
            | Effect::Run { .. } => {
                unreachable!("words::outgoing takes every effect that goes to a peer")
            }
        }
    }

    fn apply(&mut self, actions: Vec<Action>, counter: u64) {
        if let Some(cause) = &self.stopped {
            let problem = Problem { code: ProblemCode::Io, words: cause.words() };
            let outcomes = actions.iter().map(|action| (action.id, Outcome::Failed(problem.clone()))).collect();
            self.handle(Event::Applied(outcomes));
            return;
        }
        self.log.applying(&actions);
        self.ignore_applying = actions.iter().any(|action| is_ignore_file(&action.path));
        // The commit thread takes one batch at a time, and the engine gives no second one before the first is back.
        if self.commits.send((actions, counter)).is_err() {
            tracing::error!("the commit thread has ended");
        }
    }

    fn note_changes(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Have { path, have } = change {
                let own = have.entry.content_at.get(self.shared.replica()) > 0 && !have.entry.found;
                if own {
                    self.log.add(What::of_local(&have.entry), path, &have.entry, |record| self.shared.publish(record));
                }
                if is_ignore_file(path) {
                    self.queue.add(Look::Ignore);
                }
            }
        }
    }

    fn overrule(&mut self) {
        let shared = Arc::clone(&self.shared);
        let view = View { rows: shared.store(), disk: shared.disk() };
        let effects = self.engine.assert_ours(DeclineCode::SendOnly, view);
        self.carry_out(effects);
    }

    fn revert(&mut self) {
        let shared = Arc::clone(&self.shared);
        let view = View { rows: shared.store(), disk: shared.disk() };
        let effects = self.engine.revert(view);
        self.carry_out(effects);
    }
}

fn is_ignore_file(path: &RelPath) -> bool {
    path.as_bytes() == crate::disk::ignore::IgnoreFile::Shared.name().as_bytes()
}

enum Turn {
    Stop,
    Idle,
    Input(Input),
    Seen(Seen),
    Wake,
}
