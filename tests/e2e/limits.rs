//! Limits on the rate slow content down, and nothing else: of all devices together, of one device, by the time of day.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::harness::{Device, World, mesh, noise, pair_of, settle, share, until, within};

/// Content of the file that takes its time.
const LARGE: usize = 12_000_000;
/// What is no content has to be quick while content waits: far below the time that the content takes.
const QUICK: Duration = Duration::from_millis(1500);
/// The limit, in bytes a second, and how far what is measured may be from it.
const RATE: u64 = 2_000_000;
const TOLERANCE: f64 = 0.15;

fn has(device: &Device, path: &str, content: &[u8]) -> Option<()> {
    (fs::metadata(device.at(path)).is_ok_and(|found| found.len() == content.len() as u64)
        && device.get(path).as_deref() == Some(content))
    .then_some(())
}

/// Changes what has no content, and waits until it is there.
fn touch(from: &Device, to: &Device, mode: u32) {
    fs::set_permissions(from.at("tiny"), fs::Permissions::from_mode(mode)).expect("a mode");
    until("a change without content arrives", || {
        (fs::metadata(to.at("tiny")).expect("it is there").permissions().mode() & 0o777 == mode).then_some(())
    });
}

/// A limit of `RATE` on one of two devices holds for what moves from `a` to `b`; a limit that is lifted holds no longer.
fn check(limited: impl Fn(&Device, &Device, &str)) {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("tiny", "tiny");
    settle(&[&a, &b]);
    let sessions = |device: &Device| device.events("device_connected").len();
    let before = (sessions(&a), sessions(&b));
    limited(&a, &b, &RATE.to_string());
    let content = noise(1, LARGE);
    a.save("large", &content);
    // What was saved up goes at once: the clock runs from behind it.
    let (began, already) = until("the transfer begins", || {
        let received = b.traffic().0;
        (received > RATE).then(|| (Instant::now(), received))
    });
    let asked = Instant::now();
    touch(&a, &b, 0o600);
    for device in [&a, &b] {
        device.ok(&["ping"]);
        device.ok(&["status"]);
    }
    assert!(asked.elapsed() < QUICK, "control waited for content: {:?}", asked.elapsed());
    assert!(b.get("large").is_none(), "the content was there before the rate allows it");
    until("the content arrives", || has(&b, "large", &content));
    let rate = (LARGE as u64 - already) as f64 / began.elapsed().as_secs_f64();
    let share = rate / RATE as f64;
    assert!((1.0 - TOLERANCE..1.0 + TOLERANCE).contains(&share), "{rate:.0} bytes a second at a limit of {RATE}");
    // At this rate it would take twenty minutes.
    limited(&a, &b, "10000");
    let content = noise(2, LARGE);
    a.save("larger", &content);
    let moved = b.traffic().0;
    until("the second transfer begins", || (b.traffic().0 > moved + 20_000).then_some(()));
    limited(&a, &b, "0");
    until("the content arrives without a limit", || has(&b, "larger", &content));
    settle(&[&a, &b]);
    assert_eq!((sessions(&a), sessions(&b)), before, "waiting for a limit ends no session");
}

fn set(device: &Device, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        device.ok(&["config", "set", key, value]);
    }
}

#[test]
fn a_limit_on_what_is_sent_holds_until_it_is_lifted() {
    check(|a, _, rate| set(a, &[("rate_limit_lan", "true"), ("rate_limit_up", rate)]));
}

#[test]
fn a_limit_on_what_is_received_holds_until_it_is_lifted() {
    check(|_, b, rate| set(b, &[("rate_limit_lan", "true"), ("rate_limit_down", rate)]));
}

#[test]
fn a_limit_on_what_one_device_is_sent_holds_until_it_is_lifted() {
    check(|a, _, rate| drop(a.ok(&["device", "limit", "b", "--up", rate])));
}

#[test]
fn a_limit_on_what_comes_from_one_device_holds_until_it_is_lifted() {
    check(|_, b, rate| drop(b.ok(&["device", "limit", "a", "--down", rate])));
}

