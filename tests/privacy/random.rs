//! Whether the opening of a session looks random, offset by offset, but for the top bit of the ephemeral key, which is a
//! number below 2^255; so too the answer and what follows. The ML-KEM key and its ciphertext lie encrypted.

use crate::caller::{Caller, OPENING_LEN, random};
use crate::recorder::Recorder;
use crate::uniform::{SAMPLES, Tally};
use crate::windows::Windows;
use protocol::wire::handshake::{MESSAGE_2_LEN, MESSAGE_3_LEN};
use protocol::wire::identity::Identity;
use protocol::wire::kdf::Secret32;
use protocol::wire::knock::KNOCK_LEN;
use protocol::wire::pair::PairSecret;
use tests::harness::{World, pair};

/// Knock, message 1, 2 and 3.
const LEN: usize = OPENING_LEN + MESSAGE_2_LEN + MESSAGE_3_LEN;
/// Last bytes of the ephemeral keys, which are little-endian: one behind the knock, one in front of message 2.
const TOPS: [usize; 2] = [KNOCK_LEN + 31, OPENING_LEN + 31];
/// Sessions of real daemons.
const SESSIONS: usize = 4;

/// A device that calls another, both made up.
fn caller() -> Caller {
    let [identity, other] = [1, 2].map(|_| Identity::from_seed(&Secret32::new(random())));
    let expected = other.public();
    let secret = PairSecret::between(&identity, &expected, &Secret32::new(random())).expect("two devices");
    Caller { identity, expected, secret }
}

#[test]
fn two_thousand_openings_of_one_pair_are_random_at_every_offset() {
    let (caller, mut tally) = (caller(), Tally::new(OPENING_LEN));
    for _ in 0..SAMPLES {
        tally.add(&caller.opening());
    }
    let outliers = tally.outliers(|offset, bit| (offset, bit) == (TOPS[0], 7));
    assert!(outliers.is_empty(), "{}", outliers.join("\n"));
}

/// The daemon sends what the protocol makes: nothing in front of it, nothing that stays.
#[test]
fn handshakes_of_real_daemons_share_nothing_and_look_random() {
    let world = World::new();
    let (mut a, mut b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    b.stop();
    let recorder = Recorder::in_place_of(&mut a);
    for session in 0..SESSIONS {
        if session > 0 {
            [&mut a, &mut b].into_iter().for_each(|device| device.stop());
        }
        recorder.lets_meet(&mut a, &mut b);
    }
    let calls = recorder.calls();
    let whole = calls.iter().filter(|call| call.there.len() > OPENING_LEN + MESSAGE_3_LEN);
    let handshakes: Vec<Vec<u8>> = whole
        .map(|call| {
            [&call.there[..OPENING_LEN], &call.back[..MESSAGE_2_LEN], &call.there[OPENING_LEN..][..MESSAGE_3_LEN]]
        })
        .map(|parts| parts.concat())
        .collect();
    assert!(handshakes.len() >= SESSIONS, "{} sessions were recorded", handshakes.len());
    for (at, handshake) in handshakes.iter().enumerate() {
        assert!(TOPS.iter().all(|top| handshake[*top] < 0x80), "the keys are where they are thought to be");
        let others = handshakes[at + 1..].iter().map(Vec::as_slice);
        assert_eq!(Windows::of(others).shared(handshake), [[0; 8]; 0]);
        // 22,654 coins: seven standard deviations of the mean are 527.
        let ones: u32 = handshake.iter().map(|byte| byte.count_ones()).sum();
        let half = u32::try_from(LEN * 4 - 1).expect("few");
        assert!(ones.abs_diff(half) < 527, "{ones} of {} bits are set", LEN * 8);
    }
}
