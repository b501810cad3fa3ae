//! Version vectors over replicas. An event `(ReplicaId, counter)` names one change in the whole fleet.

use super::ReplicaId;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// One change made by one replica. Counters start at 1 and are shared by all paths of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// Who made it.
    pub replica: ReplicaId,
    /// Its number at that replica.
    pub counter: u64,
}

impl Event {
    /// No event of anyone: a placeholder for entries that are compared and never recorded.
    pub const NONE: Self = Self { replica: ReplicaId([0; 8]), counter: 0 };
}

/// A set of events closed downwards: for every replica the highest counter seen. Absent means 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(BTreeMap<ReplicaId, u64>);

impl Version {
    /// The version that holds exactly the events up to `event` of its replica.
    #[must_use]
    pub fn of(event: Event) -> Self {
        Self(BTreeMap::from([(event.replica, event.counter)]))
    }

    /// The counter of `replica`, 0 when it never wrote.
    #[must_use]
    pub fn get(&self, replica: ReplicaId) -> u64 {
        self.0.get(&replica).copied().unwrap_or(0)
    }

    /// This version with `event` added.
    #[must_use]
    pub fn bumped(&self, event: Event) -> Self {
        let mut next = self.clone();
        let slot = next.0.entry(event.replica).or_insert(0);
        *slot = (*slot).max(event.counter);
        next
    }

    /// The least version that holds both.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        for (replica, counter) in &other.0 {
            let slot = joined.0.entry(*replica).or_insert(0);
            *slot = (*slot).max(*counter);
        }
        joined
    }

    /// Whether every event of this version is in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|(replica, counter)| other.get(*replica) >= *counter)
    }

    /// Causal order; `None` when each has an event that the other lacks.
    #[must_use]
    pub fn causal_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.is_within(other), other.is_within(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => None,
        }
    }

    /// Number of replicas named.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for the version of nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replicas and their counters, in order.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.0.iter().map(|(replica, counter)| Event { replica: *replica, counter: *counter })
    }
}

impl FromIterator<Event> for Version {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        events.into_iter().fold(Self::default(), |version, event| version.bumped(event))
    }
}
