//! The command line contract: exit codes, JSON keys, what is said when something is missing.

use crate::apart::{cut, heal, noticed};
use serde_json::Value;
use std::collections::BTreeSet;
use tests::harness::{Device, FOLDER, Run, World, mesh, pair_of, settle, until};

#[test]
fn a_command_without_a_daemon_says_how_to_start_one() {
    let world = World::new();
    let a = world.prepare("a", "");
    let rows: [&[&str]; 5] = [&["status"], &["ping"], &["folder", "list"], &["wait", "--timeout", "1"], &["stop"]];
    for args in rows {
        let said = a.fails(1, args);
        assert!(said.contains("syncd is not running") && said.contains("syncctl start"), "{args:?}: {said}");
    }
    let path = a.ok(&["config", "path"]);
    assert_eq!(path.trim(), a.home().join("config.toml").to_str().expect("text"), "this needs no daemon");
}

#[test]
fn a_daemon_is_started_in_the_background_and_stopped() {
    let world = World::new();
    let a = world.prepare("a", "lan = \"never\"\nlisten = [\"127.0.0.1:0\"]\n");
    let started = a.json(&["start"]);
    assert_eq!(started["started"], true);
    let again = a.json(&["start"]);
    assert_eq!((&again["started"], &again["pid"]), (&false.into(), &started["pid"]));
    assert_eq!(a.json(&["ping"])["pid"], started["pid"]);
    a.ok(&["stop"]);
    assert!(!std::path::Path::new(&format!("/proc/{}", started["pid"])).exists() || a.ctl(&["ping"]).code == 1);
    a.fails(1, &["stop"]);
    assert!(!a.home().join("run/control.sock").exists(), "no socket is left behind");
}

