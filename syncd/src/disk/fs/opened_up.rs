//! Directories whose names are being changed though their mode forbids it. Invariant: whoever looks through `steadily` sees
//! the mode that such a directory is to have.

use super::real::through;
use super::{Errno, writable};
use protocol::model::Mode;
use protocol::sync::{Fingerprint, Kind};
use rustix::fs::{Mode as RawMode, Stat};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The open ones of a file system.
#[derive(Debug, Default)]
pub(super) struct OpenedUp {
    /// What they are to have, by inode.
    modes: Mutex<BTreeMap<u64, Mode>>,
    /// How often one got its mode back: a stat that ran beside that has to be run again.
    closed: AtomicU64,
}

impl OpenedUp {
    pub(super) fn modes(&self) -> MutexGuard<'_, BTreeMap<u64, Mode>> {
        self.modes.lock().expect("no thread panics while it holds the modes")
    }

    /// What stat says, with the modes that opened directories are to have.
    pub(super) fn steadily(
        &self,
        stat: impl Fn() -> io::Result<Option<Fingerprint>>,
    ) -> io::Result<Option<Fingerprint>> {
        loop {
            let before = self.closed.load(Ordering::Acquire);
            let Some(found) = stat()? else { return Ok(None) };
            if found.kind != Kind::Directory {
                return Ok(Some(found));
            }
            let modes = self.modes();
            if self.closed.load(Ordering::Acquire) == before {
                let own = modes.get(&found.inode).filter(|own| writable(**own) == found.mode);
                return Ok(Some(Fingerprint { mode: own.copied().unwrap_or(found.mode), ..found }));
            }
        }
    }

    /// `Fs::open_up`.
    pub(super) fn open(&self, dir: &OwnedFd) -> io::Result<bool> {
        let mut modes = self.modes();
        let stat = rustix::fs::fstat(dir)?;
        let mode = Mode::new(stat.st_mode);
        if writable(mode) == mode || modes.contains_key(&stat.st_ino) || rustix::process::geteuid().is_root() {
            return Ok(false);
        }
        modes.insert(stat.st_ino, mode);
        match chmod(dir, &stat, writable(mode)) {
            Ok(()) => Ok(true),
            Err(error) => {
                modes.remove(&stat.st_ino);
                // Somebody else's: what is to be done in it says so itself.
                if matches!(error, Errno::PERM | Errno::ACCESS) { Ok(false) } else { Err(error.into()) }
            }
        }
    }

    /// `Fs::close_again`.
    pub(super) fn close(&self, dir: &OwnedFd) -> io::Result<()> {
        let mut modes = self.modes();
        let stat = rustix::fs::fstat(dir)?;
        let Some(own) = modes.get(&stat.st_ino).copied() else { return Ok(()) };
        if writable(own) == Mode::new(stat.st_mode) {
            chmod(dir, &stat, own)?;
        }
        modes.remove(&stat.st_ino);
        self.closed.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// chmod of a directory whose handle may be one of O_PATH. Set-id and sticky bits stay as they are.
fn chmod(dir: &OwnedFd, stat: &Stat, mode: Mode) -> rustix::io::Result<()> {
    let bits = RawMode::from_raw_mode((stat.st_mode & 0o7000) | mode.bits());
    match rustix::fs::fchmod(dir, bits) {
        Err(Errno::BADF) => rustix::fs::chmod(through(dir), bits),
        done => done,
    }
}
