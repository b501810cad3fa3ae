//! The body of a DATA response: blocks of records, cut into frames wherever it suits. Compression is the caller's: a
//! block says whether its bytes are zstd, and how many they are before and after.
//! Invariant: a decoder holds no more than the response it was told to expect.

use crate::limits::{CHUNK_LEN_MAX, DATA_BLOCK_RAW_MAX, DATA_BLOCK_TARGET, DATA_RECORD_HEADER_LEN};

#[cfg(test)]
mod tests;

/// Bytes before a block's content: flags, raw length, stored length.
pub const BLOCK_HEADER_LEN: usize = 9;
/// Block flag: the stored bytes are one zstd frame.
pub const BLOCK_ZSTD: u8 = 1;

/// What became of one chunk that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordCode {
    /// Here are its bytes.
    Ok,
    /// The file is no longer that content; nothing more of this item comes.
    Gone,
    /// The asker may not have it; nothing more of this item comes.
    Denied,
}

/// One whole chunk of an item, or why the item ends. Records come in the order of the items and, within an item, of
/// its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Index into the request's items.
    pub item: u16,
    /// What became of it.
    pub code: RecordCode,
    /// The chunk; empty unless `Ok`.
    pub bytes: &'a [u8],
}

/// Why a response is refused. The session ends with CLOSE(protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// A block's header contradicts itself or exceeds the largest block.
    #[error("a data block is malformed")]
    Block,
    /// The response is longer than what was asked for.
    #[error("a response is longer than what was asked for")]
    TooLong,
    /// The response ended within a block.
    #[error("a response ended too early")]
    Truncated,
    /// A record is cut off, too long, or of an unknown kind.
    #[error("a data record is malformed")]
    Record,
}

/// Collects records into a block. Room for the header lies in front, so that a block that is not compressed is sent
/// as it was built.
pub struct BlockWriter {
    block: Vec<u8>,
}

impl Default for BlockWriter {
    fn default() -> Self {
        Self { block: vec![0; BLOCK_HEADER_LEN] }
    }
}

impl BlockWriter {
    /// A block with room for `raw_len` bytes of records before it has to grow.
    #[must_use]
    pub fn with_capacity(raw_len: usize) -> Self {
        let mut block = Vec::with_capacity(BLOCK_HEADER_LEN + raw_len);
        block.resize(BLOCK_HEADER_LEN, 0);
        Self { block }
    }

    /// Appends one record. Bytes of an `Ok` record are one chunk, at most `CHUNK_LEN_MAX`.
    pub fn push(&mut self, record: &Record<'_>) {
        assert!(record.bytes.len() <= CHUNK_LEN_MAX, "a record is at most one chunk");
        assert!(!self.is_full(), "a full block is sent before the next record");
        self.block.extend_from_slice(&record_header(record.item, record.code, record.bytes.len()));
        self.block.extend_from_slice(record.bytes);
    }

    /// Appends an `Ok` record of `len` bytes, 1 to `CHUNK_LEN_MAX`, and returns where its bytes go.
    pub fn chunk(&mut self, item: u16, len: usize) -> &mut [u8] {
        assert!((1..=CHUNK_LEN_MAX).contains(&len), "a record is at most one chunk");
        assert!(!self.is_full(), "a full block is sent before the next record");
        self.block.extend_from_slice(&record_header(item, RecordCode::Ok, len));
        let start = self.block.len();
        self.block.resize(start + len, 0);
        &mut self.block[start..]
    }

    /// Takes back the record that `chunk` began with `len` bytes just before.
    pub fn retract(&mut self, len: usize) {
        let start = self.block.len().checked_sub(DATA_RECORD_HEADER_LEN + len);
        let start = start.filter(|start| *start >= BLOCK_HEADER_LEN).expect("the record was just appended");
        self.block.truncate(start);
    }

    /// The records so far, for a compressor.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.block[BLOCK_HEADER_LEN..]
    }

    /// Whether no record was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw().is_empty()
    }

    /// Whether the block must go out before another record.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.raw().len() >= DATA_BLOCK_TARGET
    }

    /// The block as it is, header and records.
    pub fn plain(&mut self) -> &[u8] {
        let len = self.raw().len();
        self.block[..BLOCK_HEADER_LEN].copy_from_slice(&block_header(0, len, len));
        &self.block
    }

    /// The same, handed over without a copy.
    #[must_use]
    pub fn into_plain(mut self) -> Vec<u8> {
        self.plain();
        self.block
    }

    /// Header of the same block when its records travel as `stored_len` bytes of zstd; fewer than they are.
    #[must_use]
    pub fn zstd_header(&self, stored_len: usize) -> [u8; BLOCK_HEADER_LEN] {
        assert!(stored_len < self.raw().len(), "a block is only compressed when that makes it smaller");
        block_header(BLOCK_ZSTD, self.raw().len(), stored_len)
    }

    /// Starts the next block in the same memory.
    pub fn clear(&mut self) {
        self.block.truncate(BLOCK_HEADER_LEN);
    }
}

