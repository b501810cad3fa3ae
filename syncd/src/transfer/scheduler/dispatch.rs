//! Who is asked for what next. Requests are packed: many small files in one, or a long run of one large file, and each
//! link has several under way. Under a limit, what is asked for fits into the rate, so that what comes does too and nothing
//! open has to wait. A link that a limit holds up holds up no other. Invariant: on no link is more asked for than `REQUEST_BYTES_OPEN_MAX`.

use super::{FetchId, Link, Plan, PlanItem, Scheduler};
use crate::disk::fs::Fs;
use crate::net::SessionId;
use crate::transfer::exchange::{self, Exchange};
use crate::transfer::fetch::{Fetch, State};
use crate::transfer::layout::Portion;
use protocol::limits::{FILES_PER_REQUEST_MAX, REQUEST_BYTES_MAX, REQUEST_BYTES_OPEN_MAX, REQUESTS_OPEN_MAX};
use protocol::model::{DeviceId, FolderId};
use protocol::wire::message::{ChunkGet, ChunkItem};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes at which a request of several files is sent.
const BATCH_LEN: u64 = 1024 * 1024;
/// Fewer bytes and items than this wait while other requests of the link are under way, for more to come.
const BATCH_LEN_MIN: u64 = 256 * 1024;
const BATCH_ITEMS_MIN: usize = 64;
/// Requests under way that let a small one wait.
const BUSY_REQUESTS: usize = 2;
/// Bytes of paths in one request: what its message must hold beside the numbers.
const PATHS_LEN_MAX: usize = 256 * 1024;
/// Requests open on one link; the rest of `REQUESTS_OPEN_MAX` is left for chunk lists.
const CHUNK_REQUESTS_MAX: usize = REQUESTS_OPEN_MAX - LIST_REQUESTS_MAX;
/// Few: each may be answered by a megabyte.
const LIST_REQUESTS_MAX: usize = 8;

impl Link {
    /// Bytes that may still be asked for.
    fn room(&self) -> u64 {
        if self.requests < CHUNK_REQUESTS_MAX { REQUEST_BYTES_OPEN_MAX - self.bytes } else { 0 }
    }
}

impl<F: Fs> Scheduler<F> {
    /// A link whose bytes cost somebody more than those of others.
    fn is_dear(&self, link: &Link) -> bool {
        link.relayed || self.metered.costs(link.whose)
    }

    /// Makes all requests that fit: idle links first, dear ones last.
    pub(super) fn dispatch(&mut self) {
        self.ask_for_lists();
        self.due = None;
        loop {
            let now = Instant::now();
            let free = |link: &&Link| self.paces.due(now, link.whose).is_none();
            let links = self.links.values().filter(free);
            let mut order: Vec<_> = links.map(|link| (self.is_dear(link), link.bytes, link.session.id())).collect();
            order.sort_unstable();
            let made = order
                .into_iter()
                .any(|(_, _, session)| (0..self.workers.len()).any(|worker| self.request(session, worker)));
            if !made {
                let waits = self.ready.iter().any(|queue| !queue.is_empty());
                let due = self.links.values().filter_map(|link| self.paces.due(now, link.whose)).min();
                self.due = due.filter(|_| waits);
                return;
            }
        }
    }

    fn ask_for_lists(&mut self) {
        for _ in 0..self.listless.len() {
            let Some(id) = self.listless.pop_front() else { return };
            let Some(fetch) = self.fetches.get_mut(&id) else { continue };
            let State::Listless { asked: asked @ false } = &mut fetch.state else { continue };
            let free = |link: &&mut Link| link.lists < LIST_REQUESTS_MAX;
            let may = |link: &&mut Link| self.metered.may_fetch(link.whose, fetch.content.size);
            let link = self.links.values_mut().filter(free).filter(may);
            let link = link.filter(|link| fetch.sources.may_ask(&link.device));
            match link.min_by_key(|link| (link.relayed, link.lists)) {
                Some(link) => {
                    *asked = true;
                    link.lists += 1;
                    fetch.asked = Some(link.device);
                    let (folder, path) = (fetch.folder.id, fetch.origin.clone());
                    let content = Arc::clone(&fetch.content);
                    exchange::ask_for_list(link.session.clone(), self.tell.clone(), id, folder, path, content);
                }
                None => self.listless.push_back(id),
            }
        }
        let listless: Vec<FetchId> = self.listless.iter().copied().collect();
        for id in listless {
            self.check_sources(id);
        }
    }

