//! Compiled gitignore rules that know which line they came from. The last rule that matches decides.
//! Never refuses a whole file for one bad line: what does not compile is listed and left out.

use super::{IgnoreFile, IgnoreProblem, Line, Match};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Rules compiled into one automaton. The compiler caps an automaton at 10 MiB; ordinary lines take 1 to 5 KiB.
const SEGMENT_RULES_MAX: usize = 512;

/// One rule in gitignore syntax.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub file: IgnoreFile,
    pub line: u32,
    /// As the user wrote it.
    pub written: String,
    /// What is compiled.
    pub glob: String,
    pub fold_case: bool,
}

/// What a rule says about a path.
#[derive(Debug)]
pub(super) enum Decision {
    Ignore(Match),
    Keep,
}

impl Decision {
    pub(super) fn ignored(self) -> Option<Match> {
        match self {
            Self::Ignore(found) => Some(found),
            Self::Keep => None,
        }
    }
}

/// An ordered list of rules.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Each glob carries the index of its rule in place of a file name.
    segments: Vec<Gitignore>,
    rules: Vec<Rule>,
}

impl Rules {
    pub(super) fn build(rules: impl IntoIterator<Item = Rule>, problems: &mut Vec<IgnoreProblem>) -> Self {
        let mut all = Self { segments: Vec::new(), rules: rules.into_iter().collect() };
        let indexes: Vec<usize> = (0..all.rules.len()).collect();
        for segment in indexes.chunks(SEGMENT_RULES_MAX) {
            all.add_segment(segment, problems);
        }
        all
    }

    /// Compiles rules together, or halves them until the one that does not compile stands alone.
    fn add_segment(&mut self, indexes: &[usize], problems: &mut Vec<IgnoreProblem>) {
        match compile(&self.rules, indexes) {
            Ok(compiled) => self.segments.push(compiled),
            Err(words) if indexes.len() == 1 => {
                let rule = &self.rules[indexes[0]];
                problems.push(IgnoreProblem { file: rule.file, line: rule.line, words });
            }
            Err(_) => {
                let (first, second) = indexes.split_at(indexes.len() / 2);
                self.add_segment(first, problems);
                self.add_segment(second, problems);
            }
        }
    }

    /// What the last matching rule says; `None` when none matches.
    pub(super) fn decide(&self, path: &[u8], is_dir: bool) -> Option<Decision> {
        let path = Path::new(OsStr::from_bytes(path));
        self.segments.iter().rev().find_map(|segment| match segment.matched(path, is_dir) {
            ignore::Match::None => None,
            ignore::Match::Whitelist(_) => Some(Decision::Keep),
            ignore::Match::Ignore(glob) => {
                let index = glob.from().and_then(Path::to_str).and_then(|text| text.parse::<usize>().ok());
                let rule = &self.rules[index.expect("each glob was added with its rule's index")];
                Some(Decision::Ignore(Match { file: rule.file, line: rule.line, pattern: rule.written.clone() }))
            }
        })
    }
}

fn compile(rules: &[Rule], indexes: &[usize]) -> Result<Gitignore, String> {
    let mut builder = GitignoreBuilder::new("");
    for index in indexes {
        let rule = &rules[*index];
        builder.case_insensitive(rule.fold_case).map_err(|error| error.to_string())?;
        builder.add_line(Some(PathBuf::from(index.to_string())), &rule.glob).map_err(|error| error.to_string())?;
    }
    builder.build().map_err(|error| error.to_string())
}

/// A line of `.syncignore`; nothing for blanks and comments.
pub(super) fn from_git(line: &Line<'_>) -> Option<Rule> {
    if line.text.trim().is_empty() || line.text.starts_with('#') {
        return None;
    }
    let glob = escape_braces(line.text);
    Some(Rule { file: line.file, line: line.number, written: line.text.to_owned(), glob, fold_case: false })
}

/// To git a brace is a letter; to the compiler it opens alternatives.
fn escape_braces(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => {
                escaped.push(letter);
                escaped.extend(rest.next());
            }
            '[' => {
                escaped.push(letter);
                let class = class_len(rest.clone());
                escaped.extend(rest.by_ref().take(class));
            }
            '{' | '}' => escaped.extend(['\\', letter]),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// Letters of a character class after its `[`, the closing one included; 0 when it never closes.
fn class_len(letters: impl Iterator<Item = char>) -> usize {
    let mut first = true;
    for (index, letter) in letters.enumerate() {
        match letter {
            '!' | '^' if index == 0 => continue,
            ']' if !first => return index + 1,
            _ => first = false,
        }
    }
    0
}
