//! Whether the opening of a session looks random: message by message, offset by offset, but for the top bit of the two
//! ephemeral keys, which are points of a curve below 2^255. The ML-KEM key and its ciphertext lie encrypted.

use crate::caller::{Caller, OPENING_LEN, random};
use crate::recorder::Recorder;
use crate::uniform::{SAMPLES, Tally};
use crate::windows::Windows;
use protocol::wire::handshake::{MESSAGE_2_LEN, MESSAGE_3_LEN, Responder};
use protocol::wire::identity::Identity;
use protocol::wire::kdf::Secret32;
use protocol::wire::knock::{KNOCK_LEN, Knock};
use protocol::wire::pair::PairSecret;
use tests::harness::{World, pair};

/// Knock, message 1, 2 and 3.
const LEN: usize = OPENING_LEN + MESSAGE_2_LEN + MESSAGE_3_LEN;
/// Last bytes of the ephemeral keys, which are little-endian: one behind the knock, one in front of message 2.
const TOPS: [usize; 2] = [KNOCK_LEN + 31, OPENING_LEN + 31];
/// Sessions of real daemons.
const SESSIONS: usize = 4;

fn is_top(offset: usize, bit: usize) -> bool {
    bit == 7 && TOPS.contains(&offset)
}

/// Both ends of one pair that open sessions with each other.
struct Pair {
    dials: Caller,
    answers: Caller,
}

impl Pair {
    fn new() -> Self {
        let [one, other] = [1, 2].map(|_| Identity::from_seed(&Secret32::new(random())));
        let secret = PairSecret::between(&one, &other.public(), &Secret32::new(random())).expect("two devices");
        let (one_public, other_public) = (one.public(), other.public());
        Self {
            dials: Caller { identity: one, expected: other_public, secret: secret.clone() },
            answers: Caller { identity: other, expected: one_public, secret },
        }
    }

    /// Everything that goes over the wire before the two have a channel.
    fn handshake(&self) -> Vec<u8> {
        let (opening, initiator) = self.dials.opening();
        let (knock, message_1) = opening.split_first_chunk().expect("an opening starts with a knock");
        let (knock, psk) = (Knock(*knock), self.answers.secret.psk());
        let message_1 = message_1.try_into().expect("an opening ends with message 1");
        let (responder, message_2) =
            Responder::start(&self.answers.params(&knock, &psk), message_1, &random()).expect("an honest opening");
        let (message_3, _) = initiator.read_message_2(&message_2).expect("an honest answer");
        responder.read_message_3(&message_3).expect("an honest end");
        [&opening[..], &message_2, &message_3].concat()
    }
}

#[test]
fn two_thousand_handshakes_of_one_pair_are_random_at_every_offset() {
    let (pair, mut tally) = (Pair::new(), Tally::new(LEN));
    for _ in 0..SAMPLES {
        tally.add(&pair.handshake());
    }
    let outliers = tally.outliers(is_top);
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
