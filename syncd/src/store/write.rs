//! `Journal`: a list of changes becomes one transaction. Changes are applied in order to the paths they name, held
//! in memory; then each path is written once, in key order, which is what a B-tree takes fastest.

use super::Store;
use super::codec::{
    self, decode, decode_row, encode, encode_manifest, encode_row, holder_key, path_key, remembered_key,
};
use super::tables::{HELD, INSTALLING, META_HISTORY, META_TALLY, Tables, any_with_prefix};
use super::tally::Tally;
use anyhow::Context;
use protocol::model::{ContentHash, DeviceId, FileContent, RelPath, Sequence};
use protocol::sync::{Change, Have, Held, History, Installing, Journal, LocalRow};
use redb::{Durability, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

impl Journal for Store {
    fn commit(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.guard("commit", || {
            let txn = begin_write(&self.db)?;
            let mut batch = Batch::new(&txn)?;
            for change in changes {
                batch.apply(change)?;
            }
            batch.write()?;
            Ok(txn.commit()?)
        });
    }

    fn installing(&self) -> Vec<Installing> {
        self.by_id("read the journal", INSTALLING)
    }

    fn held(&self) -> Vec<Held> {
        self.by_id("read what is held", HELD)
    }
}

impl Store {
    /// Drops chunk lists that no row names: those that were kept ahead of an entry that never came. For idle times;
    /// lists that lose their last name go by themselves. Answers how many went.
    pub fn sweep_manifests(&self) -> usize {
        self.guard("drop chunk lists", || {
            let txn = begin_write(&self.db)?;
            let mut tables = Tables::open(&txn)?;
            let mut unnamed = Vec::new();
            for next in tables.manifests.iter()? {
                let (hash, value) = next?;
                let hash = ContentHash(*hash.value());
                let size = codec::decode_manifest_size(value.value())?;
                if !is_named(&tables, &codec::content_prefix(size, &hash))? {
                    unnamed.push(hash);
                }
            }
            for hash in &unnamed {
                tables.manifests.remove(hash.as_bytes())?;
            }
            drop(tables);
            if unnamed.is_empty() {
                txn.abort()?
            } else {
                txn.commit()?
            }
            Ok(unnamed.len())
        })
    }

    fn by_id<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        table: TableDefinition<'static, u64, &'static [u8]>,
    ) -> Vec<T> {
        self.read(what, |txn| {
            let table = txn.open_table(table)?;
            table.iter()?.map(|next| decode(next?.1.value())).collect()
        })
    }
}

/// A transaction whose commit survives a power cut, and whose pages peers cannot shape into a valid-looking tear.
pub(super) fn begin_write(db: &redb::Database) -> anyhow::Result<WriteTransaction> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    Ok(txn)
}

fn is_named(tables: &Tables, content_prefix: &[u8]) -> anyhow::Result<bool> {
    Ok(any_with_prefix(&tables.holders, content_prefix)? || any_with_prefix(&tables.wanters, content_prefix)?)
}

/// One path while a batch is applied.
struct Cell {
    path: RelPath,
    before: Located,
    now: Located,
}

/// A row and its place in the index.
#[derive(Clone, Default)]
struct Located {
    row: LocalRow,
    sequence: Option<Sequence>,
}

/// Changes to the tables that are not ordered by path, collected so that they too are written in key order.
#[derive(Default)]
struct Derived {
    /// `true`: insert.
    holders: BTreeMap<Vec<u8>, bool>,
    /// The same.
    wanters: BTreeMap<Vec<u8>, bool>,
    /// The path key to insert, or none to remove.
    sequences: BTreeMap<Sequence, Option<Vec<u8>>>,
    /// Contents that some row names no more, with their prefix.
    loosened: BTreeMap<ContentHash, [u8; 16]>,
}

struct Batch<'t> {
    tables: Tables<'t>,
    tally: Tally,
    cells: BTreeMap<Vec<u8>, Cell>,
}

impl<'t> Batch<'t> {
    fn new(txn: &'t WriteTransaction) -> anyhow::Result<Self> {
        let tables = Tables::open(txn)?;
        let tally = decode(tables.meta.get(META_TALLY)?.context("no tally")?.value())?;
        Ok(Self { tables, tally, cells: BTreeMap::new() })
    }

