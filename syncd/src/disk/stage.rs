//! Temps: bytes on their way from peers, in `.syncd/tmp/` under the hex of their content hash, so that a later
//! attempt finds them again. A temp is never one side of a swap and never trusted: whoever resumes one verifies
//! every chunk again, and `finish` verifies the whole.

use super::fs::{Area, Errno, Fs, Private, errno};
use super::look::hash_file;
use protocol::model::{ContentHash, FileContent, Mode};
use protocol::sync::{Fingerprint, Kind};
use std::io;
use std::sync::Arc;

/// Temps that nobody touched for this long are removed at start: longer than a device is usually away.
const UNUSED_SECS_MAX: i64 = 7 * 86_400;
/// Runs of zeros this long stay holes: the largest block size in common use.
const HOLE_LEN: usize = 64 * 1024;
const TEMP_MODE: Mode = Mode::new(0o600);

/// The temps of one folder.
pub struct Stage<F: Fs> {
    fs: Arc<F>,
    tmp: Private<F::Dir>,
}

/// One content on its way.
pub struct Temp<F: Fs> {
    fs: Arc<F>,
    file: F::File,
    content: FileContent,
}

/// Why a temp is not the content that it was to become.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The bytes hash to something else. The temp was removed.
    #[error("the downloaded file does not have the announced content")]
    WrongContent,
    /// The temp cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens a temp for writing, also one that was given its final mode before it came back.
pub(super) fn open_temp<F: Fs>(fs: &F, tmp: &Private<F::Dir>, name: &[u8]) -> io::Result<F::File> {
    match fs.open_write(tmp, name) {
        Err(error) if errno(&error) == Errno::ACCESS => {
            let found = fs.stat(tmp, name)?.ok_or(error)?;
            fs.set_attrs(tmp, name, &found, TEMP_MODE, None)?;
            fs.open_write(tmp, name)
        }
        opened => opened,
    }
}

impl<F: Fs> Stage<F> {
    /// The temps below `.syncd/`.
    ///
    /// # Errors
    /// When the private directory is missing.
    pub fn new(fs: Arc<F>) -> io::Result<Self> {
        let tmp = fs.private(Area::Tmp)?;
        Ok(Self { fs, tmp })
    }

