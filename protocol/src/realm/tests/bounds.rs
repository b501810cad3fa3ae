//! A roster that is flooded stays within its bounds, and whoever floods it can still be removed.

use super::*;
use crate::limits::{
    ROSTER_BYTES_MAX, ROSTER_LINK_LEN_MAX, ROSTER_LINKS_MAX, SIGNER_BYTES_MAX, SIGNER_LINKS_MAX, SIGNER_REMOVALS_MAX,
};

/// Links of `by` at one place until one is refused: how many were taken in, and why the last was not.
fn flood(world: &mut World, at: &[LinkHash], by: By, op: impl Fn(usize) -> Op) -> (usize, Refused) {
    for count in 0..2 * ROSTER_LINKS_MAX {
        let link = sign(&world.roster, by, at, op(count));
        if let Err(refused) = world.roster.insert(link.as_bytes()) {
            return (count, refused);
        }
    }
    panic!("no bound")
}

fn text(count: usize) -> String {
    format!("{count}")
}

#[test]
fn a_signer_has_its_share_and_others_theirs() {
    let mut world = World::with(2, Role::Admin);
    let at = world.heads();
    let (links, refused) = flood(&mut world, &at, Device(1), |count| rename(1, &text(count)));
    assert_eq!((links, refused), (SIGNER_LINKS_MAX, Refused::SignerFull));
    let denied = world.roster.rename(Author::Device(&device(1)), id(1), name("x"), NOW);
    assert_eq!(denied.err(), Some(Denied::AuthorFull));
    world.say_at(&at, Device(2), rename(2, "x"));
    world.say_at(&at, Device(1), remove(2));
}

#[test]
fn removals_have_a_share_of_their_own() {
    let mut world = World::with(2, Role::Admin);
    let at = world.heads();
    let op =
        |count: usize| Op::Remove { device: id(2), commit: Commit([u8::try_from(count % 256).expect("a byte"); 32]) };
    let more = |count| if count < 256 { op(count) } else { remove(2) };
    let (removals, refused) = flood(&mut world, &at, Device(1), more);
    assert_eq!((removals, refused), (SIGNER_REMOVALS_MAX, Refused::SignerFull));
    world.say_at(&at, Device(1), rename(1, "x"));
}

#[test]
fn long_links_fill_a_share_earlier() {
    let mut world = World::with(1, Role::Full);
    let at = world.heads();
    let mut bytes = 0;
    loop {
        let link = unknown(&world, &at, bytes);
        match world.roster.insert(link.as_bytes()) {
            Ok(_) => bytes += link.as_bytes().len(),
            Err(refused) => break assert_eq!(refused, Refused::SignerFull),
        }
    }
    assert!(bytes <= SIGNER_BYTES_MAX && bytes + ROSTER_LINK_LEN_MAX > SIGNER_BYTES_MAX);
}

/// A link of device 1 with the longest body there is.
fn unknown(world: &World, at: &[LinkHash], salt: usize) -> Link {
    let mut signed = world.roster.id().0.to_vec();
    signed.extend(2u32.to_be_bytes());
    signed.extend(salt.to_be_bytes());
    signed.push(1);
    signed.extend(at[0].0);
    signed.push(99);
    signed.extend(512u16.to_be_bytes());
    signed.extend([0; 512]);
    signed.extend(id(1).0);
    let signature = device(1).sign(&[b"syncd v1 roster\0", &signed[..]].concat());
    Link::parse(&[&signed[..], &signature].concat()).expect("well formed")
}

/// Device 2 and devices that it adds fill the roster of two honest devices with different links, as far as one does for
/// the other.
fn flooded(world: &World, salt: usize) -> World {
    let mut world = World { roster: world.roster.clone(), first: world.first };
    let at = world.heads();
    let puppets: Vec<u8> = (100..116).collect();
    let added: Vec<LinkHash> =
        puppets.iter().map(|puppet| world.say_at(&at, Device(2), add(*puppet, Role::Admin))).collect();
    for (puppet, added) in puppets.iter().zip(added) {
        flood(&mut world, &[added], Device(*puppet), |count| rename(*puppet, &text(count + salt)));
    }
    world
}

#[test]
fn a_flood_does_not_keep_the_thief_in() {
    let mut honest = World::with(3, Role::Admin);
    honest.say(Device(0), rename(3, "third"));
    let (mut one, mut other) = (flooded(&honest, 0), flooded(&honest, 100_000));
    let held: Vec<usize> = one.roster.links().map(|link| link.as_bytes().len()).collect();
    assert!(held.len() <= ROSTER_LINKS_MAX && held.iter().sum::<usize>() <= ROSTER_BYTES_MAX);
    let at = one.heads();
    let refused = one.roster.insert(sign(&one.roster, Device(1), &at[..1], rename(1, "x")).as_bytes());
    assert_eq!(refused, Err(Refused::Full));
    let author = Author::Device(&device(1));
    assert_eq!(one.roster.rotate(author, commit(1), NOW).err(), Some(Denied::RosterFull));

    let removal = one.roster.disown(author, id(2), commit(9), NOW).expect("a senior admin");
    one.take(&removal);
    other.take(&removal);
    for world in [&mut one, &mut other] {
        let realm = world.roster.resolve();
        let members: Vec<DeviceId> = realm.members.keys().copied().collect();
        let mut expected = [id(0), id(1), id(3)];
        expected.sort();
        assert_eq!(members, expected);
        assert!(realm.removed.contains(&id(2)));
        // Once more takes nobody out, so there is no room for it.
        let again = world.roster.disown(Author::Device(&device(0)), id(2), commit(9), NOW);
        assert_eq!(again.err(), Some(Denied::RosterFull));
    }
}
