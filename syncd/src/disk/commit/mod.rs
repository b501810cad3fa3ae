//! The commit protocol: how a batch of actions reaches the tree. Stage in `hold/`, journal, rename, look at what
//! was displaced, fsync, record. Invariants: a byte that a user wrote is never removed, only moved into `hold/`
//! with a row that says so; a record is written only when the disk would show the same after a power cut; an
//! action that stops leaves (or puts) everything where it was.

mod obstacles;
mod stage_batch;
mod steps;
#[cfg(test)]
mod tests;

use super::fs::{Fs, problem};
use super::tree::Tree;
use protocol::model::RelPath;
use protocol::sync::{Action, ActionId, Change, Fingerprint, Have, Installing, Journal, Outcome, Step};
use std::collections::BTreeMap;
use std::io;

/// Carries out `actions` in order. `counter` is the highest event counter that their entries use; `now` is the
/// wall clock in seconds since 1970. One outcome per action, in the same order. Blocking.
///
/// The bytes of every `InstallFile` must have been finished by `Stage` in this process. An action may build on an
/// earlier one of the batch: its expectation is compared with the disk when its turn comes.
///
/// # Errors
/// When what was done cannot be made durable. Then the tree shows what no row says, so the process must end before any
/// scan takes it for a user's change; the next start settles it.
pub fn commit<F: Fs, J: Journal + ?Sized>(
    fs: &F,
    journal: &J,
    actions: &[Action],
    counter: u64,
    now: i64,
) -> Result<Vec<Outcome>, NotDurable> {
    let tree = match Tree::open(fs, now) {
        Ok(tree) => tree,
        Err(error) => {
            let outcome = Outcome::Failed(problem(&error, "cannot open the folder's private directory"));
            return Ok(vec![outcome; actions.len()]);
        }
    };
    let mut batch = Batch { tree, staged: BTreeMap::new() };
    let ready = batch.stage(actions);

    let changes_disk = |action: &&Action| !matches!(action.step, Step::Record);
    let pairs = || actions.iter().zip(&ready).filter(|(_, ready)| ready.is_ok()).map(|(action, _)| action);
    let rows: Vec<ActionId> = pairs().filter(changes_disk).map(|action| action.id).collect();
    if !rows.is_empty() {
        let mut changes = vec![Change::Counter(counter)];
        changes.extend(pairs().filter(changes_disk).map(|action| Change::Installing(batch.installing(action))));
        journal.commit(changes);
    }

    let results: Vec<Result<Applied, Outcome>> =
        actions.iter().zip(ready).map(|(action, ready)| ready.and_then(|()| batch.carry_out(action))).collect();
    batch.record(journal, actions, results, &rows, counter)
}

/// A batch is in the tree and may not survive a power cut.
#[derive(Debug, thiserror::Error)]
#[error("a change cannot be made durable: {0}")]
pub struct NotDurable(#[from] io::Error);

/// A batch under way.
struct Batch<'a, F: Fs> {
    tree: Tree<'a, F>,
    /// New objects in `hold/`, and where they go when their action stops.
    staged: BTreeMap<ActionId, Staged>,
}

/// A new object in `hold/<id>` that was not in the tree yet.
#[derive(Clone, Debug)]
struct Staged {
    /// As it is to be installed.
    fingerprint: Fingerprint,
    origin: Origin,
}

/// Where a staged object came from.
#[derive(Clone, Debug)]
enum Origin {
    /// A temp of this name.
    Temp(Vec<u8>),
    /// A second file with the content of another action of the batch, or a new link.
    Made,
    /// A file of the tree that moves.
    Tree(RelPath, Have),
}

/// What an action that was carried out leaves to record.
struct Applied {
    /// Of what stands at the path now.
    fingerprint: Option<Fingerprint>,
    racy: bool,
}

/// The object that an action expects at its path, if any.
fn expected(action: &Action) -> Option<&Have> {
    action.expected.as_ref().filter(|have| have.entry.is_live())
}

impl<F: Fs> Batch<'_, F> {
    fn installing(&self, action: &Action) -> Installing {
        let moved_from = match &action.step {
            Step::MoveFrom { from, from_have, tombstone } => Some((from.clone(), from_have.clone(), tombstone.clone())),
            _ => None,
        };
        let comes = moved_from.as_ref().and_then(|(_, have, _)| have.fingerprint);
        let comes = self.staged.get(&action.id).map(|staged| staged.fingerprint).or(comes);
        let (path, entry, expected) = (action.path.clone(), action.entry.clone(), action.expected.clone());
        Installing { id: action.id, path, entry, expected, moved_from, inode: comes.map(|comes| comes.inode) }
    }

    /// The barrier and the second transaction.
    fn record<J: Journal + ?Sized>(
        mut self,
        journal: &J,
        actions: &[Action],
        results: Vec<Result<Applied, Outcome>>,
        rows: &[ActionId],
        counter: u64,
    ) -> Result<Vec<Outcome>, NotDurable> {
        if !rows.is_empty() {
            self.tree.flush()?;
        }
        let mut changes = Vec::new();
        let mut outcomes = Vec::new();
        for (action, result) in actions.iter().zip(results) {
            match result {
                Ok(Applied { fingerprint, racy }) => {
                    let have = Have { entry: action.entry.clone(), fingerprint, racy };
                    changes.push(Change::Have { path: action.path.clone(), have });
                    if let Step::MoveFrom { from, tombstone, .. } = &action.step {
                        let have = Have { entry: tombstone.clone(), fingerprint: None, racy: false };
                        changes.push(Change::Have { path: from.clone(), have });
                    }
                    outcomes.push(Outcome::Done);
                }
                Err(outcome) => outcomes.push(outcome),
            }
        }
        if rows.is_empty() && !changes.is_empty() {
            changes.insert(0, Change::Counter(counter));
        }
        changes.append(&mut self.tree.changes);
        changes.extend(rows.iter().map(|id| Change::Installed(*id)));
        if !changes.is_empty() {
            journal.commit(changes);
        }
        Ok(outcomes)
    }
}
