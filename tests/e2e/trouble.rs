//! What cannot be read or written is listed with its cause, and keeps nothing else from syncing.

use std::fs;
use std::path::Path;
use tests::harness::{
    Device, FOLDER, Mount, World, assert_same, differences, is_root, join, noise, pair, set_mode, settle, share, skip,
    until, within,
};

/// Nobody's id: a user that owns nothing.
const NOBODY: u32 = 65_534;

fn problem(device: &Device, path: &str) -> serde_json::Value {
    until(&format!("{path} is listed"), || {
        let problems = device.folder()["problems"].clone();
        problems.as_array()?.iter().find(|problem| problem["path"] == path).cloned()
    })
}

/// D-25: nothing of an unreadable directory counts as deleted; it is listed.
#[test]
fn what_cannot_be_read_is_listed_and_not_deleted() {
    let test = "what_cannot_be_read_is_listed_and_not_deleted";
    let world = World::new();
    let mut a = world.prepare("a", "lan = \"never\"\n");
    if is_root() && !a.run_as(NOBODY, &world) {
        return skip(test, "root reads everything, and no other user may run the programs where they are");
    }
    a.start();
    let b = world.device("b");
    pair(&a, &b);
    for name in ["p/1", "p/2", "q", "r"] {
        a.put(name, name);
        a.own(name);
    }
    a.own("p");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    set_mode(&a.at("p"), 0o000);
    set_mode(&a.at("q"), 0o000);
    fs::remove_file(a.at("r")).expect("gone");
    a.put("s", "new");
    a.own("s");
    a.ok(&["folder", "rescan", FOLDER]);
    until("the new file arrives", || b.get("s"));
    until("the deletion arrives", || b.get("r").is_none().then_some(()));
    problem(&a, "p");
    assert_eq!(b.get("p/1").as_deref(), Some(&b"p/1"[..]), "what cannot be read is not deleted");
    assert_eq!(b.get("q").as_deref(), Some(&b"q"[..]));
    assert_eq!(a.ctl(&["status", "--check"]).code, 1);
    set_mode(&a.at("p"), 0o755);
    set_mode(&a.at("q"), 0o644);
    settle(&[&a, &b]);
    assert_eq!(a.folder()["problems_total"], 0);
    assert!(differences(&a.tree(), &b.tree()).is_empty(), "{:?}", differences(&a.tree(), &b.tree()));
}

/// D-11: what fits arrives, what does not is listed, and comes when there is room.
#[test]
fn a_full_disk_takes_what_fits_and_lists_the_rest() {
    let test = "a_full_disk_takes_what_fits_and_lists_the_rest";
    let world = World::new();
    let place = world.path().join("small");
    let Some(_disk) = Mount::tmpfs(&place, 40) else {
        return skip(test, "mounting needs root");
    };
    let (a, mut b) = (world.device("a"), world.device("b"));
    b.move_files(&place.join("files"));
    fs::create_dir(b.files()).expect("a directory");
    fs::write(place.join("ballast"), noise(0, 25 << 20)).expect("it fits");
    pair(&a, &b);
    a.put("old", "stays whole");
    for at in 0..10 {
        a.put(format!("edited/{at}"), noise(at, 4096));
    }
    share(&[&a, &b]);
    settle(&[&a, &b]);
    let pid = b.pid();
    a.save("big", noise(99, 30 << 20));
    for at in 0..10 {
        a.put(format!("edited/{at}"), noise(100 + at, 4096));
    }
    until("what fits arrives", || {
        (0..10).all(|at| b.get(format!("edited/{at}")) == Some(noise(100 + at, 4096))).then_some(())
    });
    let listed = problem(&b, "big");
    assert_eq!(listed["code"], "no_space", "{listed}");
    assert!(!b.at("big").exists() && b.get("old").as_deref() == Some(b"stays whole"));
    assert!(b.is_running() && b.pid() == pid);
    fs::remove_file(place.join("ballast")).expect("gone");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.folder()["problems_total"], 0);
    b.stop();
}

/// A file that another program writes while it is read is never published half way.
#[test]
fn a_file_that_changes_while_it_is_read_arrives_whole() {
    let world = World::new();
    let (a, b) = tests::harness::pair_of(&world);
    let versions: Vec<Vec<u8>> = (0..4).map(|seed| vec![b'a' + seed; 3_000_000]).collect();
    for version in versions.iter().cycle().take(12) {
        a.save("f", version);
        if let Some(bytes) = b.get("f") {
            assert!(versions.contains(&bytes), "{} bytes that nobody wrote", bytes.len());
        }
    }
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}