/// Loopback counts as a local network.
#[test]
fn limits_of_all_devices_spare_the_local_network_unless_told_otherwise() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    set(&a, &[("rate_limit_up", "10000")]);
    set(&b, &[("rate_limit_down", "10000"), ("schedule", "pause")]);
    let content = noise(1, LARGE);
    a.save("large", &content);
    until("it arrives as if there were no limit", || has(&b, "large", &content));
    // What waits already is let go, too.
    set(&a, &[("rate_limit_lan", "true")]);
    let (content, moved) = (noise(2, LARGE), b.traffic().0);
    a.save("larger", &content);
    until("it begins", || (b.traffic().0 > moved + 20_000).then_some(()));
    let left = within(QUICK, || has(&b, "larger", &content));
    assert!(left.is_none(), "the limit does not hold in the local network");
    set(&a, &[("rate_limit_lan", "false")]);
    until("it arrives", || has(&b, "larger", &content));
    settle(&[&a, &b]);
}

/// The other devices are as fast as ever, and what was said of one survives a restart.
#[test]
fn a_limit_of_one_device_holds_up_no_other() {
    let world = World::new();
    let (mut a, b, c) = (world.device("a"), world.device("b"), world.device("c"));
    mesh(&[&a, &b, &c]);
    share(&[&a, &b, &c]);
    a.put("tiny", "tiny");
    settle(&[&a, &b, &c]);
    let refused = a.fails(1, &["device", "limit", "b", "--up", "fast"]);
    assert!(refused.contains("\"fast\" must be a size"), "{refused}");
    a.fails(2, &["device", "limit", "b"]);
    let said = a.ok(&["device", "limit", "b", "--up", "10KB"]);
    assert!(said.contains("at most 10000 bytes a second to it, no limit of its own from it"), "{said}");
    // Else it would get everything from there.
    c.ok(&["device", "limit", "b", "--up", "10KB"]);
    a.stop();
    a.start();
    let limits = |device: &Device| -> Vec<Value> {
        let list = device.json(&["device", "list"])["devices"].clone();
        let devices = list.as_array().expect("a list").iter();
        devices
            .map(|entry| {
                Value::Array(vec![entry["name"].clone(), entry["limit_up"].clone(), entry["limit_down"].clone()])
            })
            .collect()
    };
    let listed = limits(&a);
    for row in [serde_json::json!(["b", 10_000, null]), serde_json::json!(["c", null, null])] {
        assert!(listed.contains(&row), "{listed:?}");
    }
    let table = a.ok(&["device", "list"]);
    assert!(table.contains("LIMIT") && table.contains("up 10.0 kB/s"), "{table}");
    until("all are connected", || (a.is_connected_to(&b) && a.is_connected_to(&c)).then_some(()));
    let content = noise(1, LARGE);
    a.save("large", &content);
    until("the device without a limit has it", || has(&c, "large", &content));
    touch(&a, &b, 0o600);
    assert!(b.get("large").is_none(), "the limit does not hold");
    for device in [&a, &c] {
        device.ok(&["device", "limit", "b", "--up", "0"]);
    }
    until("the other one has it", || has(&b, "large", &content));
    settle(&[&a, &b, &c]);
}

/// Minutes and seconds of the day on this machine's clock.
fn local_time() -> (u32, u32) {
    let date = Command::new("date").arg("+%H:%M:%S").output().expect("date runs");
    let text = String::from_utf8(date.stdout).expect("a time is text");
    let parts: Vec<u32> = text.trim().split(':').map(|part| part.parse().expect("a number")).collect();
    (parts[0] * 60 + parts[1], parts[2])
}

#[test]
fn a_schedule_holds_at_its_time_and_ends_by_itself() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    set(&b, &[("rate_limit_lan", "true")]);
    let refused = b.fails(1, &["config", "set", "schedule", "mon-fry 09:00-17:00 pause"]);
    assert!(refused.contains("\"fry\" is no day"), "{refused}");
    a.put("tiny", "tiny");
    settle(&[&a, &b]);
    let (now, second) = local_time();
    // Not so late in the minute that it could be over before anything was looked at.
    let ends = now + if second < 45 { 1 } else { 2 };
    let clock = |minute: u32| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    let rule = format!("{}-{} pause", clock(now), clock(ends));
    let set_to = b.ok(&["config", "set", "schedule", &format!("up=1GB; {rule}")]);
    assert!(set_to.contains(&format!("(now: {rule})")), "{set_to}");
    let content = noise(1, 300_000);
    a.save("large", &content);
    touch(&a, &b, 0o600);
    let limits = b.json(&["status"])["limits"].clone();
    assert_eq!(limits, serde_json::json!({ "paused": true, "lan": true, "rule": rule }));
    assert!(b.ok(&["status"]).contains(&format!("file contents wait (schedule: {rule})")));
    assert!(b.get("large").is_none(), "nothing moves during a pause");
    within(Duration::from_secs(150), || has(&b, "large", &content)).expect("it moves when the pause is over");
    let (after, _) = local_time();
    assert!((after + 24 * 60 - now) % (24 * 60) >= ends - now, "it moved before the pause was over");
    let limits = b.json(&["status"])["limits"].clone();
    assert_eq!(limits, serde_json::json!({ "up": 1_000_000_000, "paused": false, "lan": true, "rule": "up=1gb" }));
    settle(&[&a, &b]);
}

