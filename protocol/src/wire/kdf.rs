//! Key derivation: every key and tag of the protocol is made by one of the four functions here, so that no two
//! purposes share a key. Conventions are SPEC.md section 1.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes: wiped on drop, compared in constant time, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct Secret32([u8; 32]);

impl Secret32 {
    /// Takes bytes that are already secret.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing and for key derivation.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Secret32 {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret32 {}

/// Seconds since 1970 on a device's own clock, which may be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// Number of the window of `window_secs` seconds that this moment falls into.
    #[must_use]
    pub const fn window(self, window_secs: u64) -> u64 {
        self.0 / window_secs
    }
}

/// Windows at most `slack` away from `centre`, nearest first, each with its offset; windows before 1970 are left out.
pub(crate) fn windows(centre: u64, slack: u64) -> impl Iterator<Item = (u64, i64)> {
    let near = move |distance: u64| {
        let offset = i64::try_from(distance).unwrap_or(i64::MAX);
        let before = centre.checked_sub(distance).filter(|_| distance > 0).map(|window| (window, -offset));
        let after = centre.checked_add(distance).map(|window| (window, offset));
        [after, before].into_iter().flatten()
    };
    (0..=slack).flat_map(near)
}

/// KDF(label; parts) = BLAKE3 derive_key with context "syncd v1 " + label over LP(part) of each part, where
/// LP(x) = u32le(len x) ‖ x. For values that are public or compared; secrets come from [`kdf_secret`].
#[must_use]
pub fn kdf(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(&format!("syncd v1 {label}"));
    for part in parts {
        let len = u32::try_from(part.len()).expect("key derivation inputs are a few hundred bytes");
        hasher.update(&len.to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// [`kdf`] into a type that is wiped.
#[must_use]
pub fn kdf_secret(label: &str, parts: &[&[u8]]) -> Secret32 {
    Secret32(kdf(label, parts))
}

/// rtag: the first `N` bytes (at most 32) of BLAKE3 keyed with `key` over salt ‖ window (u64 big-endian) ‖ extra.
/// Recognised by whoever holds the key; random to everybody else.
#[must_use]
pub fn rtag<const N: usize>(key: &Secret32, salt: &[u8; 8], window: u64, extra: &[u8]) -> [u8; N] {
    const { assert!(N <= 32, "a tag is a prefix of one 32-byte hash") };
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    hasher.update(salt).update(&window.to_be_bytes()).update(extra);
    let mut tag = [0; N];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..N]);
    tag
}
