//! `syncctl`: pairs devices, adds folders, shows and steers what the daemon does. Talks to it over its control socket
//! only and decides nothing itself; only backups of keys go straight to and from the home. Exit codes: 0 done or yes, 1
//! failed or no, 2 wrong usage.
#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod failure;
mod home;
mod keys;
mod render;

use clap::Parser;
use failure::{Failure, Outcome};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::from(error)),
    };
    let outcome = runtime.block_on(commands::run(args));
    // A prompt may still sit in a blocking read of the terminal.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("error: {}", render::escape(&failure.error));
    if let Some(hint) = &failure.hint {
        eprintln!("hint: {}", render::escape(hint));
    }
    ExitCode::from(failure.exit)
}
