//! The lab itself: links have their delay and their rate, routers are of their kind. Plain sockets, no daemons.

use crate::hub::Wire;
use crate::lab::{Home, Lab, Space};
use crate::nat::{Kind, Nat, Strays};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 4000;

/// Bytes a second that one connection moves from one namespace to another, and the time it took to connect.
fn measure(from: &Space, to: &Space, address: Ipv4Addr, len: usize) -> (f64, Duration) {
    let listener = to.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))).expect("the namespace is ours");
    std::thread::scope(|scope| {
        let taken = scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let (mut buffer, mut first) = (vec![0; 256 * 1024], None);
            let mut count = 0;
            loop {
                let len = stream.read(&mut buffer).expect("bytes");
                if len == 0 {
                    break;
                }
                let at = first.get_or_insert_with(Instant::now);
                count += len;
                if count >= 1 << 20 && count - len < 1 << 20 {
                    *at = Instant::now();
                    count = 1 << 20;
                }
            }
            (count - (1 << 20)) as f64 / first.expect("bytes came").elapsed().as_secs_f64()
        });
        let connected = from.inside(|| {
            let begun = Instant::now();
            let mut stream = TcpStream::connect((address, PORT)).expect("a connection");
            let connected = begun.elapsed();
            let chunk = vec![7; 1 << 20];
            for _ in 0..len >> 20 {
                stream.write_all(&chunk).expect("it is read");
            }
            connected
        });
        (taken.join().expect("it said why"), connected)
    })
}

#[test]
fn a_link_has_its_delay_and_its_rate() {
    let Some(lab) = Lab::new("a_link_has_its_delay_and_its_rate") else { return };
    let rows = [(Wire::limited(25, 100), 24 << 20), (Wire::limited(5, 20), 6 << 20), (Wire::delayed(1), 200 << 20)];
    for (wire, len) in rows {
        let (near, far) = (lab.site("near", None), lab.site("far", Some(wire)));
        let (rate, connected) = measure(&near.space, &far.space, far.address, len);
        println!("{wire:?}: {:.1} Mbit/s, connected after {connected:.1?}", rate * 8.0 / 1e6);
        // The first packet also asks whose the address is, which is one more round trip.
        assert!(connected >= 2 * wire.delay && connected < 4 * wire.delay + Duration::from_millis(40), "{connected:?}");
        let least = wire.rate.map_or(200e6, |rate| 0.9 * rate as f64);
        assert!(rate * 8.0 >= least, "{wire:?} carries {rate} bytes a second");
        assert!(wire.rate.is_none_or(|most| rate * 8.0 <= most as f64), "{wire:?} carries {rate} bytes a second");
    }
}

fn socket(space: &Space, port: u16) -> UdpSocket {
    let socket = space.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))).expect("the namespace is ours");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    socket
}

fn hears(socket: &UdpSocket) -> Option<SocketAddr> {
    let mut bytes = [0; 16];
    socket.recv_from(&mut bytes).ok().map(|(_, from)| from)
}

/// What a stranger's connection to the router hears.
fn knock(space: &Space, home: &Home) -> ErrorKind {
    let address = SocketAddr::from((home.router.address, 4444));
    let refused = space.inside(|| TcpStream::connect_timeout(&address, Duration::from_millis(700)));
    refused.expect_err("nobody listens there").kind()
}

#[test]
fn routers_are_of_their_kind() {
    let Some(lab) = Lab::new("routers_are_of_their_kind") else { return };
    let [known, other] = ["known", "other"].map(|role| lab.site(role, None));
    let (at_known, at_other) = (socket(&known.space, PORT), socket(&other.space, PORT));
    let stranger = socket(&other.space, PORT + 1);
    for kind in [Kind::FullCone, Kind::PortRestricted, Kind::Symmetric] {
        for strays in [Strays::Dropped, Strays::Refused] {
            let home = lab.home("home", Nat { kind, strays }, None);
            let inside = socket(&home.host, PORT + 2);
            let mapped = [(&known, &at_known), (&other, &at_other)].map(|(site, outside)| {
                inside.send_to(b"out", (site.address, PORT)).expect("a route");
                hears(outside).expect("routers let out")
            });
            assert_eq!(mapped[0].ip(), home.router.address, "{kind:?} translates");
            assert_eq!(mapped[0] == mapped[1], kind != Kind::Symmetric, "{kind:?} maps to {mapped:?}");
            at_known.send_to(b"in", mapped[0]).expect("a route");
            assert!(hears(&inside).is_some(), "{kind:?} lets an answer in");
            stranger.send_to(b"in", mapped[0]).expect("a route");
            assert_eq!(hears(&inside).is_some(), kind == Kind::FullCone, "{kind:?} and another port of a known host");
            let heard = knock(&other.space, &home);
            let refused = kind == Kind::FullCone || strays == Strays::Refused;
            let expected = if refused { ErrorKind::ConnectionRefused } else { ErrorKind::TimedOut };
            assert_eq!(heard, expected, "{kind:?}, strays {strays:?}");
        }
    }
}
