//! Random histories: devices that are apart and meet, honest ones that ask for what they like, and thieves that sign
//! whatever they like wherever they like.

use super::*;
use crate::limits::LINK_PARENTS_MAX;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;

/// Devices that are in the realm from the start; as many more can be added.
const STARTERS: u8 = 4;
const DEVICES: u8 = 8;

#[derive(Clone, Debug)]
enum Step {
    /// A device asks for a change and takes it in if it is not denied.
    Honest { by: u8, recovery: bool, ask: u8, target: u8, role: u8 },
    /// A device signs a change at some of the links it has.
    Thief { by: u8, at: Vec<Index>, ask: u8, target: u8, role: u8 },
    /// Two devices exchange what the other lacks.
    Meet(u8, u8),
}

/// Which of the links that there are.
fn parents() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 1..3)
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..DEVICES;
    let honest = (who.clone(), prop::bool::weighted(0.1), 0u8..10, who.clone(), 0u8..3)
        .prop_map(|(by, recovery, ask, target, role)| Step::Honest { by, recovery, ask, target, role });
    let thief = (who.clone(), parents(), 0u8..8, who.clone(), 0u8..3)
        .prop_map(|(by, at, ask, target, role)| Step::Thief { by, at, ask, target, role });
    let meet = (who.clone(), who).prop_map(|(one, other)| Step::Meet(one, other));
    prop_oneof![5 => honest, 3 => thief, 3 => meet]
}

fn role(number: u8) -> Role {
    [Role::Admin, Role::Full, Role::Reader][usize::from(number)]
}

fn op(ask: u8, target: u8, to: u8) -> Op {
    match ask {
        0 => add(target, role(to)),
        1 | 2 => remove(target),
        3 => set(target, role(to)),
        4 => rename(target, &format!("name {to}")),
        5 => rotate(to),
        _ => share(ask % 2, &who(target, to)),
    }
}

/// One of the ways to speak of devices: of one, of everyone, of everyone but one.
fn who(target: u8, to: u8) -> Vec<(Whom, bool)> {
    let (everyone, one) = (Whom::Everyone, Whom::Device(id(target)));
    match to {
        0 => vec![(one, target.is_multiple_of(2))],
        1 => vec![(everyone, false), (one, true)],
        _ => vec![(everyone, true), (one, false)],
    }
}

/// What the authoring functions make of it.
fn honest(roster: &Roster, by: u8, recovery: bool, ask: u8, target: u8, to: u8) -> Option<Link> {
    let (own, paper) = (device(by), code());
    let author = if recovery { Author::Recovery(&paper) } else { Author::Device(&own) };
    let newcomer = Newcomer { identity: device(target).public(), role: role(to), name: name("new") };
    let link = match ask {
        0..=2 => roster.add(author, newcomer, NOW),
        3 => roster.remove(author, id(target), commit(to), NOW),
        4 => roster.set(author, id(target), role(to), NOW),
        5 => roster.rename(author, id(target), name(&format!("name {to}")), NOW),
        6 => roster.rotate(author, commit(to), NOW),
        8.. => roster.share(author, folder(ask % 2), &who(target, to), NOW),
        _ if to == 0 => roster.disown(author, id(target), commit(to), NOW),
        _ => roster.leave(&own, NOW),
    };
    match &link {
        Err(Denied::Tangled) => assert!(ask == 7 || roster.heads().count() > LINK_PARENTS_MAX, "nothing is in the way"),
        Err(Denied::AuthorFull | Denied::RosterFull) => panic!("there is room"),
        _ => {}
    }
    link.ok()
}

/// A link at some of those that a roster has; `None` if its signer is unknown there.
fn thief(roster: &Roster, by: u8, at: &[Index], op: Op) -> Option<Link> {
    let hashes: Vec<LinkHash> = roster.links().map(Link::hash).collect();
    let at: BTreeSet<LinkHash> = at.iter().map(|index| hashes[index.index(hashes.len())]).collect();
    let link = sign(roster, Device(by), &at.into_iter().collect::<Vec<_>>(), op);
    roster.clone().insert(link.as_bytes()).is_ok().then_some(link)
}

/// Sends what the other lacks; parents come first, so nothing is refused.
fn send(from: &Roster, to: &mut Roster) {
    let heads: Vec<LinkHash> = to.heads().collect();
    for link in from.links_after(&heads) {
        to.insert(link.as_bytes()).expect("links come parents first");
    }
}

