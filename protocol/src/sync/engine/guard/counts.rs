//! What the guard counts: a window over the last minutes, and the contents that came, so that a move is no deletion.
//! Bounded: what is forgotten early makes the guard hold more, never less.

use crate::model::{ContentHash, RelPath, Timestamp};
use crate::sync::engine::deletions::GUARD_WINDOW;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Contents remembered that came lately.
const ARRIVED_MAX: usize = 100_000;

/// How many lately, each with its time.
#[derive(Debug, Default)]
pub(super) struct Lately(VecDeque<(Timestamp, u64)>);

impl Lately {
    pub(super) fn add(&mut self, now: Timestamp, count: u64) {
        match self.0.back_mut() {
            Some((at, total)) if *at == now => *total += count,
            _ => self.0.push_back((now, count)),
        }
    }

    pub(super) fn sum(&mut self, now: Timestamp) -> u64 {
        while self.0.front().is_some_and(|(at, _)| now.since(*at) > GUARD_WINDOW) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// Which paths lately: one that is written over and over is one.
#[derive(Debug, Default)]
pub(super) struct PathsLately {
    paths: BTreeSet<RelPath>,
    order: VecDeque<(Timestamp, RelPath)>,
}

impl PathsLately {
    pub(super) fn add(&mut self, now: Timestamp, path: &RelPath) {
        while self.order.front().is_some_and(|(at, _)| now.since(*at) > GUARD_WINDOW) {
            if let Some((_, path)) = self.order.pop_front() {
                self.paths.remove(&path);
            }
        }
        if self.paths.insert(path.clone()) {
            self.order.push_back((now, path.clone()));
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.paths.len() as u64
    }
}

/// Contents that came lately. Each pays for one deletion of the same content: together they are a move.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    unused: BTreeMap<ContentHash, u64>,
    order: VecDeque<(Timestamp, ContentHash)>,
}

impl Arrived {
    pub(super) fn add(&mut self, now: Timestamp, content: ContentHash) {
        let is_old = |(at, _): &(Timestamp, ContentHash)| now.since(*at) > GUARD_WINDOW;
        while self.order.len() >= ARRIVED_MAX || self.order.front().is_some_and(is_old) {
            if let Some((_, content)) = self.order.pop_front() {
                self.take(&content);
            }
        }
        *self.unused.entry(content).or_default() += 1;
        self.order.push_back((now, content));
    }

    /// Uses one; false when there is none.
    pub(super) fn take(&mut self, content: &ContentHash) -> bool {
        take_one(&mut self.unused, content)
    }
}

/// Takes one of these; false when there is none.
pub(super) fn take_one(counts: &mut BTreeMap<ContentHash, u64>, content: &ContentHash) -> bool {
    let Some(count) = counts.get_mut(content) else {
        return false;
    };
    *count -= 1;
    if *count == 0 {
        counts.remove(content);
    }
    true
}
