//! The folder task's answer to "how are you".

use super::report::{Report, alarm_words};
use super::task::Task;
use protocol::model::{DeviceId, RelPath};
use protocol::sync::engine::FolderMode;
use protocol::sync::{DeclineCode, Problem, ProblemCode, Rows, Want};

/// Differences counted for status; more are "at least".
const DIFFERENCES_MAX: usize = 10_000;

impl Task {
    pub(super) fn report(&self) -> Report {
        let rows = self.shared.store();
        let status = self.engine.status(rows);
        let mut problems = self.troubles.list();
        let now = self.shared.wall_secs();
        problems.extend(status.retrying.into_iter().map(|(path, problem)| (path, problem, now)));
        let suspect = |path: &RelPath| {
            let words =
                "its bytes changed on this disk though nobody wrote them; `syncctl folder reject` fetches it back";
            (path.clone(), Problem { code: ProblemCode::Io, words: words.to_owned() }, now)
        };
        problems.extend(self.engine.suspects().map(suspect));
        let holds = status.held.into_iter().map(|hold| {
            let since = self.holds.since(&hold).unwrap_or(now);
            (hold, since)
        });
        Report {
            mode: self.engine.mode(),
            state: rows.state(),
            scanning: status.scanning,
            idle: self.engine.is_idle(rows),
            stopped: self.stopped.clone(),
            watching: self.watching.clone(),
            undurable: self.undurable,
            problems,
            holds: holds.collect(),
            alarms: self.alarms.iter().map(|(alarm, since)| (alarm_words(alarm, DeviceId::short), *since)).collect(),
            differences: differences(self.engine.mode(), rows),
            peers: status.peers,
            log: self.log.latest(),
        }
    }
}

/// What was changed here and stays here, or was changed elsewhere and is not taken.
fn differences(mode: FolderMode, rows: &dyn Rows) -> u64 {
    let count = match mode {
        FolderMode::SendReceive => 0,
        FolderMode::ReceiveOnly => rows.locals(None, DIFFERENCES_MAX).len(),
        FolderMode::SendOnly => {
            let is_ours = |want: &Want| want.declined.as_ref().is_some_and(|why| why.code == DeclineCode::SendOnly);
            let wanted = rows.wanted(None, DIFFERENCES_MAX);
            wanted.iter().filter(|(_, row)| row.wants.iter().any(is_ours)).count()
        }
    };
    count as u64
}
