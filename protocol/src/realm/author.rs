//! Makes links: each at the present heads, signed, and only where it will have its effect. Whoever may not do something
//! is told why in words that say what to do instead. Nothing is taken in here; the caller stores the link first.

use super::judge::Judgement;
use super::link::{Commit, DeviceName, Generation, Genesis, Link, Op, Role, Signer, Unsigned, Whom};
use super::past::Past;
use super::recovery::RecoveryCode;
use super::roster::{Refused, Roster};
use super::sharing::Sharing;
use crate::limits::{LINK_PARENTS_MAX, MEMBERS_MAX, SHARE_DEVICES_MAX};
use crate::model::{DeviceId, FolderId, LinkHash};
use crate::wire::identity::{Identity, PublicIdentity};
use crate::wire::kdf::UnixSeconds;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Why a device may not make a change; the words are for whoever asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The author was removed or never added.
    #[error("this device is not a member of the realm")]
    NotMember,
    /// The author is no admin.
    #[error("this device is not an admin of the realm: do it on an admin device, or with the recovery code")]
    NotAdmin,
    /// The device in question was added before the author, or together with it.
    #[error(
        "that device joined before this one, or with it: only an older admin device or the recovery code may do that"
    )]
    NotSenior,
    /// An author that would change its own role.
    #[error("a device cannot change its own role: do it on an older admin device, or with the recovery code")]
    OwnRole,
    /// An author that would remove itself.
    #[error("a device cannot remove itself, it can only leave the realm")]
    Itself,
    /// No such device.
    #[error("that device is not a member of the realm")]
    Unknown,
    /// Added before.
    #[error("that device already is a member of the realm")]
    AlreadyMember,
    /// Removed before.
    #[error("that device was removed from the realm: it can only join again under a new identity")]
    Removed,
    /// The name or role is what it was.
    #[error("that device has this name or role already")]
    Unchanged,
    /// The author only reads.
    #[error("this device only reads: who is in a folder is said on a device that writes")]
    Reads,
    /// The author is not in the folder itself.
    #[error("this device is not in that folder: only a device that is says who else is")]
    NotInFolder,
    /// No place for another.
    #[error("a realm has at most {MEMBERS_MAX} devices: remove one first")]
    TooManyDevices,
    /// The author has signed too many links.
    #[error("this device has made as many changes as one may: use another admin device, or the recovery code")]
    AuthorFull,
    /// Links that contradict each other came in such a number that one link cannot build on all that it needs.
    #[error("the realm's list has too many open ends for this change: begin a new epoch first, then try again")]
    Tangled,
    /// The roster has too many links.
    #[error("the realm's list is full: devices can still be removed, anything else needs a new realm")]
    RosterFull,
}

/// Who makes a change.
#[derive(Clone, Copy)]
pub enum Author<'a> {
    /// This device.
    Device(&'a Identity),
    /// Whoever holds the recovery code: may do everything.
    Recovery(&'a RecoveryCode),
}

impl Author<'_> {
    fn signer(&self) -> Signer {
        match self {
            Self::Device(identity) => Signer::Device(identity.id()),
            Self::Recovery(_) => Signer::Recovery,
        }
    }

    fn sign(&self, link: Unsigned) -> Link {
        match self {
            Self::Device(identity) => link.sign(self.signer(), |bytes| identity.sign(bytes)),
            Self::Recovery(code) => link.sign(self.signer(), |bytes| code.sign(bytes)),
        }
    }
}

/// A device that is to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its keys.
    pub identity: PublicIdentity,
    /// What it may do.
    pub role: Role,
    /// What it is called.
    pub name: DeviceName,
}

impl Link {
    /// The first link of a realm that `founder` founds. `recovery` is [`RecoveryCode::public`].
    #[must_use]
    pub fn genesis(
        founder: &Identity,
        name: DeviceName,
        recovery: [u8; 32],
        commit: Commit,
        time: UnixSeconds,
    ) -> Self {
        let op = Op::Genesis(Genesis { device: founder.public(), recovery, commit, name });
        let link = Unsigned { realm: None, generation: Generation(0), time, parents: Vec::new(), op };
        Author::Device(founder).sign(link)
    }
}

