//! Which links have an effect. A pure function of a set of links: the whole roster, or the past of one link.
//!
//! Devices are gone through by age, the generation of the link that added them, since nobody but the recovery key and
//! older devices has a say about a device. So what decides over a device's links is known before they are judged, and
//! no two devices can overrule each other.

use super::link::{Generation, Link, Op, Role, Signer};
use super::past::Past;
use super::roster::{Roster, Stored};
use super::sharing::Sharing;
use crate::limits::MEMBERS_MAX;
use crate::model::{DeviceId, LinkHash};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Who stands over whom; the smaller is senior, equal ranks have no say about each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Recovery,
    Since(Generation),
}

/// Whether `link`, a REMOVE with that past, takes its device out for ever. What its author could not know does not
/// matter, so no later link can bring the device back.
pub(super) fn removes(roster: &Roster, link: &Link, past: &Past) -> bool {
    let Op::Remove { device, .. } = link.op() else {
        return false;
    };
    match link.signer() {
        Signer::Recovery => roster.is_added_in(device, past),
        Signer::Device(signer) if signer == *device => true,
        Signer::Device(signer) => {
            let judgement = Judgement::of(roster.stored(), Some(past));
            judgement.role(&signer) == Some(Role::Admin) && judgement.is_senior(link.signer(), device)
        }
    }
}

/// A set of links, judged.
pub(super) struct Judgement<'a> {
    links: &'a [Stored],
    /// The set by generation, then hash.
    order: Vec<usize>,
    signed: BTreeMap<Signer, Vec<usize>>,
    /// SET and NAME links by the device they name.
    about: BTreeMap<DeviceId, Vec<usize>>,
    /// Removals that count.
    removals: BTreeMap<DeviceId, Vec<usize>>,
    /// By device the first link that adds it with effect.
    additions: BTreeMap<DeviceId, usize>,
    /// By device the SET links with an effect on it, the one that holds first.
    sets: BTreeMap<DeviceId, Vec<(usize, Role)>>,
    left_out: BTreeSet<DeviceId>,
    effective: Past,
}

impl<'a> Judgement<'a> {
    /// Judges the links in `scope`, or all. A scope has the parents of whatever it has.
    pub(super) fn of(links: &'a [Stored], scope: Option<&Past>) -> Self {
        let mut judgement = Self::sorted(links, scope);
        judgement.settle(Signer::Recovery);
        let mut live = 0;
        for number in judgement.order.clone() {
            let Some(device) = links[number].link.newcomer().map(|identity| identity.id()) else {
                continue;
            };
            if judgement.additions.contains_key(&device) || !judgement.adds(number) {
                continue;
            }
            let is_live = !judgement.removals.contains_key(&device);
            if is_live && live == MEMBERS_MAX {
                judgement.left_out.insert(device);
                continue;
            }
            live += usize::from(is_live);
            judgement.additions.insert(device, number);
            judgement.sets.insert(device, judgement.commands_about(&device));
            judgement.settle(Signer::Device(device));
        }
        judgement
    }

    fn sorted(links: &'a [Stored], scope: Option<&Past>) -> Self {
        let mut order: Vec<usize> =
            (0..links.len()).filter(|number| scope.is_none_or(|scope| scope.has(*number))).collect();
        order.sort_by_key(|number| (links[*number].link.generation(), links[*number].link.hash()));
        let mut judgement = Self {
            links,
            order,
            signed: BTreeMap::new(),
            about: BTreeMap::new(),
            removals: BTreeMap::new(),
            additions: BTreeMap::new(),
            sets: BTreeMap::new(),
            left_out: BTreeSet::new(),
            effective: Past::default(),
        };
        for number in &judgement.order {
            let stored = &links[*number];
            judgement.signed.entry(stored.link.signer()).or_default().push(*number);
            match stored.link.op() {
                Op::Set { device, .. } | Op::Name { device, .. } => {
                    judgement.about.entry(*device).or_default().push(*number);
                }
                Op::Remove { device, .. } if stored.removes => {
                    judgement.removals.entry(*device).or_default().push(*number);
                }
                _ => {}
            }
        }
        judgement
    }

    fn adds(&mut self, number: usize) -> bool {
        if matches!(self.op(number), Op::Genesis(_)) {
            self.effective.add(number);
        }
        self.effective.has(number)
    }

    /// Judges what `signer` signed, once everything that may overrule it is judged.
    fn settle(&mut self, signer: Signer) {
        for number in self.signed.get(&signer).cloned().unwrap_or_default() {
            if self.may(signer, number) {
                self.effective.add(number);
            }
        }
    }

