//! The commit thread: carries out batches of actions, one at a time, and in between gives displaced files their
//! place among the versions.

use super::Retention;
use super::links;
use super::shared::Shared;
use super::task::Input;
use crate::disk::{commit, versions};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use protocol::sync::{Action, Outcome, Problem, ProblemCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Displaced files and old versions are looked at this often.
const HOUSEKEEPING: Duration = Duration::from_secs(120);

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) batches: Receiver<(Vec<Action>, u64)>,
    pub(super) inbox: Sender<Input>,
    pub(super) retention: Retention,
    pub(super) links_inside: bool,
}

impl Committer {
    pub(super) fn run(self) {
        let mut due = Instant::now() + HOUSEKEEPING;
        loop {
            match self.batches.recv_deadline(due) {
                Ok((actions, counter)) => {
                    let outcomes = self.commit(&actions, counter);
                    let ids = actions.iter().map(|action| action.id);
                    if self.inbox.send(Input::Applied(ids.zip(outcomes).collect())).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.keep_house();
                    due = Instant::now() + HOUSEKEEPING;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn commit(&self, actions: &[Action], counter: u64) -> Vec<Outcome> {
        if let Err(cause) = self.shared.check_root() {
            let problem = Problem { code: ProblemCode::Io, words: cause.words() };
            return vec![Outcome::Failed(problem); actions.len()];
        }
        let refused = |action: &Action| links::refused(action).filter(|_| self.links_inside);
        let taken: Vec<Action> = actions.iter().filter(|action| refused(action).is_none()).cloned().collect();
        let done = commit(self.shared.fs(), self.shared.store(), &taken, counter, self.shared.wall_secs());
        let mut done = done.into_iter();
        let outcome = |action| refused(action).or_else(|| done.next()).expect("one outcome an action");
        actions.iter().map(outcome).collect()
    }

    fn keep_house(&self) {
        if self.shared.check_root().is_err() {
            return;
        }
        let (fs, store, now) = (self.shared.fs(), self.shared.store(), self.shared.wall_secs());
        if let Err(error) = versions::release(fs, store, now) {
            tracing::warn!("displaced files stay in hold for now: {error}");
        }
        if let Err(error) = versions::prune(fs, now, self.retention.secs, self.retention.bytes_max) {
            tracing::warn!("old versions stay for now: {error}");
        }
    }
}
