//! Where devices can be reached.

use super::bounded::list;
use crate::limits::{ADDRESSES_MAX, PEERS_MAX, PUNCH_ADDRESSES_MAX, WHEREABOUTS_ADDRESSES_MAX};
use crate::model::DeviceId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// ADDRESSES: where the sender can be reached, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// At most `ADDRESSES_MAX`. IPv6 scopes do not travel.
    #[serde(deserialize_with = "list::<_, _, ADDRESSES_MAX>")]
    pub addresses: Vec<SocketAddr>,
}

/// PUNCH_SYN and PUNCH_ACK: where the sender's connections seem to come from, for both to dial each other at one moment
/// (SPEC 15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Punch {
    /// Which try it is, chosen by the smaller device id; the answer repeats it.
    pub attempt: u8,
    /// At most `PUNCH_ADDRESSES_MAX`, best first; empty in an answer: not possible from there.
    #[serde(deserialize_with = "list::<_, _, PUNCH_ADDRESSES_MAX>")]
    pub addresses: Vec<SocketAddr>,
}

/// WHEREABOUTS: where the sender knows other members of the realm to be. Hints: the receiver may know better.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// At most `PEERS_MAX`.
    #[serde(deserialize_with = "list::<_, _, PEERS_MAX>")]
    pub devices: Vec<Whereabout>,
}

/// Where one member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabout {
    /// Which.
    pub device: DeviceId,
    /// At most `WHEREABOUTS_ADDRESSES_MAX`, best first.
    #[serde(deserialize_with = "list::<_, _, WHEREABOUTS_ADDRESSES_MAX>")]
    pub addresses: Vec<SocketAddr>,
}
