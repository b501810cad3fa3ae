//! Folders that not every device of a person is in: all of them keep to it, whoever said it.

use crate::apart::{meet, noticed};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use tests::harness::{Device, FOLDER, World, assert_same, join, mesh, pair, share, until};

/// Three devices of one realm, each connected to the others.
fn three(world: &World) -> [Device; 3] {
    let [a, b, c] = ["a", "b", "c"].map(|name| world.device(name));
    mesh(&[&a, &b, &c]);
    for (one, other) in [(&a, &b), (&b, &c), (&a, &c)] {
        meet(one, other);
    }
    [a, b, c]
}

/// Names of the devices that offer the folder.
fn offered_by(device: &Device) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let offers = device.json(&["folder", "offers"])["offers"].clone();
    let of_folder = offers.as_array().into_iter().flatten().filter(|offer| offer["name"] == FOLDER);
    let by = of_folder.flat_map(|offer| offer["devices"].as_array().cloned().unwrap_or_default());
    let mut names: Vec<String> = by.map(|device| text(&device["name"])).collect();
    names.sort();
    names
}

/// The folder's status.
fn main_folder(device: &Device) -> Value {
    let status = device.json(&["status"]);
    let folders = status["folders"].as_array().expect("a list of folders");
    folders.iter().find(|folder| folder["name"] == FOLDER).cloned().expect("the folder")
}

/// Waits until the folder is in sync everywhere; others that nobody joined do not count.
fn settled(devices: &[&Device]) {
    for _ in 0..2 {
        for device in devices {
            device.ok(&["wait", FOLDER, "--timeout", "60"]);
        }
    }
}

/// A second folder of everyone's, that `device` makes now: who is offered it has heard all that came before.
fn open_folder(world: &World, device: &Device, hears: &Device, name: &str) -> PathBuf {
    let root = world.path().join(format!("{name} of {}", device.name()));
    fs::create_dir(&root).expect("a directory");
    device.ok(&["folder", "add", root.to_str().expect("text"), "--name", name]);
    until("the open folder is offered", || {
        let offers = hears.json(&["folder", "offers"])["offers"].clone();
        offers.as_array()?.iter().any(|offer| offer["name"] == name).then_some(())
    });
    root
}

