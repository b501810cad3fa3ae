//! How each paired device is reached, and why not better: the answer of `GET net`. Only looks; the network decides.

use super::Node;
use super::status::via_word;
use crate::config::Lan;
use crate::control::Reply;
use crate::net::{Net, PeerStatus, Route, Session, Tried, Via};
use protocol::model::DeviceId;
use protocol::wire::control as api;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rates are what moved within this time.
const SAMPLE: Duration = Duration::from_millis(400);

/// A paired device, before the network was asked.
struct Known {
    id: DeviceId,
    name: String,
    session: Option<Session>,
    has_addresses: bool,
}

impl Node {
    /// Answers beside the loop: rates take a moment.
    pub(super) fn net_request(&self, reply: Reply<api::NetStatus>) {
        let settings = self.config.settings();
        let known = |pairing: &crate::keys::Pairing| Known {
            id: pairing.id(),
            name: pairing.name.clone(),
            session: self.peers.get(&pairing.id()).map(|peer| peer.session.clone()),
            has_addresses: !(pairing.addresses.is_empty() && pairing.learned.is_empty()),
        };
        let known: Vec<Known> = self.pairings.all().iter().map(known).collect();
        let seen = known.iter().filter_map(|known| known.session.as_ref()?.hello().observed);
        let mut seen_at: Vec<String> = seen.map(|address| address.ip().to_canonical().to_string()).collect();
        seen_at.sort();
        seen_at.dedup();
        let relays = settings.relays.iter().filter_map(|link| link.rsplit_once('@')).map(|(_, at)| at.to_owned());
        let mut status = api::NetStatus {
            listen: self.net.listening().iter().map(ToString::to_string).collect(),
            lan: settings.lan == Lan::Always,
            internet: settings.internet,
            router: None,
            table: None,
            seen_at,
            relaying: settings.relay,
            relays: self.relaying_devices().map(|name| format!("{name} (your device)")).chain(relays).collect(),
            devices: Vec::new(),
        };
        let net: Net = self.net.clone();
        tokio::spawn(async move {
            let before: Vec<(u64, u64)> = known.iter().map(moved).collect();
            tokio::time::sleep(SAMPLE).await;
            let outside = net.outside().await;
            if status.internet {
                (status.router, status.table) = (outside.router, outside.table);
                let seen = outside.seen.map(|ip| ip.to_string()).filter(|ip| !status.seen_at.contains(ip));
                status.seen_at.extend(seen);
            }
            let mut peers: BTreeMap<DeviceId, PeerStatus> =
                net.status().await.into_iter().map(|peer| (peer.peer, peer)).collect();
            for (known, before) in known.iter().zip(before) {
                if let Some(peer) = peers.remove(&known.id) {
                    status.devices.push(device(known, before, peer, &status));
                }
            }
            status.devices.sort_by(|a, b| a.name.cmp(&b.name));
            // The client may have hung up.
            let _ = reply.send(Ok(status));
        });
    }
}

fn moved(known: &Known) -> (u64, u64) {
    known.session.as_ref().map(Session::wire_bytes).unwrap_or_default()
}

fn device(known: &Known, before: (u64, u64), peer: PeerStatus, status: &api::NetStatus) -> api::NetDevice {
    let (why, hint) = why(known, &peer, status);
    let after = moved(known);
    let rate = |before: u64, after: u64| {
        after.saturating_sub(before) * 1000 / u64::try_from(SAMPLE.as_millis()).expect("a short time")
    };
    let path = peer.connected.map(|connected| {
        // Of another session than the one at hand the amounts say nothing.
        let same = known.session.as_ref().is_some_and(|session| session.id() == connected.session);
        let (before, after) = if same { (before, after) } else { Default::default() };
        api::NetPath {
            via: via_word(connected.via),
            address: connected.address.to_string(),
            since_ms: unix_ms(connected.since),
            rtt_us: connected.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            received_bps: rate(before.0, after.0),
            sent_bps: rate(before.1, after.1),
            received_bytes: after.0,
            sent_bytes: after.1,
        }
    });
    api::NetDevice {
        id: known.id.to_string(),
        name: known.name.clone(),
        paused: peer.paused,
        path,
        why,
        hint,
        next_try_s: peer.next_try.map(|wait| wait.as_secs()),
        tried: peer.tried.into_iter().map(tried).collect(),
    }
}

fn tried(tried: Tried) -> api::NetTried {
    api::NetTried { way: tried.route.to_string(), at_ms: unix_ms(tried.at), words: tried.words }
}

fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Why there is no path, or no better one; and what a person can do about it.
fn why(known: &Known, peer: &PeerStatus, status: &api::NetStatus) -> (Option<String>, Option<String>) {
    let open = format!(
        "forward TCP port 28730 to one of the two and give its public address: `syncctl device address {} HOST:28730`",
        known.name
    );
    match peer.connected {
        _ if peer.paused => (None, Some(format!("`syncctl device resume {}` ends the pause", known.name))),
        Some(connected) if connected.via == Via::Relay => {
            let failed = |route: &Tried| route.words.is_some() && !matches!(route.route, Route::Relay(_));
            let why = match peer.tried.iter().filter(|tried| failed(tried)).count() {
                0 => "a direct way is being sought",
                _ => "no direct way has led there yet: below is what was tried",
            };
            (Some(why.to_owned()), Some(open))
        }
        Some(_) => (None, None),
        None if peer.tried.is_empty() && !known.has_addresses && status.relays.is_empty() => {
            let heard = if status.lan { "it is not heard in the local network" } else { "discovery (`lan`) is off" };
            let why = format!("no address of it is known, {heard}, and no relay is set");
            let others =
                "use a relay: `syncctl config set relays LINK`; or let strangers help: `syncctl net internet on`";
            (Some(why), Some(format!("{open}; or {others}")))
        }
        None => (peer.last_error.clone().or_else(|| Some("it is being sought".to_owned())), None),
    }
}
