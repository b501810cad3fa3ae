//! The handshake `Noise_XXpsk0+psk3_25519_ChaChaPoly_BLAKE2s` with ML-KEM-768 as psk3: three messages of fixed
//! length, for sessions and pairing alike (SPEC.md section 5). No sockets and no randomness of its own.
//! Invariant: every failure is one error and no answer; nothing of a message is used before its tag has verified.

use super::frame::Transport;
use super::identity::{Identity, PublicIdentity};
use super::kdf::{Secret32, kdf};
use super::knock::{Context, Knock};
use super::noise::{self, Role};
use crate::model::DeviceId;
use ml_kem::{B32, Decapsulate, DecapsulationKey768, EncapsulationKey768, KeyExport, Seed};
use snow::HandshakeState;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The Noise protocol of sessions and pairing.
pub const NOISE_NAME: &str = "Noise_XXpsk0+psk3_25519_ChaChaPoly_BLAKE2s";
/// Bytes of message 1, initiator to responder, sent right behind the knock.
pub const MESSAGE_1_LEN: usize = 1268;
/// Bytes of message 2, responder to initiator.
pub const MESSAGE_2_LEN: usize = 1220;
/// Bytes of message 3, initiator to responder.
pub const MESSAGE_3_LEN: usize = 320;
/// Random bytes an initiator needs: X25519 ephemeral, ML-KEM seed (d, z), nonce.
pub const INITIATOR_RANDOM_LEN: usize = 32 + 64 + 32;
/// Random bytes a responder needs: X25519 ephemeral, ML-KEM message, nonce.
pub const RESPONDER_RANDOM_LEN: usize = 32 + 32 + 32;

const EK_LEN: usize = 1184;
const CT_LEN: usize = 1088;
const PAYLOAD_1_LEN: usize = 4 + EK_LEN + 32;
const PAYLOAD_2_LEN: usize = 4 + CT_LEN + 32;
const PAYLOAD_3_LEN: usize = 256;
/// Bytes of [`HelloHead`] inside message 3.
const HELLO_HEAD_LEN: usize = 28;

const _: () = assert!(MESSAGE_1_LEN == 32 + PAYLOAD_1_LEN + noise::TAG_LEN);
const _: () = assert!(MESSAGE_2_LEN == 32 + 48 + PAYLOAD_2_LEN + noise::TAG_LEN);
const _: () = assert!(MESSAGE_3_LEN == 48 + PAYLOAD_3_LEN + noise::TAG_LEN);
const _: () = assert!(64 + HELLO_HEAD_LEN <= PAYLOAD_3_LEN);

/// Why a handshake failed. The other side is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// A message did not verify: wrong keys, altered on the way, or not our protocol.
    #[error("a handshake message did not verify")]
    Unverified,
    /// The versions of the two sides do not overlap.
    #[error("the other device speaks versions {} to {} of the protocol, this one {} to {}: update the older one",
        theirs.0, theirs.1, ours.0, ours.1)]
    Versions {
        /// First and last that the other side speaks.
        theirs: (u8, u8),
        /// First and last that we speak.
        ours: (u8, u8),
    },
    /// The ML-KEM key is not a canonical encoding (FIPS 203, section 7.2).
    #[error("the other device's ML-KEM key is malformed")]
    KemKey,
    /// The other end's static key is not the paired device's.
    #[error("the other device is not the one that was expected")]
    WrongDevice,
    /// The initiator showed another nonce or identity than it committed to.
    #[error("the other device broke its commitment")]
    Commitment,
    /// Both ends have the same key.
    #[error("the other device is this device")]
    Ourselves,
}

impl From<snow::Error> for HandshakeError {
    fn from(_: snow::Error) -> Self {
        Self::Unverified
    }
}

/// What the initiator says about itself in message 3: instance\[16\] ‖ boot\[8\] ‖ capabilities u32. The message HELLO
/// repeats it with the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelloHead {
    /// Drawn with the data directory: two instances of one id are a copied identity.
    pub instance: [u8; 16],
    /// Drawn at each start.
    pub boot: [u8; 8],
    /// Capability bits, see `message::capability`.
    pub capabilities: u32,
}

