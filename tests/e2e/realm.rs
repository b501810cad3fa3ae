//! One person's devices: paired with one is paired with all, removed on one is shut out everywhere.

use crate::apart::meet;
use protocol::realm::RecoveryCode;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tests::harness::{Device, World, assert_same, join, pair, settle, share, until};

/// Passes connections on to a device, and counts the bytes either way.
struct Tap {
    address: String,
    tries: Arc<AtomicUsize>,
    there: Arc<AtomicUsize>,
    back: Arc<AtomicUsize>,
}

impl Tap {
    fn before(device: &Device) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let [tries, there, back] = [0; 3].map(|zero| Arc::new(AtomicUsize::new(zero)));
        let (target, counts) = (device.address(), [&tries, &there, &back].map(Arc::clone));
        std::thread::spawn(move || {
            for dialled in listener.incoming().map_while(Result::ok) {
                let Ok(device) = TcpStream::connect(&target) else { continue };
                let ends = [dialled.try_clone(), device.try_clone()].map(|end| end.expect("a handle"));
                let [tries, there, back] = counts.each_ref().map(Arc::clone);
                tries.fetch_add(1, Ordering::Relaxed);
                let [dialled_again, device_again] = ends;
                std::thread::spawn(move || pass(dialled, device, &there));
                std::thread::spawn(move || pass(device_again, dialled_again, &back));
            }
        });
        Self { address, tries, there, back }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicUsize) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        count.fetch_add(read, Ordering::Relaxed);
        if to.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
    // The other end may be gone.
    let _ = to.shutdown(Shutdown::Write);
}

/// Devices that find each other by beacons.
fn near<const N: usize>(world: &World, names: [&str; N]) -> [Device; N] {
    names.map(|name| {
        let mut device = world.prepare(name, "");
        device.listen_at("127.0.0.1:0");
        device.start();
        device
    })
}

/// Three devices of one realm, which the first has founded, each connected to the others.
fn met(world: &World) -> [Device; 3] {
    let [a, b, c] = near(world, ["a", "b", "c"]);
    pair(&a, &b);
    // It would found one of its own to pair with the third.
    until("the second is in the first's realm", || (b.json(&["realm", "show"])["devices"] == 2).then_some(()));
    pair(&b, &c);
    for (one, other) in [(&a, &b), (&b, &c), (&a, &c)] {
        meet(one, other);
    }
    [a, b, c]
}

/// Name and role of every device that one lists, itself included as what the others call it.
fn listed(device: &Device) -> Vec<(String, String)> {
    let list = device.json(&["device", "list"]);
    let devices = list["devices"].as_array().expect("a list of devices");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<(String, String)> = devices.iter().map(|d| (text(&d["id"]), text(&d["role"]))).collect();
    all.push((text(&device.json(&["id"])["id"]), "admin".to_owned()));
    all.sort();
    all
}

#[test]
fn a_third_device_paired_with_one_meets_all() {
    let world = World::new();
    let [a, b, c] = near(&world, ["a", "b", "c"]);
    pair(&a, &b);
    a.put("d/f", "of all devices");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    pair(&b, &c);
    let paired = Instant::now();
    until("the third device meets the first", || (c.is_connected_to(&a) && a.is_connected_to(&c)).then_some(()));
    assert!(paired.elapsed() < Duration::from_secs(10), "{:?}", paired.elapsed());
    join(&c);
    settle(&[&c, &a, &b]);
    c.put("from-c", "to a without b");
    settle(&[&c, &a]);
    assert!(paired.elapsed() < Duration::from_secs(10), "{:?}", paired.elapsed());
    settle(&[&b]);
    assert_same(&[&a, &b, &c], 0);
    let lists = [&a, &b, &c].map(listed);
    assert_eq!(lists[0].len(), 3, "{lists:?}");
    assert!(lists[0] == lists[1] && lists[1] == lists[2], "{lists:?}");
}

