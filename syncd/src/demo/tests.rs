//! The judge must see every kind of difference, and the copy must hold what the original holds.

use super::compare::compare;
use super::copy::Source;
use super::screen;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

fn tree(root: &Path) {
    fs::create_dir_all(root.join("dir/empty")).unwrap();
    fs::write(root.join("dir/file"), "content").unwrap();
    symlink("file", root.join("dir/link")).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::open(root.join("dir/file")).unwrap().set_modified(time).unwrap();
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, root.join("dir/link"), &times, flags).unwrap();
}

#[test]
fn the_judge_sees_every_difference() {
    type Change = fn(&Path);
    let rows: [(&str, Change, &str); 9] = [
        ("a file more", |root| fs::write(root.join("more"), "").unwrap(), "more: only in B"),
        ("a file less", |root| fs::remove_file(root.join("dir/file")).unwrap(), "dir/file: only in A"),
        ("a directory less", |root| fs::remove_dir(root.join("dir/empty")).unwrap(), "dir/empty: only in A"),
        ("other bytes, same length and time", other_bytes, "dir/file: other bytes"),
        ("another length", |root| fs::write(root.join("dir/file"), "longer content").unwrap(), "7 bytes in A, 14 in B"),
        ("another time", |root| set_time(root, 1_700_000_001), "dir/file: another modification time"),
        ("another mode", |root| chmod(&root.join("dir/file"), 0o600), "dir/file: mode 644 in A, 600 in B"),
        ("another mode of a directory", |root| chmod(&root.join("dir"), 0o700), "dir: mode 755 in A, 700 in B"),
        ("another kind", another_kind, "dir/empty: another kind of object"),
    ];
    for (name, change, expected) in rows {
        let place = tempfile::tempdir().unwrap();
        let (a, b) = (place.path().join("a"), place.path().join("b"));
        for root in [&a, &b] {
            tree(root);
            chmod(&root.join("dir/file"), 0o644);
            chmod(&root.join("dir"), 0o755);
        }
        let equal = compare(&a, &b).unwrap();
        assert_eq!((equal.files, equal.directories, equal.links, equal.bytes), (1, 2, 1, 7), "{name}: before");
        change(&b);
        let words = compare(&a, &b).unwrap_err().to_string();
        assert!(words.contains(expected), "{name}: {words}");
        let back = compare(&b, &a).unwrap_err().to_string();
        assert!(back.contains("differ"), "{name}, the other way: {back}");
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_time(root: &Path, secs: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
    File::open(root.join("dir/file")).unwrap().set_modified(time).unwrap();
}

fn other_bytes(root: &Path) {
    fs::write(root.join("dir/file"), "CONTENT").unwrap();
    set_time(root, 1_700_000_000);
}

fn another_kind(root: &Path) {
    fs::remove_dir(root.join("dir/empty")).unwrap();
    fs::write(root.join("dir/empty"), "").unwrap();
}

#[test]
fn the_private_directory_is_no_part_of_the_tree() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("a/.syncd/tmp")).unwrap();
    fs::create_dir_all(place.path().join("b")).unwrap();
    assert_eq!(compare(&place.path().join("a"), &place.path().join("b")).unwrap().directories, 0);
}

#[test]
fn a_copy_is_equal_but_for_what_is_never_synced() {
    let place = tempfile::tempdir().unwrap();
    let (original, copy) = (place.path().join("original"), place.path().join("copy"));
    tree(&original);
    for never in [".syncd/x", "deep/.syncd/x", ".stfolder/x", ".syncignore", "a.!sync"] {
        let path = original.join(never);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let stop = CancellationToken::new();
    let plan = Source::choose(Some(original.clone())).unwrap().plan(&stop).unwrap();
    assert_eq!((plan.files, plan.bytes(), plan.left_out, plan.cut), (1, 7, 5, false));
    plan.copy_to(&copy, &stop).unwrap();
    for never in [".syncd", "deep/.syncd", ".stfolder", ".syncignore", "a.!sync"] {
        assert!(!copy.join(never).exists(), "{never}");
    }
    assert_eq!(fs::read(copy.join("dir/file")).unwrap(), b"content");
    assert_eq!(fs::read_link(copy.join("dir/link")).unwrap(), Path::new("file"));
    let modified = |root: &Path| fs::metadata(root.join("dir/file")).unwrap().modified().unwrap();
    assert_eq!(modified(&copy), modified(&original));
    stop.cancel();
    assert!(plan.copy_to(&copy, &stop).is_err(), "an interrupted copy ends");
}

#[test]
fn figures_are_readable() {
    let rows = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (700 << 20, "700 MiB")];
    for (number, text) in rows {
        assert_eq!(screen::bytes(number), text);
    }
    assert_eq!(screen::count(1, "file"), "1 file");
    assert_eq!(screen::count(1_234_567, "file"), "1,234,567 files");
    assert_eq!(screen::seconds(Duration::from_millis(34)), "34 ms");
    assert_eq!(screen::seconds(Duration::from_millis(1240)), "1.24 s");
}
