//! Signatures are verified strictly: one signature per link and key, and none by a key that fits everything. Otherwise two
//! devices could disagree about which links there are.

use super::*;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};

/// Order of the group (RFC 8032, section 5.1), little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
/// The points of small order in all their encodings: first byte, the bytes between, last byte, or all of them (Chalkias,
/// Garillot, Nikolaenko: "Taming the many EdDSAs", 2020, table 1).
const REPEATED: [(u8, u8, u8); 10] = [
    (0x01, 0x00, 0x00),
    (0x01, 0x00, 0x80),
    (0x00, 0x00, 0x00),
    (0x00, 0x00, 0x80),
    (0xec, 0xff, 0x7f),
    (0xec, 0xff, 0xff),
    (0xed, 0xff, 0x7f),
    (0xed, 0xff, 0xff),
    (0xee, 0xff, 0x7f),
    (0xee, 0xff, 0xff),
];
const OF_ORDER_8: [&str; 4] = [
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

fn unhex(text: &str) -> [u8; 32] {
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal"))
}

fn points_of_small_order() -> Vec<[u8; 32]> {
    let repeated = REPEATED.iter().map(|(first, between, last)| {
        let mut bytes = [*between; 32];
        (bytes[0], bytes[31]) = (*first, *last);
        bytes
    });
    repeated.chain(OF_ORDER_8.into_iter().map(unhex)).collect()
}

/// Encoding of the neutral element, then zero: a signature that fits everything under a key of order 1.
fn blank() -> [u8; 64] {
    let mut signature = [0; 64];
    signature[0] = 1;
    signature
}

#[test]
fn a_key_of_small_order_signs_nothing() {
    for ed in points_of_small_order() {
        let founder = crate::wire::identity::PublicIdentity { ed, x: device(0).public().x };
        let op = Op::Genesis(Genesis { device: founder, recovery: [7; 32], commit: commit(0), name: name("a") });
        let link = Unsigned { realm: None, generation: Generation(0), time: NOW, parents: Vec::new(), op };
        let genesis = link.sign(Signer::Device(founder.id()), |_| blank());
        assert_eq!(Roster::new(genesis.as_bytes()).err(), Some(Refused::BadSignature), "{ed:02x?}");
    }
    // What RFC 8032 itself lets pass, so this is not refused by chance.
    let neutral = VerifyingKey::from_bytes(&points_of_small_order()[0]).expect("a point");
    assert!(neutral.verify(b"anything", &Signature::from_bytes(&blank())).is_ok());
}

#[test]
fn a_second_signature_made_from_the_first_is_refused() {
    let genesis = Link::genesis(&device(0), name("a"), code().public(), commit(0), NOW);
    let mut bytes = genesis.as_bytes().to_vec();
    let scalar = bytes.len() - 32;
    let mut carry = 0;
    for (byte, order) in bytes[scalar..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "the sum fits");
    assert!(Roster::new(genesis.as_bytes()).is_ok());
    assert_eq!(Roster::new(&bytes).err(), Some(Refused::BadSignature));
}
