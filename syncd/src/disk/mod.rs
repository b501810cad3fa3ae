//! The one IO seam, and everything that reads or changes a synced tree.

pub mod fs;
pub mod hash;
pub mod ignore;
pub mod scan;
pub mod sim_journal;
pub mod watch;
