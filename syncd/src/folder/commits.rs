//! The commit thread: carries out batches of actions, one at a time, and in between gives displaced files their
//! place among the versions.

use super::links;
use super::shared::Shared;
use super::steady::Steady;
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
    pub(super) links_inside: bool,
}

impl Committer {
    pub(super) fn run(self) {
        let mut due = Instant::now() + HOUSEKEEPING;
        let mut clock = Steady::new(Instant::now(), self.shared.wall_secs());
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
                    self.keep_house(&mut clock);
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
        if !self.links_inside {
            return self.carry_out(actions, counter);
        }
        let refused: Vec<Option<Outcome>> = actions.iter().map(links::refused).collect();
        let taken = actions.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let taken: Vec<Action> = taken.map(|(action, _)| action.clone()).collect();
        let mut done = self.carry_out(&taken, counter).into_iter();
        refused.into_iter().map(|refused| refused.or_else(|| done.next()).expect("one outcome an action")).collect()
    }

    fn carry_out(&self, actions: &[Action], counter: u64) -> Vec<Outcome> {
        match commit(self.shared.fs(), self.shared.store(), actions, counter, self.shared.wall_secs()) {
            Ok(outcomes) => outcomes,
            // A scan would take what is in the tree for the user's work; a start settles it before any scan.
            Err(error) => {
                tracing::error!("{error}; the daemon ends and has to be started again");
                std::process::exit(crate::EXIT_RESTART)
            }
        }
    }

    fn keep_house(&self, clock: &mut Steady) {
        if self.shared.check_root().is_err() {
            return;
        }
        let (fs, store, now) = (self.shared.fs(), self.shared.store(), self.shared.wall_secs());
        if let Err(error) = versions::release(fs, store, now) {
            tracing::warn!("displaced files stay in hold for now: {error}");
        }
        // By a wrong clock all of them would be old.
        if !clock.look(Instant::now(), now) {
            return;
        }
        let retention = self.shared.tuning().retention;
        if let Err(error) = versions::prune(fs, now, retention.secs, retention.bytes_max) {
            tracing::warn!("old versions stay for now: {error}");
        }
    }
}
