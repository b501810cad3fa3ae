//! Prompts and progress, which exist only on a terminal: the built `syncctl` on a pseudo-terminal.
#![allow(dead_code, reason = "the fake daemon is shared with cli.rs, which uses all of it")]

mod fake;

use fake::Fake;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};

/// A program on a terminal of its own.
struct Terminal {
    screen: File,
    shown: String,
    child: Child,
}

impl Terminal {
    fn run(fake: &Fake, line: &str) -> Self {
        Self::at(&fake.home, line)
    }

    fn at(home: &Path, line: &str) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap().into_string().unwrap();
        let end = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_syncctl"))
            .arg("--home")
            .arg(home)
            .args(line.split_whitespace())
            .stdin(end.try_clone().unwrap())
            .stdout(end.try_clone().unwrap())
            .stderr(end)
            .env("TERM", "xterm")
            .spawn()
            .unwrap();
        Self { screen: File::from(screen), shown: String::new(), child }
    }

    /// Reads until `words` were shown.
    fn expect(&mut self, words: &str) {
        let mut buffer = [0; 4096];
        while !self.shown.contains(words) {
            // A terminal whose last program has gone reads as an error, not as an end.
            let count = self.screen.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "it ended before {words:?}: {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    fn type_line(&mut self, line: &str) {
        self.screen.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn exit(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_person_compares_the_numbers() {
    let fake = Fake::start();
    for (answer, exit, end) in [("y", 0, "paired with nas"), ("n", 1, "not confirmed"), ("", 1, "not confirmed")] {
        let mut terminal = Terminal::run(&fake, "pair");
        terminal.expect("k7qm-3x9d");
        terminal.expect("▀");
        terminal.expect("493 027");
        terminal.expect("same number? [y/N]");
        terminal.type_line(answer);
        terminal.expect(end);
        assert_eq!(terminal.exit(), Some(exit), "{answer:?}");
    }
    let mut terminal = Terminal::run(&fake, "pair -");
    terminal.expect("code shown by the other device: ");
    terminal.type_line("k7qm");
    terminal.expect("[y/N]");
    terminal.type_line("yes");
    terminal.expect("paired with");
    assert_eq!(terminal.exit(), Some(0));
}

#[test]
fn removing_a_device_asks_first() {
    let fake = Fake::start();
    for (answer, exit, end) in [("no", 1, "nothing was removed"), ("Y", 0, "nas: Remove")] {
        let mut terminal = Terminal::run(&fake, "device remove nas");
        terminal.expect("Remove nas from all your devices");
        terminal.type_line(answer);
        terminal.expect(end);
        assert_eq!(terminal.exit(), Some(exit), "{answer}");
    }
}

#[test]
fn waiting_shows_how_far_it_is() {
    let fake = Fake::start();
    let mut terminal = Terminal::run(&fake, "wait slow --timeout 2");
    terminal.expect("waiting");
    terminal.expect("not in sync after");
    terminal.expect("no device is connected");
    assert_eq!(terminal.exit(), Some(1));
}

#[test]
fn watching_draws_again() {
    let fake = Fake::start();
    let mut terminal = Terminal::run(&fake, "status --watch");
    terminal.expect("\u{1b}[H\u{1b}[2J");
    terminal.expect("40 % of 1.0 GB, 12.3 MB/s, 49 s left");
    terminal.child.kill().unwrap();
    terminal.exit();
}

#[test]
fn a_passphrase_is_asked_twice_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (home, other) = (dir.path().join("home"), dir.path().join("other"));
    syncd::home::Home::at(&home).unwrap().create().unwrap();
    syncd::keys::open(&home.join("keys")).unwrap();
    let backup = format!("identity backup {}", dir.path().join("backup").display());
    let rows: [(&[&str], i32, &str); 3] = [
        (&["correct horse", "correct house"], 1, "the two passphrases differ"),
        (&["short"], 1, "at least 8 characters"),
        (&["correct horse", "correct horse"], 0, "holds the keys of this device"),
    ];
    for (typed, exit, end) in rows {
        let mut terminal = Terminal::at(&home, &backup);
        for (prompt, line) in ["passphrase for the backup: ", "the same once more: "].iter().zip(typed) {
            terminal.expect(prompt);
            terminal.type_line(line);
        }
        terminal.expect(end);
        assert!(!typed.iter().any(|line| terminal.shown.contains(line)), "{}", terminal.shown);
        assert_eq!(terminal.exit(), Some(exit), "{typed:?}");
    }
    let mut terminal = Terminal::at(&other, &backup.replace("backup ", "restore "));
    terminal.expect("passphrase of the backup: ");
    terminal.type_line("correct horse");
    terminal.expect("again, with its realm");
    assert_eq!(terminal.exit(), Some(0));
    let identity = |home: &Path| std::fs::read(home.join("keys/identity")).unwrap();
    assert_eq!(identity(&home), identity(&other));
}
