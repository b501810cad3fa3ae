//! With the settings it comes with a daemon contacts nobody: not while it is alone, and with a paired device away nothing
//! but beacons for it and calls at the addresses where it was met.

use crate::frames::{Frame, Packet};
use crate::lab::{Capture, Lab, is_beacon};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::Duration;
use tests::harness::{World, pair, skip, until, within};

/// How long nothing may happen: beacons come at once, after one second and after three, dials within the first seconds.
const WATCHED: Duration = Duration::from_secs(9);
/// TCP and UDP.
const PORT: u16 = 28730;

/// What a host sends that neither belongs to having an address on a cable nor is a beacon, nor a call for `peer`.
fn unexpected(frames: &[Frame], peer: &[IpAddr]) -> Vec<Frame> {
    let is_other = |frame: &&Frame| match frame {
        // Taken in, not sent.
        Frame::Ip { source, .. } if peer.contains(source) => false,
        // The kernel looks for neighbours and routers and joins groups.
        Frame::Arp | Frame::Ip { packet: Packet::Icmp6(133..=136 | 143) | Packet::Igmp, .. } => false,
        Frame::Ip { packet: Packet::Tcp { ports, .. }, target, .. } => !(peer.contains(target) && ports[1] == PORT),
        frame => !is_beacon(frame),
    };
    frames.iter().filter(is_other).cloned().collect()
}

/// Nothing but what is expected comes for a while.
fn is_quiet(capture: &Capture, peer: &[IpAddr]) {
    let heard = within(WATCHED, || {
        let heard = unexpected(&capture.frames(), peer);
        (!heard.is_empty()).then_some(heard)
    });
    assert_eq!(heard, None);
}

/// The capture is one that would have shown it: a question for a name and a call from this host are seen.
fn would_be_seen(lab: &Lab, capture: &Capture, peer: &[IpAddr]) {
    lab.on(0, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.send_to(b"a question for a name", "192.0.2.53:53").expect("there is a way out");
        // Nobody is there; the attempt is what counts.
        let _ =
            TcpStream::connect_timeout(&"[2001:db8::1]:443".parse().expect("an address"), Duration::from_millis(200));
    });
    until("a question for a name and a call are seen", || {
        let heard = unexpected(&capture.frames(), peer);
        let to = |port: u16| {
            heard.iter().any(|frame| match frame {
                Frame::Ip { packet: Packet::Udp { ports, .. } | Packet::Tcp { ports, .. }, .. } => ports[1] == port,
                _ => false,
            })
        };
        (to(53) && to(443)).then_some(())
    });
}

#[test]
fn a_daemon_alone_says_nothing_and_one_whose_peer_is_away_calls_for_it_only() {
    let test = "a_daemon_alone_says_nothing_and_one_whose_peer_is_away_calls_for_it_only";
    let Some(lab) = Lab::new([77, 2]) else {
        return skip(test, "it needs root and ip");
    };
    let world = World::new();
    let mut a = lab.device(&world, "a", 0);
    let capture = lab.capture(0);
    a.start();
    is_quiet(&capture, &[]);
    assert_eq!(capture.beacons(), [0, 0], "nobody is sought");
    would_be_seen(&lab, &capture, &[]);

    let mut b = lab.device(&world, "b", 1);
    b.start();
    b.listen_at(&format!("{}:{PORT}", lab.addresses(1)[0]));
    pair(&b, &a);
    until("the devices are connected", || a.is_connected_to(&b).then_some(()));
    a.stop();
    b.stop();
    let (capture, peer) = (lab.capture(0), lab.all_addresses(1));
    a.start();
    is_quiet(&capture, &peer);
    let [v4, v6] = capture.beacons();
    assert!(v4 > 1 && v6 > 1, "{v4} {v6} beacons");
    would_be_seen(&lab, &capture, &peer);
}