impl HelloHead {
    fn write(&self, out: &mut [u8]) {
        out[..16].copy_from_slice(&self.instance);
        out[16..24].copy_from_slice(&self.boot);
        out[24..HELLO_HEAD_LEN].copy_from_slice(&self.capabilities.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        Self {
            instance: array(bytes),
            boot: array(&bytes[16..]),
            capabilities: u32::from_be_bytes(array(&bytes[24..])),
        }
    }
}

/// The six digits that two people compare: `u64be(KDF("sas"; h2, nI, nR, id of the initiator)[..8]) mod 10^6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckNumber(pub u32);

impl CheckNumber {
    /// From the handshake hash after message 2 and both nonces, all fixed or committed before either side saw the
    /// other's nonce. Never from the final hash: its last inputs are the initiator's free choice.
    #[must_use]
    pub fn derive(h2: &[u8; 32], nonce_i: &[u8; 32], nonce_r: &[u8; 32], initiator: &DeviceId) -> Self {
        let digest = kdf("sas", &[h2, nonce_i, nonce_r, &initiator.0]);
        let number = u64::from_be_bytes(array(&digest)) % 1_000_000;
        Self(u32::try_from(number).expect("a number below a million"))
    }
}

impl fmt::Display for CheckNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// commit = KDF("sas commit"; nonce of the initiator, its id).
#[must_use]
pub fn commitment(nonce_i: &[u8; 32], initiator: &DeviceId) -> [u8; 32] {
    kdf("sas commit", &[nonce_i, &initiator.0])
}

/// What either side brings to a handshake.
pub struct Params<'a> {
    /// Session or pairing.
    pub context: Context,
    /// The knock that opened the connection.
    pub knock: &'a Knock,
    /// Pre-shared key 0, from the pair secret that the knock names.
    pub psk: &'a Secret32,
    /// This device.
    pub own: &'a Identity,
    /// The device that the knock names; `None` while pairing.
    pub expected: Option<PublicIdentity>,
    /// Sent by the initiator; the responder's is ignored, its HELLO is its first frame.
    pub hello: HelloHead,
    /// Zeros over TCP and relays.
    pub channel_binding: [u8; 32],
    /// First and last protocol version that this side speaks.
    pub versions: (u8, u8),
}

impl Params<'_> {
    fn begin(&self, initiator: bool, ephemeral: Secret32) -> Result<HandshakeState, HandshakeError> {
        let own = self.own.x_secret();
        let role =
            if initiator { Role::Initiator { own: Some(&own), remote: None } } else { Role::Responder { own: &own } };
        let prologue = noise::prologue(self.context, self.knock, &self.channel_binding);
        Ok(noise::begin(NOISE_NAME, &role, self.psk, &prologue, ephemeral)?)
    }
}

/// A finished handshake.
pub struct Established {
    /// The channel.
    pub transport: Transport,
    /// The other end's X25519 key, proven.
    pub remote_x: [u8; 32],
    /// The other end. `None` only at the initiator of a pairing, until HELLO names the Ed25519 key.
    pub remote: Option<PublicIdentity>,
    /// The initiator's head of HELLO; `None` at the initiator.
    pub hello: Option<HelloHead>,
    /// The protocol version that both speak.
    pub version: u8,
    /// For people to compare while pairing.
    pub check_number: CheckNumber,
}

impl Established {
    /// Completes the other end's identity with the Ed25519 key of its HELLO.
    ///
    /// # Errors
    /// When the identity was known already and is another.
    pub fn identify(&self, ed: [u8; 32]) -> Result<PublicIdentity, HandshakeError> {
        let named = PublicIdentity { ed, x: self.remote_x };
        match self.remote {
            Some(known) if known != named => Err(HandshakeError::WrongDevice),
            _ => Ok(named),
        }
    }
}

/// The dialling side, between its messages 1 and 3.
pub struct Initiator {
    noise: HandshakeState,
    kem: DecapsulationKey768,
    ek_hash: [u8; 32],
    nonce: [u8; 32],
    own: PublicIdentity,
    expected: Option<PublicIdentity>,
    hello: HelloHead,
    versions: (u8, u8),
}

