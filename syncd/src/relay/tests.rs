//! The machine against random joins, words, departures and time: what must hold, holds after every step.

use super::RelayLimits;
use super::machine::{ClientId, Effect, KeyId, Machine, Place};
use proptest::prelude::*;
use protocol::model::Timestamp;
use protocol::wire::pair::Direction;
use protocol::wire::relay::{JoinStatus, Word};
use reference::Reference;
use std::time::Duration;

mod reference;

fn place(token: u8, side: Direction) -> Place {
    Place { key: KeyId(0), token: [token; 32], side }
}

fn limits() -> RelayLimits {
    RelayLimits { parked_per_key: 5, splices_per_key: 2, parked_per_ip: 4, ..RelayLimits::default() }
}

fn at(secs: u64) -> Timestamp {
    Timestamp(secs * 1000)
}

const A: ClientId = ClientId(1);
const B: ClientId = ClientId(2);
const C: ClientId = ClientId(3);

/// A and B parked under one token.
fn matched() -> Machine {
    let mut machine = Machine::new(limits());
    assert_eq!(machine.join(at(0), A, place(1, Direction::Low), [1; 16]), (JoinStatus::Waiting, vec![]));
    let (status, effects) = machine.join(at(1), B, place(1, Direction::High), [2; 16]);
    assert_eq!(status, JoinStatus::Waiting);
    assert_eq!(effects, [Effect::Say(B, Word::Matched), Effect::Say(A, Word::Matched)]);
    machine
}

#[test]
fn two_that_fit_are_spliced_when_both_are_ready() {
    let mut machine = matched();
    assert_eq!(machine.word(at(2), A, Word::MatchAck), []);
    assert_eq!(machine.word(at(2), B, Word::MatchAck), [Effect::Splice { low: A, high: B }]);
    assert_eq!(machine.gone(at(3), A), [Effect::Close(B)]);
    machine.assert_sound();
}

#[test]
fn one_that_is_not_ready_goes_and_the_other_waits_again() {
    let mut machine = matched();
    assert_eq!(machine.word(at(2), A, Word::MatchAck), []);
    assert_eq!(machine.wake_at(), Some(at(11)));
    assert_eq!(machine.tick(at(11)), [Effect::Close(B)]);
    machine.assert_sound();
    let (_, effects) = machine.join(at(12), C, place(1, Direction::High), [2; 16]);
    assert_eq!(effects, [Effect::Say(C, Word::Matched), Effect::Say(A, Word::Matched)]);
}

#[test]
fn a_newer_client_replaces_its_older_self() {
    let mut machine = matched();
    let (status, effects) = machine.join(at(2), C, place(1, Direction::Low), [1; 16]);
    assert_eq!(status, JoinStatus::Waiting);
    assert_eq!(effects, [Effect::Close(A), Effect::Say(C, Word::Matched), Effect::Say(B, Word::Matched)]);
    machine.assert_sound();
}

#[test]
fn the_silent_and_the_patient_go() {
    let mut machine = Machine::new(limits());
    let _ = machine.join(at(0), A, place(1, Direction::Low), [1; 16]);
    assert_eq!(machine.tick(at(60)), [Effect::Say(A, Word::Ping)]);
    assert_eq!(machine.word(at(61), A, Word::Pong), []);
    assert_eq!(machine.tick(at(120)), [Effect::Say(A, Word::Ping)]);
    assert_eq!(machine.tick(at(211)), [Effect::Close(A)], "150 s without a word");
    let _ = machine.join(at(300), B, place(1, Direction::Low), [1; 16]);
    assert_eq!(machine.tick(at(300 + 3600)), [Effect::Close(B)], "an hour is over");
}

#[test]
fn limits_hold_per_address_and_key() {
    let mut machine = Machine::new(limits());
    let mut join =
        |id: u64, token: u8, ip: u8| machine.join(at(0), ClientId(id), place(token, Direction::Low), [ip; 16]).0;
    for i in 0..4 {
        assert_eq!(join(i, i as u8, 1), JoinStatus::Waiting);
    }
    assert_eq!(join(10, 10, 1), JoinStatus::Full, "one address");
    assert_eq!(join(11, 11, 2), JoinStatus::Waiting);
    assert_eq!(join(12, 12, 3), JoinStatus::Full, "one access key");
}

#[test]
fn a_key_that_is_taken_away_takes_its_clients_along() {
    let mut machine = matched();
    let other = Place { key: KeyId(1), ..place(1, Direction::Low) };
    assert_eq!(machine.join(at(2), C, other, [1; 16]).0, JoinStatus::Waiting);
    assert_eq!(machine.expel(at(3), KeyId(0)), [Effect::Close(A), Effect::Close(B)]);
    machine.assert_sound();
    assert_eq!(machine.totals(), (1, 0));
    assert_eq!(machine.expel(at(3), KeyId(0)), []);
}

