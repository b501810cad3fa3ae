//! Who waits, who meets whom, who has to go: a relay's decisions as a value without sockets. Time is an argument.
//! Invariants: a place (key, token, side) has at most one client; a match is mutual; a splice has two ends. What is
//! counted and when anything is due is kept up to date with every change, so that no step walks all clients.

use super::RelayLimits;
use protocol::model::Timestamp;
use protocol::wire::pair::Direction;
use protocol::wire::relay::{JoinStatus, Word};
use std::collections::{BTreeMap, BTreeSet};

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId(pub(super) u64);

/// Names an access key of this run; a key that was taken away and given again has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyId(pub(super) u64);

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The access key that let it in.
    pub(super) key: KeyId,
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

    /// When time does something to it.
    fn due(&self, limits: &RelayLimits) -> Option<Timestamp> {
        match self.state {
            State::Parked { pinged, heard } => {
                let ends = self.since.after(limits.park).min(heard.after(limits.ping * 5 / 2));
                Some(ends.min(pinged.after(limits.ping)))
            }
            State::Matched { since, ready: false, .. } => Some(since.after(limits.ack)),
            State::Matched { .. } | State::Spliced { .. } => None,
        }
    }
}

/// Clients of one access key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// Parked or matched.
    waiting: usize,
    spliced: usize,
}

pub(super) struct Machine {
    limits: RelayLimits,
    clients: BTreeMap<ClientId, Client>,
    /// Clients that are parked or matched.
    places: BTreeMap<Place, ClientId>,
    /// Only of keys that have clients.
    per_key: BTreeMap<KeyId, Count>,
    /// Clients that are parked or matched, only of addresses that have some.
    per_prefix: BTreeMap<[u8; 16], usize>,
    /// Clients that time does something to, the next first.
    due: BTreeSet<(Timestamp, ClientId)>,
}

impl Machine {
    pub(super) const fn new(limits: RelayLimits) -> Self {
        Self {
            limits,
            clients: BTreeMap::new(),
            places: BTreeMap::new(),
            per_key: BTreeMap::new(),
            per_prefix: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Clients that wait, and splices.
    pub(super) fn totals(&self) -> (usize, usize) {
        (self.places.len(), (self.clients.len() - self.places.len()) / 2)
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
        self.insert(id, Client { place, prefix, since: now, state });
        self.try_match(now, id, &mut effects);
        (JoinStatus::Waiting, effects)
    }

    fn has_room(&self, key: KeyId, prefix: [u8; 16]) -> bool {
        let Count { waiting, spliced } = self.per_key.get(&key).copied().unwrap_or_default();
        let here = self.per_prefix.get(&prefix).copied().unwrap_or_default();
        waiting < self.limits.parked_per_key
            && here < self.limits.parked_per_ip
            && spliced / 2 < self.limits.splices_per_key
    }

    /// Takes a client in, with all that is kept about it.
    fn insert(&mut self, id: ClientId, client: Client) {
        let count = self.per_key.entry(client.place.key).or_default();
        if client.is_spliced() {
            count.spliced += 1;
        } else {
            count.waiting += 1;
            *self.per_prefix.entry(client.prefix).or_default() += 1;
            self.places.insert(client.place, id);
        }
        self.due.extend(client.due(&self.limits).map(|at| (at, id)));
        self.clients.insert(id, client);
    }

    /// Takes it out, with all that is kept about it.
    fn remove(&mut self, id: ClientId) -> Option<Client> {
        let client = self.clients.remove(&id)?;
        let count = self.per_key.get_mut(&client.place.key).expect("a key is counted while it has clients");
        if client.is_spliced() {
            count.spliced -= 1;
        } else {
            count.waiting -= 1;
            self.places.remove(&client.place);
            let here = self.per_prefix.get_mut(&client.prefix).expect("an address is counted while it has clients");
            *here -= 1;
            if *here == 0 {
                self.per_prefix.remove(&client.prefix);
            }
        }
        if *count == Count::default() {
            self.per_key.remove(&client.place.key);
        }
        if let Some(at) = client.due(&self.limits) {
            self.due.remove(&(at, id));
        }
        Some(client)
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
        let client = self.remove(id).expect("the caller holds a client that is there");
        self.insert(id, Client { state, ..client });
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
        let Some(client) = self.remove(id) else { return };
        effects.push(Effect::Close(id));
        match client.state {
            State::Parked { .. } => {}
            State::Matched { with, .. } => self.set(with, State::Parked { pinged: now, heard: now }),
            State::Spliced { with } => {
                self.remove(with);
                effects.push(Effect::Close(with));
            }
        }
    }

    /// An access key was taken away: everybody that it let in has to go.
    pub(super) fn expel(&mut self, now: Timestamp, key: KeyId) -> Vec<Effect> {
        let of_key = |(id, client): (&ClientId, &Client)| (client.place.key == key).then_some(*id);
        let ids: Vec<ClientId> = self.clients.iter().filter_map(of_key).collect();
        let mut effects = Vec::new();
        for id in ids {
            self.drop_client(now, id, &mut effects);
        }
        effects
    }

    /// What time brings: pings, and the end of stays that lasted too long.
    pub(super) fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let ids: Vec<ClientId> = due.map(|(_, id)| *id).collect();
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
        self.due.first().map(|(at, _)| *at)
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
        self.assert_counted();
    }

    /// Panics unless everything that is kept about the clients is what a walk over all of them finds.
    #[cfg(test)]
    fn assert_counted(&self) {
        let (mut per_key, mut per_prefix) = (BTreeMap::<KeyId, Count>::new(), BTreeMap::new());
        for client in self.clients.values() {
            let count = per_key.entry(client.place.key).or_default();
            if client.is_spliced() {
                count.spliced += 1;
            } else {
                count.waiting += 1;
                *per_prefix.entry(client.prefix).or_insert(0) += 1;
            }
        }
        let due = self.clients.iter().filter_map(|(id, client)| Some((client.due(&self.limits)?, *id)));
        assert_eq!((&self.per_key, &self.per_prefix), (&per_key, &per_prefix));
        assert_eq!(self.due, due.collect());
    }
}
