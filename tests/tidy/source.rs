//! Enough of Rust's grammar for the rules: code without its comments and strings, the functions with their lengths,
//! and every path that code names, with `use` groups spread out. Not a parser; what it cannot read it leaves alone.

/// A Rust file.
pub struct Source {
    /// Path from the root of the repository.
    pub name: String,
    /// As it is.
    pub text: String,
    /// The same, line by line, with comments, strings and characters blanked.
    pub code: String,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// Of its `fn`, from 1.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
    /// The body is one `match` and nothing else.
    pub flat_match: bool,
}

/// A path that code names, such as `crate::store::Store`.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
}

impl Source {
    pub fn new(name: String, text: String) -> Self {
        let code = blank(&text);
        Self { name, text, code }
    }

    /// Every function that has a body.
    pub fn functions(&self) -> Vec<Function> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        for at in 0..tokens.len() {
            if tokens[at].text != "fn" {
                continue;
            }
            let Some(name) = tokens.get(at + 1).filter(|token| is_identifier(token.text)) else {
                continue;
            };
            if let Some((open, close)) = body(&tokens, at + 2) {
                found.push(Function {
                    name: name.text.to_string(),
                    line: tokens[at].line,
                    lines: tokens[close].line - tokens[at].line + 1,
                    flat_match: is_flat_match(&tokens[open..=close]),
                });
            }
        }
        found
    }

    /// Every path that it names, `use` groups spread out.
    pub fn paths(&self) -> Vec<Named> {
        let tokens = tokens(&self.code);
        let (mut found, mut at) = (Vec::new(), 0);
        while at < tokens.len() {
            if is_identifier(tokens[at].text) {
                at = path(&tokens, at, &mut Vec::new(), &mut found);
            } else {
                at += 1;
            }
        }
        found
    }
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::`, and single other characters.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = if is_identifier(rest) || first.is_numeric() {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            found.push(Token { text: &rest[..len], line: number + 1 });
            rest = rest[len..].trim_start();
        }
    }
    found
}

/// From after a function's name: its opening and its closing brace. `None`: it has no body.
fn body(tokens: &[Token<'_>], from: usize) -> Option<(usize, usize)> {
    let mut nested = 0;
    let open = (from..tokens.len()).find_map(|at| {
        match tokens[at].text {
            "(" | "[" => nested += 1,
            ")" | "]" => nested -= 1,
            ";" if nested == 0 => return Some(None),
            "{" if nested == 0 => return Some(Some(at)),
            _ => {}
        }
        None
    })??;
    closing(tokens, open).map(|close| (open, close))
}

fn closing(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0;
    (open..tokens.len()).find(|at| {
        match tokens[*at].text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

/// `tokens` is a body with its braces.
fn is_flat_match(tokens: &[Token<'_>]) -> bool {
    if tokens.get(1).is_none_or(|token| token.text != "match") {
        return false;
    }
    let arms = (1..tokens.len()).find(|at| tokens[*at].text == "{");
    arms.and_then(|open| closing(tokens, open)) == Some(tokens.len() - 2)
}

/// Reads one path or group at `at` behind `before`; where it ends.
fn path(tokens: &[Token<'_>], mut at: usize, before: &mut Vec<String>, found: &mut Vec<Named>) -> usize {
    let (line, kept) = (tokens[at].line, before.len());
    while at < tokens.len() && is_identifier(tokens[at].text) {
        before.push(tokens[at].text.to_string());
        at += 1;
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            break;
        }
        at += 1;
        if tokens.get(at).is_some_and(|token| token.text == "{") {
            at += 1;
            while at < tokens.len() && tokens[at].text != "}" {
                at = if is_identifier(tokens[at].text) { path(tokens, at, before, found) } else { at + 1 };
            }
            before.truncate(kept);
            return at + 1;
        }
    }
    found.push(Named { segments: before.clone(), line });
    before.truncate(kept);
    at
}

/// The same text with comments, strings and characters blanked; lines stay where they are.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = blank_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where what starts at `at` ends, if it is a comment, a string or a character; else `at`.
fn blank_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next == Some('/') => find(chars, at, |c| c == '\n'),
        '/' if next == Some('*') => comment_end(chars, at),
        '"' => string_end(chars, at),
        'r' if !word_before || chars[at - 1] == 'b' => raw_string_end(chars, at).unwrap_or(at),
        '\'' => character_end(chars, at),
        _ => at,
    }
}

fn find(chars: &[char], from: usize, is: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|at| is(chars[*at])).unwrap_or(chars.len())
}

fn comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], open: usize) -> usize {
    let mut at = open + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let ends = |quote: &usize| {
        chars[*quote] == '"' && chars[*quote + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (open + 1..chars.len()).find(ends).map(|quote| quote + 1 + hashes)
}

/// A lifetime is no character.
fn character_end(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        return find(chars, at + 3, |c| c == '\'') + 1;
    }
    if chars.get(at + 2) == Some(&'\'') { at + 3 } else { at }
}

#[test]
fn comments_and_strings_are_no_code() {
    let rows = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x{", 'y', '\'', "\"{")"#, "f(    ,    ,     ,      )"),
        (r##"r#"}"# for"##, "       for"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
    ];
    for (text, code) in rows {
        assert_eq!(blank(text).trim_end(), code.trim_end(), "{text}");
    }
}

#[test]
fn functions_are_measured() {
    let text = "trait T { fn none(&self) -> [u8; 3]; }\nfn one() {\n}\nfn flat(x: u8) {\n match x {\n _ => {}\n }\n}\n";
    let found = Source::new("x.rs".into(), text.into()).functions();
    let shown: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines, f.flat_match)).collect();
    assert_eq!(shown, [("one", 2, 2, false), ("flat", 4, 5, true)]);
}

#[test]
fn groups_are_spread_out() {
    let text = "use crate::{store::Store, disk::{self, fs::Fs}};\nfn f() { super::net::g(); }";
    let found = Source::new("x.rs".into(), text.into()).paths();
    let shown: Vec<String> = found.iter().map(|named| named.segments.join("::")).filter(|p| p.contains("::")).collect();
    assert_eq!(shown, ["crate::store::Store", "crate::disk::self", "crate::disk::fs::Fs", "super::net::g"]);
}
