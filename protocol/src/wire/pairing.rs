//! The end of pairing, after both devices have shown the check number: who may say what, and when the pair is saved.
//! Invariant: nothing secret is sent or accepted before both people have agreed, and a pair is saved only after the
//! other side has proved that it derived the same secret.

use super::identity::{Identity, PublicIdentity};
use super::kdf::Secret32;
use super::message::{CloseCode, Message, PairRandom};
use super::pair::{Direction, PairError, PairSecret};
use subtle::ConstantTimeEq;

#[cfg(test)]
mod tests;

/// Why a pairing ended without a pair. Close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// A message that does not belong here.
    #[error("the other device sent a message out of turn")]
    OutOfTurn,
    /// The other side derived another secret.
    #[error("the other device could not prove the pairing")]
    Proof,
    /// The other device declined.
    #[error("the other device declined")]
    Declined,
    /// The other device's keys cannot be used.
    #[error(transparent)]
    Pair(#[from] PairError),
}

/// What to do next; steps are done one after the other.
#[derive(PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Send(Message),
    /// Store the pair durably before the next step.
    Save(PairSecret),
    /// Both sides have the pair.
    Finished,
}

enum Stage {
    /// Waiting for one or both people.
    Agreeing { here: bool, there: bool },
    /// The secret is derived; waiting for the other side's proof.
    Proving(PairSecret),
    /// Nothing more may come.
    Over,
}

/// One side of a pairing, from HELLO to the end.
pub struct Pairing {
    /// `Low` shows the invite.
    side: Direction,
    their: PublicIdentity,
    random: Secret32,
    stage: Stage,
}

impl Pairing {
    /// `side` is `Low` for the device that shows the invite. `random` is 32 fresh bytes; only that side's are used.
    #[must_use]
    pub const fn new(side: Direction, their: PublicIdentity, random: Secret32) -> Self {
        Self { side, their, random, stage: Stage::Agreeing { here: false, there: false } }
    }

    /// The person at this device agreed. (One who declines is told to the other side by CLOSE(declined).)
    ///
    /// # Errors
    /// When that was said before, or the other device's keys cannot be used.
    pub fn agree(&mut self, own: &Identity) -> Result<Vec<Step>, PairingError> {
        let Stage::Agreeing { here: false, there } = self.stage else {
            return Err(PairingError::OutOfTurn);
        };
        self.stage = Stage::Agreeing { here: true, there };
        let mut steps = vec![Step::Send(Message::PairAccept)];
        steps.extend(self.reveal(own)?);
        Ok(steps)
    }

    /// The other side sent `message`; anything but pairing messages and CLOSE is handled elsewhere.
    ///
    /// # Errors
    /// The pairing is over.
    pub fn receive(&mut self, own: &Identity, message: &Message) -> Result<Vec<Step>, PairingError> {
        match (message, std::mem::replace(&mut self.stage, Stage::Over)) {
            (Message::PairAccept, Stage::Agreeing { here, there: false }) => {
                self.stage = Stage::Agreeing { here, there: true };
                self.reveal(own)
            }
            (Message::PairSecret(PairRandom(random)), Stage::Agreeing { here: true, there: true })
                if self.side == Direction::High =>
            {
                let pair = PairSecret::between(own, &self.their, random)?;
                let proof = pair.pairing_proof(self.side);
                self.stage = Stage::Proving(pair);
                Ok(vec![Step::Send(Message::PairDone(proof))])
            }
            (Message::PairDone(proof), Stage::Proving(pair)) => self.conclude(proof, pair),
            (Message::Close(CloseCode::DECLINED), _) => Err(PairingError::Declined),
            _ => Err(PairingError::OutOfTurn),
        }
    }

    /// The showing side's secret, once both have agreed.
    fn reveal(&mut self, own: &Identity) -> Result<Vec<Step>, PairingError> {
        let agreed = matches!(self.stage, Stage::Agreeing { here: true, there: true });
        if !agreed || self.side != Direction::Low {
            return Ok(Vec::new());
        }
        self.stage = Stage::Proving(PairSecret::between(own, &self.their, &self.random)?);
        Ok(vec![Step::Send(Message::PairSecret(PairRandom(self.random.clone())))])
    }

    fn conclude(&self, proof: &[u8; 32], pair: PairSecret) -> Result<Vec<Step>, PairingError> {
        if !bool::from(pair.pairing_proof(self.side.reverse()).ct_eq(proof)) {
            return Err(PairingError::Proof);
        }
        let last = match self.side {
            Direction::Low => Message::PairDone(pair.pairing_proof(Direction::Low)),
            Direction::High => Message::Close(CloseCode::DONE),
        };
        Ok(vec![Step::Save(pair), Step::Send(last), Step::Finished])
    }
}
