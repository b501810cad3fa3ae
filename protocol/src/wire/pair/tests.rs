//! Both ends derive the same, every input counts, and keys of different purposes differ.

use super::*;
use crate::wire::handshake::commitment;
use std::collections::BTreeSet;

fn device(seed: u8) -> Identity {
    Identity::from_seed(&Secret32::new([seed; 32]))
}

#[test]
fn both_ends_derive_the_same_and_every_input_counts() {
    let (a, b, c) = (device(1), device(2), device(3));
    let shared = Secret32::new([7; 32]);
    let pair = PairSecret::between(&a, &b.public(), &shared).ok();
    assert!(pair.is_some() && pair == PairSecret::between(&b, &a.public(), &shared).ok());
    assert!(pair != PairSecret::between(&a, &c.public(), &shared).ok(), "another device");
    assert!(pair != PairSecret::between(&a, &b.public(), &Secret32::new([8; 32])).ok(), "other random bytes");
    let renamed = PublicIdentity { ed: c.public().ed, x: b.public().x };
    assert!(pair != PairSecret::between(&a, &renamed, &shared).ok(), "the id commits to both keys");
}

/// Points of small order on curve 25519 (Bernstein, <https://cr.yp.to/ecdh.html>, "validate"), those above the prime among
/// them. RFC 7748 has the top bit ignored.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn unusable_keys_are_refused() {
    let a = device(1);
    let refused = |their| PairSecret::between(&a, &their, &Secret32::new([7; 32])).err();
    assert_eq!(refused(a.public()), Some(PairError::Ourselves));
    assert_eq!(refused(PublicIdentity { ed: [5; 32], x: a.public().x }), Some(PairError::Ourselves));
    let unhex = |text: &str| -> [u8; 32] {
        std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal"))
    };
    for point in SMALL_ORDER.map(unhex) {
        for top in [0, 0x80] {
            let mut x = point;
            x[31] |= top;
            assert_eq!(refused(PublicIdentity { ed: [5; 32], x }), Some(PairError::WeakKey), "{x:02x?}");
        }
    }
}

#[test]
fn purposes_and_directions_have_keys_of_their_own() {
    let pair = PairSecret::from_secret(Secret32::new([7; 32]));
    let mut keys = BTreeSet::from([*pair.psk().expose(), *pair.secret().expose()]);
    for direction in [Direction::Low, Direction::High] {
        keys.insert(*pair.knock_key(direction).expose());
        keys.insert(*pair.lan_key(direction).expose());
        keys.insert(pair.pairing_proof(direction));
    }
    keys.insert(pair.relay_token(&[1; 32], 5));
    keys.insert(pair.relay_token(&[2; 32], 5));
    keys.insert(pair.relay_token(&[1; 32], 6));
    assert_eq!(keys.len(), 11);
}

#[test]
fn directions() {
    let (low, high) = (DeviceId([1; 32]), DeviceId([2; 32]));
    assert_eq!(Direction::of(&low, &high), Direction::Low);
    assert_eq!(Direction::of(&high, &low), Direction::Low.reverse());
    assert_eq!(relay_epoch(UnixSeconds(6 * 3600 * 5 - 1)), 4);
}

#[test]
fn parts_cannot_be_shifted_between_each_other() {
    let derive = |parts: &[&[u8]]| kdf("test", parts);
    assert_ne!(derive(&[b"ab", b"c"]), derive(&[b"a", b"bc"]));
    assert_ne!(derive(&[b"abc"]), derive(&[b"abc", b""]));
    assert_ne!(commitment(&[1; 32], &DeviceId([2; 32])), commitment(&[2; 32], &DeviceId([1; 32])));
}

#[test]
fn ports_of_a_moment_are_known_to_both_and_differ_from_moment_to_moment() {
    let (a, b) = (device(1), device(2));
    let shared = Secret32::new([7; 32]);
    let secret = |own: &Identity, their: &Identity| {
        let Ok(secret) = PairSecret::between(own, &their.public(), &shared) else { panic!("these are two devices") };
        secret
    };
    let (ours, theirs) = (secret(&a, &b), secret(&b, &a));
    let mut ports = BTreeSet::new();
    for slot in 0..2000 {
        for direction in [Direction::Low, Direction::High] {
            let port = ours.clock_port(direction, slot);
            assert_eq!(port, theirs.clock_port(direction, slot));
            assert!(CLOCK_PORTS.contains(&port), "{port}");
            ports.insert(port);
        }
    }
    assert!(ports.len() > 3000, "{} ports of 4000 moments", ports.len());
}
