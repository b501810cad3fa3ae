//! One test per rule; each fails without it.

use super::*;
use crate::limits::MEMBERS_MAX;
use Role::{Admin, Full, Reader};

#[test]
fn the_founder_is_admin_and_who_is_added_is_what_the_link_says() {
    let mut world = World::new();
    world.say(Device(0), add(1, Full));
    world.say(Device(0), add(2, Reader));
    world.say(Device(0), add(3, Admin));
    assert_eq!([0, 1, 2, 3].map(|number| world.role(number)), [Admin, Full, Reader, Admin]);
    assert_eq!([0, 1, 2, 3].map(|number| world.member(number).generation.0), [0, 1, 2, 3]);
    assert_eq!((world.name(0), world.name(1)), ("device 0".into(), "device 1".into()));
    assert_eq!(world.member(1).identity, device(1).public());
    assert_eq!(world.member(1).since, NOW);
}

#[test]
fn only_admins_change_the_roster() {
    for role in [Full, Reader] {
        let mut world = World::with(2, role);
        for op in [add(3, Full), remove(2), set(2, Admin), rename(2, "x"), rotate(9)] {
            world.say(Device(1), op);
        }
        assert_eq!(world.members(), [0, 1, 2]);
        assert_eq!((world.role(2), world.name(2)), (role, "device 2".into()));
        assert_eq!(world.realm().epochs.len(), 1);
    }
}

#[test]
fn every_member_names_itself() {
    let mut world = World::with(1, Reader);
    world.say(Device(1), rename(1, "desk"));
    assert_eq!(world.name(1), "desk");
}

#[test]
fn nobody_changes_its_own_role() {
    let mut world = World::with(1, Admin);
    world.say(Device(1), set(1, Reader));
    world.say(Device(0), set(0, Full));
    assert_eq!((world.role(0), world.role(1)), (Admin, Admin));
}

#[test]
fn a_senior_device_and_an_equal_one_are_out_of_reach() {
    let mut world = World::with(1, Admin);
    let before = world.heads();
    let one = world.say_at(&before, Device(0), add(2, Admin));
    let other = world.say_at(&before, Device(1), add(3, Admin));
    for (by, target) in [(1, 0), (2, 1), (2, 3), (3, 2)] {
        world.say_at(&[one, other], Device(by), remove(target));
        world.say_at(&[one, other], Device(by), set(target, Full));
        world.say_at(&[one, other], Device(by), rename(target, "x"));
    }
    assert_eq!(world.members(), [0, 1, 2, 3]);
    for number in [0, 1, 2, 3] {
        assert_eq!((world.role(number), world.name(number)), (Admin, format!("device {number}")));
    }
}

#[test]
fn an_admin_reaches_those_that_came_later() {
    let mut world = World::with(3, Admin);
    world.say(Device(1), set(2, Reader));
    world.say(Device(1), rename(2, "x"));
    world.say(Device(1), remove(3));
    assert_eq!((world.role(2), world.name(2)), (Reader, "x".into()));
    assert_eq!(world.members(), [0, 1, 2]);
}

#[test]
fn the_recovery_key_does_everything() {
    let mut world = World::with(1, Admin);
    world.say(Recovery, set(0, Full));
    world.say(Recovery, rename(0, "old"));
    world.say(Recovery, add(2, Admin));
    assert_eq!((world.role(0), world.name(0), world.role(2)), (Full, "old".into(), Admin));
    let rotated = world.say(Recovery, rotate(9));
    assert_eq!(world.realm().epoch(), &Epoch { link: rotated, commit: commit(9) });
    world.say(Recovery, remove(0));
    assert_eq!(world.members(), [1, 2]);
}

#[test]
fn a_removed_device_stays_removed_whatever_is_learnt_of_its_remover() {
    let mut world = World::with(2, Admin);
    let before = world.heads();
    world.say_at(&before, Device(1), remove(2));
    assert_eq!(world.members(), [0, 1]);
    world.say_at(&before, Device(0), remove(1));
    world.say_at(&before, Device(0), set(1, Reader));
    assert_eq!(world.members(), [0]);
}

