//! What programs do in a synced folder, with the daemon beside them: it must not disturb them, and in the end rsync, git and
//! the programs themselves find the same on the other device. The guard against mass deletions is off: `git checkout` and
//! `npm ci` delete thousands of files, and a person would have to say each time that this is meant.

mod editors;
mod fsx;
mod trees;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::harness::{Device, FOLDER, Verdict, World, pair_of, within};

/// Each may be chosen by its name.
pub const NAMES: [&str; 6] = ["kernel", "git", "npm", "cargo", "fsx", "editors"];
/// How long a whole tree may take on two busy cores.
const SYNC_MAX: Duration = Duration::from_secs(1800);

pub fn workloads(world: &World, names: &[String], verdict: &mut Verdict) {
    let (a, b) = pair_of(world);
    for device in [&a, &b] {
        device.ok(&["folder", "set", FOLDER, "mass_delete_guard", "off"]);
    }
    settle(&a, &b);
    for name in NAMES {
        if !names.is_empty() && !names.iter().any(|chosen| chosen == name) {
            continue;
        }
        let started = Instant::now();
        let ran = match name {
            "kernel" => trees::kernel(&a, &b, verdict),
            "git" => trees::git(&a, &b, verdict),
            "npm" => trees::npm(world, &a, &b, verdict),
            "cargo" => trees::cargo(&a, &b, verdict),
            "fsx" => fsx::fsx(&a, verdict),
            _ => editors::editors(&a, &b, verdict),
        };
        if !ran {
            tests::harness::skip(name, "its program or its files are not here");
            continue;
        }
        let worked = started.elapsed().as_secs_f64();
        settle(&a, &b);
        println!("     {name}: worked for {worked:.1} s, in sync after {:.1} s", started.elapsed().as_secs_f64());
        verdict.compare(&a, &b);
        for device in [&a, &b] {
            let peak = crate::process_figure(device, "VmHWM") >> 10;
            println!("     {name}: {} MiB of memory at most on {}", peak, device.name());
        }
    }
}

/// In sync, twice: what the other one resolved has to come back.
fn settle(a: &Device, b: &Device) {
    for device in [a, b, a] {
        // A setting that just changed ends the session for a moment, and `wait` wants a connected device.
        let wait = || device.ctl(&["wait", "--timeout", "60"]);
        let mut last = None;
        let done = within(SYNC_MAX, || {
            let run = wait();
            let is_done = run.code == 0;
            last = Some(run);
            is_done.then_some(())
        });
        assert!(done.is_some(), "{} is not in sync: {last:?}", device.name());
    }
}

/// Runs a program; what it printed, when it ended well.
fn output<S: AsRef<OsStr>>(directory: &Path, program: &str, args: &[S]) -> Option<String> {
    let mut command = Command::new(program);
    // The same answers for everybody: no settings of this machine's user.
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "soak"),
        ("GIT_AUTHOR_EMAIL", "soak@localhost"),
        ("GIT_COMMITTER_NAME", "soak"),
        ("GIT_COMMITTER_EMAIL", "soak@localhost"),
    ] {
        command.env(name, value);
    }
    let output = command.args(args).current_dir(directory).env_remove("CARGO_TARGET_DIR").output().ok()?;
    if !output.status.success() {
        let shown = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
        println!("     {program} {shown}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
