//! Keys and values as bytes. Every value starts with the version of its encoding; a row carries its kind in the
//! second byte, so that tombstones are stepped over without decoding. Nothing here touches the database.

use anyhow::{Context, bail, ensure};
use protocol::model::{Chunk, ChunkHash, Chunking, Content, ContentHash, Entry, FileContent, Manifest, RelPath};
use protocol::model::{Sequence, Version};
use protocol::sync::Have;
use serde::{Serialize, de::DeserializeOwned};

/// Version of the encoding of every value written now.
const VALUE_VERSION: u8 = 1;
/// Packed chunk: hash and little-endian length.
const CHUNK_PACKED_LEN: usize = 36;

// The flag byte of a row. What a flag says need not be stored: most rows are a quarter shorter for it.
const KIND: u8 = 0b11;
const KIND_TOMBSTONE: u8 = 0;
const KIND_SYMLINK: u8 = 1;
const KIND_FILE: u8 = 2;
const KIND_DIRECTORY: u8 = 3;
const RACY: u8 = 1 << 2;
const FOUND: u8 = 1 << 3;
/// `content_at` is the version.
const CONTENT_AT_VERSION: u8 = 1 << 4;
/// `mode_at` is `content_at`.
const MODE_AT_CONTENT: u8 = 1 << 5;
/// The only chunk is the file.
const ONE_CHUNK: u8 = 1 << 6;
const FINGERPRINT: u8 = 1 << 7;

/// A path as a key: `/` becomes NUL, which no path contains and which sorts before every other byte, so that
/// keys order as paths do and a directory is followed by its subtree.
pub(super) fn path_key(path: &RelPath) -> Vec<u8> {
    path.as_bytes().iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

/// The path of a key.
pub(super) fn key_path(key: &[u8]) -> anyhow::Result<RelPath> {
    let bytes: Vec<u8> = key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    RelPath::parse(&bytes).context("a key is not a path")
}

/// What the keys strictly below `dir` start with; nothing for the root.
pub(super) fn subtree_prefix(dir: Option<&RelPath>) -> Vec<u8> {
    dir.map_or_else(Vec::new, |dir| [path_key(dir).as_slice(), &[0]].concat())
}

/// The least key after every key that starts with `prefix` (which ends in NUL); `None` after the last of all.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let (_, front) = prefix.split_last()?;
    Some([front, &[1]].concat())
}

/// What the holders of a content start with: size, and enough of the hash.
pub(super) fn content_prefix(size: u64, hash: &ContentHash) -> [u8; 16] {
    let mut prefix = [0; 16];
    prefix[..8].copy_from_slice(&size.to_be_bytes());
    prefix[8..].copy_from_slice(&hash.0[..8]);
    prefix
}

/// Key in `HOLDERS` and `WANTERS`.
pub(super) fn holder_key(content: &FileContent, path_key: &[u8]) -> Vec<u8> {
    [content_prefix(content.size, &content.hash).as_slice(), path_key].concat()
}

/// Version byte and postcard.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    append(vec![VALUE_VERSION], value)
}

/// What `encode` wrote.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
    let body = body(bytes)?;
    let (value, rest) = postcard::take_from_bytes(body).context("a value does not decode")?;
    ensure!(rest.is_empty(), "a value has a tail");
    Ok(value)
}

fn append(bytes: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, bytes).expect("plain values encode into memory")
}

fn body(bytes: &[u8]) -> anyhow::Result<&[u8]> {
    match bytes.split_first() {
        Some((&VALUE_VERSION, body)) => Ok(body),
        _ => bail!("a value has an unknown version"),
    }
}

/// Takes one field off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let (value, rest) = postcard::take_from_bytes(self.0).context("a row does not decode")?;
        self.0 = rest;
        Ok(value)
    }
}

/// A row: flags, sequence number, entry, fingerprint.
pub(super) fn encode_row(have: &Have, sequence: Sequence) -> Vec<u8> {
    let entry = &have.entry;
    let mut bytes = Vec::with_capacity(192);
    bytes.extend([VALUE_VERSION, flags(have)]);
    bytes = append(bytes, &sequence);
    bytes = append(bytes, &entry.version);
    if entry.content_at != entry.version {
        bytes = append(bytes, &entry.content_at);
    }
    if entry.mode_at != entry.content_at {
        bytes = append(bytes, &entry.mode_at);
    }
    bytes = append(bytes, &(entry.mode, entry.mtime, &entry.ancestors));
    bytes = match &entry.content {
        Content::Tombstone | Content::Directory => bytes,
        Content::Symlink(target) => append(bytes, target),
        Content::File(file) => {
            let bytes = append(bytes, &(file.size, file.hash, file.chunking));
            if is_one_chunk(file) { bytes } else { append(bytes, &file.chunks) }
        }
    };
    match &have.fingerprint {
        Some(fingerprint) => append(bytes, fingerprint),
        None => bytes,
    }
}

