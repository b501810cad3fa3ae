//! What remote changes replaced or deleted, kept in `.syncd/versions/` under the path it had, as
//! `name~YYYYMMDD-HHMMSS~HASH` (UTC of the replacement). Invariants: an object leaves `hold/` only when no program
//! has it open for writing and its bytes are the expected ones, otherwise it becomes a conflict copy; nothing
//! younger than a day is ever pruned; a version never shares an inode with a live file.

mod kept;
mod restore;
mod set_aside;
#[cfg(test)]
mod tests;

pub use kept::{Pruned, StoredVersion, VersionId, list, prune};
pub use restore::restore;
pub use set_aside::{keep_beside, set_aside};

use super::fs::{Area, Errno, Fs, Private, errno};
use super::look;
use super::tree::{Placed, Tree};
use protocol::limits::COMPONENT_LEN_MAX;
use protocol::model::{Content, ContentHash, Mode, RelPath};
use protocol::sync::conflict_name::{HASH_DIGITS, cut_at_character, parse_utc_stamp, utc_stamp};
use protocol::sync::{Change, Fingerprint, Held, Journal, Kind};
use std::io;

/// A displaced object waits this long for programs that still write into it.
const HOLD_SECS: i64 = 10 * 60;
/// Where objects go whose path is not known.
const RECOVERED: &[u8] = b"recovered";
const DIR_MODE: Mode = Mode::new(0o700);

/// Finds the places of displaced objects that waited long enough: a version, or a conflict copy when a program
/// wrote into one through an old handle. `now` in seconds since 1970. Returns how many left `hold/`.
///
/// # Errors
/// The first trouble with one object, after the others were moved; what could not be moved stays for the next call.
pub fn release<F: Fs, J: Journal + ?Sized>(fs: &F, journal: &J, now: i64) -> io::Result<usize> {
    let mut tree = Tree::open(fs, now)?;
    let mut trouble = None;
    for held in journal.held() {
        // A clock that was set back must not keep an object for ever.
        if now.abs_diff(held.since) < HOLD_SECS.unsigned_abs() {
            continue;
        }
        match place(&mut tree, &held) {
            Ok(true) => tree.changes.push(Change::Released(held.id)),
            Ok(false) => {}
            // Somebody writes through another name of it.
            Err(error) if errno(&error) == Errno::AGAIN => {}
            Err(error) => trouble = trouble.or(Some(error)),
        }
    }
    let changes = std::mem::take(&mut tree.changes);
    let count = changes.len();
    if count > 0 {
        tree.flush()?;
        journal.commit(changes);
    }
    trouble.map_or(Ok(count), Err)
}

/// What one look at a held object decides.
enum Verdict {
    /// Somebody may still write into it, or did while we looked.
    Wait,
    /// Exactly what was displaced.
    Version(ContentHash),
    /// The inode has another name outside: keep a copy.
    Copy,
    /// Written to since: a conflict copy.
    Changed,
}

/// Whether the object found its place.
fn place<F: Fs>(tree: &mut Tree<'_, F>, held: &Held) -> io::Result<bool> {
    let name = tree.name_in_hold(held.id)?;
    let Some(found) = tree.fs.stat(&tree.hold, &name)? else { return Ok(true) };
    match verdict(tree, held, &name, &found)? {
        Verdict::Wait => Ok(false),
        Verdict::Version(hash) => keep(tree, &name, Some(&held.path), held.since, &hash).map(|()| true),
        Verdict::Copy => keep_copy(tree, &name, Some(&held.path), held.since).map(|()| true),
        Verdict::Changed => match tree.place_beside(&name, &held.path) {
            Ok(Placed::Beside) => Ok(true),
            Ok(Placed::Known(content)) => {
                keep(tree, &name, Some(&held.path), held.since, &content.identity().1).map(|()| true)
            }
            // The directory is gone, or every name is taken: kept where a person finds it.
            Err(error) if matches!(errno(&error), Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::EXIST) => {
                keep_recovered(tree, &name).map(|()| true)
            }
            Err(error) => Err(error),
        },
    }
}

fn verdict<F: Fs>(tree: &Tree<'_, F>, held: &Held, name: &[u8], found: &Fingerprint) -> io::Result<Verdict> {
    let fs = tree.fs;
    match found.kind {
        Kind::Directory | Kind::Special => return Ok(Verdict::Changed),
        Kind::Symlink => {
            let (_, content) = look::content_at(fs, &tree.hold, name)?;
            let is_same = content.same(&held.content);
            return Ok(if is_same { Verdict::Version(content.identity().1) } else { Verdict::Changed });
        }
        Kind::File => {}
    }
    let file = match fs.open(&tree.hold, name) {
        // Not ours to read: the fingerprint decides.
        Err(error) if errno(&error) == Errno::ACCESS => {
            let is_same = found.unchanged_since(&held.fingerprint);
            return Ok(if is_same { Verdict::Version(held.content.identity().1) } else { Verdict::Changed });
        }
        opened => opened?,
    };
    if fs.is_open_for_write(&file)? {
        return Ok(Verdict::Wait);
    }
    let (hash, _) = look::hash_file(fs, &file)?;
    let is_linked = fs.links(&file)? > 1;
    let moved = fs.stat(&tree.hold, name)?.is_none_or(|now| !now.unchanged_since(found));
    if moved || fs.is_open_for_write(&file)? {
        return Ok(Verdict::Wait);
    }
    Ok(match &held.content {
        Content::File(expected) if expected.hash == hash && !is_linked => Verdict::Version(hash),
        // An edit that no row knows and that found no place before.
        Content::Tombstone => Verdict::Changed,
        // Its other name shows the bytes, whoever changed them.
        _ if is_linked => Verdict::Copy,
        _ => Verdict::Changed,
    })
}

