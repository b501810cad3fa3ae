//! How devices are reached, and what was tried.

use super::Via;
use serde::{Deserialize, Serialize};

/// Reply of `GET net`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetStatus {
    /// Where this device listens.
    pub listen: Vec<String>,
    /// Whether it announces itself in the local network.
    pub lan: bool,
    /// Whether strangers on the internet help to find devices.
    pub internet: bool,
    /// What the router made of being asked for a port, in words; only while `internet` is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// How the last visit to the public table ended, in words; only while `internet` is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Where other devices see this one, when they or a relay have said so lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen_at: Vec<String>,
    /// Whether the port of this device is to be a relay for its owner's other devices.
    #[serde(default)]
    pub relaying: bool,
    /// Relays to wait at, in order: devices by name, others as `HOST:PORT`.
    pub relays: Vec<String>,
    /// Paired devices by name.
    pub devices: Vec<NetDevice>,
}

/// The way to one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetDevice {
    /// Its id.
    pub id: String,
    /// Its name here.
    pub name: String,
    /// Paused by a person.
    pub paused: bool,
    /// The present session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<NetPath>,
    /// Why there is none, or no better one, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Seconds until it is dialled next, while it is sought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_s: Option<u64>,
    /// What was tried since the daemon started, each way once, the latest first.
    pub tried: Vec<NetTried>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetPath {
    /// How.
    pub via: Via,
    /// The other end of the connection: the device's, or the relay's, `HOST:PORT`.
    pub address: String,
    /// Since when.
    pub since_ms: u64,
    /// The last round trip that was timed, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// Bytes received a second, at this moment.
    pub received_bps: u64,
    /// Bytes sent a second, at this moment.
    pub sent_bps: u64,
    /// Bytes received on it.
    pub received_bytes: u64,
    /// Bytes sent on it.
    pub sent_bytes: u64,
}

/// A way that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetTried {
    /// An address, a name, `relay HOST:PORT`, or `hole punching`.
    pub way: String,
    /// When that ended.
    pub at_ms: u64,
    /// Why it failed, in words; absent: it led there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}
