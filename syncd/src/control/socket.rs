//! The Unix socket: in a directory that only this user can enter, bound only when nobody answers there, and deaf to other
//! users. The directory's mode is the lock, so there is no moment in which a stranger could connect, and the process-wide
//! umask stays as it is.

use anyhow::{Context, Result, bail};
use protocol::wire::control::SOCKET_PATH_LEN_MAX;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

/// Another daemon answers at this socket: the home is in use.
#[derive(Debug, thiserror::Error)]
#[error("another syncd already answers at {}", .0.display())]
pub struct AlreadyAnswered(pub PathBuf);

/// A bound socket file; removed when dropped, unless somebody has put another one there.
#[derive(Debug)]
pub(super) struct BoundSocket {
    path: PathBuf,
    identity: (u64, u64),
    /// Keeps `/proc/self/fd/N` valid while a long path is bound.
    _directory: Option<File>,
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.identity) {
            // It is ours, and the process is ending anyway; a socket left behind is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// The address to bind or dial for `path`: itself, or through a handle of its directory when it is too long.
///
/// # Errors
/// The directory cannot be opened, or the file name alone is too long.
pub(super) fn short_address(path: &Path) -> Result<(PathBuf, Option<File>)> {
    if path.as_os_str().as_bytes().len() <= SOCKET_PATH_LEN_MAX {
        return Ok((path.to_owned(), None));
    }
    let (parent, name) = path.parent().zip(path.file_name()).context("a socket needs a directory and a name")?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
    let directory = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).context("open flags fit an int")?)
        .open(parent)
        .with_context(|| format!("cannot open {}", parent.display()))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((short, Some(directory)))
}

/// Binds `path`, whose directory is private already (`Home::create`).
///
/// # Errors
/// `AlreadyAnswered` when somebody does; otherwise what the system said.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, BoundSocket)> {
    let parent = path.parent().context("a socket needs a directory")?;
    crate::home::check_private(parent)?;
    let (address, directory) = short_address(path)?;
    clear_stale(path, &address)?;
    let listener = UnixListener::bind(&address).with_context(|| format!("cannot bind {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    let identity = identity(path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok((listener, BoundSocket { path: path.to_owned(), identity, _directory: directory }))
}

fn clear_stale(path: &Path, address: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        Ok(meta) if !meta.file_type().is_socket() => bail!("{} is in the way and no socket", path.display()),
        Ok(_) => {}
    }
    match StdUnixStream::connect(address) {
        Ok(_) => Err(AlreadyAnswered(path.to_owned()).into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).with_context(|| format!("cannot remove the stale {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot tell whether {} is in use", path.display())),
    }
}

/// Accepts only this user and root.
pub(super) struct OwnListener {
    listener: UnixListener,
    uid: u32,
}

impl OwnListener {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, uid: rustix::process::geteuid().as_raw() }
    }

    fn may_enter(&self, stream: &UnixStream) -> bool {
        match stream.peer_cred() {
            Ok(peer) => is_allowed(peer.uid(), self.uid),
            Err(error) => {
                tracing::warn!(%error, "cannot tell who connects to the control socket");
                false
            }
        }
    }
}

pub(super) const fn is_allowed(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == own_uid || peer_uid == 0
}

impl axum::serve::Listener for OwnListener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) if self.may_enter(&stream) => return (stream, address),
                Ok(_) => tracing::warn!("refused another user at the control socket"),
                Err(error) => {
                    // Out of descriptors, most likely: asking again at once would spin.
                    tracing::warn!(%error, "the control socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
