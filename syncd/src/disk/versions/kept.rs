//! Listing and pruning what is kept.

use super::{cut_at_character, dirs_of, parse_version_name};
use crate::disk::fs::{Area, Errno, Fs, Private, errno};
use crate::disk::tree::hold_name;
use protocol::limits::{COMPONENT_LEN_MAX, PATH_DEPTH_MAX};
use protocol::model::{Mtime, RelPath};
use protocol::sync::{ActionId, Journal, Kind};
use std::io;

/// No version is pruned before this age: a day to notice a mistake.
const YOUNG_SECS: i64 = 86_400;

/// Names one version of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VersionId {
    /// Still in `hold/`.
    Held(ActionId),
    /// Its name in the path's directory below `versions/`.
    Kept(Vec<u8>),
}

/// A version that can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Which.
    pub id: VersionId,
    /// When it was replaced or deleted, seconds since 1970.
    pub replaced_at: i64,
    /// File or link.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Its own time of last change.
    pub modified: Mtime,
}

/// What `prune` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Versions removed.
    pub removed: usize,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Bytes that are left; above the maximum only what is younger than a day.
    pub kept_bytes: u64,
}

/// The versions of a path, newest first, those in `hold/` included.
///
/// # Errors
/// When the disk does not answer.
pub fn list<F: Fs, J: Journal + ?Sized>(fs: &F, journal: &J, path: &RelPath) -> io::Result<Vec<StoredVersion>> {
    let mut found = Vec::new();
    let hold = fs.private(Area::Hold)?;
    for held in journal.held().into_iter().filter(|held| held.path == *path) {
        if let Some(stat) = fs.stat(&hold, &hold_name(held.id))? {
            let (id, replaced_at) = (VersionId::Held(held.id), held.since);
            found.push(StoredVersion { id, replaced_at, kind: stat.kind, size: stat.size, modified: stat.mtime });
        }
    }
    if let Some(dir) = open_dirs(fs, &dirs_of(path))? {
        for item in fs.list(&dir)? {
            let Some((stem, replaced_at, hash)) = parse_version_name(&item.name) else { continue };
            let suffix = item.name.len() - stem.len();
            let is_ours = stem == cut_at_character(path.name(), COMPONENT_LEN_MAX - suffix) && !hash.is_empty();
            if is_ours && let Some(stat) = fs.stat(&dir, &item.name)? {
                let id = VersionId::Kept(item.name.into_vec());
                found.push(StoredVersion { id, replaced_at, kind: stat.kind, size: stat.size, modified: stat.mtime });
            }
        }
    }
    found.retain(|version| matches!(version.kind, Kind::File | Kind::Symlink));
    found.sort_by(|a, b| (b.replaced_at, &b.id).cmp(&(a.replaced_at, &a.id)));
    Ok(found)
}

/// Opens a directory of versions, if there is one.
pub(super) fn open_dirs<F: Fs>(fs: &F, dirs: &[&[u8]]) -> io::Result<Option<Private<F::Dir>>> {
    let mut at = fs.private(Area::Versions)?;
    for name in dirs {
        at = match fs.private_child(&at, name) {
            Err(error) if matches!(errno(&error), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            opened => opened?,
        };
    }
    Ok(Some(at))
}

/// One version on the disk, for pruning.
struct Candidate {
    replaced_at: i64,
    size: u64,
    dirs: Vec<Vec<u8>>,
    name: Vec<u8>,
}

/// Removes versions replaced more than `keep_secs` ago, then the oldest until `bytes_max` are left; never one
/// younger than a day, and never a file whose name `release` did not give. The age of one that is dated more than a
/// day ahead, by a clock that was wrong, is not known: it goes last, and only for its bytes.
///
/// # Errors
/// When the disk does not answer.
pub fn prune<F: Fs>(fs: &F, now: i64, keep_secs: i64, bytes_max: u64) -> io::Result<Pruned> {
    let mut all = Vec::new();
    collect(fs, &fs.private(Area::Versions)?, &mut Vec::new(), &mut all)?;
    all.sort_by(|a, b| (a.replaced_at, &a.dirs, &a.name).cmp(&(b.replaced_at, &b.dirs, &b.name)));
    let mut pruned = Pruned { kept_bytes: all.iter().map(|version| version.size).sum(), ..Pruned::default() };
    for version in all {
        let age = now.saturating_sub(version.replaced_at);
        let is_due = age > keep_secs || pruned.kept_bytes > bytes_max;
        if !is_due || age.unsigned_abs() < YOUNG_SECS.unsigned_abs() {
            continue;
        }
        let dirs: Vec<&[u8]> = version.dirs.iter().map(Vec::as_slice).collect();
        if let Some(dir) = open_dirs(fs, &dirs)? {
            fs.unlink(&dir, &version.name)?;
            pruned.removed += 1;
            pruned.removed_bytes += version.size;
            pruned.kept_bytes -= version.size;
        }
        drop_empty(fs, &dirs)?;
    }
    Ok(pruned)
}

fn collect<F: Fs>(fs: &F, dir: &Private<F::Dir>, dirs: &mut Vec<Vec<u8>>, all: &mut Vec<Candidate>) -> io::Result<()> {
    for item in fs.list(dir)? {
        let Some(found) = fs.stat(dir, &item.name)? else { continue };
        match (found.kind, parse_version_name(&item.name)) {
            (Kind::Directory, _) if dirs.len() < PATH_DEPTH_MAX => {
                dirs.push(item.name.to_vec());
                collect(fs, &fs.private_child(dir, &item.name)?, dirs, all)?;
                dirs.pop();
            }
            (Kind::File | Kind::Symlink, Some((_, replaced_at, _))) => {
                let (size, dirs, name) = (found.size, dirs.clone(), item.name.into_vec());
                all.push(Candidate { replaced_at, size, dirs, name });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes directories that pruning emptied, from the innermost outwards.
fn drop_empty<F: Fs>(fs: &F, dirs: &[&[u8]]) -> io::Result<()> {
    for depth in (1..=dirs.len()).rev() {
        let Some(parent) = open_dirs(fs, &dirs[..depth - 1])? else { return Ok(()) };
        match fs.rmdir(&parent, dirs[depth - 1]) {
            Ok(()) => {}
            Err(error) if matches!(errno(&error), Errno::NOTEMPTY | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
