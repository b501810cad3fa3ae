//! Power loss with real daemons: one of two devices has its home and its folder on a disk in memory, mounted through
//! FUSE, that forgets what was not synced when its power goes. People act at both, the power is cut at random changes of
//! the disk, and afterwards both must be equal, nothing that was durable may be lost, and no help but a start is needed.
//! `--prove` runs on disks that lie about fsync, where the same checks must fail.
//!
//! `cargo run --release -p tests --bin power -- --cuts 200`

mod cut;
mod disk;
mod oracle;
mod serve;
mod syncfs;
mod trial;
mod user;
mod volume;

use disk::{Disk, Forgets};
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tests::harness::{Programs, World, is_root, skip};
use trial::{Settings, Trial};

const USAGE: &str = "usage: power [--cuts COUNT] [--minutes COUNT] [--seconds COUNT] [--seed SEED] [--forget-syncs files|names|all]
             [--late] [--prove]

The power is cut --cuts times (100), or as often as --minutes (60) or --seconds allow. --seed chooses what people do and
what a cut leaves; the daemons' own timing is not repeatable. --forget-syncs is a disk that acknowledges fsync of
files, of directories or of both and does nothing; then violations are what should come. --prove tries each of those until
it is noticed, and fails when one is not, before the run on an honest disk. --late is another story: one file is patched
without a sync, two seconds later the power goes, and what is left may be old bytes with new time stamps.
";

/// Rounds with one pair of devices.
const ROUNDS: u64 = 12;
/// Cuts within which a lying disk must be noticed.
const PROVE_CUTS: u64 = 100;
/// Lines of the logs that a failure shows.
const LOG_LINES_SHOWN: usize = 120;

#[derive(Clone, Copy)]
struct Options {
    cuts: u64,
    bound: Duration,
    seed: u64,
    forgets: Forgets,
    late: bool,
    prove: bool,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|first| first == syncfs::GUARD) {
        eprintln!("error: {}", syncfs::guard(&args[1..]));
        return ExitCode::FAILURE;
    }
    let Some(options) = parse(args.into_iter().filter_map(|arg| arg.into_string().ok())) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    if let Some(why) = obstacle() {
        skip("power", &why);
        return ExitCode::SUCCESS;
    }
    let mut holds = true;
    if options.prove {
        for (name, files, names) in [("files", true, false), ("names", false, true), ("files and names", true, true)] {
            let lying = Options { cuts: PROVE_CUTS, forgets: Forgets { files, names }, ..options };
            let tally = run(&lying, false);
            let noticed = tally.violations > 0;
            let word = if noticed { "noticed" } else { "FAIL not noticed" };
            println!("a disk that forgets to sync {name}: {word} after {} cuts", tally.cuts);
            holds &= noticed;
        }
    }
    let tally = run(&options, true);
    println!(
        "{} cuts in {} rounds, {} acts, {} changes on the disk, {} violations, {:.0} s",
        tally.cuts,
        tally.rounds,
        tally.acts,
        tally.changes,
        tally.violations,
        tally.took.as_secs_f64()
    );
    if holds && tally.violations == 0 && tally.cuts > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Why nothing can run here.
fn obstacle() -> Option<String> {
    if !is_root() {
        return Some("mounting needs root".to_owned());
    }
    let scratch = tempfile::tempdir().ok()?;
    if let Err(error) = Disk::mount(&scratch.path().join("disk"), 0, Forgets::default()) {
        return Some(format!("no FUSE: {error}"));
    }
    let own = std::env::current_exe().ok()?;
    (!syncfs::is_possible(scratch.path(), &own)).then(|| "no seccomp filter can watch a process".to_owned())
}

/// What came of a run.
#[derive(Default)]
struct Tally {
    cuts: u64,
    rounds: u64,
    acts: u64,
    changes: u64,
    violations: u64,
    took: Duration,
}

/// World after world, until there were enough cuts, no time is left, or something does not hold.
fn run(options: &Options, shown: bool) -> Tally {
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut seed = options.seed;
    while tally.cuts < options.cuts && started.elapsed() < options.bound && tally.violations == 0 {
        let until = started + options.bound;
        live(seed, options, until, shown, &mut tally);
        seed += 1;
    }
    tally.took = started.elapsed();
    tally
}

/// One pair of devices.
fn live(seed: u64, options: &Options, until: Instant, shown: bool, tally: &mut Tally) {
    let world = World::with(Programs::built(), tempfile::Builder::new().prefix("power-").tempdir().expect("scratch"));
    let made = catch_unwind(AssertUnwindSafe(|| {
        Trial::new(world, Settings { seed, forgets: options.forgets, late: options.late })
    }));
    let mut trial = match made {
        Ok(Ok(trial)) => trial,
        Ok(Err(words)) => return report(seed, shown, &words, None, tally),
        Err(_) => return report(seed, shown, "no end, see above", None, tally),
    };
    let cuts = tally.cuts;
    for _ in 0..ROUNDS {
        if tally.cuts >= options.cuts || Instant::now() >= until {
            break;
        }
        let round = catch_unwind(AssertUnwindSafe(|| trial.round()));
        tally.cuts = cuts + trial.cuts;
        tally.rounds += 1;
        match round {
            Ok(Ok(())) => continue,
            Ok(Err(words)) => report(seed, shown, &words, Some(&trial), tally),
            Err(_) => report(seed, shown, "no end, see above", Some(&trial), tally),
        }
        break;
    }
    tally.acts += trial.acts;
    tally.changes += trial.changes();
}

fn report(seed: u64, shown: bool, words: &str, trial: Option<&Trial>, tally: &mut Tally) {
    tally.violations += 1;
    if !shown {
        println!("  {}", words.lines().next().unwrap_or_default());
        return;
    }
    println!("FAIL seed {seed}, cut {}: {words}", tally.cuts);
    let Some(trial) = trial else { return };
    println!("--- what happened\n{}", trial.story());
    let logs = trial.logs();
    let lines: Vec<&str> = logs.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().for_each(|line| println!("{line}"));
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let seed = u64::from(std::process::id());
    let forgets = Forgets::default();
    let mut options = Options { cuts: 100, bound: Duration::from_secs(3600), seed, forgets, late: false, prove: false };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--cuts" => options.cuts = args.next()?.parse().ok()?,
            "--minutes" => options.bound = Duration::from_secs(60 * args.next()?.parse::<u64>().ok()?),
            "--seconds" => options.bound = Duration::from_secs(args.next()?.parse().ok()?),
            "--seed" => options.seed = args.next()?.parse().ok()?,
            "--forget-syncs" => {
                options.forgets = match args.next()?.as_str() {
                    "files" => Forgets { files: true, names: false },
                    "names" => Forgets { files: false, names: true },
                    "all" => Forgets { files: true, names: true },
                    _ => return None,
                }
            }
            "--late" => options.late = true,
            "--prove" => options.prove = true,
            _ => return None,
        }
    }
    Some(options)
}
