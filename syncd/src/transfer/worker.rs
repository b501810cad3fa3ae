//! The threads that hash and write. Each owns the files it was given, from the search on this device to the verified
//! temp, so nothing here is shared or locked. A small file costs no system call before its bytes are there.
//! Invariant: bytes of a peer reach a temp only after their chunk's hash matched.

use super::chunked::Chunked;
use super::compress::Inflater;
use super::layout::{Layout, Missing};
use super::meter::WireMeter;
use super::scheduler::{FetchId, Plan, Received, Told};
use super::search::{self, Search};
use super::{Folder, Folders};
use crate::disk::fs::{Errno, Fs, problem};
use protocol::model::chunk::check_lengths;
use protocol::model::{ContentHash, FileContent, Manifest, RelPath};
use protocol::sync::Problem;
use protocol::wire::data::{Block, DataError, Record, RecordCode, records};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc::UnboundedSender};

/// Bytes hashed in one slice of a file that waits for its last pass.
const FINISH_LEN: u64 = 8 * 1024 * 1024;

/// What a worker is asked to do. Their number is bounded by the fetches and requests that are open, the bytes in
/// them by the permits that blocks carry.
pub(super) enum Job<F: Fs> {
    /// Find what this device has of a content.
    Open(Spec<F>),
    /// The chunk list of an opened content, checked against its size.
    List(FetchId, Arc<Manifest>),
    /// Part of a response.
    Block(Arc<Plan>, Block, OwnedSemaphorePermit),
    /// No more blocks come for a request.
    End(Arc<Plan>, Ending),
    /// A fetch is over.
    Drop(FetchId),
}

/// A content to be had.
pub(super) struct Spec<F: Fs> {
    pub fetch: FetchId,
    pub folder: Arc<Folder<F>>,
    pub path: RelPath,
    pub content: Arc<FileContent>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The response is complete.
    Complete,
    /// The peer has too much to do.
    Busy,
    /// The peer cannot serve the folder or its disk.
    Refused,
    /// The session is over.
    Closed,
    /// We withdrew it.
    Withdrawn,
    /// The peer broke the protocol.
    Broken,
}

struct File<F: Fs> {
    spec: Spec<F>,
    state: State<F>,
}

enum State<F: Fs> {
    /// Waits for its chunk list.
    Listless,
    /// One chunk: written when it comes.
    Whole,
    Chunked {
        file: Box<Chunked<F>>,
        search: Option<Search<F>>,
    },
}

/// A response so far.
struct Cursor {
    received: Received,
    /// A record broke the protocol: the rest is ignored.
    broken: bool,
}

pub(super) struct Worker<F: Fs> {
    told: UnboundedSender<Told<F>>,
    folders: Folders<F>,
    files: HashMap<FetchId, File<F>>,
    /// Files with a search or a last pass under way.
    slow: VecDeque<FetchId>,
    cursors: HashMap<u64, Cursor>,
    inflater: Inflater,
    complete: Vec<(FetchId, Completion)>,
    wire: Arc<WireMeter>,
}

/// What became of a content.
#[derive(Debug)]
pub(super) enum Completion {
    /// Verified. A chunk list that was fetched comes with it.
    Verified(Option<Arc<Manifest>>),
    /// All chunks were right and the whole is not: the chunk list lies. The temp is gone.
    Spoiled,
    /// This disk failed.
    Failed(Problem),
}

/// Runs a worker until the scheduler is gone.
pub(super) fn run<F: Fs>(
    jobs: &crossbeam_channel::Receiver<Job<F>>,
    told: UnboundedSender<Told<F>>,
    folders: Folders<F>,
    inflater: Inflater,
    wire: Arc<WireMeter>,
) {
    let mut worker = Worker {
        told,
        folders,
        files: HashMap::new(),
        slow: VecDeque::new(),
        cursors: HashMap::new(),
        inflater,
        complete: Vec::new(),
        wire,
    };
    loop {
        if worker.slow.is_empty() {
            let Ok(job) = jobs.recv() else { return };
            worker.handle(job);
        } else {
            match jobs.try_recv() {
                Ok(job) => worker.handle(job),
                Err(crossbeam_channel::TryRecvError::Empty) => {}
                Err(crossbeam_channel::TryRecvError::Disconnected) => return,
            }
            worker.go_on();
        }
        worker.report();
    }
}

impl<F: Fs> Worker<F> {
    fn handle(&mut self, job: Job<F>) {
        match job {
            Job::Open(spec) => self.open(spec),
            Job::List(fetch, manifest) => {
                if let Some(file) = self.files.remove(&fetch) {
                    self.open_chunked(file.spec, manifest);
                }
            }
            Job::Block(plan, block, permit) => {
                self.wire.add_received(block.stored.len());
                self.block(&plan, &block);
                drop(permit);
            }
            Job::End(plan, ending) => self.end(plan, ending),
            Job::Drop(fetch) => {
                self.files.remove(&fetch);
            }
        }
    }

    /// The scheduler may be gone while the daemon stops; then nobody wants to know.
    fn tell(&self, told: Told<F>) {
        let _ = self.told.send(told);
    }