    /// One request to one link out of one worker's fetches; false when there is nothing to ask or no room.
    fn request(&mut self, session: SessionId, worker: usize) -> bool {
        let Some((items, folder)) = self.pack(session, worker) else { return false };
        let request = self.take_id();
        let link = self.links.get_mut(&session).expect("dispatch names links that exist");
        let bytes = items.iter().map(|(item, _)| u64::from(item.run.len)).sum();
        self.paces.spend(Instant::now(), link.whose, bytes);
        link.bytes += bytes;
        link.requests += 1;
        let stop = CancellationToken::new();
        self.requests.insert(request, stop.clone());
        let alone = items.len() == 1;
        let mut get = ChunkGet { folder, items: Vec::with_capacity(items.len()) };
        let mut plan = Plan { request, session, peer: link.device, items: Vec::with_capacity(items.len()), bytes };
        for (item, words) in items {
            let fetch = self.fetches.get_mut(&item.fetch).expect("a packed fetch exists");
            fetch.open.insert(request, link.device);
            if alone {
                fetch.alone.insert(request);
            }
            plan.items.push(item);
            get.items.push(words);
        }
        let exchange = Exchange {
            session: link.session.clone(),
            plan: Arc::new(plan),
            worker: self.workers[worker].clone(),
            budget: Arc::clone(&self.budget),
            tell: self.tell.clone(),
            stop,
        };
        tokio::spawn(exchange.run(get));
        true
    }

    /// Takes missing chunks off the queue for one request, within what the link and a message hold.
    fn pack(&mut self, session: SessionId, worker: usize) -> Option<(Vec<(PlanItem, ChunkItem)>, FolderId)> {
        let link = self.links.get(&session)?;
        // One that is held back is better than none, not better than another.
        let all: Vec<&Link> = self.links.values().filter(|link| !self.paces.is_held(link.whose)).collect();
        let connected = |may: &dyn Fn(&Link) -> bool| -> Vec<(DeviceId, bool)> {
            all.iter().filter(|link| may(link)).map(|link| (link.device, self.is_dear(link))).collect()
        };
        let for_small = connected(&|_| true);
        let for_large = connected(&|link| !self.metered.costs(link.whose));
        let dear = self.is_dear(link);
        let portion = self.paces.portion(link.whose);
        let room = link.room();
        if room == 0 {
            return None;
        }
        let (mut items, mut left) = (Vec::new(), VecDeque::new());
        let (mut bytes, mut paths_len) = (0, 0);
        let mut folder = None;
        while let Some(id) = self.ready[worker].pop_front() {
            let Some(fetch) = self.fetches.get_mut(&id) else { continue };
            let connected = if fetch.content.size <= self.metered.max { &for_small } else { &for_large };
            let suits = folder.is_none_or(|folder| folder == fetch.folder.id)
                && self.metered.may_fetch(link.whose, fetch.content.size)
                && fetch.should_ask(&link.device, dear, connected)
                && paths_len + fetch.origin.as_bytes().len() <= PATHS_LEN_MAX;
            let largest =
                if fetch.missing_len() > BATCH_LEN && items.is_empty() { REQUEST_BYTES_MAX } else { BATCH_LEN };
            let all = (room - bytes).min(largest.min(portion).saturating_sub(bytes));
            // Not one chunk may fit into a portion; then it is asked for alone.
            let first = if items.is_empty() { room.min(largest) } else { all };
            let run = if suits { fetch.take(link.device, Portion { first, all }) } else { None };
            if let Some(run) = run {
                folder = Some(fetch.folder.id);
                bytes += u64::from(run.len);
                paths_len += fetch.origin.as_bytes().len();
                items.push((PlanItem { fetch: id, run }, fetch.item(run)));
            }
            fetch.queued = fetch.has_missing();
            if fetch.queued {
                left.push_back(id);
            }
            if bytes >= BATCH_LEN - BATCH_LEN_MIN || items.len() == FILES_PER_REQUEST_MAX || (suits && run.is_none()) {
                break;
            }
        }
        left.into_iter().rev().for_each(|id| self.ready[worker].push_front(id));
        let small = bytes < BATCH_LEN_MIN && items.len() < BATCH_ITEMS_MIN;
        if items.is_empty() {
            return None;
        }
        if small && link.requests >= BUSY_REQUESTS && self.is_more_to_come(worker) {
            let device = link.device;
            self.put_back(worker, device, items);
            return None;
        }
        folder.map(|folder| (items, folder))
    }

    /// Whether there will be more to ask for: chunks for which there was no room, or contents that are looked for still.
    fn is_more_to_come(&self, worker: usize) -> bool {
        let is_looked_for = |fetch: &Fetch<F>| matches!(fetch.state, State::Searching | State::Listless { .. });
        !self.ready[worker].is_empty() || self.fetches.values().any(is_looked_for)
    }

    fn put_back(&mut self, worker: usize, device: DeviceId, items: Vec<(PlanItem, ChunkItem)>) {
        for (item, _) in items.into_iter().rev() {
            let Some(fetch) = self.fetches.get_mut(&item.fetch) else { continue };
            fetch.untake(device, item.run);
            if !fetch.queued {
                fetch.queued = true;
                self.ready[worker].push_front(item.fetch);
            }
        }
    }
}
