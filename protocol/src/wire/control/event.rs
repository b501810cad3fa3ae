//! What happens, as it happens.

use super::{Named, PathText};
use serde::{Deserialize, Serialize};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The daemon is up.
    Started,
    /// The daemon goes down.
    Stopping,
    /// A session with a device is up.
    DeviceConnected,
    /// It ended.
    DeviceDisconnected,
    /// Two devices were paired.
    DevicePaired,
    /// A device was removed.
    DeviceRemoved,
    /// A folder began or ended to scan, sync, pause or stop.
    FolderState,
    /// A folder was added, joined, changed or removed.
    FolderChanged,
    /// A device offers a folder.
    FolderOffered,
    /// A folder is in sync with a device.
    InSync,
    /// A path changed here.
    LocalChange,
    /// A change of another device was applied here.
    RemoteChange,
    /// Two devices changed a path; a conflict copy was made.
    Conflict,
    /// Something is wrong.
    Problem,
    /// It is not wrong any more.
    ProblemSolved,
    /// Changes wait for a person.
    Held,
    /// They do not any more.
    Released,
    /// A setting changed.
    ConfigChanged,
    /// This reader was too slow: events before the next one are lost.
    Missed,
    /// A kind that this reader does not know.
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// The word that people and programs see, also the name of the server-sent event.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::DeviceConnected => "device_connected",
            Self::DeviceDisconnected => "device_disconnected",
            Self::DevicePaired => "device_paired",
            Self::DeviceRemoved => "device_removed",
            Self::FolderState => "folder_state",
            Self::FolderChanged => "folder_changed",
            Self::FolderOffered => "folder_offered",
            Self::InSync => "in_sync",
            Self::LocalChange => "local_change",
            Self::RemoteChange => "remote_change",
            Self::Conflict => "conflict",
            Self::Problem => "problem",
            Self::ProblemSolved => "problem_solved",
            Self::Held => "held",
            Self::Released => "released",
            Self::ConfigChanged => "config_changed",
            Self::Missed => "missed",
            Self::Unknown => "unknown",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 while the daemon runs.
    pub id: u64,
    /// When.
    pub time_ms: u64,
    /// What.
    pub kind: EventKind,
    /// The folder it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<Named>,
    /// The device it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Named>,
    /// The path inside the folder: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: Option<PathText>,
    /// For people.
    pub words: String,
}

/// Reply of `GET events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Oldest first.
    pub events: Vec<Event>,
}