/// Ten thousand clients that wait, and as many that come and go: in a debug build a walk over all of them at every join
/// takes minutes.
#[test]
fn many_clients_cost_no_walk() {
    const MANY: u64 = 10_000;
    let many = MANY as usize;
    let limits = RelayLimits { parked_per_key: 2 * many, parked_per_ip: many, ..RelayLimits::default() };
    let mut machine = Machine::new(limits);
    let place = |token: u64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&token.to_be_bytes());
        Place { key: KeyId(0), token: bytes, side: Direction::Low }
    };
    let prefix = |id: u64| [(id % 250) as u8; 16];
    for id in 0..MANY {
        assert_eq!(machine.join(at(id / 200), ClientId(id), place(id), prefix(id)).0, JoinStatus::Waiting);
    }
    let began = std::time::Instant::now();
    for id in 0..MANY {
        let _ = machine.join(at(50), ClientId(MANY + id), place(MANY + id), prefix(id));
        assert!(machine.gone(at(50), ClientId(MANY + id)).is_empty());
        assert_eq!(machine.tick(at(50)), []);
        assert_eq!(machine.wake_at(), Some(at(60)));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(machine.tick(at(60)).len(), 200, "those that came in the first second are pinged");
    machine.assert_sound();
}

#[derive(Clone, Debug)]
enum Step {
    Join { token: u8, low: bool, ip: u8, key: u64 },
    Word { client: u64, word: Word },
    Gone { client: u64 },
    Wait { secs: u64 },
    Expel { key: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let words = prop_oneof![Just(Word::Pong), Just(Word::MatchAck), Just(Word::MatchAck), Just(Word::Ping)];
    prop_oneof![
        6 => (0..3u8, any::<bool>(), 0..3u8, 0..2u64)
            .prop_map(|(token, low, ip, key)| Step::Join { token, low, ip, key }),
        6 => (0..40u64, words).prop_map(|(client, word)| Step::Word { client, word }),
        6 => (0..40u64).prop_map(|client| Step::Gone { client }),
        6 => (0..100u64).prop_map(|secs| Step::Wait { secs }),
        1 => (0..2u64).prop_map(|key| Step::Expel { key }),
    ]
}

fn sorted(effects: &[Effect]) -> Vec<Effect> {
    let mut sorted = effects.to_vec();
    sorted.sort_by_key(|effect| format!("{effect:?}"));
    sorted
}

proptest! {
    #[test]
    fn every_history_is_sound(steps in prop::collection::vec(step(), 0..80)) {
        let (mut machine, mut reference) = (Machine::new(limits()), Reference::new(limits()));
        let (mut now, mut last) = (at(0), 0);
        let (mut spliced, mut closed) = (Vec::new(), Vec::new());
        for step in steps {
            let (effects, expected) = match step {
                Step::Join { token, low, ip, key } => {
                    last += 1;
                    let side = if low { Direction::Low } else { Direction::High };
                    let place = Place { key: KeyId(key), token: [token; 32], side };
                    let (status, effects) = machine.join(now, ClientId(last), place, [ip; 16]);
                    let (expected_status, expected) = reference.join(now, ClientId(last), place, [ip; 16]);
                    prop_assert_eq!(status, expected_status);
                    (effects, expected)
                }
                Step::Word { client, word } => {
                    (machine.word(now, ClientId(client), word), reference.word(now, ClientId(client), word))
                }
                Step::Gone { client } => {
                    let client = ClientId(client.min(last));
                    closed.push(client);
                    (machine.gone(now, client), reference.gone(now, client))
                }
                Step::Wait { secs } => {
                    now = now.after(Duration::from_secs(secs));
                    let effects = machine.tick(now);
                    let due = machine.wake_at();
                    prop_assert!(due.is_none_or(|due| due > now), "nothing due is left: {due:?} at {now:?}");
                    (effects, reference.tick(now))
                }
                Step::Expel { key } => {
                    let ids = reference.of_key(KeyId(key));
                    let expected = ids.into_iter().flat_map(|id| reference.drop(now, id)).collect();
                    (machine.expel(now, KeyId(key)), expected)
                }
            };
            // In which order clients are told does not matter.
            prop_assert_eq!(sorted(&effects), sorted(&expected));
            prop_assert_eq!(machine.totals(), reference.totals());
            for effect in effects {
                match effect {
                    Effect::Close(id) => {
                        prop_assert!(!closed.contains(&id), "closed once");
                        closed.push(id);
                        spliced.retain(|other| *other != id);
                    }
                    Effect::Splice { low, high } => {
                        for id in [low, high] {
                            prop_assert!(!spliced.contains(&id) && !closed.contains(&id), "spliced once, alive");
                            spliced.push(id);
                        }
                    }
                    Effect::Say(id, word) => {
                        prop_assert!(!spliced.contains(&id) && !closed.contains(&id), "{word:?} to one who waits");
                    }
                }
            }
            machine.assert_sound();
        }
    }
}