#[test]
fn a_removal_needs_an_admin_in_its_own_past() {
    let mut world = World::with(3, Full);
    let before = world.heads();
    world.say_at(&before, Device(0), set(1, Admin));
    world.say_at(&before, Device(1), remove(2));
    assert_eq!(world.members(), [0, 1, 2, 3], "it was made an admin elsewhere");
    world.say(Device(1), remove(2));
    assert_eq!(world.members(), [0, 1, 3]);
    world.say(Device(0), remove(1));
    world.say(Device(1), remove(3));
    assert_eq!(world.members(), [0, 3], "it knew that it was removed");
}

#[test]
fn a_removal_needs_the_devices_addition_in_its_past() {
    let mut world = World::with(1, Admin);
    let before = world.heads();
    world.say(Device(0), add(2, Full));
    world.say_at(&before, Device(1), remove(2));
    world.say_at(&before, Recovery, remove(2));
    assert_eq!(world.members(), [0, 1, 2]);
}

#[test]
fn a_removed_id_is_never_added_again() {
    let mut world = World::with(1, Full);
    world.say(Device(0), remove(1));
    world.say(Device(0), add(1, Full));
    world.say(Recovery, add(1, Full));
    assert_eq!(world.members(), [0]);
    assert!(world.realm().removed.contains(&id(1)));
}

#[test]
fn what_a_device_signed_counts_after_its_removal_if_its_remover_knew_it() {
    for known in [true, false] {
        let mut world = World::with(1, Admin);
        let before = world.heads();
        world.say(Device(1), add(2, Full));
        world.say(Device(1), rename(0, "nothing"));
        let at = if known { world.heads() } else { before };
        world.say_at(&at, Device(0), remove(1));
        assert_eq!(world.members(), if known { vec![0, 2] } else { vec![0] });
    }
}

#[test]
fn what_a_thief_dates_back_has_no_effect() {
    let mut world = World::with(2, Admin);
    let before = world.heads();
    world.say(Device(0), remove(1));
    let realm = world.realm();
    for op in [add(3, Admin), set(2, Reader), rename(2, "x"), rename(1, "y"), rotate(9)] {
        world.say_at(&before, Device(1), op);
        assert_eq!(world.realm(), realm);
    }
}

#[test]
fn every_remover_must_have_known_it() {
    let mut world = World::with(2, Admin);
    let before = world.heads();
    let added = world.say(Device(2), add(3, Full));
    world.say_at(&[added], Device(1), remove(2));
    assert_eq!(world.members(), [0, 1, 3]);
    world.say_at(&before, Device(0), remove(2));
    assert_eq!(world.members(), [0, 1]);
}

#[test]
fn a_demoted_admin_is_none_after_it_and_beside_it() {
    let mut world = World::with(1, Admin);
    let before = world.heads();
    world.say(Device(1), add(2, Full));
    world.say(Device(0), set(1, Full));
    assert_eq!(world.members(), [0, 1, 2], "an admin still");
    world.say(Device(1), add(3, Full));
    world.say_at(&before, Device(1), add(4, Full));
    world.say_at(&before, Device(1), rename(1, "desk"));
    assert_eq!(world.members(), [0, 1, 2]);
    assert_eq!(world.name(1), "desk", "naming oneself takes no admin");
    world.say(Device(0), set(1, Admin));
    world.say(Device(1), add(5, Full));
    assert_eq!(world.members(), [0, 1, 2, 5]);
}

#[test]
fn being_made_an_admin_counts_from_there_on() {
    let mut world = World::with(1, Full);
    let before = world.heads();
    world.say(Device(0), set(1, Admin));
    world.say_at(&before, Device(1), add(2, Full));
    assert_eq!(world.members(), [0, 1]);
    world.say(Device(1), add(3, Full));
    assert_eq!(world.members(), [0, 1, 3]);
}

#[test]
fn authority_from_a_link_without_effect_is_none() {
    let mut world = World::with(1, Admin);
    world.say(Device(0), add(2, Full));
    let before = world.heads();
    let granted = world.say(Device(1), set(2, Admin));
    world.say_at(&[granted], Device(2), add(3, Full));
    assert_eq!(world.members(), [0, 1, 2, 3]);
    world.say_at(&before, Device(0), remove(1));
    assert_eq!(world.members(), [0, 2], "who made it an admin was a thief");
}

