//! Who is in a folder. Devices 0 (founder), 1 and 2 are admins, 3 and 4 full, 5 a reader.

use super::*;
use Whom::Everyone;

fn home() -> World {
    let mut world = World::with(2, Role::Admin);
    for (number, role) in [(3, Role::Full), (4, Role::Full), (5, Role::Reader)] {
        world.say(Device(0), add(number, role));
    }
    world
}

fn yes(number: u8) -> (Whom, bool) {
    (Whom::Device(id(number)), true)
}

fn no(number: u8) -> (Whom, bool) {
    (Whom::Device(id(number)), false)
}

/// Who is in folder 1.
fn inside(world: &World) -> Vec<u8> {
    let realm = world.realm();
    (0..=99).filter(|number| realm.is_in(&id(*number), &folder(1))).collect()
}

#[test]
fn everyone_is_in_a_folder_that_no_link_speaks_of() {
    let world = home();
    assert_eq!(inside(&world), [0, 1, 2, 3, 4, 5]);
    assert!(world.realm().folders.is_empty());
}

#[test]
fn a_folder_is_of_those_that_its_first_link_names() {
    let mut world = home();
    world.say(Device(3), share(1, &[(Everyone, false), yes(3), yes(5)]));
    assert_eq!(inside(&world), [3, 5]);
    assert!(!world.realm().folders[&folder(1)].newcomers);
    assert!(world.realm().is_in(&id(0), &folder(2)), "another folder is another matter");
    world.say(Device(0), add(6, Role::Admin));
    assert_eq!(inside(&world), [3, 5], "who joins the realm does not join the folder");
    world.say(Device(3), share(1, &[yes(6)]));
    assert_eq!(inside(&world), [3, 5, 6]);
    world.say(Device(6), share(1, &[(Everyone, true)]));
    assert_eq!(inside(&world), [0, 1, 2, 3, 4, 5, 6]);
    world.say(Device(0), share(1, &[no(3)]));
    world.say(Device(0), add(7, Role::Full));
    assert_eq!(inside(&world), [0, 1, 2, 4, 5, 6, 7], "but for one that was taken out");
}

#[test]
fn only_who_writes_and_is_in_the_folder_says_who_else_is() {
    let mut world = home();
    world.say(Device(0), share(1, &[(Everyone, false), yes(0), yes(3), yes(5)]));
    for (label, by) in [("an admin that is out", 1), ("a device that is out", 4), ("a reader that is in", 5)] {
        world.say(Device(by), share(1, &[yes(1), yes(4)]));
        assert_eq!(inside(&world), [0, 3, 5], "{label}");
    }
    world.say(Device(3), share(1, &[no(0)]));
    assert_eq!(inside(&world), [3, 5], "no device is senior to another in a folder");
    world.say(Recovery, share(1, &[yes(0)]));
    assert_eq!(inside(&world), [0, 3, 5]);
}

#[test]
fn who_was_out_gets_in_by_nothing_that_it_dates_back() {
    let mut world = home();
    let before = world.heads();
    world.say(Device(0), share(1, &[(Everyone, false), yes(0), yes(3)]));
    world.say_at(&before, Device(4), share(1, &[yes(4)]));
    world.say_at(&before, Device(1), share(1, &[(Everyone, true), yes(4)]));
    assert_eq!(inside(&world), [0, 3]);
    world.say(Device(0), share(1, &[yes(4)]));
    assert_eq!(inside(&world), [0, 3, 4], "whoever knows both has the last word");
}

#[test]
fn of_two_that_do_not_know_each_other_the_one_that_keeps_out_holds() {
    let mut world = home();
    world.say(Device(0), share(1, &[(Everyone, false), yes(0), yes(1), yes(2)]));
    let apart = world.heads();
    world.say_at(&apart, Device(1), share(1, &[yes(3), no(2)]));
    world.say_at(&apart, Device(2), share(1, &[yes(4), no(1)]));
    assert_eq!(inside(&world), [0, 3, 4], "two that take each other out are both out; whom they let in stays");
    world.say_at(&apart, Device(0), share(1, &[no(3)]));
    assert_eq!(inside(&world), [0, 4]);
}

#[test]
fn what_a_device_says_beside_its_removal_or_after_being_made_a_reader_has_no_effect() {
    let mut world = home();
    world.say(Device(0), share(1, &[(Everyone, false), yes(0), yes(3), yes(4)]));
    let apart = world.heads();
    world.say_at(&apart, Device(0), remove(3));
    world.say_at(&apart, Device(3), share(1, &[yes(1)]));
    world.say_at(&apart, Device(0), set(4, Role::Reader));
    world.say_at(&apart, Device(4), share(1, &[yes(2), no(0)]));
    assert_eq!(inside(&world), [0, 4]);
    let mut world = home();
    let known = world.say(Device(3), share(1, &[(Everyone, false), yes(3), yes(1)]));
    world.say_at(&[known], Device(0), remove(3));
    assert_eq!(inside(&world), [1], "what its remover knew stays");
}

#[test]
fn a_link_that_lost_its_effect_takes_those_with_it_that_built_on_it_alone() {
    let mut world = home();
    world.say(Device(0), share(1, &[(Everyone, false), yes(0), yes(3)]));
    let apart = world.heads();
    let let_in = world.say_at(&apart, Device(3), share(1, &[yes(4)]));
    world.say_at(&[let_in], Device(4), share(1, &[yes(2)]));
    assert_eq!(inside(&world), [0, 2, 3, 4]);
    world.say_at(&apart, Device(0), remove(3));
    assert_eq!(inside(&world), [0], "whoever a thief let in let nobody in");
}

#[test]
fn an_author_is_told_why_not() {
    let mut world = home();
    let ask = |world: &World, by: u8, who: &[(Whom, bool)]| {
        let mut who = who.to_vec();
        who.sort_unstable();
        world.roster.share(Author::Device(&device(by)), folder(1), &who, NOW)
    };
    assert_eq!(ask(&world, 3, &[yes(4)]).err(), Some(Denied::Unchanged));
    assert_eq!(ask(&world, 5, &[no(4)]).err(), Some(Denied::Reads));
    assert_eq!(ask(&world, 9, &[no(4)]).err(), Some(Denied::NotMember));
    let link = ask(&world, 3, &[(Everyone, false), yes(3)]).expect("it is in the folder");
    world.take(&link);
    assert_eq!(ask(&world, 0, &[yes(0)]).err(), Some(Denied::NotInFolder));
    // Two that do not know each other: the next builds on both.
    let apart = world.heads();
    for who in [[yes(4)], [no(4)]] {
        world.say_at(&apart, Device(3), share(1, &who));
    }
    assert_eq!(inside(&world), [3]);
    let link = ask(&world, 3, &[yes(4)]).expect("the last word");
    world.take(&link);
    assert_eq!(inside(&world), [3, 4]);
    let link = ask(&world, 3, &[no(3)]).expect("a device takes itself out");
    world.take(&link);
    assert_eq!(inside(&world), [4]);
}
