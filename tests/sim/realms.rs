//! `sim --realm`: many stories of realms, one with its trace, or how many runs each mutant takes.

use std::process::ExitCode;
use std::time::Instant;
use tests::sim::check::Violation;
use tests::sim::realm::flaw::{Flaw, MUTANTS};
use tests::sim::realm::hunt::{first_failing, shrink};
use tests::sim::realm::oracle::run;
use tests::sim::realm::story::Story;

/// What was asked for.
pub struct Asked {
    pub seed: Option<u64>,
    pub seeds: u64,
    pub start: u64,
    pub jobs: usize,
    pub flaw: Option<Flaw>,
}

impl Asked {
    /// One seed with its trace, or many until one fails.
    pub fn run(&self) -> ExitCode {
        if let Some(seed) = self.seed {
            let story = Story::draw(seed, self.flaw);
            let (result, trace) = run(&story, true);
            println!("{story}{}", trace.join("\n"));
            return match result {
                Ok(summary) => {
                    println!("seed {seed} holds: {summary:?}");
                    ExitCode::SUCCESS
                }
                Err(violation) => explain(&story, &violation),
            };
        }
        let begun = Instant::now();
        let found = first_failing(self.start..self.start + self.seeds, self.jobs, self.flaw);
        let Some((seed, violation)) = found else {
            let rate = self.seeds as f64 / begun.elapsed().as_secs_f64();
            println!("{} realms from {} hold, {rate:.0} a second", self.seeds, self.start);
            return ExitCode::SUCCESS;
        };
        explain(&Story::draw(seed, self.flaw), &violation)
    }

    /// Every mutant, with the number of runs until one noticed it.
    pub fn mutants(&self) -> ExitCode {
        let mut all = true;
        println!("{:<16} {:>7}  missed", "flaw", "runs");
        for (name, flaw) in MUTANTS.into_iter().filter(|(_, flaw)| self.flaw.is_none_or(|only| only == *flaw)) {
            let found = first_failing(self.start..self.start + self.seeds, self.jobs, Some(flaw));
            all &= found.is_some();
            let (runs, property) = match &found {
                Some((seed, violation)) => ((seed + 1 - self.start).to_string(), violation.property),
                None => ("-".to_owned(), "NOT CAUGHT"),
            };
            println!("{name:<16} {runs:>7}  {property}");
        }
        if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The smallest story that fails the same way, with its trace.
fn explain(story: &Story, violation: &Violation) -> ExitCode {
    println!("=== seed {} fails: {}: {}", story.config.seed, violation.property, violation.words);
    let (small, smaller) = shrink(story, violation);
    println!("=== smallest:\n{small}{}", run(&small, true).1.join("\n"));
    println!("=== {}: {}", smaller.property, smaller.words);
    ExitCode::FAILURE
}