    fn report(&mut self) {
        if !self.complete.is_empty() {
            let complete = std::mem::take(&mut self.complete);
            self.tell(Told::Completed(complete));
        }
    }

    fn open(&mut self, spec: Spec<F>) {
        let content = Arc::clone(&spec.content);
        if content.size == 0 || content.chunks.len() == 1 {
            return self.open_whole(spec);
        }
        let known = spec.folder.rows.manifest(&content);
        match known {
            Some(manifest) if check_lengths(&manifest.chunks, content.size, manifest.chunking).is_err() => {
                self.complete.push((spec.fetch, Completion::Spoiled));
            }
            Some(manifest) => self.open_chunked(spec, Arc::new(manifest)),
            None => {
                self.tell(Told::Listless(spec.fetch));
                self.files.insert(spec.fetch, File { spec, state: State::Listless });
            }
        }
    }

    fn open_whole(&mut self, spec: Spec<F>) {
        match find_whole(&spec, &self.folders) {
            Ok(true) => self.complete.push((spec.fetch, Completion::Verified(None))),
            Ok(false) => {
                let mut missing = Missing::default();
                missing.insert(0, 1);
                let manifest = super::layout::inline(&spec.content).map(|manifest| Layout::new(Arc::new(manifest)));
                let Some(layout) = manifest.filter(|layout| layout.chunk(0).hash.0 == spec.content.hash.0) else {
                    self.complete.push((spec.fetch, Completion::Spoiled));
                    return;
                };
                self.tell(Told::Missing(spec.fetch, Arc::new(layout), missing));
                self.files.insert(spec.fetch, File { spec, state: State::Whole });
            }
            Err(error) => self.fail(spec.fetch, &error),
        }
    }

    fn open_chunked(&mut self, spec: Spec<F>, manifest: Arc<Manifest>) {
        let fetch = spec.fetch;
        match Chunked::open(&spec.folder, &spec.content, Arc::new(Layout::new(manifest))) {
            Ok((file, found)) => {
                let candidates = search::candidates(&spec.folder, &self.folders.all(), &spec.path, &spec.content);
                let state = State::Chunked { file: Box::new(file), search: Some(Search::new(found, candidates)) };
                self.files.insert(fetch, File { spec, state });
                self.slow.push_back(fetch);
            }
            Err(error) => self.fail(fetch, &error),
        }
    }

    fn fail(&mut self, fetch: FetchId, error: &io::Error) {
        let words = problem(error, "cannot write the temporary file");
        self.files.remove(&fetch);
        self.complete.push((fetch, Completion::Failed(words)));
    }

    /// One slice for the next file that has something to do by itself.
    fn go_on(&mut self) {
        let Some(fetch) = self.slow.pop_front() else { return };
        let Some(File { state: State::Chunked { file, search }, .. }) = self.files.get_mut(&fetch) else { return };
        let step = match search {
            Some(looking) => {
                let more = looking.slice(file);
                if matches!(more, Ok(false)) {
                    *search = None;
                }
                more
            }
            None => Ok(false),
        };
        match step {
            Ok(true) => self.slow.push_back(fetch),
            Ok(false) => self.searched(fetch),
            Err(error) => self.fail(fetch, &error),
        }
    }

    /// The search is over: either all is there, or the scheduler learns what is not.
    fn searched(&mut self, fetch: FetchId) {
        let Some(File { state: State::Chunked { file, .. }, spec }) = self.files.get_mut(&fetch) else { return };
        if file.is_complete() {
            return self.finish(fetch);
        }
        match file.settle() {
            Ok(_) if file.is_complete() => self.slow.push_back(fetch),
            Ok(missing) => {
                let layout = Arc::clone(file.layout());
                // Better said before than after a hundred gigabytes; where the system does not know, the writes tell.
                let room = spec.folder.fs.space().map_or(u64::MAX, |space| space.free);
                if missing.len(&layout) > room {
                    return self.fail(fetch, &Errno::NOSPC.into());
                }
                self.tell(Told::Missing(fetch, layout, missing));
            }
            Err(error) => self.fail(fetch, &error),
        }
    }

    fn finish(&mut self, fetch: FetchId) {
        let Some(File { state: State::Chunked { file, .. }, spec }) = self.files.get_mut(&fetch) else { return };
        match file.finish(FINISH_LEN) {
            Ok(None) => self.slow.push_back(fetch),
            Ok(Some(true)) => {
                let fetched = spec.content.chunks.is_empty().then(|| Arc::clone(file.layout().manifest()));
                self.files.remove(&fetch);
                self.complete.push((fetch, Completion::Verified(fetched)));
            }
            Ok(Some(false)) => self.spoil(fetch),
            Err(error) => self.fail(fetch, &error),
        }
    }

    fn spoil(&mut self, fetch: FetchId) {
        let Some(File { spec, .. }) = self.files.remove(&fetch) else { return };
        let completion = match spec.folder.discard_temp(&spec.content.hash) {
            Ok(()) => Completion::Spoiled,
            Err(error) => Completion::Failed(problem(&error, "cannot remove the temporary file")),
        };
        self.complete.push((fetch, completion));
    }

