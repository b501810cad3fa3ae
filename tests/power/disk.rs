//! A `Volume` with a power supply, shared by the kernel's requests (`serve.rs`) and the trial that cuts it. The cut comes
//! at a change that was chosen beforehand: the daemon is killed, the disk keeps what it keeps, and nothing is answered
//! any more until the next mount. Invariant: no change is answered that came after the cut.

use super::serve::Server;
use super::volume::Volume;
use fuser::{BackgroundSession, Config, MountOption, Session};
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tests::harness::within;
use tests::sim::rng::Rng;

/// How long a mount may stay busy after its daemon is dead.
const UNMOUNT_MAX: Duration = Duration::from_secs(10);

/// Which syncs of the daemon a broken disk acknowledges and does not carry out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgets {
    /// fsync and fdatasync of files.
    pub files: bool,
    /// fsync of directories.
    pub names: bool,
}

/// A cut that waits for its moment.
#[derive(Clone, Copy, Debug)]
struct Fuse {
    /// Changes that are still carried out.
    left: u64,
    /// The daemon, which ends with the power.
    daemon: Pid,
}

pub struct Supply {
    pub volume: Volume,
    pub forgets: Forgets,
    on: bool,
    fuse: Option<Fuse>,
    rng: Rng,
    /// Changes and syncs since the disk was made.
    pub changes: u64,
}

impl Supply {
    pub const fn is_on(&self) -> bool {
        self.on
    }

    fn cut(&mut self, daemon: Pid) {
        // It may have ended by itself, which whoever waits for it finds out.
        let _ = kill_process(daemon, Signal::KILL);
        let volume = std::mem::replace(&mut self.volume, Volume::new(SystemTime::now()));
        self.volume = volume.after_cut(&mut self.rng);
        (self.on, self.fuse) = (false, None);
    }
}

/// The part of a disk that its server shares.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Supply>>);

impl Shared {
    pub fn supply(&self) -> MutexGuard<'_, Supply> {
        self.0.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// The disk for one more change or sync; `None` without power, also when it goes at this very one.
    pub fn for_change(&self) -> Option<MutexGuard<'_, Supply>> {
        let mut supply = self.supply();
        if !supply.on {
            return None;
        }
        supply.changes += 1;
        match &mut supply.fuse {
            Some(Fuse { left: 0, daemon }) => {
                let daemon = *daemon;
                supply.cut(daemon);
                return None;
            }
            Some(fuse) => fuse.left -= 1,
            None => {}
        }
        Some(supply)
    }
}

/// A mounted disk. Nothing that is dropped before it may have a file of it open.
pub struct Disk {
    at: PathBuf,
    shared: Shared,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// An empty one at `at`, which is made.
    pub fn mount(at: &Path, seed: u64, forgets: Forgets) -> io::Result<Self> {
        std::fs::create_dir_all(at)?;
        let volume = Volume::new(SystemTime::now());
        let supply = Supply { volume, forgets, on: true, fuse: None, rng: Rng::new(seed, 7), changes: 0 };
        let mut disk = Self { at: at.to_owned(), shared: Shared(Arc::new(Mutex::new(supply))), session: None };
        disk.plug()?;
        Ok(disk)
    }

    fn plug(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("power".into()), MountOption::DefaultPermissions];
        self.session = Some(Session::new(Server::new(self.shared.clone()), &self.at, &config)?.spawn()?);
        Ok(())
    }

    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }

    pub fn changes(&self) -> u64 {
        self.shared.supply().changes
    }

    /// Everything on it is durable, whatever it forgets otherwise.
    pub fn settle(&self) {
        self.shared.supply().volume.sync_all();
    }

    /// The power goes at the change after the next `left`, and the daemon with it.
    pub fn arm(&self, left: u64, daemon: u32) {
        let daemon = pid(daemon);
        self.shared.supply().fuse = Some(Fuse { left, daemon });
    }

    /// The cut that waits is called off; false when it came already.
    pub fn disarm(&self) -> bool {
        let mut supply = self.shared.supply();
        supply.fuse = None;
        supply.on
    }

    /// The power goes now, if it is still there.
    pub fn cut(&self, daemon: u32) {
        let mut supply = self.shared.supply();
        if supply.on {
            supply.cut(pid(daemon));
        }
    }

    pub fn is_on(&self) -> bool {
        self.shared.supply().on
    }

    /// The power is back: what the cut left is mounted. The daemon has ended.
    pub fn restore(&mut self) -> io::Result<()> {
        self.unplug();
        self.shared.supply().on = true;
        self.plug()
    }

    /// Unmounts; what is held open delays it.
    fn unplug(&mut self) {
        let Some(session) = self.session.take() else { return };
        let unmount = || Command::new("umount").arg(&self.at).output().is_ok_and(|done| done.status.success());
        if within(UNMOUNT_MAX, || unmount().then_some(())).is_none() {
            eprintln!("the mount stays busy");
            // Whoever holds it keeps a dead mount.
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        }
        // Its thread has ended with the mount, or never will.
        let _ = session.umount_and_join();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unplug();
    }
}

fn pid(process: u32) -> Pid {
    let process = i32::try_from(process).expect("process numbers are small");
    Pid::from_raw(process).expect("a child is not process 0")
}
