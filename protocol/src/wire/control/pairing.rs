//! Pairing two devices. The code is the only secret of the control API: it is in these types and nowhere else.

use super::{ControlError, DeviceRole, Named, Via};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Shows a one-time code and waits for the other device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairShow {
    /// How long the code is good; absent: 10 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// What the other device may do in the realm of this one; absent: all that this one may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<DeviceRole>,
}

/// Pairs with the device that shows `code`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairJoin {
    /// The code or the link.
    pub code: String,
    /// Where the other device is, `HOST:PORT`; absent: found in the local network, through a relay or in the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How long to look for it; absent: a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// What the other device may do in the realm of this one; absent: all that this one may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<DeviceRole>,
}

impl fmt::Debug for PairJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairJoin").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The steps of a pairing, in order; `Paired` and `Failed` are the last.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PairingEvent {
    /// Showing side, first: type this on the other device.
    Code {
        /// Names this pairing in `PairAnswer`.
        pairing: u64,
        /// The one-time code.
        code: String,
        /// The same with addresses, for a QR code.
        link: String,
        /// How long it is good.
        expires_s: u64,
        /// With the first code ever shown: what removes a stolen device when no other may. Shown once, stored nowhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery_code: Option<String>,
    },
    /// Typing side: looking for the other device, or trying an address.
    Searching {
        /// Names this pairing in `PairAnswer`.
        pairing: u64,
        /// What is being tried, for people.
        words: String,
    },
    /// Both sides: the devices have met. A `PairAnswer` is due now.
    Check {
        /// Names this pairing in `PairAnswer`.
        pairing: u64,
        /// The other device: its id and the name it gives itself.
        device: Named,
        /// Six digits, equal on both devices when nobody is in between.
        check: String,
        /// How they met.
        via: Via,
    },
    /// This side accepted; the other has not answered yet.
    Waiting {
        /// Names this pairing.
        pairing: u64,
    },
    /// Both accepted and the pair is stored.
    Paired {
        /// The other device.
        device: Named,
    },
    /// It came to nothing; the code is void.
    Failed {
        /// Why.
        #[serde(flatten)]
        why: ControlError,
    },
}

impl PairingEvent {
    /// The tag, also the name of the server-sent event.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Code { .. } => "code",
            Self::Searching { .. } => "searching",
            Self::Check { .. } => "check",
            Self::Waiting { .. } => "waiting",
            Self::Paired { .. } => "paired",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Paired { .. } | Self::Failed { .. })
    }
}

/// Only the tag: the code stays out of logs.
impl fmt::Debug for PairingEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairingEvent({})", self.word())
    }
}

/// A person compared the check numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairAnswer {
    /// Which pairing.
    pub pairing: u64,
    /// Equal, and wanted.
    pub accept: bool,
}
