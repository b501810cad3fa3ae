//! Which limit holds for which session, at a clock that the test holds.

use super::*;
use std::time::Duration;

const NEAR: Whose = Whose { device: DeviceId([1; 32]), near: true };
const FAR: Whose = Whose { device: DeviceId([2; 32]), near: false };

fn caps(up: u64, down: u64) -> Caps {
    Caps { up: Cap::of(up), down: Cap::of(down) }
}

fn limits(all: Caps, lan: bool, of: &[(DeviceId, Caps)]) -> Limits {
    Limits { all, lan, devices: of.iter().copied().collect(), metered: Metered::default() }
}

/// Milliseconds until a second piece of 1,000 bytes may go after the first, for a device in the local network and one
/// that is not. Each is asked of fresh paces.
fn check(name: &str, limits: &Limits, near_ms: Option<u64>, far_ms: Option<u64>) {
    for (whose, expected) in [(NEAR, near_ms), (FAR, far_ms)] {
        let now = Instant::now();
        let mut paces = Paces::free(now);
        paces.set(now, limits);
        assert_eq!(paces.due(now, whose), None, "{name}: the first piece goes at once");
        paces.spend(now, whose, 1000);
        let due = paces.due(now, whose).map(|at| (at - now).as_millis());
        assert_eq!(due, expected.map(u128::from), "{name}: {whose:?}");
        assert!(!paces.is_held(whose), "{name}");
    }
}

#[test]
fn which_limit_holds_for_whom() {
    let (free, slow) = (Caps::default(), caps(7, 1000));
    check("none", &Limits::default(), None, None);
    check("all spare the local network", &limits(slow, false, &[]), None, Some(1000));
    check("all hold there too", &limits(slow, true, &[]), Some(1000), Some(1000));
    check("one's own holds there", &limits(free, false, &[(NEAR.device, slow)]), Some(1000), None);
    check("one's own holds elsewhere", &limits(free, false, &[(FAR.device, slow)]), None, Some(1000));
    check("the slower of two", &limits(caps(0, 4000), false, &[(FAR.device, slow)]), None, Some(1000));
    check(
        "the slower of two, the other way round",
        &limits(slow, false, &[(FAR.device, caps(0, 4000))]),
        None,
        Some(1000),
    );
    check("another way's limit", &limits(caps(1, 0), true, &[]), None, None);
}

#[test]
fn devices_share_the_limit_of_all() {
    let now = Instant::now();
    let mut paces = Paces::free(now);
    paces.set(now, &limits(caps(0, 1000), true, &[]));
    paces.spend(now, NEAR, 2000);
    assert_eq!(paces.due(now, FAR), Some(now + Duration::from_secs(2)));
    paces.set(now, &limits(caps(0, 1000), false, &[]));
    assert_eq!((paces.due(now, NEAR), paces.due(now, FAR).is_some()), (None, true));
}

#[test]
fn a_hold_holds_until_the_limits_change() {
    let now = Instant::now();
    let mut paces = Paces::free(now);
    let held = Caps { down: Cap::Hold, ..Caps::default() };
    paces.set(now, &limits(held, false, &[]));
    assert!(paces.is_held(FAR) && !paces.is_held(NEAR));
    assert!(paces.due(now, FAR).is_some() && paces.due(now, NEAR).is_none());
    paces.set(now, &limits(Caps::default(), false, &[(NEAR.device, held)]));
    assert!(!paces.is_held(FAR) && paces.is_held(NEAR));
    paces.set(now, &Limits::default());
    assert!(!paces.is_held(NEAR) && paces.due(now, NEAR).is_none());
}

#[test]
fn portions_fit_the_slowest_rate() {
    let now = Instant::now();
    let mut paces = Paces::free(now);
    paces.set(now, &limits(caps(0, 2_000_000), false, &[(FAR.device, caps(0, 1_000_000))]));
    assert_eq!((paces.portion(FAR), paces.portion(NEAR)), (250_000, REQUEST_BYTES_MAX));
}

#[test]
fn what_may_be_fetched_over_a_connection_that_costs() {
    let rows = [
        ("nowhere", false, None, (true, true)),
        ("here", true, None, (true, false)),
        ("the way to both", false, Some(true), (false, false)),
        ("the way to neither", true, Some(false), (true, true)),
    ];
    for (name, here, device, (near, far)) in rows {
        let devices = device.map(|costs| [(NEAR.device, costs), (FAR.device, costs)]).into_iter().flatten().collect();
        let metered = Metered { here, devices, max: 1000 };
        assert_eq!((metered.may_fetch(NEAR, 1001), metered.may_fetch(FAR, 1001)), (near, far), "{name}");
        assert!(metered.may_fetch(NEAR, 1000) && metered.may_fetch(FAR, 1000), "{name}: small ones");
    }
}

/// What waits when the limits change goes on by the new ones.
#[tokio::test]
async fn who_waits_is_let_go() {
    let held = Caps { up: Cap::Hold, ..Caps::default() };
    let rows = [
        ("lifted", limits(held, true, &[]), Limits::default(), NEAR),
        ("not for the local network any more", limits(held, true, &[]), limits(held, false, &[]), NEAR),
        ("elsewhere", limits(held, false, &[]), Limits::default(), FAR),
        ("the device's own", limits(Caps::default(), false, &[(FAR.device, held)]), Limits::default(), FAR),
    ];
    for (name, before, after, whose) in rows {
        let gates = Arc::new(Gates::open());
        gates.set(&before);
        let waiting = tokio::spawn({
            let gates = Arc::clone(&gates);
            async move { gates.pass(whose, 1000).await }
        });
        // Turns enough for it to pass, if it were let through.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished(), "{name}: it does not wait");
        gates.set(&after);
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect(name).expect("it passes");
    }
}