impl Initiator {
    /// Makes message 1 out of fresh random bytes, which must never be used again.
    ///
    /// # Errors
    /// When the parameters cannot start a handshake.
    pub fn start(
        params: &Params<'_>,
        random: &[u8; INITIATOR_RANDOM_LEN],
    ) -> Result<(Self, [u8; MESSAGE_1_LEN]), HandshakeError> {
        let mut seed = Seed::default();
        seed.copy_from_slice(&random[32..96]);
        let kem = DecapsulationKey768::from_seed(seed);
        seed.zeroize();
        let ek = kem.encapsulation_key().to_bytes();
        let nonce: [u8; 32] = array(&random[96..]);
        let own = params.own.public();

        let mut payload = [0; PAYLOAD_1_LEN];
        (payload[0], payload[1]) = params.versions;
        payload[4..4 + EK_LEN].copy_from_slice(&ek);
        payload[4 + EK_LEN..].copy_from_slice(&commitment(&nonce, &own.id()));

        let mut noise = params.begin(true, Secret32::new(array(random)))?;
        let mut message = [0; MESSAGE_1_LEN];
        write_exact(&mut noise, &payload, &mut message)?;
        let ek_hash = *blake3::hash(&ek).as_bytes();
        let Params { expected, hello, versions, .. } = *params;
        Ok((Self { noise, kem, ek_hash, nonce, own, expected, hello, versions }, message))
    }

    /// Reads message 2 and makes message 3. The responder's static key is checked before anything of ours is sent.
    ///
    /// # Errors
    /// Any failure: close the connection, say nothing.
    pub fn read_message_2(
        mut self,
        message: &[u8; MESSAGE_2_LEN],
    ) -> Result<([u8; MESSAGE_3_LEN], Established), HandshakeError> {
        let mut payload = Zeroizing::new([0; PAYLOAD_2_LEN]);
        read_exact(&mut self.noise, message, &mut *payload)?;
        let remote_x = remote_static(&self.noise)?;
        if remote_x == self.own.x {
            return Err(HandshakeError::Ourselves);
        }
        if self.expected.is_some_and(|expected| expected.x != remote_x) {
            return Err(HandshakeError::WrongDevice);
        }
        let version = payload[0];
        if version < self.versions.0 || version > self.versions.1 {
            return Err(HandshakeError::Versions { theirs: (version, version), ours: self.versions });
        }
        let h2 = handshake_hash(&self.noise);
        let ct = &payload[4..4 + CT_LEN];
        let mut shared = self.kem.decapsulate_slice(ct).map_err(|_| HandshakeError::Unverified)?;
        let psk3 = kem_psk(&shared, &self.ek_hash, blake3::hash(ct).as_bytes());
        shared.zeroize();
        self.noise.set_psk(3, psk3.expose())?;

        let nonce_r: [u8; 32] = array(&payload[4 + CT_LEN..]);
        let check_number = CheckNumber::derive(&h2, &self.nonce, &nonce_r, &self.own.id());
        let mut payload = [0; PAYLOAD_3_LEN];
        payload[..32].copy_from_slice(&self.nonce);
        payload[32..64].copy_from_slice(&self.own.ed);
        self.hello.write(&mut payload[64..64 + HELLO_HEAD_LEN]);
        let mut reply = [0; MESSAGE_3_LEN];
        write_exact(&mut self.noise, &payload, &mut reply)?;
        let transport = Transport::new(self.noise.into_stateless_transport_mode()?);
        Ok((reply, Established { transport, remote_x, remote: self.expected, hello: None, version, check_number }))
    }
}

/// The accepting side, between messages 2 and 3.
pub struct Responder {
    noise: HandshakeState,
    commitment: [u8; 32],
    nonce: [u8; 32],
    h2: [u8; 32],
    own_x: [u8; 32],
    version: u8,
    expected: Option<PublicIdentity>,
}

impl Responder {
    /// Reads message 1 and makes message 2 out of fresh random bytes, which must never be used again.
    ///
    /// # Errors
    /// Any failure: stay silent, as to a wrong knock.
    pub fn start(
        params: &Params<'_>,
        message: &[u8; MESSAGE_1_LEN],
        random: &[u8; RESPONDER_RANDOM_LEN],
    ) -> Result<(Self, [u8; MESSAGE_2_LEN]), HandshakeError> {
        let mut noise = params.begin(false, Secret32::new(array(random)))?;
        let mut payload = [0; PAYLOAD_1_LEN];
        read_exact(&mut noise, message, &mut payload)?;
        let version = choose_version((payload[0], payload[1]), params.versions)?;
        let ek = &payload[4..4 + EK_LEN];
        let (ct, psk3) = encapsulate(ek, &random[32..64])?;
        noise.set_psk(3, psk3.expose())?;

        let nonce: [u8; 32] = array(&random[64..]);
        let mut reply_payload = Zeroizing::new([0; PAYLOAD_2_LEN]);
        reply_payload[0] = version;
        reply_payload[4..4 + CT_LEN].copy_from_slice(&ct);
        reply_payload[4 + CT_LEN..].copy_from_slice(&nonce);
        let mut reply = [0; MESSAGE_2_LEN];
        write_exact(&mut noise, &*reply_payload, &mut reply)?;
        let h2 = handshake_hash(&noise);
        let commitment = array(&payload[4 + EK_LEN..]);
        let own_x = params.own.public().x;
        Ok((Self { noise, commitment, nonce, h2, own_x, version, expected: params.expected }, reply))
    }

