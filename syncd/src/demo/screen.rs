//! What the demo prints: one line per step with a mark, its time and its figures; on a terminal a line that moves
//! while a step takes long. No colours, no secrets.

use super::compare::Census;
use super::copy::{Plan, Source};
use anyhow::Result;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The moving line changes this often.
const FRAME: Duration = Duration::from_millis(100);
/// Columns of a step's name.
const NAME_WIDTH: usize = 36;

/// Why a step took the time it took, and what came of it.
pub(super) struct Figures {
    /// What the user would have waited for; checking afterwards is not part of it.
    pub(super) took: Duration,
    pub(super) words: String,
}

/// How far a step is, told by the step and shown by the screen.
#[derive(Clone, Default)]
pub(super) struct Note(Arc<Mutex<String>>);

impl Note {
    pub(super) fn set(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn take(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Prints, and keeps count.
pub(super) struct Screen {
    terminal: bool,
    steps: usize,
    failed: usize,
    note: Note,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), steps: 0, failed: 0, note: Note::default() }
    }

    pub(super) fn title(&self, source: &Source, plan: &Plan, scratch: &Path) {
        say("syncd demo: two daemons, A and B, with homes, keys and sockets of their own");
        let rest = if plan.cut { " (its first part; more would not fit a demo)" } else { "" };
        say(&format!("  shown     scratch copies of {}{rest}; the original is only read", source.dir.display()));
        let out = if plan.left_out == 0 {
            String::new()
        } else {
            format!("; {} never synced, unreadable or made again at will stay out", count(plan.left_out, "object"))
        };
        say(&format!("            {}, {}{out}", count(plan.files, "file"), bytes(plan.bytes())));
        say(&format!("  scratch   {}, removed at the end", scratch.display()));
        say("  checked   after every step both trees are compared on disk: names, kinds, bytes, modes, times");
        say("");
    }

    /// Runs a step and prints its line; whether it went well.
    pub(super) async fn step(&mut self, name: &str, work: impl Future<Output = Result<Figures>>) -> bool {
        self.steps += 1;
        self.note.set(String::new());
        let mut work = pin!(work);
        let mut frames = tokio::time::interval(FRAME);
        let started = Instant::now();
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                _ = frames.tick(), if self.terminal => self.moving_line(name, started.elapsed()),
            }
        };
        self.clear();
        let number = self.steps;
        match outcome {
            Ok(Figures { took, words }) => {
                say(&format!(" {number:>2} ✓ {name:<NAME_WIDTH$} {:>8}   {words}", seconds(took)));
                true
            }
            Err(error) => {
                self.failed += 1;
                say(&format!(" {number:>2} ✗ {name:<NAME_WIDTH$} {:>8}   {error:#}", seconds(started.elapsed())));
                false
            }
        }
    }

    /// Where a step says how far it is.
    pub(super) fn note(&self) -> Note {
        self.note.clone()
    }

    fn moving_line(&self, name: &str, elapsed: Duration) {
        let line = format!(" {:>2} … {name:<NAME_WIDTH$} {:>8}   {}", self.steps, seconds(elapsed), self.note.take());
        // A terminal that is gone needs no progress.
        let _ = write!(std::io::stdout(), "\r\x1b[K{line}").and_then(|()| std::io::stdout().flush());
    }

    /// Wipes the moving line.
    pub(super) fn clear(&self) {
        if self.terminal {
            // As above.
            let _ = write!(std::io::stdout(), "\r\x1b[K").and_then(|()| std::io::stdout().flush());
        }
    }

    /// The last line; whether all went well.
    pub(super) fn summary(&self, took: Duration) -> bool {
        let steps = self.steps;
        say("");
        if self.failed == 0 {
            say(&format!("all {steps} steps verified in {}; scratch copies removed", seconds(took)));
        } else {
            say(&format!("{} of {steps} steps failed, {}; scratch copies removed", self.failed, seconds(took)));
        }
        self.failed == 0
    }
}

fn say(line: &str) {
    // A closed pipe is no reason to leave scratch copies behind.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What a tree holds, in words.
pub(super) fn census(census: &Census) -> String {
    let links = if census.links == 0 { String::new() } else { format!(", {}", count(census.links, "link")) };
    format!("{}{links}, {}", count(census.files, "file"), bytes(census.bytes))
}

/// `1,204 files`.
pub(super) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `96.4 MiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let decimals = usize::from(value < 99.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// `34 ms`, `1.24 s`.
pub(super) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// So many in so much time, per second.
pub(super) fn per_second(number: u64, time: Duration) -> u64 {
    (number as f64 / time.as_secs_f64().max(1e-6)) as u64
}
