//! A crash, an IO error and a full disk at every system call of one change, on the device that makes it and on the one that takes
//! it, with real daemons: `strace` injects them. Afterwards both must be equal, with nothing lost, no conflict copy, no
//! temporary file, no problem left, and nobody's help but a restart.
//!
//! `cargo run --release -p tests --bin sweep -- all`

mod injector;
mod operations;
mod trial;

use injector::Fault;
use operations::{OPERATIONS, Operation};
use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use trial::{Tally, Victim, sweep};

const USAGE: &str = "usage: sweep [--minutes COUNT] [--jobs COUNT] [--only OPERATION] [--every N] COMMAND

  kill      the process is killed at every call
  error     every call fails with EIO
  full      every call that needs space fails with ENOSPC
  all       all three

--minutes ends the sweep after so long (60), points that were left out are counted; --jobs runs so many pairs of
daemons at once (2); --only takes one operation, as the table names it; --every takes each Nth point only (1).
";

struct Options {
    bound: Duration,
    jobs: usize,
    only: Option<String>,
    every: usize,
    faults: Vec<Fault>,
}

/// What one pair of daemons does.
struct Task {
    operation: &'static Operation,
    victim: Victim,
    fault: Fault,
}

fn main() -> ExitCode {
    let Some(options) = parse(std::env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let chosen = |operation: &&Operation| options.only.as_ref().is_none_or(|only| only == operation.name);
    let mut tasks = VecDeque::new();
    for &fault in &options.faults {
        for operation in OPERATIONS.iter().filter(chosen) {
            for victim in [Victim::Sender, Victim::Receiver] {
                tasks.push_back(Task { operation, victim, fault });
            }
        }
    }
    let deadline = Instant::now() + options.bound;
    let (tasks, total) = (Mutex::new(tasks), Mutex::new(Tally::default()));
    println!("{:20} {:8} {:6}  points   hit  left  failed  seconds", "operation", "victim", "fault");
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| work(&tasks, &total, &options, deadline));
        }
    });
    let total = total.into_inner().expect("no thread panicked");
    println!("{} points, {} hit, {} left out, {} failed", total.points, total.hit, total.left, total.failed.len());
    for words in &total.failed {
        println!("FAIL {words}");
    }
    if total.failed.is_empty() && total.hit > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(tasks: &Mutex<VecDeque<Task>>, total: &Mutex<Tally>, options: &Options, deadline: Instant) {
    loop {
        let Some(task) = tasks.lock().expect("no thread panicked").pop_front() else { return };
        let started = Instant::now();
        let tally = sweep(task.operation, task.victim, task.fault, options.every, deadline);
        println!(
            "{:20} {:8} {:6}  {:6}  {:4}  {:4}  {:6}  {:7.0}",
            task.operation.name,
            task.victim.name(),
            task.fault.name(),
            tally.points,
            tally.hit,
            tally.left,
            tally.failed.len(),
            started.elapsed().as_secs_f64(),
        );
        total.lock().expect("no thread panicked").add(tally);
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { bound: Duration::from_secs(3600), jobs: 2, only: None, every: 1, faults: Vec::new() };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--minutes" => options.bound = Duration::from_secs(60 * args.next()?.parse::<u64>().ok()?),
            "--jobs" => options.jobs = args.next()?.parse::<usize>().ok()?.max(1),
            "--only" => options.only = Some(args.next()?),
            "--every" => options.every = args.next()?.parse::<usize>().ok()?.max(1),
            "kill" if options.faults.is_empty() => options.faults = vec![Fault::Kill],
            "error" if options.faults.is_empty() => options.faults = vec![Fault::Error],
            "full" if options.faults.is_empty() => options.faults = vec![Fault::Full],
            "all" if options.faults.is_empty() => options.faults = vec![Fault::Kill, Fault::Error, Fault::Full],
            _ => return None,
        }
    }
    (!options.faults.is_empty()).then_some(options)
}
