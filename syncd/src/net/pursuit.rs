//! How one counterpart, a paired device or the other end of an invite, is sought: its addresses, when to dial next,
//! and where to wait for it. The hub owns one per counterpart; the attempts themselves are tasks.

use super::address::{is_within_reach, plausible};
use super::backoff::Backoff;
use super::config::{Own, RelayWay, WayId, random, unix_now};
use super::dial::{Gate, Missed, Reached, Route, Routes, dial};
use super::door::DoorHandle;
use super::event::Tried;
use super::keys::{Keys, Who};
use super::lan::Interface;
use super::park::Stay;
use super::punch::{Aim, Tries, Volley, WORDS};
use super::session::Session;
use protocol::limits::ADDRESSES_MAX;
use protocol::wire::knock::Context;
use protocol::wire::message::Message;
use protocol::wire::pair::Direction;
use protocol::wire::relay::Endpoint;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod waits;

pub(super) use waits::Place;
use waits::{Waiting, first_that_answer, places};

/// Relays where a counterpart is awaited: of the ports of own devices the first so many that answer, and as many others.
const RELAYS_USED: usize = 2;
/// Other people's relays come so long after own ones.
const OWN_FIRST: Duration = Duration::from_secs(2);
/// Addresses heard on the LAN that are kept, and for how long.
const SEEN_MAX: usize = 4;
const SEEN_KEEP: Duration = Duration::from_secs(300);
/// The larger id leaves a LAN sighting to the smaller one for so long.
const LAN_PATIENCE: Duration = Duration::from_secs(2);
/// What was found in a public table counts for so long: a device that is still sought is found again by then.
const WORD_KEEP: Duration = Duration::from_secs(2 * 3600);
/// While a relay carries the session a direct way is tried at least this often.
const RELAYED_RETRY: Duration = Duration::from_secs(40);
/// Ways that are remembered with what came of them.
const TRIED_MAX: usize = 24;
/// The other end may ask for punches this often.
const PUNCHES_APART: Duration = Duration::from_secs(1);

/// Which attempt an outcome belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attempt {
    Dial,
    Park(Place),
    Punch,
    Clock,
}

/// How an attempt ended.
pub(super) struct Outcome {
    pub(super) who: Who,
    pub(super) attempt: Attempt,
    pub(super) round: u64,
    pub(super) result: Result<Box<Reached>, Missed>,
}

/// How much a counterpart is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Not at all: connected well, or paused.
    No,
    /// A better path than the relay that is there.
    Directly,
    /// By any path.
    Anyhow,
}

/// What attempts need from the hub.
pub(super) struct Means<'a> {
    pub(super) own: &'a Arc<Own>,
    pub(super) door: &'a DoorHandle,
    pub(super) relays: &'a [RelayWay],
    /// Networks that we are in.
    pub(super) near: &'a [Interface],
    pub(super) listening: &'a [SocketAddr],
    /// The relayed session over which a punch can be arranged.
    pub(super) relayed: Option<Session>,
    pub(super) attempts: &'a mut JoinSet<Outcome>,
}

pub(super) struct Pursuit {
    pub(super) keys: Arc<Keys>,
    /// Those before, until a connection was made with the present ones: the counterpart may not know yet that these hold. They
    /// are dialled with in turn, and waited under as well, since a relay brings only equal tokens together.
    pub(super) before: Option<Arc<Keys>>,
    one: Arc<Semaphore>,
    /// Ends all attempts that are under way, but for those behind the gate.
    stop: CancellationToken,
    /// Counts how often that happened: what an earlier round reports is not about the present attempts.
    round: u64,
    pub(super) typed: Vec<Endpoint>,
    pub(super) learned: Vec<SocketAddr>,
    /// Where it was dialled with success since we started, latest first.
    pub(super) proven: Vec<SocketAddr>,
    seen: Vec<(SocketAddr, Instant)>,
    dials: Backoff,
    /// Dials since it was started over.
    dialled: u32,
    dialling: bool,
    /// A relay carries the present session.
    relayed: bool,
    waits: BTreeMap<Place, Waiting>,
    /// Relays are used from then on.
    relays_from: Instant,
    unit: Duration,
    pub(super) last_error: Option<String>,
    /// What became of each way, the latest first.
    tried: Vec<Tried>,
    /// Where it said in a public table that it can be met, and until when that counts.
    word: Option<(Vec<SocketAddr>, Instant)>,
    /// A dial by the clock is under way.
    by_clock: bool,
    punches: Tries,
    /// Leads to the punch that is under way, and when that began.
    punching: Option<(mpsc::Sender<Message>, Instant)>,
    /// Why the other end, when it came to us, could not be let in: says more than its silence when we go there.
    pub(super) misfit: Option<String>,
}

