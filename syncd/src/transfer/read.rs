//! Reads what a peer asked for into blocks, on a thread that may block.
//! Invariant: a chunk is sent only when its bytes have the hash that our own record names for them; the record is
//! found by path and content inside a folder that the caller checked, never by a path alone.

use super::layout::{Layout, inline};
use super::temp::open_in_tree;
use super::{Folder, Notice};
use crate::disk::Temp;
use crate::disk::fs::{Errno, Fs, errno};
use protocol::limits::DATA_BLOCK_TARGET;
use protocol::model::chunk::check_lengths;
use protocol::model::{ChunkHash, ContentHash, FileContent, RelPath};
use protocol::wire::data::{BlockWriter, Record, RecordCode};
use protocol::wire::message::{ChunkGet, ChunkItem};
use std::io;
use std::sync::{Arc, Mutex};

/// Open files kept for a peer between its requests.
const SHELF_MAX: usize = 4;

/// A file that is being served.
pub(super) struct Source<F: Fs> {
    path: RelPath,
    content: ContentHash,
    pub layout: Arc<Layout>,
    bytes: Bytes<F>,
}

enum Bytes<F: Fs> {
    Tree(F::File),
    /// A temp: chunks may be missing, and that is nobody's fault.
    Partial(Arc<Temp<F>>),
}

impl<F: Fs> Source<F> {
    fn read(&self, folder: &Folder<F>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.bytes {
            Bytes::Tree(file) => folder.fs.read_at(file, buffer, offset),
            Bytes::Partial(temp) => temp.read_at(buffer, offset),
        }
    }
}

/// Large files that one peer reads, open with their chunk lists.
pub(super) struct Shelf<F: Fs>(Mutex<Vec<Arc<Source<F>>>>);

impl<F: Fs> Default for Shelf<F> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<F: Fs> Shelf<F> {
    fn find(&self, path: &RelPath, content: &ContentHash) -> Option<Arc<Source<F>>> {
        let kept = self.0.lock().expect("no thread panics while it holds this lock");
        kept.iter().find(|source| source.content == *content && source.path == *path).cloned()
    }

    fn keep(&self, source: &Arc<Source<F>>) {
        let mut kept = self.0.lock().expect("no thread panics while it holds this lock");
        if kept.len() >= SHELF_MAX {
            kept.remove(0);
        }
        kept.push(Arc::clone(source));
    }

    fn drop_path(&self, path: &RelPath) {
        self.0.lock().expect("no thread panics while it holds this lock").retain(|source| source.path != *path);
    }

    pub fn clear(&self) {
        self.0.lock().expect("no thread panics while it holds this lock").clear();
    }
}

/// Finds a content by the path it was asked under: there, at another path, or in the temp of a fetch.
pub(super) fn find<F: Fs>(
    folder: &Folder<F>,
    shelf: &Shelf<F>,
    path: &RelPath,
    content: &ContentHash,
) -> Option<Arc<Source<F>>> {
    if let Some(source) = shelf.find(path, content) {
        return Some(source);
    }
    let row = folder.rows.get(path);
    let there = row.entry().and_then(|entry| entry.content.file()).filter(|file| file.hash == *content);
    let source = match there {
        Some(file) => open(folder, path, file),
        None => {
            let wanted = row.wants.iter().filter_map(|want| want.entry.content.file());
            let wanted = wanted.into_iter().find(|file| file.hash == *content)?;
            match folder.rows.holders(wanted, 1).first() {
                Some(holder) => open(folder, holder, wanted),
                None => open_temp(folder, path, wanted),
            }
        }
    };
    let source = source.map(Arc::new)?;
    if source.layout.len() > 1 {
        shelf.keep(&source);
    }
    Some(source)
}

fn open<F: Fs>(folder: &Folder<F>, path: &RelPath, content: &FileContent) -> Option<Source<F>> {
    let manifest = match inline(content) {
        Some(manifest) => manifest,
        None => folder.rows.manifest(content)?,
    };
    check_lengths(&manifest.chunks, content.size, manifest.chunking).ok()?;
    match open_in_tree(&*folder.fs, path) {
        Ok(file) => {
            let layout = Arc::new(Layout::new(Arc::new(manifest)));
            Some(Source { path: path.clone(), content: content.hash, layout, bytes: Bytes::Tree(file) })
        }
        Err(error) => {
            moved(folder, path, &error);
            None
        }
    }
}

