//! What changed lately, asked from every folder and put in one order.

use super::Node;
use super::folders::Slot;
use crate::control::Reply;
use crate::folder::{Input, Record};
use protocol::model::{FolderId, RelPath, ReplicaId};
use protocol::sync::Rows;
use protocol::wire::control as api;
use protocol::wire::control::ControlError;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// Entries when the caller names no number.
const ENTRIES: usize = 100;

/// One folder that was asked.
struct Asked {
    name: String,
    authors: BTreeMap<ReplicaId, api::Named>,
    report: oneshot::Receiver<crate::folder::Report>,
}

impl Node {
    pub(super) fn log_request(&self, query: api::LogQuery, reply: Reply<api::Log>) {
        let (folders, below) = match self.log_scope(&query) {
            Ok(scope) => scope,
            // The client may have hung up.
            Err(error) => return drop(reply.send(Err(error))),
        };
        let slots = folders.iter().filter_map(|id| self.folders.get(id));
        let asked: Vec<Asked> = slots.filter_map(|slot| self.ask_log(slot)).collect();
        tokio::spawn(async move {
            let mut entries = Vec::new();
            for Asked { name, authors, report } in asked {
                if let Ok(report) = report.await {
                    let wanted = report.log.iter().filter(|record| is_within(&record.path, below.as_ref()));
                    entries.extend(wanted.map(|record| log_entry(&name, &authors, record)));
                }
            }
            entries.retain(|entry| query.since_ms.is_none_or(|since| entry.time_ms >= since));
            // Stable: changes of one moment stay in their folder's order, which is newest first.
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.time_ms));
            entries.truncate(query.limit.unwrap_or(ENTRIES).min(api::LIST_LEN_MAX));
            entries.reverse();
            // The client may have hung up.
            let _ = reply.send(Ok(api::Log { entries }));
        });
    }

    /// The folders that are asked, and the path that the entries must be at or below.
    fn log_scope(&self, query: &api::LogQuery) -> Result<(Vec<FolderId>, Option<RelPath>), ControlError> {
        let named = query.folder.as_ref().map(|name| self.find_folder(name)).transpose()?;
        let Some(at) = &query.at else {
            return Ok((named.map_or_else(|| self.folders.keys().copied().collect(), |id| vec![id]), None));
        };
        let root = self.folders.iter().find(|(_, slot)| slot.config.root_text() == *at);
        let (id, path) = match root {
            Some((id, _)) => (*id, None),
            None => self.locate(at).map(|(id, path)| (id, Some(path)))?,
        };
        let folders = if named.is_none_or(|named| named == id) { vec![id] } else { Vec::new() };
        Ok((folders, path))
    }

    fn ask_log(&self, slot: &Slot) -> Option<Asked> {
        let running = slot.running()?;
        let (ask, report) = oneshot::channel();
        running.folder.tell(Input::Report(ask));
        let authors = self.pairings.all().iter().filter_map(|pairing| {
            let cursor = running.store.cursor(&pairing.id())?;
            Some((cursor.replica, api::Named { id: pairing.id().to_string(), name: pairing.name.clone() }))
        });
        Some(Asked { name: slot.config.name.clone(), authors: authors.collect(), report })
    }
}

fn is_within(path: &RelPath, top: Option<&RelPath>) -> bool {
    top.is_none_or(|top| path == top || path.is_below(top))
}

fn log_entry(folder: &str, authors: &BTreeMap<ReplicaId, api::Named>, record: &Record) -> api::LogEntry {
    api::LogEntry {
        time_ms: record.time_ms,
        folder: folder.to_string(),
        at: api::PathText::new(record.path.as_bytes()),
        change: super::outside::change_word(record.what),
        by: record.by.and_then(|replica| authors.get(&replica).cloned()),
        bytes: record.bytes,
    }
}
