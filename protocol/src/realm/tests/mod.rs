//! A realm of made-up devices. Links are signed by hand, at any parents, as a thief would sign them.

use super::link::Unsigned;
use super::*;
use crate::model::{DeviceId, FolderId, LinkHash};
use crate::wire::identity::Identity;
use crate::wire::kdf::{Secret32, UnixSeconds};

mod bounds;
mod bytes;
mod histories;
mod reference;
mod rules;
mod sharing;
mod strict;
mod words;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

fn device(number: u8) -> Identity {
    Identity::from_seed(&Secret32::new([number; 32]))
}

fn id(number: u8) -> DeviceId {
    device(number).id()
}

fn code() -> RecoveryCode {
    RecoveryCode::from_random(std::array::from_fn(|i| u8::try_from(i).expect("below 20")))
}

fn name(text: &str) -> DeviceName {
    DeviceName::new(text).expect("a good name")
}

fn commit(number: u8) -> Commit {
    Commit::to(&Secret32::new([number; 32]))
}

fn add(number: u8, role: Role) -> Op {
    Op::Add { device: device(number).public(), role, name: name(&format!("device {number}")) }
}

fn remove(number: u8) -> Op {
    Op::Remove { device: id(number), commit: commit(number) }
}

fn set(number: u8, role: Role) -> Op {
    Op::Set { device: id(number), role }
}

fn rename(number: u8, text: &str) -> Op {
    Op::Name { device: id(number), name: name(text) }
}

fn rotate(number: u8) -> Op {
    Op::Rotate { commit: commit(number) }
}

/// One of the folders that tests share.
fn folder(number: u8) -> FolderId {
    FolderId([number; 16])
}

/// Says of the folder whether these devices are in it; in any order.
fn share(number: u8, who: &[(Whom, bool)]) -> Op {
    let mut who = who.to_vec();
    who.sort_unstable();
    Op::Share { folder: folder(number), who }
}

/// Who signs in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Device(u8),
    Recovery,
}
use By::{Device, Recovery};

impl By {
    fn signer(self) -> Signer {
        match self {
            Device(number) => Signer::Device(id(number)),
            Recovery => Signer::Recovery,
        }
    }

    fn sign(self, link: Unsigned) -> Link {
        match self {
            Device(number) => link.sign(self.signer(), |bytes| device(number).sign(bytes)),
            Recovery => link.sign(self.signer(), |bytes| code().sign(bytes)),
        }
    }
}

/// A link that says `op` at `parents`, which the roster holds.
fn sign(roster: &Roster, by: By, parents: &[LinkHash], op: Op) -> Link {
    let generation = |parent: &LinkHash| {
        let link = roster.links().find(|link| link.hash() == *parent).expect("the roster has the parents");
        link.generation().0
    };
    let generation = Generation(1 + parents.iter().map(generation).max().expect("a link has parents"));
    by.sign(Unsigned { realm: Some(roster.id()), generation, time: NOW, parents: parents.to_vec(), op })
}

/// A roster and shorthands.
struct World {
    roster: Roster,
    first: LinkHash,
}

impl World {
    /// Device 0 founds it.
    fn new() -> Self {
        let genesis = Link::genesis(&device(0), name("device 0"), code().public(), commit(0), NOW);
        let roster = Roster::new(genesis.as_bytes()).expect("a good first link");
        Self { roster, first: genesis.hash() }
    }

    /// Device 0 and after it, in this order, devices 1 to `count` with one role.
    fn with(count: u8, role: Role) -> Self {
        let mut world = Self::new();
        for number in 1..=count {
            world.say(Device(0), add(number, role));
        }
        world
    }

    fn heads(&self) -> Vec<LinkHash> {
        self.roster.heads().collect()
    }

    /// Signs at the heads and takes in.
    fn say(&mut self, by: By, op: Op) -> LinkHash {
        let heads = self.heads();
        self.say_at(&heads, by, op)
    }

    /// Signs at `parents` and takes in.
    fn say_at(&mut self, parents: &[LinkHash], by: By, op: Op) -> LinkHash {
        let link = sign(&self.roster, by, parents, op);
        self.take(&link)
    }

    fn take(&mut self, link: &Link) -> LinkHash {
        assert_eq!(self.roster.insert(link.as_bytes()), Ok(Inserted::New), "{link:?}");
        link.hash()
    }

    fn realm(&self) -> Realm {
        let realm = self.roster.resolve();
        assert_eq!(realm, reference::resolve(&self.roster), "the rules as SPEC.md words them");
        realm
    }

    /// Numbers of the members.
    fn members(&self) -> Vec<u8> {
        let realm = self.realm();
        (0..=99).filter(|number| realm.members.contains_key(&id(*number))).collect()
    }

    fn member(&self, number: u8) -> Member {
        self.realm().members.remove(&id(number)).expect("a member")
    }

    fn role(&self, number: u8) -> Role {
        self.member(number).role
    }

    fn name(&self, number: u8) -> String {
        self.member(number).name.to_string()
    }
}
