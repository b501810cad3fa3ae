//! What one run does, as data: a swarm configuration and a list of steps, both drawn from the seed. Each step
//! draws its own chance from the seed and its number, so that dropping one leaves the others as they were.

use super::flaw::Flaw;
use super::rng::Rng;
use super::weather::Faults;
use protocol::sync::reconcile::Rules;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which disk the devices have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// A tree in memory on which each action happens at once.
    #[default]
    Flat,
    /// The commit protocol over a simulated file system that crashes at any operation.
    Disk,
    /// The same with the real database, on a disk that loses its power at the same moment.
    Whole,
}

/// How the devices are connected when everything heals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// All to all.
    Full,
    /// Each to the next.
    Line,
    /// All to the first.
    Star,
}

/// What is possible in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Where all chance comes from.
    pub seed: u64,
    /// The disk.
    pub profile: Profile,
    /// Number of devices, 2 to 5.
    pub devices: usize,
    /// The decision table's rules.
    #[serde(skip)]
    pub rules: Rules,
    /// Paths that users name.
    pub paths: Vec<String>,
    /// Connections after the heal.
    pub topology: Topology,
    /// Of 100 changes, how many does the watcher report.
    pub watch_percent: u64,
    /// Index batches on their way.
    pub credit: u8,
    /// Seconds that each device's wall clock is ahead.
    pub skew_secs: Vec<i64>,
    /// Modification times have whole seconds only.
    pub coarse_times: bool,
    /// Time stamps of the disk profile are multiples of this many microseconds.
    pub tick_us: u64,
    /// The mass deletion guard.
    pub guard: bool,
    /// A lost index starts again under its old replica id: the mistake that `ReplicaId` is there to prevent.
    pub reuse_replica: bool,
    /// Device 1 starts as a copy of device 0, index and all, after this many steps.
    pub clone_after: Option<u32>,
    /// The index of device 0 goes back to what it was after the first of these steps, after the second.
    #[serde(default)]
    pub back_after: Option<(u32, u32)>,
    /// Peers remember in which run they read an index.
    #[serde(default)]
    pub runs: bool,
    /// Some programs never call fsync.
    #[serde(default)]
    pub careless: bool,
    /// The device whose disk takes different spellings for one name.
    #[serde(default)]
    pub folding: Option<usize>,
    /// What the disks do wrong.
    pub faults: Faults,
    /// What every device does wrong: a test of the oracle.
    #[serde(skip)]
    pub flaw: Option<Flaw>,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number when the scenario was drawn; names its chance.
    pub id: u32,
    /// What.
    pub what: What,
}

/// The closed list of what can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A user does something on a device.
    User {
        /// Where.
        device: usize,
        /// What.
        act: Act,
    },
    /// The system runs on: deliveries, fetches, actions, scans, timers, in some order.
    Run {
        /// How many.
        events: u32,
    },
    /// A whole scan begins.
    Scan {
        /// Where.
        device: usize,
    },
    /// A connection comes up.
    Join {
        /// One end.
        a: usize,
        /// The other.
        b: usize,
    },
    /// A connection breaks, with everything on its way.
    Cut {
        /// One end.
        a: usize,
        /// The other.
        b: usize,
    },
    /// The daemon dies after that many more effects, operations or transactions.
    Crash {
        /// Where.
        device: usize,
        /// When.
        after: u32,
        /// The power goes with it, and what was not made durable.
        power: bool,
    },
    /// A user does something in the middle of the next batch of a device.
    Race {
        /// Where.
        device: usize,
        /// What.
        act: Act,
        /// File system operations of the batch before it.
        after: u32,
    },
    /// The daemon dies and its index is gone.
    LoseIndex {
        /// Where.
        device: usize,
    },
    /// Everything heals, comes to rest and is checked; then the next day begins, with the disks as they were.
    Night,
}

/// What a user does; paths are places in the configuration's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// New bytes, over whatever stands there.
    Write(usize),
    /// Bytes that others may write too.
    WriteShared(usize, u8),
    /// New mode.
    Chmod(usize),
    /// New mtime.
    Touch(usize),
    /// Away, with everything below.
    Delete(usize),
    /// A directory, over whatever stands there.
    Mkdir(usize),
    /// A symbolic link, over whatever stands there.
    Link(usize),
    /// From one path to another, over whatever stands there.
    Rename(usize, usize),
    /// New bytes into some conflict copy.
    EditCopy(u8),
    /// Some conflict copy goes.
    DeleteCopy(u8),
    /// New bytes of the same length, in place, with the old mtime put back.
    WriteQuietly(usize),
    /// A pipe, over whatever stands there.
    Fifo(usize),
    /// A program opens a file for writing and keeps it open.
    Open(usize),
    /// Such a program writes, wherever its file is by now.
    Append(u8),
    /// Another name for a file, over whatever stands there.
    HardLink(usize, usize),
    /// Another name for a file, outside the folder.
    LinkOutside(usize),
    /// New bytes through that name.
    WriteOutside,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// What is possible.
    pub config: Config,
    /// What happens.
    pub steps: Vec<Step>,
}