#[test]
fn a_device_removed_while_it_is_connected_is_shut_out_everywhere() {
    let world = World::new();
    let [a, b, mut c] = met(&world);
    let removed = Instant::now();
    a.ok(&["device", "remove", "c", "--yes"]);
    until("it is cut off by both", || (!c.is_connected_to(&a) && !c.is_connected_to(&b)).then_some(()));
    assert!(removed.elapsed() < Duration::from_secs(2), "{:?}", removed.elapsed());
    assert_shut_out(&a, &b, &mut c);
}

#[test]
fn a_device_removed_while_it_is_away_is_shut_out_everywhere() {
    let world = World::new();
    let [a, b, mut c] = met(&world);
    c.stop();
    a.ok(&["device", "remove", "c", "--yes"]);
    until("the other device has heard of it", || (listed(&b).len() == 2).then_some(()));
    c.start();
    assert_shut_out(&a, &b, &mut c);
}

#[test]
fn a_disowned_device_takes_those_with_it_that_it_added() {
    let world = World::new();
    let [a, b, c] = met(&world);
    let [d] = near(&world, ["d"]);
    pair(&a, &d);
    meet(&d, &b);
    let said = a.ok(&["device", "remove", "b", "--disown", "--yes"]);
    assert!(said.contains("c, added by it, went with it"), "{said}");
    let apart = [(&a, &b), (&a, &c), (&d, &b), (&d, &c)];
    until("both are cut off", || apart.iter().all(|(one, other)| !one.is_connected_to(other)).then_some(()));
    for device in [&a, &d] {
        until("the others go on", || (listed(device).len() == 2).then_some(()));
    }
    a.put("f", "of those that are left");
    share(&[&a, &d]);
    settle(&[&a, &d]);
    assert_same(&[&a, &d], 0);
    assert_eq!(c.json(&["folder", "offers"])["offers"].as_array().map(Vec::len), Some(0));
}

#[test]
fn what_a_removed_device_did_can_be_taken_back_later() {
    let world = World::new();
    let [a, b, c] = met(&world);
    let id = b.json(&["id"])["id"].as_str().expect("an id").to_owned();
    let said = a.ok(&["device", "remove", "b", "--yes"]);
    assert!(said.contains("it had added c") && said.contains("--disown"), "{said}");
    assert!(a.is_connected_to(&c));
    let words = a.fails(1, &["device", "remove", &id, "--yes"]);
    assert!(words.contains("no paired device"), "{words}");
    let said = a.ok(&["device", "remove", &id, "--disown", "--yes"]);
    assert!(said.contains("c, added by it, went with it"), "{said}");
    until("it is cut off", || (!a.is_connected_to(&c)).then_some(()));
    assert_eq!(listed(&a).len(), 1);
}

#[test]
fn a_removed_device_comes_back_as_a_new_one() {
    let world = World::new();
    let [a, b] = near(&world, ["a", "b"]);
    pair(&a, &b);
    meet(&a, &b);
    let before = b.json(&["id"])["id"].clone();
    a.ok(&["device", "remove", "b", "--yes"]);
    until("it is cut off", || (!b.is_connected_to(&a)).then_some(()));
    let mut showing = a.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    b.fails(1, &["pair", &code, "--yes", "--address", &a.address()]);
    let (exit, words) = showing.finish();
    assert!(exit == 1 && words.contains("syncctl realm leave"), "{words}");
    b.ok(&["realm", "leave", "--yes"]);
    b.ok(&["ping", "--wait", "10"]);
    until("it is another one", || (b.json(&["id"])["id"] != before).then_some(()));
    assert_eq!(b.json(&["realm", "show"])["devices"], 0);
    pair(&a, &b);
    meet(&a, &b);
    assert_eq!(listed(&a), listed(&b));
}

