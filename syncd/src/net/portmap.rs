//! Asks the router for a port on its outside that leads to ours, while `internet` is on: PCP (RFC 6887), NAT-PMP (RFC 6886), then UPnP's
//! IGD. An open port is safe to have: whoever does not know a pair's secret hears nothing there.
//! Invariants: nobody but the default gateway is asked; what was asked for is given back when the switch goes off or the daemon
//! stops; the description that a router shows says nothing of this program.

use super::lan::{Interface, interfaces};
use crab_nat::{
    GatewayAddress, InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp,
};
use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{PortMappingProtocol, SearchOptions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How long a mapping lasts unless it is renewed, in seconds; it is renewed at half of that.
const LEASE_S: u32 = 3600;
/// A router that gives nothing is asked again after so long.
const REFUSED: Duration = Duration::from_secs(600);
/// Routers answer within milliseconds; three tries: 0.25, 0.5, 1 s.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// A search by UPnP, and each request to what it found.
const UPNP: Duration = Duration::from_secs(4);
/// What a router lists it as.
const DESCRIPTION: &str = "p2p";

/// What is wanted of the router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) on: bool,
    /// The port that we listen on with IPv4.
    pub(super) port: Option<u16>,
    /// Counts changes of network: each one asks anew.
    pub(super) bursts: u64,
}

/// What came of it.
pub(super) enum Mapped {
    /// The port that leads to ours, and how it came about.
    At(SocketAddr, &'static str),
    /// There is none; why.
    Not(String),
}

/// A mapping that has to be given back.
enum Held {
    Pcp(PortMapping),
    Upnp(Gateway<Tokio>, u16),
}

/// Keeps a mapping while it is wanted, until `stop`.
pub(super) async fn run(mut wanted: watch::Receiver<Wanted>, news: mpsc::Sender<Mapped>, stop: CancellationToken) {
    let mut held: Option<Held> = None;
    let mut next = Instant::now();
    let mut now = *wanted.borrow_and_update();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = wanted.changed() => {
                if changed.is_err() {
                    break;
                }
                now = *wanted.borrow_and_update();
                give_back(held.take()).await;
                next = Instant::now();
                if !now.on {
                    // The receiver is gone only at shutdown.
                    let _ = news.send(Mapped::Not("it is switched off".to_owned())).await;
                }
            }
            () = sleep_until(next), if now.on => {
                let mapped = tokio::select! {
                    () = stop.cancelled() => break,
                    mapped = renew(held.take(), now.port) => mapped,
                };
                let (mapped, wait) = match mapped {
                    Ok((mapping, at, how)) => {
                        held = Some(mapping);
                        (Mapped::At(at, how), Duration::from_secs(u64::from(LEASE_S) / 2))
                    }
                    Err(words) => (Mapped::Not(words), REFUSED),
                };
                next = Instant::now() + wait;
                // As above.
                let _ = news.send(mapped).await;
            }
        }
    }
    give_back(held).await;
}

/// A mapping from now on. The one before is asked for again, at the same port if the router lets it be.
async fn renew(held: Option<Held>, port: Option<u16>) -> Result<(Held, SocketAddr, &'static str), String> {
    let port = port.and_then(NonZeroU16::new).ok_or("this device listens on no IPv4 port")?;
    let (gateway, own) = gateway().ok_or("this device knows no router")?;
    let before = match &held {
        Some(Held::Pcp(mapping)) => Some(mapping.external_port()),
        Some(Held::Upnp(_, external)) => NonZeroU16::new(*external),
        None => None,
    };
    let external = before.unwrap_or(port);
    match pcp(gateway, own, port, external).await {
        Ok(mapped) => Ok(mapped),
        Err(pcp) => upnp(gateway, own, port, external).await.map_err(|upnp| format!("{pcp}; {upnp}")),
    }
}

