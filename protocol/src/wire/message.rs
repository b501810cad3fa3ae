//! Messages: numbered types whose bodies are postcard. A body never changes; a new one gets a new number.
//! Invariant: whatever [`Message::decode`] returns is within every bound of `limits`, and lists are bounded before
//! they are allocated.

use super::kdf::{Secret32, UnixSeconds};
use crate::limits::{
    CHUNK_LEN_MAX, CHUNKS_PER_FILE_MAX, DECLINED_MAX, FILES_PER_REQUEST_MAX, FOLDERS_MAX, INDEX_BYTES_MAX,
    INDEX_CREDIT_MAX, INDEX_ROWS_MAX, MANIFEST_CHUNKS_MAX, MESSAGE_LEN_MAX, NAME_LEN_MAX, PARTIAL_RANGES_MAX,
    REQUEST_BYTES_MAX, WORDS_LEN_MAX,
};
use crate::model::{
    Chunk, Chunking, ContentHash, Digest, FolderId, RelPath, ReplicaId, Row, RunId, Sequence, Version, entry::RowError,
};
use bounded::{list, text};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;
use std::net::SocketAddr;

mod bounded;
mod join;
mod numbers;
mod reach;
mod realm;
#[cfg(test)]
mod tests;

pub use join::{JoinError, Joined, Joiner};
pub use numbers::{capability, kind};
pub use reach::{Addresses, Punch, Whereabout, Whereabouts};
pub use realm::{EpochSecret, Heads, LinkBytes, Links, Secrets};

/// Why bytes from a peer are not a message. The session ends with CLOSE(protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No message has this number.
    #[error("unknown message {0:#04x}")]
    UnknownKind(u8),
    /// Longer than this kind of message may be.
    #[error("message {0:#04x} is too long")]
    TooLong(u8),
    /// The body is not an encoding of the type, a list is over its bound, or bytes are left over.
    #[error("message {0:#04x} is malformed")]
    Malformed(u8),
    /// A number is outside its range, or two contradict each other.
    #[error("message {0:#04x} has a value out of range")]
    Range(u8),
    /// A row that no honest index holds.
    #[error("an index row is impossible: {0}")]
    Row(#[from] RowError),
}

/// HELLO: who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Drawn with the data directory: two instances of one id are a copied identity.
    pub instance: [u8; 16],
    /// Drawn at each start.
    pub boot: [u8; 8],
    /// The sender's Ed25519 key; with the static key of the handshake it makes up the device id.
    pub ed: [u8; 32],
    /// What its owner calls the device; at most `NAME_LEN_MAX` bytes, no control characters.
    #[serde(deserialize_with = "text::<_, NAME_LEN_MAX>")]
    pub name: String,
    /// Program and version, for people.
    #[serde(deserialize_with = "text::<_, NAME_LEN_MAX>")]
    pub software: String,
    /// See [`capability`].
    pub capabilities: u32,
    /// The sender's clock, so that both can say when one of them is wrong.
    pub clock: UnixSeconds,
    /// Where the sender sees the receiver's end of this connection; `None` behind a relay.
    pub observed: Option<SocketAddr>,
}

/// Why a session ends; a number, so that a newer peer's reason is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseCode(pub u8);

impl CloseCode {
    /// The sender stops or has no more to say.
    pub const DONE: Self = Self(0);
    /// The receiver broke the protocol.
    pub const PROTOCOL: Self = Self(1);
    /// A person declined the pairing.
    pub const DECLINED: Self = Self(2);
    /// Another session of the same two devices takes over.
    pub const DUPLICATE: Self = Self(3);
    /// The receiver was removed.
    pub const REMOVED: Self = Self(4);
    /// The receiver is paused.
    pub const PAUSED: Self = Self(5);
    /// Keys are due for renewal: connect again.
    pub const RENEW: Self = Self(6);
    /// Two devices run with one identity.
    pub const IDENTITY_COPIED: Self = Self(7);
    /// The sender has no room for another session.
    pub const BUSY: Self = Self(8);
}

/// Which way a folder flows at the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfferMode {
    /// Both ways.
    SendReceive,
    /// It declines what others write.
    SendOnly,
    /// It announces nothing of its own.
    ReceiveOnly,
}

