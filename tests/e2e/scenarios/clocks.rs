//! FL3: the wall clock of one device steps while its daemon runs, a year ahead, ten years back, an hour for daylight
//! saving; its monotonic clock goes on. No decision depends on it.

use super::{aftermath, told_since};
use crate::apart::meet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tests::harness::{Device, FOLDER, World, noise, pair, settle, share, skip, until};

const DAY_SECS: i64 = 86_400;
const STEPS: [(&str, i64); 4] =
    [("a year ahead", 365 * DAY_SECS), ("ten years back", -3650 * DAY_SECS), ("an hour ahead", 3_600), ("right", 0)];

/// The library that stands between a program and its clock.
fn library() -> Option<PathBuf> {
    let places = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    places.into_iter().find(|place| place.is_file())
}

/// A device whose wall clock is its own.
struct Clock(PathBuf);

impl Clock {
    fn of(device: &mut Device, library: &Path) -> Self {
        let clock = Self(device.home().with_file_name("clock"));
        clock.step(0);
        let settings = [
            ("LD_PRELOAD", library.to_str().expect("text")),
            ("FAKETIME_TIMESTAMP_FILE", clock.0.to_str().expect("text")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = vec!["env"];
        command.extend(settings.iter().map(String::as_str));
        device.run_under(&command);
        clock
    }

    /// In one step, since it is read at any moment.
    fn step(&self, seconds: i64) {
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).and_then(|()| fs::rename(&new, &self.0)).expect("a file");
    }
}

/// Whether the clock of a device was ahead by so much at some event after the event `since`. Not at each: the library
/// reads its file without a lock, so that one thread may see the half of what another one reads.
fn was_ahead(device: &Device, since: u64, seconds: i64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    let now = i64::try_from(now).expect("a time of this age");
    let events = device.json(&["events"])["events"].clone();
    let stamp = |event: &serde_json::Value| event["time_ms"].as_i64().expect("a time") / 1000;
    let events = events.as_array().expect("a list of events").iter();
    events.filter(|event| event["id"].as_u64() > Some(since)).any(|event| (stamp(event) - now - seconds).abs() < 60)
}

fn versions(device: &Device, path: &str) -> usize {
    let path = device.at(path);
    device.json(&["versions", path.to_str().expect("text")])["versions"].as_array().map_or(0, Vec::len)
}

/// Edits on both, a deletion and a rename, and one path that both edit while the folder rests at one of them.
fn work(a: &Device, b: &Device, round: usize) {
    a.put("of a", format!("{round}"));
    b.put("of b", format!("{round}"));
    fs::rename(b.at(format!("moves {round}")), b.at(format!("moves {}", round + 1))).expect("a rename");
    fs::remove_file(a.at(format!("goes {round}"))).expect("gone");
    settle(&[a, b]);
    settle(&[b, a]);
    b.ok(&["folder", "pause", FOLDER]);
    a.put("both", format!("of a, {round}"));
    b.put("both", format!("of b, {round}"));
    b.ok(&["folder", "resume", FOLDER]);
}

#[test]
fn a_clock_that_steps_changes_no_decision() {
    let Some(library) = library() else {
        return skip("a_clock_that_steps_changes_no_decision", "no libfaketime to step a clock with");
    };
    let world = World::new();
    let (a, mut b) = (world.device("a"), world.prepare("b", "lan = \"never\"\n"));
    let clock = Clock::of(&mut b, &library);
    b.start();
    pair(&a, &b);
    share(&[&a, &b]);
    a.put("moves 0", noise(1, 200_000));
    (0..STEPS.len()).for_each(|at| a.put(format!("goes {at}"), "x"));
    a.put("of a", "before");
    b.put("of b", "before");
    settle(&[&a, &b]);
    for (round, (name, seconds)) in STEPS.into_iter().enumerate() {
        let (told, before) = (told_since(&b, 0).0, b.traffic());
        clock.step(seconds);
        for device in [&a, &b] {
            device.ok(&["folder", "rescan", FOLDER]);
        }
        settle(&[&a, &b]);
        assert_eq!(told_since(&b, told).1, Vec::<serde_json::Value>::new(), "{name}: a step is no change");
        work(&a, &b, round);
        settle(&[&a, &b]);
        assert!(was_ahead(&b, told, seconds), "{name}: the clock did not step");
        assert_eq!(versions(&b, "of a"), round + 1, "{name}: what was replaced is kept");
        aftermath(&[&a, &b], round + 1);
        let moved = (b.traffic().0 - before.0) + (b.traffic().1 - before.1);
        assert!(moved < 100_000, "{name}: {moved} bytes moved, a content was transferred again");
        assert!(a.get(format!("moves {}", round + 1)) == Some(noise(1, 200_000)));
    }
    // A start under a clock that is hours off; one that is off by more is not let in before it is right.
    for (seconds, then) in [(-10 * 3_600, -10 * 3_600), (365 * DAY_SECS, 0)] {
        b.stop();
        clock.step(seconds);
        b.start();
        b.put("of b", format!("{seconds}"));
        clock.step(then);
        meet(&a, &b);
        settle(&[&b, &a]);
        assert_eq!(versions(&b, "of a"), STEPS.len());
        aftermath(&[&a, &b], STEPS.len());
    }
    until("it is idle", || (b.folder()["state"] == "idle").then_some(()));
}
