//! Which pairs of routers let two devices meet directly, and which leave them to the relay: one table, asked of plain
//! sockets and of daemons.

use crate::devices::{PORT, Relay, are_connected, by_relay, device, pair_by_link, send, share_something, via};
use crate::hub::Wire;
use crate::lab::{Home, Lab};
use crate::nat::{Kind, Nat, Strays};
use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen, socket, sockopt};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use tests::harness::{Device, World, settle, within};

/// One way, from a router to the switch; two of them lie between two homes.
const DELAY_MS: u64 = 12;
/// A daemon has found the best way within it, counted from the last pairing.
const PATIENCE: Duration = Duration::from_secs(40);
/// A pair that has no direct way is watched for so long.
const WATCHED: Duration = Duration::from_secs(10);

struct Row {
    a: Kind,
    b: Kind,
    direct: bool,
}

/// The order of the two does not matter; each is tried with routers that drop strays and with such that refuse them.
const ROWS: [Row; 6] = [
    Row { a: Kind::FullCone, b: Kind::FullCone, direct: true },
    Row { a: Kind::FullCone, b: Kind::PortRestricted, direct: true },
    Row { a: Kind::FullCone, b: Kind::Symmetric, direct: true },
    Row { a: Kind::PortRestricted, b: Kind::PortRestricted, direct: true },
    Row { a: Kind::PortRestricted, b: Kind::Symmetric, direct: false },
    Row { a: Kind::Symmetric, b: Kind::Symmetric, direct: false },
];

/// Two homes of a row.
struct Pair {
    words: String,
    direct: bool,
    a: Home,
    b: Home,
}

fn pairs(lab: &Lab) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for strays in [Strays::Dropped, Strays::Refused] {
        for Row { a, b, direct } in ROWS {
            let home = |role, kind| lab.home(role, Nat { kind, strays }, Some(Wire::delayed(DELAY_MS)));
            let words = format!("{a:?} and {b:?}, strays {strays:?}");
            pairs.push(Pair { words, direct, a: home("a", a), b: home("b", b) });
        }
    }
    pairs
}

/// A socket at the port that everybody listens at too.
fn at_port() -> OwnedFd {
    let made = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP)).expect("a socket");
    sockopt::set_socket_reuseaddr(&made, true).expect("an option");
    sockopt::set_socket_reuseport(&made, true).expect("an option");
    bind(&made, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).expect("the namespace is ours");
    made
}

/// Listens and dials from the same port, as the other end does at the same moment; whether the two met.
fn punch(other: Ipv4Addr, together: &Barrier) -> bool {
    let listener = at_port();
    listen(&listener, 8).expect("it is bound");
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(true).expect("an option");
    let dials = at_port();
    sockopt::set_socket_timeout(&dials, sockopt::Timeout::Send, Some(Duration::from_secs(2))).expect("an option");
    together.wait();
    let dialled = rustix::net::connect(&dials, &SocketAddr::from((other, PORT))).is_ok();
    let met = dialled || within(Duration::from_millis(200), || listener.accept().ok()).is_some();
    // Nobody hangs up before the other end has looked.
    together.wait();
    drop(TcpStream::from(dials));
    met
}

/// Up to three tries, as a daemon has.
fn plain_sockets_meet(a: &Home, b: &Home) -> bool {
    let together = Barrier::new(2);
    (0..3).any(|_| {
        std::thread::scope(|scope| {
            let at_a = scope.spawn(|| a.host.inside(|| punch(b.router.address, &together)));
            let at_b = b.host.inside(|| punch(a.router.address, &together));
            let at_a = at_a.join().expect("it said why");
            at_a && at_b
        })
    })
}

/// What the table expects of daemons is what the routers of this lab allow.
#[test]
fn plain_sockets_meet_where_the_table_says_so() {
    let Some(lab) = Lab::new("plain_sockets_meet_where_the_table_says_so") else { return };
    let pairs = pairs(&lab);
    let wrong: Vec<&str> = std::thread::scope(|scope| {
        let tried: Vec<_> = pairs.iter().map(|pair| scope.spawn(|| plain_sockets_meet(&pair.a, &pair.b))).collect();
        let met = tried.into_iter().map(|tried| tried.join().expect("it said why"));
        pairs.iter().zip(met).filter(|(pair, met)| pair.direct != *met).map(|(pair, _)| pair.words.as_str()).collect()
    });
    assert!(wrong.is_empty(), "otherwise than the table says:\n{}", wrong.join("\n"));
}

