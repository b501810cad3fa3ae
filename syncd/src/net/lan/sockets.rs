//! Multicast sockets of LAN discovery. Several daemons of one machine share the port; whatever interface or address
//! family refuses is left out and tried again later.

use if_addrs::IfAddr;
use protocol::wire::beacon::{GROUP_V4, GROUP_V6};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use tokio::net::UdpSocket;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::net) struct Interface {
    pub(in crate::net) ip: IpAddr,
    pub(in crate::net) index: u32,
    /// Bits of the address that its network has in common.
    pub(in crate::net) prefix_len: u8,
}

impl Interface {
    /// Whether `ip` belongs to the network behind this interface.
    pub(in crate::net) fn reaches(&self, ip: IpAddr) -> bool {
        let shared = match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            _ => return false,
        };
        shared >= u32::from(self.prefix_len)
    }
}

/// Addresses of this machine's interfaces that are up.
pub(in crate::net) fn interfaces() -> Vec<Interface> {
    let listed = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "listing network interfaces");
        Vec::new()
    });
    let entry = |listed: &if_addrs::Interface| {
        let prefix_len = match &listed.addr {
            IfAddr::V4(v4) => v4.prefixlen,
            IfAddr::V6(v6) => v6.prefixlen,
        };
        Interface { ip: listed.ip(), index: listed.index.unwrap_or(0), prefix_len }
    };
    // An interface that is down keeps its addresses, and nobody is reached by them.
    let mut all: Vec<Interface> = listed.iter().filter(|listed| listed.is_oper_up()).map(entry).collect();
    all.sort_unstable();
    all.dedup();
    all
}

pub(super) struct Sockets {
    port: u16,
    loopback_only: bool,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    interfaces: Vec<Interface>,
}

impl Sockets {
    pub(super) fn open(port: u16, loopback_only: bool) -> Self {
        let mut sockets = Self { port, loopback_only, v4: None, v6: None, interfaces: Vec::new() };
        sockets.rejoin();
        sockets
    }

    /// Looks at the interfaces again and joins the groups on new ones.
    pub(super) fn rejoin(&mut self) {
        let port = self.port;
        self.v4 = self.v4.take().or_else(|| listen(Ipv4Addr::UNSPECIFIED.into(), port));
        self.v6 = self.v6.take().or_else(|| listen(Ipv6Addr::UNSPECIFIED.into(), port));
        self.interfaces = interfaces().into_iter().filter(|interface| self.serves(interface)).collect();
        for interface in &self.interfaces {
            // Joining twice is an error that means all is well; an interface without multicast is none of ours.
            let _ = match (interface.ip, &self.v4, &self.v6) {
                (IpAddr::V4(ip), Some(v4), _) => v4.join_multicast_v4(GROUP_V4, ip),
                (IpAddr::V6(_), _, Some(v6)) => v6.join_multicast_v6(&GROUP_V6, interface.index),
                _ => Ok(()),
            };
        }
    }

    /// Loopback is for daemons that listen nowhere else; of IPv6 the link-local address speaks for an interface.
    fn serves(&self, interface: &Interface) -> bool {
        match interface.ip {
            ip if ip.is_loopback() || self.loopback_only => ip.is_loopback() && self.loopback_only,
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
    }

    pub(super) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Sends one datagram to the group of `from`'s family, out of `from`'s interface, with `from` as its source.
    pub(super) fn send(&self, from: &Interface, datagram: &[u8]) -> io::Result<()> {
        let (socket, to) = match from.ip {
            IpAddr::V4(ip) => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                socket.set_multicast_if_v4(&ip)?;
                socket.set_multicast_ttl_v4(1)?;
                socket.set_multicast_loop_v4(true)?;
                socket.bind(&SocketAddr::new(from.ip, 0).into())?;
                (socket, SocketAddr::new(GROUP_V4.into(), self.port))
            }
            IpAddr::V6(ip) => {
                let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
                socket.set_multicast_if_v6(from.index)?;
                socket.set_multicast_hops_v6(1)?;
                socket.set_multicast_loop_v6(true)?;
                let scope = if ip.is_unicast_link_local() { from.index } else { 0 };
                socket.bind(&SocketAddr::V6(SocketAddrV6::new(ip, 0, 0, scope)).into())?;
                (socket, SocketAddr::V6(SocketAddrV6::new(GROUP_V6, self.port, 0, from.index)))
            }
        };
        socket.set_nonblocking(true)?;
        socket.send_to(datagram, &SockAddr::from(to)).map(drop)
    }

    /// The next datagram. Without any socket it never comes.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        loop {
            tokio::select! {
                () = readable(self.v4.as_ref()) => {}
                () = readable(self.v6.as_ref()) => {}
            }
            for socket in [&self.v4, &self.v6].into_iter().flatten() {
                if let Ok(received) = socket.try_recv_from(buffer) {
                    return received;
                }
            }
        }
    }
}

async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // An error shows at the read that follows, which clears it.
        Some(socket) => drop(socket.readable().await),
        None => pending().await,
    }
}

fn listen(ip: IpAddr, port: u16) -> Option<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let domain = if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        if ip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        #[cfg(target_os = "linux")]
        if ip.is_ipv4() {
            socket.set_multicast_all_v4(false)?;
        } else {
            socket.set_multicast_all_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(ip, port).into())?;
        UdpSocket::from_std(socket.into())
    };
    open().inspect_err(|error| tracing::debug!(%error, "listening for beacons")).ok()
}
