//! Where a counterpart is awaited: at which relays, and under which tokens.

use crate::net::backoff::Backoff;
use crate::net::config::WayId;
use protocol::limits::RELAY_EPOCH_SECS;
use protocol::wire::kdf::UnixSeconds;
use protocol::wire::pair::relay_epoch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// Around a token's edge both epochs are awaited, clocks permitting.
const EDGE_SECS: u64 = 600;

/// A relay, and a token: of which epoch, and whether of the secret before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::net) struct Place {
    pub(super) relay: WayId,
    pub(super) epoch: u64,
    pub(super) before: bool,
}

/// A wait at one of them.
pub(super) struct Waiting {
    pub(super) running: bool,
    /// The relay let us in and nothing has failed since.
    pub(super) answers: Arc<AtomicBool>,
    /// It failed since it last let us in.
    pub(super) failed: bool,
    pub(super) stop: CancellationToken,
    pub(super) backoff: Backoff,
}

impl Waiting {
    /// The relay does not let us in at present.
    pub(super) fn is_silent(&self) -> bool {
        self.failed && !self.answers.load(Ordering::Relaxed)
    }
}

/// Relays in their order up to the first `count` that are not silent. Silent ones among them are asked again, so that both ends of
/// a pair come back to the same ones.
pub(super) fn first_that_answer<T>(all: impl Iterator<Item = T>, silent: impl Fn(&T) -> bool, count: usize) -> Vec<T> {
    let mut answering = 0;
    all.take_while(|at| {
        let wanted = answering < count;
        answering += usize::from(!silent(at));
        wanted
    })
    .collect()
}

/// The places where a counterpart is awaited at `now`: the present epoch, and its neighbour near an edge; under the first token, or
/// both.
pub(super) fn places(relays: &[WayId], tokens: usize, now: UnixSeconds) -> Vec<Place> {
    let epoch = relay_epoch(now);
    let into = now.0 % RELAY_EPOCH_SECS;
    let mut epochs = vec![epoch];
    if into < EDGE_SECS && epoch > 0 {
        epochs.push(epoch - 1);
    }
    if into >= RELAY_EPOCH_SECS - EDGE_SECS {
        epochs.push(epoch + 1);
    }
    let of_epoch = |relay| epochs.iter().map(move |&epoch| Place { relay, epoch, before: false });
    let all: Vec<Place> = relays.iter().copied().flat_map(of_epoch).collect();
    [false, true]
        .into_iter()
        .take(tokens)
        .flat_map(|before| all.iter().map(move |place| Place { before, ..*place }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::config::RelayWay;
    use protocol::wire::kdf::Secret32;
    use protocol::wire::relay::RelayLink;

    fn way(number: u8) -> WayId {
        let at = "192.0.2.1:28731".parse().expect("an endpoint");
        RelayWay::from(RelayLink { relay_x: [number; 32], access_key: Secret32::new([1; 32]), at }).id
    }

    #[test]
    fn both_epochs_are_awaited_near_an_edge() {
        let epochs =
            |secs| -> Vec<u64> { places(&[way(0)], 1, UnixSeconds(secs)).iter().map(|place| place.epoch).collect() };
        assert_eq!(epochs(10 * RELAY_EPOCH_SECS + 3600), [10]);
        assert_eq!(epochs(10 * RELAY_EPOCH_SECS + 5), [10, 9]);
        assert_eq!(epochs(11 * RELAY_EPOCH_SECS - 5), [10, 11]);
        assert_eq!(places(&[way(0), way(3)], 1, UnixSeconds(3600)).len(), 2);
        assert_eq!(places(&[way(0), way(3)], 2, UnixSeconds(3600)).iter().filter(|place| place.before).count(), 2);
        assert!(places(&[], 2, UnixSeconds(3600)).is_empty());
    }

    #[test]
    fn relays_that_do_not_answer_are_not_counted() {
        let first = |silent: &[usize]| first_that_answer(0..4, |at| silent.contains(at), 2);
        assert_eq!(first(&[]), [0, 1]);
        assert_eq!(first(&[0]), [0, 1, 2]);
        assert_eq!(first(&[1, 2]), [0, 1, 2, 3]);
        assert_eq!(first(&[3]), [0, 1]);
        assert_eq!(first(&[0, 1, 2, 3]), [0, 1, 2, 3]);
    }
}
