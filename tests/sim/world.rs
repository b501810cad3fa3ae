//! All devices, the links between them, and the order in which things happen. One thread, one clock, one seed.

use super::database::Database;
use super::device::{Crashed, Device};
use super::drive::{Drive, Flat};
use super::oracle::Oracle;
use super::rng::{Rng, mix};
use super::scenario::{Act, Config, Profile, Step, Topology, What};
use super::user::{Through, User};
use super::volume::{Race, Volume};
use super::weather::Weather;
use super::words;
use protocol::model::{DeviceId, Mtime, RelPath, ReplicaId, RunId, Sequence, Timestamp};
use protocol::sync::engine::{self, Declined, DigestWords, Effect, Event, IndexBatch, RunWords};
use protocol::sync::{Journal, Problem, ProblemCode, Rows};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use syncd::disk::fs::problem;

/// What travels on a link.
#[derive(Clone, Debug)]
pub enum Message {
    /// Asks for an index.
    IndexGet {
        /// The receiver's replica.
        replica: ReplicaId,
        /// After this one.
        from: Sequence,
    },
    /// A part of the sender's index.
    Index(IndexBatch),
    /// How far the receiver's index is recorded.
    IndexAck {
        /// The receiver's replica.
        replica: ReplicaId,
        /// Up to here.
        sequence: Sequence,
        /// What is not applied.
        declined: Vec<Declined>,
    },
    /// The sender's digest.
    Digest(DigestWords),
    /// The sender's run.
    Run(RunWords),
}

const HOUR_MS: u64 = 3_600_000;

/// Something that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Micro {
    /// The first message of a link arrives.
    Deliver(usize, usize),
    /// A fetch ends.
    Fetch(usize, usize),
    /// The batch goes on.
    Act(usize),
    /// A path is looked at.
    Look(usize, usize),
    /// A scan goes on.
    Scan(usize),
    /// A finding reaches the engine.
    Mail(usize),
    /// A timer is due.
    Wake(usize),
    /// The daemon starts.
    Boot(usize),
}

/// The whole simulated fleet.
pub struct World {
    /// The run's configuration.
    pub config: Config,
    /// By number.
    pub devices: Vec<Device>,
    /// What users did and saw.
    pub oracle: Oracle,
    /// Virtual time.
    pub now: Timestamp,
    /// Index rows that were sent.
    pub rows_sent: u64,
    /// Things that happened.
    pub happened: u64,
    /// Lines for a person, when asked for.
    pub trace: Option<Vec<String>>,
    /// Over everything that happened.
    pub hash: u64,
    /// Users made hard links.
    pub has_links: bool,
    links: BTreeMap<(usize, usize), VecDeque<Message>>,
    paths: Vec<RelPath>,
    incarnations: u64,
    /// What the index of device 0 goes back to.
    backup: Option<Database>,
    went_back: bool,
    boots: u64,
}

impl World {
    /// A fleet before its first step: all daemons up, nothing connected.
    #[must_use]
    pub fn new(config: &Config, tracing: bool) -> Self {
        let replica = |number: usize| ReplicaId(mix(config.seed ^ (number as u64 + 1)).to_be_bytes());
        let parse = |path: &String| RelPath::parse(path.as_bytes()).expect("the simulator's paths are valid");
        let mut world = Self {
            devices: (0..config.devices)
                .map(|number| {
                    Device::new(
                        number,
                        replica(number),
                        drive(config, number),
                        config.flaw,
                        config.profile == Profile::Whole,
                    )
                })
                .collect(),
            oracle: Oracle::new(config.devices),
            now: Timestamp(1000),
            rows_sent: 0,
            happened: 0,
            trace: tracing.then(Vec::new),
            hash: config.seed,
            has_links: false,
            links: BTreeMap::new(),
            paths: config.paths.iter().map(parse).collect(),
            incarnations: 0,
            backup: None,
            went_back: false,
            boots: 0,
            config: config.clone(),
        };
        for number in 0..config.devices {
            world.boot(number);
        }
        world
    }

