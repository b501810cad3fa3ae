//! `start` and `stop`: a daemon in the background, without a service manager.

use super::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::home::Home;
use crate::render::{self, escape};
use protocol::wire::control::{Done, Ping};
use serde::Serialize;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

const RETRY: Duration = Duration::from_millis(50);
/// A longer log becomes `syncd.log.old` at the next start, so that two of these are the most there is.
const LOG_LEN_MAX: u64 = 10 * 1000 * 1000;
/// Lines of the log that are shown when the daemon ends at once.
const LOG_LINES_SHOWN: usize = 10;

#[derive(Serialize)]
struct Started<'a> {
    started: bool,
    pid: u32,
    log: &'a str,
}

/// The daemon's program: beside this one, else in `PATH`.
pub fn daemon_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("syncd");
    if beside.is_file() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join("syncd"));
    candidates.find(|candidate| candidate.is_file()).ok_or_else(|| {
        Failure::new(format!("the program syncd is neither at {} nor in PATH", beside.display()))
            .hint("install syncd and syncctl into the same directory")
    })
}

pub async fn start(context: &Context, timeout_s: u64) -> Result {
    let home = context.client.home();
    let log = home.log().display().to_string();
    if let Ok(ping) = context.client.ping().await {
        say_started(context, false, &ping, &log);
        return Ok(Outcome::Yes);
    }
    let mut child = spawn(&daemon_program()?, home)?;
    let end = Instant::now() + Duration::from_secs(timeout_s);
    loop {
        if let Ok(ping) = context.client.ping().await {
            say_started(context, true, &ping, &log);
            return Ok(Outcome::Yes);
        }
        if let Some(status) = child.try_wait()? {
            let tail = tail(&home.log());
            return Err(Failure::new(format!("syncd ended at once ({status})")).hint(if tail.is_empty() {
                format!("its log is {log}")
            } else {
                format!("its log {log} ends with: {tail}")
            }));
        }
        if Instant::now() >= end {
            return Err(Failure::new(format!("syncd (process {}) does not answer after {timeout_s} s", child.id()))
                .hint(format!("it may still be starting; its log is {log}")));
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn say_started(context: &Context, started: bool, ping: &Ping, log: &str) {
    context.show(&Started { started, pid: ping.pid, log }, |_| match started {
        true => format!("syncd runs (process {}), log in {}", ping.pid, escape(log)),
        false => format!("syncd runs already (process {})", ping.pid),
    });
}

/// In a process group of its own with no terminal to read, so that it outlives this command and its terminal.
fn spawn(program: &Path, home: &Home) -> Result<Child> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&home.root)
        .map_err(|error| Failure::new(format!("cannot make {}: {error}", home.root.display())))?;
    let log = open_log(&home.log())
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", home.log().display())))?;
    Command::new(program)
        .args(["run", "--home"])
        .arg(&home.root)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .current_dir("/")
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start {}: {error}", program.display())))
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LEN_MAX) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join(" | ")
}

pub async fn stop(context: &Context, timeout_s: u64) -> Result {
    let ping = context.client.ping().await?;
    let _: Done = context.client.post("stop", &()).await?;
    let end = Instant::now() + Duration::from_secs(timeout_s);
    while is_running(ping.pid) {
        if Instant::now() >= end {
            return Err(Failure::new(format!("syncd (process {}) has not stopped after {timeout_s} s", ping.pid)));
        }
        tokio::time::sleep(RETRY).await;
    }
    context.show(&Done::said(format!("syncd (process {}) has stopped", ping.pid)), |done| render::escape(&done.words));
    Ok(Outcome::Yes)
}

/// A process that ended but was not reaped (`Z`) runs no more.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}
