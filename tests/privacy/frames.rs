//! Ethernet frames as a capture has them: who sends what to whom, as far as the tests ask. Table tests below.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// IPv4 asks for, or tells, a hardware address.
    Arp,
    /// A packet of either family.
    Ip { source: IpAddr, target: IpAddr, packet: Packet },
    /// Something that is none of these, by its EtherType.
    Other(u16),
}

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A segment.
    Tcp { ports: [u16; 2], seq: u32, syn: bool, payload: Vec<u8> },
    /// A datagram.
    Udp { ports: [u16; 2], payload: Vec<u8> },
    /// ICMPv6 and its type: neighbours, routers and groups of IPv6 are found by it.
    Icmp6(u8),
    /// Groups of IPv4.
    Igmp,
    /// Another protocol, by its number; also what is cut short.
    Other(u8),
}

impl Frame {
    /// `None` for a frame that is no whole one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<14>()?;
        match u16::from_be_bytes([header[12], header[13]]) {
            0x0806 => Some(Self::Arp),
            0x0800 => ipv4(rest),
            0x86dd => ipv6(rest),
            other => Some(Self::Other(other)),
        }
    }
}

fn ipv4(bytes: &[u8]) -> Option<Frame> {
    let header = bytes.first_chunk::<20>()?;
    let [start, end] = [usize::from(header[0] & 15) * 4, usize::from(u16::from_be_bytes([header[2], header[3]]))];
    let address = |at: usize| -> Option<IpAddr> { Some(Ipv4Addr::from(*header[at..].first_chunk::<4>()?).into()) };
    let packet = packet(header[9], bytes.get(start..end)?);
    Some(Frame::Ip { source: address(12)?, target: address(16)?, packet })
}

fn ipv6(bytes: &[u8]) -> Option<Frame> {
    let (header, rest) = bytes.split_first_chunk::<40>()?;
    let mut rest = rest.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let mut next = header[6];
    // Hop-by-hop options, with which groups are joined.
    if next == 0 {
        next = *rest.first()?;
        rest = rest.get((usize::from(*rest.get(1)?) + 1) * 8..)?;
    }
    let address = |at: usize| -> Option<IpAddr> { Some(Ipv6Addr::from(*header[at..].first_chunk::<16>()?).into()) };
    Some(Frame::Ip { source: address(8)?, target: address(24)?, packet: packet(next, rest) })
}

fn packet(protocol: u8, bytes: &[u8]) -> Packet {
    let parsed = match protocol {
        2 => Some(Packet::Igmp),
        6 => tcp(bytes),
        17 => bytes.split_first_chunk().map(|(header, rest)| udp(header, rest)),
        58 => bytes.first().map(|kind| Packet::Icmp6(*kind)),
        _ => None,
    };
    parsed.unwrap_or(Packet::Other(protocol))
}

fn ports(header: &[u8]) -> [u16; 2] {
    [u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]])]
}

fn tcp(bytes: &[u8]) -> Option<Packet> {
    let header = bytes.first_chunk::<20>()?;
    let seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let payload = bytes.get(usize::from(header[12] >> 4) * 4..)?.to_vec();
    Some(Packet::Tcp { ports: ports(header), seq, syn: header[13] & 2 != 0, payload })
}

fn udp(header: &[u8; 8], payload: &[u8]) -> Packet {
    Packet::Udp { ports: ports(header), payload: payload.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, hex: &str, expected: Option<Frame>) {
        let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("text"), 16).expect("hexadecimal");
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        assert_eq!(Frame::parse(&bytes), expected, "{name}");
    }

    fn ip(source: &str, target: &str, packet: Packet) -> Option<Frame> {
        let address = |text: &str| text.parse().expect("an address");
        Some(Frame::Ip { source: address(source), target: address(target), packet })
    }

    #[test]
    fn frames_are_read() {
        let link = "0102030405060708090a0b0c";
        check("a question for an address", &format!("{link} 0806 0001"), Some(Frame::Arp));
        check("a tree of bridges", &format!("{link} 0027 42"), Some(Frame::Other(0x27)));
        check("less than a header", "0102", None);
        let v4 = "45000020 00000000 4011 0000 0a000001 efff5359";
        let packet = Packet::Udp { ports: [0x1234, 28730], payload: vec![9, 8, 7, 6] };
        let expected = ip("10.0.0.1", "239.255.83.89", packet);
        check("a datagram, padded", &format!("{link} 0800 {v4} 1234703a 000c0000 09080706 0000"), expected);
        check("a datagram, cut short", &format!("{link} 0800 {v4} 1234"), None);
        let v4 = "46000030 00000000 0106 0000 0a000001 0a000002 94040000";
        let packet = Packet::Tcp { ports: [1, 2], seq: 0x0a0b_0c0d, syn: true, payload: vec![0xee] };
        let expected = ip("10.0.0.1", "10.0.0.2", packet);
        let segment = "00010002 0a0b0c0d 00000000 6002 0000 00000000 01010101 ee";
        let short = v4.replace("0030", "0031");
        check("a segment behind options", &format!("{link} 0800 {short} {segment}"), expected);
        let v6 = "60000000 0010 00 01 fe800000000000000000000000000001 ff020000000000000000000000000016";
        let expected = ip("fe80::1", "ff02::16", Packet::Icmp6(143));
        check("a group of IPv6", &format!("{link} 86dd {v6} 3a00050200000100 8f00000000000000"), expected);
        let v6 = "60000000 0002 2f 01 fe800000000000000000000000000001 ff020000000000000000000000000016";
        check("a tunnel", &format!("{link} 86dd {v6} 0000"), ip("fe80::1", "ff02::16", Packet::Other(47)));
    }
}