#[test]
fn a_device_that_a_thief_added_counts_for_nothing() {
    let mut world = World::with(2, Admin);
    let before = world.heads();
    let puppet = world.say(Device(1), add(3, Admin));
    let more = world.say_at(&[puppet], Device(3), add(4, Admin));
    world.say_at(&[more], Device(4), rotate(9));
    assert_eq!(world.members(), [0, 1, 2, 3, 4]);
    world.say_at(&before, Device(0), remove(1));
    assert_eq!(world.members(), [0, 2]);
    assert_eq!(world.realm().epoch().commit, commit(1));
}

#[test]
fn the_first_addition_counts() {
    let mut world = World::with(1, Admin);
    let before = world.heads();
    let early = world.say_at(&before, Device(0), add(2, Reader));
    let late = world.say_at(&before, Device(1), rename(1, "x"));
    let late = world.say_at(&[late], Device(1), add(2, Admin));
    assert_eq!(world.role(2), Reader);
    assert_eq!(world.member(2).generation.0, 2);
    world.say_at(&[late], Device(2), add(3, Full));
    assert_eq!(world.members(), [0, 1, 2], "it is no admin by the addition that counts");
    world.say_at(&[early], Device(0), remove(1));
    assert_eq!(world.role(2), Reader);
}

#[test]
fn equal_generations_are_told_apart_by_hash() {
    let mut world = World::with(1, Admin);
    let before = world.heads();
    let one = world.say_at(&before, Device(0), add(2, Reader));
    let other = world.say_at(&before, Device(1), add(2, Full));
    assert_eq!(world.role(2), if one < other { Reader } else { Full });
}

#[test]
fn a_device_signs_nothing_of_an_age_with_it() {
    let mut world = World::with(1, Admin);
    let thief = world.heads();
    // Only the thief's addition is in the past of what device 2 signs; the one that counts is younger than that.
    let early = world.say_at(&thief, Device(1), add(2, Admin));
    let signed = world.say_at(&[early], Device(2), add(3, Full));
    let mut at = world.say_at(&thief, Device(0), remove(1));
    for _ in 0..3 {
        at = world.say_at(&[at], Device(0), rotate(5));
    }
    world.say_at(&[at], Device(0), add(2, Admin));
    assert_eq!(world.members(), [0, 2]);
    world.say_at(&[signed], Device(2), add(4, Full));
    world.say_at(&[signed], Device(2), rename(2, "x"));
    assert_eq!((world.members(), world.name(2)), (vec![0, 2], "device 2".into()));
    world.say(Device(2), add(5, Full));
    assert_eq!(world.members(), [0, 2, 5]);
}

#[test]
fn contradicting_links_are_decided_by_generation_then_seniority_then_hash() {
    let mut world = World::with(3, Admin);
    let before = world.heads();
    world.say_at(&before, Device(1), rename(3, "by one"));
    world.say_at(&before, Device(2), rename(3, "by two"));
    assert_eq!(world.name(3), "by one", "the senior one");
    world.say_at(&before, Recovery, rename(3, "by recovery"));
    assert_eq!(world.name(3), "by recovery");
    let one = world.say_at(&before, Recovery, rename(3, "again"));
    let before_that = sign(&world.roster, Recovery, &before, rename(3, "by recovery")).hash();
    assert_eq!(world.name(3), if one < before_that { "again" } else { "by recovery" });
    let longer = world.say_at(&before, Device(3), rename(3, "mine"));
    world.say_at(&[longer], Device(3), rename(3, "longest"));
    assert_eq!(world.name(3), "longest", "the greatest generation");
}

#[test]
fn contradicting_roles_are_decided_likewise() {
    let mut world = World::with(3, Full);
    world.say(Device(0), set(1, Admin));
    world.say(Device(0), set(2, Admin));
    let before = world.heads();
    world.say_at(&before, Device(2), set(3, Admin));
    world.say_at(&before, Device(1), set(3, Reader));
    assert_eq!(world.role(3), Reader);
    world.say(Device(2), set(3, Full));
    assert_eq!(world.role(3), Full, "whoever knew both decides");
}

