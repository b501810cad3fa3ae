//! `Fs` over Linux system calls. Paths are resolved beneath the root with openat2 (or component by component where
//! a kernel or sandbox lacks it), links are never followed, mount points are never crossed.

use super::copy::copy_by_hand;
use super::opened_up::OpenedUp;
use super::{Area, Errno, Fs, Listed, Private, RootId, Space, lease, spelling, writable};
use protocol::model::path::PRIVATE_DIR;
use protocol::model::{Mode, Mtime, RelPath};
use protocol::sync::{Fingerprint, Kind};
use rustix::fs::{
    Advice, AtFlags, FileType, Mode as RawMode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps,
};
use rustix::io::retry_on_intr;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// openat2 answers EAGAIN when a rename ran beside it; more tries than any burst of renames needs.
const RESOLVE_TRIES_MAX: usize = 32;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// A folder's root on a real file system.
#[derive(Debug)]
pub struct RealFs {
    root: RealDir,
    path: PathBuf,
    lacks_openat2: AtomicBool,
    lacks_fsync: AtomicBool,
    granularity: Duration,
    opened_up: OpenedUp,
    folds: OnceLock<bool>,
}

/// An open directory.
#[derive(Debug)]
pub struct RealDir {
    fd: OwnedFd,
    /// st_dev, to know whether an object in it is on the same file system.
    dev: u64,
    fs: u64,
    private: bool,
}

/// An open regular file.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    fs: u64,
}

impl RealFs {
    /// Opens the directory at `path` as a root. The path itself may lead through links.
    ///
    /// # Errors
    /// When there is no directory, or it may not be entered.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, RawMode::empty()))?;
        let root = RealDir::new(fd, false)?;
        let (lacks_openat2, lacks_fsync) = (AtomicBool::new(false), AtomicBool::new(false));
        let granularity = crate::disk::hash::granularity(path);
        let (opened_up, folds) = (OpenedUp::default(), OnceLock::new());
        Ok(Self { root, path: path.to_owned(), lacks_openat2, lacks_fsync, granularity, opened_up, folds })
    }

    /// Only for tests: behaves as on a kernel without openat2.
    #[cfg(test)]
    pub(super) fn without_openat2(self) -> Self {
        self.lacks_openat2.store(true, Ordering::Relaxed);
        self
    }

    /// Only for tests: behaves as on a volume that folds names.
    #[cfg(test)]
    pub(super) fn folding_names(self) -> Self {
        Self { folds: OnceLock::from(true), ..self }
    }

    /// Whether the volume takes two spellings for one name. Not known, and not needed, before `.syncd/` is there.
    fn folds(&self) -> bool {
        self.folds.get().copied().unwrap_or_else(|| match self.base() {
            Ok(base) => *self.folds.get_or_init(|| spelling::folds(&self.root.fd, &base.fd)),
            Err(_) => false,
        })
    }

    /// Whether a name that leads to something is listed like that. Costs a listing where the volume folds names, and
    /// nothing elsewhere. What is private is spelled by us alone.
    fn is_spelled(&self, dir: &RealDir, name: &[u8]) -> io::Result<bool> {
        if dir.private || !self.folds() { Ok(true) } else { spelling::is_listed(open_listing(dir)?, name) }
    }

    fn resolve(&self, path: &RelPath) -> io::Result<OwnedFd> {
        if !self.lacks_openat2.load(Ordering::Relaxed) && !self.folds() {
            match self.resolve_beneath(path) {
                Err(Errno::NOSYS | Errno::PERM) => self.lacks_openat2.store(true, Ordering::Relaxed),
                done => return Ok(done?),
            }
        }
        let mut at: Option<RealDir> = None;
        for name in path.components() {
            let next = self.open_child(at.as_ref().unwrap_or(&self.root), name)?;
            at = Some(next);
        }
        Ok(at.expect("a RelPath has at least one component").fd)
    }

    fn resolve_beneath(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        let how =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let open = |kind: OFlags| {
            let flags = kind | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name = OsStr::from_bytes(path.as_bytes());
            for _ in 0..RESOLVE_TRIES_MAX {
                match retry_on_intr(|| rustix::fs::openat2(&self.root.fd, name, flags, RawMode::empty(), how)) {
                    Err(Errno::AGAIN) => {}
                    done => return done,
                }
            }
            Err(Errno::AGAIN)
        };
        match open(OFlags::RDONLY) {
            Err(Errno::ACCESS) => open(OFlags::PATH),
            done => done,
        }
    }

    fn base(&self) -> io::Result<RealDir> {
        RealDir::new(open_dir_at(self.root.fd.as_fd(), PRIVATE_DIR.as_bytes())?, true)
    }

    /// fsync, with a file system that offers none remembered instead of failing every change on it.
    fn sync_fd(&self, fd: impl AsFd) -> io::Result<()> {
        match retry_on_intr(|| rustix::fs::fsync(&fd)) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                self.lacks_fsync.store(true, Ordering::Relaxed);
                Ok(())
            }
            // Opened with O_PATH, for want of read permission.
            Err(Errno::BADF) => self.sync_all(),
            done => Ok(done?),
        }
    }
}

