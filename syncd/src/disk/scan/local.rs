//! Findings in receive-only folders (`local` in a row): what the user did there is recorded beside the entry and not
//! as one, so a scan of the entries alone would tell it again and again, or never that it is undone.

use super::Scanner;
use super::entry::is_settled;
use super::observe::{Above, above};
use super::queue::Teller;
use crate::disk::fs::{Fs, problem};
use crate::disk::hash::Hasher;
use protocol::model::RelPath;
use protocol::sync::{Fingerprint, Kind, Observed};

/// Findings read at once.
const PAGE: usize = 256;

impl<F: Fs> Scanner<'_, F> {
    /// Whether the object was told before and recorded as a local finding.
    pub(super) fn is_local(&self, path: &RelPath, found: &Fingerprint) -> bool {
        self.rows.get(path).local.is_some_and(|local| is_settled(&local, found))
    }

    /// Looks at every local finding below the scope again.
    pub(super) fn look_at_locals(&self, scope: Option<&RelPath>, teller: &mut Teller<'_>) {
        let mut after = None;
        loop {
            let page = self.rows.locals(after.as_ref(), PAGE);
            let is_last = page.len() < PAGE;
            after = page.last().map(|(path, _)| path.clone());
            for (path, local) in page {
                if teller.is_cancelled(self.hash.cancel) {
                    return;
                }
                if scope.is_none_or(|scope| path.is_below(scope)) {
                    self.look_at_local(&path, &local, teller);
                }
            }
            if is_last {
                return;
            }
        }
    }

    fn look_at_local(&self, path: &RelPath, local: &Observed, teller: &mut Teller<'_>) {
        let looked = above(self.fs, path).and_then(|above| match above {
            Above::Directories(dir) => Ok(self.fs.stat(&dir, path.name())?.map(|found| (dir, found))),
            Above::Gone | Above::Replaced(_) => Ok(None),
        });
        match looked {
            Ok(found) => self.tell_local(path, local, found, teller),
            Err(error) => {
                teller.problem(Some(path), problem(&error, "cannot look at it"));
                teller.incomplete();
            }
        }
    }

    /// Tells that a local finding is over: what the user made is gone, or what the entry says is back.
    pub(super) fn tell_local(
        &self,
        path: &RelPath,
        local: &Observed,
        found: Option<(F::Dir, Fingerprint)>,
        teller: &mut Teller<'_>,
    ) {
        let is_dir = found.as_ref().is_some_and(|(_, found)| found.kind == Kind::Directory);
        if self.ignore.matched(path, is_dir).is_some() {
            return;
        }
        let have = self.rows.get(path).have.filter(|have| have.entry.is_live());
        let is_back = |found: &Fingerprint| {
            have.as_ref().and_then(|have| have.fingerprint).is_some_and(|have| found.unchanged_since(&have))
        };
        match found {
            // A live entry's object that is gone, or that is not as the entry says, is told by the walk.
            None if *local == Observed::Absent || have.is_some() => {}
            Some((_, found)) if !is_back(&found) => {}
            None => teller.tell(super::ScanEvent::Missing(path.clone())),
            Some((_, found)) if is_settled(local, &found) => {}
            Some((dir, found)) => match found.kind {
                Kind::Directory => teller.found(path, Observed::Directory { fingerprint: found }),
                Kind::File => self.tell_file(&mut Hasher::default(), &dir, path, None, teller),
                Kind::Symlink => {
                    // Trouble has been told; nothing else depends on it here.
                    let _ = self.tell_link(&dir, path, teller);
                }
                Kind::Special => {}
            },
        }
    }
}
