//! Holds a daemon at a rename, so that a test can act in a window of microseconds: `strace` delays the call, and the
//! kernel says which call a thread stands in. Or lets a call fail as another file system would. Released, the daemon goes
//! on as if nothing had been.

use super::{Device, until, within};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longer than any test waits: the end of `strace` ends the delay.
const DELAY_US: u64 = 300_000_000;
/// How often in a row a thread has to be seen in the call: one that only passes through is not held.
const SEEN: u32 = 3;
#[cfg(target_arch = "x86_64")]
const RENAMEAT2: &str = "316";
#[cfg(not(target_arch = "x86_64"))]
const RENAMEAT2: &str = "276";

/// What a rename that a daemon is held at would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// Into a free place.
    IntoFree,
    /// Two objects change places.
    Exchange,
}

/// A daemon that stops before a rename; goes on when this is dropped.
#[derive(Debug)]
pub struct Hold {
    strace: Child,
    daemon: u32,
}

impl Hold {
    /// Lets each thread of the device's daemon carry out `free` renames, and holds it at the next. `None` where
    /// `strace` is missing or may not.
    ///
    /// # Panics
    /// When the kernel does not say who traces whom.
    #[must_use]
    pub fn after(device: &Device, free: u32) -> Option<Self> {
        Self::attach(device, "renameat2", &format!("delay_enter={DELAY_US}:when={}+", free + 1))
    }

    /// Lets this call of the device's daemon fail with this error. `None` where `strace` is missing or may not.
    ///
    /// # Panics
    /// When the kernel does not say who traces whom.
    #[must_use]
    pub fn failing(device: &Device, call: &str, error: &str) -> Option<Self> {
        Self::attach(device, call, &format!("error={error}"))
    }

    fn attach(device: &Device, call: &str, fault: &str) -> Option<Self> {
        let daemon = device.pid();
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "-p"]);
        let strace = command.arg(daemon.to_string()).stderr(Stdio::null()).spawn().ok()?;
        let mut hold = Self { strace, daemon };
        let attached = within(super::PATIENCE, || {
            let over = hold.strace.try_wait().expect("a child can be waited for").is_some();
            if over { Some(false) } else { hold.is_attached().then_some(true) }
        });
        (attached == Some(true)).then_some(hold)
    }

    /// Waits until a thread stands before such a rename.
    ///
    /// # Panics
    /// When none comes to it.
    pub fn reached(&self, rename: Rename) {
        let mut seen = 0;
        until("the daemon is held at a rename", || {
            seen = if self.threads().any(|thread| stands_at(&thread.join("syscall"), rename)) { seen + 1 } else { 0 };
            (seen == SEEN).then_some(())
        });
    }

    /// Ends the daemon where it stands, as a crash would.
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill(self, device: &mut Device) {
        let pid = rustix::process::Pid::from_raw(self.daemon.cast_signed()).expect("a process has a number");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a signal");
        // A traced process is gone only once its tracer lets go of it.
        drop(self);
        device.ended();
    }

    fn threads(&self) -> impl Iterator<Item = PathBuf> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.daemon)).into_iter().flatten().flatten();
        tasks.map(|task| task.path())
    }

    fn is_attached(&self) -> bool {
        let traced = format!("TracerPid:\t{}", self.strace.id());
        let mut threads = self.threads().map(|thread| std::fs::read_to_string(thread.join("status")));
        threads.all(|status| status.is_ok_and(|status| status.lines().any(|line| line == traced)))
    }
}

/// Number and six arguments of the call; the fifth argument of renameat2 says what may be in the way.
fn stands_at(syscall: &std::path::Path, rename: Rename) -> bool {
    let call = std::fs::read_to_string(syscall).unwrap_or_default();
    let words: Vec<&str> = call.split_whitespace().collect();
    let flags = if rename == Rename::Exchange { "0x2" } else { "0x1" };
    words.first() == Some(&RENAMEAT2) && words.get(5) == Some(&flags)
}

impl Drop for Hold {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.strace);
        // It may have ended by itself, with the daemon.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if within(Duration::from_secs(5), || self.strace.try_wait().ok().flatten()).is_none() {
            // It is ours and hangs.
            let _ = self.strace.kill();
            let _ = self.strace.wait();
        }
    }
}
