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
/// Starts of a folder that a database remembers of itself; a peer that remembers an older one is met like a new one.
pub const RUNS_MAX: usize = 1000;
/// Folders that two devices may share.
pub const FOLDERS_MAX: usize = 256;
/// Longest folder or device name, in bytes of UTF-8.
pub const NAME_LEN_MAX: usize = 64;
/// Ranges in one PARTIAL message.
pub const PARTIAL_RANGES_MAX: usize = 1024;
/// Addresses in one ADDRESSES message.
pub const ADDRESSES_MAX: usize = 16;
/// Addresses of one member that another one passes on.
pub const WHEREABOUTS_ADDRESSES_MAX: usize = 4;
/// Addresses that one end of a punch names: what a relay sees of it, what its router may make of that, and a few of IPv6.
pub const PUNCH_ADDRESSES_MAX: usize = 6;

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

// The wire.

/// First and last protocol version that this code speaks (`vmin..vmax` of the handshake).
pub const PROTOCOL_VERSIONS: (u8, u8) = (1, 1);
/// Nonces of one direction between two rekeys.
pub const REKEY_NONCES: u64 = 65_536;
/// Bytes that a receiver holds undecrypted: room for the frame under way and as much again behind it.
pub const RECEIVE_BUFFER_LEN: usize = 256 * 1024;
/// Seconds of one knock window.
pub const KNOCK_WINDOW_SECS: u64 = 600;
/// Knock windows tried on either side of ours, clocks permitting.
pub const KNOCK_SLACK_WINDOWS: u64 = 1;
/// Knock windows tried on either side of ours for a device whose clock is wrong: 12 hours.
pub const KNOCK_WIDE_SLACK_WINDOWS: u64 = 72;
/// Accepted knocks that are remembered.
pub const REPLAY_ENTRIES_MAX: usize = 65_536;
/// Seconds an accepted knock is remembered: as long as some search may still match it.
pub const REPLAY_KEEP_SECS: u64 = 24 * 3600;
/// Seconds of one beacon window.
pub const BEACON_WINDOW_SECS: u64 = 300;
/// Largest beacon: 12 bytes and a tag of 8 per peer.
pub const BEACON_LEN_MAX: usize = 12 + 8 * PEERS_MAX;
/// Seconds of one relay token epoch.
pub const RELAY_EPOCH_SECS: u64 = 6 * 3600;
/// Seconds of one epoch of a rendezvous: a day, begun at another time for each pair.
pub const RENDEZVOUS_EPOCH_SECS: u64 = 24 * 3600;
/// Addresses in one note of a rendezvous.
pub const RENDEZVOUS_ADDRESSES_MAX: usize = 16;
/// Longest host name in a link (RFC 1035).
pub const HOST_LEN_MAX: usize = 253;
/// Longest invite or relay link in bytes.
pub const LINK_LEN_MAX: usize = 4096;
/// Longest explanation of a declined entry, in bytes.
pub const WORDS_LEN_MAX: usize = 256;
/// Raw bytes at which a DATA block is closed.
pub const DATA_BLOCK_TARGET: usize = 1024 * 1024;
/// Bytes before a record's content: item, code, len.
pub const DATA_RECORD_HEADER_LEN: usize = 7;
/// Largest raw block: a record is never split, so the last one may begin just below the target.
pub const DATA_BLOCK_RAW_MAX: usize = DATA_BLOCK_TARGET + DATA_RECORD_HEADER_LEN + CHUNK_LEN_MAX;

const _: () = assert!(RECEIVE_BUFFER_LEN >= 2 * (2 + 16 + NOISE_MESSAGE_LEN_MAX));
const _: () = assert!(REKEY_NONCES.is_multiple_of(2), "the two nonces of a frame share a key");
const _: () = assert!(REPLAY_KEEP_SECS >= 2 * KNOCK_WIDE_SLACK_WINDOWS * KNOCK_WINDOW_SECS);
const _: () = assert!(FILES_PER_REQUEST_MAX <= u16::MAX as usize);

// The realm.

/// Devices that live in a realm at one time; also the most that one device pairs with.
pub const MEMBERS_MAX: usize = PEERS_MAX;
/// Parents of one link of the roster; more heads than that are joined by several links.
pub const LINK_PARENTS_MAX: usize = 8;
/// Body of one link, also of those that a later version defines, in bytes.
pub const LINK_BODY_LEN_MAX: usize = 512;
/// Devices of which one SHARE speaks: as many as its body has room for.
pub const SHARE_DEVICES_MAX: usize = 15;
/// Longest link of the roster: head, eight parents, body, signer and signature.
pub const ROSTER_LINK_LEN_MAX: usize = 32 + 4 + 8 + 1 + 32 * LINK_PARENTS_MAX + 1 + 2 + LINK_BODY_LEN_MAX + 32 + 64;
/// Links of a roster, but for removals of members: some sixty years of one change a week.
pub const ROSTER_LINKS_MAX: usize = 4096;
/// Bytes of a roster's links, but for removals of members: room for all links at their ordinary 250 bytes.
pub const ROSTER_BYTES_MAX: usize = 1024 * 1024;
/// Links of one signer that are no removals. A device that floods the roster must leave room for all others.
pub const SIGNER_LINKS_MAX: usize = 512;
/// Bytes of one signer's links that are no removals.
pub const SIGNER_BYTES_MAX: usize = 128 * 1024;
/// Removals of one signer; counted apart, so that other links of its own cannot keep it from removing a device.
pub const SIGNER_REMOVALS_MAX: usize = 256;
/// Links in one LINKS; together well below `MESSAGE_LEN_MAX`.
pub const LINKS_PER_MESSAGE_MAX: usize = 512;
/// Epochs of a realm whose secrets a device holds.
pub const ROSTER_EPOCHS_HELD_MAX: usize = 8;

// The backup of a device's keys.

/// Files in one backup; a home has four at most.
pub const BACKUP_FILES_MAX: usize = 16;
/// Bytes of all of them: a roster at its bounds is a few MiB, and stored in hexadecimal.
pub const BACKUP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Memory that one try of a passphrase may take, in KiB: four times what this version asks for.
pub const BACKUP_MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// Passes over that memory.
pub const BACKUP_PASSES_MAX: u32 = 16;

const _: () = assert!(ROSTER_LINKS_MAX >= 8 * SIGNER_LINKS_MAX);
const _: () = assert!(ROSTER_BYTES_MAX >= 8 * SIGNER_BYTES_MAX);
const _: () = assert!(SIGNER_LINKS_MAX >= 4 * MEMBERS_MAX && SIGNER_REMOVALS_MAX >= 4 * MEMBERS_MAX);
const _: () = assert!(LINK_BODY_LEN_MAX >= 4 * 32 + 1 + NAME_LEN_MAX, "GENESIS is the longest body of this version");
const _: () = assert!(LINK_BODY_LEN_MAX >= 16 + 1 + SHARE_DEVICES_MAX * 33);
const _: () = assert!(LINKS_PER_MESSAGE_MAX * (ROSTER_LINK_LEN_MAX + 2) < MESSAGE_LEN_MAX);