/// A folder that the sender shares with the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderOffer {
    /// Which.
    pub id: FolderId,
    /// What the sender calls it; at most `NAME_LEN_MAX` bytes.
    #[serde(deserialize_with = "text::<_, NAME_LEN_MAX>")]
    pub name: String,
    /// The sender's index of it; `None` while the sender only passes on an offer and has not joined.
    pub replica: Option<ReplicaId>,
    /// Which way it flows at the sender.
    pub mode: OfferMode,
}

/// FOLDERS: everything the sender shares with the receiver; replaces the list before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folders {
    /// At most `FOLDERS_MAX`, no id twice.
    #[serde(deserialize_with = "list::<_, _, FOLDERS_MAX>")]
    pub offers: Vec<FolderOffer>,
}

/// INDEX_GET: asks for the receiver's rows after a sequence number, and for those to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexGet {
    /// Which folder.
    pub folder: FolderId,
    /// The receiver's index that `from` counts in; under another the receiver starts at 0.
    pub replica: ReplicaId,
    /// Rows after this one.
    pub from: Sequence,
    /// INDEX messages that may be under way unacknowledged; 1 to `INDEX_CREDIT_MAX`.
    pub credit: u8,
}

/// INDEX: rows of the sender's index, each path at most once, in order of their last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Which folder.
    pub folder: FolderId,
    /// The sender's index.
    pub replica: ReplicaId,
    /// The rows are all that changed after this number...
    pub from: Sequence,
    /// ...up to and with this one.
    pub to: Sequence,
    /// The sender's last number at this moment; `to == head` when nothing is left.
    pub head: Sequence,
    /// At most `INDEX_ROWS_MAX` rows in at most `INDEX_BYTES_MAX` bytes.
    #[serde(deserialize_with = "list::<_, _, INDEX_ROWS_MAX>")]
    pub rows: Vec<Row>,
}

impl Index {
    /// Bytes that `row` takes in a message, so that a sender can stay within `INDEX_BYTES_MAX`.
    #[must_use]
    pub fn row_len(row: &Row) -> usize {
        postcard::experimental::serialized_size(row).expect("plain values of bounded size always encode")
    }
}

/// Why a device does not take an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeclineCode {
    /// Its ignore rules name the path.
    Ignored,
    /// The folder is send-only there.
    SendOnly,
    /// Its disk is full.
    NoSpace,
    /// Its file system cannot hold the name, or another one differs only in case or normalization.
    NameImpossible,
    /// A person has to approve a large deletion or replacement.
    Waiting,
    /// The present file cannot be read or replaced.
    Unreadable,
    /// A symbolic link that its settings block.
    LinkBlocked,
    /// Anything else; the words say what.
    Other,
    /// The receiver only reads, so that its changes are taken by nobody.
    NotAWriter,
}

/// An entry that the sender knows of and does not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// Where.
    pub path: RelPath,
    /// Which version of it.
    pub version: Version,
    /// Why.
    pub code: DeclineCode,
    /// Why, for people; at most `WORDS_LEN_MAX` bytes.
    #[serde(deserialize_with = "text::<_, WORDS_LEN_MAX>")]
    pub words: String,
}

/// INDEX_ACK: everything up to `sequence` is applied, wanted, or listed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexAck {
    /// Which folder.
    pub folder: FolderId,
    /// The receiver's index.
    pub replica: ReplicaId,
    /// Durably taken in up to here.
    pub sequence: Sequence,
    /// At most `DECLINED_MAX`; longer lists take several messages with the same `sequence`.
    #[serde(deserialize_with = "list::<_, _, DECLINED_MAX>")]
    pub declined: Vec<Declined>,
}

/// DIGEST: what the sender holds. Compared only when both sequence numbers are current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestNote {
    /// Which folder.
    pub folder: FolderId,
    /// The sender's last sequence number.
    pub my_seq: Sequence,
    /// The receiver's index...
    pub your_replica: ReplicaId,
    /// ...and how much of it the sender has applied.
    pub your_seq_applied: Sequence,
    /// Sum over the sender's live rows.
    pub digest: Digest,
    /// Nothing is being scanned, fetched or applied.
    pub idle: bool,
}

/// RUN: which run of its folder the sender is in, and what it remembers of the receiver's. Only to a peer with the
/// capability, before INDEX_GET.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which folder.
    pub folder: FolderId,
    /// The sender's index.
    pub replica: ReplicaId,
    /// Drawn when the folder was started at the sender.
    pub run: RunId,
    /// The receiver's index...
    pub your_replica: ReplicaId,
    /// ...and the run in which the sender last recorded of it, with the last sequence number it has.
    pub yours: Option<(RunId, Sequence)>,
}

