//! A file of several chunks on its way into a temp: which chunks are there, and the hash of the whole, which follows
//! the file's order as far as it can so that a second pass is rarely needed.
//! Invariant: a chunk counts as there only after its hash was computed from the bytes that were written or read back.

use super::Folder;
use super::layout::{ChunkIndex, Layout, Missing, is_zeros, zeros_hash};
use crate::disk::Temp;
use crate::disk::fs::Fs;
use protocol::limits::PARTIAL_RANGES_MAX;
use protocol::model::{ChunkHash, ContentHash, FileContent};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Bytes of earlier chunks that are hashed along with one that arrives.
const CATCH_UP_LEN: u64 = 1024 * 1024;

pub(super) struct Chunked<F: Fs> {
    temp: Arc<Temp<F>>,
    layout: Arc<Layout>,
    folder: Arc<Folder<F>>,
    there: Vec<u64>,
    missing: u32,
    /// Chunks that equal an earlier one, by that one.
    repeats: BTreeMap<u32, Vec<u32>>,
    /// Runs over the first `hashed` chunks.
    hasher: blake3::Hasher,
    hashed: u32,
    buffer: Vec<u8>,
    /// Bytes that came since others were last told.
    untold: u64,
    /// Bytes that were not written here yet, by segment of the file.
    to_come: Vec<u64>,
}

/// Bytes that begin their way to the disk together once all of them came. When the file is complete its sync finds most
/// of it done.
const SEGMENT_LEN: u64 = 8 * 1024 * 1024;

/// Others are told what is there after so many bytes, or a sixteenth of the file if that is more.
const TELL_LEN: u64 = 8 * 1024 * 1024;

impl<F: Fs> Chunked<F> {
    /// Opens the temp. Chunks of zeros are there at once in a new one. The flag says that an older temp was found.
    pub fn open(folder: &Arc<Folder<F>>, content: &FileContent, layout: Arc<Layout>) -> io::Result<(Self, bool)> {
        let temp = Arc::new(folder.open_temp(content)?);
        let found = temp.len_left()? > 0;
        let (count, size) = (layout.len(), layout.manifest().size);
        let segments = (0..size).step_by(usize::try_from(SEGMENT_LEN).expect("8 MiB fit into usize"));
        let mut file = Self {
            temp,
            folder: Arc::clone(folder),
            there: vec![0; (count as usize).div_ceil(64)],
            missing: count,
            repeats: BTreeMap::new(),
            hasher: blake3::Hasher::new(),
            hashed: 0,
            buffer: Vec::new(),
            untold: 0,
            to_come: segments.map(|start| SEGMENT_LEN.min(size - start)).collect(),
            layout,
        };
        if !found {
            file.mark_zeros();
        }
        file.find_repeats();
        folder.under_way.set(&file.layout, &file.temp);
        Ok((file, found))
    }

    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub fn has(&self, index: u32) -> bool {
        self.there[index as usize / 64] & (1 << (index % 64)) != 0
    }

    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Ends the search on this device: what has to come from elsewhere, of equal chunks only the first.
    pub fn settle(&mut self) -> io::Result<Missing> {
        self.fill_repeats()?;
        let mut missing = Missing::default();
        let mut first = None;
        let follows: std::collections::BTreeSet<u32> = self.repeats.values().flatten().copied().collect();
        for index in 0..self.layout.len() {
            let wanted = !self.has(index) && !follows.contains(&index);
            match (wanted, first) {
                (true, None) => first = Some(index),
                (false, Some(start)) => {
                    missing.insert(start, index - start);
                    first = None;
                }
                _ => {}
            }
        }
        if let Some(start) = first {
            missing.insert(start, self.layout.len() - start);
        }
        Ok(missing)
    }

    /// Where one of several equal chunks is there, writes the others.
    fn fill_repeats(&mut self) -> io::Result<()> {
        for (first, mut equals) in std::mem::take(&mut self.repeats) {
            let group = std::iter::once(first).chain(equals.iter().copied());
            let Some(there) = group.clone().find(|index| self.has(*index)) else {
                self.repeats.insert(first, equals);
                continue;
            };
            let mut bytes = vec![0; self.layout.chunk(there).len as usize];
            // What is past the temp's present end is zeros that were not written; `accept` verifies the chunk.
            self.temp.read_at(&mut bytes, self.layout.offset(there))?;
            equals.push(first);
            for index in equals {
                self.accept(index, &bytes)?;
            }
        }
        Ok(())
    }

    /// Chunks that are there, as (first, count), when enough came since the last time.
    pub fn news(&mut self) -> Option<Vec<(u64, u64)>> {
        if self.untold < TELL_LEN.max(self.layout.manifest().size / 16) || self.is_complete() {
            return None;
        }
        self.untold = 0;
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for index in (0..self.layout.len()).filter(|index| self.has(*index)).map(u64::from) {
            let is_last = ranges.len() == PARTIAL_RANGES_MAX;
            match ranges.last_mut() {
                Some((first, count)) if *first + *count == index => *count += 1,
                _ if is_last => break,
                _ => ranges.push((index, 1)),
            }
        }
        Some(ranges)
    }

