//! Frames: what follows the handshake on a byte stream. A frame is two Noise messages, its length and its body, so
//! nothing on the wire is in clear and padding hides how long a control message is (SPEC.md section 6).
//! Invariant: each direction's nonces only ever count up; after an error a half is dead.

use super::noise::TAG_LEN;
use crate::limits::{
    DATA_PAYLOAD_LEN_MAX, FRAME_BODY_LEN_MAX, FRAME_HEADER_LEN, MESSAGE_LEN_MAX, NOISE_MESSAGE_LEN_MAX,
    RECEIVE_BUFFER_LEN, REKEY_NONCES,
};
use snow::StatelessTransportState;
use std::sync::{Arc, RwLock, RwLockReadGuard};

#[cfg(test)]
mod tests;

/// Frame flag: the message goes on in the next frame with the same `req`.
pub const FLAG_MORE: u8 = 1;
/// Frame flag: the last frame of a response.
pub const FLAG_END: u8 = 2;
/// Longest payload of one control frame.
pub const PAYLOAD_LEN_MAX: usize = FRAME_BODY_LEN_MAX - FRAME_HEADER_LEN;
/// Bytes on the wire of an encrypted length.
const LENGTH_LEN: usize = 2 + TAG_LEN;
/// Body lengths that control frames are padded to.
const PADDING_CLASSES: [usize; 5] = [256, 1024, 4096, 16_384, FRAME_BODY_LEN_MAX];
/// Body lengths of data frames are multiples of this, except for a full one.
const DATA_PADDING: usize = 1024;
/// Body of a full data frame.
const DATA_BODY_LEN_MAX: usize = FRAME_HEADER_LEN + DATA_PAYLOAD_LEN_MAX;

/// Why a channel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bytes that the other end did not send, or not in this order.
    #[error("a frame did not verify")]
    Unverified,
    /// The body's own lengths contradict each other.
    #[error("a frame is malformed")]
    Malformed,
    /// More payload than a frame or message holds.
    #[error("a message is too long for the protocol")]
    TooLong,
    /// An earlier error ended this half.
    #[error("the channel has failed before")]
    Dead,
}

/// The keys of an established channel.
pub struct Transport {
    state: StatelessTransportState,
}

impl Transport {
    pub(super) const fn new(state: StatelessTransportState) -> Self {
        Self { state }
    }

    /// Two halves for two tasks.
    #[must_use]
    pub fn split(self) -> (Sealer, Opener) {
        let shared = Arc::new(RwLock::new(self.state));
        let sealer =
            Sealer { shared: Arc::clone(&shared), nonce: 0, body: Vec::with_capacity(FRAME_BODY_LEN_MAX), dead: false };
        let opener = Opener {
            shared,
            nonce: 0,
            buffer: vec![0; RECEIVE_BUFFER_LEN].into_boxed_slice(),
            start: 0,
            end: 0,
            body_len: None,
            plain: vec![0; NOISE_MESSAGE_LEN_MAX].into_boxed_slice(),
            dead: false,
        };
        (sealer, opener)
    }
}

type Shared = Arc<RwLock<StatelessTransportState>>;

fn read(shared: &Shared) -> RwLockReadGuard<'_, StatelessTransportState> {
    shared.read().expect("no holder of the transport lock panics")
}

/// Whether the direction's key changes before `nonce` is used.
const fn is_rekey(nonce: u64) -> bool {
    nonce > 0 && nonce.is_multiple_of(REKEY_NONCES)
}

/// The writing half.
pub struct Sealer {
    shared: Shared,
    nonce: u64,
    body: Vec<u8>,
    dead: bool,
}

impl Sealer {
    /// Appends one control frame to `out`; called several times, several frames go out in one write.
    ///
    /// # Errors
    /// When the payload is longer than `PAYLOAD_LEN_MAX`.
    pub fn seal(&mut self, kind: u8, flags: u8, req: u32, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let len = FRAME_HEADER_LEN + payload.len();
        let padded = PADDING_CLASSES.into_iter().find(|class| *class >= len).ok_or(FrameError::TooLong)?;
        self.seal_padded(Header { kind, flags, req }, payload, padded, out)
    }

    /// Appends one data frame: padded to 1 KiB only, and short enough that a control message need not wait long.
    ///
    /// # Errors
    /// When the payload is longer than `DATA_PAYLOAD_LEN_MAX`.
    pub fn seal_data(
        &mut self,
        kind: u8,
        flags: u8,
        req: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let len = FRAME_HEADER_LEN + payload.len();
        if len > DATA_BODY_LEN_MAX {
            return Err(FrameError::TooLong);
        }
        let padded = len.next_multiple_of(DATA_PADDING).min(DATA_BODY_LEN_MAX);
        self.seal_padded(Header { kind, flags, req }, payload, padded, out)
    }

    /// Appends a whole message, in as many frames as it takes (all but the last with `FLAG_MORE`).
    ///
    /// # Errors
    /// When the body is longer than `MESSAGE_LEN_MAX`.
    pub fn seal_message(&mut self, kind: u8, req: u32, body: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        if body.len() > MESSAGE_LEN_MAX {
            return Err(FrameError::TooLong);
        }
        let mut rest = body;
        while rest.len() > PAYLOAD_LEN_MAX {
            let (part, tail) = rest.split_at(PAYLOAD_LEN_MAX);
            self.seal(kind, FLAG_MORE, req, part, out)?;
            rest = tail;
        }
        self.seal(kind, 0, req, rest, out)
    }

