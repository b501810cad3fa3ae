//! `Rows`: every call is one short read transaction (a long one would keep redb from reusing pages).

use super::Store;
use super::codec::{self, decode, decode_manifest, decode_row, key_path, path_key};
use super::tables::{
    HOLDERS, LOCALS, MANIFESTS, META, META_HISTORY, META_TALLY, PEERS, REMEMBERED, ROWS, SEQUENCES, WANTS,
};
use super::tally::Tally;
use anyhow::Context;
use protocol::model::{DeviceId, Digest, FileContent, Manifest, RelPath, ReplicaId, Row, RunId, Sequence};
use protocol::sync::{Cursor, FolderState, Have, History, LocalRow, Observed, Rows, Want};
use redb::{AccessGuard, ReadOnlyTable, ReadTransaction};
use std::ops::Bound;

type BytesTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
type BytesGuard = AccessGuard<'static, &'static [u8]>;

/// Everything about a path is in these three tables.
struct PathTables {
    rows: BytesTable,
    wants: BytesTable,
    locals: BytesTable,
}

impl PathTables {
    fn open(txn: &ReadTransaction) -> anyhow::Result<Self> {
        Ok(Self { rows: txn.open_table(ROWS)?, wants: txn.open_table(WANTS)?, locals: txn.open_table(LOCALS)? })
    }

    /// All about the path of `key`, whose wants may be at hand already.
    fn get(&self, key: &[u8], wants: Option<Vec<Want>>) -> anyhow::Result<LocalRow> {
        let wants = match wants {
            Some(wants) => wants,
            None => get(&self.wants, key)?.unwrap_or_default(),
        };
        let have = self.rows.get(key)?.map(|row| decode_row(row.value())).transpose()?.map(|(_, have)| have);
        Ok(LocalRow { have, wants, local: get(&self.locals, key)? })
    }
}

fn get<T: serde::de::DeserializeOwned>(table: &BytesTable, key: &[u8]) -> anyhow::Result<Option<T>> {
    table.get(key)?.map(|value| decode(value.value())).transpose()
}

/// The keys strictly below `dir` and strictly after `after`.
struct Span {
    low: Vec<u8>,
    low_included: bool,
    high: Option<Vec<u8>>,
}

impl Span {
    fn below(dir: Option<&RelPath>, after: Option<&RelPath>) -> Self {
        let prefix = codec::subtree_prefix(dir);
        let high = codec::prefix_end(&prefix);
        match after.map(path_key) {
            Some(after) if after >= prefix => Self { low: after, low_included: false, high },
            _ => Self { low: prefix, low_included: true, high },
        }
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let low: &[u8] = &self.low;
        let from = if self.low_included { Bound::Included(low) } else { Bound::Excluded(low) };
        // A low end beyond the high one is an empty span, which redb takes for a mistake.
        match &self.high {
            Some(high) if self.low >= *high => (Bound::Included(high), Bound::Excluded(high)),
            Some(high) => (from, Bound::Excluded(high)),
            None => (from, Bound::Unbounded),
        }
    }

    fn iter(
        &self,
        table: &BytesTable,
    ) -> anyhow::Result<impl Iterator<Item = Result<(BytesGuard, BytesGuard), redb::StorageError>> + use<>> {
        Ok(table.range::<&[u8]>(self.bounds())?)
    }
}

fn children(rows: &BytesTable, dir: Option<&RelPath>) -> anyhow::Result<Vec<(RelPath, Have)>> {
    let mut found = Vec::new();
    let mut span = Span::below(dir, None);
    let prefix_len = span.low.len();
    'seek: loop {
        for next in span.iter(rows)? {
            let (key, value) = next?;
            let key = key.value();
            // A grandchild: go on after the whole subtree of its child directory.
            if let Some(len) = key[prefix_len..].iter().position(|byte| *byte == 0) {
                let subtree = &key[..=prefix_len + len];
                let Some(end) = codec::prefix_end(subtree) else { break 'seek };
                span = Span { low: end, low_included: true, high: span.high };
                continue 'seek;
            }
            if codec::row_is_live(value.value())? {
                found.push((key_path(key)?, decode_row(value.value())?.1));
            }
        }
        break;
    }
    Ok(found)
}

impl Rows for Store {
    fn get(&self, path: &RelPath) -> LocalRow {
        self.read("read a row", |txn| PathTables::open(txn)?.get(&path_key(path), None))
    }

    fn live_below(&self, dir: &RelPath) -> Option<RelPath> {
        self.read("look below a directory", |txn| {
            for next in Span::below(Some(dir), None).iter(&txn.open_table(ROWS)?)? {
                let (key, value) = next?;
                if codec::row_is_live(value.value())? {
                    return key_path(key.value()).map(Some);
                }
            }
            Ok(None)
        })
    }

    fn children(&self, dir: Option<&RelPath>) -> Vec<(RelPath, Have)> {
        self.read("list a directory", |txn| children(&txn.open_table(ROWS)?, dir))
    }

    fn below(&self, dir: Option<&RelPath>, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Have)> {
        self.read("list a subtree", |txn| {
            let mut found = Vec::new();
            for next in Span::below(dir, after).iter(&txn.open_table(ROWS)?)? {
                if found.len() >= limit {
                    break;
                }
                let (key, value) = next?;
                if codec::row_is_live(value.value())? {
                    found.push((key_path(key.value())?, decode_row(value.value())?.1));
                }
            }
            Ok(found)
        })
    }

