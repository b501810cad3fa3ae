//! Start-up, before any scan or session: settles every action that was under way when the process or the power
//! went. For each row it asks what stands in `hold/<id>` and at the path, by content, and then either the action is
//! recorded or everything is back. Nothing is deleted: what cannot be placed becomes a version, a conflict copy, or
//! goes to `versions/recovered/`. Running it twice is the same as running it once.

use super::fs::{Errno, Fs, errno, problem, writable};
use super::look;
use super::tree::{At, Tree, hold_name, is_absence, old_name, parse_hold_name};
use super::versions;
use protocol::model::{Content, Entry, Mtime, RelPath};
use protocol::sync::{ActionId, Change, Fingerprint, Have, Installing, Journal, Kind, Rows};
use std::collections::BTreeSet;
use std::io;

/// What a start found to settle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Actions whose result stood on the disk and is recorded now.
    pub recorded: usize,
    /// Actions that had not happened, or were taken back.
    pub undone: usize,
    /// Actions at paths that cannot be read or written now: the next start tries them again.
    pub left: usize,
    /// Objects in `hold/` that no row named, now in `versions/recovered/`.
    pub orphans: usize,
}

/// Settles the journal of a folder. `now` is the wall clock in seconds since 1970. A path that may not be read or
/// written keeps its row and stops nothing else.
///
/// # Errors
/// When the disk does not answer; the rows stay, and the folder must not be scanned or synced.
pub fn recover<F: Fs, J: Journal + ?Sized>(fs: &F, journal: &J, now: i64) -> io::Result<Recovered> {
    let mut settling = Settling { tree: Tree::open(fs, now)?, records: Vec::new(), done: Recovered::default() };
    let (mut settled, mut left) = (Vec::new(), BTreeSet::new());
    let rows = journal.installing();
    settling.close_directories(journal, &rows)?;
    for row in &rows {
        match settling.settle(journal, row) {
            Ok(()) => settled.push(Change::Installed(row.id)),
            // What may not be read now is not scanned either. Any other error may pass before the scan, which would then
            // take what stands there for the user's work.
            Err(error) if !matches!(errno(&error), Errno::ACCESS | Errno::PERM) => return Err(error),
            Err(error) => {
                let words = problem(&error, "cannot settle what was under way").words;
                tracing::warn!(id = row.id.0, words, "left for the next start");
                left.insert(row.id);
            }
        }
    }
    settling.done.left = left.len();
    settling.drop_lost_rows(journal)?;
    settling.adopt_orphans(journal, left)?;
    let Settling { mut tree, records: mut changes, done } = settling;
    changes.append(&mut tree.changes);
    changes.append(&mut settled);
    if !changes.is_empty() {
        // What a killed process did can be seen, but nobody knows how much of it survives a power cut.
        tree.sync_everything();
        tree.flush()?;
        journal.commit(changes);
    }
    Ok(done)
}

struct Settling<'a, F: Fs> {
    tree: Tree<'a, F>,
    records: Vec<Change>,
    done: Recovered,
}

/// What stands in `hold/<id>`, as far as the row knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InHold {
    Nothing,
    /// The entry's content: the new object.
    New,
    /// What was expected at the path: the displaced object.
    Expected,
    /// Bytes that were never recorded: an edit.
    Unknown,
}

