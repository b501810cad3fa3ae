//! `SimFs` with at most one flaw. Without one every call goes straight through, so the wrapper is no third file
//! system: it is where a mutant sits.

use super::flaw::Flaw;
use protocol::model::{Mode, Mtime, RelPath};
use protocol::sync::{Fingerprint, Kind};
use std::io;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use syncd::disk::fs::sim::{SimDir, SimFile};
use syncd::disk::fs::{Area, Errno, Fs, Listed, Private, RootId, SimFs, Space, errno};

/// The file system that a simulated device works on.
pub struct FlawedFs {
    fs: SimFs,
    flaw: Option<Flaw>,
    /// What the last `stat` said: what a check before a rename has seen.
    last: Mutex<Option<Fingerprint>>,
    thrown_away: AtomicU64,
}

type At<'a> = (&'a SimDir, &'a [u8]);

impl Deref for FlawedFs {
    type Target = SimFs;

    fn deref(&self) -> &SimFs {
        &self.fs
    }
}

impl FlawedFs {
    /// A volume with a flaw.
    #[must_use]
    pub const fn new(fs: SimFs, flaw: Option<Flaw>) -> Self {
        Self { fs, flaw, last: Mutex::new(None), thrown_away: AtomicU64::new(0) }
    }

    /// A copy that goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.fs.fork(), self.flaw)
    }

    /// Its flaw.
    #[must_use]
    pub const fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// What the scanner and the commit protocol get to see of an inode.
    fn seen(&self, found: Fingerprint) -> Fingerprint {
        if self.has(Flaw::Ctime) { Fingerprint { ctime: found.mtime, ..found } } else { found }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Fingerprint>> {
        self.last.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// Where no user finds it again.
    fn throw_away(&self, at: At<'_>) -> io::Result<()> {
        let name = format!("gone-{}", self.thrown_away.fetch_add(1, Ordering::Relaxed));
        let versions = self.fs.private(Area::Versions)?;
        self.fs.rename_noreplace(at, (&versions, name.as_bytes()))
    }

    /// Overwrites, as a rename does that was preceded by a check: what is not as it was checked is gone.
    fn throw_away_unchecked(&self, displaced: At<'_>, checked: Option<Fingerprint>) -> io::Result<()> {
        let found = self.fs.stat(displaced.0, displaced.1)?;
        match (found, checked) {
            (Some(found), Some(checked)) if found.same_but_ctime(&checked) => Ok(()),
            (Some(_), _) => self.throw_away(displaced),
            (None, _) => Ok(()),
        }
    }

    /// Everything in `hold/` goes.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn empty_hold(&self) -> io::Result<()> {
        let hold = self.fs.private(Area::Hold)?;
        for item in self.fs.list(&hold)? {
            self.throw_away((&hold, &item.name))?;
        }
        Ok(())
    }
}

/// An object's name in `hold/`.
fn is_hold_name(name: &[u8]) -> bool {
    name.len() == 16 && name.iter().all(u8::is_ascii_hexdigit)
}

/// A name in `hold/`, or that of a temp. No user of the simulator thinks of such.
fn is_private_name(name: &[u8]) -> bool {
    name.len() >= 16 && name[..16].iter().all(u8::is_ascii_hexdigit)
}

impl Fs for FlawedFs {
    type Dir = SimDir;
    type File = SimFile;

    fn root_id(&self) -> io::Result<RootId> {
        self.fs.root_id()
    }

    fn space(&self) -> io::Result<Space> {
        self.fs.space()
    }

    fn granularity(&self) -> Duration {
        self.fs.granularity()
    }

    fn is_durable(&self) -> bool {
        self.fs.is_durable()
    }

    fn prepare_private(&self) -> io::Result<()> {
        self.fs.prepare_private()
    }

    fn private(&self, area: Area) -> io::Result<Private<SimDir>> {
        self.fs.private(area)
    }

    fn private_child(&self, dir: &Private<SimDir>, name: &[u8]) -> io::Result<Private<SimDir>> {
        self.fs.private_child(dir, name)
    }

    fn open_dir(&self, path: Option<&RelPath>) -> io::Result<SimDir> {
        self.fs.open_dir(path)
    }

