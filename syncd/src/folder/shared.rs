//! What a folder's threads share: database, file system, ignore rules, and the ways out to peers and status.

use super::Tuning;
use super::log::Record;
use super::report::StopCause;
use crate::disk::Stage;
use crate::disk::fs::{Errno, Fs, RealFs, RootId, errno, problem};
use crate::disk::ignore::{IGNORE_LEN_MAX, Ignore, IgnoreFile};
use crate::disk::marker::{Marker, MarkerCheck};
use crate::store::Store;
use protocol::model::{DeviceId, FileContent, FolderId, RelPath, ReplicaId};
use protocol::sync::engine::Alarm;
use protocol::sync::{Disk, Fingerprint, Problem, Rows};
use protocol::wire::message::Message;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A content that the folder needs.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The folder.
    pub folder: FolderId,
    /// For which path.
    pub path: RelPath,
    /// Where the sources have it.
    pub origin: RelPath,
    /// What.
    pub content: FileContent,
    /// Devices that announced it.
    pub sources: Vec<DeviceId>,
}

/// The ways out of a folder. Each is called from the folder's own threads and must not block.
pub trait Outside: Send + Sync {
    /// Sends to a peer, if its session is up; a peer that does not read is cut off.
    fn send(&self, peer: DeviceId, message: Message);
    /// Gets a content; the answer comes back as an engine event.
    fn fetch(&self, request: FetchRequest);
    /// The content is no longer needed for this path.
    fn cancel_fetch(&self, folder: FolderId, path: &RelPath);
    /// A path changed here.
    fn changed(&self, folder: FolderId, record: &Record);
    /// The folder became idle or busy.
    fn state_changed(&self, folder: FolderId, idle: bool);
    /// Something needs a person.
    fn alarm(&self, folder: FolderId, alarm: &Alarm);
    /// What an alarm told of is over.
    fn alarm_over(&self, folder: FolderId, alarm: &Alarm);
    /// Something is wrong, in words; nothing waits for a person.
    fn problem(&self, folder: FolderId, words: &str);
    /// The folder stopped or goes on.
    fn stopped(&self, folder: FolderId, cause: Option<StopCause>);
}

pub(super) struct Shared {
    id: FolderId,
    root: PathBuf,
    replica: ReplicaId,
    marker: Marker,
    root_id: RootId,
    store: Arc<Store>,
    fs: Arc<RealFs>,
    ignore: Mutex<Arc<Ignore>>,
    tuning: Mutex<Tuning>,
    outside: Arc<dyn Outside>,
}

impl Shared {
    pub(super) fn new(
        id: FolderId,
        root: &Path,
        marker: Marker,
        store: Arc<Store>,
        fs: Arc<RealFs>,
        tuning: Tuning,
        outside: Arc<dyn Outside>,
    ) -> std::io::Result<Self> {
        let root_id = fs.root_id()?;
        let replica = store.state().replica;
        let rules = ignore_rules(&*fs).map_err(|(file, problem)| std::io::Error::other(words_of(&file, &problem)))?;
        let (ignore, tuning) = (Mutex::new(Arc::new(rules)), Mutex::new(tuning));
        Ok(Self { id, root: root.to_owned(), replica, marker, root_id, store, fs, ignore, tuning, outside })
    }

    pub(super) const fn id(&self) -> FolderId {
        self.id
    }

    pub(super) const fn replica(&self) -> ReplicaId {
        self.replica
    }

    pub(super) fn granularity(&self) -> Duration {
        self.fs.granularity()
    }

