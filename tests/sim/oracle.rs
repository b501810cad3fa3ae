//! What should be true, worked out from what the users did and saw and never from the engine's own versions:
//! happens-before between user actions, which contents must still exist, which paths must stay deleted, and which
//! conflict copies have a reason. Where the user's view is ambiguous it claims less order, so it accuses less.

use super::user::moved;
use protocol::model::{Content, ContentHash, RelPath};
use std::collections::{BTreeMap, BTreeSet};

/// Kind and bytes of a content.
pub type Identity = (u8, ContentHash);

/// Something that changed a path, by its place in the list.
#[derive(Clone, Debug)]
struct Happened {
    device: usize,
    path: RelPath,
    did: Did,
    /// What stood there before.
    before: Option<Identity>,
    /// What stands there after; `None`: deleted.
    after: Option<Identity>,
    /// What the user had seen there.
    past: Past,
    /// A later action took this content away where it was seen, or it was no new content.
    superseded: bool,
    /// A deletion that its device forgot with its index.
    forgotten: bool,
    /// Written before the first whole scan of the device's database had ended.
    first_contact: bool,
    moved_from: Option<RelPath>,
    /// Written into a file that the sync had displaced.
    late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    User,
    /// A conflict copy or a revived directory: the sync's own writing.
    System,
    /// On a disk whose index was lost: it counts as written by nobody, after nothing.
    Found,
}

/// What a device's database knows of a path that its user changes.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The last content there that a scan or an action recorded.
    pub recorded: Option<Identity>,
    /// What the batch that is out has put there: to write that again is a touch as well.
    pub put: Option<Identity>,
    /// No whole scan has ended under this database.
    pub first_contact: bool,
    /// The sync was moving a file from there to here. What was written into it meanwhile may have been written
    /// before or after the move, which nobody can tell: it goes back to the old path.
    pub moved_from: Option<RelPath>,
    /// The user's rename of a directory took a file along that the sync was about to replace or remove there: that
    /// is as if it had been done just before.
    pub was_about_to_go: bool,
}

impl Happened {
    /// It may have been meant for this path.
    fn is_from(&self, path: &RelPath) -> bool {
        self.moved_from.as_ref() == Some(path)
    }
}

/// A set of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Past(Vec<u64>);

impl Past {
    fn add(&mut self, id: usize) {
        if self.0.len() <= id / 64 {
            self.0.resize(id / 64 + 1, 0);
        }
        self.0[id / 64] |= 1 << (id % 64);
    }

    fn has(&self, id: usize) -> bool {
        self.0.get(id / 64).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    fn meet(&mut self, other: &Self) {
        self.0.truncate(other.0.len());
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine &= theirs;
        }
    }
}

/// The checker's memory of one run.
#[derive(Clone, Debug)]
pub struct Oracle {
    events: Vec<Happened>,
    seen: Vec<BTreeMap<RelPath, Past>>,
    /// Devices that made a conflict copy of their own at a path.
    authors: BTreeMap<RelPath, BTreeSet<usize>>,
    index_was_lost: bool,
    /// Contents that users took away from conflict copies, with what those were copies of.
    copies_gone: BTreeSet<(RelPath, Identity)>,
    /// Renames by users within a batch: what it puts into the directory then goes along.
    renamed_within: Vec<(RelPath, RelPath)>,
}

impl Oracle {
    /// Nothing happened yet on that many devices.
    #[must_use]
    pub fn new(devices: usize) -> Self {
        Self {
            events: Vec::new(),
            seen: vec![BTreeMap::new(); devices],
            authors: BTreeMap::new(),
            index_was_lost: false,
            copies_gone: BTreeSet::new(),
            renamed_within: Vec::new(),
        }
    }

