//! A small file system of its own, for tests that run as root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; taken away when dropped.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
    mounted: bool,
}

impl Mount {
    /// Mounts a tmpfs of so many MiB at `at`, which is made. `None` where that is not allowed.
    #[must_use]
    pub fn tmpfs(at: &Path, size_mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let size = format!("size={size_mib}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().ok()?;
        done.status.success().then(|| Self { at: at.to_owned(), mounted: true })
    }

    /// Shows the same files at a second place, where they stay after this mount is gone.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn also_at(&self, at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("a place to mount at");
        run(&["--bind".as_ref(), self.at.as_os_str(), at.as_os_str()]);
        Self { at: at.to_owned(), mounted: true }
    }

    /// Makes it read-only, or writable again, under whoever uses it. False while somebody writes a file there.
    #[must_use]
    pub fn remount(&self, how: &str) -> bool {
        let options = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.at).output().expect("mount runs");
        done.status.success()
    }

    /// Takes it away from the path even while a program has it open, as a disk that is pulled.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn pull(&mut self) {
        assert!(self.mounted, "pulled twice");
        let done = Command::new("umount").arg("--lazy").arg(&self.at).status().expect("umount runs");
        assert!(done.success(), "umount {}", self.at.display());
        self.mounted = false;
    }

    /// Mounts what another mount shows here again.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn put_back(&mut self, from: &Self) {
        assert!(!self.mounted, "mounted already");
        run(&["--bind".as_ref(), from.at.as_os_str(), self.at.as_os_str()]);
        self.mounted = true;
    }
}

fn run(args: &[&std::ffi::OsStr]) {
    let done = Command::new("mount").args(args).status().expect("mount runs");
    assert!(done.success(), "mount {args:?}");
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            // Nothing more can be done about a mount that stays; the test's own outcome matters more.
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        }
    }
}