/// MANIFEST_GET: asks for a chunk list. `req` of the frame names the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestGet {
    /// Which folder.
    pub folder: FolderId,
    /// Where the receiver has it.
    pub path: RelPath,
    /// The content.
    pub content: ContentHash,
    /// From this chunk on.
    pub from_chunk: u64,
}

/// MANIFEST: a stretch of a chunk list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPart {
    /// The content.
    pub content: ContentHash,
    /// Bytes of the whole file.
    pub size: u64,
    /// The class that cut it.
    pub chunking: Chunking,
    /// Number of the first chunk below.
    pub from_chunk: u64,
    /// At most `MANIFEST_CHUNKS_MAX`, 36 bytes or a few less each.
    #[serde(deserialize_with = "list::<_, _, MANIFEST_CHUNKS_MAX>")]
    pub chunks: Vec<Chunk>,
    /// No chunk comes after these.
    pub last: bool,
}

/// PARTIAL: verified chunks of a content that the sender is still fetching.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// Which folder.
    pub folder: FolderId,
    /// The content.
    pub content: ContentHash,
    /// Chunk numbers as (first, count), ascending, apart from each other; at most `PARTIAL_RANGES_MAX`.
    #[serde(deserialize_with = "list::<_, _, PARTIAL_RANGES_MAX>")]
    pub ranges: Vec<(u64, u64)>,
}

/// A run of chunks of one file. The requester knows the manifest; the server re-verifies what it reads against its
/// own record of `content`, else answers `Gone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkItem {
    /// Where the receiver has it.
    pub path: RelPath,
    /// The content it must be.
    pub content: ContentHash,
    /// Number of the first chunk.
    pub first_chunk: u64,
    /// How many chunks.
    pub count: u32,
    /// Where the first one starts in the file.
    pub offset: u64,
    /// Bytes of all of them.
    pub len: u32,
}

/// CHUNK_GET: asks for runs of chunks, answered by DATA under the same `req`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkGet {
    /// Which folder.
    pub folder: FolderId,
    /// 1 to `FILES_PER_REQUEST_MAX`, together at most `REQUEST_BYTES_MAX` bytes.
    #[serde(deserialize_with = "list::<_, _, FILES_PER_REQUEST_MAX>")]
    pub items: Vec<ChunkItem>,
}

/// CHUNK_ERR: why a request failed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkErrorCode {
    /// The sender does not share that folder, or it is paused or stopped.
    NoFolder,
    /// Too much is under way; ask again later.
    Busy,
    /// What was asked for is not there (MANIFEST_GET).
    Gone,
    /// The sender could not read its own disk.
    Unreadable,
}

/// PAIR_SECRET: 32 random bytes that enter the pair secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRandom(pub Secret32);

impl fmt::Debug for PairRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairRandom(..)")
    }
}

/// Everything that two devices say after the handshake, but for DATA.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its body, documented there and at `kind`")]
pub enum Message {
    Hello(Hello),
    Ping,
    Pong,
    Close(CloseCode),
    Heads(Heads),
    Links(Links),
    Secrets(Secrets),
    Twin,
    Folders(Folders),
    IndexGet(IndexGet),
    Index(Index),
    IndexAck(IndexAck),
    Digest(DigestNote),
    Run(Run),
    ManifestGet(ManifestGet),
    Manifest(ManifestPart),
    Partial(Partial),
    ChunkGet(ChunkGet),
    ChunkErr(ChunkErrorCode),
    Cancel,
    Addresses(Addresses),
    PunchSyn(Punch),
    PunchAck(Punch),
    PunchGo(u8),
    Whereabouts(Whereabouts),
    OwnRelay(bool),
    PairAccept,
    PairSecret(PairRandom),
    PairDone([u8; 32]),
}

