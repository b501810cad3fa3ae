//! `syncd demo`: two real daemons in scratch homes, paired by a code over real sockets, sync scratch copies of a
//! directory, and every step is checked by comparing the two trees byte by byte.
//!
//! It speaks to the daemons only through the requests of the control API, reads the user's directory and writes
//! nothing but one scratch directory, which goes away however the demo ends.

mod compare;
mod copy;
mod link;
mod scratch;
mod screen;
mod side;
mod steps;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};
use copy::Source;
use scratch::Scratch;
use screen::Screen;
use side::Side;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whatever hangs, the demo ends: it is expected to take a tenth of this.
const LIMIT: Duration = Duration::from_secs(240);

/// Shows it all; true when every step was verified. `dir` is only read; without it the working directory is.
///
/// # Errors
/// When it cannot be shown at all: no room for scratch copies, no daemon starts, interrupted.
pub async fn run(dir: Option<PathBuf>) -> Result<bool> {
    let stop = CancellationToken::new();
    let mut show = tokio::spawn(show(dir, stop.clone()));
    tokio::select! {
        shown = &mut show => shown.context("the demo panicked")?,
        why = interrupted() => {
            stop.cancel();
            let cleaned = show.await.context("the demo panicked")?;
            // What was shown until now no longer matters, but that the daemons are down and the scratch is gone does.
            drop(cleaned);
            bail!("{why}; the daemons are stopped and the scratch copies removed")
        }
    }
}

async fn interrupted() -> &'static str {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut int), Ok(mut term)) => {
            tokio::select! {
                _ = int.recv() => "interrupted",
                _ = term.recv() => "terminated",
                () = tokio::time::sleep(LIMIT) => "the demo took too long",
            }
        }
        _ => std::future::pending().await,
    }
}

/// Two daemons on one stage.
pub(in crate::demo) struct Stage {
    a: Side,
    b: Side,
    /// Where a relay can keep its key, and the relay once it runs.
    relay_home: PathBuf,
    relay: Option<(crate::relay::Relay, CancellationToken)>,
}

async fn show(dir: Option<PathBuf>, stop: CancellationToken) -> Result<bool> {
    let started = Instant::now();
    let mut screen = Screen::new();
    let source = Source::choose(dir)?;
    let plan = blocking(|| source.plan(&stop))?;
    let scratch = Scratch::new(plan.bytes())?;
    screen.title(&source, &plan, scratch.path());
    let homes = (scratch.path().join("a"), scratch.path().join("b"));
    blocking(|| -> Result<()> {
        plan.copy_to(&side::root_of(&homes.0), &stop)?;
        scratch::generate(&side::root_of(&homes.0))?;
        std::fs::create_dir_all(side::root_of(&homes.1)).context("cannot make the second scratch folder")
    })?;
    let (a, b) = (Side::new("A", &homes.0)?, Side::new("B", &homes.1)?);
    let mut stage = Stage { a, b, relay_home: scratch.path().join("relay"), relay: None };
    let outcome = tokio::select! {
        outcome = Box::pin(steps::all(&mut stage, &mut screen)) => outcome,
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    screen.clear();
    stage.stop().await;
    scratch.remove()?;
    outcome?;
    Ok(screen.summary(started.elapsed()))
}

impl Stage {
    /// Both daemons and the relay go down in order, so that nothing writes into the scratch any more.
    async fn stop(self) {
        let Self { mut a, mut b, relay, .. } = self;
        tokio::join!(a.halt(), b.halt());
        if let Some((relay, stop)) = relay {
            stop.cancel();
            relay.stopped().await;
        }
    }
}

/// Disk work on this thread, without holding up the daemons on the others.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}
