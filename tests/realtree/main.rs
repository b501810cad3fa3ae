//! The product on a real tree: crates and a Linux kernel, 80,000 files and more, between two release daemons on this
//! machine. Each subcommand has its own bound, prints its figures, and the exit code says whether all of them hold.
//!
//! `cargo run --release -p tests --bin realtree -- all`

mod kill;
mod measure;
mod source;

use source::Source;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tests::harness::{Device, FOLDER, Programs, Verdict, World, join, pair};

const USAGE: &str = "usage: realtree [--scratch DIR] [--source DIR] [--kills COUNT] COMMAND

  sync      build the tree, sync A to B, compare with rsync
  idle      sync, then a minute of silence: no write, no CPU
  latency   sync, then fifty edits of a small file
  git       sync, then clone, checkout and fsck
  insert    512 MiB, then 1 KiB more at its front
  kill      end a daemon again and again while it syncs
  all       everything, on one tree

--source DIR takes that directory in place of the crates and the kernel, --scratch DIR works there.
";

/// How long a whole sync of the tree may take on two busy cores.
const SYNC_MAX: Duration = Duration::from_secs(1800);

/// Two paired daemons that share the tree.
struct Pair {
    a: Device,
    b: Device,
    /// Dropped after its devices.
    _world: World,
}

struct Options {
    scratch: PathBuf,
    source: Option<PathBuf>,
    kills: u32,
    command: String,
}

fn main() -> ExitCode {
    let Some(options) = parse(std::env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut verdict = Verdict::default();
    let source = (options.command != "insert").then(|| Source::prepare(&options.scratch, options.source.as_deref()));
    match options.command.as_str() {
        "insert" => measure::insert(&empty_pair(&options.scratch), &mut verdict),
        "kill" => kill::kill(&options.scratch, source.as_ref().expect("made above"), options.kills, &mut verdict),
        command => {
            let pair = synced_pair(&options.scratch, source.as_ref().expect("made above"), &mut verdict);
            let runs = |name: &str| command == name || command == "all";
            if runs("idle") {
                measure::idle(&pair, &mut verdict);
            }
            if runs("latency") {
                measure::latency(&pair, &mut verdict);
            }
            if runs("git") {
                measure::git(&pair, &mut verdict);
            }
            if runs("all") {
                measure::insert(&pair, &mut verdict);
            }
            verdict.compare(&pair.a, &pair.b);
            drop(pair);
            if runs("all") {
                kill::kill(&options.scratch, source.as_ref().expect("made above"), options.kills, &mut verdict);
            }
        }
    }
    if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { scratch: std::env::temp_dir(), source: None, kills: 20, command: String::new() };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--scratch" => options.scratch = PathBuf::from(args.next()?),
            "--source" => options.source = Some(PathBuf::from(args.next()?)),
            "--kills" => options.kills = args.next()?.parse().ok()?,
            "sync" | "idle" | "latency" | "git" | "insert" | "kill" | "all" if options.command.is_empty() => {
                options.command = arg;
            }
            _ => return None,
        }
    }
    (!options.command.is_empty()).then_some(options)
}

fn empty_pair(scratch: &Path) -> Pair {
    let root = tempfile::Builder::new().prefix("realtree-").tempdir_in(scratch).expect("a scratch directory");
    let world = World::with(Programs::built(), root);
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    join(&b);
    Pair { a, b, _world: world }
}

/// The tree is there before the folder is added, so that the first scan is part of the time.
fn synced_pair(scratch: &Path, source: &Source, verdict: &mut Verdict) -> Pair {
    let root = tempfile::Builder::new().prefix("realtree-").tempdir_in(scratch).expect("a scratch directory");
    let world = World::with(Programs::built(), root);
    let (a, b) = (world.device("a"), world.device("b"));
    source.copy_to(a.files());
    pair(&a, &b);
    let started = Instant::now();
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    join(&b);
    a.wait_within(SYNC_MAX);
    b.wait_within(SYNC_MAX);
    let took = started.elapsed();
    let (files, bytes) = (source.files, source.bytes >> 20);
    let rate = bytes as f64 / took.as_secs_f64();
    verdict.say(
        true,
        &format!("sync: {files} files and links, {bytes} MiB in {:.1} s, {rate:.0} MiB/s", took.as_secs_f64()),
    );
    for device in [&a, &b] {
        println!("     {}: {} MiB of memory at most", device.name(), peak_memory_mib(device.pid()));
    }
    let pair = Pair { a, b, _world: world };
    verdict.compare(&pair.a, &pair.b);
    pair
}

fn peak_memory_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) / 1024
}
