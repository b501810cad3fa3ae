//! The relay's words: its link, how a client joins, what both say while the client is parked. Two clients that park
//! under the same token are spliced, and from then on the relay sees bytes that are random to it.
//! Which client meets which is the relay server's business, not decided here.

use super::kdf::{Secret32, UnixSeconds, kdf, kdf_secret};
use super::knock::{Context, KNOCK_LEN, Knock};
use super::noise::{self, Role, TAG_LEN};
use super::pair::{Direction, PairSecret};
use crate::model::DeviceId;
use snow::{HandshakeState, StatelessTransportState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use x25519_dalek::{PublicKey, StaticSecret};

mod link;
#[cfg(test)]
mod tests;

pub use link::{Endpoint, EndpointError, RelayLink, RelayLinkError};

/// The Noise protocol between a relay and its client: the client knows the relay's key from its link.
pub const NOISE_NAME: &str = "Noise_NKpsk0_25519_ChaChaPoly_BLAKE2s";
/// Default TCP port of a relay.
pub const PORT: u16 = 28_731;
/// Bytes that open a connection to a relay: knock and message 1.
pub const JOIN_LEN: usize = KNOCK_LEN + MESSAGE_1_LEN;
/// Bytes of message 1, client to relay.
pub const MESSAGE_1_LEN: usize = 32 + PAYLOAD_1_LEN + TAG_LEN;
/// Bytes of message 2, relay to client.
pub const MESSAGE_2_LEN: usize = 32 + PAYLOAD_2_LEN + TAG_LEN;
/// Bytes of each message while parked.
pub const WORD_LEN: usize = WORD_PAYLOAD_LEN + TAG_LEN;
/// Random bytes that a client needs: knock salt, X25519 ephemeral.
pub const CLIENT_RANDOM_LEN: usize = 8 + 32;

const PAYLOAD_1_LEN: usize = 96;
const PAYLOAD_2_LEN: usize = 64;
const WORD_PAYLOAD_LEN: usize = 32;

const _: () = assert!(JOIN_LEN == 168 && MESSAGE_2_LEN == 112 && WORD_LEN == 48);

/// Why words between relay and client were refused. The other side is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// A message did not verify.
    #[error("a relay message did not verify")]
    Unverified,
    /// A message verified and makes no sense.
    #[error("a relay message is malformed")]
    Malformed,
}

impl From<snow::Error> for RelayError {
    fn from(_: snow::Error) -> Self {
        Self::Unverified
    }
}

/// A relay's key.
pub struct RelayIdentity {
    secret: StaticSecret,
}

impl RelayIdentity {
    /// X25519 scalar KDF("relay x25519"; seed).
    #[must_use]
    pub fn from_seed(seed: &Secret32) -> Self {
        Self { secret: StaticSecret::from(*kdf_secret("relay x25519", &[seed.expose()]).expose()) }
    }

    /// The public key, part of the relay's link.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.secret).to_bytes()
    }
}

/// What a member of a realm makes a relay of its own port with, for the other members: all of them can derive it, and nobody
/// who was removed before the realm's latest epoch.
pub struct OwnRelay {
    /// Of its [`RelayIdentity`].
    pub seed: Secret32,
    /// Lets members in.
    pub access_key: Secret32,
}

impl OwnRelay {
    /// `secret`: of the realm's latest epoch.
    #[must_use]
    pub fn of(secret: &Secret32, device: &DeviceId) -> Self {
        let derive = |label| kdf_secret(label, &[secret.expose(), device.as_bytes()]);
        Self { seed: derive("own relay seed"), access_key: derive("own relay") }
    }

    /// How another member finds it at `at`.
    #[must_use]
    pub fn link(&self, at: Endpoint) -> RelayLink {
        let relay_x = RelayIdentity::from_seed(&self.seed).public();
        RelayLink { relay_x, access_key: self.access_key.clone(), at }
    }
}

