//! Long runs of real daemons that `cargo test` has no time for: many readers, a small fleet with faults, conflicts in every
//! order, late writes, and the work of programs that people use. Each subcommand has its own bound, prints its figures, and the exit code says whether all hold.
//!
//! `cargo run --release -p tests --bin soak -- fleet --minutes 10`

mod fleet;
mod late;
mod poll;
mod storm;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;
use tests::harness::{Device, Programs, Verdict, World};

const USAGE: &str = "usage: soak [--scratch DIR] COMMAND

  poll [--replacements N]   20 readers of files that are replaced elsewhere, 10,000 times
  fleet [--minutes N] [--seed N]
                            four devices, people and faults at random, for 45 minutes
  workloads [NAME]...       what programs do in a synced folder: kernel, git, npm, cargo, fsx, editors
  storm                     four devices change one file apart and meet in each of 24 orders; two append to one
  late                      a program writes through an old handle, a second and eight minutes after its file was
                            replaced

--scratch DIR works there.
";

/// What the command line asks for.
struct Options {
    scratch: PathBuf,
    minutes: u64,
    seed: u64,
    replacements: usize,
    command: String,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let Some(options) = parse(std::env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut verdict = Verdict::default();
    let root = tempfile::Builder::new().prefix("soak-").tempdir_in(&options.scratch).expect("a scratch directory");
    let world = World::with(Programs::built(), root);
    match options.command.as_str() {
        "poll" => poll::poll(&world, options.replacements, &mut verdict),
        "fleet" => fleet::fleet(&world, options.minutes, options.seed, &mut verdict),
        "workloads" => workloads::workloads(&world, &options.names, &mut verdict),
        "storm" => storm::storm(&world, &mut verdict),
        _ => late::late(&world, &mut verdict),
    }
    if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let seed = u64::from(std::process::id());
    let (scratch, command, names) = (std::env::temp_dir(), String::new(), Vec::new());
    let mut options = Options { scratch, minutes: 45, seed, replacements: 10_000, command, names };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--scratch" => options.scratch = PathBuf::from(args.next()?),
            "--minutes" => options.minutes = args.next()?.parse().ok()?,
            "--seed" => options.seed = args.next()?.parse().ok()?,
            "--replacements" => options.replacements = args.next()?.parse().ok()?,
            "poll" | "fleet" | "workloads" | "storm" | "late" if options.command.is_empty() => options.command = arg,
            name if options.command == "workloads" && workloads::NAMES.contains(&name) => options.names.push(arg),
            _ => return None,
        }
    }
    (!options.command.is_empty()).then_some(options)
}

/// A figure of `/proc/PID/status`, in its own unit.
fn process_figure(device: &Device, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", device.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn open_files(device: &Device) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", device.pid())).map_or(0, Iterator::count)
}
