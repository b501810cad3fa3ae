//! What must hold once everything is healed and has come to rest. A property is one function that answers with words
//! when it does not hold.

use super::device::Device;
use super::flaw::added;
use super::network::pair;
use super::story::Story;
use super::thief;
use super::world::{World, violated};
use crate::sim::check::Violation;
use crate::sim::rng::Rng;
use protocol::model::{DeviceId, LinkHash};
use protocol::realm::{Link, Op, Realm, Role, Roster, Signer};
use protocol::wire::kdf::Secret32;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Network events until everything must have come to rest.
const SETTLE_EVENTS_MAX: u64 = 20_000;
/// Minutes that renewing secrets may take.
const MINUTES: u32 = 16;

/// What a run that held came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Over everything that happened.
    pub hash: u64,
    /// Network events.
    pub happened: u64,
    /// Links that were signed.
    pub links: usize,
    /// Devices that ended as honest members, and as removed ones.
    pub members: usize,
    /// Devices that some honest member knows to be removed.
    pub removed: usize,
    /// Devices in other hands.
    pub thieves: usize,
    /// Folders that the list of some honest member speaks of.
    pub shared: usize,
    /// Pairs of members that had nothing to meet with and were paired once more.
    pub stranded: usize,
}

/// Runs a story. The trace is what a person reads.
///
/// # Errors
/// The first property that did not hold.
pub fn run(story: &Story, tracing: bool) -> (Result<Summary, Violation>, Vec<String>) {
    let mut world = World::new(&story.config, tracing);
    let result = catch_unwind(AssertUnwindSafe(|| run_in(&mut world, story)));
    let result = result.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        violated("no panic", words.unwrap_or_default())
    });
    (result, world.trace.take().unwrap_or_default())
}

fn run_in(world: &mut World, story: &Story) -> Result<Summary, Violation> {
    story.steps.iter().try_for_each(|step| world.step(step))?;
    world.note("heal");
    world.network.split(0);
    if world.config.wild {
        // What was lost inside a session is made good by the next one.
        world.network.calm();
        world.network.sessions().into_iter().for_each(|at| world.cut(at));
    }
    let stranded = settle(world)?;
    agree(world)?;
    joined(world)?;
    let mutual = mutual(world);
    same_keys(world, &mutual)?;
    for who in 0..world.devices.len() {
        secrets(world, who, &mutual)?;
        order(world, who)?;
    }
    let (mut members, mut removed, mut shared) = (0, BTreeSet::new(), 0);
    for realm in world.devices.iter().filter(|device| device.is_member()).filter_map(Device::view) {
        members += 1;
        shared = shared.max(realm.folders.len());
        removed.extend(realm.removed);
    }
    let thieves = world.devices.iter().filter(|device| device.thief.is_some()).count();
    let hash = world.hasher.finalize();
    let hash = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash is longer"));
    let (happened, links, removed) = (world.happened, world.links, removed.len());
    Ok(Summary { hash, happened, links, members, removed, thieves, shared, stranded })
}

fn rest(world: &mut World) -> Result<(), Violation> {
    let begun = world.happened;
    while world.event()? {
        if world.happened - begun > SETTLE_EVENTS_MAX {
            return violated("it comes to rest", format!("{SETTLE_EVENTS_MAX} messages and no end"));
        }
    }
    Ok(())
}

/// Everything arrives, secrets that are due are renewed, and whoever cannot meet is paired once more.
fn settle(world: &mut World) -> Result<usize, Violation> {
    let mut stranded = 0;
    loop {
        for _ in 0..MINUTES {
            rest(world)?;
            world.wait()?;
        }
        rest(world)?;
        let Some((one, other)) = apart(world) else { return Ok(stranded) };
        let held = [one, other].map(|who| world.devices[who].epochs().into_iter().collect::<BTreeSet<_>>());
        let restored = [one, other].iter().any(|who| world.devices[*who].restored);
        let both_know = mutual(world).contains(&(one, other));
        if both_know && !restored && held[0].intersection(&held[1]).next().is_some() {
            return violated("members meet", format!("{one} and {other} share a secret"));
        }
        stranded += 1;
        world.note(&format!("{one} and {other} are paired again"));
        world.pair_again(one, other);
    }
}

/// Two honest devices that are not connected although one of them takes both for members and neither knows better.
fn apart(world: &World) -> Option<(usize, usize)> {
    let is_apart = |(one, other): &(usize, usize), left: &Realm, right: &Realm| {
        let ids = [world.devices[*one].id, world.devices[*other].id];
        let has_both = |realm: &Realm| ids.iter().all(|id| realm.members.contains_key(id));
        let knows_better = |realm: &Realm| ids.iter().any(|id| realm.removed.contains(id));
        let should_meet = (has_both(left) || has_both(right)) && !knows_better(left) && !knows_better(right);
        should_meet && !world.network.has(*one, *other)
    };
    pairs(world, is_apart).first().copied()
}

