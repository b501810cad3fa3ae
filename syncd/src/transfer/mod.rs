//! From a wanted content to a verified temp, and from a peer's request to bytes on their way: this device's own
//! files first, then peers, several at once. Decides nothing about versions and never touches the user's tree.
//! Invariants: bytes reach a temp only after their chunk's hash matched; a content is reported fetched only after
//! the hash of the whole matched; a peer is served only what a folder shared with it holds.

mod chunked;
mod compress;
mod exchange;
mod fetch;
mod layout;
mod limits;
mod meter;
mod pace;
mod pool;
mod read;
mod scheduler;
mod search;
mod serve;
mod temp;
#[cfg(test)]
mod tests;
mod worker;

pub use limits::{Caps, Limits, Metered};
pub use meter::{FolderProgress, Wire};
pub use pace::Cap;

use crate::disk::Temp;
use crate::disk::fs::{Fs, RealFs};
use crate::net::{Session, SessionId};
use layout::Layout;
use meter::{FolderMeter, WireMeter};
use protocol::model::{ContentHash, DeviceId, FileContent, FolderId, Manifest, RelPath};
use protocol::sync::{Problem, Rows};
use protocol::wire::message::{Message, Partial};
use scheduler::{Told, Wanted};
use serve::Server;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};
use temp::Staging;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Threads that hash and write what comes in, and as many that read what goes out.
const THREADS: usize = 2;

/// Whether what this folder sends is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// What a short probe finds compressible, on links slower than compression.
    Auto,
    /// Nothing.
    Never,
}

/// What the transfer tells a folder. Called on its own threads and tasks: must not block.
#[derive(Clone, Debug)]
pub enum Notice {
    /// `tmp/` holds the content, verified. The chunk list comes with it when a peer had to be asked for it: it belongs
    /// into the database before the entry is announced.
    Fetched {
        /// For which path.
        path: RelPath,
        /// Which content.
        content: ContentHash,
        /// Its chunk list, if the database had none.
        manifest: Option<Arc<Manifest>>,
    },
    /// It could not be had.
    FetchFailed {
        /// For which path.
        path: RelPath,
        /// Which content.
        content: ContentHash,
        /// Why.
        problem: Problem,
    },
    /// What stands there is not what the index says: scan it.
    Look {
        /// Where.
        path: RelPath,
    },
}

/// What the transfer needs of a folder.
pub struct Folder<F: Fs = RealFs> {
    id: FolderId,
    rows: Arc<dyn Rows + Send + Sync>,
    fs: Arc<F>,
    compression: Compression,
    notify: Box<dyn Fn(Notice) + Send + Sync>,
    staging: Staging<F>,
    meter: FolderMeter,
    under_way: UnderWay<F>,
}

/// Chunk lists and temps of the contents that are being fetched, so that others can have what is already there.
struct UnderWay<F: Fs>(Mutex<BTreeMap<ContentHash, Partly<F>>>);

/// A content that is being fetched.
type Partly<F> = (Arc<Layout>, Arc<Temp<F>>);

impl<F: Fs> UnderWay<F> {
    fn get(&self, content: &ContentHash) -> Option<Partly<F>> {
        self.0.lock().expect("no thread panics while it holds this lock").get(content).cloned()
    }

    fn set(&self, layout: &Arc<Layout>, temp: &Arc<Temp<F>>) {
        let mut under_way = self.0.lock().expect("no thread panics while it holds this lock");
        under_way.insert(layout.manifest().content, (Arc::clone(layout), Arc::clone(temp)));
    }

    fn end(&self, temp: &Arc<Temp<F>>) {
        let mut under_way = self.0.lock().expect("no thread panics while it holds this lock");
        let content = temp.content().hash;
        if under_way.get(&content).is_some_and(|(_, other)| Arc::ptr_eq(other, temp)) {
            under_way.remove(&content);
        }
    }
}

impl<F: Fs> Folder<F> {
    /// A folder to fetch into and to serve from.
    pub fn new(
        id: FolderId,
        rows: Arc<dyn Rows + Send + Sync>,
        fs: Arc<F>,
        compression: Compression,
        notify: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Self {
        let (staging, meter, under_way) = (Staging::default(), FolderMeter::default(), UnderWay(Mutex::default()));
        Self { id, rows, fs, compression, notify: Box::new(notify), staging, meter, under_way }
    }
}

/// The folders, shared with the threads.
pub(crate) struct Folders<F: Fs>(Arc<RwLock<BTreeMap<FolderId, Arc<Folder<F>>>>>);

impl<F: Fs> Clone for Folders<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Fs> Folders<F> {
    fn get(&self, id: &FolderId) -> Option<Arc<Folder<F>>> {
        self.0.read().expect("no thread panics while it holds this lock").get(id).cloned()
    }

