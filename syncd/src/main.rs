//! `syncd`: runs the daemon, a relay, or the demo.

#[path = "main/relay.rs"]
mod relay_command;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use syncd::home::{Home, HomeInUse};
use syncd::node::{Daemon, Ended, Options};
use tracing_subscriber::EnvFilter;

/// Keeps folders in sync between your own devices, directly and encrypted.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground (also without a subcommand).
    Run(RunArgs),
    /// Run a relay: it joins two devices that cannot reach each other, and sees neither names nor contents.
    Relay(relay_command::RelayArgs),
    /// Show it work: two daemons in scratch homes sync scratch copies of a directory.
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Where this daemon keeps everything (default: SYNCD_HOME, else the platform's directory).
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Address to listen on instead of the configured ones; repeatable; port 0 picks one.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Directory to copy and sync (default: this directory without `target/`). The original is only read.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The database was written by a newer version (EX_DATAERR).
const EXIT_NEWER: u8 = 65;
/// The home is in use (EX_CANTCREAT).
const EXIT_IN_USE: u8 = 73;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error).context("cannot start")),
    };
    let result = match cli.command {
        None => runtime.block_on(run(cli.run)),
        Some(Command::Run(args)) => runtime.block_on(run(args)),
        Some(Command::Relay(args)) => runtime.block_on(relay_command::run(args)),
        Some(Command::Demo(args)) => runtime.block_on(demo(args)),
    };
    match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    if error.downcast_ref::<HomeInUse>().is_some() {
        eprintln!("hint: `syncctl status` talks to the daemon that runs; another one needs its own --home");
        return ExitCode::from(EXIT_IN_USE);
    }
    ExitCode::FAILURE
}

/// Secrets must reach neither a core file nor another program of this user: what is not dumpable can be traced, and its
/// memory read through /proc, by root only.
fn protect_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    if setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).is_err() {
        tracing::debug!("core dumps could not be switched off");
    }
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        tracing::debug!("other programs of this user may read this one's memory");
    }
}

/// As many open files as the system allows: watches and handles of large trees.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        tracing::debug!("the limit of open files stays as it is");
    }
}

fn start_logging(level: &str) {
    let filter = EnvFilter::try_from_env("SYNCD_LOG").unwrap_or_else(|_| EnvFilter::new(format!("warn,syncd={level}")));
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if journal {
        builder.without_time().with_ansi(false).init();
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
}

async fn run(args: RunArgs) -> Result<ExitCode> {
    let home = Home::resolve(args.home.as_deref())?;
    let level = syncd::config::ConfigFile::load(&home.config()).map_or("info", |file| file.settings().log_level.word());
    start_logging(level);
    protect_memory();
    raise_file_limit();
    if rustix::process::geteuid().is_root() {
        tracing::warn!("running as root: files of every user are within reach; a user service is safer");
    }
    loop {
        let daemon = Daemon::start(Options { home: home.clone(), listen: args.listen.clone() }).await?;
        // No service manager, nothing to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let stop = daemon.stopper();
        let watch = tokio::spawn(async move {
            terminated().await;
            // As above.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            stop.cancel();
        });
        match daemon.ended().await? {
            Ended::Stopped => return Ok(ExitCode::SUCCESS),
            Ended::Renewed => watch.abort(),
            Ended::NewerDatabase => {
                eprintln!("error: a folder's database was written by a newer syncd");
                eprintln!("hint: install that version again; this one has touched nothing");
                return Ok(ExitCode::from(EXIT_NEWER));
            }
        }
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

async fn demo(args: DemoArgs) -> Result<ExitCode> {
    start_logging("error");
    protect_memory();
    raise_file_limit();
    let passed = syncd::demo::run(args.dir).await?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