impl RealDir {
    fn new(fd: OwnedFd, private: bool) -> io::Result<Self> {
        let dev = rustix::fs::fstat(&fd)?.st_dev;
        let fs = rustix::fs::fstatvfs(&fd)?.f_fsid;
        Ok(Self { fd, dev, fs, private })
    }

    /// The file system of an object that `stat` describes and `name` names here.
    fn fs_of(&self, name: &[u8], stat: &Stat) -> io::Result<u64> {
        if stat.st_dev == self.dev {
            return Ok(self.fs);
        }
        let fd = open_path_at(self, name)?;
        Ok(rustix::fs::fstatvfs(&fd)?.f_fsid)
    }
}

/// A single component, as the system calls take it.
fn single(name: &[u8]) -> io::Result<&OsStr> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::INVAL.into());
    }
    Ok(OsStr::from_bytes(name))
}

fn open_dir_at(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let name = single(name)?;
    let open = |kind: OFlags| {
        let flags = kind | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        retry_on_intr(|| rustix::fs::openat(&dir, name, flags, RawMode::empty()))
    };
    match open(OFlags::RDONLY) {
        // May be entered and not read: good enough to reach what is in it.
        Err(Errno::ACCESS) => Ok(open(OFlags::PATH)?),
        done => Ok(done?),
    }
}

/// A handle of its own to read the names of a directory from.
fn open_listing(dir: &RealDir) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::openat(&dir.fd, ".", flags, RawMode::empty()))?)
}

fn open_path_at(dir: &RealDir, name: &[u8]) -> io::Result<OwnedFd> {
    let name = single(name)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::openat(&dir.fd, name, flags, RawMode::empty()))?)
}

fn open_file_at(dir: &RealDir, name: &[u8], access: OFlags) -> io::Result<RealFile> {
    let name = single(name)?;
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::openat(&dir.fd, name, flags, RawMode::from_raw_mode(0o600)))?;
    let stat = rustix::fs::fstat(&fd)?;
    match kind_of(FileType::from_raw_mode(stat.st_mode)) {
        Kind::File => {}
        Kind::Directory => return Err(Errno::ISDIR.into()),
        Kind::Symlink | Kind::Special => return Err(Errno::NXIO.into()),
    }
    let fs = if stat.st_dev == dir.dev { dir.fs } else { rustix::fs::fstatvfs(&fd)?.f_fsid };
    Ok(RealFile { file: File::from(fd), fs })
}

fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    }
}

fn fingerprint(stat: &Stat, fs: u64) -> Fingerprint {
    let time = |secs: i64, nanos: u64| Mtime { secs, nanos: u32::try_from(nanos).unwrap_or(0) };
    Fingerprint {
        fs,
        inode: stat.st_ino,
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        mode: Mode::new(stat.st_mode),
    }
}

fn times(mtime: Option<Mtime>) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let last_modification = mtime.map_or(omit, |at| Timespec { tv_sec: at.secs, tv_nsec: i64::from(at.nanos) });
    Timestamps { last_access: omit, last_modification }
}

/// A name that leads to the inode behind a handle: chmod and utimensat work on it whatever the inode's mode is.
pub(super) fn through(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// fchmod for a handle opened with O_PATH; without /proc the object must be readable.
fn chmod_through(dir: &RealDir, name: &[u8], fd: &OwnedFd, mode: RawMode) -> io::Result<()> {
    match rustix::fs::chmod(through(fd), mode) {
        Err(Errno::NOENT) => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let readable = rustix::fs::openat(&dir.fd, single(name)?, flags, RawMode::empty())?;
            let (a, b) = (rustix::fs::fstat(fd)?, rustix::fs::fstat(&readable)?);
            if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino) {
                return Err(Errno::STALE.into());
            }
            Ok(rustix::fs::fchmod(&readable, mode)?)
        }
        done => Ok(done?),
    }
}

