//! What arrives is what was there: names as bytes, modes, times, links, holes, empty directories.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use tests::harness::{
    FOLDER, World, assert_same, differences, noise, pair_of, set_mode, set_mtime, settle, tree, until,
};

#[test]
fn unusual_names_arrive_byte_for_byte() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let long = "n".repeat(255);
    let deep = ["d".repeat(200).as_str(); 10].join("/");
    let names: [&[u8]; 26] = [
        b" leading and trailing ",
        b"new\nline",
        b"tab\tand\rreturn",
        b"not utf-8 \xff\xfe",
        b"\xff",
        "emoji \u{1f980}\u{200d}\u{1f3f4}".as_bytes(),
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        b"[ab].txt",
        b"x*?.{a,b}",
        b"!important",
        b"#comment",
        b"back\\slash",
        b"quote'\"`$(x)",
        b"-rf",
        b"...",
        b"a.sync-conflict-b",
        b".hidden",
        b"~",
        b"%2F",
        b"\x01\x7f",
        b"CON",
        b"colon:and|pipe",
        b"Case",
        b"case",
        long.as_bytes(),
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        a.put(name, name.as_bytes());
        a.put(std::path::Path::new("directory").join(name).join(name), name.as_bytes());
    }
    a.put(std::path::Path::new(&deep).join("f"), "deep");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 2 + 1);
    assert_eq!(b.tree().len(), names.len() * 3 + 1 + 11);
    fs::rename(b.at("new\nline"), b.at(OsStr::from_bytes(b"now \xfd"))).expect("a rename");
    fs::remove_file(b.at("[ab].txt")).expect("gone");
    settle(&[&b, &a]);
    assert!(differences(&a.tree(), &b.tree()).is_empty(), "{:?}", differences(&a.tree(), &b.tree()));
    assert!(!a.at("new\nline").exists() && a.at("Case").exists());
}

#[test]
fn modes_and_times_arrive_exactly() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let modes = [0o644, 0o600, 0o755, 0o400, 0o444, 0o777, 0o640];
    for (at, mode) in (0..).zip(modes) {
        let name = format!("f{mode:o}");
        a.put(&name, &name);
        set_mode(&a.at(&name), mode);
        set_mtime(&a.at(&name), 1_600_000_000 + at, 123_456_789 + at);
    }
    for (name, seconds, nanoseconds) in
        [("1970", 0, 0), ("1969", -1, 5), ("1901", -2_000_000_000, 1), ("2100", 4_102_444_800, 999_999_999)]
    {
        a.put(name, name);
        set_mtime(&a.at(name), seconds, nanoseconds);
    }
    fs::create_dir(a.at("closed")).expect("a directory");
    a.put("closed/inside", "x");
    set_mode(&a.at("closed"), 0o500);
    fs::create_dir(a.at("shared")).expect("a directory");
    set_mode(&a.at("shared"), 0o770);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    // Without new content: only the mode, then only the time.
    let before = b.traffic().0;
    set_mode(&a.at("f644"), 0o750);
    set_mtime(&a.at("f600"), 1_500_000_000, 1);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(b.traffic().0 - before < 20_000);
    assert!(b.events("conflict").is_empty());
    // Into a directory that its owner may not write, a change still arrives, and its mode stays.
    set_mode(&a.at("closed"), 0o700);
    a.put("closed/inside", "changed");
    set_mode(&a.at("closed"), 0o500);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.get("closed/inside").as_deref(), Some(&b"changed"[..]));
    for device in [&a, &b] {
        set_mode(&device.at("closed"), 0o700);
    }
}

#[test]
fn special_mode_bits_are_never_taken_from_a_peer() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("f", "x");
    set_mode(&a.at("f"), 0o6755);
    settle(&[&a, &b]);
    let mode = fs::metadata(b.at("f")).expect("it arrived").mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn links_arrive_as_links_and_are_never_followed() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let outside = world.path().join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("secret"), "not synced").expect("a file");
    a.put("d/f", "x");
    let targets = ["d/f", "d", "nowhere", "/etc/passwd", "../../../..", ".", "loop", "a\nb", " "];
    for (at, target) in targets.iter().enumerate() {
        symlink(target, a.at(format!("link {at}"))).expect("a link");
    }
    symlink("loop", a.at("loop")).expect("a link");
    symlink(&outside, a.at("out")).expect("a link");
    symlink(OsStr::from_bytes(b"not utf-8 \xff"), a.at("bytes")).expect("a link");
    set_mtime(&a.at("link 0"), 1_500_000_000, 7);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(!b.tree().keys().any(|path| path.ends_with(b"secret")));
    fs::remove_file(a.at("link 1")).expect("gone");
    symlink("elsewhere", a.at("link 1")).expect("a link");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(outside.join("secret").exists());
}

