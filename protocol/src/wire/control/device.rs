//! Paired devices.

use serde::{Deserialize, Serialize};

/// How a device is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// In the same local network.
    Lan,
    /// Directly, over a known address.
    Direct,
    /// Through a relay, which sees ciphertext only.
    Relay,
    /// By the proxy of this device.
    Proxy,
}

/// A paired device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its id, in full.
    pub id: String,
    /// Its name here.
    pub name: String,
    /// Whether a session is up.
    pub connected: bool,
    /// Whether a person paused it.
    pub paused: bool,
    /// Bytes of file contents a second that go to it at most, in any network; absent: no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_up: Option<u64>,
    /// The same for what comes from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_down: Option<u64>,
    /// Whether the way to it costs by the byte, wherever it is; absent: as the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<bool>,
    /// How, while connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// The other end of the connection, `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Addresses a person gave.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// When it was last connected; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
    /// Version of its daemon, when it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether every folder shared with it is in sync.
    pub in_sync: bool,
    /// Folders shared with it.
    pub folders: Vec<DeviceFolder>,
    /// Bytes received from it since the daemon started.
    pub received_bytes: u64,
    /// Bytes sent to it since the daemon started.
    pub sent_bytes: u64,
    /// Round trip in milliseconds, while connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u64>,
    /// How far its clock is ahead of ours, when it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_s: Option<i64>,
    /// What it may do; absent: it is in no realm with this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<DeviceRole>,
    /// What is wrong with it and needs a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A folder as one device has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFolder {
    /// The folder's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether that device has joined it.
    pub joined: bool,
    /// Digests are equal.
    pub in_sync: bool,
    /// Files that device lacks.
    pub need_files: u64,
    /// Bytes that device lacks.
    pub need_bytes: u64,
}

/// Reply of `GET devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// By name.
    pub devices: Vec<DeviceStatus>,
}

/// Names a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRef {
    /// Name, id or a beginning of the id.
    pub device: String,
}

/// Removes a device from all devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRemove {
    /// Name, id or a beginning of the id.
    pub device: String,
    /// The code that was shown when the realm was founded: it may do what this device may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_code: Option<RecoveryText>,
    /// Also take back what it did to the list of devices: those that it added are out as well. Of one that was removed
    /// before, by its whole id.
    #[serde(default)]
    pub disown: bool,
}

/// Gives a device another role in the realm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSetRole {
    /// Name, id or a beginning of the id.
    pub device: String,
    /// What it may do from now on.
    pub role: DeviceRole,
    /// The code that was shown when the realm was founded: it may do what this device may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_code: Option<RecoveryText>,
}

/// A recovery code as a person typed it; stays out of logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecoveryText(pub String);

impl std::fmt::Debug for RecoveryText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryText(..)")
    }
}

/// What a device may do in the realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceRole {
    /// Reads, writes, adds and removes devices.
    Admin,
    /// Reads and writes.
    Full,
    /// Reads.
    Reader,
}

/// Gives a device another name here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRename {
    /// Which.
    pub device: String,
    /// Its new name.
    pub name: String,
}

/// Says where a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAddress {
    /// Which.
    pub device: String,
    /// `HOST:PORT` each; empty: forget what was given.
    pub addresses: Vec<String>,
}

/// Limits how fast file contents move to and from a device. What is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// Which.
    pub device: String,
    /// A rate as in settings, such as `500KB` a second, to it; 0: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<String>,
    /// The same for what comes from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// `yes`: the way to it costs by the byte, wherever it is; `no`: it never does; `default`: as the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<String>,
}

/// What to do with a device; several routes are one request inside the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceAction {
    /// Give it another name.
    Rename(String),
    /// Replace the addresses it is dialled at.
    Address(Vec<String>),
    /// Change its limits.
    Limit(DeviceLimit),
    /// Close its session and dial no more.
    Pause,
    /// Connect again.
    Resume,
    /// Give it another role, everywhere.
    Role {
        /// What it may do from now on.
        role: DeviceRole,
        /// In place of this device's own right to do so.
        recovery_code: Option<RecoveryText>,
    },
    /// Take it out of the realm, everywhere: its keys are forgotten and its sessions end at once.
    Remove {
        /// In place of this device's own right to do so.
        recovery_code: Option<RecoveryText>,
        /// With all that it did to the list of devices.
        disown: bool,
    },
}