    fn seal_padded(
        &mut self,
        header: Header,
        payload: &[u8],
        body_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        if self.dead {
            return Err(FrameError::Dead);
        }
        let padding = body_len - FRAME_HEADER_LEN - payload.len();
        self.body.clear();
        self.body.extend_from_slice(&header.encode(short(padding)));
        self.body.extend_from_slice(payload);
        self.body.resize(body_len, 0);
        let start = out.len();
        out.resize(start + LENGTH_LEN + body_len + TAG_LEN, 0);
        let (length, body) = out[start..].split_at_mut(LENGTH_LEN);
        // A partly written frame must never be followed by another under the same nonce.
        self.dead = true;
        self.encrypt(&short(body_len).to_be_bytes(), length)?;
        let plain = std::mem::take(&mut self.body);
        self.encrypt(&plain, body)?;
        self.body = plain;
        self.dead = false;
        Ok(())
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut [u8]) -> Result<(), FrameError> {
        if is_rekey(self.nonce) {
            self.shared.write().expect("no holder of the transport lock panics").rekey_outgoing();
        }
        let written = read(&self.shared).write_message(self.nonce, plain, out).map_err(|_| FrameError::TooLong)?;
        assert_eq!(written, out.len(), "a Noise message is its plaintext and a tag");
        self.nonce += 1;
        Ok(())
    }
}

fn short(len: usize) -> u16 {
    u16::try_from(len).expect("a frame body is at most 65,519 bytes")
}

struct Header {
    kind: u8,
    flags: u8,
    req: u32,
}

impl Header {
    fn encode(&self, padding: u16) -> [u8; FRAME_HEADER_LEN] {
        let (pad, req) = (padding.to_be_bytes(), self.req.to_be_bytes());
        [self.kind, self.flags, pad[0], pad[1], req[0], req[1], req[2], req[3]]
    }
}

/// A frame that verified; the payload lies in the opener's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Message number.
    pub kind: u8,
    /// `FLAG_MORE`, `FLAG_END`; unknown bits are ignored.
    pub flags: u8,
    /// Request that this belongs to.
    pub req: u32,
    /// Without padding.
    pub payload: &'a [u8],
}

/// The reading half: bytes in, frames out.
pub struct Opener {
    shared: Shared,
    nonce: u64,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    body_len: Option<usize>,
    plain: Box<[u8]>,
    dead: bool,
}

impl Opener {
    /// Where the next bytes from the stream go; never empty once [`Self::next`] has returned `None`.
    /// Report how many were filled with [`Self::filled`].
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 && self.buffer.len() - self.end < NOISE_MESSAGE_LEN_MAX + LENGTH_LEN {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// Takes note of `len` bytes written to the front of [`Self::space`].
    pub fn filled(&mut self, len: usize) {
        assert!(len <= self.buffer.len() - self.end, "no more is filled than there was space for");
        self.end += len;
    }

    /// Copies as much of `bytes` as fits and says how much that was.
    #[must_use = "bytes beyond the returned count were not taken"]
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let len = space.len().min(bytes.len());
        space[..len].copy_from_slice(&bytes[..len]);
        self.filled(len);
        len
    }

    /// The next frame, or `None` until more bytes have come.
    ///
    /// # Errors
    /// The channel is over; close without a word.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows from the opener, which an Iterator cannot say")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if self.dead {
            return Err(FrameError::Dead);
        }
        self.dead = true;
        let Some(len) = self.advance()? else {
            self.dead = false;
            return Ok(None);
        };
        let frame = parse(&self.plain[..len])?;
        self.dead = false;
        Ok(Some(frame))
    }

    /// Decrypts what is complete; the length of the body now in `plain` when there is one.
    fn advance(&mut self) -> Result<Option<usize>, FrameError> {
        let body_len = match self.body_len {
            Some(len) => len,
            None => {
                if self.end - self.start < LENGTH_LEN {
                    return Ok(None);
                }
                self.decrypt(LENGTH_LEN)?;
                let len = usize::from(u16::from_be_bytes([self.plain[0], self.plain[1]]));
                if !(FRAME_HEADER_LEN..=FRAME_BODY_LEN_MAX).contains(&len) {
                    return Err(FrameError::Malformed);
                }
                self.body_len = Some(len);
                len
            }
        };
        if self.end - self.start < body_len + TAG_LEN {
            return Ok(None);
        }
        self.decrypt(body_len + TAG_LEN)?;
        self.body_len = None;
        Ok(Some(body_len))
    }

    fn decrypt(&mut self, len: usize) -> Result<(), FrameError> {
        if is_rekey(self.nonce) {
            self.shared.write().expect("no holder of the transport lock panics").rekey_incoming();
        }
        let cipher = &self.buffer[self.start..self.start + len];
        read(&self.shared).read_message(self.nonce, cipher, &mut self.plain).map_err(|_| FrameError::Unverified)?;
        self.nonce += 1;
        self.start += len;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(())
    }
}

fn parse(body: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (header, rest) = body.split_at(FRAME_HEADER_LEN);
    let padding = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let payload_len = rest.len().checked_sub(padding).ok_or(FrameError::Malformed)?;
    let req = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    Ok(Frame { kind: header[0], flags: header[1], req, payload: &rest[..payload_len] })
}
