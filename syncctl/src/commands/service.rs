//! `service`: syncd under systemd, for this user or for the machine. The units are those of `packaging/systemd`, with the
//! program's place and the home filled in.

use super::start::daemon_program;
use crate::args::{Service, ServiceCommand};
use crate::failure::{Failure, Outcome, Result};
use crate::home::Home;
use crate::render::{self, escape};
use serde::Serialize;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const USER_UNIT: &str = include_str!("../../../packaging/systemd/syncd.service");
const SYSTEM_UNIT: &str = include_str!("../../../packaging/systemd/syncd@.service");
/// The line of a unit that is replaced.
const EXEC_START: &str = "ExecStart=/usr/bin/syncd run";
/// Exists only where systemd is the init system (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// One service: whose it is, where its unit goes, what it is called.
struct Unit {
    system: bool,
    file: PathBuf,
    name: String,
}

#[derive(Serialize)]
struct State {
    unit: String,
    installed: bool,
    running: bool,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

pub fn run(service: &Service, home: &Home, json: bool) -> Result {
    if !Path::new(BOOTED).is_dir() {
        return Err(Failure::new("systemd does not run here, so there is no service to speak of")
            .hint("`syncctl start` starts syncd in the background; any supervisor can run `syncd run`"));
    }
    let unit = unit_of(service)?;
    match service.command {
        ServiceCommand::Install => install(&unit, home)?,
        ServiceCommand::Uninstall => uninstall(&unit)?,
        ServiceCommand::Start => unit.systemctl(&["start", &unit.name])?,
        ServiceCommand::Stop => unit.systemctl(&["stop", &unit.name])?,
        ServiceCommand::Status => {}
    }
    let state = state_of(&unit)?;
    if json {
        render::json(&state);
    } else {
        render::say(words(&state));
    }
    if service.command == ServiceCommand::Install && !unit.system && !json {
        eprintln!("hint: it runs while you are logged in; `loginctl enable-linger` lets it run always");
    }
    Ok(Outcome::from(service.command != ServiceCommand::Status || state.running))
}

fn unit_of(service: &Service) -> Result<Unit> {
    if !service.system {
        let dirs = directories::BaseDirs::new().ok_or_else(|| Failure::new("no home directory is known"))?;
        let file = dirs.config_dir().join("systemd/user/syncd.service");
        return Ok(Unit { system: false, file, name: "syncd.service".to_owned() });
    }
    let sudo = || std::env::var("SUDO_USER").ok().filter(|name| name != "root");
    let user = service
        .user
        .clone()
        .or_else(sudo)
        .ok_or_else(|| Failure::usage("whose files it syncs is not known").hint("give --user NAME"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if user.is_empty() || user.starts_with(['-', '.']) || !user.chars().all(plain) {
        return Err(Failure::usage(format!("{user:?} is no name of a user")));
    }
    let file = PathBuf::from("/etc/systemd/system/syncd@.service");
    Ok(Unit { system: true, file, name: format!("syncd@{user}.service") })
}

impl Unit {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        if !self.system {
            command.arg("--user");
        }
        command.args(args);
        command
    }

    fn systemctl(&self, args: &[&str]) -> Result<()> {
        let output =
            self.command(args).output().map_err(|error| Failure::new(format!("cannot run systemctl: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let manager = if self.system { "needs root: try sudo" } else { "is this a login session with a user manager?" };
        Err(Failure::new(format!("systemctl {} failed: {said}", args.join(" "))).hint(manager))
    }
}

fn install(unit: &Unit, home: &Home) -> Result<()> {
    let template = if unit.system { SYSTEM_UNIT } else { USER_UNIT };
    let text = unit_text(template, &daemon_program()?, home.chosen.then_some(home.root.as_path()))?;
    let directory = unit.file.parent().ok_or_else(|| Failure::new("a unit needs a directory"))?;
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&unit.file, text))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", unit.file.display())))?;
    unit.systemctl(&["daemon-reload"])?;
    unit.systemctl(&["enable", &unit.name])?;
    unit.systemctl(&["restart", &unit.name])
}

fn uninstall(unit: &Unit) -> Result<()> {
    if !unit.file.exists() {
        return Err(Failure::new(format!("no service is installed ({} is not there)", unit.file.display())));
    }
    unit.systemctl(&["disable", "--now", &unit.name])?;
    std::fs::remove_file(&unit.file)
        .map_err(|error| Failure::new(format!("cannot remove {}: {error}", unit.file.display())))?;
    unit.systemctl(&["daemon-reload"])
}

fn unit_text(template: &str, program: &Path, home: Option<&Path>) -> Result<String> {
    let mut exec = format!("ExecStart={} run", quote(program.as_os_str())?);
    if let Some(home) = home {
        exec.push_str(&format!(" --home {}", quote(home.as_os_str())?));
    }
    Ok(template.replace(EXEC_START, &exec))
}

/// One word of an `ExecStart=` line (systemd.service(5), "Command lines"): specifiers and variables are taken literally.
fn quote(word: &OsStr) -> Result<String> {
    let text = word.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| Failure::new("a unit cannot name a path with such characters"))?;
    let doubled = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let plain = word.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@%$".contains(byte));
    Ok(if plain { doubled } else { format!("\"{doubled}\"") })
}

fn state_of(unit: &Unit) -> Result<State> {
    let properties = "LoadState,ActiveState,SubState,MainPID";
    let output = unit
        .command(&["show", "--property", properties, &unit.name])
        .output()
        .map_err(|error| Failure::new(format!("cannot run systemctl: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::new(format!("systemctl does not answer: {said}")));
    }
    Ok(parse_state(&unit.name, &String::from_utf8_lossy(&output.stdout)))
}

fn parse_state(name: &str, show: &str) -> State {
    let value = |key: &str| {
        let line = show.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or("unknown").to_owned()
    };
    State {
        unit: name.to_owned(),
        installed: value("LoadState") == "loaded",
        running: value("ActiveState") == "active",
        state: format!("{} ({})", value("ActiveState"), value("SubState")),
        pid: value("MainPID").parse().ok().filter(|pid| *pid != 0),
    }
}

fn words(state: &State) -> String {
    let pid = state.pid.map_or(String::new(), |pid| format!(", process {pid}"));
    match state.installed {
        true => format!("{}: {}{pid}", escape(&state.unit), escape(&state.state)),
        false => format!("{} is not installed", escape(&state.unit)),
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
