//! The folder task's answer to "how are you".

use super::report::{Report, alarm_words};
use super::task::Task;
use protocol::sync::Rows;
use protocol::sync::engine::Alarm;

/// Receive-only findings counted for status; more are "at least".
const DIFFERENCES_MAX: usize = 10_000;

impl Task {
    pub(super) fn report(&self) -> Report {
        let rows = self.shared.store();
        let status = self.engine.status(rows);
        let mut problems: Vec<_> =
            self.problems.iter().map(|(path, (problem, since))| (path.clone(), problem.clone(), *since)).collect();
        let now = self.shared.wall_secs();
        problems.extend(status.retrying.into_iter().map(|(path, problem)| (path, problem, now)));
        let since = |wanted: fn(&Alarm) -> bool| {
            self.alarms.iter().find(|(alarm, _)| wanted(alarm)).map_or(now, |(_, since)| *since)
        };
        let held_since = since(|alarm| matches!(alarm, Alarm::Held(_)));
        Report {
            mode: self.engine.mode(),
            state: rows.state(),
            scanning: status.scanning,
            idle: self.engine.is_idle(rows),
            stopped: self.stopped.clone(),
            problems,
            holds: status.held.into_iter().map(|hold| (hold, held_since)).collect(),
            alarms: self
                .alarms
                .iter()
                .filter(|(alarm, _)| !matches!(alarm, Alarm::Held(_)))
                .map(|(alarm, since)| (alarm_words(alarm), *since))
                .collect(),
            differences: rows.locals(None, DIFFERENCES_MAX).len() as u64,
            peers: status.peers,
            log: self.log.latest(),
        }
    }
}
