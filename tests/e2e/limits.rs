//! Limits on the rate slow content down, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tests::harness::{Device, World, noise, pair_of, settle, until};

/// Content of the file that takes its time.
const LARGE: usize = 6_000_000;
/// What is no content has to be quick while content waits: far below the time that the content takes.
const QUICK: Duration = Duration::from_millis(1500);

fn has(device: &Device, path: &str, content: &[u8]) -> Option<()> {
    (fs::metadata(device.at(path)).is_ok_and(|found| found.len() == content.len() as u64)
        && device.get(path).as_deref() == Some(content))
    .then_some(())
}

/// A limit of 2 MB/s on one of two devices holds for what moves from `a` to `b`; a limit that is lifted holds no longer.
fn check(limited: impl Fn(&Device, &Device, &str)) {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("tiny", "tiny");
    settle(&[&a, &b]);
    let sessions = |device: &Device| device.events("device_connected").len();
    let before = (sessions(&a), sessions(&b));
    limited(&a, &b, "2000000");
    let content = noise(1, LARGE);
    let began = Instant::now();
    a.save("large", &content);
    until("the transfer begins", || (b.traffic().0 > 300_000).then_some(()));
    let asked = Instant::now();
    fs::set_permissions(a.at("tiny"), fs::Permissions::from_mode(0o600)).expect("a mode");
    until("a change without content arrives", || {
        (fs::metadata(b.at("tiny")).expect("it is there").permissions().mode() & 0o777 == 0o600).then_some(())
    });
    for device in [&a, &b] {
        device.ok(&["ping"]);
        device.ok(&["status"]);
    }
    assert!(asked.elapsed() < QUICK, "control waited for content: {:?}", asked.elapsed());
    assert!(b.get("large").is_none(), "the content was there before the rate allows it");
    until("the content arrives", || has(&b, "large", &content));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "6 MB took {took:?} at 2 MB/s");
    // At this rate it would take ten minutes.
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

#[test]
fn a_limit_on_what_is_sent_holds_until_it_is_lifted() {
    check(|a, _, rate| {
        a.ok(&["config", "set", "rate_limit_up", rate]);
    });
}

#[test]
fn a_limit_on_what_is_received_holds_until_it_is_lifted() {
    check(|_, b, rate| {
        b.ok(&["config", "set", "rate_limit_down", rate]);
    });
}
