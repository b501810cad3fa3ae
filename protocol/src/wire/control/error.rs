//! What a refused request answers.

use serde::{Deserialize, Serialize};

/// The kind of a failure, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense as it stands.
    BadRequest,
    /// No such device, folder, file, version, setting or route.
    NotFound,
    /// A name or identifier stands for more than one thing.
    Ambiguous,
    /// It exists already, or another one is in the way.
    Exists,
    /// Understood and declined: not possible in this state.
    Refused,
    /// It took too long.
    Timeout,
    /// The peer or the daemon's inside cannot be reached now.
    Unavailable,
    /// The disk said no.
    Io,
    /// A defect of the daemon.
    Internal,
    /// A code that this reader does not know.
    #[serde(other)]
    Unknown,
}

/// Why a request was refused: words for people, a code for programs, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct ControlError {
    /// What went wrong, one sentence in lower case without a full stop.
    pub error: String,
    /// What a person can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The kind.
    pub code: ErrorCode,
}

impl ControlError {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Self { error: error.into(), hint: None, code }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The request makes no sense.
    #[must_use]
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, error)
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, error)
    }

    /// Not in this state.
    #[must_use]
    pub fn refused(error: impl Into<String>) -> Self {
        Self::new(ErrorCode::Refused, error)
    }

    /// A defect.
    #[must_use]
    pub fn internal(error: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, error)
    }
}
