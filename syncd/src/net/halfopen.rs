//! Who may be half open: connections that have not proven anything yet, few in all and few per neighbourhood.
//! A table of ids, no sockets.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Half-open connections in all.
pub(crate) const HALF_OPEN_MAX: usize = 128;
/// Half-open connections of one neighbourhood.
const PER_PREFIX_MAX: usize = 8;

/// An IPv4 address or an IPv6 /64: what one stranger commands.
pub(crate) type Prefix = [u8; 16];

/// What stands for `ip` where neighbours count as one.
pub(crate) fn prefix(ip: IpAddr) -> Prefix {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

/// The table. `K` names a connection.
pub(crate) struct HalfOpen<K> {
    by_prefix: BTreeMap<Prefix, VecDeque<K>>,
    total: usize,
}

impl<K> Default for HalfOpen<K> {
    fn default() -> Self {
        Self { by_prefix: BTreeMap::new(), total: 0 }
    }
}

impl<K: Copy + PartialEq> HalfOpen<K> {
    /// Makes room for one more connection from `ip`; the connection that has to go for it, if any: the oldest of
    /// the same neighbourhood when that is full, else the oldest of the busiest one.
    pub(crate) fn make_room(&mut self, ip: IpAddr) -> Option<K> {
        let own = prefix(ip);
        let own_full = self.by_prefix.get(&own).is_some_and(|ids| ids.len() >= PER_PREFIX_MAX);
        let from = if own_full {
            own
        } else if self.total >= HALF_OPEN_MAX {
            *self.by_prefix.iter().max_by_key(|(_, ids)| ids.len())?.0
        } else {
            return None;
        };
        let oldest = self.by_prefix.get_mut(&from)?.pop_front();
        self.settle(from, oldest.is_some());
        oldest
    }

    /// Takes a connection in; [`Self::make_room`] came before.
    pub(crate) fn insert(&mut self, ip: IpAddr, id: K) {
        self.by_prefix.entry(prefix(ip)).or_default().push_back(id);
        self.total += 1;
    }

    /// A connection is no longer half open. Unknown ids are fine: they were dropped before.
    pub(crate) fn remove(&mut self, ip: IpAddr, id: K) {
        let from = prefix(ip);
        let Some(ids) = self.by_prefix.get_mut(&from) else { return };
        let before = ids.len();
        ids.retain(|other| *other != id);
        let removed = ids.len() < before;
        self.settle(from, removed);
    }

    fn settle(&mut self, from: Prefix, removed: bool) {
        self.total -= usize::from(removed);
        if self.by_prefix.get(&from).is_some_and(VecDeque::is_empty) {
            self.by_prefix.remove(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_neighbourhood_drops_its_own_oldest() {
        let mut table = HalfOpen::default();
        for id in 0..PER_PREFIX_MAX {
            let from = ip(&format!("2001:db8::{id:x}"));
            assert_eq!(table.make_room(from), None);
            table.insert(from, id);
        }
        assert_eq!(table.make_room(ip("2001:db8::ffff")), Some(0), "the same /64");
        assert_eq!(table.make_room(ip("2001:db8:0:1::1")), None, "another /64");
    }

    #[test]
    fn a_full_table_drops_from_the_busiest() {
        let mut table = HalfOpen::default();
        for id in 0..HALF_OPEN_MAX - 3 {
            table.insert(ip(&format!("10.0.{}.1", id)), id);
        }
        for id in 1000..1003 {
            table.insert(ip("::ffff:192.0.2.7"), id);
        }
        assert_eq!(table.make_room(ip("10.1.0.1")), Some(1000));
        table.remove(ip("192.0.2.7"), 1001);
        table.remove(ip("192.0.2.7"), 1001);
        assert_eq!(table.total, HALF_OPEN_MAX - 2);
    }
}
