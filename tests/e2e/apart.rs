//! Two devices that are kept apart for a while, and what a device has noticed meanwhile.

use tests::harness::{Device, until};

/// Ends the session of two devices; both go on alone.
pub fn cut(one: &Device, other: &Device) {
    one.ok(&["device", "pause", other.name()]);
    for (device, peer) in [(one, other), (other, one)] {
        until("the devices are apart", || (!device.is_connected_to(peer)).then_some(()));
    }
}

/// Lets them meet again, and waits until they have.
pub fn heal(one: &Device, other: &Device) {
    one.ok(&["device", "resume", other.name()]);
    for (device, peer) in [(one, other), (other, one)] {
        meet(device, peer);
    }
}

/// Waits until `device` has a session with `peer`.
pub fn meet(device: &Device, peer: &Device) {
    until("the devices meet", || device.is_connected_to(peer).then_some(()));
}

/// Waits until `device` has taken note of its own change at `path` for the `count`th time.
pub fn noticed(device: &Device, path: &str, count: usize) {
    until(&format!("{} notices its change of {path}", device.name()), || {
        let events = device.events("local_change");
        (events.iter().filter(|event| event["path"] == path).count() >= count).then_some(())
    });
}
