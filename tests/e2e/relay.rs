//! A relay's keys let people in and keep them out, and its log says numbers only.

use rustix::process::Signal;
use tests::harness::{Device, World, assert_same, pair, settle, share, until};

/// Looks after the relay's keys, as its owner does while it runs.
fn key(relay: &Device, args: &[&str]) -> (bool, String) {
    let run = relay.daemon_command(&[&["relay", "key"], args].concat()).output().expect("the program runs");
    let text = [run.stdout, run.stderr].concat();
    (run.status.success(), String::from_utf8(text).expect("words").trim().to_owned())
}

fn use_relay(devices: &[&Device], link: &str) {
    for device in devices {
        device.ok(&["config", "set", "relays", link]);
    }
}

fn connected(a: &Device, b: &Device, expected: bool) {
    let words = if expected { "they are connected" } else { "they are cut off" };
    until(words, || (a.is_connected_to(b) == expected && b.is_connected_to(a) == expected).then_some(()));
}

#[test]
fn a_key_that_is_taken_back_cuts_off_those_who_came_in_by_it() {
    let world = World::new();
    let mut relay = world.prepare("relay", "");
    let own = relay.serve_as_relay();
    let (made, alice) = key(&relay, &["add", "alice"]);
    assert!(made && alice.starts_with("sdrelay1") && alice != own, "{alice}");
    assert_eq!(key(&relay, &["show", "alice"]), (true, alice.clone()));
    assert_eq!(key(&relay, &["show", "own"]), (true, own.clone()));
    assert_eq!(key(&relay, &["list"]), (true, "own\nalice".to_owned()));
    let (made, words) = key(&relay, &["add", "alice"]);
    assert!(!made && words.contains("there is a key alice already"), "{words}");
    until("the relay takes the key in", || relay.log().contains("count=2").then_some(()));
    let (a, b) = (world.device("a"), world.device("b"));
    use_relay(&[&a, &b], &alice);
    let mut showing = a.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    b.ok(&["pair", &code, "--yes"]);
    assert_eq!(showing.finish().0, 0);
    a.put("f", "by alice's key");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_eq!(key(&relay, &["remove", "alice"]), (true, String::new()));
    connected(&a, &b, false);
    b.put("g", "by the owner's key");
    use_relay(&[&a, &b], &own);
    connected(&a, &b, true);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    relay.signal(Signal::USR1);
    until("it says what it counted", || relay.log().contains("bytes passed on").then_some(()));
    let log = relay.log();
    let counts = log.lines().find(|line| line.contains("bytes passed on")).expect("it is there");
    assert!(counts.contains("1 pairs joined; since the start"), "{counts}");
    let about = log.lines().filter(|line| !line.starts_with("sdrelay1"));
    let ids = [&a, &b].map(|device| device.json(&["id"])["id"].as_str().expect("an id")[2..10].to_owned());
    for line in about {
        let names_somebody = line.contains("127.") || ids.iter().any(|id| line.contains(id.as_str()));
        assert!(!names_somebody, "the log names somebody: {line}");
    }
}

#[test]
fn bounds_are_flags_and_wrong_ones_are_refused() {
    let world = World::new();
    let relay = world.prepare("relay", "");
    let run = |args: &[&str]| {
        let run = relay.daemon_command(&[&["relay"], args].concat()).output().expect("the program runs");
        (run.status.code(), String::from_utf8([run.stdout, run.stderr].concat()).expect("words"))
    };
    let (code, help) = run(&["--help"]);
    assert_eq!(code, Some(0));
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (flag, default) in
        [("--sessions", "64"), ("--parked", "256"), ("--parked-per-ip", "64"), ("--rate", "10MB"), ("--knocks", "10")]
    {
        let (_, behind) = help.split_once(&format!("{flag} <")).unwrap_or_else(|| panic!("{flag} is not in {help}"));
        let shown = behind.split("[default: ").nth(1).and_then(|rest| rest.split(']').next());
        assert_eq!(shown, Some(default), "{flag}");
    }
    for (args, words) in [
        (["--rate", "fast"], "a size such as"),
        (["--rate", "5GB"], "0 means no limit"),
        (["--sessions", "many"], "invalid"),
        (["key", "show"], "required"),
    ] {
        let (code, said) = run(&args);
        assert!(code == Some(2) && said.contains(words), "{args:?}: {code:?} {said}");
    }
    let (made, words) = key(&relay, &["add", "early"]);
    assert!(!made && words.contains("nobody knows where clients reach the relay"), "{words}");
    assert_eq!(key(&relay, &["list"]), (true, "own".to_owned()), "a key without a link is not made");
    let (made, link) = key(&relay, &["add", "early", "--public", "relay.example.org:28731"]);
    assert!(made && link.ends_with("@relay.example.org:28731"), "{link}");
}

/// A device that listens nowhere, so that nobody can call it.
fn silent(world: &World, name: &str) -> Device {
    let mut device = world.prepare(name, "lan = \"never\"\nlisten = []\n");
    // Not asked for: it listens nowhere.
    device.listen_at("127.0.0.1:9");
    device.listen_as_configured();
    device.start();
    device
}

#[test]
fn two_devices_that_nobody_can_call_meet_through_a_third() {
    let world = World::new();
    let (c, a, b) = (world.device("c"), silent(&world, "a"), silent(&world, "b"));
    c.ok(&["net", "relay", "on"]);
    let screen = c.ok(&["net"]);
    assert!(screen.contains("relays for    your other devices, once there are any"), "{screen}");
    for other in [&a, &b] {
        pair(&c, other);
    }
    connected(&a, &b, true);
    let screen = a.ok(&["net"]);
    assert!(screen.contains("relays        c (your device)") && screen.contains("b: relay "), "{screen}");
    a.put("f", "through c, and not by it");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    // One that is paused is not called, for others neither.
    a.ok(&["device", "pause", "c"]);
    c.ok(&["net", "relay", "off"]);
    connected(&a, &b, false);
    c.ok(&["net", "relay", "on"]);
    a.ok(&["device", "resume", "c"]);
    connected(&a, &b, true);
    settle(&[&a, &b]);
}
