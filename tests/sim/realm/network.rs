//! The network between the devices: sessions with a queue each way, cut or stalled where it falls apart. A session that
//! ends loses what was under way.

use crate::sim::rng::Rng;
use protocol::wire::message::Message;
use std::collections::{BTreeMap, VecDeque};

/// Two devices, the smaller number first.
pub type Pair = (usize, usize);

/// What was sent, and by whom.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Who gets it.
    pub to: usize,
    /// Who sent it.
    pub from: usize,
    /// It.
    pub message: Message,
}

/// All sessions.
#[derive(Default)]
pub struct Network {
    /// What is under way, by sender.
    sessions: BTreeMap<Pair, [VecDeque<Message>; 2]>,
    /// One bit a device: on which side it is.
    side: u8,
    wild: bool,
}

/// The key of two devices.
#[must_use]
pub const fn pair(one: usize, other: usize) -> Pair {
    if one < other { (one, other) } else { (other, one) }
}

impl Network {
    /// A whole one.
    #[must_use]
    pub fn new(wild: bool) -> Self {
        Self { wild, ..Self::default() }
    }

    /// Whether it loses, doubles and reorders what is under way in a session.
    #[must_use]
    pub const fn is_wild(&self) -> bool {
        self.wild
    }

    /// From now on nothing inside a session is lost, doubled or reordered.
    pub const fn calm(&mut self) {
        self.wild = false;
    }

    /// Whether anything gets from one to the other.
    #[must_use]
    pub const fn joins(&self, one: usize, other: usize) -> bool {
        (self.side >> one & 1) == (self.side >> other & 1)
    }

    /// Falls in two, or is whole with 0. The sessions that are across now, for the caller to cut or to leave stalled.
    pub fn split(&mut self, side: u8) -> Vec<Pair> {
        self.side = side;
        self.sessions.keys().copied().filter(|(one, other)| !self.joins(*one, *other)).collect()
    }

    /// All that there are.
    #[must_use]
    pub fn sessions(&self) -> Vec<Pair> {
        self.sessions.keys().copied().collect()
    }

    /// Whether there is one.
    #[must_use]
    pub fn has(&self, one: usize, other: usize) -> bool {
        self.sessions.contains_key(&pair(one, other))
    }

    /// Begins one.
    pub fn open(&mut self, at: Pair) {
        self.sessions.insert(at, [VecDeque::new(), VecDeque::new()]);
    }

    /// Ends one, if there is one.
    pub fn close(&mut self, at: Pair) -> bool {
        self.sessions.remove(&at).is_some()
    }

    /// Puts a message on its way; without a session it is lost.
    pub fn send(&mut self, from: usize, to: usize, message: Message) {
        if let Some(queues) = self.sessions.get_mut(&pair(from, to)) {
            queues[usize::from(from > to)].push_back(message);
        }
    }

    /// Ways on which something can arrive.
    #[must_use]
    pub fn waiting(&self) -> Vec<(Pair, usize)> {
        let open = self.sessions.iter().filter(|((one, other), _)| self.joins(*one, *other));
        open.flat_map(|(at, queues)| (0..2).filter(|way| !queues[*way].is_empty()).map(|way| (*at, way))).collect()
    }

    /// The next message on a way, if the network does not lose it.
    pub fn take(&mut self, (at, way): (Pair, usize), rng: &mut Rng) -> Option<Packet> {
        let queue = &mut self.sessions.get_mut(&at)?[way];
        let place = if self.wild && rng.chance(20) { rng.below(queue.len()) } else { 0 };
        let message = if self.wild && rng.chance(10) { queue.get(place).cloned() } else { queue.remove(place) };
        let lost = self.wild && rng.chance(10);
        let (from, to) = if way == 0 { at } else { (at.1, at.0) };
        message.filter(|_| !lost).map(|message| Packet { to, from, message })
    }
}