/// A directory moved to another disk, with a link left in its place: that deletes nothing elsewhere, nothing is written
/// through the link, and a person is told.
#[test]
fn a_link_in_place_of_a_directory_deletes_nothing_and_is_not_followed() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let outside = world.path().join("outside");
    a.put("d/f", "1");
    a.put("other", "1");
    settle(&[&a, &b]);
    fs::rename(b.at("d"), &outside).expect("a rename");
    symlink(&outside, b.at("d")).expect("a link");
    let problem = until("the link is listed", || b.folder()["problems"].get(0).cloned());
    assert_eq!((&problem["path"], &problem["code"]), (&"d".into(), &"blocked".into()));
    a.put("d/g", "2");
    a.put("d/f", "changed");
    a.put("other", "2");
    until("other changes flow", || (b.get("other").as_deref() == Some(b"2")).then_some(()));
    let waited = a.ctl(&["wait", "--timeout", "2"]);
    assert_eq!(waited.code, 1, "{waited:?}");
    assert_eq!(a.get("d/f").as_deref(), Some(&b"changed"[..]), "nothing is deleted");
    let names: Vec<_> = fs::read_dir(&outside).expect("a listing").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!((names.len(), fs::read(outside.join("f")).ok()), (1, Some(b"1".to_vec())), "nothing is written there");
    fs::remove_file(b.at("d")).expect("gone");
    fs::rename(&outside, b.at("d")).expect("a rename");
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.get("d/g").as_deref(), Some(&b"2"[..]));
}

#[test]
fn empty_files_and_directories_arrive_and_go() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("empty", "");
    for path in ["e/m/p/t/y", "one/two"] {
        fs::create_dir_all(a.at(path)).expect("directories");
    }
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.tree().len(), 1 + 5 + 2);
    fs::remove_dir_all(a.at("e")).expect("gone");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.tree().len(), 3);
}

#[test]
fn holes_stay_holes() {
    use std::io::{Seek, SeekFrom, Write};
    let world = World::new();
    let (a, b) = pair_of(&world);
    let mut file = fs::File::create(a.at("sparse")).expect("a file");
    file.write_all(&noise(1, 70_000)).expect("data");
    file.seek(SeekFrom::Start(300 << 20)).expect("a hole");
    file.write_all(&noise(2, 70_000)).expect("data");
    file.set_len(400 << 20).expect("a hole at the end");
    drop(file);
    let allocated = |path: &std::path::Path| fs::metadata(path).expect("it is there").blocks() * 512;
    if allocated(&a.at("sparse")) > 1 << 20 {
        return tests::harness::skip("holes_stay_holes", "this file system has no holes");
    }
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(allocated(&b.at("sparse")) < 1 << 20, "{} bytes on disk", allocated(&b.at("sparse")));
    assert!(b.traffic().0 < 1 << 20, "{:?}", b.traffic());
}

#[test]
fn what_is_no_file_is_listed_and_left_alone() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("f", "x");
    let done = std::process::Command::new("mkfifo").arg(a.at("pipe")).status().expect("mkfifo runs");
    assert!(done.success());
    let _socket = std::os::unix::net::UnixListener::bind(a.at("socket")).expect("a socket");
    a.ok(&["folder", "rescan", tests::harness::FOLDER]);
    until("the file arrives", || b.get("f"));
    let problems = until("both are listed", || {
        let problems = a.folder()["problems"].clone();
        (problems.as_array()?.len() == 2).then_some(problems)
    });
    assert!(problems.as_array().into_iter().flatten().all(|problem| problem["code"] == "special"), "{problems}");
    assert_eq!(tree(b.files()).len(), 1);
    fs::remove_file(a.at("pipe")).expect("gone");
    fs::remove_file(a.at("socket")).expect("gone");
    settle(&[&a, &b]);
    assert_eq!(a.folder()["problems_total"], 0);
}

#[test]
fn links_that_lead_out_can_be_refused() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    b.ok(&["folder", "set", FOLDER, "links", "inside"]);
    a.put("d/file", "1");
    symlink("/etc/passwd", a.at("d/out")).expect("a link");
    symlink("../d/file", a.at("d/in")).expect("a link");
    until("it is listed", || {
        let problems = b.folder()["problems"].clone();
        problems.as_array()?.iter().find(|problem| problem["code"] == "blocked").cloned()
    });
    until("what stays inside is taken", || fs::read_link(b.at("d/in")).ok());
    assert!(fs::symlink_metadata(b.at("d/out")).is_err());
    b.ok(&["folder", "set", FOLDER, "links", "all"]);
    until("it is taken", || fs::read_link(b.at("d/out")).ok());
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}