#[test]
fn a_folder_given_to_some_devices_is_offered_by_none_of_them_to_another() {
    let world = World::new();
    let [a, b, c] = three(&world);
    a.put("f", "for b alone");
    let said = a.ok(&["folder", "add", a.root(), "--name", FOLDER, "--with", "b"]);
    assert!(said.contains("with b"), "{said}");
    join(&b);
    settled(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    open_folder(&world, &b, &c, "open one");
    open_folder(&world, &a, &c, "open two");
    assert_eq!(offered_by(&c), [""; 0], "neither by who made it nor by who joined it");
    assert_eq!(main_folder(&a)["all_devices"], false);

    let words = c.fails(1, &["folder", "share", FOLDER, "c"]);
    assert!(words.contains(FOLDER), "{words}");
    let words = a.fails(1, &["folder", "share", FOLDER, "nobody"]);
    assert!(words.contains("nobody") && words.contains("hint: "), "{words}");

    // One that is in it lets another in, and all agree.
    let said = b.ok(&["folder", "share", FOLDER, "c"]);
    assert!(said.contains("a, c") || said.contains("c, a"), "{said}");
    until("both offer it", || (offered_by(&c) == ["a", "b"]).then_some(()));
    join(&c);
    settled(&[&a, &b, &c]);
    assert_same(&[&a, &b, &c], 0);
    c.put("g", "of c");
    settled(&[&c, &a, &b]);
    assert_same(&[&a, &b, &c], 0);

    let d = world.device("d");
    pair(&a, &d);
    meet(&d, &a);
    open_folder(&world, &a, &d, "open three");
    assert_eq!(offered_by(&d), [""; 0], "who is paired later is not in it");
    let said = a.ok(&["folder", "share", FOLDER, "--all"]);
    assert!(said.contains("all your devices"), "{said}");
    until("it is", || offered_by(&d).contains(&"a".to_owned()).then_some(()));
}

/// What each of two devices does while one of them is out of the folder, and what comes of it.
fn assert_apart(world: &World, [a, b, c]: [&Device; 3]) {
    until("it knows", || {
        let folder = main_folder(c);
        let words = folder["state_words"].as_str().unwrap_or_default().to_owned();
        (folder["state"] == "stopped" && words.contains("took this one out")).then_some(())
    });
    assert_eq!(c.ctl(&["status", "--check"]).code, 1, "a person should know");
    a.put("new", "of a, without c");
    settled(&[a, b]);
    // A way that is open: what goes over it comes after what would have gone over the closed one.
    let root = open_folder(world, a, c, "open");
    let there = world.path().join("open of c");
    fs::create_dir(&there).expect("a directory");
    c.ok(&["folder", "join", "open", there.to_str().expect("text")]);
    fs::write(root.join("from a"), "1").expect("a file");
    until("a's file comes", || there.join("from a").exists().then_some(()));
    fs::write(there.join("from c"), "1").expect("a file");
    until("c's file comes", || root.join("from c").exists().then_some(()));
    assert!(c.get("new").is_none(), "nothing comes");
    assert!(a.get("of c").is_none() && b.get("of c").is_none(), "nothing goes");
    assert_eq!(c.get("f").as_deref(), Some(&b"before"[..]), "what was there stays");
    let words = c.fails(1, &["folder", "share", FOLDER, "c"]);
    assert!(words.contains("not"), "it does not let itself in: {words}");

    b.ok(&["folder", "share", FOLDER, "c"]);
    until("it is back", || (main_folder(c)["state"] != "stopped").then_some(()));
    settled(&[a, b, c]);
    assert_same(&[a, b, c], 0);
    assert_eq!(a.get("of c").as_deref(), Some(&b"by c alone"[..]));
}

#[test]
fn a_device_taken_out_of_a_folder_gets_and_gives_nothing_until_it_is_back() {
    let world = World::new();
    let [a, b, c] = three(&world);
    a.put("f", "before");
    share(&[&a, &b, &c]);
    settled(&[&a, &b, &c]);
    let said = a.ok(&["folder", "unshare", FOLDER, "c"]);
    assert!(said.contains("synced with b") && said.contains("stays"), "{said}");
    until("c stops", || (main_folder(&c)["state"] == "stopped").then_some(()));
    c.put("of c", "by c alone");
    assert_apart(&world, [&a, &b, &c]);
}

#[test]
fn a_device_taken_out_of_a_folder_while_it_is_away_is_out_when_it_comes() {
    let world = World::new();
    let [a, b, mut c] = three(&world);
    a.put("f", "before");
    share(&[&a, &b, &c]);
    settled(&[&a, &b, &c]);
    c.stop();
    a.ok(&["folder", "unshare", FOLDER, "c"]);
    until("b knows", || {
        let devices = main_folder(&b)["devices"].clone();
        (devices.as_array()?.len() == 1).then_some(())
    });
    c.put("of c", "by c alone");
    c.start();
    assert_apart(&world, [&a, &b, &c]);
}

#[test]
fn a_folder_kept_to_oneself_is_offered_to_nobody() {
    let world = World::new();
    let [a, b, c] = three(&world);
    a.put("f", "before");
    share(&[&a, &b]);
    settled(&[&a, &b]);
    let said = a.ok(&["folder", "share", FOLDER, "--only"]);
    assert!(said.contains("no other device"), "{said}");
    until("b is out", || (main_folder(&b)["state"] == "stopped").then_some(()));
    until("c is offered it no more", || offered_by(&c).is_empty().then_some(()));
    a.put("f", "later");
    noticed(&a, "f", 1);
    assert_eq!(b.get("f").as_deref(), Some(&b"before"[..]));
    a.ok(&["folder", "share", FOLDER, "b", "a", "--only"]);
    settled(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(offered_by(&c), [""; 0]);
}
