//! Real daemons in scratch homes on loopback, driven through the command line contract alone: `World` makes devices,
//! `Device` runs `syncd` and `syncctl`, `tree` looks at files without asking either. Nothing here links the daemon.
//!
//! Invariants: no process and no file outlives its `World`; nothing waits by sleeping for a fixed time, each wait has
//! a condition and a bound, and says what it waited for when it gives up.

mod device;
mod fleet;
mod hold;
mod mount;
mod programs;
mod socks;
mod talk;
mod tree;
mod verdict;

pub use device::{Device, World};
pub use fleet::{FOLDER, assert_same, join, mesh, pair, pair_as, pair_of, settle, share};
pub use hold::{Hold, Rename};
pub use mount::Mount;
pub use programs::Programs;
pub use socks::{Asked, Socks};
pub use talk::{Run, Talk};
pub use tree::{Kind, Node, Tree, conflict_copies, differences, set_mode, set_mtime, shown, tree};
pub use verdict::Verdict;

use std::io::Write;
use std::time::{Duration, Instant};

/// How long anything may take before a test fails: far more than it needs, since the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL_MIN: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(100);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// When it found nothing within `PATIENCE`.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {} s in vain: {what}", PATIENCE.as_secs()))
}

/// The same with a bound of its own, and no panic.
pub fn within<T>(bound: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    let mut pause = POLL_MIN;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(POLL_MAX);
    }
}

/// Says that a test did not run. Tests that need what is not here call this and return: nothing passes in silence,
/// so the words go past the test runner, which keeps what a passing test prints to itself.
pub fn skip(test: &str, why: &str) {
    // Nobody is left to tell when even standard error is gone.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Whether this process may mount and chown.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Bytes that no compressor shrinks and no two seeds share; the same for the same seed.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key("syncd e2e noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
