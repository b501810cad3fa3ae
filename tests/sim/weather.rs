//! What a disk may do wrong in a run, and when: errors of any operation, syncs that fail and then lie, a file system
//! that cannot exchange. Switched on per run, off when everything heals.

use super::rng::Rng;
use super::scenario::Profile;
use serde::{Deserialize, Serialize};
use syncd::disk::fs::Errno;
use syncd::disk::fs::sim::{Fault, Op, OpKind};

/// Which faults a run has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Of 1000 operations, how many fail.
    pub errors_per_mille: u64,
    /// How they fail.
    pub errors: Errors,
    /// A failed sync counts what it could not write as clean.
    pub syncs_lie: bool,
    /// Two names cannot be swapped.
    pub no_exchange: bool,
    /// The watcher tells of directories instead of the names in them.
    pub watch_merges: bool,
}

/// How operations fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errors {
    /// EIO, from anything.
    #[default]
    Io,
    /// ENOSPC, from what takes space.
    NoSpace,
    /// EROFS, from what changes something.
    ReadOnly,
    /// Only fsync fails.
    Syncs,
    /// Anything from anything.
    Mixed,
}

const MIXED: [Errno; 6] = [Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::INTR, Errno::STALE, Errno::MFILE];

impl Faults {
    /// Those of a seed: most runs of the disk profile have none, so that a rare schedule is not drowned in errors.
    #[must_use]
    pub fn draw(seed: u64, profile: Profile) -> Self {
        let mut rng = Rng::new(seed, 0xfa01);
        if profile == Profile::Flat || rng.chance(50) {
            return Self::default();
        }
        Self {
            errors_per_mille: *rng.pick(&[0, 3, 15, 60]),
            errors: *rng.pick(&[Errors::Io, Errors::NoSpace, Errors::ReadOnly, Errors::Syncs, Errors::Mixed]),
            syncs_lie: rng.chance(50),
            no_exchange: rng.chance(20),
            watch_merges: rng.chance(30),
        }
    }
}

/// The weather over one volume.
#[derive(Clone, Debug)]
pub struct Weather {
    faults: Faults,
    rng: Rng,
}

impl Weather {
    /// Faults, drawn in an order of their own.
    #[must_use]
    pub const fn new(faults: Faults, rng: Rng) -> Self {
        Self { faults, rng }
    }

    /// Whether anything can go wrong.
    #[must_use]
    pub const fn is_fair(&self) -> bool {
        self.faults.errors_per_mille == 0 && !self.faults.no_exchange
    }

    /// Whether two names can be swapped.
    #[must_use]
    pub const fn has_exchange(&self) -> bool {
        !self.faults.no_exchange
    }

    /// Nothing fails any more. What the file system cannot do it still cannot.
    pub const fn clear(&mut self) {
        self.faults.errors_per_mille = 0;
    }

    /// What went wrong goes wrong again.
    pub fn ail(&mut self, faults: &Faults) {
        self.faults.clone_from(faults);
    }

    /// What becomes of an operation.
    pub fn strike(&mut self, op: &Op) -> Fault {
        if op.kind == OpKind::Exchange && self.faults.no_exchange {
            return Fault::Errno(Errno::INVAL);
        }
        let is_sync = matches!(op.kind, OpKind::SyncFile | OpKind::SyncAll);
        let often = if self.faults.errors == Errors::Syncs { 10 } else { 1 };
        if self.faults.errors_per_mille == 0 || self.rng.below(1000) as u64 >= self.faults.errors_per_mille * often {
            return Fault::None;
        }
        match self.errno(op.kind) {
            Some(errno) if is_sync && self.faults.syncs_lie => Fault::Unsynced(errno),
            Some(errno) => Fault::Errno(errno),
            None => Fault::None,
        }
    }

    fn errno(&mut self, kind: OpKind) -> Option<Errno> {
        let takes_space = matches!(
            kind,
            OpKind::Create | OpKind::Write | OpKind::SetLen | OpKind::Copy | OpKind::Mkdir | OpKind::Symlink
        );
        let names = matches!(kind, OpKind::Rename | OpKind::Exchange);
        let removes = matches!(kind, OpKind::SetAttrs | OpKind::Rmdir | OpKind::Unlink);
        let syncs = matches!(kind, OpKind::SyncFile | OpKind::SyncDir | OpKind::SyncAll);
        match self.faults.errors {
            Errors::Io => Some(Errno::IO),
            Errors::NoSpace => (takes_space || names || syncs).then_some(Errno::NOSPC),
            Errors::ReadOnly => (takes_space || names || removes).then_some(Errno::ROFS),
            Errors::Syncs => syncs.then_some(Errno::IO),
            Errors::Mixed => Some(*self.rng.pick(&MIXED)),
        }
    }
}
