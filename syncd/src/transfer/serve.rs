//! Answers peers: who may have what, how much at a time, and how it is packed. Reading happens in the pool; blocks
//! wait for the link, never the other way round.
//! Invariant: a peer has at most `RUNNING_MAX` requests for content and `LISTS_MAX` for lists executing and `REQUESTS_OPEN_MAX` waiting; nothing is read
//! for a folder that is not shared with it at that moment.

use super::compress::Deflater;
use super::limits::{Gates, Limits, Whose};
use super::meter::WireMeter;
use super::pool::Pool;
use super::read::{self, Reading, Shelf};
use super::{Compression, Folder, Folders, Grant};
use crate::disk::fs::Fs;
use crate::net::{DataSink, Session, SinkError};
use bytes::Bytes;
use protocol::limits::{DATA_BLOCK_TARGET, DATA_PAYLOAD_LEN_MAX, MANIFEST_CHUNKS_MAX, REQUESTS_OPEN_MAX};
use protocol::model::DeviceId;
use protocol::wire::data::{BLOCK_HEADER_LEN, BlockWriter};
use protocol::wire::message::{ChunkErrorCode, ChunkGet, ManifestGet, ManifestPart, Message, capability};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Requests of one peer that execute at a time.
const RUNNING_MAX: u32 = 16;
/// A request takes one of these places for each of so many bytes, so that large runs are read one after the other, in
/// file order, while small ones overlap.
const BYTES_PER_PLACE: u64 = 256 * 1024;
/// Chunk lists of one peer that are read at a time. They do not wait behind content, which a limit may slow down.
const LISTS_MAX: usize = 4;
/// Above this rate, in bytes a second, compressing would only slow the link down (zstd level 1: 400 MB/s a core).
const FAST_LINK: u64 = 150_000_000;
/// A send that took no longer did not wait for the link.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// Compressed blocks after which one is sent as it is, while none of them had to wait.
const PROBE_EVERY: u64 = 16;
/// Open files are kept this long after a peer's last request.
const SHELF_KEEP: Duration = Duration::from_secs(5);

pub(super) struct Server<F: Fs> {
    folders: Folders<F>,
    grant: Grant,
    pool: Pool,
    visitors: Mutex<BTreeMap<DeviceId, Arc<Visitor<F>>>>,
    /// As many as threads at most: contexts are large.
    deflaters: Mutex<Vec<Deflater>>,
    wire: Arc<WireMeter>,
    /// What the limits let through, of content only.
    up: Gates,
}

/// A peer that asks.
struct Visitor<F: Fs> {
    open: AtomicUsize,
    places: Semaphore,
    lists: Semaphore,
    shelf: Arc<Shelf<F>>,
    /// Requests so far; tells whether the shelf was used.
    served: AtomicU64,
    sweeping: AtomicBool,
    link: LinkRate,
}

/// How fast a peer's link is, as far as sends that had to wait show it.
#[derive(Default)]
struct LinkRate {
    /// Bytes a second; 0 when not known.
    rate: AtomicU64,
    /// Blocks since the last one that showed anything.
    quiet: AtomicU64,
}

impl LinkRate {
    fn measure(&self, bytes: usize, took: Duration) {
        let rate = (bytes as f64 / took.as_secs_f64().max(1e-6)) as u64;
        // What fits into the session's queue shows nothing but that queue, unless it waited for long.
        let shows = took > WAIT_MIN && (bytes >= DATA_BLOCK_TARGET / 2 || rate < FAST_LINK / 4);
        if !shows {
            self.quiet.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.quiet.store(0, Ordering::Relaxed);
        let known = self.rate.load(Ordering::Relaxed);
        self.rate.store(if known == 0 { rate } else { known - known / 4 + rate / 4 }, Ordering::Relaxed);
    }

    /// Whether fewer bytes would go faster. Where nothing shows it, a block in between goes as it is, to see.
    fn wants_fewer_bytes(&self) -> bool {
        if self.rate.load(Ordering::Relaxed) > FAST_LINK {
            return false;
        }
        let probe = self.quiet.load(Ordering::Relaxed) >= PROBE_EVERY;
        if probe {
            self.quiet.store(0, Ordering::Relaxed);
        }
        !probe
    }
}

impl<F: Fs> Visitor<F> {
    fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            places: Semaphore::new(RUNNING_MAX as usize),
            lists: Semaphore::new(LISTS_MAX),
            shelf: Arc::default(),
            served: AtomicU64::new(0),
            sweeping: AtomicBool::new(false),
            link: LinkRate::default(),
        }
    }
}

