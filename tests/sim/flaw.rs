//! Mistakes that a shell or the commit protocol could make, one at a time, and the table by which each is known. They
//! live at the simulator's seams (`flawed_fs`, `database`, `volume`, `device`), so nothing of them is in syncd.

use super::scenario::{Config, Profile};

/// What one simulated run does wrong on every device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Names are never made durable.
    SyncDir,
    /// Bytes of single files are never made durable.
    SyncFile,
    /// The barrier over everything does nothing.
    SyncAll,
    /// A failed fsync is tried again, and the second answer believed.
    SyncAgain,
    /// Fingerprints without ctime.
    Ctime,
    /// A replaced object is not looked at: what was checked before the rename is taken to be what was displaced.
    SwapThenLook,
    /// The same of a removed one.
    MoveThenLook,
    /// A new name overwrites what was made there meanwhile.
    NoReplace,
    /// A swap in three renames.
    AtomicSwap,
    /// A directory goes with whatever is in it.
    EmptyOnly,
    /// Mode and mtime of new files are not set.
    Attributes,
    /// What cannot be listed or looked at counts as gone.
    CompleteListing,
    /// A temp of the right length is taken for whole.
    VerifiedTemps,
    /// `hold/` is emptied at start.
    KeptHold,
    /// Nothing is settled at start.
    Recovery,
    /// A transaction returns before it is durable, so what it says is announced too early.
    DurableFirst,
    /// The entries of a batch are recorded before its renames.
    RenameFirst,
    /// The journal of actions under way is not written.
    Installing,
    /// The journal of displaced objects is not written.
    Held,
    /// Nothing is known to be too young to tell a change apart.
    Racy,
    /// The event counter is not recorded.
    Counter,
    /// A transaction is two.
    OneTransaction,
    /// What users wrote is told to others before it is durable.
    DurableFindings,
    /// Tombstones are dropped at start.
    Tombstones,
    /// What is kept is not asked for its other names.
    Links,
}

/// Something that looks optional, and what leaving it out breaks.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// What is left out, as the command line names it.
    pub name: &'static str,
    /// On which disk it is missed soonest.
    pub profile: Profile,
    /// Device 1 becomes a copy of device 0 in each run, and only convergence is demanded.
    pub copies: bool,
    /// Leaves it out.
    pub set: fn(&mut Config),
}

const fn rule(name: &'static str, profile: Profile, set: fn(&mut Config)) -> Mutant {
    Mutant { name, profile, copies: false, set }
}

macro_rules! flaw {
    ($name:literal, $flaw:ident) => {
        rule($name, Profile::Disk, |config| config.flaw = Some(Flaw::$flaw))
    };
}

/// All of them: rules of the decision table, then steps of the shells.
pub const MUTANTS: [Mutant; 32] = [
    rule("resolver_bumps", Profile::Flat, |config| config.rules.resolver_bumps = false),
    rule("metadata_bumps", Profile::Disk, |config| config.rules.metadata_bumps = false),
    rule("content_at", Profile::Flat, |config| config.rules.content_at = false),
    rule("free_name", Profile::Flat, |config| config.rules.free_name = false),
    rule("own_replica", Profile::Flat, |config| config.reuse_replica = true),
    Mutant { name: "forks", profile: Profile::Flat, copies: true, set: |config| config.rules.forks = false },
    rule("revive", Profile::Flat, |config| config.rules.revive = false),
    flaw!("sync_dir", SyncDir),
    flaw!("sync_file", SyncFile),
    flaw!("sync_all", SyncAll),
    flaw!("sync_again", SyncAgain),
    flaw!("ctime", Ctime),
    flaw!("swap_then_look", SwapThenLook),
    flaw!("move_then_look", MoveThenLook),
    flaw!("no_replace", NoReplace),
    flaw!("atomic_swap", AtomicSwap),
    flaw!("empty_only", EmptyOnly),
    flaw!("attributes", Attributes),
    flaw!("complete_listing", CompleteListing),
    flaw!("verified_temps", VerifiedTemps),
    flaw!("kept_hold", KeptHold),
    flaw!("recovery", Recovery),
    flaw!("durable_first", DurableFirst),
    flaw!("rename_first", RenameFirst),
    flaw!("installing", Installing),
    flaw!("held", Held),
    flaw!("racy", Racy),
    flaw!("counter", Counter),
    flaw!("one_transaction", OneTransaction),
    flaw!("durable_findings", DurableFindings),
    flaw!("tombstones", Tombstones),
    flaw!("links", Links),
];

/// The entry of that name.
#[must_use]
pub fn mutant(name: &str) -> Option<Mutant> {
    MUTANTS.into_iter().find(|mutant| mutant.name == name)
}
