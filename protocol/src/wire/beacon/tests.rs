//! Beacons are found by those they are meant for, from where they were sent, and by nobody else.

use super::*;
use proptest::prelude::*;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 9, 1));

fn keys(range: std::ops::Range<u8>) -> Vec<Secret32> {
    range.map(|i| Secret32::new([i; 32])).collect()
}

fn later(secs: u64) -> UnixSeconds {
    UnixSeconds(NOW.0 + secs)
}

#[test]
fn found_by_the_right_device_only() {
    let beacon = Beacon::make(&keys(0..3), SOURCE, PORT, NOW, &[7; 32]);
    let received = Beacon::decode(&beacon.encode()).expect("our own");
    assert_eq!(received, beacon);
    let check = |name: &str, key: u8, source: IpAddr, now, slack, expected: Option<i64>| {
        let found = received.find(&keys(key..key + 1), source, now, slack);
        assert_eq!(found.first().map(|sighting| sighting.skew_windows), expected, "{name}");
    };
    check("meant", 1, SOURCE, NOW, 1, Some(0));
    check("not meant", 3, SOURCE, NOW, 1, None);
    check("v4-mapped source", 2, IpAddr::V6(Ipv4Addr::new(192, 168, 9, 1).to_ipv6_mapped()), NOW, 1, Some(0));
    check("replayed from elsewhere", 1, IpAddr::V4(Ipv4Addr::new(192, 168, 9, 2)), NOW, 1, None);
    check("a window later", 1, SOURCE, later(300), 1, Some(-1));
    check("stale", 1, SOURCE, later(900), 1, None);
    check("stale, wide search", 1, SOURCE, later(900), 72, Some(-3));
}

#[test]
fn its_length_says_little() {
    for (peers, tags) in [(0, 4), (4, 4), (5, 8), (16, 16), (17, 32), (64, 64)] {
        let bytes = Beacon::make(&keys(0..peers), SOURCE, PORT, NOW, &[7; 32]).encode();
        assert_eq!(bytes.len(), 12 + 8 * tags);
    }
}

#[test]
fn two_beacons_share_nothing() {
    let encode = |random| Beacon::make(&keys(0..4), SOURCE, PORT, NOW, &random).encode();
    let (a, b) = (encode([1; 32]), encode([2; 32]));
    assert!(a.windows(4).all(|window| window == &a[8..12] || !b.windows(4).any(|other| other == window)));
}

#[test]
fn malformed_datagrams() {
    let good = Beacon::make(&[], SOURCE, PORT, NOW, &[7; 32]).encode();
    let check = |name: &str, spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        spoil(&mut bytes);
        assert_eq!(Beacon::decode(&bytes), None, "{name}");
    };
    check("empty", &|bytes| bytes.clear());
    check("cut", &|bytes| bytes.truncate(43));
    check("longer", &|bytes| bytes.push(0));
    check("odd count", &|bytes| bytes[10] = 5);
    check("no port", &|bytes| bytes[8..10].fill(0));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Some(beacon) = Beacon::decode(&bytes) {
            prop_assert!(beacon.find(&keys(0..2), SOURCE, NOW, 1).is_empty());
        }
    }
}