    fn apply(&mut self, change: Change) -> anyhow::Result<()> {
        match change {
            Change::Have { path, have } => self.record(path, have)?,
            Change::Seen { path, fingerprint, racy } => {
                // Only of what is recorded: a row that has gone meanwhile has nothing to refresh.
                if let Some(have) = self.cell(path)?.now.row.have.as_mut().filter(|have| have.entry.is_live()) {
                    have.fingerprint = Some(fingerprint);
                    have.racy = racy;
                }
            }
            Change::Wants { path, wants } => self.cell(path)?.now.row.wants = wants,
            Change::Local { path, local } => self.cell(path)?.now.row.local = local,
            Change::Manifest(manifest) => {
                let packed = encode_manifest(&manifest);
                self.tables.manifests.insert(manifest.content.as_bytes(), packed.as_slice())?;
            }
            Change::Cursor { peer, cursor } => {
                self.tables.peers.insert(peer.as_bytes(), encode(&cursor).as_slice())?;
            }
            Change::Counter(counter) => self.tally.counter = self.tally.counter.max(counter),
            Change::Installing(action) => {
                self.tables.installing.insert(action.id.0, encode(&action).as_slice())?;
            }
            Change::Installed(id) => drop(self.tables.installing.remove(id.0)?),
            Change::Held(held) => drop(self.tables.held.insert(held.id.0, encode(&held).as_slice())?),
            Change::Released(id) => drop(self.tables.held.remove(id.0)?),
            Change::Scanned => self.tally.scanned = true,
            Change::Lost { path } => {
                let now = &mut self.cell(path)?.now;
                now.row.have = None;
                now.sequence = None;
            }
            Change::Run(run) => {
                let head = self.tally.head;
                self.history(|history| history.begin(run, head))?;
            }
            Change::Confirmed(counter) => {
                self.history(|history| history.confirmed = history.confirmed.max(counter))?;
            }
            Change::Remember { peer, replica, run, sequence } => {
                let key = remembered_key(&peer, replica);
                self.tables.remembered.insert(&key, encode(&(run, sequence)).as_slice())?;
            }
            Change::Renewed(replica) => {
                (self.tally.replica, self.tally.scanned) = (replica, false);
                self.history(|history| *history = History::default())?;
                self.tables.peers.retain(|_, _| false)?;
            }
            Change::Forget(peer) => self.forget(peer)?,
        }
        Ok(())
    }

    fn history(&mut self, change: impl FnOnce(&mut History)) -> anyhow::Result<()> {
        let kept = self.tables.meta.get(META_HISTORY)?.map(|value| decode(value.value())).transpose()?;
        let mut history = kept.unwrap_or_default();
        change(&mut history);
        self.tables.meta.insert(META_HISTORY, encode(&history).as_slice())?;
        Ok(())
    }

    /// An entry that stands there already is not announced again: only what the disk says of it is new.
    fn record(&mut self, path: RelPath, have: Have) -> anyhow::Result<()> {
        let next = self.tally.head.next();
        let now = &mut self.cell(path)?.now;
        let changed = now.row.entry() != Some(&have.entry);
        now.row.wants.retain(|want| !want.entry.version.is_within(&have.entry.version));
        now.row.local = None;
        now.row.have = Some(have);
        if changed {
            now.sequence = Some(next);
            self.tally.head = next;
        }
        Ok(())
    }

    /// A peer's name is in the wants alone, so these are read; it happens when a person unpairs a device.
    fn forget(&mut self, peer: DeviceId) -> anyhow::Result<()> {
        self.tables.peers.remove(peer.as_bytes())?;
        let mut paths: BTreeSet<RelPath> = self.cells.values().map(|cell| cell.path.clone()).collect();
        for next in self.tables.wants.iter()? {
            paths.insert(codec::key_path(next?.0.value())?);
        }
        for path in paths {
            self.cell(path)?.now.row.wants.retain_mut(|want| {
                want.sources.retain(|source| *source != peer);
                !want.sources.is_empty()
            });
        }
        Ok(())
    }

    /// The path as this batch has left it so far.
    fn cell(&mut self, path: RelPath) -> anyhow::Result<&mut Cell> {
        match self.cells.entry(path_key(&path)) {
            Slot::Occupied(slot) => Ok(slot.into_mut()),
            Slot::Vacant(slot) => {
                let before = load(&self.tables, slot.key())?;
                let now = before.clone();
                Ok(slot.insert(Cell { path, before, now }))
            }
        }
    }

    fn write(self) -> anyhow::Result<()> {
        let Self { mut tables, mut tally, cells } = self;
        let mut derived = Derived::default();
        for (key, Cell { path, before, now }) in &cells {
            write_path(&mut tables, key, before, now)?;
            derived.note(key, before, now);
            tally.replace(path, &before.row, &now.row);
        }
        derived.write(&mut tables)?;
        tables.meta.insert(META_TALLY, encode(&tally).as_slice())?;
        Ok(())
    }
}

