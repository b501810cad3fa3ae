//! One run: agitate, heal, settle, then every property. A property is one function that answers with words when
//! it does not hold.

use super::device::Device;
use super::oracle::Identity;
use super::scenario::{Scenario, What};
use super::volume::FOLDING;
use super::world::World;
use protocol::model::{Content, Mode, Mtime, RelPath};
use protocol::sync::Rows;
use protocol::sync::engine::Alarm;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: &'static str,
    /// How.
    pub words: String,
}

/// What a run that held came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Over everything that happened, and where it ended.
    pub hash: u64,
    /// Things that happened.
    pub happened: u64,
    /// What users and the sync changed.
    pub changes: usize,
}

/// Which properties a run must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// All of them.
    All,
    /// Only that all devices end with the same files: for fleets in which two devices claim to be one. What they
    /// believe of each other is for the alarm to settle.
    Convergence,
    /// That, and that nothing is lost: for an index that went back. What was deleted in between may live again.
    Kept,
    /// That all but one end with the same files and the one, which cannot hold all names, with what it can of them, and
    /// that nothing is lost.
    Folded,
}

/// Things that may happen until everything must have come to rest.
const SETTLE_EVENTS_MAX: u64 = 60_000;
/// Times that the clock may have to jump for that.
const SETTLE_JUMPS_MAX: u32 = 400;

/// Times that the clock jumps where something is tried again for good.
const FOLDED_JUMPS: u32 = 40;
/// Scans after which what goes from name to name of linked files has come to rest.
const SCANS_MAX: u32 = 3;

/// Runs a scenario. The trace is what a person reads.
///
/// # Errors
/// The first property that did not hold.
pub fn run(scenario: &Scenario, demand: Demand, tracing: bool) -> (Result<Summary, Violation>, Vec<String>) {
    let mut world = World::new(&scenario.config, tracing);
    let result = catch_unwind(AssertUnwindSafe(|| run_in(&mut world, scenario, demand)));
    let result = result.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Violation { property: "no panic", words: words.unwrap_or_default() })
    });
    (result, world.trace.take().unwrap_or_default())
}

fn run_in(world: &mut World, scenario: &Scenario, demand: Demand) -> Result<Summary, Violation> {
    for step in &scenario.steps {
        if step.what == What::Night {
            come_to_rest(world, demand)?;
        }
        world.step(step);
    }
    come_to_rest(world, demand)?;
    let hash = super::rng::mix(world.hash ^ world.happened);
    Ok(Summary { hash, happened: world.happened, changes: world.oracle.len() })
}

/// Everything heals; then each property is checked.
fn come_to_rest(world: &mut World, demand: Demand) -> Result<(), Violation> {
    never_missing(world)?;
    world.say(|| "-- heal".to_string());
    heal(world);
    let settled = settle(world).and_then(|()| release(world)).and_then(|()| look_again(world));
    if demand == Demand::Folded {
        settled?;
        alike_but_for_spelling(world)?;
        no_alarm(world)?;
        content_is_kept(world)?;
        return quiescent(world);
    }
    if demand == Demand::All {
        settled?;
        alike(world)?;
        agreed(world)?;
        rows_are_true(world)?;
        no_alarm(world)?;
        stand_alone(world)?;
        content_is_kept(world)?;
        return quiescent(world);
    }
    alike(world)?;
    if demand == Demand::Kept {
        rows_are_true(world)?;
        content_is_kept(world)?;
    }
    Ok(())
}

fn fails(property: &'static str, words: String) -> Result<(), Violation> {
    Err(Violation { property, words })
}

fn heal(world: &mut World) {
    for number in 0..world.devices.len() {
        world.devices[number].dies_after = None;
        world.devices[number].races.clear();
        world.devices[number].close_files();
        world.devices[number].drive.heal();
        if world.devices[number].engine.is_none() {
            world.boot(number);
        }
    }
    connect_and_scan(world);
}

fn connect_and_scan(world: &mut World) {
    let links = world.healed_links();
    for a in 0..world.devices.len() {
        world.devices[a].ask_scan();
        for b in a + 1..world.devices.len() {
            if links.contains(&(a, b)) {
                world.join(a, b);
            } else {
                world.cut(a, b);
            }
        }
    }
}

