//! One point at a time: attach, let the user act, see the fault, start again, compare.

use super::injector::{Fault, Injected, Point, Tracer, injected, points, threads};
use super::operations::{Operation, Place};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use tests::harness::{Device, PATIENCE, Tree, World, conflict_copies, differences, pair_of, settle, until, within};

/// How long a change may take to arrive, faults included.
const ARRIVAL_MAX: Duration = Duration::from_secs(40);
/// How a daemon ends that cannot go on and wants to be started again.
const EXIT_FAILED: i32 = 75;
/// Points that one pair of daemons tries: more deletions within ten minutes than the guard lets through would be held.
const PLACES_MAX: u64 = 100;
/// Of each daemon's log, when a point fails.
const LOG_LINES_SHOWN: usize = 30;

/// Whose daemon meets the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The one whose user acts.
    Sender,
    /// The one that takes the change.
    Receiver,
}

impl Victim {
    /// What the table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }
}

/// What came of some points.
#[derive(Default)]
pub struct Tally {
    /// Calls that the change took when nothing went wrong, by thread.
    pub points: usize,
    /// Where the fault came about; the others were not reached, since no two runs make the same calls.
    pub hit: usize,
    /// For which there was no time.
    pub left: usize,
    /// In words.
    pub failed: Vec<String>,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.hit += other.hit;
        self.left += other.left;
        self.failed.extend(other.failed);
    }
}

/// Two devices in sync.
struct Pair {
    a: Device,
    b: Device,
    places: u64,
    /// Dropped after its devices.
    world: World,
}

impl Pair {
    fn new() -> Self {
        let world = World::new();
        let (a, b) = pair_of(&world);
        Self { a, b, places: 0, world }
    }

    const fn victim(&mut self, victim: Victim) -> &mut Device {
        match victim {
            Victim::Sender => &mut self.a,
            Victim::Receiver => &mut self.b,
        }
    }

    /// The state before the operation, in a place of its own, in sync.
    fn prepare(&mut self, operation: &Operation) -> (String, u64) {
        self.places += 1;
        let directory = format!("p{}", self.places);
        (operation.before)(&Place { device: &self.a, directory: directory.clone(), seed: self.places });
        settle(&[&self.a, &self.b]);
        (directory, self.places)
    }

    /// Does it and says what must stand in the place at the end.
    fn act(&self, operation: &Operation, directory: &str, seed: u64) -> Tree {
        (operation.act)(&Place { device: &self.a, directory: directory.to_owned(), seed });
        below(&self.a, directory)
    }
}

fn below(device: &Device, directory: &str) -> Tree {
    tests::harness::tree(&device.at(directory))
}

/// Every point of one operation with one fault on one side.
pub fn sweep(operation: &Operation, victim: Victim, fault: Fault, every: usize, deadline: Instant) -> Tally {
    let mut pair = Pair::new();
    let points: Vec<Point> = record(&mut pair, operation, victim, fault).into_iter().step_by(every).collect();
    let mut tally = Tally { points: points.len(), ..Tally::default() };
    for (at, point) in points.iter().enumerate() {
        if Instant::now() > deadline {
            tally.left = points.len() - at;
            break;
        }
        if pair.places >= PLACES_MAX {
            pair = Pair::new();
        }
        match catch_unwind(AssertUnwindSafe(|| try_point(&mut pair, operation, victim, fault, point))) {
            Ok(Ok(Met::Nothing)) => {}
            Ok(Ok(Met::NoFile)) => pair = Pair::new(),
            Ok(Ok(Met::Fault)) => tally.hit += 1,
            Ok(Err(words)) => {
                tally.failed.push(failure(&pair, operation, victim, fault, point, &words));
                pair = Pair::new();
            }
            Err(_) => {
                tally.failed.push(failure(&pair, operation, victim, fault, point, "no end, see above"));
                pair = Pair::new();
            }
        }
    }
    tally
}

/// One failed point in a line, after what both daemons said.
fn failure(pair: &Pair, operation: &Operation, victim: Victim, fault: Fault, point: &Point, words: &str) -> String {
    let Point { thread, call, nth } = point;
    let line = format!("{}, {}: {} at {call} {nth} of {thread}: {words}", operation.name, victim.name(), fault.name());
    eprintln!("--- {line}");
    for device in [&pair.a, &pair.b] {
        let log = device.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("--- log of {}", device.name());
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().for_each(|line| eprintln!("{line}"));
    }
    line
}

/// The calls of an undisturbed run; the second one, so that threads and caches are there.
fn record(pair: &mut Pair, operation: &Operation, victim: Victim, fault: Fault) -> Vec<Point> {
    let mut recorded = Vec::new();
    for round in 0..2 {
        let (directory, seed) = pair.prepare(operation);
        let into = pair.world.path().join(format!("calls-{round}"));
        let pid = pair.victim(victim).pid();
        let tracer = Tracer::count(pid, fault, &into);
        pair.act(operation, &directory, seed);
        settle(&[&pair.a, &pair.b]);
        let names = threads(pid);
        recorded = points(&tracer.detach(), &names);
    }
    recorded
}