    /// The temp of a content: a new one, or what an earlier attempt left.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub fn open(&self, content: &FileContent) -> io::Result<Temp<F>> {
        let name = content.hash.to_hex().into_bytes();
        let file = match self.fs.create(&self.tmp, &name) {
            Err(error) if errno(&error) == Errno::EXIST => open_temp(&*self.fs, &self.tmp, &name)?,
            created => created?,
        };
        if self.fs.stat_file(&file)?.size > content.size {
            self.fs.set_len(&file, content.size)?;
        }
        Ok(Temp { fs: Arc::clone(&self.fs), file, content: content.clone() })
    }

    /// What an earlier attempt left of a content, if anything.
    ///
    /// # Errors
    /// When there is something and it cannot be opened.
    pub fn find(&self, content: &FileContent) -> io::Result<Option<Temp<F>>> {
        match open_temp(&*self.fs, &self.tmp, content.hash.to_hex().as_bytes()) {
            Err(error) if errno(&error) == Errno::NOENT => Ok(None),
            opened => Ok(Some(Temp { fs: Arc::clone(&self.fs), file: opened?, content: content.clone() })),
        }
    }

    /// Removes a temp that is not wanted any more.
    ///
    /// # Errors
    /// When there is one and it cannot be removed.
    pub fn discard(&self, content: &ContentHash) -> io::Result<()> {
        match self.fs.unlink(&self.tmp, content.to_hex().as_bytes()) {
            Err(error) if errno(&error) == Errno::NOENT => Ok(()),
            done => done,
        }
    }

    /// At start: removes temps unused for a week, by the time of their last change. `now` in seconds since 1970.
    /// Returns how many.
    ///
    /// # Errors
    /// When the temps cannot be listed or removed.
    pub fn sweep(&self, now: i64) -> io::Result<usize> {
        self.remove(|found| found.ctime.secs < now - UNUSED_SECS_MAX)
    }

    /// Removes every temp. Only where nothing is wanted, so that none can be on its way. Returns how many.
    ///
    /// # Errors
    /// When the temps cannot be listed or removed.
    pub fn clear(&self) -> io::Result<usize> {
        self.remove(|_| true)
    }

    fn remove(&self, is_due: impl Fn(&Fingerprint) -> bool) -> io::Result<usize> {
        let mut removed = 0;
        for item in self.fs.list(&self.tmp)? {
            let Some(found) = self.fs.stat(&self.tmp, &item.name)? else { continue };
            if found.kind != Kind::Directory && is_due(&found) {
                self.fs.unlink(&self.tmp, &item.name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Verifies the whole content; after this `InstallFile` may take the temp.
    ///
    /// # Errors
    /// When the bytes are not the announced content, or cannot be read.
    pub fn finish(&self, temp: &Temp<F>) -> Result<(), FinishError> {
        self.fs.set_len(&temp.file, temp.content.size)?;
        let (hash, len) = hash_file(&*self.fs, &temp.file)?;
        if (hash, len) == (temp.content.hash, temp.content.size) {
            return Ok(());
        }
        self.discard(&temp.content.hash)?;
        Err(FinishError::WrongContent)
    }
}

impl<F: Fs> Temp<F> {
    /// Gives it its final length, zeros included that were never written. Whoever hashed the whole content as it was
    /// written or read back ends with this in place of `finish`.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn fix_len(&self) -> io::Result<()> {
        // One of that length may be on its way into the tree: not even its times may change.
        if self.len_left()? == self.content.size { Ok(()) } else { self.fs.set_len(&self.file, self.content.size) }
    }

    /// What it is to become.
    #[must_use]
    pub fn content(&self) -> &FileContent {
        &self.content
    }

    /// How many bytes an earlier attempt left at most; none of them verified.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn len_left(&self) -> io::Result<u64> {
        Ok(self.fs.stat_file(&self.file)?.size)
    }

    /// Reads at `offset`; fewer bytes than asked only at the end.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fs.read_at(&self.file, buffer, offset)
    }

    /// Writes a verified chunk. Long runs of zeros become holes.
    ///
    /// # Errors
    /// EFBIG past the content's size; whatever the file system answers.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.content.size {
            return Err(Errno::FBIG.into());
        }
        let len = self.len_left()?;
        let mut at = offset;
        for block in bytes.chunks(HOLE_LEN) {
            if !self.is_zero_already(block, at, len)? {
                self.fs.write_at(&self.file, block, at)?;
            }
            at += block.len() as u64;
        }
        Ok(())
    }

    /// Begins to write a range to the disk, before the commit has to wait for all of it.
    pub fn write_back(&self, offset: u64, len: u64) {
        self.fs.write_back(&self.file, offset, len);
    }

    /// Copies a range of a local file that is believed to hold a chunk to the same or another offset. The caller
    /// verifies it through `read_at`. Returns the bytes copied.
    ///
    /// # Errors
    /// As `write_at`.
    pub fn copy_from(&self, source: &F::File, from: u64, to: u64, len: u64) -> io::Result<u64> {
        if to + len > self.content.size {
            return Err(Errno::FBIG.into());
        }
        if from == to {
            return self.fs.copy_range(source, &self.file, to, len);
        }
        let mut buffer = vec![0; HOLE_LEN.min(usize::try_from(len).unwrap_or(HOLE_LEN))];
        let mut done = 0;
        while done < len {
            let want = usize::try_from(len - done).unwrap_or(HOLE_LEN).min(buffer.len());
            let count = self.fs.read_at(source, &mut buffer[..want], from + done)?;
            if count == 0 {
                break;
            }
            self.write_at(&buffer[..count], to + done)?;
            done += count as u64;
        }
        Ok(done)
    }

    /// Whether a block of zeros needs no write: a hole, or zeros that stand there.
    fn is_zero_already(&self, block: &[u8], at: u64, len: u64) -> io::Result<bool> {
        if block.len() < HOLE_LEN || block.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        if at >= len {
            return Ok(true);
        }
        let mut there = vec![0; block.len()];
        let count = self.fs.read_at(&self.file, &mut there, at)?;
        Ok(there[..count].iter().all(|byte| *byte == 0))
    }
}
