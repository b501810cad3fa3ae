//! Keeps track of what is fetched, from whom it may come and what became of each request. One task owns all fetches
//! and all links to peers; workers and exchanges report to it, `dispatch` makes its requests. Invariant: a chunk that is wanted is missing, asked for in exactly one request, or there.

use super::fetch::{Fetch, State};
use super::layout::{Layout, Missing, Run};
use super::limits::{Limits, Metered, Paces, Whose};
use super::worker::{Completion, Ending, Job, Spec};
use super::{Folder, Grant, Notice};
use crate::disk::fs::Fs;
use crate::net::{Session, SessionId, Via};
use protocol::model::{ContentHash, DeviceId, FileContent, FolderId, Manifest, RelPath};
use protocol::sync::{Problem, ProblemCode};
use protocol::wire::data::RecordCode;
use protocol::wire::message::{CloseCode, Message, Partial};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

mod dispatch;

/// Names one fetch of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FetchId(pub u64);

/// Bytes of blocks that wait for a worker, from all peers.
const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Reports taken in before requests are made again.
const REPORTS_AT_ONCE: usize = 256;

/// What the scheduler is told.
pub(super) enum Told<F: Fs> {
    /// A path needs a content.
    Fetch(Arc<Folder<F>>, Wanted),
    /// A path needs it no longer; `None`: no path of that folder does.
    Cancel(FolderId, Option<RelPath>),
    SessionUp(Session),
    SessionDown(SessionId),
    /// Chunks that a peer has of a content it is fetching itself.
    Partial(DeviceId, Partial),
    /// A content's chunk list is not on this device.
    Listless(FetchId),
    /// What this device lacks of a content.
    Missing(FetchId, Arc<Layout>, Missing),
    /// A peer's answer to a request for a chunk list.
    Listed {
        fetch: FetchId,
        session: SessionId,
        list: Result<Arc<Manifest>, ListFailure>,
    },
    /// Chunks of a content that are on this device by now.
    There(FetchId, Vec<(u64, u64)>),
    Completed(Vec<(FetchId, Completion)>),
    Ended(Arc<Plan>, Received, Ending),
    /// Nothing came for a while.
    Stalled(u64),
    /// How fast content may come.
    Limit(Limits),
}

/// A content, the path that needs it, and where `sources` have it.
pub(super) struct Wanted {
    pub path: RelPath,
    pub origin: RelPath,
    pub content: FileContent,
    pub sources: Vec<DeviceId>,
}

/// Why a peer gave no chunk list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListFailure {
    /// The session ended or the peer is too slow.
    Unanswered,
    /// It does not have it.
    Gone,
    /// What came cannot be the file's list.
    Lie,
}