fn open_temp<F: Fs>(folder: &Folder<F>, path: &RelPath, content: &FileContent) -> Option<Source<F>> {
    let (layout, temp) = folder.under_way.get(&content.hash)?;
    Some(Source { path: path.clone(), content: content.hash, layout, bytes: Bytes::Partial(temp) })
}

/// An indexed file that cannot be opened is not what the index says, unless this device is at its own limits.
fn moved<F: Fs>(folder: &Folder<F>, path: &RelPath, error: &io::Error) {
    if !matches!(errno(error), Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO) {
        (folder.notify)(Notice::Look { path: path.clone() });
    }
}

/// A request that is being answered, block by block.
pub(super) struct Reading<F: Fs> {
    folder: Arc<Folder<F>>,
    shelf: Arc<Shelf<F>>,
    get: ChunkGet,
    /// Next item, and how many of its chunks are done.
    item: usize,
    done: u32,
    /// Bytes that the rest may have.
    left: usize,
}

impl<F: Fs> Reading<F> {
    pub fn new(folder: Arc<Folder<F>>, shelf: Arc<Shelf<F>>, get: ChunkGet) -> Self {
        let left = get.items.iter().map(|item| item.len as usize).sum();
        Self { folder, shelf, get, item: 0, done: 0, left }
    }

    /// The next block, and whether it is the last.
    pub fn fill(&mut self) -> (BlockWriter, bool) {
        let mut block = BlockWriter::with_capacity(self.left.min(DATA_BLOCK_TARGET) + DATA_BLOCK_TARGET / 16);
        while !block.is_full() && self.item < self.get.items.len() {
            if let Some(code) = self.read_item(&mut block) {
                let item = u16::try_from(self.item).expect("a request has at most FILES_PER_REQUEST_MAX items");
                block.push(&Record { item, code, bytes: &[] });
                self.done = self.get.items[self.item].count;
            }
            if self.done == self.get.items[self.item].count {
                self.item += 1;
                self.done = 0;
            }
        }
        self.left = self.left.saturating_sub(block.raw().len());
        (block, self.item == self.get.items.len())
    }

    /// Reads chunks of the present item until the block is full; a code when the item ends early.
    fn read_item(&mut self, block: &mut BlockWriter) -> Option<RecordCode> {
        let item = &self.get.items[self.item];
        let Some(source) = find(&self.folder, &self.shelf, &item.path, &item.content) else {
            return Some(RecordCode::Gone);
        };
        let Some(first) = first_chunk(item, &source.layout) else { return Some(RecordCode::Denied) };
        let number = u16::try_from(self.item).expect("a request has at most FILES_PER_REQUEST_MAX items");
        while self.done < item.count && !block.is_full() {
            let chunk = source.layout.chunk(first + self.done);
            let len = chunk.len as usize;
            let bytes = block.chunk(number, len);
            let read = source.read(&self.folder, bytes, source.layout.offset(first + self.done));
            if !read.as_ref().is_ok_and(|count| *count == len) || ChunkHash::of(bytes) != chunk.hash {
                block.retract(len);
                self.shelf.drop_path(&item.path);
                if matches!(source.bytes, Bytes::Tree(_)) {
                    let error = read.err().unwrap_or_else(|| Errno::STALE.into());
                    moved(&self.folder, &source.path, &error);
                }
                return Some(RecordCode::Gone);
            }
            self.done += 1;
        }
        None
    }
}

/// The first chunk of an item that asks for what the list says.
fn first_chunk(item: &ChunkItem, layout: &Layout) -> Option<u32> {
    let first = u32::try_from(item.first_chunk).ok()?;
    let end = first.checked_add(item.count).filter(|end| *end <= layout.len())?;
    let (start, len) = (layout.offset(first), layout.end(end - 1) - layout.offset(first));
    (start == item.offset && len == u64::from(item.len)).then_some(first)
}
