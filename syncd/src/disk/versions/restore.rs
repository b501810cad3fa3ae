//! Restoring a version is an edit like any a user makes: the next scan finds and publishes it. What stood at the
//! path becomes a version itself, so a restore can be taken back.

use super::VersionId;
use super::kept::open_dirs;
use crate::disk::fs::{Errno, Fs, Private, errno};
use crate::disk::look;
use crate::disk::tree::{Tree, hold_name};
use protocol::model::{Content, Mode, Mtime, RelPath};
use protocol::sync::{ActionId, Journal, Kind};
use std::io;

/// Of directories that a restore has to make again; the umask does not apply.
const DIR_MODE: Mode = Mode::new(0o755);

/// Puts a version at its path. `id` is a fresh action id: what stood there is held under it. `now` is the wall
/// clock in seconds since 1970. The version itself stays.
///
/// # Errors
/// EISDIR when a directory stands at the path, ENOENT when the version is gone, or what the disk answers.
pub fn restore<F: Fs, J: Journal + ?Sized>(
    fs: &F,
    journal: &J,
    path: &RelPath,
    version: &VersionId,
    id: ActionId,
    now: i64,
) -> io::Result<()> {
    let mut tree = Tree::open(fs, now)?;
    let name = hold_name(id);
    match version {
        VersionId::Held(held) => copy_into_hold(&tree, &tree.hold, &hold_name(*held), &name)?,
        VersionId::Kept(kept) => {
            let dir = open_dirs(fs, &super::dirs_of(path))?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
            copy_into_hold(&tree, &dir, kept, &name)?;
        }
    }
    fs.sync_dir(&tree.hold)?;
    let placed = put(&mut tree, &name, path);
    if placed.is_err() {
        // Only a copy of the version.
        let _ = fs.unlink(&tree.hold, &name);
    }
    if let Some(content) = placed? {
        tree.keep_held(id, path, content);
    }
    let changes = std::mem::take(&mut tree.changes);
    tree.flush()?;
    if !changes.is_empty() {
        journal.commit(changes);
    }
    Ok(())
}

/// A copy with the version's mode and the time of the restore.
fn copy_into_hold<F: Fs>(tree: &Tree<'_, F>, dir: &Private<F::Dir>, from: &[u8], to: &[u8]) -> io::Result<()> {
    let fs = tree.fs;
    let found = fs.stat(dir, from)?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
    match found.kind {
        Kind::Symlink => return fs.symlink(&tree.hold, to, &fs.read_link(dir, from)?),
        Kind::Directory | Kind::Special => return Err(Errno::ISDIR.into()),
        Kind::File => {}
    }
    let source = fs.open(dir, from)?;
    let copy = fs.create(&tree.hold, to)?;
    let copied = fs.copy_range(&source, &copy, 0, found.size).and_then(|_| {
        let is_equal = look::hash_file(fs, &source)? == look::hash_file(fs, &copy)?;
        fs.set_attrs_of(&copy, found.mode, Mtime::from_secs(tree.now))?;
        fs.sync_file(&copy)?;
        if is_equal { Ok(()) } else { Err(Errno::IO.into()) }
    });
    if copied.is_err() {
        // Only a copy, and not a good one.
        let _ = fs.unlink(&tree.hold, to);
    }
    copied
}

/// Moves the copy to the path. Returns the content of what it displaced.
fn put<F: Fs>(tree: &mut Tree<'_, F>, name: &[u8], path: &RelPath) -> io::Result<Option<Content>> {
    make_parents(tree, path)?;
    let at = tree.at(path)?;
    let fs = tree.fs;
    tree.touch(path);
    match fs.stat(&at.dir, &at.name)?.map(|found| found.kind) {
        None => fs.rename_noreplace((&tree.hold, name), at.pair()).map(|()| None),
        Some(Kind::Directory | Kind::Special) => Err(Errno::ISDIR.into()),
        Some(Kind::File | Kind::Symlink) => {
            fs.rename_exchange((&tree.hold, name), at.pair())?;
            // What cannot be read matches nothing, so that it is looked at again when it leaves `hold/`.
            let content = look::content_at(fs, &tree.hold, name).map_or(Content::Tombstone, |(_, content)| content);
            Ok(Some(content))
        }
    }
}

fn make_parents<F: Fs>(tree: &mut Tree<'_, F>, path: &RelPath) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = path.parent();
    while let Some(dir) = at {
        match tree.dir(Some(&dir)) {
            Err(error) if errno(&error) == Errno::NOENT => missing.push(dir.clone()),
            opened => {
                opened?;
                break;
            }
        }
        at = dir.parent();
    }
    for dir in missing.iter().rev() {
        let at = tree.at(dir)?;
        tree.fs.mkdir(&at.dir, &at.name, DIR_MODE)?;
        tree.touch(dir);
    }
    Ok(())
}
