//! Numbers of messages and bits of capabilities.

/// Message numbers.
pub mod kind {
    /// [`super::Hello`]: the first message in either direction.
    pub const HELLO: u8 = 0x01;
    /// Asks for a PONG with the same `req`.
    pub const PING: u8 = 0x02;
    /// Answers a PING.
    pub const PONG: u8 = 0x03;
    /// [`super::CloseCode`]: the only clean end.
    pub const CLOSE: u8 = 0x04;
    /// [`super::Heads`]: which links of the realm's device list the sender has.
    pub const HEADS: u8 = 0x05;
    /// [`super::Links`].
    pub const LINKS: u8 = 0x06;
    /// [`super::Secrets`].
    pub const SECRETS: u8 = 0x08;
    /// Another device has come with the receiver's identity.
    pub const TWIN: u8 = 0x09;
    /// [`super::FolderOffer`]s.
    pub const FOLDERS: u8 = 0x10;
    /// [`super::IndexGet`].
    pub const INDEX_GET: u8 = 0x11;
    /// [`super::Index`].
    pub const INDEX: u8 = 0x12;
    /// [`super::IndexAck`].
    pub const INDEX_ACK: u8 = 0x13;
    /// [`super::DigestNote`].
    pub const DIGEST: u8 = 0x14;
    /// [`super::ManifestGet`].
    pub const MANIFEST_GET: u8 = 0x15;
    /// [`super::ManifestPart`].
    pub const MANIFEST: u8 = 0x16;
    /// [`super::Partial`].
    pub const PARTIAL: u8 = 0x17;
    /// [`super::Run`].
    pub const RUN: u8 = 0x18;
    /// [`super::ChunkGet`].
    pub const CHUNK_GET: u8 = 0x20;
    /// Not a message but a stream of blocks, see `wire::data`.
    pub const DATA: u8 = 0x21;
    /// [`super::ChunkErrorCode`]: a request failed as a whole.
    pub const CHUNK_ERR: u8 = 0x22;
    /// Withdraws the request of the same `req`.
    pub const CANCEL: u8 = 0x23;
    /// Where the sender can be reached.
    pub const ADDRESSES: u8 = 0x30;
    /// [`super::Punch`]: asks the larger device id to get ready for a punch.
    pub const PUNCH_SYN: u8 = 0x31;
    /// [`super::Punch`]: ready, and where to aim.
    pub const PUNCH_ACK: u8 = 0x32;
    /// Now.
    pub const PUNCH_GO: u8 = 0x33;
    /// [`super::Whereabouts`].
    pub const WHEREABOUTS: u8 = 0x34;
    /// Whether the port that the sender listens on is a relay for the devices of its realm, too.
    pub const OWN_RELAY: u8 = 0x35;
    /// The person on the sending side agreed to pair.
    pub const PAIR_ACCEPT: u8 = 0x48;
    /// [`super::PairRandom`]: from the showing side, after both agreed.
    pub const PAIR_SECRET: u8 = 0x49;
    /// Proof that the sender derived the pair secret.
    pub const PAIR_DONE: u8 = 0x4a;
}

/// Capability bits of HELLO; unknown bits are ignored.
pub mod capability {
    /// This session carries only CHUNK_GET, DATA, CHUNK_ERR, CANCEL, PING and PONG.
    pub const DATA_ONLY: u32 = 1;
    /// The sender decompresses zstd blocks.
    pub const ZSTD: u32 = 2;
    /// The sender's processor encrypts AES in hardware.
    pub const AES: u32 = 4;
    /// The sender takes RUN.
    pub const RUNS: u32 = 8;
    /// The sender takes HEADS, LINKS and SECRETS.
    pub const REALM: u32 = 16;
    /// The sender takes TWIN.
    pub const TWINS: u32 = 32;
    /// The sender takes PUNCH_SYN, PUNCH_ACK and PUNCH_GO.
    pub const PUNCH: u32 = 64;
    /// The sender takes WHEREABOUTS.
    pub const WHEREABOUTS: u32 = 128;
    /// The sender takes OWN_RELAY.
    pub const OWN_RELAYS: u32 = 256;
}