    fn wanted(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        self.read("list wants", |txn| {
            let tables = PathTables::open(txn)?;
            let wanted = Span::below(None, after).iter(&tables.wants)?.take(limit);
            wanted.map(|next| wanted_row(&tables, next?)).collect()
        })
    }

    fn wanted_reversed(&self, before: Option<&RelPath>, limit: usize) -> Vec<(RelPath, LocalRow)> {
        self.read("list wants", |txn| {
            let tables = PathTables::open(txn)?;
            let before = before.map(path_key);
            let end = before.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let wanted = tables.wants.range::<&[u8]>((Bound::Unbounded, end))?.rev().take(limit);
            wanted.map(|next| wanted_row(&tables, next?)).collect()
        })
    }

    fn since(&self, after: Sequence, limit: usize) -> Vec<(Sequence, Row)> {
        self.read("read the index", |txn| {
            let rows = txn.open_table(ROWS)?;
            let sequences = txn.open_table(SEQUENCES)?;
            let range = sequences.range::<u64>((Bound::Excluded(after.0), Bound::Unbounded))?;
            range
                .take(limit)
                .map(|next| {
                    let (sequence, key) = next?;
                    let value = rows.get(key.value())?.context("a sequence number without its row")?;
                    let (_, have) = decode_row(value.value())?;
                    Ok((Sequence(sequence.value()), Row { path: key_path(key.value())?, entry: have.entry }))
                })
                .collect()
        })
    }

    fn state(&self) -> FolderState {
        self.tally().state()
    }

    fn cursor(&self, peer: &DeviceId) -> Option<Cursor> {
        self.read("read a cursor", |txn| {
            txn.open_table(PEERS)?.get(peer.as_bytes())?.map(|value| decode(value.value())).transpose()
        })
    }

    fn history(&self) -> History {
        self.read("read its history", |txn| {
            let kept = txn.open_table(META)?.get(META_HISTORY)?;
            kept.map(|value| decode(value.value())).transpose().map(Option::unwrap_or_default)
        })
    }

    fn remembered(&self, peer: &DeviceId, replica: ReplicaId) -> Option<(RunId, Sequence)> {
        self.read("read what is remembered of a peer", |txn| {
            let table = match txn.open_table(REMEMBERED) {
                // Made by the first transaction that needs it.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                opened => opened?,
            };
            table.get(&codec::remembered_key(peer, replica))?.map(|value| decode(value.value())).transpose()
        })
    }

    fn manifest(&self, content: &FileContent) -> Option<Manifest> {
        if !content.chunks.is_empty() || content.size == 0 {
            let FileContent { size, hash, chunking, chunks } = content.clone();
            return Some(Manifest { content: hash, size, chunking, chunks });
        }
        let kept = self.read("read a chunk list", |txn| {
            let kept = txn.open_table(MANIFESTS)?.get(content.hash.as_bytes())?;
            kept.map(|value| decode_manifest(content.hash, value.value())).transpose()
        });
        kept.filter(|manifest| manifest.size == content.size)
    }

    fn holders(&self, content: &FileContent, limit: usize) -> Vec<RelPath> {
        self.read("look for a content", |txn| {
            let (holders, rows) = (txn.open_table(HOLDERS)?, txn.open_table(ROWS)?);
            let prefix = codec::content_prefix(content.size, &content.hash);
            let mut found = Vec::new();
            for next in holders.range::<&[u8]>(prefix.as_slice()..)? {
                let (key, ()) = next.map(|(key, value)| (key, value.value()))?;
                let Some(path) = key.value().strip_prefix(&prefix) else { break };
                if found.len() >= limit {
                    break;
                }
                let row = rows.get(path)?.context("a holder without its row")?;
                let (_, have) = decode_row(row.value())?;
                if have.entry.content.file().is_some_and(|file| file.hash == content.hash) {
                    found.push(key_path(path)?);
                }
            }
            Ok(found)
        })
    }

    fn effective_digest(&self, peer: &DeviceId) -> Digest {
        self.tally().effective(peer)
    }

    fn declines_others(&self, peer: &DeviceId) -> bool {
        self.tally().declines_others(peer)
    }

    fn locals(&self, after: Option<&RelPath>, limit: usize) -> Vec<(RelPath, Observed)> {
        self.read("list receive-only findings", |txn| {
            let found = Span::below(None, after).iter(&txn.open_table(LOCALS)?)?.take(limit);
            found
                .map(|next| {
                    let (key, value) = next?;
                    Ok((key_path(key.value())?, decode(value.value())?))
                })
                .collect()
        })
    }
}

fn wanted_row(tables: &PathTables, (key, value): (BytesGuard, BytesGuard)) -> anyhow::Result<(RelPath, LocalRow)> {
    Ok((key_path(key.value())?, tables.get(key.value(), Some(decode(value.value())?))?))
}

impl Store {
    fn tally(&self) -> Tally {
        self.read("read its state", |txn| {
            let meta = txn.open_table(META)?;
            decode(meta.get(META_TALLY)?.context("no tally")?.value())
        })
    }
}
