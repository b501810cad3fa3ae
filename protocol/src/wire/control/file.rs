//! Single files: kept versions, the log of changes, ignore rules.

use super::{Named, PathText};
use serde::{Deserialize, Serialize};

/// A file: an absolute path on this device, or one inside a folder in lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: PathText,
}

/// What a kept version holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionKind {
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// What stood at a path before a change from another device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// Names it in `Restore::at`.
    pub id: String,
    /// When it was replaced or deleted here.
    pub replaced_ms: u64,
    /// Its own modification time.
    pub modified_ms: i64,
    /// Bytes.
    pub bytes: u64,
    /// Kind.
    pub kind: VersionKind,
    /// Whether it was deleted, not replaced.
    pub deleted: bool,
    /// Whose change replaced it; absent: this device's (`restore`, `revert`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Named>,
}

/// Kept versions of one path or of what is below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The folder.
    pub folder: Named,
    /// Inside the folder: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: PathText,
    /// Newest first.
    pub versions: Vec<FileVersion>,
}

/// Brings a kept version back. What stands there now becomes a version itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Absolute: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: PathText,
    /// As it was at that time; absent, with no `version`: the newest kept one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Exactly this one: a `FileVersion::id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// It is back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The folder.
    pub folder: Named,
    /// Inside the folder: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: PathText,
    /// The version that came back.
    pub version: FileVersion,
    /// Whether something stood there, which is now the newest version.
    pub replaced: bool,
}

/// What happened to a path here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// Its content changed.
    Changed,
    /// Only its mode or time changed.
    Touched,
    /// It is gone.
    Deleted,
    /// It came from another path.
    Moved,
    /// A conflict copy was made.
    Conflict,
    /// A kept version came back.
    Restored,
}

impl Change {
    /// The word that people and programs see.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Touched => "touched",
            Self::Deleted => "deleted",
            Self::Moved => "moved",
            Self::Conflict => "conflict",
            Self::Restored => "restored",
        }
    }
}

/// One line of the log of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When.
    pub time_ms: u64,
    /// Name of the folder.
    pub folder: String,
    /// Inside the folder: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: PathText,
    /// What.
    pub change: Change,
    /// Whose change; absent: made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Named>,
    /// Bytes of the file after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Which part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Only this folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Only this absolute path and what is below it: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: Option<PathText>,
    /// Not older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// The newest so many; at most `LIST_LEN_MAX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Reply of `POST log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Oldest first.
    pub entries: Vec<LogEntry>,
}

/// Whether a path is ignored, and by which line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreVerdict {
    /// The folder.
    pub folder: Named,
    /// Inside the folder: `path` and `path_bytes`.
    #[serde(flatten)]
    pub at: PathText,
    /// The answer.
    pub ignored: bool,
    /// The file that decided: `.syncignore`, `.stignore`; absent: no line matches, or a built-in rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The pattern in that line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// For people.
    pub words: String,
}