    /// Writes a chunk if it is the right one; false when its bytes are others.
    pub fn accept(&mut self, index: u32, bytes: &[u8]) -> io::Result<bool> {
        let chunk = self.layout.chunk(index);
        if bytes.len() != chunk.len as usize || ChunkHash::of(bytes) != chunk.hash {
            return Ok(false);
        }
        if self.has(index) {
            return Ok(true);
        }
        self.temp.write_at(bytes, self.layout.offset(index))?;
        self.mark(index, bytes);
        for repeat in self.repeats.remove(&index).unwrap_or_default() {
            if !self.has(repeat) {
                self.temp.write_at(bytes, self.layout.offset(repeat))?;
                self.mark(repeat, bytes);
            }
        }
        self.catch_up(CATCH_UP_LEN.max(2 * bytes.len() as u64))?;
        self.write_back(index);
        Ok(true)
    }

    /// Looks whether the temp already holds a chunk.
    pub fn verify(&mut self, index: u32) -> io::Result<bool> {
        let chunk = self.layout.chunk(index);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(chunk.len as usize, 0);
        let read = self.temp.read_at(&mut buffer, self.layout.offset(index));
        let holds = read? == buffer.len() && ChunkHash::of(&buffer) == chunk.hash;
        if holds && !self.has(index) {
            self.mark(index, &buffer);
        }
        self.buffer = buffer;
        Ok(holds)
    }

    /// Copies bytes that `verify` has to look at.
    pub fn copy_from(&self, from: &F::File, offset: u64, len: u64) -> io::Result<()> {
        // Fewer bytes than asked for show when the chunk is verified.
        self.temp.copy_from(from, offset, offset, len).map(|_| ())
    }

    /// Hashes on, at most about `budget` bytes. Once the file is complete and hashed: whether it is the content.
    pub fn finish(&mut self, budget: u64) -> io::Result<Option<bool>> {
        if self.is_complete() {
            self.temp.fix_len()?;
        }
        self.catch_up(budget)?;
        let done = self.is_complete() && self.hashed == self.layout.len();
        Ok(done.then(|| ContentHash(*self.hasher.finalize().as_bytes()) == self.layout.manifest().content))
    }

    fn mark(&mut self, index: u32, bytes: &[u8]) {
        self.set(index);
        if index == self.hashed {
            self.hasher.update(bytes);
            self.hashed += 1;
        }
    }

    fn set(&mut self, index: u32) {
        self.there[index as usize / 64] |= 1 << (index % 64);
        self.missing -= 1;
        let len = u64::from(self.layout.chunk(index).len);
        self.untold += len;
        self.folder.meter.add_done(len);
    }

    /// Takes note of a chunk that came. What is still to be read back for the hash of the whole stays where it is.
    fn write_back(&mut self, index: u32) {
        let (mut at, end) = (self.layout.offset(index), self.layout.end(index));
        let hashed = if self.hashed == 0 { 0 } else { self.layout.end(self.hashed - 1) };
        while at < end {
            let start = at - at % SEGMENT_LEN;
            let upto = end.min(start + SEGMENT_LEN);
            let left = &mut self.to_come[usize::try_from(start / SEGMENT_LEN).expect("as many as there are segments")];
            *left -= upto - at;
            if *left == 0 && hashed >= upto {
                self.temp.write_back(start, SEGMENT_LEN);
            }
            at = upto;
        }
    }

    fn mark_zeros(&mut self) {
        let chunking = self.layout.manifest().chunking;
        for index in 0..self.layout.len() {
            let chunk = self.layout.chunk(index);
            let tail = index > 0 && index + 1 == self.layout.len() && self.has(index - 1);
            if is_zeros(chunk, chunking) || (tail && zeros_hash(chunk.len as usize) == chunk.hash) {
                self.set(index);
            }
        }
    }

    fn find_repeats(&mut self) {
        let index_of = ChunkIndex::new(&self.layout);
        for index in 0..self.layout.len() {
            if self.has(index) {
                continue;
            }
            let first = index_of.find(&self.layout, self.layout.chunk(index));
            if let Some(first) = first.filter(|first| *first < index) {
                self.repeats.entry(first).or_default().push(index);
            }
        }
    }

    /// Hashes chunks that came out of order, reading them back.
    fn catch_up(&mut self, budget: u64) -> io::Result<()> {
        let mut left = budget;
        while left > 0 && self.hashed < self.layout.len() && self.has(self.hashed) {
            let len = self.layout.chunk(self.hashed).len;
            self.buffer.resize(len as usize, 0);
            let read = self.temp.read_at(&mut self.buffer, self.layout.offset(self.hashed))?;
            // Zeros at the end are not written: the temp gets its length last. The hash of the whole decides.
            self.buffer[read..].fill(0);
            self.hasher.update(&self.buffer);
            self.hashed += 1;
            left = left.saturating_sub(u64::from(len));
        }
        Ok(())
    }
}

impl<F: Fs> Drop for Chunked<F> {
    fn drop(&mut self) {
        self.folder.under_way.end(&self.temp);
    }
}
