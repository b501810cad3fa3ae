//! From one wanted entry to the next action: the table's answer, and what must come first (a parent directory,
//! a conflict copy). Deciding again after the first action is recorded gives the second, so a crash in between
//! costs nothing.

use super::conflict_name::conflict_paths;
use super::local::{DeclineCode, Have, LocalRow, Rows, Want};
use super::plan::Step;
use super::reconcile::{Decision, Rules, bumped, reconcile, revived};
use crate::model::{Content, Entry, Event, RelPath, Version};

/// What `decide` needs to know beyond the row. The engine answers.
pub trait Around {
    /// The folder's rows.
    fn rows(&self) -> &dyn Rows;
    /// The table's rules.
    fn rules(&self) -> &Rules;
    /// An action at this path is under way.
    fn is_busy(&self, path: &RelPath) -> bool;
    /// A local deletion below this directory waits to be published.
    fn deletion_pending_below(&self, dir: &RelPath) -> bool;
    /// The whole index of a device that announced this want has been read.
    fn is_caught_up(&self, want: &Want) -> bool;
}

/// The next thing to do about a want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing, now or later: the want goes.
    Drop,
    /// Something else comes first; ask again when it has changed. Also for what the other side has to write: until it
    /// does, the want stays. A local change may turn the outcome round, and nobody would announce theirs again.
    Wait,
    /// Carry this out, then ask again.
    Do(Draft),
}

/// An action without its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Where; may differ from the want's path.
    pub path: RelPath,
    /// What stands there now.
    pub expected: Option<Have>,
    /// What shall stand there.
    pub entry: Entry,
    /// How.
    pub step: Step,
    /// The entry carries the event that was offered.
    pub uses_event: bool,
}

/// The next action for `want` at `path`. `event` is ours to use, once.
#[must_use]
pub fn decide(around: &dyn Around, path: &RelPath, row: &LocalRow, want: &Want, event: Event) -> Plan {
    let ours = row.entry();
    let (target, set_aside, uses_event) = match reconcile(ours, &want.entry, around.rules()) {
        Decision::Nothing if want.entry.version.is_news_to(ours) => return Plan::Wait,
        Decision::Nothing => return Plan::Drop,
        Decision::Adopt(entry) => (entry, false, false),
        Decision::Take => (want.entry.clone(), false, false),
        Decision::Write { merged, set_aside } => (bumped(merged, ours, event, around.rules()), set_aside, true),
    };
    if row.is_directory()
        && !target.content.is_directory()
        && around.rules().revive
        && let Some(plan) = directory_lives(around, path, row, want, event)
    {
        return plan;
    }
    if set_aside && let Some(plan) = ours.and_then(|ours| conflict_copy(around, path, ours, event)) {
        return plan;
    }
    if target.is_live()
        && let Some(plan) = parent_first(around, path, want, event)
    {
        return plan;
    }
    draft(path, row, target, uses_event)
}

fn draft(path: &RelPath, row: &LocalRow, entry: Entry, uses_event: bool) -> Plan {
    let expected = expected(row);
    let step = step_for(expected.as_ref(), &entry);
    Plan::Do(Draft { path: path.clone(), expected, entry, step, uses_event })
}

/// What stands on disk as far as we know: in a receive-only folder perhaps the user's own change.
fn expected(row: &LocalRow) -> Option<Have> {
    let Some(local) = &row.local else {
        return row.have.clone();
    };
    let fingerprint = local.fingerprint().copied()?;
    let mut entry = row.entry().cloned().unwrap_or_else(|| revived(None, None, Event::NONE));
    entry.content = local.content();
    Some(Have { entry, fingerprint: Some(fingerprint), racy: false })
}

/// The step that turns what stands there into `entry`.
#[must_use]
pub fn step_for(expected: Option<&Have>, entry: &Entry) -> Step {
    let standing = expected.map(|have| &have.entry).filter(|entry| entry.is_live());
    match (&entry.content, standing) {
        (Content::Tombstone, None) => Step::Record,
        (Content::Tombstone, Some(_)) => Step::Remove,
        (content, Some(standing)) if content.same(&standing.content) => {
            if standing.mode == entry.mode && standing.mtime == entry.mtime { Step::Record } else { Step::SetMetadata }
        }
        (Content::Directory, _) => Step::MakeDirectory,
        (Content::Symlink(_), _) => Step::InstallSymlink,
        (Content::File(_), _) => Step::InstallFile,
    }
}

