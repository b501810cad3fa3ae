//! A folder's database as plain ordered maps: for tests and the simulator. It implements every rule of `Rows` and
//! `Journal` in the simplest way that is right. Invariant: what `commit` returned from survives every crash.

use protocol::model::{
    Content, ContentHash, DeviceId, Digest, FileContent, Manifest, RelPath, ReplicaId, Row, RunId, Sequence,
};
use protocol::sync::{
    ActionId, Change, Cursor, FolderState, Have, Held, History, Installing, Journal, LocalRow, Observed, Rows, Totals,
    Want,
};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard};

/// Where in a transaction the hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// Nothing of it is durable.
    Before,
    /// All of it is durable.
    After,
}

type Hook = Box<dyn FnMut(CommitPoint) + Send>;

#[derive(Clone, Debug)]
struct State {
    rows: BTreeMap<RelPath, LocalRow>,
    by_sequence: BTreeMap<Sequence, RelPath>,
    sequences: BTreeMap<RelPath, Sequence>,
    manifests: BTreeMap<ContentHash, Manifest>,
    cursors: BTreeMap<DeviceId, Cursor>,
    history: History,
    remembered: BTreeMap<(DeviceId, ReplicaId), (RunId, Sequence)>,
    installing: BTreeMap<ActionId, Installing>,
    held: BTreeMap<ActionId, Held>,
    replica: ReplicaId,
    counter: u64,
    scanned: bool,
    head: Sequence,
    digest: Digest,
    totals: Totals,
}

/// A database in memory. Clones are handles of the same one; `fork` copies it.
#[derive(Clone)]
pub struct MemJournal {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl MemJournal {
    /// An empty database of a new replica.
    #[must_use]
    pub fn new(replica: ReplicaId) -> Self {
        let state = State {
            rows: BTreeMap::new(),
            by_sequence: BTreeMap::new(),
            sequences: BTreeMap::new(),
            manifests: BTreeMap::new(),
            cursors: BTreeMap::new(),
            history: History::default(),
            remembered: BTreeMap::new(),
            installing: BTreeMap::new(),
            held: BTreeMap::new(),
            replica,
            counter: 0,
            scanned: false,
            head: Sequence(0),
            digest: Digest::default(),
            totals: Totals::default(),
        };
        Self::of(state)
    }

    fn of(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)), hook: Arc::new(Mutex::new(None)) }
    }

    /// A copy that goes its own way: a backup, or a cloned device.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.lock().clone())
    }

    /// Called before and after every transaction; may crash the process.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(|poison| poison.into_inner()) = hook;
    }

    /// Every row, also of tombstones and of wants alone.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<RelPath, LocalRow> {
        self.lock().rows.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn call(&self, point: CommitPoint) {
        // Taken out, so that a hook which unwinds leaves none behind.
        let hook = self.hook.lock().unwrap_or_else(|poison| poison.into_inner()).take();
        if let Some(mut hook) = hook {
            hook(point);
            *self.hook.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(hook);
        }
    }
}

impl State {
    fn count(&mut self, path: &RelPath, have: &Have, add: bool) {
        let apply = |slot: &mut u64, by: u64| *slot = if add { *slot + by } else { *slot - by };
        match &have.entry.content {
            Content::Tombstone => apply(&mut self.totals.tombstones, 1),
            Content::Symlink(_) => apply(&mut self.totals.symlinks, 1),
            Content::Directory => apply(&mut self.totals.directories, 1),
            Content::File(file) => {
                apply(&mut self.totals.files, 1);
                apply(&mut self.totals.bytes, file.size);
            }
        }
        if add { self.digest.add(path, &have.entry) } else { self.digest.remove(path, &have.entry) }
    }