fn block_header(flags: u8, raw_len: usize, stored_len: usize) -> [u8; BLOCK_HEADER_LEN] {
    let le = |len: usize| u32::try_from(len).expect("a block is at most a few megabytes").to_le_bytes();
    let (raw, stored) = (le(raw_len), le(stored_len));
    [flags, raw[0], raw[1], raw[2], raw[3], stored[0], stored[1], stored[2], stored[3]]
}

fn record_header(item: u16, code: RecordCode, len: usize) -> [u8; DATA_RECORD_HEADER_LEN] {
    let code = match code {
        RecordCode::Ok => 0,
        RecordCode::Gone => 1,
        RecordCode::Denied => 2,
    };
    let item = item.to_le_bytes();
    let len = u32::try_from(len).expect("a chunk is at most 4 MiB").to_le_bytes();
    [item[0], item[1], code, len[0], len[1], len[2], len[3]]
}

/// A block as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The stored bytes are one zstd frame.
    pub zstd: bool,
    /// Bytes once decompressed; at most `DATA_BLOCK_RAW_MAX`.
    pub raw_len: usize,
    /// What travelled; `raw_len` bytes when not compressed.
    pub stored: Vec<u8>,
}

/// Finds the blocks in a response's payloads.
pub struct BlockReader {
    budget: u64,
    header: Vec<u8>,
    block: Option<Block>,
    stored_len: usize,
}

impl BlockReader {
    /// For a response to a request of `items` items, `chunks` chunks and `bytes` bytes in all: its raw blocks hold
    /// at most those bytes and a header per record.
    #[must_use]
    pub fn new(items: usize, chunks: u64, bytes: u64) -> Self {
        let records = chunks.saturating_add(items as u64);
        let budget = bytes.saturating_add(records.saturating_mul(DATA_RECORD_HEADER_LEN as u64));
        Self { budget, header: Vec::with_capacity(BLOCK_HEADER_LEN), block: None, stored_len: 0 }
    }

    /// Takes the payload of the next DATA frame and hands each block that it completes to `found`.
    ///
    /// # Errors
    /// When the bytes are no such response; the reader must not be used again.
    pub fn push(&mut self, mut payload: &[u8], mut found: impl FnMut(Block)) -> Result<(), DataError> {
        while !payload.is_empty() {
            let Some(block) = self.block.as_mut() else {
                payload = self.take_header(payload)?;
                continue;
            };
            let (part, rest) = payload.split_at(payload.len().min(self.stored_len - block.stored.len()));
            block.stored.extend_from_slice(part);
            payload = rest;
            if block.stored.len() == self.stored_len
                && let Some(block) = self.block.take()
            {
                found(block);
            }
        }
        Ok(())
    }

    /// Call after the frame with `FLAG_END`.
    ///
    /// # Errors
    /// When a block is incomplete.
    pub fn finish(&self) -> Result<(), DataError> {
        let between_blocks = self.block.is_none() && self.header.is_empty();
        if between_blocks { Ok(()) } else { Err(DataError::Truncated) }
    }

    fn take_header<'a>(&mut self, payload: &'a [u8]) -> Result<&'a [u8], DataError> {
        let (part, rest) = payload.split_at(payload.len().min(BLOCK_HEADER_LEN - self.header.len()));
        self.header.extend_from_slice(part);
        if self.header.len() < BLOCK_HEADER_LEN {
            return Ok(rest);
        }
        let zstd = self.header[0] & BLOCK_ZSTD != 0;
        let raw_len = le_u32(&self.header[1..]);
        let stored_len = le_u32(&self.header[5..]);
        let lengths_fit = if zstd { stored_len < raw_len } else { stored_len == raw_len };
        if stored_len == 0 || !lengths_fit || raw_len > DATA_BLOCK_RAW_MAX {
            return Err(DataError::Block);
        }
        self.budget = self.budget.checked_sub(raw_len as u64).ok_or(DataError::TooLong)?;
        self.header.clear();
        self.stored_len = stored_len;
        // The budget bounds this by what we asked for.
        self.block = Some(Block { zstd, raw_len, stored: Vec::with_capacity(stored_len) });
        Ok(rest)
    }
}

/// The records of a raw block (decompressed, if it was compressed).
pub fn records(raw: &[u8]) -> impl Iterator<Item = Result<Record<'_>, DataError>> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = take_record(rest);
        rest = record.map_or(&[], |(_, tail)| tail);
        Some(record.map(|(record, _)| record))
    })
}

fn take_record(raw: &[u8]) -> Result<(Record<'_>, &[u8]), DataError> {
    let (header, rest) = raw.split_at_checked(DATA_RECORD_HEADER_LEN).ok_or(DataError::Record)?;
    let code = match header[2] {
        0 => RecordCode::Ok,
        1 => RecordCode::Gone,
        2 => RecordCode::Denied,
        _ => return Err(DataError::Record),
    };
    let len = le_u32(&header[3..]);
    // An Ok record is a chunk, which is never empty; the others carry nothing.
    let len_fits = if code == RecordCode::Ok { (1..=CHUNK_LEN_MAX).contains(&len) } else { len == 0 };
    if !len_fits {
        return Err(DataError::Record);
    }
    let (bytes, tail) = rest.split_at_checked(len).ok_or(DataError::Record)?;
    Ok((Record { item: u16::from_le_bytes([header[0], header[1]]), code, bytes }, tail))
}

fn le_u32(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}