    fn block(&mut self, plan: &Arc<Plan>, block: &Block) {
        let mut cursor = self.cursors.remove(&plan.request).unwrap_or_else(|| Cursor::new(plan));
        if !cursor.broken {
            let done = if block.zstd {
                self.zstd_block(plan, &mut cursor.received, block)
            } else {
                self.records(plan, &mut cursor.received, &block.stored)
            };
            cursor.broken = done.is_err();
        }
        self.cursors.insert(plan.request, cursor);
    }

    fn zstd_block(&mut self, plan: &Plan, received: &mut Received, block: &Block) -> Result<(), DataError> {
        let raw = self.inflater.inflate(&block.stored, block.raw_len).ok_or(DataError::Block)?;
        let done = self.records(plan, received, &raw);
        self.inflater.recycle(raw);
        done
    }

    fn records(&mut self, plan: &Plan, received: &mut Received, raw: &[u8]) -> Result<(), DataError> {
        for record in records(raw) {
            self.record(plan, received, &record?)?;
        }
        Ok(())
    }

    fn record(&mut self, plan: &Plan, received: &mut Received, record: &Record<'_>) -> Result<(), DataError> {
        let at = usize::from(record.item);
        let item = plan.items.get(at).ok_or(DataError::Record)?;
        let done = &mut received.items[at];
        if done.next == item.run.count || done.ended.is_some() {
            return Err(DataError::Record);
        }
        if record.code != RecordCode::Ok {
            done.ended = Some(record.code);
            return Ok(());
        }
        let chunk = item.run.first + done.next;
        done.next += 1;
        let Some(file) = self.files.get_mut(&item.fetch) else { return Ok(()) };
        match file.accept(chunk, record.bytes) {
            Ok(Accepted::Wrong) => done.wrong.push(chunk),
            Ok(Accepted::More) => {
                if let Some(ranges) = file.news() {
                    self.tell(Told::There(item.fetch, ranges));
                }
            }
            Ok(Accepted::Last) if matches!(file.state, State::Whole) => {
                self.files.remove(&item.fetch);
                self.complete.push((item.fetch, Completion::Verified(None)));
            }
            Ok(Accepted::Last) => self.finish(item.fetch),
            Err(error) => self.fail(item.fetch, &error),
        }
        Ok(())
    }

    fn end(&mut self, plan: Arc<Plan>, ending: Ending) {
        let cursor = self.cursors.remove(&plan.request).unwrap_or_else(|| Cursor::new(&plan));
        let ending = if cursor.broken { Ending::Broken } else { ending };
        // What is complete has to be known before its request is over.
        self.report();
        self.tell(Told::Ended(plan, cursor.received, ending));
    }
}

impl Cursor {
    fn new(plan: &Plan) -> Self {
        Self { received: Received::none(plan), broken: false }
    }
}

enum Accepted {
    Wrong,
    More,
    Last,
}

impl<F: Fs> File<F> {
    fn news(&mut self) -> Option<Vec<(u64, u64)>> {
        match &mut self.state {
            State::Chunked { file, .. } => file.news(),
            State::Listless | State::Whole => None,
        }
    }

    fn accept(&mut self, index: u32, bytes: &[u8]) -> io::Result<Accepted> {
        match &mut self.state {
            State::Listless => Ok(Accepted::More),
            State::Whole => {
                // One chunk: its hash is the file's.
                if ContentHash::of(bytes) != self.spec.content.hash {
                    return Ok(Accepted::Wrong);
                }
                self.spec.folder.write_whole(&self.spec.content, bytes)?;
                self.spec.folder.meter.add_done(bytes.len() as u64);
                Ok(Accepted::Last)
            }
            State::Chunked { file, .. } => {
                let was_complete = file.is_complete();
                let right = file.accept(index, bytes)?;
                let last = file.is_complete() && !was_complete;
                Ok(if !right {
                    Accepted::Wrong
                } else if last {
                    Accepted::Last
                } else {
                    Accepted::More
                })
            }
        }
    }
}

/// Whether a small content is on this device; then its temp holds it.
fn find_whole<F: Fs>(spec: &Spec<F>, folders: &Folders<F>) -> io::Result<bool> {
    let content = &spec.content;
    if content.size == 0 {
        let is_empty = ContentHash::of(&[]) == content.hash;
        return if is_empty { spec.folder.write_whole(content, &[]).map(|()| true) } else { Ok(false) };
    }
    let Ok(len) = usize::try_from(content.size) else { return Ok(false) };
    if spec.folder.has_whole(content, len)? {
        spec.folder.meter.add_done(content.size);
        return Ok(true);
    }
    let candidates = search::candidates(&spec.folder, &folders.all(), &spec.path, content);
    let Some(bytes) = search::whole(candidates, content) else { return Ok(false) };
    spec.folder.write_whole(content, &bytes)?;
    spec.folder.meter.add_done(content.size);
    Ok(true)
}
