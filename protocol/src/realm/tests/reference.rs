//! The rules of SPEC.md section 14 once more, read off the page as recursive definitions over sets, with no thought of
//! speed. Shares with the code only the parser and the view it fills in.

use super::*;
use crate::limits::MEMBERS_MAX;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

type Set = BTreeSet<LinkHash>;

/// All links of a roster, with their pasts.
struct Graph<'a> {
    links: BTreeMap<LinkHash, &'a Link>,
    past: BTreeMap<LinkHash, Set>,
    removes: RefCell<BTreeMap<LinkHash, bool>>,
}

/// One set of links, closed downwards.
struct Within<'a> {
    graph: &'a Graph<'a>,
    set: Set,
    /// Generation of each device's first effective addition, oldest first.
    ages: BTreeMap<DeviceId, (Generation, LinkHash)>,
    left_out: BTreeSet<DeviceId>,
}

fn added(link: &Link) -> Option<DeviceId> {
    match link.op() {
        Op::Genesis(genesis) => Some(genesis.device.id()),
        Op::Add { device, .. } => Some(device.id()),
        _ => None,
    }
}

pub(super) fn resolve(roster: &Roster) -> Realm {
    let mut past: BTreeMap<LinkHash, Set> = BTreeMap::new();
    for link in roster.links() {
        let parents = link.parents().iter();
        let all = parents.flat_map(|parent| past[parent].iter().copied().chain([*parent])).collect();
        past.insert(link.hash(), all);
    }
    let links = roster.links().map(|link| (link.hash(), link)).collect();
    let graph = Graph { links, past, removes: RefCell::default() };
    let within = Within::new(&graph, graph.links.keys().copied().collect());
    within.view(roster)
}

impl<'a> Graph<'a> {
    /// REMOVE(X) by S counts, by its past alone.
    fn removes(&self, hash: LinkHash) -> bool {
        let Op::Remove { device, .. } = self.links[&hash].op() else {
            return false;
        };
        if let Some(known) = self.removes.borrow().get(&hash) {
            return *known;
        }
        let past = &self.past[&hash];
        let counts = match self.links[&hash].signer() {
            Signer::Recovery => past.iter().any(|link| added(self.links[link]) == Some(*device)),
            Signer::Device(signer) if signer == *device => true,
            Signer::Device(signer) => {
                let within = Within::new(self, past.clone());
                within.role(&signer, None) == Some(Role::Admin)
                    && !within.is_removed(&signer)
                    && within.is_over(Signer::Device(signer), device)
            }
        };
        self.removes.borrow_mut().insert(hash, counts);
        counts
    }
}

impl<'a> Within<'a> {
    fn new(graph: &'a Graph<'a>, set: Set) -> Self {
        let mut within = Self { graph, set, ages: BTreeMap::new(), left_out: BTreeSet::new() };
        let mut additions: Vec<LinkHash> =
            within.set.iter().copied().filter(|hash| added(graph.links[hash]).is_some()).collect();
        additions.sort_by_key(|hash| (graph.links[hash].generation(), *hash));
        for hash in additions {
            let link = graph.links[&hash];
            let device = added(link).expect("an addition");
            if within.ages.contains_key(&device) || !(link.parents().is_empty() || within.is_entitled(hash)) {
                continue;
            }
            let places = within.ages.keys().filter(|device| !within.is_removed(device)).count();
            if places == MEMBERS_MAX && !within.is_removed(&device) {
                within.left_out.insert(device);
            } else {
                within.ages.insert(device, (link.generation(), hash));
            }
        }
        within
    }

    fn removals(&self, device: &DeviceId) -> Vec<LinkHash> {
        self.set.iter().copied().filter(|hash| self.removed_by(*hash) == Some(*device)).collect()
    }

    fn is_removed(&self, device: &DeviceId) -> bool {
        !self.removals(device).is_empty()
    }

    /// Recovery 0, devices 1 + generation.
    fn age(&self, signer: Signer) -> Option<u64> {
        match signer {
            Signer::Recovery => Some(0),
            Signer::Device(device) => self.ages.get(&device).map(|(generation, _)| 1 + u64::from(generation.0)),
        }
    }

    fn is_over(&self, signer: Signer, device: &DeviceId) -> bool {
        matches!((self.age(signer), self.age(Signer::Device(*device))), (Some(one), Some(other)) if one < other)
    }

