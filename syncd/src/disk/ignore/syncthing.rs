//! Syncthing's ignore syntax, said in gitignore's: there the first match decides and a pattern without a leading
//! slash matches at any depth. Directories above an included path are included, because a path needs its parents.

use super::rules::Rule;
use super::{IgnoreProblem, Line};

/// Rules in gitignore order (last match decides) for all lines.
pub(super) fn translate(lines: &[Line<'_>], problems: &mut Vec<IgnoreProblem>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for line in lines.iter().rev() {
        match parse(line) {
            Ok(Some(pattern)) => {
                if let Some(words) = pattern.caveat() {
                    problems.push(line.problem(words));
                }
                rules.extend(pattern.globs().into_iter().map(|glob| Rule {
                    file: line.file,
                    line: line.number,
                    written: line.text.to_owned(),
                    glob,
                    fold_case: pattern.fold_case,
                }));
            }
            Ok(None) => {}
            Err(words) => problems.push(line.problem(words)),
        }
    }
    problems.sort_by_key(|problem| (problem.file, problem.line));
    rules
}

struct Pattern<'a> {
    include: bool,
    fold_case: bool,
    rooted: bool,
    /// Without prefixes and leading slash.
    glob: &'a str,
}

fn parse<'a>(line: &Line<'a>) -> Result<Option<Pattern<'a>>, String> {
    let mut text = line.text.trim();
    if text.is_empty() || text.starts_with("//") {
        return Ok(None);
    }
    if text.starts_with("#include") {
        return Err("#include is not followed: copy its lines into this file".into());
    }
    if text.starts_with("#escape") {
        return Err("#escape is not supported: the escape character is \\".into());
    }
    let (mut include, mut fold_case, mut deletable) = (false, false, false);
    loop {
        let (flag, rest) = if let Some(rest) = text.strip_prefix('!') {
            (&mut include, rest)
        } else if let Some(rest) = text.strip_prefix("(?i)") {
            (&mut fold_case, rest)
        } else if let Some(rest) = text.strip_prefix("(?d)") {
            (&mut deletable, rest)
        } else {
            break;
        };
        if std::mem::replace(flag, true) {
            break;
        }
        text = rest;
    }
    let (rooted, glob) = text.strip_prefix('/').map_or((false, text), |rest| (true, rest));
    let glob = glob.strip_prefix("**/").filter(|_| !rooted).unwrap_or(glob);
    if glob.is_empty() {
        return Err("a pattern is missing".into());
    }
    Ok(Some(Pattern { include, fold_case, rooted, glob }))
}

impl Pattern<'_> {
    /// Anchored, so that neither a slash inside nor a leading `#` or `!` means anything else to gitignore.
    fn anchored(&self, glob: &str) -> String {
        let sign = if self.include { "!" } else { "" };
        let depth = if self.rooted { "" } else { "**/" };
        format!("{sign}/{depth}{glob}")
    }

    /// The same pattern in gitignore syntax, later lines over earlier ones.
    fn globs(&self) -> Vec<String> {
        let mut globs = if self.include { self.parents() } else { Vec::new() };
        let inside = self.glob.strip_suffix("/**").or_else(|| self.glob.strip_suffix('/'));
        match inside {
            Some(outer) => globs.push(format!("{}/**", self.anchored(outer))),
            None => {
                globs.push(self.anchored(self.glob));
                globs.push(format!("{}/**", self.anchored(self.glob)));
            }
        }
        globs
    }

    /// Directories that lead to what is included.
    fn parents(&self) -> Vec<String> {
        if !self.rooted {
            return vec!["!**/".into()];
        }
        let components: Vec<&str> = self.glob.split('/').collect();
        let mut parents = Vec::new();
        for depth in 1..components.len() {
            parents.push(format!("!/{}/", components[..depth].join("/")));
            if components[depth - 1] == "**" {
                break;
            }
        }
        parents
    }

    /// Where gitignore cannot say quite the same.
    fn caveat(&self) -> Option<&'static str> {
        let joined = |component: &str| component.contains("**") && component != "**";
        if self.glob.split('/').any(joined) {
            return Some("** inside a name is read as *");
        }
        let all_parents = self.include && (!self.rooted || self.glob.split('/').any(|part| part == "**"));
        all_parents.then_some("directories that may lead to what this line includes are synced, too")
    }
}
