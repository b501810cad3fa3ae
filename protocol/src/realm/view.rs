//! What a roster makes of the realm, for everybody else to read.

use super::judge::Judgement;
use super::link::{Commit, DeviceName, Generation, Genesis, Op, Role};
use super::sharing::{Access, Sharing};
use crate::model::{DeviceId, FolderId, LinkHash, RealmId};
use crate::wire::identity::PublicIdentity;
use crate::wire::kdf::UnixSeconds;
use std::collections::{BTreeMap, BTreeSet};

/// A device of the realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its keys.
    pub identity: PublicIdentity,
    /// What it is called; two devices may have one name.
    pub name: DeviceName,
    /// What it may do.
    pub role: Role,
    /// When it was added, in generations: the smaller is senior, equal ones have no say about each other.
    pub generation: Generation,
    /// When it was added, by the clock of who added it.
    pub since: UnixSeconds,
}

/// A stretch with one realm secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The link that began it; names it.
    pub link: LinkHash,
    /// What a secret is checked against, whoever passed it on.
    pub commit: Commit,
}

/// The realm as a set of links shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm {
    /// Which.
    pub id: RealmId,
    /// Its devices, at most `MEMBERS_MAX`.
    pub members: BTreeMap<DeviceId, Member>,
    /// Devices that were taken out, or left. None of them comes back.
    pub removed: BTreeSet<DeviceId>,
    /// Devices that were added while the realm had no place any more; each joins when one is removed.
    pub left_out: BTreeSet<DeviceId>,
    /// Oldest first, never empty; the last is the current one.
    pub epochs: Vec<Epoch>,
    /// A device that is no member may have the current secret: an admin should begin a new epoch.
    pub rotation_due: bool,
    /// Who is in the folders that the list speaks of; every member is in any other.
    pub folders: BTreeMap<FolderId, Access>,
}

impl Realm {
    pub(super) fn of(id: RealmId, judgement: &Judgement<'_>) -> Self {
        let added = judgement.additions().iter();
        let epochs = judgement.epochs();
        Self {
            id,
            members: added.filter_map(|(id, number)| Some((*id, member(judgement, id, *number)?))).collect(),
            removed: judgement.removals().keys().copied().collect(),
            left_out: judgement.left_out().clone(),
            rotation_due: epochs.last().is_some_and(|current| judgement.is_rotation_due(*current)),
            epochs: epochs.into_iter().filter_map(|number| epoch(judgement, number)).collect(),
            folders: Sharing::of(judgement).view(),
        }
    }

    /// Whether a member is in a folder.
    #[must_use]
    pub fn is_in(&self, device: &DeviceId, folder: &FolderId) -> bool {
        self.members.contains_key(device)
            && self.folders.get(folder).is_none_or(|access| access.devices.contains(device))
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        self.epochs.last().expect("the first link always begins an epoch")
    }
}

fn member(judgement: &Judgement<'_>, id: &DeviceId, addition: usize) -> Option<Member> {
    let link = judgement.link(addition);
    let name = match judgement.link(judgement.last_name(id)?).op() {
        Op::Genesis(Genesis { name, .. }) | Op::Add { name, .. } | Op::Name { name, .. } => name.clone(),
        _ => return None,
    };
    Some(Member {
        identity: *link.newcomer()?,
        name,
        role: judgement.role(id)?,
        generation: link.generation(),
        since: link.time(),
    })
}

fn epoch(judgement: &Judgement<'_>, number: usize) -> Option<Epoch> {
    let link = judgement.link(number);
    match link.op() {
        Op::Genesis(Genesis { commit, .. }) | Op::Remove { commit, .. } | Op::Rotate { commit } => {
            Some(Epoch { link: link.hash(), commit: *commit })
        }
        _ => None,
    }
}
