//! Which paths of a folder are not synced, and which line says so: the root's `.syncignore` (gitignore syntax, synced),
//! `.stignore` (Syncthing's syntax, local, read after it) and the private files of other synchronizers.
//! Works on bytes in memory; never opens a file, so an include cannot reach outside. Matching is linear in the path.

mod rules;
mod syncthing;
#[cfg(test)]
mod tests;

use protocol::model::RelPath;
use rules::Rules;
use std::fmt;

/// Bytes of one ignore file that are read.
pub const IGNORE_LEN_MAX: usize = 1024 * 1024;
/// Lines of one ignore file that are read.
pub const IGNORE_LINES_MAX: usize = 10_000;

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IgnoreFile {
    /// `.syncignore`.
    Shared,
    /// `.stignore`.
    Local,
    /// Names that no folder syncs.
    BuiltIn,
}

impl IgnoreFile {
    /// Its name in the folder's root.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => ".syncignore",
            Self::Local => ".stignore",
            Self::BuiltIn => "(built in)",
        }
    }
}

/// The rule that ignores a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where the rule stands.
    pub file: IgnoreFile,
    /// Line counted from 1; 0 for built-in rules.
    pub line: u32,
    /// The line as written.
    pub pattern: String,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            IgnoreFile::BuiltIn => write!(f, "{}: {}", self.file.name(), self.pattern),
            _ => write!(f, "{}:{}: {}", self.file.name(), self.line, self.pattern),
        }
    }
}

/// A line that does not do what its author may expect; listed in the folder's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreProblem {
    /// Where.
    pub file: IgnoreFile,
    /// Line counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// One sentence.
    pub words: String,
}

/// The rules of one folder.
#[derive(Debug, Default)]
pub struct Ignore {
    shared: Rules,
    local: Rules,
    problems: Vec<IgnoreProblem>,
}

impl Ignore {
    /// Compiles both files; `None` where there is none. What cannot be used is listed in `problems`.
    #[must_use]
    pub fn load(syncignore: Option<&[u8]>, stignore: Option<&[u8]>) -> Self {
        let mut problems = Vec::new();
        let shared = lines_of(IgnoreFile::Shared, syncignore.unwrap_or_default(), &mut problems);
        let shared = Rules::build(shared.iter().flat_map(|line| rules::from_git(line)), &mut problems);
        let local = lines_of(IgnoreFile::Local, stignore.unwrap_or_default(), &mut problems);
        let local = Rules::build(syncthing::translate(&local, &mut problems), &mut problems);
        Self { shared, local, problems }
    }

    /// What is wrong with the files, by file and line.
    #[must_use]
    pub fn problems(&self) -> &[IgnoreProblem] {
        &self.problems
    }

    /// The rule that ignores `path`: an ignored directory ignores all below it.
    #[must_use]
    pub fn matched(&self, path: &RelPath, is_dir: bool) -> Option<Match> {
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        ends.map(|end| (&bytes[..end], true))
            .chain([(bytes, is_dir)])
            .find_map(|(prefix, is_dir)| self.matched_itself(prefix, is_dir))
    }

    /// Whether a rule names `path` itself. A walk asks this: it never enters an ignored directory.
    #[must_use]
    pub fn ignores_itself(&self, path: &RelPath, is_dir: bool) -> bool {
        self.matched_itself(path.as_bytes(), is_dir).is_some()
    }

    fn matched_itself(&self, path: &[u8], is_dir: bool) -> Option<Match> {
        // The rules must reach the other devices, whatever they say.
        if path == IgnoreFile::Shared.name().as_bytes() && !is_dir {
            return None;
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if let Some(pattern) = foreign_pattern(name, is_dir) {
            return Some(Match { file: IgnoreFile::BuiltIn, line: 0, pattern: pattern.to_owned() });
        }
        match self.local.decide(path, is_dir) {
            Some(decision) => decision.ignored(),
            None => self.shared.decide(path, is_dir)?.ignored(),
        }
    }
}

/// Private files of other synchronizers, so that people can migrate with both installed.
/// No rule brings them back.
fn foreign_pattern(name: &[u8], is_dir: bool) -> Option<&'static str> {
    let framed = |start: &str, end: &str| {
        name.len() >= start.len() + end.len() && name.starts_with(start.as_bytes()) && name.ends_with(end.as_bytes())
    };
    match name {
        b".stfolder" => Some(".stfolder"),
        b".stversions" => Some(".stversions"),
        b".stignore" => Some(".stignore"),
        b".sync" if is_dir => Some(".sync/"),
        _ if framed(".syncthing.", ".tmp") => Some(".syncthing.*.tmp"),
        _ if framed("~syncthing~", ".tmp") => Some("~syncthing~*.tmp"),
        _ if framed("", ".!sync") => Some("*.!sync"),
        _ if framed(".unison", "") => Some(".unison*"),
        _ if framed(".mutagen-", "") => Some(".mutagen-*"),
        _ => None,
    }
}

/// One line of a file, without its line end.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    file: IgnoreFile,
    number: u32,
    text: &'a str,
}

impl Line<'_> {
    fn problem(&self, words: impl Into<String>) -> IgnoreProblem {
        IgnoreProblem { file: self.file, line: self.number, words: words.into() }
    }
}

/// Splits a file into lines, within its bounds.
fn lines_of<'a>(file: IgnoreFile, bytes: &'a [u8], problems: &mut Vec<IgnoreProblem>) -> Vec<Line<'a>> {
    let whole = |words: String| IgnoreProblem { file, line: 0, words };
    let mut bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.len() > IGNORE_LEN_MAX {
        problems.push(whole(format!("only the first {IGNORE_LEN_MAX} bytes are used")));
        let cut = bytes[..IGNORE_LEN_MAX].iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        bytes = &bytes[..cut];
    }
    let mut lines = Vec::new();
    for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if index == IGNORE_LINES_MAX {
            problems.push(whole(format!("only the first {IGNORE_LINES_MAX} lines are used")));
            break;
        }
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match std::str::from_utf8(text) {
            Ok(text) if text.len() <= protocol::limits::PATH_LEN_MAX => lines.push(Line { file, number, text }),
            Ok(_) => problems.push(IgnoreProblem { file, line: number, words: "longer than any path".into() }),
            Err(_) => problems.push(IgnoreProblem { file, line: number, words: "not UTF-8".into() }),
        }
    }
    lines
}