/// A pause outlasts what a session with open requests bears of silence.
#[test]
fn a_sender_that_pauses_for_long_keeps_its_session() {
    const PAUSED: Duration = Duration::from_secs(18);
    let world = World::new();
    let (a, b) = pair_of(&world);
    set(&a, &[("rate_limit_lan", "true"), ("schedule", "mon,tue,wed,thu,fri,sat,sun pause")]);
    a.put("tiny", "tiny");
    let content = noise(1, 300_000);
    a.save("large", &content);
    until("both are known of", || (b.folder()["need_files"] == 2).then_some(()));
    let sessions = |device: &Device| device.events("device_connected").len();
    let before = (sessions(&a), sessions(&b));
    let came = within(PAUSED, || b.get("tiny").or_else(|| b.get("large")));
    assert_eq!(came, None, "nothing moves during a pause");
    a.put("empty", "");
    until("what has no content goes on", || b.get("empty"));
    a.ok(&["config", "set", "schedule", ""]);
    until("it moves when the pause is over", || has(&b, "large", &content));
    assert_eq!((sessions(&a), sessions(&b)), before, "a pause ends no session");
    settle(&[&a, &b]);
}

/// What waits for a connection that does not cost by the byte.
fn waiting(device: &Device, path: &str) -> Option<Value> {
    let folder = device.folder();
    let problems = folder["problems"].as_array().expect("a list of problems");
    problems.iter().find(|problem| problem["path"] == path && problem["code"] == "metered").cloned()
}

/// Loopback counts as a local network: there only what was said of one device holds.
#[test]
fn over_a_metered_connection_only_what_is_small_is_fetched() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("tiny", "tiny");
    set(&b, &[("metered", "true"), ("metered_max", "100KB")]);
    a.save("near", noise(1, 300_000));
    settle(&[&a, &b]);
    let said = b.ok(&["device", "limit", "a", "--metered", "yes"]);
    assert!(said.contains("metered wherever it is"), "{said}");
    let (large, small, before) = (noise(2, LARGE), noise(3, 50_000), b.traffic().0);
    a.save("large", &large);
    let problem = until("what is large waits", || waiting(&b, "large"));
    assert_eq!(problem["words"], "waits for an unmetered connection");
    assert_eq!(problem["needs_person"], false);
    a.save("small", &small);
    until("what is small arrives", || has(&b, "small", &small));
    touch(&a, &b, 0o600);
    fs::remove_file(a.at("near")).expect("a file");
    until("a deletion arrives", || (!b.at("near").exists()).then_some(()));
    assert!(waiting(&b, "large").is_some() && b.get("large").is_none());
    assert!(b.traffic().0 - before < 500_000, "some of it was fetched");
    b.ok(&["status", "--check"]);
    assert!(b.ok(&["status"]).contains("metered: files over 100.0 kB wait outside of the local network"));
    assert_eq!(b.ctl(&["wait", "--timeout", "1"]).code, 1, "it is not in sync");
    // In the middle of a transfer it stops, and goes on with what is left.
    b.ok(&["device", "limit", "a", "--metered", "no", "--down", "2MB"]);
    let before = b.traffic().0;
    until("the transfer begins", || (b.traffic().0 > before + 2_000_000).then_some(()));
    b.ok(&["device", "limit", "a", "--metered", "yes"]);
    until("the transfer stops", || waiting(&b, "large"));
    b.ok(&["device", "limit", "a", "--metered", "default", "--down", "0"]);
    until("it goes on", || has(&b, "large", &large));
    let fetched = b.traffic().0 - before;
    assert!(fetched < LARGE as u64 + 1_500_000, "{fetched} bytes came of {LARGE}: what was there came again");
    settle(&[&a, &b]);
}