    fn record(&mut self, path: RelPath, have: Have) {
        let row = self.rows.entry(path.clone()).or_default();
        if row.entry() == Some(&have.entry) {
            // Not announced again: only what the disk says of it is new.
            row.wants.retain(|want| !want.entry.version.is_within(&have.entry.version));
            row.local = None;
            row.have = Some(have);
            return;
        }
        if let Some(old) = self.rows.get(&path).and_then(|row| row.have.clone()) {
            self.count(&path, &old, false);
        }
        self.count(&path, &have, true);
        self.head = self.head.next();
        if let Some(old) = self.sequences.insert(path.clone(), self.head) {
            self.by_sequence.remove(&old);
        }
        self.by_sequence.insert(self.head, path.clone());
        let row = self.rows.entry(path).or_default();
        row.wants.retain(|want| !want.entry.version.is_within(&have.entry.version));
        row.local = None;
        row.have = Some(have);
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Have { path, have } => self.record(path, have),
            Change::Seen { path, fingerprint, racy } => {
                if let Some(have) = self.rows.get_mut(&path).and_then(|row| row.have.as_mut()) {
                    have.fingerprint = Some(fingerprint);
                    have.racy = racy;
                }
            }
            Change::Wants { path, wants } => self.rows.entry(path).or_default().wants = wants,
            Change::Local { path, local } => self.rows.entry(path).or_default().local = local,
            Change::Manifest(manifest) => {
                self.manifests.insert(manifest.content, manifest);
            }
            Change::Cursor { peer, cursor } => {
                self.cursors.insert(peer, cursor);
            }
            Change::Counter(counter) => self.counter = self.counter.max(counter),
            Change::Installing(row) => {
                self.installing.insert(row.id, row);
            }
            Change::Installed(id) => {
                self.installing.remove(&id);
            }
            Change::Held(row) => {
                self.held.insert(row.id, row);
            }
            Change::Released(id) => {
                self.held.remove(&id);
            }
            Change::Scanned => self.scanned = true,
            Change::Lost { path } => {
                if let Some(old) = self.rows.get_mut(&path).and_then(|row| row.have.take()) {
                    self.count(&path, &old, false);
                }
                if let Some(old) = self.sequences.remove(&path) {
                    self.by_sequence.remove(&old);
                }
            }
            Change::Run(run) => self.history.begin(run, self.head),
            Change::Confirmed(counter) => self.history.confirmed = self.history.confirmed.max(counter),
            Change::Remember { peer, replica, run, sequence } => {
                self.remembered.insert((peer, replica), (run, sequence));
            }
            Change::Renewed(replica) => {
                (self.replica, self.scanned, self.history) = (replica, false, History::default());
                self.cursors.clear();
            }
            Change::Forget(peer) => self.forget(&peer),
        }
    }

    fn forget(&mut self, peer: &DeviceId) {
        self.cursors.remove(peer);
        for row in self.rows.values_mut() {
            row.wants.iter_mut().for_each(|want| want.sources.retain(|source| source != peer));
            row.wants.retain(|want| !want.sources.is_empty());
        }
    }

    /// Drops what nothing names any more.
    fn tidy(&mut self) {
        self.rows.retain(|_, row| row.have.is_some() || !row.wants.is_empty() || row.local.is_some());
        if self.manifests.is_empty() {
            return;
        }
        let mut named = std::collections::BTreeSet::new();
        for row in self.rows.values() {
            let entries = row.entry().into_iter().chain(row.wants.iter().map(|want| &want.entry));
            named.extend(entries.filter_map(protocol::sync::local::file_hash));
            named.extend(row.local.as_ref().and_then(|local| local.content().file().map(|file| file.hash)));
        }
        self.manifests.retain(|content, _| named.contains(content));
    }

    fn live_after<'a>(
        &'a self,
        dir: Option<&'a RelPath>,
        after: Option<&RelPath>,
    ) -> impl Iterator<Item = (&'a RelPath, &'a Have)> {
        let start = match (dir, after) {
            (Some(dir), Some(after)) => Some(dir.max(after).clone()),
            (dir, after) => dir.or(after).cloned(),
        };
        let range = match start {
            Some(start) => self.rows.range((Excluded(start), Unbounded)),
            None => self.rows.range::<RelPath, _>(..),
        };
        range
            .take_while(move |(path, _)| dir.is_none_or(|dir| path.is_below(dir)))
            .filter(|(_, row)| row.is_live())
            .filter_map(|(path, row)| row.have.as_ref().map(|have| (path, have)))
    }
}

/// A want that waits for nothing but its turn.
fn is_needed(want: &&Want) -> bool {
    want.declined.is_none()
}

impl Rows for MemJournal {
    fn get(&self, path: &RelPath) -> LocalRow {
        self.lock().rows.get(path).cloned().unwrap_or_default()
    }

    fn live_below(&self, dir: &RelPath) -> Option<RelPath> {
        self.lock().live_after(Some(dir), None).next().map(|(path, _)| path.clone())
    }

    fn children(&self, dir: Option<&RelPath>) -> Vec<(RelPath, Have)> {
        let state = self.lock();
        let direct = state.live_after(dir, None).filter(|(path, _)| path.parent().as_ref() == dir);
        direct.map(|(path, have)| (path.clone(), have.clone())).collect()
    }