#[test]
fn the_places_go_to_those_that_came_first() {
    let world_full = || {
        let mut world = World::new();
        for number in 1..u8::try_from(MEMBERS_MAX).expect("64") {
            world.say(Device(0), add(number, Full));
        }
        world
    };
    let mut world = world_full();
    world.say(Device(0), add(70, Admin));
    world.say(Device(70), add(71, Admin));
    world.say(Device(0), add(71, Full));
    let realm = world.realm();
    assert_eq!(realm.members.len(), MEMBERS_MAX);
    assert_eq!(realm.left_out, [id(70), id(71)].into());
    assert!(realm.rotation_due, "somebody may have taken one of them for a member");
    world.say(Device(0), remove(5));
    let realm = world.realm();
    assert!(realm.members.contains_key(&id(70)) && !realm.members.contains_key(&id(5)));
    assert_eq!(realm.left_out, [id(71)].into());
}

#[test]
fn the_current_epoch_is_the_newest_and_all_are_kept() {
    let mut world = World::with(3, Admin);
    let first = world.first;
    let removal = world.say(Device(0), remove(3));
    let before = world.heads();
    let one = world.say_at(&before, Device(0), rotate(11));
    let other = world.say_at(&before, Device(1), rotate(12));
    let (current, last) = if one < other { (one, other) } else { (other, one) };
    let links: Vec<LinkHash> = world.realm().epochs.iter().map(|epoch| epoch.link).collect();
    assert_eq!(links, [first, removal, last, current]);
    assert!(!world.realm().rotation_due);
    let next = world.say(Device(1), rotate(13));
    assert_eq!(world.realm().epoch(), &Epoch { link: next, commit: commit(13) });
}

#[test]
fn two_removals_beside_each_other_make_a_new_epoch_due() {
    let mut world = World::with(3, Admin);
    let before = world.heads();
    world.say_at(&before, Device(0), remove(2));
    world.say_at(&before, Device(1), remove(3));
    assert!(world.realm().rotation_due, "either secret was given to a removed device");
    world.say(Device(0), rotate(9));
    assert!(!world.realm().rotation_due);
}

#[test]
fn a_device_that_leaves_begins_no_epoch() {
    let mut world = World::with(1, Full);
    world.say(Device(1), remove(1));
    assert_eq!(world.members(), [0]);
    assert_eq!(world.realm().epochs.len(), 1);
    assert!(world.realm().rotation_due, "it knows the secret");
    world.say(Device(0), rotate(9));
    assert!(!world.realm().rotation_due);
}

#[test]
fn a_removal_by_a_thief_begins_no_epoch() {
    let mut world = World::with(3, Admin);
    let before = world.heads();
    world.say(Device(0), remove(1));
    assert!(!world.realm().rotation_due);
    let mut at = before;
    for number in 0..4 {
        at = vec![world.say_at(&at, Device(1), rotate(number))];
    }
    world.say_at(&at, Device(1), remove(2));
    let realm = world.realm();
    assert_eq!((realm.epoch().commit, realm.epochs.len()), (commit(1), 2), "nobody else has the thief's secret");
    assert!(realm.removed.contains(&id(2)) && realm.rotation_due);
}

#[test]
fn a_device_that_strayed_in_makes_a_new_epoch_due() {
    let mut world = World::with(1, Admin);
    let before = world.heads();
    world.say(Device(1), add(2, Full));
    assert!(!world.realm().rotation_due);
    world.say_at(&before, Device(0), set(1, Full));
    assert_eq!(world.members(), [0, 1]);
    assert!(world.realm().rotation_due, "somebody may have given it the secret meanwhile");
    world.say(Device(0), rotate(9));
    assert!(!world.realm().rotation_due);
}

/// A founder that was put back to an old state adds a device again as less: of two additions the first in order holds, and what
/// that device has added by the other has no effect any more.
#[test]
fn who_was_added_before_its_adder_became_less_makes_a_new_epoch_due() {
    let mut world = World::new();
    let as_admin = world.say(Device(0), add(1, Admin));
    world.say(Device(1), add(2, Full));
    assert_eq!(world.members(), [0, 1, 2]);
    let again = |text: u32| {
        let device = device(1).public();
        sign(&world.roster, Device(0), &[world.first], Op::Add { device, role: Reader, name: name(&text.to_string()) })
    };
    let first = (0..).map(again).find(|link| link.hash() < as_admin).expect("every other is");
    world.take(&first);
    assert_eq!((world.members(), world.role(1)), (vec![0, 1], Reader));
    assert!(world.realm().rotation_due, "it may have got the secret");
    world.say(Device(0), rotate(9));
    assert!(!world.realm().rotation_due);
}

