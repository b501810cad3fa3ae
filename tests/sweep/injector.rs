//! `strace` attached to a running daemon: counts its calls by thread, or makes one of them a crash or an error.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Calls that change a disk or give bytes to a peer.
const CHANGES: &str = "openat,openat2,write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,syncfs,\
     rename,renameat,renameat2,unlink,unlinkat,mkdirat,linkat,symlinkat,ftruncate,fallocate,fchmod,fchmodat,utimensat,\
     copy_file_range";
/// Calls that only look: a crash there is a crash before the next change, an error is one more.
const LOOKS: &str = "read,pread64,getdents64,statx,newfstatat,fstat,readlinkat,recvfrom,recvmsg";
/// Calls that can find the disk full.
const GROWTHS: &str = "write,writev,pwrite64,pwritev,fsync,fdatasync,syncfs,renameat2,mkdirat,linkat,symlinkat,\
     ftruncate,fallocate,copy_file_range";

/// The `nth` call of one kind by a thread of this name, from the moment of attaching on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Name of the thread; several may share it.
    pub thread: String,
    /// Name of the system call.
    pub call: String,
    /// Counted from one, for each thread on its own.
    pub nth: usize,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed before the call is carried out.
    Kill,
    /// The call is not carried out and reports an IO error.
    Error,
    /// The call is not carried out and reports a full disk.
    Full,
}

impl Fault {
    /// What the table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Error => "EIO",
            Self::Full => "ENOSPC",
        }
    }

    /// The calls that it makes sense at.
    pub fn calls(self) -> String {
        match self {
            Self::Kill => CHANGES.to_owned(),
            Self::Error => format!("{CHANGES},{LOOKS}"),
            Self::Full => GROWTHS.to_owned(),
        }
    }

    const fn injection(self) -> &'static str {
        match self {
            Self::Kill => "signal=KILL",
            Self::Error => "error=EIO",
            Self::Full => "error=ENOSPC",
        }
    }
}

/// An attached `strace` and the file that it writes to.
pub struct Tracer {
    child: Child,
    record: PathBuf,
}

impl Tracer {
    /// Counts the calls of all threads into a file.
    pub fn count(pid: u32, fault: Fault, into: &Path) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-p", &pid.to_string(), "-e", &format!("trace={}", fault.calls())]);
        Self::attach(command, 1, into)
    }

    /// Injects a fault at one point; `None` when no thread has this name. What it did stands in a file.
    pub fn inject(pid: u32, point: &Point, fault: Fault, into: &Path) -> Option<Self> {
        let threads: Vec<u32> =
            threads(pid).into_iter().filter(|(_, name)| *name == point.thread).map(|(thread, _)| thread).collect();
        let mut command = Command::new("strace");
        command.arg("-y");
        for thread in &threads {
            command.args(["-p", &thread.to_string()]);
        }
        command.args(["-e", &format!("trace={}", point.call)]);
        command.args(["-e", &format!("inject={}:{}:when={}", point.call, fault.injection(), point.nth)]);
        (!threads.is_empty()).then(|| Self::attach(command, threads.len(), into))
    }

    fn attach(mut command: Command, tracees: usize, into: &Path) -> Self {
        command.arg("-o").arg(into).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("strace starts: is it installed?");
        let mut words = BufReader::new(child.stderr.take().expect("its errors are a pipe")).lines();
        for _ in 0..tracees {
            let line = words.next().and_then(Result::ok).unwrap_or_default();
            assert!(line.contains("attached"), "strace cannot attach: {line}");
        }
        // Nobody reads on: a full pipe must not stop it.
        std::thread::spawn(move || words.for_each(drop));
        Self { child, record: into.to_owned() }
    }

    /// Lets go of the process; what it did, a line for each call.
    pub fn detach(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It ends by itself when the process does.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        self.child.wait().expect("a child can be waited for");
        fs::read_to_string(&self.record).unwrap_or_default()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Only when a test fails in between; detached it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Threads of a process and their names.
pub fn threads(pid: u32) -> BTreeMap<u32, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let named = tasks.filter_map(|task| {
        let thread = task.file_name().to_str()?.parse().ok()?;
        Some((thread, fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned()))
    });
    named.collect()
}

/// What became of an injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// The call was not reached.
    Nowhere,
    /// At a file, a directory or a socket.
    Here,
    /// At an event counter, which no disk can make fail: what follows from it says nothing.
    AtNoFile,
}

/// Reads it from what the tracer wrote.
pub fn injected(record: &str) -> Injected {
    let mut lines = record.lines().filter(|line| line.contains("(INJECTED)")).peekable();
    if lines.peek().is_none() {
        return Injected::Nowhere;
    }
    if lines.any(|line| line.contains("<anon_inode:")) { Injected::AtNoFile } else { Injected::Here }
}

/// The points of a recorded run: of threads that share a name, the one that made most calls counts.
pub fn points(record: &str, names: &BTreeMap<u32, String>) -> Vec<Point> {
    let mut counts = BTreeMap::<(u32, String), usize>::new();
    for line in record.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let (Ok(thread), Some((call, _))) = (thread.parse(), rest.trim_start().split_once('(')) else { continue };
        // Lines on signals and on calls that go on have no name before a bracket.
        if call.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            *counts.entry((thread, call.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::<(String, String), usize>::new();
    for ((thread, call), count) in counts {
        let Some(name) = names.get(&thread) else { continue };
        let slot = most.entry((name.clone(), call)).or_default();
        *slot = count.max(*slot);
    }
    let each = |((thread, call), count): ((String, String), usize)| {
        (1..=count).map(move |nth| Point { thread: thread.clone(), call: call.clone(), nth })
    };
    most.into_iter().flat_map(each).collect()
}
