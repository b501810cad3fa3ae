//! Every bound of the protocol in one place, with compile-time checks between them.
//! A peer that goes over one is cut off; nothing here depends on a peer's goodwill.

/// Longest relative path, in bytes (Linux PATH_MAX without its NUL).
pub const PATH_LEN_MAX: usize = 4095;
/// Longest path component, in bytes (NAME_MAX of every common file system).
pub const COMPONENT_LEN_MAX: usize = 255;
/// Deepest path, in components.
pub const PATH_DEPTH_MAX: usize = 500;
/// Most replicas one version vector may name: 64 devices, each with some lost databases behind it.
pub const VERSION_REPLICAS_MAX: usize = 256;
/// Longest symlink target, in bytes.
pub const SYMLINK_TARGET_LEN_MAX: usize = 4095;
/// Earlier content hashes an entry lists.
pub const ANCESTORS_MAX: usize = 8;
/// Chunks that travel inside an entry; longer lists are fetched by content hash.
pub const INLINE_CHUNKS_MAX: usize = 8;
/// Largest chunk, in bytes.
pub const CHUNK_LEN_MAX: usize = 4 * 1024 * 1024;
/// Most chunks of one file.
pub const CHUNKS_PER_FILE_MAX: u64 = 4 * 1024 * 1024;
/// Chunks in one MANIFEST message.
pub const MANIFEST_CHUNKS_MAX: usize = 4096;

/// Largest Noise message, tag included (Noise specification, section 3).
pub const NOISE_MESSAGE_LEN_MAX: usize = 65_535;
/// Largest frame body: one Noise message without its tag.
pub const FRAME_BODY_LEN_MAX: usize = 65_519;
/// Bytes of frame header before the payload: type, flags, padlen, req.
pub const FRAME_HEADER_LEN: usize = 8;
/// Data payload of one frame, so that a control message waits for at most one frame.
pub const DATA_PAYLOAD_LEN_MAX: usize = 65_024;
/// Largest message after its frames are joined.
pub const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// Rows in one INDEX message.
pub const INDEX_ROWS_MAX: usize = 512;
/// Encoded bytes of rows in one INDEX message.
pub const INDEX_BYTES_MAX: usize = 256 * 1024;
/// INDEX messages a peer may send beyond the last acknowledged one.
pub const INDEX_CREDIT_MAX: u8 = 8;
/// Declined entries named in one INDEX_ACK.
pub const DECLINED_MAX: usize = 512;
/// Folders that two devices may share.
pub const FOLDERS_MAX: usize = 256;
/// Longest folder or device name, in bytes of UTF-8.
pub const NAME_LEN_MAX: usize = 64;
/// Ranges in one PARTIAL message.
pub const PARTIAL_RANGES_MAX: usize = 1024;
/// Addresses in one ADDRESSES message.
pub const ADDRESSES_MAX: usize = 16;

/// Requests a device may have open at one peer.
pub const REQUESTS_OPEN_MAX: usize = 64;
/// Bytes a device may have requested from one peer and not yet received.
pub const REQUEST_BYTES_OPEN_MAX: u64 = 16 * 1024 * 1024;
/// Files named in one FILES_GET request.
pub const FILES_PER_REQUEST_MAX: usize = 256;
/// Bytes one request may ask for.
pub const REQUEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Devices that one device is paired with.
pub const PEERS_MAX: usize = 64;
/// Invites open at the same time.
pub const INVITES_OPEN_MAX: usize = 4;
/// Runs of one invite in which we sent message 2 and got no valid message 3.
pub const INVITE_ATTEMPTS_MAX: u8 = 3;
/// Access keys a relay knows.
pub const RELAY_KEYS_MAX: usize = 16;
/// Relays one device uses.
pub const RELAYS_MAX: usize = 4;

const _: () = assert!(DATA_PAYLOAD_LEN_MAX + FRAME_HEADER_LEN <= FRAME_BODY_LEN_MAX);
const _: () = assert!(FRAME_BODY_LEN_MAX + 16 == NOISE_MESSAGE_LEN_MAX);
const _: () = assert!(INDEX_BYTES_MAX < MESSAGE_LEN_MAX);
const _: () = assert!(MANIFEST_CHUNKS_MAX * 36 < MESSAGE_LEN_MAX);
const _: () = assert!(CHUNK_LEN_MAX as u64 <= REQUEST_BYTES_MAX);
const _: () = assert!(REQUEST_BYTES_MAX * 2 <= REQUEST_BYTES_OPEN_MAX);
