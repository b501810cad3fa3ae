//! Rows of paths: which line of which file ignores them.

use super::*;

/// Checks one path: `expected` is `file:line` of the deciding rule, or empty when it is synced. A trailing slash
/// marks a directory.
fn check(name: &str, syncignore: &str, stignore: &str, rows: &[(&[u8], &str)]) {
    let ignore = Ignore::load(Some(syncignore.as_bytes()), Some(stignore.as_bytes()));
    for (path, expected) in rows {
        let (path, is_dir) = path.strip_suffix(b"/").map_or((*path, false), |path| (path, true));
        let path = RelPath::parse(path).unwrap();
        let found = ignore.matched(&path, is_dir).map_or(String::new(), |found| match found.file {
            IgnoreFile::BuiltIn => "built-in".to_owned(),
            file => format!("{}:{}", &file.name()[..3], found.line),
        });
        assert_eq!(found, *expected, "{name}: {path:?} in {syncignore:?} and {stignore:?}");
    }
}

#[test]
fn git_syntax() {
    check("name", "*.o\n", "", &[(b"a.o", ".sy:1"), (b"d/a.o", ".sy:1"), (b"a.c", "")]);
    check("last match", "*.o\n!keep.o", "", &[(b"a.o", ".sy:1"), (b"keep.o", "")]);
    check("rooted", "/top", "", &[(b"top", ".sy:1"), (b"d/top", "")]);
    check("slash inside", "a/b", "", &[(b"a/b", ".sy:1"), (b"d/a/b", "")]);
    check("directory", "build/", "", &[(b"build/", ".sy:1"), (b"build", ""), (b"x/build/y/z", ".sy:1")]);
    check("stars", "a/**/z\nq/**", "", &[(b"a/z", ".sy:1"), (b"a/b/c/z", ".sy:1"), (b"q/", ""), (b"q/x", ".sy:2")]);
    check("comment", "# x\n\n\\#x\n", "", &[(b"x", ""), (b"# x", ""), (b"#x", ".sy:3")]);
    check("parents win", "d/\n!d/keep", "", &[(b"d/keep", ".sy:1")]);
    check("all but", "/*\n!/src/", "", &[(b"src/", ""), (b"src/a", ""), (b"doc/", ".sy:1")]);
    check("CRLF and BOM", "\u{feff}*.o\r\n*.x\r\n", "", &[(b"a.o", ".sy:1"), (b"a.x", ".sy:2")]);
    check("braces are letters", "a{1,2}\n[{]b", "", &[(b"a1", ""), (b"a{1,2}", ".sy:1"), (b"{b", ".sy:2")]);
    check("trailing dot", "foo.\n", "", &[(b"foo.", ".sy:1"), (b"d/foo.", ".sy:1"), (b"foo", "")]);
    check("class", "[a-c]x\n", "", &[(b"bx", ".sy:1"), (b"dx", "")]);
    check("unclosed class", "[ab\n", "", &[(b"[ab", ".sy:1"), (b"a", "")]);
    check("odd line", "a{b\n*.o", "", &[(b"x.o", ".sy:2"), (b"a{b", ".sy:1")]);
    check("the rules travel", "*", "", &[(b".syncignore", ""), (b"d/.syncignore", ".sy:1"), (b"x", ".sy:1")]);
}

#[test]
fn syncthing_syntax() {
    check("any depth", "", "foo/bar", &[(b"foo/bar", ".st:1"), (b"x/foo/bar/y", ".st:1"), (b"foo", "")]);
    check("rooted", "", "/foo", &[(b"foo", ".st:1"), (b"foo/x", ".st:1"), (b"x/foo", "")]);
    check("first match", "", "!keep.o\n*.o", &[(b"keep.o", ""), (b"d/keep.o", ""), (b"a.o", ".st:2")]);
    check("comments", "", "// *.o\n\n*.x", &[(b"a.o", ""), (b"a.x", ".st:3")]);
    check("prefixes", "", "(?d)(?i)*.Tmp\n(?i)!X\nx", &[(b"a.TMP", ".st:1"), (b"x", "")]);
    check("fold is per line", "", "(?i)a\nb", &[(b"A", ".st:1"), (b"B", "")]);
    check("hash", "", "#foo", &[(b"#foo", ".st:1")]);
    check("inside only", "", "foo/", &[(b"foo/", ""), (b"foo/x", ".st:1"), (b"d/foo/x", ".st:1")]);
    check("double star", "", "/a/**/c\n**/d", &[(b"a/c", ".st:1"), (b"a/b/c", ".st:1"), (b"d", ".st:2")]);
    let rows: &[(&[u8], &str)] =
        &[(b"a/", ""), (b"a/b/", ""), (b"a/b/c", ""), (b"a/x", ".st:2"), (b"q", ".st:2"), (b"a/x/", ".st:2")];
    check("only one path", "", "!/a/b\n*", rows);
    check("an exception below", "", "!/a/b\n/a", &[(b"a/", ""), (b"a/b", ""), (b"a/c", ".st:2"), (b"d", "")]);
    check("only jpg", "", "!*.jpg\n*", &[(b"d/e/x.jpg", ""), (b"d/e/x.png", ".st:2"), (b"d/e/", "")]);
    check("braces", "", "*.{a,b}", &[(b"x.a", ".st:1"), (b"x.b", ".st:1"), (b"x.c", "")]);
}

