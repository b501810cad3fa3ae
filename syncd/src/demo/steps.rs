//! The steps, in order. Each does what a user would do in one tree, waits until it shows in the other, and ends with
//! the comparison of both; a step that fails does not keep the next from being tried.

use super::compare::{Census, compare};
use super::scratch::{BIG_FILE, OWN_DIR, note};
use super::screen::{Figures, Note, Screen, bytes, census, count, per_second, seconds};
use super::side::{PATIENCE, Side, path_text};
use super::{Stage, blocking, link};
use crate::control::Request;
use anyhow::{Context, Result, bail, ensure};
use protocol::wire::control as api;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The first sync may have much to do.
const FIRST_PATIENCE: Duration = Duration::from_secs(120);
/// Edits that are timed each way.
const EDITS: usize = 9;
/// A person does not save again at once.
const PAUSE_BETWEEN_EDITS: Duration = Duration::from_millis(100);
/// Bytes that are inserted at the front of the big file.
const INSERTED: usize = 1024;
/// An insertion must not cost more than this on the wire.
const INSERT_WIRE_MAX: u64 = 2 << 20;
/// The words of a moved or renamed path may cost this on the wire, but not its content.
const WIRE_PER_PATH_MAX: u64 = 2048;

/// What a renamed directory's name ends with.
const RENAMED: &str = " (renamed)";
/// The notes that serve for the conflict and for the deletion: no other step edits them.
const EDITED_APART: usize = 20;
const DELETED: usize = 21;

/// All of them, each verified.
///
/// # Errors
/// Never for a step that fails: the screen counts those.
pub(super) async fn all(stage: &mut Stage, screen: &mut Screen) -> Result<()> {
    let note = screen.note();
    if !screen.step("two daemons started", started(stage)).await
        || !screen.step("paired with a one-time code", paired(stage)).await
        || !screen.step("first sync, A to B", first_sync(stage, note)).await
    {
        return Ok(());
    }
    screen.step("edits on A, seen on B", edits(stage, &stage.a, &stage.b, 0)).await;
    screen.step("edits on B, seen on A", edits(stage, &stage.b, &stage.a, EDITS)).await;
    screen.step("1 KiB put before a 64 MiB file", insert(stage)).await;
    screen.step("a directory renamed on B", rename(stage)).await;
    screen.step("one file edited on both, apart", conflict(stage)).await;
    screen.step("a file deleted on A", delete(stage)).await;
    screen.step("the file restored on B", restore(stage)).await;
    screen.step("the direct path cut, a relay instead", relay(stage)).await;
    screen.step("an edit through the relay", edit_through_relay(stage)).await;
    screen.step("nothing left over", tidy(stage)).await;
    Ok(())
}

/// Both daemons say "in sync"; then the trees themselves are compared.
async fn verify(stage: &Stage) -> Result<Census> {
    tokio::try_join!(stage.a.in_sync(PATIENCE), stage.b.in_sync(PATIENCE))?;
    blocking(|| compare(&stage.a.root, &stage.b.root))
}

async fn started(stage: &mut Stage) -> Result<Figures> {
    let begun = Instant::now();
    tokio::try_join!(stage.a.start(), stage.b.start())?;
    let took = begun.elapsed();
    let (a, b) = (stage.a.status().await?, stage.b.status().await?);
    ensure!(a.device.id != b.device.id, "both have one identity");
    let words = format!("A listens on {}, B on {}", a.listen.join(", "), b.listen.join(", "));
    Ok(Figures { took, words })
}

async fn paired(stage: &Stage) -> Result<Figures> {
    let begun = Instant::now();
    let number = link::pair(&stage.a, &stage.b).await?;
    Ok(Figures { took: begun.elapsed(), words: format!("both show the check number {number}") })
}

async fn first_sync(stage: &Stage, note: Note) -> Result<Figures> {
    let begun = Instant::now();
    stage.a.add().await?;
    stage.b.join().await?;
    let watch = watch(&stage.b, note);
    tokio::select! {
        done = async { tokio::try_join!(stage.a.in_sync(FIRST_PATIENCE), stage.b.in_sync(FIRST_PATIENCE)) } => done?,
        never = watch => match never? {},
    };
    let took = begun.elapsed();
    let held = verify(stage).await?;
    let (rate, files) = (per_second(held.bytes, took), per_second(held.files, took));
    let words = format!("{}: {}/s, {}/s, scan included", census(&held), bytes(rate), count(files, "file"));
    Ok(Figures { took, words })
}

