//! One directory against its rows: both in name order, side by side.

use super::Scanner;
use super::entry::{Rest, because};
use super::queue::{FileJob, Job, Teller};
use crate::disk::fs::{Errno, Fs, Listed, errno, problem};
use protocol::model::RelPath;
use protocol::model::path::PRIVATE_DIR;
use protocol::sync::{Have, Kind, ProblemCode};
use std::cmp::Ordering;
use std::sync::Arc;

/// Files hashed as one job.
const JOB_FILES: usize = 32;

impl<F: Fs> Scanner<'_, F> {
    /// Tells the differences in `path` (`None`: the root), and returns what is left to enter and to read.
    pub(super) fn walk(&self, path: Option<&RelPath>, root_fs: u64, teller: &mut Teller<'_>) -> Vec<Job<F>> {
        let dir = match self.fs.open_dir(path) {
            Ok(dir) => Arc::new(dir),
            Err(error) => {
                // Gone or replaced since it was listed: what happened to it has its own event.
                if !matches!(errno(&error), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) || path.is_none() {
                    teller.problem(path, problem(&error, "cannot open the directory"));
                }
                teller.incomplete();
                return Vec::new();
            }
        };
        let mut listed = match self.fs.list(&dir) {
            Ok(listed) => listed,
            Err(error) => {
                teller.problem(path, problem(&error, "cannot list the directory"));
                teller.incomplete();
                return Vec::new();
            }
        };
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut rest = Directory { dir, path, root_fs, files: Vec::new(), jobs: Vec::new() };
        let mut rows = self.rows.children(path).into_iter().peekable();
        for item in listed {
            if teller.is_cancelled(self.hash.cancel) {
                return Vec::new();
            }
            while let Some((gone, have)) = rows.next_if(|(row, _)| row.name().cmp(&item.name) == Ordering::Less) {
                self.absent(&rest.dir, &gone, &have, teller);
            }
            let have = rows.next_if(|(row, _)| row.name() == &*item.name).map(|(_, have)| have);
            self.present(&mut rest, &item, have.as_ref(), teller);
        }
        for (gone, have) in rows {
            self.absent(&rest.dir, &gone, &have, teller);
        }
        rest.end_files();
        // The last pushed is the first taken: this keeps path order.
        rest.jobs.reverse();
        rest.jobs
    }

    /// A listed name.
    fn present(&self, rest: &mut Directory<'_, F>, item: &Listed, have: Option<&Have>, teller: &mut Teller<'_>) {
        teller.entry();
        let Some(path) = name_path(rest.path, item, teller) else { return };
        let is_dir = item.kind == Kind::Directory;
        if self.ignore.ignores_itself(&path, is_dir) {
            return;
        }
        let found = match self.fs.stat(&rest.dir, &item.name) {
            // Gone since it was listed: that has its own event.
            Ok(None) => return,
            Ok(Some(found)) => found,
            Err(error) => {
                teller.problem(Some(&path), problem(&error, "cannot look at it"));
                teller.incomplete();
                return;
            }
        };
        // A directory may have taken the place of a file that no rule names, and the other way round.
        if (found.kind == Kind::Directory) != is_dir && self.ignore.ignores_itself(&path, !is_dir) {
            return;
        }
        match self.compare(&rest.dir, &path, &found, have, rest.root_fs, teller) {
            Rest::Nothing => {}
            Rest::Frozen => teller.incomplete(),
            Rest::Enter => rest.jobs.push(Job::Enter(Some(path))),
            Rest::Hash(previous) => rest.add_file(FileJob { path, previous }),
        }
    }

    /// A row whose name is not listed.
    fn absent(&self, dir: &F::Dir, path: &RelPath, have: &Have, teller: &mut Teller<'_>) {
        match self.fs.stat(dir, path.name()) {
            Ok(None) => self.tell_missing(path, &have.entry.content, teller),
            // Made again since the listing, or known by another spelling: it is there.
            Ok(Some(_)) => {}
            Err(error) => {
                teller.problem(Some(path), problem(&error, "cannot look at it"));
                teller.incomplete();
            }
        }
    }
}

/// A directory being walked.
struct Directory<'a, F: Fs> {
    dir: Arc<F::Dir>,
    path: Option<&'a RelPath>,
    root_fs: u64,
    files: Vec<FileJob>,
    jobs: Vec<Job<F>>,
}

impl<F: Fs> Directory<'_, F> {
    fn add_file(&mut self, file: FileJob) {
        self.files.push(file);
        if self.files.len() == JOB_FILES {
            self.end_files();
        }
    }

    fn end_files(&mut self) {
        if !self.files.is_empty() {
            self.jobs.push(Job::Hash(Arc::clone(&self.dir), std::mem::take(&mut self.files)));
        }
    }
}

/// The path of a listed name; `None`, and told, when it can have none.
fn name_path(dir: Option<&RelPath>, item: &Listed, teller: &mut Teller<'_>) -> Option<RelPath> {
    if item.name.eq_ignore_ascii_case(PRIVATE_DIR.as_bytes()) {
        // In the root it is ours; everywhere else it belongs to a folder within this one, or is a trap.
        if dir.is_some() || &*item.name != PRIVATE_DIR.as_bytes() {
            let name = item.name.escape_ascii();
            let words = format!("{name} in it is never synced: the name is syncd's own");
            teller.problem(dir, because(ProblemCode::Blocked, &words));
        }
        return None;
    }
    let path = dir.map_or_else(|| RelPath::parse(&item.name), |dir| dir.child(&item.name));
    path.map_err(|error| {
        let words = format!("cannot sync {} in it: {error}", item.name.escape_ascii());
        teller.problem(dir, because(ProblemCode::Name, &words));
    })
    .ok()
}
