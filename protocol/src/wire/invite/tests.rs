//! Codes and links as people type and paste them.

use super::*;
use proptest::prelude::*;

fn code() -> InviteCode {
    InviteCode::from_random([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
}

fn check(name: &str, text: &str, expected: Result<(), InviteError>) {
    let parsed = text.parse::<InviteCode>();
    assert_eq!(parsed.as_ref().map(|_| ()).map_err(|error| *error), expected, "{name}");
    assert!(parsed.is_err() || parsed == Ok(code()), "{name}");
}

#[test]
fn codes_as_people_type_them() {
    check("as shown", "000g-40r4-0m30-e209-m9kq", Ok(()));
    check("no hyphens", "000g40r40m30e209m9kq", Ok(()));
    check("capitals and spaces", " 000G 40R4 0M30 E209 M9KQ ", Ok(()));
    check("letters for digits", "oOog-4Or4-om3o-e2o9-m9kq", Ok(()));
    check("one wrong", "000g-40r4-0m30-e209-m9kr", Err(InviteError::Typo));
    check("two swapped", "000g-40r4-0m30-e290-m9kq", Err(InviteError::Typo));
    check("one missing", "000g-40r4-0m30-e209-m9k", Err(InviteError::Length { found: 19 }));
    check("one too many", "000g-40r4-0m30-e209-m9kqq", Err(InviteError::Length { found: 21 }));
    check("nothing", "", Err(InviteError::Length { found: 0 }));
    check("no such letter", "000g-40r4-0m30-e209-m9ku", Err(InviteError::Character('u')));
    check("no such symbol", "000g-40r4-0m30-e209-m9kß", Err(InviteError::Character('ß')));
}

#[test]
fn every_single_wrong_symbol_is_caught() {
    let shown = code().to_string();
    for position in (0..shown.len()).filter(|position| shown.as_bytes()[*position] != b'-') {
        for letter in ALPHABET {
            let mut typed = shown.clone().into_bytes();
            if typed[position] != *letter {
                typed[position] = *letter;
                let typed = String::from_utf8(typed).expect("ASCII");
                assert_eq!(typed.parse::<InviteCode>().err(), Some(InviteError::Typo), "{typed}");
            }
        }
    }
}

#[test]
fn links() {
    let relay: RelayLink = RelayLink {
        relay_x: [0x11; 32],
        access_key: Secret32::new([0x22; 32]),
        at: "relay.example:28731".parse().expect("valid"),
    };
    let link = InviteLink {
        code: code(),
        addresses: vec!["192.168.1.7:28730".parse().expect("valid"), "[fe80::1]:28730".parse().expect("valid")],
        relays: vec![relay],
    };
    let text = link.to_string();
    assert!(
        text.starts_with("syncd:p1:000g-40r4-0m30-e209-m9kq?a=192.168.1.7:28730&a=[fe80::1]:28730&r=sdrelay1"),
        "{text}"
    );
    assert!(text.ends_with("@relay.example:28731"), "{text}");
    assert!(text.parse::<InviteLink>() == Ok(link.clone()));
    assert!(format!("  {text}\n").parse::<InviteLink>() == Ok(link.clone()), "white space around");
    assert!(text.replace("syncd:p1:", "SYNCD:P1:").parse::<InviteLink>() == Ok(link.clone()));
    assert!(format!("{text}&new=thing").parse::<InviteLink>() == Ok(link), "parts of later versions");
    let bare = "000g-40r4-0m30-e209-m9kq".parse::<InviteLink>().map(|link| link.addresses.len());
    assert_eq!(bare, Ok(0));
}

#[test]
fn damaged_links() {
    let check = |name: &str, text: &str, expected| {
        assert_eq!(text.parse::<InviteLink>().err(), Some(expected), "{name}");
    };
    check("another version", "syncd:p9:000g-40r4-0m30-e209-m9kq", InviteError::NotALink);
    check("typo in the code", "syncd:p1:000g-40r4-0m30-e209-m9kr", InviteError::Typo);
    check("no port", "syncd:p1:000g-40r4-0m30-e209-m9kq?a=host", InviteError::Address);
    check("port 0", "syncd:p1:000g-40r4-0m30-e209-m9kq?a=host:0", InviteError::Address);
    check("space in host", "syncd:p1:000g-40r4-0m30-e209-m9kq?a=ho st:1", InviteError::Address);
    check("cut relay", "syncd:p1:000g-40r4-0m30-e209-m9kq?r=sdrelay1qqq@h:1", InviteError::Relay);
    let many = format!("syncd:p1:000g-40r4-0m30-e209-m9kq?{}", "a=h:1&".repeat(ADDRESSES_MAX + 1));
    check("too many", &many, InviteError::TooLong);
    check("endless", &"x".repeat(LINK_LEN_MAX + 1), InviteError::TooLong);
}

proptest! {
    #[test]
    fn every_code_comes_back(random in any::<[u8; CODE_LEN]>()) {
        let code = InviteCode::from_random(random);
        prop_assert!(code.to_string().parse::<InviteCode>() == Ok(code));
    }

    #[test]
    fn garbage_never_panics(text in "(syncd:p1:)?[0-9a-z-]{0,24}(\\?[ar]=.{0,30}){0,2}", any in ".*") {
        let _ = text.parse::<InviteLink>().is_ok();
        let _ = any.parse::<InviteLink>().is_ok();
    }
}