impl Roster {
    /// Takes a device in.
    ///
    /// # Errors
    /// When the author may not, or the device cannot join.
    pub fn add(&self, author: Author<'_>, newcomer: Newcomer, time: UnixSeconds) -> Result<Link, Denied> {
        let desk = Desk::of(self, author);
        let id = newcomer.identity.id();
        let judgement = &desk.judgement;
        let live = judgement.additions().keys().filter(|id| !judgement.removals().contains_key(*id)).count();
        match () {
            () if judgement.removals().contains_key(&id) => Err(Denied::Removed),
            // Also to one that could not add it: there is nothing left to do.
            () if judgement.additions().contains_key(&id) => Err(Denied::AlreadyMember),
            () if live >= MEMBERS_MAX => desk.is_admin().and(Err(Denied::TooManyDevices)),
            () => {
                desk.is_admin()?;
                let Newcomer { identity: device, role, name } = newcomer;
                desk.link(Op::Add { device, role, name }, &[], time)
            }
        }
    }

    /// Takes a device out for ever and begins an epoch. What that device has signed up to now keeps its effect, as
    /// far as this device has it.
    ///
    /// # Errors
    /// When the author may not, or the device is none that could be removed.
    pub fn remove(
        &self,
        author: Author<'_>,
        device: DeviceId,
        commit: Commit,
        time: UnixSeconds,
    ) -> Result<Link, Denied> {
        let desk = Desk::of(self, author);
        desk.may_remove(&device)?;
        if desk.judgement.removals().contains_key(&device) {
            return Err(Denied::Removed);
        }
        desk.link(Op::Remove { device, commit }, &[desk.judgement.additions()[&device]], time)
    }

    /// Takes a device out for ever, with everything it signed; of a device that was removed, takes back what it signed
    /// before. Devices that it added are members no longer until they are added again; removals stay. Since the link
    /// builds only on what made both devices what they are, it reaches also those whose roster that device has filled.
    /// The epoch that it begins is an old one: rotate afterwards.
    ///
    /// # Errors
    /// When the author may not.
    pub fn disown(
        &self,
        author: Author<'_>,
        device: DeviceId,
        commit: Commit,
        time: UnixSeconds,
    ) -> Result<Link, Denied> {
        let desk = Desk::of(self, author);
        desk.may_remove(&device)?;
        let mut needed = desk.credentials();
        needed.push(desk.judgement.additions()[&device]);
        let above = desk.past_of(&needed);
        needed.retain(|number| !above.has(*number));
        needed.sort_unstable();
        needed.dedup();
        desk.link_at(Op::Remove { device, commit }, &needed, time)
    }

    /// Takes the author out for ever. It knows the current secret, so an admin has to begin another epoch.
    ///
    /// # Errors
    /// When it is no member.
    pub fn leave(&self, author: &Identity, time: UnixSeconds) -> Result<Link, Denied> {
        let desk = Desk::of(self, Author::Device(author));
        let device = author.id();
        desk.judgement.role(&device).ok_or(Denied::NotMember)?;
        desk.link(Op::Remove { device, commit: Commit([0; 32]) }, &[], time)
    }

    /// Changes what a device may do.
    ///
    /// # Errors
    /// When the author may not.
    pub fn set(&self, author: Author<'_>, device: DeviceId, role: Role, time: UnixSeconds) -> Result<Link, Denied> {
        let desk = Desk::of(self, author);
        desk.is_admin()?;
        if desk.author.signer() == Signer::Device(device) {
            return Err(Denied::OwnRole);
        }
        let now = desk.is_over(&device)?;
        if now == role {
            return Err(Denied::Unchanged);
        }
        let before = desk.judgement.last_set(&device).unwrap_or(desk.judgement.additions()[&device]);
        desk.link(Op::Set { device, role }, &[before], time)
    }

