//! Where two devices leave word for each other in a public table that anybody reads and writes, the mainline DHT of BitTorrent
//! (BEP 5, BEP 44): a place that only the two can compute, anew every day, and a note of constant size that only they can read.
//! This file makes and reads both; it knows nothing of the network.

use super::kdf::{Secret32, UnixSeconds, kdf, kdf_secret};
use super::pair::{Direction, PairSecret};
use crate::limits::{RENDEZVOUS_ADDRESSES_MAX, RENDEZVOUS_EPOCH_SECS};
use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305, XNonce};
use ed25519_dalek::SigningKey;
use std::net::{IpAddr, SocketAddr};

#[cfg(test)]
mod tests;

/// Bytes of every value: nonce, sealed note, tag.
pub const VALUE_LEN: usize = NONCE_LEN + NOTE_LEN + TAG_LEN;
/// Bytes of the salt (BEP 44 allows 64).
pub const SALT_LEN: usize = 16;
/// Random bytes that sealing needs.
pub const NONCE_LEN: usize = 24;

const NOTE_LEN: usize = 448;
const TAG_LEN: usize = 16;
const VERSION: u8 = 1;
const TCP_V4: u8 = 4;
const TCP_V6: u8 = 6;

const _: () = assert!(VALUE_LEN == 488, "BEP 44 takes 1000 bytes");
const _: () = assert!(10 + RENDEZVOUS_ADDRESSES_MAX * 19 <= NOTE_LEN);

/// Why a value is none that the other device left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RendezvousError {
    /// It does not verify: anybody may write something of that name only with its key, so this is damage.
    #[error("a rendezvous value does not verify")]
    Unverified,
    /// It verifies and makes no sense: a later version.
    #[error("a rendezvous value is malformed")]
    Malformed,
}

/// Where the sender can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When that was so, by the sender's clock.
    pub time: UnixSeconds,
    /// TCP addresses, best first; at most `RENDEZVOUS_ADDRESSES_MAX` are kept.
    pub addresses: Vec<SocketAddr>,
}

/// A place in the table: what one of two devices writes during one day, and the other reads.
pub struct Place {
    seed: Secret32,
    public: [u8; 32],
    salt: [u8; SALT_LEN],
    value_key: Secret32,
}

impl Place {
    /// The place for what is sent in `direction` during `epoch` ([`epochs`]).
    #[must_use]
    pub fn of(secret: &PairSecret, direction: Direction, epoch: u64) -> Self {
        let key = secret.rendezvous_key(direction);
        let epoch = epoch.to_be_bytes();
        let seed = kdf_secret("dht sign", &[key.expose(), &epoch]);
        let public = SigningKey::from_bytes(seed.expose()).verifying_key().to_bytes();
        let mut salt = [0; SALT_LEN];
        salt.copy_from_slice(&kdf("dht salt", &[key.expose(), &epoch])[..SALT_LEN]);
        Self { seed, public, salt, value_key: kdf_secret("dht value", &[key.expose(), &epoch]) }
    }

    /// Seed of the Ed25519 key that signs values here. Both devices have it: whoever reads could write as well, and has no
    /// reason to.
    #[must_use]
    pub const fn seed(&self) -> &Secret32 {
        &self.seed
    }

    /// The public key that names the place, together with the salt.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The salt.
    #[must_use]
    pub const fn salt(&self) -> &[u8; SALT_LEN] {
        &self.salt
    }

    /// Seals a note. `nonce` is fresh and random; `seq` is BEP 44's sequence number, which the value is bound to.
    #[must_use]
    pub fn seal(&self, note: &Note, seq: i64, nonce: &[u8; NONCE_LEN]) -> [u8; VALUE_LEN] {
        let mut value = [0; VALUE_LEN];
        value[..NONCE_LEN].copy_from_slice(nonce);
        let (body, tag) = value[NONCE_LEN..].split_at_mut(NOTE_LEN);
        body.copy_from_slice(&note.encode());
        let cipher = XChaCha20Poly1305::new(self.value_key.expose().into());
        let sealed = cipher.encrypt_in_place_detached(XNonce::from_slice(nonce), &self.bound_to(seq), body);
        tag.copy_from_slice(&sealed.expect("a note is far below the cipher's bound"));
        value
    }

