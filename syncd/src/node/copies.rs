//! Identities that two devices run with at one time: one was restored, or stolen, while the first goes on. The network
//! refuses the second of two; here a person hears of it, on the device that refuses, on the one that is refused and on the
//! one that stays.

use super::Node;
use crate::control::NewEvent;
use protocol::model::DeviceId;
use protocol::wire::control as api;
use protocol::wire::control::EventKind;
use protocol::wire::message::{CloseCode, Message, capability};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A device that was refused tries again every ten minutes or so: one that has not come for so long has gone.
const SHOWN: Duration = Duration::from_secs(45 * 60);
/// For programs.
const CODE: &str = "identity_copied";

/// What was seen lately, by the device that it was seen with or by.
#[derive(Default)]
pub(super) struct Copies(BTreeMap<DeviceId, Sighting>);

struct Sighting {
    words: String,
    since_ms: u64,
    latest: Instant,
}

impl Copies {
    /// Whether nobody has heard of it yet.
    fn note(&mut self, peer: DeviceId, words: &str, now: Instant, wall_ms: u64) -> bool {
        let is_new = self.0.get(&peer).is_none_or(|sighting| sighting.words != words);
        if is_new {
            self.0.insert(peer, Sighting { words: words.to_owned(), since_ms: wall_ms, latest: now });
        } else if let Some(sighting) = self.0.get_mut(&peer) {
            sighting.latest = now;
        }
        is_new
    }

    /// Forgets what was not seen again for long. Whether there was any.
    fn expire(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|_, sighting| now.saturating_duration_since(sighting.latest) < SHOWN);
        self.0.len() < before
    }

    /// For `status`.
    pub(super) fn problems(&self) -> impl Iterator<Item = api::Problem> {
        self.0.values().map(|sighting| api::Problem {
            at: None,
            code: CODE.to_owned(),
            words: sighting.words.clone(),
            since_ms: sighting.since_ms,
            needs_person: true,
        })
    }
}

impl Node {
    /// A second device came with the identity of a connected one.
    pub(super) fn copy_came(&mut self, peer: DeviceId) {
        let words = words_of_a_peer(&self.device_name(&peer));
        self.copy_noted(peer, &words);
        // The one that stays would hear of it nowhere else, and may be the true one.
        if let Some(known) = self.peers.get(&peer)
            && known.session.hello().capabilities & capability::TWINS != 0
            && known.session.try_send(&Message::Twin).is_err()
        {
            known.session.close(CloseCode::BUSY);
        }
    }

    /// A peer has refused another device that came with the identity of this one.
    pub(super) fn twin_came(&mut self, peer: DeviceId) {
        let words = words_of_a_twin(&self.device_name(&peer));
        self.copy_noted(peer, &words);
    }

    /// A peer refuses this device, since another one is there with the same identity.
    pub(super) fn copy_refused(&mut self, peer: DeviceId) {
        let words = words_of_ours(&self.device_name(&peer));
        self.copy_noted(peer, &words);
    }

    fn copy_noted(&mut self, peer: DeviceId, words: &str) {
        if self.copies.note(peer, words, Instant::now(), super::wall_ms()) {
            tracing::warn!(peer = %peer.short(), "two devices run with one identity");
            let event = NewEvent::new(EventKind::Problem, words.to_owned());
            self.hub.publish(event.device(api::Named { id: peer.to_string(), name: self.device_name(&peer) }));
        }
    }

    /// Forgets copies that have gone.
    pub(super) fn expire_copies(&mut self) {
        if self.copies.expire(Instant::now()) {
            let words = "no second device with the same identity has been seen for a while";
            self.hub.publish(NewEvent::new(EventKind::ProblemSolved, words));
        }
    }
}

fn words_of_a_peer(name: &str) -> String {
    format!(
        "two devices run as {name}: its identity was restored from a backup or copied, and both are alive. The second is \
         refused, which may be the true one. Stop one for good; to keep both, stop one, move the directory `keys` out of \
         its home, start it and pair it as a new device. If one is not yours: `syncctl device remove {name}`"
    )
}

fn words_of_ours(name: &str) -> String {
    format!(
        "{name} refuses this device: another one runs with the same identity, which was restored from a backup or copied. \
         Stop one of the two for good; to keep both, stop one, move the directory `keys` out of its home, start it and pair \
         it as a new device. Not `syncctl realm leave`: that would shut both out"
    )
}

fn words_of_a_twin(name: &str) -> String {
    format!(
        "another device runs with the identity of this one, which was restored from a backup or copied: {name} has refused it. \
         Stop one of the two for good; to keep both, stop one, move the directory `keys` out of its home, start it and pair \
         it as a new device. If it is not yours, `syncctl realm leave` here shuts both out; then pair this device anew"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_told_of_once_and_shown_until_it_has_gone() {
        let (now, peer) = (Instant::now(), DeviceId([1; 32]));
        let mut copies = Copies::default();
        assert!(copies.note(peer, "two", now, 5));
        assert!(!copies.note(peer, "two", now + SHOWN / 2, 6), "the same again");
        assert!(!copies.expire(now + SHOWN), "it came again meanwhile");
        assert_eq!(copies.problems().map(|problem| problem.since_ms).collect::<Vec<_>>(), [5]);
        assert!(copies.note(peer, "other words", now + SHOWN, 7));
        assert!(copies.expire(now + 2 * SHOWN) && copies.problems().next().is_none());
        assert!(!copies.expire(now + 3 * SHOWN));
    }
}
