//! The keys of a home as files: read for a backup while a daemon may run, put in place while none does.
//! Invariant: no key is ever removed or written over. What a restore replaces is set aside whole, in one step where the
//! file system can, so that a crash leaves the old keys or the new ones in place and loses neither.

use crate::failure::{Failure, Result};
use crate::home::Home;
use protocol::limits::{BACKUP_BYTES_MAX, BACKUP_FILES_MAX};
use protocol::wire::backup::{IDENTITY_FILE, KeyFile};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A daemon that runs replaces these files one by one: so many looks until two in a row agree.
const LOOKS: usize = 5;
/// Sets of keys that were set aside in one home, before a person is asked to tidy up.
const ASIDE_MAX: usize = 1000;

/// What a backup of this home holds, the identity among it.
///
/// # Errors
/// There is no identity, it is open to others, or it cannot be read.
pub fn read(home: &Home) -> Result<Vec<KeyFile>> {
    let directory = home.keys();
    if !directory.join(IDENTITY_FILE).exists() {
        return Err(Failure::new(format!("the home {} has no identity yet", home.root.display()))
            .hint("syncd makes one when it first starts; --home DIR names another home"));
    }
    check_private(&directory)?;
    let mut files = read_once(&directory)?;
    for _ in 1..LOOKS {
        let again = read_once(&directory)?;
        if again == files {
            return Ok(files);
        }
        files = again;
    }
    Err(Failure::new("the keys change all the time").hint("try again in a moment, or after `syncctl stop`"))
}

fn read_once(directory: &Path) -> Result<Vec<KeyFile>> {
    let mut names = names(directory)?;
    names.sort();
    let files: Vec<KeyFile> = names.iter().map(|name| read_file(&directory.join(name), name)).collect::<Result<_>>()?;
    let bytes: usize = files.iter().map(|file| file.bytes().len()).sum();
    if files.len() > BACKUP_FILES_MAX || bytes > BACKUP_BYTES_MAX {
        return Err(Failure::new(format!("{} holds more than the keys of a device", directory.display()))
            .hint("move away what syncd has not put there"));
    }
    Ok(files)
}

/// Names of what is in there, but for files that are just being replaced.
fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", directory.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn read_file(path: &Path, name: &str) -> Result<KeyFile> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let len = usize::try_from(meta.len()).unwrap_or(usize::MAX);
    let foreign = || {
        Failure::new(format!("{} is no file of syncd", path.display())).hint("move it out of the directory of the keys")
    };
    if !meta.is_file() || len > BACKUP_BYTES_MAX {
        return Err(foreign());
    }
    check_owner(path, &meta, 0o600)?;
    // Room for all at once: a buffer that grows leaves secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(len + 1));
    let limit = u64::try_from(BACKUP_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    KeyFile::new(name, bytes).ok_or_else(foreign)
}

fn check_private(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let meta = std::fs::symlink_metadata(directory)
        .map_err(|error| Failure::new(format!("cannot look at {shown}: {error}")))?;
    if !meta.is_dir() {
        return Err(Failure::new(format!("{shown} is not a directory")));
    }
    check_owner(directory, &meta, 0o700)
}

fn check_owner(path: &Path, meta: &std::fs::Metadata, mode: u32) -> Result<()> {
    let shown = path.display();
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Failure::new(format!("{shown} belongs to another user")).hint("run syncctl as its owner"));
    }
    if meta.mode() & 0o077 != 0 {
        let found = meta.mode() & 0o777;
        return Err(Failure::new(format!("{shown} is open to other users (mode {found:o})"))
            .hint(format!("run chmod {mode:o} on it")));
    }
    Ok(())
}

/// A home in which no daemon runs as long as this lives.
#[derive(Debug)]
pub struct Locked<'a> {
    home: &'a Home,
    _lock: File,
}

