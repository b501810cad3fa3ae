//! Whoever is not paired gets silence, and does no harm. Names of files stay out of the log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use tests::harness::{Device, World, assert_same, noise, pair_of, settle};

fn dial(device: &Device) -> TcpStream {
    let address: SocketAddr = device.address().parse().expect("an address");
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("it listens")
}

/// What comes back: until the other side hangs up, or for a while.
fn heard(mut stream: TcpStream) -> usize {
    stream.set_read_timeout(Some(Duration::from_millis(1500))).expect("a timeout");
    let mut bytes = Vec::new();
    // Silence until the timeout and a reset are as good as an end.
    let _ = stream.read_to_end(&mut bytes);
    bytes.len()
}

#[test]
fn garbage_and_port_scans_get_no_byte_back_and_do_no_harm() {
    let world = World::new();
    let (mut a, b) = pair_of(&world);
    a.put("before", "1");
    settle(&[&a, &b]);
    let words: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0; 24],
        &[0xff; 23],
        b"",
    ];
    let mut listeners = Vec::new();
    for word in words.iter().map(|word| word.to_vec()).chain((0..6).map(|seed| noise(seed, 24 << (seed * 2)))) {
        let mut stream = dial(&a);
        // The daemon may have hung up already.
        let _ = stream.write_all(&word);
        listeners.push(std::thread::spawn(move || heard(stream)));
    }
    for _ in 0..300 {
        drop(dial(&a));
    }
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for seed in 0..20 {
        // Nobody may listen there.
        let _ = udp.send_to(&noise(seed, 200), a.address());
    }
    for listener in listeners {
        assert_eq!(listener.join().expect("it reads"), 0, "a stranger heard something");
    }
    assert!(a.is_running());
    a.put("after", "2");
    b.put("back", "3");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}

#[test]
fn many_silent_connections_do_not_keep_a_paired_device_out() {
    let world = World::new();
    let (a, mut b) = pair_of(&world);
    b.stop();
    let idle: Vec<TcpStream> = (0..200).map(|_| dial(&a)).collect();
    a.put("f", "1");
    b.start();
    crate::apart::meet(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    drop(idle);
}

#[test]
fn the_log_holds_no_file_name_and_no_secret() {
    let world = World::new();
    let (mut a, b) = (world.device("a"), world.device("b"));
    let mut showing = a.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    b.ok(&["pair", &code, "--yes", "--address", &a.address()]);
    assert_eq!(showing.finish().0, 0);
    tests::harness::share(&[&a, &b]);
    a.put("tagged-directory/tagged-file", "tagged-content");
    settle(&[&a, &b]);
    crate::apart::cut(&a, &b);
    a.put("tagged-directory/tagged-file", "tagged-content of a");
    b.put("tagged-directory/tagged-file", "tagged-content of b");
    crate::apart::noticed(&a, "tagged-directory/tagged-file", 2);
    crate::apart::noticed(&b, "tagged-directory/tagged-file", 1);
    crate::apart::heal(&a, &b);
    settle(&[&a, &b]);
    std::fs::remove_dir_all(b.at("tagged-directory")).expect("gone");
    std::os::unix::net::UnixListener::bind(a.at("tagged-socket")).expect("a socket");
    a.ok(&["folder", "rescan", tests::harness::FOLDER]);
    b.fails(1, &["restore", b.at("tagged-directory/none").to_str().expect("text")]);
    a.fails(1, &["wait", "--timeout", "1"]);
    a.stop();
    a.start();
    for device in [&a, &b] {
        let log = device.log();
        assert!(log.lines().count() > 2, "{} logs what it does", device.name());
        for secret in ["tagged", code.as_str(), device.root()] {
            assert!(!log.contains(secret), "the log of {} holds {secret}:\n{log}", device.name());
        }
    }
}
