//! Paths in JSON without loss: names on disk are bytes, JSON strings are not.

use serde::{Deserialize, Serialize};

/// A path as two keys: `path`, text (invalid UTF-8 replaced), and, only when that lost something, `path_bytes`, all bytes
/// in hexadecimal. Flattened into the object it belongs to. Absolute for places on this device, relative inside a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathText {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl PathText {
    /// From a path's bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { path: text.to_owned(), path_bytes: None },
            Err(_) => Self { path: String::from_utf8_lossy(bytes).into_owned(), path_bytes: Some(to_hex(bytes)) },
        }
    }

    /// For people and messages; not escaped for a terminal.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.path
    }

    /// The bytes; `None` when `path_bytes` is no hexadecimal.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match &self.path_bytes {
            None => Some(self.path.clone().into_bytes()),
            Some(hex) => from_hex(hex),
        }
    }
}

/// Hides the name: paths stay out of logs.
impl std::fmt::Debug for PathText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PathText({} bytes)", self.path.len())
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
