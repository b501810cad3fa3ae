//! The decision table: our `have` against an entry of a peer. Pure, total and the same on every device.
//! SPEC.md carries the table; this file is it. Directories with children are `decide`'s business.

use crate::limits::ANCESTORS_MAX;
use crate::model::{Content, Entry, Event, Version};
use std::cmp::Ordering;

/// What a device does about an entry of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing here: ours is the same or newer, or the other side writes the merge.
    Nothing,
    /// Their entry as it is.
    Take,
    /// All fields are equal: record this entry (versions joined), nothing on disk changes.
    Adopt(Entry),
    /// Write this entry with a bump of our own. With `set_aside`, our content lost a conflict and is live:
    /// first it gets a conflict name.
    Write {
        /// At the join of both versions, not yet bumped.
        merged: Entry,
        /// Keep our bytes under a conflict name first.
        set_aside: bool,
    },
}

/// Rules of the table that a test can switch off, to show that the simulator would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The resolver bumps the version that it writes.
    pub resolver_bumps: bool,
    /// It also does when only metadata differ.
    pub metadata_bumps: bool,
    /// A content that the other side has seen and replaced loses silently.
    pub content_at: bool,
    /// Equal versions with different fields are a fork.
    pub forks: bool,
    /// A conflict copy takes a name that is free.
    pub free_name: bool,
    /// A live child revives its directory, and a directory its parent.
    pub revive: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            resolver_bumps: true,
            metadata_bumps: true,
            content_at: true,
            forks: true,
            free_name: true,
            revive: true,
        }
    }
}

/// Whether the two carry one version and different fields: two devices claim to be one.
#[must_use]
pub fn is_fork(ours: &Entry, theirs: &Entry) -> bool {
    ours.version == theirs.version && !ours.same_fields(theirs)
}

/// One version and the same fields, but the events behind them are known here in part: equal values met in another
/// order there. Both sides end with the same events, so that digests agree and later merges decide alike.
#[must_use]
pub fn says_more(ours: &Entry, theirs: &Entry) -> bool {
    ours.version == theirs.version
        && ours.same_fields(theirs)
        && (met(ours, theirs, |entry| &entry.content_at) != ours.content_at
            || met(ours, theirs, |entry| &entry.mode_at) != ours.mode_at)
}

/// The table.
#[must_use]
pub fn reconcile(ours: Option<&Entry>, theirs: &Entry, rules: &Rules) -> Decision {
    let Some(ours) = ours else {
        return Decision::Take;
    };
    match ours.version.causal_cmp(&theirs.version) {
        Some(Ordering::Greater) => Decision::Nothing,
        Some(Ordering::Less) => Decision::Take,
        Some(Ordering::Equal) if says_more(ours, theirs) => Decision::Adopt(merge(ours, theirs, rules).entry),
        Some(Ordering::Equal) if ours.same_fields(theirs) || !rules.forks => Decision::Nothing,
        Some(Ordering::Equal) | None => concurrent(ours, theirs, rules),
    }
}

