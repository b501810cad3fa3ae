//! Two ends of a handshake in one thread: it completes, and every way to spoil it fails silently.

use super::*;
use crate::limits::PROTOCOL_VERSIONS;
use crate::wire::kdf::UnixSeconds;

struct Side {
    identity: Identity,
    expected: Option<PublicIdentity>,
    psk: Secret32,
    knock: Knock,
    context: Context,
    versions: (u8, u8),
}

impl Side {
    fn params(&self) -> Params<'_> {
        Params {
            context: self.context,
            knock: &self.knock,
            psk: &self.psk,
            own: &self.identity,
            expected: self.expected,
            hello: HelloHead { instance: [7; 16], boot: [8; 8], capabilities: 0x0102_0304 },
            channel_binding: [0; 32],
            versions: self.versions,
        }
    }
}

fn device(seed: u8) -> Identity {
    Identity::from_seed(&Secret32::new([seed; 32]))
}

/// Initiator and responder that know each other.
fn sides(context: Context) -> (Side, Side) {
    let (a, b) = (device(1), device(2));
    let knock = Knock::make(&Secret32::new([3; 32]), context, [4; 8], UnixSeconds(1_700_000_000));
    let (expect_a, expect_b) = match context {
        Context::Session => (Some(a.public()), Some(b.public())),
        Context::Pairing | Context::Relay => (None, None),
    };
    let versions = PROTOCOL_VERSIONS;
    let side = |identity, expected| Side { identity, expected, psk: Secret32::new([9; 32]), knock, context, versions };
    (side(a, expect_b), side(b, expect_a))
}

const RANDOM_I: [u8; INITIATOR_RANDOM_LEN] = [0x51; INITIATOR_RANDOM_LEN];
const RANDOM_R: [u8; RESPONDER_RANDOM_LEN] = [0x52; RESPONDER_RANDOM_LEN];

/// Runs a handshake; `touch` may spoil a message (by its number) on the way.
fn shake(
    a: &Side,
    b: &Side,
    mut touch: impl FnMut(u8, &mut [u8]),
) -> Result<(Established, Established), HandshakeError> {
    let (initiator, mut first) = Initiator::start(&a.params(), &RANDOM_I)?;
    touch(1, &mut first);
    let (responder, mut second) = Responder::start(&b.params(), &first, &RANDOM_R)?;
    touch(2, &mut second);
    let (mut third, at_a) = initiator.read_message_2(&second)?;
    touch(3, &mut third);
    Ok((at_a, responder.read_message_3(&third)?))
}

fn check_refused(name: &str, a: &Side, b: &Side, expected: HandshakeError) {
    assert_eq!(shake(a, b, |_, _| ()).err(), Some(expected), "{name}");
}

#[test]
fn both_ends_learn_the_same() {
    for context in [Context::Session, Context::Pairing] {
        let (a, b) = sides(context);
        let (at_a, at_b) = shake(&a, &b, |_, _| ()).expect("honest ends");
        assert_eq!(at_a.check_number, at_b.check_number);
        assert_eq!(at_a.remote_x, b.identity.public().x);
        assert_eq!(at_b.remote, Some(a.identity.public()));
        assert_eq!(at_a.remote, a.expected);
        assert_eq!(at_a.identify(b.identity.public().ed), Ok(b.identity.public()));
        assert_eq!(at_b.hello, Some(a.params().hello));
        assert_eq!(at_b.identify([0; 32]), Err(HandshakeError::WrongDevice));
    }
}

#[test]
fn one_flipped_bit_anywhere_is_refused() {
    let (a, b) = sides(Context::Session);
    for (number, len) in [(1, MESSAGE_1_LEN), (2, MESSAGE_2_LEN), (3, MESSAGE_3_LEN)] {
        for position in (0..len).step_by(37).chain([len - 1]) {
            let spoiled = shake(&a, &b, |at, message| {
                if at == number {
                    message[position] ^= 1;
                }
            });
            assert_eq!(spoiled.err(), Some(HandshakeError::Unverified), "message {number}, byte {position}");
        }
    }
}

#[test]
fn strangers_are_refused() {
    let (a, mut b) = sides(Context::Session);
    b.psk = Secret32::new([10; 32]);
    check_refused("another psk", &a, &b, HandshakeError::Unverified);
    let (a, mut b) = sides(Context::Session);
    b.knock.0[3] ^= 1;
    check_refused("another knock", &a, &b, HandshakeError::Unverified);
    let (a, mut b) = sides(Context::Session);
    b.context = Context::Pairing;
    check_refused("another context", &a, &b, HandshakeError::Unverified);
    let (mut a, b) = sides(Context::Session);
    a.expected = Some(device(5).public());
    check_refused("initiator expects another", &a, &b, HandshakeError::WrongDevice);
    let (a, mut b) = sides(Context::Session);
    b.expected = Some(device(5).public());
    check_refused("responder expects another", &a, &b, HandshakeError::WrongDevice);
    let (a, mut b) = sides(Context::Pairing);
    b.identity = device(1);
    check_refused("own invite", &a, &b, HandshakeError::Ourselves);
}

#[test]
fn the_initiator_is_bound_to_its_commitment() {
    let (a, b) = sides(Context::Pairing);
    let (mut initiator, first) = Initiator::start(&a.params(), &RANDOM_I).expect("honest");
    let (responder, second) = Responder::start(&b.params(), &first, &RANDOM_R).expect("honest");
    initiator.nonce[0] ^= 1;
    let (third, _) = initiator.read_message_2(&second).expect("honest responder");
    assert_eq!(responder.read_message_3(&third).err(), Some(HandshakeError::Commitment));
}

#[test]
fn versions_must_overlap() {
    for (theirs, ours, chosen) in [
        ((1, 1), (1, 1), Some(1)),
        ((0, 9), (1, 1), Some(1)),
        ((1, 200), (1, 1), Some(1)),
        ((1, 2), (1, 3), Some(2)),
        ((2, 3), (1, 1), None),
        ((0, 0), (1, 1), None),
        ((3, 1), (1, 1), None),
    ] {
        let (mut a, mut b) = sides(Context::Session);
        (a.versions, b.versions) = (theirs, ours);
        let expected = chosen.map_or(Err(HandshakeError::Versions { theirs, ours }), |chosen| Ok((chosen, chosen)));
        let found = shake(&a, &b, |_, _| {}).map(|(at_a, at_b)| (at_a.version, at_b.version));
        assert_eq!(found, expected, "{theirs:?} {ours:?}");
    }
}

#[test]
fn a_kem_key_out_of_range_is_refused() {
    assert_eq!(encapsulate(&[0xff; EK_LEN], &[0; 32]).err(), Some(HandshakeError::KemKey));
    assert_eq!(encapsulate(&[0; EK_LEN - 1], &[0; 32]).err(), Some(HandshakeError::KemKey));
}
