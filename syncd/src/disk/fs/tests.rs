//! RealFs against the real kernel, in a temporary directory.

use super::{Area, Errno, Fs, RealFs, errno, problem};
use protocol::model::{Mode, Mtime, RelPath};
use protocol::sync::{Kind, ProblemCode};
use std::os::unix::fs::{PermissionsExt, symlink};

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a test's path is valid")
}

fn rooted() -> (tempfile::TempDir, RealFs) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fs = RealFs::open(dir.path()).expect("it can be opened");
    fs.prepare_private().expect("and written");
    (dir, fs)
}

#[test]
fn paths_never_leave_the_root() {
    for walk in [false, true] {
        let (dir, fs) = rooted();
        let fs = if walk { fs.without_openat2() } else { fs };
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        symlink("/", dir.path().join("absolute")).unwrap();
        symlink("a", dir.path().join("a/../relative")).unwrap();
        symlink("b", dir.path().join("a/inner")).unwrap();
        let open = |at: &str| fs.open_dir(Some(&path(at))).map(|_| ()).map_err(|error| errno(&error));
        assert_eq!(open("a/b"), Ok(()), "walk {walk}");
        assert_eq!(open("gone"), Err(Errno::NOENT), "walk {walk}");
        for link in ["absolute", "relative", "a/inner", "absolute/etc", "relative/b"] {
            assert!(matches!(open(link), Err(Errno::LOOP | Errno::NOTDIR)), "{link}, walk {walk}: {:?}", open(link));
        }
        assert_eq!(open("file"), Err(Errno::NOTDIR), "walk {walk}");
    }
}

/// No volume here folds names: what is asked for on one that does must come to the same on one that does not.
#[test]
fn where_names_fold_they_are_found_as_they_are_listed() {
    let (dir, fs) = rooted();
    let fs = fs.folding_names();
    std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
    std::fs::write(dir.path().join("a/b/file"), "x").unwrap();
    let at = fs.open_dir(Some(&path("a/b"))).unwrap();
    assert!(fs.open_dir(Some(&path("A/b"))).is_err());
    assert_eq!(fs.stat(&at, b"file").unwrap(), fs.stat_folded(&at, b"file").unwrap());
    assert_eq!((fs.stat(&at, b"file").unwrap().is_some(), fs.stat(&at, b"File").unwrap()), (true, None));
}

#[test]
fn a_probe_for_folding_leaves_nothing() {
    let (dir, fs) = rooted();
    assert_eq!(fs.stat(&fs.open_dir(None).unwrap(), b"gone").unwrap(), None);
    fs.open_dir(Some(&path("gone"))).err().unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path().join(".syncd")).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["hold", "tmp", "versions"]);
}

#[test]
fn names_are_single_components() {
    let (_dir, fs) = rooted();
    let root = fs.open_dir(None).unwrap();
    for name in [b"".as_slice(), b".", b"..", b"a/b", b"a\0b"] {
        assert_eq!(fs.stat(&root, name).map_err(|error| errno(&error)), Err(Errno::INVAL), "{name:?}");
        assert_eq!(fs.mkdir(&root, name, Mode::new(0o755)).map_err(|error| errno(&error)), Err(Errno::INVAL));
    }
}

#[test]
fn only_regular_files_are_opened() {
    let (dir, fs) = rooted();
    let root = fs.open_dir(None).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("fifo"), rustix::fs::Mode::RWXU).unwrap();
    let open = |name: &str| fs.open(&root, name.as_bytes()).map(|_| ()).map_err(|error| errno(&error));
    assert_eq!(open("link"), Err(Errno::LOOP));
    assert_eq!(open("fifo"), Err(Errno::NXIO));
    assert_eq!(open(".syncd"), Err(Errno::ISDIR));
    assert_eq!(open("gone"), Err(Errno::NOENT));
    let mut names: Vec<_> = fs.list(&root).unwrap().into_iter().map(|item| (item.name.to_vec(), item.kind)).collect();
    names.sort();
    let expected =
        [(b".syncd".to_vec(), Kind::Directory), (b"fifo".to_vec(), Kind::Special), (b"link".to_vec(), Kind::Symlink)];
    assert_eq!(names, expected);
}

