//! One person at one device. Whatever a person does that destroys something is done so that the oracle learns exactly what:
//! files are overwritten through the handle they were read through, and what is replaced or deleted is swapped or moved out
//! of the tree in one step and read there. Trouble (somebody else was quicker) is no error: people shrug and go on.

use super::oracle::Oracle;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tests::harness::{noise, set_mtime};
use tests::sim::rng::Rng;

/// Files and directories of one person's folder: over that deleting is more likely.
const ENTRIES_MAX: usize = 400;
/// Names that people on different devices choose alike.
const NAMES: usize = 25;

pub struct User {
    pub name: String,
    root: PathBuf,
    /// Beside the root, on the same file system.
    outside: PathBuf,
    moved: u64,
}

impl User {
    pub fn new(name: &str, root: &Path, outside: PathBuf) -> Self {
        fs::create_dir_all(&outside).expect("a scratch directory");
        Self { name: name.to_owned(), root: root.to_owned(), outside, moved: 0 }
    }

    /// Does one thing. What it was, and whether it came about.
    pub fn act(&mut self, rng: &mut Rng, oracle: &mut Oracle) -> (&'static str, bool) {
        let (files, dirs) = self.entries();
        let existing = |rng: &mut Rng| (!files.is_empty()).then(|| rng.pick(&files).clone());
        let path = match rng.below(3) {
            0 => self.invent(rng, &dirs),
            _ => existing(rng).unwrap_or_else(|| self.invent(rng, &dirs)),
        };
        let crowded = files.len() + dirs.len() > ENTRIES_MAX;
        let (what, done) = match rng.below(if crowded { 60 } else { 100 }) {
            0..8 => ("delete", self.take_away(&path, oracle)),
            8..10 => ("delete a directory", self.take_away(rng.pick::<PathBuf>(&dirs), oracle)),
            10..16 => ("rename", self.rename(&path, &self.invent(rng, &dirs))),
            16..18 => ("rename a directory", self.rename(rng.pick::<PathBuf>(&dirs), &self.invent(rng, &dirs))),
            18..24 => ("chmod", chmod(&path, rng)),
            24..28 => ("touch", touch(&path, rng)),
            28..36 => ("save as vim does", self.save_as_vim(&path, rng, oracle)),
            36..44 => ("save as an office does", self.save_as_office(&path, rng, oracle)),
            44..52 => ("append", self.append(&path, oracle)),
            52..60 => ("save", self.save(&path, rng, oracle)),
            60..78 => ("write", self.write(&path, rng, oracle)),
            78..84 => ("mkdir", fs::create_dir_all(self.invent(rng, &dirs))),
            84..88 => ("link", link(&self.invent(rng, &dirs), rng)),
            88..90 => ("hard link", fs::hard_link(&path, fit_for(&path, self.invent(rng, &dirs)))),
            90..94 => ("copy", self.copy(&path, &self.invent(rng, &dirs))),
            _ => ("write a large file", self.write_large(&path, rng, oracle)),
        };
        (what, done.is_ok())
    }

