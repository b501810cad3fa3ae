//! A person at a device: creates, edits, saves, renames, deletes, changes types and modes, at random, and syncs some of
//! it as careful programs do: the file, then every directory up to the root. What is overwritten or deleted is read
//! first, from exactly the inode that goes, so that the oracle knows what was taken back. Invariant: an act that returns
//! well and was to be durable is durable.

use super::oracle::Oracle;
use blake3::Hash;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tests::harness::noise;
use tests::sim::rng::Rng;

/// Names of files, so few that people meet.
const NAMES: usize = 8;
/// Most names that are free are found so.
const TRIES_FOR_A_FREE_NAME: usize = 4;
/// Names of directories.
const DIRECTORIES: usize = 3;
/// Deepest directory below a scope.
const DEPTH_MAX: usize = 3;

pub struct User {
    side: usize,
    name: String,
    root: PathBuf,
    /// A directory on the same disk, where what is deleted goes first.
    outside: PathBuf,
    /// Whether this device can lose its power, so that only what is synced is durable.
    forgetful: bool,
    moved: u64,
}

/// What an act wrote.
struct Written {
    path: PathBuf,
    hash: Hash,
    /// Whether the path still led to that file then; the daemon may have put another there, and will make the write
    /// through the old handle a conflict copy in time.
    in_tree: bool,
}

/// The same, if it wrote.
type Wrote = io::Result<Option<Written>>;

impl User {
    pub fn new(side: usize, name: &str, root: &Path, outside: PathBuf, forgetful: bool) -> Self {
        fs::create_dir_all(&outside).expect("a scratch directory");
        Self { side, name: name.to_owned(), root: root.to_owned(), outside, forgetful, moved: 0 }
    }

    /// Does something below a directory of the folder; what, and whether it came about.
    pub fn act(&mut self, scope: &str, rng: &mut Rng, oracle: &mut Oracle) -> (&'static str, io::Result<()>) {
        let durable = !self.forgetful || rng.chance(50);
        let scope = self.root.join(scope);
        let (files, dirs) = entries(&scope);
        let path = if files.is_empty() || rng.chance(35) { invent(rng, &dirs) } else { rng.pick(&files).clone() };
        let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        let mut to = invent(rng, &dirs);
        for _ in 0..TRIES_FOR_A_FREE_NAME {
            if to.symlink_metadata().is_err() {
                break;
            }
            to = invent(rng, &dirs);
        }
        oracle.begins();
        self.touch(&path, oracle);
        let (what, wrote) = match rng.below(100) {
            0..30 => ("write", self.write(&path, rng, durable, oracle)),
            30..48 => ("save", self.save(&path, rng, durable, oracle)),
            48..58 if is_file => ("edit", self.edit(&path, rng, durable, oracle)),
            48..68 => ("delete", self.take_away(&path, oracle).map(|()| None)),
            68..78 => ("rename", self.rename(&path, &to, oracle)),
            78..82 if dirs.len() > 1 => {
                let dir = dirs[1 + rng.below(dirs.len() - 1)].clone();
                self.touch(&dir, oracle);
                ("rename a directory", self.rename(&dir, &to, oracle))
            }
            78..86 => ("mkdir", fs::create_dir_all(&to).map(|()| None)),
            86..90 => ("change the type", self.change_type(&path, rng, durable, oracle)),
            90..95 => ("link", symlink("base/b1", &to).map(|()| None)),
            _ => ("chmod", chmod(&path, rng)),
        };
        self.touch(&to, oracle);
        let done = wrote.and_then(|wrote| {
            if durable && self.forgetful {
                self.sync(wrote.as_ref().map_or(&path, |wrote| &wrote.path))?;
                self.sync(&to)?;
            }
            if durable {
                oracle.all_is_synced();
            }
            if let (true, Some(Written { path, hash, in_tree })) = (durable, wrote) {
                oracle.is_durable(self.side, hash, in_tree, self.story(what, &path));
            }
            Ok(())
        });
        (what, done)
    }

