//! What the machine has to do, written down as plainly as it can be said: a list of clients that every step walks from end
//! to end, nothing counted, nothing sorted.

use super::super::RelayLimits;
use super::super::machine::{ClientId, Effect, Place};
use protocol::model::Timestamp;
use protocol::wire::pair::Direction;
use protocol::wire::relay::{JoinStatus, Word};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waits,
    Met(ClientId),
    Ready(ClientId),
    Spliced(ClientId),
}

struct Client {
    id: ClientId,
    place: Place,
    prefix: [u8; 16],
    stage: Stage,
    joined: Timestamp,
    pinged: Timestamp,
    heard: Timestamp,
    met: Timestamp,
}

pub(super) struct Reference {
    limits: RelayLimits,
    clients: Vec<Client>,
}

impl Reference {
    pub(super) const fn new(limits: RelayLimits) -> Self {
        Self { limits, clients: Vec::new() }
    }

    fn client(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    fn count(&self, fits: impl Fn(&Client, bool) -> bool) -> usize {
        self.clients.iter().filter(|client| fits(client, matches!(client.stage, Stage::Spliced(_)))).count()
    }

    pub(super) fn join(
        &mut self,
        now: Timestamp,
        id: ClientId,
        place: Place,
        prefix: [u8; 16],
    ) -> (JoinStatus, Vec<Effect>) {
        let older =
            self.clients.iter().find(|client| client.place == place && !matches!(client.stage, Stage::Spliced(_)));
        let mut effects = older.map(|client| client.id).map(|older| self.drop(now, older)).unwrap_or_default();
        let limits = self.limits;
        let full = self.count(|client, spliced| client.place.key == place.key && !spliced) >= limits.parked_per_key
            || self.count(|client, spliced| client.prefix == prefix && !spliced) >= limits.parked_per_ip
            || self.count(|client, spliced| client.place.key == place.key && spliced) / 2 >= limits.splices_per_key;
        if full {
            return (JoinStatus::Full, effects);
        }
        let stage = Stage::Waits;
        self.clients.push(Client { id, place, prefix, stage, joined: now, pinged: now, heard: now, met: now });
        let other = self.clients.iter().find(|other| {
            let Place { key, token, side } = other.place;
            key == place.key && token == place.token && side != place.side && other.stage == Stage::Waits
        });
        if let Some(other) = other.map(|other| other.id) {
            for (one, with) in [(id, other), (other, id)] {
                let client = self.client(one).expect("both are there");
                (client.stage, client.met) = (Stage::Met(with), now);
                effects.push(Effect::Say(one, Word::Matched));
            }
        }
        (JoinStatus::Waiting, effects)
    }

    pub(super) fn word(&mut self, now: Timestamp, id: ClientId, word: Word) -> Vec<Effect> {
        let Some(client) = self.client(id) else { return Vec::new() };
        match (word, client.stage) {
            (Word::Pong | Word::MatchAck, Stage::Waits) => client.heard = now,
            (Word::Pong, Stage::Met(_) | Stage::Ready(_)) => {}
            (Word::MatchAck, Stage::Met(with)) => {
                client.stage = Stage::Ready(with);
                let low = client.place.side == Direction::Low;
                let other = self.client(with).expect("a match has two ends");
                if other.stage == Stage::Ready(id) {
                    other.stage = Stage::Spliced(id);
                    self.client(id).expect("it is there").stage = Stage::Spliced(with);
                    let (low, high) = if low { (id, with) } else { (with, id) };
                    return vec![Effect::Splice { low, high }];
                }
            }
            _ => return self.drop(now, id),
        }
        Vec::new()
    }

    pub(super) fn gone(&mut self, now: Timestamp, id: ClientId) -> Vec<Effect> {
        let mut effects = self.drop(now, id);
        effects.retain(|effect| *effect != Effect::Close(id));
        effects
    }

    pub(super) fn drop(&mut self, now: Timestamp, id: ClientId) -> Vec<Effect> {
        let Some(at) = self.clients.iter().position(|client| client.id == id) else { return Vec::new() };
        let mut effects = vec![Effect::Close(id)];
        match self.clients.remove(at).stage {
            Stage::Waits => {}
            Stage::Met(with) | Stage::Ready(with) => {
                let other = self.client(with).expect("a match has two ends");
                (other.stage, other.pinged, other.heard) = (Stage::Waits, now, now);
            }
            Stage::Spliced(with) => {
                self.clients.retain(|client| client.id != with);
                effects.push(Effect::Close(with));
            }
        }
        effects
    }

    pub(super) fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        let RelayLimits { park, ping, ack, .. } = self.limits;
        let mut ids: Vec<ClientId> = self.clients.iter().map(|client| client.id).collect();
        ids.sort();
        let mut effects = Vec::new();
        for id in ids {
            let Some(client) = self.client(id) else { continue };
            let over = match client.stage {
                Stage::Waits => now.since(client.joined) >= park || now.since(client.heard) >= ping * 5 / 2,
                Stage::Met(_) => now.since(client.met) >= ack,
                Stage::Ready(_) | Stage::Spliced(_) => false,
            };
            if over {
                effects.extend(self.drop(now, id));
            } else if client.stage == Stage::Waits && now.since(client.pinged) >= ping {
                client.pinged = now;
                effects.push(Effect::Say(id, Word::Ping));
            }
        }
        effects
    }

    /// What the machine says of it: those that wait, and splices.
    pub(super) fn totals(&self) -> (usize, usize) {
        (self.count(|_, spliced| !spliced), self.count(|_, spliced| spliced) / 2)
    }

    pub(super) fn of_key(&self, key: super::KeyId) -> Vec<ClientId> {
        self.clients.iter().filter(|client| client.place.key == key).map(|client| client.id).collect()
    }
}
