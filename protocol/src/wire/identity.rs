//! Who a device is: one secret seed, two key pairs, and an id that commits to both public keys.
//! The seed never leaves the device; the id and the keys never travel in clear.

use super::kdf::{Secret32, kdf, kdf_secret};
use crate::model::DeviceId;
use ed25519_dalek::{Signer, SigningKey};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// A device's public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicIdentity {
    /// Ed25519 public key; signs.
    pub ed: [u8; 32],
    /// X25519 public key; the Noise static key.
    pub x: [u8; 32],
}

impl PublicIdentity {
    /// KDF("device id"; ed, x).
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId(kdf("device id", &[&self.ed, &self.x]))
    }
}

/// A device's own keys, derived from its seed.
pub struct Identity {
    ed: SigningKey,
    x: StaticSecret,
    public: PublicIdentity,
}

impl Identity {
    /// Derives both key pairs: Ed25519 from KDF("id ed25519"; seed), X25519 from KDF("id x25519"; seed).
    #[must_use]
    pub fn from_seed(seed: &Secret32) -> Self {
        let ed = SigningKey::from_bytes(kdf_secret("id ed25519", &[seed.expose()]).expose());
        let x = StaticSecret::from(*kdf_secret("id x25519", &[seed.expose()]).expose());
        let public = PublicIdentity { ed: ed.verifying_key().to_bytes(), x: PublicKey::from(&x).to_bytes() };
        Self { ed, x, public }
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> PublicIdentity {
        self.public
    }

    /// This device's id.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.public.id()
    }

    /// Ed25519 over `message`, which begins with an ASCII domain string that ends in a zero byte, so that nothing signed for
    /// one purpose passes for another.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.ed.sign(message).to_bytes()
    }

    /// X25519 scalar, for Noise.
    pub(crate) fn x_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.x.to_bytes())
    }

    /// X25519 with another device's key; `None` when the result is all zero, which no honest key gives.
    pub(crate) fn agree(&self, their_x: &[u8; 32]) -> Option<Secret32> {
        let shared = self.x.diffie_hellman(&PublicKey::from(*their_x));
        shared.was_contributory().then(|| Secret32::new(*shared.as_bytes()))
    }
}
