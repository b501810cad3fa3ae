//! Gathers hints of change until they are worth a look. A pure value: time is an argument, and memory is bounded.
//! A path is due when it has been quiet for 20 ms; one that keeps changing waits longer and longer, alone.
//! Invariant: a change that was put in comes out, itself or within a subtree, at most 30 s later.

use protocol::model::{RelPath, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// A save is several events within a few milliseconds; people do not notice this wait.
const QUIET: Duration = Duration::from_millis(20);
/// What never gets quiet is due this long after its first event.
const FORCED: Duration = Duration::from_secs(1);
/// Two emissions of a path closer than this count as "keeps changing".
const BUSY_GAP: Duration = Duration::from_millis(500);
/// The longest that one path waits.
const ENTRY_WAIT_MAX: Duration = Duration::from_secs(30);
/// The longest that a subtree waits: it makes quiet paths in it wait, too.
const SUBTREE_WAIT_MAX: Duration = Duration::from_secs(4);
/// A path that keeps changing is due early after this part of its wait without an event.
const QUIET_PART: u32 = 8;

/// Changed names in one directory that are looked at one by one.
pub const DIRECTORY_PATHS_MAX: usize = 10_000;
/// Changed names in all that are looked at one by one.
pub const PATHS_MAX: usize = 100_000;
/// Emitted paths whose back-off is remembered.
const RECENT_MAX: usize = 16_384;

/// What must be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Single entries.
    pub paths: Vec<RelPath>,
    /// Entries and, where they are directories, everything below.
    pub subtrees: Vec<RelPath>,
    /// Events were lost: the whole folder.
    pub overflow: bool,
}

impl Dirty {
    /// Nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.subtrees.is_empty() && !self.overflow
    }
}

/// How far a hint reaches. Later variants include earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The entry.
    Entry,
    /// The entry, which may be a directory that was moved here with all its content.
    Moved,
    /// A directory that was made, or that changed in too many places: stands for all below.
    Subtree,
}

impl Reach {
    const fn wait_max(self) -> Duration {
        match self {
            Self::Entry | Self::Moved => ENTRY_WAIT_MAX,
            Self::Subtree => SUBTREE_WAIT_MAX,
        }
    }
}

/// `None` is the whole folder.
type Place = Option<RelPath>;

#[derive(Clone, Copy, Debug)]
struct Pending {
    first: Timestamp,
    last: Timestamp,
    wait: Duration,
    reach: Reach,
}