    fn touch(&self, path: &Path, oracle: &mut Oracle) {
        oracle.touches(self.side, self.inside(path).as_os_str().as_bytes());
    }

    fn inside<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    fn story(&self, what: &str, path: &Path) -> String {
        format!("{} wrote durably ({what}) at {}", self.name, self.inside(path).display())
    }

    /// fsync of what stands at a path and of all directories above it.
    fn sync(&self, path: &Path) -> io::Result<()> {
        let meta = path.symlink_metadata();
        if meta.is_ok_and(|meta| meta.is_file() || meta.is_dir()) {
            File::open(path)?.sync_all()?;
        }
        for dir in path.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.root)) {
            match File::open(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                dir => dir?.sync_all()?,
            }
        }
        Ok(())
    }

    fn content(&self, rng: &mut Rng, oracle: &mut Oracle) -> Vec<u8> {
        let len = match rng.below(10) {
            0..6 => rng.below(3_000),
            6..9 => rng.below(60_000),
            _ => 100_000 + rng.below(700_000),
        };
        noise(oracle.number() * 2 + self.side as u64, len + 16)
    }

    /// Opens, truncates, writes.
    fn write(&self, path: &Path, rng: &mut Rng, durable: bool, oracle: &mut Oracle) -> Wrote {
        no_link(path)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        self.read_and_take_back(&mut file, oracle)?;
        let bytes = self.content(rng, oracle);
        let hash = oracle.writes(&bytes);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&bytes)?;
        self.sync_file(&file, durable)?;
        Ok(Some(Written { path: path.to_owned(), hash, in_tree: leads_to(path, &file) }))
    }

    /// Overwrites the first bytes of a file in place and does not sync.
    pub fn patch(&self, path: &Path, oracle: &mut Oracle) -> io::Result<()> {
        oracle.begins();
        self.touch(path, oracle);
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = self.read_and_take_back(&mut file, oracle)?;
        let part = noise(oracle.number() * 2 + self.side as u64, 16.min(bytes.len()));
        bytes[..part.len()].copy_from_slice(&part);
        oracle.writes(&bytes);
        file.rewind()?;
        file.write_all(&part)
    }

    /// Overwrites a part in place, or appends.
    fn edit(&self, path: &Path, rng: &mut Rng, durable: bool, oracle: &mut Oracle) -> Wrote {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = self.read_and_take_back(&mut file, oracle)?;
        let part = noise(oracle.number() * 2 + self.side as u64, 16 + rng.below(9_000));
        let at = rng.below(bytes.len() + 1);
        bytes.resize(bytes.len().max(at + part.len()), 0);
        bytes[at..at + part.len()].copy_from_slice(&part);
        let hash = oracle.writes(&bytes);
        file.seek(io::SeekFrom::Start(at as u64))?;
        file.write_all(&part)?;
        self.sync_file(&file, durable)?;
        Ok(Some(Written { path: path.to_owned(), hash, in_tree: leads_to(path, &file) }))
    }

    /// Through the handle that was written to: the daemon may have put another file at the path.
    fn sync_file(&self, file: &File, durable: bool) -> io::Result<()> {
        if durable && self.forgetful { file.sync_all() } else { Ok(()) }
    }

    fn read_and_take_back(&self, file: &mut File, oracle: &mut Oracle) -> io::Result<Vec<u8>> {
        let mut before = Vec::new();
        file.read_to_end(&mut before)?;
        oracle.taken_back(self.side, &blake3::hash(&before));
        Ok(before)
    }

    fn outside(&mut self) -> PathBuf {
        self.moved += 1;
        self.outside.join(self.moved.to_string())
    }

    /// Writes beside the folder and changes places with what stands at the path.
    fn save(&mut self, path: &Path, rng: &mut Rng, durable: bool, oracle: &mut Oracle) -> Wrote {
        no_link(path)?;
        let outside = self.outside();
        let bytes = self.content(rng, oracle);
        let hash = oracle.writes(&bytes);
        let mut file = File::create(&outside)?;
        file.write_all(&bytes)?;
        self.sync_file(&file, durable)?;
        drop(file);
        match renameat_with(CWD, &outside, CWD, path, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) if path.symlink_metadata().is_ok_and(|meta| meta.is_file()) => {
                renameat_with(CWD, &outside, CWD, path, RenameFlags::EXCHANGE)?;
                self.forget(&outside, oracle)?;
            }
            done => done?,
        }
        Ok(Some(Written { path: path.to_owned(), hash, in_tree: true }))
    }

    /// Deletes a file, link or directory.
    pub fn take_away(&mut self, path: &Path, oracle: &mut Oracle) -> io::Result<()> {
        let away = self.outside();
        fs::rename(path, &away)?;
        self.forget(&away, oracle)
    }

    /// Removes what is out of the tree, and says what it held.
    fn forget(&self, away: &Path, oracle: &mut Oracle) -> io::Result<()> {
        let meta = away.symlink_metadata()?;
        if meta.is_file() {
            oracle.taken_back(self.side, &blake3::hash(&fs::read(away)?));
            return fs::remove_file(away);
        }
        if meta.is_dir() {
            super::oracle::hashes(away).iter().for_each(|hash| oracle.taken_back(self.side, hash));
            return fs::remove_dir_all(away);
        }
        fs::remove_file(away)
    }

    fn rename(&self, from: &Path, to: &Path, oracle: &mut Oracle) -> Wrote {
        oracle.renames(self.inside(from).as_os_str().as_bytes(), self.inside(to).as_os_str().as_bytes());
        self.touch(to, oracle);
        renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?;
        Ok(None)
    }

    /// A file becomes a directory or link, a directory a file.
    fn change_type(&mut self, path: &Path, rng: &mut Rng, durable: bool, oracle: &mut Oracle) -> Wrote {
        let was_file = path.symlink_metadata()?.is_file();
        self.take_away(path, oracle)?;
        match rng.below(3) {
            0 if was_file => symlink("base/b2", path).map(|()| None),
            1 if was_file => {
                let inside = path.join(format!("f{}", rng.below(NAMES)));
                self.touch(&inside, oracle);
                self.write(&inside, rng, durable, oracle)
            }
            _ => self.write(path, rng, durable, oracle),
        }
    }
}

