//! One of the two daemons, asked in the words of the control API.

use crate::config::ConfigFile;
use crate::control::{Reply, Request};
use crate::home::Home;
use crate::node::{Daemon, Options};
use anyhow::{Context, Result, anyhow, bail};
use protocol::wire::control as api;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The synced folder's name.
pub(super) const FOLDER: &str = "demo";
/// How long anything may take before the step fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a status.
const LOOK: Duration = Duration::from_millis(5);
/// Between two looks at a file whose arrival is timed.
const GLANCE: Duration = Duration::from_micros(500);

/// A daemon with its scratch home and its copy of the tree.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) root: PathBuf,
    home: Home,
    /// `None`: not started yet, or down for a restart.
    daemon: Option<Daemon>,
}

/// Bytes on the wire, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) bytes: u64,
}

/// Where a side's copy of the tree is.
pub(super) fn root_of(place: &Path) -> PathBuf {
    place.join("folder")
}

impl Side {
    /// A home in `place` and its settings; silent in the local network. Nothing runs yet.
    pub(super) fn new(name: &'static str, place: &Path) -> Result<Self> {
        let home = Home::at(&place.join("home"))?;
        home.create()?;
        let mut config = ConfigFile::load(&home.config())?;
        for (key, value) in [("name", name), ("lan", "never")] {
            config.set(key, Some(value)).map_err(in_words)?;
        }
        Ok(Self { name, root: root_of(place), home, daemon: None })
    }

    /// Starts the daemon on a loopback port that the system picks.
    pub(super) async fn start(&mut self) -> Result<()> {
        self.run(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]).await
    }

    async fn run(&mut self, listen: Vec<SocketAddr>) -> Result<()> {
        let options = Options { home: self.home.clone(), listen };
        self.daemon = Some(Daemon::start(options).await.with_context(|| format!("daemon {}", self.name))?);
        Ok(())
    }

    /// Stops it and starts it again in the same home, listening where its settings say.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.halt().await;
        self.run(Vec::new()).await
    }

    fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().with_context(|| format!("daemon {} is down", self.name))
    }

    /// Where it listens; `None`: nowhere.
    pub(super) fn address(&self) -> Result<Option<SocketAddr>> {
        Ok(self.daemon()?.listening.first().copied())
    }

    pub(super) async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        self.daemon()?.handle.ask(make).await.map_err(in_words).with_context(|| format!("daemon {}", self.name))
    }

    pub(super) async fn status(&self) -> Result<api::Status> {
        self.ask(|reply| Request::Status { reply }).await
    }

    /// The other side, as this one sees it.
    pub(super) async fn peer(&self) -> Result<api::DeviceStatus> {
        self.status().await?.devices.into_iter().next().with_context(|| format!("daemon {} knows nobody", self.name))
    }

    pub(super) async fn device(&self, action: api::DeviceAction) -> Result<()> {
        let device = self.peer().await?.id;
        self.ask(|reply| Request::Device { device, action, reply }).await.map(drop)
    }

    pub(super) async fn config(&self, key: &str, value: String) -> Result<()> {
        let set = api::ConfigSet { key: key.to_string(), value: Some(value) };
        self.ask(|reply| Request::ConfigSet { set, reply }).await.map(drop)
    }

    pub(super) async fn wire(&self) -> Result<Wire> {
        let peer = self.peer().await?;
        Ok(Wire { bytes: peer.received_bytes + peer.sent_bytes })
    }

    /// Waits until the daemon itself says that the folder is in sync, within a time.
    pub(super) async fn in_sync(&self, patience: Duration) -> Result<()> {
        let wait = api::Wait { folder: Some(FOLDER.to_string()), timeout_s: Some(patience.as_secs()) };
        let waited = self.ask(|reply| Request::Wait { wait, reply }).await?;
        if waited.in_sync {
            return Ok(());
        }
        let reasons: Vec<String> = waited.reasons.into_iter().map(|reason| reason.words).collect();
        Err(anyhow!("{} is not in sync after {} s: {}", self.name, patience.as_secs(), reasons.join("; ")))
    }

    /// Waits until the other side is, or is not, connected.
    pub(super) async fn connected(&self, wanted: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let peer = self.peer().await?;
            if peer.connected == wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why = peer.problem.map_or(String::new(), |words| format!(" ({words})"));
                let not = if wanted { "not connected" } else { "still connected" };
                bail!("{} is {not} after {} s{why}", self.name, PATIENCE.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until another device offers the folder, and joins it.
    pub(super) async fn join(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.offered().await? {
            if Instant::now() > deadline {
                bail!("{} was offered nothing in {} s", self.name, PATIENCE.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
        let root = path_text(&self.root);
        let join = api::FolderJoin { folder: FOLDER.to_string(), root, mode: api::FolderMode::SendReceive };
        self.ask(|reply| Request::FolderJoin { join, reply }).await.map(drop)
    }

    async fn offered(&self) -> Result<bool> {
        let offers = self.ask(|reply| Request::Offers { reply }).await?.offers;
        Ok(offers.iter().any(|offer| offer.name == FOLDER))
    }

    /// Starts to sync this side's tree.
    pub(super) async fn add(&self) -> Result<()> {
        let root = path_text(&self.root);
        let name = Some(FOLDER.to_string());
        let add = api::FolderAdd { root, name, mode: api::FolderMode::SendReceive, with: Vec::new() };
        self.ask(|reply| Request::FolderAdd { add, reply }).await.map(drop)
    }

    pub(super) fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        fs::write(self.root.join(path), content).with_context(|| format!("cannot write {path} in {}", self.name))
    }

    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>> {
        fs::read(self.root.join(path)).with_context(|| format!("cannot read {path} in {}", self.name))
    }

    /// Watches the tree itself, not the daemon: how long until `path` holds exactly this, or nothing.
    pub(super) async fn seen(&self, path: &str, wanted: Option<&[u8]>) -> Result<Duration> {
        let (file, started) = (self.root.join(path), Instant::now());
        loop {
            let stands = match fs::read(&file) {
                Ok(content) => Some(content),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("cannot read {path} in {}", self.name)),
            };
            if stands.as_deref() == wanted {
                return Ok(started.elapsed());
            }
            if started.elapsed() > PATIENCE {
                bail!("{path} has not arrived in {} after {} s", self.name, PATIENCE.as_secs());
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Stops the daemon; returns when its last write is done.
    pub(super) async fn halt(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        daemon.stopper().cancel();
        if let Err(error) = daemon.ended().await {
            tracing::error!("daemon {} ended badly: {error:#}", self.name);
        }
    }
}

/// An absolute path for a request.
pub(super) fn path_text(path: &Path) -> api::PathText {
    api::PathText::new(path.as_os_str().as_bytes())
}

/// A refusal with its hint.
pub(super) fn in_words(error: api::ControlError) -> anyhow::Error {
    match error.hint {
        Some(hint) => anyhow!("{} ({hint})", error.error),
        None => anyhow!(error.error),
    }
}