impl Message {
    /// Message number and body.
    #[must_use]
    pub fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Hello(body) => (kind::HELLO, bytes(body)),
            Self::Ping => (kind::PING, Vec::new()),
            Self::Pong => (kind::PONG, Vec::new()),
            Self::Close(body) => (kind::CLOSE, bytes(body)),
            Self::Heads(body) => (kind::HEADS, bytes(body)),
            Self::Links(body) => (kind::LINKS, bytes(body)),
            Self::Secrets(body) => (kind::SECRETS, bytes(body)),
            Self::Twin => (kind::TWIN, Vec::new()),
            Self::Folders(body) => (kind::FOLDERS, bytes(body)),
            Self::IndexGet(body) => (kind::INDEX_GET, bytes(body)),
            Self::Index(body) => (kind::INDEX, bytes(body)),
            Self::IndexAck(body) => (kind::INDEX_ACK, bytes(body)),
            Self::Digest(body) => (kind::DIGEST, bytes(body)),
            Self::Run(body) => (kind::RUN, bytes(body)),
            Self::ManifestGet(body) => (kind::MANIFEST_GET, bytes(body)),
            Self::Manifest(body) => (kind::MANIFEST, bytes(body)),
            Self::Partial(body) => (kind::PARTIAL, bytes(body)),
            Self::ChunkGet(body) => (kind::CHUNK_GET, bytes(body)),
            Self::ChunkErr(body) => (kind::CHUNK_ERR, bytes(body)),
            Self::Cancel => (kind::CANCEL, Vec::new()),
            Self::Addresses(body) => (kind::ADDRESSES, bytes(body)),
            Self::PunchSyn(body) => (kind::PUNCH_SYN, bytes(body)),
            Self::PunchAck(body) => (kind::PUNCH_ACK, bytes(body)),
            Self::PunchGo(attempt) => (kind::PUNCH_GO, bytes(attempt)),
            Self::Whereabouts(body) => (kind::WHEREABOUTS, bytes(body)),
            Self::OwnRelay(open) => (kind::OWN_RELAY, bytes(open)),
            Self::PairAccept => (kind::PAIR_ACCEPT, Vec::new()),
            Self::PairSecret(body) => (kind::PAIR_SECRET, bytes(body)),
            Self::PairDone(body) => (kind::PAIR_DONE, bytes(body)),
        }
    }

    /// Parses and checks a body that came as message `number`.
    ///
    /// # Errors
    /// When anything about it is not as this file says.
    pub fn decode(number: u8, body: &[u8]) -> Result<Self, MessageError> {
        if body.len() > body_len_max(number) {
            return Err(MessageError::TooLong(number));
        }
        let message = match number {
            kind::HELLO => Self::Hello(parse(number, body)?),
            kind::PING => parse(number, body).map(|()| Self::Ping)?,
            kind::PONG => parse(number, body).map(|()| Self::Pong)?,
            kind::CLOSE => Self::Close(parse(number, body)?),
            kind::HEADS => Self::Heads(parse(number, body)?),
            kind::LINKS => Self::Links(parse(number, body)?),
            kind::SECRETS => Self::Secrets(parse(number, body)?),
            kind::TWIN => parse(number, body).map(|()| Self::Twin)?,
            kind::FOLDERS => Self::Folders(parse(number, body)?),
            kind::INDEX_GET => Self::IndexGet(parse(number, body)?),
            kind::INDEX => Self::Index(parse(number, body)?),
            kind::INDEX_ACK => Self::IndexAck(parse(number, body)?),
            kind::DIGEST => Self::Digest(parse(number, body)?),
            kind::RUN => Self::Run(parse(number, body)?),
            kind::MANIFEST_GET => Self::ManifestGet(parse(number, body)?),
            kind::MANIFEST => Self::Manifest(parse(number, body)?),
            kind::PARTIAL => Self::Partial(parse(number, body)?),
            kind::CHUNK_GET => Self::ChunkGet(parse(number, body)?),
            kind::CHUNK_ERR => Self::ChunkErr(parse(number, body)?),
            kind::CANCEL => parse(number, body).map(|()| Self::Cancel)?,
            kind::ADDRESSES => Self::Addresses(parse(number, body)?),
            kind::PUNCH_SYN => Self::PunchSyn(parse(number, body)?),
            kind::PUNCH_ACK => Self::PunchAck(parse(number, body)?),
            kind::PUNCH_GO => Self::PunchGo(parse(number, body)?),
            kind::WHEREABOUTS => Self::Whereabouts(parse(number, body)?),
            kind::OWN_RELAY => Self::OwnRelay(parse(number, body)?),
            kind::PAIR_ACCEPT => parse(number, body).map(|()| Self::PairAccept)?,
            kind::PAIR_SECRET => Self::PairSecret(parse(number, body)?),
            kind::PAIR_DONE => Self::PairDone(parse(number, body)?),
            _ => return Err(MessageError::UnknownKind(number)),
        };
        message.check(number)?;
        Ok(message)
    }

    /// Rules between fields that their types do not carry.
    fn check(&self, number: u8) -> Result<(), MessageError> {
        let holds = match self {
            Self::IndexGet(get) => (1..=INDEX_CREDIT_MAX).contains(&get.credit),
            Self::Index(index) => {
                index.rows.iter().try_for_each(Row::check)?;
                index.from <= index.to && index.to <= index.head
            }
            Self::IndexAck(ack) => ack.declined.iter().all(|declined| is_version(&declined.version)),
            Self::Folders(folders) => are_distinct(folders),
            Self::ManifestGet(get) => get.from_chunk <= CHUNKS_PER_FILE_MAX,
            Self::Manifest(part) => is_manifest_part(part),
            Self::Partial(partial) => are_ranges(&partial.ranges),
            Self::ChunkGet(get) => is_request(get),
            _ => true,
        };
        if holds { Ok(()) } else { Err(MessageError::Range(number)) }
    }
}

