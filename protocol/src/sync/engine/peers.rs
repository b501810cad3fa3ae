//! What the engine knows of each connected peer: two cursors, what it declined, its last digest.

use super::around::all_wanted;
use super::compare::{Compared, compared, is_ignored};
use super::{Declined, Effect, Engine, View};
use crate::limits::{DECLINED_MAX, INDEX_BYTES_MAX, INDEX_CREDIT_MAX, INDEX_ROWS_MAX};
use crate::model::{Content, DeviceId, Digest, RelPath, ReplicaId, Row, RunId, Sequence, Version};
use crate::sync::local::{Change, LocalRow, Rows, Want};
use std::collections::{BTreeMap, VecDeque};

/// Part of an index: every row of `from+1..=to` that has not moved on since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexBatch {
    /// The sender's replica.
    pub replica: ReplicaId,
    /// After this one.
    pub from: Sequence,
    /// Up to this one.
    pub to: Sequence,
    /// The sender's last one when it sent this.
    pub head: Sequence,
    /// By sequence, ascending.
    pub rows: Vec<Row>,
}

/// A statement about a whole folder; compared only when both numbers are current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestWords {
    /// The sender's replica.
    pub replica: ReplicaId,
    /// Its last sequence number.
    pub head: Sequence,
    /// The receiver's replica, as the sender knows it.
    pub your_replica: ReplicaId,
    /// The receiver's sequence number that the sender has recorded.
    pub your_applied: Sequence,
    /// Over live rows; declined ones count as held, those that both ignore do not count.
    pub digest: Digest,
    /// Nothing is under way at the sender.
    pub idle: bool,
}

/// A peer's state for status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Digests of both are equal and current, and it is idle.
    pub in_sync: bool,
    /// Its index is read to the end.
    pub caught_up: bool,
    /// Our rows that it has not recorded yet, at most.
    pub behind: u64,
    /// What it does not apply.
    pub declined: BTreeMap<RelPath, Declined>,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) replica: ReplicaId,
    /// Its head, as it last said.
    pub(super) head: Option<Sequence>,
    /// Digest mismatches since the last match.
    pub(super) mismatches: u32,
    pub(super) digest: Option<DigestWords>,
    pub(super) declined: BTreeMap<RelPath, Declined>,
    /// Its run, once it said so.
    pub(super) run: Option<RunId>,
    /// Its changes count.
    pub(super) writes: bool,
    serve: Option<Serve>,
    digest_sent: Option<DigestWords>,
}

/// How far it has read ours.
#[derive(Debug)]
struct Serve {
    sent: Sequence,
    acknowledged: Sequence,
    credit: u8,
    unacknowledged: VecDeque<Sequence>,
    /// At least one batch went out, so it knows our head.
    greeted: bool,
}

impl Peer {
    pub(super) const fn new(replica: ReplicaId, writes: bool) -> Self {
        Self {
            replica,
            head: None,
            mismatches: 0,
            digest: None,
            declined: BTreeMap::new(),
            run: None,
            writes,
            serve: None,
            digest_sent: None,
        }
    }
}

impl Engine {
    pub(super) fn connected(
        &mut self,
        peer: DeviceId,
        replica: ReplicaId,
        writes: bool,
        view: View<'_>,
    ) -> Vec<Effect> {
        self.peers.insert(peer, Peer::new(replica, writes));
        self.pump.source_appeared();
        // It lost its index: what it announced before, nobody may be able to serve. It announces again.
        let is_another = view.rows.cursor(&peer).is_some_and(|cursor| cursor.replica != replica);
        let readmitted = self.readmit(peer, view).filter(|_| !is_another);
        let from = if readmitted.is_some() { Sequence(0) } else { self.cursor(&peer, replica, view.rows) };
        let ask = Effect::IndexGet { peer, replica, from };
        // It has forgotten what this device declined, and a digest is compared with that in mind.
        let declined: Vec<Declined> =
            all_wanted(view.rows).flat_map(|(path, row)| declined(&peer, &path, &row)).take(DECLINED_MAX * 8).collect();
        let declined = if readmitted.is_some() { Vec::new() } else { declined };
        let remind = declined.chunks(DECLINED_MAX).map(|declined| {
            let declined = declined.to_vec();
            Effect::IndexAck { peer, replica, sequence: from, declined }
        });
        let tell = self.tell_run(peer, replica, view).into_iter();
        let ask: Vec<Effect> = readmitted.into_iter().chain(tell).chain(remind).chain([ask]).collect();
        if is_another {
            let forget = Effect::Commit(vec![Change::Forget(peer)]);
            return std::iter::once(forget).chain(ask).collect();
        }
        ask
    }