    /// Renames a device; any member may rename itself.
    ///
    /// # Errors
    /// When the author may not.
    pub fn rename(
        &self,
        author: Author<'_>,
        device: DeviceId,
        name: DeviceName,
        time: UnixSeconds,
    ) -> Result<Link, Denied> {
        let desk = Desk::of(self, author);
        if desk.author.signer() == Signer::Device(device) {
            desk.judgement.role(&device).ok_or(Denied::NotMember)?;
        } else {
            desk.is_admin()?;
            desk.is_over(&device)?;
        }
        let before = desk.judgement.last_name(&device).ok_or(Denied::Unknown)?;
        let is_same = match desk.judgement.link(before).op() {
            Op::Genesis(Genesis { name: now, .. }) | Op::Add { name: now, .. } | Op::Name { name: now, .. } => {
                *now == name
            }
            _ => false,
        };
        if is_same { Err(Denied::Unchanged) } else { desk.link(Op::Name { device, name }, &[before], time) }
    }

    /// Says who is in a folder; whoever is not named stays as it was. The author may name itself, also to go out. More than
    /// one link can be needed: each is made at a roster that has those before it.
    ///
    /// # Errors
    /// When the author may not, or all of it holds already.
    ///
    /// # Panics
    /// Unless `who` names 1 to `SHARE_DEVICES_MAX`, ascending, none twice.
    pub fn share(
        &self,
        author: Author<'_>,
        folder: FolderId,
        who: &[(Whom, bool)],
        time: UnixSeconds,
    ) -> Result<Link, Denied> {
        assert!((1..=SHARE_DEVICES_MAX).contains(&who.len()) && who.is_sorted_by(|one, next| one.0 < next.0));
        let desk = Desk::of(self, author);
        let sharing = Sharing::of(&desk.judgement);
        if let Signer::Device(device) = desk.author.signer() {
            match desk.judgement.role(&device) {
                None => return Err(Denied::NotMember),
                Some(Role::Reader) => return Err(Denied::Reads),
                Some(_) if !sharing.has(&folder, &device) => return Err(Denied::NotInFolder),
                Some(_) => {}
            }
        }
        if sharing.agrees(&folder, who) {
            return Err(Denied::Unchanged);
        }
        let before = sharing.before(&folder, who);
        desk.link(Op::Share { folder, who: who.to_vec() }, &before, time)
    }

    /// Begins an epoch.
    ///
    /// # Errors
    /// When the author may not.
    pub fn rotate(&self, author: Author<'_>, commit: Commit, time: UnixSeconds) -> Result<Link, Denied> {
        let desk = Desk::of(self, author);
        desk.is_admin()?;
        let before = desk.judgement.epochs();
        desk.link(Op::Rotate { commit }, before.last().map_or(&[], std::slice::from_ref), time)
    }
}

/// Where one link is made.
struct Desk<'a> {
    roster: &'a Roster,
    judgement: Judgement<'a>,
    author: Author<'a>,
}

impl<'a> Desk<'a> {
    fn of(roster: &'a Roster, author: Author<'a>) -> Self {
        Self { roster, judgement: Judgement::of(roster.stored(), None), author }
    }

    fn is_admin(&self) -> Result<(), Denied> {
        let Signer::Device(device) = self.author.signer() else {
            return Ok(());
        };
        match self.judgement.role(&device) {
            Some(Role::Admin) => Ok(()),
            Some(_) => Err(Denied::NotAdmin),
            None => Err(Denied::NotMember),
        }
    }

    /// The role of a member that the author is senior to.
    fn is_over(&self, device: &DeviceId) -> Result<Role, Denied> {
        let role = self.judgement.role(device).ok_or_else(|| {
            if self.judgement.removals().contains_key(device) { Denied::Removed } else { Denied::Unknown }
        })?;
        if self.judgement.is_senior(self.author.signer(), device) { Ok(role) } else { Err(Denied::NotSenior) }
    }

