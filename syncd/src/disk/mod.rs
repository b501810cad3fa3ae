//! The one IO seam, and everything that reads or changes a synced tree.

pub mod commit;
#[cfg(test)]
mod crash_tests;
mod durable;
pub mod fs;
pub mod hash;
pub mod ignore;
mod look;
pub mod marker;
pub mod presence;
pub mod recover;
pub mod scan;
pub mod sim_journal;
#[cfg(test)]
mod sim_journal_tests;
pub mod stage;
#[cfg(test)]
mod stage_tests;
#[cfg(test)]
mod testing;
mod tree;
pub mod versions;
pub mod watch;

pub use commit::{NotDurable, commit};
pub use durable::make_durable;
pub use recover::{Recovered, recover};
pub use stage::{Stage, Temp};