/// A version that does not share its inode with the object's other names.
fn keep_copy<F: Fs>(tree: &mut Tree<'_, F>, name: &[u8], path: Option<&RelPath>, since: i64) -> io::Result<()> {
    let copy = tree.own_copy(name)?;
    let kept = copy.as_deref().unwrap_or(name);
    let content = look::content_at(tree.fs, &tree.hold, kept).map_or(Content::Tombstone, |(_, content)| content);
    keep(tree, kept, path, since, &content.identity().1)?;
    if copy.is_none() {
        return Ok(());
    }
    tree.flush()?;
    // The bytes are in the version, and the inode lives on under its other name.
    tree.fs.unlink(&tree.hold, name)
}

/// Moves an object without a row from `hold/` to `versions/recovered/`.
pub(super) fn keep_recovered<F: Fs>(tree: &mut Tree<'_, F>, name: &[u8]) -> io::Result<()> {
    if tree.fs.stat(&tree.hold, name)?.is_none() {
        return Ok(());
    }
    keep_copy(tree, name, None, tree.now)
}

/// Moves an object from `hold/` to the versions of `path`, or to `recovered/` where that is not possible.
fn keep<F: Fs>(
    tree: &mut Tree<'_, F>,
    name: &[u8],
    path: Option<&RelPath>,
    since: i64,
    hash: &ContentHash,
) -> io::Result<()> {
    let dirs = path.map_or_else(|| vec![RECOVERED], |path| dirs_of(path));
    let base = path.map_or(name, RelPath::name);
    let dir = match make_dirs(tree.fs, &dirs) {
        // A version of another path has the name of one of these directories.
        Err(error) if matches!(errno(&error), Errno::NOTDIR | Errno::LOOP) => make_dirs(tree.fs, &[RECOVERED])?,
        made => made?,
    };
    for digits in HASH_DIGITS {
        let kept = version_name(base, since, &hash.to_hex()[..digits]);
        match tree.fs.rename_noreplace((&tree.hold, name), (&dir, &kept)) {
            Err(error) if errno(&error) == Errno::EXIST => {}
            done => {
                done?;
                tree.touch_private(dir);
                return Ok(());
            }
        }
    }
    // Replaced within the same second by way of the same bytes: any free second will do.
    for later in 1..=60 {
        let kept = version_name(base, since + later, &hash.to_hex());
        match tree.fs.rename_noreplace((&tree.hold, name), (&dir, &kept)) {
            Err(error) if errno(&error) == Errno::EXIST => {}
            done => {
                done?;
                tree.touch_private(dir);
                return Ok(());
            }
        }
    }
    Err(Errno::EXIST.into())
}

/// The directories that hold the versions of a path, below `versions/`.
fn dirs_of(path: &RelPath) -> Vec<&[u8]> {
    let mut dirs: Vec<&[u8]> = path.components().collect();
    dirs.pop();
    dirs
}

fn make_dirs<F: Fs>(fs: &F, dirs: &[&[u8]]) -> io::Result<Private<F::Dir>> {
    let mut at = fs.private(Area::Versions)?;
    for name in dirs {
        at = match fs.private_child(&at, name) {
            Err(error) if errno(&error) == Errno::NOENT => {
                fs.mkdir(&at, name, DIR_MODE)?;
                fs.sync_dir(&at)?;
                fs.private_child(&at, name)?
            }
            opened => opened?,
        };
    }
    Ok(at)
}

/// `name~YYYYMMDD-HHMMSS~HASH`, the name cut at a character so that it fits.
fn version_name(name: &[u8], since: i64, hash: &str) -> Vec<u8> {
    let suffix = format!("~{}~{hash}", utc_stamp(since));
    [cut_at_character(name, COMPONENT_LEN_MAX - suffix.len()), suffix.as_bytes()].concat()
}

/// The parts of a version's name: the (perhaps cut) name, when it was replaced, and hash digits.
fn parse_version_name(name: &[u8]) -> Option<(&[u8], i64, &[u8])> {
    let hash_at = name.iter().rposition(|byte| *byte == b'~')?;
    let (front, hash) = (&name[..hash_at], &name[hash_at + 1..]);
    let stamp_at = front.iter().rposition(|byte| *byte == b'~')?;
    let since = parse_utc_stamp(&front[stamp_at + 1..])?;
    let valid = HASH_DIGITS.contains(&hash.len()) && hash.iter().all(u8::is_ascii_hexdigit);
    valid.then_some((&front[..stamp_at], since, hash))
}
