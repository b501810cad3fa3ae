//! A folder's state at one moment, for status, `wait` and events.

use super::holds::held_words;
use super::log::Record;
use crate::disk::presence::Presence;
use protocol::model::{DeviceId, RelPath};
use protocol::sync::engine::{Alarm, FolderMode, Hold, PeerStatus};
use protocol::sync::{FolderState, Problem};
use std::collections::BTreeMap;

/// Why a folder does not sync at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The root or its marker is not there: a disk that is not mounted looks like this.
    MarkerMissing(String),
    /// The marker is another folder's, or its nonce is not ours.
    MarkerForeign,
    /// The root has our marker and is not the directory that was known, and too few of the files are in it.
    OtherDisk(Presence),
    /// The same while the folder runs: nobody has looked for the files yet.
    Replaced,
    /// The root cannot be opened.
    Root(String),
}

impl std::error::Error for StopCause {}

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words())
    }
}

impl StopCause {
    /// Whether only a start of the folder finds out more: it looks for the files, and `folder approve` answers it.
    #[must_use]
    pub const fn asks(&self) -> bool {
        matches!(self, Self::MarkerForeign | Self::OtherDisk(_) | Self::Replaced)
    }

    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::MarkerMissing(root) => format!(
                "the folder's marker is missing in {root}: is its disk mounted? Nothing is synced or deleted until it is back"
            ),
            Self::MarkerForeign => {
                "the directory belongs to another folder (foreign marker): nothing is synced until the \
                 right one is back, or, if no other home of syncd uses this one, `syncctl folder approve` makes it \
                 this folder's"
                    .into()
            }
            Self::OtherDisk(Presence { there, of }) => format!(
                "another disk or directory is in the folder's place: its marker is right, but only {there} of {of} entries \
                 are where they should be. Nothing is synced or deleted until the right one is back, or `syncctl folder \
                 approve` says that this is it"
            ),
            Self::Replaced => "another directory is in the folder's place: it is looked at".into(),
            Self::Root(words) => words.clone(),
        }
    }
}

/// Of a file system that refuses fsync.
pub const UNDURABLE_WORDS: &str = "the folder's file system refuses fsync: what arrives here can be lost or damaged by a \
     power cut shortly afterwards, although other devices were told that it is here";

/// What a folder says of itself.
#[derive(Clone, Debug)]
pub struct Report {
    /// Direction.
    pub mode: FolderMode,
    /// Database counts.
    pub state: FolderState,
    /// A scan runs.
    pub scanning: bool,
    /// Nothing is scanned, fetched, applied or about to be published.
    pub idle: bool,
    /// Not syncing at all, and why.
    pub stopped: Option<StopCause>,
    /// Why not all changes are seen at once, and since when (Unix seconds). A scan finds them: nothing is out of sync.
    pub watching: Option<(String, i64)>,
    /// Since when it is known that the file system refuses fsync (Unix seconds).
    pub undurable: Option<i64>,
    /// Paths that do not get on, with the reason and since when (Unix seconds).
    pub problems: Vec<(RelPath, Problem, i64)>,
    /// What waits for a person, and since when (Unix seconds).
    pub holds: Vec<(Hold, i64)>,
    /// Other alarms, in words.
    pub alarms: Vec<(String, i64)>,
    /// Receive-only findings.
    pub differences: u64,
    /// Connected peers that share it.
    pub peers: BTreeMap<DeviceId, PeerStatus>,
    /// Latest changes, newest first.
    pub log: Vec<Record>,
}

impl Report {
    /// Whether it needs a person.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.stopped.is_some() || !self.problems.is_empty() || !self.holds.is_empty() || !self.alarms.is_empty()
    }
}

/// An alarm for people; `name` names devices.
#[must_use]
pub fn alarm_words(alarm: &Alarm, name: impl Fn(&DeviceId) -> String) -> String {
    match alarm {
        Alarm::Fork { peer, .. } => format!(
            "device {} and another use one index identity (a copied or restored home): both versions are kept. `syncctl \
             folder approve` closes this message",
            name(peer)
        ),
        Alarm::Stale { peer, .. } => {
            format!("the index here is older than what device {} knows of it: it is renewed", name(peer))
        }
        Alarm::Diverged { peer } => {
            format!("after a full comparison this folder still differs from device {}", name(peer))
        }
        Alarm::Held(hold) => {
            let device = hold.peer.as_ref().map_or_else(String::new, name);
            format!("{}, until `syncctl folder approve` or `reject`", held_words(hold, &device))
        }
    }
}