/// Honest devices of which each takes both for members.
fn mutual(world: &World) -> Vec<(usize, usize)> {
    pairs(world, |(one, other), left, right| {
        let ids = [world.devices[*one].id, world.devices[*other].id];
        [left, right].iter().all(|realm| ids.iter().all(|id| realm.members.contains_key(id)))
    })
}

/// Honest devices that are members of one realm as far as each knows, of which something is true.
fn pairs(world: &World, is: impl Fn(&(usize, usize), &Realm, &Realm) -> bool) -> Vec<(usize, usize)> {
    let view = |device: &Device| device.view().filter(|_| device.is_member());
    let views: Vec<Option<Realm>> = world.devices.iter().map(view).collect();
    let all = (0..views.len()).flat_map(|one| (one + 1..views.len()).map(move |other| (one, other)));
    all.filter(|(one, other)| {
        let both = views[*one].as_ref().zip(views[*other].as_ref());
        both.is_some_and(|(left, right)| left.id == right.id && is(&(*one, *other), left, right))
    })
    .collect()
}

fn agree(world: &World) -> Result<(), Violation> {
    for (one, other) in mutual(world) {
        let (left, right) = (&world.devices[one], &world.devices[other]);
        let (Some(ours), Some(theirs)) = (left.view(), right.view()) else { continue };
        let ids = |realm: &Realm| realm.members.keys().copied().collect::<Vec<_>>();
        if world.config.flood {
            if ids(&ours) != ids(&theirs) || ours.removed != theirs.removed {
                return violated("a flood moves nobody", format!("{one} and {other} see other devices"));
            }
            continue;
        }
        if left.roster().map(Roster::hash) != right.roster().map(Roster::hash) {
            return violated("members hold the same links", format!("{one} and {other} do not"));
        }
        if ours != theirs {
            return violated("members see the same realm", format!("{one}: {ours:?}\n{other}: {theirs:?}"));
        }
        let current = *ours.epoch().link.as_bytes();
        if left.epochs().contains(&current) != right.epochs().contains(&current) {
            return violated("members hold the same secret", format!("of {one} and {other} one lacks it"));
        }
    }
    Ok(())
}

/// Who is taken in by one that it is connected to, and belongs to nobody else, joins it. One that is left behind alone in a realm
/// without an admin has to leave that first, which its words say.
fn joined(world: &World) -> Result<(), Violation> {
    let honest = |who: &usize| world.devices[*who].thief.is_none();
    let all = (0..world.devices.len()).filter(honest);
    for (by, who) in all.flat_map(|by| (0..world.devices.len()).filter(honest).map(move |who| (by, who))) {
        let (one, other) = (&world.devices[by], &world.devices[who]);
        let has_both = |realm: &Realm| [one.id, other.id].iter().all(|id| realm.members.contains_key(id));
        let is_taken = one.view().is_some_and(|realm| has_both(&realm));
        let is_alone = |realm: Realm| realm.members.keys().all(|id| *id == one.id || *id == other.id);
        let is_free = other.realm_id() != one.realm_id() && other.view().is_none_or(is_alone);
        if by != who && is_taken && is_free && other.may_add() && world.network.has(by.min(who), by.max(who)) {
            return violated("who is taken in joins", format!("{by} has {who}, which is on its own"));
        }
    }
    Ok(())
}

/// Two that are connected dial each other with the same secret: what is theirs alone is all that a relay brings together.
fn same_keys(world: &World, mutual: &[(usize, usize)]) -> Result<(), Violation> {
    for (one, other) in mutual.iter().filter(|(one, other)| world.network.has(*one, *other)) {
        let (left, right) = (&world.devices[*one], &world.devices[*other]);
        let keys =
            [left.disk.known.get(&right.id), right.disk.known.get(&left.id)].map(|known| known.map(|known| known.key));
        if keys[0] != keys[1] {
            return violated("both dial with the same secret", format!("{one} and {other}: {keys:?}"));
        }
    }
    Ok(())
}