impl Pursuit {
    pub(super) fn new(keys: Arc<Keys>, typed: Vec<Endpoint>, learned: Vec<SocketAddr>, own: &Own) -> Self {
        let now = Instant::now();
        Self {
            keys,
            before: None,
            one: Arc::new(Semaphore::new(1)),
            stop: CancellationToken::new(),
            round: 0,
            typed,
            learned,
            proven: Vec::new(),
            seen: Vec::new(),
            dials: Backoff::new(own.tuning.backoff_unit, now),
            dialled: 0,
            dialling: false,
            relayed: false,
            waits: BTreeMap::new(),
            relays_from: now + own.tuning.relay_after,
            unit: own.tuning.backoff_unit,
            last_error: None,
            tried: Vec::new(),
            word: None,
            by_clock: false,
            punches: Tries::new(now),
            punching: None,
            misfit: None,
        }
    }

    /// Whether we dial at all: whoever shows an invite waits to be found.
    fn dials(&self) -> bool {
        self.keys.context != Context::Pairing || self.keys.out == Direction::High
    }

    fn routes(&self, now: Instant, near: &[Interface]) -> Routes {
        let fresh = self.seen.iter().filter(|(_, at)| now - *at < SEEN_KEEP).map(|(address, _)| *address);
        let mut learned: Vec<SocketAddr> =
            self.learned.iter().filter(|address| is_within_reach(address.ip(), near)).copied().collect();
        learned.sort_by_key(SocketAddr::is_ipv4);
        let word = self.word(now).into_iter().flatten().copied();
        let addresses = fresh.chain(self.proven.iter().copied()).chain(learned).chain(word).collect();
        Routes { addresses, typed: self.typed.clone() }
    }

    fn word(&self, now: Instant) -> Option<&Vec<SocketAddr>> {
        self.word.as_ref().filter(|(_, until)| *until > now).map(|(addresses, _)| addresses)
    }

    /// It left word in a public table.
    pub(super) fn found(&mut self, addresses: &[SocketAddr], near: &[Interface], now: Instant) {
        let mut addresses = plausible(addresses, None);
        addresses.retain(|address| is_within_reach(address.ip(), near));
        let is_news = self.word(now) != Some(&addresses);
        self.word = Some((addresses, now + WORD_KEEP));
        if is_news {
            self.dials.reset(now);
        }
    }

    /// Dialled with success at `address`.
    pub(super) fn reached(&mut self, address: SocketAddr) {
        self.proven.retain(|other| *other != address);
        self.proven.insert(0, address);
        self.proven.truncate(ADDRESSES_MAX);
    }

    /// The connection is gone, or something changed: starts over.
    pub(super) fn restart(&mut self, now: Instant, relay_after: Duration) {
        self.dialled = 0;
        self.dials.reset(now);
        self.relays_from = now + relay_after;
        self.waits.values_mut().for_each(|wait| wait.backoff.reset(now));
        self.punches = Tries::new(now);
    }

    /// A session ended soon after it began: tries again, but not at once.
    pub(super) fn retry_later(&mut self, now: Instant, relay_after: Duration) {
        self.dials.failed(now, jitter());
        self.relays_from = self.dials.next().max(now + relay_after);
    }