/// The author of the epoch knew it as a member and passed the secret on; what it could not know takes the addition back.
#[test]
fn a_device_whose_addition_lost_its_effect_makes_a_new_epoch_due() {
    for (by, op) in [(Device(0), set(1, Full)), (Recovery, remove(1))] {
        let mut world = World::with(1, Admin);
        let before = world.heads();
        world.say(Device(1), add(2, Full));
        world.say(Device(1), remove(1));
        world.say(Device(0), rotate(1));
        assert!(world.members().contains(&2) && !world.realm().rotation_due);
        world.say_at(&before, by, op);
        assert!(!world.members().contains(&2) && world.realm().rotation_due);
        world.say(Device(0), rotate(2));
        assert!(!world.realm().rotation_due);
    }
}

#[test]
fn what_a_later_version_says_is_carried_without_effect() {
    let mut world = World::with(1, Admin);
    let realm = world.realm();
    world.say(Device(1), Op::Unknown(7));
    world.say(Device(0), Op::Unknown(255));
    assert_eq!(world.realm(), realm);
    world.say(Device(1), add(2, Full));
    assert_eq!(world.members(), [0, 1, 2]);
}

#[test]
fn only_what_its_past_knows_is_taken_in() {
    let mut world = World::with(1, Admin);
    let before = world.heads();
    let added = sign(&world.roster, Device(1), &before, add(2, Admin));
    let mut other = World { roster: world.roster.clone(), first: world.first };
    other.take(&added);
    let by_two = sign(&other.roster, Device(2), &[added.hash()], add(3, Full));
    let refused = |world: &mut World, link: &Link| world.roster.insert(link.as_bytes()).expect_err("refused");
    assert_eq!(refused(&mut world, &by_two), Refused::MissingParents(vec![added.hash()]));
    assert_eq!(refused(&mut world, &sign(&other.roster, Device(2), &before, rotate(1))), Refused::UnknownSigner);
    world.take(&added);
    assert_eq!(refused(&mut world, &sign(&other.roster, Device(2), &before, rotate(1))), Refused::UnknownSigner);
    world.take(&by_two);
    assert_eq!(world.roster.insert(by_two.as_bytes()), Ok(Inserted::Known));
    let unsigned = |generation, realm| Unsigned {
        realm: Some(realm),
        generation: Generation(generation),
        time: NOW,
        parents: before.clone(),
        op: rotate(1),
    };
    for generation in [1, 3, u32::MAX] {
        let link = Device(0).sign(unsigned(generation, world.roster.id()));
        assert_eq!(refused(&mut world, &link), Refused::WrongGeneration);
    }
    let elsewhere = Device(0).sign(unsigned(2, crate::model::RealmId([9; 32])));
    assert_eq!(refused(&mut world, &elsewhere), Refused::OtherRealm);
    let forged = unsigned(2, world.roster.id()).sign(Device(0).signer(), |bytes| device(1).sign(bytes));
    assert_eq!(refused(&mut world, &forged), Refused::BadSignature);
    let forged = unsigned(2, world.roster.id()).sign(Signer::Recovery, |bytes| device(0).sign(bytes));
    assert_eq!(refused(&mut world, &forged), Refused::BadSignature);
}

#[test]
fn a_roster_begins_with_its_founders_signature() {
    let genesis = |time| Link::genesis(&device(0), name("a"), code().public(), commit(0), UnixSeconds(time));
    let mut roster = Roster::new(genesis(1).as_bytes()).expect("a good first link");
    assert_eq!(roster.insert(genesis(1).as_bytes()), Ok(Inserted::Known));
    assert_eq!(roster.insert(genesis(2).as_bytes()), Err(Refused::OtherRealm));
    let mut forged = genesis(1).as_bytes().to_vec();
    *forged.last_mut().expect("a signature") ^= 1;
    assert_eq!(Roster::new(&forged).err(), Some(Refused::BadSignature));
    let link = sign(&roster, Device(0), &[genesis(1).hash()], rotate(1));
    assert_eq!(Roster::new(link.as_bytes()).err(), Some(Refused::OtherRealm));
    assert_eq!(Roster::new(&[]).err(), Some(Refused::Malformed));
}
