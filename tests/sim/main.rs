//! Many seeds, or one with its trace: `sim --seeds N [--start S] [--jobs J] [--profile flat|disk|whole|mixed]`,
//! `sim --seed S`. `--without NAME` leaves out what a mutant lacks, `--clones` copies a device in each run,
//! `--backups` puts an index back, `--folding` gives a device a disk that folds names, `--days N` lives N days with one fleet in each run.
//! `--keep` writes the smallest failing run to `tests/sim/regress`, `sim --replay FILE` runs such a file with its trace.
//! `sim --mutants [--seeds N]` says how many runs it takes to notice each mutant. `--realm` as the first word runs
//! realms of devices (`realm`) instead of their files, with the same words.

mod realms;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tests::sim::check::{Demand, Violation, run};
use tests::sim::flaw::{MUTANTS, Mutant, mutant};
use tests::sim::realm::flaw::{Flaw, MUTANTS as REALM_MUTANTS};
use tests::sim::regress::Regression;
use tests::sim::scenario::{Profile, Scenario};
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
    without: Option<Mutant>,
    mutants: bool,
    keep: bool,
    replay: Option<PathBuf>,
    clones: bool,
    backups: bool,
    folding: bool,
    days: u32,
    realm: bool,
    flaw: Option<Flaw>,
}

/// On which disks.
#[derive(Clone, Copy, Default)]
enum Profiles {
    #[default]
    Flat,
    Disk,
    Whole,
    /// Each seed on one of them.
    Mixed,
}

impl Args {
    fn scenario(&self, seed: u64) -> Scenario {
        let profile = match self.profiles {
            Profiles::Mixed if seed % 2 == 1 => Profile::Disk,
            Profiles::Disk => Profile::Disk,
            Profiles::Whole => Profile::Whole,
            Profiles::Flat | Profiles::Mixed => Profile::Flat,
        };
        let mut scenario = Scenario::draw_days(seed, profile, self.days);
        if let Some(mutant) = self.without {
            (mutant.set)(&mut scenario.config);
        }
        if self.folding {
            scenario.with_folding()
        } else if self.clones {
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
            _ if self.folding => Demand::Folded,
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
        let switch = match word.as_str() {
            "--keep-going" => Some(&mut args.keep_going),
            "--clones" => Some(&mut args.clones),
            "--backups" => Some(&mut args.backups),
            "--folding" => Some(&mut args.folding),
            "--mutants" => Some(&mut args.mutants),
            "--realm" => Some(&mut args.realm),
            "--keep" => Some(&mut args.keep),
            _ => None,
        };
        if let Some(switch) = switch {
            *switch = true;
            continue;
        }
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} needs a number"));
        match word.as_str() {
            "--replay" => args.replay = Some(PathBuf::from(value)),
            "--seed" => args.seed = Some(number()?),
            "--seeds" => args.seeds = number()?,
            "--start" => args.start = number()?,
            "--jobs" => args.jobs = number()?.max(1),
            "--days" => args.days = u32::try_from(number()?).map_err(|_| "--days needs a smaller number".to_owned())?,
            "--profile" if value == "flat" => args.profiles = Profiles::Flat,
            "--profile" if value == "disk" => args.profiles = Profiles::Disk,
            "--profile" if value == "whole" => args.profiles = Profiles::Whole,
            "--profile" if value == "mixed" => args.profiles = Profiles::Mixed,
            "--without" if args.realm => {
                let known = REALM_MUTANTS.into_iter().find(|(name, _)| *name == value);
                args.flaw = Some(known.ok_or_else(|| format!("no mutant is called {value}"))?.1);
            }
            "--without" => {
                args.without = Some(mutant(&value).ok_or_else(|| format!("no mutant is called {value}"))?);
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
    if args.realm {
        let jobs = usize::try_from(args.jobs).unwrap_or(1);
        let asked = realms::Asked { seed: args.seed, seeds: args.seeds, start: args.start, jobs, flaw: args.flaw };
        return if args.mutants { asked.mutants() } else { asked.run() };
    }
    match args.seed {
        _ if args.mutants => mutants(&args),
        _ if args.replay.is_some() => args.replay.as_deref().map_or(ExitCode::FAILURE, |path| again(&args, path)),
        Some(seed) => replay(&args, &args.scenario(seed)),
        None => many(&args),
    }
}

/// Every mutant, with the number of runs until one noticed it, and what that run missed.
fn mutants(args: &Args) -> ExitCode {
    let mut all = true;
    println!("{:<18} {:<6} {:>7}  {:<22} seconds", "without", "disk", "runs", "missed");
    for mutant in MUTANTS.into_iter().filter(|mutant| args.without.is_none_or(|only| only.name == mutant.name)) {
        let begun = Instant::now();
        let caught = mutant.caught_within(args.seeds, usize::try_from(args.jobs).unwrap_or(1));
        all &= caught.is_some();
        let (runs, property) = match &caught {
            Some(caught) => ((caught.seed + 1).to_string(), caught.violation.property),
            None => ("-".to_owned(), "NOT CAUGHT"),
        };
        let disk = format!("{:?}", mutant.profile).to_lowercase();
        println!("{:<18} {disk:<6} {runs:>7}  {property:<22} {:.1}", mutant.name, begun.elapsed().as_secs_f64());
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A kept run, with its trace.
fn again(args: &Args, path: &Path) -> ExitCode {
    match Regression::read(path) {
        Ok(kept) => {
            println!("{}", kept.story);
            replay(args, &kept.scenario)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn replay(args: &Args, scenario: &Scenario) -> ExitCode {
    let seed = scenario.config.seed;
    println!("{scenario}");
    let (result, trace) = run(scenario, args.demand(), true);
    println!("{}", trace.join("\n"));
    match result {
        Ok(summary) => {
            println!("seed {seed} holds: {summary:?}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            explain(args, scenario, &violation);
            ExitCode::FAILURE
        }
    }
}

/// The smallest scenario that fails the same way, with its trace.
fn explain(args: &Args, scenario: &Scenario, violation: &Violation) {
    let demand = args.demand();
    let (small, smaller) = shrink(scenario, violation, demand);
    println!("=== seed {} fails: {}", scenario.config.seed, violation.property);
    println!("=== smallest:\n{small}");
    println!("{}", run(&small, demand, true).1.join("\n"));
    println!("=== {}: {}", smaller.property, smaller.words);
    if args.keep {
        let story = format!("{}: {}", smaller.property, smaller.words.lines().next().unwrap_or_default());
        match (Regression { story, scenario: small }).keep() {
            Ok(path) => println!("=== kept as {}", path.display()),
            Err(error) => eprintln!("error: {error:#}"),
        }
    }
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
                explain(args, &args.scenario(seed), &violation);
            }
            ExitCode::FAILURE
        }
    }
}
