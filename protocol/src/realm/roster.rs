//! The set of links that a device holds: takes in what is rightly signed by somebody the link's own past knows, and
//! says which links another device lacks.
//!
//! Whether a link is taken depends only on the link and its ancestors, so the order in which links come is of no
//! account and a link that was taken stays. The exception are the bounds of a roster that is flooded: then two devices
//! may hold different links of whoever floods it, and a removal still reaches both.

use super::judge::{self, Judgement};
use super::link::{Generation, Genesis, Link, Op, Signer};
use super::past::Past;
use super::recovery::RecoveryCode;
use super::view::Realm;
use crate::limits::{ROSTER_BYTES_MAX, ROSTER_LINKS_MAX, SIGNER_BYTES_MAX, SIGNER_LINKS_MAX, SIGNER_REMOVALS_MAX};
use crate::model::{DeviceId, LinkHash, RealmId};
use crate::wire::kdf::kdf;
use std::collections::{BTreeMap, BTreeSet};

/// Why a link was not taken in. Only the first may be different later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// These parents have not come yet; the link can be offered again after them.
    #[error("the roster lacks {} links that this one builds on", .0.len())]
    MissingParents(Vec<LinkHash>),
    /// Not a link at all.
    #[error("malformed link")]
    Malformed,
    /// Of another realm, or a first link where there is one.
    #[error("the link belongs to another realm")]
    OtherRealm,
    /// Not one more than the greatest of its parents.
    #[error("the link's generation does not follow from its parents")]
    WrongGeneration,
    /// Nobody in its past added the device that signed it.
    #[error("the link is signed by a device that its past does not know")]
    UnknownSigner,
    /// The signature is not that of its signer.
    #[error("the link's signature is wrong")]
    BadSignature,
    /// Its signer has as many links as one may have.
    #[error("the device that signed this link has signed as much as one device may")]
    SignerFull,
    /// It has as many links as it may have.
    #[error("the roster is full")]
    Full,
}

/// What became of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is taken in.
    New,
    /// It was there before.
    Known,
}

/// KDF("roster"; head, head…), ascending: equal exactly if two rosters hold the same links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RosterHash(pub [u8; 32]);

/// A link with what follows from its past, which never changes.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) link: Link,
    /// All its ancestors.
    pub(super) past: Past,
    /// It is a REMOVE that its past entitles its signer to: it takes its device out for ever.
    pub(super) removes: bool,
}

#[derive(Clone, Copy, Default)]
struct Usage {
    links: usize,
    bytes: usize,
    removals: usize,
}

/// A realm's signed list of devices.
#[derive(Clone)]
pub struct Roster {
    recovery: [u8; 32],
    /// In the order they came in: parents first.
    links: Vec<Stored>,
    numbers: BTreeMap<LinkHash, usize>,
    heads: BTreeSet<LinkHash>,
    /// GENESIS and ADD links by device.
    additions: BTreeMap<DeviceId, Vec<usize>>,
    removed: BTreeSet<DeviceId>,
    usage: BTreeMap<Signer, Usage>,
    bytes: usize,
}

impl Roster {
    /// A roster of its first link.
    ///
    /// # Errors
    /// When that is no GENESIS, or not rightly signed.
    pub fn new(genesis: &[u8]) -> Result<Self, Refused> {
        let link = Link::parse(genesis).map_err(|_| Refused::Malformed)?;
        let Op::Genesis(Genesis { device, recovery, .. }) = link.op() else {
            return Err(Refused::OtherRealm);
        };
        if !link.is_signed_by(&device.ed) {
            return Err(Refused::BadSignature);
        }
        let mut roster = Self {
            recovery: *recovery,
            links: Vec::new(),
            numbers: BTreeMap::new(),
            heads: BTreeSet::new(),
            additions: BTreeMap::new(),
            removed: BTreeSet::new(),
            usage: BTreeMap::new(),
            bytes: 0,
        };
        roster.push(Stored { link, past: Past::default(), removes: false });
        Ok(roster)
    }

    /// Takes in a link. Parents come first; a link that was taken once is known for ever.
    ///
    /// # Errors
    /// Why it was not taken. After [`Refused::MissingParents`] it may be offered again. `SignerFull`, `Full` and, since
    /// a later version may add devices in another way, `UnknownSigner` are no fault of whoever sent it; all others are.
    pub fn insert(&mut self, bytes: &[u8]) -> Result<Inserted, Refused> {
        let link = Link::parse(bytes).map_err(|_| Refused::Malformed)?;
        if self.numbers.contains_key(&link.hash()) {
            return Ok(Inserted::Known);
        }
        if link.realm() != self.id() {
            return Err(Refused::OtherRealm);
        }
        let parents = self.parents_of(&link)?;
        let past = self.past_of(&parents);
        if link.generation() != self.generation_after(&parents) {
            return Err(Refused::WrongGeneration);
        }
        let key = self.key_of(link.signer(), &past).ok_or(Refused::UnknownSigner)?;
        if !link.is_signed_by(&key) {
            return Err(Refused::BadSignature);
        }
        let removes = judge::removes(self, &link, &past);
        self.has_room_for(&link, removes)?;
        self.push(Stored { link, past, removes });
        Ok(Inserted::New)
    }

