//! Reading what stands at a name: its hash, its content, and whether it is what was expected. Never writes.

use super::fs::{Errno, Fs, errno};
use protocol::model::{Chunking, Content, ContentHash, FileContent};
use protocol::sync::{Fingerprint, Have, Kind};
use std::io;

/// A displaced file up to this size is hashed at once; a larger one when it leaves `hold/`. 1 MiB takes less than
/// a millisecond, so a batch of small files stays fast.
pub(super) const LOOK_LEN_MAX: u64 = 1024 * 1024;
/// Read buffer, in bytes.
const READ_LEN: usize = 256 * 1024;

/// BLAKE3 and length of an open file.
pub(super) fn hash_file<F: Fs>(fs: &F, file: &F::File) -> io::Result<(ContentHash, u64)> {
    let size = fs.stat_file(file)?.size;
    let mut buffer = vec![0; READ_LEN.min(usize::try_from(size).unwrap_or(READ_LEN)).max(1)];
    let mut hasher = blake3::Hasher::new();
    let mut len = 0;
    loop {
        let count = fs.read_at(file, &mut buffer, len)?;
        if count == 0 {
            return Ok((ContentHash(*hasher.finalize().as_bytes()), len));
        }
        hasher.update(&buffer[..count]);
        len += count as u64;
    }
}

/// What stands at a name now, with a content that knows no chunks. Specials are ENXIO, nothing is ENOENT.
pub(super) fn content_at<F: Fs>(fs: &F, dir: &F::Dir, name: &[u8]) -> io::Result<(Fingerprint, Content)> {
    let found = fs.stat(dir, name)?.ok_or_else(|| io::Error::from(Errno::NOENT))?;
    let content = match found.kind {
        Kind::Directory => Content::Directory,
        Kind::Symlink => Content::Symlink(fs.read_link(dir, name)?),
        Kind::File => {
            let (hash, size) = hash_file(fs, &fs.open(dir, name)?)?;
            Content::File(FileContent { size, hash, chunking: Chunking::choose(size, None), chunks: Vec::new() })
        }
        Kind::Special => return Err(Errno::NXIO.into()),
    };
    Ok((found, content))
}

/// Whether exactly `content` stands at a name. An object that cannot be read does not count.
pub(super) fn holds<F: Fs>(fs: &F, dir: &F::Dir, name: &[u8], content: &Content) -> bool {
    surely_holds(fs, dir, name, content).unwrap_or(false)
}

/// The same for who must know: an error that may pass is no answer. What may not be read does not count.
pub(super) fn surely_holds<F: Fs>(fs: &F, dir: &F::Dir, name: &[u8], content: &Content) -> io::Result<bool> {
    let size_fits = |found: &Fingerprint| content.file().is_none_or(|file| file.size == found.size);
    if !fs.stat(dir, name)?.is_some_and(|found| size_fits(&found)) {
        return Ok(false);
    }
    match content_at(fs, dir, name) {
        Ok((_, at)) => Ok(at.same(content)),
        Err(error) => match errno(&error) {
            Errno::ACCESS | Errno::PERM | Errno::NXIO | Errno::NOENT | Errno::LOOP | Errno::ISDIR => Ok(false),
            _ => Err(error),
        },
    }
}

/// The look after a rename: the object is still what `have` describes. Small files are hashed, since an edit may
/// have put size and mtime back; for larger ones, and those that may not be read, the fingerprint decides now and
/// the hash when they leave `hold/`.
pub(super) fn is_as_expected<F: Fs>(fs: &F, dir: &F::Dir, name: &[u8], have: &Have) -> bool {
    is_surely_as_expected(fs, dir, name, have).unwrap_or(false)
}

/// The same for who must know: an object that cannot be looked at is no answer.
pub(super) fn is_surely_as_expected<F: Fs>(fs: &F, dir: &F::Dir, name: &[u8], have: &Have) -> io::Result<bool> {
    let Some(expected) = &have.fingerprint else { return Ok(false) };
    let Some(found) = fs.stat(dir, name)?.filter(|found| found.same_but_ctime(expected)) else { return Ok(false) };
    let hash_now = found.size <= LOOK_LEN_MAX || have.racy;
    Ok(!hash_now || content_at(fs, dir, name).map_or(true, |(_, at)| at.same(&have.entry.content)))
}
