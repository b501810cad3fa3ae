//! The built `syncctl` against the real control server: what it prints, and how it exits.

mod fake;

use fake::{Fake, copy_program, is_error, program, run, stderr, stdout};
use std::process::{Command, Stdio};

#[test]
fn commands_say_what_happened() {
    let fake = Fake::start();
    let rows = [
        ("id", 0, "laptop  sd1me\n"),
        ("id --name box", 0, "box  sd1me\n"),
        ("folder pause photos", 0, "photos: pause\n"),
        ("folder override photos", 0, "photos: override\n"),
        ("folder set photos watch off", 0, "watch = off\n"),
        ("folder add /nowhere/x --with nas", 0, "syncing new at /nowhere/x (send-receive), with nas\n"),
        (
            "folder add /nowhere/x --mode send-only",
            0,
            "syncing new at /nowhere/x (send-only), with every paired device\n",
        ),
        ("folder join music /nowhere/m", 0, "joined new at /nowhere/m (send-receive), with every paired device\n"),
        ("device rename nas store", 0, "nas: Rename(\"store\")\n"),
        ("device address nas a:1 b:2", 0, "nas: Address([\"a:1\", \"b:2\"])\n"),
        (
            "device limit nas --up 5KB",
            0,
            "nas: Limit(DeviceLimit { device: \"nas\", up: Some(\"5KB\"), down: None, metered: None })\n",
        ),
        ("device remove nas --yes", 0, "nas: Remove { recovery_code: None, disown: false }\n"),
        ("wait photos --timeout 9", 0, "in sync (3 s)\n"),
        ("wait slow --timeout 1", 1, "not in sync after 1 s\n"),
        ("ignore test /nowhere/a.tmp", 0, "x.tmp is ignored: a line matches (.syncignore:3: *.tmp)\n"),
        ("ignore test /nowhere/a.txt", 1, "x.tmp is not ignored: no line matches\n"),
        ("config get lan", 0, "always\n"),
        ("config set schedule pause", 0, "schedule = pause (now: sun pause)\n"),
        ("config set lan never", 0, "lan = never\n"),
        ("config set lan --default", 0, "lan = the default\n"),
        ("config set listen x", 0, "listen = x (takes effect when syncd is started again)\n"),
        (
            "restore /nowhere/f --at 2h",
            0,
            "/nowhere/f is back as of 1970-01-01 00:00:00 (1.5 kB); what was there is now the newest version\n",
        ),
    ];
    for (line, exit, expected) in rows {
        let output = fake.ctl(line);
        assert_eq!(stdout(&output), expected, "{line}: {}", stderr(&output));
        assert_eq!(output.status.code(), Some(exit), "{line}");
    }
}

