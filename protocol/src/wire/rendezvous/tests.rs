//! The places are those of the known answers; a note comes back, whatever else is refused; days change for each pair apart.

use super::*;
use proptest::prelude::*;

fn secret() -> PairSecret {
    // K_pair of the protocol's known answers.
    let hex = "e9616cf6a4f721b911ab501c073404092fc6c13c1719848482e4aaecfd931d02";
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    let bytes: Vec<u8> = (0..64).step_by(2).map(byte).collect();
    PairSecret::from_secret(Secret32::new(bytes.try_into().expect("32 bytes")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn note() -> Note {
    let addresses = ["203.0.113.7:28730", "[2001:db8::7]:28730"].map(|text| text.parse().expect("an address"));
    Note { time: UnixSeconds(1_771_200_000), addresses: addresses.to_vec() }
}

#[test]
fn a_place_is_the_known_one() {
    let place = Place::of(&secret(), Direction::Low, 20_500);
    assert_eq!(hex(place.public()), "5a7b7ae2a2a8f0e1153cc371c7ccdb9cb77879632de45723e0ba343ba1862fb9");
    assert_eq!(hex(place.salt()), "9eae24f020d7562305871e03b52807a7");
}

#[test]
fn each_direction_day_and_pair_has_a_place_of_its_own() {
    let other = PairSecret::from_secret(Secret32::new([7; 32]));
    let places = [
        Place::of(&secret(), Direction::Low, 20_500),
        Place::of(&secret(), Direction::High, 20_500),
        Place::of(&secret(), Direction::Low, 20_501),
        Place::of(&other, Direction::Low, 20_500),
    ];
    for (i, one) in places.iter().enumerate() {
        let value = one.seal(&note(), 5, &[1; NONCE_LEN]);
        for (j, another) in places.iter().enumerate() {
            assert_eq!(another.open(&value, 5).is_ok(), i == j, "{i} read as {j}");
            assert_eq!(one.public() == another.public() || one.salt() == another.salt(), i == j, "{i} and {j}");
        }
    }
}

#[test]
fn a_value_is_bound_to_its_number_and_every_byte() {
    let place = Place::of(&secret(), Direction::High, 1);
    let value = place.seal(&note(), 9, &[3; NONCE_LEN]);
    assert_eq!(place.open(&value, 9), Ok(note()));
    assert_eq!(place.open(&value, 10), Err(RendezvousError::Unverified), "another number");
    for at in 0..VALUE_LEN {
        let mut damaged = value;
        damaged[at] ^= 1;
        assert_eq!(place.open(&damaged, 9), Err(RendezvousError::Unverified), "byte {at}");
    }
    assert_eq!(place.open(&value[1..], 9), Err(RendezvousError::Malformed));
}

#[test]
fn days_change_by_pair_and_overlap_for_an_hour() {
    let (pair, other) = (secret(), PairSecret::from_secret(Secret32::new([9; 32])));
    let change = |pair: &PairSecret| {
        let of = |secs| epochs(pair, UnixSeconds(secs))[0];
        (0..RENDEZVOUS_EPOCH_SECS).find(|secs| of(*secs) != of(secs + 1)).expect("once a day") + 1
    };
    let at = change(&pair);
    assert_ne!(at, change(&other));
    let of = |secs| epochs(&pair, UnixSeconds(10 * RENDEZVOUS_EPOCH_SECS + secs));
    let day = of(at)[0];
    assert_eq!(of(at), [day, day - 1]);
    assert_eq!(of(at + 3600), [day]);
    assert_eq!(of(at - 1), [day - 1, day]);
}

#[test]
fn what_a_later_version_leaves_is_refused() {
    let place = Place::of(&secret(), Direction::High, 1);
    let sealed = |change: fn(&mut [u8; NOTE_LEN])| {
        let mut bytes = note().encode();
        change(&mut bytes);
        Note::decode(&bytes)
    };
    assert_eq!(sealed(|bytes| bytes[0] = 2), Err(RendezvousError::Malformed), "version");
    assert_eq!(sealed(|bytes| bytes[9] = 200), Err(RendezvousError::Malformed), "too many");
    assert_eq!(sealed(|bytes| bytes[10] = 5), Err(RendezvousError::Malformed), "an unknown kind");
    let many = Note { addresses: vec![note().addresses[1]; 40], ..note() };
    let kept = place.open(&place.seal(&many, 1, &[0; NONCE_LEN]), 1).expect("it fits");
    assert_eq!(kept.addresses.len(), RENDEZVOUS_ADDRESSES_MAX);
}

proptest! {
    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Place::of(&secret(), Direction::Low, 1).open(&bytes, 1).is_err());
    }
}
