//! What an author is told, and the recovery code.

use super::*;
use crate::limits::{LINK_PARENTS_MAX, MEMBERS_MAX};
use Role::{Admin, Full, Reader};

fn newcomer(number: u8, role: Role) -> Newcomer {
    Newcomer { identity: device(number).public(), role, name: name(&format!("device {number}")) }
}

/// What an author may ask for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Add(u8),
    Remove(u8),
    Disown(u8),
    Set(u8, Role),
    Rename(u8, &'static str),
    Rotate,
    Leave,
}

fn ask(world: &World, by: By, what: Ask) -> Result<Link, Denied> {
    let (own, paper) = (device(if let Device(number) = by { number } else { 0 }), code());
    let author = if by == Recovery { Author::Recovery(&paper) } else { Author::Device(&own) };
    let roster = &world.roster;
    match what {
        Ask::Add(number) => roster.add(author, newcomer(number, Full), NOW),
        Ask::Remove(number) => roster.remove(author, id(number), commit(9), NOW),
        Ask::Disown(number) => roster.disown(author, id(number), commit(9), NOW),
        Ask::Set(number, role) => roster.set(author, id(number), role, NOW),
        Ask::Rename(number, text) => roster.rename(author, id(number), name(text), NOW),
        Ask::Rotate => roster.rotate(author, commit(8), NOW),
        Ask::Leave => roster.leave(&own, NOW),
    }
}

fn done(world: &mut World, by: By, what: Ask) -> LinkHash {
    let link = ask(world, by, what).unwrap_or_else(|denied| panic!("{by:?} {what:?}: {denied}"));
    world.take(&link)
}

/// Founder 0, admins 1 and 2, full 3, reader 4, removed 5.
fn family() -> World {
    let mut world = World::with(2, Admin);
    for (number, role) in [(3, Full), (4, Reader), (5, Full)] {
        world.say(Device(0), add(number, role));
    }
    world.say(Device(0), remove(5));
    world
}

#[test]
fn what_may_be_done_is_done() {
    let asks = [
        (Device(1), Ask::Add(6)),
        (Device(1), Ask::Remove(2)),
        (Device(1), Ask::Disown(2)),
        (Device(0), Ask::Disown(5)),
        (Device(1), Ask::Set(4, Full)),
        (Device(1), Ask::Rename(3, "tower")),
        (Device(4), Ask::Rename(4, "book")),
        (Device(2), Ask::Rotate),
        (Device(4), Ask::Leave),
        (Device(0), Ask::Leave),
        (Recovery, Ask::Add(6)),
        (Recovery, Ask::Remove(0)),
        (Recovery, Ask::Set(0, Full)),
        (Recovery, Ask::Rename(0, "gone")),
        (Recovery, Ask::Rotate),
    ];
    for (by, what) in asks {
        let mut world = family();
        let before = world.realm();
        done(&mut world, by, what);
        assert!(world.realm() != before || matches!(what, Ask::Disown(5)), "{by:?} {what:?}");
    }
}

#[test]
fn what_may_not_be_done_is_denied_in_words() {
    let rows = [
        (Device(9), Ask::Add(6), Denied::NotMember),
        (Device(5), Ask::Rename(5, "x"), Denied::NotMember),
        (Device(5), Ask::Leave, Denied::NotMember),
        (Device(3), Ask::Add(6), Denied::NotAdmin),
        (Device(3), Ask::Remove(4), Denied::NotAdmin),
        (Device(4), Ask::Rotate, Denied::NotAdmin),
        (Device(3), Ask::Rename(4, "x"), Denied::NotAdmin),
        (Device(2), Ask::Remove(1), Denied::NotSenior),
        (Device(2), Ask::Disown(0), Denied::NotSenior),
        (Device(2), Ask::Set(1, Full), Denied::NotSenior),
        (Device(2), Ask::Rename(1, "x"), Denied::NotSenior),
        (Device(2), Ask::Set(2, Full), Denied::OwnRole),
        (Device(2), Ask::Remove(2), Denied::Itself),
        (Device(0), Ask::Remove(9), Denied::Unknown),
        (Device(0), Ask::Set(9, Full), Denied::Unknown),
        (Device(0), Ask::Rename(9, "x"), Denied::Unknown),
        (Device(0), Ask::Add(3), Denied::AlreadyMember),
        (Device(0), Ask::Add(5), Denied::Removed),
        (Recovery, Ask::Add(5), Denied::Removed),
        (Device(0), Ask::Remove(5), Denied::Removed),
        (Device(0), Ask::Set(5, Full), Denied::Removed),
        (Device(0), Ask::Set(3, Full), Denied::Unchanged),
        (Device(3), Ask::Rename(3, "device 3"), Denied::Unchanged),
    ];
    let world = family();
    for (by, what, expected) in rows {
        assert_eq!(ask(&world, by, what).err(), Some(expected), "{by:?} {what:?}");
    }
}

