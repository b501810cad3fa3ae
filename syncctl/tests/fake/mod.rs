//! The real control server with a scripted node behind it, and the built `syncctl` in front.

use protocol::wire::control::{
    Change, Config, ControlError, Counts, DeviceFolder, DeviceRole, DeviceStatus, Done, EventKind, FileVersion,
    FolderDevice, FolderMode, FolderState, FolderStatus, Hold, HoldKind, Identity, IgnoreVerdict, JoinPreview, Limits,
    Log, LogEntry, Named, NetDevice, NetPath, NetStatus, NetTried, Offer, Offers, PairingEvent, PathText, Ping,
    PreviewKind, PreviewPath, Problem, Progress, Restored, Setting, Status, VersionKind, Versions, Via, WaitReason,
    Waited,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use syncd::control::{EventHub, Handle, NewEvent, Request, Server};
use syncd::home::Home;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A daemon without a node: each request is answered from this file.
pub struct Fake {
    pub dir: tempfile::TempDir,
    pub home: PathBuf,
    runtime: Runtime,
}

impl Fake {
    /// Makes the home and serves it.
    pub fn start() -> Self {
        let fake = Self::silent();
        fake.serve(std::process::id());
        fake
    }

    /// Makes a home in which nobody answers yet.
    pub fn silent() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { dir, home, runtime }
    }

    /// Serves from now on as process `pid`, which ends when asked to stop.
    pub fn serve(&self, pid: u32) {
        let home = Home::at(&self.home).unwrap();
        home.create().unwrap();
        let events = EventHub::new();
        events.publish(NewEvent::new(EventKind::Started, "syncd started"));
        events.publish(NewEvent::new(EventKind::Problem, "bad \u{1b}[2J name").folder(named("sf1aa", "photos")));
        let (handle, inbox) = Handle::new(events);
        let _enter = self.runtime.enter();
        let server = Server::bind(&home.socket()).unwrap();
        self.runtime.spawn(server.serve(handle, CancellationToken::new()));
        self.runtime.spawn(Node { pid, answer: None }.run(inbox));
    }

    /// Runs `syncctl --home HOME` with a line of arguments, no terminal, no input.
    pub fn ctl(&self, line: &str) -> Output {
        run(Command::new(env!("CARGO_BIN_EXE_syncctl")).arg("--home").arg(&self.home).args(line.split_whitespace()))
    }
}

pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).env_remove("SYNCD_HOME").env("TZ", "UTC").output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn named(id: &str, name: &str) -> Named {
    Named { id: id.into(), name: name.into() }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

struct Node {
    pid: u32,
    answer: Option<oneshot::Sender<bool>>,
}

impl Node {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        while let Some(request) = inbox.recv().await {
            self.handle(request);
        }
    }

    /// A client that hung up is no error here: sends may fail.
    fn handle(&mut self, request: Request) {
        match request {
            Request::Ping { reply } => _ = reply.send(Ok(Ping { version: "9.9".into(), pid: self.pid, api: 1 })),
            Request::Identity { name, reply } => {
                let name = name.unwrap_or_else(|| "laptop".into());
                _ = reply.send(Ok(Identity { id: "sd1me".into(), name }));
            }
            Request::Status { reply } => _ = reply.send(Ok(status())),
            Request::Stop { reply } => {
                _ = reply.send(Ok(Done::default()));
                _ = Command::new("kill").arg(self.pid.to_string()).status();
            }
            Request::Device { device, action, reply } => {
                _ = reply.send(Ok(Done::said(format!("{device}: {action:?}"))));
            }
            Request::Folder { folder, reply, .. } if folder == "nope" => _ = reply.send(Err(no_folder())),
            Request::Folder { folder, action, reply } => {
                _ = reply.send(Ok(Done::said(format!("{folder}: {}", action.word()))));
            }
            Request::FolderAdd { add, reply } => _ = reply.send(Ok(added(add.root, add.mode, !add.with.is_empty()))),
            Request::FolderJoin { join, reply } => _ = reply.send(Ok(added(join.root, join.mode, false))),
            Request::FolderPreview { join, reply } => _ = reply.send(Ok(preview(join.root))),
            Request::FolderShare { share, reply } => {
                let words = format!("{} with {:?}: {}, {:?}", share.folder, share.devices, share.is_in, share.others);
                _ = reply.send(Ok(Done::said(words)));
            }
            Request::FolderSet { set, reply } => _ = reply.send(Ok(setting(&set.key, &set.value))),
            Request::Offers { reply } => _ = reply.send(Ok(offers())),
            Request::PairShow { reply, .. } => {
                let code = PairingEvent::Code {
                    pairing: 1,
                    code: "k7qm-3x9d".into(),
                    link: "syncd:p1:k7qm".into(),
                    expires_s: 600,
                    recovery_code: None,
                };
                _ = reply.send(Ok(self.pairing(code)));
            }
            Request::PairJoin { join, reply } if join.code == "wrong" => {
                _ = reply.send(Err(ControlError::bad_request("that is no code")));
            }
            Request::PairJoin { join, reply } => {
                let words = format!("trying {}", join.address.as_deref().unwrap_or("the local network"));
                _ = reply.send(Ok(self.pairing(PairingEvent::Searching { pairing: 1, words })));
            }
            Request::PairAnswer { answer, reply } => {
                let waiting = self.answer.take().expect("a pairing is under way");
                _ = waiting.send(answer.accept);
                _ = reply.send(Ok(Done::default()));
            }
            other => files(other),
        }
    }

    fn pairing(&mut self, first: PairingEvent) -> mpsc::Receiver<PairingEvent> {
        let (events, source) = mpsc::channel(8);
        let (answer, answered) = oneshot::channel();
        self.answer = Some(answer);
        tokio::spawn(async move {
            let device = named("sd1nas", "nas\u{1b}]0;x\u{7}");
            let check =
                PairingEvent::Check { pairing: 1, device: device.clone(), check: "493027".into(), via: Via::Lan };
            for event in [first, check] {
                events.send(event).await.unwrap();
            }
            let last = match answered.await {
                Ok(true) => PairingEvent::Paired { device },
                _ => PairingEvent::Failed { why: ControlError::refused("declined") },
            };
            _ = events.send(last).await;
        });
        source
    }
}

fn files(request: Request) {
    match request {
        Request::Net { reply } => drop(reply.send(Ok(net()))),
        Request::Wait { wait, reply } => {
            tokio::spawn(async move {
                if wait.folder.as_deref() == Some("slow") {
                    tokio::time::sleep(Duration::from_secs(wait.timeout_s.unwrap_or(0))).await;
                }
                _ = reply.send(waited(wait.folder.as_deref()));
            });
        }
        Request::Versions { file, reply } => {
            let versions = vec![version()];
            _ = reply.send(Ok(Versions { folder: named("sf1aa", "photos"), at: file.at, versions }));
        }
        Request::Restore { restore, reply } => {
            let folder = named("sf1aa", "photos");
            _ = reply.send(Ok(Restored { folder, at: restore.at, version: version(), replaced: true }));
        }
        Request::Log { query, reply } => {
            let at = query.at.unwrap_or_else(|| PathText::new(b"a\n\xff.jpg"));
            let by = Some(named("sd1nas", "nas"));
            let entry = LogEntry {
                time_ms: 1_000_000,
                folder: "photos".into(),
                at,
                change: Change::Changed,
                by,
                bytes: Some(5),
            };
            _ = reply.send(Ok(Log { entries: vec![entry] }));
        }
        Request::IgnoreTest { file, reply } => {
            let ignored = file.at.text().ends_with(".tmp");
            _ = reply.send(Ok(IgnoreVerdict {
                folder: named("sf1aa", "photos"),
                at: PathText::new(b"x.tmp"),
                ignored,
                file: ignored.then(|| ".syncignore".into()),
                line: ignored.then_some(3),
                pattern: ignored.then(|| "*.tmp".into()),
                words: if ignored { "a line matches" } else { "no line matches" }.into(),
            }));
        }
        Request::ConfigGet { reply } => {
            let settings = vec![setting("lan", "always"), setting("watch", "true")];
            let warnings = vec!["unknown setting \"x\"".into()];
            _ = reply.send(Ok(Config { file: PathText::new(b"/h/config.toml"), settings, warnings }));
        }
        Request::ConfigSet { set, reply } => {
            _ = reply.send(Ok(setting(&set.key, set.value.as_deref().unwrap_or("the default"))));
        }
        other => panic!("not scripted: {other:?}"),
    }
}