    /// The other side does not want us for now.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.dials.give_up(now, jitter());
        self.relays_from = self.dials.next();
    }

    /// Another connection is about to take over.
    pub(super) fn hold(&mut self, until: Instant) {
        self.dials.hold_until(until);
        self.relays_from = self.relays_from.max(until);
    }

    /// Heard on the LAN: dialled at once by the smaller id or the joiner, by the other a little later.
    pub(super) fn sighted(&mut self, address: SocketAddr, now: Instant) {
        self.seen.retain(|(other, at)| *other != address && now - *at < SEEN_KEEP);
        self.seen.insert(0, (address, now));
        self.seen.truncate(SEEN_MAX);
        let first = self.keys.context == Context::Pairing || self.keys.out == Direction::Low;
        let at = if first { now } else { now + LAN_PATIENCE };
        // A beacon never delays a dial that was due earlier.
        if self.dials.next() > at {
            self.dials.reset(at);
        }
    }

    /// Starts what is due and stops what is no longer wanted.
    pub(super) fn advance(&mut self, wanted: Wanted, now: Instant, mut means: Means<'_>) {
        if wanted == Wanted::No {
            self.stop();
            return;
        }
        self.relayed = wanted == Wanted::Directly;
        let routes = self.routes(now, means.near);
        if self.dials() && !self.dialling && !routes.is_empty() && self.dials.next() <= now {
            let gate = Gate { one: Arc::clone(&self.one), stop: self.stop.clone() };
            let keys = self.before.as_ref().filter(|_| !self.dialled.is_multiple_of(2)).unwrap_or(&self.keys);
            let work = dial(Arc::clone(means.own), Arc::clone(keys), routes, gate);
            let (who, attempt, round) = (self.keys.who, Attempt::Dial, self.round);
            means.attempts.spawn(async move { Outcome { who, attempt, round, result: work.await.map(Box::new) } });
            self.dialling = true;
            self.dialled = self.dialled.wrapping_add(1);
        }
        self.park(wanted == Wanted::Anyhow, now, &mut means);
        if wanted == Wanted::Anyhow && self.keys.context == Context::Session && !self.by_clock {
            self.dial_by_clock(now, &mut means);
        }
        if self.leads() && self.punching.is_none() && self.punches.next() <= now && means.relayed.is_some() {
            let number = self.punches.number();
            self.punch(now, &mut means, move |aim| aim.lead(number));
        }
    }

    fn dial_by_clock(&mut self, now: Instant, means: &mut Means<'_>) {
        if means.own.proxy().is_some() {
            return;
        }
        let Some(addresses) = self.word(now).filter(|addresses| !addresses.is_empty()).cloned() else { return };
        let volley = Volley { insists: true, before: self.before.clone(), ..self.volley(means) };
        let (who, attempt, round) = (self.keys.who, Attempt::Clock, self.round);
        means.attempts.spawn(async move {
            let result = volley.fire_by_the_clock(addresses).await.map(Box::new);
            Outcome { who, attempt, round, result }
        });
        self.by_clock = true;
    }

    /// The smaller id arranges punches.
    fn leads(&self) -> bool {
        self.keys.context == Context::Session && self.keys.out == Direction::Low
    }

    fn punch<F>(&mut self, now: Instant, means: &mut Means<'_>, work: impl FnOnce(Aim) -> F)
    where
        F: Future<Output = Result<Reached, Missed>> + Send + 'static,
    {
        let Some(session) = means.relayed.clone() else { return };
        let (words_to, words) = mpsc::channel(WORDS);
        // The relay that the session goes through is there; it knows both ends' routers already.
        let through = session.address();
        let mut ways: Vec<&RelayWay> = means.relays.iter().filter(|way| !self.is_of(way)).collect();
        ways.sort_by_key(|way| !way.is_at(through));
        let relays = ways.iter().take(RELAYS_USED).map(|way| way.link_at(through)).collect();
        let aim = Aim { volley: self.volley(means), session, relays, words };
        let (who, attempt, round, work) = (self.keys.who, Attempt::Punch, self.round, work(aim));
        means.attempts.spawn(async move { Outcome { who, attempt, round, result: work.await.map(Box::new) } });
        self.punching = Some((words_to, now));
    }

    fn volley(&self, means: &Means<'_>) -> Volley {
        Volley {
            own: Arc::clone(means.own),
            keys: Arc::clone(&self.keys),
            listening: means.listening.to_vec(),
            near: means.near.to_vec(),
            door: means.door.clone(),
            gate: Gate { one: Arc::clone(&self.one), stop: self.stop.clone() },
            before: None,
            insists: false,
        }
    }

    /// The other end speaks of a punch: it asks for one, or answers.
    pub(super) fn punch_word(&mut self, message: Message, now: Instant, mut means: Means<'_>) {
        match (message, &self.punching) {
            (Message::PunchSyn(punch), punching) => {
                let apart = punching.as_ref().is_none_or(|(_, begun)| now - *begun >= PUNCHES_APART);
                if !self.leads() && apart {
                    self.punch(now, &mut means, move |aim: Aim| aim.follow(punch));
                }
            }
            // Words that nobody waits for are of a punch that is over.
            (word, Some((words_to, _))) => drop(words_to.try_send(word)),
            (_, None) => {}
        }
    }

    /// Whether it is the counterpart's own port: whoever can reach that needs no relay.
    fn is_of(&self, way: &RelayWay) -> bool {
        way.of.is_some_and(|device| Who::Peer(device) == self.keys.who)
    }

    /// From when on the relays of own devices are waited at, and from when on the others.
    fn relays_from(&self, ways: &[RelayWay]) -> (Instant, Instant) {
        let has_own = ways.iter().any(|way| way.of.is_some() && !self.is_of(way));
        (self.relays_from, self.relays_from + if has_own { OWN_FIRST } else { Duration::ZERO })
    }

    /// The relays to wait at.
    fn usable(&self, ways: &[RelayWay], now: Instant) -> Vec<WayId> {
        let (own_from, others_from) = self.relays_from(ways);
        let silent = |id: &WayId| self.waits.iter().any(|(place, wait)| place.relay == *id && wait.is_silent());
        let first = |own: bool, from: Instant| {
            let all = ways.iter().filter(|way| way.of.is_some() == own && !self.is_of(way) && now >= from);
            first_that_answer(all.map(|way| way.id), silent, RELAYS_USED)
        };
        first(true, own_from).into_iter().chain(first(false, others_from)).collect()
    }

    /// Relays have other addresses now, or are there again: what failed is tried at once.
    pub(super) fn try_again(&mut self, relays: &[WayId], now: Instant) {
        for (_, wait) in self.waits.iter_mut().filter(|(place, _)| relays.contains(&place.relay)) {
            wait.backoff.reset(now);
        }
    }

    fn park(&mut self, wanted: bool, now: Instant, means: &mut Means<'_>) {
        let tokens = 1 + usize::from(self.before.is_some());
        let usable = if wanted { self.usable(means.relays, now) } else { Vec::new() };
        let places = places(&usable, tokens, unix_now());
        self.waits.retain(|place, wait| {
            let keep = places.contains(place);
            if !keep {
                wait.stop.cancel();
            }
            keep
        });
        for place in places {
            let Some(way) = means.relays.iter().find(|way| way.id == place.relay) else { continue };
            let stop = self.stop.child_token();
            let fresh = || Waiting {
                running: false,
                answers: Arc::default(),
                failed: false,
                stop,
                backoff: Backoff::new(self.unit, now),
            };
            let wait = self.waits.entry(place).or_insert_with(fresh);
            if wait.running || wait.backoff.next() > now {
                continue;
            }
            let stay = Stay {
                own: Arc::clone(means.own),
                keys: Arc::clone(self.before.as_ref().filter(|_| place.before).unwrap_or(&self.keys)),
                way: way.clone(),
                near: means.near.to_vec(),
                answers: Arc::clone(&wait.answers),
                epoch: place.epoch,
                door: means.door.clone(),
                gate: Gate { one: Arc::clone(&self.one), stop: wait.stop.clone() },
            };
            let (who, attempt, round) = (self.keys.who, Attempt::Park(place), self.round);
            means
                .attempts
                .spawn(async move { Outcome { who, attempt, round, result: stay.run().await.map(Box::new) } });
            wait.running = true;
        }
    }

    /// Takes note that an attempt is over. A success needs no wait: the hub decides what comes next.
    pub(super) fn ended(&mut self, attempt: Attempt, round: u64, missed: Option<&Missed>, now: Instant) {
        if round != self.round {
            return;
        }
        for (route, words) in missed.map_or(&[][..], |missed| &missed.tried) {
            self.note(route.clone(), Some(words.clone()));
        }
        let backoff = match attempt {
            Attempt::Clock => {
                self.by_clock = false;
                None
            }
            Attempt::Punch => {
                self.punching = None;
                if missed.is_some() {
                    self.punches.failed(now);
                }
                None
            }
            Attempt::Dial => {
                self.dialling = false;
                Some(&mut self.dials)
            }
            Attempt::Park(place) => self.waits.get_mut(&place).map(|wait| {
                wait.running = false;
                wait.failed = true;
                wait.answers.store(false, Ordering::Relaxed);
                &mut wait.backoff
            }),
        };
        if let Some(missed) = missed {
            tracing::debug!(words = missed.words, "an attempt to connect failed");
            // That a better way failed is no trouble while there is one.
            if !matches!(attempt, Attempt::Punch | Attempt::Clock) {
                self.last_error = Some(missed.words.clone());
            }
            if let Some(backoff) = backoff {
                // A beacon may have asked for an earlier dial while this one ran.
                if backoff.next() <= now {
                    backoff.failed(now, jitter());
                }
                // What stood in the way may go without a sign of it here, and the relay carries everything until then.
                if attempt == Attempt::Dial && self.relayed {
                    backoff.at_latest(now + RELAYED_RETRY);
                }
            }
        }
    }

    /// Remembers what became of a way.
    pub(super) fn note(&mut self, route: Route, words: Option<String>) {
        self.tried.retain(|tried| tried.route != route);
        self.tried.insert(0, Tried { route, at: SystemTime::now(), words });
        self.tried.truncate(TRIED_MAX);
    }

    pub(super) fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// When we dial next, unless that is under way.
    pub(super) fn next_dial(&self) -> Option<Instant> {
        (self.dials() && !self.dialling).then(|| self.dials.next())
    }

    /// Stops all attempts that the other end does not know of yet.
    pub(super) fn stop(&mut self) {
        if self.dialling || self.by_clock || self.punching.is_some() || !self.waits.is_empty() {
            self.stop.cancel();
            self.stop = CancellationToken::new();
            self.round += 1;
            (self.dialling, self.by_clock) = (false, false);
            self.punching = None;
            self.waits.clear();
        }
    }

    /// When [`Self::advance`] has something to do again.
    pub(super) fn wake_at(
        &self,
        wanted: Wanted,
        ways: &[RelayWay],
        relayed: bool,
        near: &[Interface],
    ) -> Option<Instant> {
        let now = Instant::now();
        if wanted == Wanted::No {
            return None;
        }
        let dials = self.dials() && !self.dialling && !self.routes(now, near).is_empty();
        let dial = dials.then(|| self.dials.next());
        let parks = (wanted == Wanted::Anyhow && !ways.is_empty()).then(|| {
            let (own_from, others_from) = self.relays_from(ways);
            let from = [own_from, others_from].into_iter().find(|from| *from > now);
            let idle = self.waits.values().filter(|wait| !wait.running).map(|wait| wait.backoff.next()).min();
            from.into_iter().chain(idle).min().unwrap_or(now + Duration::from_secs(60))
        });
        let punch = (relayed && self.leads() && self.punching.is_none()).then(|| self.punches.next());
        dial.into_iter().chain(parks).chain(punch).min()
    }
}

impl Drop for Pursuit {
    fn drop(&mut self) {
        self.stop();
    }
}

fn jitter() -> u8 {
    let [jitter] = random();
    jitter
}
