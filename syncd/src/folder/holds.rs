//! What waits for a person: since when, when that person is reminded, and the words for it. Nothing here ends a hold.

use protocol::model::{DeviceId, Timestamp};
use protocol::sync::engine::{HeldWhat, Hold};
use std::time::Duration;

/// After this a person is told again of what is still held.
const REMIND_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

struct Known {
    what: HeldWhat,
    peer: Option<DeviceId>,
    /// Unix seconds.
    since: i64,
    remind_at: Timestamp,
}

impl Known {
    fn is(&self, hold: &Hold) -> bool {
        self.what == hold.what && self.peer == hold.peer
    }
}

/// The holds of one folder, as this run knows them.
#[derive(Default)]
pub(super) struct Holds(Vec<Known>);

impl Holds {
    /// Takes in what is held now; what a person has to be reminded of. `wall` in Unix seconds, for people.
    pub(super) fn update(&mut self, held: &[Hold], now: Timestamp, wall: i64) -> Vec<Hold> {
        self.0.retain(|known| held.iter().any(|hold| known.is(hold)));
        let mut due = Vec::new();
        for hold in held {
            match self.0.iter_mut().find(|known| known.is(hold)) {
                Some(known) if known.remind_at <= now => {
                    known.remind_at = now.after(REMIND_AFTER);
                    due.push(hold.clone());
                }
                Some(_) => {}
                None => {
                    let (what, peer) = (hold.what, hold.peer);
                    self.0.push(Known { what, peer, since: wall, remind_at: now.after(REMIND_AFTER) });
                }
            }
        }
        due
    }

    /// Unix seconds.
    pub(super) fn since(&self, hold: &Hold) -> Option<i64> {
        self.0.iter().find(|known| known.is(hold)).map(|known| known.since)
    }

    /// When the next reminder is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.iter().map(|known| known.remind_at).min()
    }
}

/// What happened, for people. `device` is the name of the peer.
#[must_use]
pub fn held_words(hold: &Hold, device: &str) -> String {
    let (files, of) = (number(hold.files), number(hold.of));
    match hold.what {
        HeldWhat::DeletionsHere => format!("{files} of {of} files were deleted here and are not passed on"),
        HeldWhat::RestoredHere => {
            format!(
                "{files} of {of} files went back to older contents here, as if restored from a backup, and are not passed on"
            )
        }
        HeldWhat::SuspectHere => {
            format!(
                "the bytes of {files} of {of} files changed on this disk though nobody wrote them, and are not passed on"
            )
        }
        HeldWhat::DeletionsThere => format!("{files} of {of} files were deleted by {device} and are still here"),
        HeldWhat::ReplacementsThere => {
            format!("{files} of {of} files got new contents from {device} and are unchanged here")
        }
    }
}

/// What the two answers to it do, for people.
#[must_use]
pub fn answers_words(hold: &Hold, folder: &str) -> String {
    let reject = match hold.what {
        HeldWhat::DeletionsHere => "fetches them back",
        HeldWhat::RestoredHere => "fetches the newer ones back",
        HeldWhat::SuspectHere => "fetches the recorded ones back",
        HeldWhat::DeletionsThere => "keeps them and gives them back",
        HeldWhat::ReplacementsThere => "keeps what is here and gives it back",
    };
    format!("`syncctl folder approve {folder}` lets that happen, `reject` {reject}")
}

