//! The second half of the commit protocol: one action at a time, rename and *then* look. Every way out of a step is
//! either done with the displaced object held, or stopped with everything back in place.

use super::stage_batch::failed;
use super::{Applied, Batch, Origin, Staged, expected};
use crate::disk::fs::{Errno, Fs, errno};
use crate::disk::look;
use crate::disk::tree::{At, hold_name, old_name, stop};
use protocol::model::{Mode, RelPath};
use protocol::sync::{Action, Fingerprint, Have, Kind, Outcome, Step};

/// Of what syncd makes for itself.
const PRIVATE_MODE: Mode = Mode::new(0o700);

type Stopped<T> = Result<T, Outcome>;

impl<F: Fs> Batch<'_, F> {
    pub(super) fn carry_out(&mut self, action: &Action) -> Stopped<Applied> {
        let done = match &action.step {
            Step::InstallFile | Step::InstallSymlink => self.install(action),
            Step::MakeDirectory => self.make_directory(action),
            Step::Remove => self.remove(action),
            Step::SetMetadata => self.set_metadata(action),
            Step::MoveFrom { from, from_have, .. } => self.move_from(action, from, from_have),
            Step::Record => {
                let have = action.expected.as_ref().filter(|_| action.entry.is_live());
                Ok(Applied {
                    fingerprint: have.and_then(|have| have.fingerprint),
                    racy: have.is_some_and(|have| have.racy),
                })
            }
        };
        if done.is_err() {
            self.unstage(action);
        }
        done
    }

    /// Takes a staged object that never was in the tree out of `hold/` again.
    pub(super) fn unstage(&mut self, action: &Action) {
        let Some(Staged { fingerprint, origin }) = self.staged.remove(&action.id) else { return };
        let (fs, name) = (self.tree.fs, hold_name(action.id));
        let is_ours = |found: Fingerprint| found.inode == fingerprint.inode;
        if !matches!(self.tree.held_at(action.id), Ok(Some(found)) if is_ours(found)) {
            return;
        }
        let back = match &origin {
            Origin::Temp(temp) => {
                fs.rename_noreplace((&self.tree.hold, &name), (&self.tree.tmp, temp)).map_err(|_| origin)
            }
            Origin::Made => Err(origin),
            Origin::Tree(from, have) => return self.move_back(action, from, &have.clone()),
        };
        if back.is_err() {
            // Only a copy of bytes from peers. When it stays, the next start moves it to `recovered/`.
            let _ = fs.unlink(&self.tree.hold, &name);
        }
    }

    /// A file that was to be moved returns to its old path; when that was taken meanwhile its bytes are kept.
    fn move_back(&mut self, action: &Action, from: &RelPath, have: &Have) {
        let name = hold_name(action.id);
        let back = self
            .tree
            .at_to_change(from)
            .and_then(|at| self.tree.fs.rename_noreplace((&self.tree.hold, &name), at.pair()));
        match back {
            Ok(()) => self.tree.touch(from),
            Err(_) => self.tree.keep_held(action.id, from, have.entry.content.clone()),
        }
    }

    fn target(&mut self, path: &RelPath) -> Stopped<At<F>> {
        match self.tree.at_to_change(path) {
            Ok(at) => Ok(at),
            Err(error) => Err(self.unreachable(path, &error)),
        }
    }

    /// The compare of compare-and-swap.
    fn must_be(&self, at: &At<F>, have: &Have) -> Stopped<Fingerprint> {
        let found = self.tree.fs.stat(&at.dir, &at.name).map_err(|error| stop(&error, "cannot look at the file"))?;
        match (found, &have.fingerprint) {
            (Some(found), Some(expected)) if found.unchanged_since(expected) => Ok(found),
            _ => Err(Outcome::DiskMoved),
        }
    }

    /// Puts `hold/<id>` at the path.
    fn install(&mut self, action: &Action) -> Stopped<Applied> {
        let Some(new) = self.staged.get(&action.id).map(|staged| staged.fingerprint) else {
            return Err(Outcome::NoContent);
        };
        let at = self.target(&action.path)?;
        let name = hold_name(action.id);
        match expected(action) {
            None => self
                .tree
                .fs
                .rename_noreplace((&self.tree.hold, &name), at.pair())
                .map_err(|error| self.refused(&at, &error, "cannot create the file"))?,
            Some(have) if have.entry.content.is_directory() => self.replace_directory(action, &at, have)?,
            Some(have) => self.replace(action, &at, have, &new)?,
        }
        self.staged.remove(&action.id);
        self.tree.touch(&action.path);
        Ok(self.installed(&at, new))
    }

    /// The fingerprint after the last rename, unless somebody changed the file since: then the one that makes the
    /// next scan look.
    fn installed(&self, at: &At<F>, new: Fingerprint) -> Applied {
        let now = self.tree.fs.stat(&at.dir, &at.name).ok().flatten();
        let fingerprint = now.filter(|now| now.same_but_ctime(&new)).unwrap_or(new);
        // As young as our own rename: a write of the same length right after it leaves the same stamps.
        let racy = fingerprint.kind == Kind::File && fingerprint.is_young(self.tree.fs.granularity());
        Applied { fingerprint: Some(fingerprint), racy }
    }

    fn replace_directory(&mut self, action: &Action, at: &At<F>, have: &Have) -> Stopped<()> {
        let fs = self.tree.fs;
        let found = self.must_be(at, have)?;
        fs.rmdir(&at.dir, &at.name).map_err(|error| self.stays(at, &error))?;
        self.tree.forget_dir(&action.path);
        self.tree.touch(&action.path);
        fs.rename_noreplace((&self.tree.hold, &hold_name(action.id)), at.pair()).map_err(|error| {
            let outcome = stop(&error, "cannot create the file");
            if outcome != Outcome::DiskMoved {
                // Best effort: an empty directory more or less holds no bytes, and the next scan sees either.
                let _ = fs.mkdir(&at.dir, &at.name, found.mode);
            }
            outcome
        })
    }

    /// Swap, then look.
    fn replace(&mut self, action: &Action, at: &At<F>, have: &Have, new: &Fingerprint) -> Stopped<()> {
        self.must_be(at, have)?;
        let name = hold_name(action.id);
        match self.tree.fs.rename_exchange((&self.tree.hold, &name), at.pair()) {
            Ok(()) => {}
            Err(error) if matches!(errno(&error), Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return self.replace_in_two_steps(action, at, have);
            }
            Err(error) => return Err(stop(&error, "cannot replace the file")),
        }
        self.tree.touch(&action.path);
        if look::is_as_expected(self.tree.fs, &self.tree.hold, &name, have) {
            self.tree.keep_held(action.id, &action.path, have.entry.content.clone());
            return Ok(());
        }
        self.swap_back(action, at, new);
        Err(Outcome::DiskMoved)
    }

    /// The displaced object is an edit that no scan has seen: it returns to its path. What comes out must be our
    /// own file as we put it there; anything else was written by a user within the window and becomes a copy.
    fn swap_back(&mut self, action: &Action, at: &At<F>, new: &Fingerprint) {
        let (fs, name) = (self.tree.fs, hold_name(action.id));
        // It was in the tree, somebody may hold it open: never a temp again.
        let staged = self.staged.remove(&action.id);
        match fs.rename_exchange((&self.tree.hold, &name), at.pair()) {
            Ok(()) => {
                let entry = action.entry.clone();
                let ours = Have { entry, fingerprint: Some(*new), racy: true };
                // One that cannot be looked at waits in `hold/`, which is looked at again before anything becomes of it.
                if matches!(look::is_surely_as_expected(fs, &self.tree.hold, &name, &ours), Ok(false)) {
                    self.tree.rescue(action.id, &name, &action.path);
                } else if let Some(Staged { origin: Origin::Tree(from, have), .. }) = staged {
                    self.move_back(action, &from, &have);
                } else {
                    self.tree.keep_held(action.id, &action.path, action.entry.content.clone());
                }
            }
            // The user removed what we had put there: only the edit is left to return.
            Err(_) => {
                if fs.rename_noreplace((&self.tree.hold, &name), at.pair()).is_err() {
                    self.tree.rescue(action.id, &name, &action.path);
                }
            }
        }
    }

    /// Where the file system cannot exchange: the old object moves away, is looked at, and the new one moves in.
    /// Between the two the path is missing for a moment; a crash there is settled at start. Nothing is overwritten.
    fn replace_in_two_steps(&mut self, action: &Action, at: &At<F>, have: &Have) -> Stopped<()> {
        let (name, old) = (hold_name(action.id), old_name(action.id));
        self.displace(action, at, have, &old)?;
        let moved_in = self.tree.fs.rename_noreplace((&self.tree.hold, &name), at.pair());
        if let Err(error) = moved_in {
            let outcome = stop(&error, "cannot replace the file");
            if self.tree.fs.rename_noreplace((&self.tree.hold, &old), at.pair()).is_err() {
                // The path was taken in the window. The old bytes are known and become a version.
                self.unstage(action);
                self.keep_old(action, have);
            }
            return Err(outcome);
        }
        self.keep_old(action, have);
        Ok(())
    }

    fn keep_old(&mut self, action: &Action, have: &Have) {
        let (name, old) = (hold_name(action.id), old_name(action.id));
        // When the name stays, its row finds it under that.
        let _ = self.tree.fs.rename_noreplace((&self.tree.hold, &old), (&self.tree.hold, &name));
        self.tree.keep_held(action.id, &action.path, have.entry.content.clone());
    }

    /// Moves a file or link of the tree into `hold/`, then looks; an unseen edit moves back.
    fn displace(&mut self, action: &Action, at: &At<F>, have: &Have, into: &[u8]) -> Stopped<()> {
        self.must_be(at, have)?;
        let fs = self.tree.fs;
        fs.rename_noreplace(at.pair(), (&self.tree.hold, into))
            .map_err(|error| stop(&error, "cannot move the old file away"))?;
        self.tree.touch(&action.path);
        if look::is_as_expected(fs, &self.tree.hold, into, have) {
            return Ok(());
        }
        if fs.rename_noreplace((&self.tree.hold, into), at.pair()).is_err() {
            self.tree.rescue(action.id, into, &action.path);
        }
        Err(Outcome::DiskMoved)
    }

    fn remove(&mut self, action: &Action) -> Stopped<Applied> {
        let gone = Applied { fingerprint: None, racy: false };
        let Some(have) = expected(action) else { return Ok(gone) };
        let at = self.target(&action.path)?;
        if have.entry.content.is_directory() {
            self.must_be(&at, have)?;
            self.tree.fs.rmdir(&at.dir, &at.name).map_err(|error| self.stays(&at, &error))?;
            self.tree.forget_dir(&action.path);
            self.tree.touch(&action.path);
            return Ok(gone);
        }
        self.displace(action, &at, have, &hold_name(action.id))?;
        self.tree.keep_held(action.id, &action.path, have.entry.content.clone());
        Ok(gone)
    }

    fn make_directory(&mut self, action: &Action) -> Stopped<Applied> {
        let have = expected(action);
        if have.is_some_and(|have| have.entry.content.is_directory()) {
            return self.set_metadata(action);
        }
        let at = self.target(&action.path)?;
        let name = hold_name(action.id);
        if let Some(have) = have {
            self.displace(action, &at, have, &name)?;
        }
        let fs = self.tree.fs;
        let made = fs.mkdir(&at.dir, &at.name, action.entry.mode);
        self.tree.touch(&action.path);
        if let (Err(_), Some(have)) = (&made, have) {
            // Taken in the window: the old bytes are known and become a version.
            if fs.rename_noreplace((&self.tree.hold, &name), at.pair()).is_err() {
                self.tree.keep_held(action.id, &action.path, have.entry.content.clone());
            }
        }
        made.map_err(|error| self.refused(&at, &error, "cannot create the directory"))?;
        if let Some(have) = have {
            self.tree.keep_held(action.id, &action.path, have.entry.content.clone());
        }
        self.tree.touch_attrs(&action.path, &at, true);
        match fs.stat(&at.dir, &at.name) {
            // It was made, so it is recorded: otherwise the next scan would take it for the user's.
            Err(_) => Ok(Applied { fingerprint: None, racy: false }),
            Ok(Some(found)) if found.kind == Kind::Directory => {
                // Another mode is a user's, set just now, unless the file system has none: then even ours differs.
                let has_modes = fs.stat_dir(&self.tree.hold).is_ok_and(|hold| hold.mode == PRIVATE_MODE);
                let mode = if has_modes { action.entry.mode } else { found.mode };
                Ok(Applied { fingerprint: Some(Fingerprint { mode, ..found }), racy: false })
            }
            _ => Err(Outcome::DiskMoved),
        }
    }

    fn set_metadata(&mut self, action: &Action) -> Stopped<Applied> {
        let Some(have) = expected(action) else { return Err(Outcome::DiskMoved) };
        let at = self.tree.at(&action.path).map_err(|error| self.unreachable(&action.path, &error))?;
        let before = self.must_be(&at, have)?;
        if have.racy && !look::holds(self.tree.fs, &at.dir, &at.name, &have.entry.content) {
            return Err(Outcome::DiskMoved);
        }
        self.set_attrs(action, &at, before, have.racy)
    }

    /// Mode and mtime in place. An mtime that we set, or one as young as our own change, hides a write within the same
    /// window, so the next scan hashes such a file again (`racy`).
    fn set_attrs(&mut self, action: &Action, at: &At<F>, before: Fingerprint, racy: bool) -> Stopped<Applied> {
        let fs = self.tree.fs;
        let is_directory = before.kind == Kind::Directory;
        let mtime = Some(action.entry.mtime).filter(|mtime| !is_directory && *mtime != before.mtime);
        let mode = if before.kind == Kind::Symlink { before.mode } else { action.entry.mode };
        if mtime.is_none() && mode == before.mode {
            // What was moved has changed just now as well.
            let racy = racy || before.kind == Kind::File && before.is_young(fs.granularity());
            return Ok(Applied { fingerprint: Some(before), racy });
        }
        fs.set_attrs(&at.dir, &at.name, &before, mode, mtime)
            .map_err(|error| stop(&error, "cannot set mode and time"))?;
        self.tree.touch_attrs(&action.path, at, is_directory);
        let undisturbed = |after: &Fingerprint| {
            let mtime = if mtime.is_some() || is_directory { after.mtime } else { before.mtime };
            let size = if is_directory { after.size } else { before.size };
            *after == Fingerprint { mode, mtime, size, ctime: after.ctime, ..before }
        };
        let after = fs.stat(&at.dir, &at.name).ok().flatten().filter(undisturbed);
        let changed = Fingerprint { mode, mtime: mtime.unwrap_or(before.mtime), ..before };
        let fingerprint = after.unwrap_or(changed);
        let hides = mtime.is_some() || fingerprint.is_young(fs.granularity());
        let racy = racy || hides && before.kind == Kind::File;
        Ok(Applied { fingerprint: Some(fingerprint), racy })
    }

    fn move_from(&mut self, action: &Action, from: &RelPath, from_have: &Have) -> Stopped<Applied> {
        let old = self.target(from)?;
        let at = self.target(&action.path)?;
        self.must_be(&old, from_have)?;
        if expected(action).is_some() {
            return self.move_through_hold(action, &old, from, from_have);
        }
        let fs = self.tree.fs;
        match fs.rename_noreplace(old.pair(), at.pair()) {
            Ok(()) => {}
            Err(error) if matches!(errno(&error), Errno::INVAL | Errno::NOSYS) => {
                return self.move_through_hold(action, &old, from, from_have);
            }
            Err(error) if self.is_respelled(&old, &at, &error) => {
                return self.move_through_hold(action, &old, from, from_have);
            }
            Err(error) => return Err(self.refused(&at, &error, "cannot move the file")),
        }
        self.tree.touch(from);
        self.tree.touch(&action.path);
        let before = fs.stat(&at.dir, &at.name).ok().flatten();
        let before = before.filter(|_| look::is_as_expected(fs, &at.dir, &at.name, from_have));
        let Some(before) = before else {
            // When the old path was taken meanwhile, both stay in the tree where they are.
            let _ = fs.rename_noreplace(at.pair(), old.pair());
            return Err(Outcome::DiskMoved);
        };
        match self.set_attrs(action, &at, before, from_have.racy) {
            Err(Outcome::Failed(problem)) => {
                // As above.
                let _ = fs.rename_noreplace(at.pair(), old.pair());
                Err(Outcome::Failed(problem))
            }
            // Changed since the look: recorded as moved, and the next scan sees the edit.
            Err(_) => Ok(Applied { fingerprint: Some(before), racy: true }),
            done => done,
        }
    }

    /// A move onto something, or on a file system that cannot move safely in one step: away into `hold/`, look,
    /// and then like any other install.
    fn move_through_hold(&mut self, action: &Action, old: &At<F>, from: &RelPath, have: &Have) -> Stopped<Applied> {
        let (fs, name) = (self.tree.fs, hold_name(action.id));
        fs.rename_noreplace(old.pair(), (&self.tree.hold, &name))
            .map_err(|error| stop(&error, "cannot move the file"))?;
        self.tree.touch(from);
        if !look::is_as_expected(fs, &self.tree.hold, &name, have) {
            if fs.rename_noreplace((&self.tree.hold, &name), old.pair()).is_err() {
                self.tree.rescue(action.id, &name, from);
            }
            return Err(Outcome::DiskMoved);
        }
        let staged = fs.stat(&self.tree.hold, &name).and_then(|found| {
            let found = found.ok_or_else(|| std::io::Error::from(Errno::NOENT))?;
            fs.set_attrs(&self.tree.hold, &name, &found, action.entry.mode, Some(action.entry.mtime))?;
            fs.stat(&self.tree.hold, &name)?.ok_or_else(|| Errno::NOENT.into())
        });
        let origin = Origin::Tree(from.clone(), have.clone());
        match staged {
            Ok(fingerprint) => {
                self.staged.insert(action.id, Staged { fingerprint, origin });
                self.tree.sync_everything();
                self.install(action).map(|applied| Applied { racy: true, ..applied })
            }
            Err(error) => {
                self.move_back(action, from, have);
                Err(failed(&error, "cannot set mode and time"))
            }
        }
    }
}
