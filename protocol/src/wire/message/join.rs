//! Messages that take several frames. At most one is under way at a time: the control queue sends them whole.

use super::body_len_max;
use crate::wire::frame::{FLAG_MORE, Frame};

/// Why the frames of a message do not fit together. The session ends with CLOSE(protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Another message began before this one was complete.
    #[error("a message was cut short by another one")]
    Interleaved,
    /// More bytes than this kind of message may have.
    #[error("a message is longer than its kind allows")]
    TooLong,
}

/// Joins the frames of control messages. DATA frames do not pass through it and may come in between.
#[derive(Default)]
pub struct Joiner {
    begun: Option<(u8, u32)>,
    body: Vec<u8>,
}

/// A message that is complete: number, request, body.
pub type Joined<'a> = (u8, u32, &'a [u8]);

impl Joiner {
    /// Takes the next control frame; the message that it completes, if it does. A message of one frame is not copied.
    ///
    /// # Errors
    /// When frames do not fit together; the joiner must not be used again.
    pub fn push<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Option<Joined<'a>>, JoinError> {
        let more = frame.flags & FLAG_MORE != 0;
        let begins = self.begun.is_none();
        if begins {
            self.body.clear();
        } else if self.begun != Some((frame.kind, frame.req)) {
            return Err(JoinError::Interleaved);
        }
        if self.body.len() + frame.payload.len() > body_len_max(frame.kind) {
            return Err(JoinError::TooLong);
        }
        if begins && !more {
            return Ok(Some((frame.kind, frame.req, frame.payload)));
        }
        self.body.extend_from_slice(frame.payload);
        self.begun = more.then_some((frame.kind, frame.req));
        Ok((!more).then_some((frame.kind, frame.req, self.body.as_slice())))
    }
}