/// Where a file system has no RENAME_NOREPLACE. Into the private directory nothing else writes, so a look before
/// the rename is enough; out of it a hard link refuses a taken name. Between two names of the tree there is no
/// safe order, and the caller goes through the private directory. Without hard links (FAT) a create by the user
/// between the look and the rename would be overwritten: that window of microseconds is the one known exception.
fn rename_without_flags(from: (&RealDir, &[u8]), to: (&RealDir, &[u8])) -> io::Result<()> {
    let (from_name, to_name) = (single(from.1)?, single(to.1)?);
    let is_taken = || match rustix::fs::statat(&to.0.fd, to_name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(io::Error::from(Errno::EXIST)),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    };
    if !from.0.private && !to.0.private {
        return Err(Errno::INVAL.into());
    }
    if !to.0.private {
        match rustix::fs::linkat(&from.0.fd, from_name, &to.0.fd, to_name, AtFlags::empty()) {
            Ok(()) => return Ok(rustix::fs::unlinkat(&from.0.fd, from_name, AtFlags::empty())?),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            Err(error) => return Err(error.into()),
        }
    }
    is_taken()?;
    Ok(rustix::fs::renameat(&from.0.fd, from_name, &to.0.fd, to_name)?)
}

impl Fs for RealFs {
    type Dir = RealDir;
    type File = RealFile;

