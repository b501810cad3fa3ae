//! A folder's database on redb: one file per folder, one writer at a time, every read one short transaction.
//! It keeps what `protocol::sync` asks for and decides nothing. It never deletes a database and never writes again
//! after an error: a read or a commit that fails ends the process, and the next start checks every page.
//! Invariant: when `commit` returns, its changes survive a power cut, and digests and totals match the rows.

mod codec;
mod open;
mod read;
pub mod sim;
mod tables;
mod tally;
#[cfg(test)]
mod tests;
mod write;

pub use open::{OpenError, Opened};

use redb::{Database, ReadTransaction, ReadableDatabase};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a failed read or commit does with the process; it does not come back. Tests panic instead of exiting.
pub type Fatal = fn(reason: &str) -> !;

/// sysexits' EX_TEMPFAIL: the service manager starts the daemon again, and that start checks the database.
const EXIT_TEMPFAIL: i32 = 75;

/// Rows, sequences, chunk lists, cursors and the journal of one folder. Shared between threads in an `Arc`.
pub struct Store {
    db: Database,
    fatal: Fatal,
    /// Set by the first failure: from then on nothing is read or written.
    failed: AtomicBool,
}

impl Store {
    fn new(db: Database, fatal: Fatal) -> Self {
        Self { db, fatal, failed: AtomicBool::new(false) }
    }

    /// Runs `body` in one read transaction.
    fn read<T>(&self, what: &str, body: impl FnOnce(&ReadTransaction) -> anyhow::Result<T>) -> T {
        self.guard(what, || body(&self.db.begin_read()?))
    }

    /// Runs `body`; redb does not verify pages as it reads them, so a damaged one may panic as well as fail.
    fn guard<T>(&self, what: &str, body: impl FnOnce() -> anyhow::Result<T>) -> T {
        if self.failed.load(Ordering::SeqCst) {
            self.die(what, "an earlier failure");
        }
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => self.die(what, &format!("{error:#}")),
            Err(panic) => self.die(what, &open::panic_words(panic.as_ref())),
        }
    }

    fn die(&self, what: &str, why: &str) -> ! {
        self.failed.store(true, Ordering::SeqCst);
        let reason = format!("the folder's database failed to {what}: {why}");
        tracing::error!("{reason}");
        (self.fatal)(&reason)
    }
}

/// Ends the process with the code that asks for a restart.
fn exit(_reason: &str) -> ! {
    std::process::exit(EXIT_TEMPFAIL)
}