#[test]
fn attributes_are_set_through_a_handle_on_what_was_expected() {
    let (dir, fs) = rooted();
    let root = fs.open_dir(None).unwrap();
    std::fs::write(dir.path().join("locked"), "x").unwrap();
    std::fs::set_permissions(dir.path().join("locked"), PermissionsExt::from_mode(0o000)).unwrap();
    symlink("locked", dir.path().join("link")).unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let at = Mtime { secs: 12, nanos: 345 };
    for (name, mode) in [("locked", 0o640), ("link", 0o777), ("sub", 0o750)] {
        let before = fs.stat(&root, name.as_bytes()).unwrap().unwrap();
        fs.set_attrs(&root, name.as_bytes(), &before, Mode::new(mode), Some(at)).unwrap();
        let after = fs.stat(&root, name.as_bytes()).unwrap().unwrap();
        assert_eq!((after.mode, after.mtime), (Mode::new(mode), at), "{name}");
        if name != "sub" {
            let stale = fs.set_attrs(&root, name.as_bytes(), &before, Mode::new(0), None);
            assert_eq!(stale.map_err(|error| errno(&error)), Err(Errno::STALE), "{name}");
        }
    }
    assert_eq!(std::fs::metadata(dir.path().join("locked")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn renames_never_overwrite() {
    let (dir, fs) = rooted();
    let (root, hold) = (fs.open_dir(None).unwrap(), fs.private(Area::Hold).unwrap());
    std::fs::write(dir.path().join("a"), "a").unwrap();
    std::fs::write(dir.path().join("b"), "b").unwrap();
    let taken = fs.rename_noreplace((&root, b"a"), (&root, b"b"));
    assert_eq!(taken.map_err(|error| errno(&error)), Err(Errno::EXIST));
    fs.rename_exchange((&root, b"a"), (&root, b"b")).unwrap();
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"b");
    fs.rename_noreplace((&root, b"a"), (&hold, b"1")).unwrap();
    assert_eq!(fs.stat(&root, b"a").unwrap(), None);
    fs.unlink(&hold, b"1").unwrap();
    let full = fs.rmdir(&root, b".syncd");
    assert_eq!(full.map_err(|error| errno(&error)), Err(Errno::NOTEMPTY));
}

#[test]
fn a_writer_elsewhere_is_seen() {
    let (dir, fs) = rooted();
    let root = fs.open_dir(None).unwrap();
    std::fs::write(dir.path().join("a"), "a").unwrap();
    let file = fs.open(&root, b"a").unwrap();
    assert!(!fs.is_open_for_write(&file).unwrap());
    let writer = std::fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    assert!(fs.is_open_for_write(&file).unwrap());
    drop(writer);
    assert!(!fs.is_open_for_write(&file).unwrap());
}

#[test]
fn copies_keep_their_offsets() {
    let (dir, fs) = rooted();
    let (root, tmp) = (fs.open_dir(None).unwrap(), fs.private(Area::Tmp).unwrap());
    let bytes: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    std::fs::write(dir.path().join("a"), &bytes).unwrap();
    let (from, to) = (fs.open(&root, b"a").unwrap(), fs.create(&tmp, b"t").unwrap());
    assert_eq!(fs.copy_range(&from, &to, 100_000, 1_000_000).unwrap(), 200_000);
    let mut back = vec![0; 400_000];
    assert_eq!(fs.read_at(&to, &mut back, 0).unwrap(), 300_000);
    assert_eq!(back[100_000..300_000], bytes[100_000..]);
    assert!(back[..100_000].iter().all(|byte| *byte == 0));
}

#[test]
fn an_error_reads_with_its_errno() {
    let full = problem(&Errno::NOSPC.into(), "cannot write the file");
    assert_eq!(full.code, ProblemCode::NoSpace);
    assert_eq!(full.words, "cannot write the file: no space left on device (ENOSPC)");
}