    fn root_id(&self) -> io::Result<RootId> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open(&self.path, flags, RawMode::empty()))?;
        Ok(RootId { fs: rustix::fs::fstatvfs(&fd)?.f_fsid, inode: rustix::fs::fstat(&fd)?.st_ino })
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::fstatvfs(&self.root.fd)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }

    fn granularity(&self) -> Duration {
        self.granularity
    }

    fn is_durable(&self) -> bool {
        !self.lacks_fsync.load(Ordering::Relaxed)
    }

    fn prepare_private(&self) -> io::Result<()> {
        match self.mkdir(&self.root, PRIVATE_DIR.as_bytes(), Mode::new(0o700)) {
            Err(error) if super::errno(&error) == Errno::EXIST => {}
            done => done?,
        }
        for area in Area::BELOW_BASE {
            self.private(area)?;
        }
        self.sync_dir(&self.base()?)?;
        self.sync_dir(&self.root)
    }

    fn private(&self, area: Area) -> io::Result<Private<RealDir>> {
        let base = self.base()?;
        let Some(name) = area.name() else { return Ok(Private(base)) };
        match open_dir_at(&base.fd, name.as_bytes()) {
            Err(error) if super::errno(&error) == Errno::NOENT => {
                self.mkdir(&base, name.as_bytes(), Mode::new(0o700))?;
                self.sync_dir(&base)?;
            }
            done => return RealDir::new(done?, true).map(Private),
        }
        RealDir::new(open_dir_at(&base.fd, name.as_bytes())?, true).map(Private)
    }

    fn private_child(&self, dir: &Private<RealDir>, name: &[u8]) -> io::Result<Private<RealDir>> {
        RealDir::new(open_dir_at(&dir.fd, name)?, true).map(Private)
    }

    fn open_dir(&self, path: Option<&RelPath>) -> io::Result<RealDir> {
        match path {
            Some(path) => RealDir::new(self.resolve(path)?, false),
            None => {
                let fd = self.root.fd.try_clone()?;
                Ok(RealDir { fd, ..self.root })
            }
        }
    }

    fn open_child(&self, dir: &RealDir, name: &[u8]) -> io::Result<RealDir> {
        let child = RealDir::new(open_dir_at(&dir.fd, name)?, dir.private)?;
        // What RESOLVE_NO_XDEV refuses.
        if child.dev != dir.dev {
            return Err(Errno::XDEV.into());
        }
        if self.is_spelled(dir, name)? { Ok(child) } else { Err(Errno::NOENT.into()) }
    }

    fn list(&self, dir: &RealDir) -> io::Result<Vec<Listed>> {
        let mut names = Vec::new();
        for item in rustix::fs::Dir::new(open_listing(dir)?)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match item.file_type() {
                // Some file systems do not say; a name that is gone again is not there.
                FileType::Unknown => match self.stat(dir, name)? {
                    Some(found) => found.kind,
                    None => continue,
                },
                known => kind_of(known),
            };
            names.push(Listed { name: name.into(), kind });
        }
        Ok(names)
    }

    fn stat(&self, dir: &RealDir, name: &[u8]) -> io::Result<Option<Fingerprint>> {
        match self.stat_folded(dir, name)? {
            Some(found) if self.is_spelled(dir, name)? => Ok(Some(found)),
            _ => Ok(None),
        }
    }

    fn stat_folded(&self, dir: &RealDir, name: &[u8]) -> io::Result<Option<Fingerprint>> {
        let name = single(name)?;
        self.opened_up.steadily(|| {
            match retry_on_intr(|| rustix::fs::statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW)) {
                Ok(stat) => Ok(Some(fingerprint(&stat, dir.fs_of(name.as_bytes(), &stat)?))),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn stat_dir(&self, dir: &RealDir) -> io::Result<Fingerprint> {
        let found = self.opened_up.steadily(|| Ok(Some(fingerprint(&rustix::fs::fstat(&dir.fd)?, dir.fs))))?;
        found.ok_or_else(|| Errno::NOENT.into())
    }

    fn read_link(&self, dir: &RealDir, name: &[u8]) -> io::Result<Vec<u8>> {
        let name = single(name)?;
        Ok(rustix::fs::readlinkat(&dir.fd, name, Vec::new())?.into_bytes())
    }

    fn open(&self, dir: &RealDir, name: &[u8]) -> io::Result<RealFile> {
        open_file_at(dir, name, OFlags::RDONLY)
    }

    fn create(&self, dir: &Private<RealDir>, name: &[u8]) -> io::Result<RealFile> {
        open_file_at(dir, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn open_write(&self, dir: &Private<RealDir>, name: &[u8]) -> io::Result<RealFile> {
        open_file_at(dir, name, OFlags::RDWR)
    }

    fn stat_file(&self, file: &RealFile) -> io::Result<Fingerprint> {
        Ok(fingerprint(&rustix::fs::fstat(&file.file)?, file.fs))
    }

    fn links(&self, file: &RealFile) -> io::Result<u64> {
        // 32 bits wide on some architectures.
        #[allow(clippy::useless_conversion)]
        Ok(u64::from(rustix::fs::fstat(&file.file)?.st_nlink))
    }

    fn read_at(&self, file: &RealFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match file.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, file: &RealFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, file: &RealFile, len: u64) -> io::Result<()> {
        file.file.set_len(len)
    }

    fn copy_range(&self, from: &RealFile, to: &RealFile, offset: u64, len: u64) -> io::Result<u64> {
        let mut done = 0;
        while done < len {
            let (mut at_from, mut at_to) = (offset + done, offset + done);
            let want = usize::try_from((len - done).min(1 << 30)).expect("1 GiB fits into usize");
            let copied = rustix::fs::copy_file_range(&from.file, Some(&mut at_from), &to.file, Some(&mut at_to), want);
            match copied {
                // Some kernels answer 0 in the middle of a file: let read decide.
                Ok(0) => return copy_by_hand(self, from, to, offset + done, len - done).map(|rest| done + rest),
                Ok(count) => done += count as u64,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    return copy_by_hand(self, from, to, offset + done, len - done).map(|rest| done + rest);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn set_attrs_of(&self, file: &RealFile, mode: Mode, mtime: Mtime) -> io::Result<()> {
        rustix::fs::fchmod(&file.file, RawMode::from_raw_mode(mode.bits()))?;
        Ok(rustix::fs::futimens(&file.file, &times(Some(mtime)))?)
    }

    fn is_open_for_write(&self, file: &RealFile) -> io::Result<bool> {
        lease::is_open_for_write(&file.file)
    }

    fn set_attrs(
        &self,
        dir: &RealDir,
        name: &[u8],
        expected: &Fingerprint,
        mode: Mode,
        mtime: Option<Mtime>,
    ) -> io::Result<()> {
        let fd = open_path_at(dir, name)?;
        let stat = rustix::fs::fstat(&fd)?;
        let fs = dir.fs_of(name, &stat)?;
        let found = self.opened_up.steadily(|| Ok(Some(fingerprint(&rustix::fs::fstat(&fd)?, fs))))?;
        let Some(found) = found.filter(|found| found.unchanged_since(expected)) else {
            return Err(Errno::STALE.into());
        };
        if found.kind != Kind::Symlink && found.mode != mode {
            let mut modes = self.opened_up.modes();
            let own = modes.get_mut(&found.inode).filter(|_| found.kind == Kind::Directory);
            let now = if own.is_some() { writable(mode) } else { mode };
            let bits = (stat.st_mode & 0o7000) | now.bits();
            chmod_through(dir, name, &fd, RawMode::from_raw_mode(bits))?;
            if let Some(own) = own {
                *own = mode;
            }
        }
        if mtime.is_some() {
            let through = rustix::fs::utimensat(&fd, "", &times(mtime), AtFlags::EMPTY_PATH);
            if let Err(error) = through {
                // Kernels before 5.8 want a name. A link cannot be reached through /proc without following it.
                if error != Errno::INVAL || found.kind == Kind::Symlink {
                    return Err(error.into());
                }
                rustix::fs::utimensat(rustix::fs::CWD, self::through(&fd), &times(mtime), AtFlags::empty())?;
            }
        }
        Ok(())
    }

    fn open_up(&self, dir: &RealDir) -> io::Result<bool> {
        self.opened_up.open(&dir.fd)
    }

    fn close_again(&self, dir: &RealDir) -> io::Result<()> {
        self.opened_up.close(&dir.fd)
    }

    fn mkdir(&self, dir: &RealDir, name: &[u8], mode: Mode) -> io::Result<()> {
        rustix::fs::mkdirat(&dir.fd, single(name)?, RawMode::from_raw_mode(mode.bits()))?;
        // The umask may have taken bits away.
        let fd = open_path_at(dir, name)?;
        let stat = rustix::fs::fstat(&fd)?;
        if Mode::new(stat.st_mode) == mode {
            return Ok(());
        }
        chmod_through(dir, name, &fd, RawMode::from_raw_mode((stat.st_mode & 0o7000) | mode.bits()))
    }

    fn rmdir(&self, dir: &RealDir, name: &[u8]) -> io::Result<()> {
        match rustix::fs::unlinkat(&dir.fd, single(name)?, AtFlags::REMOVEDIR) {
            // POSIX allows either.
            Err(Errno::EXIST) => Err(Errno::NOTEMPTY.into()),
            done => Ok(done?),
        }
    }

    fn symlink(&self, dir: &RealDir, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), &dir.fd, single(name)?)?)
    }

    fn unlink(&self, dir: &Private<RealDir>, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&dir.fd, single(name)?, AtFlags::empty())?)
    }

    fn rename_noreplace(&self, from: (&RealDir, &[u8]), to: (&RealDir, &[u8])) -> io::Result<()> {
        let (a, b) = (single(from.1)?, single(to.1)?);
        match rustix::fs::renameat_with(&from.0.fd, a, &to.0.fd, b, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => rename_without_flags(from, to),
            done => Ok(done?),
        }
    }

    fn rename_exchange(&self, a: (&RealDir, &[u8]), b: (&RealDir, &[u8])) -> io::Result<()> {
        let (a_name, b_name) = (single(a.1)?, single(b.1)?);
        match rustix::fs::renameat_with(&a.0.fd, a_name, &b.0.fd, b_name, RenameFlags::EXCHANGE) {
            Err(Errno::NOSYS) => Err(Errno::INVAL.into()),
            done => Ok(done?),
        }
    }

    fn write_back(&self, file: &RealFile, offset: u64, len: u64) {
        // Of a range that is dirty nothing is dropped: this begins to write it. Where it does not, a sync does.
        let _ = rustix::fs::fadvise(&file.file, offset, std::num::NonZeroU64::new(len), Advice::DontNeed);
    }

    fn sync_file(&self, file: &RealFile) -> io::Result<()> {
        self.sync_fd(&file.file)
    }

    fn sync_dir(&self, dir: &RealDir) -> io::Result<()> {
        self.sync_fd(&dir.fd)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::syncfs(&self.root.fd))?)
    }
}