    /// A user changed what stands at a path. `recorded`: the last content there that a scan or an action recorded.
    /// To write that again is a touch, for no scan can tell it apart: it does not protect the content anew.
    pub fn user(
        &mut self,
        device: usize,
        path: &RelPath,
        before: Option<&Content>,
        after: Option<&Content>,
        known: &Known,
    ) {
        let before = before.map(Content::identity);
        let after = after.map(Content::identity);
        if before == after {
            return;
        }
        if let Some(gone) = before.filter(|gone| Some(*gone) != after) {
            self.supersede(path, gone);
            // Written over while the sync was moving it here, by whoever saw it here.
            if let Some(from) = &known.moved_from {
                self.supersede(from, gone);
            }
            let along = self.renamed_within.iter().filter(|(_, to)| path.is_below(to));
            let before: Vec<RelPath> = along.map(|(from, to)| moved(path, to, from)).collect();
            for path in before {
                self.supersede(&path, gone);
            }
            if is_copy(path) {
                self.copies_gone.insert((base(path), gone));
            }
        }
        self.happened(device, path, Did::User, before, after);
        let event = self.events.last_mut().expect("just recorded");
        event.superseded =
            known.was_about_to_go || (after.is_some() && (after == known.recorded || after == known.put));
        event.first_contact = known.first_contact;
        // What a tombstone says was there.
        event.before = known.recorded.or(event.before);
        event.moved_from.clone_from(&known.moved_from);
    }

    /// A program wrote into a file that it had opened at a path and that the sync has displaced since. Nobody knows
    /// whether it came with the file to another path meanwhile, so its copy may stand anywhere.
    pub fn late(&mut self, device: usize, path: &RelPath, before: &Content, after: &Content) {
        self.supersede(path, before.identity());
        self.happened(device, path, Did::User, None, Some(after.identity()));
        self.events.last_mut().expect("just recorded").late = true;
    }

    /// A user wrote through one name of a file that the sync was taking away from another one, `path`, or had. Whoever
    /// finds it there cannot tell: it may count as written there as well, and need not.
    pub fn hidden(&mut self, device: usize, path: &RelPath, after: &Content) {
        self.happened(device, path, Did::User, None, Some(after.identity()));
        let event = self.events.last_mut().expect("just recorded");
        (event.late, event.superseded) = (true, true);
    }

    /// The power took a part of what a user of this device had written into a file, after the sync had displaced that:
    /// the part may count as written there, and need not.
    pub fn torn(&mut self, device: usize, was: &Content, is: &Content) {
        let wrote =
            |event: &&Happened| event.device == device && event.did == Did::User && event.after == Some(was.identity());
        let path = self.events.iter().rfind(wrote).map(|event| event.path.clone());
        if let Some(path) = path {
            self.hidden(device, &path, is);
        }
    }

    /// Users rename these, with all in them, in the middle of a batch. A batch works in directories that it has opened,
    /// so a change in one that is renamed meanwhile is as if it had been made just before.
    pub fn renamed_within(&mut self, renames: &[(RelPath, RelPath)]) {
        self.renamed_within.extend_from_slice(renames);
    }

    /// The sync itself wrote something new: a conflict copy, or a directory that lives again.
    pub fn system(&mut self, device: usize, path: &RelPath, content: &Content) {
        if is_copy(path) {
            self.authors.entry(path.clone()).or_default().insert(device);
        }
        self.happened(device, path, Did::System, None, Some(content.identity()));
    }

    /// A scan found something at a path. A conflict copy that no user made there is the sync's own: the disk layer
    /// put an edit beside the path that a batch had run into.
    pub fn found(&mut self, device: usize, path: &RelPath, content: &Content) {
        let identity = Some(content.identity());
        let users = |event: &Happened| event.did == Did::User && event.path == *path && event.after == identity;
        if is_copy(path) && !self.events.iter().any(users) {
            self.authors.entry(path.clone()).or_default().insert(device);
        }
    }

    /// The sync changed what a user sees at a path.
    pub fn shown(&mut self, device: usize, path: &RelPath, content: &Content) {
        let content = content.is_live().then(|| content.identity());
        let known = self.seen[device].entry(path.clone()).or_default().clone();
        let lineage = base(path);
        let candidates = self.events.iter().enumerate().filter(|(_, event)| match content {
            Some(_) => event.after == content && base(&event.path) == lineage,
            None => event.after.is_none() && event.path == *path && !event.forgotten,
        });
        let mut common: Option<Past> = None;
        for (id, event) in candidates {
            let mut past = event.past.clone();
            past.add(id);
            match &mut common {
                None => common = Some(past),
                Some(common) => common.meet(&past),
            }
        }
        let mut seen = known;
        seen.join(&common.unwrap_or_default());
        self.seen[device].insert(path.clone(), seen);
    }

