//! Which addresses are worth dialling. What a peer says about itself must not make us knock on arbitrary hosts.

use super::lan::Interface;
use protocol::limits::ADDRESSES_MAX;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Lowest port that a peer may name: nobody's mail server gets our knocks.
const PORT_MIN: u16 = 1024;

/// Addresses named by a device that we see at `seen`, of which at most `ADDRESSES_MAX` are kept, in their order.
/// Loopback counts only between two daemons of one machine.
#[must_use]
pub fn plausible(named: &[SocketAddr], seen: Option<IpAddr>) -> Vec<SocketAddr> {
    let same_host = seen.is_some_and(|ip| ip.to_canonical().is_loopback());
    let mut kept: Vec<SocketAddr> = Vec::new();
    for address in named {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let fits = is_dialable(address.ip()) && (same_host || !address.ip().is_loopback());
        if fits && address.port() >= PORT_MIN && !kept.contains(&address) && kept.len() < ADDRESSES_MAX {
            kept.push(address);
        }
    }
    kept
}

/// Unicast, and not of a kind that means something else on every host.
fn is_dialable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let this_network = v4.octets()[0] == 0;
            !(this_network || v4.is_link_local() || v4.is_multicast() || v4 == Ipv4Addr::BROADCAST)
        }
        // A link-local address means nothing without the interface, which does not travel.
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

/// Whether an address that a peer named may be dialled from here: a private one means another machine in every
/// network, so it counts only within a network that we are in.
pub(super) fn is_within_reach(ip: IpAddr, near: &[Interface]) -> bool {
    let private = match ip {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    };
    !private || near.iter().any(|interface| interface.reaches(ip))
}

/// Where we can be reached, for ADDRESSES: what we listen on, with the addresses of our interfaces in place of
/// "all of them". Private addresses travel too: inside a session only the peer sees them.
pub(super) fn announced(listening: &[SocketAddr], interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for listen in listening {
        if listen.ip().is_unspecified() {
            let dual = listen.is_ipv6() && !listening.iter().any(SocketAddr::is_ipv4);
            let fits = |ip: &&IpAddr| (ip.is_ipv4() == listen.is_ipv4() || dual) && !ip.is_loopback();
            all.extend(interfaces.iter().filter(fits).map(|ip| SocketAddr::new(*ip, listen.port())));
        } else {
            all.push(*listen);
        }
    }
    all.retain(|address| is_dialable(address.ip()));
    // Whatever can be reached from afar first.
    all.sort_by_key(|address| address.ip().is_loopback());
    all.dedup();
    all.truncate(ADDRESSES_MAX);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, named: &str, seen: Option<&str>, kept: bool) {
        let named: SocketAddr = named.parse().expect("an address");
        let seen = seen.map(|ip| ip.parse().expect("an address"));
        assert_eq!(!plausible(&[named], seen).is_empty(), kept, "{name}");
    }

    #[test]
    fn what_a_peer_may_name() {
        check("public", "203.0.113.5:28730", None, true);
        check("private", "192.168.1.7:28730", None, true);
        check("loopback from afar", "127.0.0.1:28730", Some("192.168.1.7"), false);
        check("loopback on this machine", "127.0.0.1:28730", Some("127.0.0.1"), true);
        check("mapped loopback from afar", "[::ffff:127.0.0.1]:28730", None, false);
        check("this network", "0.0.0.0:28730", None, false);
        check("link-local", "169.254.1.1:28730", None, false);
        check("multicast", "239.255.83.89:28730", None, false);
        check("a well-known port", "203.0.113.5:25", None, false);
        check("v6 link-local", "[fe80::1]:28730", None, false);
        check("v6", "[2001:db8::1]:28730", None, true);
    }

    #[test]
    fn private_addresses_count_only_nearby() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let near = [Interface { ip: ip("192.168.1.20"), index: 2, prefix_len: 24 }];
        let rows = [("192.168.1.7", true), ("192.168.2.7", false), ("10.0.0.1", false), ("203.0.113.1", true)];
        for (address, expected) in rows {
            assert_eq!(is_within_reach(ip(address), &near), expected, "{address}");
        }
        assert!(!is_within_reach(ip("fd00::1"), &near) && is_within_reach(ip("2001:db8::1"), &near));
        assert!(is_within_reach(ip("127.0.0.1"), &[]), "our own machine");
    }

    #[test]
    fn all_interfaces_stand_for_each() {
        let interfaces: Vec<IpAddr> =
            ["127.0.0.1", "192.168.1.7", "2001:db8::1"].map(|ip| ip.parse().expect("an address")).to_vec();
        let listening: Vec<SocketAddr> = vec!["0.0.0.0:5000".parse().expect("an address")];
        assert_eq!(announced(&listening, &interfaces), ["192.168.1.7:5000".parse().expect("an address")]);
        let both: Vec<SocketAddr> = vec!["[::]:5000".parse().expect("an address")];
        assert_eq!(announced(&both, &interfaces).len(), 2);
    }
}
