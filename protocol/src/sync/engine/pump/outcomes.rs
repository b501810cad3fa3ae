//! What became of fetches and actions, and when what failed is tried again.

use super::{Applying, FlightState, Retry};
use crate::model::{ContentHash, RelPath, Timestamp};
use crate::sync::engine::{Effect, Engine, View};
use crate::sync::local::{Change, Decline};
use crate::sync::plan::{ActionId, Outcome, Problem, ProblemCode};
use std::time::Duration;

/// A path whose disk moved is asked again after this, unless its observation comes first.
const DISK_MOVED_RETRY: Duration = Duration::from_millis(500);
/// Times a directory may be found not empty before the peers are told.
const NOT_EMPTY_MAX: u32 = 3;

impl Engine {
    pub(in crate::sync::engine) fn fetched(&mut self, path: &RelPath, content: ContentHash) -> Vec<Effect> {
        let Some(flight) = self.pump.flights.get_mut(path) else {
            return Vec::new();
        };
        if let FlightState::Fetching { content: expected, bytes } = flight.state
            && expected == content
        {
            flight.state = FlightState::Ready { content: Some(content) };
            self.pump.fetch_bytes -= bytes;
        }
        Vec::new()
    }

    pub(in crate::sync::engine) fn fetch_failed(
        &mut self,
        now: Timestamp,
        path: &RelPath,
        content: ContentHash,
        problem: Problem,
        view: View<'_>,
    ) -> Vec<Effect> {
        // One of another content was withdrawn just before. Of the same content it cannot be told, and is tried again.
        if self.pump.fetching(path) != Some(content) {
            return Vec::new();
        }
        let Some(flight) = self.pump.land(path) else {
            return Vec::new();
        };
        self.failed(now, &flight.origin, problem, view)
    }

    fn failed(&mut self, now: Timestamp, origin: &RelPath, problem: Problem, view: View<'_>) -> Vec<Effect> {
        let code = problem.code;
        let words = problem.words.clone();
        self.pump.fail(now, origin, problem, None);
        if code.wants_source() {
            return Vec::new();
        }
        let row = view.rows.get(origin);
        let failed = self.plan(origin, &row, self.next_event(), view).map(|(want, _)| want.entry.version.clone());
        let mut wants = row.wants;
        let mut undeclined = wants.iter_mut().filter(|want| want.declined.is_none());
        let Some(want) = undeclined.find(|want| Some(&want.entry.version) == failed.as_ref()) else {
            return Vec::new();
        };
        let decline = Decline { code: code.decline(), words };
        want.declined = Some(decline.clone());
        let version = want.entry.version.clone();
        self.declines(origin, &version, Some(&decline));
        vec![Effect::Commit(vec![Change::Wants { path: origin.clone(), wants }])]
    }

    pub(in crate::sync::engine) fn applied(
        &mut self,
        now: Timestamp,
        outcomes: Vec<(ActionId, Outcome)>,
        view: View<'_>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (id, outcome) in outcomes {
            let Some(applying) = self.pump.applying.remove(&id) else {
                continue;
            };
            let Applying { path, moved_from, entry, displaces_local, replaces_directory } = applying;
            self.guard.touch(&path);
            let origin = self.pump.land(&path).map_or_else(|| path.clone(), |flight| flight.origin);
            if let Some(from) = &moved_from {
                self.pump.land(from);
                self.guard.touch(from);
                self.pump.moves.tried(from, &entry);
                self.pump.freshen(from);
                self.check_record(from, view);
            }
            if displaces_local && outcome == Outcome::Done {
                effects.push(Effect::KeepBeside { path: path.clone(), id });
            }
            if outcome == Outcome::Done {
                if replaces_directory && view.rows.live_below(&path).is_some() {
                    // What was in the directory that went was moved out of it under our hands.
                    effects.push(Effect::Look { path: path.clone(), subtree: true });
                }
                self.check_record(&path, view);
            }
            effects.extend(self.outcome(now, &path, &origin, outcome, view));
        }
        let look = std::mem::take(&mut self.pump.look_after);
        effects.extend(look.into_iter().map(|path| Effect::Look { path, subtree: false }));
        self.pump.again |= self.pump.unsettled;
        effects
    }

    /// A user may have changed what an action did before it was recorded. Whoever saw that compared it with a row of
    /// yesterday, so it has to be looked at again.
    fn check_record(&mut self, path: &RelPath, view: View<'_>) {
        let recorded = view.rows.get(path).have.and_then(|have| have.fingerprint);
        let is_true = match (view.disk.fingerprint(path), recorded) {
            (Some(now), Some(recorded)) => now.unchanged_since(&recorded),
            (now, recorded) => now.is_none() && recorded.is_none(),
        };
        if !is_true {
            self.pump.look_after(path);
        }
    }

    pub(super) fn outcome(
        &mut self,
        now: Timestamp,
        path: &RelPath,
        origin: &RelPath,
        outcome: Outcome,
        view: View<'_>,
    ) -> Vec<Effect> {
        match outcome {
            Outcome::Done => {
                self.pump.retry.remove(origin);
                self.pump.reverting.remove(origin);
                if origin != path || !view.rows.get(path).wants.is_empty() {
                    self.pump.freshen(origin);
                }
                Vec::new()
            }
            Outcome::NoContent => {
                let words = "the fetched content did not verify on disk".to_string();
                let problem = Problem { code: ProblemCode::Io, words };
                if self.pump.is_retried(origin) {
                    self.pump.fail(now, origin, problem, Some(DISK_MOVED_RETRY));
                } else {
                    // Another path with the same content used the temp up: by now it can be copied from there.
                    let at = now.after(DISK_MOVED_RETRY);
                    self.pump.retry.insert(origin.clone(), Retry { at, attempts: 1, problem, open: true });
                    self.pump.freshen(origin);
                }
                Vec::new()
            }
            Outcome::DiskMoved => {
                let problem = Problem { code: ProblemCode::Busy, words: "it changed here meanwhile".to_string() };
                self.pump.fail(now, origin, problem, Some(DISK_MOVED_RETRY));
                vec![Effect::Look { path: path.clone(), subtree: false }]
            }
            Outcome::NotEmpty { items } => {
                let words = match items {
                    0 => "kept: it holds something that is not synced".to_string(),
                    1 => "kept: it holds 1 item that is not synced".to_string(),
                    _ => format!("kept: it holds {items} items that are not synced"),
                };
                let problem = Problem { code: ProblemCode::Blocked, words };
                let look = Effect::Look { path: path.clone(), subtree: true };
                if self.pump.fail(now, origin, problem.clone(), None) < NOT_EMPTY_MAX {
                    return vec![look];
                }
                let mut effects = self.failed(now, origin, problem, view);
                effects.push(look);
                effects
            }
            Outcome::Failed(problem) => {
                let is_blocked = problem.code == ProblemCode::Blocked;
                let mut effects = self.failed(now, origin, problem, view);
                // What stands in the way may be news to the scan too.
                effects.extend(is_blocked.then(|| Effect::Look { path: path.clone(), subtree: false }));
                effects
            }
        }
    }
}
