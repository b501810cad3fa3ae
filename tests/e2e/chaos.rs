//! A machine that does not play along: processes that stand still, disks that cannot be written, too few watches or
//! handles, a network that goes silent one way, rules and markers that cannot be read. Everything heals by itself.

use rustix::process::Signal;
use std::fs;
use std::process::{Command, Stdio};
use tests::harness::{
    Device, FOLDER, Hold, Mount, World, assert_same, is_root, noise, pair, pair_of, set_mode, settle, share, skip,
    until,
};

/// Nobody's id: a user that owns nothing.
const NOBODY: u32 = 65_534;
/// Bytes of a file that takes a few seconds at `RATE`.
const LARGE: usize = 8_000_000;
/// Bytes per second while something is to happen in the middle of a transfer.
const RATE: &str = "1000000";

/// Slows what `b` receives, and begins to send it a large file.
fn in_transfer(a: &Device, b: &Device, seed: u64) {
    b.ok(&["config", "set", "rate_limit_lan", "true"]);
    b.ok(&["config", "set", "rate_limit_down", RATE]);
    let before = b.traffic().0;
    a.save("large", noise(seed, LARGE));
    until("the transfer begins", || (b.traffic().0 > before + 300_000).then_some(()));
}

fn unhindered(b: &Device) {
    b.ok(&["config", "set", "rate_limit_down", "0"]);
}

fn names_problem(device: &Device, path: &str) -> serde_json::Value {
    until(&format!("{path} is listed"), || {
        let problems = device.folder()["problems"].clone();
        problems.as_array()?.iter().find(|problem| problem["path"] == path).cloned()
    })
}

#[test]
fn a_daemon_that_stands_still_in_a_transfer_and_goes_on_loses_nothing() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    in_transfer(&a, &b, 1);
    b.signal(Signal::STOP);
    a.put("meanwhile", "of a");
    b.put("edited", "while the daemon stood");
    b.signal(Signal::CONT);
    unhindered(&b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    in_transfer(&a, &b, 2);
    a.signal(Signal::STOP);
    b.put("more", "of b");
    until("the other device gives up a silent peer", || (!b.is_connected_to(&a)).then_some(()));
    assert_ne!(b.get("large"), Some(noise(2, LARGE)), "it was not there yet");
    a.signal(Signal::CONT);
    unhindered(&b);
    crate::apart::meet(&b, &a);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.get("large"), Some(noise(2, LARGE)));
}

/// D-25: a disk that can only be read for a while. No deletion is made of it, and it heals by itself.
#[test]
fn a_folder_that_is_read_only_for_a_while_lists_it_and_heals() {
    const FILES: u64 = 50;
    let world = World::new();
    let place = world.path().join("small");
    let Some(disk) = Mount::tmpfs(&place, 40) else {
        return skip("a_folder_that_is_read_only_for_a_while_lists_it_and_heals", "mounting needs root");
    };
    let (a, mut b) = (world.device("a"), world.device("b"));
    b.move_files(&place.join("files"));
    fs::create_dir(b.files()).expect("a directory");
    pair(&a, &b);
    (0..FILES).for_each(|at| a.put(format!("d/{at}"), noise(at, 2000)));
    a.put("goes", "later");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    let pid = b.pid();
    until("nobody writes there", || disk.remount("ro").then_some(()));
    for at in 0..FILES {
        a.put(format!("d/{at}"), noise(100 + at, 2100));
        a.put(format!("new/{at}"), noise(200 + at, 2200));
    }
    fs::remove_file(a.at("goes")).expect("gone");
    let listed = names_problem(&b, "new");
    assert!(listed["code"] == "read_only" && listed["words"].as_str().is_some_and(|words| words.contains("EROFS")));
    assert!(b.get("goes").is_some() && b.get("d/7") == Some(noise(7, 2000)), "nothing can have changed");
    b.ok(&["folder", "rescan", FOLDER]);
    until("the look is over", || (b.folder()["state"] != "scanning").then_some(()));
    assert!(disk.remount("rw"));
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(a.tree().len() as u64, 2 * FILES + 2);
    assert!(a.events("remote_change").is_empty(), "nothing of it came back as a change or a deletion");
    assert!(b.pid() == pid && b.folder()["problems_total"] == 0);
    b.stop();
}

