//! Folders, offers and what joining one would do.

use super::{Counts, Named, PathText, Problem, Progress};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which way changes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderMode {
    /// Both ways.
    #[default]
    SendReceive,
    /// Changes of others are declined.
    SendOnly,
    /// Changes made here stay here.
    ReceiveOnly,
}

impl FolderMode {
    /// The word on the command line and in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SendReceive => "send-receive",
            Self::SendOnly => "send-only",
            Self::ReceiveOnly => "receive-only",
        }
    }

    /// The mode of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::SendReceive, Self::SendOnly, Self::ReceiveOnly].into_iter().find(|mode| mode.word() == word)
    }
}

/// What a folder is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderState {
    /// Comparing the disk with the index.
    Scanning,
    /// Receiving or applying changes.
    Syncing,
    /// Nothing to do here.
    Idle,
    /// A person paused it.
    Paused,
    /// It cannot go on: the marker or the disk is missing.
    Stopped,
}

impl FolderState {
    /// The word that people and programs see.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Scanning => "scanning",
            Self::Syncing => "syncing",
            Self::Idle => "idle",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderStatus {
    /// Its id, the same on all devices.
    pub id: String,
    /// Its name here.
    pub name: String,
    /// Where it is here: `path` and `path_bytes`.
    #[serde(flatten)]
    pub root: PathText,
    /// Which way changes go.
    pub mode: FolderMode,
    /// What it is doing.
    pub state: FolderState,
    /// Why, when stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_words: Option<String>,
    /// What is here.
    pub local: Counts,
    /// What is known of all devices together.
    pub global: Counts,
    /// Files that are missing or older here.
    pub need_files: u64,
    /// Bytes of those.
    pub need_bytes: u64,
    /// Deletions to carry out here.
    pub need_deletes: u64,
    /// While something moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The first `LIST_LEN_MAX` problems.
    pub problems: Vec<Problem>,
    /// All problems.
    pub problems_total: u64,
    /// What waits for `folder approve` or `folder reject`.
    pub holds: Vec<Hold>,
    /// Changes made here that stay here (receive-only), or changes of others that are declined (send-only).
    pub differences: u64,
    /// Whether it is offered to every paired device, now and later.
    pub all_devices: bool,
    /// Devices it is shared with.
    pub devices: Vec<FolderDevice>,
    /// Settings that differ from `config.toml`, as `folder set` takes them.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// A device as one folder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderDevice {
    /// The device's id.
    pub id: String,
    /// Its name here.
    pub name: String,
    /// Whether a session is up.
    pub connected: bool,
    /// Whether it has joined the folder.
    pub joined: bool,
    /// Digests are equal.
    pub in_sync: bool,
    /// Files it lacks.
    pub need_files: u64,
    /// Bytes it lacks.
    pub need_bytes: u64,
}

/// Why changes are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// Many files vanished here; nobody was told yet.
    DeletionsHere,
    /// Many files went back to older contents here; nobody was told yet.
    RestoredHere,
    /// Bytes of files changed though nobody wrote them; nobody was told.
    SuspectHere,
    /// A peer deleted many files; they are still here.
    DeletionsThere,
    /// A peer replaced many files.
    ReplacementsThere,
    /// A device that was away would bring back files.
    Returning,
}

/// Changes that wait for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub kind: HoldKind,
    /// The peer they come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Named>,
    /// How many paths.
    pub paths: u64,
    /// Of how many files in the folder.
    pub of_files: u64,
    /// Since when.
    pub since_ms: u64,
    /// For people.
    pub words: String,
}

/// Reply of `GET folders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folders {
    /// By name.
    pub folders: Vec<FolderStatus>,
}

/// A folder that other devices offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its id.
    pub id: String,
    /// Its name there.
    pub name: String,
    /// Who offers it.
    pub devices: Vec<Named>,
    /// Files and bytes, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

/// Reply of `GET folders/offers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// By name.
    pub offers: Vec<Offer>,
}

/// Starts to sync a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderAdd {
    /// The directory, absolute: `path` and `path_bytes`.
    #[serde(flatten)]
    pub root: PathText,
    /// Its name; absent: the directory's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which way changes go.
    #[serde(default)]
    pub mode: FolderMode,
    /// Devices it is offered to; empty: all paired devices, now and later.
    #[serde(default)]
    pub with: Vec<String>,
}

/// Takes an offer, or asks what that would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderJoin {
    /// Name or id of the offered folder.
    pub folder: String,
    /// Where it goes here, absolute: `path` and `path_bytes`.
    #[serde(flatten)]
    pub root: PathText,
    /// Which way changes go.
    #[serde(default)]
    pub mode: FolderMode,
}

/// What joining would do, without doing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinPreview {
    /// The folder.
    pub folder: Named,
    /// Where it would go: `path` and `path_bytes`.
    #[serde(flatten)]
    pub root: PathText,
    /// Files that would come here.
    pub added: Counts,
    /// Files here that would be replaced by a newer content.
    pub replaced: Counts,
    /// Files that differ on both sides: both contents would be kept.
    pub conflicts: Counts,
    /// Files here that others lack and would receive.
    pub sent: Counts,
    /// Files that are equal and would only be recorded.
    pub same: Counts,
    /// The first `LIST_LEN_MAX` paths of `added`, `replaced`, `conflicts` and `sent`, the riskiest first.
    pub paths: Vec<PreviewPath>,
    /// All such paths.
    pub paths_total: u64,
    /// Whether the figures are final; false while the index is still being received.
    pub complete: bool,
}

/// What would happen to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreviewKind {
    /// It would come here.
    Added,
    /// Its content here would be replaced.
    Replaced,
    /// Both contents would be kept.
    Conflict,
    /// Others would receive it.
    Sent,
}

/// One path of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewPath {
    /// Inside the folder: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: PathText,
    /// What would happen.
    pub what: PreviewKind,
    /// Bytes to move.
    pub bytes: u64,
}

/// Names a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderRef {
    /// Name, id or a beginning of the id.
    pub folder: String,
}

/// Says which devices a folder is synced with, for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderShare {
    /// Name, id or a beginning of the id.
    pub folder: String,
    /// Names or ids of devices.
    pub devices: Vec<String>,
    /// Whether these are in the folder from now on, or out of it.
    pub is_in: bool,
    /// Whether all others are, this device apart; not given: as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<bool>,
}

/// Changes a setting of one folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderSet {
    /// Which folder.
    pub folder: String,
    /// The setting.
    pub key: String,
    /// Its value; `default` takes it back to that of `config.toml`.
    pub value: String,
}

/// What to do with a folder; the last part of the route is the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderAction {
    /// Stop looking at it.
    Pause,
    /// Go on.
    Resume,
    /// Compare the disk with the index now.
    Rescan,
    /// Let what is held happen.
    Approve,
    /// Take back what is held.
    Reject,
    /// Send-only: make others like this device.
    Override,
    /// Receive-only: make this device like the others.
    Revert,
    /// Sync it no more; the files stay.
    Remove,
}

impl FolderAction {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Pause,
        Self::Resume,
        Self::Rescan,
        Self::Approve,
        Self::Reject,
        Self::Override,
        Self::Revert,
        Self::Remove,
    ];

    /// Its word in the route and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rescan => "rescan",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Override => "override",
            Self::Revert => "revert",
            Self::Remove => "remove",
        }
    }
}