/// Says how far the first sync is, until it is dropped.
async fn watch(side: &Side, note: Note) -> Result<std::convert::Infallible> {
    loop {
        if let Some(folder) = side.status().await?.folders.into_iter().next() {
            note.set(format!("{}, {}", count(folder.local.files, "file"), bytes(folder.local.bytes)));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn edits(stage: &Stage, here: &Side, there: &Side, first: usize) -> Result<Figures> {
    let mut times = Vec::new();
    for number in first..first + EDITS {
        tokio::time::sleep(PAUSE_BETWEEN_EDITS).await;
        let file = note(number);
        let mut content = here.read(&file)?;
        content.extend_from_slice(format!("A line that was added on {}.\n", here.name).as_bytes());
        let begun = Instant::now();
        here.write(&file, &content)?;
        there.seen(&file, Some(&content)).await?;
        times.push(begun.elapsed());
    }
    verify(stage).await?;
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    Ok(Figures { took: median, words: format!("median of {EDITS}, worst {}", seconds(worst)) })
}

async fn insert(stage: &Stage) -> Result<Figures> {
    let before = stage.a.wire().await?.bytes;
    let mut content = b"syncd demo inserts this line.\n".repeat(INSERTED / 30 + 1);
    content.truncate(INSERTED);
    content.extend_from_slice(&blocking(|| stage.a.read(BIG_FILE))?);
    let begun = Instant::now();
    blocking(|| stage.a.write(BIG_FILE, &content))?;
    grown(&stage.b.root.join(BIG_FILE), content.len() as u64).await?;
    let took = begun.elapsed();
    verify(stage).await?;
    let wire = stage.a.wire().await?.bytes - before;
    ensure!(wire <= INSERT_WIRE_MAX, "{} went over the wire for {INSERTED} bytes", bytes(wire));
    Ok(Figures { took, words: format!("{} on the wire, of {}", bytes(wire), bytes(content.len() as u64)) })
}

async fn grown(file: &Path, len: u64) -> Result<()> {
    let begun = Instant::now();
    while fs::symlink_metadata(file).map_or(0, |meta| meta.len()) != len {
        ensure!(begun.elapsed() < PATIENCE, "it has not arrived after {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn rename(stage: &Stage) -> Result<Figures> {
    let (directories, held) = blocking(|| directories_to_rename(&stage.b.root))?;
    let before = stage.b.wire().await?.bytes;
    let begun = Instant::now();
    for from in &directories {
        let mut to = from.clone();
        to.push(RENAMED);
        fs::rename(stage.b.root.join(from), stage.b.root.join(to)).context("cannot rename it in B")?;
    }
    tokio::try_join!(stage.b.in_sync(PATIENCE), stage.a.in_sync(PATIENCE))?;
    let took = begun.elapsed();
    verify(stage).await?;
    let wire = stage.b.wire().await?.bytes - before;
    let most = WIRE_PER_PATH_MAX * (held.files + held.links + held.directories + 16);
    ensure!(wire <= most, "{} went over the wire for {}", bytes(wire), census(&held));
    let words = format!("{} on the wire for {}, {}", bytes(wire), count(held.files, "file"), bytes(held.bytes));
    Ok(Figures { took, words })
}

/// The demo's own directory with the big file in it, and the user's top-level one with the most files.
fn directories_to_rename(root: &Path) -> Result<(Vec<OsString>, Census)> {
    let own = OsString::from(OWN_DIR);
    // Compared with itself: the census.
    let mut held = compare(&root.join(&own), &root.join(&own))?;
    let mut best: Option<(OsString, Census)> = None;
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden || name == own || !fs::symlink_metadata(root.join(&name))?.is_dir() {
            continue;
        }
        let census = compare(&root.join(&name), &root.join(&name))?;
        if best.as_ref().is_none_or(|(_, most)| census.files > most.files) {
            best = Some((name, census));
        }
    }
    let Some((name, census)) = best else { return Ok((vec![own], held)) };
    held.add(&census);
    Ok((vec![own, name], held))
}

async fn conflict(stage: &Stage) -> Result<Figures> {
    let file = &note_now(stage, EDITED_APART);
    link::disconnect(stage).await?;
    let (mine, theirs) = (b"What A wrote while B was away.\n", b"What B wrote while A was away.\n");
    stage.a.write(file, mine)?;
    // Another millisecond, so that the later edit is the later edit.
    tokio::time::sleep(Duration::from_millis(20)).await;
    stage.b.write(file, theirs)?;
    let begun = Instant::now();
    link::connect(stage).await?;
    verify(stage).await?;
    let took = begun.elapsed();
    let copies = (conflict_copies(&stage.a, file)?, conflict_copies(&stage.b, file)?);
    ensure!(copies.0 == copies.1, "the conflict copies differ: {:?} in A, {:?} in B", copies.0, copies.1);
    let [copy] = copies.0.as_slice() else { bail!("{} conflict copies instead of one", copies.0.len()) };
    let (directory, _) = file.rsplit_once('/').context("a note is in a directory")?;
    let kept = stage.a.read(&format!("{directory}/{copy}"))?;
    let stands = stage.a.read(file)?;
    ensure!(kept == mine && stands == theirs, "the two edits are not both there");
    Ok(Figures { took, words: format!("the later edit stands, the other is {copy}") })
}

/// A note's path now: renaming its directory may have failed.
fn note_now(stage: &Stage, number: usize) -> String {
    let renamed = format!("{OWN_DIR}{RENAMED}");
    let now = if stage.a.root.join(&renamed).is_dir() { &renamed } else { OWN_DIR };
    note(number).replacen(OWN_DIR, now, 1)
}

fn conflict_copies(side: &Side, file: &str) -> Result<Vec<String>> {
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let directory = side.root.join(file);
    let directory = directory.parent().context("a file is in a directory")?;
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{stem}.sync-conflict-")) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

async fn delete(stage: &Stage) -> Result<Figures> {
    let file = note_now(stage, DELETED);
    let begun = Instant::now();
    fs::remove_file(stage.a.root.join(&file)).context("cannot delete it in A")?;
    stage.b.seen(&file, None).await?;
    let took = begun.elapsed();
    verify(stage).await?;
    let kept = versions(stage, &file).await?;
    ensure!(kept == 1, "B keeps {kept} versions instead of one");
    Ok(Figures { took, words: "gone from B, which keeps a version".to_string() })
}

async fn versions(stage: &Stage, file: &str) -> Result<usize> {
    let file = api::FileRef { at: path_text(&stage.b.root.join(file)) };
    Ok(stage.b.ask(|reply| Request::Versions { file, reply }).await?.versions.len())
}

async fn restore(stage: &Stage) -> Result<Figures> {
    let file = note_now(stage, DELETED);
    let begun = Instant::now();
    let restore = api::Restore { at: path_text(&stage.b.root.join(&file)), at_ms: None, version: None };
    let restored = stage.b.ask(|reply| Request::Restore { restore, reply }).await?;
    let content = stage.b.read(&file)?;
    ensure!(content.len() as u64 == restored.version.bytes && !content.is_empty(), "B restored something else");
    stage.a.seen(&file, Some(&content)).await?;
    let took = begun.elapsed();
    verify(stage).await?;
    Ok(Figures { took, words: format!("{} from B's versions, back on A too", bytes(content.len() as u64)) })
}

async fn relay(stage: &mut Stage) -> Result<Figures> {
    link::cut_direct_path(stage).await?;
    let begun = Instant::now();
    tokio::try_join!(stage.a.connected(true), stage.b.connected(true))?;
    let took = begun.elapsed();
    link::through_relay(stage).await?;
    verify(stage).await?;
    let address = stage.a.peer().await?.address.unwrap_or_default();
    Ok(Figures { took, words: format!("no open port on either side; they met at {address}, which sees ciphertext") })
}

async fn edit_through_relay(stage: &Stage) -> Result<Figures> {
    let mut times = Vec::new();
    for (number, (here, there)) in [(&stage.a, &stage.b), (&stage.b, &stage.a)].into_iter().cycle().take(6).enumerate()
    {
        tokio::time::sleep(PAUSE_BETWEEN_EDITS).await;
        let file = &note_now(stage, number);
        let content = format!("Written on {} and sent through a relay.\n", here.name).into_bytes();
        let begun = Instant::now();
        here.write(file, &content)?;
        there.seen(file, Some(&content)).await?;
        times.push(begun.elapsed());
    }
    link::through_relay(stage).await?;
    verify(stage).await?;
    times.sort();
    let worst = times[times.len() - 1];
    Ok(Figures { took: times[times.len() / 2], words: format!("median of {}, worst {}", times.len(), seconds(worst)) })
}

/// No temps, no problems, nothing that needs a person.
async fn tidy(stage: &Stage) -> Result<Figures> {
    let begun = Instant::now();
    let held = verify(stage).await?;
    for side in [&stage.a, &stage.b] {
        let needs = side.status().await?.needs_person();
        ensure!(needs.is_empty(), "{} needs a person: {}", side.name, needs.join("; "));
        let temps: BTreeSet<_> = fs::read_dir(side.root.join(".syncd/tmp"))?.flatten().map(|e| e.file_name()).collect();
        ensure!(temps.is_empty(), "{} left {} behind in its .syncd/tmp", side.name, count(temps.len() as u64, "temp"));
    }
    Ok(Figures {
        took: begun.elapsed(),
        words: format!("{} are equal on both sides, no temps, no problems", census(&held)),
    })
}