/// D-2: an edit that the daemon has not noticed yet is never overwritten.
#[test]
fn an_edit_at_the_moment_of_a_remote_change_is_kept() {
    let world = World::new();
    let (a, b) = tests::harness::pair_of(&world);
    a.put("f", "base");
    settle(&[&a, &b]);
    b.ok(&["folder", "set", FOLDER, "watch", "false"]);
    crate::apart::meet(&a, &b);
    settle(&[&b, &a]);
    let before = fs::metadata(b.at("f")).and_then(|meta| meta.modified()).expect("its time");
    b.put("f", "edit");
    fs::File::options().write(true).open(b.at("f")).and_then(|file| file.set_modified(before)).expect("its old time");
    a.put("f", "of a");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 1);
    let contents: Vec<_> = a.tree().into_keys().map(|path| a.get(String::from_utf8(path).expect("text"))).collect();
    for text in ["edit", "of a"] {
        assert!(contents.contains(&Some(text.as_bytes().to_vec())), "{text} is kept: {contents:?}");
    }
}

/// D-2b: what a program writes through an old handle after the file was replaced is not lost.
#[test]
fn a_program_that_still_has_the_file_open_loses_nothing() {
    use std::io::Write;
    let world = World::new();
    let (a, b) = tests::harness::pair_of(&world);
    a.put("f", "base");
    settle(&[&a, &b]);
    let mut open = fs::OpenOptions::new().append(true).open(b.at("f")).expect("it opens");
    a.put("f", "of a");
    until("the change arrives", || (b.get("f").as_deref() == Some(b"of a")).then_some(()));
    open.write_all(b", written late").expect("the handle is good");
    drop(open);
    let anywhere = within(tests::harness::PATIENCE / 30, || find(b.files(), b"base, written late").then_some(()));
    assert!(anywhere.is_some(), "the late bytes are kept somewhere in the folder");
}

fn find(directory: &Path, content: &[u8]) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => find(&entry.path(), content),
        Ok(_) => fs::read(entry.path()).is_ok_and(|bytes| bytes == content),
        Err(_) => false,
    })
}

#[test]
fn a_directory_that_holds_what_is_ignored_stays_when_others_delete_it() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    a.put(".syncignore", "*.o\n");
    a.put("d/f.c", "x");
    a.put("other", "x");
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    join(&b);
    settle(&[&a, &b]);
    b.put("d/f.o", "built here");
    fs::remove_dir_all(a.at("d")).expect("gone");
    until("the synced file goes", || b.get("d/f.c").is_none().then_some(()));
    let problem = problem(&b, "d");
    assert_eq!(problem["code"], "blocked", "{problem}");
    assert_eq!(b.get("d/f.o").as_deref(), Some(&b"built here"[..]));
    fs::remove_file(b.at("d/f.o")).expect("gone");
    until("the directory goes", || (!b.at("d").exists()).then_some(()));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.folder()["problems_total"], 0);
}

/// Bytes that change on the disk without anybody writing them. A mapped page of a tmpfs does: its times stay.
#[test]
fn a_file_that_rotted_is_neither_sent_nor_passed_on_as_an_edit() {
    let test = "a_file_that_rotted_is_neither_sent_nor_passed_on_as_an_edit";
    let world = World::new();
    let place = world.path().join("small");
    let Some(_disk) = Mount::tmpfs(&place, 20) else {
        return skip(test, "mounting needs root");
    };
    let (mut a, b) = (world.device("a"), world.device("b"));
    a.move_files(&place.join("files"));
    fs::create_dir(a.files()).expect("a directory");
    a.put("f", noise(1, 5000));
    a.put("g", "well");
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    // Not racy any more when it is looked at again.
    until("the files are known", || (a.folder()["local"]["files"] == 2).then_some(()));
    within(std::time::Duration::from_millis(50), || None::<()>);
    a.ok(&["folder", "rescan", FOLDER]);
    until("the folder is idle", || (a.folder()["state"] == "idle").then_some(()));
    let before = fs::metadata(a.at("f")).and_then(|meta| meta.modified()).expect("its time");
    let program = "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nm[100]=m[100]^255\nm.close()";
    let ran = std::process::Command::new("python3").args(["-c", program]).arg(a.at("f")).status();
    if !ran.is_ok_and(|status| status.success()) {
        return skip(test, "no python3 to map a file with");
    }
    assert!(a.get("f") != Some(noise(1, 5000)), "the bytes changed");
    if fs::metadata(a.at("f")).and_then(|meta| meta.modified()).expect("its time") != before {
        return skip(test, "this file system notices mapped writes");
    }
    pair(&a, &b);
    join(&b);
    until("the well file arrives", || b.get("g"));
    let hold = until("it is held", || a.folder()["holds"].get(0).cloned());
    assert_eq!((&hold["kind"], &hold["paths"]), (&"suspect_here".into(), &1.into()));
    problem(&a, "f");
    assert!(b.get("f").is_none() && a.ctl(&["status", "--check"]).code == 1);
    assert!(!a.events("held").is_empty() && a.log().contains("nobody wrote them"));
    a.ok(&["folder", "approve", FOLDER]);
    settle(&[&b, &a]);
    assert_eq!(b.get("f"), a.get("f"), "a person says that it is well");
    assert_same(&[&a, &b], 0);
    a.stop();
}