const FLAT_PATHS: [&str; 3] = ["a", "b", "c"];
const DEEP_PATHS: [&str; 8] = ["a", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/d"];

const FLAT_SPELLINGS: [&str; 3] = ["a", "A", "b"];
const DEEP_SPELLINGS: [&str; 8] = ["a", "A", "d", "d/a", "D", "D/a", "d/\u{e9}", "d/e\u{301}"];

/// Of 100 runs, in how many users make hard links.
const LINKED_PERCENT: u64 = 15;

/// Weights of a run: how often what happens.
struct Swarm {
    acts: Vec<fn(&mut Rng, usize) -> Act>,
    user: usize,
    run: usize,
    scan: usize,
    links: usize,
    crash: usize,
    lose: usize,
    /// Of 100 user actions, how many happen in the middle of a batch.
    races: u64,
    /// Events in one `Run`, at most.
    pace: usize,
}

fn path(rng: &mut Rng, paths: usize) -> usize {
    rng.below(paths)
}

impl Swarm {
    fn draw(rng: &mut Rng, deep: bool, profile: Profile) -> Self {
        let write: fn(&mut Rng, usize) -> Act = |rng, n| Act::Write(path(rng, n));
        let mut acts = vec![write; 4];
        let mut maybe = |percent: u64, act: fn(&mut Rng, usize) -> Act, weight: usize| {
            if rng.chance(percent) {
                acts.extend(std::iter::repeat_n(act, weight));
            }
        };
        maybe(75, |rng, n| Act::Delete(path(rng, n)), 2);
        maybe(40, |rng, n| Act::WriteShared(path(rng, n), rng.below(2) as u8), 2);
        maybe(50, |rng, n| Act::Chmod(path(rng, n)), 1);
        maybe(50, |rng, n| Act::Touch(path(rng, n)), 1);
        maybe(if deep { 80 } else { 15 }, |rng, n| Act::Mkdir(path(rng, n)), 2);
        maybe(30, |rng, n| Act::Link(path(rng, n)), 1);
        maybe(50, |rng, n| Act::Rename(path(rng, n), path(rng, n)), 2);
        maybe(50, |rng, _| Act::EditCopy(rng.below(4) as u8), 1);
        maybe(50, |rng, _| Act::DeleteCopy(rng.below(4) as u8), 1);
        if profile != Profile::Flat {
            maybe(30, |rng, n| Act::WriteQuietly(path(rng, n)), 2);
            maybe(15, |rng, n| Act::Fifo(path(rng, n)), 1);
            maybe(
                30,
                |rng, n| if rng.chance(50) { Act::Open(path(rng, n)) } else { Act::Append(rng.below(4) as u8) },
                4,
            );
        }
        Self {
            acts,
            user: 10,
            run: 4 + rng.below(12),
            scan: rng.below(4),
            links: rng.below(6),
            crash: if rng.chance(50) { 1 + rng.below(2) } else { 0 },
            lose: usize::from(rng.chance(15)),
            races: if profile != Profile::Flat { *rng.pick(&[0, 15, 40]) } else { 0 },
            pace: [3, 12, 40][rng.below(3)],
        }
    }

    fn step(&self, rng: &mut Rng, config: &Config) -> What {
        let total = self.user + self.run + self.scan + self.links + self.crash + self.lose;
        let mut at = rng.below(total);
        let mut takes = |weight: usize| {
            let hit = at < weight;
            at = at.wrapping_sub(weight);
            hit
        };
        let device = rng.below(config.devices);
        if takes(self.user) {
            let act = rng.pick(&self.acts)(rng, config.paths.len());
            // Between a rename of ours and the look after it, nothing but ctime tells of a quiet write, and the rename
            // moves that too: nobody can notice it before the file is next replaced or removed.
            if rng.chance(self.races) && !matches!(act, Act::WriteQuietly(_)) {
                What::Race { device, act, after: rng.below(40) as u32 }
            } else {
                What::User { device, act }
            }
        } else if takes(self.run) {
            What::Run { events: 1 + rng.below(self.pace) as u32 }
        } else if takes(self.scan) {
            What::Scan { device }
        } else if takes(self.links) {
            let b = (device + 1 + rng.below(config.devices - 1)) % config.devices;
            if rng.chance(55) { What::Join { a: device, b } } else { What::Cut { a: device, b } }
        } else if takes(self.crash) {
            // A batch of the disk profile has some dozens of operations.
            let (most, power) = if config.profile != Profile::Flat { (60, rng.chance(50)) } else { (12, false) };
            What::Crash { device, after: rng.below(most) as u32, power }
        } else {
            What::LoseIndex { device }
        }
    }
}

/// A file gets another name, and then something happens to one of the two.
fn linked_acts(rng: &mut Rng, config: &Config) -> Vec<Act> {
    let (from, to) = (rng.below(config.paths.len()), rng.below(config.paths.len()));
    let is_disk = config.profile != Profile::Flat;
    let is_outside = is_disk && rng.chance(25);
    let first = if is_outside { Act::LinkOutside(from) } else { Act::HardLink(from, to) };
    let mut acts = if rng.chance(50) { vec![Act::Write(from), first] } else { vec![first] };
    for _ in 0..1 + rng.below(3) {
        let at = if rng.chance(50) { from } else { to };
        acts.push(match rng.below(10) {
            _ if is_outside && rng.chance(50) => Act::WriteOutside,
            0..4 => Act::Write(at),
            4 if is_disk => Act::WriteQuietly(at),
            5 => Act::Chmod(at),
            6 => Act::Touch(at),
            7 => Act::Delete(at),
            8 => Act::Rename(at, rng.below(config.paths.len())),
            _ => Act::WriteShared(at, rng.below(2) as u8),
        });
    }
    acts
}

impl Scenario {
    /// The run of a seed.
    #[must_use]
    pub fn draw(seed: u64, profile: Profile) -> Self {
        Self::draw_day(seed, profile).with_hard_links()
    }

    fn draw_day(seed: u64, profile: Profile) -> Self {
        let mut rng = Rng::new(seed, 0);
        let devices = *rng.pick(&[2, 2, 3, 3, 4, 5]);
        let deep = rng.chance(60);
        let swarm = Swarm::draw(&mut rng, deep, profile);
        let paths = if deep {
            let keep = 3 + rng.below(DEEP_PATHS.len() - 2);
            &DEEP_PATHS[..keep]
        } else {
            &FLAT_PATHS[..1 + rng.below(3)]
        };
        let skewed = rng.chance(40);
        let faults = Faults::draw(seed, profile);
        // A disk that says it took what it did not take can lose anything.
        let careless = Rng::new(seed, 0xca4e).chance(40) && profile != Profile::Flat && !faults.syncs_lie;
        let config = Config {
            seed,
            profile,
            devices,
            rules: Rules::default(),
            paths: paths.iter().copied().map(str::to_owned).collect(),
            topology: *rng.pick(&[Topology::Full, Topology::Full, Topology::Line, Topology::Star]),
            watch_percent: *rng.pick(&[0, 50, 90, 100]),
            credit: 1 + rng.below(3) as u8,
            skew_secs: (0..devices).map(|_| if skewed { rng.below(200) as i64 - 100 } else { 0 }).collect(),
            coarse_times: rng.chance(40),
            tick_us: *rng.pick(&[1, 1, 10_000, 2_000_000]),
            guard: rng.chance(20),
            reuse_replica: false,
            clone_after: None,
            careless,
            faults,
            flaw: None,
            back_after: None,
            runs: false,
            folding: None,
        };
        let mut steps = Vec::new();
        let mut add = |what| steps.push(Step { id: steps.len() as u32 + 1, what });
        for a in 0..devices {
            for b in a + 1..devices {
                if rng.chance(60) {
                    add(What::Join { a, b });
                }
            }
        }
        for _ in 0..10 + rng.below(60) {
            add(swarm.step(&mut rng, &config));
        }
        Self { config, steps }
    }

    /// In some runs users make hard links and go on with what has more than one name. Drawn by itself and put between
    /// the other steps, so that those stay what they are.
    fn with_hard_links(mut self) -> Self {
        let mut rng = Rng::new(self.config.seed, 0x11_2c);
        if !rng.chance(LINKED_PERCENT) {
            return self;
        }
        // What a power cut takes from one name is taken from the others as well, which nobody here keeps track of.
        self.config.careless = false;
        let mut id = self.steps.iter().map(|step| step.id).max().unwrap_or(0);
        for _ in 0..1 + rng.below(2 + self.steps.len() / 16) {
            let device = rng.below(self.config.devices);
            let mut at = rng.below(self.steps.len() + 1);
            for act in linked_acts(&mut rng, &self.config) {
                id += 1;
                let is_race = self.config.profile != Profile::Flat && rng.chance(20);
                let is_race = is_race && !matches!(act, Act::WriteQuietly(_));
                let what = match rng.below(40) as u32 {
                    after if is_race => What::Race { device, act, after },
                    _ => What::User { device, act },
                };
                self.steps.insert(at, Step { id, what });
                at = self.steps.len().min(at + 1 + rng.below(6));
            }
        }
        self
    }

    /// A first day, and more of them in the same fleet, each with habits of its own and a night before it.
    #[must_use]
    pub fn draw_days(seed: u64, profile: Profile, days: u32) -> Self {
        let mut scenario = Self::draw_day(seed, profile);
        for day in 1..days {
            let mut rng = Rng::new(seed, 0xda_0000 + u64::from(day));
            let swarm = Swarm::draw(&mut rng, scenario.config.paths.len() > FLAT_PATHS.len(), profile);
            let mut add = |what| scenario.steps.push(Step { id: scenario.steps.len() as u32 + 1, what });
            add(What::Night);
            for _ in 0..40 + rng.below(60) {
                add(swarm.step(&mut rng, &scenario.config));
            }
        }
        scenario.with_hard_links()
    }

    /// The same with a device that becomes a copy of another within the first half.
    #[must_use]
    pub fn with_clone(mut self) -> Self {
        let half = (self.steps.len() / 2).max(1);
        let nth = Rng::new(self.config.seed, 1).below(half);
        self.config.clone_after = self.steps.get(nth).map(|step| step.id);
        self
    }

    /// The same with names that differ in case and accents only, and a device on whose disk they are one. It connects to
    /// all others: what it cannot hold it does not pass on.
    #[must_use]
    pub fn with_folding(mut self) -> Self {
        let names = if self.config.paths.len() > FLAT_PATHS.len() { &DEEP_SPELLINGS[..] } else { &FLAT_SPELLINGS };
        for (path, name) in self.config.paths.iter_mut().zip(names) {
            *path = (*name).to_owned();
        }
        self.config.topology = Topology::Full;
        self.config.folding = Some(self.config.devices - 1);
        self
    }

    /// The same with an index that is put back from a backup while the files stay.
    #[must_use]
    pub fn with_backup(mut self) -> Self {
        let mut rng = Rng::new(self.config.seed, 2);
        let (a, b) = (rng.below(self.steps.len()), rng.below(self.steps.len()));
        self.config.runs = true;
        self.config.back_after = Some((self.steps[a.min(b)].id, self.steps[a.max(b)].id));
        self
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.config)?;
        for step in &self.steps {
            writeln!(f, "  {:>3} {}", step.id, Words(step.what, &self.config.paths))?;
        }
        Ok(())
    }
}