    /// A device lost its index: what stands on its disk is found without history, its own deletions are forgotten.
    pub fn index_lost<'a>(&mut self, device: usize, tree: impl Iterator<Item = (&'a RelPath, &'a Content)>) {
        self.index_was_lost = true;
        self.seen[device].clear();
        for event in self.events.iter_mut().filter(|event| event.device == device) {
            event.forgotten = true;
        }
        for (path, content) in tree {
            self.happened(device, path, Did::Found, None, Some(content.identity()));
        }
    }

    fn happened(&mut self, device: usize, path: &RelPath, did: Did, before: Option<Identity>, after: Option<Identity>) {
        let id = self.events.len();
        let seen = self.seen[device].entry(path.clone()).or_default();
        let past = seen.clone();
        seen.add(id);
        let (path, superseded, forgotten, first_contact) = (path.clone(), false, false, false);
        self.events.push(Happened {
            device,
            path,
            did,
            before,
            after,
            past,
            superseded,
            forgotten,
            first_contact,
            moved_from: None,
            late: false,
        });
    }

    fn supersede(&mut self, path: &RelPath, gone: Identity) {
        let lineage = base(path);
        for event in &mut self.events {
            if event.after == Some(gone) && (base(&event.path) == lineage || event.is_from(&lineage) || event.late) {
                event.superseded = true;
            }
        }
    }

    /// A content that a user wrote, nobody replaced, and no tree holds. `recovered`: what devices keep outside their
    /// trees because no place beside its path is left; that must do for what came too late.
    #[must_use]
    pub fn lost(&self, tree: &BTreeMap<RelPath, Identity>, recovered: &BTreeSet<Identity>) -> Option<String> {
        let held: BTreeSet<(RelPath, Identity)> = tree.iter().map(|(path, content)| (base(path), *content)).collect();
        let writes = self.events.iter().enumerate().filter(|(_, event)| event.did == Did::User);
        for (id, event) in writes.filter(|(_, event)| !event.superseded) {
            let Some(content) = event.after.filter(|(kind, _)| *kind == 1 || *kind == 2) else {
                continue;
            };
            let is_held = |path: &RelPath| held.contains(&(base(path), content));
            let went = |path: &RelPath| {
                let along = self.renamed_within.iter().filter(|(from, _)| path.is_below(from));
                along.map(|(from, to)| moved(path, from, to)).any(|path| is_held(&path))
            };
            let is_anywhere = || recovered.contains(&content) || tree.values().any(|held| *held == content);
            // Where a user takes the directory away while a batch has the file in its hands, no place is left beside it.
            let later = &self.events[id + 1..];
            let is_homeless = || later.iter().any(|o| o.device == event.device && event.path.is_below(&o.path));
            let is_kept = event.late && is_anywhere()
                || recovered.contains(&content) && is_homeless()
                || is_held(&event.path)
                || went(&event.path)
                || event.moved_from.as_ref().is_some_and(is_held);
            if !is_kept && !self.is_old_again(id) {
                let bytes = &content.1.to_hex()[..8];
                return Some(format!("{bytes} that device {} wrote at {:?} is nowhere", event.device, event.path));
            }
        }
        None
    }

    /// Bytes that stood at the path before, by another write. DESIGN.md, section 3, lets them go in two cases.
    /// "Bytes that a scan without history finds and that equal one of an entry's last 8 content hashes are an old
    /// version": so whoever puts old bytes back before the first scan ended, or before the index is lost, loses them.
    /// "The same content already there: nothing to do": a copy of the other write stood under the conflict name, and
    /// a user elsewhere took that copy away without knowing of this write.
    fn is_old_again(&self, id: usize) -> bool {
        let event = &self.events[id];
        let lineage = base(&event.path);
        let twin = |other: &(usize, &Happened)| {
            other.0 != id && other.1.after == event.after && base(&other.1.path) == lineage
        };
        let found = self.index_was_lost || event.first_contact;
        let copied = event.after.is_some_and(|content| self.copies_gone.contains(&(lineage.clone(), content)));
        (found || copied) && self.events.iter().enumerate().any(|other| twin(&other))
    }

    /// A path that a user deleted after seeing all that was written there, and that lives.
    #[must_use]
    pub fn resurrected(&self, tree: &BTreeMap<RelPath, Identity>) -> Option<String> {
        let dead = |path: &RelPath| self.is_dead(path);
        for (path, content) in tree {
            let lived_in = content.0 == 3 && tree.keys().any(|child| child.is_below(path) && !dead(child));
            if dead(path) && !lived_in {
                return Some(format!("{path:?} was deleted after everything written there and lives again"));
            }
        }
        None
    }

    fn is_dead(&self, path: &RelPath) -> bool {
        // The exception of DESIGN.md, section 3: a deleted conflict copy that two devices made independently.
        if self.authors.get(path).is_some_and(|authors| authors.len() > 1) {
            return false;
        }
        if self.events.iter().any(|event| event.is_from(path)) {
            return false;
        }
        let here = |event: &&Happened| event.path == *path;
        let deletions = self.events.iter().filter(here).filter(|event| event.after.is_none() && !event.forgotten);
        deletions.into_iter().any(|deletion| {
            self.events.iter().enumerate().filter(|(_, event)| event.path == *path && event.after.is_some()).all(
                |(id, write)| {
                    let recognised = write.did == Did::Found && write.after == deletion.before;
                    deletion.past.has(id) || (recognised && write.after.is_some_and(|(kind, _)| kind != 3))
                },
            )
        })
    }

    /// A conflict copy without two concurrent actions behind it.
    #[must_use]
    pub fn spurious(&self, tree: &BTreeMap<RelPath, Identity>) -> Option<String> {
        let copies = tree.iter().filter(|(path, _)| is_copy(path));
        for (path, content) in copies {
            let edited = self.events.iter().any(|event| event.did == Did::User && event.path == *path);
            // Made in a directory that a user renamed meanwhile, it went along.
            let along = self.renamed_within.iter().filter(|(_, to)| path.is_below(to));
            let mut before = along.map(|(from, to)| moved(path, to, from));
            let has_conflict = |path: &RelPath| self.has_conflict(&base(path), *content);
            if !edited && !has_conflict(path) && !before.any(|path| has_conflict(&path)) {
                return Some(format!("{path:?} is a conflict copy without a conflict"));
            }
        }
        None
    }

    fn has_conflict(&self, lineage: &RelPath, content: Identity) -> bool {
        let near = |event: &Happened| {
            let other = base(&event.path);
            other == *lineage || other.is_below(lineage) || lineage.is_below(&other) || event.is_from(lineage)
        };
        let ours = self.events.iter().enumerate();
        let is_here = |event: &Happened| base(&event.path) == *lineage || event.is_from(lineage);
        let ours = ours.filter(|(_, event)| event.after == Some(content) && is_here(event));
        // The copy itself is no reason for the copy.
        let ours = ours.filter(|(_, event)| event.did != Did::System);
        let is_late = |event: &Happened| event.late && event.after == Some(content);
        if self.events.iter().any(is_late) {
            return true;
        }
        ours.into_iter().any(|(id, event)| {
            self.events.iter().enumerate().any(|(other_id, other)| {
                let concurrent = !event.past.has(other_id) && !other.past.has(id);
                // Equal bytes agree at one path; at two, one above the other, they do not.
                let differs = other.after != event.after || base(&other.path) != *lineage;
                other_id != id && concurrent && near(other) && differs
            })
        })
    }

    /// How many changes it knows of.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing happened.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

const MARKS: [&[u8]; 2] = [b".sync-conflict-", b".cc-"];

fn mark_in(name: &[u8]) -> Option<usize> {
    MARKS.iter().find_map(|mark| name.windows(mark.len()).position(|window| window == *mark))
}

/// Whether the last component is a conflict name.
#[must_use]
pub fn is_copy(path: &RelPath) -> bool {
    mark_in(path.name()).is_some()
}

/// The path that a conflict copy was set aside from, through copies of copies. The simulator's names have no dots.
#[must_use]
pub fn base(path: &RelPath) -> RelPath {
    match mark_in(path.name()) {
        Some(at) => path.with_name(&path.name()[..at]).expect("a shorter name that is not empty is a name"),
        None => path.clone(),
    }
}