/// Counts an open request of a visitor.
struct Visit<F: Fs>(Arc<Visitor<F>>);

impl<F: Fs> Drop for Visit<F> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F: Fs> Server<F> {
    pub fn start(folders: Folders<F>, grant: Grant, wire: Arc<WireMeter>, threads: usize) -> io::Result<Self> {
        let deflaters = (0..threads).map(|_| Deflater::new()).collect::<io::Result<_>>()?;
        let pool = Pool::start("serve", threads)?;
        let (visitors, deflaters) = (Mutex::default(), Mutex::new(deflaters));
        Ok(Self { folders, grant, pool, visitors, deflaters, wire, up: Gates::open() })
    }

    /// How fast content may go out from now on.
    pub fn limit(&self, limits: &Limits) {
        self.up.set(limits);
    }

    pub fn serve(self: Arc<Self>, session: Session, req: u32, message: Message) {
        let (folder, bytes) = match &message {
            Message::ManifestGet(get) => (get.folder, 0),
            Message::ChunkGet(get) => (get.folder, get.items.iter().map(|item| u64::from(item.len)).sum::<u64>()),
            _ => return,
        };
        let visit = self.visit(session.peer());
        tokio::spawn(async move {
            let folder = self.folders.get(&folder).filter(|_| (self.grant)(&session.peer(), &folder));
            let failure = match (&folder, &visit) {
                (None, _) => Some(ChunkErrorCode::NoFolder),
                (_, None) => Some(ChunkErrorCode::Busy),
                _ => None,
            };
            let (Some(folder), Some(visit), None) = (folder, visit, failure) else {
                // The session may be over; then nobody waits for an answer.
                let _ = session.respond(req, Message::ChunkErr(failure.unwrap_or(ChunkErrorCode::Busy))).await;
                return;
            };
            let places = u32::try_from(bytes / BYTES_PER_PLACE).unwrap_or(RUNNING_MAX).clamp(1, RUNNING_MAX);
            let place = match &message {
                Message::ManifestGet(_) => visit.0.lists.acquire().await,
                _ => visit.0.places.acquire_many(places).await,
            };
            let Ok(_place) = place else { return };
            match message {
                Message::ManifestGet(get) => self.list(&session, req, &visit.0, folder, get).await,
                Message::ChunkGet(get) => {
                    // An error means that the data is no longer wanted.
                    let _ = self.chunks(&session, req, &visit.0, folder, get).await;
                }
                _ => {}
            }
            visit.0.served.fetch_add(1, Ordering::Relaxed);
            sweep(&visit.0);
        });
    }

    /// `None` when the peer has too many requests open.
    fn visit(&self, peer: DeviceId) -> Option<Visit<F>> {
        let mut visitors = self.visitors.lock().expect("no thread panics while it holds this lock");
        let visitor = Arc::clone(visitors.entry(peer).or_insert_with(|| Arc::new(Visitor::new())));
        let open = visitor.open.fetch_add(1, Ordering::Relaxed);
        let visit = Visit(visitor);
        (open < REQUESTS_OPEN_MAX + RUNNING_MAX as usize).then_some(visit)
    }

    async fn list(&self, session: &Session, req: u32, visitor: &Visitor<F>, folder: Arc<Folder<F>>, get: ManifestGet) {
        let shelf = Arc::clone(&visitor.shelf);
        let part = self.pool.run(move || part(&folder, &shelf, &get)).await.flatten();
        let answer = part.map_or(Message::ChunkErr(ChunkErrorCode::Gone), Message::Manifest);
        // The session may be over; then nobody waits for an answer.
        let _ = session.respond(req, answer).await;
    }

