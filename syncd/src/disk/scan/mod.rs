//! Compares the disk with what the database says of it and tells the differences, streaming: memory is bounded by the
//! largest directory. Never writes anything and decides nothing. Invariant: `Missing` is only told of a path that a
//! complete listing of its directory lacks and that lstat does not find; what cannot be read is told as a problem and
//! everything below it stays as it was.

mod entry;
mod local;
mod observe;
mod queue;
#[cfg(test)]
mod tests;
mod walk;

use super::fs::Fs;
use super::hash::HashOptions;
use super::ignore::Ignore;
use protocol::model::RelPath;
use protocol::sync::{Observation, Problem, Rows};

pub use observe::Next;
use observe::Reached;

/// Events handed over at once.
pub const BATCH_MAX: usize = 256;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanEvent {
    /// Something is new or not as recorded. A directory comes before what is in it.
    Found(Observation),
    /// A live row's object is gone. A directory comes before what was in it.
    Missing(RelPath),
    /// Something cannot be synced or looked at; nothing is said about what is recorded at and below the path.
    Problem {
        /// Where; `None` is the folder itself.
        path: Option<RelPath>,
        /// Why.
        problem: Problem,
    },
    /// So far.
    Progress {
        /// Names looked at.
        entries: u64,
        /// Bytes read.
        bytes_hashed: u64,
    },
    /// The end.
    Done {
        /// Everything in the scope was looked at; false when something was unreadable or the scan was cancelled.
        complete: bool,
    },
}

/// Takes findings, at most `BATCH_MAX` at a time. May block.
pub type Sink<'a> = &'a mut dyn FnMut(Vec<ScanEvent>);

/// All that a scan needs.
pub struct Scanner<'a, F: Fs> {
    /// The disk.
    pub fs: &'a F,
    /// What is recorded of it.
    pub rows: &'a (dyn Rows + Sync),
    /// What is not synced.
    pub ignore: &'a Ignore,
    /// Clock, and the flag that stops a scan within one window or entry.
    pub hash: HashOptions<'a>,
    /// Threads that list and hash; with 1 everything happens on the caller's, in a fixed order.
    pub workers: usize,
}

impl<F: Fs> Scanner<'_, F> {
    /// Scans the folder, or what stands at `scope` and everything below it.
    pub fn scan(&self, scope: Option<&RelPath>, sink: Sink<'_>) {
        queue::run(self, scope, sink);
    }

    /// Looks at one path. `Next` says whether that was enough.
    pub fn observe(&self, path: &RelPath, sink: Sink<'_>) -> Next {
        let mut teller = queue::Teller::new(sink);
        let reached = observe::observe(self, path, &mut teller);
        teller.flush();
        match reached {
            Reached::Leaf | Reached::Directory { known: true } => Next::Nothing,
            Reached::Directory { known: false } => Next::Subtree(path.clone()),
            Reached::Unknown(above) => Next::Subtree(above),
        }
    }
}
