//! The pair secret: 32 bytes that two parties share, from which every key between them is derived. An invite is a
//! pair secret of a few minutes, so first contact needs no protocol of its own.

use super::identity::{Identity, PublicIdentity};
use super::kdf::{Secret32, UnixSeconds, kdf, kdf_secret};
use crate::limits::RELAY_EPOCH_SECS;
use crate::model::DeviceId;
use std::ops::Range;

/// Ports to dial from by the clock.
const CLOCK_PORTS: Range<u16> = 10_000..32_768;

#[cfg(test)]
mod tests;

/// Which of the two parties sends: tags differ by direction, so a reflected one matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// 0: the sender has the smaller device id, or shows the invite.
    Low,
    /// 1: the sender has the larger device id, joins by an invite, or is a relay's client.
    High,
}

impl Direction {
    /// The direction of what `sender` sends to `receiver`.
    #[must_use]
    pub fn of(sender: &DeviceId, receiver: &DeviceId) -> Self {
        if sender < receiver { Self::Low } else { Self::High }
    }

    /// The other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }

    /// The byte that enters key derivation.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Low => 0,
            Self::High => 1,
        }
    }
}

/// Why two identities have no pair secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The other key is one of the few that make every exchange predictable.
    #[error("the other device's key is not a usable one")]
    WeakKey,
    /// A device cannot be paired with itself.
    #[error("the other device is this device")]
    Ourselves,
}

/// K_pair of SPEC.md section 3.
#[derive(Clone, PartialEq, Eq)]
pub struct PairSecret(Secret32);

impl PairSecret {
    /// K_pair = KDF("pair"; X25519(own, their), shared, smaller id, larger id), where `shared` is 32 random bytes
    /// that were sent inside the pairing channel.
    ///
    /// # Errors
    /// When the other key is weak or our own.
    pub fn between(own: &Identity, their: &PublicIdentity, shared: &Secret32) -> Result<Self, PairError> {
        let (own_id, their_id) = (own.id(), their.id());
        if own_id == their_id || own.public().x == their.x {
            return Err(PairError::Ourselves);
        }
        let agreed = own.agree(&their.x).ok_or(PairError::WeakKey)?;
        let (low, high) = if own_id < their_id { (own_id, their_id) } else { (their_id, own_id) };
        Ok(Self(kdf_secret("pair", &[agreed.expose(), shared.expose(), &low.0, &high.0])))
    }

    /// A secret that was stored, or stretched from an invite code.
    #[must_use]
    pub const fn from_secret(secret: Secret32) -> Self {
        Self(secret)
    }

    /// The secret itself, to be stored.
    #[must_use]
    pub const fn secret(&self) -> &Secret32 {
        &self.0
    }

    /// Key of the knocks sent in `direction`.
    #[must_use]
    pub fn knock_key(&self, direction: Direction) -> Secret32 {
        kdf_secret("knock", &[self.0.expose(), &[direction.byte()]])
    }

    /// Key of the LAN beacon tags sent in `direction`.
    #[must_use]
    pub fn lan_key(&self, direction: Direction) -> Secret32 {
        kdf_secret("lan", &[self.0.expose(), &[direction.byte()]])
    }

    /// Key of what is left in a public table in `direction`, see [`super::rendezvous`].
    #[must_use]
    pub fn rendezvous_key(&self, direction: Direction) -> Secret32 {
        kdf_secret("dht", &[self.0.expose(), &[direction.byte()]])
    }

    /// The TCP port from which whoever sends in `direction` dials at the moment number `slot` (SPEC 15): below those that systems
    /// give out by themselves, and each time another, so that no router remembers anything of it.
    #[must_use]
    pub fn clock_port(&self, direction: Direction, slot: u64) -> u16 {
        let bytes = kdf("clock port", &[self.0.expose(), &[direction.byte()], &slot.to_be_bytes()]);
        let [high, low, ..] = bytes;
        CLOCK_PORTS.start + u16::from_be_bytes([high, low]) % (CLOCK_PORTS.end - CLOCK_PORTS.start)
    }

    /// Pre-shared key 0 of the handshake.
    #[must_use]
    pub fn psk(&self) -> Secret32 {
        kdf_secret("noise psk0", &[self.0.expose()])
    }

    /// What both park under at the relay whose public key is `relay_x`, in epoch `epoch` ([`relay_epoch`]).
    #[must_use]
    pub fn relay_token(&self, relay_x: &[u8; 32], epoch: u64) -> [u8; 32] {
        kdf("relay token", &[self.0.expose(), relay_x, &epoch.to_be_bytes()])
    }

    /// What the sender in `direction` shows in PAIR_DONE: that it derived the same secret.
    #[must_use]
    pub fn pairing_proof(&self, direction: Direction) -> [u8; 32] {
        kdf("pair done", &[self.0.expose(), &[direction.byte()]])
    }
}

/// The relay token epoch at `now`.
#[must_use]
pub const fn relay_epoch(now: UnixSeconds) -> u64 {
    now.window(RELAY_EPOCH_SECS)
}