fn flags(have: &Have) -> u8 {
    let entry = &have.entry;
    let kind = match &entry.content {
        Content::Tombstone => KIND_TOMBSTONE,
        Content::Symlink(_) => KIND_SYMLINK,
        Content::File(_) => KIND_FILE,
        Content::Directory => KIND_DIRECTORY,
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    kind | flag(have.racy, RACY)
        | flag(entry.found, FOUND)
        | flag(entry.content_at == entry.version, CONTENT_AT_VERSION)
        | flag(entry.mode_at == entry.content_at, MODE_AT_CONTENT)
        | flag(entry.content.file().is_some_and(is_one_chunk), ONE_CHUNK)
        | flag(have.fingerprint.is_some(), FINGERPRINT)
}

/// BLAKE3 of the only chunk is BLAKE3 of the file.
fn is_one_chunk(file: &FileContent) -> bool {
    matches!(file.chunks.as_slice(), [chunk] if chunk.hash.0 == file.hash.0 && u64::from(chunk.len) == file.size)
}

/// What `encode_row` wrote.
pub(super) fn decode_row(bytes: &[u8]) -> anyhow::Result<(Sequence, Have)> {
    let flags = row_flags(bytes)?;
    let mut fields = Fields(&bytes[2..]);
    let sequence = fields.take()?;
    let version: Version = fields.take()?;
    let content_at = if flags & CONTENT_AT_VERSION != 0 { version.clone() } else { fields.take()? };
    let mode_at = if flags & MODE_AT_CONTENT != 0 { content_at.clone() } else { fields.take()? };
    let (mode, mtime, ancestors) = fields.take()?;
    let content = match flags & KIND {
        KIND_TOMBSTONE => Content::Tombstone,
        KIND_DIRECTORY => Content::Directory,
        KIND_SYMLINK => Content::Symlink(fields.take()?),
        _ => Content::File(decode_file(&mut fields, flags)?),
    };
    let fingerprint = if flags & FINGERPRINT != 0 { Some(fields.take()?) } else { None };
    ensure!(fields.0.is_empty(), "a row has a tail");
    let entry = Entry { version, content, content_at, mode, mode_at, mtime, ancestors, found: flags & FOUND != 0 };
    Ok((sequence, Have { entry, fingerprint, racy: flags & RACY != 0 }))
}

fn decode_file(fields: &mut Fields, flags: u8) -> anyhow::Result<FileContent> {
    let (size, hash, chunking): (u64, ContentHash, Chunking) = fields.take()?;
    let chunks = if flags & ONE_CHUNK != 0 {
        vec![Chunk { hash: ChunkHash(hash.0), len: u32::try_from(size).context("one chunk of 4 GiB")? }]
    } else {
        fields.take()?
    };
    Ok(FileContent { size, hash, chunking, chunks })
}

fn row_flags(bytes: &[u8]) -> anyhow::Result<u8> {
    body(bytes)?.first().copied().context("a row is empty")
}

/// Whether an encoded row is no tombstone.
pub(super) fn row_is_live(bytes: &[u8]) -> anyhow::Result<bool> {
    Ok(row_flags(bytes)? & KIND != KIND_TOMBSTONE)
}

/// A chunk list: size and chunking, then 36 bytes a chunk.
pub(super) fn encode_manifest(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = append(vec![VALUE_VERSION], &(manifest.size, manifest.chunking));
    bytes.reserve(manifest.chunks.len() * CHUNK_PACKED_LEN);
    for chunk in &manifest.chunks {
        bytes.extend(chunk.hash.0);
        bytes.extend(chunk.len.to_le_bytes());
    }
    bytes
}

/// What `encode_manifest` wrote.
pub(super) fn decode_manifest(content: ContentHash, bytes: &[u8]) -> anyhow::Result<Manifest> {
    let mut fields = Fields(body(bytes)?);
    let (size, chunking) = fields.take()?;
    let (packed, tail) = fields.0.as_chunks::<CHUNK_PACKED_LEN>();
    ensure!(tail.is_empty(), "a chunk list has a tail");
    let chunks = packed.iter().map(|chunk| {
        let (hash, len) = chunk.split_at(32);
        Chunk {
            hash: ChunkHash(hash.try_into().expect("the first 32 of 36 bytes")),
            len: u32::from_le_bytes(len.try_into().expect("the last 4 of 36 bytes")),
        }
    });
    Ok(Manifest { content, size, chunking, chunks: chunks.collect() })
}

/// The file's size in a chunk list, without unpacking the chunks.
pub(super) fn decode_manifest_size(bytes: &[u8]) -> anyhow::Result<u64> {
    Fields(body(bytes)?).take()
}

/// Key of what is remembered of a peer's index.
pub(super) fn remembered_key(peer: &protocol::model::DeviceId, replica: protocol::model::ReplicaId) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(peer.as_bytes());
    key[32..].copy_from_slice(replica.as_bytes());
    key
}