/// Lets everything happen that can, first come first served, and moves the clock when nothing can.
fn settle(world: &mut World) -> Result<(), Violation> {
    let most = world.happened + SETTLE_EVENTS_MAX;
    let mut rng = super::rng::Rng::new(world.config.seed, u64::MAX);
    let mut jumps = 0;
    loop {
        let enabled = world.enabled();
        if let Some(micro) = (!enabled.is_empty()).then(|| *rng.pick(&enabled)) {
            world.happen(micro);
            if world.happened > most {
                return fails(
                    "bounded rounds",
                    format!("still busy after {SETTLE_EVENTS_MAX} events: {}", state(world)),
                );
            }
            continue;
        }
        let timers = world.devices.iter().filter_map(|device| device.engine.as_ref()?.wake_at());
        let Some(next) = timers.min() else {
            return Ok(());
        };
        jumps += 1;
        // What a volume cannot hold is tried again now and then, for good.
        if is_settled(world) && jumps > 3 || world.config.folding.is_some() && jumps > FOLDED_JUMPS {
            return Ok(());
        }
        if jumps > SETTLE_JUMPS_MAX {
            return fails("bounded rounds", format!("not settled: {}", state(world)));
        }
        world.advance(next.0.saturating_sub(world.now.0));
    }
}

fn is_settled(world: &World) -> bool {
    let is_idle = |device: &Device| device.engine.as_ref().is_some_and(|engine| engine.is_idle(&device.store));
    // What is declined for a cause that passes counts as held, and is tried again.
    let wants_nothing = |device: &Device| device.store.wanted(None, 1).is_empty();
    let idle = world.devices.iter().all(|device| device.is_quiet() && is_idle(device) && wants_nothing(device));
    idle && world.healed_links().iter().all(|(a, b)| in_sync(world, *a, *b) && in_sync(world, *b, *a))
}

fn in_sync(world: &World, at: usize, other: usize) -> bool {
    let device = &world.devices[at];
    let Some(engine) = &device.engine else {
        return false;
    };
    engine.status(&device.store).peers.get(&world.devices[other].id).is_some_and(|peer| peer.in_sync)
}

fn state(world: &World) -> String {
    world.devices.iter().map(super::words::device).collect()
}

/// What batches displaced finds its place; an edit among it comes back as a conflict copy, which the scan finds.
fn release(world: &mut World) -> Result<(), Violation> {
    let mut came_back = false;
    for device in &world.devices {
        let before = device.drive.objects();
        device.drive.release(&device.store);
        came_back |= device.drive.objects() != before;
    }
    if came_back {
        world.say(|| "-- released".to_string());
        connect_and_scan(world);
        settle(world)?;
    }
    Ok(())
}

/// A mode or a time that comes to one name of a file shows at the others, as an edit that only the next scan finds.
fn look_again(world: &mut World) -> Result<(), Violation> {
    for _ in 0..SCANS_MAX {
        if !world.has_links {
            return Ok(());
        }
        world.say(|| "-- linked".to_string());
        connect_and_scan(world);
        settle(world)?;
    }
    Ok(())
}

/// What is kept is nobody's file: to write into another name of it would change it.
fn stand_alone(world: &World) -> Result<(), Violation> {
    for device in &world.devices {
        if let Some(path) = device.drive.shared(&device.moved) {
            return fails("kept apart", format!("device {}: {path} has another name", device.number));
        }
    }
    Ok(())
}

/// A file that is replaced is there before, after and in between, and what the index knows of outlives a power cut.
fn never_missing(world: &World) -> Result<(), Violation> {
    for device in &world.devices {
        if let Some(path) = &device.taken {
            return fails(
                "durable first",
                format!("device {}: {path:?} was recorded and went with the power", device.number),
            );
        }
        if let Some(path) = &device.vanished {
            return fails("atomic visibility", format!("device {}: {path:?} was missing for a moment", device.number));
        }
    }
    Ok(())
}

type Seen = BTreeMap<RelPath, (Identity, Mode, Option<Mtime>)>;

/// What a user can tell apart.
fn tree(world: &World, at: usize) -> Seen {
    let objects = world.devices[at].drive.objects().into_iter();
    objects
        .map(|(path, node)| {
            let mtime = node.content.file().map(|_| node.mtime);
            (path, (node.content.identity(), node.mode, mtime))
        })
        .collect()
}

fn alike(world: &World) -> Result<(), Violation> {
    let first = tree(world, 0);
    for device in &world.devices[1..] {
        let other = tree(world, device.number);
        if first != other {
            let words = format!("device 0: {first:?}\n device {}: {other:?}\n{}", device.number, state(world));
            return fails("convergence", words);
        }
    }
    Ok(())
}

