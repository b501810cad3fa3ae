//! Whether this database is the one that peers know: a home that was put back from a backup, or copied, would use its
//! counters a second time, and one event would name two changes. Peers remember in which run of ours, and up to which
//! sequence number, they read our index; what is not in our own history shows that it is an older one. From then on
//! the engine does nothing until the shell has started it again under a new replica.

use super::{Alarm, Effect, Engine, View};
use crate::model::{DeviceId, ReplicaId, Row, RunId, Sequence, Version};
use crate::sync::local::{Change, Rows};
use crate::sync::reconcile::is_fork;

/// Rows read at a time.
const PAGE: usize = 512;

/// What a peer says of its run, and of ours as it remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunWords {
    /// The sender's replica.
    pub replica: ReplicaId,
    /// Its run.
    pub run: RunId,
    /// The receiver's replica, as the sender knows it.
    pub your_replica: ReplicaId,
    /// The run of the receiver that the sender last read in, and how far.
    pub yours: Option<(RunId, Sequence)>,
}

impl Engine {
    /// The run becomes durable before any peer hears of it.
    pub(super) fn run_begins(&self) -> Option<Effect> {
        self.config.run.map(|run| Effect::Commit(vec![Change::Run(run)]))
    }

    pub(super) fn tell_run(&self, peer: DeviceId, its_replica: ReplicaId, view: View<'_>) -> Option<Effect> {
        let run = self.config.run?;
        let yours = view.rows.remembered(&peer, its_replica);
        let words = RunWords { replica: self.replica, run, your_replica: its_replica, yours };
        Some(Effect::Run { peer, words })
    }

    pub(super) fn run_told(&mut self, id: DeviceId, words: RunWords, view: View<'_>) -> Vec<Effect> {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.replica == words.replica) else {
            return Vec::new();
        };
        peer.run = Some(words.run);
        let Some((run, sequence)) = words.yours.filter(|_| words.your_replica == self.replica) else {
            return Vec::new();
        };
        let history = view.rows.history();
        if self.config.run.is_some() && !history.holds(run, sequence, view.rows.state().head) {
            return self.went_back(id);
        }
        if history.confirmed < self.counter {
            return vec![Effect::Commit(vec![Change::Confirmed(self.counter)])];
        }
        Vec::new()
    }

    /// A peer has a number of this index that was never given here.
    pub(super) fn is_unknown_here(&self, replica: ReplicaId, sequence: Sequence, view: View<'_>) -> bool {
        self.config.run.is_some() && replica == self.replica && sequence > view.rows.state().head
    }

    /// A row names an event of this replica that was never made here, or another change by the same event: what is
    /// recorded of a path keeps every event of ours there.
    pub(super) fn is_made_elsewhere(&self, row: &Row, view: View<'_>) -> bool {
        let made = |version: &Version| version.get(self.replica);
        let theirs = made(&row.entry.version);
        if theirs == 0 || self.config.run.is_none() {
            return false;
        }
        let ours = view.rows.get(&row.path);
        let unconfirmed = theirs > view.rows.history().confirmed;
        if unconfirmed && ours.entry().is_some_and(|have| is_fork(have, &row.entry)) {
            return true;
        }
        let known = ours.entry().into_iter().chain(ours.wants.iter().map(|want| &want.entry));
        theirs > known.map(|entry| made(&entry.version)).max().unwrap_or(0)
    }

    pub(super) fn went_back(&mut self, peer: DeviceId) -> Vec<Effect> {
        self.stale = Some(peer);
        vec![Effect::Alarm(Alarm::Stale { peer, replica: self.replica })]
    }

    /// Remembers with a cursor in which run of the peer it was reached.
    pub(super) fn remembers(&self, id: DeviceId, replica: ReplicaId, sequence: Sequence) -> Option<Change> {
        let run = self.peers.get(&id)?.run?;
        Some(Change::Remember { peer: id, replica, run, sequence })
    }
}

/// A database that went back goes on under `replica`. Events that may have been made twice are forgotten, as if the
/// index of these paths was lost: a scan finds them again. The last of the lists ends it; each is one transaction.
#[must_use]
pub fn renewal(rows: &dyn Rows, replica: ReplicaId) -> Vec<Vec<Change>> {
    let (before, confirmed) = (rows.state().replica, rows.history().confirmed);
    let mut lists = Vec::new();
    let mut after = Sequence(0);
    loop {
        let page = rows.since(after, PAGE);
        let Some((last, _)) = page.last() else { break };
        after = *last;
        let doubtful = page.into_iter().filter(|(_, row)| row.entry.version.get(before) > confirmed);
        let lost: Vec<Change> = doubtful.map(|(_, row)| Change::Lost { path: row.path }).collect();
        if !lost.is_empty() {
            lists.push(lost);
        }
    }
    lists.push(vec![Change::Renewed(replica)]);
    lists
}