    /// Where to read on in a peer's index; a new replica starts at 0.
    pub(super) fn cursor(&self, peer: &DeviceId, replica: ReplicaId, rows: &dyn Rows) -> Sequence {
        rows.cursor(peer).filter(|cursor| cursor.replica == replica).map_or(Sequence(0), |cursor| cursor.sequence)
    }

    pub(super) fn index_asked(
        &mut self,
        id: DeviceId,
        replica: ReplicaId,
        from: Sequence,
        credit: u8,
        view: View<'_>,
    ) -> Vec<Effect> {
        if self.is_unknown_here(replica, from, view) {
            return self.went_back(id);
        }
        let known = replica == self.replica && from <= view.rows.state().head;
        let from = if known { from } else { Sequence(0) };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.digest_sent = None;
            peer.serve = Some(Serve {
                sent: from,
                acknowledged: from,
                credit: credit.clamp(1, INDEX_CREDIT_MAX),
                unacknowledged: VecDeque::new(),
                greeted: false,
            });
        }
        Vec::new()
    }

    pub(super) fn index_acknowledged(
        &mut self,
        id: DeviceId,
        replica: ReplicaId,
        sequence: Sequence,
        declined: Vec<Declined>,
    ) {
        let Some(peer) = self.peers.get_mut(&id).filter(|_| replica == self.replica) else {
            return;
        };
        if let Some(serve) = &mut peer.serve {
            serve.acknowledged = serve.acknowledged.max(sequence.min(serve.sent));
            while serve.unacknowledged.front().is_some_and(|to| *to <= sequence) {
                serve.unacknowledged.pop_front();
            }
        }
        for item in declined.into_iter().take(DECLINED_MAX) {
            if item.code.is_none() {
                peer.declined.remove(&item.path);
            } else if peer.declined.len() < DECLINED_MAX * 8 {
                peer.declined.insert(item.path.clone(), item);
            }
        }
    }

    /// Sends what peers have not read yet, what is newly declined, and a digest to those who are current.
    pub(super) fn serve(&mut self, view: View<'_>) -> Vec<Effect> {
        let mut effects = self.decline_news(view);
        let state = view.rows.state();
        let idle = self.is_idle(view.rows);
        let replica = self.replica;
        for (id, peer) in &mut self.peers {
            let Some(serve) = &mut peer.serve else {
                continue;
            };
            while (serve.sent < state.head || !serve.greeted) && serve.unacknowledged.len() < usize::from(serve.credit)
            {
                let batch = next_batch(view.rows, replica, serve.sent, state.head);
                serve.sent = batch.to;
                serve.greeted = true;
                serve.unacknowledged.push_back(batch.to);
                effects.push(Effect::Index { peer: *id, batch });
            }
            let applied = view.rows.cursor(id).filter(|cursor| cursor.replica == peer.replica);
            let current = serve.sent == state.head && serve.acknowledged == state.head && idle;
            let Some(applied) = applied.filter(|_| current) else {
                continue;
            };
            let Compared { digest, is_doubtful, .. } = compared(id, peer, view.rows);
            // What is declined of others is still to come where it takes the place of what this peer announced.
            let agreed = peer.digest.as_ref().is_some_and(|theirs| theirs.digest == digest);
            let words = DigestWords {
                replica,
                head: state.head,
                your_replica: peer.replica,
                your_applied: applied.sequence,
                digest,
                idle: agreed || !is_doubtful,
            };
            if peer.digest_sent.as_ref() != Some(&words) {
                peer.digest_sent = Some(words.clone());
                effects.push(Effect::Digest { peer: *id, words });
            }
        }
        effects
    }

    fn decline_news(&mut self, view: View<'_>) -> Vec<Effect> {
        let news = std::mem::take(&mut self.declined_news);
        let mut effects = Vec::new();
        for declined in news.chunks(DECLINED_MAX) {
            for (id, peer) in &self.peers {
                let sequence = self.cursor(id, peer.replica, view.rows);
                let (peer, replica, declined) = (*id, peer.replica, declined.to_vec());
                effects.push(Effect::IndexAck { peer, replica, sequence, declined });
            }
        }
        effects
    }

    pub(super) fn peer_statuses(&self, rows: &dyn Rows) -> BTreeMap<DeviceId, PeerStatus> {
        let state = rows.state();
        let status = |(id, peer): (&DeviceId, &Peer)| {
            let applied = self.cursor(id, peer.replica, rows);
            let in_sync = peer.digest.as_ref().is_some_and(|words| {
                words.idle
                    && words.head == applied
                    && words.your_applied == state.head
                    && words.digest == compared(id, peer, rows).digest
            });
            let acknowledged = peer.serve.as_ref().map_or(Sequence(0), |serve| serve.acknowledged);
            let status = PeerStatus {
                in_sync,
                caught_up: peer.head.is_some_and(|head| applied >= head),
                behind: state.head.0.saturating_sub(acknowledged.0),
                declined: peer.declined.clone(),
            };
            (*id, status)
        };
        self.peers.iter().map(status).collect()
    }

    /// The whole index of a source of this want is recorded, so what else it did is known too.
    pub(super) fn is_caught_up(&self, want: &Want, rows: &dyn Rows) -> bool {
        want.sources.iter().any(|id| self.is_read(id, rows))
    }

    /// A connected device's whole index is recorded.
    pub(super) fn is_read(&self, id: &DeviceId, rows: &dyn Rows) -> bool {
        let peer = self.peers.get(id);
        peer.is_some_and(|peer| peer.head.is_some_and(|head| self.cursor(id, peer.replica, rows) >= head))
    }

    pub(super) fn declines(&mut self, path: &RelPath, version: &Version, reason: Option<&crate::sync::Decline>) {
        self.declined_news.push(Declined {
            path: path.clone(),
            version: version.clone(),
            code: reason.map(|reason| reason.code),
            words: reason.map_or_else(String::new, |reason| reason.words.clone()),
        });
    }
}

