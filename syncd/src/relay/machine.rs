//! Who waits, who meets whom, who has to go: a relay's decisions as a value without sockets. Time is an argument.
//! Invariants: a place (key, token, side) has at most one client; a match is mutual; a splice has two ends.

use super::RelayLimits;
use protocol::model::Timestamp;
use protocol::wire::pair::Direction;
use protocol::wire::relay::{JoinStatus, Word};
use std::collections::BTreeMap;

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId(pub(super) u64);

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Index of the access key that let it in.
    pub(super) key: usize,
    pub(super) token: [u8; 32],
    pub(super) side: Direction,
}

impl Place {
    const fn opposite(self) -> Self {
        Self { side: self.side.reverse(), ..self }
    }
}

/// What the sockets have to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Say(ClientId, Word),
    Close(ClientId),
    /// Both get `Spliced`, then their bytes are each other's.
    Splice {
        low: ClientId,
        high: ClientId,
    },
}

#[derive(Clone, Copy, Debug)]
enum State {
    Parked { pinged: Timestamp, heard: Timestamp },
    Matched { with: ClientId, since: Timestamp, ready: bool },
    Spliced { with: ClientId },
}

#[derive(Clone, Copy, Debug)]
struct Client {
    place: Place,
    /// What stands for its address: an IPv4 address or an IPv6 /64.
    prefix: [u8; 16],
    since: Timestamp,
    state: State,
}

impl Client {
    const fn is_spliced(&self) -> bool {
        matches!(self.state, State::Spliced { .. })
    }
}

pub(super) struct Machine {
    limits: RelayLimits,
    clients: BTreeMap<ClientId, Client>,
    /// Clients that are parked or matched.
    places: BTreeMap<Place, ClientId>,
}

impl Machine {
    pub(super) const fn new(limits: RelayLimits) -> Self {
        Self { limits, clients: BTreeMap::new(), places: BTreeMap::new() }
    }

    /// A client wants to wait at `place`. A newer one replaces an older one there: that one's device has lost it.
    pub(super) fn join(
        &mut self,
        now: Timestamp,
        id: ClientId,
        place: Place,
        prefix: [u8; 16],
    ) -> (JoinStatus, Vec<Effect>) {
        let mut effects = Vec::new();
        if let Some(older) = self.places.get(&place).copied() {
            self.drop_client(now, older, &mut effects);
        }
        if !self.has_room(place.key, prefix) {
            return (JoinStatus::Full, effects);
        }
        let state = State::Parked { pinged: now, heard: now };
        self.clients.insert(id, Client { place, prefix, since: now, state });
        self.places.insert(place, id);
        self.try_match(now, id, &mut effects);
        (JoinStatus::Waiting, effects)
    }

    fn has_room(&self, key: usize, prefix: [u8; 16]) -> bool {
        let (mut parked_key, mut spliced_key, mut parked_ip) = (0, 0, 0);
        for client in self.clients.values() {
            let spliced = client.is_spliced();
            parked_key += usize::from(client.place.key == key && !spliced);
            spliced_key += usize::from(client.place.key == key && spliced);
            parked_ip += usize::from(client.prefix == prefix && !spliced);
        }
        parked_key < self.limits.parked_per_key
            && parked_ip < self.limits.parked_per_ip
            && spliced_key / 2 < self.limits.splices_per_key
    }

    fn try_match(&mut self, now: Timestamp, id: ClientId, effects: &mut Vec<Effect>) {
        let Some(place) = self.clients.get(&id).map(|client| client.place) else { return };
        let Some(&other) = self.places.get(&place.opposite()) else { return };
        let free = |client: &ClientId| matches!(self.clients[client].state, State::Parked { .. });
        if !free(&id) || !free(&other) {
            return;
        }
        for (one, with) in [(id, other), (other, id)] {
            self.set(one, State::Matched { with, since: now, ready: false });
            effects.push(Effect::Say(one, Word::Matched));
        }
    }

    fn set(&mut self, id: ClientId, state: State) {
        self.clients.get_mut(&id).expect("the caller holds a client that is there").state = state;
    }

