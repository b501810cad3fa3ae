//! What is known of a folder as a whole, kept in step with its rows inside each transaction: a pure value,
//! told for each path what was there before and what is there now.

use protocol::model::{Content, Digest, Entry, RelPath, ReplicaId, Sequence};
use protocol::sync::{FolderState, LocalRow, Totals};
use serde::{Deserialize, Serialize};

/// The durable sums of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) replica: ReplicaId,
    pub(super) counter: u64,
    pub(super) scanned: bool,
    pub(super) head: Sequence,
    digest: Digest,
    /// With every declined want in place of what stands at its path. Equals `digest` while `declined` is 0.
    pub(super) effective: Digest,
    totals: Totals,
    need_entries: u64,
    need_bytes: u64,
    /// Paths with a declined want.
    declined: u64,
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
            effective: Digest::default(),
            totals: Totals::default(),
            need_entries: 0,
            need_bytes: 0,
            declined: 0,
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
        self.replace_effective(path, before, after);
        let (entries_before, bytes_before) = need(before);
        let (entries_after, bytes_after) = need(after);
        self.need_entries = self.need_entries - entries_before + entries_after;
        self.need_bytes = self.need_bytes.wrapping_sub(bytes_before).wrapping_add(bytes_after);
    }

    fn replace_effective(&mut self, path: &RelPath, before: &LocalRow, after: &LocalRow) {
        let declined_before = u64::from(declined(before).next().is_some());
        let declined_after = u64::from(declined(after).next().is_some());
        if self.declined == 0 && declined_after == 0 {
            self.effective = self.digest;
            return;
        }
        counted(before, |entry| self.effective.remove(path, entry));
        counted(after, |entry| self.effective.add(path, entry));
        self.declined = self.declined - declined_before + declined_after;
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

fn declined(row: &LocalRow) -> impl Iterator<Item = &Entry> {
    row.wants.iter().filter(|want| want.declined.is_some()).map(|want| &want.entry)
}

/// What the effective digest counts at a path: the declined wants, or else what stands there.
fn counted(row: &LocalRow, mut each: impl FnMut(&Entry)) {
    if declined(row).next().is_some() {
        declined(row).for_each(each);
    } else if let Some(entry) = row.entry() {
        each(entry);
    }
}

/// Whether the row is on its way, and the bytes of the files it waits for. A peer names the sizes, so they wrap.
fn need(row: &LocalRow) -> (u64, u64) {
    let pending = || row.wants.iter().filter(|want| want.declined.is_none());
    let bytes = pending().filter_map(|want| want.entry.content.file()).fold(0, |sum: u64, f| sum.wrapping_add(f.size));
    (u64::from(pending().next().is_some()), bytes)
}