/// Whoever cannot tell spellings apart has nothing that others lack, and lacks only what it cannot hold.
fn alike_but_for_spelling(world: &World) -> Result<(), Violation> {
    let all = tree(world, 0);
    let key = |path: &RelPath| FOLDING.key(path.as_bytes());
    for device in &world.devices[1..] {
        let other = tree(world, device.number);
        let keys: BTreeSet<Vec<u8>> = other.keys().map(key).collect();
        let is_crowded = |path: &RelPath| {
            let ways = std::iter::successors(Some(path.clone()), RelPath::parent);
            let mut ways = ways.filter(|way| !other.contains_key(way));
            world.config.folding == Some(device.number) && ways.any(|way| keys.contains(&key(&way)))
        };
        let differs = other.iter().find(|(path, found)| all.get(*path) != Some(found));
        let lacks = all.keys().find(|path| !other.contains_key(*path) && !is_crowded(path));
        if differs.is_some() || lacks.is_some() {
            let words = format!("device {}: {differs:?} {lacks:?}\n{}", device.number, state(world));
            return fails("convergence", words);
        }
    }
    Ok(())
}

fn agreed(world: &World) -> Result<(), Violation> {
    for device in &world.devices[1..] {
        if world.devices[0].store.state().digest != device.store.state().digest {
            return fails("equal digests", state(world));
        }
    }
    for (a, b) in world.healed_links() {
        if !in_sync(world, a, b) || !in_sync(world, b, a) {
            return fails("in sync", format!("{a} and {b}: {}", state(world)));
        }
    }
    Ok(())
}

/// Rows match the disk, nothing is wanted any more, and what lives has a live directory above it.
fn rows_are_true(world: &World) -> Result<(), Violation> {
    for device in &world.devices {
        let rows = device.store.rows();
        let live: BTreeMap<&RelPath, &Content> = rows
            .iter()
            .filter(|(_, row)| row.is_live())
            .filter_map(|(path, row)| Some((path, &row.entry()?.content)))
            .collect();
        let nodes = device.drive.objects();
        let alike = live.len() == nodes.len()
            && live.iter().all(|(path, content)| nodes.get(*path).is_some_and(|node| node.content.same(content)));
        if !alike || device.store.rows().values().any(|row| !row.wants.is_empty()) {
            return fails("rows are true", format!("device {}: {}", device.number, state(world)));
        }
        for path in live.keys() {
            if path.parent().is_some_and(|parent| !live.get(&parent).is_some_and(|content| content.is_directory())) {
                return fails("rows are true", format!("device {}: {path:?} has no directory above", device.number));
            }
        }
    }
    Ok(())
}

fn no_alarm(world: &World) -> Result<(), Violation> {
    for device in &world.devices {
        if let Some(alarm) = device.alarms.iter().find(|alarm| !matches!(alarm, Alarm::Held(_))) {
            return fails("no alarm", format!("device {}: {alarm:?}\n{}", device.number, state(world)));
        }
    }
    Ok(())
}

fn content_is_kept(world: &World) -> Result<(), Violation> {
    let tree: BTreeMap<RelPath, Identity> = tree(world, 0).into_iter().map(|(path, (id, ..))| (path, id)).collect();
    let recovered = world.devices.iter().flat_map(|device| device.drive.recovered()).collect();
    let oracle = &world.oracle;
    for (property, words) in [
        ("nothing is lost", oracle.lost(&tree, &recovered)),
        ("no resurrection", oracle.resurrected(&tree)),
        ("no spurious conflict", oracle.spurious(&tree)),
    ] {
        if let Some(words) = words {
            return fails(property, format!("{words}\n tree: {tree:?}"));
        }
    }
    Ok(())
}

/// Whole scans and new connections change nothing and announce nothing.
fn quiescent(world: &mut World) -> Result<(), Violation> {
    let counts = |world: &World| -> Vec<_> {
        world.devices.iter().map(|device| (device.store.state().head, device.actions_done)).collect()
    };
    let (before, rows) = (counts(world), world.rows_sent);
    for round in 0..2 {
        world.say(|| format!("-- quiescence {round}"));
        for device in &world.devices {
            device.drive.release(&device.store);
        }
        for (a, b) in world.healed_links() {
            world.cut(a, b);
        }
        connect_and_scan(world);
        settle(world)?;
    }
    if counts(world) != before || world.rows_sent != rows {
        return fails(
            "quiescence",
            format!("{before:?} became {:?}, {} rows sent", counts(world), world.rows_sent - rows),
        );
    }
    Ok(())
}
