//! Lengths, the essay on top of each file, and words that must not be there.

use crate::repository::Repository;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, each with its reason.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

/// Words that no code holds.
const FORBIDDEN: [&str; 4] = ["todo!", "unimplemented!", "#[ignore", "dbg!"];

/// Tests that wait on the clock, each with its reason. Anything else waits for an event.
const SLEEPERS: [(&str, &str); 7] = [
    ("tests/e2e/harness/mod.rs", "the one pause between two looks at another process"),
    ("syncctl/tests/cli.rs", "waits for the file in which another process writes its number"),
    ("tests/power/trial.rs", "people pause between two actions, and time stamps have to age"),
    ("tests/realtree/measure.rs", "a measurement over time, run by hand"),
    ("tests/soak/fleet/mod.rs", "people pause between two actions; run by hand"),
    ("tests/soak/late.rs", "minutes have to pass; run by hand"),
    ("tests/soak/storm.rs", "a line a second; run by hand"),
];

pub fn without_essay(repository: &Repository) -> Vec<String> {
    let silent = repository.sources.iter().filter(|source| !source.text.starts_with("//! "));
    silent.map(|source| format!("{}:1: does not open with `//!`", source.name)).collect()
}

pub fn long_files(repository: &Repository) -> Vec<String> {
    let lengths = repository.sources.iter().map(|source| (&source.name, source.text.lines().count()));
    lengths
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(name, lines)| format!("{name}:{FILE_LINES_MAX}: {lines} lines"))
        .collect()
}

pub fn long_functions(repository: &Repository) -> Vec<String> {
    let mut violations = Vec::new();
    for source in &repository.sources {
        for function in source.functions() {
            let may = LONG_FUNCTIONS.iter().any(|(file, name, _)| *file == source.name && *name == function.name);
            if function.lines > FUNCTION_LINES_MAX && !function.flat_match && !may {
                let (name, lines) = (function.name, function.lines);
                violations.push(format!("{}:{}: {name} has {lines} lines", source.name, function.line));
            }
        }
    }
    violations
}

pub fn forbidden_words(repository: &Repository) -> Vec<String> {
    let mut violations = Vec::new();
    for source in &repository.sources {
        let is_test = source.name.starts_with("tests/") || source.name.contains("tests");
        let may_sleep = !is_test || SLEEPERS.iter().any(|(file, _)| *file == source.name);
        for (number, line) in source.code.lines().enumerate() {
            let mut found = |word: &str| violations.push(format!("{}:{}: {word}", source.name, number + 1));
            FORBIDDEN.iter().filter(|word| line.contains(**word)).for_each(|word| found(word));
            if !may_sleep && line.contains("thread::sleep") {
                found("thread::sleep");
            }
        }
    }
    violations
}
