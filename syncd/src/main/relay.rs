//! `syncd relay`: runs a relay, and looks after the keys that let clients in. Prints links to standard output and nothing
//! of anybody to the log: counts only.

use crate::{protect_memory, raise_file_limit, start_logging, terminated};
use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use protocol::wire::relay::{Endpoint, RelayIdentity, RelayLink};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use syncd::home::Home;
use syncd::keys::{OWN_KEY, RelayKeys};
use syncd::relay::{Counts, Relay, RelayConfig, RelayLimits};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Where a running relay says how clients reach it, for links that are made meanwhile.
const ADDRESS_FILE: &str = "relay";
/// How soon a key that was given or taken away counts.
const KEYS_LOOK: Duration = Duration::from_secs(2);
/// How often the counts go to the log, if they changed.
const COUNTS_LOG: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RelayArgs {
    #[command(subcommand)]
    command: Option<RelayCommand>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDR", default_value = "[::]:28731")]
    listen: Vec<SocketAddr>,
    /// HOST:PORT under which clients reach it, for the link (default: the address it listens on).
    #[arg(long, value_name = "HOST:PORT")]
    public: Option<Endpoint>,
    #[command(flatten)]
    home: HomeArg,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, Args)]
struct HomeArg {
    /// Where the relay keeps its keys (default: SYNCD_HOME, else the platform's directory).
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Pairs of devices joined at a time, for each access key.
    #[arg(long, value_name = "N", default_value_t = RelayLimits::default().splices_per_key)]
    sessions: usize,
    /// Devices that wait for another, for each access key.
    #[arg(long, value_name = "N", default_value_t = RelayLimits::default().parked_per_key)]
    parked: usize,
    /// Devices that wait for another, for each IPv4 address or IPv6 /64.
    #[arg(long, value_name = "N", default_value_t = RelayLimits::default().parked_per_ip)]
    parked_per_ip: usize,
    /// Bytes a second of one pair, both ways together, such as 500KB; 0: no limit.
    #[arg(long, value_name = "RATE", default_value = "10MB", value_parser = rate)]
    rate: u32,
    /// Attempts to come in a second, for each IPv4 address or IPv6 /64.
    #[arg(long, value_name = "N", default_value_t = RelayLimits::default().knocks_per_second)]
    knocks: u32,
}

#[derive(Debug, Subcommand)]
enum RelayCommand {
    /// Look after the keys that let clients in: one for each person whom you let use the relay.
    ///
    /// A relay that runs follows within seconds.
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// List the names of all keys. `own` is yours and always there.
    List {
        #[command(flatten)]
        home: HomeArg,
    },
    /// Make a key and print its link: whoever has that may use the relay.
    Add {
        /// What it is to be called here.
        name: String,
        #[command(flatten)]
        at: LinkArgs,
    },
    /// Print a key's link once more.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        at: LinkArgs,
    },
    /// Take a key back: who came in by it is cut off. For `own` another one is drawn.
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        home: HomeArg,
    },
}

#[derive(Debug, Args)]
struct LinkArgs {
    /// HOST:PORT under which clients reach the relay (default: as the relay said when it was last started).
    #[arg(long, value_name = "HOST:PORT")]
    public: Option<Endpoint>,
    #[command(flatten)]
    home: HomeArg,
}

/// Bytes a second; the wire has 32 bits for it.
fn rate(text: &str) -> Result<u32, String> {
    let rate = syncd::config::size(text)?;
    u32::try_from(rate).map_err(|_| "is more than can be said: 0 means no limit".to_owned())
}

impl LimitArgs {
    fn limits(&self) -> RelayLimits {
        RelayLimits {
            parked_per_key: self.parked,
            parked_per_ip: self.parked_per_ip,
            splices_per_key: self.sessions,
            knocks_per_second: self.knocks,
            rate: self.rate,
            ..RelayLimits::default()
        }
    }
}

impl HomeArg {
    fn keys(&self) -> Result<(Home, RelayKeys)> {
        let home = Home::resolve(self.home.as_deref())?;
        home.create()?;
        let keys = RelayKeys::open(&home.keys())?;
        Ok((home, keys))
    }
}