    fn open_child(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimDir> {
        self.fs.open_child(dir, name)
    }

    fn list(&self, dir: &SimDir) -> io::Result<Vec<Listed>> {
        match self.fs.list(dir) {
            Err(_) if self.has(Flaw::CompleteListing) => Ok(Vec::new()),
            listed => listed,
        }
    }

    fn stat(&self, dir: &SimDir, name: &[u8]) -> io::Result<Option<Fingerprint>> {
        let found = match self.fs.stat(dir, name) {
            Err(_) if self.has(Flaw::CompleteListing) => None,
            found => found?,
        };
        *self.last() = found;
        Ok(found.map(|found| self.seen(found)))
    }

    fn stat_folded(&self, dir: &SimDir, name: &[u8]) -> io::Result<Option<Fingerprint>> {
        Ok(self.fs.stat_folded(dir, name)?.map(|found| self.seen(found)))
    }

    fn stat_dir(&self, dir: &SimDir) -> io::Result<Fingerprint> {
        self.fs.stat_dir(dir).map(|found| self.seen(found))
    }

    fn read_link(&self, dir: &SimDir, name: &[u8]) -> io::Result<Vec<u8>> {
        self.fs.read_link(dir, name)
    }

    fn open(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimFile> {
        self.fs.open(dir, name)
    }

    fn create(&self, dir: &Private<SimDir>, name: &[u8]) -> io::Result<SimFile> {
        self.fs.create(dir, name)
    }

    fn open_write(&self, dir: &Private<SimDir>, name: &[u8]) -> io::Result<SimFile> {
        self.fs.open_write(dir, name)
    }

    fn stat_file(&self, file: &SimFile) -> io::Result<Fingerprint> {
        self.fs.stat_file(file).map(|found| self.seen(found))
    }

    fn links(&self, file: &SimFile) -> io::Result<u64> {
        if self.has(Flaw::Links) { Ok(1) } else { self.fs.links(file) }
    }

    fn read_at(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fs.read_at(file, buffer, offset)
    }

    fn write_at(&self, file: &SimFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fs.write_at(file, bytes, offset)
    }

    fn set_len(&self, file: &SimFile, len: u64) -> io::Result<()> {
        self.fs.set_len(file, len)
    }

    fn copy_range(&self, from: &SimFile, to: &SimFile, offset: u64, len: u64) -> io::Result<u64> {
        self.fs.copy_range(from, to, offset, len)
    }

    fn set_attrs_of(&self, file: &SimFile, mode: Mode, mtime: Mtime) -> io::Result<()> {
        if self.has(Flaw::Attributes) { Ok(()) } else { self.fs.set_attrs_of(file, mode, mtime) }
    }

    fn is_open_for_write(&self, file: &SimFile) -> io::Result<bool> {
        self.fs.is_open_for_write(file)
    }

    fn set_attrs(
        &self,
        dir: &SimDir,
        name: &[u8],
        expected: &Fingerprint,
        mode: Mode,
        mtime: Option<Mtime>,
    ) -> io::Result<()> {
        let found = if self.has(Flaw::Ctime) { self.fs.stat(dir, name)? } else { None };
        let real = found.filter(|found| self.seen(*found).unchanged_since(expected));
        self.fs.set_attrs(dir, name, real.as_ref().unwrap_or(expected), mode, mtime)
    }

    fn open_up(&self, dir: &SimDir) -> io::Result<bool> {
        self.fs.open_up(dir)
    }

    fn close_again(&self, dir: &SimDir) -> io::Result<()> {
        self.fs.close_again(dir)
    }

    fn mkdir(&self, dir: &SimDir, name: &[u8], mode: Mode) -> io::Result<()> {
        self.fs.mkdir(dir, name, mode)
    }

    fn rmdir(&self, dir: &SimDir, name: &[u8]) -> io::Result<()> {
        match self.fs.rmdir(dir, name) {
            Err(error) if self.has(Flaw::EmptyOnly) && errno(&error) == Errno::NOTEMPTY => self.throw_away((dir, name)),
            done => done,
        }
    }

    fn symlink(&self, dir: &SimDir, name: &[u8], target: &[u8]) -> io::Result<()> {
        self.fs.symlink(dir, name, target)
    }

    fn unlink(&self, dir: &Private<SimDir>, name: &[u8]) -> io::Result<()> {
        self.fs.unlink(dir, name)
    }

    fn rename_noreplace(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        let checked = *self.last();
        match self.fs.rename_noreplace(from, to) {
            Err(error) if self.has(Flaw::NoReplace) && errno(&error) == Errno::EXIST => {
                let stands = self.fs.stat(to.0, to.1)?;
                if stands.is_none_or(|stands| stands.kind == Kind::Directory) {
                    return Err(error);
                }
                self.throw_away(to)?;
                self.fs.rename_noreplace(from, to)
            }
            Ok(()) if self.has(Flaw::MoveThenLook) && is_hold_name(to.1) && !is_private_name(from.1) => {
                self.throw_away_unchecked(to, checked)
            }
            done => done,
        }
    }

    fn rename_exchange(&self, a: At<'_>, b: At<'_>) -> io::Result<()> {
        let checked = *self.last();
        if self.has(Flaw::AtomicSwap) {
            let aside = [a.1, b".swap"].concat();
            self.fs.rename_noreplace(b, (a.0, &aside))?;
            self.fs.rename_noreplace(a, b)?;
            return self.fs.rename_noreplace((a.0, &aside), a);
        }
        self.fs.rename_exchange(a, b)?;
        if self.has(Flaw::SwapThenLook) { self.throw_away_unchecked(a, checked) } else { Ok(()) }
    }

    fn sync_file(&self, file: &SimFile) -> io::Result<()> {
        match self.flaw {
            Some(Flaw::SyncFile) => Ok(()),
            Some(Flaw::SyncAgain) => self.fs.sync_file(file).or_else(|_| self.fs.sync_file(file)),
            _ => self.fs.sync_file(file),
        }
    }

    fn sync_dir(&self, dir: &SimDir) -> io::Result<()> {
        if self.has(Flaw::SyncDir) { Ok(()) } else { self.fs.sync_dir(dir) }
    }

    fn sync_all(&self) -> io::Result<()> {
        match self.flaw {
            Some(Flaw::SyncAll) => Ok(()),
            Some(Flaw::SyncAgain) => self.fs.sync_all().or_else(|_| self.fs.sync_all()),
            _ => self.fs.sync_all(),
        }
    }
}