fn concurrent(ours: &Entry, theirs: &Entry, rules: &Rules) -> Decision {
    let outcome = merge(ours, theirs, rules);
    if ours.same_fields(theirs) {
        return Decision::Adopt(outcome.entry);
    }
    if outcome.lost == Some(Side::Theirs) || outcome.entry.same_fields(ours) {
        return Decision::Nothing;
    }
    Decision::Write { merged: outcome.entry, set_aside: outcome.lost == Some(Side::Ours) && ours.is_live() }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

struct Merge {
    /// At the join, without a bump.
    entry: Entry,
    /// Whose content lost a conflict; `None` when contents are equal or one was simply older.
    lost: Option<Side>,
}

/// Field by field: content with its time, then the mode.
fn merge(ours: &Entry, theirs: &Entry, rules: &Rules) -> Merge {
    let version = ours.version.join(&theirs.version);
    let (content_side, lost) = content_side(ours, theirs, rules);
    let winner = if content_side == Side::Ours { ours } else { theirs };
    let loser = if content_side == Side::Ours { theirs } else { ours };
    let same_content = ours.content.same(&theirs.content);
    let content_at =
        if same_content { met(ours, theirs, |entry| &entry.content_at) } else { winner.content_at.clone() };
    let mtime = if same_content { ours.mtime.max(theirs.mtime) } else { winner.mtime };
    let (mode, mode_at) = merged_mode(ours, theirs, winner);
    let silently_older = if same_content || lost.is_some() { None } else { loser.content.ancestor_hash() };
    let mut ancestors: Vec<_> = silently_older.into_iter().filter(|hash| !winner.ancestors.contains(hash)).collect();
    ancestors.extend_from_slice(&winner.ancestors);
    if same_content {
        ancestors.extend(loser.ancestors.iter().filter(|hash| !winner.ancestors.contains(hash)));
    }
    ancestors.truncate(ANCESTORS_MAX);
    let found = if same_content { ours.found && theirs.found } else { winner.found };
    let entry = Entry { version, content: winner.content.clone(), content_at, mode, mode_at, mtime, ancestors, found };
    Merge { entry, lost }
}

/// Whose content stays, and who lost a conflict over it.
fn content_side(ours: &Entry, theirs: &Entry, rules: &Rules) -> (Side, Option<Side>) {
    if ours.content.same(&theirs.content) {
        return (Side::Ours, None);
    }
    let older = |a: &Entry, b: &Entry| {
        (rules.content_at && a.content_at.is_within(&b.version)) || (a.found && !b.found && a.is_ancestor_of(b))
    };
    match (older(ours, theirs), older(theirs, ours)) {
        (true, false) => return (Side::Theirs, None),
        (false, true) => return (Side::Ours, None),
        // Each was replaced by those who merged it into the other. Whoever did that to a live content kept it where it
        // had lost; whoever put it over the deletion knew of less.
        (true, true) if ours.is_live() != theirs.is_live() => {
            return (if ours.is_live() { Side::Theirs } else { Side::Ours }, None);
        }
        (true, true) | (false, false) => {}
    }
    let key = |entry: &Entry| {
        let (kind, hash) = entry.content.identity();
        let rank = match kind {
            0 => 0,
            3 => 2,
            _ => 1,
        };
        (rank, entry.mtime, hash, kind)
    };
    if key(ours) > key(theirs) { (Side::Ours, Some(Side::Theirs)) } else { (Side::Theirs, Some(Side::Ours)) }
}

/// The events behind equal values that met: both, unless one side only found its bytes without history. That is no
/// event that wrote them; counted as one, it would bring a file back that was deleted after its true writing was seen.
fn met(ours: &Entry, theirs: &Entry, at: fn(&Entry) -> &Version) -> Version {
    match (ours.found, theirs.found) {
        (true, false) => at(theirs).clone(),
        (false, true) => at(ours).clone(),
        (true, true) | (false, false) => at(ours).join(at(theirs)),
    }
}

fn merged_mode(ours: &Entry, theirs: &Entry, winner: &Entry) -> (crate::model::Mode, Version) {
    let same_kind = std::mem::discriminant(&ours.content) == std::mem::discriminant(&theirs.content);
    if same_kind && ours.mode == theirs.mode {
        return (ours.mode, met(ours, theirs, |entry| &entry.mode_at));
    }
    if !same_kind || !ours.is_live() || !theirs.is_live() {
        return (winner.mode, winner.mode_at.clone());
    }
    let ours_older = ours.mode_at.is_within(&theirs.version);
    let theirs_older = theirs.mode_at.is_within(&ours.version);
    let pick = match (ours_older, theirs_older) {
        (true, false) => theirs,
        (false, true) => ours,
        _ if ours.mode > theirs.mode => ours,
        _ => theirs,
    };
    (pick.mode, pick.mode_at.clone())
}

/// The merged entry as its resolver writes it.
#[must_use]
pub fn bumped(mut merged: Entry, ours: Option<&Entry>, event: Event, rules: &Rules) -> Entry {
    let metadata_only = ours.is_some_and(|ours| ours.content.same(&merged.content));
    let bumps = if metadata_only { rules.metadata_bumps } else { rules.resolver_bumps };
    if bumps {
        merged.version = merged.version.bumped(event);
    }
    merged
}

/// A directory entry that lives again: at `version` and one event of ours. Of a directory that already
/// stands here the fields stay.
#[must_use]
pub fn revived(have: Option<&Entry>, theirs: Option<&Entry>, event: Event) -> Entry {
    let here = Version::of(event);
    let none = Version::default();
    let version = have.map_or(&none, |entry| &entry.version);
    let version = version.join(theirs.map_or(&none, |entry| &entry.version)).bumped(event);
    let standing = have.filter(|entry| entry.content.is_directory());
    Entry {
        version,
        content: Content::Directory,
        content_at: here.clone(),
        mode: standing.map_or(crate::model::Mode::new(0o755), |entry| entry.mode),
        mode_at: standing.map_or(here, |entry| entry.mode_at.clone()),
        mtime: crate::model::Mtime::default(),
        ancestors: Vec::new(),
        found: false,
    }
}