    /// Files with links, and directories with the root; never what is the daemon's.
    fn entries(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let (mut files, mut dirs) = (Vec::new(), vec![self.root.join("d0")]);
        let mut todo = vec![self.root.clone()];
        while let Some(dir) = todo.pop() {
            let mut entries: Vec<_> = fs::read_dir(&dir).into_iter().flatten().flatten().collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && entry.file_name() != ".syncd" => {
                        todo.push(entry.path());
                        dirs.push(entry.path());
                    }
                    Ok(kind) if !kind.is_dir() => files.push(entry.path()),
                    _ => {}
                }
            }
        }
        (files, dirs)
    }

    /// A name that may be there or not, in a directory that is there or one of the first.
    fn invent(&self, rng: &mut Rng, dirs: &[PathBuf]) -> PathBuf {
        let dir = match rng.below(4) {
            0 => self.root.clone(),
            1 => self.root.join(format!("d{}", rng.below(4))),
            _ => rng.pick(dirs).clone(),
        };
        let deep = dir.strip_prefix(&self.root).is_ok_and(|inside| inside.components().count() > 4);
        let dir = if deep { self.root.clone() } else { dir };
        let name = if rng.chance(20) { format!("d{}", rng.below(6)) } else { format!("f{}", rng.below(NAMES)) };
        dir.join(name)
    }

    fn story(&self, what: &str, path: &Path) -> String {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        format!("{} on {} at {}", what, self.name, inside.display())
    }

    fn content(&self, what: &str, path: &Path, len: usize, oracle: &mut Oracle) -> Vec<u8> {
        let tag = oracle.tag(self.story(what, path));
        let seed = oracle.written();
        [tag.as_bytes(), &noise(seed, len), b"\n", tag.as_bytes()].concat()
    }

    fn write(&self, path: &Path, rng: &mut Rng, oracle: &mut Oracle) -> io::Result<()> {
        self.write_len(path, rng.below(3_000), oracle)
    }

    fn write_large(&self, path: &Path, rng: &mut Rng, oracle: &mut Oracle) -> io::Result<()> {
        self.write_len(path, 200_000 + rng.below(1_500_000), oracle)
    }

    /// Opens, truncates, writes.
    fn write_len(&self, path: &Path, len: usize, oracle: &mut Oracle) -> io::Result<()> {
        no_link(path)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut before = Vec::new();
        file.read_to_end(&mut before)?;
        oracle.taken_back(&before);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&self.content("write", path, len, oracle))
    }

    fn append(&self, path: &Path, oracle: &mut Oracle) -> io::Result<()> {
        no_link(path)?;
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(oracle.tag(self.story("append", path)).as_bytes())
    }

    fn outside(&mut self) -> PathBuf {
        self.moved += 1;
        self.outside.join(self.moved.to_string())
    }

    /// Writes beside the folder and changes places with what stands at the path.
    fn save(&mut self, path: &Path, rng: &mut Rng, oracle: &mut Oracle) -> io::Result<()> {
        let outside = self.outside();
        fs::write(&outside, self.content("save", path, rng.below(9_000), oracle))?;
        self.put_over(&outside, path, oracle)
    }

    /// Moves a new file to a path; what it replaces is taken back. A file that cannot get there was never written.
    fn put_over(&mut self, new: &Path, path: &Path, oracle: &mut Oracle) -> io::Result<()> {
        let free = renameat_with(CWD, new, CWD, path, RenameFlags::NOREPLACE);
        let done = match free {
            Err(rustix::io::Errno::EXIST) if path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) => {
                renameat_with(CWD, new, CWD, path, RenameFlags::EXCHANGE)
            }
            done => done,
        };
        // What stands there now was replaced, or never came into the folder.
        if new.exists() {
            let away = self.outside();
            fs::rename(new, &away)?;
            oracle.taken_away(&away);
            remove(&away);
        }
        done.map_err(io::Error::from)
    }

    fn take_away(&mut self, path: &Path, oracle: &mut Oracle) -> io::Result<()> {
        let away = self.outside();
        fs::rename(path, &away)?;
        oracle.taken_away(&away);
        remove(&away);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        renameat_with(CWD, from, CWD, fit_for(from, to.to_owned()), RenameFlags::NOREPLACE).map_err(io::Error::from)
    }

    /// The old file becomes a backup, a new one is written, the backup goes.
    fn save_as_vim(&mut self, path: &Path, rng: &mut Rng, oracle: &mut Oracle) -> io::Result<()> {
        no_link(path)?;
        let backup = PathBuf::from(format!("{}~", path.display()));
        self.rename(path, &backup)?;
        let mut new = OpenOptions::new().write(true).create_new(true).open(path)?;
        new.write_all(&self.content("vim", path, rng.below(5_000), oracle))?;
        self.take_away(&backup, oracle)
    }

    /// A lock beside it, a new file beside it, renamed over it, and the lock goes.
    fn save_as_office(&mut self, path: &Path, rng: &mut Rng, oracle: &mut Oracle) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let name = name.to_string_lossy();
        let (lock, new) = (parent.join(format!(".~lock.{name}#")), parent.join(format!("lu{name}.tmp")));
        fs::write(&lock, "locked")?;
        let made = OpenOptions::new().write(true).create_new(true).open(&new);
        let saved = made.and_then(|mut file| {
            file.write_all(&self.content("office", path, rng.below(20_000), oracle))?;
            self.put_over(&new, path, oracle)
        });
        self.take_away(&lock, oracle)?;
        saved
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        no_link(from)?;
        let bytes = fs::read(from)?;
        OpenOptions::new().write(true).create_new(true).open(to)?.write_all(&bytes)
    }
}

/// Makes a link that leads somewhere, perhaps.
fn link(at: &Path, rng: &mut Rng) -> io::Result<()> {
    symlink(format!("d{}/f{}", rng.below(4), rng.below(NAMES)), link_name(at))
}

/// Links have names of their own: one in the place of a directory that was synced is a question, and nobody answers here.
fn link_name(at: &Path) -> PathBuf {
    let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
    at.with_file_name(format!("l{name}"))
}

/// Where the object at `from` may go when it is to go to `to`.
fn fit_for(from: &Path, to: PathBuf) -> PathBuf {
    if from.is_symlink() { link_name(&to) } else { to }
}

/// People who write through a link write elsewhere; these do not.
fn no_link(path: &Path) -> io::Result<()> {
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    if is_link { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
}

fn chmod(path: &Path, rng: &mut Rng) -> io::Result<()> {
    no_link(path)?;
    let mode = *rng.pick(&[0o644, 0o600, 0o755, 0o640]);
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn touch(path: &Path, rng: &mut Rng) -> io::Result<()> {
    no_link(path)?;
    fs::metadata(path)?;
    if path.is_file() {
        set_mtime(path, 1_000_000_000 + i64::try_from(rng.below(800_000_000)).unwrap_or(0), 5);
    }
    Ok(())
}

/// Out of the tree it is nobody's any more; what cannot go is swept with the scratch directory.
fn remove(path: &Path) {
    let _ = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}
