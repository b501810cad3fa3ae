//! The daemon as a whole: liveness, identity, status, waiting, settings.

use super::{DeviceStatus, FolderState, FolderStatus, PathText};
use serde::{Deserialize, Serialize};

/// The daemon is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// `API_VERSION`.
    pub api: u32,
}

/// This device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id, in full.
    pub id: String,
    /// Its name, as others see it.
    pub name: String,
}

/// Renames this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetIdentity {
    /// The new name.
    pub name: String,
}

/// Something that has an id and a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// In full.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// It was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, one sentence; empty when there is nothing to add.
    #[serde(default)]
    pub words: String,
    /// Paths that a person should look at: after `reject`, those that no peer has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<super::FileRef>,
}

impl Done {
    /// Done, and said so.
    #[must_use]
    pub fn said(words: impl Into<String>) -> Self {
        Self { words: words.into(), paths: Vec::new() }
    }
}

/// Everything on one screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This device.
    pub device: Identity,
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Where it listens, `HOST:PORT`.
    pub listen: Vec<String>,
    /// What is different with a proxy, in words; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Folders, by name.
    pub folders: Vec<FolderStatus>,
    /// Paired devices, by name.
    pub devices: Vec<DeviceStatus>,
    /// Troubles of no folder: a clock that is off, a port in use, too few watches.
    pub problems: Vec<Problem>,
    /// Folders that others offer and nobody has joined here.
    pub offers: u64,
    /// What holds file contents up now, of all devices together.
    #[serde(default)]
    pub limits: Limits,
}

/// Limits that hold now for all devices together; those of single devices are with the devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes a second to others; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<u64>,
    /// Bytes a second from others; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<u64>,
    /// No file content moves at all.
    #[serde(default)]
    pub paused: bool,
    /// Whether this holds in the local network as well.
    #[serde(default)]
    pub lan: bool,
    /// This device's connection costs by the byte: files of more bytes than this wait, but in the local network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered_max: Option<u64>,
    /// The rule of the schedule that says so; absent: none holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl Status {
    /// What waits for a person, in words; empty: `status --check` exits 0.
    #[must_use]
    pub fn needs_person(&self) -> Vec<String> {
        let mut needs: Vec<String> =
            self.problems.iter().filter(|problem| problem.needs_person).map(|problem| problem.words.clone()).collect();
        for folder in &self.folders {
            if folder.state == FolderState::Stopped {
                let why = folder.state_words.as_deref().unwrap_or("no reason given");
                needs.push(format!("folder {} is stopped: {why}", folder.name));
            }
            needs.extend(folder.holds.iter().map(|hold| format!("folder {}: {}", folder.name, hold.words)));
            needs.extend(folder.problems.iter().filter(|problem| problem.needs_person).map(|problem| {
                let at = problem.at.as_ref().map_or(String::new(), |path| format!(" {}:", path.text()));
                format!("folder {}:{at} {}", folder.name, problem.words)
            }));
        }
        for device in &self.devices {
            needs.extend(device.problem.iter().map(|words| format!("device {}: {words}", device.name)));
        }
        needs
    }
}

/// Files, directories and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Regular files and symlinks.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Bytes in files.
    pub bytes: u64,
}

/// How far a transfer or a scan is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Files done.
    pub done_files: u64,
    /// Files in all.
    pub total_files: u64,
    /// Bytes per second over the last seconds.
    pub rate_bps: u64,
    /// Seconds left at that rate; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<u64>,
}

/// Something that is not as it should be, with its cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The path inside the folder, when it is about one: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: Option<PathText>,
    /// A stable word: `unreadable`, `no_space`, `name_impossible`, `case_clash`, `watch_limit`, `metered`, `no_durability`,
    /// `identity_copied`, ...
    pub code: String,
    /// The cause, for people.
    pub words: String,
    /// Since when.
    pub since_ms: u64,
    /// Whether it stays until a person does something.
    pub needs_person: bool,
}

/// Waits until a folder, or all of them, is in sync with every connected device it is shared with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Which folder; absent: all that are not paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Give up after so many seconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
}

/// How the wait ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// Digests are equal, both sides idle.
    pub in_sync: bool,
    /// How long it took.
    pub waited_ms: u64,
    /// What is missing when `in_sync` is false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<WaitReason>,
}

/// One thing that keeps a folder from being in sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitReason {
    /// A stable word: `scanning`, `receiving`, `sending`, `no_peer`, `declined`, `held`, `stopped`, `paused`, ...
    pub code: String,
    /// For people.
    pub words: String,
    /// Name of the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Name of the device that lacks something, or that we lack something from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The file they are in: `path` and `path_bytes`.
    #[serde(flatten)]
    pub file: PathText,
    /// Each with its value.
    pub settings: Vec<Setting>,
    /// What is wrong with the file: unknown keys, values that are not used.
    pub warnings: Vec<String>,
}

/// One setting. Values are text in and out: lists are separated by commas, switches are `true` and `false`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Its value now.
    pub value: String,
    /// Its value when nobody set it.
    pub default: String,
    /// What it does.
    pub words: String,
    /// Whether a change takes effect only after the daemon was restarted.
    pub restart: bool,
    /// Which part of it holds now, where that depends on the time: the rule of a schedule, or `no rule holds now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// Changes one setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSet {
    /// Its name.
    pub key: String,
    /// Its new value; absent: back to the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}