fn leads_to(path: &Path, file: &File) -> bool {
    let number = |meta: io::Result<fs::Metadata>| meta.map(|meta| meta.ino()).ok();
    number(file.metadata()) == number(path.symlink_metadata())
}

/// People who write through a link write elsewhere; these do not.
fn no_link(path: &Path) -> io::Result<()> {
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    if is_link { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
}

fn chmod(path: &Path, rng: &mut Rng) -> Wrote {
    no_link(path)?;
    let is_dir = path.metadata()?.is_dir();
    let mode = *rng.pick(if is_dir { &[0o755, 0o700, 0o750] } else { &[0o644, 0o600, 0o640] });
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map(|()| None)
}

/// Files with links, and directories with the first; in order.
fn entries(scope: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut dirs, mut todo) = (Vec::new(), vec![scope.to_owned()], vec![scope.to_owned()]);
    while let Some(dir) = todo.pop() {
        let mut found: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
        found.sort_by_key(fs::DirEntry::file_name);
        for entry in found {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
                dirs.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    (files, dirs)
}

/// A name that may be there or not.
fn invent(rng: &mut Rng, dirs: &[PathBuf]) -> PathBuf {
    let scope = &dirs[0];
    let dir = rng.pick(dirs);
    let is_deep = dir.strip_prefix(scope).is_ok_and(|inside| inside.components().count() >= DEPTH_MAX);
    let dir = if is_deep { scope } else { dir };
    dir.join(if rng.chance(25) { format!("d{}", rng.below(DIRECTORIES)) } else { format!("f{}", rng.below(NAMES)) })
}
