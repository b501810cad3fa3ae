//! What several devices do together: pair, share a folder, settle, agree.

use super::{Device, World, conflict_copies, differences, until};

/// The name of the folder that tests share.
pub const FOLDER: &str = "main";

/// Pairs two devices by a code over an address.
///
/// # Panics
/// When they are not paired then.
pub fn pair(shows: &Device, types: &Device) {
    pair_as(shows, types, &[]);
}

/// The same; `options` of the showing side say what the other device may do.
///
/// # Panics
/// When they are not paired then.
pub fn pair_as(shows: &Device, types: &Device, options: &[&str]) {
    let mut showing = shows.spawn(&[&["--json", "pair", "--yes", "--timeout", "60"], options].concat());
    let first = showing.json().expect("the code comes first");
    let code = first["code"].as_str().expect("the first line holds the code").to_owned();
    types.ok(&["pair", &code, "--yes", "--address", &shows.address()]);
    let (exit, words) = showing.finish();
    assert_eq!(exit, 0, "the showing side: {words}");
}

/// Pairs every device with every other.
pub fn mesh(devices: &[&Device]) {
    for (at, one) in devices.iter().enumerate() {
        for other in &devices[at + 1..] {
            pair(one, other);
        }
    }
}

/// The first device adds its directory, the others join with theirs.
pub fn share(devices: &[&Device]) {
    let (first, others) = devices.split_first().expect("at least one device");
    first.ok(&["folder", "add", first.root(), "--name", FOLDER]);
    for other in others {
        join(other);
    }
}

/// Takes the offer as soon as it is there.
pub fn join(device: &Device) {
    until("the folder is offered", || {
        let offers = device.json(&["folder", "offers"]);
        offers["offers"].as_array()?.iter().any(|offer| offer["name"] == FOLDER).then_some(())
    });
    device.ok(&["folder", "join", FOLDER, device.root()]);
}

/// Two paired devices that share an empty folder.
#[must_use]
pub fn pair_of(world: &World) -> (Device, Device) {
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    share(&[&a, &b]);
    settle(&[&a, &b]);
    (a, b)
}

/// Waits until each device says that it is in sync: everything written before has then been looked at everywhere.
pub fn settle(devices: &[&Device]) {
    for device in devices {
        device.wait();
    }
}

/// Every device has the same files, and so many conflict copies.
///
/// # Panics
/// When they differ.
pub fn assert_same(devices: &[&Device], copies: usize) {
    let (first, others) = devices.split_first().expect("at least one device");
    let tree = first.tree();
    for other in others {
        let found = differences(&tree, &other.tree());
        assert!(found.is_empty(), "{} and {} differ:\n{}", first.name(), other.name(), found.join("\n"));
    }
    let found = conflict_copies(&tree);
    assert_eq!(found.len(), copies, "conflict copies: {found:?}");
}
