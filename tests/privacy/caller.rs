//! Openings as one device would make them towards another: from its own keys, with the protocol's own code.

use protocol::limits::PROTOCOL_VERSIONS;
use protocol::wire::handshake::{HelloHead, Initiator, MESSAGE_1_LEN, Params};
use protocol::wire::identity::{Identity, PublicIdentity};
use protocol::wire::kdf::UnixSeconds;
use protocol::wire::knock::{Context, KNOCK_LEN, Knock};
use protocol::wire::pair::{Direction, PairSecret};
use std::fs::File;
use std::io::Read;
use std::time::SystemTime;
use syncd::keys::Pairings;
use tests::harness::Device;

/// Knock and message 1.
pub const OPENING_LEN: usize = KNOCK_LEN + MESSAGE_1_LEN;

/// Fresh bytes from the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).expect("the kernel gives some");
    bytes
}

/// This machine's clock.
pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs())
}

/// A device's public and secret keys, as they lie in its home.
pub fn identity(device: &Device) -> Identity {
    syncd::keys::open(&device.home().join("keys")).expect("the keys of a device that ran").identity
}

/// What a device needs to call another.
pub struct Caller {
    pub identity: Identity,
    pub expected: PublicIdentity,
    pub secret: PairSecret,
}

impl Caller {
    /// What `device` has to call the only one that it is paired with.
    pub fn of(device: &Device) -> Self {
        let pairings = Pairings::open(&device.home().join("keys")).expect("the pairings of a device that ran");
        let [pairing] = pairings.all() else { panic!("{} has one pairing", device.name()) };
        Self { identity: identity(device), expected: pairing.public, secret: pairing.secret.clone() }
    }

    /// A knock and message 1 that were never sent.
    pub fn opening(&self) -> [u8; OPENING_LEN] {
        let out = Direction::of(&self.identity.id(), &self.expected.id());
        let knock = Knock::make(&self.secret.knock_key(out), Context::Session, random(), now());
        let params = Params {
            context: Context::Session,
            knock: &knock,
            psk: &self.secret.psk(),
            own: &self.identity,
            expected: Some(self.expected),
            hello: HelloHead::default(),
            channel_binding: [0; 32],
            versions: PROTOCOL_VERSIONS,
        };
        let (_, message_1) = Initiator::start(&params, &random()).expect("honest parameters");
        let mut opening = [0; OPENING_LEN];
        opening[..KNOCK_LEN].copy_from_slice(&knock.0);
        opening[KNOCK_LEN..].copy_from_slice(&message_1);
        opening
    }
}
