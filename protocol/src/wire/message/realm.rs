//! What the devices of a realm tell each other about it: the signed links of the device list, as opaque bytes here,
//! and the secrets of its epochs.

use super::bounded::list;
use crate::limits::{LINK_PARENTS_MAX, LINKS_PER_MESSAGE_MAX, ROSTER_EPOCHS_HELD_MAX, ROSTER_LINK_LEN_MAX};
use crate::wire::kdf::Secret32;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use std::fmt;

/// HEADS: what the sender knows of its realm. Whoever has links that are no ancestors of these sends LINKS; a member
/// that lacks the secret of an epoch gets SECRETS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// The realm; `None` where there is none yet.
    pub realm: Option<[u8; 32]>,
    /// How many devices are in it besides the sender and the receiver.
    pub others: u16,
    /// Hashes of links that no other link of the sender names as parent, the greatest first; at most 8.
    #[serde(deserialize_with = "list::<_, _, LINK_PARENTS_MAX>")]
    pub heads: Vec<[u8; 32]>,
    /// Epochs whose secret the sender holds, the latest first; at most 8.
    #[serde(deserialize_with = "list::<_, _, ROSTER_EPOCHS_HELD_MAX>")]
    pub epochs: Vec<[u8; 32]>,
}

/// LINKS: links as they were signed, parents before children.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// At most `LINKS_PER_MESSAGE_MAX`; a longer list comes in several messages.
    #[serde(deserialize_with = "list::<_, _, LINKS_PER_MESSAGE_MAX>")]
    pub links: Vec<LinkBytes>,
}

/// One link, at most `ROSTER_LINK_LEN_MAX` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkBytes(pub Vec<u8>);

impl<'de> Deserialize<'de> for LinkBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        if bytes.len() > ROSTER_LINK_LEN_MAX {
            return Err(D::Error::custom("a link is too long"));
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// The secret of one epoch.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochSecret {
    /// Hash of the link that began the epoch.
    pub epoch: [u8; 32],
    /// What its commitment is to.
    pub secret: Secret32,
}

impl fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochSecret").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// SECRETS: of epochs whose secret the receiver, a member, said it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// At most 8.
    #[serde(deserialize_with = "list::<_, _, ROSTER_EPOCHS_HELD_MAX>")]
    pub secrets: Vec<EpochSecret>,
}
