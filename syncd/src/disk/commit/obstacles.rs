//! What stands in the way and that no scan reports: meeting it again and again would not help, so it is a problem of
//! the path and not a disk that moved.

use super::Batch;
use crate::disk::fs::{Errno, Fs, errno};
use crate::disk::tree::{At, stop};
use protocol::model::RelPath;
use protocol::sync::{Kind, Outcome, Problem, ProblemCode};
use std::io;

impl<F: Fs> Batch<'_, F> {
    /// Why a name could not be made.
    pub(super) fn refused(&self, at: &At<F>, error: &io::Error, doing: &str) -> Outcome {
        if errno(error) != Errno::EXIST {
            return stop(error, doing);
        }
        let fs = self.tree.fs;
        match fs.stat(&at.dir, &at.name) {
            Ok(Some(found)) if found.kind == Kind::Special => blocked(),
            // Gone again, or there by another spelling.
            Ok(None) if matches!(fs.stat_folded(&at.dir, &at.name), Ok(Some(_))) => clash(),
            _ => Outcome::DiskMoved,
        }
    }

    /// Whether what keeps `at` from being made is `old` itself, by the spelling that it has now.
    pub(super) fn is_respelled(&self, old: &At<F>, at: &At<F>, error: &io::Error) -> bool {
        let fs = self.tree.fs;
        let stat = |at: &At<F>| fs.stat(&at.dir, &at.name).ok().flatten();
        let stands = || fs.stat_folded(&at.dir, &at.name).ok().flatten();
        errno(error) == Errno::EXIST
            && stat(at).is_none()
            && stat(old).zip(stands()).is_some_and(|(old, stands)| old.inode == stands.inode)
    }

    /// Why a directory could not be removed.
    pub(super) fn stays(&self, at: &At<F>, error: &io::Error) -> Outcome {
        let fs = self.tree.fs;
        match stop(error, "cannot remove the directory") {
            Outcome::NotEmpty { .. } => {
                let listed = fs.open_child(&at.dir, &at.name).and_then(|dir| fs.list(&dir));
                Outcome::NotEmpty { items: listed.map_or(0, |names| names.len()) }
            }
            other => other,
        }
    }

    /// Why the directory of a path could not be opened.
    pub(super) fn unreachable(&mut self, path: &RelPath, error: &io::Error) -> Outcome {
        let mut above = path.parent();
        while let Some(dir) = above {
            match self.tree.stat(&dir) {
                Ok(Some(found)) if found.kind == Kind::Special => return blocked(),
                // The scan asks a person whether what was in the directory is to go.
                Ok(Some(found)) if found.kind == Kind::Symlink => return replaced_by_link(),
                _ => {}
            }
            above = dir.parent();
        }
        stop(error, "cannot open the directory")
    }
}

fn blocked() -> Outcome {
    let words = "something that is not synced (a pipe, socket or device) stands there".to_owned();
    Outcome::Failed(Problem { code: ProblemCode::Blocked, words })
}

fn replaced_by_link() -> Outcome {
    let words = "a link has taken the place of its directory".to_owned();
    Outcome::Failed(Problem { code: ProblemCode::Blocked, words })
}

fn clash() -> Outcome {
    let words = "a name that differs only in case or accents stands there, and the file system cannot hold both";
    Outcome::Failed(Problem { code: ProblemCode::Name, words: words.to_owned() })
}
