//! Backups survive nothing but being left as they are, and say which way they were changed.

use super::*;

const CHEAP: Cost = Cost { memory_kib: 8, passes: 1 };
const SALT: [u8; SALT_LEN] = [7; SALT_LEN];

fn phrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned())
}

fn file(name: &str, text: &str) -> KeyFile {
    KeyFile::new(name, Zeroizing::new(text.as_bytes().to_vec())).expect("a name")
}

/// The seed is 32 times 0x2a.
fn identity() -> KeyFile {
    file(IDENTITY_FILE, &format!("syncd keys 1\n{}\n{}\n", "2a".repeat(32), "11".repeat(16)))
}

fn files() -> Vec<KeyFile> {
    vec![identity(), file("pairings", "syncd keys 1\n[]\n"), file("realm", "")]
}

fn sealed() -> Vec<u8> {
    seal(&files(), &phrase("correct horse"), CHEAP, SALT).expect("sealed")
}

fn refused(bytes: &[u8]) -> BackupError {
    match open(bytes, &phrase("correct horse")) {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    }
}

/// Puts the check right after the bytes were changed: what an attacker would do.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - CHECK_LEN);
    bytes.extend_from_slice(&check(&bytes));
    bytes
}

#[test]
fn what_was_sealed_comes_back() {
    let opened = open(&sealed(), &phrase("correct horse")).expect("it opens");
    assert!(opened == files());
    let own = Identity::from_seed(&Secret32::new([0x2a; 32])).id();
    assert_eq!(device_of(&opened), Some(own));
    look(&sealed()).expect("whole");
}

/// Golden bytes, the same as what another implementation of Argon2id, ChaCha20-Poly1305 and BLAKE3 makes: a backup that was
/// written once opens in every later version.
#[test]
fn the_format_is_frozen() {
    let bytes = sealed();
    assert_eq!(bytes.len(), HEAD_LEN + PADDING + TAG_LEN + CHECK_LEN);
    assert_eq!(&bytes[..18], b"syncd keys backup\0");
    assert_eq!(bytes[18..27], [1, 8, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(bytes[27..43], SALT);
    assert_eq!(bytes[43..47], 4112_u32.to_le_bytes());
    let digest = kdf("test", &[&bytes]);
    let hex: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "1b51a2e2f81c127f");
}

#[test]
fn a_wrong_passphrase_is_named_as_such() {
    for wrong in ["correct hors", "Correct horse", "correct horse ", ""] {
        assert_eq!(open(&sealed(), &phrase(wrong)).err(), Some(BackupError::Passphrase), "{wrong:?}");
    }
}

#[test]
fn a_part_of_it_is_said_to_be_cut_short() {
    let bytes = sealed();
    for len in (1..bytes.len()).filter(|len| *len < 80 || len % 97 == 0 || bytes.len() - len < 40) {
        assert_eq!(refused(&bytes[..len]), BackupError::Truncated, "{len} bytes");
    }
    assert_eq!(refused(&[&bytes[..], b"\n"].concat()), BackupError::Damaged);
}

#[test]
fn every_flipped_byte_is_refused() {
    let bytes = sealed();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        let plain = refused(&flipped);
        let expected = match at {
            0..18 => vec![BackupError::NotABackup],
            18 => vec![BackupError::Version(0x11)],
            43..47 => vec![BackupError::Damaged, BackupError::Truncated],
            _ => vec![BackupError::Damaged],
        };
        assert!(expected.contains(&plain), "byte {at}: {plain:?}");
        // Nor does it help to put the check right. (The length is told by what is there.)
        if (19..43).contains(&at) || at >= HEAD_LEN {
            let forged = checked(flipped);
            let is_check = at >= bytes.len() - CHECK_LEN;
            let opened = open(&forged, &phrase("correct horse"));
            assert_eq!(opened.is_ok(), is_check, "byte {at}: {:?}", opened.err());
        }
    }
}

#[test]
fn another_version_and_other_files_are_named() {
    let mut later = sealed();
    later[18] = 2;
    assert_eq!(refused(&later), BackupError::Version(2));
    assert!(refused(&later).to_string().contains("format 2"));
    for other in [b"".as_slice(), b"s", b"PK\x03\x04", b"syncd keys 1\n"] {
        let expected = if MAGIC.starts_with(other) { BackupError::Truncated } else { BackupError::NotABackup };
        assert_eq!(refused(other), expected);
    }
}

#[test]
fn a_file_cannot_ask_for_more_work_than_we_would() {
    for (at, cost) in [(19, BACKUP_MEMORY_KIB_MAX + 1), (23, BACKUP_PASSES_MAX + 1), (23, 0), (19, 0)] {
        let mut dear = sealed();
        dear[at..at + 4].copy_from_slice(&cost.to_le_bytes());
        assert_eq!(refused(&checked(dear)), BackupError::Cost, "{cost} at {at}");
    }
    const { assert!(Cost::USUAL.memory_kib <= BACKUP_MEMORY_KIB_MAX && Cost::USUAL.passes <= BACKUP_PASSES_MAX) };
}

#[test]
fn what_is_no_identity_is_not_sealed() {
    let rows = [
        ("no files", vec![]),
        ("no identity", vec![file("realm", "x")]),
        ("an empty one", vec![file(IDENTITY_FILE, "")]),
        ("a short seed", vec![file(IDENTITY_FILE, "syncd keys 1\n2a2a\n")]),
        ("no hexadecimal", vec![file(IDENTITY_FILE, &format!("syncd keys 1\n+a{}\n", "2a".repeat(31)))]),
        ("too many files", (0..=BACKUP_FILES_MAX).map(|at| file(&format!("f{at}"), "")).chain([identity()]).collect()),
        ("too large", vec![identity(), file("realm", &"x".repeat(BACKUP_BYTES_MAX))]),
    ];
    for (story, files) in rows {
        let sealed = seal(&files, &phrase("correct horse"), CHEAP, SALT);
        assert_eq!(sealed.err(), Some(BackupError::Content), "{story}");
    }
}

#[test]
fn what_is_inside_is_parsed_with_care() {
    let inside = write_inside(&files()).expect("small");
    assert!(read_inside(&inside).expect("as written") == files());
    for len in 0..60 {
        assert!(read_inside(&inside[..len]).is_none(), "{len} bytes");
    }
    let mut trailing = inside.to_vec();
    *trailing.last_mut().expect("padded") = 1;
    assert!(read_inside(&trailing).is_none());
    let twice = [&[2][..], b"\x01a\0\0\0\0", b"\x01a\0\0\0\0"].concat();
    assert!(read_inside(&twice).is_none(), "one name twice");
    for name in ["", ".", "..", "a/b", "A", ".identity.1.tmp", "ä", &"x".repeat(33)] {
        assert!(KeyFile::new(name, Zeroizing::default()).is_none(), "{name}");
    }
}

#[test]
fn weak_passphrases_are_refused() {
    let rows = [
        ("", Some(WeakPassphrase::Empty)),
        ("   \t ", Some(WeakPassphrase::Empty)),
        ("1234567", Some(WeakPassphrase::Short(7))),
        ("  seven77  ", Some(WeakPassphrase::Short(7))),
        ("12345678", None),
        ("äöüäöüäö", None),
    ];
    for (text, expected) in rows {
        assert_eq!(phrase(text).check().err(), expected, "{text:?}");
    }
}