/// Theirs would make a directory of ours into something else. `None`: nothing lives in it, go on.
fn directory_lives(around: &dyn Around, path: &RelPath, row: &LocalRow, want: &Want, event: Event) -> Option<Plan> {
    if open_want_below(around, path) || around.deletion_pending_below(path) {
        return Some(Plan::Wait);
    }
    around.rows().live_below(path)?;
    if !around.is_caught_up(want) {
        return Some(Plan::Wait);
    }
    if matches!(want.entry.content, Content::File(_) | Content::Symlink(_))
        && let Some(plan) = conflict_copy(around, path, &want.entry, event)
    {
        return Some(plan);
    }
    Some(draft(path, row, revived(row.entry(), Some(&want.entry), event), true))
}

/// Whether this device is going to act on a want. What it declines for good, or what the other side has to write,
/// may stay for long and must hold up nothing else: that side may be waiting for us.
pub(super) fn is_open(around: &dyn Around, row: &LocalRow, want: &Want) -> bool {
    want.declined.as_ref().is_none_or(|decline| decline.code.passes())
        && reconcile(row.entry(), &want.entry, around.rules()) != Decision::Nothing
}

/// A person has to say what becomes of it, and with it of the directory that it is in.
fn is_held(want: &Want) -> bool {
    want.declined.as_ref().is_some_and(|decline| decline.code == DeclineCode::WaitingForApproval)
}

fn open_want_below(around: &dyn Around, dir: &RelPath) -> bool {
    let mut after = dir.clone();
    loop {
        let page = around.rows().wanted(Some(&after), WANTED_PAGE);
        let below = page.iter().take_while(|(path, _)| path.is_below(dir));
        if below.clone().any(|(_, row)| row.wants.iter().any(|want| is_open(around, row, want) || is_held(want))) {
            return true;
        }
        match page.last() {
            Some((last, _)) if last.is_below(dir) => after = last.clone(),
            _ => return false,
        }
    }
}

/// A live entry needs a live directory above it. `None`: it is there.
fn parent_first(around: &dyn Around, path: &RelPath, want: &Want, event: Event) -> Option<Plan> {
    let parent = path.parent()?;
    if around.is_busy(&parent) {
        return Some(Plan::Wait);
    }
    let row = around.rows().get(&parent);
    if row.is_directory() || !around.rules().revive {
        return None;
    }
    let mut open = row.wants.iter().filter(|want| is_open(around, &row, want));
    let directory_wanted = open.any(|want| want.entry.content.is_directory());
    if directory_wanted || !around.is_caught_up(want) {
        return Some(Plan::Wait);
    }
    if let Some(plan) = parent_first(around, &parent, want, event) {
        return Some(plan);
    }
    if let Some(standing) = row.entry().filter(|entry| entry.is_live())
        && let Some(plan) = conflict_copy(around, &parent, standing, event)
    {
        return Some(plan);
    }
    Some(draft(&parent, &row, revived(row.entry(), None, event), true))
}

/// Wanted rows read at a time when a directory is asked for wants below it.
const WANTED_PAGE: usize = 64;

/// Puts `loser`'s content beside `path` under a free conflict name. `None`: it is already there.
fn conflict_copy(around: &dyn Around, path: &RelPath, loser: &Entry, event: Event) -> Option<Plan> {
    for copy_path in conflict_paths(path, &loser.content.identity().1, loser.mtime) {
        let row = around.rows().get(&copy_path);
        if row.entry().is_some_and(|entry| entry.content.same(&loser.content)) {
            return None;
        }
        let open: Vec<&Want> = row.wants.iter().filter(|want| is_open(around, &row, want)).collect();
        if around.is_busy(&copy_path) || open.iter().any(|want| want.entry.content.same(&loser.content)) {
            return Some(Plan::Wait);
        }
        let taken = row.is_live() || row.local.is_some() || open.iter().any(|want| want.entry.is_live());
        if taken && around.rules().free_name {
            continue;
        }
        return Some(draft(&copy_path, &row, copy_of(loser, row.entry(), event), true));
    }
    // No name is free, or the path would grow too long. The loser stays where it is.
    Some(Plan::Wait)
}

fn copy_of(loser: &Entry, have: Option<&Entry>, event: Event) -> Entry {
    let here = Version::of(event);
    Entry {
        version: have.map_or(here.clone(), |have| have.version.bumped(event)),
        content: loser.content.clone(),
        content_at: here.clone(),
        mode: loser.mode,
        mode_at: here,
        mtime: loser.mtime,
        ancestors: Vec::new(),
        found: false,
    }
}
