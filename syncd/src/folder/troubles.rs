//! Paths that the last looks at the disk could not take in, with the cause. A path leaves the list when a look finds
//! it well, or when a scan that went over it does not name it again.

use protocol::model::RelPath;
use protocol::sync::Problem;
use std::collections::BTreeMap;

/// Paths kept for status.
const PATHS_MAX: usize = 1000;

struct Trouble {
    problem: Problem,
    /// Unix seconds.
    since: i64,
    /// The scan that was the latest when it was last named.
    scan: u64,
}

/// The list.
#[derive(Default)]
pub(super) struct Troubles {
    paths: BTreeMap<RelPath, Trouble>,
    scans: u64,
}

impl Troubles {
    pub(super) fn add(&mut self, path: RelPath, problem: Problem, now: i64) {
        let scan = self.scans;
        let since = self.paths.get(&path).map(|known| known.since);
        if since.is_some() || self.paths.len() < PATHS_MAX {
            self.paths.insert(path, Trouble { problem, since: since.unwrap_or(now), scan });
        }
    }

    pub(super) fn contains(&self, path: &RelPath) -> bool {
        self.paths.contains_key(path)
    }

    pub(super) fn remove(&mut self, path: &RelPath) {
        self.paths.remove(path);
    }

    pub(super) fn scan_started(&mut self) {
        self.scans += 1;
    }

    /// What the scan of `scope` (`None`: everything) did not name again is over.
    pub(super) fn scan_ended(&mut self, scope: Option<&RelPath>) {
        let scan = self.scans;
        let covered = |path: &RelPath| scope.is_none_or(|scope| path == scope || path.is_below(scope));
        self.paths.retain(|path, trouble| trouble.scan == scan || !covered(path));
    }

    pub(super) fn list(&self) -> Vec<(RelPath, Problem, i64)> {
        self.paths.iter().map(|(path, trouble)| (path.clone(), trouble.problem.clone(), trouble.since)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::sync::ProblemCode;

    #[test]
    fn a_scan_clears_what_it_went_over_and_does_not_name() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).expect("a path");
        let problem = || Problem { code: ProblemCode::Special, words: "no file".to_owned() };
        let mut troubles = Troubles::default();
        for text in ["a", "d", "d/x", "dd"] {
            troubles.add(path(text), problem(), 1);
        }
        troubles.scan_started();
        troubles.add(path("d/x"), problem(), 2);
        troubles.scan_ended(Some(&path("d")));
        let left: Vec<_> = troubles.list().into_iter().map(|(path, _, since)| (path.display(), since)).collect();
        assert_eq!(left, [("a".to_owned(), 1), ("d/x".to_owned(), 1), ("dd".to_owned(), 1)]);
        troubles.scan_started();
        troubles.add(path("dd"), problem(), 3);
        troubles.scan_ended(None);
        assert_eq!(troubles.list().len(), 1);
        troubles.remove(&path("dd"));
        assert!(troubles.list().is_empty() && !troubles.contains(&path("dd")));
    }
}
