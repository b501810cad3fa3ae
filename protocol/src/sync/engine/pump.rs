//! Works off the wants: decides, asks for content, hands out batches of actions. A pass goes through the wants in
//! path order (parents first), then, once nothing is in flight, backwards for directories that go.
//! Everything is decided again just before it is applied, so what changed meanwhile cannot be overwritten; content that
//! is not wanted any more is not waited for.

mod outcomes;

use super::around::Surroundings;
use super::moves::Moves;
use super::{Effect, Engine, View, back_off};
use crate::model::{Content, ContentHash, Entry, Event, RelPath, Timestamp};
use crate::sync::decide::{Draft, Plan, decide};
use crate::sync::local::{Change, Have, LocalRow, Want};
use crate::sync::plan::{Action, ActionId, Outcome, Problem, Step};
use crate::sync::reconcile::{Decision, reconcile};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Paths in flight: fetches and actions.
const FLIGHTS_MAX: usize = 4096;
/// Bytes of files being fetched; one file may be larger.
const FETCH_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Actions in one batch: many renames for each barrier, yet a batch stays below a second.
const BATCH_MAX: usize = 1024;
/// Wants read at a time.
const PAGE: usize = 256;
/// Paths decided out of turn because they just changed.
const FRESH_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Pump {
    flights: BTreeMap<RelPath, Flight>,
    fetch_bytes: u64,
    applying: BTreeMap<ActionId, Applying>,
    look_after: BTreeSet<RelPath>,
    fresh: VecDeque<RelPath>,
    /// Paths whose content is on its way though something else may be due by now.
    doubted: BTreeSet<RelPath>,
    pass: Pass,
    /// Another pass is due when this one ends.
    again: bool,
    /// The last pass left something that a change may free.
    unsettled: bool,
    retry: BTreeMap<RelPath, Retry>,
    pub(super) moves: Moves,
    /// Paths of a receive-only folder where the user's own bytes go to the versions and not beside the path. Should the
    /// process end before that they go beside it.
    reverting: BTreeSet<RelPath>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Direction {
    #[default]
    Resting,
    Forward,
    Backward,
}

#[derive(Debug, Default)]
struct Pass {
    direction: Direction,
    at: Option<RelPath>,
    /// Directories that go were left for the way back.
    directories_left: bool,
}

#[derive(Debug)]
struct Flight {
    /// The wanted path that led here.
    origin: RelPath,
    state: FlightState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlightState {
    Fetching { content: ContentHash, bytes: u64 },
    Ready { content: Option<ContentHash> },
    Applying,
}

#[derive(Debug)]
struct Applying {
    path: RelPath,
    moved_from: Option<RelPath>,
    entry: Entry,
    /// What is displaced is the user's own, in a receive-only folder.
    displaces_local: bool,
    /// A directory goes.
    replaces_directory: bool,
}

#[derive(Debug)]
struct Retry {
    at: Timestamp,
    attempts: u32,
    problem: Problem,
    /// The wait is over; the path is decided like any other.
    open: bool,
}

/// An action that is due, with the old path when it is a move.
struct Due {
    draft: Draft,
    moved_from: Option<RelPath>,
    events: u64,
    /// The user's own bytes stand there, in a receive-only folder.
    displaces_local: bool,
}

impl Pump {
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn is_applying(&self, path: &RelPath) -> bool {
        self.flights.get(path).is_some_and(|flight| flight.state == FlightState::Applying)
    }

    pub(super) fn is_applying_below(&self, dir: &RelPath) -> bool {
        below(&self.flights, dir).any(|(_, flight)| flight.state == FlightState::Applying)
    }

    pub(super) fn is_in_flight(&self, path: &RelPath) -> bool {
        self.flights.contains_key(path)
    }

    fn fetching(&self, path: &RelPath) -> Option<ContentHash> {
        match self.flights.get(path)?.state {
            FlightState::Fetching { content, .. } => Some(content),
            FlightState::Ready { .. } | FlightState::Applying => None,
        }
    }

    pub(super) fn is_retried(&self, path: &RelPath) -> bool {
        self.retry.contains_key(path)
    }

    pub(super) fn look_after(&mut self, path: &RelPath) {
        self.look_after.insert(path.clone());
    }

    pub(super) fn revert(&mut self, path: &RelPath) {
        self.reverting.insert(path.clone());
    }

    pub(super) fn restart(&mut self) {
        self.again = true;
    }

    pub(super) fn source_appeared(&mut self) {
        self.retry.retain(|_, retry| !retry.problem.code.wants_source());
        self.again = true;
    }

    /// A row of a peer was recorded as wanted.
    pub(super) fn wanted(&mut self, path: &RelPath, known: &LocalRow, entry: &Entry) {
        self.moves.wanted(path, known, entry);
        self.retry.remove(path);
        self.freshen(path);
    }

    /// This device recorded a change of its own.
    pub(super) fn local_change(&mut self, path: &RelPath) {
        self.retry.remove(path);
        self.retry_below(path);
        self.freshen(path);
        self.again |= self.unsettled;
    }

    /// What failed because of what stood above it may work now.
    fn retry_below(&mut self, dir: &RelPath) {
        let failed: Vec<RelPath> = below(&self.retry, dir).map(|(path, _)| path.clone()).collect();
        for path in failed {
            self.retry.remove(&path);
            self.freshen(&path);
        }
    }

    pub(super) fn more_is_known(&mut self) {
        self.again |= self.unsettled;
    }

    fn freshen(&mut self, path: &RelPath) {
        if self.fetching(path).is_some() {
            self.doubted.insert(path.clone());
        }
        if self.fresh.len() < FRESH_MAX {
            self.fresh.push_back(path.clone());
        } else {
            self.again = true;
        }
    }

    pub(super) fn next_retry(&self) -> Option<Timestamp> {
        self.retry.values().map(|retry| retry.at).min()
    }

    pub(super) fn retrying(&self) -> Vec<(RelPath, Problem)> {
        let waiting = self.retry.iter().filter(|(_, retry)| !retry.open);
        waiting.map(|(path, retry)| (path.clone(), retry.problem.clone())).collect()
    }

    fn fail(&mut self, now: Timestamp, path: &RelPath, problem: Problem, wait: Option<Duration>) -> u32 {
        let attempts = self.retry.get(path).map_or(0, |retry| retry.attempts);
        let at = now.after(wait.unwrap_or_else(|| back_off(attempts)));
        self.retry.insert(path.clone(), Retry { at, attempts: attempts + 1, problem, open: false });
        attempts
    }

    /// Opens what has waited long enough; should it come to nothing, it is asked again after the next interval.
    fn open_due(&mut self, now: Timestamp) {
        let due: Vec<RelPath> =
            self.retry.iter().filter(|(_, retry)| retry.at <= now).map(|(path, _)| path.clone()).collect();
        for path in due {
            if let Some(retry) = self.retry.get_mut(&path) {
                retry.open = true;
                retry.at = now.after(back_off(retry.attempts));
            }
            self.freshen(&path);
        }
    }

    /// What is due, at most a batch; with a content all that wait for it, since a batch uses up its temp.
    fn ready(&self) -> Vec<(RelPath, RelPath, Option<ContentHash>)> {
        let mut taken = BTreeSet::new();
        let mut ready = Vec::new();
        for (path, flight) in &self.flights {
            let FlightState::Ready { content } = flight.state else {
                continue;
            };
            let shares = content.is_some_and(|content| taken.contains(&content));
            if ready.len() < BATCH_MAX || shares {
                taken.extend(content);
                ready.push((path.clone(), flight.origin.clone(), content));
            }
        }
        ready
    }

    fn has_room(&self) -> bool {
        self.flights.len() < FLIGHTS_MAX && self.fetch_bytes < FETCH_BYTES_MAX
    }

    /// A flight ends: what waited for its path may go on.
    fn land(&mut self, path: &RelPath) -> Option<Flight> {
        let flight = self.flights.remove(path)?;
        self.again |= self.unsettled;
        if let FlightState::Fetching { bytes, .. } = flight.state {
            self.fetch_bytes -= bytes;
        }
        Some(flight)
    }
}

impl Engine {
    pub(super) fn dispatch(&mut self, now: Timestamp, view: View<'_>) -> Vec<Effect> {
        self.pump.open_due(now);
        let applied = self.apply_ready(now, view);
        if !applied.is_empty() {
            return applied;
        }
        // Also where a large one takes up all the room.
        while let Some(path) = self.pump.doubted.pop_first() {
            let row = view.rows.get(&path);
            let planned = self.plan(&path, &row, self.next_event(), view);
            if self.is_in_vain(&path, &row, planned.as_ref()) {
                return vec![self.withdraw(&path)];
            }
        }
        while self.pump.has_room() {
            let Some(path) = self.pump.fresh.pop_front() else {
                break;
            };
            let row = view.rows.get(&path);
            if row.wants.is_empty() {
                self.pump.retry.remove(&path);
            }
            let effects = self.evaluate(&path, &row, view);
            if !effects.is_empty() {
                return effects;
            }
        }
        let effects = self.continue_pass(view);
        if effects.is_empty() { self.apply_ready(now, view) } else { effects }
    }

    fn continue_pass(&mut self, view: View<'_>) -> Vec<Effect> {
        if self.pump.pass.direction == Direction::Resting && std::mem::take(&mut self.pump.again) {
            self.pump.pass = Pass { direction: Direction::Forward, at: None, directories_left: false };
            self.pump.unsettled = false;
        }
        let mut effects = Vec::new();
        while self.pump.pass.direction != Direction::Resting && effects.is_empty() && self.pump.has_room() {
            let forward = self.pump.pass.direction == Direction::Forward;
            let at = self.pump.pass.at.clone();
            let page = if forward {
                view.rows.wanted(at.as_ref(), PAGE)
            } else {
                view.rows.wanted_reversed(at.as_ref(), PAGE)
            };
            if page.is_empty() && !self.turn() {
                break;
            }
            for (path, row) in page {
                self.pump.pass.at = Some(path.clone());
                let leaves = row.is_directory() && row.wants.iter().all(|want| !want.entry.content.is_directory());
                if forward && leaves {
                    self.pump.pass.directories_left = true;
                    continue;
                }
                effects.extend(self.evaluate(&path, &row, view));
                if !self.pump.has_room() {
                    break;
                }
            }
        }
        effects
    }

    /// At the end of a pass: backwards when directories were left, else rest. False: wait for what is in flight.
    fn turn(&mut self) -> bool {
        let pass = &mut self.pump.pass;
        if pass.direction == Direction::Forward && pass.directories_left {
            if !self.pump.flights.is_empty() {
                self.pump.unsettled = true;
                return false;
            }
            *pass = Pass { direction: Direction::Backward, at: None, directories_left: false };
            return true;
        }
        pass.direction = Direction::Resting;
        if !self.pump.unsettled && self.pump.flights.is_empty() {
            self.pump.moves.clear();
        }
        false
    }

    /// Decides one wanted path and starts what it takes.
    fn evaluate(&mut self, path: &RelPath, row: &LocalRow, view: View<'_>) -> Vec<Effect> {
        if let Some(taken_back) = self.take_back(path, row) {
            self.pump.freshen(path);
            return vec![Effect::Commit(vec![taken_back])];
        }
        if self.pump.retry.get(path).is_some_and(|retry| !retry.open) {
            return Vec::new();
        }
        let planned = self.plan(path, row, self.next_event(), view);
        if self.is_in_vain(path, row, planned.as_ref()) {
            return vec![self.withdraw(path)];
        }
        let Some((want, plan)) = planned else {
            return Vec::new();
        };
        if self.pump.flights.contains_key(path) {
            self.pump.unsettled = true;
            return Vec::new();
        }
        let draft = match plan {
            Plan::Drop => {
                let keep: Vec<Want> = row.wants.iter().filter(|other| *other != want).cloned().collect();
                if !keep.is_empty() {
                    self.pump.freshen(path);
                }
                return vec![Effect::Commit(vec![Change::Wants { path: path.clone(), wants: keep }])];
            }
            Plan::Wait => {
                self.pump.unsettled = true;
                return Vec::new();
            }
            Plan::Do(draft) => draft,
        };
        if self.pump.flights.contains_key(&draft.path) {
            self.pump.unsettled = true;
            return Vec::new();
        }
        if !self.history && draft.step == Step::Record && row.have.is_none() && !view.disk.is_absent(path) {
            // A tombstone for what no scan has looked at yet: first we must know whether it means these bytes.
            self.pump.unsettled = true;
            return vec![Effect::Look { path: path.clone(), subtree: false }];
        }
        if self.guard.is_counting(want) || self.is_about_to_move(&draft, view) {
            self.pump.unsettled = true;
            return Vec::new();
        }
        let needs_content = draft.step == Step::InstallFile && self.move_source(&draft, view).is_none();
        let file = draft.entry.content.file().filter(|_| needs_content).cloned();
        let state = match &file {
            Some(file) => FlightState::Fetching { content: file.hash, bytes: file.size },
            None => FlightState::Ready { content: None },
        };
        self.pump.flights.insert(draft.path.clone(), Flight { origin: path.clone(), state });
        let Some(content) = file else {
            return Vec::new();
        };
        self.pump.fetch_bytes += content.size;
        let sources = want.sources.clone();
        vec![Effect::Fetch { path: draft.path, origin: path.clone(), content, sources }]
    }

    /// Whether the content that a path waits for is not due there any more. One of a conflict copy, which has a path of
    /// its own, is not asked about: it comes, and then something else is decided.
    fn is_in_vain(&self, path: &RelPath, row: &LocalRow, planned: Option<&(&Want, Plan)>) -> bool {
        let flight = self.pump.flights.get(path).filter(|flight| flight.origin == *path);
        let Some(FlightState::Fetching { content, .. }) = flight.map(|flight| flight.state) else {
            return false;
        };
        let is_other = |entry: &Entry| entry.content.file().is_none_or(|file| file.hash != content);
        // It came by another way.
        let stands = row.local.is_none() && row.entry().is_some_and(|entry| !is_other(entry));
        match planned {
            _ if stands => true,
            Some((_, Plan::Wait)) => false,
            // Something else comes first, or the content is due at another path now.
            Some((want, Plan::Do(draft))) if draft.path != *path => is_other(&want.entry),
            Some((_, Plan::Do(draft))) => draft.step != Step::InstallFile || is_other(&draft.entry),
            Some((_, Plan::Drop)) | None => true,
        }
    }

    fn withdraw(&mut self, path: &RelPath) -> Effect {
        self.pump.land(path);
        self.pump.freshen(path);
        Effect::CancelFetch { path: path.clone() }
    }

    /// What could not be done and is no longer to be done here, for the other side writes the merge, is declined no more:
    /// a digest would count it in place of what stands here, and the peer's does not.
    fn take_back(&mut self, path: &RelPath, row: &LocalRow) -> Option<Change> {
        let rules = self.config.rules;
        let is_moot = |want: &Want| {
            want.declined.as_ref().is_some_and(|decline| decline.code.passes())
                && reconcile(row.entry(), &want.entry, &rules) == Decision::Nothing
        };
        if !row.wants.iter().any(is_moot) {
            return None;
        }
        let mut wants = row.wants.clone();
        for want in wants.iter_mut().filter(|want| is_moot(want)) {
            want.declined = None;
            self.declines(path, &want.entry.version, None);
        }
        Some(Change::Wants { path: path.clone(), wants })
    }

    /// What to do at a path: the first of its wants, not declined for good, that does not have to wait. One that a
    /// connected device can serve goes first: an absent device must not hold up the rest.
    pub(super) fn plan<'r>(
        &self,
        path: &RelPath,
        row: &'r LocalRow,
        event: Event,
        view: View<'_>,
    ) -> Option<(&'r Want, Plan)> {
        let served = |want: &Want| want.sources.iter().any(|source| self.peers.contains_key(source));
        let open = |want: &&Want| want.declined.as_ref().is_none_or(|decline| decline.code.passes());
        let mut wants: Vec<&Want> = row.wants.iter().filter(open).collect();
        wants.sort_by_key(|want| !served(want));
        let around = Surroundings { engine: self, view };
        let mut plans = wants.into_iter().map(|want| (want, decide(&around, path, row, want, event)));
        let first = plans.next()?;
        if first.1 == Plan::Wait { plans.find(|(_, plan)| *plan != Plan::Wait).or(Some(first)) } else { Some(first) }
    }

    /// Hands out everything that is ready as one batch, when no batch is out.
    fn apply_ready(&mut self, now: Timestamp, view: View<'_>) -> Vec<Effect> {
        if !self.pump.applying.is_empty() {
            return Vec::new();
        }
        let ready = self.pump.ready();
        let mut actions = Vec::new();
        let mut records = Vec::new();
        let mut effects = Vec::new();
        for (path, origin, content) in ready {
            self.pump.land(&path);
            let Some(due) = self.due(&path, &origin, content, view) else {
                self.pump.freshen(&origin);
                continue;
            };
            if due.draft.step == Step::Record && !self.stands(&due.draft, view) {
                effects.extend(self.outcome(now, &path, &origin, Outcome::DiskMoved, view));
                continue;
            }
            self.counter += due.events;
            if due.draft.step == Step::Record {
                records.push(record(due.draft));
                self.pump.freshen(&origin);
                continue;
            }
            actions.push(self.start(origin, due));
        }
        if !records.is_empty() {
            records.push(Change::Counter(self.counter));
            effects.insert(0, Effect::Commit(records));
        }
        if !actions.is_empty() {
            effects.push(Effect::Apply { actions, counter: self.counter });
        }
        effects
    }

    fn start(&mut self, origin: RelPath, due: Due) -> Action {
        let id = self.take_action_id();
        let Draft { path, expected, entry, step, .. } = due.draft;
        let (moved_from, entry_too) = (due.moved_from.clone(), entry.clone());
        let displaces_local = due.displaces_local;
        let replaces_directory = expected.as_ref().is_some_and(|have| have.entry.content.is_directory())
            && !entry_too.content.is_directory();
        let applying =
            Applying { path: path.clone(), moved_from, entry: entry_too, displaces_local, replaces_directory };
        self.pump.applying.insert(id, applying);
        if let Some(from) = due.moved_from {
            self.pump.flights.insert(from.clone(), Flight { origin: from, state: FlightState::Applying });
        }
        self.pump.flights.insert(path.clone(), Flight { origin, state: FlightState::Applying });
        Action { id, path, expected, entry, step }
    }

    /// Decides once more: what was planned must still be what is due.
    fn due(&self, path: &RelPath, origin: &RelPath, fetched: Option<ContentHash>, view: View<'_>) -> Option<Due> {
        let row = view.rows.get(origin);
        let (want, Plan::Do(mut draft)) = self.plan(origin, &row, self.next_event(), view)? else {
            return None;
        };
        if draft.path != *path || self.guard.is_counting(want) {
            return None;
        }
        let events = u64::from(draft.uses_event);
        let displaces_local =
            draft.path == *origin && row.local.as_ref().is_some_and(|local| local.content().is_live());
        let displaces_local = displaces_local && !self.pump.reverting.contains(origin);
        if draft.step != Step::InstallFile || draft.entry.content.file().map(|file| file.hash) == fetched {
            return Some(Due { draft, moved_from: None, events, displaces_local });
        }
        let (from, from_have, source) = self.move_source(&draft, view)?;
        draft.step = Step::MoveFrom { from: from.clone(), from_have, tombstone: source.entry };
        Some(Due { draft, moved_from: Some(from), events: 2, displaces_local: false })
    }

    /// What a record says to stand on disk does so, as far as one look tells: an edit that no scan has seen comes first.
    /// What could have been edited without a trace is read again before. Without history nothing is recorded as gone
    /// while something stands there: found on top of that, old bytes would look like a new edit.
    fn stands(&self, draft: &Draft, view: View<'_>) -> bool {
        if !draft.entry.is_live() {
            return self.history || view.disk.fingerprint(&draft.path).is_none();
        }
        let Some(have) = &draft.expected else {
            return true;
        };
        let is_as = |expected| view.disk.fingerprint(&draft.path).is_some_and(|now| now.unchanged_since(&expected));
        !have.racy && have.fingerprint.is_none_or(is_as)
    }
}

/// What is kept for paths below a directory; paths sort with their directory first.
fn below<'m, T>(map: &'m BTreeMap<RelPath, T>, dir: &RelPath) -> impl Iterator<Item = (&'m RelPath, &'m T)> {
    let from = map.range(dir.clone()..).skip_while(move |(path, _)| *path == dir);
    from.take_while(move |(path, _)| path.is_below(dir))
}

/// A record without a change on disk keeps what is known of the disk.
fn record(draft: Draft) -> Change {
    let (fingerprint, racy) = match draft.expected.filter(|_| draft.entry.is_live()) {
        Some(have) => (have.fingerprint, have.racy),
        None => (None, false),
    };
    debug_assert!(draft.entry.content != Content::Tombstone || fingerprint.is_none(), "a tombstone has no fingerprint");
    Change::Have { path: draft.path, have: Have { entry: draft.entry, fingerprint, racy } }
}
