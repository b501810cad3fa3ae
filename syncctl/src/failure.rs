//! How a command ends: yes, no, or with words and perhaps advice.

use protocol::wire::control::ControlError;
use std::fmt;

/// A command that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or the answer is yes.
    Yes,
    /// It ran, and the answer is no.
    No,
}

impl From<bool> for Outcome {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// 1, or 2 for wrong usage.
    pub exit: u8,
}

/// What commands return.
pub type Result<T = Outcome> = std::result::Result<T, Failure>;

impl Failure {
    /// Failed.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), hint: None, exit: 1 }
    }

    /// Called in a way that cannot work.
    pub fn usage(error: impl Into<String>) -> Self {
        Self { exit: 2, ..Self::new(error) }
    }

    /// The same with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self { error: error.error, hint: error.hint, exit: 1 }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