    async fn chunks(
        self: &Arc<Self>,
        session: &Session,
        req: u32,
        visitor: &Visitor<F>,
        folder: Arc<Folder<F>>,
        get: ChunkGet,
    ) -> Result<(), SinkError> {
        let mut sink = session.data_sink(req);
        let whose = Whose::of(session);
        let may_deflate =
            folder.compression == Compression::Auto && session.hello().capabilities & capability::ZSTD != 0;
        let reading = Reading::new(folder, Arc::clone(&visitor.shelf), get);
        let mut next = self.fill(reading, may_deflate && visitor.link.wants_fewer_bytes()).await;
        while let Some((reading, block, last)) = next.take() {
            if last {
                return self.send(&mut sink, visitor, whose, block, true).await;
            }
            let ahead = self.fill(reading, may_deflate && visitor.link.wants_fewer_bytes());
            let (sent, filled) = tokio::join!(self.send(&mut sink, visitor, whose, block, false), ahead);
            sent?;
            next = filled;
        }
        Ok(())
    }

    async fn send(
        &self,
        sink: &mut DataSink,
        visitor: &Visitor<F>,
        whose: Whose,
        block: Bytes,
        last: bool,
    ) -> Result<(), SinkError> {
        let (began, len) = (Instant::now(), block.len());
        let mut rest = block;
        loop {
            let part = rest.split_to(rest.len().min(DATA_PAYLOAD_LEN_MAX));
            let (part_len, end) = (part.len(), rest.is_empty());
            tokio::select! {
                biased;
                () = self.up.pass(whose, part_len) => {}
                () = sink.cancelled() => return Err(SinkError::Cancelled),
            }
            sink.send(part, last && end).await?;
            self.wire.add_sent(part_len);
            if end {
                break;
            }
        }
        // A limit counts as a slow link: fewer bytes go faster.
        visitor.link.measure(len, began.elapsed());
        Ok(())
    }

    async fn fill(self: &Arc<Self>, mut reading: Reading<F>, deflate: bool) -> Option<(Reading<F>, Bytes, bool)> {
        let server = Arc::clone(self);
        let fill = move || {
            let (block, last) = reading.fill();
            let bytes = server.encode(block, deflate);
            (reading, Bytes::from(bytes), last)
        };
        self.pool.run(fill).await
    }

    fn encode(&self, block: BlockWriter, deflate: bool) -> Vec<u8> {
        let pop = || self.deflaters.lock().expect("no thread panics while it holds this lock").pop();
        let Some(mut deflater) = deflate.then(pop).flatten() else { return block.into_plain() };
        let small = deflater.deflate(block.raw(), BLOCK_HEADER_LEN);
        self.deflaters.lock().expect("no thread panics while it holds this lock").push(deflater);
        let Some(mut bytes) = small else { return block.into_plain() };
        let header = block.zstd_header(bytes.len() - BLOCK_HEADER_LEN);
        bytes[..BLOCK_HEADER_LEN].copy_from_slice(&header);
        bytes
    }
}

/// Closes the files kept for a peer once it has asked for nothing for a while.
fn sweep<F: Fs>(visitor: &Arc<Visitor<F>>) {
    if visitor.sweeping.swap(true, Ordering::Relaxed) {
        return;
    }
    let visitor = Arc::clone(visitor);
    tokio::spawn(async move {
        let mut seen = visitor.served.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(SHELF_KEEP).await;
            let served = visitor.served.load(Ordering::Relaxed);
            if served == seen && visitor.open.load(Ordering::Relaxed) == 0 {
                break;
            }
            seen = served;
        }
        visitor.shelf.clear();
        visitor.sweeping.store(false, Ordering::Relaxed);
    });
}

fn part<F: Fs>(folder: &Folder<F>, shelf: &Shelf<F>, get: &ManifestGet) -> Option<ManifestPart> {
    let source = read::find(folder, shelf, &get.path, &get.content)?;
    let manifest = source.layout.manifest();
    let from = usize::try_from(get.from_chunk).ok()?;
    let rest = manifest.chunks.get(from..)?;
    let chunks = rest[..rest.len().min(MANIFEST_CHUNKS_MAX)].to_vec();
    let last = chunks.len() == rest.len();
    let (content, size, chunking) = (manifest.content, manifest.size, manifest.chunking);
    Some(ManifestPart { content, size, chunking, from_chunk: get.from_chunk, chunks, last })
}