    /// A client said something.
    pub(super) fn word(&mut self, now: Timestamp, id: ClientId, word: Word) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(client) = self.clients.get(&id).copied() else { return effects };
        match (word, client.state) {
            (Word::Pong, State::Parked { pinged, .. }) => self.set(id, State::Parked { pinged, heard: now }),
            // Said before the match was known there.
            (Word::Pong, State::Matched { .. }) => {}
            (Word::MatchAck, State::Matched { with, since, ready: false }) => {
                self.set(id, State::Matched { with, since, ready: true });
                self.try_splice(id, with, &mut effects);
            }
            // The other side left between our word and this one: back to waiting.
            (Word::MatchAck, State::Parked { pinged, .. }) => self.set(id, State::Parked { pinged, heard: now }),
            _ => self.drop_client(now, id, &mut effects),
        }
        effects
    }

    fn try_splice(&mut self, id: ClientId, with: ClientId, effects: &mut Vec<Effect>) {
        let ready = |client: &ClientId| matches!(self.clients[client].state, State::Matched { ready: true, .. });
        if !ready(&id) || !ready(&with) {
            return;
        }
        let side = self.clients[&id].place.side;
        for (one, other) in [(id, with), (with, id)] {
            let place = self.clients[&one].place;
            self.places.remove(&place);
            self.set(one, State::Spliced { with: other });
        }
        let (low, high) = if side == Direction::Low { (id, with) } else { (with, id) };
        effects.push(Effect::Splice { low, high });
    }

    /// A connection is over, or a splice that it led.
    pub(super) fn gone(&mut self, now: Timestamp, id: ClientId) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.drop_client(now, id, &mut effects);
        // Its own connection needs no order any more.
        effects.retain(|effect| *effect != Effect::Close(id));
        effects
    }

    fn drop_client(&mut self, now: Timestamp, id: ClientId, effects: &mut Vec<Effect>) {
        let Some(client) = self.clients.remove(&id) else { return };
        effects.push(Effect::Close(id));
        match client.state {
            State::Parked { .. } => {
                self.places.remove(&client.place);
            }
            State::Matched { with, .. } => {
                self.places.remove(&client.place);
                self.set(with, State::Parked { pinged: now, heard: now });
            }
            State::Spliced { with } => {
                self.clients.remove(&with);
                effects.push(Effect::Close(with));
            }
        }
    }

    /// What time brings: pings, and the end of stays that lasted too long.
    pub(super) fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let ids: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in ids {
            let Some(client) = self.clients.get(&id).copied() else { continue };
            match client.state {
                State::Parked { .. } if now.since(client.since) >= self.limits.park => {
                    self.drop_client(now, id, &mut effects);
                }
                State::Parked { heard, .. } if now.since(heard) >= self.limits.ping * 5 / 2 => {
                    self.drop_client(now, id, &mut effects);
                }
                State::Parked { pinged, heard } if now.since(pinged) >= self.limits.ping => {
                    self.set(id, State::Parked { pinged: now, heard });
                    effects.push(Effect::Say(id, Word::Ping));
                }
                State::Matched { since, ready: false, .. } if now.since(since) >= self.limits.ack => {
                    self.drop_client(now, id, &mut effects);
                }
                _ => {}
            }
        }
        effects
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let due = |client: &Client| match client.state {
            State::Parked { pinged, heard } => {
                let limits = &self.limits;
                let ends = client.since.after(limits.park).min(heard.after(limits.ping * 5 / 2));
                Some(ends.min(pinged.after(limits.ping)))
            }
            State::Matched { since, ready: false, .. } => Some(since.after(self.limits.ack)),
            State::Matched { .. } | State::Spliced { .. } => None,
        };
        self.clients.values().filter_map(due).min()
    }

    /// Panics unless the invariants hold.
    #[cfg(test)]
    pub(super) fn assert_sound(&self) {
        for (id, client) in &self.clients {
            match client.state {
                State::Parked { .. } => assert_eq!(self.places.get(&client.place), Some(id)),
                State::Matched { with, .. } => {
                    assert_eq!(self.places.get(&client.place), Some(id));
                    let other = self.clients[&with];
                    assert_eq!(other.place, client.place.opposite());
                    assert!(matches!(other.state, State::Matched { with, .. } if with == *id));
                }
                State::Spliced { with } => {
                    let other = self.clients[&with];
                    assert!(matches!(other.state, State::Spliced { with } if with == *id));
                }
            }
        }
        let waiting = self.clients.values().filter(|client| !client.is_spliced()).count();
        assert_eq!(self.places.len(), waiting, "every place has its client");
        for (place, id) in &self.places {
            let (parked, other) = (self.clients[id].state, self.places.get(&place.opposite()));
            let lonely = |id: &ClientId| matches!(self.clients[id].state, State::Parked { .. });
            let both = matches!(parked, State::Parked { .. }) && other.is_some_and(lonely);
            assert!(!both, "two that could meet have met");
        }
    }
}
