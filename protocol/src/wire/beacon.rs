//! LAN beacons: a datagram that tells paired devices where we listen and tells everybody else only that some syncd
//! is here. Tags are bound to the source address and port, so a copy sent from elsewhere matches nothing.

use super::kdf::{Secret32, UnixSeconds, rtag, windows};
use crate::limits::{BEACON_LEN_MAX, BEACON_WINDOW_SECS, PEERS_MAX};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[cfg(test)]
mod tests;

/// IPv4 multicast group, sent with TTL 1.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 83, 89);
/// IPv6 link-local multicast group.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x73, 0x7963);
/// UDP port of beacons and default TCP port of sessions.
pub const PORT: u16 = 28_730;

const HEADER_LEN: usize = 12;
const TAG_LEN: usize = 8;
/// Numbers of tags that a beacon may have: how many peers we look for is nobody's business.
const CLASSES: [usize; 5] = [4, 8, 16, 32, 64];

const _: () = assert!(CLASSES[4] == PEERS_MAX);
const _: () = assert!(HEADER_LEN + TAG_LEN * CLASSES[4] == BEACON_LEN_MAX);

/// salt\[8\] ‖ tcp port u16 ‖ n u8 ‖ reserved u8 ‖ n tags of 8 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    salt: [u8; 8],
    tcp_port: u16,
    tags: Vec<[u8; TAG_LEN]>,
}

/// Which expected device a beacon is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Index into the keys.
    pub index: usize,
    /// Windows of 300 s that its clock is ahead of ours.
    pub skew_windows: i64,
}

/// tag = rtag(LAN key, salt, window of 300 s, source address as 16 bytes ‖ tcp port)\[..8\]. IPv4 is v4-mapped.
#[must_use]
pub fn tag(key: &Secret32, salt: &[u8; 8], window: u64, source: IpAddr, tcp_port: u16) -> [u8; TAG_LEN] {
    let mut extra = [0; 18];
    let source = match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    extra[..16].copy_from_slice(&source.octets());
    extra[16..].copy_from_slice(&tcp_port.to_be_bytes());
    rtag(key, salt, window, &extra)
}

impl Beacon {
    /// A beacon for the devices whose LAN keys (our direction) are given, at most `PEERS_MAX`, sent from `source`.
    /// `random` is 32 fresh bytes: they become the salt and the tags that fill it up. Sorted, the tags tell nothing
    /// by their order.
    #[must_use]
    pub fn make(keys: &[Secret32], source: IpAddr, tcp_port: u16, now: UnixSeconds, random: &[u8; 32]) -> Self {
        let count = CLASSES.into_iter().find(|class| *class >= keys.len()).expect("at most 64 devices are paired");
        let mut noise = blake3::Hasher::new_keyed(random).finalize_xof();
        let mut salt = [0; 8];
        noise.fill(&mut salt);
        let window = now.window(BEACON_WINDOW_SECS);
        let mut tags: Vec<_> = keys.iter().map(|key| tag(key, &salt, window, source, tcp_port)).collect();
        tags.resize_with(count, || {
            let mut filler = [0; TAG_LEN];
            noise.fill(&mut filler);
            filler
        });
        tags.sort_unstable();
        Self { salt, tcp_port, tags }
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = u8::try_from(self.tags.len()).expect("at most 64 tags");
        let mut bytes = Vec::with_capacity(HEADER_LEN + TAG_LEN * self.tags.len());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.tcp_port.to_be_bytes());
        bytes.extend_from_slice(&[count, 0]);
        self.tags.iter().for_each(|tag| bytes.extend_from_slice(tag));
        bytes
    }

    /// Parses a datagram; `None` when it is no beacon.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (header, rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let count = usize::from(header[10]);
        let tcp_port = u16::from_be_bytes([header[8], header[9]]);
        if !CLASSES.contains(&count) || rest.len() != count * TAG_LEN || tcp_port == 0 {
            return None;
        }
        let mut salt = [0; 8];
        salt.copy_from_slice(&header[..8]);
        let tags = rest.chunks_exact(TAG_LEN).map(|tag| tag.try_into().expect("a chunk of eight bytes")).collect();
        Some(Self { salt, tcp_port, tags })
    }

    /// Where its sender listens.
    #[must_use]
    pub const fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// The devices among `keys` (LAN keys of the direction towards us) that this beacon, received from `source`, is
    /// meant by; windows at most `slack` away from ours are tried, nearest first. Each device is found once.
    #[must_use]
    pub fn find(&self, keys: &[Secret32], source: IpAddr, now: UnixSeconds, slack: u64) -> Vec<Sighting> {
        let mut found: Vec<Sighting> = Vec::new();
        for (window, skew_windows) in windows(now.window(BEACON_WINDOW_SECS), slack) {
            for (index, key) in keys.iter().enumerate() {
                let expected = tag(key, &self.salt, window, source, self.tcp_port);
                if self.tags.contains(&expected) && !found.iter().any(|sighting| sighting.index == index) {
                    found.push(Sighting { index, skew_windows });
                }
            }
        }
        found
    }
}
