//! The one IO seam, and everything that reads or changes a synced tree.

pub mod fs;
pub mod sim_journal;