    fn all(&self) -> Vec<Arc<Folder<F>>> {
        self.0.read().expect("no thread panics while it holds this lock").values().cloned().collect()
    }

    fn set(&self, id: FolderId, folder: Option<Arc<Folder<F>>>) {
        let mut folders = self.0.write().expect("no thread panics while it holds this lock");
        match folder {
            Some(folder) => folders.insert(id, folder),
            None => folders.remove(&id),
        };
    }
}

/// Whether a folder is shared with a device now.
pub type Grant = Arc<dyn Fn(&DeviceId, &FolderId) -> bool + Send + Sync>;

/// The transfer of one daemon. Dropping it ends its tasks and threads.
pub struct Transfer<F: Fs = RealFs> {
    folders: Folders<F>,
    tell: mpsc::UnboundedSender<Told<F>>,
    server: Arc<Server<F>>,
    wire: Arc<WireMeter>,
    stop: CancellationToken,
}

impl<F: Fs> Transfer<F> {
    /// Starts the threads and the scheduler on the present tokio runtime.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(grant: Grant) -> std::io::Result<Self> {
        let folders = Folders(Arc::default());
        let (tell, told) = mpsc::unbounded_channel();
        let wire = Arc::new(WireMeter::default());
        let mut workers = Vec::new();
        for index in 0..THREADS {
            // Bounded by what is open, see `Job`.
            let (give, jobs) = crossbeam_channel::unbounded();
            let (tell, folders, wire) = (tell.clone(), folders.clone(), Arc::clone(&wire));
            let inflater = compress::Inflater::new()?;
            std::thread::Builder::new()
                .name(format!("transfer-{index}"))
                .spawn(crate::vital_thread(move || worker::run(&jobs, tell, folders, inflater, wire)))?;
            workers.push(give);
        }
        let server = Arc::new(Server::start(folders.clone(), Arc::clone(&grant), Arc::clone(&wire), THREADS)?);
        let stop = CancellationToken::new();
        crate::vital(scheduler::run(told, tell.clone(), workers, grant, stop.clone()));
        Ok(Self { folders, tell, server, wire, stop })
    }

    /// Adds a folder, or replaces it with other settings.
    pub fn add_folder(&self, folder: Folder<F>) {
        self.folders.set(folder.id, Some(Arc::new(folder)));
    }

    /// Drops a folder: its fetches end without a word and nothing of it is served any more.
    pub fn remove_folder(&self, folder: FolderId) {
        self.folders.set(folder, None);
        self.tell(Told::Cancel(folder, None));
    }

    /// Gets a content into the `tmp/` of a folder that was added; `Fetched` or `FetchFailed` follows for its path unless
    /// it is cancelled or the folder removed.
    /// A second call for a path replaces the first.
    /// `origin` is where `sources` have it.
    pub fn fetch(
        &self,
        folder: FolderId,
        path: RelPath,
        origin: RelPath,
        content: FileContent,
        sources: Vec<DeviceId>,
    ) {
        if let Some(folder) = self.folders.get(&folder) {
            self.tell(Told::Fetch(folder, Wanted { path, origin, content, sources }));
        }
    }

    /// Forgets what is under way for `path`. Its temp stays for a later fetch.
    pub fn cancel(&self, folder: FolderId, path: RelPath) {
        self.tell(Told::Cancel(folder, Some(path)));
    }

    /// A session to ask.
    pub fn session_up(&self, session: Session) {
        self.tell(Told::SessionUp(session));
    }

    /// It is over.
    pub fn session_down(&self, session: SessionId) {
        self.tell(Told::SessionDown(session));
    }

    /// How fast content may move from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.server.limit(&limits);
        self.tell(Told::Limit(limits));
    }

    /// What a peer is still fetching itself and can already serve.
    pub fn partial(&self, peer: DeviceId, partial: Partial) {
        self.tell(Told::Partial(peer, partial));
    }

    /// Answers a peer's MANIFEST_GET or CHUNK_GET; other messages are not for us.
    pub fn serve(&self, session: Session, req: u32, message: Message) {
        Arc::clone(&self.server).serve(session, req, message);
    }

    /// How far a folder's fetches are.
    #[must_use]
    pub fn progress(&self, folder: FolderId) -> FolderProgress {
        self.folders.get(&folder).map(|folder| folder.meter.progress()).unwrap_or_default()
    }

    /// File bytes moved over all sessions, and the present rates.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.wire.read()
    }

    /// The scheduler is gone only while the daemon stops.
    fn tell(&self, told: Told<F>) {
        let _ = self.tell.send(told);
    }
}

impl<F: Fs> Drop for Transfer<F> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
