//! Mistakes that a device could make with its realm, one at a time, in the simulated shell or in what it makes of its
//! roster: each must be noticed. Nothing of them is in syncd.

use protocol::model::DeviceId;
use protocol::realm::{Link, Op, Realm, Role, Roster, Signer};
use std::collections::BTreeSet;

/// What every honest device of a run does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Adding a removed device again makes it a member.
    Revives,
    /// A removal counts no more once its author was removed itself.
    Lapses,
    /// Any SET counts, whoever signed it.
    Juniors,
    /// Of several names the one that came last holds.
    LastCome,
    /// A removed device's later links count.
    Backdated,
    /// Others hear of a removal before the device is cut off.
    TellsFirst,
    /// Whoever is connected gets the secrets, a member or not.
    TellsSecrets,
    /// Nobody renews a secret that is due.
    NeverRotates,
    /// Links are sent children first.
    ChildrenFirst,
    /// What a peer says it knows counts the first time only: what was lost with a session is not sent again.
    Remembers,
    /// What comes from others is not passed on.
    Silent,
    /// Only the newest link is sent, not what it builds on.
    NewestOnly,
    /// Nothing is looked at again after a crash.
    Unsettled,
    /// The secret of a new epoch stays with its author.
    KeepsSecret,
    /// What to dial with is only looked at when the other says something, not when a secret comes from elsewhere.
    AgreesOnce,
}

/// All of them, as the command line names them.
pub const MUTANTS: [(&str, Flaw); 15] = [
    ("revives", Flaw::Revives),
    ("lapses", Flaw::Lapses),
    ("juniors", Flaw::Juniors),
    ("last_come", Flaw::LastCome),
    ("backdated", Flaw::Backdated),
    ("tells_first", Flaw::TellsFirst),
    ("tells_secrets", Flaw::TellsSecrets),
    ("never_rotates", Flaw::NeverRotates),
    ("children_first", Flaw::ChildrenFirst),
    ("remembers", Flaw::Remembers),
    ("silent", Flaw::Silent),
    ("newest_only", Flaw::NewestOnly),
    ("unsettled", Flaw::Unsettled),
    ("keeps_secret", Flaw::KeepsSecret),
    ("agrees_once", Flaw::AgreesOnce),
];

/// What a device with this flaw makes of a roster.
#[must_use]
pub fn judged(flaw: Option<Flaw>, roster: &Roster, mut realm: Realm) -> Realm {
    match flaw {
        Some(Flaw::Revives) => {
            let again = roster.links().filter_map(|link| added(link).map(|device| (device, link.generation())));
            for (device, at) in again {
                let removals = roster.links().filter(|link| removed(link) == Some(device));
                if removals.map(Link::generation).max().is_some_and(|removal| removal < at) {
                    realm.removed.remove(&device);
                }
            }
        }
        Some(Flaw::Lapses) => {
            let gone = realm.removed.clone();
            let stays = |device: &DeviceId| {
                let counts =
                    |signer| matches!(signer, Signer::Device(author) if gone.contains(&author) && author != *device);
                let mut removals = roster.links().filter(|link| removed(link) == Some(*device));
                !removals.all(|link| counts(link.signer()))
            };
            realm.removed.retain(stays);
        }
        Some(Flaw::Juniors) => {
            let sets = roster.links().filter_map(|link| match link.op() {
                Op::Set { device, role } => Some((*device, *role)),
                _ => None,
            });
            for (device, role) in sets {
                if let Some(member) = realm.members.get_mut(&device) {
                    member.role = role;
                }
            }
        }
        Some(Flaw::LastCome) => {
            for link in roster.links() {
                if let Op::Name { device, name } = link.op()
                    && let Some(member) = realm.members.get_mut(device)
                {
                    member.name = name.clone();
                }
            }
        }
        Some(Flaw::Backdated) => backdated(roster, &mut realm),
        _ => {}
    }
    realm
}

/// Whatever a removed device names has the name.
fn backdated(roster: &Roster, realm: &mut Realm) {
    let removed: BTreeSet<DeviceId> = realm.removed.clone();
    let by_removed = |link: &&Link| matches!(link.signer(), Signer::Device(signer) if removed.contains(&signer));
    for link in roster.links().filter(by_removed) {
        if let Op::Name { device, name } = link.op()
            && let Some(member) = realm.members.get_mut(device)
        {
            member.name = name.clone();
        }
    }
}

/// The device that a link adds.
#[must_use]
pub fn added(link: &Link) -> Option<DeviceId> {
    match link.op() {
        Op::Genesis(genesis) => Some(genesis.device.id()),
        Op::Add { device, .. } => Some(device.id()),
        _ => None,
    }
}

/// The device that a link takes out, if it counts.
#[must_use]
pub fn removed(link: &Link) -> Option<DeviceId> {
    match link.op() {
        Op::Remove { device, .. } => Some(*device),
        _ => None,
    }
}

/// The device whose role a link tells, and the role.
#[must_use]
pub fn ranked(link: &Link) -> Option<(DeviceId, Role)> {
    match link.op() {
        Op::Genesis(genesis) => Some((genesis.device.id(), Role::Admin)),
        Op::Add { device, role, .. } => Some((device.id(), *role)),
        Op::Set { device, role } => Some((*device, *role)),
        _ => None,
    }
}
