//! Where the built programs are: beside the running one. In a test they are built when missing or older than their
//! sources, once per process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The daemon.
    pub syncd: PathBuf,
    /// The command line tool.
    pub syncctl: PathBuf,
}

impl Programs {
    /// Those beside this test, built if need be.
    ///
    /// # Panics
    /// When they cannot be built.
    #[must_use]
    pub fn built() -> Self {
        static BUILT: OnceLock<Programs> = OnceLock::new();
        BUILT.get_or_init(build).clone()
    }

    /// Those in the directory of this program, as they are; `None` when one is missing.
    #[must_use]
    pub fn beside() -> Option<Self> {
        let programs = Self::in_directory(&directory());
        (programs.syncd.is_file() && programs.syncctl.is_file()).then_some(programs)
    }

    fn in_directory(directory: &Path) -> Self {
        Self { syncd: directory.join("syncd"), syncctl: directory.join("syncctl") }
    }
}

/// `target/debug` for a test in `target/debug/deps`, and for a program in `target/debug`.
fn directory() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let directory = own.parent().expect("a program is in a directory");
    if directory.ends_with("deps") { directory.parent().unwrap_or(directory).to_owned() } else { directory.to_owned() }
}

fn build() -> Programs {
    let directory = directory();
    let programs = Programs::in_directory(&directory);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of a workspace");
    if is_fresh(&programs, workspace) {
        return programs;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", "syncd", "-p", "syncctl"]).current_dir(workspace);
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    let target = directory.parent().expect("a profile's directory is in the target directory");
    let status = cargo.arg("--target-dir").arg(target).status().expect("cargo runs");
    assert!(status.success(), "syncd and syncctl do not build");
    programs
}

fn is_fresh(programs: &Programs, workspace: &Path) -> bool {
    let newest = |member: &str| newest_source(&workspace.join(member));
    let protocol = newest("protocol");
    [("syncd", &programs.syncd), ("syncctl", &programs.syncctl)].into_iter().all(|(member, program)| {
        let built = std::fs::metadata(program).and_then(|meta| meta.modified());
        built.is_ok_and(|built| built > newest(member).max(protocol))
    })
}

fn newest_source(directory: &Path) -> SystemTime {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.fold(SystemTime::UNIX_EPOCH, |newest, entry| {
        let path = entry.path();
        let is_source = path.extension().is_some_and(|extension| extension == "rs" || extension == "toml");
        let modified = match entry.file_type() {
            Ok(kind) if kind.is_dir() => newest_source(&path),
            Ok(_) if is_source => entry.metadata().and_then(|meta| meta.modified()).unwrap_or(newest),
            _ => newest,
        };
        newest.max(modified)
    })
}