    /// Reads message 3.
    ///
    /// # Errors
    /// Any failure: close the connection, say nothing.
    pub fn read_message_3(mut self, message: &[u8; MESSAGE_3_LEN]) -> Result<Established, HandshakeError> {
        let mut payload = [0; PAYLOAD_3_LEN];
        read_exact(&mut self.noise, message, &mut payload)?;
        let remote = PublicIdentity { ed: array(&payload[32..]), x: remote_static(&self.noise)? };
        if remote.x == self.own_x {
            return Err(HandshakeError::Ourselves);
        }
        if self.expected.is_some_and(|expected| expected != remote) {
            return Err(HandshakeError::WrongDevice);
        }
        let nonce_i: [u8; 32] = array(&payload);
        let id = remote.id();
        if !bool::from(commitment(&nonce_i, &id).ct_eq(&self.commitment)) {
            return Err(HandshakeError::Commitment);
        }
        let check_number = CheckNumber::derive(&self.h2, &nonce_i, &self.nonce, &id);
        let hello = Some(HelloHead::read(&payload[64..64 + HELLO_HEAD_LEN]));
        let transport = Transport::new(self.noise.into_stateless_transport_mode()?);
        Ok(Established {
            transport,
            remote_x: remote.x,
            remote: Some(remote),
            hello,
            version: self.version,
            check_number,
        })
    }
}

/// The highest version that both sides speak.
fn choose_version(theirs: (u8, u8), ours: (u8, u8)) -> Result<u8, HandshakeError> {
    let chosen = theirs.1.min(ours.1);
    if theirs.0 > theirs.1 || chosen < theirs.0 || chosen < ours.0 {
        return Err(HandshakeError::Versions { theirs, ours });
    }
    Ok(chosen)
}

/// ML-KEM-768 ciphertext for `ek` and the pre-shared key 3 it carries.
fn encapsulate(ek: &[u8], message: &[u8]) -> Result<([u8; CT_LEN], Secret32), HandshakeError> {
    let encoded = ek.try_into().map_err(|_| HandshakeError::KemKey)?;
    let key = EncapsulationKey768::new(encoded).map_err(|_| HandshakeError::KemKey)?;
    let mut m = B32::default();
    m.copy_from_slice(message);
    let (ct, mut shared) = key.encapsulate_deterministic(&m);
    m.zeroize();
    let psk3 = kem_psk(&shared, blake3::hash(ek).as_bytes(), blake3::hash(&ct).as_bytes());
    shared.zeroize();
    Ok((array(&ct), psk3))
}

/// KDF("mlkem psk3"; shared secret, BLAKE3(ek), BLAKE3(ct)).
fn kem_psk(shared: &[u8], ek_hash: &[u8; 32], ct_hash: &[u8; 32]) -> Secret32 {
    super::kdf::kdf_secret("mlkem psk3", &[shared, ek_hash, ct_hash])
}

fn write_exact(noise: &mut HandshakeState, payload: &[u8], message: &mut [u8]) -> Result<(), HandshakeError> {
    let written = noise.write_message(payload, message)?;
    assert_eq!(written, message.len(), "handshake messages have fixed lengths");
    Ok(())
}

fn read_exact(noise: &mut HandshakeState, message: &[u8], payload: &mut [u8]) -> Result<(), HandshakeError> {
    let read = noise.read_message(message, payload)?;
    assert_eq!(read, payload.len(), "handshake messages have fixed lengths");
    Ok(())
}

fn remote_static(noise: &HandshakeState) -> Result<[u8; 32], HandshakeError> {
    noise.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(HandshakeError::Unverified)
}

fn handshake_hash(noise: &HandshakeState) -> [u8; 32] {
    array(noise.get_handshake_hash())
}

/// The first `N` bytes of a fixed layout.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("a slice of N bytes")
}

#[cfg(test)]
mod tests;