/// CM3: a disk that cannot make anything durable is named, and nothing waits for it.
#[test]
fn a_file_system_that_refuses_fsync_is_named_once() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    assert!(!b.ok(&["status"]).contains("fsync"));
    let Some(refusing) = Hold::failing(&b, "fsync", "EINVAL") else {
        return skip("a_file_system_that_refuses_fsync_is_named_once", "strace is missing or may not trace");
    };
    for round in 0..3 {
        a.put("f", format!("{round}"));
        settle(&[&a, &b]);
    }
    drop(refusing);
    assert_same(&[&a, &b], 0);
    let status = b.ok(&["status"]);
    assert!(status.contains("refuses fsync") && status.contains("power cut"), "{status}");
    let problems = b.folder()["problems"].clone();
    assert_eq!((&problems[0]["code"], &problems[0]["needs_person"]), (&"no_durability".into(), &false.into()));
    assert_eq!(b.events("problem").len(), 1, "it is told once");
    assert_eq!(b.log().matches("refuses fsync").count(), 1);
    assert_eq!(b.ctl(&["status", "--check"]).code, 0, "nobody can answer it");
}

/// Whether a program may make a user namespace, whose limits hold for nobody else.
fn may_unshare() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-root-user", "sh", "-c", "echo 100 > /proc/sys/user/max_inotify_watches"]);
    probe.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// DT4: what is not watched is scanned, and status says so.
#[test]
fn with_too_few_watches_everything_converges_and_status_says_so() {
    let test = "with_too_few_watches_everything_converges_and_status_says_so";
    if !may_unshare() {
        return skip(test, "a limit of its own needs a user namespace");
    }
    let world = World::new();
    let (a, mut b) = (world.device("a"), world.prepare("b", "lan = \"never\"\n"));
    // The limit of the namespace, not the one of the machine.
    let limited = "echo 8 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    b.run_under(&["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh"]);
    b.start();
    pair(&a, &b);
    (0..30).for_each(|at| a.put(format!("d{at}/f"), "x"));
    share(&[&a, &b]);
    settle(&[&a, &b]);
    for at in 0..30 {
        b.put(format!("d{at}/g"), format!("{at}"));
        b.put(format!("d{at}/f"), "edited");
    }
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(a.get("d29/g").as_deref(), Some(&b"29"[..]));
    let status = b.ok(&["status"]);
    assert!(status.contains("watching partially") && status.contains("fs.inotify.max_user_watches"), "{status}");
    assert_eq!(b.ctl(&["status", "--check"]).code, 0, "slower is not wrong");
}

/// FL6: few handles make it slower, never wrong.
#[test]
fn with_few_open_files_everything_converges() {
    let world = World::new();
    let (a, mut b) = (world.device("a"), world.prepare("b", "lan = \"never\"\n"));
    b.run_under(&["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"]);
    b.start();
    pair(&a, &b);
    let name = |at: u64| format!("{}/{}/{}/{at}", at % 7, at % 11, at % 5);
    (0..300).for_each(|at| a.put(name(at), noise(at, 3000)));
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    (0..300).for_each(|at| b.put(name(at), noise(1000 + at, 3100)));
    fs::remove_dir_all(b.at("3")).expect("gone");
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.folder()["problems_total"], 0);
}

/// A network of its own, whose loopback can be cut in one direction; taken away when dropped.
struct Net(String);

impl Net {
    fn new() -> Option<Self> {
        let name = format!("syncd-e2e-{}", std::process::id());
        let made = |args: &[&str]| {
            let done = Command::new("ip").args(args).stderr(Stdio::null()).status();
            done.is_ok_and(|status| status.success())
        };
        if !is_root() || !made(&["netns", "add", &name]) {
            return None;
        }
        let net = Self(name);
        (made(&["-n", &net.0, "link", "set", "lo", "up"]) && net.rule("add table inet cut")).then_some(net)
    }

    fn rule(&self, words: &str) -> bool {
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.0, "nft", words]).stderr(Stdio::null());
        nft.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // One that stays holds no process and no address.
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

#[test]
fn a_network_that_is_silent_one_way_is_noticed_and_heals() {
    let Some(net) = Net::new() else {
        return skip("a_network_that_is_silent_one_way_is_noticed_and_heals", "it needs root, ip and nft");
    };
    let world = World::new();
    let device = |name: &str| {
        let mut device = world.prepare(name, "lan = \"never\"\n");
        device.run_under(&["ip", "netns", "exec", &net.0]);
        device.start();
        device
    };
    let (a, b) = (device("a"), device("b"));
    pair(&a, &b);
    share(&[&a, &b]);
    settle(&[&a, &b]);
    in_transfer(&a, &b, 1);
    // Whoever dialled is heard and hears nothing.
    let ports: Vec<String> =
        [&a, &b].iter().filter_map(|device| Some(device.address().rsplit_once(':')?.1.to_owned())).collect();
    assert!(net.rule("add chain inet cut in { type filter hook input priority 0; }"));
    assert!(net.rule(&format!("add rule inet cut in tcp sport {{ {} }} drop", ports.join(", "))));
    b.put("of b", "x");
    until("the silence is noticed", || (!b.is_connected_to(&a)).then_some(()));
    assert_ne!(b.get("large"), Some(noise(1, LARGE)), "it was not there yet");
    assert!(net.rule("delete table inet cut"));
    unhindered(&b);
    crate::apart::meet(&b, &a);
    crate::apart::meet(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.get("large"), Some(noise(1, LARGE)));
}

