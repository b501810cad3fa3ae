//! A device under test: a folder on disk, its index in memory, a network on loopback and a transfer.

use super::path;
use crate::disk::fs::{Fs, RealFs};
use crate::net::{About, Internet, LanMode, Net, NetConfig, NetEvent, PeerConfig, Session, SessionId, Tuning};
use crate::store::Store;
use crate::transfer::{Compression, Folder, Notice, Transfer};
use protocol::limits::INLINE_CHUNKS_MAX;
use protocol::model::{
    Content, DeviceId, Entry, Event, FileContent, FolderId, Manifest, Mode, Mtime, RelPath, ReplicaId, Version,
};
use protocol::sync::{Change, Have, Journal, Rows, Want};
use protocol::wire::identity::Identity;
use protocol::wire::kdf::Secret32;
use protocol::wire::message::Message;
use protocol::wire::pair::PairSecret;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

pub const FOLDER: FolderId = FolderId([7; 16]);
const WAIT: Duration = Duration::from_secs(60);

/// Answers requests in place of the transfer.
pub type Liar = Box<dyn Fn(Session, u32, Message) + Send + Sync>;

pub struct Device<F: Fs = RealFs> {
    pub id: DeviceId,
    pub rows: Arc<Store>,
    pub transfer: Arc<Transfer<F>>,
    pub notices: mpsc::UnboundedReceiver<Notice>,
    net: Net,
    desk: Arc<Desk>,
    replica: ReplicaId,
    root: Option<tempfile::TempDir>,
    _index: tempfile::TempDir,
}

/// What the task that reads the network shares with the test.
#[derive(Default)]
struct Desk {
    sessions: Mutex<Vec<(DeviceId, SessionId)>>,
    changed: Notify,
    /// Requests served before the connection is cut.
    serves: AtomicUsize,
    liar: Mutex<Option<Liar>>,
}

fn identity(number: u8) -> Identity {
    Identity::from_seed(&Secret32::new([number; 32]))
}

pub fn device_id(number: u8) -> DeviceId {
    identity(number).id()
}

impl Device<RealFs> {
    pub fn new(number: u8) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let fs = RealFs::open(root.path()).expect("it can be opened");
        Self { root: Some(root), ..Self::on(number, fs, Compression::Auto) }
    }

    pub fn root(&self) -> &Path {
        self.root.as_ref().expect("a real device has a directory").path()
    }

    /// Writes a file and records it as a scan would.
    pub fn put(&self, at: &str, bytes: &[u8]) -> FileContent {
        self.put_all([(at.to_owned(), bytes.to_vec())]).remove(0)
    }

    /// Many files in one transaction.
    pub fn put_all(&self, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<FileContent> {
        let mut manifests = Vec::new();
        for (at, bytes) in files {
            let file = self.root().join(&at);
            std::fs::create_dir_all(file.parent().expect("it is below the root")).expect("a directory");
            std::fs::write(file, &bytes).expect("it can be written");
            manifests.push((at, Manifest::of(&bytes, None)));
        }
        self.record_all(manifests)
    }

    pub fn temp(&self, content: &FileContent) -> Vec<u8> {
        std::fs::read(self.root().join(".syncd/tmp").join(content.hash.to_hex())).expect("a temp")
    }
}

impl<F: Fs> Device<F> {
    pub fn on(number: u8, fs: F, compression: Compression) -> Self {
        fs.prepare_private().expect("it can be written");
        let fs = Arc::new(fs);
        let replica = ReplicaId([number; 8]);
        let index = tempfile::tempdir().expect("a temporary directory");
        let opened = Store::open(&index.path().join("index.redb"), || replica).expect("a new database");
        let rows = Arc::new(opened.store);
        let (net, events) = start_net(number);
        let transfer = Arc::new(Transfer::start(Arc::new(|_, folder| *folder == FOLDER)).expect("threads"));
        let (notify, notices) = mpsc::unbounded_channel();
        let tell = move |notice| notify.send(notice).unwrap_or_default();
        transfer.add_folder(Folder::new(
            FOLDER,
            Arc::clone(&rows) as Arc<dyn Rows + Send + Sync>,
            fs,
            compression,
            tell,
        ));
        let desk = Arc::new(Desk { serves: AtomicUsize::new(usize::MAX), ..Desk::default() });
        tokio::spawn(pump(events, Arc::clone(&transfer), Arc::clone(&desk), net.clone()));
        let id = device_id(number);
        Self { id, rows, transfer, notices, net, desk, replica, root: None, _index: index }
    }

    pub fn record(&self, at: &str, manifest: Manifest) -> FileContent {
        self.record_all(vec![(at.to_owned(), manifest)]).remove(0)
    }

    fn record_all(&self, manifests: Vec<(String, Manifest)>) -> Vec<FileContent> {
        let mut contents = Vec::new();
        let mut changes = Vec::new();
        for (at, manifest) in manifests {
            let content = manifest.to_content();
            let have = Have { entry: self.entry(content.clone()), fingerprint: None, racy: false };
            changes.push(Change::Have { path: path(&at), have });
            if manifest.chunks.len() > INLINE_CHUNKS_MAX {
                changes.push(Change::Manifest(manifest));
            }
            contents.push(content);
        }
        self.rows.commit(changes);
        contents
    }

    fn entry(&self, content: FileContent) -> Entry {
        let version = Version::of(Event { replica: self.replica, counter: 1 });
        Entry {
            content: Content::File(content),
            content_at: version.clone(),
            mode: Mode::new(0o644),
            mode_at: version.clone(),
            version,
            mtime: Mtime::default(),
            ancestors: Vec::new(),
            found: false,
        }
    }

