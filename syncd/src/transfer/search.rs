//! Looks for a file's bytes on this device before any peer is asked: in a temp that an earlier run left, in files of
//! the same content, and in the chunks of the version that is replaced. Works in slices, so that a large search does
//! not hold up the blocks that arrive meanwhile.
//! Invariant: nothing found here counts before it was hashed.

use super::Folder;
use super::chunked::Chunked;
use super::layout::{ChunkIndex, Layout};
use super::temp::{exactly, open_in_tree};
use crate::disk::fs::Fs;
use protocol::model::{ChunkHash, ContentHash, FileContent, RelPath};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Bytes that one slice looks at.
const SLICE_LEN: u64 = 8 * 1024 * 1024;
/// Copies reach up to the next multiple of this, so that extents can be shared from block to block.
const COPY_ALIGN: u64 = 1024 * 1024;
/// Files of the same content that are tried, of one folder.
const HOLDERS_MAX: usize = 2;
/// Other folders that are asked for the same content.
const FOLDERS_ASKED_MAX: usize = 8;
/// Chunks of a candidate that may differ from its list before it is given up: it is being rewritten.
const WRONG_MAX: u32 = 64;

/// A file that may hold some of the bytes.
pub(super) struct Candidate<F: Fs> {
    pub folder: Arc<Folder<F>>,
    pub path: RelPath,
    /// Its chunk list; the wanted file's own list when it holds the same content.
    pub layout: Option<Arc<Layout>>,
}

/// Where bytes of `content` may be: the same content in this folder, then in others, then what `path` holds now.
pub(super) fn candidates<F: Fs>(
    folder: &Arc<Folder<F>>,
    others: &[Arc<Folder<F>>],
    path: &RelPath,
    content: &FileContent,
) -> VecDeque<Candidate<F>> {
    let mut found = VecDeque::new();
    let asked =
        std::iter::once(folder).chain(others.iter().filter(|other| other.id != folder.id).take(FOLDERS_ASKED_MAX));
    for place in asked {
        let holders = place.rows.holders(content, HOLDERS_MAX);
        found.extend(holders.into_iter().map(|path| Candidate { folder: Arc::clone(place), path, layout: None }));
    }
    if content.chunks.len() == 1 {
        return found;
    }
    let row = folder.rows.get(path);
    let older = row.entry().and_then(|entry| entry.content.file()).filter(|older| older.hash != content.hash);
    if let Some(manifest) = older.and_then(|older| folder.rows.manifest(older)) {
        let layout = Some(Arc::new(Layout::new(Arc::new(manifest))));
        found.push_back(Candidate { folder: Arc::clone(folder), path: path.clone(), layout });
    }
    found
}

/// The bytes of a small file out of one of the candidates.
pub(super) fn whole<F: Fs>(candidates: VecDeque<Candidate<F>>, content: &FileContent) -> Option<Vec<u8>> {
    let len = usize::try_from(content.size).ok()?;
    candidates.into_iter().find_map(|candidate| {
        let file = open_in_tree(&*candidate.folder.fs, &candidate.path).ok()?;
        let bytes = exactly(len, |buffer| candidate.folder.fs.read_at(&file, buffer, 0)).ok()??;
        (ContentHash::of(&bytes) == content.hash).then_some(bytes)
    })
}

/// A search that goes on slice by slice.
pub(super) struct Search<F: Fs> {
    /// Next chunk of an older temp to look at.
    resume_at: Option<u32>,
    candidates: VecDeque<Candidate<F>>,
    open: Option<Open<F>>,
    buffer: Vec<u8>,
}

struct Open<F: Fs> {
    folder: Arc<Folder<F>>,
    file: F::File,
    /// `None`: the same list as the wanted file's.
    other: Option<(Arc<Layout>, ChunkIndex)>,
    /// Next chunk of the wanted file.
    at: u32,
    /// The temp holds a copy of the bytes before this offset, as far as they were wanted.
    copied: u64,
    wrong: u32,
}

impl<F: Fs> Search<F> {
    pub fn new(resume: bool, candidates: VecDeque<Candidate<F>>) -> Self {
        Self { resume_at: resume.then_some(0), candidates, open: None, buffer: Vec::new() }
    }