#[test]
fn both_files() {
    check("local is read later", "*.o", "!keep.o\n*.x", &[(b"keep.o", ""), (b"a.o", ".sy:1"), (b"a.x", ".st:2")]);
    check("local hides", "!secret", "secret", &[(b"secret", ".st:1")]);
}

#[test]
fn other_tools_files() {
    let rows: &[(&[u8], &str)] = &[
        (b".stfolder/", "built-in"),
        (b".stfolder", "built-in"),
        (b".stversions/a/b", "built-in"),
        (b".stignore", "built-in"),
        (b"d/.syncthing.a.txt.tmp", "built-in"),
        (b"~syncthing~a.tmp", "built-in"),
        (b".sync/", "built-in"),
        (b".sync", ""),
        (b".sync/x", "built-in"),
        (b"movie.!sync", "built-in"),
        (b".unison.a.unison.tmp", "built-in"),
        (b".mutagen-temporary-x", "built-in"),
        (b"syncthing.tmp", ""),
        (b".syncthing.tmp", ""),
        (b"unison", ""),
    ];
    check("never", "!.stfolder\n!*", "!.stfolder", rows);
}

/// NS4, NS18: names are bytes; nothing in a name is a pattern.
#[test]
fn names_are_bytes() {
    check("not UTF-8", "*.o\nd?/x", "", &[(b"\xff\xfe.o", ".sy:1"), (b"d\xff/x", ".sy:2"), (b"\xff", "")]);
    check("a star in a name", "a\\*b", "", &[(b"a*b", ".sy:1"), (b"axb", "")]);
    check("newline and escape", "*.o", "", &[(b"a\nb\x1b.o", ".sy:1"), (b"\n", "")]);
    check("backslash", "a\\\\b", "", &[(b"a\\b", ".sy:1")]);
}

#[test]
fn problems_are_listed() {
    let lines_of = |ignore: &Ignore| ignore.problems().iter().map(|p| (p.file, p.line)).collect::<Vec<_>>();
    let ignore = Ignore::load(Some(b"ok\n\xff\xff\n[z-a]\n*.o"), Some(b"#include ../../etc\n!\nx**y\n#escape=|"));
    let expected = [(IgnoreFile::Shared, 2), (IgnoreFile::Shared, 3)]
        .into_iter()
        .chain((1..=4).map(|line| (IgnoreFile::Local, line)))
        .collect::<Vec<_>>();
    assert_eq!(lines_of(&ignore), expected, "{:?}", ignore.problems());
    assert!(ignore.matched(&RelPath::parse(b"x.o").unwrap(), false).is_some(), "a bad line stops no other");
}

/// NS14: a hostile file costs bounded time and memory, and its first rules still hold.
#[test]
fn bounds() {
    let long = "a\n".repeat(IGNORE_LINES_MAX + 5);
    let ignore = Ignore::load(Some(long.as_bytes()), None);
    assert_eq!(ignore.problems().len(), 1);
    assert!(ignore.matched(&RelPath::parse(b"a").unwrap(), false).is_some());

    let wide = format!("*.o\n{}", "*?".repeat(IGNORE_LEN_MAX));
    let ignore = Ignore::load(Some(wide.as_bytes()), None);
    assert_eq!(ignore.problems().len(), 1);
    assert!(ignore.matched(&RelPath::parse(b"a.o").unwrap(), false).is_some());

    let hostile: String = (0..200).map(|i| format!("{}{i}\n", "*a".repeat(100))).collect();
    let ignore = Ignore::load(Some(hostile.as_bytes()), None);
    let started = std::time::Instant::now();
    assert!(ignore.matched(&RelPath::parse("a".repeat(250).as_bytes()).unwrap(), false).is_none());
    assert!(started.elapsed().as_secs() < 5, "matching is not linear: {:?}", started.elapsed());
}
