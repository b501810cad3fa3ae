//! The keys of a device: out to an encrypted file and back, on another home, and out of reach of other programs.

use crate::apart::meet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tests::harness::{
    Device, FOLDER, World, assert_same, is_root, join, pair, pair_of, set_mode, settle, share, skip, until,
};

/// Nobody's id: a user that owns nothing.
const NOBODY: u32 = 65_534;

/// A file with a passphrase, as scripts have it.
fn secret(world: &World, name: &str, text: &str) -> String {
    let path = world.path().join(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("scratch paths are text").to_owned()
}

fn back_up(device: &Device, world: &World, passphrase: &str) -> String {
    let path = world.path().join(format!("{}.backup", device.name()));
    let path = path.to_str().expect("scratch paths are text").to_owned();
    let said = device.json(&["identity", "backup", &path, "--passphrase-file", passphrase]);
    assert_eq!((&said["path"], &said["id"]), (&path.clone().into(), &id(device).into()), "{said}");
    path
}

fn id(device: &Device) -> String {
    device.json(&["id"])["id"].as_str().expect("an id").to_owned()
}

/// Name and role of every device that it lists.
fn listed(device: &Device) -> Vec<(String, String)> {
    let list = device.json(&["device", "list"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let devices = list["devices"].as_array().expect("a list of devices");
    devices.iter().map(|device| (text(&device["id"]), text(&device["role"]))).collect()
}

/// The disk is lost: nothing is left but the settings that a person writes anew.
fn lose(device: &mut Device) {
    device.stop();
    let config = fs::read(device.home().join("config.toml")).expect("settings");
    for directory in [device.home(), device.files()] {
        fs::remove_dir_all(directory).expect("gone");
        fs::create_dir(directory).expect("an empty one");
    }
    fs::write(device.home().join("config.toml"), config).expect("settings");
}

fn keys(home: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(home).into_iter().flatten().flatten();
    let mut all: Vec<(String, Vec<u8>)> = files
        .map(|file| (file.file_name().into_string().expect("text"), fs::read(file.path()).expect("a key file")))
        .collect();
    all.sort();
    all
}

#[test]
fn a_lost_device_comes_back_from_its_backup() {
    let world = World::new();
    let (a, mut b) = pair_of(&world);
    b.put("d/f", "of b");
    settle(&[&b, &a]);
    let passphrase = secret(&world, "passphrase", "correct horse battery\n");
    let backup = back_up(&b, &world, &passphrase);
    assert_eq!(fs::metadata(&backup).expect("it is there").permissions().mode() & 0o777, 0o600);
    let (was, devices) = (id(&b), listed(&b));
    assert_eq!(devices, [(id(&a), "admin".to_owned())]);
    lose(&mut b);
    a.put("meanwhile", "of a");
    let wrong = secret(&world, "wrong", "correct horse batterie\n");
    let said = b.fails(1, &["identity", "restore", &backup, "--passphrase-file", &wrong]);
    assert!(said.contains("wrong passphrase") && said.contains("nothing was changed"), "{said}");
    assert!(!b.home().join("keys").exists());
    let said = b.json(&["identity", "restore", &backup, "--passphrase-file", &passphrase]);
    assert_eq!((&said["id"], &said["replaced"]), (&was.clone().into(), &serde_json::Value::Null), "{said}");
    b.start();
    assert_eq!(id(&b), was);
    meet(&b, &a);
    meet(&a, &b);
    assert_eq!(listed(&b), devices);
    assert_eq!(b.json(&["realm", "show"])["devices"], 2);
    join(&b);
    settle(&[&b, &a]);
    assert_eq!(b.get("d/f").as_deref(), Some(&b"of b"[..]));
    b.put("after", "of b again");
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    for device in [&a, &b] {
        assert_eq!(device.ctl(&["status", "--check"]).code, 0, "{}", device.ctl(&["status"]).out);
    }
}

#[test]
fn a_restore_loses_no_keys() {
    let world = World::new();
    let (mut a, b) = (world.device("a"), world.device("b"));
    let passphrase = secret(&world, "passphrase", "correct horse battery\n");
    let backup = back_up(&b, &world, &passphrase);
    let restore = ["identity", "restore", &backup, "--passphrase-file", &passphrase];
    let said = a.fails(1, &restore);
    assert!(said.contains("syncd runs") && said.contains("syncctl stop"), "{said}");
    let (was, a_id) = (keys(&a.home().join("keys")), id(&a));
    a.stop();
    let said = a.fails(1, &restore);
    assert!(said.contains("has an identity already") && said.contains("--force"), "{said}");
    assert_eq!(keys(&a.home().join("keys")), was);
    let said = a.json(&[&restore[..], &["--force"]].concat());
    let aside = PathBuf::from(said["replaced"].as_str().expect("where the old keys are"));
    assert_eq!(keys(&aside), was);
    a.start();
    assert_eq!(id(&a), id(&b));
    a.stop();
    fs::remove_dir_all(a.home().join("keys")).expect("gone");
    fs::rename(&aside, a.home().join("keys")).expect("moved back");
    a.start();
    assert_eq!(id(&a), a_id, "what was set aside is whole");
}

#[test]
fn a_backup_is_refused_in_clear_words() {
    let world = World::new();
    let (a, empty) = (world.device("a"), world.prepare("empty", ""));
    let passphrase = secret(&world, "passphrase", "correct horse battery\n");
    let backup = back_up(&a, &world, &passphrase);
    let bytes = fs::read(&backup).expect("a backup");
    for (name, _) in keys(&a.home().join("keys")) {
        let plain = fs::read(a.home().join("keys").join(name)).expect("a key file");
        let has = |line: &[u8]| bytes.windows(line.len()).any(|window| window == line);
        assert!(plain.split(|byte| *byte == b'\n').filter(|line| line.len() > 20).all(|line| !has(line)));
    }
    let fresh = world.path().join("fresh");
    let fresh = fresh.to_str().expect("text");
    let weak = [("none", "\n", "empty"), ("blank", "   \n", "empty"), ("short", "1234567\n", "at least 8 characters")];
    for (name, text, words) in weak {
        let said = a.fails(1, &["identity", "backup", fresh, "--passphrase-file", &secret(&world, name, text)]);
        assert!(said.contains(words), "{name}: {said}");
    }
    let said = a.fails(2, &["identity", "backup", fresh]);
    assert!(said.contains("no terminal") && said.contains("--passphrase-file"), "{said}");
    let said = empty.fails(1, &["identity", "backup", fresh, "--passphrase-file", &passphrase]);
    assert!(said.contains("no identity yet"), "{said}");
    assert!(!Path::new(fresh).exists());
    let said = a.fails(1, &["identity", "backup", &backup, "--passphrase-file", &passphrase]);
    assert!(said.contains("not overwritten"), "{said}");
    assert_eq!(fs::read(&backup).expect("a backup"), bytes);
    let mut flipped = bytes.clone();
    flipped[1000] ^= 1;
    let mut later = bytes.clone();
    later[18] = 9;
    let rows: [(&str, &[u8], &str); 4] = [
        ("cut", &bytes[..bytes.len() - 1], "cut short"),
        ("flipped", &flipped, "damaged"),
        ("later", &later, "format 9"),
        ("other", b"# a file\n", "no backup of an identity"),
    ];
    for (name, bytes, words) in rows {
        let path = world.path().join(name);
        fs::write(&path, bytes).expect("a file");
        let path = path.to_str().expect("text");
        let said = empty.fails(1, &["identity", "restore", path, "--passphrase-file", &passphrase]);
        assert!(said.contains(words), "{name}: {said}");
    }
    assert!(!empty.home().join("keys").exists());
}

/// Restored while the original lives: whoever comes second is refused, and that, the peer and the original say why.
#[test]
fn a_restored_device_whose_original_lives_is_named_on_all_sides() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let passphrase = secret(&world, "passphrase", "correct horse battery\n");
    let backup = back_up(&b, &world, &passphrase);
    let mut twin = world.prepare("twin", "lan = \"never\"\n");
    twin.ok(&["identity", "restore", &backup, "--passphrase-file", &passphrase]);
    twin.start();
    let rows = [
        (&a, "two devices run as b"),
        (&twin, "a refuses this device"),
        (&b, "another device runs with the identity of this"),
    ];
    for (device, words) in rows {
        let problem = until("the copy is named", || {
            let problems = device.json(&["status"])["problems"].clone();
            problems.as_array()?.iter().find(|problem| problem["code"] == "identity_copied").cloned()
        });
        let said = problem["words"].as_str().expect("words");
        assert!(said.contains(words) && said.contains("pair it as a new device"), "{said}");
        assert_eq!(device.ctl(&["status", "--check"]).code, 1);
        assert!(device.ctl(&["status"]).out.contains(words));
        let told = device.events("problem");
        assert!(told.iter().any(|event| event["words"].as_str().is_some_and(|said| said.contains(words))), "{told:?}");
    }
    assert!(a.is_connected_to(&b), "the first one stays");
    b.put("f", "x");
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
}

/// Another program of the same user cannot read the daemon's memory, and no core file is written. That also takes
/// files of `/proc/self` from ordinary users, and modes, times and long socket paths are reached through its `fd`.
#[test]
fn a_daemon_of_an_ordinary_user_hides_its_memory_and_syncs() {
    let test = "a_daemon_of_an_ordinary_user_hides_its_memory_and_syncs";
    let world = World::new();
    let deep = format!("{}/a", "deep".repeat(30));
    let mut a = world.prepare(&deep, "lan = \"never\"\n");
    fs::write(a.home().join("config.toml"), "name = \"a\"\nlan = \"never\"\n").expect("settings");
    set_mode(a.home().ancestors().nth(2).expect("the long one"), 0o755);
    if is_root() && !a.run_as(NOBODY, &world) {
        return skip(test, "no other user may run the programs where they are");
    }
    a.start();
    assert!(a.home().join("run/control.sock").as_os_str().len() > 108, "it is too long for a socket");
    let of_process = |file: &str| format!("/proc/{}/{file}", a.pid());
    let limits = fs::read_to_string(of_process("limits")).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    assert_eq!(fs::metadata(of_process("environ")).expect("a file").uid(), 0, "it is not dumpable");
    let b = world.device("b");
    pair(&a, &b);
    b.put("d/read-only", "x");
    set_mode(&b.at("d/read-only"), 0o444);
    set_mode(&b.at("d"), 0o555);
    share(&[&b, &a]);
    settle(&[&b, &a]);
    set_mode(&b.at("d/read-only"), 0o400);
    b.ok(&["folder", "rescan", FOLDER]);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    set_mode(&b.at("d"), 0o755);
}
