//! The daemon around the pure core of `protocol`: disk, database, network, control.

pub mod config;
pub mod control;
pub mod demo;
pub mod disk;
pub mod folder;
pub mod home;
pub mod keys;
pub mod membership;
pub mod net;
pub mod node;
pub mod relay;
pub mod store;
pub mod transfer;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Exit code that asks the service manager for a restart.
pub const EXIT_RESTART: i32 = 75;

/// Spawns a task without which the daemon would only seem to work: when it panics, the daemon ends and is restarted,
/// and the start settles whatever was under way.
fn vital(task: impl Future<Output = ()> + Send + 'static) {
    let running = tokio::spawn(task);
    tokio::spawn(async move {
        if running.await.is_err_and(|error| error.is_panic()) {
            give_up();
        }
    });
}

/// The same for a thread's body.
fn vital_thread(run: impl FnOnce() + Send + 'static) -> impl FnOnce() + Send + 'static {
    move || {
        // Nothing is used after the panic but the exit code.
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            give_up();
        }
    }
}

fn give_up() -> ! {
    tracing::error!("a part of the daemon failed; it ends and asks to be started again");
    std::process::exit(EXIT_RESTART)
}
