//! Temps: files in `.syncd/tmp`, named by the hash of the content they will hold, so that a later run finds what an
//! earlier one left. Invariant: nothing here trusts what a temp holds; whoever reads one verifies.

use super::Folder;
use crate::disk::fs::{Area, Errno, Fs, Private, errno};
use protocol::model::ContentHash;
use std::io;
use std::sync::Arc;

/// Zeros are left out of a new temp in blocks of this many bytes: smaller holes cost more extents than they save.
const HOLE_LEN: usize = 64 * 1024;

/// An open temp of its final length.
pub(super) struct Temp<F: Fs> {
    fs: Arc<F>,
    file: F::File,
    /// Made by us and never written where no verified chunk is: what was not written is zeros.
    clean: bool,
}

impl<F: Fs> Temp<F> {
    /// Makes the temp of a content or opens the one that is there; the flag says that it was there.
    pub fn open(folder: &Folder<F>, content: &ContentHash, size: u64) -> io::Result<(Self, bool)> {
        let name = content.to_hex();
        let fs = Arc::clone(&folder.fs);
        let (file, found) = folder.with_tmp(|tmp| match fs.create(tmp, name.as_bytes()) {
            Err(error) if errno(&error) == Errno::EXIST => Ok((fs.open_write(tmp, name.as_bytes())?, true)),
            created => Ok((created?, false)),
        })?;
        // A temp of the right length may be on its way into the tree: not even its times may change.
        if fs.stat_file(&file)?.size != size {
            fs.set_len(&file, size)?;
        }
        Ok((Self { fs, file, clean: !found }, found))
    }

    /// Writes a whole verified content at once.
    pub fn write_whole(folder: &Folder<F>, content: &ContentHash, bytes: &[u8]) -> io::Result<()> {
        let name = content.to_hex();
        folder.with_tmp(|tmp| {
            let file = match folder.fs.create(tmp, name.as_bytes()) {
                Err(error) if errno(&error) == Errno::EXIST => {
                    let file = folder.fs.open_write(tmp, name.as_bytes())?;
                    folder.fs.set_len(&file, bytes.len() as u64)?;
                    file
                }
                created => created?,
            };
            folder.fs.write_at(&file, bytes, 0)
        })
    }

    /// All bytes of a temp that exists, when there are `len`.
    pub fn read_whole(folder: &Folder<F>, content: &ContentHash, len: usize) -> io::Result<Option<Vec<u8>>> {
        let opened = folder.with_tmp(|tmp| folder.fs.open_write(tmp, content.to_hex().as_bytes()));
        let file = match opened {
            Err(error) if errno(&error) == Errno::NOENT => return Ok(None),
            opened => opened?,
        };
        read_exactly(&*folder.fs, &file, len)
    }

    /// Removes a temp that holds nothing worth keeping.
    pub fn remove(folder: &Folder<F>, content: &ContentHash) -> io::Result<()> {
        let removed = folder.with_tmp(|tmp| folder.fs.unlink(tmp, content.to_hex().as_bytes()));
        match removed {
            Err(error) if errno(&error) == Errno::NOENT => Ok(()),
            done => done,
        }
    }

    /// Writes verified bytes; long runs of zeros become holes where nothing else was written.
    pub fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.clean {
            return self.fs.write_at(&self.file, bytes, offset);
        }
        let mut start = 0;
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + HOLE_LEN);
            if is_zero(&bytes[at..end]) {
                self.write_part(bytes, start, at, offset)?;
                start = end;
            }
            at = end;
        }
        self.write_part(bytes, start, bytes.len(), offset)
    }

    fn write_part(&self, bytes: &[u8], start: usize, end: usize, offset: u64) -> io::Result<()> {
        if start == end {
            return Ok(());
        }
        self.fs.write_at(&self.file, &bytes[start..end], offset + start as u64)
    }

    /// Fills `buffer`; false when the temp is shorter.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
        Ok(self.fs.read_at(&self.file, buffer, offset)? == buffer.len())
    }

    /// Copies unverified bytes from a local file at the same offset, sharing extents where the file system can.
    pub fn copy_from(&mut self, from: &F::File, offset: u64, len: u64) -> io::Result<()> {
        self.clean = false;
        // Fewer bytes than asked for show when the chunk is verified.
        self.fs.copy_range(from, &self.file, offset, len).map(|_| ())
    }
}

/// The first `len` bytes of a file that has exactly as many.
pub(super) fn read_exactly<F: Fs>(fs: &F, file: &F::File, len: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; len + 1];
    let count = fs.read_at(file, &mut bytes, 0)?;
    bytes.truncate(len);
    Ok((count == len).then_some(bytes))
}

/// Opens a file of the tree for reading.
pub(super) fn open_in_tree<F: Fs>(fs: &F, path: &protocol::model::RelPath) -> io::Result<F::File> {
    let dir = fs.open_dir(path.parent().as_ref())?;
    fs.open(&dir, path.name())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The handle of `tmp/`, opened once; opened again when the directory was replaced.
pub(super) struct TmpDir<F: Fs>(std::sync::Mutex<Option<Arc<Private<F::Dir>>>>);

impl<F: Fs> Default for TmpDir<F> {
    fn default() -> Self {
        Self(std::sync::Mutex::new(None))
    }
}

impl<F: Fs> TmpDir<F> {
    fn get(&self, fs: &F) -> io::Result<Arc<Private<F::Dir>>> {
        let mut kept = self.0.lock().expect("no thread panics while it holds this lock");
        if let Some(dir) = &*kept {
            return Ok(Arc::clone(dir));
        }
        let dir = Arc::new(fs.private(Area::Tmp)?);
        *kept = Some(Arc::clone(&dir));
        Ok(dir)
    }

    fn forget(&self) {
        *self.0.lock().expect("no thread panics while it holds this lock") = None;
    }
}

impl<F: Fs> Folder<F> {
    /// Runs `body` with `tmp/`.
    pub(super) fn with_tmp<T>(&self, body: impl FnOnce(&Private<F::Dir>) -> io::Result<T>) -> io::Result<T> {
        let done = body(&*self.tmp.get(&self.fs)?);
        if done.as_ref().is_err_and(|error| errno(error) == Errno::NOENT) {
            self.tmp.forget();
        }
        done
    }
}