    /// Writes a line for a person.
    pub fn say(&mut self, words: impl FnOnce() -> String) {
        let now = self.now.0;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>8} {}", words()));
        }
    }

    /// Carries out one step.
    pub fn step(&mut self, step: &Step) {
        let mut rng = Rng::new(self.config.seed, u64::from(step.id));
        self.say(|| format!("-- step {}: {:?}", step.id, step.what));
        if let What::User { act, .. } | What::Race { act, .. } = step.what {
            self.has_links |= matches!(act, Act::HardLink(..) | Act::LinkOutside(_));
        }
        match step.what {
            What::User { device, act } => self.user(device, act, step.id, &mut rng),
            What::Run { events } => self.run(events, &mut rng),
            What::Scan { device } => self.devices[device].ask_scan(),
            What::Join { a, b } => self.join(a, b),
            What::Cut { a, b } => self.cut(a, b),
            What::Crash { device, after, power } => {
                let device = &mut self.devices[device];
                (device.dies_after, device.by_power) = (Some(after), power);
            }
            What::Race { device, act, after } => {
                let user = self.somebody(device, step.id, &mut rng);
                self.devices[device].races.push(Race { after: u64::from(after), user, act });
            }
            What::LoseIndex { device } => self.lose_index(device),
            What::Night => self.sleep(&mut rng),
        }
        if self.config.clone_after == Some(step.id) {
            self.clone_device();
        }
        if let Some((kept, back)) = self.config.back_after {
            if kept == step.id {
                self.backup = Some(self.devices[0].store.fork());
            }
            if back == step.id {
                self.go_back();
            }
        }
    }

    fn user(&mut self, number: usize, act: Act, id: u32, rng: &mut Rng) {
        let user = self.somebody(number, id, rng);
        let device = &mut self.devices[number];
        if device.is_question(&user, act, &[]) {
            return;
        }
        let changed: Vec<RelPath> = match act {
            Act::Open(at) => {
                device.open(&self.paths[at]);
                Vec::new()
            }
            Act::Append(nth) => device.append(nth, user.tag.as_bytes(), &mut self.oracle).into_iter().collect(),
            _ => {
                let deeds = user.act(act, device.drive.files());
                device.tell_deeds(&deeds, &mut self.oracle);
                deeds.into_iter().filter(|deed| deed.through == Through::This).map(|deed| deed.path).collect()
            }
        };
        if device.engine.is_some() {
            for path in changed {
                if !rng.chance(self.config.watch_percent) {
                    continue;
                }
                let dir = path.parent().filter(|_| self.config.faults.watch_merges && rng.chance(50));
                device.looks.push(dir.map_or((path, false), |dir| (dir, true)));
            }
        }
    }

    /// Who carries out step `id`.
    fn somebody(&mut self, number: usize, id: u32, rng: &mut Rng) -> User {
        let secs = 1_000_000_000 + (self.now.0 / 1000).cast_signed() + self.config.skew_secs[number];
        let nanos = if self.config.coarse_times { 0 } else { id };
        // Of one length, so that nothing but their bytes tells them apart.
        let tag = format!("{:.<16}", format!("{}/{id}", self.config.seed));
        let time = self.devices[number].drive.clock().unwrap_or(Mtime { secs, nanos });
        User { paths: self.paths.clone(), tag, time, salt: rng.next() }
    }

    /// The clocks go.
    pub fn advance(&mut self, millis: u64) {
        self.now = Timestamp(self.now.0 + millis);
        for device in &self.devices {
            device.drive.advance(Duration::from_millis(millis));
        }
    }

    /// Some hours go by, and the disks are again what they were.
    fn sleep(&mut self, rng: &mut Rng) {
        self.advance(HOUR_MS * (6 + rng.below(4) as u64));
        for device in &self.devices {
            device.drive.ail(&self.config.faults);
        }
    }

    /// Lets things happen, in a random order.
    fn run(&mut self, events: u32, rng: &mut Rng) {
        for _ in 0..events {
            if rng.chance(20) {
                self.advance([5, 50, 300, 700, 5000][rng.below(5)]);
            }
            let enabled = self.enabled();
            if enabled.is_empty() {
                self.advance(100);
            } else {
                self.happen(*rng.pick(&enabled));
            }
        }
    }

    /// Everything that can happen now.
    #[must_use]
    pub fn enabled(&self) -> Vec<Micro> {
        let mut enabled: Vec<Micro> = Vec::new();
        let full = self.links.iter().filter(|(_, queue)| !queue.is_empty());
        enabled.extend(full.map(|((from, to), _)| Micro::Deliver(*from, *to)));
        for device in &self.devices {
            let at = device.number;
            let Some(engine) = &device.engine else {
                enabled.push(Micro::Boot(at));
                continue;
            };
            enabled.extend((0..device.fetches.len()).map(|nth| Micro::Fetch(at, nth)));
            enabled.extend((0..device.looks.len()).map(|nth| Micro::Look(at, nth)));
            enabled.extend(device.is_acting().then_some(Micro::Act(at)));
            enabled.extend(device.is_scanning().then_some(Micro::Scan(at)));
            enabled.extend((!device.mail.is_empty()).then_some(Micro::Mail(at)));
            enabled.extend(engine.wake_at().filter(|at| *at <= self.now).map(|_| Micro::Wake(at)));
        }
        enabled
    }

    /// Lets one thing happen.
    pub fn happen(&mut self, micro: Micro) {
        self.happened += 1;
        self.hash = mix(self.hash ^ code(micro) ^ (self.now.0 << 20));
        match micro {
            Micro::Deliver(from, to) => {
                let queue = self.links.get_mut(&(from, to)).expect("enabled links exist");
                if let Some(message) = queue.pop_front() {
                    self.say(|| format!("{from} -> {to}: {}", words::message(&message)));
                    let peer = self.devices[from].id;
                    self.event(to, received(peer, message, self.config.credit));
                }
            }
            Micro::Fetch(at, nth) => self.fetch(at, nth),
            Micro::Act(at) => {
                let now = self.now;
                let words = self.trace.is_some().then(|| self.devices[at].next_actions());
                self.say(|| format!("{at}: {}", words.unwrap_or_default()));
                let result = self.devices[at].act(now, &mut self.oracle);
                self.after(at, result);
            }
            Micro::Look(at, nth) => self.devices[at].look(nth),
            Micro::Scan(at) => self.devices[at].scan(&mut self.oracle),
            Micro::Mail(at) => {
                if let Some(event) = self.devices[at].mail.pop_front() {
                    self.say(|| format!("{at}: {}", words::event(&event)));
                    self.event(at, event);
                }
            }
            Micro::Wake(at) => {
                self.say(|| format!("{at}: wakes"));
                self.event(at, Event::Wake);
            }
            Micro::Boot(at) => self.boot(at),
        }
    }

    fn event(&mut self, at: usize, event: Event) {
        let now = self.now;
        let result = self.devices[at].event(now, event, &mut self.oracle);
        self.after(at, result);
    }

    /// Sends what an event left in the outbox, or buries the daemon.
    fn after(&mut self, at: usize, result: Result<(), Crashed>) {
        for (peer, effect) in std::mem::take(&mut self.devices[at].outbox) {
            self.send(at, peer, effect);
        }
        if result == Err(Crashed) {
            self.crash(at);
        } else if std::mem::take(&mut self.devices[at].stale) {
            self.renew(at);
        }
    }

    fn send(&mut self, from: usize, peer: DeviceId, effect: Effect) {
        let to = usize::from(peer.0[0]) - 1;
        let message = match effect {
            Effect::IndexGet { replica, from, .. } => Message::IndexGet { replica, from },
            Effect::Index { batch, .. } => Message::Index(batch),
            Effect::IndexAck { replica, sequence, declined, .. } => Message::IndexAck { replica, sequence, declined },
            Effect::Digest { words, .. } => Message::Digest(words),
            Effect::Run { words, .. } => Message::Run(words),
            other => panic!("not a message: {other:?}"),
        };
        if let Some(queue) = self.links.get_mut(&(from, to)) {
            if let Message::Index(batch) = &message {
                self.rows_sent += batch.rows.len() as u64;
            }
            queue.push_back(message);
        }
    }

    fn fetch(&mut self, at: usize, nth: usize) {
        let fetch = self.devices[at].fetches.swap_remove(nth);
        let locally = self.devices[at].store.holders(&fetch.content, 8);
        let here =
            locally.iter().find(|path| self.devices[at].holds(path, &fetch.content)).map(|path| (at, path.clone()));
        let linked = |number: usize| self.links.contains_key(&(at, number));
        let there = fetch.sources.iter().map(|source| usize::from(source.0[0]) - 1);
        let there =
            there.filter(|number| linked(*number) && self.devices[*number].holds(&fetch.origin, &fetch.content));
        let there = there.map(|number| (number, fetch.origin.clone())).next();
        self.say(|| format!("{at}: fetch of {:?} ends: {} {}", fetch.path, here.is_some(), there.is_some()));
        let staged = here.or(there).map(|(number, path)| {
            let bytes = self.devices[number].drive.read(&path);
            self.devices[at].drive.stage(fetch.content.hash, &bytes)
        });
        let event = match staged {
            Some(Ok(())) => Event::Fetched { path: fetch.path, content: fetch.content.hash },
            Some(Err(error)) => {
                let (content, problem) = (fetch.content.hash, problem(&error, "cannot keep it"));
                Event::FetchFailed { path: fetch.path, content, problem }
            }
            None => {
                let problem = Problem { code: ProblemCode::NoSource, words: "nobody has it".to_string() };
                Event::FetchFailed { path: fetch.path, content: fetch.content.hash, problem }
            }
        };
        self.event(at, event);
    }

    /// Starts a daemon that is down.
    pub fn boot(&mut self, at: usize) {
        let (rules, guard) = (self.config.rules, self.config.guard);
        self.say(|| format!("{at}: boots"));
        self.boots += 1;
        let run = self.config.runs.then(|| RunId(mix(self.config.seed ^ (self.boots << 20)).to_be_bytes()));
        self.devices[at].boot(engine::Config { guard, rules, run, ..engine::Config::default() }, &mut self.oracle);
    }

    fn crash(&mut self, at: usize) {
        self.say(|| format!("{at}: dies"));
        let mut rng = Rng::new(self.config.seed ^ self.happened, 0xdead);
        self.devices[at].crash(&mut rng, &mut self.oracle);
        for other in 0..self.devices.len() {
            self.cut(at, other);
        }
    }

    /// Connects two running devices.
    pub fn join(&mut self, a: usize, b: usize) {
        let up = |at: usize| self.devices[at].engine.is_some();
        if a == b || self.links.contains_key(&(a, b)) || !up(a) || !up(b) {
            return;
        }
        self.links.insert((a, b), VecDeque::new());
        self.links.insert((b, a), VecDeque::new());
        for (at, other) in [(a, b), (b, a)] {
            // The first may have died of its own greeting.
            if self.links.contains_key(&(at, other)) {
                let (peer, replica) = (self.devices[other].id, self.devices[other].store.state().replica);
                self.event(at, Event::Connected { peer, replica, writes: true });
            }
        }
    }

    /// Disconnects two devices; what is on its way is lost.
    pub fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a, b)).is_none() {
            return;
        }
        self.links.remove(&(b, a));
        for (at, other) in [(a, b), (b, a)] {
            let peer = self.devices[other].id;
            self.event(at, Event::Disconnected(peer));
        }
    }

    fn lose_index(&mut self, at: usize) {
        self.crash(at);
        self.incarnations += 1;
        let fresh = mix(self.config.seed ^ (self.incarnations << 32)).to_be_bytes();
        let device = &mut self.devices[at];
        let replica = if self.config.reuse_replica { device.store.state().replica } else { ReplicaId(fresh) };
        device.lose_index(replica);
        let objects = device.drive.objects();
        self.oracle.index_lost(at, objects.iter().map(|(path, object)| (path, &object.content)));
    }

    /// The index of device 0 is what it was; its files are not.
    fn go_back(&mut self) {
        self.crash(0);
        self.incarnations += 1;
        if let Some(backup) = &self.backup {
            self.devices[0].put_back(backup.fork());
            self.went_back = true;
        }
        self.index_is_other(0);
    }

    /// A peer showed that a device's index went back: it goes on under another replica.
    fn renew(&mut self, at: usize) {
        self.say(|| format!("{at}: renews its index"));
        assert!(at == 0 && self.went_back, "the index of device {at} is the one that its peers know");
        let met: Vec<usize> = self.links.keys().filter(|(from, _)| *from == at).map(|(_, to)| *to).collect();
        self.crash(at);
        self.incarnations += 1;
        let fresh = ReplicaId(mix(self.config.seed ^ (self.incarnations << 32)).to_be_bytes());
        let store = &self.devices[at].store;
        engine::renewal(store, fresh).into_iter().for_each(|changes| store.commit(changes));
        self.index_is_other(at);
        self.boot(at);
        met.into_iter().for_each(|other| self.join(at, other));
    }

    fn index_is_other(&mut self, at: usize) {
        let objects = self.devices[at].drive.objects();
        self.oracle.index_lost(at, objects.iter().map(|(path, object)| (path, &object.content)));
    }

    /// Device 1 becomes a copy of device 0, index and all.
    fn clone_device(&mut self) {
        self.crash(1);
        let of = (self.devices[0].store.fork(), self.devices[0].drive.fork());
        self.devices[1].become_clone(&of);
    }

    /// Connections of the healed network.
    #[must_use]
    pub fn healed_links(&self) -> Vec<(usize, usize)> {
        let n = self.devices.len();
        // A device that lost its index must meet all others once: nobody else can tell them that what it announced
        // before is gone.
        let topology = if self.incarnations > 0 { Topology::Full } else { self.config.topology };
        match topology {
            Topology::Full => (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect(),
            Topology::Line => (1..n).map(|b| (b - 1, b)).collect(),
            Topology::Star => (1..n).map(|b| (0, b)).collect(),
        }
    }
}

