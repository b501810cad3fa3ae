//! Many seeds, or one with its trace: `sim --seeds N [--start S] [--jobs J] [--profile flat|disk|mixed]`,
//! `sim --seed S`. `--without RULE` switches a rule off, `--clones` copies a device in each run,
//! `--backups` puts an index back.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tests::sim::check::{Demand, Violation, run};
use tests::sim::scenario::{Profile, SWITCHES, Scenario, Switch};
use tests::sim::shrink::shrink;

/// What was asked for.
#[derive(Default)]
struct Args {
    seed: Option<u64>,
    seeds: u64,
    start: u64,
    jobs: u64,
    keep_going: bool,
    profiles: Profiles,
    without: Option<Switch>,
    clones: bool,
    backups: bool,
}

/// On which disks.
#[derive(Clone, Copy, Default)]
enum Profiles {
    #[default]
    Flat,
    Disk,
    /// Each seed on one of them.
    Mixed,
}

impl Args {
    fn scenario(&self, seed: u64) -> Scenario {
        let profile = match self.profiles {
            Profiles::Mixed if seed % 2 == 1 => Profile::Disk,
            Profiles::Disk => Profile::Disk,
            Profiles::Flat | Profiles::Mixed => Profile::Flat,
        };
        let mut scenario = Scenario::draw(seed, profile);
        if let Some((_, switch)) = self.without {
            switch(&mut scenario.config);
        }
        if self.clones {
            scenario.with_clone()
        } else if self.backups {
            scenario.with_backup()
        } else {
            scenario
        }
    }

    /// Two devices that claim to be one lose edits: neither knows of the other. They must still end alike.
    const fn demand(&self) -> Demand {
        match (self.clones, self.backups) {
            (true, _) => Demand::Convergence,
            (_, true) => Demand::Kept,
            _ => Demand::All,
        }
    }
}

fn parse() -> Result<Args, String> {
    let mut args = Args { seeds: 1000, jobs: 1, ..Args::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if ["--keep-going", "--clones", "--backups"].contains(&word.as_str()) {
            args.keep_going |= word == "--keep-going";
            args.clones |= word == "--clones";
            args.backups |= word == "--backups";
            continue;
        }
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} needs a number"));
        match word.as_str() {
            "--seed" => args.seed = Some(number()?),
            "--seeds" => args.seeds = number()?,
            "--start" => args.start = number()?,
            "--jobs" => args.jobs = number()?.max(1),
            "--profile" if value == "flat" => args.profiles = Profiles::Flat,
            "--profile" if value == "disk" => args.profiles = Profiles::Disk,
            "--profile" if value == "mixed" => args.profiles = Profiles::Mixed,
            "--without" => {
                let known = SWITCHES.into_iter().find(|(name, _)| *name == value);
                args.without = Some(known.ok_or_else(|| format!("no rule is called {value}"))?);
            }
            _ => return Err(format!("unknown argument {word} {value}")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(words) => {
            eprintln!("error: {words}");
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    match args.seed {
        Some(seed) => replay(&args, seed),
        None => many(&args),
    }
}

fn replay(args: &Args, seed: u64) -> ExitCode {
    let scenario = args.scenario(seed);
    println!("{scenario}");
    let (result, trace) = run(&scenario, args.demand(), true);
    println!("{}", trace.join("\n"));
    match result {
        Ok(summary) => {
            println!("seed {seed} holds: {summary:?}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            explain(&scenario, &violation, args.demand());
            ExitCode::FAILURE
        }
    }
}

/// The smallest scenario that fails the same way, with its trace.
fn explain(scenario: &Scenario, violation: &Violation, demand: Demand) {
    let (small, smaller) = shrink(scenario, violation, demand);
    println!("=== seed {} fails: {}", scenario.config.seed, violation.property);
    println!("=== smallest:\n{small}");
    println!("{}", run(&small, demand, true).1.join("\n"));
    println!("=== {}: {}", smaller.property, smaller.words);
}

fn many(args: &Args) -> ExitCode {
    let next = AtomicU64::new(args.start);
    let failed = AtomicBool::new(false);
    let first = Mutex::new(None::<(u64, Violation)>);
    let begun = Instant::now();
    let end = args.start + args.seeds;
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while args.keep_going || !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if let Err(violation) = run(&args.scenario(seed), args.demand(), false).0 {
                        failed.store(true, Ordering::Relaxed);
                        let line = violation.words.lines().next().unwrap_or_default();
                        println!("seed {seed}: {}: {}", violation.property, &line[..line.len().min(200)]);
                        let mut first = first.lock().expect("no thread panics while it holds this");
                        if first.as_ref().is_none_or(|(earlier, _)| seed < *earlier) {
                            *first = Some((seed, violation));
                        }
                    }
                    let done = seed + 1 - args.start;
                    if done.is_multiple_of(10_000) {
                        let rate = done as f64 / begun.elapsed().as_secs_f64();
                        eprintln!("{done} of {} seeds, {rate:.0} a second", args.seeds);
                    }
                }
            });
        }
    });
    let rate = args.seeds as f64 / begun.elapsed().as_secs_f64();
    match first.into_inner().expect("no thread panics while it holds this") {
        None => {
            println!("{} seeds from {} hold, {rate:.0} a second", args.seeds, args.start);
            ExitCode::SUCCESS
        }
        Some((seed, violation)) => {
            if !args.keep_going {
                explain(&args.scenario(seed), &violation, args.demand());
            }
            ExitCode::FAILURE
        }
    }
}
