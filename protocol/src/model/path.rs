//! Validated relative paths: bytes, `/`-separated, and nothing else can reach the disk layer.

use crate::limits::{COMPONENT_LEN_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// Why bytes are not a path inside a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No bytes at all.
    #[error("the path is empty")]
    Empty,
    /// Starts with `/`, or has `//` or a trailing `/`.
    #[error("the path is absolute or has an empty component")]
    EmptyComponent,
    /// Has `.` or `..`.
    #[error("the path has a . or .. component")]
    Dots,
    /// Has a NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// Some component is longer than a name may be.
    #[error("a component is longer than {COMPONENT_LEN_MAX} bytes")]
    LongComponent,
    /// Longer than PATH_MAX or deeper than the limit.
    #[error("the path is too long or too deep")]
    TooLong,
    /// Has a component `.syncd` in any case.
    #[error("the path names syncd's private directory")]
    Private,
}

/// A non-empty path relative to a folder's root. Ordered component by component: a directory precedes its
/// children, and a subtree is one contiguous range (as a sorted depth-first walk visits them).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct RelPath(Box<[u8]>);

/// The private directory in a folder's root.
pub const PRIVATE_DIR: &str = ".syncd";

impl RelPath {
    /// Checks and keeps `bytes`.
    ///
    /// # Errors
    /// The first rule that the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes.len() > PATH_LEN_MAX {
            return Err(PathError::TooLong);
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        let mut depth = 0;
        for component in bytes.split(|byte| *byte == b'/') {
            check_component(component)?;
            depth += 1;
        }
        if depth > PATH_DEPTH_MAX {
            return Err(PathError::TooLong);
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes, `/`-separated.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The directory that holds this path; `None` for the root's children.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0[..cut].into()))
    }

    /// This path with `name` below it.
    ///
    /// # Errors
    /// When the name or the whole is not a valid path.
    pub fn child(&self, name: &[u8]) -> Result<Self, PathError> {
        check_component(name)?;
        Self::parse(&[&self.0, b"/".as_slice(), name].concat())
    }

    /// A sibling with another last component.
    ///
    /// # Errors
    /// When the name or the whole is not a valid path.
    pub fn with_name(&self, name: &[u8]) -> Result<Self, PathError> {
        match self.parent() {
            Some(parent) => parent.child(name),
            None => {
                check_component(name)?;
                Self::parse(name)
            }
        }
    }

    /// Components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// Whether this path is strictly below `ancestor`.
    #[must_use]
    pub fn is_below(&self, ancestor: &Self) -> bool {
        self.0.len() > ancestor.0.len() && self.0.starts_with(&ancestor.0) && self.0[ancestor.0.len()] == b'/'
    }

    /// For people: control bytes and invalid UTF-8 escaped.
    #[must_use]
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.0).chars().flat_map(escape).collect()
    }
}

/// Control and direction characters could rewrite a terminal line, so they are shown as escapes.
fn escape(c: char) -> Vec<char> {
    let bidi = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || bidi { c.escape_unicode().collect() } else { vec![c] }
}

fn check_component(component: &[u8]) -> Result<(), PathError> {
    match component {
        b"" => Err(PathError::EmptyComponent),
        b"." | b".." => Err(PathError::Dots),
        _ if component.contains(&b'/') => Err(PathError::EmptyComponent),
        _ if component.contains(&0) => Err(PathError::Nul),
        _ if component.len() > COMPONENT_LEN_MAX => Err(PathError::LongComponent),
        _ if component.eq_ignore_ascii_case(PRIVATE_DIR.as_bytes()) => Err(PathError::Private),
        _ => Ok(()),
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.display())
    }
}

impl TryFrom<Vec<u8>> for RelPath {
    type Error = PathError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, PathError> {
        Self::parse(&bytes)
    }
}

impl From<RelPath> for Vec<u8> {
    fn from(path: RelPath) -> Self {
        path.0.into_vec()
    }
}