/// Runs the relay until it is told to stop, or carries out a command about its keys.
pub async fn run(args: RelayArgs) -> Result<ExitCode> {
    match args.command {
        Some(RelayCommand::Key(command)) => key(command)?,
        None => serve(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: RelayArgs) -> Result<()> {
    start_logging("info");
    protect_memory();
    raise_file_limit();
    let (home, keys) = args.home.keys()?;
    let file = keys.path().to_owned();
    let seen = stamp(&file);
    // Read behind that: no change goes unnoticed.
    let keys = RelayKeys::open(&home.keys())?;
    let config = RelayConfig {
        listen: args.listen,
        access_keys: keys.access(),
        seed: keys.seed,
        public: args.public,
        limits: args.limits.limits(),
    };
    if config.public.is_none() && config.listen.first().is_some_and(|address| address.ip().is_unspecified()) {
        tracing::warn!("the link names no address that clients could come to: give --public HOST:PORT");
    }
    let stop = CancellationToken::new();
    let relay = syncd::relay::serve(config, stop.clone()).await.context("the relay cannot start")?;
    let address = home.run().join(ADDRESS_FILE);
    std::fs::write(&address, format!("{}\n", relay.link.at))
        .with_context(|| format!("cannot write {}", address.display()))?;
    println!("{}", relay.link);
    // No service manager, nothing to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        () = terminated() => {}
        () = follow_keys(&relay, &home, &file, seen) => {}
        () = report(&relay) => {}
    }
    stop.cancel();
    relay.stopped().await;
    Ok(())
}

/// What changes with the file's content.
fn stamp(file: &Path) -> Option<(u64, i64, i64, u64)> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// Lets the relay know of every change of its keys; never ends.
async fn follow_keys(relay: &Relay, home: &Home, file: &Path, mut seen: Option<(u64, i64, i64, u64)>) {
    loop {
        tokio::time::sleep(KEYS_LOOK).await;
        let now = stamp(file);
        if now == seen || now.is_none() {
            continue;
        }
        seen = now;
        let changed = match RelayKeys::open(&home.keys()) {
            Ok(keys) => relay.set_keys(keys.access()).await.map(|()| keys.access().len()),
            Err(error) => Err(error),
        };
        match changed {
            Ok(count) => tracing::info!(count, "other keys let clients in from now on"),
            Err(error) => tracing::error!("the keys stay as they were: {error:#}"),
        }
    }
}

/// Says the counts now and then, and when it is asked to by SIGUSR1; never ends.
async fn report(relay: &Relay) {
    let mut asked = signal(SignalKind::user_defined1()).ok();
    let mut said = Counts::default();
    loop {
        let mut due = true;
        tokio::select! {
            () = tokio::time::sleep(COUNTS_LOG) => due = relay.counts() != said,
            () = async { match &mut asked { Some(asked) => drop(asked.recv().await), None => std::future::pending().await } } => {}
        }
        if due {
            said = relay.counts();
            tracing::info!("{said}");
        }
    }
}

fn key(command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::List { home } => {
            let (_, keys) = home.keys()?;
            keys.names().for_each(|name| println!("{name}"));
        }
        KeyCommand::Add { name, at } => {
            let (home, mut keys) = at.home.keys()?;
            // Before anything changes: a key without a link would be of no use.
            let endpoint = endpoint(at.public, &home)?;
            keys.add(&name)?;
            println!("{}", link(&keys, &name, endpoint)?);
        }
        KeyCommand::Show { name, at } => {
            let (home, keys) = at.home.keys()?;
            println!("{}", link(&keys, &name, endpoint(at.public, &home)?)?);
        }
        KeyCommand::Remove { name, home } => {
            let (_, mut keys) = home.keys()?;
            keys.remove(&name)?;
            if name == OWN_KEY {
                eprintln!("hint: your own devices need the new link: `syncd relay key show {OWN_KEY}`");
            }
        }
    }
    Ok(())
}

fn link(keys: &RelayKeys, name: &str, at: Endpoint) -> Result<RelayLink> {
    let relay_x = RelayIdentity::from_seed(&keys.seed).public();
    Ok(RelayLink { relay_x, access_key: keys.key(name)?.clone(), at })
}

fn endpoint(public: Option<Endpoint>, home: &Home) -> Result<Endpoint> {
    if let Some(public) = public {
        return Ok(public);
    }
    let said = std::fs::read_to_string(home.run().join(ADDRESS_FILE)).unwrap_or_default();
    ensure!(!said.is_empty(), "nobody knows where clients reach the relay: start it once, or give --public HOST:PORT");
    said.trim().parse().map_err(|error| anyhow!("{ADDRESS_FILE} in {} is broken: {error}", home.run().display()))
}
