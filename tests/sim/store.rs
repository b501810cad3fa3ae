//! A folder's database in memory: `Rows` and `Journal` over ordered maps. What is committed survives a crash;
//! there is nothing else in it. Its invariants are checked at every write.

use protocol::model::{Content, DeviceId, Digest, FileContent, Manifest, RelPath, ReplicaId, Row, Sequence};
use protocol::sync::{
    ActionId, Change, Cursor, FolderState, Have, Held, Installing, Journal, LocalRow, Observed, Rows, Totals, Want,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

/// The database of one device.
#[derive(Clone, Debug)]
pub struct Store(RefCell<Tables>);

#[derive(Clone, Debug)]
struct Tables {
    rows: BTreeMap<RelPath, LocalRow>,
    sequences: BTreeMap<RelPath, Sequence>,
    order: BTreeMap<Sequence, RelPath>,
    cursors: BTreeMap<DeviceId, Cursor>,
    manifests: BTreeMap<[u8; 32], Manifest>,
    installing: BTreeMap<ActionId, Installing>,
    held: BTreeMap<ActionId, Held>,
    state: FolderState,
}

impl Store {
    /// An empty database under a replica id, its counter starting after `counter`.
    #[must_use]
    pub fn new(replica: ReplicaId, counter: u64) -> Self {
        let state = FolderState {
            replica,
            counter,
            scanned: false,
            head: Sequence(0),
            digest: Digest::default(),
            totals: Totals::default(),
            need_entries: 0,
            need_bytes: 0,
        };
        Self(RefCell::new(Tables {
            rows: BTreeMap::new(),
            sequences: BTreeMap::new(),
            order: BTreeMap::new(),
            cursors: BTreeMap::new(),
            manifests: BTreeMap::new(),
            installing: BTreeMap::new(),
            held: BTreeMap::new(),
            state,
        }))
    }

    /// Every row, for the checks.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<RelPath, LocalRow> {
        self.0.borrow().rows.clone()
    }

    /// Live paths strictly after `after`, at most `limit`.
    #[must_use]
    pub fn live_after(&self, after: Option<&RelPath>, limit: usize) -> Vec<RelPath> {
        let tables = self.0.borrow();
        tables.after(after).filter(|(_, row)| row.is_live()).take(limit).map(|(path, _)| path.clone()).collect()
    }

    /// Live paths strictly below `dir`.
    #[must_use]
    pub fn live_paths_below(&self, dir: &RelPath) -> Vec<RelPath> {
        let tables = self.0.borrow();
        tables.below(dir).filter(|(_, row)| row.is_live()).map(|(path, _)| path.clone()).collect()
    }

    /// Whether some row wants something.
    #[must_use]
    pub fn has_wants(&self) -> bool {
        self.0.borrow().rows.values().any(|row| !row.wants.is_empty())
    }
}