/// What is declined of a peer at a path, in the words that it gets to read; what is ignored here also of others, since
/// it may ignore that too.
fn declined(peer: &DeviceId, path: &RelPath, row: &LocalRow) -> Vec<Declined> {
    let said = |want: &Want| {
        if !want.sources.contains(peer) && !is_ignored(want) {
            return None;
        }
        let reason = want.declined.as_ref()?;
        let (code, words) = (Some(reason.code), reason.words.clone());
        Some(Declined { path: path.clone(), version: want.entry.version.clone(), code, words })
    };
    row.wants.iter().filter_map(said).collect()
}

fn next_batch(rows: &dyn Rows, replica: ReplicaId, from: Sequence, head: Sequence) -> IndexBatch {
    let page = rows.since(from, INDEX_ROWS_MAX);
    let whole = page.len() < INDEX_ROWS_MAX;
    let mut batch = IndexBatch { replica, from, to: from, head, rows: Vec::with_capacity(page.len()) };
    let mut bytes = 0;
    for (sequence, row) in page {
        bytes += row_len_max(&row);
        if bytes > INDEX_BYTES_MAX && !batch.rows.is_empty() {
            return batch;
        }
        batch.to = sequence;
        batch.rows.push(row);
    }
    if whole {
        batch.to = batch.to.max(head);
    }
    batch
}

/// Upper bound of a row's encoded length in bytes: a varint is at most 10, a mtime 15, a chunk 37.
fn row_len_max(row: &Row) -> usize {
    let entry = &row.entry;
    let vectors = entry.version.len() + entry.content_at.len() + entry.mode_at.len();
    let content = match &entry.content {
        Content::File(file) => 48 + file.chunks.len() * 37,
        Content::Symlink(target) => target.len() + 10,
        Content::Tombstone | Content::Directory => 0,
    };
    64 + row.path.as_bytes().len() + vectors * 18 + entry.ancestors.len() * 16 + content
}
