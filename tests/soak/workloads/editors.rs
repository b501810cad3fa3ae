//! How editors save: vim renames the old file to a backup, writes a new one and deletes the backup; an office writes beside
//! the file under a lock and renames over it. A reader on the other device must always find the file.

use super::has;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tests::harness::{Device, Verdict, noise, settle, within};

const DOCUMENTS: usize = ALL.len();
const ROUNDS: usize = 60;
/// The documents, and those among them that an office saves.
const ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];
const OFFICE: &[usize] = &[0, 2, 4, 6];
/// Until a save is on the other device.
const ARRIVES_MAX: Duration = Duration::from_secs(30);

fn name(document: usize) -> String {
    format!("documents/{document}.odt")
}

pub fn editors(a: &Device, b: &Device, verdict: &mut Verdict) -> bool {
    (0..DOCUMENTS).for_each(|at| a.put(name(at), noise(at as u64, 5_000)));
    settle(&[a, b]);
    let (stop, looks, absent) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let vim = has("vim");
    let late = std::thread::scope(|scope| {
        for (side, watched) in [(a, OFFICE), (b, ALL)] {
            let (stop, looks, absent) = (&stop, &looks, &absent);
            scope.spawn(move || watch(side, watched, stop, looks, absent));
        }
        let late = (0..ROUNDS).filter(|round| !round_trip(a, b, *round, vim)).count();
        stop.store(true, Ordering::Relaxed);
        late
    });
    let [looks, absent] = [&looks, &absent].map(|count| count.load(Ordering::Relaxed));
    let by = if vim { "vim and an office" } else { "an office" };
    verdict.say(late == 0, &format!("editors: {ROUNDS} rounds by {by}, {late} saves did not arrive"));
    verdict.say(absent == 0, &format!("editors: {absent} times a document was absent, in {looks} looks"));
    settle(&[a, b]);
    for side in [a, b] {
        let left = fs::read_dir(side.at("documents")).map_or(0, Iterator::count);
        verdict.say(left == DOCUMENTS, &format!("editors: {left} of {DOCUMENTS} files on {}", side.name()));
    }
    true
}

/// Each document is saved in one way; those of the office on the other side in the next round.
fn round_trip(a: &Device, b: &Device, round: usize, vim: bool) -> bool {
    let side = |document: usize| if document % 2 == 1 || round.is_multiple_of(2) { (a, b) } else { (b, a) };
    for document in 0..DOCUMENTS {
        let (from, _) = side(document);
        // The last one also as the real program does it.
        if vim && document + 1 == DOCUMENTS {
            real_vim(&from.at(name(document)), round);
        } else if document % 2 == 0 {
            as_office(from, document, round);
        } else {
            as_vim(from, document, round);
        }
    }
    let arrived = |document: usize| {
        let (from, to) = side(document);
        let saved = from.get(name(document));
        saved.is_some() && saved == to.get(name(document))
    };
    within(ARRIVES_MAX, || (0..DOCUMENTS).all(arrived).then_some(())).is_some()
}

fn content(document: usize, round: usize) -> Vec<u8> {
    noise((1_000 * document + round) as u64, 4_000 + 37 * round)
}

/// As vim with `backupcopy=no`. On this side the file is absent for a moment; on the other it must not be.
fn as_vim(side: &Device, document: usize, round: usize) {
    let (path, backup) = (side.at(name(document)), side.at(format!("{}~", name(document))));
    fs::rename(&path, &backup).expect("a backup");
    fs::write(&path, content(document, round)).expect("written");
    fs::remove_file(&backup).expect("gone");
}

fn as_office(side: &Device, document: usize, round: usize) {
    let lock = side.at(format!("documents/.~lock.{document}.odt#"));
    let new = side.at(format!("documents/lu{document}{round}.tmp"));
    fs::write(&lock, ",soak,localhost,;").expect("a lock");
    fs::write(&new, content(document, round)).expect("written");
    fs::rename(&new, side.at(name(document))).expect("a rename");
    fs::remove_file(&lock).expect("gone");
}

fn real_vim(path: &Path, round: usize) {
    let insert = format!("normal Oround {round}");
    let commands = ["set nocompatible noswapfile backup writebackup backupcopy=no backupdir=.", &insert, "wq"];
    let mut vim = Command::new("vim");
    vim.args(["-u", "NONE", "-es", "-b"]).args(commands.iter().flat_map(|command| ["-c", command])).arg(path);
    let directory = path.parent().expect("a document is in a directory");
    let done = vim.current_dir(directory).stdin(std::process::Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "vim saves");
    // With `backup` it stays; a person deletes it.
    let _ = fs::remove_file(format!("{}~", path.display()));
}

/// What an office saves is never absent anywhere, since it is renamed over; what vim saves is never absent on the other
/// side, whatever it does on its own.
fn watch(side: &Device, documents: &[usize], stop: &AtomicBool, looks: &AtomicU64, absent: &AtomicU64) {
    for document in documents.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let found = fs::symlink_metadata(side.at(name(*document)));
        looks.fetch_add(1, Ordering::Relaxed);
        absent.fetch_add(u64::from(found.is_err()), Ordering::Relaxed);
    }
}
