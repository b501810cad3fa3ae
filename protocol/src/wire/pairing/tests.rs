//! Both sides end with the same pair whatever order people answer in; every other order of messages ends it.

use super::*;

struct Side {
    identity: Identity,
    pairing: Pairing,
    saved: Option<PairSecret>,
    finished: bool,
}

fn device(seed: u8) -> Identity {
    Identity::from_seed(&Secret32::new([seed; 32]))
}

fn sides() -> [Side; 2] {
    let side = |own, their, direction| {
        let pairing = Pairing::new(direction, device(their).public(), Secret32::new([own + 100; 32]));
        Side { identity: device(own), pairing, saved: None, finished: false }
    };
    [side(1, 2, Direction::Low), side(2, 1, Direction::High)]
}

impl Side {
    /// The person here agrees.
    fn agree(&mut self) -> Vec<Message> {
        let steps = self.pairing.agree(&self.identity).expect("once");
        self.perform(steps)
    }

    /// Does the steps; what is to be sent comes back.
    fn perform(&mut self, steps: Vec<Step>) -> Vec<Message> {
        let mut sent = Vec::new();
        for step in steps {
            match step {
                Step::Send(message) => sent.push(message),
                Step::Save(pair) => self.saved = Some(pair),
                Step::Finished => self.finished = true,
            }
        }
        sent
    }
}

/// Lets people agree in the order given (0 shows, 1 joins) and delivers everything at once.
fn run(order: [usize; 2]) -> [Side; 2] {
    let mut sides = sides();
    for who in order {
        let mut under_way: Vec<(usize, Message)> =
            sides[who].agree().into_iter().map(|message| (1 - who, message)).collect();
        while !under_way.is_empty() {
            let (to, message) = under_way.remove(0);
            if message == Message::Close(CloseCode::DONE) {
                continue;
            }
            let side = &mut sides[to];
            let steps = side.pairing.receive(&side.identity, &message).expect("in turn");
            under_way.extend(side.perform(steps).into_iter().map(|message| (1 - to, message)));
        }
    }
    sides
}

#[test]
fn both_save_the_same_pair() {
    for order in [[0, 1], [1, 0]] {
        let [shows, joins] = run(order);
        assert!(shows.finished && joins.finished, "{order:?}");
        assert!(shows.saved.is_some() && shows.saved == joins.saved, "{order:?}");
    }
}

#[test]
fn messages_out_of_turn_end_it() {
    let secret = || Message::PairSecret(PairRandom(Secret32::new([1; 32])));
    let check = |name: &str, side: usize, agreed: bool, messages: &[Message], expected: PairingError| {
        let mut side = sides().into_iter().nth(side).expect("two sides");
        if agreed {
            side.agree();
        }
        let (last, first) = messages.split_last().expect("at least one");
        for message in first {
            assert!(side.pairing.receive(&side.identity, message).is_ok(), "{name}");
        }
        assert_eq!(side.pairing.receive(&side.identity, last).err(), Some(expected), "{name}");
        assert!(side.saved.is_none(), "{name}");
        // Whoever fails once stays failed.
        let again = side.pairing.receive(&side.identity, &Message::PairAccept);
        assert_eq!(again.err(), Some(PairingError::OutOfTurn), "{name}: over");
    };
    let out = PairingError::OutOfTurn;
    let (accept, done) = (Message::PairAccept, Message::PairDone([0; 32]));
    check("accept twice", 1, false, &[accept.clone(), accept.clone()], out);
    check("secret before anybody agreed", 1, false, &[secret()], out);
    check("secret before the other agreed", 1, true, &[secret()], out);
    check("secret before we agreed", 1, false, &[accept.clone(), secret()], out);
    check("secret to the showing side", 0, true, &[accept.clone(), secret()], out);
    check("proof before the secret", 1, true, &[accept.clone(), done.clone()], out);
    check("proof before we agreed", 0, false, &[accept.clone(), done.clone()], out);
    check("wrong proof to the showing side", 0, true, &[accept.clone(), done.clone()], PairingError::Proof);
    check("wrong proof to the joining side", 1, true, &[accept.clone(), secret(), done], PairingError::Proof);
    check("another message", 0, true, &[Message::Folders(Default::default())], out);
    check("declined", 0, true, &[accept, Message::Close(CloseCode::DECLINED)], PairingError::Declined);
}

#[test]
fn a_proof_cannot_be_reflected() {
    let [mut shows, mut joins] = sides();
    shows.agree();
    joins.agree();
    let steps = shows.pairing.receive(&shows.identity, &Message::PairAccept).expect("in turn");
    let secret = shows.perform(steps).remove(0);
    assert!(joins.pairing.receive(&joins.identity, &Message::PairAccept).is_ok());
    let steps = joins.pairing.receive(&joins.identity, &secret).expect("in turn");
    let own_proof = joins.perform(steps).remove(0);
    assert_eq!(joins.pairing.receive(&joins.identity, &own_proof).err(), Some(PairingError::Proof));
}

#[test]
fn agreeing_twice_is_refused() {
    let [mut shows, _] = sides();
    assert!(shows.pairing.agree(&device(1)).is_ok());
    assert_eq!(shows.pairing.agree(&device(1)).err(), Some(PairingError::OutOfTurn));
}