/// A request for chunks: which chunks its items stand for.
#[derive(Debug)]
pub(super) struct Plan {
    pub request: u64,
    pub session: SessionId,
    pub peer: DeviceId,
    pub items: Vec<PlanItem>,
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct PlanItem {
    pub fetch: FetchId,
    pub run: Run,
}

/// What came of a request, item by item.
#[derive(Debug)]
pub(super) struct Received {
    pub items: Vec<ReceivedItem>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ReceivedItem {
    /// Records that came with bytes.
    pub next: u32,
    /// Chunks among them that were not what they should be.
    pub wrong: Vec<u32>,
    /// The peer ended the item early.
    pub ended: Option<RecordCode>,
}

impl Received {
    pub fn none(plan: &Plan) -> Self {
        Self { items: vec![ReceivedItem::default(); plan.items.len()] }
    }
}

/// A session, as far as its requests go.
struct Link {
    session: Session,
    device: DeviceId,
    whose: Whose,
    relayed: bool,
    /// Bytes asked for and not come yet.
    bytes: u64,
    requests: usize,
    lists: usize,
}

pub(super) struct Scheduler<F: Fs> {
    tell: mpsc::UnboundedSender<Told<F>>,
    workers: Vec<crossbeam_channel::Sender<Job<F>>>,
    fetches: BTreeMap<FetchId, Fetch<F>>,
    by_content: HashMap<(FolderId, ContentHash), FetchId>,
    by_path: BTreeMap<(FolderId, RelPath), FetchId>,
    /// Fetches with missing chunks, by worker, oldest first.
    ready: Vec<VecDeque<FetchId>>,
    /// Fetches without a chunk list.
    listless: VecDeque<FetchId>,
    links: BTreeMap<SessionId, Link>,
    requests: HashMap<u64, CancellationToken>,
    budget: Arc<Semaphore>,
    grant: Grant,
    last_id: u64,
    /// How fast content is asked for.
    paces: Paces,
    /// Over which connections only what is small is.
    metered: Metered,
    /// When it may be asked for again; `None`: nothing waits for that.
    due: Option<Instant>,
}

/// Runs until every handle of the transfer is gone.
pub(super) async fn run<F: Fs>(
    mut told: mpsc::UnboundedReceiver<Told<F>>,
    tell: mpsc::UnboundedSender<Told<F>>,
    workers: Vec<crossbeam_channel::Sender<Job<F>>>,
    grant: Grant,
    stop: CancellationToken,
) {
    let mut scheduler = Scheduler {
        tell,
        ready: workers.iter().map(|_| VecDeque::new()).collect(),
        workers,
        fetches: BTreeMap::new(),
        by_content: HashMap::new(),
        by_path: BTreeMap::new(),
        listless: VecDeque::new(),
        links: BTreeMap::new(),
        requests: HashMap::new(),
        budget: Arc::new(Semaphore::new(BLOCK_BYTES_MAX)),
        grant,
        last_id: 0,
        paces: Paces::free(Instant::now()),
        metered: Metered::default(),
        due: None,
    };
    let mut reports = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            count = told.recv_many(&mut reports, REPORTS_AT_ONCE) => if count == 0 { break },
            () = until(scheduler.due) => {}
        }
        for report in reports.drain(..) {
            scheduler.take_in(report);
        }
        scheduler.dispatch();
    }
    for request in scheduler.requests.values() {
        request.cancel();
    }
}

