//! Which addresses of a paired device are remembered: where it was met, and what it names itself on a session. What a
//! person typed is kept apart and never touched here. Invariant: at most `LEARNED_MAX`, and what was met last stays.

use super::Node;
use crate::net::{SessionId, plausible};
use protocol::model::DeviceId;
use std::net::SocketAddr;

/// Addresses remembered of a device.
const LEARNED_MAX: usize = 8;
/// Of them may be named by the device itself. The rest is for where it was met, which it may not know: behind a router
/// its own addresses lead nowhere from afar.
const NAMED_MAX: usize = 6;

/// What is remembered once the device was met at `address`.
pub(super) fn with_met(learned: &[String], address: SocketAddr) -> Vec<String> {
    let address = address.to_string();
    let others = learned.iter().filter(|known| **known != address).cloned();
    std::iter::once(address.clone()).chain(others).take(LEARNED_MAX).collect()
}

/// What is remembered once the device has named `addresses`: new ones first, and what it no longer names goes first
/// when there are too many. The same again changes nothing.
fn with_named(learned: &[String], addresses: &[SocketAddr]) -> Vec<String> {
    let named: Vec<String> = addresses.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let fresh = named.iter().filter(|address| !learned.contains(address));
    let mut all: Vec<String> = fresh.chain(learned).cloned().collect();
    while all.len() > LEARNED_MAX {
        let last = all.iter().rposition(|address| !named.contains(address));
        all.remove(last.expect("fewer are named than remembered"));
    }
    all
}

impl Node {
    /// A peer says where it can be reached: with that it is found again at another address or port.
    pub(super) async fn addresses_named(&mut self, session: SessionId, id: DeviceId, named: &[SocketAddr]) {
        let Some(on) = self.peers.get(&id).and_then(|peer| peer.session(session)) else { return };
        let seen = Some(on.address().ip()).filter(|_| on.via().shows_address());
        let Some(pairing) = self.pairings.get(&id) else { return };
        let learned = with_named(&pairing.learned, &plausible(named, seen));
        if learned == pairing.learned {
            return;
        }
        if let Err(error) = self.pairings.update(&id, |pairing| pairing.learned = learned) {
            tracing::warn!("the addresses of a device are not saved: {error:#}");
            return;
        }
        if let Some(config) = self.pairings.get(&id).map(|pairing| self.peer_config(pairing)) {
            self.net.set_addresses(id, config.typed, config.learned).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([192, 0, 2, 1], *port))).collect()
    }

    fn words(ports: &[u16]) -> Vec<String> {
        addresses(ports).iter().map(ToString::to_string).collect()
    }

    fn check(name: &str, learned: &[u16], named: &[u16], expected: &[u16]) {
        let found = with_named(&words(learned), &addresses(named));
        assert_eq!(found, words(expected), "{name}");
        assert_eq!(with_named(&found, &addresses(named)), found, "{name}: said again");
    }

    #[test]
    fn what_a_device_names() {
        check("the first", &[], &[1, 2], &[1, 2]);
        check("nothing", &[1, 2], &[], &[1, 2]);
        check("the same in another order", &[1, 2, 3], &[3, 1], &[1, 2, 3]);
        check("a new port comes first, the old one stays for now", &[1, 2], &[3, 2], &[3, 1, 2]);
        check("more than may be named", &[9], &[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2, 3, 4, 5, 6, 9]);
        check(
            "too many: the last that it no longer names goes",
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &[9, 8],
            &[9, 1, 2, 3, 4, 5, 6, 8],
        );
        check("more were kept before", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[1], &[1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn where_a_device_was_met_comes_first() {
        let met = addresses(&[3])[0];
        assert_eq!(with_met(&words(&[1, 2, 3]), met), words(&[3, 1, 2]));
        assert_eq!(with_met(&words(&[1, 2, 4, 5, 6, 7, 8, 9]), met), words(&[3, 1, 2, 4, 5, 6, 7, 8]));
    }
}
