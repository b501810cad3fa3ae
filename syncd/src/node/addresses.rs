//! Which addresses of a paired device are remembered: where it was met, and what it names itself on a session. What a
//! person typed is kept apart and never touched here. Invariant: at most `LEARNED_MAX`, and what was met last stays.

use super::Node;
use crate::keys::Pairing;
use crate::net::{SessionId, plausible};
use protocol::limits::WHEREABOUTS_ADDRESSES_MAX;
use protocol::model::DeviceId;
use protocol::wire::message::{Message, Whereabout, Whereabouts, capability};
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

/// The best of what was learned, to pass on.
fn known(learned: &[String]) -> Vec<SocketAddr> {
    learned.iter().filter_map(|address| address.parse().ok()).take(WHEREABOUTS_ADDRESSES_MAX).collect()
}

/// What is remembered once another member has named `addresses` of it: they fill what room there is, behind all that was learned
/// at first hand.
fn with_heard(learned: &[String], addresses: &[SocketAddr]) -> Vec<String> {
    let mut all = learned.to_vec();
    for address in addresses.iter().map(ToString::to_string) {
        if all.len() < LEARNED_MAX && !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

impl Node {
    /// A member hears where the others are, and the others where it is: two that never met find each other by the third.
    pub(super) fn tell_whereabouts(&self, id: &DeviceId) {
        self.tell_of_others(id);
        for other in self.peers.keys().filter(|other| *other != id) {
            self.pass_whereabouts(other, self.pairings.get(id));
        }
    }

    /// Where the others are.
    pub(super) fn tell_of_others(&self, id: &DeviceId) {
        let others = self.pairings.all().iter().filter(|pairing| pairing.id() != *id);
        self.pass_whereabouts(id, others);
    }

    fn pass_whereabouts<'a>(&self, to: &DeviceId, of: impl IntoIterator<Item = &'a Pairing>) {
        let Some(peer) = self.peers.get(to) else { return };
        let takes = peer.session.hello().capabilities & capability::WHEREABOUTS != 0;
        if !takes || self.member_role(to).is_none() {
            return;
        }
        let devices: Vec<Whereabout> = of
            .into_iter()
            .filter(|pairing| self.member_role(&pairing.id()).is_some())
            .map(|pairing| Whereabout { device: pairing.id(), addresses: known(&pairing.learned) })
            .filter(|whereabout| !whereabout.addresses.is_empty())
            .collect();
        if !devices.is_empty() {
            // Hints: the next session brings them again.
            let _ = peer.session.try_send(&Message::Whereabouts(Whereabouts { devices }));
        }
    }

    /// A member says where others are.
    pub(super) async fn whereabouts_told(&mut self, from: &DeviceId, whereabouts: &Whereabouts) {
        if self.member_role(from).is_none() {
            return;
        }
        for Whereabout { device, addresses } in &whereabouts.devices {
            let connected = self.peers.contains_key(device);
            if connected || *device == self.id || self.member_role(device).is_none() {
                continue;
            }
            let Some(pairing) = self.pairings.get(device) else { continue };
            let learned = with_heard(&pairing.learned, &plausible(addresses, None));
            self.remember(device, learned).await;
        }
    }

    /// A peer says where it can be reached: with that it is found again at another address or port.
    pub(super) async fn addresses_named(&mut self, session: SessionId, id: DeviceId, named: &[SocketAddr]) {
        let Some(on) = self.peers.get(&id).and_then(|peer| peer.session(session)) else { return };
        let seen = Some(on.address().ip()).filter(|_| on.via().shows_address());
        let Some(pairing) = self.pairings.get(&id) else { return };
        let learned = with_named(&pairing.learned, &plausible(named, seen));
        if self.remember(&id, learned).await {
            self.tell_whereabouts(&id);
        }
    }

    /// Saves what is known of a device's addresses and goes by it; whether that is news.
    async fn remember(&mut self, id: &DeviceId, learned: Vec<String>) -> bool {
        if self.pairings.get(id).is_none_or(|pairing| learned == pairing.learned) {
            return false;
        }
        if let Err(error) = self.pairings.update(id, |pairing| pairing.learned = learned) {
            tracing::warn!("the addresses of a device are not saved: {error:#}");
            return false;
        }
        if let Some(config) = self.pairings.get(id).map(|pairing| self.peer_config(pairing)) {
            self.net.set_addresses(*id, config.typed, config.learned).await;
            self.keep_ways().await;
        }
        true
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
    fn what_others_say_comes_last_and_only_where_there_is_room() {
        let heard = |learned: &[u16], heard: &[u16]| with_heard(&words(learned), &addresses(heard));
        assert_eq!(heard(&[1], &[2, 1, 3]), words(&[1, 2, 3]));
        assert_eq!(heard(&[1, 2, 3, 4, 5, 6, 7], &[8, 9]), words(&[1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(heard(&[], &[]), words(&[]));
    }

    #[test]
    fn where_a_device_was_met_comes_first() {
        let met = addresses(&[3])[0];
        assert_eq!(with_met(&words(&[1, 2, 3]), met), words(&[3, 1, 2]));
        assert_eq!(with_met(&words(&[1, 2, 4, 5, 6, 7, 8, 9]), met), words(&[3, 1, 2, 4, 5, 6, 7, 8]));
    }
}