    /// Whether the signer of a link was entitled to it. For SET and NAME of another device it must be senior to it as
    /// well, which is asked where these are read.
    fn may(&self, signer: Signer, number: usize) -> bool {
        let Signer::Device(device) = signer else {
            return true;
        };
        let is_own_name = matches!(self.op(number), Op::Name { device: named, .. } if *named == device);
        let is_demoted = || self.is_set_beside(&device, number, |role| role != Role::Admin);
        self.stands(number) && (is_own_name || self.was_admin(&device, number) && !is_demoted())
    }

    /// Whether a SET beside a link gives a device such a role.
    pub(super) fn is_set_beside(&self, device: &DeviceId, number: usize, is_such: impl Fn(Role) -> bool) -> bool {
        self.sets(device).iter().any(|(set, role)| is_such(*role) && self.is_beside(*set, number))
    }

    /// Whether a link's signer is a device of the realm that was there before it, and whoever removed that device knew
    /// the link.
    pub(super) fn stands(&self, number: usize) -> bool {
        let Signer::Device(device) = self.links[number].link.signer() else {
            return true;
        };
        let is_newer = |addition: &usize| {
            *addition == number || self.links[*addition].link.generation() < self.links[number].link.generation()
        };
        let is_known = |removal: &usize| self.links[*removal].past.has(number);
        self.additions.get(&device).is_some_and(is_newer)
            && self.removals.get(&device).is_none_or(|removals| removals.iter().all(is_known))
    }

    /// Whether a device was an admin where it signed a link.
    pub(super) fn was_admin(&self, device: &DeviceId, number: usize) -> bool {
        self.role_at(device, number) == Some(Role::Admin)
    }

    /// What a device was where it signed a link.
    pub(super) fn role_at(&self, device: &DeviceId, number: usize) -> Option<Role> {
        self.role_where(device, Some(&self.links[number].past))
    }

    /// Whoever has a say about the device is settled before it, so there will be no more.
    fn commands_about(&self, device: &DeviceId) -> Vec<(usize, Role)> {
        let about = self.about.get(device).into_iter().flatten().copied();
        let commands = about.filter(|number| self.commands(*number, device));
        let mut sets: Vec<(usize, Role)> =
            commands.filter_map(|number| Some((number, self.op(number).role()?))).collect();
        sets.sort_by_key(|(number, _)| Reverse(self.precedence(*number)));
        sets
    }

    /// SET links with an effect on a device, the one that holds first.
    fn sets(&self, device: &DeviceId) -> &[(usize, Role)] {
        self.sets.get(device).map_or(&[], Vec::as_slice)
    }

    fn commands(&self, number: usize, device: &DeviceId) -> bool {
        self.effective.has(number) && self.is_senior(self.links[number].link.signer(), device)
    }

    /// Neither is in the other's past.
    fn is_beside(&self, one: usize, other: usize) -> bool {
        !self.links[one].past.has(other) && !self.links[other].past.has(one)
    }

    fn role_where(&self, device: &DeviceId, past: Option<&Past>) -> Option<Role> {
        let at_first = self.op(*self.additions.get(device)?).role().unwrap_or(Role::Admin);
        let last = self.sets(device).iter().find(|(number, _)| past.is_none_or(|past| past.has(*number)));
        Some(last.map_or(at_first, |(_, role)| *role))
    }

    /// The greatest wins where links contradict each other.
    fn precedence(&self, number: usize) -> (Generation, Option<Reverse<Rank>>, Reverse<LinkHash>) {
        let link = &self.links[number].link;
        (link.generation(), self.rank(link.signer()).map(Reverse), Reverse(link.hash()))
    }

    /// `None` for a device that nobody added with effect.
    pub(super) fn rank(&self, signer: Signer) -> Option<Rank> {
        match signer {
            Signer::Recovery => Some(Rank::Recovery),
            Signer::Device(device) => {
                self.additions.get(&device).map(|addition| Rank::Since(self.links[*addition].link.generation()))
            }
        }
    }

    /// Whether `signer` has a say about `device`.
    pub(super) fn is_senior(&self, signer: Signer, device: &DeviceId) -> bool {
        let ranks = self.rank(signer).zip(self.rank(Signer::Device(*device)));
        ranks.is_some_and(|(signer, device)| signer < device)
    }

    /// What a member may do; `None` if the device is none.
    pub(super) fn role(&self, device: &DeviceId) -> Option<Role> {
        self.role_where(device, None).filter(|_| !self.removals.contains_key(device))
    }

    /// The link that names a device.
    pub(super) fn last_name(&self, device: &DeviceId) -> Option<usize> {
        let addition = *self.additions.get(device)?;
        let names = self.about.get(device).into_iter().flatten().copied().filter(|number| {
            let is_own = self.links[*number].link.signer() == Signer::Device(*device) && self.effective.has(*number);
            matches!(self.op(*number), Op::Name { .. }) && (is_own || self.commands(*number, device))
        });
        Some(names.max_by_key(|number| self.precedence(*number)).unwrap_or(addition))
    }

