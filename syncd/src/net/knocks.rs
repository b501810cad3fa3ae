//! Knocks that were answered, on disk: one that somebody recorded opens nothing after a restart either. A file of records
//! of one length, appended and synced before the answer; rewritten when it is opened and when it has grown.
//! Invariant: a knock in it is known until no search of this clock can match it any more.

use anyhow::{Context as _, Result};
use protocol::limits::{REPLAY_ENTRIES_MAX, REPLAY_KEEP_SECS};
use protocol::wire::kdf::UnixSeconds;
use protocol::wire::knock::{KNOCK_LEN, Knock};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// A knock and the second in which it was answered, u64 big-endian.
const RECORD_LEN: usize = KNOCK_LEN + 8;
/// Records at which the file is rewritten.
const RECORDS_MAX: usize = 2 * REPLAY_ENTRIES_MAX;

/// The file; one task appends at a time.
pub(super) struct KnockFile {
    path: PathBuf,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    records: usize,
}

/// An answered knock, and how long ago that was.
pub(super) type Answered = (Knock, Duration);

impl KnockFile {
    /// Opens the file at `path`, which need not exist: what it knows, the oldest first.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(super) fn open(path: &Path, now: UnixSeconds) -> Result<(Self, Vec<Answered>)> {
        let records = read(path, now)?;
        let open = rewrite(path, &records)?;
        let age = |at: UnixSeconds| Duration::from_secs(now.0.saturating_sub(at.0));
        let answered = records.iter().map(|(knock, at)| (*knock, age(*at))).collect();
        Ok((Self { path: path.to_owned(), open: Mutex::new(open) }, answered))
    }

    /// Remembers a knock; returns when it would survive a power cut.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn append(&self, knock: &Knock, now: UnixSeconds) -> Result<()> {
        let mut open = self.open.lock().expect("no holder of the file panics");
        if open.records >= RECORDS_MAX {
            *open = rewrite(&self.path, &read(&self.path, now)?)?;
        }
        open.file
            .write_all(&record(knock, now))
            .and_then(|()| open.file.sync_data())
            .context("writing a knock down")?;
        open.records += 1;
        Ok(())
    }
}

fn record(knock: &Knock, at: UnixSeconds) -> [u8; RECORD_LEN] {
    let mut bytes = [0; RECORD_LEN];
    bytes[..KNOCK_LEN].copy_from_slice(&knock.0);
    bytes[KNOCK_LEN..].copy_from_slice(&at.0.to_be_bytes());
    bytes
}

/// Those that still matter, at most `REPLAY_ENTRIES_MAX`, the latest ones. What a crash left of the last record is none.
fn read(path: &Path, now: UnixSeconds) -> Result<Vec<(Knock, UnixSeconds)>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context("reading answered knocks"),
    };
    let parse = |record: &[u8]| {
        let (knock, at) = record.split_at(KNOCK_LEN);
        let at = u64::from_be_bytes(at.try_into().expect("a record ends with 8 bytes"));
        (Knock(knock.try_into().expect("a record begins with a knock")), UnixSeconds(at))
    };
    let all = bytes.chunks_exact(RECORD_LEN).map(parse);
    // One of a later second than ours was written before the clock was set back: it is kept.
    let mut kept: Vec<_> = all.filter(|(_, at)| now.0.saturating_sub(at.0) <= REPLAY_KEEP_SECS).collect();
    kept.drain(..kept.len().saturating_sub(REPLAY_ENTRIES_MAX));
    Ok(kept)
}

/// Replaces the file by one with these records: all of the new one, or all of the old one.
fn rewrite(path: &Path, records: &[(Knock, UnixSeconds)]) -> Result<Open> {
    let context = || "writing answered knocks down";
    let temp = path.with_extension("tmp");
    let bytes: Vec<u8> = records.iter().flat_map(|(knock, at)| record(knock, *at)).collect();
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temp).with_context(context)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(context)?;
    std::fs::rename(&temp, path).with_context(context)?;
    if let Some(directory) = path.parent() {
        File::open(directory).and_then(|directory| directory.sync_all()).with_context(context)?;
    }
    Ok(Open { file, records: records.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(2_000_000_000);

    fn knock(number: u32) -> Knock {
        let mut bytes = [7; KNOCK_LEN];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Knock(bytes)
    }

    fn later(secs: u64) -> UnixSeconds {
        UnixSeconds(NOW.0 + secs)
    }

    #[test]
    fn what_was_answered_is_known_for_a_day() {
        let home = tempfile::tempdir().expect("a scratch directory");
        let path = home.path().join("knocks");
        let (file, known) = KnockFile::open(&path, NOW).expect("a new file");
        assert_eq!(known, []);
        file.append(&knock(1), NOW).expect("it is written");
        file.append(&knock(2), later(3600)).expect("it is written");
        let known = |now| KnockFile::open(&path, now).expect("it is read").1;
        assert_eq!(known(later(3600)), [(knock(1), Duration::from_secs(3600)), (knock(2), Duration::ZERO)]);
        assert_eq!(known(NOW), [(knock(1), Duration::ZERO), (knock(2), Duration::ZERO)], "the clock was set back");
        assert_eq!(known(later(REPLAY_KEEP_SECS + 1)), [(knock(2), Duration::from_secs(REPLAY_KEEP_SECS - 3599))]);
        assert_eq!(known(NOW), [(knock(2), Duration::ZERO)], "what no search matches is forgotten");
    }

    #[test]
    fn half_a_record_is_none_and_does_not_spoil_what_follows() {
        let home = tempfile::tempdir().expect("a scratch directory");
        let path = home.path().join("knocks");
        let whole = [record(&knock(1), NOW), record(&knock(2), NOW)].concat();
        for len in 0..=whole.len() {
            std::fs::write(&path, &whole[..len]).expect("a file");
            let (file, known) = KnockFile::open(&path, NOW).expect("it is read");
            assert_eq!(known.len(), len / RECORD_LEN);
            file.append(&knock(3), NOW).expect("it is written");
            let known = KnockFile::open(&path, NOW).expect("it is read").1;
            assert_eq!(known.last().map(|(knock, _)| *knock), Some(knock(3)));
            assert_eq!(known.len(), len / RECORD_LEN + 1);
        }
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let home = tempfile::tempdir().expect("a scratch directory");
        let path = home.path().join("knocks");
        let count = u32::try_from(RECORDS_MAX).expect("few");
        let bytes: Vec<u8> = (0..count).flat_map(|number| record(&knock(number), NOW)).collect();
        std::fs::write(&path, bytes).expect("a file");
        let (file, known) = KnockFile::open(&path, NOW).expect("it is read");
        assert_eq!(known.len(), REPLAY_ENTRIES_MAX);
        assert_eq!(known.last().map(|(knock, _)| *knock), Some(knock(count - 1)), "the latest stay");
        file.open.lock().expect("no holder panics").records = RECORDS_MAX;
        file.append(&knock(count), NOW).expect("it is written");
        let known = KnockFile::open(&path, NOW).expect("it is read").1;
        assert_eq!((known.len(), known.last().map(|(knock, _)| *knock)), (REPLAY_ENTRIES_MAX, Some(knock(count))));
    }
}
