//! Invites: a one-time code that two people can read to each other, and a link that carries it together with
//! addresses. The code is stretched into a pair secret; whoever holds it may try to pair once.

use super::kdf::{Secret32, kdf};
use super::pair::PairSecret;
use super::relay::{Endpoint, RelayLink};
use crate::limits::{ADDRESSES_MAX, LINK_LEN_MAX, RELAYS_MAX};
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

#[cfg(test)]
mod tests;

/// Random bytes of a code.
pub const CODE_LEN: usize = 10;
/// Symbols of a code: 16 for the bytes, 4 to catch typing errors.
const SYMBOLS: usize = 20;
/// What links of this version start with.
const LINK_PREFIX: &str = "syncd:p1:";
/// Crockford's base 32: no i, l, o or u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Argon2id (RFC 9106): 64 MiB, 3 passes, 1 lane; about a quarter of a second. With 80 random bits behind it a code
/// cannot be searched for within the day that it may live.
const ARGON2_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;
const ARGON2_SALT: &[u8; 16] = b"syncd v1 invite\0";

/// Why a code or link was refused; the words are for whoever typed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Not 20 letters and digits.
    #[error("a code has 20 letters and digits, this one has {found}")]
    Length {
        /// Letters and digits seen.
        found: usize,
    },
    /// A character that no code has.
    #[error("'{0}' does not occur in codes")]
    Character(char),
    /// The check symbols do not fit.
    #[error("the code has a typing error: compare it with the other screen")]
    Typo,
    /// Does not start like a link of this version.
    #[error("this is not a pairing link of this version of syncd")]
    NotALink,
    /// An address in the link is none.
    #[error("an address in the link is damaged: copy the link again")]
    Address,
    /// A relay in the link is none.
    #[error("the relay in the link is damaged: copy the link again")]
    Relay,
    /// More text or parts than a link has.
    #[error("the link is too long")]
    TooLong,
}

/// Ten random bytes. Its text is 20 Crockford symbols in five groups.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct InviteCode([u8; CODE_LEN]);

impl InviteCode {
    /// From fresh random bytes.
    #[must_use]
    pub const fn from_random(random: [u8; CODE_LEN]) -> Self {
        Self(random)
    }

    /// The pseudo-pair secret: Argon2id of the code. Takes 64 MiB and about a quarter of a second.
    #[must_use]
    pub fn pair_secret(&self) -> PairSecret {
        let params = argon2::Params::new(ARGON2_KIB, ARGON2_PASSES, 1, Some(32))
            .expect("constant parameters within Argon2's ranges");
        let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let mut stretched = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(&self.0, ARGON2_SALT, &mut *stretched)
            .expect("salt and output have lengths that Argon2 allows");
        PairSecret::from_secret(Secret32::new(*stretched))
    }

    /// The first 20 bits of KDF("invite check"; code).
    fn check(&self) -> u32 {
        let digest = kdf("invite check", &[&self.0]);
        u32::from_be_bytes([0, digest[0], digest[1], digest[2]]) >> 4
    }

    /// The code's 80 bits and the check's 20 as one number.
    fn number(&self) -> u128 {
        let code = self.0.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        code << 20 | u128::from(self.check())
    }
}

/// Five groups of four, as in `000g-40r4-0m30-e209-m9kq`.
impl fmt::Display for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number();
        for i in 0..SYMBOLS {
            if i > 0 && i % 4 == 0 {
                f.write_str("-")?;
            }
            let symbol = usize::try_from(number >> (5 * (SYMBOLS - 1 - i)) & 31).expect("five bits");
            write!(f, "{}", char::from(ALPHABET[symbol]))?;
        }
        Ok(())
    }
}

impl FromStr for InviteCode {
    type Err = InviteError;

    /// Case, spaces and hyphens do not matter; `o` is 0, `i` and `l` are 1.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        let (mut number, mut found) = (0u128, 0);
        for character in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            found += 1;
            if found <= SYMBOLS {
                number = number << 5 | u128::from(symbol(character)?);
            }
        }
        if found != SYMBOLS {
            return Err(InviteError::Length { found });
        }
        let mut bytes = [0; CODE_LEN];
        bytes.copy_from_slice(&(number >> 20).to_be_bytes()[6..]);
        let code = Self(bytes);
        if code.number() == number { Ok(code) } else { Err(InviteError::Typo) }
    }
}

fn symbol(character: char) -> Result<u8, InviteError> {
    let plain = match character.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    let index = ALPHABET.iter().position(|letter| char::from(*letter) == plain);
    index.and_then(|index| u8::try_from(index).ok()).ok_or(InviteError::Character(character))
}

/// A code with hints where the device that shows it can be found:
/// `syncd:p1:CODE?a=HOST:PORT&a=...&r=RELAY-LINK`.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteLink {
    /// The code.
    pub code: InviteCode,
    /// Addresses, best first; at most `ADDRESSES_MAX`.
    pub addresses: Vec<Endpoint>,
    /// Relays where the showing device waits; at most `RELAYS_MAX`.
    pub relays: Vec<RelayLink>,
}

impl InviteLink {
    /// Whether `text` is meant as a link and not as a bare code.
    #[must_use]
    pub fn is_link(text: &str) -> bool {
        text.trim_start().get(..6).is_some_and(|start| start.eq_ignore_ascii_case("syncd:"))
    }
}

impl fmt::Display for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LINK_PREFIX}{}", self.code)?;
        let addresses = self.addresses.iter().map(|address| format!("a={address}"));
        let relays = self.relays.iter().map(|relay| format!("r={relay}"));
        for (i, part) in addresses.chain(relays).enumerate() {
            write!(f, "{}{part}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl FromStr for InviteLink {
    type Err = InviteError;

    /// A bare code is a link without hints. Unknown parts are ignored, so that later versions can add some.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim();
        if text.len() > LINK_LEN_MAX {
            return Err(InviteError::TooLong);
        }
        if !Self::is_link(text) {
            return Ok(Self { code: text.parse()?, addresses: Vec::new(), relays: Vec::new() });
        }
        let start = text.get(..LINK_PREFIX.len()).ok_or(InviteError::NotALink)?;
        if !start.eq_ignore_ascii_case(LINK_PREFIX) {
            return Err(InviteError::NotALink);
        }
        let (code, hints) = text[LINK_PREFIX.len()..].split_once('?').unwrap_or((&text[LINK_PREFIX.len()..], ""));
        let mut link = Self { code: code.parse()?, addresses: Vec::new(), relays: Vec::new() };
        for hint in hints.split('&') {
            match hint.split_once('=') {
                Some(("a", address)) => link.addresses.push(address.parse().map_err(|_| InviteError::Address)?),
                Some(("r", relay)) => link.relays.push(relay.parse().map_err(|_| InviteError::Relay)?),
                _ => {}
            }
        }
        if link.addresses.len() > ADDRESSES_MAX || link.relays.len() > RELAYS_MAX {
            return Err(InviteError::TooLong);
        }
        Ok(link)
    }
}
