//! Where one daemon keeps everything: `--home`, else `SYNCD_HOME`, else the platform's directory. Makes the directories
//! it needs and refuses keys that others could read. Nothing of a daemon lies outside its home, but the folders.

use anyhow::{Context, Result, bail};
use protocol::model::FolderId;
use protocol::wire::control::SOCKET_PATH;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The environment variable that names the home.
pub const HOME_VARIABLE: &str = "SYNCD_HOME";

/// A daemon's home: paths only, nothing is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

/// Another daemon runs in this home (exit code 73).
#[derive(Debug, thiserror::Error)]
#[error("the home {} is in use by another syncd", .0.display())]
pub struct HomeInUse(pub PathBuf);

/// This process owns the home as long as this lives.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl Home {
    /// The home that the command line or the environment names, or the platform's.
    ///
    /// # Errors
    /// No home directory is known, or the working directory is gone.
    pub fn resolve(flag: Option<&Path>) -> Result<Self> {
        let variable = std::env::var_os(HOME_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let platform = || directories::ProjectDirs::from("", "", "syncd").map(|dirs| dirs.data_local_dir().to_owned());
        let Some(root) = flag.map(Path::to_owned).or(variable).or_else(platform) else {
            bail!("no home directory is known: give --home DIR or set {HOME_VARIABLE}");
        };
        Self::at(&root)
    }

    /// The home at `root`, made absolute.
    ///
    /// # Errors
    /// `root` is empty, or the working directory is gone.
    pub fn at(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).with_context(|| format!("no usable home: {}", root.display()))?;
        Ok(Self { root })
    }

    /// Makes the home and its directories. Private ones that exist already must be private.
    ///
    /// # Errors
    /// A directory cannot be made, belongs to somebody else or is open to others.
    pub fn create(&self) -> Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .with_context(|| format!("cannot make the home {}", self.root.display()))?;
        for directory in [self.keys(), self.run(), self.folders(), self.index()] {
            make_private(&directory)?;
        }
        Ok(())
    }

    /// Takes the home for this process, until the lock is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// `HomeInUse` when another process has it.
    pub fn lock(&self) -> Result<HomeLock> {
        let path = self.run().join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(HomeInUse(self.root.clone()).into()),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The home itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Private keys and pair secrets, 0700.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Socket, lock and answered knocks, 0700.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join(SOCKET_PATH)
    }

    /// Knocks that were answered.
    #[must_use]
    pub fn knocks(&self) -> PathBuf {
        self.run().join("knocks")
    }

    /// Databases, 0700.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// Settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Settings of folders, 0700.
    #[must_use]
    pub fn folders(&self) -> PathBuf {
        self.root.join("folders")
    }

    /// Settings of one folder.
    #[must_use]
    pub fn folder(&self, id: &FolderId) -> PathBuf {
        self.folders().join(format!("{id}.toml"))
    }
}

fn make_private(directory: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => check_private(directory),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", directory.display())),
    }
}

/// Whether `directory` is a real directory of this user that nobody else can enter.
///
/// # Errors
/// It is not; the words say what to do.
pub fn check_private(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let meta = std::fs::symlink_metadata(directory).with_context(|| format!("cannot look at {shown}"))?;
    if !meta.is_dir() {
        bail!("{shown} is not a directory");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        bail!("{shown} belongs to another user: start syncd as its owner, or choose another --home");
    }
    if meta.mode() & 0o077 != 0 {
        bail!("{shown} is open to other users (mode {:o}): run chmod 700 {shown}", meta.mode() & 0o777);
    }
    Ok(())
}
