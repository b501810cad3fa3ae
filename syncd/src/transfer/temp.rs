//! The temps of a folder, opened when first needed, and the files of its tree for reading.

use super::Folder;
use crate::disk::fs::{Errno, Fs, errno};
use crate::disk::{Stage, Temp};
use protocol::model::{ContentHash, FileContent, RelPath};
use std::io;
use std::sync::{Arc, Mutex};

/// Files from this size on, in bytes, are only begun when the disk has room for them.
const CHECK_SPACE_MIN: u64 = 256 * 1024;
/// Bytes that fetched files leave free: one percent of the disk, at most this.
const RESERVE_MAX: u64 = 256 * 1024 * 1024;

/// The handle of `tmp/`; opened again after the directory was replaced.
pub(super) struct Staging<F: Fs>(Mutex<Option<Arc<Stage<F>>>>);

impl<F: Fs> Default for Staging<F> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<F: Fs> Folder<F> {
    fn with_stage<T>(&self, body: impl FnOnce(&Stage<F>) -> io::Result<T>) -> io::Result<T> {
        let done = body(&*self.stage()?);
        if done.as_ref().is_err_and(|error| errno(error) == Errno::NOENT) {
            *self.staging.0.lock().expect("no thread panics while it holds this lock") = None;
        }
        done
    }

    fn stage(&self) -> io::Result<Arc<Stage<F>>> {
        let mut kept = self.staging.0.lock().expect("no thread panics while it holds this lock");
        if let Some(stage) = &*kept {
            return Ok(Arc::clone(stage));
        }
        let stage = Arc::new(Stage::new(Arc::clone(&self.fs))?);
        *kept = Some(Arc::clone(&stage));
        Ok(stage)
    }

    /// A new temp, or what an earlier attempt left. ENOSPC at once when a large one would fill the disk: it must not
    /// take the room that small changes still have.
    pub(super) fn open_temp(&self, content: &FileContent) -> io::Result<Temp<F>> {
        if content.size >= CHECK_SPACE_MIN {
            let space = self.fs.space()?;
            let there = self.with_stage(|stage| stage.find(content))?.map_or(Ok(0), |temp| temp.len_left())?;
            let reserve = (space.total / 100).min(RESERVE_MAX);
            if space.free < content.size.saturating_sub(there) + reserve {
                return Err(Errno::NOSPC.into());
            }
        }
        self.with_stage(|stage| stage.open(content))
    }

    /// Removes a temp that holds nothing worth keeping.
    pub(super) fn discard_temp(&self, content: &ContentHash) -> io::Result<()> {
        self.with_stage(|stage| stage.discard(content))
    }

    /// Whether a temp already holds the whole of a small content.
    pub(super) fn has_whole(&self, content: &FileContent, len: usize) -> io::Result<bool> {
        let Some(temp) = self.with_stage(|stage| stage.find(content))? else { return Ok(false) };
        let bytes = exactly(len, |buffer| temp.read_at(buffer, 0))?;
        Ok(bytes.is_some_and(|bytes| ContentHash::of(&bytes) == content.hash))
    }

    /// Writes a whole small content that was verified. One that is there already is left as it is: it may be on its
    /// way into the tree.
    pub(super) fn write_whole(&self, content: &FileContent, bytes: &[u8]) -> io::Result<()> {
        let temp = self.open_temp(content)?;
        if temp.len_left()? > 0
            && exactly(bytes.len(), |buffer| temp.read_at(buffer, 0))?.is_some_and(|there| there == bytes)
        {
            return Ok(());
        }
        temp.write_at(bytes, 0)?;
        temp.fix_len()
    }
}

/// All bytes of a file that has exactly `len`.
pub(super) fn exactly(len: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; len + 1];
    let count = read(&mut bytes)?;
    bytes.truncate(len);
    Ok((count == len).then_some(bytes))
}

/// Opens a file of the tree for reading.
pub(super) fn open_in_tree<F: Fs>(fs: &F, path: &RelPath) -> io::Result<F::File> {
    let dir = fs.open_dir(path.parent().as_ref())?;
    fs.open(&dir, path.name())
}
