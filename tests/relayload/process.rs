//! The processes that are measured, and what the kernel says about them.

use protocol::wire::relay::RelayLink;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::harness::Programs;

/// In which Linux counts, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that ends with this value.
pub struct Process {
    child: Child,
    /// What it printed first.
    pub line: String,
    /// Dropped after the process.
    _scratch: tempfile::TempDir,
}

impl Process {
    fn start(mut command: Command, scratch: tempfile::TempDir) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output is a pipe");
        BufReader::new(out).read_line(&mut line).expect("it prints a line");
        Self { child, line: line.trim().to_owned(), _scratch: scratch }
    }

    /// A relay without bounds that would be met here, and its link.
    pub fn relay() -> (Self, RelayLink) {
        let programs = Programs::beside().expect("syncd is beside this program: build the workspace");
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut command = Command::new(programs.syncd);
        command.args(["relay", "--listen", "127.0.0.1:0", "--home"]).arg(scratch.path());
        command.args(["--parked", "100000", "--parked-per-ip", "100000", "--sessions", "100000"]);
        command.args(["--rate", "0", "--knocks", "1000000"]);
        let process = Self::start(command, scratch);
        let link = process.line.parse().expect("a relay prints its link first");
        (process, link)
    }

    /// A plain proxy that leads to `target`, and where it listens.
    pub fn proxy(target: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
        command.args(["proxy", target]);
        Self::start(command, tempfile::tempdir().expect("a scratch directory"))
    }

    fn stat(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the process runs")
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        let status = self.stat("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number of kilobytes") * 1024
    }

    /// Time that it has spent on a processor.
    pub fn cpu(&self) -> Duration {
        let stat = self.stat("stat");
        // The name before it may hold blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number of ticks")).sum();
        Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket for each client.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        eprintln!("the limit of open files stays as it is");
    }
}