#[test]
fn a_full_realm_takes_nobody_before_somebody_goes() {
    let mut world = World::new();
    for number in 1..u8::try_from(MEMBERS_MAX).expect("64") {
        world.say(Device(0), add(number, Full));
    }
    assert_eq!(ask(&world, Device(0), Ask::Add(70)).err(), Some(Denied::TooManyDevices));
    done(&mut world, Device(0), Ask::Remove(7));
    done(&mut world, Device(0), Ask::Add(70));
    assert!(world.members().contains(&70));
}

#[test]
fn disowning_takes_back_what_a_device_did() {
    let mut world = family();
    let addition = world.roster.links().nth(1).expect("device 1").hash();
    world.say(Device(1), add(6, Full));
    world.say(Device(1), rename(3, "mine now"));
    world.say(Device(0), rename(0, "base"));
    let mut removed = World { roster: world.roster.clone(), first: world.first };
    done(&mut removed, Device(0), Ask::Remove(1));
    assert_eq!((removed.members(), removed.name(3)), (vec![0, 2, 3, 4, 6], "mine now".into()));
    for world in [&mut world, &mut removed] {
        let link = ask(world, Device(0), Ask::Disown(1)).expect("the founder may");
        assert_eq!(link.parents(), [addition], "nothing above it but what it needs");
        world.take(&link);
        assert_eq!((world.members(), world.name(3)), (vec![0, 2, 3, 4], "device 3".into()));
        assert!(world.realm().removed.contains(&id(1)));
        assert_eq!(world.name(0), "base", "what others did stays");
        done(world, Device(0), Ask::Rotate);
        assert!(!world.realm().rotation_due);
        done(world, Device(0), Ask::Add(6));
    }
}

/// Found by a random history: the removal had built on nothing else either, so the two were one link.
#[test]
fn disowning_twice_in_a_second_makes_the_same_link() {
    let mut world = World::with(1, Full);
    let removal = done(&mut world, Device(0), Ask::Remove(1));
    world.say(Device(0), rename(0, "x"));
    let again = ask(&world, Device(0), Ask::Disown(1)).expect("it is disowned");
    assert_eq!(again.hash(), removal);
    assert_eq!(world.roster.insert(again.as_bytes()), Ok(Inserted::Known));
}

#[test]
fn more_heads_than_parents_keep_nobody_from_doing_what_it_may() {
    let mut world = family();
    let before = world.heads();
    world.say(Device(0), set(3, Admin));
    world.say_at(&before, Device(0), rename(4, "fourth"));
    let reader = world.say_at(&before, Device(4), Op::Unknown(7));
    for number in [0, 2] {
        for text in 0..20 {
            let long = world.say_at(&before, Device(number), rename(number, &format!("{text}")));
            world.say_at(&[long], Device(number), rename(number, &format!("{text} again")));
        }
    }
    assert_eq!(world.heads().len(), 43);
    let link = ask(&world, Device(3), Ask::Rename(3, "x")).expect("its own name");
    assert!(link.parents().contains(&reader), "whoever has few heads is heard as well");
    for (by, what) in [
        (Device(3), Ask::Rename(4, "book")),
        (Device(3), Ask::Add(6)),
        (Device(3), Ask::Set(4, Full)),
        (Device(3), Ask::Rotate),
        (Device(0), Ask::Remove(2)),
        (Device(3), Ask::Rotate),
    ] {
        let link = done(&mut world, by, what);
        let link = world.roster.links().find(|known| known.hash() == link).expect("taken in");
        assert!(link.parents().len() <= LINK_PARENTS_MAX);
    }
    assert_eq!((world.members(), world.name(4), world.role(4)), (vec![0, 1, 3, 4, 6], "book".into(), Full));
    assert!(!world.realm().rotation_due);
}

