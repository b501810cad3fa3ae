//! What every change of a tree needs: the directories it touches, the way from a path to a handle and a name, and
//! a place for bytes that nobody expected. Invariant: nothing here overwrites or removes a user's bytes.

use super::durable::with_ancestors;
use super::fs::{Area, Errno, Fs, Private, errno, problem};
use super::look;
use protocol::model::{Content, Mode, Mtime, RelPath};
use protocol::sync::conflict_name::conflict_paths;
use protocol::sync::{ActionId, Change, Fingerprint, Held, Kind, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// From this many barriers on one syncfs is cheaper than single fsyncs (measured on ext4).
pub(super) const GROUP_SYNC_MIN: usize = 64;

/// Times that a file is copied which changes meanwhile.
const COPY_TRIES_MAX: usize = 3;

/// Of an object that cannot be looked at now: nothing is unchanged since.
const UNKNOWN: Fingerprint = Fingerprint {
    fs: 0,
    inode: 0,
    kind: Kind::Special,
    size: 0,
    mtime: Mtime::from_secs(0),
    ctime: Mtime::from_secs(0),
    mode: Mode::new(0),
};

/// The name of an action's object in `hold/`.
pub(super) fn hold_name(id: ActionId) -> Vec<u8> {
    format!("{:016x}", id.0).into_bytes()
}

/// Where the displaced object waits beside the new one, on file systems that cannot exchange.
pub(super) fn old_name(id: ActionId) -> Vec<u8> {
    format!("{:016x}.old", id.0).into_bytes()
}

/// The action of a name in `hold/`, if it is one of ours.
pub(super) fn parse_hold_name(name: &[u8]) -> Option<ActionId> {
    let text = std::str::from_utf8(name).ok()?;
    let id = text.strip_suffix(".old").unwrap_or(text);
    let valid = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    u64::from_str_radix(id, 16).ok().filter(|_| valid).map(ActionId)
}

/// A name in an open directory.
pub(super) struct At<F: Fs> {
    pub dir: Arc<F::Dir>,
    pub name: Vec<u8>,
}

impl<F: Fs> At<F> {
    pub fn pair(&self) -> (&F::Dir, &[u8]) {
        (&self.dir, &self.name)
    }
}

/// Handles of one batch of changes. They live as long as the batch: a change of a directory that the user renames
/// meanwhile is as if it had been made just before.
pub(super) struct Tree<'a, F: Fs> {
    pub fs: &'a F,
    pub tmp: Private<F::Dir>,
    pub hold: Private<F::Dir>,
    dirs: BTreeMap<Option<RelPath>, Arc<F::Dir>>,
    touched: BTreeSet<Option<RelPath>>,
    files_to_sync: Vec<F::File>,
    private_to_sync: Vec<Private<F::Dir>>,
    sync_all: bool,
    /// Directories whose modes forbid what is done in them; they get those back before the barrier.
    opened_up: BTreeMap<RelPath, Arc<F::Dir>>,
    /// Wall clock, seconds since 1970.
    pub now: i64,
    /// Journal rows that hold whatever becomes of the actions.
    pub changes: Vec<Change>,
}

impl<'a, F: Fs> Tree<'a, F> {
    pub fn open(fs: &'a F, now: i64) -> io::Result<Self> {
        Ok(Self {
            fs,
            tmp: fs.private(Area::Tmp)?,
            hold: fs.private(Area::Hold)?,
            dirs: BTreeMap::new(),
            touched: BTreeSet::new(),
            files_to_sync: Vec::new(),
            private_to_sync: Vec::new(),
            sync_all: false,
            opened_up: BTreeMap::new(),
            now,
            changes: Vec::new(),
        })
    }

