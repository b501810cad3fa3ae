//! What the guard counts: a window over the last minutes, and the contents that came, so that a move is no deletion.
//! Bounded: what is forgotten early makes the guard hold more, never less.

use crate::model::{ContentHash, RelPath, Timestamp};
use crate::sync::engine::deletions::GUARD_WINDOW;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Contents remembered that came lately.
const ARRIVED_MAX: usize = 100_000;

/// How many lately, each with its time.
#[derive(Debug, Default)]
pub(in crate::sync::engine) struct Lately(VecDeque<(Timestamp, u64)>);

impl Lately {
    pub(in crate::sync::engine) fn add(&mut self, now: Timestamp, count: u64) {
        match self.0.back_mut() {
            Some((at, total)) if *at == now => *total += count,
            _ => self.0.push_back((now, count)),
        }
    }

    pub(in crate::sync::engine) fn sum(&mut self, now: Timestamp) -> u64 {
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

/// Contents that came lately, and where. Each pays for one deletion of the same content elsewhere: together they are a
/// move.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    places: BTreeMap<ContentHash, BTreeSet<RelPath>>,
    order: VecDeque<(Timestamp, ContentHash, RelPath)>,
}

impl Arrived {
    pub(super) fn add(&mut self, now: Timestamp, content: ContentHash, path: &RelPath) {
        let is_old = |(at, ..): &(Timestamp, ContentHash, RelPath)| now.since(*at) > GUARD_WINDOW;
        while self.order.len() >= ARRIVED_MAX || self.order.front().is_some_and(is_old) {
            if let Some((_, content, path)) = self.order.pop_front() {
                self.left(&content, &path);
            }
        }
        self.places.entry(content).or_default().insert(path.clone());
        self.order.push_back((now, content, path.clone()));
    }

    /// The content no longer stands there.
    pub(super) fn left(&mut self, content: &ContentHash, path: &RelPath) {
        if let Some(places) = self.places.get_mut(content) {
            places.remove(path);
            if places.is_empty() {
                self.places.remove(content);
            }
        }
    }

    /// Whether it came elsewhere, which pays for one deletion.
    pub(super) fn pays(&mut self, content: &ContentHash) -> bool {
        let place = self.places.get(content).and_then(|places| places.first()).cloned();
        place.inspect(|place| self.left(content, place)).is_some()
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
