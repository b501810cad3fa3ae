//! The recovery code: 20 random bytes on paper, from which a key derives that stands over every device of the realm.
//! It never travels and is never stored; the first link of the roster has its public key.

use crate::wire::kdf::kdf_secret;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use ed25519_dalek::{Signer, SigningKey};
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Random bytes of a code.
const CODE_LEN: usize = 20;
/// What codes start with.
const PREFIX: &str = "sdr";
/// Characters of a group as shown.
const GROUP_LEN: usize = 6;

/// Why a recovery code was refused; the words are for whoever typed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Wrong length, letters or check characters.
    #[error("not a valid recovery code: a character is wrong or missing")]
    Malformed,
    /// A valid code of another kind, such as a device id.
    #[error("this is not a recovery code: those begin with {PREFIX}1")]
    WrongKind,
}

/// Twenty secret bytes: wiped on drop, never printed but by [`RecoveryCode::words`].
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode([u8; CODE_LEN]);

impl RecoveryCode {
    /// From fresh random bytes.
    #[must_use]
    pub const fn from_random(random: [u8; CODE_LEN]) -> Self {
        Self(random)
    }

    /// For people to write down: bech32m with prefix `sdr`, 42 characters in seven groups, as in
    /// `sdr1qq-qsyqcy-q5rqwz-...`.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        let hrp = Hrp::parse(PREFIX).expect("a constant lower-case prefix is a valid HRP");
        let plain = bech32::encode::<Bech32m>(hrp, &self.0).expect("a code is far below bech32's length bound");
        let plain = Zeroizing::new(plain);
        let mut words = Zeroizing::new(String::with_capacity(2 * plain.len()));
        for (i, character) in plain.chars().enumerate() {
            if i > 0 && i % GROUP_LEN == 0 {
                words.push('-');
            }
            words.push(character);
        }
        words
    }

    /// Ed25519 public key, for the first link of a roster.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.key().verifying_key().to_bytes()
    }

    /// Ed25519 over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key().sign(message).to_bytes()
    }

    /// From KDF("recovery sign"; code); wiped when dropped.
    fn key(&self) -> SigningKey {
        SigningKey::from_bytes(kdf_secret("recovery sign", &[&self.0]).expose())
    }
}

impl FromStr for RecoveryCode {
    type Err = RecoveryError;

    /// Case, spaces and hyphens do not matter.
    fn from_str(text: &str) -> Result<Self, RecoveryError> {
        let mut plain = Zeroizing::new(String::with_capacity(text.len()));
        plain.extend(text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase()));
        let checked = CheckedHrpstring::new::<Bech32m>(&plain).map_err(|_| RecoveryError::Malformed)?;
        if checked.hrp().as_str() != PREFIX {
            return Err(RecoveryError::WrongKind);
        }
        let mut code = Self([0; CODE_LEN]);
        let mut bytes = checked.byte_iter();
        for place in &mut code.0 {
            *place = bytes.next().ok_or(RecoveryError::Malformed)?;
        }
        if bytes.next().is_some() { Err(RecoveryError::Malformed) } else { Ok(code) }
    }
}
