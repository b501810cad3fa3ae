//! A look at one path, for the short way from an event to a finding.

use super::Scanner;
use super::entry::Rest;
use super::queue::Teller;
use crate::disk::fs::{Errno, Fs, errno, problem};
use crate::disk::hash::Hasher;
use protocol::model::{Content, RelPath};
use protocol::sync::{Fingerprint, Kind, LocalRow, Observed};
use std::io;

/// What a look at one path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// All that is to tell has been told.
    Nothing,
    /// A directory stands there that the database does not know: scan it. It may be above the path.
    Subtree(RelPath),
}

/// What stands at a path, after its own findings were told.
pub(super) enum Reached {
    /// Nothing to enter.
    Leaf,
    /// A directory.
    Directory {
        /// Recorded as one before.
        known: bool,
    },
    /// This directory above it is not recorded; nothing was told.
    Unknown(RelPath),
}

/// What the directories above a path are.
pub(super) enum Above<D> {
    /// Directories down to the parent.
    Directories(D),
    /// One of them is not there.
    Gone,
    /// This one is something else now.
    Replaced(RelPath),
}

pub(super) fn observe<F: Fs>(scanner: &Scanner<'_, F>, path: &RelPath, teller: &mut Teller<'_>) -> Reached {
    teller.entry();
    let trouble = |teller: &mut Teller<'_>, error: &io::Error, doing: &str| {
        teller.problem(Some(path), problem(error, doing));
        teller.incomplete();
        Reached::Leaf
    };
    let dir = match above(scanner.fs, path) {
        Ok(Above::Directories(dir)) => dir,
        Ok(Above::Gone) => return gone(scanner, path, teller),
        Ok(Above::Replaced(top)) => {
            // What is to tell about `top` covers what was below it.
            let _ = observe(scanner, &top, teller);
            return Reached::Leaf;
        }
        Err(_) if scanner.ignore.matched(path, false).is_some() => return Reached::Leaf,
        Err(error) => return trouble(teller, &error, "cannot reach it"),
    };
    let found = match scanner.fs.stat(&dir, path.name()) {
        Ok(Some(found)) => found,
        Ok(None) => return gone(scanner, path, teller),
        Err(error) => return trouble(teller, &error, "cannot look at it"),
    };
    if scanner.ignore.matched(path, found.kind == Kind::Directory).is_some() {
        return Reached::Leaf;
    }
    if let Some(unknown) = unknown_above(scanner, path) {
        return Reached::Unknown(unknown);
    }
    match scanner.fs.open_dir(None).and_then(|root| scanner.fs.stat_dir(&root)) {
        Ok(root) => look(scanner, dir, path, &found, root.fs, teller),
        Err(error) => trouble(teller, &error, "cannot open the folder"),
    }
}

fn look<F: Fs>(
    scanner: &Scanner<'_, F>,
    dir: F::Dir,
    path: &RelPath,
    found: &Fingerprint,
    root_fs: u64,
    teller: &mut Teller<'_>,
) -> Reached {
    let row = scanner.rows.get(path);
    let known = is_known_directory(&row);
    let have = row.have.filter(|have| have.entry.is_live());
    match scanner.compare(&dir, path, found, have.as_ref(), root_fs, teller) {
        // Perhaps back to what is recorded as the entry: then the local finding is over.
        Rest::Nothing => {
            // Rows below something that is no directory: what was in one went as it was replaced.
            if found.kind != Kind::Directory {
                scanner.tell_missing_below(path, teller);
            }
            if let Some(local) = &row.local {
                scanner.tell_local(path, local, Some((dir, *found)), teller);
            }
        }
        Rest::Frozen => teller.incomplete(),
        Rest::Enter => return Reached::Directory { known },
        Rest::Hash(previous) => scanner.tell_file(&mut Hasher::default(), &dir, path, previous, teller),
    }
    Reached::Leaf
}

fn gone<F: Fs>(scanner: &Scanner<'_, F>, path: &RelPath, teller: &mut Teller<'_>) -> Reached {
    let row = scanner.rows.get(path);
    if let Some(content) = row.have.map(|have| have.entry.content).filter(Content::is_live) {
        scanner.tell_missing(path, &content, teller);
    } else if let Some(local) = row.local {
        scanner.tell_local(path, &local, None, teller);
    }
    Reached::Leaf
}

fn is_known_directory(row: &LocalRow) -> bool {
    row.is_directory() || matches!(row.local, Some(Observed::Directory { .. }))
}

/// The topmost directory above `path` that is not recorded as one.
fn unknown_above<F: Fs>(scanner: &Scanner<'_, F>, path: &RelPath) -> Option<RelPath> {
    let is_known = |dir: &RelPath| is_known_directory(&scanner.rows.get(dir));
    if is_known(&path.parent()?) {
        return None;
    }
    ancestors(path).into_iter().find(|dir| !is_known(dir))
}

/// From the root down, without `path` itself.
fn ancestors(path: &RelPath) -> Vec<RelPath> {
    let mut all: Vec<RelPath> = std::iter::successors(path.parent(), RelPath::parent).collect();
    all.reverse();
    all
}

pub(super) fn above<F: Fs>(fs: &F, path: &RelPath) -> io::Result<Above<F::Dir>> {
    let parent = path.parent();
    match fs.open_dir(parent.as_ref()) {
        Ok(dir) => return Ok(Above::Directories(dir)),
        Err(error) if errno(&error) == Errno::NOENT && parent.is_some() => {}
        Err(error) if matches!(errno(&error), Errno::NOTDIR | Errno::LOOP) => {}
        Err(error) => return Err(error),
    }
    for dir in ancestors(path) {
        let holder = fs.open_dir(dir.parent().as_ref())?;
        match fs.stat(&holder, dir.name())? {
            None => return Ok(Above::Gone),
            Some(found) if found.kind == Kind::Directory => {}
            Some(_) => return Ok(Above::Replaced(dir)),
        }
    }
    // It was put back meanwhile.
    Ok(Above::Directories(fs.open_dir(parent.as_ref())?))
}
