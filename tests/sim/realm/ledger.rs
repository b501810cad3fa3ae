//! What the simulator itself knows of a run, and what must hold on each device after every event: a removal that counts
//! there stays, its device is cut off, and nothing that a thief signed behind a removal's back has an effect. Pasts are
//! walked here once more, over nothing but the parents of links.

use super::device::Device;
use super::flaw::{added, ranked, removed};
use super::world::violated;
use crate::sim::check::Violation;
use protocol::model::{DeviceId, LinkHash, RealmId};
use protocol::realm::{Generation, Link, Op, Realm, Roster, RosterHash, Signer};
use protocol::wire::kdf::Secret32;
use std::collections::{BTreeMap, BTreeSet};

/// What a thief's link must not bring about where a removal that did not know it counts.
#[derive(Clone, Debug)]
pub enum Stray {
    /// This device, which only that link adds, is a member.
    Device(DeviceId),
    /// A member has this name, which only that link gives.
    Name(String),
    /// Something that shows in nothing else.
    Nothing,
}

/// A thief's link.
#[derive(Clone, Debug)]
struct Forgery {
    link: LinkHash,
    signer: DeviceId,
    stray: Stray,
}

/// What a device believed when it was looked at last.
#[derive(Clone)]
struct Seen {
    realm: RealmId,
    hash: RosterHash,
    removed: BTreeSet<DeviceId>,
}

/// What is known of all.
#[derive(Default)]
pub struct Ledger {
    pasts: BTreeMap<LinkHash, BTreeSet<LinkHash>>,
    /// Removals that an honest device made and was not denied, with whom they take out.
    removals: BTreeMap<LinkHash, DeviceId>,
    forgeries: Vec<Forgery>,
    seen: BTreeMap<usize, Seen>,
    /// Secrets that devices know which have left.
    pub gone: Vec<(DeviceId, BTreeMap<[u8; 32], Secret32>)>,
}

impl Ledger {
    /// A link exists from now on.
    pub fn signed(&mut self, link: &Link) {
        let mut past: BTreeSet<LinkHash> = link.parents().iter().copied().collect();
        for parent in link.parents() {
            past.extend(self.pasts.get(parent).into_iter().flatten());
        }
        self.pasts.insert(link.hash(), past);
    }

    /// An honest device made it, so it counts if it is a removal.
    pub fn removes(&mut self, link: &Link) {
        self.removals.extend(removed(link).map(|device| (link.hash(), device)));
    }

    /// A thief made it.
    pub fn strays(&mut self, link: &Link, signer: DeviceId, stray: Stray) {
        self.forgeries.push(Forgery { link: link.hash(), signer, stray });
    }

    /// A device was put back: what it believed is forgotten.
    pub fn restored(&mut self, who: usize) {
        self.seen.remove(&who);
    }

    /// A device left and is another one.
    pub fn left(&mut self, who: usize, id: DeviceId, wallet: BTreeMap<[u8; 32], Secret32>) {
        self.seen.remove(&who);
        self.gone.push((id, wallet));
    }

    /// What must hold on a device at any time.
    ///
    /// # Errors
    /// What does not.
    pub fn look(&mut self, who: usize, device: &Device) -> Result<(), Violation> {
        let (Some(realm), Some(roster), None) = (device.view(), device.roster(), &device.thief) else { return Ok(()) };
        if let Some(id) = device.disk.known.keys().find(|id| realm.removed.contains(id)) {
            return violated("removed devices are cut off", format!("{who} still knows {}", id.short()));
        }
        let before = self.seen.get(&who).filter(|seen| seen.realm == realm.id);
        if before.is_some_and(|seen| seen.hash == roster.hash()) {
            return Ok(());
        }
        if let Some(id) = before.and_then(|seen| seen.removed.difference(&realm.removed).next()) {
            return violated("removed stays removed", format!("{who} takes {} back", id.short()));
        }
        self.judge(who, &realm, roster)?;
        let seen = Seen { realm: realm.id, hash: roster.hash(), removed: realm.removed };
        self.seen.insert(who, seen);
        Ok(())
    }

    fn judge(&self, who: usize, realm: &Realm, roster: &Roster) -> Result<(), Violation> {
        if let Some(id) = realm.members.keys().find(|id| realm.removed.contains(id)) {
            return violated("a removed device is no member", format!("{} on {who}", id.short()));
        }
        let held = self.removals.iter().filter(|(link, _)| roster.contains(link));
        if let Some((_, id)) = held.clone().find(|(_, id)| !realm.removed.contains(id)) {
            return violated("an honest removal counts", format!("{} is not removed on {who}", id.short()));
        }
        for (removal, thief) in held {
            let past = &self.pasts[removal];
            let forged = self.forgeries.iter().filter(|forgery| forgery.signer == *thief);
            let unknown = forged.filter(|forgery| roster.contains(&forgery.link) && !past.contains(&forgery.link));
            for forgery in unknown {
                let shows = match &forgery.stray {
                    Stray::Device(id) => realm.members.contains_key(id),
                    Stray::Name(name) => realm.members.values().any(|member| member.name.as_str() == name),
                    Stray::Nothing => false,
                };
                if shows {
                    return violated("a removed thief changes nothing", format!("{:?} on {who}", forgery.stray));
                }
            }
        }
        Says::of(roster).allow(who, realm)
    }
}

/// Who said what about whom, and how old everybody is at least and at most.
struct Says<'a> {
    roster: &'a Roster,
    eldest: BTreeMap<DeviceId, Generation>,
    youngest: BTreeMap<DeviceId, Generation>,
}

impl<'a> Says<'a> {
    fn of(roster: &'a Roster) -> Self {
        let (mut eldest, mut youngest) = (BTreeMap::new(), BTreeMap::new());
        for link in roster.links() {
            let Some(id) = added(link) else { continue };
            let now = link.generation();
            eldest.entry(id).and_modify(|age: &mut Generation| *age = now.min(*age)).or_insert(now);
            youngest.entry(id).and_modify(|age: &mut Generation| *age = now.max(*age)).or_insert(now);
        }
        Self { roster, eldest, youngest }
    }

    /// Whether a signer may have a say about a device, however its additions are judged.
    fn may(&self, signer: Signer, device: &DeviceId) -> bool {
        match signer {
            Signer::Recovery => true,
            Signer::Device(id) => id == *device || self.eldest.get(&id) < self.youngest.get(device),
        }
    }

    /// Whether everything that holds of a realm was said by somebody who may.
    fn allow(&self, who: usize, realm: &Realm) -> Result<(), Violation> {
        for id in &realm.removed {
            let by = |link: &&Link| removed(link) == Some(*id) && self.may(link.signer(), id);
            if !self.roster.links().any(|link| by(&link)) {
                return violated("only seniors decide", format!("{} is removed on {who}", id.short()));
            }
        }
        for (id, member) in &realm.members {
            let is_set = |link: &Link| matches!(link.op(), Op::Set { .. });
            let said = |link: &&Link| ranked(link) == Some((*id, member.role));
            let may =
                |link: &Link| !is_set(link) || self.may(link.signer(), id) && link.signer() != Signer::Device(*id);
            if !self.roster.links().any(|link| said(&link) && may(link)) {
                return violated("only seniors decide", format!("{} is {:?} on {who}", id.short(), member.role));
            }
        }
        Ok(())
    }
}