/// CM9: as a user, into directories that this user closed (Go's module cache is full of such).
#[test]
fn what_is_in_closed_directories_arrives_changes_and_goes() {
    let world = World::new();
    let Some((mut a, b)) = kept_out(&world) else {
        return skip("what_is_in_closed_directories_arrives_changes_and_goes", "root may change everything");
    };
    let modes = |device: &Device| {
        ["module", "module/sub"].map(|name| {
            fs::metadata(device.at(name))
                .map(|meta| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777)
        })
    };
    b.put("module/sub/f", "1");
    b.put("module/sub/goes", "1");
    set_mode(&b.at("module/sub"), 0o555);
    set_mode(&b.at("module"), 0o555);
    share(&[&b, &a]);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    b.put("module/sub/f", "2");
    fs::remove_file(b.at("module/sub/goes")).expect("gone");
    b.put("module/new", "1");
    fs::rename(b.at("module/sub/f"), b.at("module/sub/g")).expect("a rename");
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    for device in [&a, &b] {
        assert!(modes(device).into_iter().all(|mode| mode.is_ok_and(|mode| mode == 0o555)), "{}", device.name());
        assert!(device.events("conflict").is_empty() && device.folder()["problems_total"] == 0);
    }
    fs::remove_dir_all(b.at("module")).expect("gone");
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    a.stop();
}

/// Two devices, the first as a user whom modes can keep out; `None` where that is not possible.
fn kept_out(world: &World) -> Option<(Device, Device)> {
    let mut a = world.prepare("a", "lan = \"never\"\n");
    if is_root() && !a.run_as(NOBODY, world) {
        return None;
    }
    a.start();
    let b = world.device("b");
    pair(&a, &b);
    Some((a, b))
}

/// Without its rules a folder would publish what was never to leave the device.
#[test]
fn rules_that_cannot_be_read_go_on_holding() {
    let world = World::new();
    let Some((mut a, b)) = kept_out(&world) else {
        return skip("rules_that_cannot_be_read_go_on_holding", "root reads everything, and no other user may run it");
    };
    let put = |a: &Device, name: &str, text: &str| {
        a.put(name, text);
        a.own(name);
    };
    put(&a, ".syncignore", "secret*\n");
    put(&a, "secret", "x");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    set_mode(&a.at(".syncignore"), 0o000);
    let listed = names_problem(&a, ".syncignore");
    assert_eq!(listed["code"], "permission", "{listed}");
    put(&a, "secret too", "x");
    put(&a, "open", "x");
    a.ok(&["folder", "rescan", FOLDER]);
    until("the rest syncs", || b.get("open"));
    a.stop();
    a.start();
    until("a folder without its rules does not start", || (a.folder()["state"] == "stopped").then_some(()));
    set_mode(&a.at(".syncignore"), 0o644);
    put(&a, "last", "x");
    until("it goes on when they can be read", || b.get("last"));
    settle(&[&a, &b]);
    assert!(b.get("secret").is_none() && b.get("secret too").is_none(), "what is ignored stays here");
    assert_eq!(a.folder()["problems_total"], 0);
}

/// An edit that came while the marker could not be read was forgotten until the hourly scan, and nothing said so.
#[test]
fn a_marker_that_cannot_be_read_stops_the_folder_until_it_can() {
    let world = World::new();
    let Some((a, b)) = kept_out(&world) else {
        return skip("a_marker_that_cannot_be_read_stops_the_folder_until_it_can", "root reads everything");
    };
    share(&[&a, &b]);
    settle(&[&a, &b]);
    set_mode(&a.at(".syncd/marker"), 0o000);
    a.put("f", "x");
    a.own("f");
    until("the folder stops", || (a.folder()["state"] == "stopped").then_some(()));
    assert!(b.get("f").is_none());
    set_mode(&a.at(".syncd/marker"), 0o600);
    until("it goes on by itself", || b.get("f"));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}
