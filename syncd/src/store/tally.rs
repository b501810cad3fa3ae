//! What is known of a folder as a whole, kept in step with its rows inside each transaction: a pure value,
//! told for each path what was there before and what is there now.

use protocol::model::{Content, DeviceId, Digest, Entry, RelPath, ReplicaId, Sequence};
use protocol::sync::{FolderState, LocalRow, Totals};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The durable sums of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) replica: ReplicaId,
    pub(super) counter: u64,
    pub(super) scanned: bool,
    pub(super) head: Sequence,
    digest: Digest,
    totals: Totals,
    need_entries: u64,
    need_bytes: u64,
    /// By device: how many of its entries are declined, and what they would change in `digest`.
    declined: BTreeMap<DeviceId, (u64, Digest)>,
}

impl Tally {
    /// Of an empty folder.
    pub(super) fn new(replica: ReplicaId) -> Self {
        Self {
            replica,
            counter: 0,
            scanned: false,
            head: Sequence(0),
            digest: Digest::default(),
            totals: Totals::default(),
            need_entries: 0,
            need_bytes: 0,
            declined: BTreeMap::new(),
        }
    }

    /// As the core sees it.
    pub(super) fn state(&self) -> FolderState {
        FolderState {
            replica: self.replica,
            counter: self.counter,
            scanned: self.scanned,
            head: self.head,
            digest: self.digest,
            totals: self.totals,
            need_entries: self.need_entries,
            need_bytes: self.need_bytes,
        }
    }

    /// Replaces what `before` counted for `path` by what `after` does.
    pub(super) fn replace(&mut self, path: &RelPath, before: &LocalRow, after: &LocalRow) {
        if before.entry() != after.entry() {
            if let Some(entry) = before.entry() {
                self.digest.remove(path, entry);
                count(&mut self.totals, entry, |total, part| *total -= part);
            }
            if let Some(entry) = after.entry() {
                self.digest.add(path, entry);
                count(&mut self.totals, entry, |total, part| *total += part);
            }
        }
        self.count_declined(path, before, false);
        self.count_declined(path, after, true);
        let (entries_before, bytes_before) = need(before);
        let (entries_after, bytes_after) = need(after);
        self.need_entries = self.need_entries - entries_before + entries_after;
        self.need_bytes = self.need_bytes.wrapping_sub(bytes_before).wrapping_add(bytes_after);
    }

    /// The digest as compared with `peer`.
    pub(super) fn effective(&self, peer: &DeviceId) -> Digest {
        self.declined.get(peer).map_or(self.digest, |(_, change)| self.digest.plus(change))
    }

    /// Whether something is declined that not every device here announced, `peer` perhaps among them.
    pub(super) fn declines_others(&self, peer: &DeviceId) -> bool {
        let theirs = self.declined.get(peer);
        self.declined.values().any(|declined| Some(declined) != theirs)
    }

    fn count_declined(&mut self, path: &RelPath, row: &LocalRow, is_added: bool) {
        for want in row.wants.iter().filter(|want| want.declined.is_some()) {
            let again = |nth: usize| want.sources[..nth].contains(&want.sources[nth]);
            for peer in (0..want.sources.len()).filter(|nth| !again(*nth)).map(|nth| &want.sources[nth]) {
                let (count, change) = self.declined.entry(*peer).or_default();
                let (theirs, ours) = (&want.entry, row.entry());
                if is_added {
                    *count += 1;
                    change.add(path, theirs);
                    ours.into_iter().for_each(|ours| change.remove(path, ours));
                } else {
                    *count -= 1;
                    change.remove(path, theirs);
                    ours.into_iter().for_each(|ours| change.add(path, ours));
                }
            }
        }
        if !is_added {
            self.declined.retain(|_, (count, _)| *count > 0);
        }
    }
}

fn count(totals: &mut Totals, entry: &Entry, mut by: impl FnMut(&mut u64, u64)) {
    match &entry.content {
        Content::Tombstone => by(&mut totals.tombstones, 1),
        Content::Symlink(_) => by(&mut totals.symlinks, 1),
        Content::Directory => by(&mut totals.directories, 1),
        Content::File(file) => {
            by(&mut totals.files, 1);
            by(&mut totals.bytes, file.size);
        }
    }
}

/// Whether the row is on its way, and the bytes of the files it waits for. A peer names the sizes, so they wrap.
fn need(row: &LocalRow) -> (u64, u64) {
    let pending = || row.wants.iter().filter(|want| want.declined.is_none());
    let bytes = pending().filter_map(|want| want.entry.content.file()).fold(0, |sum: u64, f| sum.wrapping_add(f.size));
    (u64::from(pending().next().is_some()), bytes)
}