    fn stands(&self, hash: LinkHash) -> bool {
        let link = self.graph.links[&hash];
        let Signer::Device(signer) = link.signer() else {
            return true;
        };
        let was_there = self.ages.get(&signer).is_some_and(|(age, at)| *age < link.generation() || *at == hash);
        was_there && self.removals(&signer).iter().all(|removal| self.graph.past[removal].contains(&hash))
    }

    fn sets(&self, device: &DeviceId) -> Vec<(LinkHash, Role)> {
        let sets = self.set.iter().filter_map(|hash| match self.graph.links[hash].op() {
            Op::Set { device: named, role } if named == device => Some((*hash, *role)),
            _ => None,
        });
        sets.filter(|(hash, _)| self.is_over(self.graph.links[hash].signer(), device) && self.is_entitled(*hash))
            .collect()
    }

    fn precedence(&self, hash: LinkHash) -> impl Ord {
        let link = self.graph.links[&hash];
        (link.generation(), link.signer() == Signer::Recovery, Reverse(self.age(link.signer())), Reverse(hash))
    }

    fn role(&self, device: &DeviceId, past: Option<&Set>) -> Option<Role> {
        let (_, addition) = self.ages.get(device)?;
        let sets = self.sets(device).into_iter().filter(|(hash, _)| past.is_none_or(|past| past.contains(hash)));
        let last = sets.max_by_key(|(hash, _)| self.precedence(*hash));
        let first = match self.graph.links[addition].op() {
            Op::Add { role, .. } => *role,
            _ => Role::Admin,
        };
        Some(last.map_or(first, |(_, role)| role))
    }

    /// Whether the signer of a link was entitled to it, its seniority over another device apart.
    fn is_entitled(&self, hash: LinkHash) -> bool {
        let link = self.graph.links[&hash];
        let Signer::Device(signer) = link.signer() else {
            return true;
        };
        if !self.stands(hash) {
            return false;
        }
        if matches!(link.op(), Op::Name { device, .. } if *device == signer) {
            return true;
        }
        let past = &self.graph.past[&hash];
        let beside = |other: &LinkHash| !past.contains(other) && !self.graph.past[other].contains(&hash);
        let is_demoted = self.sets(&signer).iter().any(|(set, role)| *role != Role::Admin && beside(set));
        self.role(&signer, Some(past)) == Some(Role::Admin) && !is_demoted
    }

    fn name(&self, device: &DeviceId) -> DeviceName {
        let names = self.set.iter().filter_map(|hash| match self.graph.links[hash].op() {
            Op::Name { device: named, name } if named == device => Some((*hash, name)),
            _ => None,
        });
        let counts = |hash: LinkHash| {
            let signer = self.graph.links[&hash].signer();
            self.is_entitled(hash) && (signer == Signer::Device(*device) || self.is_over(signer, device))
        };
        let last = names.filter(|(hash, _)| counts(*hash)).max_by_key(|(hash, _)| self.precedence(*hash));
        last.map_or_else(
            || match self.graph.links[&self.ages[device].1].op() {
                Op::Genesis(genesis) => genesis.name.clone(),
                Op::Add { name, .. } => name.clone(),
                _ => unreachable!("additions only"),
            },
            |(_, name)| name.clone(),
        )
    }

    fn view(&self, roster: &Roster) -> Realm {
        let epochs = self.epochs();
        let current = epochs.last().expect("the first link").link;
        let members = self.ages.iter().filter(|(device, _)| !self.is_removed(device));
        Realm {
            id: roster.id(),
            members: members.map(|(device, (_, addition))| (*device, self.member(device, *addition))).collect(),
            removed: self.set.iter().filter_map(|hash| self.removed_by(*hash)).collect(),
            left_out: self.left_out.clone(),
            rotation_due: self.is_due(current),
            epochs,
            folders: self.folders(),
        }
    }

    fn member(&self, device: &DeviceId, addition: LinkHash) -> Member {
        let link = self.graph.links[&addition];
        let identity = match link.op() {
            Op::Genesis(genesis) => genesis.device,
            Op::Add { device, .. } => *device,
            _ => unreachable!("additions only"),
        };
        let role = self.role(device, None).expect("it has a place");
        Member { identity, name: self.name(device), role, generation: link.generation(), since: link.time() }
    }

    fn removed_by(&self, hash: LinkHash) -> Option<DeviceId> {
        match self.graph.links[&hash].op() {
            Op::Remove { device, .. } if self.graph.removes(hash) => Some(*device),
            _ => None,
        }
    }