    pub(super) fn is_durable(&self) -> bool {
        self.fs.is_durable()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn fs(&self) -> &RealFs {
        &self.fs
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self
    }

    pub(super) fn ignore(&self) -> Arc<Ignore> {
        Arc::clone(&self.ignore.lock().expect("no thread panics while it holds the ignore rules"))
    }

    pub(super) fn tuning(&self) -> Tuning {
        *self.tuning.lock().expect("no thread panics while it holds the tuning")
    }

    pub(super) fn tune(&self, tuning: Tuning) {
        *self.tuning.lock().expect("no thread panics while it holds the tuning") = tuning;
    }

    /// The rules stay what they are when a file of them cannot be read.
    pub(super) fn reload_ignore(&self) -> Result<(), (RelPath, Problem)> {
        let fresh = Arc::new(ignore_rules(&*self.fs)?);
        *self.ignore.lock().expect("no thread panics while it holds the ignore rules") = fresh;
        Ok(())
    }

    /// The root is the directory that the folder was started on, and carries our marker.
    pub(super) fn check_root(&self) -> Result<(), StopCause> {
        match self.fs.root_id() {
            Ok(id) if id == self.root_id => {}
            Ok(_) => return Err(self.replaced()),
            Err(error) => return Err(StopCause::Root(format!("cannot open {}: {error}", self.root.display()))),
        }
        match self.marker.check(&*self.fs) {
            Ok(MarkerCheck::Ok) => Ok(()),
            Ok(MarkerCheck::Foreign) => Err(StopCause::MarkerForeign),
            Ok(MarkerCheck::Missing) => Err(StopCause::MarkerMissing(self.root.display().to_string())),
            Err(error) => Err(StopCause::Root(format!("cannot read the folder's marker: {error}"))),
        }
    }

    /// What stands where the folder was started now.
    fn replaced(&self) -> StopCause {
        match RealFs::open(&self.root).and_then(|fs| self.marker.check(&fs)) {
            Ok(MarkerCheck::Ok) => StopCause::Replaced,
            Ok(MarkerCheck::Foreign) => StopCause::MarkerForeign,
            Ok(MarkerCheck::Missing) | Err(_) => StopCause::MarkerMissing(self.root.display().to_string()),
        }
    }

    pub(super) fn send(&self, peer: DeviceId, message: Message) {
        self.outside.send(peer, message);
    }

    pub(super) fn fetch(&self, request: FetchRequest) {
        self.outside.fetch(request);
    }

    pub(super) fn cancel_fetch(&self, path: &RelPath) {
        self.outside.cancel_fetch(self.id, path);
    }

    pub(super) fn publish(&self, record: &Record) {
        self.outside.changed(self.id, record);
    }

    /// Removes what is left of contents that were on their way.
    pub(super) fn clear_temps(&self) {
        if let Err(error) = Stage::new(Arc::clone(&self.fs)).and_then(|stage| stage.clear()) {
            tracing::debug!(folder = %self.id, "temporary files stay for now: {error}");
        }
    }

    pub(super) fn state_changed(&self, idle: bool) {
        self.outside.state_changed(self.id, idle);
    }

    pub(super) fn alarm(&self, alarm: &Alarm) {
        self.outside.alarm(self.id, alarm);
    }

    pub(super) fn alarm_over(&self, alarm: &Alarm) {
        self.outside.alarm_over(self.id, alarm);
    }

    pub(super) fn problem(&self, words: &str) {
        self.outside.problem(self.id, words);
    }

    pub(super) fn set_stopped(&self, cause: Option<StopCause>) {
        self.outside.stopped(self.id, cause);
    }

    /// Seconds since 1970, for records that people read.
    pub(super) fn wall_secs(&self) -> i64 {
        i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX)
    }

    /// 0.0..1.0, for jitter.
    pub(super) fn random_fraction(&self) -> f64 {
        let mut byte = [0u8; 1];
        // Without randomness the jitter is the same each time, which only costs politeness.
        let _ = getrandom::fill(&mut byte);
        f64::from(byte[0]) / 256.0
    }
}

/// The rules as they stand in the root.
///
/// # Errors
/// A file that is there and cannot be read: nobody knows then what is ignored.
pub fn ignore_rules<F: Fs>(fs: &F) -> Result<Ignore, (RelPath, Problem)> {
    let read = |file: IgnoreFile| {
        let path = RelPath::parse(file.name().as_bytes()).expect("the names of the ignore files are paths");
        read_small(fs, file.name()).map_err(|error| (path, problem(&error, "cannot read what is ignored")))
    };
    let (shared, local) = (read(IgnoreFile::Shared)?, read(IgnoreFile::Local)?);
    Ok(Ignore::load(shared.as_deref(), local.as_deref()))
}

/// `None`: there is no such file.
fn read_small<F: Fs>(fs: &F, name: &str) -> std::io::Result<Option<Vec<u8>>> {
    let root = fs.open_dir(None)?;
    let file = match fs.open(&root, name.as_bytes()) {
        Err(error) if matches!(errno(&error), Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
            return Ok(None);
        }
        opened => opened?,
    };
    let mut bytes = vec![0; IGNORE_LEN_MAX + 1];
    let mut len = 0;
    while len < bytes.len() {
        match fs.read_at(&file, &mut bytes[len..], len as u64)? {
            0 => break,
            read => len += read,
        }
    }
    bytes.truncate(len);
    Ok(Some(bytes))
}

/// A problem and the path that has it, for people.
#[must_use]
pub fn words_of(path: &RelPath, problem: &Problem) -> String {
    format!("{}: {}", path.display(), problem.words)
}

/// Milliseconds since 1970.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Disk for Shared {
    fn is_absent(&self, path: &RelPath) -> bool {
        if self.check_root().is_err() {
            return false;
        }
        let parent = path.parent();
        match self.fs.open_dir(parent.as_ref()) {
            Ok(dir) => matches!(self.fs.stat(&dir, path.name()), Ok(None)),
            Err(error) => {
                matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
                    || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
            }
        }
    }

    fn fingerprint(&self, path: &RelPath) -> Option<Fingerprint> {
        let dir = self.fs.open_dir(path.parent().as_ref()).ok()?;
        self.fs.stat(&dir, path.name()).ok()?
    }

    fn is_ignored(&self, path: &RelPath, is_directory: bool) -> bool {
        self.ignore().matched(path, is_directory).is_some()
    }
}