#[test]
fn screens_are_stable() {
    let fake = Fake::start();
    let screens = include_str!("screens.txt");
    let mut shown = String::new();
    for line in screens.lines().filter_map(|line| line.strip_prefix("$ syncctl ")) {
        let output = fake.ctl(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
        shown.push_str(&format!("$ syncctl {line}\n{}\n", stdout(&output)));
    }
    assert_eq!(shown, screens, "{shown}");
}

#[test]
fn json_is_one_line_with_the_api_s_keys() {
    let fake = Fake::start();
    let rows = [
        ("id --json", "{\"id\":\"sd1me\",\"name\":\"laptop\"}\n"),
        ("--json folder pause photos", "{\"words\":\"photos: pause\"}\n"),
        ("wait --json", "{\"in_sync\":true,\"waited_ms\":3000}\n"),
        (
            "log --json",
            "{\"entries\":[{\"time_ms\":1000000,\"folder\":\"photos\",\"path\":\"a\\n\u{fffd}.jpg\",\"path_bytes\":\"610aff2e6a7067\",\"change\":\"changed\",\"by\":{\"id\":\"sd1nas\",\"name\":\"nas\"},\"bytes\":5}]}\n",
        ),
        (
            "config get lan --json",
            "{\"key\":\"lan\",\"value\":\"always\",\"default\":\"d\",\"words\":\"what it does\",\"restart\":false}\n",
        ),
    ];
    for (line, expected) in rows {
        assert_eq!(stdout(&fake.ctl(line)), expected, "{line}");
    }
    for line in ["status", "folder list", "device list", "folder offers", "events", "config get", "versions /nowhere/x"]
    {
        let text = stdout(&fake.ctl(&format!("{line} --json")));
        assert_eq!(text.lines().count(), 1, "{line}: {text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(value.is_object(), "{line}");
    }
}

#[test]
fn check_asks_for_a_person() {
    let fake = Fake::start();
    assert_eq!(fake.ctl("status").status.code(), Some(0));
    assert_eq!(fake.ctl("status --check").status.code(), Some(1));
    assert_eq!(fake.ctl("status --check --json").status.code(), Some(1));
}

#[test]
fn refusals_come_with_hints() {
    let fake = Fake::start();
    let rows = [
        ("folder pause nope", 1, "there is no folder \"nope\"", "`syncctl folder list`"),
        ("wait nope", 1, "there is no folder", ""),
        ("config get nope", 1, "there is no setting", "the settings are lan, watch"),
        ("restore f --at someday", 2, "is no time", ""),
        ("device remove nas", 2, "no terminal", "give --yes"),
        ("pair", 2, "no terminal", "give --yes"),
        ("pair k7qm", 2, "no terminal", "give --yes"),
        ("pair - --yes", 2, "no code was given", ""),
        ("pair wrong --yes", 1, "that is no code", ""),
        ("man /nowhere", 1, "cannot write man pages", ""),
    ];
    for (line, exit, words, hint) in rows {
        let output = fake.ctl(line);
        if line == "config get nope" {
            assert!(stderr(&output).contains("warning: unknown setting"), "{}", stderr(&output));
            assert_eq!(output.status.code(), Some(1));
            continue;
        }
        is_error(&output, exit, words, hint);
    }
    assert_eq!(fake.ctl("explode").status.code(), Some(2));
}

#[test]
fn without_a_daemon_the_hint_says_how_to_start_one() {
    let fake = Fake::silent();
    for line in
        ["id", "status", "folder list", "wait", "stop", "events --follow", "pair --yes", "ping", "ping --wait 0"]
    {
        is_error(&fake.ctl(line), 1, "syncd is not running", "start it with `syncctl start`");
    }
    let path = format!("{}\n", fake.home.join("config.toml").display());
    assert_eq!(stdout(&fake.ctl("config path")), path);
    assert!(stdout(&fake.ctl("completions bash")).contains("syncctl"));
    let man = fake.ctl(&format!("man {}", fake.dir.path().display()));
    assert!(man.status.success());
    assert!(fake.dir.path().join("syncctl-folder-add.1").exists() && fake.dir.path().join("syncctl.1").exists());
}

#[test]
fn the_home_comes_from_the_environment_too() {
    let fake = Fake::start();
    let program = env!("CARGO_BIN_EXE_syncctl");
    let given = |value: &std::ffi::OsStr| {
        Command::new(program).arg("id").stdin(Stdio::null()).env("SYNCD_HOME", value).env("HOME", "/nowhere").output()
    };
    assert_eq!(stdout(&given(fake.home.as_os_str()).unwrap()), "laptop  sd1me\n");
    let empty = given("".as_ref()).unwrap();
    assert!(stderr(&empty).contains("(home /nowhere/.local/share/syncd)"), "{}", stderr(&empty));
}

#[test]
fn ping_waits_for_a_daemon_that_is_just_starting() {
    let fake = Fake::silent();
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_syncctl"))
        .args(["ping", "--wait", "30", "--home"])
        .arg(&fake.home)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    fake.serve(1);
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn pairing_with_yes_answers_for_the_person() {
    let fake = Fake::start();
    let output = fake.ctl("pair --yes --json");
    let text = stdout(&output);
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["code"], "k7qm-3x9d");
    assert!(text.lines().last().unwrap().starts_with("{\"event\":\"paired\""), "{text}");
    assert!(output.status.success());
    let output = fake.ctl("pair k7qm --yes --address 10.0.0.1:5");
    assert!(output.status.success());
    assert!(stderr(&output).contains("trying 10.0.0.1:5"));
    let text = stdout(&output);
    assert!(text.contains("check number  493 027") && text.contains("paired with nas\\u{1b}]0;x\\u{7}"), "{text}");
    let output = fake.ctl("pair --yes");
    assert!(stdout(&output).starts_with("code  k7qm-3x9d\nlink  syncd:p1:k7qm\n"), "{}", stdout(&output));
}

#[test]
fn a_code_may_come_from_standard_input() {
    let fake = Fake::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_syncctl"))
        .args(["pair", "-", "--yes", "--home"])
        .arg(&fake.home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"k7qm\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && stdout(&output).contains("paired with"), "{}", stdout(&output));
}

#[test]
fn events_are_listed_and_escaped() {
    let fake = Fake::start();
    let text = stdout(&fake.ctl("events"));
    assert!(text.contains("  started  syncd started\n"), "{text}");
    assert!(text.contains("  problem  photos  bad \\u{1b}[2J name\n"), "{text}");
    let mut follow = Command::new(env!("CARGO_BIN_EXE_syncctl"))
        .args(["events", "--follow", "--json", "--home"])
        .arg(&fake.home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("\"kind\":\"started\""));
    assert!(lines.next().unwrap().unwrap().contains("\\u001b[2J"));
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// `syncctl` in a directory of its own, beside a `syncd` that is a script.
fn beside(fake: &Fake, script: &str) -> std::path::PathBuf {
    program(fake.dir.path(), "syncd", script);
    let copy = fake.dir.path().join("syncctl");
    copy_program(env!("CARGO_BIN_EXE_syncctl").as_ref(), &copy);
    copy
}

#[test]
fn start_tells_why_a_daemon_did_not_start() {
    let fake = Fake::silent();
    let ctl = beside(&fake, "#!/bin/sh\necho \"got $*\"\necho 'error: no such disk' >&2\nexit 73\n");
    let output = run(Command::new(ctl).arg("--home").arg(&fake.home).arg("start"));
    let hint =
        format!("its log {} ends with: got run --home {}", fake.home.join("syncd.log").display(), fake.home.display());
    is_error(&output, 1, "syncd ended at once (exit status: 73)", &hint);
    assert!(stderr(&output).contains("no such disk"));
}

#[test]
fn start_waits_until_the_daemon_answers_and_stop_until_it_is_gone() {
    let fake = Fake::silent();
    let started = fake.dir.path().join("started");
    let script = format!("#!/bin/sh\necho $$ > {0}.new\nmv {0}.new {0}\nexec sleep 600\n", started.display());
    let ctl = beside(&fake, &script);
    let mut start = Command::new(&ctl)
        .args(["start", "--json", "--home"])
        .arg(&fake.home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid: u32 = loop {
        if let Ok(text) = std::fs::read_to_string(&started) {
            break text.trim().parse().unwrap();
        }
        assert!(start.try_wait().unwrap().is_none(), "start ended before its daemon answered");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    fake.serve(pid);
    let output = start.wait_with_output().unwrap();
    let log = fake.home.join("syncd.log");
    let expected = format!("{{\"started\":true,\"pid\":{pid},\"log\":\"{}\"}}\n", log.display());
    assert_eq!(stdout(&output), expected);
    let again = run(Command::new(&ctl).arg("--home").arg(&fake.home).arg("start"));
    assert_eq!(stdout(&again), format!("syncd runs already (process {pid})\n"));
    assert_eq!(stdout(&fake.ctl("stop")), format!("syncd (process {pid}) has stopped\n"));
    assert!(std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z")));
}

#[test]
fn a_home_too_deep_for_a_socket_works() {
    let mut fake = Fake::silent();
    fake.home = fake.dir.path().join("d".repeat(200));
    fake.serve(1);
    assert_eq!(stdout(&fake.ctl("id")), "laptop  sd1me\n");
}

#[test]
fn service_says_where_there_is_no_systemd() {
    if std::path::Path::new("/run/systemd/system").exists() {
        eprintln!("SKIPPED: systemd runs here, and a test must not install services");
        return;
    }
    let fake = Fake::silent();
    for line in ["service install", "service status", "service stop --system --user me"] {
        is_error(&fake.ctl(line), 1, "systemd does not run here", "`syncctl start`");
    }
}
