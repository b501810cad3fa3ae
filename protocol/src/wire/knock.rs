//! The knock: the 24 bytes that open every connection. To a stranger they are random; a device that shares the
//! key recognises them, and answers nobody else.

use super::kdf::{Secret32, UnixSeconds, rtag, windows};
use crate::limits::{KNOCK_WINDOW_SECS, REPLAY_ENTRIES_MAX, REPLAY_KEEP_SECS};
use crate::model::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use subtle::ConstantTimeEq;

#[cfg(test)]
mod tests;

/// Length of a knock in bytes.
pub const KNOCK_LEN: usize = 24;

/// What a connection is for; part of the knock and of the handshake's prologue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    /// 0: two paired devices.
    Session,
    /// 1: an invite.
    Pairing,
    /// 2: a relay and its client.
    Relay,
}

impl Context {
    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Session => 0,
            Self::Pairing => 1,
            Self::Relay => 2,
        }
    }
}

/// salt\[8\] ‖ tag\[16\], tag = rtag(knock key, salt, window of 600 s, context byte).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Knock(pub [u8; KNOCK_LEN]);

/// A key that a knock may have been made with, and what for.
pub struct Candidate<'a> {
    /// The knock key of the direction towards us.
    pub key: &'a Secret32,
    /// What it would open.
    pub context: Context,
}

/// Which candidate knocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Index into the candidates.
    pub index: usize,
    /// Windows that the knocker's clock is ahead of ours; 0 and +-1 are ordinary.
    pub skew_windows: i64,
}

impl Knock {
    /// Makes a knock from 8 random bytes.
    #[must_use]
    pub fn make(key: &Secret32, context: Context, salt: [u8; 8], now: UnixSeconds) -> Self {
        let tag: [u8; 16] = rtag(key, &salt, now.window(KNOCK_WINDOW_SECS), &[context.byte()]);
        let mut bytes = [0; KNOCK_LEN];
        bytes[..8].copy_from_slice(&salt);
        bytes[8..].copy_from_slice(&tag);
        Self(bytes)
    }

    /// Finds who knocked, in windows at most `slack` away from ours, nearest first. 64 keys in 3 windows take
    /// some 40 microseconds; a wide search some 2 milliseconds, so the caller limits how often it makes one.
    #[must_use]
    pub fn find(&self, candidates: &[Candidate<'_>], now: UnixSeconds, slack: u64) -> Option<Match> {
        let (salt, tag) = self.parts();
        windows(now.window(KNOCK_WINDOW_SECS), slack).find_map(|(window, skew_windows)| {
            let hit = |candidate: &Candidate<'_>| {
                let expected: [u8; 16] = rtag(candidate.key, &salt, window, &[candidate.context.byte()]);
                bool::from(expected.ct_eq(&tag))
            };
            candidates.iter().position(hit).map(|index| Match { index, skew_windows })
        })
    }

    fn parts(&self) -> ([u8; 8], [u8; 16]) {
        let (mut salt, mut tag) = ([0; 8], [0; 16]);
        salt.copy_from_slice(&self.0[..8]);
        tag.copy_from_slice(&self.0[8..]);
        (salt, tag)
    }
}

/// Knocks that were accepted, so that a recorded one opens nothing. Only knocks that matched a key enter it: a
/// stranger cannot fill it. Holds at most `REPLAY_ENTRIES_MAX`, the oldest go first.
#[derive(Default)]
pub struct ReplayCache {
    accepted_at: BTreeMap<Knock, Timestamp>,
    order: VecDeque<Knock>,
}

impl ReplayCache {
    /// Remembers a knock that matched; false when it was accepted before and must get silence.
    #[must_use]
    pub fn admit(&mut self, knock: Knock, now: Timestamp) -> bool {
        self.forget(now);
        if self.accepted_at.contains_key(&knock) {
            return false;
        }
        if self.order.len() >= REPLAY_ENTRIES_MAX {
            self.drop_oldest();
        }
        self.accepted_at.insert(knock, now);
        self.order.push_back(knock);
        true
    }

    /// Knocks remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn forget(&mut self, now: Timestamp) {
        let keep = Duration::from_secs(REPLAY_KEEP_SECS);
        while let Some(at) = self.order.front().and_then(|oldest| self.accepted_at.get(oldest)) {
            if now.since(*at) <= keep {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            self.accepted_at.remove(&oldest);
        }
    }
}