/// Which of several machines behind one name a pair comes to: the smallest first, of IPv4 before IPv6. Both ends of a pair put the
/// same addresses into the same order, and different pairs into different ones.
#[must_use]
pub fn preference(token: &[u8; 32], machine: IpAddr) -> (bool, [u8; 32]) {
    let octets = match machine {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    (machine.is_ipv6(), kdf("relay machine", &[token, &octets]))
}

/// The key of knocks made with a relay's access key.
#[must_use]
pub fn knock_key(access_key: &Secret32) -> Secret32 {
    PairSecret::from_secret(access_key.clone()).knock_key(Direction::High)
}

fn psk(access_key: &Secret32) -> Secret32 {
    PairSecret::from_secret(access_key.clone()).psk()
}

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum JoinRequest {
    /// To meet whoever parks under the same token on the other side.
    Join {
        /// `Low` for the smaller device id or the shower of an invite.
        side: Direction,
        /// See [`PairSecret::relay_token`].
        token: [u8; 32],
    },
    /// Only to learn its own address as the relay sees it.
    Observe,
}

impl JoinRequest {
    /// op u8 ‖ side u8 ‖ reserved u16 ‖ token\[32\] ‖ zeros to 96.
    fn encode(self) -> [u8; PAYLOAD_1_LEN] {
        let mut payload = [0; PAYLOAD_1_LEN];
        match self {
            Self::Join { side, token } => {
                payload[0] = 1;
                payload[1] = side.byte();
                payload[4..36].copy_from_slice(&token);
            }
            Self::Observe => payload[0] = 2,
        }
        payload
    }

    fn decode(payload: &[u8; PAYLOAD_1_LEN]) -> Result<Self, RelayError> {
        let mut token = [0; 32];
        token.copy_from_slice(&payload[4..36]);
        match (payload[0], payload[1]) {
            (1, 0) => Ok(Self::Join { side: Direction::Low, token }),
            (1, 1) => Ok(Self::Join { side: Direction::High, token }),
            (2, _) => Ok(Self::Observe),
            _ => Err(RelayError::Malformed),
        }
    }
}

/// What the relay makes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinStatus {
    /// Parked until the other side comes.
    Waiting,
    /// No room for another client.
    Full,
    /// Too many requests; come back later.
    Rate,
    /// Not allowed.
    Denied,
}

/// The relay's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// Whether the client is parked.
    pub status: JoinStatus,
    /// The client's address as the relay sees it.
    pub observed: SocketAddr,
    /// Seconds of silence after which a splice is cut.
    pub idle_secs: u16,
    /// Bytes per second that one splice may move.
    pub rate: u32,
}

impl JoinReply {
    /// status u8 ‖ reserved u8 ‖ ip\[16\] ‖ port u16 ‖ idle u16 ‖ rate u32 ‖ zeros to 64.
    fn encode(&self) -> [u8; PAYLOAD_2_LEN] {
        let mut payload = [0; PAYLOAD_2_LEN];
        payload[0] = match self.status {
            JoinStatus::Waiting => 0,
            JoinStatus::Full => 1,
            JoinStatus::Rate => 2,
            JoinStatus::Denied => 3,
        };
        let ip = match self.observed.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        payload[2..18].copy_from_slice(&ip.octets());
        payload[18..20].copy_from_slice(&self.observed.port().to_be_bytes());
        payload[20..22].copy_from_slice(&self.idle_secs.to_be_bytes());
        payload[22..26].copy_from_slice(&self.rate.to_be_bytes());
        payload
    }

    fn decode(payload: &[u8; PAYLOAD_2_LEN]) -> Result<Self, RelayError> {
        let status = match payload[0] {
            0 => JoinStatus::Waiting,
            1 => JoinStatus::Full,
            2 => JoinStatus::Rate,
            3 => JoinStatus::Denied,
            _ => return Err(RelayError::Malformed),
        };
        let mut ip = [0; 16];
        ip.copy_from_slice(&payload[2..18]);
        let port = u16::from_be_bytes([payload[18], payload[19]]);
        Ok(Self {
            status,
            observed: SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port),
            idle_secs: u16::from_be_bytes([payload[20], payload[21]]),
            rate: u32::from_be_bytes([payload[22], payload[23], payload[24], payload[25]]),
        })
    }
}

/// A client between its join and the relay's answer.
pub struct JoiningClient {
    noise: HandshakeState,
}

impl JoiningClient {
    /// Makes knock and message 1 out of fresh random bytes, which must never be used again.
    ///
    /// # Errors
    /// When the link cannot start a handshake.
    pub fn start(
        link: &RelayLink,
        request: JoinRequest,
        now: UnixSeconds,
        random: &[u8; CLIENT_RANDOM_LEN],
    ) -> Result<(Self, [u8; JOIN_LEN]), RelayError> {
        let (mut salt, mut ephemeral) = ([0; 8], [0; 32]);
        salt.copy_from_slice(&random[..8]);
        ephemeral.copy_from_slice(&random[8..]);
        let knock = Knock::make(&knock_key(&link.access_key), Context::Relay, salt, now);
        let role = Role::Initiator { own: None, remote: Some(&link.relay_x) };
        let prologue = noise::prologue(Context::Relay, &knock, &[0; 32]);
        let psk = psk(&link.access_key);
        let mut noise = noise::begin(NOISE_NAME, &role, &psk, &prologue, Secret32::new(ephemeral))?;
        let mut message = [0; JOIN_LEN];
        message[..KNOCK_LEN].copy_from_slice(&knock.0);
        noise.write_message(&request.encode(), &mut message[KNOCK_LEN..])?;
        Ok((Self { noise }, message))
    }

