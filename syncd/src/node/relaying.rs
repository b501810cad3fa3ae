//! This device's port as a relay for the other devices of its realm, and their ports for this one. Keys are derived from the
//! secret of the realm's latest epoch, so nobody who was removed gets in, and nothing needs to be handed out.
//! Invariant: only members are let in, and only members' relays are used.

use super::Node;
use crate::keys::Pairing;
use crate::membership::Kept;
use crate::net::RelayWay;
use crate::relay::{RelayLimits, serve_beside};
use protocol::limits::PEERS_MAX;
use protocol::model::DeviceId;
use protocol::wire::message::{Message, capability};
use protocol::wire::relay::{Endpoint, OwnRelay};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What one device may have waiting: for each of the others, under two tokens of two epochs.
const PARKED_EACH: usize = PEERS_MAX * 4;
/// Devices that may do so at a time, and those of them behind one address.
const BUSY: usize = 16;
const BUSY_PER_IP: usize = 4;

/// Ports of devices that are relays.
#[derive(Default)]
pub(super) struct Relaying {
    here: Option<Here>,
    /// Members whose ports are relays.
    ways: Vec<RelayWay>,
}

/// The relay at our port.
struct Here {
    /// Of the secret that its keys are of.
    epoch: [u8; 32],
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Bounds for own devices: as many as there may be, and no rate, since it is their owner's connection.
fn limits() -> RelayLimits {
    RelayLimits {
        parked_per_key: PARKED_EACH * BUSY,
        parked_per_ip: PARKED_EACH * BUSY_PER_IP,
        splices_per_key: PEERS_MAX * PEERS_MAX / 2,
        knocks_per_second: 50,
        rate: 0,
        ..RelayLimits::default()
    }
}

impl Node {
    /// Opens, renews or closes the relay at our port, as the setting and the realm say.
    pub(super) fn keep_relaying(&mut self) {
        let is_member = |kept: &&Kept| kept.realm().members.contains_key(&self.id);
        let latest = self.membership.kept().filter(is_member).and_then(Kept::latest_secret);
        let wanted = latest.filter(|_| self.config.settings().relay).cloned();
        let epoch = wanted.as_ref().map(|secret| secret.epoch);
        if epoch == self.relaying.here.as_ref().map(|here| here.epoch) {
            return;
        }
        if let Some(before) = self.relaying.here.take() {
            before.stop.cancel();
        }
        let entrance = wanted.map(|secret| {
            let OwnRelay { seed, access_key } = OwnRelay::of(&secret.secret, &self.id);
            let stop = self.stop.child_token();
            let (entrance, task) = serve_beside(&seed, access_key, limits(), stop.clone());
            self.relaying.here = Some(Here { epoch: secret.epoch, stop, task });
            entrance
        });
        tracing::info!(open = entrance.is_some(), "a relay for the other devices, at this one's port");
        self.net.hand_over(entrance);
        for id in self.peers.keys() {
            self.tell_relaying(id);
        }
    }

    /// Nothing of it runs on.
    pub(super) async fn end_relaying(&mut self) {
        if let Some(here) = self.relaying.here.take() {
            here.stop.cancel();
            // It ended all the same.
            let _ = here.task.await;
        }
    }

    const fn is_relaying(&self) -> bool {
        self.relaying.here.is_some()
    }

    /// Says whether our port is a relay, to a member that understands it.
    pub(super) fn tell_relaying(&self, id: &DeviceId) {
        let Some(peer) = self.peers.get(id) else { return };
        let takes = peer.session.hello().capabilities & capability::OWN_RELAYS != 0;
        if takes && self.member_role(id).is_some() {
            // The next session says it again.
            let _ = peer.session.try_send(&Message::OwnRelay(self.is_relaying()));
        }
    }

    /// A device says whether its port is a relay. That counts while it is a member, which may be to come.
    pub(super) async fn relaying_told(&mut self, id: &DeviceId, relays: bool) {
        if self.pairings.get(id).is_none_or(|pairing| pairing.relays == relays) {
            return;
        }
        if let Err(error) = self.pairings.update(id, |pairing| pairing.relays = relays) {
            tracing::warn!("that a device is a relay is not saved: {error:#}");
            return;
        }
        self.keep_ways().await;
    }

    /// Tells the network of the members that are relays.
    pub(super) async fn keep_ways(&mut self) {
        let of_use = |pairing: &&Pairing| pairing.relays && !pairing.paused;
        let mut ways: Vec<RelayWay> =
            self.pairings.all().iter().filter(of_use).filter_map(|pairing| self.way(pairing)).collect();
        // Both ends of a pair use the first ones.
        ways.sort_by_key(RelayWay::device);
        if ways != self.relaying.ways {
            self.relaying.ways.clone_from(&ways);
            self.net.set_own_relays(ways).await;
        }
    }

    fn way(&self, pairing: &Pairing) -> Option<RelayWay> {
        let id = pairing.id();
        let secret = self.membership.kept()?.latest_secret()?;
        self.member_role(&id)?;
        let parsed = |addresses: &[String]| -> Vec<Endpoint> {
            addresses.iter().filter_map(|address| address.parse().ok()).collect()
        };
        let given = parsed(&pairing.addresses);
        let count = given.len();
        let mut endpoints = given.into_iter().chain(parsed(&pairing.learned));
        let link = OwnRelay::of(&secret.secret, &id).link(endpoints.next()?);
        let also = endpoints.collect();
        Some(RelayWay::of_device(id, link, also, count))
    }

    /// Members whose ports are relays, by name.
    pub(super) fn relaying_devices(&self) -> impl Iterator<Item = String> {
        self.relaying.ways.iter().filter_map(|way| way.device().map(|id| self.device_name(&id)))
    }
}