    /// Looks on; false when nothing is left to look at. Errors are those of the temp.
    pub fn slice(&mut self, file: &mut Chunked<F>) -> io::Result<bool> {
        if file.is_complete() {
            return Ok(false);
        }
        if let Some(at) = self.resume_at {
            self.resume_at = resume(file, at)?;
            return Ok(true);
        }
        let Some(open) = &mut self.open else {
            let Some(candidate) = self.candidates.pop_front() else { return Ok(false) };
            self.open = Open::new(candidate);
            return Ok(true);
        };
        if !open.slice(file, &mut self.buffer)? {
            self.open = None;
        }
        Ok(true)
    }
}

/// Verifies what an older temp holds from chunk `at` on; where to go on.
fn resume<F: Fs>(file: &mut Chunked<F>, at: u32) -> io::Result<Option<u32>> {
    let mut looked = 0;
    for index in at..file.layout().len() {
        if looked >= SLICE_LEN {
            return Ok(Some(index));
        }
        looked += u64::from(file.layout().chunk(index).len);
        file.verify(index)?;
    }
    Ok(None)
}

impl<F: Fs> Open<F> {
    /// `None` when it cannot be read: then it is no candidate.
    fn new(candidate: Candidate<F>) -> Option<Self> {
        let file = open_in_tree(&*candidate.folder.fs, &candidate.path).ok()?;
        let other = candidate.layout.map(|layout| {
            let index = ChunkIndex::new(&layout);
            (layout, index)
        });
        Some(Self { folder: candidate.folder, file, other, at: 0, copied: 0, wrong: 0 })
    }

    fn slice(&mut self, file: &mut Chunked<F>, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let layout = Arc::clone(file.layout());
        let mut looked = 0;
        while self.at < layout.len() && looked < SLICE_LEN && self.wrong < WRONG_MAX {
            let index = self.at;
            self.at += 1;
            if file.has(index) {
                continue;
            }
            let Some(from) = self.offset_of(&layout, index) else { continue };
            looked += u64::from(layout.chunk(index).len);
            let found = if from == layout.offset(index) {
                self.copy(file, &layout, index)?
            } else {
                self.read(file, &layout, index, from, buffer)?
            };
            self.wrong += u32::from(!found);
        }
        Ok(self.at < layout.len() && self.wrong < WRONG_MAX)
    }

    /// Where this file holds a chunk of the wanted one.
    fn offset_of(&self, layout: &Layout, index: u32) -> Option<u64> {
        match &self.other {
            None => Some(layout.offset(index)),
            Some((own, hashes)) => hashes.find(own, layout.chunk(index)).map(|at| own.offset(at)),
        }
    }

    /// The chunk lies at the same offset: the file system copies, the temp is verified.
    fn copy(&mut self, file: &mut Chunked<F>, layout: &Layout, index: u32) -> io::Result<bool> {
        let start = layout.offset(index);
        let end = start + u64::from(layout.chunk(index).len);
        if end > self.copied {
            let from = self.copied.max(start);
            let to = self.copy_end(file, layout, index);
            file.copy_from(&self.file, from, to - from)?;
            self.copied = to;
        }
        file.verify(index)
    }

    /// How far a copy that begins with chunk `index` reaches: up to an aligned offset, as long as the chunks on the
    /// way lie at the same offsets and are not there yet, for what is there must not be written over.
    fn copy_end(&self, file: &Chunked<F>, layout: &Layout, index: u32) -> u64 {
        let mut end = layout.offset(index) + u64::from(layout.chunk(index).len);
        let limit = end.next_multiple_of(COPY_ALIGN);
        let mut next = index + 1;
        while end < limit && next < layout.len() && !file.has(next) {
            if self.offset_of(layout, next) != Some(layout.offset(next)) {
                break;
            }
            end = limit.min(end + u64::from(layout.chunk(next).len));
            next += 1;
        }
        end
    }

    fn read(
        &self,
        file: &mut Chunked<F>,
        layout: &Layout,
        index: u32,
        from: u64,
        buffer: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let chunk = layout.chunk(index);
        buffer.resize(chunk.len as usize, 0);
        let read = self.folder.fs.read_at(&self.file, buffer, from);
        if !read.is_ok_and(|count| count == buffer.len()) || ChunkHash::of(buffer) != chunk.hash {
            return Ok(false);
        }
        file.accept(index, buffer)
    }
}
