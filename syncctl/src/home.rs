//! Which daemon is meant: the same rules as the daemon's own (`--home`, `SYNCD_HOME`, the platform's directory), and how
//! paths on the command line become the absolute ones that the daemon knows.

use crate::failure::{Failure, Result};
use protocol::wire::control::{PathText, SOCKET_PATH};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A daemon's home.
#[derive(Clone, Debug)]
pub struct Home {
    /// Absolute.
    pub root: PathBuf,
    /// Whether it is not the platform's default, so that commands which start a daemon must name it.
    pub chosen: bool,
}

impl Home {
    /// The home that `flag` or the environment names, or the platform's.
    pub fn resolve(flag: Option<&Path>) -> Result<Self> {
        let variable = std::env::var_os("SYNCD_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
        let chosen = flag.map(Path::to_owned).or(variable);
        let platform = || directories::ProjectDirs::from("", "", "syncd").map(|dirs| dirs.data_local_dir().to_owned());
        let named = chosen.is_some();
        let root = chosen
            .or_else(platform)
            .ok_or_else(|| Failure::new("no home directory is known").hint("give --home DIR or set SYNCD_HOME"))?;
        let root = std::path::absolute(root).map_err(|_| Failure::usage("the home's path is empty"))?;
        Ok(Self { root, chosen: named })
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join(SOCKET_PATH)
    }

    /// The private directory of the keys.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The private directory of the socket and the lock.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The settings file.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Where `syncctl start` lets the daemon write.
    pub fn log(&self) -> PathBuf {
        self.root.join("syncd.log")
    }
}

/// A path as the daemon knows it: absolute, links in its directories followed, but not one at its end: that may be what
/// is synced. Parts that do not exist (a deleted file) stay as they are.
pub fn absolute(path: &Path) -> Result<PathText> {
    let path = lexical(&std::path::absolute(path).map_err(|_| Failure::usage("the path is empty"))?);
    let mut rest = PathBuf::new();
    let mut existing = path.as_path();
    while let Some((parent, name)) = existing.parent().zip(existing.file_name()) {
        rest = if rest.as_os_str().is_empty() { PathBuf::from(name) } else { Path::new(name).join(rest) };
        existing = parent;
        if let Ok(real) = std::fs::canonicalize(existing) {
            return Ok(PathText::new(real.join(rest).as_os_str().as_bytes()));
        }
    }
    Ok(PathText::new(path.as_os_str().as_bytes()))
}

/// A directory that is to be synced: links followed wherever it exists.
pub fn directory(path: &Path) -> Result<PathText> {
    match std::fs::canonicalize(path) {
        Ok(real) => Ok(PathText::new(real.as_os_str().as_bytes())),
        Err(_) => absolute(path),
    }
}

/// Takes `.` and `..` out by text, when that cannot be wrong: a `..` behind an existing directory is looked up instead.
fn lexical(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean = std::fs::canonicalize(&clean).unwrap_or(clean);
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_what_the_daemon_knows() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("real/dead")).unwrap();
        let rows = [
            ("real/file", "real/file"),
            ("link/file", "real/file"),
            ("link/gone/../file", "real/file"),
            ("link/dead", "real/dead"),
            ("link", "link"),
            ("gone/a/b", "gone/a/b"),
            ("real/../link/x", "real/x"),
            ("link/../x", "x"),
        ];
        for (given, known) in rows {
            let expected = root.join(known);
            assert_eq!(absolute(&root.join(given)).unwrap().text(), expected.to_str().unwrap(), "{given}");
        }
        assert_eq!(directory(&root.join("link")).unwrap().text(), root.join("real").to_str().unwrap());
        assert!(absolute(Path::new("")).is_err());
        assert_eq!(absolute(Path::new("/")).unwrap().text(), "/");
    }
}