fn net() -> NetStatus {
    let tried = |way: &str, ago_s: u64, words: Option<&str>| NetTried {
        way: way.into(),
        at_ms: now_ms() - ago_s * 1000,
        words: words.map(Into::into),
    };
    let path = NetPath {
        via: Via::Relay,
        address: "203.0.113.7:28731".into(),
        since_ms: now_ms() - 7_200_000,
        rtt_us: Some(8_340),
        received_bps: 1_200_000,
        sent_bps: 0,
        received_bytes: 5_000_000,
        sent_bytes: 700,
    };
    let nas = NetDevice {
        id: "sd1nas".into(),
        name: "nas".into(),
        paused: false,
        path: Some(path),
        why: Some("no direct way has led there yet: below is what was tried".into()),
        hint: Some("forward a port".into()),
        next_try_s: Some(70),
        tried: vec![
            tried("hole punching", 7_100, Some("nothing came through")),
            tried("10.0.0.2:28730", 7_105, Some("nothing answers there")),
        ],
    };
    let phone = NetDevice {
        id: "sd1phone".into(),
        name: "evil\u{1b}[31m".into(),
        path: None,
        why: Some("it is being sought".into()),
        hint: None,
        next_try_s: Some(5),
        tried: vec![tried("192.0.2.1:28730", 60, None)],
        ..nas.clone()
    };
    NetStatus {
        listen: vec!["0.0.0.0:28730".into()],
        lan: true,
        internet: true,
        relaying: true,
        router: Some("PCP gives 198.51.100.4:28730".into()),
        table: None,
        seen_at: vec!["198.51.100.4".into()],
        relays: vec!["203.0.113.7:28731".into()],
        devices: vec![nas, phone],
    }
}

fn no_folder() -> ControlError {
    ControlError::not_found("there is no folder \"nope\"").hint("`syncctl folder list` lists them")
}

fn setting(key: &str, value: &str) -> Setting {
    let restart = key == "listen";
    let now = (key == "schedule").then(|| "sun pause".to_owned());
    Setting { key: key.into(), value: value.into(), default: "d".into(), words: "what it does".into(), restart, now }
}

fn version() -> FileVersion {
    FileVersion {
        id: "v7".into(),
        replaced_ms: 86_400_000,
        modified_ms: 0,
        bytes: 1500,
        kind: VersionKind::File,
        deleted: true,
        by: Some(named("sd1nas", "nas")),
    }
}

fn waited(folder: Option<&str>) -> Result<Waited, ControlError> {
    match folder {
        Some("nope") => Err(no_folder()),
        Some("slow") => {
            let reason = WaitReason {
                code: "no_peer".into(),
                words: "no device is connected".into(),
                folder: Some("slow".into()),
                device: None,
            };
            Ok(Waited { in_sync: false, waited_ms: 1000, reasons: vec![reason] })
        }
        _ => Ok(Waited { in_sync: true, waited_ms: 3000, reasons: Vec::new() }),
    }
}

fn offers() -> Offers {
    let counts = Some(Counts { files: 3, dirs: 1, bytes: 4000 });
    let offer = Offer { id: "sf1oo".into(), name: "music".into(), devices: vec![named("sd1nas", "nas")], counts };
    Offers { offers: vec![offer] }
}

fn preview(root: PathText) -> JoinPreview {
    let counts = |files| Counts { files, dirs: 0, bytes: files * 1000 };
    JoinPreview {
        folder: named("sf1oo", "music"),
        root,
        added: counts(3),
        replaced: counts(0),
        conflicts: counts(1),
        sent: counts(2),
        same: counts(10),
        paths: vec![PreviewPath { at: PathText::new(b"a.mp3"), what: PreviewKind::Conflict, bytes: 5 }],
        paths_total: 6,
        complete: false,
    }
}