/// Nothing is wrong: it waits.
fn metered() -> Problem {
    Problem { code: ProblemCode::Metered, words: "waits for an unmetered connection".to_owned() }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl<F: Fs> Scheduler<F> {
    fn take_in(&mut self, told: Told<F>) {
        match told {
            Told::Fetch(folder, wanted) => self.fetch(folder, wanted),
            Told::Cancel(folder, path) => self.cancel(folder, path),
            Told::SessionUp(session) => {
                let (whose, relayed) = (Whose::of(&session), session.via() == Via::Relay);
                let link = Link { device: whose.device, whose, relayed, session, bytes: 0, requests: 0, lists: 0 };
                self.links.insert(link.session.id(), link);
            }
            Told::SessionDown(session) => self.session_down(session),
            Told::Partial(peer, partial) => {
                if let Some(fetch) = self.by_content.get(&(partial.folder, partial.content)) {
                    let fetch = self.fetches.get_mut(fetch).expect("by_content names fetches that exist");
                    fetch.offer(peer, &partial.ranges);
                }
            }
            Told::Listless(fetch) => {
                if let Some(entry) = self.fetches.get_mut(&fetch) {
                    entry.state = State::Listless { asked: false };
                    self.listless.push_back(fetch);
                }
            }
            Told::Missing(fetch, layout, missing) => {
                if let Some(entry) = self.fetches.get_mut(&fetch) {
                    entry.set_missing(layout, missing);
                    self.make_ready(fetch);
                }
            }
            Told::Listed { fetch, session, list } => self.listed(fetch, session, list),
            Told::There(fetch, ranges) => self.offer(fetch, ranges),
            Told::Completed(completed) => {
                for (fetch, completion) in completed {
                    self.completed(fetch, completion);
                }
            }
            Told::Ended(plan, received, ending) => self.ended(&plan, &received, ending),
            Told::Stalled(request) => self.stalled(request),
            Told::Limit(limits) => self.limit(limits),
        }
    }

    /// Lets the folder's other devices know what they can have from here already.
    fn offer(&self, id: FetchId, ranges: Vec<(u64, u64)>) {
        let Some(fetch) = self.fetches.get(&id) else { return };
        let (folder, content) = (fetch.folder.id, fetch.content.hash);
        let message = Message::Partial(Partial { folder, content, ranges });
        for link in self.links.values() {
            if !fetch.sources.may_ask(&link.device) && (self.grant)(&link.device, &folder) {
                // Only a hint: it is dropped where the queue is full.
                let _ = link.session.try_send(&message);
            }
        }
    }

    fn take_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Workers live as long as the scheduler keeps their channels.
    fn give(&self, worker: usize, job: Job<F>) {
        let _ = self.workers[worker].send(job);
    }

    fn fetch(&mut self, folder: Arc<Folder<F>>, wanted: Wanted) {
        let Wanted { path, origin, content, sources } = wanted;
        let key = (folder.id, content.hash);
        let present = self.by_path.get(&(folder.id, path.clone()));
        if present.is_some_and(|fetch| self.by_content.get(&key) != Some(fetch)) {
            self.cancel(folder.id, Some(path.clone()));
        }
        if let Some(fetch) = self.by_content.get(&key) {
            let entry = self.fetches.get_mut(fetch).expect("by_content names fetches that exist");
            entry.add(path.clone(), &sources);
            let fetch = *fetch;
            self.by_path.insert((folder.id, path), fetch);
            return;
        }
        let id = FetchId(self.take_id());
        // By content, so that what is left of an earlier fetch is dropped before the temp is opened again.
        let worker = usize::from(content.hash.0[0]) % self.workers.len();
        folder.meter.add_wanted(content.size);
        let content = Arc::new(content);
        let spec = Spec { fetch: id, folder: Arc::clone(&folder), path: path.clone(), content: Arc::clone(&content) };
        self.by_content.insert(key, id);
        self.by_path.insert((folder.id, path.clone()), id);
        self.fetches.insert(id, Fetch::new(folder, content, path, origin, &sources, worker));
        self.give(worker, Job::Open(spec));
    }

    fn cancel(&mut self, folder: FolderId, path: Option<RelPath>) {
        let paths: Vec<RelPath> = match path {
            Some(path) => vec![path],
            None => self.by_path.keys().filter(|(id, _)| *id == folder).map(|(_, path)| path.clone()).collect(),
        };
        for path in paths {
            let Some(id) = self.by_path.remove(&(folder, path.clone())) else { continue };
            let Some(fetch) = self.fetches.get_mut(&id) else { continue };
            fetch.paths.remove(&path);
            if fetch.paths.is_empty() {
                self.forget(id);
            }
        }
    }

    /// Ends a fetch without a word. Requests that serve nothing else are withdrawn.
    fn forget(&mut self, id: FetchId) -> Option<Fetch<F>> {
        let fetch = self.fetches.remove(&id)?;
        self.by_content.remove(&(fetch.folder.id, fetch.content.hash));
        for path in &fetch.paths {
            self.by_path.remove(&(fetch.folder.id, path.clone()));
        }
        fetch.folder.meter.settle(fetch.content.size);
        self.give(fetch.worker, Job::Drop(id));
        for request in &fetch.alone {
            if let Some(request) = self.requests.get(request) {
                request.cancel();
            }
        }
        Some(fetch)
    }

    fn session_down(&mut self, session: SessionId) {
        // Its exchanges see the end by themselves and report what they got.
        let Some(link) = self.links.remove(&session) else { return };
        let same = |other: &Link| other.device == link.device && other.whose == link.whose;
        if !self.links.values().any(same) {
            self.check_all_sources();
        }
    }

    fn limit(&mut self, limits: Limits) {
        self.paces.set(Instant::now(), &limits);
        if self.metered != limits.metered {
            self.metered = limits.metered;
            self.check_all_sources();
        }
    }

    fn check_all_sources(&mut self) {
        let waiting: Vec<FetchId> = self.fetches.keys().copied().collect();
        for fetch in waiting {
            self.check_sources(fetch);
        }
    }

    fn make_ready(&mut self, fetch: FetchId) {
        let Some(entry) = self.fetches.get_mut(&fetch) else { return };
        if !entry.queued && matches!(&entry.state, State::Chunks { missing, .. } if !missing.is_empty()) {
            entry.queued = true;
            self.ready[entry.worker].push_back(fetch);
        }
        self.check_sources(fetch);
    }

    /// Fails a fetch that lacks bytes which nobody connected can give, or only where that costs too much.
    fn check_sources(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.get(&id) else { return };
        let mut sources = self.links.values().filter(|link| fetch.can_help(&link.device)).peekable();
        let costs = sources.peek().is_some();
        if !fetch.lacks() || sources.any(|link| self.metered.may_fetch(link.whose, fetch.content.size)) {
            return;
        }
        let problem = if costs { metered() } else { fetch.no_source() };
        self.fail(id, problem);
    }

    fn fail(&mut self, id: FetchId, problem: Problem) {
        let Some(fetch) = self.forget(id) else { return };
        for path in fetch.paths {
            let (content, problem) = (fetch.content.hash, problem.clone());
            (fetch.folder.notify)(Notice::FetchFailed { path, content, problem });
        }
    }

    fn completed(&mut self, id: FetchId, completion: Completion) {
        match completion {
            Completion::Verified(manifest) => {
                let Some(fetch) = self.forget(id) else { return };
                for path in fetch.paths {
                    let (content, manifest) = (fetch.content.hash, manifest.clone());
                    (fetch.folder.notify)(Notice::Fetched { path, content, manifest });
                }
            }
            Completion::Failed(problem) => self.fail(id, problem),
            Completion::Spoiled => self.spoiled(id),
        }
    }

    /// Another source may have the true list.
    fn spoiled(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        if let Some(liar) = fetch.list_from.take() {
            fetch.mute(liar);
            return self.reopen(id);
        }
        let words = "its announced chunks do not make up its announced content".to_owned();
        self.fail(id, Problem { code: ProblemCode::Io, words });
    }

    fn reopen(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        fetch.state = State::Searching;
        let Some(path) = fetch.paths.first().cloned() else { return };
        let (folder, content) = (Arc::clone(&fetch.folder), Arc::clone(&fetch.content));
        let worker = fetch.worker;
        self.give(worker, Job::Open(Spec { fetch: id, folder, path, content }));
    }

    fn listed(&mut self, id: FetchId, session: SessionId, list: Result<Arc<Manifest>, ListFailure>) {
        let device = self.links.get_mut(&session).map(|link| {
            link.lists -= 1;
            link.device
        });
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        let State::Listless { asked } = &mut fetch.state else { return };
        *asked = false;
        match list {
            Ok(manifest) => {
                fetch.list_from = fetch.asked;
                fetch.state = State::Searching;
                let worker = fetch.worker;
                return self.give(worker, Job::List(id, manifest));
            }
            Err(failure) => {
                if let Some(device) = device.or(fetch.asked) {
                    match failure {
                        ListFailure::Unanswered => fetch.strike(device),
                        ListFailure::Gone => fetch.gone(device),
                        ListFailure::Lie => fetch.mute(device),
                    }
                }
            }
        }
        self.listless.push_back(id);
        self.check_sources(id);
    }

    fn ended(&mut self, plan: &Plan, received: &Received, ending: Ending) {
        self.requests.remove(&plan.request);
        if let Some(link) = self.links.get_mut(&plan.session) {
            link.bytes -= plan.bytes;
            link.requests -= 1;
        }
        if ending == Ending::Broken
            && let Some(link) = self.links.remove(&plan.session)
        {
            link.session.close(CloseCode::PROTOCOL);
        }
        for (item, got) in plan.items.iter().zip(&received.items) {
            let Some(fetch) = self.fetches.get_mut(&item.fetch) else { continue };
            fetch.alone.remove(&plan.request);
            fetch.open.remove(&plan.request);
            fetch.put_back(item.run.first + got.next, item.run.count - got.next);
            for chunk in &got.wrong {
                fetch.put_back(*chunk, 1);
                fetch.lied(plan.peer);
            }
            let short = got.next < item.run.count;
            match (got.ended, ending) {
                (Some(_), _) | (None, Ending::Refused) => fetch.gone(plan.peer),
                (None, Ending::Broken) => fetch.mute(plan.peer),
                (None, Ending::Complete) if short => fetch.strike(plan.peer),
                _ => {}
            }
            self.make_ready(item.fetch);
        }
    }

    /// Gives what a silent peer was asked for to others, if there are any.
    fn stalled(&mut self, request: u64) {
        let Some(stop) = self.requests.get(&request) else { return };
        let mut helped = false;
        for fetch in self.fetches.values_mut() {
            let Some(silent) = fetch.open.get(&request).copied() else { continue };
            let mut links = self.links.values().filter(|link| link.device != silent && fetch.can_help(&link.device));
            let others = links.any(|link| self.metered.may_fetch(link.whose, fetch.content.size));
            if others {
                fetch.slow(silent);
                helped = true;
            }
        }
        if helped {
            stop.cancel();
        }
    }
}
