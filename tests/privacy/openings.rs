//! What a door says to openings that are random, cut short, spoiled, or recorded: nothing, and it closes when it would
//! for any stranger. An opening that the paired device makes afresh is answered, which shows that an answer is heard.

use crate::caller::{Caller, OPENING_LEN, random};
use crate::recorder::Recorder;
use protocol::wire::handshake::MESSAGE_2_LEN;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};
use tests::harness::{Device, PATIENCE, World, noise, pair, until};

/// Openings in all.
const COUNT: usize = 10_000;
/// Addresses that they come from, one connection at a time each: the door lets 8 of each, 128 in all, stand in line.
const SOURCES: u8 = 16;
/// Those of each source that stay in line until the door closes.
const STAYING: usize = 8;
/// Openings whose knock is good: the door lets 30 a minute of one device in.
const GOOD_KNOCKS: usize = 20;

fn source(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 254, 254, number + 1)
}

fn dial(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(from, 0)).expect("every 127.x.y.z is ours");
    connect(&socket, &to).expect("it listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Bytes that come back from the first to the last; a close is seen as such, silence without one fails the test.
fn heard(mut stream: TcpStream) -> usize {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // Bytes that were not read turn a close into a reset.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the door does not close: {error}"),
    }
    bytes.len()
}

/// Says `bytes` and hangs up on the sending side: who has nothing to answer closes at once then, so many fit in a second.
fn answer(from: Ipv4Addr, to: SocketAddr, bytes: &[u8]) -> usize {
    let mut stream = dial(from, to);
    stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)).expect("it reads");
    heard(stream)
}

/// The `number`th opening that is none.
fn bad(number: usize, recorded: &[u8], caller: &Caller) -> (&'static str, Vec<u8>) {
    let seed = u64::try_from(number).expect("few");
    if number < GOOD_KNOCKS {
        let mut opening = caller.opening();
        if number.is_multiple_of(2) {
            return ("a good knock, then less than message 1", opening[..24 + number * 60].to_vec());
        }
        opening[24 + number * 60] ^= 1;
        return ("a good knock, then a spoiled message 1", opening.to_vec());
    }
    let recorded = &recorded[..OPENING_LEN];
    match number % 5 {
        0 | 1 => ("noise", noise(seed, number % 2600)),
        2 => ("recorded", recorded.to_vec()),
        3 => ("recorded and cut short", recorded[..number % OPENING_LEN].to_vec()),
        _ => {
            let mut spoiled = recorded.to_vec();
            spoiled[number % OPENING_LEN] ^= 1 << (number % 8);
            ("recorded and spoiled", spoiled)
        }
    }
}

/// `COUNT` openings from all sources at once, each heard to its end.
fn strangers(door: SocketAddr, recorded: &[u8], caller: &Caller) {
    std::thread::scope(|scope| {
        for thread in 0..SOURCES {
            scope.spawn(move || {
                for number in (usize::from(thread)..COUNT).step_by(usize::from(SOURCES)) {
                    let (kind, bytes) = bad(number, recorded, caller);
                    assert_eq!(answer(source(thread), door, &bytes), 0, "{kind} ({number})");
                }
            });
        }
    });
}

/// As many as may stand in line, of each kind, who wait: all are closed when the time of strangers is up, none before.
fn waiting_strangers(door: SocketAddr, recorded: &[u8], caller: &Caller) {
    std::thread::scope(|scope| {
        for number in GOOD_KNOCKS..GOOD_KNOCKS + usize::from(SOURCES) * STAYING {
            scope.spawn(move || {
                let (kind, bytes) = bad(number, recorded, caller);
                let begun = Instant::now();
                let mut stream = dial(source(u8::try_from(number % usize::from(SOURCES)).expect("few")), door);
                stream.write_all(&bytes).expect("it reads");
                assert_eq!(heard(stream), 0, "{kind} ({number})");
                let waited = begun.elapsed();
                assert!(waited > Duration::from_millis(9500), "{kind} ({number}): closed after {waited:?}");
            });
        }
    });
}

/// The door answers `caller`, as soon as it does not hold that they come too fast.
fn answers(door: SocketAddr, caller: &Caller) {
    until("the paired device is answered", || {
        let said = answer(source(SOURCES), door, &caller.opening());
        assert!(said == 0 || said == MESSAGE_2_LEN, "{said} bytes");
        (said == MESSAGE_2_LEN).then_some(())
    });
}

fn door_of(device: &Device) -> SocketAddr {
    device.address().parse().expect("an address")
}

/// Two paired devices of which `b` dialled `a`, and what it said to open the session.
fn recorded(world: &World) -> (Device, Device, Vec<u8>) {
    let (mut a, mut b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    b.stop();
    let recorder = Recorder::in_place_of(&mut a);
    recorder.lets_meet(&mut a, &mut b);
    let calls = recorder.calls();
    let call = calls.iter().find(|call| call.back.len() > MESSAGE_2_LEN).expect("the session began with an answer");
    (a, b, call.there[..OPENING_LEN].to_vec())
}

#[test]
fn ten_thousand_openings_that_are_none_get_no_byte_back() {
    let world = World::new();
    let (mut a, b, recorded) = recorded(&world);
    let door = door_of(&a);
    let caller = Caller::of(&b);
    answers(door, &caller);
    strangers(door, &recorded, &caller);
    assert!(a.is_running() && a.is_connected_to(&b), "and nobody was disturbed");
    waiting_strangers(door, &recorded, &caller);
    answers(door, &caller);
    // Something that never was an opening, and is longer than any.
    assert_eq!(answer(source(0), door, &random::<40_000>()), 0);
}

#[test]
fn a_recorded_opening_gets_no_byte_after_a_restart_or_a_crash_either() {
    let world = World::new();
    let (mut a, mut b, recorded) = recorded(&world);
    let door = door_of(&a);
    let caller = Caller::of(&b);
    b.stop();
    let fresh = caller.opening();
    assert_eq!(answer(source(0), door, &fresh), MESSAGE_2_LEN);
    for crash in [false, true] {
        if crash {
            a.kill()
        } else {
            a.stop()
        }
        a.start();
        for opening in [&recorded[..], &fresh] {
            assert_eq!(answer(source(0), door, opening), 0, "an opening of before the restart was answered");
        }
        answers(door, &caller);
    }
}
