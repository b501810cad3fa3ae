//! Devices behind a SOCKS5 proxy: what goes through it, that names reach it as names, and that nothing goes around it,
//! also when it is down.

use protocol::wire::beacon::{Beacon, GROUP_V4, PORT};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tests::harness::{Asked, Device, Socks, World, assert_same, pair, settle, share, until, within};

/// Longer than the first dials and beacons after a start take.
const A_WHILE: Duration = Duration::from_secs(4);

fn port_of(device: &Device) -> u16 {
    device.address().parse::<SocketAddr>().expect("an address").port()
}

/// Pairs by a code over a name that only the proxy knows.
fn pair_by_name(shows: &Device, types: &Device, name: &str) {
    let mut showing = shows.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    types.ok(&["pair", &code, "--yes", "--address", &format!("{name}:{}", port_of(shows))]);
    assert_eq!(showing.finish().0, 0);
}

fn behind(world: &World, name: &str, socks: &Socks, what: &str) -> Device {
    let settings = format!("lan = \"never\"\nproxy = \"{}\"\nproxy_for = \"{what}\"\n", socks.setting());
    let mut device = world.prepare(name, &settings);
    device.start();
    device
}

#[test]
fn two_devices_sync_through_a_proxy_that_alone_knows_the_name() {
    let world = World::new();
    let socks = Socks::start();
    let mut a = world.device("a");
    let mut b = behind(&world, "b", &socks, "everything");
    socks.names("a.test", a.address());
    pair_by_name(&a, &b, "a.test");
    a.put("of a", "1");
    b.put("of b", "2");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let list = b.json(&["device", "list"]);
    assert_eq!(list["devices"][0]["via"], "proxy", "{list}");
    let status = b.ok(&["status"]);
    assert!(status.contains("all connections are made by the proxy") && status.contains("not searched"), "{status}");
    // The name outlasts the pairing, and nobody was told where b is: only b can begin.
    for device in [&mut a, &mut b] {
        device.stop();
    }
    a.listen_at("127.0.0.1:0");
    a.start();
    socks.names("a.test", a.address());
    b.start();
    a.put("later", "3");
    until("the devices meet again", || a.is_connected_to(&b).then_some(()));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let of_b = a.json(&["device", "list"])["devices"][0].clone();
    assert!(!of_b.to_string().contains(&b.address()), "{of_b}");
    let pairings = std::fs::read_to_string(a.home().join("keys/pairings")).expect("its pairings");
    assert!(!pairings.contains(&b.address()), "a was told where b is");
    let asked = socks.asked();
    assert!(asked.iter().all(|asked| asked.host == "a.test"), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.login.0.len() == 32 && asked.login.1.len() == 32), "{asked:?}");
}

#[test]
fn a_relay_is_reached_through_the_proxy_and_circuits_do_not_tell_who_is_awaited() {
    let world = World::new();
    let socks = Socks::start();
    let mut relay = world.prepare("relay", "");
    let link = relay.serve_as_relay();
    let (key, at) = link.split_once('@').expect("a link");
    socks.names("relay.test", at.to_owned());
    let port = at.rsplit_once(':').expect("an address").1;
    let link = format!("{key}@relay.test:{port}");
    let (a, b) = (behind(&world, "a", &socks, "everything"), behind(&world, "b", &socks, "internet"));
    for device in [&a, &b] {
        device.ok(&["config", "set", "relays", &link]);
    }
    let mut showing = a.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    b.ok(&["pair", &code, "--yes"]);
    assert_eq!(showing.finish().0, 0);
    a.put("f", "x");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let asked = socks.asked();
    let at_relay: Vec<_> = asked.iter().filter(|asked| asked.host == "relay.test").collect();
    // Two devices, first for a pairing and then for each other.
    let logins: std::collections::BTreeSet<_> = at_relay.iter().map(|asked| &asked.login).collect();
    assert!(logins.len() >= 4, "{at_relay:?}");
}

/// Takes a device's address and counts who comes there.
fn callers_of(address: &str) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(address).expect("the device has left its address");
    let callers = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&callers);
    std::thread::spawn(move || {
        for caller in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            drop(caller);
        }
    });
    callers
}

/// Hears beacons on loopback, as a daemon does.
fn beacons() -> UdpSocket {
    let heard = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
    sockopt::set_socket_reuseaddr(&heard, true).expect("an option");
    sockopt::set_socket_reuseport(&heard, true).expect("an option");
    bind(&heard, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT)).expect("a port that is shared");
    let heard = UdpSocket::from(heard);
    heard.join_multicast_v4(&GROUP_V4, &Ipv4Addr::LOCALHOST).expect("a group");
    heard.set_nonblocking(true).expect("an option");
    heard
}

