//! Hints that something changed in a folder. The scan is the truth: a hint may be late, doubled or missing, and
//! nothing here decides what happened. `coalesce` gathers hints as a pure value, `service` gets them from the system.

mod coalesce;
#[cfg(test)]
mod coalesce_tests;
mod hint;
mod service;
mod state;
#[cfg(test)]
mod tests;

pub use coalesce::{Coalescer, Dirty, Reach};
pub use service::{Barrier, Emit, Watcher};
pub use state::{POLL_EVERY, WatchState};