impl<F: Fs> Settling<'_, F> {
    /// Directories in which names were changed against their mode get that back, or the scan would take it for the user's.
    fn close_directories<R: Rows + ?Sized>(&mut self, rows: &R, under_way: &[Installing]) -> io::Result<()> {
        let from = |row: &Installing| row.moved_from.as_ref().and_then(|(from, ..)| from.parent());
        let parents = under_way.iter().flat_map(|row| [row.path.parent(), from(row)]).flatten();
        for dir in parents.collect::<BTreeSet<RelPath>>() {
            let made = under_way.iter().find(|row| row.path == dir).map(|row| &row.entry);
            let known = rows.get(&dir).have.map(|have| have.entry);
            for entry in known.iter().chain(made).filter(|entry| entry.content.is_directory()) {
                let Ok(Some(found)) = self.tree.stat(&dir) else { continue };
                if found.kind != Kind::Directory || found.mode == entry.mode || found.mode != writable(entry.mode) {
                    continue;
                }
                let at = self.tree.at(&dir)?;
                match self.tree.fs.set_attrs(&at.dir, &at.name, &found, entry.mode, None) {
                    // Somebody else's, or it changed just now: then not we set its mode.
                    Err(error) if matches!(errno(&error), Errno::ACCESS | Errno::PERM | Errno::STALE) => {}
                    done => done?,
                }
                self.tree.touch_attrs(&dir, &at, true);
            }
        }
        Ok(())
    }

    fn settle<R: Rows + ?Sized>(&mut self, rows: &R, row: &Installing) -> io::Result<()> {
        self.settle_old(row)?;
        let held = self.in_hold(row)?;
        let is_done = match &row.entry.content {
            Content::Tombstone => self.settle_removal(row, held)?,
            Content::Directory => self.settle_directory(row, held)?,
            Content::File(_) | Content::Symlink(_) => self.settle_install(row, held)?,
        };
        if is_done { self.record(rows, row) } else { self.undone() }
    }

    fn undone(&mut self) -> io::Result<()> {
        self.done.undone += 1;
        Ok(())
    }

    /// A crash between the two steps of a file system that cannot exchange.
    fn settle_old(&mut self, row: &Installing) -> io::Result<()> {
        let (name, old) = (hold_name(row.id), old_name(row.id));
        let fs = self.tree.fs;
        if fs.stat(&self.tree.hold, &old)?.is_none() {
            return Ok(());
        }
        if self.tree.stat(&row.path)?.is_none() && self.return_to(&old, &row.path)? {
            return Ok(());
        }
        if self.in_hold(row)? == InHold::New {
            self.take_back(row)?;
        }
        match fs.rename_noreplace((&self.tree.hold, &old), (&self.tree.hold, &name)) {
            // Something else is there: this one is an orphan, which is kept.
            Err(error) if errno(&error) == Errno::EXIST => Ok(()),
            done => done,
        }
    }

    fn in_hold(&self, row: &Installing) -> io::Result<InHold> {
        if self.tree.held_at(row.id)?.is_none() {
            return Ok(InHold::Nothing);
        }
        let holds = |content: &Content| look::surely_holds(self.tree.fs, &self.tree.hold, &hold_name(row.id), content);
        let installs = matches!(row.entry.content, Content::File(_) | Content::Symlink(_));
        if installs && holds(&row.entry.content)? {
            return Ok(InHold::New);
        }
        let is_expected = row.expected.as_ref().map(|have| holds(&have.entry.content)).transpose()?;
        Ok(if is_expected == Some(true) { InHold::Expected } else { InHold::Unknown })
    }

    fn settle_removal(&mut self, row: &Installing, held: InHold) -> io::Result<bool> {
        let is_absent = self.tree.stat(&row.path)?.is_none();
        match held {
            InHold::Nothing => {
                let was_directory = row.expected.as_ref().is_some_and(|have| have.entry.content.is_directory());
                Ok(is_absent && was_directory)
            }
            InHold::New | InHold::Expected => {
                self.keep_expected(row);
                Ok(is_absent)
            }
            InHold::Unknown => {
                self.return_or_rescue(row, &row.path)?;
                Ok(false)
            }
        }
    }

    fn settle_directory(&mut self, row: &Installing, held: InHold) -> io::Result<bool> {
        let is_directory = self.tree.stat(&row.path)?.is_some_and(|found| found.kind == Kind::Directory);
        match held {
            InHold::Nothing => Ok(is_directory),
            InHold::New | InHold::Expected if is_directory => {
                self.keep_expected(row);
                Ok(true)
            }
            InHold::New | InHold::Expected => {
                if !self.return_to(&hold_name(row.id), &row.path)? {
                    self.keep_expected(row);
                }
                Ok(false)
            }
            InHold::Unknown => {
                if is_directory {
                    let at = self.tree.at_to_change(&row.path)?;
                    // When something is in it the edit goes beside it.
                    let _ = self.tree.fs.rmdir(&at.dir, &at.name);
                    self.tree.forget_dir(&row.path);
                }
                self.return_or_rescue(row, &row.path)?;
                Ok(false)
            }
        }
    }

    fn settle_install(&mut self, row: &Installing, held: InHold) -> io::Result<bool> {
        let is_new = self.path_holds(&row.path, &row.entry.content)?;
        match (held, is_new) {
            (InHold::Nothing, is_new) => Ok(is_new && self.came_from_us(row)?),
            (InHold::New, true) => {
                // Equal bytes on both sides: a user wrote what we were about to. Whichever was displaced, a program
                // may still write into it; and the scan shall find that the user wrote, or the write would count as
                // never made wherever the entry is deleted.
                self.tree.keep_held(row.id, &row.path, row.entry.content.clone());
                Ok(false)
            }
            (InHold::New, false) => {
                self.take_back(row)?;
                Ok(false)
            }
            (InHold::Expected, is_new) => {
                self.keep_expected(row);
                Ok(is_new)
            }
            (InHold::Unknown, true) => self.return_edit(row),
            (InHold::Unknown, false) => {
                let home = match &row.moved_from {
                    Some((from, _, _)) if self.tree.stat(from)?.is_none() => from.clone(),
                    _ => row.path.clone(),
                };
                self.return_or_rescue(row, &home)?;
                Ok(false)
            }
        }
    }

    /// Nothing is in `hold/` and the path has the new bytes. An exchange would have left the old object behind, and
    /// another inode is a file of somebody who wrote the same bytes.
    fn came_from_us(&mut self, row: &Installing) -> io::Result<bool> {
        let expected = row.expected.as_ref().map(|have| &have.entry.content);
        if expected.is_some_and(|content| content.is_live() && !content.is_directory()) {
            return Ok(false);
        }
        let at = self.tree.at(&row.path)?;
        Ok(Some(self.must_stat(&at)?.inode) == row.inode)
    }

    /// The displaced object is an edit that no scan saw: it returns to its path, as this device's next version,
    /// and the new object waits in `hold/`. Returns whether the new object stays at the path.
    fn return_edit(&mut self, row: &Installing) -> io::Result<bool> {
        let at = self.tree.at_to_change(&row.path)?;
        let name = hold_name(row.id);
        match self.tree.fs.rename_exchange((&self.tree.hold, &name), at.pair()) {
            Ok(()) => {
                self.tree.touch(&row.path);
                self.tree.keep_held(row.id, &row.path, row.entry.content.clone());
                Ok(false)
            }
            Err(_) => {
                self.tree.rescue(row.id, &name, &row.path);
                Ok(true)
            }
        }
    }

    /// A new object that did not reach the tree: back to where it came from.
    fn take_back(&mut self, row: &Installing) -> io::Result<()> {
        let (fs, name) = (self.tree.fs, hold_name(row.id));
        if let Some((from, have, _)) = &row.moved_from {
            if !self.return_to(&name, from)? {
                self.tree.keep_held(row.id, from, have.entry.content.clone());
            }
            return Ok(());
        }
        let Content::File(content) = &row.entry.content else {
            // A link; its target is in the entry.
            return fs.unlink(&self.tree.hold, &name);
        };
        let temp = content.hash.to_hex().into_bytes();
        match fs.rename_noreplace((&self.tree.hold, &name), (&self.tree.tmp, &temp)) {
            // It was just verified; a temp of the same name may be torn.
            Err(error) if errno(&error) == Errno::EXIST => {
                fs.unlink(&self.tree.tmp, &temp)?;
                fs.rename_noreplace((&self.tree.hold, &name), (&self.tree.tmp, &temp))
            }
            done => done,
        }
    }

    fn keep_expected(&mut self, row: &Installing) {
        let content = row.expected.as_ref().map_or(Content::Tombstone, |have| have.entry.content.clone());
        self.tree.keep_held(row.id, &row.path, content);
    }

    /// Moves an object from `hold/` into the tree unless the path is taken. Returns whether it did.
    fn return_to(&mut self, name: &[u8], path: &RelPath) -> io::Result<bool> {
        let at = match self.tree.at_to_change(path) {
            Err(error) if is_absence(&error) => return Ok(false),
            at => at?,
        };
        match self.tree.fs.rename_noreplace((&self.tree.hold, name), at.pair()) {
            Ok(()) => {
                self.tree.touch(path);
                Ok(true)
            }
            Err(error) if errno(&error) == Errno::EXIST => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn return_or_rescue(&mut self, row: &Installing, home: &RelPath) -> io::Result<()> {
        let name = hold_name(row.id);
        if !self.return_to(&name, home)? {
            self.tree.rescue(row.id, &name, home);
        }
        Ok(())
    }

    fn path_holds(&mut self, path: &RelPath, content: &Content) -> io::Result<bool> {
        match self.tree.at(path) {
            Err(error) if is_absence(&error) => Ok(false),
            at => at.and_then(|at| look::surely_holds(self.tree.fs, &at.dir, &at.name, content)),
        }
    }

    fn record<R: Rows + ?Sized>(&mut self, rows: &R, row: &Installing) -> io::Result<()> {
        let is_newest = |path: &RelPath, entry: &Entry| {
            rows.get(path).entry().is_none_or(|have| have.version.is_within(&entry.version))
        };
        if !is_newest(&row.path, &row.entry) {
            return self.undone();
        }
        let fingerprint = if row.entry.is_live() { Some(self.finish_attrs(row)?) } else { None };
        // Hashed only now, so the next scan may look again.
        let have = Have { entry: row.entry.clone(), fingerprint, racy: row.entry.content.file().is_some() };
        self.records.push(Change::Have { path: row.path.clone(), have });
        if let Some((from, _, tombstone)) = &row.moved_from
            && self.tree.stat(from)?.is_none()
            && is_newest(from, tombstone)
        {
            let have = Have { entry: tombstone.clone(), fingerprint: None, racy: false };
            self.records.push(Change::Have { path: from.clone(), have });
        }
        self.done.recorded += 1;
        Ok(())
    }

    /// Completes mode and mtime where they still are as before the action. What a user set since is left alone and
    /// not recorded, so that the next scan finds it.
    fn finish_attrs(&mut self, row: &Installing) -> io::Result<Fingerprint> {
        let at = self.tree.at(&row.path)?;
        let found = self.must_stat(&at)?;
        let is_directory = found.kind == Kind::Directory;
        let before = row.moved_from.as_ref().map(|(_, have, _)| have).or(row.expected.as_ref());
        let before = before.and_then(|have| have.fingerprint).filter(|before| before.kind == found.kind);
        let entry = &row.entry;

        let fits_mode = found.kind == Kind::Symlink || found.mode == entry.mode;
        // A directory of ours may lack bits that the umask took before they were set.
        let masked = is_directory && before.is_none() && found.mode.bits() & !entry.mode.bits() == 0;
        let set_mode = !fits_mode && (masked || before.is_some_and(|before| before.mode == found.mode));
        let fits_mtime = is_directory || is_rounded(found.mtime, entry.mtime);
        let old_mtime = before.is_some_and(|before| before.mtime == found.mtime) || found.kind == Kind::Symlink;
        let set_mtime = !fits_mtime && old_mtime;

        if set_mode || set_mtime {
            let mode = if set_mode { entry.mode } else { found.mode };
            self.tree.fs.set_attrs(&at.dir, &at.name, &found, mode, set_mtime.then_some(entry.mtime))?;
            self.tree.touch_attrs(&row.path, &at, is_directory);
        }
        let now = self.must_stat(&at)?;
        let mode = if found.kind == Kind::Symlink { now.mode } else { entry.mode };
        let mtime = if fits_mtime || set_mtime { now.mtime } else { entry.mtime };
        Ok(Fingerprint { mode, mtime, ..now })
    }

    fn must_stat(&self, at: &At<F>) -> io::Result<Fingerprint> {
        self.tree.fs.stat(&at.dir, &at.name)?.ok_or_else(|| Errno::NOENT.into())
    }

    /// Held rows whose object found its place just before the crash. One that could not take its name takes it now.
    fn drop_lost_rows<J: Journal + ?Sized>(&mut self, journal: &J) -> io::Result<()> {
        let fs = self.tree.fs;
        for held in journal.held() {
            if self.tree.held_at(held.id)?.is_some() {
                continue;
            }
            let (name, old) = (hold_name(held.id), old_name(held.id));
            if fs.stat(&self.tree.hold, &old)?.is_some() {
                fs.rename_noreplace((&self.tree.hold, &old), (&self.tree.hold, &name))?;
            } else {
                self.tree.changes.push(Change::Released(held.id));
            }
        }
        Ok(())
    }

    /// Objects in `hold/` without a row are kept, since nobody knows what they are.
    fn adopt_orphans<J: Journal + ?Sized>(&mut self, journal: &J, left: BTreeSet<ActionId>) -> io::Result<()> {
        let mut named: BTreeSet<ActionId> = journal.held().into_iter().map(|held| held.id).collect();
        named.extend(self.tree.changes.iter().filter_map(|change| match change {
            Change::Held(held) => Some(held.id),
            _ => None,
        }));
        for item in self.tree.fs.list(&self.tree.hold)? {
            let is_named = parse_hold_name(&item.name)
                .is_some_and(|id| left.contains(&id) || named.contains(&id) && *item.name == *hold_name(id));
            if !is_named {
                match versions::keep_recovered(&mut self.tree, &item.name) {
                    // Somebody writes through another name of it: left for the next start.
                    Err(error) if errno(&error) == Errno::AGAIN => {}
                    done => {
                        done?;
                        self.done.orphans += 1;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a file system that keeps coarser times shows `wanted` as `found`: at most 2 s earlier (FAT), and with
/// zeros below 100 ns (NTFS).
fn is_rounded(found: Mtime, wanted: Mtime) -> bool {
    let nanos = |at: Mtime| i128::from(at.secs) * 1_000_000_000 + i128::from(at.nanos);
    found == wanted || (found.nanos.is_multiple_of(100) && (0..2_000_000_000).contains(&(nanos(wanted) - nanos(found))))
}
