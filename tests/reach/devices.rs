//! Devices and relays in a lab: a daemon in a namespace each, paired through a relay or by an address, and what they say
//! about the way between them.

use crate::lab::{Site, Space};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::{Duration, Instant};
use tests::harness::{Device, World, noise, settle, share, within};

/// Where a daemon listens: all of its namespace, at the usual port.
pub const PORT: u16 = 28_730;
const RELAY_PORT: u16 = 28_731;
/// How long pairing may look for the other device: its code takes a while to stretch, on a busy machine longer.
const PAIRING_S: &str = "100";

/// Settings of a device that finds others through these relays and not in its network.
pub fn by_relay(links: &[&str]) -> String {
    let quoted: Vec<String> = links.iter().map(|link| format!("\"{link}\"")).collect();
    format!("lan = \"never\"\nrelays = [{}]\n", quoted.join(", "))
}

/// A device with a running daemon in this namespace.
pub fn device(world: &World, name: &str, space: &Space, settings: &str) -> Device {
    let mut device = world.prepare(name, settings);
    device.run_under(&space.under());
    device.listen_at(&format!("0.0.0.0:{PORT}"));
    device.start();
    device
}

/// A relay at a public address, its bytes counted.
pub struct Relay {
    pub site: Site,
    pub device: Device,
    pub link: String,
}

impl Relay {
    pub fn start(world: &World, name: &str, site: Site) -> Self {
        Self::run(world.prepare(name, ""), site)
    }

    /// One with the keys of another, see [`Self::start`].
    pub fn start_with(world: &World, name: &str, site: Site, keys: &[u8]) -> Self {
        let device = world.prepare(name, "");
        let place = device.home().join("keys");
        std::fs::DirBuilder::new().mode(0o700).create(&place).expect("a scratch home");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(place.join("relay"))
            .expect("a file");
        file.write_all(keys).expect("scratch space");
        Self::run(device, site)
    }

    fn run(mut device: Device, site: Site) -> Self {
        device.run_under(&site.space.under());
        device.listen_at(&format!("{}:{RELAY_PORT}", site.address));
        let link = device.serve_as_relay();
        site.space.count();
        Self { site, device, link }
    }

    /// Bytes that came in so far.
    pub fn carried(&self) -> u64 {
        self.site.space.counted().0
    }
}

/// Pairs two devices that find each other by what is in the link alone.
pub fn pair_by_link(shows: &Device, types: &Device) {
    let mut showing = shows.spawn(&["--json", "pair", "--yes", "--timeout", PAIRING_S]);
    let first = showing.json().expect("the code comes first");
    let link = first["link"].as_str().expect("the first line holds the link").to_owned();
    types.ok(&["pair", &link, "--yes", "--timeout", PAIRING_S]);
    let (exit, words) = showing.finish();
    assert_eq!(exit, 0, "the showing side: {words}");
}

/// Pairs two devices of which one shows its code at this address.
pub fn pair_at(shows: &Device, address: Ipv4Addr, types: &Device) {
    let mut showing = shows.spawn(&["--json", "pair", "--yes", "--timeout", PAIRING_S]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    types.ok(&["pair", &code, "--yes", "--address", &format!("{address}:{PORT}")]);
    let (exit, words) = showing.finish();
    assert_eq!(exit, 0, "the showing side: {words}");
}

/// How the only other device is reached; `None`: not at all.
pub fn via(device: &Device) -> Option<String> {
    let list = device.json(&["device", "list"]);
    let other = &list["devices"][0];
    (other["connected"] == true).then(|| other["via"].as_str().expect("a connection has a way").to_owned())
}

/// Whether both ends say that they are connected this way.
pub fn are_connected(a: &Device, b: &Device, way: &str) -> bool {
    [a, b].iter().all(|device| via(device).as_deref() == Some(way))
}

/// Shares a folder, with a file of each end in it.
pub fn share_something(a: &Device, b: &Device) {
    a.put("of a", "a");
    b.put("of b", "b");
    share(&[a, b]);
    settle(&[a, b]);
    assert_eq!((a.get("of b"), b.get("of a")), (Some(b"b".to_vec()), Some(b"a".to_vec())));
}

/// Writes a file of incompressible bytes; gives them.
pub fn send(from: &Device, name: &str, seed: u64, len: usize) -> Vec<u8> {
    let content = noise(seed, len);
    from.save(name, &content);
    content
}

/// Waits until so many more bytes have come into a namespace; how long that took, or `None` if it took too long.
pub fn moved(space: &Space, more: u64, bound: Duration) -> Option<Duration> {
    let (begun, before) = (Instant::now(), space.counted().0);
    within(bound, || (space.counted().0 >= before + more).then(|| begun.elapsed()))
}

/// Bits a second in which `to` receives a file of so many bytes that is on its way: from the fourth MiB to the last but one,
/// so that neither the first round trips nor what the disk takes at the end count.
pub fn pace(to: &Device, before: u64, len: usize, bound: Duration) -> f64 {
    let sample = |at_least: u64| {
        let received = || Some(to.traffic().0 - before).filter(|received| *received >= at_least);
        let found = within(bound, || received().map(|received| (received, Instant::now())));
        found.unwrap_or_else(|| panic!("{} does not receive {at_least} bytes", to.name()))
    };
    let (first, begun) = sample(4 << 20);
    let (last, ended) = sample(len as u64 - (1 << 20));
    (last - first) as f64 * 8.0 / (ended - begun).as_secs_f64()
}

/// Waits for a file, byte for byte.
pub fn arrives(device: &Device, name: &str, content: &[u8], bound: Duration) -> Duration {
    let begun = Instant::now();
    let whole = || std::fs::metadata(device.at(name)).is_ok_and(|found| found.len() == content.len() as u64);
    let came = within(bound, || whole().then_some(()));
    assert!(came.is_some(), "{name} did not come to {} within {} s", device.name(), bound.as_secs());
    let took = begun.elapsed();
    assert!(device.get(name).is_some_and(|found| found == content), "{name} is another one on {}", device.name());
    took
}