/// Takes a home, and makes it where there is none yet.
///
/// # Errors
/// A daemon runs in it, it belongs to somebody else, or it cannot be made.
pub fn lock(home: &Home) -> Result<Locked<'_>> {
    let run = home.run();
    let cannot = |path: &Path, error: &std::io::Error| Failure::new(format!("cannot make {}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(&home.root).map_err(|error| cannot(&home.root, &error))?;
    match DirBuilder::new().mode(0o700).create(&run) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(cannot(&run, &error)),
        _ => check_private(&run)?,
    }
    let path = run.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| cannot(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Locked { home, _lock: file }),
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!("syncd runs in the home {}", home.root.display()))
            .hint("stop it with `syncctl stop` (or `syncctl service stop`), and start it again afterwards")),
        Err(TryLockError::Error(error)) => Err(Failure::new(format!("cannot lock {}: {error}", path.display()))),
    }
}

impl Locked<'_> {
    /// Whether keys are there.
    ///
    /// # Errors
    /// When nobody can tell.
    pub fn has_keys(&self) -> Result<bool> {
        match std::fs::symlink_metadata(self.home.keys()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(!names(&self.home.keys())?.is_empty()),
        }
    }

    /// Puts these keys in the place of those that are there. Returns where those are then, if there were any.
    ///
    /// # Errors
    /// When that cannot be done; no keys are lost then.
    pub fn put(&self, files: &[KeyFile]) -> Result<Option<PathBuf>> {
        let keys = self.home.keys();
        let failed = |error| Failure::new(format!("the keys cannot be put into {}: {error}", keys.display()));
        let is_taken = std::fs::read_dir(&keys).is_ok_and(|mut entries| entries.next().is_some());
        let beside = self.make_beside()?;
        if let Err(error) = write_all(&beside, files) {
            // So far it holds copies only, and what cannot be removed harms nobody.
            let _ = std::fs::remove_dir_all(&beside);
            return Err(failed(error));
        }
        change_places(&beside, &keys, is_taken).map_err(failed)?;
        File::open(&self.home.root).and_then(|root| root.sync_all()).map_err(failed)?;
        Ok(is_taken.then_some(beside))
    }

    /// A new private directory, which is where the replaced keys end up.
    fn make_beside(&self) -> Result<PathBuf> {
        for number in 1..=ASIDE_MAX {
            let beside = self.home.root.join(format!("keys.replaced-{number}"));
            match DirBuilder::new().mode(0o700).create(&beside) {
                Ok(()) => return Ok(beside),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Failure::new(format!("cannot make {}: {error}", beside.display()))),
            }
        }
        Err(Failure::new(format!("{ASIDE_MAX} sets of keys were set aside in {} already", self.home.root.display()))
            .hint("move those away that are no longer needed"))
    }
}

fn write_all(directory: &Path, files: &[KeyFile]) -> std::io::Result<()> {
    for file in files {
        write_new(&directory.join(file.name()), file.bytes())?;
    }
    File::open(directory)?.sync_all()
}

/// The new keys go to `keys`; what was there takes their place.
fn change_places(new: &Path, keys: &Path, is_taken: bool) -> std::io::Result<()> {
    if !is_taken {
        // Over nothing or an empty directory; one that is not empty after all refuses.
        return std::fs::rename(new, keys);
    }
    match renameat_with(CWD, new, CWD, keys, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let old = new.with_extension("old");
            std::fs::rename(keys, &old)?;
            std::fs::rename(new, keys)?;
            std::fs::rename(&old, new)
        }
        done => Ok(done?),
    }
}

/// Writes a private file that is not there yet, whole and durably: in one step it is there, or never was.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when there is something of that name, which then stays as it is.
pub fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?;
    let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let mut temp = OsStr::new(".").to_owned();
    temp.push(name);
    temp.push(format!(".{}.tmp", std::process::id()));
    let temp = directory.join(temp);
    let place = || -> std::io::Result<()> {
        write_new(&temp, bytes)?;
        match renameat_with(CWD, &temp, CWD, path, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                // A hard link refuses a taken name too.
                std::fs::hard_link(&temp, path)?;
                std::fs::remove_file(&temp)?;
            }
            done => done?,
        }
        File::open(directory)?.sync_all()
    };
    place().inspect_err(|_| {
        // It may not be there; what went wrong is told anyway.
        let _ = std::fs::remove_file(&temp);
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