/// The rosters of all devices after these steps.
fn play(steps: &[Step]) -> Vec<Roster> {
    let start = World::with(STARTERS - 1, Role::Admin).roster;
    let mut rosters = vec![start; usize::from(DEVICES)];
    for step in steps {
        match step {
            Step::Honest { by, recovery, ask, target, role } => {
                let roster = &mut rosters[usize::from(*by)];
                if let Some(link) = honest(roster, *by, *recovery, *ask, *target, *role) {
                    assert!(roster.insert(link.as_bytes()).is_ok());
                }
            }
            Step::Thief { by, at, ask, target, role } => {
                let roster = &mut rosters[usize::from(*by)];
                if let Some(link) = thief(roster, *by, at, op(*ask, *target, *role)) {
                    assert!(roster.insert(link.as_bytes()).is_ok());
                }
            }
            Step::Meet(one, other) => {
                let (one, other) = (usize::from(*one), usize::from(*other));
                let from = rosters[one].clone();
                send(&from, &mut rosters[other]);
                let from = rosters[other].clone();
                send(&from, &mut rosters[one]);
                assert_eq!(rosters[one].hash(), rosters[other].hash());
            }
        }
    }
    rosters
}

fn merged(rosters: &[Roster]) -> Roster {
    let mut all = rosters[0].clone();
    rosters.iter().for_each(|roster| send(roster, &mut all));
    all
}

/// The links of `roster` in some other order in which parents come first.
fn shuffled(roster: &Roster, keys: &[u32]) -> Vec<Link> {
    let mut waiting: Vec<&Link> = roster.links().collect();
    let mut taken: BTreeSet<LinkHash> = BTreeSet::new();
    let mut order = Vec::new();
    for round in 0.. {
        let ready = |link: &&Link| link.parents().iter().all(|parent| taken.contains(parent));
        let places: Vec<usize> = (0..waiting.len()).filter(|place| ready(&waiting[*place])).collect();
        let Some(some) = places.len().checked_sub(1) else { break };
        let key = usize::try_from(keys[round % keys.len()]).expect("a number");
        let link = waiting.remove(places[key % (some + 1)]);
        taken.insert(link.hash());
        order.push(link.clone());
    }
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn order_does_not_matter_and_removals_last(
        steps in prop::collection::vec(step(), 1..48),
        keys in prop::collection::vec(any::<u32>(), 7),
    ) {
        let all = merged(&play(&steps));
        let realm = all.resolve();
        prop_assert_eq!(&realm, &reference::resolve(&all));
        let order = shuffled(&all, &keys);
        let mut again = Roster::new(order[0].as_bytes()).expect("the first link comes first");
        let mut removed = BTreeSet::new();
        for link in &order[1..] {
            prop_assert_eq!(again.insert(link.as_bytes()), Ok(Inserted::New));
            let now = again.resolve();
            prop_assert!(now.removed.is_superset(&removed), "a removal was taken back");
            prop_assert!(now.members.keys().all(|member| !now.removed.contains(member)));
            removed = now.removed;
        }
        prop_assert_eq!(again.hash(), all.hash());
        prop_assert_eq!(again.resolve(), realm);
    }

    #[test]
    fn whoever_meets_in_whatever_order_agrees(
        steps in prop::collection::vec(step(), 1..48),
        pairs in prop::collection::vec((0..DEVICES, 0..DEVICES), 12),
    ) {
        let mut rosters = play(&steps);
        let all = merged(&rosters);
        for (one, other) in pairs {
            let from = rosters[usize::from(one)].clone();
            send(&from, &mut rosters[usize::from(other)]);
        }
        // One round to the first and back ends it.
        rosters[0] = merged(&rosters);
        let hub = rosters[0].clone();
        for roster in &mut rosters {
            send(&hub, roster);
            prop_assert_eq!(roster.hash(), all.hash());
            prop_assert_eq!(roster.resolve(), all.resolve());
        }
        prop_assert_eq!(hub.links_after(&hub.heads().collect::<Vec<_>>()).count(), 0);
    }

    #[test]
    fn a_removed_device_changes_nothing_more(
        steps in prop::collection::vec(step(), 1..40),
        links in prop::collection::vec((any::<Index>(), parents(), 0u8..8, 0..DEVICES, 0u8..3), 1..8),
    ) {
        let mut all = merged(&play(&steps));
        let realm = all.resolve();
        let removed: Vec<u8> = (0..DEVICES).filter(|number| realm.removed.contains(&id(*number))).collect();
        prop_assume!(!removed.is_empty());
        for (who, at, ask, target, to) in links {
            let by = *who.get(&removed);
            // Anywhere in the past, but for removals: what it could have removed while it was a member stays so.
            let backdated = (!(1..=2).contains(&ask)).then(|| thief(&all, by, &at, op(ask, target, to))).flatten();
            let knows_it = all.heads().collect::<Vec<_>>();
            let later = sign(&all, Device(by), &knows_it[..knows_it.len().min(8)], op(ask, target, to));
            let knows = knows_it.len() <= 8;
            let links = backdated.into_iter().chain(knows.then_some(later));
            for link in links {
                let _ = all.insert(link.as_bytes()); // a device that was never added is refused
                let now = all.resolve();
                prop_assert_eq!(&now, &realm);
            }
        }
    }
}