    fn below(&self, dir: Option<&RelPath>, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Have)> {
        let state = self.lock();
        state.live_after(dir, after).take(limit).map(|(path, have)| (path.clone(), have.clone())).collect()
    }

    fn wanted(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        let state = self.lock();
        let rows = state.rows.iter().filter(|(path, row)| !row.wants.is_empty() && Some(*path) > after);
        rows.take(limit).map(|(path, row)| (path.clone(), row.clone())).collect()
    }

    fn wanted_reversed(&self, before: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        let state = self.lock();
        let rows = state.rows.iter().rev();
        let rows = rows.filter(|(path, row)| !row.wants.is_empty() && before.is_none_or(|before| *path < before));
        rows.take(limit).map(|(path, row)| (path.clone(), row.clone())).collect()
    }

    fn since(&self, after: Sequence, limit: usize) -> Vec<(Sequence, Row)> {
        let state = self.lock();
        let rows = state.by_sequence.range((Excluded(after), Unbounded)).take(limit);
        rows.map(|(sequence, path)| {
            let entry = state.rows[path].entry().expect("a sequence number belongs to a have").clone();
            (*sequence, Row { path: path.clone(), entry })
        })
        .collect()
    }

    fn state(&self) -> FolderState {
        let state = self.lock();
        let needed = || state.rows.values().filter(|row| row.wants.iter().any(|want| is_needed(&want)));
        let bytes = |row: &LocalRow| -> u64 {
            row.wants.iter().filter(is_needed).filter_map(|want| want.entry.content.file()).map(|file| file.size).sum()
        };
        FolderState {
            replica: state.replica,
            counter: state.counter,
            scanned: state.scanned,
            head: state.head,
            digest: state.digest,
            totals: state.totals,
            need_entries: needed().count() as u64,
            need_bytes: needed().map(bytes).sum(),
        }
    }

    fn cursor(&self, peer: &DeviceId) -> Option<Cursor> {
        self.lock().cursors.get(peer).copied()
    }

    fn history(&self) -> History {
        self.lock().history.clone()
    }

    fn remembered(&self, peer: &DeviceId, replica: ReplicaId) -> Option<(RunId, Sequence)> {
        self.lock().remembered.get(&(*peer, replica)).copied()
    }

    fn manifest(&self, content: &FileContent) -> Option<Manifest> {
        let inline = !content.chunks.is_empty() || content.size == 0;
        if !inline {
            return self.lock().manifests.get(&content.hash).cloned();
        }
        let (size, chunking, chunks) = (content.size, content.chunking, content.chunks.clone());
        Some(Manifest { content: content.hash, size, chunking, chunks })
    }

    fn holders(&self, content: &FileContent, limit: usize) -> Vec<RelPath> {
        let state = self.lock();
        let same = |have: &Have| have.entry.content.file().is_some_and(|file| file.hash == content.hash);
        let paths = state.live_after(None, None).filter(|(_, have)| same(have));
        paths.take(limit).map(|(path, _)| path.clone()).collect()
    }

    fn effective_digest(&self, peer: &DeviceId) -> Digest {
        let state = self.lock();
        let mut digest = state.digest;
        for (path, row) in &state.rows {
            for want in row.declined_from(peer) {
                if let Some(entry) = row.entry() {
                    digest.remove(path, entry);
                }
                digest.add(path, &want.entry);
            }
        }
        digest
    }

    fn declines_others(&self, peer: &DeviceId) -> bool {
        let state = self.lock();
        let mut declined = state.rows.values().flat_map(|row| row.wants.iter().filter(|want| want.declined.is_some()));
        declined.any(|want| !want.sources.contains(peer))
    }

    fn locals(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Observed)> {
        let state = self.lock();
        let rows = state.rows.iter().filter(|(path, _)| Some(*path) > after);
        rows.filter_map(|(path, row)| Some((path.clone(), row.local.clone()?))).take(limit).collect()
    }
}

impl Journal for MemJournal {
    fn commit(&self, changes: Vec<Change>) {
        self.call(CommitPoint::Before);
        {
            let mut state = self.lock();
            changes.into_iter().for_each(|change| state.apply(change));
            state.tidy();
        }
        self.call(CommitPoint::After);
    }

    fn installing(&self) -> Vec<Installing> {
        self.lock().installing.values().cloned().collect()
    }

    fn held(&self) -> Vec<Held> {
        self.lock().held.values().cloned().collect()
    }
}
