//! One pair of devices in two networks: who captures everything in both finds no string that is in both, so nothing
//! links them, and none of what the devices are and sync.

use crate::caller::identity;
use crate::lab::{Lab, payloads};
use crate::windows::Windows;
use tests::harness::{Device, World, assert_same, join, noise, settle, skip, until};

/// Bytes of a file that goes over the wire in each network.
const LEN: usize = 200_000;
const NAME: &str = "the name of a directory/and of a file in it";

/// Pairs two devices that find each other by their beacons.
fn pair_by_code(shows: &Device, types: &Device) {
    let mut showing = shows.spawn(&["--json", "pair", "--yes", "--timeout", "60"]);
    let code = showing.json().expect("the code comes first")["code"].as_str().expect("a code").to_owned();
    types.ok(&["pair", &code, "--yes"]);
    assert_eq!(showing.finish().0, 0);
}

/// Everything that was said on the cable while `work` was done there, with beacons of both devices among it.
fn said_during(lab: &Lab, devices: &mut [Device; 2], work: impl FnOnce(&Device, &Device)) -> Vec<Vec<u8>> {
    let capture = lab.capture(0);
    let [a, b] = devices;
    a.start();
    until("a device calls for the other in both families", || (capture.beacons().iter().min()? > &1).then_some(()));
    b.start();
    work(a, b);
    b.stop();
    a.stop();
    let [v4, v6] = capture.beacons();
    assert!(v4 > 1 && v6 > 1, "{v4} {v6} beacons");
    let said = payloads(&capture.frames());
    let len: usize = said.iter().map(Vec::len).sum();
    assert!(len > 2 * LEN, "only {len} bytes were captured");
    said
}

/// What must be in no capture: ids and keys of the devices, in bytes and in text, names and contents.
fn secrets(devices: &[Device; 2], contents: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut secrets: Vec<Vec<u8>> = contents.to_vec();
    for device in devices {
        let identity = identity(device);
        let (public, id) = (identity.public(), identity.id());
        secrets.extend([public.ed.to_vec(), public.x.to_vec(), id.0.to_vec(), id.to_string().into_bytes()]);
    }
    secrets.push(NAME.as_bytes().to_vec());
    secrets
}

#[test]
fn captures_of_a_pair_in_two_networks_have_nothing_in_common() {
    let test = "captures_of_a_pair_in_two_networks_have_nothing_in_common";
    let (Some(home), Some(cafe)) = (Lab::new([77, 1]), Lab::new([199, 3])) else {
        return skip(test, "it needs root and ip");
    };
    let world = World::new();
    let contents = [1, 2, 3, 4].map(|seed| noise(seed, LEN)).to_vec();
    let mut devices = [home.device(&world, "a", 0), home.device(&world, "b", 1)];
    devices[0].start();
    devices[1].start();
    pair_by_code(&devices[0], &devices[1]);
    devices[0].ok(&["folder", "add", devices[0].root(), "--name", tests::harness::FOLDER]);
    join(&devices[1]);
    settle(&[&devices[0], &devices[1]]);
    devices.iter_mut().for_each(Device::stop);

    let change = |one: usize, other: usize| {
        let contents = contents.clone();
        move |a: &Device, b: &Device| {
            a.put(NAME, &contents[one]);
            settle(&[a, b]);
            b.put(NAME, &contents[other]);
            settle(&[b, a]);
            assert_same(&[a, b], 0);
        }
    };
    let at_home = said_during(&home, &mut devices, change(0, 1));
    cafe.moves_in(&mut devices[0], 0);
    cafe.moves_in(&mut devices[1], 1);
    let in_cafe = said_during(&cafe, &mut devices, change(2, 3));

    let windows = Windows::of(at_home.iter().map(Vec::as_slice));
    let common: Vec<_> = in_cafe.iter().flat_map(|said| windows.shared(said)).collect();
    assert!(common.is_empty(), "both captures hold {common:02x?}");
    let secrets = secrets(&devices, &contents);
    let secrets = Windows::of(secrets.iter().map(Vec::as_slice));
    let shown: Vec<_> = at_home.iter().chain(&in_cafe).flat_map(|said| secrets.shared(said)).collect();
    assert!(shown.is_empty(), "a capture holds {shown:02x?}");
}