/// Whether a beacon that names this port came.
fn calls(heard: &UdpSocket, port: u16) -> Option<()> {
    let mut bytes = [0; 1024];
    while let Ok(len) = heard.recv(&mut bytes) {
        if Beacon::decode(&bytes[..len]).is_some_and(|beacon| beacon.tcp_port() == port) {
            return Some(());
        }
    }
    None
}

fn problem(device: &Device) -> String {
    device.json(&["device", "list"])["devices"][0]["problem"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn nothing_goes_around_a_proxy_that_is_down_and_settings_apply_at_once() {
    let world = World::new();
    let mut a = world.device("a");
    let mut b = world.prepare("b", "lan = \"always\"\n");
    // Beacons are sent from there, and name a port that is reached there.
    b.listen_at("127.0.0.1:0");
    b.start();
    pair(&b, &a);
    pair_is_up(&a, &b);
    a.stop();
    b.stop();
    let callers = callers_of(&a.address());
    // Nobody listens there: the port was free a moment ago and is picked for nobody else so soon.
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let proxy = format!("socks5://{dead}");
    let settings = b.home().join("config.toml");
    let text = std::fs::read_to_string(&settings).expect("settings");
    std::fs::write(&settings, format!("{text}proxy = \"{proxy}\"\nproxy_for = \"everything\"\n")).expect("settings");
    let heard = beacons();
    b.start();
    until("the proxy is named as the cause", || {
        let said = problem(&b);
        (said.contains(&format!("the proxy at {dead}")) && said.contains("refused")).then_some(())
    });
    let around = within(A_WHILE, || (callers.load(Ordering::Relaxed) > 0).then_some(()).or(calls(&heard, port_of(&b))));
    assert_eq!(around, None, "a call or a beacon went around the proxy");

    b.ok(&["config", "set", "proxy_for", "internet"]);
    until("the local network is called directly", || (callers.load(Ordering::Relaxed) > 0).then_some(()));
    until("and searched", || calls(&heard, port_of(&b)));
    b.ok(&["config", "set", "proxy_for", "everything"]);
    until("the proxy is the cause again", || problem(&b).contains("the proxy at").then_some(()));
    let before = callers.load(Ordering::Relaxed);
    while calls(&heard, port_of(&b)).is_some() {}
    let more =
        within(A_WHILE, || (callers.load(Ordering::Relaxed) > before).then_some(()).or(calls(&heard, port_of(&b))));
    assert_eq!(more, None, "a call or a beacon went around the proxy");
    b.ok(&["config", "set", "proxy", ""]);
    until("without a proxy it calls", || (callers.load(Ordering::Relaxed) > before).then_some(()));
}

fn pair_is_up(a: &Device, b: &Device) {
    until("the devices are connected", || (a.is_connected_to(b) && b.is_connected_to(a)).then_some(()));
}

#[test]
fn a_session_made_without_the_proxy_ends_when_one_is_set() {
    let world = World::new();
    let socks = Socks::start();
    // It cannot call by itself, so that the other one has to.
    let mut a = world.prepare("a", "lan = \"never\"\nproxy = \"socks5://127.0.0.1:1\"\nproxy_for = \"everything\"\n");
    a.start();
    let b = world.device("b");
    pair(&a, &b);
    pair_is_up(&a, &b);
    assert_eq!(b.json(&["device", "list"])["devices"][0]["via"], "lan");
    b.ok(&["config", "set", "proxy_for", "everything"]);
    b.ok(&["config", "set", "proxy", &socks.setting()]);
    until("the proxy leads to the other device", || {
        (b.json(&["device", "list"])["devices"][0]["via"] == "proxy" && a.is_connected_to(&b)).then_some(())
    });
    let address: SocketAddr = a.address().parse().expect("an address");
    let is_a = |asked: &Asked| asked.host == address.ip().to_string() && asked.port == address.port();
    assert!(socks.asked().iter().all(is_a), "{:?}", socks.asked());
    let said = b.fails(1, &["config", "set", "proxy", "socks5://proxy.test:1080"]);
    assert!(said.contains("looked up around the proxy"), "{said}");
    b.ok(&["config", "set", "proxy", "socks5://me:hidden@127.0.0.1:1"]);
    until("the proxy is the cause", || problem(&b).contains("the proxy at 127.0.0.1:1").then_some(()));
    let told = [b.log(), b.ok(&["events"]), b.ok(&["status"]), problem(&b)].concat();
    assert!(!told.contains("hidden"), "{told}");
}
