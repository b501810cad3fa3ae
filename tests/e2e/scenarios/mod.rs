//! The scenarios that matter most, each named for its number: what two people and a bad moment can do to a file.
//! `aftermath` holds after every one of them. Others are in `trouble`, `fidelity` and `guard`.

mod apart;
mod clocks;
mod commit;
mod index;
mod roots;
mod storm;

use serde_json::Value;
use std::fs;
use tests::harness::{Device, FOLDER, assert_same, set_mtime, settle};

/// A time that the scenarios count from.
pub const NOON: i64 = 1_750_000_000;
const DAY: i64 = 86_400;

/// In one step, so that no look at the disk sees the content without its time.
pub fn write_at(device: &Device, path: &str, text: &str, seconds: i64) {
    let outside = device.home().with_file_name("written");
    fs::write(&outside, text).expect("a file");
    set_mtime(&outside, seconds, 0);
    fs::rename(&outside, device.at(path)).expect("a rename");
}

/// What everyone sees afterwards: the same files and so many conflict copies, nothing wrong, nothing half done, and
/// another look at every file finds nothing to tell.
fn aftermath(devices: &[&Device], copies: usize) {
    settle(devices);
    // What one device resolved last reaches the first one only now.
    settle(devices);
    assert_same(devices, copies);
    let before: Vec<u64> = devices.iter().map(|device| told_since(device, 0).0).collect();
    for device in devices {
        device.ok(&["folder", "rescan", FOLDER]);
    }
    settle(devices);
    for (device, before) in devices.iter().zip(before) {
        let (_, news) = told_since(device, before);
        assert!(news.is_empty(), "{} tells something new: {news:?}", device.name());
        let status = device.folder();
        assert_eq!((&status["problems_total"], &status["holds"]), (&0.into(), &serde_json::json!([])), "{status}");
        let temps: Vec<_> = fs::read_dir(device.at(".syncd/tmp")).into_iter().flatten().flatten().collect();
        assert!(temps.is_empty(), "{}: {temps:?}", device.name());
        let log = device.log();
        let errors: Vec<&str> =
            log.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", device.name());
    }
}

/// The number of the last event, and what was told of paths after the event `last`.
fn told_since(device: &Device, last: u64) -> (u64, Vec<Value>) {
    let events = device.json(&["events"])["events"].clone();
    let events = events.as_array().expect("a list of events");
    let number = |event: &Value| event["id"].as_u64().expect("a number");
    let kinds = ["local_change", "remote_change", "conflict"];
    let news = events.iter().filter(|event| number(event) > last && kinds.iter().any(|kind| event["kind"] == *kind));
    (events.last().map_or(0, number), news.cloned().collect())
}
