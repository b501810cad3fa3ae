//! Which folders each device is in. A SHARE says it of some devices, or of everyone; it holds until another that knows
//! it says otherwise. Of two that do not know each other the one that keeps a device out holds: nobody gets into a
//! folder by dating back, and whoever is out by mistake can be let in again.

use super::judge::Judgement;
use super::link::{Op, Role, Signer, Whom};
use super::past::Past;
use crate::model::{DeviceId, FolderId};
use std::collections::{BTreeMap, BTreeSet};

/// SHARE links with an effect, over a judged set.
pub(super) struct Sharing<'a, 'j> {
    judgement: &'j Judgement<'a>,
    /// Oldest first.
    shares: BTreeMap<FolderId, Vec<usize>>,
}

impl<'a, 'j> Sharing<'a, 'j> {
    pub(super) fn of(judgement: &'j Judgement<'a>) -> Self {
        let mut sharing = Self { judgement, shares: BTreeMap::new() };
        // Parents come first, so whatever decides over a link is decided before it.
        for number in judgement.order() {
            if let Op::Share { folder, .. } = judgement.link(*number).op()
                && sharing.may(*number, folder)
            {
                sharing.shares.entry(*folder).or_default().push(*number);
            }
        }
        sharing
    }

    /// Whether the signer of a link was entitled to it: a device that writes and was in the folder itself.
    fn may(&self, number: usize, folder: &FolderId) -> bool {
        let Signer::Device(device) = self.judgement.link(number).signer() else {
            return true;
        };
        self.judgement.stands(number)
            && self.judgement.wrote(&device, number)
            && self.says(folder, Whom::Device(device), Some(self.judgement.past(number)))
    }

    /// Whether `whom` is in a folder, by all links or by those in `within`.
    fn says(&self, folder: &FolderId, whom: Whom, within: Option<&Past>) -> bool {
        self.last(folder, whom, within).iter().all(|number| self.word(*number, whom) == Some(true))
    }

    /// The links about `whom` that no other about it has in its past.
    fn last(&self, folder: &FolderId, whom: Whom, within: Option<&Past>) -> Vec<usize> {
        let shares = self.shares.get(folder).into_iter().flatten().copied();
        let is_about =
            |number: &usize| within.is_none_or(|within| within.has(*number)) && self.word(*number, whom).is_some();
        let about: Vec<usize> = shares.filter(is_about).collect();
        let mut above = Past::default();
        for number in &about {
            above.join(self.judgement.past(*number));
        }
        about.into_iter().filter(|number| !above.has(*number)).collect()
    }

    /// What a link says of `whom`, by name or with everyone.
    fn word(&self, number: usize, whom: Whom) -> Option<bool> {
        let Op::Share { who, .. } = self.judgement.link(number).op() else {
            return None;
        };
        let said = |of: Whom| who.iter().find(|(named, _)| *named == of).map(|(_, is_in)| *is_in);
        said(whom).or_else(|| said(Whom::Everyone))
    }

    /// The links that one about these devices has to build on.
    pub(super) fn before(&self, folder: &FolderId, who: &[(Whom, bool)]) -> Vec<usize> {
        let all: BTreeSet<usize> = who.iter().flat_map(|(whom, _)| self.last(folder, *whom, None)).collect();
        all.into_iter().collect()
    }

    /// Whether a device is in a folder.
    pub(super) fn has(&self, folder: &FolderId, device: &DeviceId) -> bool {
        self.says(folder, Whom::Device(*device), None)
    }

    /// Whether all that these words say holds.
    pub(super) fn agrees(&self, folder: &FolderId, who: &[(Whom, bool)]) -> bool {
        who.iter().all(|(whom, is_in)| self.says(folder, *whom, None) == *is_in)
    }

    /// Every folder that a link speaks of.
    pub(super) fn view(&self) -> BTreeMap<FolderId, Access> {
        let judgement = self.judgement;
        let members: Vec<DeviceId> =
            judgement.additions().keys().filter(|device| judgement.role(device).is_some()).copied().collect();
        let access = |folder: &FolderId| Access {
            newcomers: self.says(folder, Whom::Everyone, None),
            devices: members.iter().filter(|device| self.has(folder, device)).copied().collect(),
        };
        self.shares.keys().map(|folder| (*folder, access(folder))).collect()
    }
}

impl Judgement<'_> {
    /// Whether a device was one whose changes count where it signed a link, and nobody made it a reader beside that.
    fn wrote(&self, device: &DeviceId, number: usize) -> bool {
        let is_reader = |role: Option<Role>| role.is_none_or(|role| role == Role::Reader);
        !is_reader(self.role_at(device, number)) && !self.is_set_beside(device, number, |role| role == Role::Reader)
    }
}

/// Who is in a folder that the realm's list speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Devices that join the realm from now on are in it.
    pub newcomers: bool,
    /// Members that are in it.
    pub devices: BTreeSet<DeviceId>,
}