/// Nobody but members has the current secret, once that was renewed.
fn secrets(world: &World, who: usize, mutual: &[(usize, usize)]) -> Result<(), Violation> {
    let device = &world.devices[who];
    let Some(realm) = device.view().filter(|_| device.is_member()) else { return Ok(()) };
    // Who was removed and has not heard of it knows nothing of who is in and who is out.
    let is_stale = |other: &usize| {
        let honest = *other != who && world.devices[*other].thief.is_none();
        honest && realm.members.contains_key(&world.devices[*other].id) && !mutual.contains(&pair(who, *other))
    };
    if (0..world.devices.len()).any(|other| is_stale(&other)) {
        return Ok(());
    }
    let connected = |id: &DeviceId| world.number(id).is_some_and(|other| other == who || world.network.has(who, other));
    let admins: Vec<DeviceId> =
        realm.members.iter().filter(|(_, member)| member.role == Role::Admin).map(|(id, _)| *id).collect();
    let thief = |id: &DeviceId| world.number(id).is_some_and(|number| world.devices[number].thief.is_some());
    let here = admins.iter().filter(|id| connected(id) && !thief(id)).count();
    if here == 0 || world.config.flood {
        return Ok(());
    }
    if realm.rotation_due {
        return violated("a due secret is renewed", format!("{here} admins are with {who}"));
    }
    // A thief that passes for an admin can tell whom it likes.
    if admins.iter().any(thief) {
        return Ok(());
    }
    let current = realm.epoch();
    let knows = |wallet: &BTreeMap<[u8; 32], Secret32>| wallet.contains_key(current.link.as_bytes());
    let fleet = world.devices.iter().map(|device| (device.id, &device.wallet));
    let all = fleet.chain(world.ledger.gone.iter().map(|(id, wallet)| (*id, wallet)));
    let links: Vec<&Link> = device.roster().into_iter().flat_map(Roster::links).collect();
    let appointed = appointed(&links);
    for (id, wallet) in all {
        // Of whom nothing is known nothing can be renewed: the lists that had them are lost. What a device says that nobody ever
        // made an admin is no knowledge: it could make the others renew without end.
        let is_known = links.iter().any(|link| added(link) == Some(id) && appointed.contains(&link.signer()));
        if is_known && knows(wallet) && !realm.members.contains_key(&id) {
            return violated("outsiders lack the secret", format!("{} has the current one of {who}", id.short()));
        }
    }
    let author = device.roster().into_iter().flat_map(Roster::links).find(|link| link.hash() == current.link);
    if author.and_then(thief::commit) != Some(current.commit) {
        return violated("a secret is the one that was chosen", format!("on {who}"));
    }
    Ok(())
}

/// Whom the founder, or somebody whom it made an admin, ever made one; the holder of the recovery code as well.
fn appointed(links: &[&Link]) -> BTreeSet<Signer> {
    let appoints = |link: &Link| match link.op() {
        Op::Genesis(genesis) => Some(Signer::Device(genesis.device.id())),
        Op::Add { device, role: Role::Admin, .. } => Some(Signer::Device(device.id())),
        Op::Set { device, role: Role::Admin } => Some(Signer::Device(*device)),
        _ => None,
    };
    let mut appointed = BTreeSet::from([Signer::Recovery]);
    appointed.extend(links.iter().filter(|link| matches!(link.op(), Op::Genesis(_))).filter_map(|link| appoints(link)));
    loop {
        let more: Vec<Signer> =
            links.iter().filter(|link| appointed.contains(&link.signer())).filter_map(|link| appoints(link)).collect();
        let before = appointed.len();
        appointed.extend(more);
        if appointed.len() == before {
            return appointed;
        }
    }
}

/// The same links in another order, parents first, say the same; and no prefix of them takes a removal back.
fn order(world: &World, who: usize) -> Result<(), Violation> {
    let Some(roster) = world.devices[who].roster().filter(|_| !world.config.flood) else { return Ok(()) };
    let mut rng = Rng::new(world.config.seed, 0x6f72_6465 + who as u64);
    let mut waiting: Vec<&Link> = roster.links().collect();
    let mut taken: BTreeSet<LinkHash> = BTreeSet::new();
    let (mut again, mut removed) = (None::<Roster>, BTreeSet::new());
    while !waiting.is_empty() {
        let is_ready = |place: &usize| waiting[*place].parents().iter().all(|parent| taken.contains(parent));
        let ready: Vec<usize> = (0..waiting.len()).filter(is_ready).collect();
        let link = waiting.swap_remove(*rng.pick(&ready));
        taken.insert(link.hash());
        let fits = match &mut again {
            None => Roster::new(link.as_bytes()).map(|roster| again = Some(roster)).is_ok(),
            Some(again) => again.insert(link.as_bytes()).is_ok(),
        };
        if !fits {
            return violated("the order does not matter", format!("a link of {who} is refused in another order"));
        }
        // Each prefix costs a judgement.
        if let Some(again) = again.as_ref().filter(|_| rng.chance(25)) {
            let now = again.resolve().removed;
            if !now.is_superset(&removed) {
                return violated("the order does not matter", format!("a removal is taken back on {who}"));
            }
            removed = now;
        }
    }
    if again.map(|again| (again.hash(), again.resolve())) != Some((roster.hash(), roster.resolve())) {
        return violated("the order does not matter", format!("another realm from the links of {who}"));
    }
    Ok(())
}
