//! The realm: one person's devices, which trust each other.

use super::DeviceRole;
use serde::{Deserialize, Serialize};

/// Reply of `GET realm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealmStatus {
    /// Devices in it, this one included; 0: there is none yet.
    pub devices: u64,
    /// What this device may do in it; absent without one, or when another device removed this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<DeviceRole>,
}