async fn pcp(
    gateway: Ipv4Addr,
    own: Ipv4Addr,
    port: NonZeroU16,
    external: NonZeroU16,
) -> Result<(Held, SocketAddr, &'static str), String> {
    let router = GatewayAddress::from(gateway);
    let options = PortMappingOptions {
        external_port: Some(external),
        lifetime_seconds: Some(LEASE_S),
        timeout_config: Some(PATIENCE),
    };
    let mapped = PortMapping::new(router, own.into(), InternetProtocol::Tcp, port, options).await;
    let mapping = mapped.map_err(|error| format!("the router gives no port by {error}"))?;
    let (ip, how) = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => (external_ip, "PCP"),
        PortMappingType::NatPmp => {
            let asked = natpmp::external_address(router, Some(PATIENCE)).await;
            (IpAddr::V4(asked.map_err(|error| format!("the router does not say its address: {error}"))?), "NAT-PMP")
        }
    };
    let at = SocketAddr::new(ip.to_canonical(), mapping.external_port().get());
    Ok((Held::Pcp(mapping), at, how))
}

async fn upnp(
    gateway: Ipv4Addr,
    own: Ipv4Addr,
    port: NonZeroU16,
    external: NonZeroU16,
) -> Result<(Held, SocketAddr, &'static str), String> {
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddr::new(own.into(), 0);
    options.timeout = Some(UPNP);
    options.allowed_gateway_ips = vec![gateway.into()];
    let missing = |error: &dyn std::fmt::Display| format!("nor by UPnP: {error}");
    let router = search_gateway(options).await.map_err(|error| missing(&error))?;
    let local = SocketAddr::new(own.into(), port.get());
    let add = router.add_port(PortMappingProtocol::TCP, external.get(), local, LEASE_S, DESCRIPTION);
    timeout(UPNP, add).await.map_err(|error| missing(&error))?.map_err(|error| missing(&error))?;
    let ip = timeout(UPNP, router.get_external_ip()).await;
    let held = Held::Upnp(router, external.get());
    match ip {
        Ok(Ok(ip)) => Ok((held, SocketAddr::new(ip.to_canonical(), external.get()), "UPnP")),
        _ => {
            give_back(Some(held)).await;
            Err("nor by UPnP: the router does not say its address".to_owned())
        }
    }
}

/// A router that does not take it back lets it lapse.
async fn give_back(held: Option<Held>) {
    match held {
        Some(Held::Pcp(mapping)) => drop(mapping.try_drop().await),
        Some(Held::Upnp(router, port)) => {
            let _ = timeout(UPNP, router.remove_port(PortMappingProtocol::TCP, port)).await;
        }
        None => {}
    }
}

/// The default router of IPv4, and our address in its network.
fn gateway() -> Option<(Ipv4Addr, Ipv4Addr)> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let gateway = default_route(&routes)?;
    let near = |interface: &Interface| interface.reaches(gateway.into());
    let own = interfaces().into_iter().find(near)?;
    match own.ip {
        IpAddr::V4(own) => Some((gateway, own)),
        IpAddr::V6(_) => None,
    }
}

/// The gateway of the default route of lowest metric, from the text of /proc/net/route: interface, destination, gateway, flags,
/// reference count, use, metric, mask; addresses in hexadecimal, in the byte order of the machine.
fn default_route(routes: &str) -> Option<Ipv4Addr> {
    let default = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", gateway, _, _, _, metric, "00000000", ..] = fields.as_slice() else { return None };
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|gateway| *gateway != 0)?;
        Some((metric.parse::<u32>().ok()?, Ipv4Addr::from(gateway.to_ne_bytes())))
    };
    routes.lines().filter_map(default).min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_of_lowest_metric_counts() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let wlan = "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n";
        let wire = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        let near = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        let tunnel = "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n";
        let of = |lines: &[&str]| default_route(&(head.to_owned() + &lines.concat()));
        assert_eq!(of(&[wlan, wire, near]), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(of(&[near, wlan]), Some(Ipv4Addr::new(192, 168, 2, 1)));
        assert_eq!(of(&[near, tunnel]), None, "a tunnel has no router to ask");
        assert_eq!(of(&[]), None);
    }
}
