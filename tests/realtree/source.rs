//! The tree that is synced: the sources of every crate that cargo has fetched, and Debian's Linux kernel where it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use tests::harness::{Kind, tree};

/// Debian's package `linux-source-6.1` puts it there.
const KERNEL: &str = "/usr/src/linux-source-6.1.tar.xz";
/// Fewer files are no real tree.
const FILES_MIN: usize = 80_000;

/// A directory to copy from.
pub struct Source {
    directory: PathBuf,
    /// Files and links in it.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    _scratch: Option<tempfile::TempDir>,
}

impl Source {
    /// Takes `chosen`, or unpacks the crates and the kernel below `scratch`.
    pub fn prepare(scratch: &Path, chosen: Option<&Path>) -> Self {
        let (directory, made) = match chosen {
            Some(directory) => (directory.to_owned(), None),
            None => {
                let made = tempfile::Builder::new().prefix("realtree-source-").tempdir_in(scratch).expect("scratch");
                unpack(made.path());
                (made.path().to_owned(), Some(made))
            }
        };
        let (mut files, mut bytes) = (0, 0);
        for node in tree(&directory).into_values() {
            match node.kind {
                Kind::File(len, _) => (files, bytes) = (files + 1, bytes + len),
                Kind::Link(_) => files += 1,
                Kind::Directory | Kind::Special => {}
            }
        }
        if chosen.is_none() && files < FILES_MIN {
            eprintln!("warning: only {files} files: is {KERNEL} missing? (apt-get install linux-source-6.1)");
        }
        Self { directory, files, bytes, _scratch: made }
    }

    /// Copies it, times and links included.
    pub fn copy_to(&self, to: &Path) {
        copy(&self.directory, to);
    }
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from.join(".")).arg(to).status();
    assert!(done.expect("cp runs").success(), "cannot copy {}", from.display());
}

fn unpack(to: &Path) {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let crates = home.map(|home| home.join("registry/src")).filter(|crates| crates.is_dir());
    if let Some(crates) = crates {
        std::fs::create_dir(to.join("crates")).expect("scratch");
        copy(&crates, &to.join("crates"));
    }
    if Path::new(KERNEL).is_file() {
        let done = Command::new("tar").args(["-xf", KERNEL, "-C"]).arg(to).status();
        assert!(done.expect("tar runs").success(), "cannot unpack {KERNEL}");
    }
}