/// Longest body of message `number` in bytes; 0 for those that have none and for unknown ones.
#[must_use]
pub const fn body_len_max(number: u8) -> usize {
    const SMALL: usize = 1024;
    const PATH: usize = 8 * 1024;
    match number {
        kind::HELLO | kind::CLOSE | kind::INDEX_GET | kind::DIGEST | kind::CHUNK_ERR | kind::ADDRESSES => SMALL,
        kind::RUN | kind::PAIR_SECRET | kind::PAIR_DONE => SMALL,
        kind::PUNCH_SYN | kind::PUNCH_ACK | kind::PUNCH_GO | kind::OWN_RELAY => SMALL,
        kind::HEADS | kind::SECRETS => 2 * SMALL,
        kind::MANIFEST_GET | kind::WHEREABOUTS => PATH,
        kind::FOLDERS => FOLDERS_MAX * 128,
        kind::INDEX => INDEX_BYTES_MAX + SMALL,
        kind::MANIFEST => MANIFEST_CHUNKS_MAX * 40 + SMALL,
        kind::PARTIAL => PARTIAL_RANGES_MAX * 20 + SMALL,
        kind::INDEX_ACK | kind::CHUNK_GET | kind::LINKS => MESSAGE_LEN_MAX,
        _ => 0,
    }
}

fn bytes<T: Serialize>(body: &T) -> Vec<u8> {
    postcard::to_stdvec(body).expect("plain values of bounded size always encode")
}

fn parse<T: DeserializeOwned>(number: u8, body: &[u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(MessageError::Malformed(number)),
    }
}

fn is_version(version: &Version) -> bool {
    !version.is_empty() && version.len() <= crate::limits::VERSION_REPLICAS_MAX
}

fn are_distinct(folders: &Folders) -> bool {
    let ids: std::collections::BTreeSet<_> = folders.offers.iter().map(|offer| offer.id).collect();
    ids.len() == folders.offers.len()
}

fn is_manifest_part(part: &ManifestPart) -> bool {
    let lens_fit = part.chunks.iter().all(|chunk| chunk.len > 0 && chunk.len as usize <= part.chunking.max_len());
    let bytes: u64 = part.chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
    let fits_file = part.from_chunk <= CHUNKS_PER_FILE_MAX && bytes <= part.size;
    lens_fit && fits_file && (part.last || !part.chunks.is_empty())
}

/// Ascending, not empty, not touching, within the longest file.
fn are_ranges(ranges: &[(u64, u64)]) -> bool {
    let mut free_from = 0;
    ranges.iter().enumerate().all(|(i, &(first, count))| {
        let apart = first >= free_from && (i == 0 || first > free_from);
        free_from = first.saturating_add(count);
        apart && count > 0 && free_from <= CHUNKS_PER_FILE_MAX
    })
}

fn is_request(get: &ChunkGet) -> bool {
    let bytes: u64 = get.items.iter().map(|item| u64::from(item.len)).sum();
    let item_fits = |item: &ChunkItem| {
        let last_chunk = item.first_chunk.checked_add(u64::from(item.count));
        let longest = u64::from(item.count) * CHUNK_LEN_MAX as u64;
        item.count > 0
            && item.len >= item.count
            && u64::from(item.len) <= longest
            && last_chunk.is_some_and(|last| last <= CHUNKS_PER_FILE_MAX)
            && item.offset.checked_add(u64::from(item.len)).is_some()
    };
    !get.items.is_empty() && bytes <= REQUEST_BYTES_MAX && get.items.iter().all(item_fits)
}
