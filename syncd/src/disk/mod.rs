//! The one IO seam, and everything that reads or changes a synced tree.

pub mod commit;
pub mod fs;
pub mod hash;
pub mod ignore;
mod look;
pub mod scan;
pub mod sim_journal;
mod tree;
pub mod watch;

pub use commit::commit;