    pub fn dir(&mut self, path: Option<&RelPath>) -> io::Result<Arc<F::Dir>> {
        let key = path.cloned();
        if let Some(open) = self.dirs.get(&key) {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(self.fs.open_dir(path)?);
        self.dirs.insert(key, Arc::clone(&open));
        Ok(open)
    }

    /// The parent's handle and the name of a path.
    pub fn at(&mut self, path: &RelPath) -> io::Result<At<F>> {
        Ok(At { dir: self.dir(path.parent().as_ref())?, name: path.name().to_vec() })
    }

    /// The same for a change of the name, which the mode of the directory may forbid: it is opened up until the barrier.
    pub fn at_to_change(&mut self, path: &RelPath) -> io::Result<At<F>> {
        let at = self.at(path)?;
        if let Some(parent) = path.parent()
            && self.fs.open_up(&at.dir)?
        {
            self.opened_up.insert(parent, Arc::clone(&at.dir));
        }
        Ok(at)
    }

    fn close_again(&mut self) -> io::Result<()> {
        while let Some((path, dir)) = self.opened_up.first_key_value() {
            self.fs.close_again(dir)?;
            let path = path.clone();
            self.opened_up.remove(&path);
            self.touched.insert(Some(path));
        }
        Ok(())
    }

    /// What stands at a path; nothing also where its directory is gone.
    pub fn stat(&mut self, path: &RelPath) -> io::Result<Option<Fingerprint>> {
        let at = match self.at(path) {
            Err(error) if is_absence(&error) => return Ok(None),
            at => at?,
        };
        self.fs.stat(&at.dir, &at.name)
    }

    pub fn held_at(&self, id: ActionId) -> io::Result<Option<Fingerprint>> {
        self.fs.stat(&self.hold, &hold_name(id))
    }

    /// The name under which an action's displaced object waits: the second one where it could not take the first.
    pub fn name_in_hold(&self, id: ActionId) -> io::Result<Vec<u8>> {
        let old = old_name(id);
        let is_old = self.fs.stat(&self.hold, &old)?.is_some();
        Ok(if is_old { old } else { hold_name(id) })
    }

    /// The names around a path changed.
    pub fn touch(&mut self, path: &RelPath) {
        self.touched.insert(path.parent());
    }

    /// The attributes of an object in the tree changed.
    pub fn touch_attrs(&mut self, path: &RelPath, at: &At<F>, is_directory: bool) {
        if is_directory {
            self.touched.insert(Some(path.clone()));
            return;
        }
        match self.fs.open(&at.dir, &at.name) {
            Ok(file) => self.files_to_sync.push(file),
            // Links cannot be opened, nor can what may not be read.
            Err(_) => self.sync_all = true,
        }
    }

    /// A directory was removed: its handle leads nowhere.
    pub fn forget_dir(&mut self, path: &RelPath) {
        self.dirs.remove(&Some(path.clone()));
        self.touched.remove(&Some(path.clone()));
        if let Some(dir) = self.opened_up.remove(path) {
            // Nobody sees its mode any more.
            let _ = self.fs.close_again(&dir);
        }
    }

    /// The names in a private directory changed.
    pub fn touch_private(&mut self, dir: Private<F::Dir>) {
        self.private_to_sync.push(dir);
    }

    pub fn sync_everything(&mut self) {
        self.sync_all = true;
    }

    /// The names in `hold/` and `tmp/` survive a power cut after this.
    pub fn sync_staged(&self) -> io::Result<()> {
        if self.sync_all {
            return self.fs.sync_all();
        }
        self.fs.sync_dir(&self.hold)?;
        self.fs.sync_dir(&self.tmp)
    }

    /// The barrier before a transaction: everything changed so far survives a power cut.
    pub fn flush(&mut self) -> io::Result<()> {
        self.close_again()?;
        let files = std::mem::take(&mut self.files_to_sync);
        let mut touched = std::mem::take(&mut self.touched);
        let private = std::mem::take(&mut self.private_to_sync);
        let barriers = files.len() + touched.len() + private.len();
        if std::mem::take(&mut self.sync_all) || barriers >= GROUP_SYNC_MIN {
            return self.fs.sync_all();
        }
        with_ancestors(&mut touched);
        for file in &files {
            self.fs.sync_file(file)?;
        }
        for dir in &private {
            self.fs.sync_dir(dir)?;
        }
        for path in touched {
            match self.dir(path.as_ref()) {
                Ok(dir) => self.fs.sync_dir(&dir)?,
                // The user removed it since: only a barrier over everything is left.
                Err(_) => return self.fs.sync_all(),
            }
        }
        self.fs.sync_dir(&self.hold)?;
        self.fs.sync_dir(&self.tmp)
    }

    /// A displaced object stays in `hold/` until it becomes a version or a copy.
    pub fn keep_held(&mut self, id: ActionId, path: &RelPath, content: Content) {
        // Without a row what is written into it late would wait in `hold/` until the next start.
        let found = self.name_in_hold(id).and_then(|name| self.fs.stat(&self.hold, &name));
        if let Some(fingerprint) = found.unwrap_or(Some(UNKNOWN)) {
            self.changes.push(Change::Held(Held { id, path: path.clone(), fingerprint, content, since: self.now }));
        }
    }

    /// Bytes in `hold/` that nobody expected and that did not go back to their path: they become a conflict copy
    /// beside it, which the next scan publishes. Where that fails now, a held row whose content matches nothing
    /// makes `release` try again. A disk that failed once may do it the second time, and then it is no conflict.
    pub fn rescue(&mut self, id: ActionId, name: &[u8], path: &RelPath) {
        if self.place_at(name, path).is_ok() {
            return;
        }
        match self.place_beside(name, path) {
            Ok(Placed::Beside) => {}
            Ok(Placed::Known(content)) => self.hold_rescued(id, name, path, content),
            Err(_) => self.hold_rescued(id, name, path, Content::Tombstone),
        }
    }

    fn hold_rescued(&mut self, id: ActionId, name: &[u8], path: &RelPath, content: Content) {
        let plain = hold_name(id);
        if name != plain {
            // Where it cannot have that name its row finds it under this one.
            let _ = self.fs.rename_noreplace((&self.hold, name), (&self.hold, &plain));
        }
        self.keep_held(id, path, content);
    }

    /// Moves an object from `hold/` to `path`, which must be free.
    fn place_at(&mut self, name: &[u8], path: &RelPath) -> io::Result<()> {
        let at = self.at_to_change(path)?;
        self.fs.rename_noreplace((&self.hold, name), at.pair())?;
        self.touch(path);
        Ok(())
    }

    /// A copy in `hold/` of a file there that has other names (hard links): what is kept must not change when somebody
    /// writes through one of those. `None`: it has no others, or is none that can be read.
    pub fn own_copy(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let (fs, copy) = (self.fs, [name, b".copy"].concat());
        let from = match fs.open(&self.hold, name) {
            Err(error) if matches!(errno(&error), Errno::ACCESS | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return Ok(None);
            }
            opened => opened?,
        };
        if fs.links(&from)? < 2 {
            return Ok(None);
        }
        for _ in 0..COPY_TRIES_MAX {
            if fs.stat(&self.hold, &copy)?.is_some() {
                // Half a copy from an attempt that failed.
                fs.unlink(&self.hold, &copy)?;
            }
            let found = fs.stat_file(&from)?;
            let to = fs.create(&self.hold, &copy)?;
            fs.copy_range(&from, &to, 0, found.size)?;
            if look::hash_file(fs, &from)? == look::hash_file(fs, &to)? {
                fs.set_attrs_of(&to, found.mode, found.mtime)?;
                fs.sync_file(&to)?;
                return Ok(Some(copy));
            }
        }
        fs.unlink(&self.hold, &copy)?;
        Err(Errno::AGAIN.into())
    }

    /// Gives an object in `hold/` a free conflict name beside `path`.
    pub fn place_beside(&mut self, name: &[u8], path: &RelPath) -> io::Result<Placed> {
        let Some(copy) = self.own_copy(name)? else { return self.move_beside(name, path) };
        let placed = self.move_beside(&copy, path);
        let is_placed = matches!(placed, Ok(Placed::Beside));
        if is_placed {
            self.flush()?;
        }
        // The bytes are in the copy, and the inode lives on under its other names.
        self.fs.unlink(&self.hold, if is_placed { name } else { &copy })?;
        placed
    }

    fn move_beside(&mut self, name: &[u8], path: &RelPath) -> io::Result<Placed> {
        let found = self.fs.stat(&self.hold, name)?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
        // What cannot be read still gets a name; its hash digits are those of nothing.
        let content = look::content_at(self.fs, &self.hold, name).map_or(Content::Tombstone, |(_, content)| content);
        let parent = self.at_to_change(path)?.dir;
        for candidate in conflict_paths(path, &content.identity().1, found.mtime) {
            match self.fs.rename_noreplace((&self.hold, name), (&parent, candidate.name())) {
                Ok(()) => {
                    self.touch(&candidate);
                    return Ok(Placed::Beside);
                }
                Err(error) if errno(&error) == Errno::EXIST => {
                    let same = matches!(content, Content::File(_) | Content::Symlink(_))
                        && look::holds(self.fs, &parent, candidate.name(), &content);
                    if same {
                        return Ok(Placed::Known(content));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Errno::EXIST.into())
    }
}

impl<F: Fs> Drop for Tree<'_, F> {
    fn drop(&mut self) {
        // Without a barrier nothing was recorded either, and the next start repairs what stays open.
        if !std::thread::panicking() {
            let _ = self.close_again();
        }
    }
}

/// What became of bytes that nobody expected.
pub(super) enum Placed {
    /// They stand beside the path.
    Beside,
    /// A copy with the same content stands there already.
    Known(Content),
}

/// No such name, or no directory on the way to it.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(errno(error), Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// How a failed call ends an action: the disk moved, or it cannot be done now.
pub(super) fn stop(error: &io::Error, doing: &str) -> Outcome {
    match errno(error) {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::EXIST | Errno::STALE | Errno::ISDIR => Outcome::DiskMoved,
        Errno::NOTEMPTY => Outcome::NotEmpty { items: 0 },
        _ => Outcome::Failed(problem(error, doing)),
    }
}
