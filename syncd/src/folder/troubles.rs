//! Paths that the last looks at the disk could not take in, with the cause. A path leaves the list when a look finds
//! it well, or when a scan that went over it does not name it again. No event may tell that it is well again, so each is
//! looked at again with back-off.

use protocol::model::{RelPath, Timestamp};
use protocol::sync::Problem;
use protocol::sync::engine::back_off;
use std::collections::BTreeMap;

/// Paths kept for status.
const PATHS_MAX: usize = 1000;

struct Trouble {
    problem: Problem,
    /// Unix seconds.
    since: i64,
    /// The scan that was the latest when it was last named.
    scan: u64,
    /// Looks since then that were no event's.
    attempts: u32,
    /// When the next one is due; `None` while it is under way.
    look_at: Option<Timestamp>,
}

/// The list.
#[derive(Default)]
pub(super) struct Troubles {
    paths: BTreeMap<RelPath, Trouble>,
    /// The ignore file that could not be read. No look at its path ends this, only the rules themselves.
    rules: Option<(RelPath, Trouble)>,
    scans: u64,
}

impl Trouble {
    /// What is `known` of the path goes on.
    fn new(problem: Problem, known: Option<&Self>, scan: u64, now: Timestamp, wall_secs: i64) -> Self {
        let (since, attempts) = known.map_or((wall_secs, 0), |known| (known.since, known.attempts));
        let look_at = known.and_then(|known| known.look_at).or_else(|| Some(now.after(back_off(attempts))));
        Self { problem, since, scan, attempts, look_at }
    }
}

impl Troubles {
    /// `wall_secs`: Unix seconds, for people.
    pub(super) fn add(&mut self, path: RelPath, problem: Problem, now: Timestamp, wall_secs: i64) {
        let known = self.paths.get(&path);
        if known.is_some() || self.paths.len() < PATHS_MAX {
            let trouble = Trouble::new(problem, known, self.scans, now, wall_secs);
            self.paths.insert(path, trouble);
        }
    }

    /// A file of the ignore rules cannot be read.
    pub(super) fn rules_failed(&mut self, file: RelPath, problem: Problem, now: Timestamp, wall_secs: i64) {
        let known = self.rules.as_ref().map(|(_, trouble)| trouble);
        let trouble = Trouble::new(problem, known, self.scans, now, wall_secs);
        self.rules = Some((file, trouble));
    }

    /// The rules were read.
    pub(super) fn rules_read(&mut self) {
        self.rules = None;
    }

    fn all(&self) -> impl Iterator<Item = (&RelPath, &Trouble)> {
        let of_rules = self.rules.as_ref().filter(|(file, _)| !self.paths.contains_key(file));
        self.paths.iter().chain(of_rules.map(|(file, trouble)| (file, trouble)))
    }

    /// When the next path is to be looked at again.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        let looks = self.paths.values().chain(self.rules.iter().map(|(_, trouble)| trouble));
        looks.filter_map(|trouble| trouble.look_at).min()
    }

    /// The paths to look at again now. Each has to be named again, or found well, before it is due once more.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<RelPath> {
        let is_due = |trouble: &Trouble| trouble.look_at.is_some_and(|at| at <= now);
        let all = self.paths.iter_mut().chain(self.rules.iter_mut().map(|(file, trouble)| (&*file, trouble)));
        let due = all.filter(|(_, trouble)| is_due(trouble)).map(|(path, trouble)| {
            trouble.look_at = None;
            trouble.attempts += 1;
            path.clone()
        });
        due.collect()
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
        self.all().map(|(path, trouble)| (path.clone(), trouble.problem.clone(), trouble.since)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::sync::ProblemCode;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).expect("a path")
    }

    fn problem() -> Problem {
        Problem { code: ProblemCode::Special, words: "no file".to_owned() }
    }

    #[test]
    fn a_scan_clears_what_it_went_over_and_does_not_name() {
        let mut troubles = Troubles::default();
        for text in ["a", "d", "d/x", "dd"] {
            troubles.add(path(text), problem(), Timestamp(0), 1);
        }
        troubles.scan_started();
        troubles.add(path("d/x"), problem(), Timestamp(0), 2);
        troubles.scan_ended(Some(&path("d")));
        let left: Vec<_> = troubles.list().into_iter().map(|(path, _, since)| (path.display(), since)).collect();
        assert_eq!(left, [("a".to_owned(), 1), ("d/x".to_owned(), 1), ("dd".to_owned(), 1)]);
        troubles.scan_started();
        troubles.add(path("dd"), problem(), Timestamp(0), 3);
        troubles.scan_ended(None);
        assert_eq!(troubles.list().len(), 1);
        troubles.remove(&path("dd"));
        assert!(troubles.list().is_empty() && !troubles.contains(&path("dd")));
    }
    /// A read that failed once, with nobody to touch the file again, kept an edit back until the hourly scan.
    #[test]
    fn each_path_is_looked_at_again_ever_more_rarely_until_it_is_well() {
        let seconds = |count: u64| Timestamp(count * 1000);
        let mut troubles = Troubles::default();
        troubles.add(path("a"), problem(), seconds(10), 1);
        assert_eq!(troubles.next_look(), Some(seconds(11)));
        assert!(troubles.due(Timestamp(10_999)).is_empty());
        troubles.add(path("a"), problem(), Timestamp(10_999), 1);
        assert_eq!(troubles.next_look(), Some(seconds(11)), "a scan that names it too puts nothing off");
        for (now, next) in [(11, 13), (13, 17), (17, 25)] {
            assert_eq!(troubles.due(seconds(now)), [path("a")]);
            assert_eq!(troubles.next_look(), None, "one look at a time");
            troubles.add(path("a"), problem(), seconds(now), 1);
            assert_eq!(troubles.next_look(), Some(seconds(next)));
        }
        troubles.remove(&path("a"));
        assert_eq!(troubles.next_look(), None);
        troubles.add(path("a"), problem(), seconds(30), 1);
        assert_eq!(troubles.next_look(), Some(seconds(31)), "a new trouble starts from the beginning");
    }
    #[test]
    fn rules_that_cannot_be_read_are_in_trouble_until_they_are_read() {
        let mut troubles = Troubles::default();
        troubles.rules_failed(path(".syncignore"), problem(), Timestamp(0), 1);
        troubles.scan_started();
        troubles.scan_ended(None);
        troubles.remove(&path(".syncignore"));
        assert_eq!(troubles.list().len(), 1, "a scan read its bytes, not the rules");
        assert_eq!(troubles.due(Timestamp(1000)), [path(".syncignore")]);
        troubles.rules_failed(path(".syncignore"), problem(), Timestamp(1000), 2);
        assert_eq!(troubles.next_look(), Some(Timestamp(3000)));
        troubles.add(path(".syncignore"), problem(), Timestamp(1000), 2);
        assert_eq!(troubles.list().len(), 1, "named once");
        troubles.remove(&path(".syncignore"));
        troubles.rules_read();
        assert!(troubles.list().is_empty() && troubles.next_look().is_none());
    }
}
