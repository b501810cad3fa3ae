//! The one IO seam, and everything that reads or changes a synced tree.

pub mod commit;
pub mod fs;
mod look;
pub mod sim_journal;
mod tree;

pub use commit::commit;