#[test]
fn a_second_daemon_on_the_same_home_is_refused() {
    let world = World::new();
    let a = world.device("a");
    let Run { code, err, out } = run(&a, &["run", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 73, "{out}{err}");
    assert!(err.contains("error: ") && err.contains("home"), "{err}");
    a.ok(&["ping"]);
}

#[test]
fn a_daemon_with_wrong_arguments_or_settings_says_so() {
    let world = World::new();
    let mut a = world.prepare("a", "lan = \"sometimes\"\n");
    let Run { code, err, .. } = run(&a, &["run", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("lan") && err.contains("always or never"), "{err}");
    assert_eq!(run(&a, &["run", "--listen", "nowhere"]).code, 2);
    assert_eq!(run(&a, &["fly"]).code, 2);
    std::fs::write(a.home().join("config.toml"), "colour = \"blue\"\nlan = \"never\"\n").expect("settings");
    a.start();
    let config = a.json(&["config", "get"]);
    assert!(config["warnings"][0].as_str().is_some_and(|warning| warning.contains("colour")), "{config}");
}

/// Runs the daemon's program to its end.
fn run(device: &Device, args: &[&str]) -> Run {
    let output = device.daemon_command(args).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn exit_codes_are_0_1_and_2() {
    let world = World::new();
    let a = world.device("a");
    let rows: [(i32, &[&str]); 15] = [
        (0, &["id"]),
        (0, &["status", "--check"]),
        (0, &["events"]),
        (0, &["completions", "bash"]),
        (1, &["device", "pause", "nobody"]),
        (1, &["config", "get", "colour"]),
        (1, &["config", "set", "colour", "blue"]),
        (1, &["config", "set", "lan", "sometimes"]),
        (1, &["wait", "--timeout", "1"]),
        (1, &["identity", "backup", "/nowhere/f", "--passphrase-file", "/nowhere/p"]),
        (1, &["identity", "restore", "/nowhere/f"]),
        (2, &["fly"]),
        (2, &["identity", "backup", "/nowhere/f"]),
        (2, &["folder", "add"]),
        (2, &["log", "--since", "the day before"]),
    ];
    for (code, args) in rows {
        let run = a.ctl(args);
        assert_eq!(run.code, code, "{args:?}: {}{}", run.out, run.err);
        assert!(code == 0 || args[0] == "wait" || run.err.starts_with("error: "), "{args:?}: {}", run.err);
    }
    let man = world.path().join("man");
    std::fs::create_dir(&man).expect("a directory");
    a.ok(&["man", man.to_str().expect("text")]);
    assert!(std::fs::read_dir(&man).expect("a listing").count() > 10);
}

#[test]
fn settings_are_shown_changed_and_kept_with_comments() {
    let world = World::new();
    let mut a = world.prepare("a", "# mine\nlan = \"never\" # quiet\n");
    a.start();
    assert_eq!(a.ok(&["config", "get", "lan"]).trim(), "never");
    let set = a.json(&["config", "set", "versions_days", "7"]);
    assert_eq!((&set["key"], &set["value"], &set["default"]), (&"versions_days".into(), &"7".into(), &"30".into()));
    let text = std::fs::read_to_string(a.home().join("config.toml")).expect("settings");
    assert!(text.contains("# mine") && text.contains("# quiet") && text.contains("versions_days = 7"), "{text}");
    a.stop();
    a.start();
    assert_eq!(a.ok(&["config", "get", "versions_days"]).trim(), "7");
    assert_eq!(a.json(&["config", "set", "versions_days", "--default"])["value"], "30");
}

#[test]
fn events_are_followed_as_they_happen() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let mut following = b.spawn(&["--json", "events", "--follow"]);
    a.put("seen", "x");
    let mut last = 0;
    loop {
        let event = following.json().expect("events go on");
        let id = event["id"].as_u64().expect("an id");
        assert!(id > last, "ids count up");
        last = id;
        if event["kind"] == "remote_change" && event["path"] == "seen" {
            break;
        }
    }
}

#[test]
fn status_is_for_people_too() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("f", "x");
    settle(&[&a, &b]);
    let status = a.ok(&["status"]);
    for word in [FOLDER, "idle", "b in sync"] {
        assert!(status.contains(word), "{word}: {status}");
    }
    assert!(!status.contains('\u{1b}'), "no colours where there is no terminal");
}

/// The keys of a reply by their path; `[]` stands for every item of a list.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.insert(path.clone());
                keys(member, &path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

/// Scripts rely on these: each reply has all keys of the first list, and none that is in neither.
fn check(story: &str, reply: &Value, always: &str, sometimes: &str) {
    let mut found = BTreeSet::new();
    keys(reply, "", &mut found);
    let always: BTreeSet<String> = expand(always);
    let sometimes: BTreeSet<String> = expand(sometimes);
    let missing: Vec<_> = always.difference(&found).collect();
    assert!(missing.is_empty(), "{story} lacks {missing:?}: {reply}");
    let fresh: Vec<_> = found.iter().filter(|key| !always.contains(*key) && !sometimes.contains(*key)).collect();
    assert!(fresh.is_empty(), "{story} has new keys {fresh:?}: document them and add them here");
}

/// `a b[] {c d}` is `a`, `b`, `b[].c` and `b[].d`; braces nest.
fn expand(words: &str) -> BTreeSet<String> {
    let (mut keys, mut stack, mut last) = (BTreeSet::new(), vec![String::new()], String::new());
    for word in words.split_whitespace() {
        match word {
            "{" => stack.push(format!("{last}.")),
            "}" => drop(stack.pop()),
            word => {
                let prefix = stack.last().expect("braces are balanced");
                last = format!("{prefix}{word}");
                keys.insert(format!("{prefix}{}", word.trim_end_matches("[]")));
            }
        }
    }
    keys
}

const FOLDER_KEYS: &str = "id name path mode state local { files dirs bytes } global { files dirs bytes } need_files \
    need_bytes need_deletes problems problems_total holds differences all_devices settings \
    devices[] { id name connected joined in_sync need_files need_bytes }";
const DEVICE_KEYS: &str = "id name connected paused via address addresses last_seen_ms version in_sync \
    folders[] { id name joined in_sync need_files need_bytes } received_bytes sent_bytes";
const DEVICE_KEYS_SOMETIMES: &str = "rtt_ms clock_ahead_s role problem limit_up limit_down metered";
const LIMITS_SOMETIMES: &str = "limits { up down rule metered_max }";
const PROGRESS: &str = "progress { done_bytes total_bytes done_files total_files rate_bps eta_s }";

#[test]
fn json_keys_are_stable() {
    let world = World::new();
    let (a, b, c) = (world.device("a"), world.device("b"), world.device("c"));
    mesh(&[&a, &b, &c]);
    tests::harness::share(&[&a, &b]);
    a.put("f", "x");
    settle(&[&a, &b]);
    cut(&a, &b);
    a.put("f", "of a");
    b.put("f", "of b");
    noticed(&a, "f", 2);
    noticed(&b, "f", 1);
    heal(&a, &b);
    settle(&[&a, &b]);
    let offers = until("c hears of it", || {
        let offers = c.json(&["folder", "offers"]);
        offers["offers"].get(0).map(|_| offers.clone())
    });
    check("offers", &offers, "offers[] { id name devices[] { id name } }", "offers[] { counts { files dirs bytes } }");
    check("id", &a.json(&["id"]), "id name", "");
    check("ping", &a.json(&["ping"]), "version pid api", "");
    let devices = format!("devices[] {{ {DEVICE_KEYS} }}");
    let devices_sometimes = format!("devices[] {{ {DEVICE_KEYS_SOMETIMES} }}");
    check("devices", &a.json(&["device", "list"]), &devices, &devices_sometimes);
    let folders = format!("folders[] {{ {FOLDER_KEYS} }}");
    let folders_sometimes = format!("folders[] {{ state_words {PROGRESS} }}");
    check("folders", &a.json(&["folder", "list"]), &folders, &folders_sometimes);
    check(
        "status",
        &a.json(&["status"]),
        &format!(
            "device {{ id name }} version pid uptime_s listen problems offers limits {{ paused lan }} {folders} {devices}"
        ),
        &format!("{folders_sometimes} {devices_sometimes} {LIMITS_SOMETIMES}"),
    );
    check("wait", &a.json(&["wait"]), "in_sync waited_ms", "");
    let c_waits: Value = serde_json::from_str(&c.ctl(&["--json", "wait", "--timeout", "1"]).out).expect("JSON");
    check("a wait in vain", &c_waits, "in_sync waited_ms reasons[] { code words }", "reasons[] { folder device }");
    let path = b.at("f");
    let file = path.to_str().expect("text");
    let version = "id replaced_ms modified_ms bytes kind deleted";
    check(
        "versions",
        &b.json(&["versions", file]),
        "folder { id name } path versions",
        &format!("versions[] {{ {version} by {{ id name }} }}"),
    );
    check("log", &b.json(&["log"]), "entries[] { time_ms folder path change }", "entries[] { bytes by { id name } }");
    check(
        "events",
        &b.json(&["events"]),
        "events[] { id time_ms kind words }",
        "events[] { path folder { id name } device { id name } }",
    );
    let ignored: Value = serde_json::from_str(&b.ctl(&["--json", "ignore", "test", file]).out).expect("JSON");
    check("ignore test", &ignored, "folder { id name } path ignored words", "file line pattern");
    let setting = "key value default words restart";
    let config = format!("path warnings settings[] {{ {setting} }}");
    check("config", &b.json(&["config", "get"]), &config, "settings[] { now }");
    check("a setting", &b.json(&["config", "get", "lan"]), setting, "");
    check("done", &b.json(&["folder", "rescan", FOLDER]), "words", "paths");
    identity_keys(&world);
}

fn identity_keys(world: &World) {
    let own = world.path().join("own");
    let passphrase = world.path().join("passphrase");
    std::fs::write(&passphrase, "correct horse\n").expect("a file");
    let [own, passphrase] = [&own, &passphrase].map(|path| path.to_str().expect("text"));
    let mut device = world.device("other");
    let command = |does: &'static str| ["identity", does, own, "--passphrase-file", passphrase];
    check("identity backup", &device.json(&command("backup")), "id path", "path_bytes");
    device.stop();
    let restored = device.json(&[&command("restore")[..], &["--force"]].concat());
    check("identity restore", &restored, "id path replaced", "path_bytes");
}
