//! The first half of the commit protocol: everything an action installs stands in `hold/<id>`, with its final mode
//! and mtime, and would survive a power cut, before the first name of the tree changes.

use super::{Batch, Origin, Staged};
use crate::disk::fs::{Errno, Fs, errno, problem};
use crate::disk::look;
use crate::disk::stage::open_temp;
use crate::disk::tree::{GROUP_SYNC_MIN, hold_name};
use protocol::model::{Content, ContentHash, FileContent};
use protocol::sync::{Action, Outcome, Step};
use std::collections::BTreeMap;
use std::io;

/// A temp that is ready but for the barrier of all. It is closed: a batch has more files than a process may have open.
struct Prepared {
    /// Of its action.
    index: usize,
    hash: ContentHash,
}

impl<F: Fs> Batch<'_, F> {
    /// Stages what the actions install. `Err` is the outcome of one that stops here.
    pub(super) fn stage(&mut self, actions: &[Action]) -> Vec<Result<(), Outcome>> {
        let mut ready: Vec<Result<(), Outcome>> = vec![Ok(()); actions.len()];
        let wanted = by_content(actions);
        let barrier = if wanted.len() >= GROUP_SYNC_MIN { Barrier::OfAll } else { Barrier::Own };
        let mut prepared = Vec::new();
        for (content, indices) in wanted {
            let (first, copies) = indices.split_first().expect("a content is wanted by an action");
            let file = self.prepare(&actions[*first], content, barrier);
            if file.is_ok() {
                prepared.push(Prepared { index: *first, hash: content.hash });
            }
            for index in copies {
                ready[*index] = match &file {
                    Ok(file) => self.copy_staged(&actions[*index], file),
                    Err(outcome) => Err(outcome.clone()),
                };
            }
            ready[*first] = file.map(|_| ());
        }
        if barrier == Barrier::OfAll {
            self.sync_temps(&mut prepared, &mut ready);
        }
        for Prepared { index, hash } in prepared {
            ready[index] = self.take_temp(&actions[index], hash);
        }
        for (index, action) in actions.iter().enumerate() {
            if let (Step::InstallSymlink, Content::Symlink(target)) = (&action.step, &action.entry.content) {
                ready[index] = self.make_link(action, target);
            }
        }
        self.sync_hold(actions, ready)
    }

    /// Gives the temp its final attributes, and makes it durable when no barrier follows.
    fn prepare(&self, action: &Action, content: &FileContent, barrier: Barrier) -> Result<F::File, Outcome> {
        let fs = self.tree.fs;
        let file = match open_temp(fs, &self.tree.tmp, content.hash.to_hex().as_bytes()) {
            Err(error) if errno(&error) == Errno::NOENT => return Err(Outcome::NoContent),
            opened => opened.map_err(|error| failed(&error, "cannot open the downloaded file"))?,
        };
        let found = fs.stat_file(&file).map_err(|error| failed(&error, "cannot look at the downloaded file"))?;
        if found.size != content.size {
            return Err(Outcome::NoContent);
        }
        fs.set_attrs_of(&file, action.entry.mode, action.entry.mtime)
            .map_err(|error| failed(&error, "cannot set mode and time of the downloaded file"))?;
        if barrier == Barrier::Own {
            fs.sync_file(&file).map_err(|error| self.not_durable(&error, content.hash))?;
        }
        Ok(file)
    }

    /// The barrier over all temps.
    fn sync_temps(&self, prepared: &mut Vec<Prepared>, ready: &mut [Result<(), Outcome>]) {
        let Err(error) = self.tree.fs.sync_all() else { return };
        for temp in prepared.drain(..) {
            ready[temp.index] = Err(self.not_durable(&error, temp.hash));
        }
    }

    /// After a failed fsync the kernel may have marked lost pages as clean, so that temp is gone for good; without
    /// space it is whole and waits.
    fn not_durable(&self, error: &io::Error, hash: ContentHash) -> Outcome {
        if matches!(errno(error), Errno::NOSPC | Errno::DQUOT) {
            return failed(error, "cannot make the downloaded file durable");
        }
        // When it cannot even be removed, the next download finds and verifies it chunk by chunk.
        let _ = self.tree.fs.unlink(&self.tree.tmp, hash.to_hex().as_bytes());
        Outcome::NoContent
    }

    fn take_temp(&mut self, action: &Action, hash: ContentHash) -> Result<(), Outcome> {
        let (fs, name, temp) = (self.tree.fs, hold_name(action.id), hash.to_hex().into_bytes());
        fs.rename_noreplace((&self.tree.tmp, &temp), (&self.tree.hold, &name))
            .and_then(|()| fs.stat(&self.tree.hold, &name)?.ok_or_else(|| Errno::NOENT.into()))
            .map(|fingerprint| {
                self.staged.insert(action.id, Staged { fingerprint, origin: Origin::Temp(temp) });
            })
            .map_err(|error| failed(&error, "cannot stage the downloaded file"))
    }

    /// The same content again: a second inode, since files that the user sees apart must not share one.
    fn copy_staged(&mut self, action: &Action, from: &F::File) -> Result<(), Outcome> {
        let name = hold_name(action.id);
        let made = self.copy_into_hold(action, from, &name);
        made.map_err(|error| {
            // Never in the tree, and only a copy: nothing is lost when it goes, or stays until the next start.
            let _ = self.tree.fs.unlink(&self.tree.hold, &name);
            failed(&error, "cannot copy the downloaded file")
        })
    }

    fn copy_into_hold(&mut self, action: &Action, from: &F::File, name: &[u8]) -> io::Result<()> {
        let (fs, hold) = (self.tree.fs, &self.tree.hold);
        let size = fs.stat_file(from)?.size;
        let to = fs.create(hold, name)?;
        fs.copy_range(from, &to, 0, size)?;
        // Kernels had copy_file_range bugs that returned success: only the hash says that it is a copy.
        let (hash, _) = look::hash_file(fs, &to)?;
        if Some(hash) != action.entry.content.file().map(|file| file.hash) {
            return Err(Errno::IO.into());
        }
        fs.set_attrs_of(&to, action.entry.mode, action.entry.mtime)?;
        fs.sync_file(&to)?;
        let fingerprint = fs.stat_file(&to)?;
        self.staged.insert(action.id, Staged { fingerprint, origin: Origin::Made });
        Ok(())
    }

    fn make_link(&mut self, action: &Action, target: &[u8]) -> Result<(), Outcome> {
        let (fs, hold, name) = (self.tree.fs, &self.tree.hold, hold_name(action.id));
        let made = fs.symlink(hold, &name, target).and_then(|()| {
            let found = fs.stat(hold, &name)?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
            fs.set_attrs(hold, &name, &found, found.mode, Some(action.entry.mtime))?;
            fs.stat(hold, &name)?.ok_or_else(|| io::Error::from(Errno::NOENT))
        });
        match made {
            Ok(fingerprint) => {
                self.staged.insert(action.id, Staged { fingerprint, origin: Origin::Made });
                // A link has no handle to fsync.
                self.tree.sync_everything();
                Ok(())
            }
            Err(error) => {
                // Never in the tree; its target is in the entry.
                let _ = fs.unlink(hold, &name);
                Err(failed(&error, "cannot make the link"))
            }
        }
    }

    /// The names in `hold/` and `tmp/` become durable; without that nothing may be swapped.
    fn sync_hold(&mut self, actions: &[Action], ready: Vec<Result<(), Outcome>>) -> Vec<Result<(), Outcome>> {
        if self.staged.is_empty() {
            return ready;
        }
        let synced = self.tree.sync_staged();
        let Err(error) = synced else { return ready };
        let outcome = failed(&error, "cannot make the staged files durable");
        let is_staged: Vec<bool> = actions.iter().map(|action| self.staged.contains_key(&action.id)).collect();
        actions.iter().for_each(|action| self.unstage(action));
        ready
            .into_iter()
            .zip(is_staged)
            .map(|(ready, staged)| if staged { Err(outcome.clone()) } else { ready })
            .collect()
    }
}

pub(super) fn failed(error: &io::Error, doing: &str) -> Outcome {
    Outcome::Failed(problem(error, doing))
}

/// When a temp becomes durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Barrier {
    /// Each for itself.
    Own,
    /// All at once: cheaper from some number on.
    OfAll,
}

/// The contents that are to be installed, each with the actions that install it.
fn by_content(actions: &[Action]) -> Vec<(&FileContent, Vec<usize>)> {
    let mut wanted: Vec<(&FileContent, Vec<usize>)> = Vec::new();
    let mut place: BTreeMap<ContentHash, usize> = BTreeMap::new();
    for (index, action) in actions.iter().enumerate() {
        let (Step::InstallFile, Content::File(content)) = (&action.step, &action.entry.content) else { continue };
        let at = *place.entry(content.hash).or_insert(wanted.len());
        match wanted.get_mut(at) {
            Some((_, indices)) => indices.push(index),
            None => wanted.push((content, vec![index])),
        }
    }
    wanted
}