    fn parents_of(&self, link: &Link) -> Result<Vec<usize>, Refused> {
        let missing = |hash: &&LinkHash| !self.numbers.contains_key(*hash);
        let missing: Vec<LinkHash> = link.parents().iter().filter(missing).copied().collect();
        if !missing.is_empty() {
            return Err(Refused::MissingParents(missing));
        }
        Ok(link.parents().iter().filter_map(|hash| self.numbers.get(hash)).copied().collect())
    }

    /// The parents and all their ancestors.
    pub(super) fn past_of(&self, parents: &[usize]) -> Past {
        let mut past = Past::default();
        for parent in parents {
            past.join(&self.links[*parent].past);
            past.add(*parent);
        }
        past
    }

    /// Generation of a link with these parents. Far from overflow: a roster holds some thousand links.
    pub(super) fn generation_after(&self, parents: &[usize]) -> Generation {
        let greatest = parents.iter().map(|parent| self.links[*parent].link.generation().0).max();
        Generation(greatest.map_or(0, |generation| generation + 1))
    }

    /// The key that a signature must be of, if `past` knows the signer.
    fn key_of(&self, signer: Signer, past: &Past) -> Option<[u8; 32]> {
        let Signer::Device(device) = signer else {
            return Some(self.recovery);
        };
        let addition = self.additions.get(&device)?.iter().find(|addition| past.has(**addition))?;
        self.links[*addition].link.newcomer().map(|identity| identity.ed)
    }

    /// Whether `past` has a link that adds `device`, with effect or not.
    pub(super) fn is_added_in(&self, device: &DeviceId, past: &Past) -> bool {
        self.additions.get(device).is_some_and(|additions| additions.iter().any(|addition| past.has(*addition)))
    }

    /// The bounds. In a full roster there still is room for a removal that takes out a device which no other does: of
    /// those there can be no more than of additions.
    fn has_room_for(&self, link: &Link, removes: bool) -> Result<(), Refused> {
        let len = link.as_bytes().len();
        let usage = self.usage.get(&link.signer()).copied().unwrap_or_default();
        let is_over = match link.op() {
            Op::Remove { .. } => usage.removals >= SIGNER_REMOVALS_MAX,
            _ => usage.links >= SIGNER_LINKS_MAX || usage.bytes + len > SIGNER_BYTES_MAX,
        };
        if is_over {
            return Err(Refused::SignerFull);
        }
        let is_full = self.links.len() >= ROSTER_LINKS_MAX || self.bytes + len > ROSTER_BYTES_MAX;
        let takes_out = removes && matches!(link.op(), Op::Remove { device, .. } if !self.removed.contains(device));
        if is_full && !takes_out { Err(Refused::Full) } else { Ok(()) }
    }

    fn push(&mut self, stored: Stored) {
        let number = self.links.len();
        let link = &stored.link;
        let usage = self.usage.entry(link.signer()).or_default();
        if let Op::Remove { device, .. } = link.op() {
            usage.removals += 1;
            if stored.removes {
                self.removed.insert(*device);
            }
        } else {
            usage.links += 1;
            usage.bytes += link.as_bytes().len();
        }
        if let Some(identity) = link.newcomer() {
            self.additions.entry(identity.id()).or_default().push(number);
        }
        self.bytes += link.as_bytes().len();
        for parent in link.parents() {
            self.heads.remove(parent);
        }
        self.heads.insert(link.hash());
        self.numbers.insert(link.hash(), number);
        self.links.push(stored);
    }

    /// Whether this is the code that stands over the realm.
    #[must_use]
    pub fn is_recovered_by(&self, code: &RecoveryCode) -> bool {
        code.public() == self.recovery
    }

    /// The realm's id.
    #[must_use]
    pub fn id(&self) -> RealmId {
        self.links[0].link.realm()
    }

    /// Whether the link is held.
    #[must_use]
    pub fn contains(&self, hash: &LinkHash) -> bool {
        self.numbers.contains_key(hash)
    }

    /// The links that no other builds on, ascending. They tell another device what this one holds.
    pub fn heads(&self) -> impl Iterator<Item = LinkHash> {
        self.heads.iter().copied()
    }

    /// Tells whether two rosters hold the same links.
    #[must_use]
    pub fn hash(&self) -> RosterHash {
        let heads: Vec<&[u8]> = self.heads.iter().map(|head| &head.0[..]).collect();
        RosterHash(kdf("roster", &heads))
    }

    /// Every link, parents first.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().map(|stored| &stored.link)
    }

    /// What a device with these heads lacks, parents first. A head that is not held here says nothing; fewer heads only
    /// mean that more is sent than needed.
    pub fn links_after(&self, heads: &[LinkHash]) -> impl Iterator<Item = &Link> {
        let known: Vec<usize> = heads.iter().filter_map(|head| self.numbers.get(head)).copied().collect();
        let known = self.past_of(&known);
        self.links.iter().enumerate().filter(move |(number, _)| !known.has(*number)).map(|(_, stored)| &stored.link)
    }

    /// What all these links make of the realm. Some hundred links take less than a millisecond, a roster that thieves have
    /// filled tens of them: keep the answer until a link is taken in.
    #[must_use]
    pub fn resolve(&self) -> Realm {
        Realm::of(self.id(), &Judgement::of(self.stored(), None))
    }

    pub(super) fn number(&self, hash: &LinkHash) -> Option<usize> {
        self.numbers.get(hash).copied()
    }

    pub(super) fn stored(&self) -> &[Stored] {
        &self.links
    }
}
