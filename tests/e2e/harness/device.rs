//! One device of a test: a scratch home, a daemon in it, and the command line to talk to it.

use super::talk::{Run, Talk, run};
use super::{PATIENCE, Programs, tree, until, within};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Lines of a daemon's log that a failed test shows.
const LOG_LINES_SHOWN: usize = 60;

/// The scratch directory of one test. Devices must be dropped before it.
#[derive(Debug)]
pub struct World {
    root: TempDir,
    programs: Programs,
}

impl World {
    /// An empty one with the programs beside this test.
    ///
    /// # Panics
    /// When the programs do not build or there is no scratch space.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Programs::built(), tempfile::tempdir().expect("a scratch directory"))
    }

    /// An empty one with these programs in this directory.
    #[must_use]
    pub const fn with(programs: Programs, root: TempDir) -> Self {
        Self { root, programs }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The programs under test.
    #[must_use]
    pub const fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A device with a running daemon that is silent in the local network.
    ///
    /// # Panics
    /// When the daemon does not come up.
    #[must_use]
    pub fn device(&self, name: &str) -> Device {
        let mut device = self.prepare(name, "lan = \"never\"\n");
        device.start();
        device
    }

    /// A device with these settings whose daemon was not started yet.
    ///
    /// # Panics
    /// When there is no scratch space.
    #[must_use]
    pub fn prepare(&self, name: &str, settings: &str) -> Device {
        let base = self.root.path().join(name);
        let (home, files) = (base.join("home"), base.join("files"));
        std::fs::create_dir_all(&home).expect("a scratch home");
        std::fs::create_dir_all(&files).expect("a scratch folder");
        std::fs::write(home.join("config.toml"), format!("name = \"{name}\"\n{settings}")).expect("settings");
        Device {
            name: name.to_owned(),
            home,
            files,
            log: base.join("log"),
            listen: free_address(),
            as_configured: false,
            programs: self.programs.clone(),
            daemon: None,
            user: None,
            under: Vec::new(),
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// A loopback address that no other device of any running test has, so that a daemon finds its port free when it is
/// started again; port 0 until the first start.
fn free_address() -> SocketAddr {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(COUNT.fetch_add(1, Ordering::Relaxed));
    let process = std::process::id();
    let host = ((1 + process % 250) << 16) | ((process / 250 % 100) << 8);
    let host = host + (count / 250 % 2) * 0x6400 + 1 + count % 250;
    (Ipv4Addr::from(0x7f00_0000 | host), 0).into()
}

/// One device.
#[derive(Debug)]
pub struct Device {
    name: String,
    home: PathBuf,
    files: PathBuf,
    log: PathBuf,
    listen: SocketAddr,
    /// Leave it to the settings where the daemon listens.
    as_configured: bool,
    programs: Programs,
    daemon: Option<Child>,
    user: Option<u32>,
    under: Vec<String>,
}

impl Device {
    /// Starts the daemon, at the address it had before.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start(&mut self) {
        self.launch();
        let ping = self.ctl(&["ping", "--wait", "30"]);
        assert_eq!(ping.code, 0, "{} does not come up: {}\n{}", self.name, ping.err, self.log_tail());
        if self.listen.port() == 0 {
            let status = self.json(&["status"]);
            let listen = status["listen"][0].as_str().expect("status says where it listens");
            self.listen = listen.parse().expect("an address");
        }
    }

    /// Listens there from the next start on, instead of an address of its own.
    ///
    /// # Panics
    /// When that is no address.
    pub fn listen_at(&mut self, address: &str) {
        self.listen = address.parse().expect("an address");
    }

    /// Listens from the next start on where the settings say, on all addresses by default.
    pub const fn listen_as_configured(&mut self) {
        self.as_configured = true;
    }

    /// Starts the daemon and does not wait for it.
    ///
    /// # Panics
    /// When one runs already or it cannot be started.
    pub fn launch(&mut self) {
        assert!(self.daemon.is_none(), "{} runs already", self.name);
        let listen = self.listen.to_string();
        let args: &[&str] = if self.as_configured { &["run"] } else { &["run", "--listen", &listen] };
        let command = self.daemon_command(args);
        self.daemon = Some(self.logged(command));
    }

    /// A command of the daemon's program in this home.
    #[must_use]
    pub fn daemon_command(&self, args: &[&str]) -> Command {
        let mut command = match self.under.split_first() {
            Some((program, before)) => {
                let mut command = Command::new(program);
                command.args(before).arg(&self.programs.syncd);
                command
            }
            None => Command::new(&self.programs.syncd),
        };
        command.args(args).arg("--home").arg(&self.home);
        self.surround(&mut command);
        command
    }

    /// Starts a command that writes to this device's log.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn logged(&self, mut command: Command) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        command.stdout(log.try_clone().expect("a handle")).stderr(log).spawn().expect("the program starts")
    }

    /// Starts the daemon as the last argument of this command from now on; the command must become the daemon.
    pub fn run_under(&mut self, command: &[&str]) {
        self.under = command.iter().map(|&word| word.to_owned()).collect();
    }

    /// Sends the daemon a signal.
    ///
    /// # Panics
    /// When none runs.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.daemon.as_ref().expect("the daemon runs"));
        rustix::process::kill_process(pid, signal).expect("a signal");
    }

    /// Runs everything as another user from now on; false where that user cannot run the programs. Needs root.
    ///
    /// # Panics
    /// When its files cannot be given to that user.
    pub fn run_as(&mut self, user: u32, world: &World) -> bool {
        super::set_mode(world.path(), 0o755);
        let base = self.home.parent().expect("a home is in a scratch directory");
        for path in [base, &self.home, &self.files, &self.home.join("config.toml")] {
            std::os::unix::fs::chown(path, Some(user), Some(user)).expect("root gives files away");
        }
        self.user = Some(user);
        let mut version = Command::new(&self.programs.syncd);
        version.arg("--version").stdout(Stdio::null());
        self.surround(&mut version);
        version.status().is_ok_and(|status| status.success())
    }

    /// Gives a path to the user that the daemon runs as.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn own(&self, path: impl AsRef<Path>) {
        if let Some(user) = self.user {
            std::os::unix::fs::chown(self.at(path), Some(user), Some(user)).expect("root gives files away");
        }
    }

    fn surround(&self, command: &mut Command) {
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(command, user);
            std::os::unix::process::CommandExt::gid(command, user);
        }
        command.env("HOME", &self.home).env_remove("SYNCD_HOME").env_remove("RUST_LOG").stdin(Stdio::null());
        for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
    }

    /// Ends the daemon as a service manager would.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{} ended with {status}\n{}", self.name, self.log_tail());
    }

    /// Ends the daemon as a crash would.
    ///
    /// # Panics
    /// When none runs.
    pub fn kill(&mut self) {
        self.daemon.as_mut().expect("the daemon runs").kill().expect("a signal");
        self.ended();
    }

    /// Waits until the daemon has ended.
    ///
    /// # Panics
    /// When it does not.
    pub fn ended(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon was started");
        let ended = within(PATIENCE, || daemon.try_wait().expect("a child can be waited for"));
        ended.unwrap_or_else(|| {
            // It is ours and hangs: nothing else can be done.
            let _ = daemon.kill();
            let _ = daemon.wait();
            panic!("{} does not end\n{}", self.name, self.log_tail())
        })
    }

    /// Whether the daemon still runs.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn is_running(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().expect("a child can be waited for").is_none())
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// When none runs.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// `syncctl` for this device.
    #[must_use]
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.syncctl);
        command.arg("--home").arg(&self.home).args(args);
        self.surround(&mut command);
        command
    }

    /// Runs `syncctl` to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn ctl(&self, args: &[&str]) -> Run {
        run(self.ctl_command(args), PATIENCE * 2)
    }

    /// Runs `syncctl`, which must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn ok(&self, args: &[&str]) -> String {
        let run = self.ctl(args);
        assert_eq!(run.code, 0, "{}: syncctl {}: {}{}", self.name, args.join(" "), run.err, run.out);
        run.out
    }

    /// Runs `syncctl --json`, which must succeed, and reads its reply.
    ///
    /// # Panics
    /// When it fails or says something else than JSON.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(&[&["--json"], args].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{}: {args:?}: {error}: {out}", self.name))
    }

    /// Runs `syncctl`, which must fail with this exit code, and gives what it said.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let run = self.ctl(args);
        assert_eq!(run.code, code, "{}: syncctl {}: {}{}", self.name, args.join(" "), run.err, run.out);
        run.err
    }

    /// Starts `syncctl` with its output in a pipe.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Talk {
        let mut child = self.ctl_command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("syncctl");
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Talk { child, lines }
    }

    /// Starts `syncctl` at a terminal of its own, with its input in a pipe; what is typed and shown comes out together.
    ///
    /// # Panics
    /// When `script` cannot be started.
    #[must_use]
    pub fn at_terminal(&self, args: &[&str]) -> Talk {
        let command = self.ctl_command(args);
        let quoted: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"]);
        self.surround(&mut script);
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("script makes a terminal");
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Talk { child, lines }
    }

    /// Runs a relay instead of a daemon; its link.
    ///
    /// # Panics
    /// When it prints none.
    pub fn serve_as_relay(&mut self) -> String {
        let listen = self.listen.to_string();
        let command = self.daemon_command(&["relay", "--listen", &listen]);
        self.daemon = Some(self.logged(command));
        until("the relay prints its link", || {
            let log = self.log();
            log.split_whitespace().find(|word| word.starts_with("sdrelay1") && word.contains('@')).map(str::to_owned)
        })
    }

    /// Waits until every folder is in sync here.
    ///
    /// # Panics
    /// When that does not come to pass.
    pub fn wait(&self) {
        self.wait_within(PATIENCE);
    }

    /// The same with a bound of its own.
    ///
    /// # Panics
    /// When that does not come to pass.
    pub fn wait_within(&self, bound: Duration) {
        let seconds = bound.as_secs().to_string();
        let run = run(self.ctl_command(&["wait", "--timeout", &seconds]), bound * 2);
        assert_eq!(run.code, 0, "{} is not in sync: {}{}", self.name, run.out, run.err);
    }

    /// The status of the only folder, or the first.
    #[must_use]
    pub fn folder(&self) -> Value {
        self.json(&["folder", "list"])["folders"][0].clone()
    }

    /// Events of this kind since the daemon started.
    ///
    /// # Panics
    /// When the daemon does not list them.
    #[must_use]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let events = self.json(&["events"])["events"].clone();
        let events = events.as_array().expect("a list of events").clone();
        events.into_iter().filter(|event| event["kind"] == kind).collect()
    }

    /// Whether it has a session with another device.
    ///
    /// # Panics
    /// When the daemon does not answer.
    #[must_use]
    pub fn is_connected_to(&self, peer: &Self) -> bool {
        let list = self.json(&["device", "list"]);
        let devices = list["devices"].as_array().expect("a list of devices");
        devices.iter().any(|entry| entry["name"] == peer.name && entry["connected"] == true)
    }

    /// Bytes received from and sent to all devices since the daemon started.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let devices = self.json(&["device", "list"])["devices"].clone();
        let sum = |key: &str| devices.as_array().into_iter().flatten().filter_map(|device| device[key].as_u64()).sum();
        (sum("received_bytes"), sum("sent_bytes"))
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.listen.to_string()
    }

    /// Its home.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The directory that it syncs.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// The same as text.
    ///
    /// # Panics
    /// Never: scratch paths are text.
    #[must_use]
    pub fn root(&self) -> &str {
        self.files.to_str().expect("scratch paths are text")
    }

    /// Syncs another directory than the usual one.
    pub fn move_files(&mut self, to: &Path) {
        self.files = to.to_owned();
    }

    /// Writes its log there from now on, instead of beside its home.
    pub fn move_log(&mut self, to: &Path) {
        self.log = to.to_owned();
    }

    /// A path inside the synced directory.
    #[must_use]
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.files.join(path)
    }

    /// Writes a file as a program does: open, truncate, write; directories are made.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn put(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.at(path);
        let parent = path.parent().expect("a file is in a directory");
        std::fs::create_dir_all(parent).unwrap_or_else(|error| panic!("make {}: {error}", parent.display()));
        std::fs::write(&path, bytes).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    /// Writes a file as careful programs do: beside the folder, then renamed into it, so that it appears whole.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let outside = self.home.with_file_name("written");
        std::fs::write(&outside, bytes).and_then(|()| std::fs::rename(&outside, self.at(path))).expect("a rename");
    }

    /// The bytes of a file; `None` when there is none.
    ///
    /// # Panics
    /// When it is there and cannot be read.
    #[must_use]
    pub fn get(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        match std::fs::read(self.at(path)) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("read a file of {}: {error}", self.name),
        }
    }

    /// Everything in the synced directory.
    #[must_use]
    pub fn tree(&self) -> tree::Tree {
        tree::tree(&self.files)
    }

    /// What the daemon and the commands in its log said.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("--- log of {}\n{}", self.name, lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n"))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed && self.daemon.is_some() {
            let status = run(self.ctl_command(&["status"]), PATIENCE);
            eprintln!("--- status of {}\n{}{}", self.name, status.out, status.err);
        }
        if failed {
            eprintln!("{}", self.log_tail());
        }
        if let Some(mut daemon) = self.daemon.take() {
            // It may have ended by itself.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