/// What a daemon met at a point, and stood.
enum Met {
    /// The call was not reached this time.
    Nothing,
    /// The error of a call that no disk can make fail; the daemon may be in any state.
    NoFile,
    /// The fault.
    Fault,
}

/// What came about, or what is wrong afterwards.
fn try_point(
    pair: &mut Pair,
    operation: &Operation,
    victim: Victim,
    fault: Fault,
    point: &Point,
) -> Result<Met, String> {
    let (directory, seed) = pair.prepare(operation);
    let into = pair.world.path().join("injected");
    let Some(tracer) = Tracer::inject(pair.victim(victim).pid(), point, fault, &into) else {
        return Ok(Met::Nothing);
    };
    let expected = pair.act(operation, &directory, seed);
    let arrived = within(ARRIVAL_MAX, || {
        (!pair.victim(victim).is_running() || is_there(&pair.b, &directory, &expected)).then_some(())
    });
    for device in [Victim::Receiver, Victim::Sender] {
        if pair.victim(victim).is_running() {
            // The end of the daemon is a failure of the command too.
            let _ = pair.victim(device).ctl(&["wait", "--timeout", "20"]);
        }
    }
    let record = tracer.detach();
    let injected = injected(&record);
    if fault != Fault::Kill && injected == Injected::AtNoFile {
        return Ok(Met::NoFile);
    }
    if record.contains("SIGKILL") {
        // The signal may have come only just before we let go.
        let _ = within(PATIENCE, || (!pair.victim(victim).is_running()).then_some(()));
    }
    let died = !pair.victim(victim).is_running();
    if died {
        let status = pair.victim(victim).ended();
        if fault != Fault::Kill && status.code() != Some(EXIT_FAILED) {
            return Err(format!("the daemon ended with {status}"));
        }
        pair.victim(victim).start();
    } else if arrived.is_none() {
        return Err("the change does not arrive".to_owned());
    }
    check(pair, operation, &directory, seed, &expected)?;
    Ok(if died || injected == Injected::Here { Met::Fault } else { Met::Nothing })
}

fn is_there(device: &Device, directory: &str, expected: &Tree) -> bool {
    // A look between two steps of the daemon may find a directory gone.
    let look = catch_unwind(AssertUnwindSafe(|| below(device, directory)));
    look.is_ok_and(|tree| tree == *expected)
}

fn check(pair: &Pair, operation: &Operation, directory: &str, seed: u64, expected: &Tree) -> Result<(), String> {
    let devices = [&pair.a, &pair.b];
    for (device, peer) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
        until("the devices meet", || device.is_connected_to(peer).then_some(()));
    }
    for device in devices {
        let wait = device.ctl(&["wait", "--timeout", "40"]);
        if wait.code != 0 {
            return Err(format!("{} is not in sync: {}{}", device.name(), wait.out, wait.err));
        }
    }
    for device in devices {
        let tree = below(device, directory);
        let found = differences(expected, &tree);
        if !found.is_empty() {
            return Err(format!("{} differs: {}", device.name(), found.join("; ")));
        }
        let copies = conflict_copies(&tree);
        if !copies.is_empty() {
            return Err(format!("{} has conflict copies: {copies:?}", device.name()));
        }
        let problems = || device.folder()["problems"].as_array().cloned().unwrap_or_default();
        // What could not be watched is tried again after 5 s.
        if within(Duration::from_secs(15), || problems().is_empty().then_some(())).is_none() {
            return Err(format!("{} lists problems: {:?}", device.name(), problems()));
        }
        let temps = || fs::read_dir(device.at(".syncd/tmp")).map_or(0, Iterator::count);
        if within(Duration::from_secs(5), || (temps() == 0).then_some(())).is_none() {
            return Err(format!("{} temporary files on {}", temps(), device.name()));
        }
    }
    for device in devices {
        if device.log().contains("panicked at") {
            return Err(format!("{} panicked", device.name()));
        }
    }
    if !pair.a.events("remote_change").is_empty() {
        return Err("what only one user did came back as a change of the other".to_owned());
    }
    let old = Place { device: &pair.a, directory: directory.to_owned(), seed }.old();
    if operation.displaces && !holds(&pair.b.at(".syncd"), &old) {
        return Err("the bytes that were displaced are kept nowhere".to_owned());
    }
    Ok(())
}

/// Whether a file below a directory has these bytes.
fn holds(directory: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => holds(&entry.path(), bytes),
        Ok(meta) => meta.len() == bytes.len() as u64 && fs::read(entry.path()).is_ok_and(|found| found == bytes),
        Err(_) => false,
    })
}