#[test]
fn a_link_builds_on_what_it_replaces_and_on_what_seniors_signed() {
    let mut world = World::with(9, Admin);
    let before = world.heads();
    let heads: Vec<LinkHash> =
        (0..9).map(|number| world.say_at(&before, Device(number), rename(number, "x"))).collect();
    let mut at = before;
    for number in 0..3 {
        at = vec![world.say_at(&at, Device(9), rotate(number))];
    }
    let link = ask(&world, Device(0), Ask::Rotate).expect("an admin may");
    assert_eq!(link.parents().len(), LINK_PARENTS_MAX);
    assert!(link.parents().contains(&at[0]), "the epoch that it ends");
    assert!(heads[..7].iter().all(|head| link.parents().contains(head)), "the seven oldest");
}

#[test]
fn a_new_epoch_answers_a_removal_by_a_thief_as_well() {
    let mut world = family();
    let before = world.heads();
    done(&mut world, Device(0), Ask::Remove(1));
    world.say_at(&before, Device(1), remove(3));
    assert!(world.realm().rotation_due);
    done(&mut world, Device(0), Ask::Rotate);
    assert!(!world.realm().rotation_due);
}

#[test]
fn a_removal_that_would_not_count_is_not_made() {
    let mut world = World::with(2, Admin);
    let before = world.heads();
    let added = world.say(Device(2), add(3, Admin));
    let thief = world.say_at(&before, Device(1), set(2, Full));
    world.say_at(&[added], Device(0), remove(1));
    world.say_at(&[added, thief], Recovery, add(4, Full));
    // In the past of device 4's addition nothing speaks against the thief, so device 3 was added by no admin there.
    assert_eq!(ask(&world, Device(3), Ask::Disown(4)).err(), Some(Denied::Tangled));
    done(&mut world, Device(3), Ask::Remove(4));
    assert_eq!(world.members(), [0, 2, 3]);
}

#[test]
fn links_build_on_none_that_a_removal_took_the_effect_of() {
    let mut world = family();
    let before = world.heads();
    done(&mut world, Device(0), Ask::Remove(1));
    let thief = world.say_at(&before, Device(1), rotate(7));
    let link = done(&mut world, Device(0), Ask::Rotate);
    let link = world.roster.links().find(|known| known.hash() == link).expect("taken in");
    assert!(!link.parents().contains(&thief));
    let unknown = world.say(Device(2), Op::Unknown(9));
    let link = done(&mut world, Device(0), Ask::Rotate);
    let link = world.roster.links().find(|known| known.hash() == link).expect("taken in");
    assert!(link.parents().contains(&unknown), "a later version may mean something by it");
}

#[test]
fn a_recovery_code_is_read_however_it_is_written() {
    let words = code().words();
    assert_eq!(words.chars().filter(|c| *c != '-').count(), 42);
    let shapes = [words.to_string(), words.to_uppercase(), words.replace('-', ""), words.replace('-', "  ")];
    for shape in shapes {
        let read: RecoveryCode = shape.parse().expect("the same code");
        assert_eq!(read.public(), code().public());
    }
}

#[test]
fn a_wrong_recovery_code_is_refused() {
    let words = code().words();
    let typo = if words.ends_with('q') { words.replace('q', "p") } else { format!("{}q", &words[..words.len() - 1]) };
    let short = bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse_unchecked("sdr"), &[0; 19]).expect("short");
    let long = bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse_unchecked("sdr"), &[0; 21]).expect("short");
    for text in [typo.as_str(), "", "sdr1", &short, &long] {
        assert_eq!(text.parse::<RecoveryCode>().err(), Some(RecoveryError::Malformed), "{text}");
    }
    assert_eq!(id(1).to_string().parse::<RecoveryCode>().err(), Some(RecoveryError::WrongKind));
}

#[test]
fn names_keep_to_their_rule() {
    for text in ["a", "Kim's laptop", "büro", "👩‍💻", &"x".repeat(64)] {
        assert_eq!(DeviceName::new(text).map(|name| name.to_string()), Ok(text.to_string()));
    }
    assert_eq!(DeviceName::new(""), Err(NameError::Length));
    assert_eq!(DeviceName::new(&"é".repeat(33)), Err(NameError::Length));
    for c in ['\0', '\n', '\u{7f}', '\u{85}', '\u{61c}', '\u{200f}', '\u{2028}', '\u{202e}', '\u{2066}'] {
        assert_eq!(DeviceName::new(&format!("a{c}b")), Err(NameError::Character), "{c:?}");
    }
}