#[test]
fn two_that_belong_to_others_are_told_what_to_do() {
    let world = World::new();
    let [a, b, c, d] = near(&world, ["a", "b", "c", "d"]);
    pair(&a, &b);
    pair(&c, &d);
    for (one, other) in [(&a, &b), (&c, &d)] {
        until("they are in one realm", || (listed(one) == listed(other)).then_some(()));
    }
    let mut showing = a.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    let said = c.fails(1, &["pair", &code, "--yes", "--address", &a.address()]);
    assert!(said.contains("syncctl realm leave"), "{said}");
    let (exit, words) = showing.finish();
    assert!(exit == 1 && words.contains("syncctl realm leave"), "{words}");
    assert_eq!((listed(&a).len(), listed(&c).len()), (2, 2), "nothing was saved");
}

#[test]
fn who_leaves_is_gone_from_all_lists() {
    let world = World::new();
    let [a, b, c] = met(&world);
    c.ok(&["realm", "leave", "--yes"]);
    until("the others know", || (listed(&a).len() == 2 && listed(&a) == listed(&b)).then_some(()));
    c.ok(&["ping", "--wait", "10"]);
    assert_eq!(listed(&c).len(), 1);
}

#[test]
fn the_recovery_code_removes_what_no_device_may() {
    let world = World::new();
    let [a, b] = near(&world, ["a", "b"]);
    let mut showing = a.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let first = showing.json().expect("the code comes first");
    let text = |key: &str| first[key].as_str().expect("the first pairing shows both codes").to_owned();
    b.ok(&["pair", &text("code"), "--yes", "--address", &a.address()]);
    assert_eq!(showing.finish().0, 0);
    meet(&a, &b);
    let said = b.fails(1, &["device", "remove", "a", "--yes"]);
    assert!(said.contains("recovery code"), "{said}");
    let said = b.fails(1, &["device", "remove", "a", "--yes", "--recovery-code", "sdr1-nonsense"]);
    assert!(said.contains("recovery code"), "{said}");
    let other = RecoveryCode::from_random([7; 20]).words().to_string();
    let said = b.fails(1, &["device", "remove", "a", "--yes", "--recovery-code", &other]);
    assert!(said.contains("not the recovery code of this realm"), "{said}");
    b.ok(&["device", "remove", "a", "--yes", "--recovery-code", &text("recovery_code")]);
    until("it is cut off", || (!b.is_connected_to(&a)).then_some(()));
    assert_eq!(listed(&b).len(), 1);
    let mut again = a.spawn(&["--json", "pair", "--yes", "--timeout", "2"]);
    assert!(again.json().expect("a code")["recovery_code"].is_null(), "it is shown once");
}

/// The others go on without it, and it meets nobody whatever it tries.
fn assert_shut_out(a: &Device, b: &Device, c: &mut Device) {
    assert_eq!(listed(a), listed(b));
    assert_eq!(listed(a).len(), 2);
    for device in [a, b] {
        let tap = Tap::before(device);
        c.ok(&["device", "address", device.name(), &tap.address]);
        // Knock and first message of the handshake, with the secrets it had.
        until("it tries", || (tap.there.load(Ordering::Relaxed) >= 1292).then_some(()));
        // It gives up and says why: no answer.
        until("it gives up", || (tap.tries.load(Ordering::Relaxed) >= 2).then_some(()));
        assert_eq!(tap.back.load(Ordering::Relaxed), 0, "{} answers a removed device", device.name());
    }
    assert!(!a.is_connected_to(c) && !b.is_connected_to(c));
    assert!(!c.is_connected_to(a) && !c.is_connected_to(b));
    a.put("after", "not for everybody");
    a.ok(&["folder", "add", a.root(), "--name", "private"]);
    until("the rest goes on", || {
        let offers = b.json(&["folder", "offers"]);
        offers["offers"].as_array()?.iter().any(|offer| offer["name"] == "private").then_some(())
    });
    assert_eq!(c.json(&["folder", "offers"])["offers"].as_array().map(Vec::len), Some(0));
}