struct Words<'a>(What, &'a [String]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what, paths) = self;
        match what {
            What::User { device, act } | What::Race { device, act, .. } => match act {
                Act::Write(at) => write!(f, "user {device}: write {}", paths[*at]),
                Act::WriteShared(at, which) => write!(f, "user {device}: write shared {which} {}", paths[*at]),
                Act::Chmod(at) => write!(f, "user {device}: chmod {}", paths[*at]),
                Act::Touch(at) => write!(f, "user {device}: touch {}", paths[*at]),
                Act::Delete(at) => write!(f, "user {device}: delete {}", paths[*at]),
                Act::Mkdir(at) => write!(f, "user {device}: mkdir {}", paths[*at]),
                Act::Link(at) => write!(f, "user {device}: link {}", paths[*at]),
                Act::Rename(from, to) => write!(f, "user {device}: rename {} to {}", paths[*from], paths[*to]),
                Act::EditCopy(nth) => write!(f, "user {device}: edit copy {nth}"),
                Act::DeleteCopy(nth) => write!(f, "user {device}: delete copy {nth}"),
                Act::WriteQuietly(at) => write!(f, "user {device}: write quietly {}", paths[*at]),
                Act::Fifo(at) => write!(f, "user {device}: pipe {}", paths[*at]),
                Act::Open(at) => write!(f, "user {device}: open {}", paths[*at]),
                Act::Append(nth) => write!(f, "user {device}: append to open file {nth}"),
                Act::HardLink(from, to) => write!(f, "user {device}: hard link {} as {}", paths[*from], paths[*to]),
                Act::LinkOutside(at) => write!(f, "user {device}: hard link {} outside the folder", paths[*at]),
                Act::WriteOutside => write!(f, "user {device}: write through the name outside the folder"),
            },
            other => write!(f, "{other:?}"),
        }
    }
}