    fn may_remove(&self, device: &DeviceId) -> Result<(), Denied> {
        self.is_admin()?;
        match () {
            () if self.author.signer() == Signer::Device(*device) => Err(Denied::Itself),
            () if !self.judgement.additions().contains_key(device) => Err(Denied::Unknown),
            () if !self.judgement.is_senior(self.author.signer(), device) => Err(Denied::NotSenior),
            () => Ok(()),
        }
    }

    /// The links that make the author what it is.
    fn credentials(&self) -> Vec<usize> {
        let Signer::Device(device) = self.author.signer() else {
            return Vec::new();
        };
        let addition = self.judgement.additions().get(&device).copied();
        addition.into_iter().chain(self.judgement.last_set(&device)).collect()
    }

    /// Signs at the heads. The past has `needed` and the author's credentials even with more heads than parents.
    fn link(&self, op: Op, needed: &[usize], time: UnixSeconds) -> Result<Link, Denied> {
        let mut needed = needed.to_vec();
        needed.extend(self.credentials());
        self.link_at(op, &self.parents(&needed), time)
    }

    fn link_at(&self, op: Op, parents: &[usize], time: UnixSeconds) -> Result<Link, Denied> {
        let link = self.author.sign(Unsigned {
            realm: Some(self.roster.id()),
            generation: self.roster.generation_after(parents),
            time,
            parents: parents.iter().map(|parent| self.judgement.link(*parent).hash()).collect(),
            op,
        });
        // A change is rare and asked for by a person, so it is tried out whole.
        let mut after = self.roster.clone();
        match after.insert(link.as_bytes()) {
            Ok(_) => {}
            Err(Refused::SignerFull) => return Err(Denied::AuthorFull),
            Err(_) => return Err(Denied::RosterFull),
        }
        let judgement = Judgement::of(after.stored(), None);
        if after.number(&link.hash()).is_some_and(|number| judgement.is_in_force(number)) {
            Ok(link)
        } else {
            Err(Denied::Tangled)
        }
    }

    /// The newest links worth building on, at most eight: of links that lost their effect with their signer's removal
    /// none, since another device may have had no room for them. First comes one of each signer, by seniority: whoever
    /// makes thousands of heads does not keep out what others signed.
    fn parents(&self, needed: &[usize]) -> Vec<usize> {
        let is_worth = |number: &usize| self.judgement.removes(*number) || self.judgement.stands(*number);
        let worth: Vec<usize> = self.judgement.order().iter().copied().filter(is_worth).collect();
        let above = self.past_of(&worth);
        let heads = self.by_seniority(worth.into_iter().filter(|number| !above.has(*number)).collect());
        let mut parents: Vec<usize> = Vec::new();
        for link in needed {
            let covers = |head: &&usize| **head == *link || self.judgement.past(**head).has(*link);
            if !parents.iter().any(|parent| covers(&parent)) {
                parents.extend(heads.iter().find(covers));
            }
        }
        for head in heads {
            if parents.len() < LINK_PARENTS_MAX && !parents.contains(&head) {
                parents.push(head);
            }
        }
        parents
    }

    fn by_seniority(&self, mut heads: Vec<usize>) -> Vec<usize> {
        let key = |number: &usize| -> (_, _, _, LinkHash) {
            let link = self.judgement.link(*number);
            let rank = self.judgement.rank(link.signer());
            (rank.is_none(), rank, Reverse(link.generation()), link.hash())
        };
        heads.sort_by_key(key);
        let mut seen = BTreeSet::new();
        let (first, rest): (Vec<usize>, Vec<usize>) =
            heads.into_iter().partition(|number| seen.insert(self.judgement.link(*number).signer()));
        [first, rest].concat()
    }

    /// What these links have above them, themselves left out unless one is above another.
    fn past_of(&self, numbers: &[usize]) -> Past {
        let mut past = Past::default();
        for number in numbers {
            past.join(self.judgement.past(*number));
        }
        past
    }
}
