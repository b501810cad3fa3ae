//! Which limits hold, by settings, pairings and time.

use super::*;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use protocol::wire::identity::Identity;
use protocol::wire::kdf::Secret32;
use protocol::wire::pair::PairSecret;

/// A Monday at noon.
const NOON: &str = "2026-11-30T12:00:00Z";

fn moment(at: &str) -> Moment {
    Moment::of(&at.parse::<Timestamp>().expect("a time").to_zoned(TimeZone::UTC))
}

fn caps(up: u64, down: u64) -> Caps {
    Caps { up: Cap::of(up), down: Cap::of(down) }
}

fn check(name: &str, settings: &Settings, at: &str, all: Caps) {
    assert_eq!(limits_at(settings, &[], moment(at)).all, all, "{name}");
}

#[test]
fn the_schedule_stands_over_the_settings() {
    let settings = |schedule: &str| Settings {
        rate_limit_up: Some(1000),
        rate_limit_down: None,
        schedule: schedule.parse().expect("a schedule"),
        ..Settings::default()
    };
    check("no rule", &settings(""), NOON, caps(1000, 0));
    check("no rule now", &settings("tue pause"), NOON, caps(1000, 0));
    check("no limit now", &settings("none"), NOON, caps(0, 0));
    check("nothing now", &settings("mon pause"), NOON, Caps { up: Cap::Hold, down: Cap::Hold });
    check("both", &settings("up=5 down=6"), NOON, caps(5, 6));
    check("what a rule does not name stays", &settings("down=6"), NOON, caps(1000, 6));
    check("0 is no limit", &settings("up=0"), NOON, caps(0, 0));
    check("at its time", &settings("12:00-12:01 up=5"), NOON, caps(5, 0));
    check("after its time", &settings("12:00-12:01 up=5"), "2026-11-30T12:01:00Z", caps(1000, 0));
}

#[test]
fn devices_have_limits_of_their_own() {
    let pairing = |seed: u8, limits: DeviceLimits| Pairing {
        public: Identity::from_seed(&Secret32::new([seed; 32])).public(),
        name: "nas".into(),
        secret: PairSecret::from_secret(Secret32::new([9; 32])),
        epoch: None,
        previous: None,
        admit: None,
        addresses: Vec::new(),
        learned: Vec::new(),
        relays: false,
        paused: false,
        limits,
        last_seen_ms: None,
    };
    let pairings =
        [pairing(1, DeviceLimits::default()), pairing(2, DeviceLimits { up: 5, down: 0, metered: Some(false) })];
    let settings = Settings { rate_limit_lan: true, metered: true, metered_max: 7, ..Settings::default() };
    let limits = limits_at(&settings, &pairings, moment(NOON));
    assert!(limits.lan);
    assert_eq!(limits.devices, [(pairings[1].id(), caps(5, 0))].into());
    assert_eq!(limits.metered, Metered { here: true, devices: [(pairings[1].id(), false)].into(), max: 7 });
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let known = DeviceLimits { up: 1, down: 2, metered: Some(true) };
    let change = |up: Option<&str>, down: Option<&str>| api::DeviceLimit {
        device: "nas".into(),
        up: up.map(str::to_owned),
        down: down.map(str::to_owned),
        metered: None,
    };
    let metered = |word: &str| api::DeviceLimit { metered: Some(word.to_owned()), ..change(None, None) };
    let rows = [
        (change(Some("5KB"), None), Some(DeviceLimits { up: 5000, ..known })),
        (change(None, Some("1MB/s")), Some(DeviceLimits { down: 1_000_000, ..known })),
        (change(Some("0"), Some("0")), Some(DeviceLimits { up: 0, down: 0, ..known })),
        (metered("no"), Some(DeviceLimits { metered: Some(false), ..known })),
        (metered("default"), Some(DeviceLimits { metered: None, ..known })),
        (metered("maybe"), None),
        (change(Some("fast"), None), None),
        (change(None, None), None),
    ];
    for (change, expected) in rows {
        assert_eq!(changed(known, &change).ok(), expected, "{change:?}");
    }
    let refused = changed(known, &change(Some("fast"), None)).expect_err("no rate");
    assert!(refused.error.contains("\"fast\" must be a size such as"), "{}", refused.error);
    let said = words(DeviceLimits { up: 5000, down: 0, metered: Some(true) });
    assert_eq!(said, "at most 5000 bytes a second to it, no limit of its own from it, metered wherever it is");
}
