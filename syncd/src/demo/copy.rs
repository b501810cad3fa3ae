//! The copy that the demo works on: what of the user's directory is copied, and copying it. Only reads the original.
//! What no folder ever syncs (private files of synchronizers, sockets, devices) stays out, so that the two trees
//! must be equal in everything that is there.

use crate::disk::ignore::Ignore;
use anyhow::{Context, Result, bail};
use protocol::model::RelPath;
use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// More than this would no longer be a demo; the rest stays out and that is said.
const FILES_MAX: u64 = 50_000;
/// As above, in bytes.
const BYTES_MAX: u64 = 1 << 30;
/// A repository's history is copied up to this many bytes.
const GIT_BYTES_MAX: u64 = 32 << 20;
/// Directories with this file are made again at will (<https://bford.info/cachedir/>), for instance by cargo.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// The directory that is shown.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) dir: PathBuf,
    /// Nobody named it: caches and a large history stay out.
    chosen_by_default: bool,
}

/// What will be copied, in the order in which it can be made.
#[derive(Debug, Default)]
pub(super) struct Plan {
    items: Vec<Item>,
    source: PathBuf,
    /// Regular files.
    pub(super) files: u64,
    bytes: u64,
    /// Could not be read, or is nothing that is synced.
    pub(super) left_out: u64,
    /// The directory holds more than a demo needs.
    pub(super) cut: bool,
}

#[derive(Debug)]
struct Item {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory,
    File,
    Symlink,
}

impl Source {
    pub(super) fn choose(dir: Option<PathBuf>) -> Result<Self> {
        let chosen_by_default = dir.is_none();
        let dir = dir.unwrap_or_else(|| PathBuf::from("."));
        let real = fs::canonicalize(&dir).with_context(|| format!("cannot open {}", dir.display()))?;
        if !real.is_dir() {
            bail!("{} is not a directory", dir.display());
        }
        Ok(Self { dir: real, chosen_by_default })
    }

    /// Walks the directory in the order of names.
    pub(super) fn plan(&self, stop: &CancellationToken) -> Result<Plan> {
        let mut plan = Plan { source: self.dir.clone(), ..Plan::default() };
        let mut todo = vec![PathBuf::new()];
        while let Some(below) = todo.pop() {
            if stop.is_cancelled() {
                bail!("interrupted");
            }
            let Ok(listing) = fs::read_dir(self.dir.join(&below)) else {
                plan.left_out += 1;
                continue;
            };
            let mut names: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
            names.sort();
            let mut deeper = Vec::new();
            for name in names {
                let path = below.join(name);
                match self.item(&path) {
                    Some((kind, len)) => {
                        if !plan.add(&path, kind, len) {
                            return Ok(plan);
                        }
                        deeper.push(path);
                    }
                    None => plan.left_out += 1,
                }
            }
            // What comes first by name is taken first.
            todo.extend(deeper.into_iter().rev().filter(|path| self.is_directory(path)));
        }
        Ok(plan)
    }

    fn is_directory(&self, path: &Path) -> bool {
        fs::symlink_metadata(self.dir.join(path)).is_ok_and(|meta| meta.is_dir())
    }

    /// `None`: stays out.
    fn item(&self, path: &Path) -> Option<(Kind, u64)> {
        let full = self.dir.join(path);
        let meta = fs::symlink_metadata(&full).ok()?;
        let rel = RelPath::parse(path.as_os_str().as_bytes()).ok()?;
        // Without rules of its own the copy must be synced as a whole.
        let rules = path == Path::new(".syncignore");
        if rules || Ignore::default().ignores_itself(&rel, meta.is_dir()) {
            return None;
        }
        let kind = kind_of(&meta)?;
        if self.chosen_by_default && matches!(kind, Kind::Directory) {
            let large_history = path == Path::new(".git") && du(&full, GIT_BYTES_MAX) > GIT_BYTES_MAX;
            if large_history || full.join(CACHE_TAG).exists() || path == Path::new("target") {
                return None;
            }
        }
        Some((kind, meta.len()))
    }
}

fn kind_of(meta: &Metadata) -> Option<Kind> {
    let kind = meta.file_type();
    if kind.is_dir() {
        Some(Kind::Directory)
    } else if kind.is_file() {
        Some(Kind::File)
    } else if kind.is_symlink() {
        Some(Kind::Symlink)
    } else {
        None
    }
}

/// Bytes below a directory; stops counting beyond `enough`.
fn du(dir: &Path, enough: u64) -> u64 {
    let mut sum = 0;
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => todo.push(entry.path()),
                Ok(meta) => sum += meta.len(),
                Err(_) => {}
            }
        }
        if sum > enough {
            break;
        }
    }
    sum
}

impl Plan {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// False: it is enough.
    fn add(&mut self, path: &Path, kind: Kind, len: u64) -> bool {
        if matches!(kind, Kind::File) {
            if self.files == FILES_MAX || self.bytes + len > BYTES_MAX {
                self.cut = true;
                return false;
            }
            self.files += 1;
            self.bytes += len;
        }
        self.items.push(Item { path: path.to_owned(), kind });
        true
    }

    /// Copies everything to `root`, which does not exist yet. What vanished or cannot be read meanwhile stays out.
    pub(super) fn copy_to(&self, root: &Path, stop: &CancellationToken) -> Result<()> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        for item in &self.items {
            if stop.is_cancelled() {
                bail!("interrupted");
            }
            let (from, to) = (self.source.join(&item.path), root.join(&item.path));
            match copy_item(&item.kind, &from, &to) {
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    return Err(error).with_context(|| format!("cannot copy into {}", root.display()));
                }
                // An unreadable directory has no copy, and then neither has what is in it.
                Err(_) | Ok(()) => {}
            }
        }
        Ok(())
    }
}

fn copy_item(kind: &Kind, from: &Path, to: &Path) -> std::io::Result<()> {
    match kind {
        Kind::Directory => {
            fs::create_dir(to)?;
            // The daemons run as this user and must be able to write there.
            fs::set_permissions(to, Permissions::from_mode(mode(from)? | 0o700))
        }
        Kind::Symlink => std::os::unix::fs::symlink(fs::read_link(from)?, to),
        Kind::File => {
            let modified = fs::metadata(from)?.modified()?;
            fs::copy(from, to)?;
            fs::set_permissions(to, Permissions::from_mode(mode(from)? | 0o400))?;
            File::open(to)?.set_modified(modified)
        }
    }
}

fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}
