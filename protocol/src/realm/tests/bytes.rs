//! A link's bytes are frozen; whatever is not exactly a link is refused.

use super::*;
use crate::limits::{LINK_BODY_LEN_MAX, LINK_PARENTS_MAX, ROSTER_LINK_LEN_MAX};
use proptest::prelude::*;

/// A line per op: name and bytes in hexadecimal.
const GOLDEN: &str = include_str!("golden.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One of each, built on each other.
fn samples() -> Vec<(&'static str, Link)> {
    let genesis = Link::genesis(&device(0), name("laptop"), code().public(), commit(0), NOW);
    let mut world = World { roster: Roster::new(genesis.as_bytes()).expect("good"), first: genesis.hash() };
    let mut samples = vec![("genesis", genesis)];
    let steps = [
        ("add", Device(0), add(1, Role::Admin)),
        ("name", Device(1), rename(1, "é")),
        ("set", Recovery, set(1, Role::Reader)),
        ("rotate", Device(0), rotate(2)),
        ("unknown", Device(0), Op::Unknown(200)),
        ("remove", Device(0), remove(1)),
        ("share", Device(0), share(9, &[(Whom::Everyone, false), (Whom::Device(id(0)), true)])),
    ];
    for (label, by, op) in steps {
        // The second and third are siblings, so that one link has two parents.
        let at = if label == "set" { samples[1].1.hash() } else { *world.heads().last().expect("a head") };
        let parents = if label == "rotate" { world.heads() } else { vec![at] };
        let link = sign(&world.roster, by, &parents, op);
        world.take(&link);
        samples.push((label, link));
    }
    samples
}

#[test]
fn every_link_comes_back_and_its_bytes_are_frozen() {
    let mut lines = String::new();
    for (label, link) in samples() {
        lines += &format!("{label} {}\n", hex(link.as_bytes()));
        assert_eq!(Link::parse(link.as_bytes()), Ok(link));
    }
    assert!(lines == GOLDEN, "the layout of links changed; that founds another realm:\n{lines}");
}

#[test]
fn derived_values_are_frozen() {
    let samples = samples();
    let (genesis, added) = (&samples[0].1, &samples[1].1);
    let found = [
        hex(&genesis.realm().0),
        hex(&genesis.hash().0),
        hex(&added.hash().0),
        hex(&commit(0).0),
        hex(&code().public()),
        code().words().to_string(),
    ];
    assert_eq!(added.realm(), genesis.realm());
    let expected = include_str!("derived.txt").lines().collect::<Vec<_>>();
    assert!(found[..] == expected[..], "{}", found.join("\n"));
}

#[test]
fn cut_or_longer_bytes_are_refused() {
    for (label, link) in samples() {
        let mut bytes = link.as_bytes().to_vec();
        for len in 0..bytes.len() {
            assert_eq!(Link::parse(&bytes[..len]), Err(Malformed), "{label} cut at {len}");
        }
        bytes.push(0);
        assert_eq!(Link::parse(&bytes), Err(Malformed), "{label} with a byte behind it");
    }
}

/// A link as its parts, so that each can be made wrong.
#[derive(Clone)]
struct Parts {
    realm: [u8; 32],
    generation: u32,
    parents: Vec<[u8; 32]>,
    op: u8,
    body: Vec<u8>,
    signer: [u8; 32],
}

impl Parts {
    fn parse(&self) -> Result<Link, Malformed> {
        let count = u8::try_from(self.parents.len()).expect("few");
        let len = u16::try_from(self.body.len()).expect("short");
        let mut bytes = self.realm.to_vec();
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.push(count);
        bytes.extend(self.parents.concat());
        bytes.push(self.op);
        bytes.extend(len.to_be_bytes());
        bytes.extend(&self.body);
        bytes.extend(self.signer);
        bytes.extend([0; 64]);
        Link::parse(&bytes)
    }
}

fn check_refused(label: &str, change: impl Fn(&mut Parts)) {
    let mut parts = Parts {
        realm: [1; 32],
        generation: 1,
        parents: vec![[2; 32], [3; 32]],
        op: 5,
        body: vec![0; 32],
        signer: [4; 32],
    };
    assert!(parts.parse().is_ok());
    change(&mut parts);
    assert_eq!(parts.parse(), Err(Malformed), "{label}");
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let parents = |count: u8| (1..=count).map(|number| [number; 32]).collect::<Vec<_>>();
    let named = |text: &str| [&[1; 32][..], &[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    check_refused("no parents", |link| link.parents.clear());
    check_refused("too many parents", |link| link.parents = parents(9));
    check_refused("parents in disorder", |link| link.parents.reverse());
    check_refused("a parent twice", |link| link.parents = vec![[2; 32]; 2]);
    check_refused("generation of a first link", |link| link.generation = 0);
    check_refused("no realm", |link| link.realm = [0; 32]);
    check_refused("a body that is too short", |link| link.body = vec![0; 31]);
    check_refused("a body with more behind it", |link| link.body = vec![0; 33]);
    check_refused("a body that is too long", |link| (link.op, link.body) = (99, vec![0; LINK_BODY_LEN_MAX + 1]));
    check_refused("a reader that is admin", |link| (link.op, link.body) = (3, [&[1; 32][..], &[1, 1]].concat()));
    check_refused("a role that there is not", |link| (link.op, link.body) = (3, [&[1; 32][..], &[2, 0]].concat()));
    check_refused("an admin flag that is none", |link| (link.op, link.body) = (3, [&[1; 32][..], &[0, 2]].concat()));
    check_refused("no name", |link| (link.op, link.body) = (4, named("")));
    check_refused("a long name", |link| (link.op, link.body) = (4, named(&"x".repeat(65))));
    check_refused("a name with a line break", |link| (link.op, link.body) = (4, named("a\nb")));
    check_refused("a name that turns", |link| (link.op, link.body) = (4, named("a\u{202e}b")));
    let shares = |who: &[([u8; 32], u8)]| {
        let said: Vec<u8> = who.iter().flat_map(|(whom, word)| [&whom[..], &[*word]].concat()).collect();
        (6, [&[1; 16][..], &[u8::try_from(who.len()).expect("few")], &said].concat())
    };
    check_refused("a share of nobody", |link| (link.op, link.body) = shares(&[]));
    check_refused("a share of one twice", |link| (link.op, link.body) = shares(&[([1; 32], 0), ([1; 32], 1)]));
    check_refused("a share in disorder", |link| (link.op, link.body) = shares(&[([1; 32], 0), ([0; 32], 1)]));
    check_refused("a share that says neither", |link| (link.op, link.body) = shares(&[([1; 32], 2)]));
    check_refused("a share that says more than it counts", |link| {
        (link.op, link.body) = shares(&[([1; 32], 0), ([2; 32], 0)]);
        link.body[16] = 1;
    });
    check_refused("a name that is no text", |link| (link.op, link.body) = (4, [&[1; 32][..], &[1, 0xff]].concat()));
    let founder = device(0).public();
    let genesis = move |link: &mut Parts| {
        let body = [&founder.ed[..], &founder.x, &[5; 64], &[1, b'a']].concat();
        *link = Parts { realm: [0; 32], generation: 0, parents: vec![], op: 0, body, signer: id(0).0 };
    };
    check_refused("a founder that does not sign", |link| {
        genesis(link);
        assert!(link.parse().is_ok());
        link.signer = id(1).0;
    });
    for (label, change) in [
        ("the recovery key as founder", (|link: &mut Parts| link.signer = [0; 32]) as fn(&mut Parts)),
        ("a first link with a parent", |link| link.parents = vec![[1; 32]]),
        ("a first link of another realm", |link| link.realm = [1; 32]),
        ("a first link of a later generation", |link| link.generation = 1),
    ] {
        check_refused(label, |link| {
            genesis(link);
            change(link);
        });
    }
}

#[test]
fn the_longest_link_is_as_long_as_the_bound() {
    let parents = (1..=u8::try_from(LINK_PARENTS_MAX).expect("8")).map(|number| [number; 32]).collect();
    let body = vec![7; LINK_BODY_LEN_MAX];
    let parts = Parts { realm: [1; 32], generation: 1, parents, op: 77, body, signer: [0; 32] };
    let link = parts.parse().expect("an unknown change of the greatest length");
    assert_eq!(link.as_bytes().len(), ROSTER_LINK_LEN_MAX);
    assert_eq!((link.op(), link.signer()), (&Op::Unknown(77), Signer::Recovery));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_bytes_never_panic_and_never_pass(
        sample in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let samples = samples();
        let mut bytes = samples[sample].1.as_bytes().to_vec();
        for (place, flip) in changes {
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        prop_assume!(bytes != samples[sample].1.as_bytes());
        if let Ok(link) = Link::parse(&bytes) {
            prop_assert_eq!(link.as_bytes(), &bytes[..]);
        }
        let mut roster = Roster::new(samples[0].1.as_bytes()).expect("good");
        prop_assert!(Roster::new(&bytes).is_err());
        for (_, link) in &samples {
            prop_assert!(roster.insert(&bytes).is_err());
            prop_assert!(roster.insert(link.as_bytes()).is_ok());
        }
        prop_assert!(roster.insert(&bytes).is_err());
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1000)) {
        prop_assert!(Roster::new(&bytes).is_err());
    }
}