fn load(tables: &Tables, key: &[u8]) -> anyhow::Result<Located> {
    let stored = tables.rows.get(key)?.map(|row| decode_row(row.value())).transpose()?;
    let (sequence, have) = stored.unzip();
    let wants = tables.wants.get(key)?.map(|wants| decode(wants.value())).transpose()?.unwrap_or_default();
    let local = tables.locals.get(key)?.map(|local| decode(local.value())).transpose()?;
    Ok(Located { row: LocalRow { have, wants, local }, sequence })
}

/// The tables keyed by path.
fn write_path(tables: &mut Tables, key: &[u8], before: &Located, now: &Located) -> anyhow::Result<()> {
    if now.sequence != before.sequence || now.row.have != before.row.have {
        match &now.row.have {
            Some(have) => {
                let sequence = now.sequence.context("a row has a sequence number")?;
                tables.rows.insert(key, encode_row(have, sequence).as_slice())?;
            }
            None => drop(tables.rows.remove(key)?),
        }
    }
    if now.row.wants != before.row.wants {
        if now.row.wants.is_empty() {
            tables.wants.remove(key)?;
        } else {
            tables.wants.insert(key, encode(&now.row.wants).as_slice())?;
        }
    }
    if now.row.local != before.row.local {
        match &now.row.local {
            None => drop(tables.locals.remove(key)?),
            Some(local) => drop(tables.locals.insert(key, encode(local).as_slice())?),
        }
    }
    Ok(())
}

fn held_file(row: &LocalRow) -> Option<&FileContent> {
    row.entry().and_then(|entry| entry.content.file())
}

/// Contents that a path wants and whose chunk lists are kept apart.
fn wanted_lists(row: &LocalRow) -> impl Iterator<Item = &FileContent> {
    row.wants.iter().filter_map(|want| want.entry.content.file()).filter(|file| file.chunks.is_empty() && file.size > 0)
}

impl Derived {
    fn note(&mut self, key: &[u8], before: &Located, now: &Located) {
        if before.sequence != now.sequence {
            self.sequences.extend(before.sequence.map(|sequence| (sequence, None)));
            self.sequences.extend(now.sequence.map(|sequence| (sequence, Some(key.to_vec()))));
        }
        let (held_before, held_now) = (held_file(&before.row), held_file(&now.row));
        let same = |a: &FileContent, b: &FileContent| (a.size, a.hash) == (b.size, b.hash);
        let unchanged = match (held_before, held_now) {
            (Some(before), Some(now)) => same(before, now),
            (None, None) => true,
            _ => false,
        };
        if !unchanged {
            self.move_names(key, held_before, held_now, |derived| &mut derived.holders);
        }
        if before.row.wants != now.row.wants {
            let (before, now) = (wanted_lists(&before.row), wanted_lists(&now.row));
            self.move_names(key, before, now, |derived| &mut derived.wanters);
        }
    }

    /// Within one table a path's old names go before its new ones come.
    fn move_names<'f>(
        &mut self,
        key: &[u8],
        before: impl IntoIterator<Item = &'f FileContent>,
        now: impl IntoIterator<Item = &'f FileContent>,
        names: impl Fn(&mut Self) -> &mut BTreeMap<Vec<u8>, bool>,
    ) {
        for file in before {
            names(self).insert(holder_key(file, key), false);
            self.loosened.insert(file.hash, codec::content_prefix(file.size, &file.hash));
        }
        for file in now {
            names(self).insert(holder_key(file, key), true);
        }
    }

    fn write(self, tables: &mut Tables) -> anyhow::Result<()> {
        for (sequence, key) in self.sequences {
            match key {
                Some(key) => drop(tables.sequences.insert(sequence.0, key.as_slice())?),
                None => drop(tables.sequences.remove(sequence.0)?),
            }
        }
        for (set, names) in [(&mut tables.holders, self.holders), (&mut tables.wanters, self.wanters)] {
            for (name, insert) in names {
                if insert {
                    set.insert(name.as_slice(), ())?;
                } else {
                    set.remove(name.as_slice())?;
                }
            }
        }
        if tables.manifests.is_empty()? {
            return Ok(());
        }
        for (hash, prefix) in self.loosened {
            if !is_named(tables, &prefix)? {
                tables.manifests.remove(hash.as_bytes())?;
            }
        }
        Ok(())
    }
}