impl Tables {
    fn after(&self, after: Option<&RelPath>) -> impl Iterator<Item = (&RelPath, &LocalRow)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range::<RelPath, _>((from, Bound::Unbounded))
    }

    fn below<'a>(&'a self, dir: &'a RelPath) -> impl Iterator<Item = (&'a RelPath, &'a LocalRow)> {
        self.after(Some(dir)).take_while(|(path, _)| path.is_below(dir))
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Have { path, have } => self.have(path, have),
            Change::Seen { path, fingerprint, racy } => {
                let row = self.rows.get_mut(&path).and_then(|row| row.have.as_mut());
                let have = row.expect("only a recorded path is seen again");
                have.fingerprint = Some(fingerprint);
                have.racy = racy;
            }
            Change::Wants { path, wants } => self.wants(path, wants),
            Change::Local { path, local } => {
                self.rows.entry(path.clone()).or_default().local = local;
                self.tidy(&path);
            }
            Change::Manifest(manifest) => {
                self.manifests.insert(manifest.content.0, manifest);
            }
            Change::Cursor { peer, cursor } => {
                self.cursors.insert(peer, cursor);
            }
            Change::Counter(counter) => {
                assert!(counter >= self.state.counter, "a counter never falls");
                self.state.counter = counter;
            }
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
            Change::Scanned => self.state.scanned = true,
            Change::Lost { path } => self.lost(&path),
            Change::Forget(peer) => self.forget(peer),
        }
    }

    fn have(&mut self, path: RelPath, have: Have) {
        self.uncount(&path);
        let row = self.rows.entry(path.clone()).or_default();
        row.wants.retain(|want| !want.entry.version.is_within(&have.entry.version));
        row.local = None;
        assert_eq!(have.fingerprint.is_some(), have.entry.is_live(), "what is live has a fingerprint: {path:?}");
        self.state.digest.add(&path, &have.entry);
        *self.total(&have.entry.content) += 1;
        self.state.totals.bytes += have.entry.content.file().map_or(0, |file| file.size);
        self.rows.get_mut(&path).expect("just made").have = Some(have);
        self.state.head = self.state.head.next();
        if let Some(earlier) = self.sequences.insert(path.clone(), self.state.head) {
            self.order.remove(&earlier);
        }
        self.order.insert(self.state.head, path);
        self.count_needs();
    }

    fn uncount(&mut self, path: &RelPath) {
        let Some(have) = self.rows.get(path).and_then(|row| row.have.clone()) else {
            return;
        };
        self.state.digest.remove(path, &have.entry);
        *self.total(&have.entry.content) -= 1;
        self.state.totals.bytes -= have.entry.content.file().map_or(0, |file| file.size);
    }

    fn total(&mut self, content: &Content) -> &mut u64 {
        let totals = &mut self.state.totals;
        match content {
            Content::Tombstone => &mut totals.tombstones,
            Content::Symlink(_) => &mut totals.symlinks,
            Content::File(_) => &mut totals.files,
            Content::Directory => &mut totals.directories,
        }
    }

    fn wants(&mut self, path: RelPath, wants: Vec<Want>) {
        self.rows.entry(path.clone()).or_default().wants = wants;
        self.tidy(&path);
        self.count_needs();
    }

    fn lost(&mut self, path: &RelPath) {
        self.uncount(path);
        if let Some(row) = self.rows.get_mut(path) {
            row.have = None;
        }
        if let Some(sequence) = self.sequences.remove(path) {
            self.order.remove(&sequence);
        }
        self.tidy(path);
    }

    fn forget(&mut self, peer: DeviceId) {
        self.cursors.remove(&peer);
        for row in self.rows.values_mut() {
            for want in &mut row.wants {
                want.sources.retain(|source| *source != peer);
            }
            row.wants.retain(|want| !want.sources.is_empty());
        }
        self.rows.retain(|_, row| *row != LocalRow::default());
        self.count_needs();
    }

    fn tidy(&mut self, path: &RelPath) {
        if self.rows.get(path).is_some_and(|row| *row == LocalRow::default()) {
            self.rows.remove(path);
        }
    }

    fn count_needs(&mut self) {
        let pending = |want: &&Want| want.declined.is_none();
        let mut entries = 0;
        let mut bytes = 0;
        for row in self.rows.values() {
            if let Some(want) = row.wants.iter().find(pending) {
                entries += 1;
                bytes += want.entry.content.file().map_or(0, |file| file.size);
            }
        }
        self.state.need_entries = entries;
        self.state.need_bytes = bytes;
    }
}

impl Rows for Store {
    fn get(&self, path: &RelPath) -> LocalRow {
        self.0.borrow().rows.get(path).cloned().unwrap_or_default()
    }

    fn live_below(&self, dir: &RelPath) -> Option<RelPath> {
        let tables = self.0.borrow();
        tables.below(dir).find(|(_, row)| row.is_live()).map(|(path, _)| path.clone())
    }

