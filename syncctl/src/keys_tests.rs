//! Keys go in and out of homes, and none is lost on the way.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home { root: dir.path().join("home"), chosen: true };
    (dir, home)
}

fn file(name: &str, text: &str) -> KeyFile {
    KeyFile::new(name, Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn text(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_put_into_a_new_home_and_read_again() {
    let (_dir, home) = home();
    assert!(read(&home).is_err_and(|failure| failure.error.contains("no identity yet")));
    let files = vec![file("identity", "one"), file("pairings", ""), file("realm", "r")];
    let locked = lock(&home).unwrap();
    assert!(!locked.has_keys().unwrap());
    assert_eq!(locked.put(&files).unwrap(), None);
    assert!(locked.has_keys().unwrap());
    assert_eq!((mode(&home.keys()), mode(&home.keys().join("identity"))), (0o700, 0o600));
    std::fs::write(home.keys().join(".pairings.7.tmp"), "half").unwrap();
    assert!(read(&home).unwrap() == files, "what is just being replaced is left out");
    assert!(!home.root.join("keys.replaced-1").exists());
}

#[test]
fn replaced_keys_are_set_aside_every_time() {
    let (_dir, home) = home();
    let locked = lock(&home).unwrap();
    locked.put(&[file("identity", "one"), file("relay", "of a relay")]).unwrap();
    for (number, old) in [(1, "one"), (2, "two")] {
        let new = if number == 1 { "two" } else { "three" };
        let aside = home.root.join(format!("keys.replaced-{number}"));
        assert_eq!(locked.put(&[file("identity", new)]).unwrap(), Some(aside.clone()));
        assert_eq!((text(home.keys().join("identity")), text(aside.join("identity"))), (new.into(), old.into()));
    }
    assert_eq!(text(home.root.join("keys.replaced-1/relay")), "of a relay");
    assert!(!home.keys().join("relay").exists());
}

#[test]
fn an_empty_directory_is_no_set_of_keys() {
    let (_dir, home) = home();
    let locked = lock(&home).unwrap();
    std::fs::create_dir(home.keys()).unwrap();
    assert!(!locked.has_keys().unwrap());
    assert_eq!(locked.put(&[file("identity", "one")]).unwrap(), None);
    assert_eq!((text(home.keys().join("identity")), mode(&home.keys())), ("one".into(), 0o700));
}

#[test]
fn a_home_in_use_is_refused() {
    let (_dir, home) = home();
    let first = lock(&home).unwrap();
    let refused = lock(&home).unwrap_err();
    assert!(refused.error.contains("syncd runs") && refused.hint.unwrap().contains("syncctl stop"));
    drop(first);
    lock(&home).unwrap();
    std::fs::set_permissions(home.run(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(lock(&home).unwrap_err().error.contains("open to other users"));
}

#[test]
fn keys_that_are_open_or_no_keys_are_not_backed_up() {
    let (_dir, home) = home();
    lock(&home).unwrap().put(&[file("identity", "one")]).unwrap();
    let identity = home.keys().join("identity");
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(read(&home).is_err_and(|failure| failure.error.contains("open to other users (mode 640)")));
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir(home.keys().join("more")).unwrap();
    assert!(read(&home).is_err_and(|failure| failure.error.contains("no file of syncd")));
    std::fs::remove_dir(home.keys().join("more")).unwrap();
    assert!(read(&home).is_ok());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&identity, Some(65534), None).unwrap();
        assert!(read(&home).is_err_and(|failure| failure.error.contains("belongs to another user")));
    }
}

#[test]
fn a_backup_is_written_whole_and_over_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    write_beside(&path, b"first").unwrap();
    assert_eq!((text(path.clone()), mode(&path)), ("first".into(), 0o600));
    let refused = write_beside(&path, b"second").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    assert_eq!(write_beside(&link, b"second").unwrap_err().kind(), ErrorKind::AlreadyExists, "nor through a link");
    assert_eq!(text(path), "first");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
    assert!(write_beside(&dir.path().join("no/backup"), b"x").is_err());
}
