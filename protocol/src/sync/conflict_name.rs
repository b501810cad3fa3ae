//! Names of conflict copies: `stem.sync-conflict-YYYYMMDD-HHMMSS-HASH.ext`. A name follows from the loser alone,
//! so that all devices which resolve a conflict choose the same one. Nothing is ever deleted because of its name.

use crate::limits::COMPONENT_LEN_MAX;
use crate::model::{ContentHash, Mtime, RelPath};

/// Hex digits of the content hash: the first length whose name is free, or holds the same content, is taken.
pub const HASH_DIGITS: [usize; 3] = [7, 16, 64];

const MARK: &[u8] = b".sync-conflict-";
/// 10000-01-01T00:00:00Z.
const YEAR_10000_SECS: i64 = 253_402_300_800;

/// Names with the whole hash and a number, for when all names without hold something else: whoever edits a copy while
/// its conflict is being resolved takes its name away, again and again.
const NUMBERED_MAX: usize = 100;

/// The names that a copy beside `path` may have, best first; `hash` is its content's (`Content::identity`). None at
/// all where a longer path would not be valid.
pub fn conflict_paths(path: &RelPath, hash: &ContentHash, mtime: Mtime) -> impl Iterator<Item = RelPath> {
    let hash = hash.to_hex();
    let short = hash.clone();
    let plain = HASH_DIGITS.into_iter().map(move |digits| short[..digits].to_owned());
    let numbered = (2..=NUMBERED_MAX).map(move |number| format!("{hash}-{number}"));
    let names = plain.chain(numbered).map(move |ending| conflict_name(path.name(), mtime, &ending));
    names.filter_map(|name| path.with_name(&name).ok())
}

/// One conflict name, with `hash` at the end of its stem. The stem is cut at a character so that the whole fits into 255 bytes.
#[must_use]
pub fn conflict_name(name: &[u8], mtime: Mtime, hash: &str) -> Vec<u8> {
    let fixed = MARK.len() + 15 + 1 + hash.len();
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    // An extension so long that no stem would be left is none.
    let dot = dot.filter(|at| fixed + (name.len() - at) < COMPONENT_LEN_MAX);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let stem = cut_at_character(stem, COMPONENT_LEN_MAX - fixed - extension.len());
    [stem, MARK, utc_stamp(mtime.secs).as_bytes(), b"-", hash.as_bytes(), extension].concat()
}

/// The longest front of `name` within `len_max` bytes that does not split a UTF-8 character. Names that are not
/// UTF-8 are cut anywhere.
#[must_use]
pub fn cut_at_character(name: &[u8], len_max: usize) -> &[u8] {
    if name.len() <= len_max {
        return name;
    }
    let is_continuation = |at: usize| name[at] & 0b1100_0000 == 0b1000_0000;
    // A character has at most three continuation bytes.
    let start = (0..=3).filter_map(|back| len_max.checked_sub(back)).find(|at| !is_continuation(*at));
    &name[..start.unwrap_or(len_max)]
}

/// `YYYYMMDD-HHMMSS` in UTC; 1970 for years outside 1970-9999.
#[must_use]
pub fn utc_stamp(secs: i64) -> String {
    let secs = if (0..YEAR_10000_SECS).contains(&secs) { secs } else { 0 };
    let (year, month, day) = civil_from_days(secs / 86_400);
    let (hour, minute, second) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// The inverse of `utc_stamp`; `None` for anything it does not write.
#[must_use]
pub fn parse_utc_stamp(stamp: &[u8]) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = stamp.get(range)?;
        let valid = digits.iter().all(u8::is_ascii_digit);
        valid.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    let secs = days_from_civil(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    // A day, hour or minute that does not exist writes another stamp.
    (utc_stamp(secs).as_bytes() == stamp).then_some(secs)
}

/// Days since 1970-01-01 to year, month, day, for days >= 0 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The inverse, same source; `None` before 1970 and for months that are none.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    Some(era * 146_097 + of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "x".repeat(255);
        let accents = format!("{}.txt", "\u{e9}".repeat(125));
        let rows: [(&str, &str, i64, &str); 11] = [
            ("report.txt", "0123456", 0, "report.sync-conflict-19700101-000000-0123456.txt"),
            ("a.tar.gz", "0123456", 951_782_400, "a.tar.sync-conflict-20000229-000000-0123456.gz"),
            ("plain", "0123456", 1_700_000_000, "plain.sync-conflict-20231114-221320-0123456"),
            (".bashrc", "0123456", 1_700_000_000, ".bashrc.sync-conflict-20231114-221320-0123456"),
            (".a.b", "0123456", 1_700_000_000, ".a.sync-conflict-20231114-221320-0123456.b"),
            ("dot.", "0123456", 1_700_000_000, "dot.sync-conflict-20231114-221320-0123456."),
            ("old", "0123456", -1, "old.sync-conflict-19700101-000000-0123456"),
            ("late", "0123456", 253_402_300_799, "late.sync-conflict-99991231-235959-0123456"),
            ("later", "0123456", 253_402_300_800, "later.sync-conflict-19700101-000000-0123456"),
            (&long, "0123456", 0, &format!("{}.sync-conflict-19700101-000000-0123456", "x".repeat(217))),
            (&accents, "0123456", 0, &format!("{}.sync-conflict-19700101-000000-0123456.txt", "\u{e9}".repeat(106))),
        ];
        for (name, hash, secs, expected) in rows {
            let got = conflict_name(name.as_bytes(), Mtime::from_secs(secs), hash);
            assert_eq!(String::from_utf8(got).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn every_name_fits() {
        let hash = "f".repeat(64);
        for len in 1..=255 {
            for dot in 0..len {
                let mut name = vec![b'x'; len];
                name[dot] = b'.';
                for digits in HASH_DIGITS {
                    let got = conflict_name(&name, Mtime::from_secs(0), &hash[..digits]);
                    assert!(got.len() <= COMPONENT_LEN_MAX && got != name, "{len} {dot} {digits}");
                }
            }
        }
    }

    #[test]
    fn paths_keep_their_directory() {
        let path = RelPath::parse(b"a/b.txt").unwrap();
        let hash = ContentHash::of(b"t");
        let paths: Vec<RelPath> = conflict_paths(&path, &hash, Mtime::from_secs(0)).collect();
        let hash = hash.to_hex();
        let endings =
            HASH_DIGITS.map(|n| hash[..n].to_owned()).into_iter().chain([format!("{hash}-2"), format!("{hash}-3")]);
        let expected: Vec<_> = endings.map(|hash| format!("a/b.sync-conflict-19700101-000000-{hash}.txt")).collect();
        assert_eq!(paths[..5].iter().map(RelPath::display).collect::<Vec<_>>(), expected);
        let different: std::collections::BTreeSet<_> = paths.iter().collect();
        assert_eq!((paths.len(), different.len()), (102, 102));
    }

    #[test]
    fn stamps_parse_back() {
        for secs in (0..YEAR_10000_SECS).step_by(86_400 * 13 + 4_321) {
            assert_eq!(parse_utc_stamp(utc_stamp(secs).as_bytes()), Some(secs));
        }
        for bad in ["", "20230229-000000", "20231301-000000", "20230101-240000", "20230101x000000", "2023010-1000000"] {
            assert_eq!(parse_utc_stamp(bad.as_bytes()), None, "{bad}");
        }
    }
}