impl Pending {
    fn due(&self) -> Timestamp {
        let quiet = self.last.after(QUIET.max(self.wait / QUIET_PART));
        quiet.min(self.first.after(FORCED.max(self.wait)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Recent {
    emitted: Timestamp,
    wait: Duration,
}

impl Recent {
    /// The back-off that is left after a quiet time: it halves for every two waits.
    fn wait_left(&self, now: Timestamp) -> Duration {
        let mut gap = now.since(self.emitted);
        let mut wait = self.wait;
        while wait > QUIET && gap > BUSY_GAP.max(wait * 2) {
            gap = gap.saturating_sub(wait * 2);
            wait = (wait / 2).max(QUIET);
        }
        wait
    }
}

/// Hints waiting to be looked at.
#[derive(Debug, Default)]
pub struct Coalescer {
    pending: BTreeMap<Place, Pending>,
    /// Places by the time at which they may be due; an early time is put back when it comes up.
    queue: BinaryHeap<Reverse<(Timestamp, Place)>>,
    /// Pending single entries by directory.
    counts: BTreeMap<Place, usize>,
    recent: BTreeMap<Place, Recent>,
    /// How many of `pending` stand for all below them.
    subtrees: usize,
}

impl Coalescer {
    /// Something changed at `path`.
    pub fn touch(&mut self, now: Timestamp, path: RelPath, reach: Reach) {
        if let Some(above) = self.subtree_above(&path) {
            self.add(now, above, Reach::Subtree);
            return;
        }
        let parent = path.parent();
        if self.counts.get(&parent).is_some_and(|count| *count >= DIRECTORY_PATHS_MAX) {
            self.add(now, parent, Reach::Subtree);
        } else if self.pending.len() >= PATHS_MAX {
            self.add(now, None, Reach::Subtree);
        } else {
            self.add(now, Some(path), reach);
        }
    }

    /// Events were lost.
    pub fn overflow(&mut self, now: Timestamp) {
        self.add(now, None, Reach::Subtree);
    }

    /// When `poll` may have something; `None` when nothing waits.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out what is due.
    pub fn poll(&mut self, now: Timestamp) -> Dirty {
        let mut dirty = Dirty::default();
        while self.wake_at().is_some_and(|at| at <= now) {
            let Some(Reverse((_, place))) = self.queue.pop() else { break };
            match self.pending.get(&place).map(Pending::due) {
                Some(due) if due > now => self.queue.push(Reverse((due, place))),
                Some(_) => self.emit(now, place, &mut dirty),
                None => {}
            }
        }
        self.forget_decayed(now);
        dirty
    }

    /// Takes out everything, due or not.
    pub fn flush(&mut self, now: Timestamp) -> Dirty {
        let mut dirty = Dirty::default();
        self.queue.clear();
        while let Some(place) = self.pending.keys().next().cloned() {
            self.emit(now, place, &mut dirty);
        }
        dirty
    }

    /// The pending subtree that stands for `path`, if any.
    fn subtree_above(&self, path: &RelPath) -> Option<Place> {
        if self.subtrees == 0 {
            return None;
        }
        let is_subtree = |place: &Place| self.pending.get(place).is_some_and(|pending| pending.reach == Reach::Subtree);
        let mut above = Some(path.parent());
        while let Some(place) = above {
            if is_subtree(&place) {
                return Some(place);
            }
            above = place.map(|path| path.parent());
        }
        None
    }

    fn add(&mut self, now: Timestamp, place: Place, reach: Reach) {
        let before = self.pending.get(&place).map(|pending| pending.reach);
        if let Some(pending) = self.pending.get_mut(&place) {
            pending.last = now;
            pending.reach = pending.reach.max(reach);
        } else {
            let wait = self.recent.get(&place).map_or(QUIET, |recent| recent.wait_left(now));
            let pending = Pending { first: now, last: now, wait: wait.min(reach.wait_max()), reach };
            self.queue.push(Reverse((pending.due(), place.clone())));
            self.pending.insert(place.clone(), pending);
            if let Some(path) = &place {
                *self.counts.entry(path.parent()).or_default() += 1;
            }
        }
        if reach == Reach::Subtree && before != Some(Reach::Subtree) {
            self.subtrees += 1;
            self.absorb(&place);
        }
    }

    /// Drops what a subtree now stands for.
    fn absorb(&mut self, subtree: &Place) {
        let below: Vec<Place> = match subtree {
            None => self.pending.keys().filter(|place| place.is_some()).cloned().collect(),
            Some(top) => {
                let after = (std::ops::Bound::Excluded(subtree.clone()), std::ops::Bound::Unbounded);
                let is_below = |place: &Place| place.as_ref().is_some_and(|path| path.is_below(top));
                self.pending.range(after).map(|(place, _)| place).take_while(|place| is_below(place)).cloned().collect()
            }
        };
        for place in below {
            self.take(&place);
        }
        if self.queue.len() > 2 * self.pending.len() + RECENT_MAX {
            self.queue = self.pending.iter().map(|(place, at)| Reverse((at.due(), place.clone()))).collect();
        }
    }

    fn take(&mut self, place: &Place) -> Option<Pending> {
        let pending = self.pending.remove(place)?;
        if pending.reach == Reach::Subtree {
            self.subtrees -= 1;
        }
        if let Some(path) = place {
            let parent = path.parent();
            let left = self.counts.get(&parent).map_or(0, |count| count - 1);
            if left == 0 {
                self.counts.remove(&parent);
            } else {
                self.counts.insert(parent, left);
            }
        }
        Some(pending)
    }

    fn emit(&mut self, now: Timestamp, place: Place, dirty: &mut Dirty) {
        let Some(pending) = self.take(&place) else { return };
        self.remember(now, &place, &pending);
        match (place, pending.reach) {
            (None, _) => dirty.overflow = true,
            (Some(path), Reach::Entry) => dirty.paths.push(path),
            (Some(path), Reach::Moved | Reach::Subtree) => dirty.subtrees.push(path),
        }
    }

    /// The next wait of the place: twice as long when it never got quiet or was emitted just before.
    fn remember(&mut self, now: Timestamp, place: &Place, pending: &Pending) {
        let forced = now >= pending.first.after(FORCED.max(pending.wait));
        let close = |recent: &Recent| now.since(recent.emitted) <= BUSY_GAP.max(pending.wait * 2);
        let wait = if forced {
            pending.wait.max(FORCED) * 2
        } else if self.recent.get(place).is_some_and(close) {
            pending.wait * 2
        } else {
            pending.wait
        };
        let recent = Recent { emitted: now, wait: wait.min(pending.reach.wait_max()) };
        if self.recent.len() < RECENT_MAX || self.recent.contains_key(place) {
            self.recent.insert(place.clone(), recent);
        }
    }

    /// Forgets back-offs that are over.
    fn forget_decayed(&mut self, now: Timestamp) {
        if self.recent.len() < RECENT_MAX / 2 {
            return;
        }
        let is_over = |recent: &Recent| now.since(recent.emitted) > BUSY_GAP && recent.wait_left(now) <= QUIET;
        self.recent.retain(|_, recent| !is_over(recent));
    }
}
