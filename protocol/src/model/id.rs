//! Identifiers and hashes, each its own type. Ids that people compare have a checksummed text form (bech32m, BIP-350).

use bech32::{Bech32m, Hrp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a typed id was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Wrong length, letters or checksum.
    #[error("not a valid id: a character is wrong or missing")]
    Malformed,
    /// A valid code of another kind.
    #[error("this is not a {expected} id")]
    WrongKind {
        /// What was asked for.
        expected: &'static str,
    },
}

macro_rules! bytes_newtype {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Lower-case hexadecimal.
            #[must_use]
            pub fn to_hex(&self) -> String {
                use fmt::Write;
                self.0.iter().fold(String::with_capacity($len * 2), |mut text, byte| {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{byte:02x}");
                    text
                })
            }

            /// Parses what `to_hex` wrote.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                if text.len() != $len * 2 || !text.is_ascii() {
                    return None;
                }
                let mut bytes = [0u8; $len];
                for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
                }
                Some(Self(bytes))
            }
        }
    };
}

bytes_newtype!(
    /// A device: KDF("device id"; ed25519 key, x25519 key). Public, but never sent in clear.
    DeviceId,
    32
);
bytes_newtype!(
    /// A synced folder: random, the same on all its devices.
    FolderId,
    16
);
bytes_newtype!(
    /// One incarnation of a folder's database: random, drawn when the database is made.
    ReplicaId,
    8
);
bytes_newtype!(
    /// One start of a folder on a device: random. Peers remember the last one, so that a database put back to an earlier
    /// state, or copied, does not know what they name.
    RunId,
    8
);
bytes_newtype!(
    /// BLAKE3 of a whole file.
    ContentHash,
    32
);
bytes_newtype!(
    /// BLAKE3 of one chunk.
    ChunkHash,
    32
);
bytes_newtype!(
    /// A realm, the devices of one person: KDF("realm id"; the first link of its roster).
    RealmId,
    32
);
bytes_newtype!(
    /// One signed change to the roster: KDF("roster link"; its bytes).
    LinkHash,
    32
);

macro_rules! short_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.to_hex()[..8])
            }
        }
    )*};
}
short_debug!(DeviceId, FolderId, ReplicaId, RunId, ContentHash, ChunkHash, RealmId, LinkHash);

fn encode(hrp: &'static str, bytes: &[u8]) -> String {
    let hrp = Hrp::parse(hrp).expect("a constant lower-case prefix is a valid HRP");
    bech32::encode::<Bech32m>(hrp, bytes).expect("an id is far below bech32's length bound")
}

fn decode<const N: usize>(hrp: &'static str, kind: &'static str, text: &str) -> Result<[u8; N], IdError> {
    let text: String =
        text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect::<String>().to_ascii_lowercase();
    let checked =
        bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(&text).map_err(|_| IdError::Malformed)?;
    if checked.hrp().as_str() != hrp {
        return Err(IdError::WrongKind { expected: kind });
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().map_err(|_| IdError::Malformed)
}

impl DeviceId {
    /// The first eight data characters: for display only, never enough to trust.
    #[must_use]
    pub fn short(&self) -> String {
        encode("sd", &self.0)[3..11].to_string()
    }
}

/// bech32m with prefix `sd`, 61 characters.
impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode("sd", &self.0))
    }
}

impl FromStr for DeviceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        decode("sd", "device", text).map(Self)
    }
}

/// bech32m with prefix `sf`.
impl fmt::Display for FolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode("sf", &self.0))
    }
}

impl FromStr for FolderId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        decode("sf", "folder", text).map(Self)
    }
}

impl ContentHash {
    /// Hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl ChunkHash {
    /// Hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}
