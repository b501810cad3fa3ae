//! Moves what stands at a path to the versions, when no entry names it: what a user made in a receive-only folder
//! and reverts. Nothing is destroyed; an empty directory is removed.

use crate::disk::fs::Fs;
use crate::disk::look;
use crate::disk::tree::{Placed, Tree, hold_name};
use protocol::model::{Content, RelPath};
use protocol::sync::{ActionId, Change, Journal, Kind};
use std::io;

/// Holds the object at `path` under `id`, a fresh action id; later it becomes a version. `now` is the wall clock in
/// seconds since 1970. Nothing at the path is no error.
///
/// # Errors
/// ENOTEMPTY for a directory that still holds something, or what the disk answers.
pub fn set_aside<F: Fs, J: Journal + ?Sized>(
    fs: &F,
    journal: &J,
    path: &RelPath,
    id: ActionId,
    now: i64,
) -> io::Result<()> {
    let mut tree = Tree::open(fs, now)?;
    let at = tree.at(path)?;
    let Some(found) = fs.stat(&at.dir, &at.name)? else {
        return Ok(());
    };
    if found.kind == Kind::Directory {
        fs.rmdir(&at.dir, &at.name)?;
        tree.touch(path);
        return tree.flush();
    }
    let name = hold_name(id);
    fs.rename_noreplace(at.pair(), (&tree.hold, &name))?;
    tree.touch(path);
    // What cannot be read matches nothing, so that it is looked at again when it leaves `hold/`.
    let content = look::content_at(fs, &tree.hold, &name).map_or(Content::Tombstone, |(_, content)| content);
    tree.keep_held(id, path, content);
    let changes = std::mem::take(&mut tree.changes);
    tree.flush()?;
    journal.commit(changes);
    Ok(())
}

/// Gives what an action displaced a conflict name beside `path`: the user's own bytes in a receive-only folder. Until
/// then, or when it fails, they are kept in `hold/` like every displaced object.
///
/// # Errors
/// What the disk answers.
pub fn keep_beside<F: Fs, J: Journal + ?Sized>(
    fs: &F,
    journal: &J,
    path: &RelPath,
    id: ActionId,
    now: i64,
) -> io::Result<()> {
    let mut tree = Tree::open(fs, now)?;
    let name = tree.name_in_hold(id)?;
    if fs.stat(&tree.hold, &name)?.is_none() {
        return Ok(());
    }
    let placed = tree.place_beside(&name, path)?;
    tree.flush()?;
    if matches!(placed, Placed::Beside) {
        journal.commit(vec![Change::Released(id)]);
    }
    Ok(())
}
