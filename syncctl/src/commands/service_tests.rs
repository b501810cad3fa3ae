//! Units as systemd reads them.

use super::*;

#[test]
fn the_program_and_the_home_stand_in_the_unit() {
    let rows = [
        ("/usr/local/bin/syncd", None, "ExecStart=/usr/local/bin/syncd run\n"),
        ("/opt/my apps/syncd", None, "ExecStart=\"/opt/my apps/syncd\" run\n"),
        ("/a/syncd", Some("/srv/50%/$x \"q\""), "ExecStart=/a/syncd run --home \"/srv/50%%/$$x \\\"q\\\"\"\n"),
    ];
    for template in [USER_UNIT, SYSTEM_UNIT] {
        assert_eq!(template.matches(EXEC_START).count(), 1);
        for (program, home, line) in rows {
            let text = unit_text(template, Path::new(program), home.map(Path::new)).unwrap();
            assert!(text.contains(line), "{text}");
        }
    }
    assert!(unit_text(USER_UNIT, Path::new("/a\nExecStart=/b"), None).is_err());
}

#[test]
fn systemd_accepts_the_units() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("SKIPPED: systemd-analyze is not here, the units were not verified");
        return;
    };
    assert!(version.status.success());
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    for (template, name, mode) in
        [(USER_UNIT, "syncd.service", "--user"), (SYSTEM_UNIT, "syncd@root.service", "--system")]
    {
        let file = dir.path().join(name);
        std::fs::write(&file, unit_text(template, &program, Some(Path::new("/srv/a b"))).unwrap()).unwrap();
        let output = Command::new("systemd-analyze")
            .args([mode, "--man=no", "--recursive-errors=no", "verify"])
            .arg(&file)
            .env("XDG_RUNTIME_DIR", dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        assert!(!said.contains(name), "{name}: systemd complains: {said}");
    }
}

#[test]
fn states_are_read() {
    let running = "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=42\n";
    let state = parse_state("syncd.service", running);
    assert!(state.installed && state.running && state.pid == Some(42));
    assert_eq!(words(&state), "syncd.service: active (running), process 42");
    let absent = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\n";
    assert_eq!(words(&parse_state("syncd.service", absent)), "syncd.service is not installed");
}

#[test]
fn users_are_checked() {
    let service =
        |user: Option<&str>| Service { system: true, user: user.map(str::to_owned), command: ServiceCommand::Status };
    assert_eq!(unit_of(&service(Some("alice.b-c"))).unwrap().name, "syncd@alice.b-c.service");
    for wrong in ["", "a b", "../x", "-a", "a/b", "%i"] {
        assert_eq!(unit_of(&service(Some(wrong))).err().map(|failure| failure.exit), Some(2), "{wrong}");
    }
}