    fn epochs(&self) -> Vec<Epoch> {
        let begun = self.set.iter().filter_map(|hash| match self.graph.links[hash].op() {
            Op::Genesis(genesis) => Some((*hash, genesis.commit)),
            Op::Rotate { commit } if self.is_entitled(*hash) => Some((*hash, *commit)),
            Op::Remove { commit, .. } if self.graph.removes(*hash) && self.is_entitled(*hash) => Some((*hash, *commit)),
            _ => None,
        });
        let mut epochs: Vec<Epoch> = begun.map(|(link, commit)| Epoch { link, commit }).collect();
        epochs.sort_by_key(|epoch| (self.graph.links[&epoch.link].generation(), Reverse(epoch.link)));
        epochs
    }

    /// What a link says of a device (none: of everyone) and a folder.
    fn says(&self, hash: LinkHash, of: FolderId, device: Option<DeviceId>) -> Option<bool> {
        let Op::Share { folder, who } = self.graph.links[&hash].op() else {
            return None;
        };
        let said = |whom: Whom| who.iter().find(|(named, _)| *named == whom).map(|(_, is_in)| *is_in);
        let by_name = device.and_then(|device| said(Whom::Device(device)));
        by_name.or_else(|| said(Whom::Everyone)).filter(|_| *folder == of)
    }

    /// Whether it is in the folder by the SHAREs with an effect in this set, which has the parents of all in it.
    fn is_in(&self, folder: FolderId, device: Option<DeviceId>, set: &Set) -> bool {
        let speaks = |hash: &&LinkHash| self.says(**hash, folder, device).is_some() && self.is_share(**hash);
        let about: Set = set.iter().filter(speaks).copied().collect();
        let is_last = |hash: &LinkHash| !about.iter().any(|other| self.graph.past[other].contains(hash));
        about.iter().filter(|hash| is_last(hash)).all(|hash| self.says(*hash, folder, device) == Some(true))
    }

    fn is_share(&self, hash: LinkHash) -> bool {
        let link = self.graph.links[&hash];
        let (Op::Share { folder, .. }, past) = (link.op(), &self.graph.past[&hash]) else {
            return false;
        };
        let Signer::Device(signer) = link.signer() else {
            return true;
        };
        let beside = |other: &LinkHash| !past.contains(other) && !self.graph.past[other].contains(&hash);
        let made_reader = self.sets(&signer).iter().any(|(set, role)| *role == Role::Reader && beside(set));
        let wrote = self.role(&signer, Some(past)).is_some_and(|role| role != Role::Reader) && !made_reader;
        self.stands(hash) && wrote && self.is_in(*folder, Some(signer), past)
    }

    fn folders(&self) -> BTreeMap<FolderId, Access> {
        let named =
            self.set.iter().filter(|hash| self.is_share(**hash)).filter_map(|hash| match self.graph.links[hash].op() {
                Op::Share { folder, .. } => Some(*folder),
                _ => None,
            });
        let members = || self.ages.keys().filter(|device| !self.is_removed(device)).copied();
        let access = |folder: FolderId| Access {
            newcomers: self.is_in(folder, None, &self.set),
            devices: members().filter(|device| self.is_in(folder, Some(*device), &self.set)).collect(),
        };
        named.map(|folder| (folder, access(folder))).collect()
    }

    fn is_due(&self, current: LinkHash) -> bool {
        let knew = |hash: &LinkHash| *hash == current || self.graph.past[&current].contains(hash);
        let removed: BTreeSet<DeviceId> = self.set.iter().filter_map(|hash| self.removed_by(*hash)).collect();
        let unheard = removed.iter().any(|device| !self.removals(device).iter().any(knew));
        let strayed = self.set.iter().filter(|hash| !knew(hash)).any(|hash| {
            let link = self.graph.links[hash];
            let was_admin = match link.signer() {
                Signer::Recovery => true,
                Signer::Device(signer) => {
                    let past = &self.graph.past[hash];
                    let then = Within::new(self.graph, past.clone());
                    let was_one = then.role(&signer, None) == Some(Role::Admin) && !then.is_removed(&signer);
                    self.stands(*hash) && (was_one || self.role(&signer, Some(past)) == Some(Role::Admin))
                }
            };
            added(link).is_some_and(|device| !self.ages.contains_key(&device)) && was_admin
        });
        let set = self.graph.past[&current].iter().copied().chain([current]).collect();
        let then = Within::new(self.graph, set);
        let lost = then.ages.keys().any(|device| !then.is_removed(device) && !self.ages.contains_key(device));
        unheard || strayed || lost
    }
}