/// A pair with its daemons, paired and sharing a folder.
struct Running<'a> {
    pair: &'a Pair,
    a: Device,
    b: Device,
}

fn start<'a>(world: &World, relay: &Relay, number: usize, pair: &'a Pair) -> Running<'a> {
    let settings = by_relay(&[&relay.link]);
    let a = device(world, &format!("a{number}"), &pair.a.host, &settings);
    let b = device(world, &format!("b{number}"), &pair.b.host, &settings);
    pair_by_link(&a, &b);
    share_something(&a, &b);
    Running { pair, a, b }
}

/// Starts all pairs, a few at a time.
fn start_all<'a>(world: &World, relay: &Relay, pairs: &'a [Pair]) -> Vec<Running<'a>> {
    const LANES: usize = 6;
    let numbered: Vec<(usize, &Pair)> = pairs.iter().enumerate().collect();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let own: Vec<_> = numbered.iter().copied().skip(lane).step_by(LANES).collect();
                scope.spawn(move || -> Vec<_> {
                    own.into_iter().map(|(number, pair)| start(world, relay, number, pair)).collect()
                })
            })
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("it said why")).collect()
    })
}

fn data_flows(running: &Running<'_>) {
    let Running { a, b, .. } = running;
    let there = send(a, "there", 1, 300_000);
    let back = send(b, "back", 2, 300_000);
    settle(&[a, b]);
    assert!(b.get("there") == Some(there) && a.get("back") == Some(back), "{}", running.pair.words);
}

#[test]
fn nat_matrix() {
    let Some(lab) = Lab::new("nat_matrix") else { return };
    let (world, pairs) = (World::new(), pairs(&lab));
    let relay = Relay::start(&world, "relay", lab.site("relay", None));
    let all = start_all(&world, &relay, &pairs);
    let begun = Instant::now();
    let (direct, relayed): (Vec<_>, Vec<_>) = all.iter().partition(|running| running.pair.direct);
    let mut missing: Vec<&&Running<'_>> = direct.iter().collect();
    let all_direct = within(PATIENCE, || {
        missing.retain(|running| !are_connected(&running.a, &running.b, "direct"));
        missing.is_empty().then_some(())
    });
    let took = begun.elapsed();
    let strays = within(WATCHED.saturating_sub(took), || {
        relayed.iter().find(|running| via(&running.a).is_some_and(|way| way != "relay"))
    });
    assert!(strays.is_none(), "{} met directly", strays.map_or("", |running| &running.pair.words));
    for running in &relayed {
        let ways = [via(&running.a), via(&running.b)];
        assert_eq!(ways, [Some("relay".to_owned()), Some("relay".to_owned())], "{}", running.pair.words);
    }
    all.iter().for_each(data_flows);
    let words: Vec<&str> = missing.iter().map(|running| running.pair.words.as_str()).collect();
    assert!(all_direct.is_some(), "still through the relay after {took:.0?}:\n{}", words.join("\n"));
    println!("all that can met directly within {took:.1?}");
}

/// Nothing but the relay leads from one home to the other, whatever their routers are like.
#[test]
fn behind_any_two_routers_a_relay_carries_pairing_and_files() {
    let Some(lab) = Lab::new("behind_any_two_routers_a_relay_carries_pairing_and_files") else { return };
    let world = World::new();
    let pairs: Vec<Pair> = pairs(&lab).into_iter().take(ROWS.len()).collect();
    for pair in &pairs {
        pair.a.router.space.wall(pair.b.router.address);
        pair.b.router.space.wall(pair.a.router.address);
    }
    let relay = Relay::start(&world, "relay", lab.site("relay", None));
    let all = start_all(&world, &relay, &pairs);
    let before = relay.carried();
    all.iter().for_each(data_flows);
    for Running { pair, a, b } in &all {
        assert!(are_connected(a, b, "relay"), "{}: {:?}, {:?}", pair.words, via(a), via(b));
    }
    let carried = relay.carried() - before;
    let files = 2 * 300_000 * all.len() as u64;
    assert!(carried >= files, "{files} bytes of files and {carried} through the relay");
}