    /// Records that a path is wanted, as the engine does before it asks for the bytes.
    pub fn want(&self, at: &str, content: &FileContent, sources: &[DeviceId]) {
        let want = Want { entry: self.entry(content.clone()), sources: sources.to_vec(), declined: None };
        self.rows.commit(vec![Change::Wants { path: path(at), wants: vec![want] }]);
    }

    pub fn fetch(&self, at: &str, content: &FileContent, sources: &[DeviceId]) {
        self.fetch_from(at, at, content, sources);
    }

    pub fn fetch_from(&self, at: &str, origin: &str, content: &FileContent, sources: &[DeviceId]) {
        let (path, origin): (RelPath, RelPath) = (path(at), path(origin));
        let (content, sources) = (content.clone(), sources.to_vec());
        self.transfer.fetch(FOLDER, path, origin, content, sources);
    }

    pub async fn notice(&mut self) -> Notice {
        timeout(WAIT, self.notices.recv()).await.expect("a notice in time").expect("the transfer lives")
    }

    /// Waits until `count` contents have come; anything else is a failure.
    pub async fn fetched(&mut self, count: usize) {
        for _ in 0..count {
            let notice = self.notice().await;
            assert!(matches!(notice, Notice::Fetched { .. }), "{notice:?}");
        }
    }

    pub async fn failed(&mut self) -> protocol::sync::Problem {
        match self.notice().await {
            Notice::FetchFailed { problem, .. } => problem,
            other => panic!("it should have failed: {other:?}"),
        }
    }

    pub fn received(&self) -> u64 {
        self.transfer.wire().received
    }

    /// Connects to another device and waits for the session on both sides.
    pub async fn connect<G: Fs>(&self, number: u8, other: &Device<G>, other_number: u8) {
        let secret = PairSecret::from_secret(Secret32::new([number ^ other_number; 32]));
        let peer = |id: u8, learned| PeerConfig {
            before: None,
            identity: identity(id).public(),
            secret: secret.clone(),
            also: Vec::new(),
            typed: Vec::new(),
            learned,
            paused: false,
        };
        other.net.add_peer(peer(number, Vec::new())).await;
        self.net.add_peer(peer(other_number, other.net.listening().to_vec())).await;
        timeout(WAIT, self.until(other.id, true)).await.expect("connected");
        timeout(WAIT, other.until(self.id, true)).await.expect("connected");
    }

    /// Waits until the peer is or is not connected.
    pub async fn until(&self, peer: DeviceId, connected: bool) {
        loop {
            let changed = self.desk.changed.notified();
            let is = self.desk.sessions.lock().expect("no holder panics").iter().any(|(id, _)| *id == peer);
            if is == connected {
                return;
            }
            changed.await;
        }
    }

    /// Serves again, and has the other device dial at once.
    pub async fn resume<G: Fs>(&self, other: &Device<G>) {
        self.serve_only(usize::MAX);
        self.net.set_paused(other.id, false).await;
        other.net.retry().await;
        timeout(WAIT, other.until(self.id, true)).await.expect("connected");
    }

    /// Cuts the connection after so many more requests.
    pub fn serve_only(&self, requests: usize) {
        self.desk.serves.store(requests, Ordering::SeqCst);
    }

    pub fn lie(&self, liar: impl Fn(Session, u32, Message) + Send + Sync + 'static) {
        *self.desk.liar.lock().expect("no holder panics") = Some(Box::new(liar));
    }
}

fn start_net(number: u8) -> (Net, mpsc::Receiver<NetEvent>) {
    let (events, inbox) = mpsc::channel(256);
    let about =
        About { name: format!("device {number}"), instance: [number; 16], boot: [number; 8], software: "test".into() };
    let config = NetConfig {
        identity: Arc::new(identity(number)),
        hello: about,
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        lan: LanMode::Off,
        internet: Internet::default(),
        proxy: None,
        knocks: None,
        relays: Vec::new(),
        peers: Vec::new(),
        tuning: Tuning { backoff_unit: Duration::from_millis(50), ..Tuning::default() },
    };
    (Net::start(config, events).expect("loopback"), inbox)
}

async fn pump<F: Fs>(mut events: mpsc::Receiver<NetEvent>, transfer: Arc<Transfer<F>>, desk: Arc<Desk>, net: Net) {
    let mut sessions = std::collections::BTreeMap::new();
    while let Some(event) = events.recv().await {
        match event {
            NetEvent::SessionUp(session) => {
                transfer.session_up(session.clone());
                desk.sessions.lock().expect("no holder panics").push((session.peer(), session.id()));
                sessions.insert(session.id(), session);
            }
            NetEvent::SessionDown { session, .. } => {
                transfer.session_down(session);
                sessions.remove(&session);
                desk.sessions.lock().expect("no holder panics").retain(|(_, id)| *id != session);
            }
            NetEvent::Message { peer, message: Message::Partial(partial), .. } => transfer.partial(peer, partial),
            NetEvent::Message { session, req, message, peer } => {
                if desk.serves.load(Ordering::SeqCst) == 0 {
                    net.set_paused(peer, true).await;
                    continue;
                }
                desk.serves.fetch_sub(1, Ordering::SeqCst);
                let liar = desk.liar.lock().expect("no holder panics");
                match (&*liar, sessions.get(&session).cloned()) {
                    (Some(liar), Some(session)) => liar(session, req, message),
                    (None, Some(session)) => transfer.serve(session, req, message),
                    _ => {}
                }
            }
            _ => {}
        }
        desk.changed.notify_waiters();
    }
}
