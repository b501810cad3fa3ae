//! One object on disk against its row: what there is to tell. Shared by the walk and by single looks.

use super::queue::Teller;
use super::{ScanEvent, Scanner};
use crate::disk::fs::{Fs, problem};
use crate::disk::hash::{HashOutcome, Hasher};
use protocol::limits::SYMLINK_TARGET_LEN_MAX;
use protocol::model::{Chunking, Content, RelPath};
use protocol::sync::{Fingerprint, Have, Kind, Observation, Observed, Problem, ProblemCode};
use std::io;

/// Rows read at once below something that is gone.
const PAGE: usize = 256;
/// Looks at a link that changes while it is read.
const LINK_TRIES: usize = 3;

/// What is left to do about an object after a first look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// Read the file.
    Hash(Option<Chunking>),
    /// Look into the directory.
    Enter,
    /// It stays as recorded, and so does everything below: the view is not complete.
    Frozen,
}

/// A problem that is no errno.
pub(super) fn because(code: ProblemCode, words: &str) -> Problem {
    Problem { code, words: words.to_owned() }
}

/// Whether an earlier finding still says all about the object.
pub(super) fn is_settled(earlier: &Observed, found: &Fingerprint) -> bool {
    let racy = matches!(earlier, Observed::File { racy: true, .. });
    !racy && earlier.fingerprint().is_some_and(|earlier| found.unchanged_since(earlier))
}

impl<F: Fs> Scanner<'_, F> {
    /// Tells what is to tell about `path` without reading a file.
    pub(super) fn compare(
        &self,
        dir: &F::Dir,
        path: &RelPath,
        found: &Fingerprint,
        have: Option<&Have>,
        root_fs: u64,
        teller: &mut Teller<'_>,
    ) -> Rest {
        if found.fs != root_fs {
            teller.problem(Some(path), because(ProblemCode::Blocked, "another file system is mounted here"));
            return Rest::Frozen;
        }
        let same = have.and_then(|have| have.fingerprint.as_ref()).is_some_and(|have| found.unchanged_since(have));
        let is_known = (same && have.is_some_and(|have| !have.racy)) || (!same && self.is_local(path, found));
        let was_directory = have.is_some_and(|have| have.entry.content.is_directory());
        match found.kind {
            Kind::Directory => {
                if !is_known {
                    teller.found(path, Observed::Directory { fingerprint: *found });
                }
                Rest::Enter
            }
            Kind::Special => {
                let words = "not a file, directory or link";
                teller.problem(Some(path), because(ProblemCode::Special, words));
                Rest::Nothing
            }
            Kind::Symlink if was_directory && self.rows.live_below(path).is_some() => {
                // The user may have moved the directory to another disk: that deletes nothing on other devices.
                let words = "a link has taken the place of a directory with synced files";
                teller.problem(Some(path), because(ProblemCode::Blocked, words));
                Rest::Frozen
            }
            Kind::Symlink | Kind::File if is_known => Rest::Nothing,
            Kind::Symlink | Kind::File => {
                if was_directory {
                    self.tell_missing_below(path, teller);
                }
                if found.kind == Kind::Symlink {
                    return self.tell_link(dir, path, teller);
                }
                Rest::Hash(have.and_then(|have| have.entry.content.file()).map(|file| file.chunking))
            }
        }
    }

    pub(super) fn tell_link(&self, dir: &F::Dir, path: &RelPath, teller: &mut Teller<'_>) -> Rest {
        match self.read_link(dir, path.name()) {
            Ok(Some((fingerprint, target))) if !target.is_empty() && target.len() <= SYMLINK_TARGET_LEN_MAX => {
                teller.found(path, Observed::Symlink { fingerprint, target });
                Rest::Nothing
            }
            Ok(Some(_)) => {
                teller.problem(Some(path), because(ProblemCode::Special, "the link's target is empty or too long"));
                Rest::Nothing
            }
            // It changed meanwhile; that change has its own event.
            Ok(None) => Rest::Nothing,
            Err(error) => {
                teller.problem(Some(path), problem(&error, "cannot read the link"));
                Rest::Frozen
            }
        }
    }

    /// A link's target between two equal fingerprints; `None` when it is no link any more or keeps changing.
    fn read_link(&self, dir: &F::Dir, name: &[u8]) -> io::Result<Option<(Fingerprint, Vec<u8>)>> {
        for _ in 0..LINK_TRIES {
            let Some(before) = self.fs.stat(dir, name)?.filter(|found| found.kind == Kind::Symlink) else {
                return Ok(None);
            };
            let target = self.fs.read_link(dir, name)?;
            if self.fs.stat(dir, name)? == Some(before) {
                return Ok(Some((before, target)));
            }
        }
        Ok(None)
    }

    /// Reads a file and tells what it holds.
    pub(super) fn tell_file(
        &self,
        hasher: &mut Hasher,
        dir: &F::Dir,
        path: &RelPath,
        previous: Option<Chunking>,
        teller: &mut Teller<'_>,
    ) {
        match hasher.hash_file(self.fs, dir, path.name(), previous, &self.hash) {
            Ok(HashOutcome::Hashed(hashed)) => {
                let (fingerprint, racy) = (hashed.fingerprint, hashed.racy);
                let observed = Observed::File { fingerprint, content: hashed.content, racy };
                let observation = Observation { path: path.clone(), observed, manifest: hashed.manifest };
                teller.tell(ScanEvent::Found(observation));
            }
            Ok(HashOutcome::Busy) => {
                teller.incomplete();
                teller.problem(Some(path), because(ProblemCode::Busy, "it keeps changing while it is read"));
            }
            // It changed after it was listed: that change has its own event.
            Ok(HashOutcome::NotAFile) => {}
            Ok(HashOutcome::Cancelled) => teller.incomplete(),
            Err(error) => {
                teller.incomplete();
                teller.problem(Some(path), problem(&error, "cannot read the file"));
            }
        }
    }

    /// Tells that a row's object is gone, and all below it.
    pub(super) fn tell_missing(&self, path: &RelPath, content: &Content, teller: &mut Teller<'_>) {
        if self.ignore.matched(path, content.is_directory()).is_some() {
            return;
        }
        self.tell_missing_itself(path, teller);
        self.tell_missing_below(path, teller);
    }

    fn tell_missing_itself(&self, path: &RelPath, teller: &mut Teller<'_>) {
        if self.rows.get(path).local != Some(Observed::Absent) {
            teller.tell(ScanEvent::Missing(path.clone()));
        }
    }

    /// Tells that everything recorded below `path` is gone.
    pub(super) fn tell_missing_below(&self, path: &RelPath, teller: &mut Teller<'_>) {
        let mut after = None;
        loop {
            let page = self.rows.below(Some(path), after.as_ref(), PAGE);
            let is_last = page.len() < PAGE;
            after = page.last().map(|(last, _)| last.clone());
            for (path, have) in page {
                if self.ignore.matched(&path, have.entry.content.is_directory()).is_none() {
                    self.tell_missing_itself(&path, teller);
                }
            }
            if is_last {
                return;
            }
        }
    }
}