    /// The SET link that gave a device its role.
    pub(super) fn last_set(&self, device: &DeviceId) -> Option<usize> {
        self.sets(device).first().map(|(number, _)| *number)
    }

    /// Links that begin an epoch, the current one last. A removal whose author was itself removed without the knowledge
    /// of it begins none: nobody but that author need have the secret.
    pub(super) fn epochs(&self) -> Vec<usize> {
        let begins = |number: &usize| match self.op(*number) {
            Op::Genesis(_) | Op::Rotate { .. } => self.effective.has(*number),
            Op::Remove { .. } => self.links[*number].removes && self.effective.has(*number),
            _ => false,
        };
        let mut epochs: Vec<usize> = self.order.iter().copied().filter(begins).collect();
        epochs.sort_by_key(|number| (self.links[*number].link.generation(), Reverse(self.links[*number].link.hash())));
        epochs
    }

    /// Whether somebody who is no member may have the secret of the epoch that `epoch` began: a device that its author
    /// did not know to be removed, or one that was for a while taken for a member and whose addition has no effect, or no
    /// longer.
    pub(super) fn is_rotation_due(&self, epoch: usize) -> bool {
        let knew = |number: &usize| *number == epoch || self.links[epoch].past.has(*number);
        let removed = self.removals.values().any(|removals| !removals.iter().any(knew));
        let strayed = self.order.iter().filter(|number| !knew(number)).any(|number| {
            let link = &self.links[*number].link;
            let is_stranger = link.newcomer().is_some_and(|identity| !self.additions.contains_key(&identity.id()));
            is_stranger && self.passed_for_addition(*number)
        });
        removed || strayed || self.has_lost_members_of(epoch)
    }

    /// Whether those who knew no more than a link that adds a device took that for a member.
    fn passed_for_addition(&self, number: usize) -> bool {
        let Signer::Device(signer) = self.links[number].link.signer() else {
            return true;
        };
        let then = || Self::of(self.links, Some(&self.links[number].past)).role(&signer);
        self.stands(number) && (self.was_admin(&signer, number) || then() == Some(Role::Admin))
    }

    /// Whether a device that its author took for a member was added by a link that, as is known now, has no effect.
    fn has_lost_members_of(&self, epoch: usize) -> bool {
        let mut scope = self.links[epoch].past.clone();
        scope.add(epoch);
        let added = self.order.iter().filter(|number| scope.has(**number));
        let added = added.filter_map(|number| self.links[*number].link.newcomer().map(|identity| identity.id()));
        let lost: BTreeSet<DeviceId> = added.filter(|device| !self.additions.contains_key(device)).collect();
        // Rare, and as dear as everything else together.
        !lost.is_empty() && {
            let then = Self::of(self.links, Some(&scope));
            lost.iter().any(|device| then.role(device).is_some())
        }
    }

    /// Whether what a link says is what holds: no other stands against it.
    pub(super) fn is_in_force(&self, number: usize) -> bool {
        match self.op(number) {
            Op::Remove { .. } => self.links[number].removes,
            Op::Add { device, .. } => self.additions.get(&device.id()) == Some(&number),
            Op::Set { device, .. } => self.last_set(device) == Some(number),
            Op::Name { device, .. } => self.last_name(device) == Some(number),
            Op::Genesis(_) | Op::Rotate { .. } => self.epochs().last() == Some(&number),
            Op::Share { folder, who } => Sharing::of(self).agrees(folder, who),
            Op::Unknown(_) => false,
        }
    }

    /// The first link that adds each device with effect, also of those that were removed since.
    pub(super) const fn additions(&self) -> &BTreeMap<DeviceId, usize> {
        &self.additions
    }

    /// Removals that count, by device.
    pub(super) const fn removals(&self) -> &BTreeMap<DeviceId, Vec<usize>> {
        &self.removals
    }

    /// Devices for which the realm has no place.
    pub(super) const fn left_out(&self) -> &BTreeSet<DeviceId> {
        &self.left_out
    }

    /// The set by generation, then hash.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    pub(super) fn link(&self, number: usize) -> &'a Link {
        &self.links[number].link
    }

    /// Whether a link counts as a removal.
    pub(super) fn removes(&self, number: usize) -> bool {
        self.links[number].removes
    }

    pub(super) fn past(&self, number: usize) -> &'a Past {
        &self.links[number].past
    }

    fn op(&self, number: usize) -> &'a Op {
        self.links[number].link.op()
    }
}