    fn children(&self, dir: Option<&RelPath>) -> Vec<(RelPath, Have)> {
        let tables = self.0.borrow();
        let inside = |path: &RelPath| path.parent().as_ref() == dir;
        let rows = tables.after(dir).take_while(|(path, _)| dir.is_none_or(|dir| path.is_below(dir)));
        rows.filter(|(path, row)| row.is_live() && inside(path)).filter_map(with_have).collect()
    }

    fn below(&self, dir: Option<&RelPath>, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Have)> {
        let tables = self.0.borrow();
        let rows = tables.after(after.or(dir)).take_while(|(path, _)| dir.is_none_or(|dir| path.is_below(dir)));
        rows.filter(|(_, row)| row.is_live()).filter_map(with_have).take(limit).collect()
    }

    fn wanted(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        let tables = self.0.borrow();
        let rows = tables.after(after).filter(|(_, row)| !row.wants.is_empty()).take(limit);
        rows.map(|(path, row)| (path.clone(), row.clone())).collect()
    }

    fn wanted_reversed(&self, before: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        let tables = self.0.borrow();
        let to = before.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = tables.rows.range::<RelPath, _>((Bound::Unbounded, to)).rev();
        let rows = rows.filter(|(_, row)| !row.wants.is_empty()).take(limit);
        rows.map(|(path, row)| (path.clone(), row.clone())).collect()
    }

    fn since(&self, after: Sequence, limit: usize) -> Vec<(Sequence, Row)> {
        let tables = self.0.borrow();
        let order = tables.order.range((Bound::Excluded(after), Bound::Unbounded)).take(limit);
        order
            .map(|(sequence, path)| {
                let entry = tables.rows[path].entry().cloned().expect("a numbered row has an entry");
                (*sequence, Row { path: path.clone(), entry })
            })
            .collect()
    }

    fn state(&self) -> FolderState {
        self.0.borrow().state
    }

    fn cursor(&self, peer: &DeviceId) -> Option<Cursor> {
        self.0.borrow().cursors.get(peer).copied()
    }

    fn manifest(&self, content: &FileContent) -> Option<Manifest> {
        let FileContent { size, hash, chunking, chunks } = content.clone();
        if !chunks.is_empty() || size == 0 {
            return Some(Manifest { content: hash, size, chunking, chunks });
        }
        self.0.borrow().manifests.get(&hash.0).cloned()
    }

    fn holders(&self, content: &FileContent, limit: usize) -> Vec<RelPath> {
        let tables = self.0.borrow();
        let holds = |row: &LocalRow| {
            row.entry().and_then(|entry| entry.content.file()).is_some_and(|file| file.hash == content.hash)
        };
        tables.rows.iter().filter(|(_, row)| holds(row)).map(|(path, _)| path.clone()).take(limit).collect()
    }

    fn effective_digest(&self) -> Digest {
        let tables = self.0.borrow();
        let mut digest = tables.state.digest;
        for (path, row) in &tables.rows {
            if let Some(want) = row.wants.iter().find(|want| want.declined.is_some()) {
                if let Some(entry) = row.entry() {
                    digest.remove(path, entry);
                }
                digest.add(path, &want.entry);
            }
        }
        digest
    }

    fn locals(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Observed)> {
        let tables = self.0.borrow();
        let rows = tables.after(after).filter_map(|(path, row)| Some((path.clone(), row.local.clone()?)));
        rows.take(limit).collect()
    }
}

impl Journal for Store {
    fn commit(&self, changes: Vec<Change>) {
        let mut tables = self.0.borrow_mut();
        for change in changes {
            tables.apply(change);
        }
    }

    fn installing(&self) -> Vec<Installing> {
        self.0.borrow().installing.values().cloned().collect()
    }

    fn held(&self) -> Vec<Held> {
        self.0.borrow().held.values().cloned().collect()
    }
}

fn with_have((path, row): (&RelPath, &LocalRow)) -> Option<(RelPath, Have)> {
    row.have.clone().map(|have| (path.clone(), have))
}