    /// Reads the relay's answer. Unless the status is `Waiting` the connection is over.
    ///
    /// # Errors
    /// Any failure: this is not the relay of the link.
    pub fn read_reply(mut self, message: &[u8; MESSAGE_2_LEN]) -> Result<(JoinReply, Parked), RelayError> {
        let mut payload = [0; PAYLOAD_2_LEN];
        self.noise.read_message(message, &mut payload)?;
        Ok((JoinReply::decode(&payload)?, Parked::new(self.noise)?))
    }
}

/// A relay that has read a request and not answered yet.
pub struct Joining {
    noise: HandshakeState,
}

impl Joining {
    /// Reads message 1 behind a knock that `access_key` matched. `random` is a fresh X25519 ephemeral.
    ///
    /// # Errors
    /// Any failure: stay silent, as to a wrong knock.
    pub fn read(
        identity: &RelayIdentity,
        access_key: &Secret32,
        knock: &Knock,
        message: &[u8; MESSAGE_1_LEN],
        random: &[u8; 32],
    ) -> Result<(JoinRequest, Self), RelayError> {
        let own = zeroize::Zeroizing::new(identity.secret.to_bytes());
        let prologue = noise::prologue(Context::Relay, knock, &[0; 32]);
        let role = Role::Responder { own: &own };
        let mut noise = noise::begin(NOISE_NAME, &role, &psk(access_key), &prologue, Secret32::new(*random))?;
        let mut payload = [0; PAYLOAD_1_LEN];
        noise.read_message(message, &mut payload)?;
        Ok((JoinRequest::decode(&payload)?, Self { noise }))
    }

    /// Makes message 2.
    ///
    /// # Errors
    /// When the handshake is not in its place, which no input causes.
    pub fn reply(mut self, reply: &JoinReply) -> Result<([u8; MESSAGE_2_LEN], Parked), RelayError> {
        let mut message = [0; MESSAGE_2_LEN];
        self.noise.write_message(&reply.encode(), &mut message)?;
        Ok((message, Parked::new(self.noise)?))
    }
}

/// What relay and client say while the client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// 1, relay to client: are you there?
    Ping,
    /// 2, client to relay: yes.
    Pong,
    /// 3, relay to client: the other side has come.
    Matched,
    /// 4, client to relay: ready.
    MatchAck,
    /// 5, relay to client: both were ready; everything behind this word belongs to the other side.
    Spliced,
}

/// A parked connection: words in either direction until `Spliced`, raw bytes after it.
pub struct Parked {
    state: StatelessTransportState,
    sent: u64,
    received: u64,
}

impl Parked {
    fn new(noise: HandshakeState) -> Result<Self, RelayError> {
        Ok(Self { state: noise.into_stateless_transport_mode()?, sent: 0, received: 0 })
    }

    /// The next word to send.
    ///
    /// # Errors
    /// When the nonces are used up, after 2^64 words.
    pub fn seal(&mut self, word: Word) -> Result<[u8; WORD_LEN], RelayError> {
        let mut payload = [0; WORD_PAYLOAD_LEN];
        payload[0] = match word {
            Word::Ping => 1,
            Word::Pong => 2,
            Word::Matched => 3,
            Word::MatchAck => 4,
            Word::Spliced => 5,
        };
        let mut message = [0; WORD_LEN];
        self.state.write_message(self.sent, &payload, &mut message)?;
        self.sent += 1;
        Ok(message)
    }

    /// The next word received.
    ///
    /// # Errors
    /// Any failure: close.
    pub fn open(&mut self, message: &[u8; WORD_LEN]) -> Result<Word, RelayError> {
        let mut payload = [0; WORD_LEN];
        self.state.read_message(self.received, message, &mut payload)?;
        self.received += 1;
        match payload[0] {
            1 => Ok(Word::Ping),
            2 => Ok(Word::Pong),
            3 => Ok(Word::Matched),
            4 => Ok(Word::MatchAck),
            5 => Ok(Word::Spliced),
            _ => Err(RelayError::Malformed),
        }
    }
}
