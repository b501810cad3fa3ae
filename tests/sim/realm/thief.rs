//! A device in other hands. It goes on being connected to whoever lets it, signs links by hand wherever it likes, and
//! shows whom it likes what it likes. The bytes of its links are put together here from SPEC.md, not by `protocol`.

use super::story::At;
use crate::sim::rng::Rng;
use protocol::limits::LINK_PARENTS_MAX;
use protocol::model::{DeviceId, LinkHash};
use protocol::realm::{Commit, Genesis, Link, Op, Role, Roster, Signer};
use protocol::wire::identity::{Identity, PublicIdentity};
use protocol::wire::message::{LinkBytes, Message};
use std::collections::BTreeSet;

/// What signatures of links begin with.
const DOMAIN: &[u8] = b"syncd v1 roster\0";

/// What a thief has.
pub struct Thief {
    /// Everything that it heard of and signed itself.
    pub roster: Roster,
}

/// The secret that a link commits to.
#[must_use]
pub fn commit(link: &Link) -> Option<Commit> {
    match link.op() {
        Op::Genesis(Genesis { commit, .. }) | Op::Remove { commit, .. } | Op::Rotate { commit } => Some(*commit),
        _ => None,
    }
}

fn role_bytes(role: Role) -> [u8; 2] {
    match role {
        Role::Full => [0, 0],
        Role::Admin => [0, 1],
        Role::Reader => [1, 0],
    }
}

fn name_bytes(name: &str) -> Vec<u8> {
    [&[u8::try_from(name.len()).expect("names are short")], name.as_bytes()].concat()
}

/// Number and body of ADD.
#[must_use]
pub fn add(device: &PublicIdentity, role: Role, name: &str) -> (u8, Vec<u8>) {
    (1, [&device.ed[..], &device.x, &role_bytes(role), &name_bytes(name)].concat())
}

/// Number and body of REMOVE.
#[must_use]
pub fn remove(device: &DeviceId, commit: [u8; 32]) -> (u8, Vec<u8>) {
    (2, [&device.as_bytes()[..], &commit].concat())
}

/// Number and body of SET.
#[must_use]
pub fn set(device: &DeviceId, role: Role) -> (u8, Vec<u8>) {
    (3, [&device.as_bytes()[..], &role_bytes(role)].concat())
}

/// Number and body of NAME.
#[must_use]
pub fn name(device: &DeviceId, name: &str) -> (u8, Vec<u8>) {
    (4, [&device.as_bytes()[..], &name_bytes(name)].concat())
}

/// Number and body of ROTATE.
#[must_use]
pub fn rotate(commit: [u8; 32]) -> (u8, Vec<u8>) {
    (5, commit.to_vec())
}

/// Number and body of SHARE.
#[must_use]
pub fn share(folder: u8, device: &DeviceId, is_in: bool) -> (u8, Vec<u8>) {
    (6, [&[folder; 16][..], &[1], device.as_bytes(), &[u8::from(is_in)]].concat())
}

/// A link of those bytes.
#[must_use]
pub fn sign(identity: &Identity, roster: &Roster, parents: &[LinkHash], (op, body): (u8, Vec<u8>), time: u64) -> Link {
    let parents: BTreeSet<LinkHash> = parents.iter().take(LINK_PARENTS_MAX).copied().collect();
    let generations = roster.links().filter(|link| parents.contains(&link.hash())).map(|link| link.generation().0);
    let generation = 1 + generations.max().expect("a link has parents");
    let mut bytes = [&roster.id().as_bytes()[..], &generation.to_be_bytes(), &time.to_be_bytes()].concat();
    bytes.push(u8::try_from(parents.len()).expect("at most eight"));
    parents.iter().for_each(|parent| bytes.extend_from_slice(parent.as_bytes()));
    bytes.push(op);
    bytes.extend_from_slice(&u16::try_from(body.len()).expect("bodies are short").to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(identity.id().as_bytes());
    let signature = identity.sign(&[DOMAIN, &bytes].concat());
    bytes.extend_from_slice(&signature);
    Link::parse(&bytes).expect("laid out as SPEC.md says")
}

impl Thief {
    /// Takes in whatever anybody says.
    pub fn hears(&mut self, message: &Message) {
        if let Message::Links(links) = message {
            for link in &links.links {
                // What does not fit is of no use to it either.
                let _ = self.roster.insert(&link.0);
            }
        }
    }

    /// Links to build on.
    #[must_use]
    pub fn parents(&self, own: &DeviceId, at: At, rng: &mut Rng) -> Vec<LinkHash> {
        let all: Vec<&Link> = self.roster.links().collect();
        let takes_out = |link: &&&Link| matches!(link.op(), Op::Remove { device, .. } if device == own);
        match at {
            At::Beside if all.iter().any(|link| takes_out(&link)) => {
                let removals: Vec<&&Link> = all.iter().filter(takes_out).collect();
                rng.pick(&removals).parents().to_vec()
            }
            At::Anywhere => (0..=rng.below(2)).map(|_| rng.pick(&all).hash()).collect(),
            At::End | At::Beside => self.roster.heads().collect(),
        }
    }

    /// Some of what it has, parents first: all, or all but some of its own links and what builds on them.
    #[must_use]
    pub fn chosen(&self, own: &DeviceId, rng: &mut Rng) -> Vec<LinkBytes> {
        let hides = if rng.chance(60) { 40 } else { 0 };
        let mut hidden: BTreeSet<LinkHash> = BTreeSet::new();
        let mut shown = Vec::new();
        for link in self.roster.links() {
            let is_own = link.signer() == Signer::Device(*own);
            if is_own && rng.chance(hides) || link.parents().iter().any(|parent| hidden.contains(parent)) {
                hidden.insert(link.hash());
            } else {
                shown.push(LinkBytes(link.as_bytes().to_vec()));
            }
        }
        shown
    }
}