fn drive(config: &Config, number: usize) -> Drive {
    match config.profile {
        Profile::Flat => Drive::Flat(Flat::default()),
        Profile::Disk | Profile::Whole => {
            let ahead = u64::try_from(1000 + config.skew_secs[number]).unwrap_or_default();
            let weather = Weather::new(config.faults.clone(), Rng::new(config.seed, 0xfa02 + number as u64));
            let (tick, ahead) = (Duration::from_micros(config.tick_us), Duration::from_secs(ahead));
            let volume = Volume::new(tick, ahead, config.flaw, weather, config.careless);
            Drive::Disk(if config.folding == Some(number) { volume.folding() } else { volume })
        }
    }
}

fn received(peer: DeviceId, message: Message, credit: u8) -> Event {
    match message {
        Message::IndexGet { replica, from } => Event::IndexGet { peer, replica, from, credit },
        Message::Index(batch) => Event::Index { peer, batch },
        Message::IndexAck { replica, sequence, declined } => Event::IndexAck { peer, replica, sequence, declined },
        Message::Digest(words) => Event::Digest { peer, words },
        Message::Run(words) => Event::Run { peer, words },
    }
}

const fn code(micro: Micro) -> u64 {
    let (kind, a, b) = match micro {
        Micro::Deliver(from, to) => (1, from, to),
        Micro::Fetch(at, nth) => (2, at, nth),
        Micro::Act(at) => (3, at, 0),
        Micro::Look(at, nth) => (4, at, nth),
        Micro::Scan(at) => (5, at, 0),
        Micro::Mail(at) => (6, at, 0),
        Micro::Wake(at) => (7, at, 0),
        Micro::Boot(at) => (8, at, 0),
    };
    (kind << 16) | ((a as u64) << 8) | b as u64
}