fn added(root: PathText, mode: FolderMode, some: bool) -> FolderStatus {
    let mut folder = folder("new", FolderState::Scanning);
    folder.root = root;
    folder.mode = mode;
    folder.all_devices = !some;
    folder
}

fn folder(name: &str, state: FolderState) -> FolderStatus {
    FolderStatus {
        id: format!("sf1{name}"),
        name: name.into(),
        root: PathText::new(format!("/home/me/{name}").as_bytes()),
        mode: FolderMode::SendReceive,
        state,
        state_words: None,
        local: Counts { files: 12_034, dirs: 100, bytes: 4_200_000_000 },
        global: Counts { files: 12_134, dirs: 100, bytes: 5_300_000_000 },
        need_files: 0,
        need_bytes: 0,
        need_deletes: 0,
        progress: None,
        problems: Vec::new(),
        problems_total: 0,
        holds: Vec::new(),
        differences: 0,
        all_devices: true,
        devices: vec![FolderDevice {
            id: "sd1nas".into(),
            name: "nas".into(),
            connected: true,
            joined: true,
            in_sync: true,
            need_files: 0,
            need_bytes: 0,
        }],
        settings: BTreeMap::new(),
    }
}

fn status() -> Status {
    let mut photos = folder("photos", FolderState::Syncing);
    photos.need_files = 100;
    photos.need_bytes = 1_100_000_000;
    photos.progress = Some(Progress {
        done_bytes: 400_000_000,
        total_bytes: 1_000_000_000,
        done_files: 40,
        total_files: 100,
        rate_bps: 12_300_000,
        eta_s: Some(49),
    });
    photos.problems = vec![Problem {
        at: Some(PathText::new(b"a/\xff\x1b.jpg")),
        code: "unreadable".into(),
        words: "no permission to read it".into(),
        since_ms: now_ms() - 600_000,
        needs_person: true,
    }];
    photos.problems_total = 1;
    let mut docs = folder("docs", FolderState::Idle);
    docs.holds = vec![Hold {
        kind: HoldKind::DeletionsHere,
        device: None,
        paths: 2000,
        of_files: 3000,
        since_ms: now_ms() - 7_200_000,
        words: "2,000 of 3,000 files were deleted here".into(),
    }];
    Status {
        device: Identity { id: "sd1me".into(), name: "laptop".into() },
        version: "9.9".into(),
        pid: 7,
        uptime_s: 7500,
        listen: vec!["0.0.0.0:28730".into()],
        folders: vec![docs, photos],
        devices: vec![device()],
        problems: Vec::new(),
        offers: 1,
        limits: Limits { up: Some(2_000_000), rule: Some("up=2mb".into()), ..Limits::default() },
        proxy: None,
    }
}

fn device() -> DeviceStatus {
    DeviceStatus {
        id: "sd1qqqqwwwweeee".into(),
        name: "evil\u{1b}[31m".into(),
        connected: true,
        paused: false,
        limit_up: Some(500_000),
        limit_down: None,
        metered: Some(true),
        via: Some(Via::Lan),
        address: Some("10.0.0.2:28730".into()),
        addresses: Vec::new(),
        last_seen_ms: None,
        version: None,
        in_sync: false,
        folders: vec![DeviceFolder {
            id: "sf1photos".into(),
            name: "photos".into(),
            joined: true,
            in_sync: false,
            need_files: 5,
            need_bytes: 5000,
        }],
        received_bytes: 1,
        sent_bytes: 2,
        rtt_ms: Some(1),
        clock_ahead_s: None,
        role: Some(DeviceRole::Admin),
        problem: None,
    }
}

/// Not an answer of the node: what a slow or broken inside looks like from outside.
pub fn is_error(output: &Output, exit: i32, words: &str, hint: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    assert!(said.starts_with("error: ") && said.contains(words), "{said}");
    assert!(hint.is_empty() || said.contains(&format!("hint: {hint}")), "{said}");
    assert_eq!(stdout(output), "");
}

pub fn program(dir: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let text = dir.join(format!("{name}.text"));
    std::fs::write(&text, script).unwrap();
    let path = dir.join(name);
    copy_program(&text, &path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// By another process: a file that this one has open for writing may be so in a child that another test starts at that moment,
/// and what somebody writes to cannot be run.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}