/// What an answer did, for people.
#[must_use]
pub fn answered_words(hold: &Hold, device: &str, approved: bool) -> String {
    let files = number(hold.files);
    match (hold.what, approved) {
        (HeldWhat::DeletionsHere, true) => format!("the deletion of {files} files is passed on"),
        (HeldWhat::DeletionsHere, false) => format!("{files} deleted files are fetched back"),
        (HeldWhat::RestoredHere, true) => format!("the older contents of {files} files are passed on"),
        (HeldWhat::RestoredHere, false) => format!("the newer contents of {files} files are fetched back"),
        (HeldWhat::SuspectHere, true) => format!("{files} files are passed on as they are on this disk"),
        (HeldWhat::SuspectHere, false) => format!("the recorded contents of {files} files are fetched back"),
        (HeldWhat::DeletionsThere, true) => format!("{files} files that {device} deleted are deleted here"),
        (HeldWhat::DeletionsThere, false) => format!("{files} files that {device} deleted stay, and go back to it"),
        (HeldWhat::ReplacementsThere, true) => format!("{files} files take the contents that {device} gave them"),
        (HeldWhat::ReplacementsThere, false) => {
            format!("{files} files that {device} changed stay as they are here, and go back to it")
        }
    }
}

/// `1,204`.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(what: HeldWhat, files: u64) -> Hold {
        let peer = (!matches!(what, HeldWhat::DeletionsHere | HeldWhat::RestoredHere | HeldWhat::SuspectHere))
            .then_some(DeviceId([7; 32]));
        Hold { what, peer, files, of: 3000, sample: Vec::new() }
    }

    #[test]
    fn a_person_is_reminded_every_seven_days_of_what_is_still_held() {
        const DAY: i64 = 24 * 3600;
        let at = |day: i64| Timestamp(day.unsigned_abs() * 24 * 3600 * 1000);
        let (deleted, replaced) = (hold(HeldWhat::DeletionsThere, 1600), hold(HeldWhat::ReplacementsThere, 2800));
        let mut holds = Holds::default();
        let both = [deleted.clone(), replaced.clone()];
        for (day, held, reminded, since) in [
            (0, &both[..1], 0, Some(0)),
            (3, &both[..], 0, Some(0)),
            (6, &both[..], 0, Some(0)),
            (7, &both[..], 1, Some(0)),
            (8, &both[..], 0, Some(0)),
            (10, &both[..], 1, Some(0)),
            (12, &both[1..], 0, None),
            (13, &both[..], 0, Some(13)),
            (14, &both[..], 0, Some(13)),
            (17, &both[..], 1, Some(13)),
            (20, &both[..], 1, Some(13)),
        ] {
            assert_eq!(holds.update(held, at(day), day * DAY).len(), reminded, "day {day}");
            assert_eq!(holds.since(&deleted), since.map(|day| day * DAY), "day {day}");
        }
        assert_eq!(holds.next(), Some(at(24)));
        let set_back = holds.update(&both, at(24), -3650 * DAY);
        assert_eq!(set_back.len(), 1, "a clock that was set back hides nothing");
        assert!(holds.update(&[], at(25), 25 * DAY).is_empty());
        assert_eq!(holds.next(), None);
    }

    #[test]
    fn a_hold_says_what_happened_and_what_answers_it() {
        for (what, expected) in [
            (
                HeldWhat::DeletionsHere,
                "1,600 of 3,000 files were deleted here and are not passed on: `syncctl folder approve docs` lets that \
                 happen, `reject` fetches them back",
            ),
            (
                HeldWhat::RestoredHere,
                "1,600 of 3,000 files went back to older contents here, as if restored from a backup, and are not passed \
                 on: `syncctl folder approve docs` lets that happen, `reject` fetches the newer ones back",
            ),
            (
                HeldWhat::DeletionsThere,
                "1,600 of 3,000 files were deleted by laptop and are still here: `syncctl folder approve docs` lets \
                 that happen, `reject` keeps them and gives them back",
            ),
            (
                HeldWhat::ReplacementsThere,
                "1,600 of 3,000 files got new contents from laptop and are unchanged here: `syncctl folder approve \
                 docs` lets that happen, `reject` keeps what is here and gives it back",
            ),
        ] {
            let hold = hold(what, 1600);
            assert_eq!(format!("{}: {}", held_words(&hold, "laptop"), answers_words(&hold, "docs")), expected);
        }
    }
}