    /// Opens what the other device left.
    ///
    /// # Errors
    /// It is none of theirs, or of a version that this one does not know.
    pub fn open(&self, value: &[u8], seq: i64) -> Result<Note, RendezvousError> {
        if value.len() != VALUE_LEN {
            return Err(RendezvousError::Malformed);
        }
        let (nonce, sealed) = value.split_at(NONCE_LEN);
        let (body, tag) = sealed.split_at(NOTE_LEN);
        let mut note = [0; NOTE_LEN];
        note.copy_from_slice(body);
        let cipher = XChaCha20Poly1305::new(self.value_key.expose().into());
        cipher
            .decrypt_in_place_detached(XNonce::from_slice(nonce), &self.bound_to(seq), &mut note, tag.into())
            .map_err(|_| RendezvousError::Unverified)?;
        Note::decode(&note)
    }

    fn bound_to(&self, seq: i64) -> Vec<u8> {
        [self.public.as_slice(), &self.salt, &seq.to_be_bytes()].concat()
    }
}

/// The epochs in which a device looks, and leaves word, at `now`: the present one, and its neighbour within an hour of the edge.
/// Pairs change at different times of the day, so that nobody can tell by that which places belong to one device.
#[must_use]
pub fn epochs(secret: &PairSecret, now: UnixSeconds) -> Vec<u64> {
    const EDGE_SECS: u64 = 3600;
    let offset = kdf("dht offset", &[secret.secret().expose()]);
    let offset = u32::from_be_bytes([offset[0], offset[1], offset[2], offset[3]]);
    let shifted = now.0.saturating_add(u64::from(offset) % RENDEZVOUS_EPOCH_SECS);
    let (epoch, into) = (shifted / RENDEZVOUS_EPOCH_SECS, shifted % RENDEZVOUS_EPOCH_SECS);
    let mut epochs = vec![epoch];
    if into < EDGE_SECS && epoch > 0 {
        epochs.push(epoch - 1);
    }
    if into >= RENDEZVOUS_EPOCH_SECS - EDGE_SECS {
        epochs.push(epoch + 1);
    }
    epochs
}

impl Note {
    /// version u8 ‖ time u64 ‖ n u8 ‖ n × (kind u8: 4 or 6 ‖ ip ‖ port u16) ‖ zeros to 448.
    fn encode(&self) -> [u8; NOTE_LEN] {
        let addresses = &self.addresses[..self.addresses.len().min(RENDEZVOUS_ADDRESSES_MAX)];
        let mut bytes = vec![VERSION];
        bytes.extend(self.time.0.to_be_bytes());
        bytes.push(u8::try_from(addresses.len()).expect("the bound is far below 256"));
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => bytes.extend([&[TCP_V4][..], &ip.octets()].concat()),
                IpAddr::V6(ip) => bytes.extend([&[TCP_V6][..], &ip.octets()].concat()),
            }
            bytes.extend(address.port().to_be_bytes());
        }
        bytes.resize(NOTE_LEN, 0);
        bytes.try_into().expect("it was made that long")
    }

    fn decode(bytes: &[u8; NOTE_LEN]) -> Result<Self, RendezvousError> {
        let mut rest = &bytes[..];
        let [version] = take(&mut rest)?;
        let time = UnixSeconds(u64::from_be_bytes(take(&mut rest)?));
        let [count] = take(&mut rest)?;
        if version != VERSION || usize::from(count) > RENDEZVOUS_ADDRESSES_MAX {
            return Err(RendezvousError::Malformed);
        }
        let mut addresses = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let ip = match take(&mut rest)? {
                [TCP_V4] => IpAddr::from(take::<4>(&mut rest)?),
                [TCP_V6] => IpAddr::from(take::<16>(&mut rest)?),
                _ => return Err(RendezvousError::Malformed),
            };
            addresses.push(SocketAddr::new(ip, u16::from_be_bytes(take(&mut rest)?)));
        }
        Ok(Self { time, addresses })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RendezvousError> {
    let (head, tail) = rest.split_first_chunk().ok_or(RendezvousError::Malformed)?;
    *rest = tail;
    Ok(*head)
}
