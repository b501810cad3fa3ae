//! The simulated file system against what POSIX and journaling file systems promise, and what they do not.

use super::{Fault, Folding, Found, OpKind, SimFs, until_crash};
use crate::disk::fs::{Area, Errno, Fs, errno};
use crate::disk::testing::path;
use protocol::model::{Mode, Mtime};
use std::collections::BTreeMap;

fn volume() -> SimFs {
    let fs = SimFs::new();
    fs.prepare_private().unwrap();
    fs
}

fn shown(fs: &SimFs) -> BTreeMap<String, Vec<u8>> {
    fs.tree().into_iter().map(|(at, found)| (at.display(), found.bytes)).collect()
}

#[test]
fn nothing_unsynced_is_promised_and_everything_synced_is() {
    for keeps in [0, 1] {
        let fs = volume();
        fs.user_write(&path("synced"), b"old").unwrap();
        fs.user_sync();
        fs.user_write(&path("synced"), b"newer").unwrap();
        fs.user_write(&path("made"), b"bytes").unwrap();
        fs.power_cut(|_| keeps);
        let synced = if keeps == 0 { b"old".to_vec() } else { b"newer".to_vec() };
        let mut expected = BTreeMap::from([("synced".to_owned(), synced)]);
        if keeps == 1 {
            expected.insert("made".to_owned(), b"bytes".to_vec());
        }
        assert_eq!(shown(&fs), expected, "keeps {keeps}");
    }
}

#[test]
fn a_volume_that_folds_names_has_one_for_all_spellings() {
    for keeps in [0, 1] {
        let fs = volume();
        fs.set_folding(Folding { case: true, accents: true });
        fs.user_write(&path("D"), b"").unwrap();
        fs.user_delete(&path("d")).unwrap();
        fs.user_mkdir(&path("D")).unwrap();
        fs.user_write(&path("d/caf\u{e9}"), b"first").unwrap();
        fs.user_write(&path("D/CAFE\u{301}"), b"second").unwrap();
        assert_eq!(shown(&fs).into_keys().collect::<Vec<_>>(), ["D", "D/caf\u{e9}"]);
        fs.user_sync();
        assert!(fs.open_dir(Some(&path("d"))).is_err(), "a directory is opened as it is spelled");
        let dir = fs.open_dir(Some(&path("D"))).unwrap();
        let other = "CAF\u{c9}".as_bytes();
        assert_eq!(fs.stat(&dir, other).unwrap(), None);
        assert_eq!(fs.stat_folded(&dir, other).unwrap(), fs.stat(&dir, "caf\u{e9}".as_bytes()).unwrap());
        let taken = fs.mkdir(&dir, other, Mode::new(0o755)).map_err(|error| errno(&error));
        assert_eq!(taken, Err(Errno::EXIST));
        let taken = fs.rename_noreplace((&dir, "caf\u{e9}".as_bytes()), (&dir, other)).map_err(|error| errno(&error));
        assert_eq!(taken, Err(Errno::EXIST));
        fs.user_rename(&path("d/cafe\u{301}"), &path("d/CAF\u{c9}")).unwrap();
        fs.power_cut(|_| keeps);
        let name = if keeps == 0 { "D/caf\u{e9}" } else { "D/CAF\u{c9}" };
        assert_eq!(shown(&fs)[name], b"second");
        assert_eq!(shown(&fs).len(), 2);
    }
}

#[test]
fn a_file_may_come_back_torn_or_empty() {
    let outcomes: Vec<Vec<u8>> = (0..4)
        .map(|data| {
            let fs = volume();
            fs.user_write(&path("a"), b"abcd").unwrap();
            // The name (and its attributes) are kept, the data as the last choice says.
            fs.power_cut(|n| if n == 5 { data } else { 1 });
            fs.tree()[&path("a")].bytes.clone()
        })
        .collect();
    assert_eq!(outcomes, [b"".to_vec(), b"abcd".to_vec(), b"ab".to_vec(), vec![0; 4]]);
}

#[test]
fn a_lost_rename_loses_what_builds_upon_it() {
    let fs = volume();
    fs.user_write(&path("a"), b"x").unwrap();
    fs.user_sync();
    fs.user_rename(&path("a"), &path("b")).unwrap();
    fs.user_rename(&path("b"), &path("c")).unwrap();
    let mut choices = [0, 1].into_iter();
    fs.power_cut(|_| choices.next().unwrap_or(0));
    assert_eq!(shown(&fs).into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_synced_directory_keeps_both_ends_of_a_rename() {
    let fs = volume();
    fs.user_mkdir(&path("d")).unwrap();
    fs.user_write(&path("a"), b"x").unwrap();
    fs.user_sync();
    fs.user_rename(&path("a"), &path("d/a")).unwrap();
    fs.sync_dir(&fs.open_dir(Some(&path("d"))).unwrap()).unwrap();
    fs.power_cut(|_| 0);
    assert_eq!(shown(&fs).into_keys().collect::<Vec<_>>(), ["d", "d/a"]);
}

#[test]
fn an_exchange_is_atomic() {
    for keeps in [0, 1] {
        let fs = volume();
        fs.user_write(&path("a"), b"1").unwrap();
        fs.user_write(&path("b"), b"2").unwrap();
        fs.user_sync();
        let root = fs.open_dir(None).unwrap();
        fs.rename_exchange((&root, b"a"), (&root, b"b")).unwrap();
        fs.power_cut(|_| keeps);
        let bytes: Vec<Vec<u8>> = shown(&fs).into_values().collect();
        assert_eq!(bytes, if keeps == 0 { [b"1".to_vec(), b"2".to_vec()] } else { [b"2".to_vec(), b"1".to_vec()] });
    }
}

#[test]
fn handles_follow_the_inode_and_die_with_the_process() {
    let fs = volume();
    fs.user_write(&path("a"), b"1").unwrap();
    let root = fs.open_dir(None).unwrap();
    let (file, user) = (fs.open(&root, b"a").unwrap(), fs.user_open(&path("a")).unwrap());
    assert!(fs.is_open_for_write(&file).unwrap());
    fs.user_rename(&path("a"), &path("b")).unwrap();
    user.append(b"2");
    assert_eq!(shown(&fs), BTreeMap::from([("b".to_owned(), b"12".to_vec())]));
    fs.kill();
    assert_eq!(fs.list(&root).map_err(|error| errno(&error)), Err(Errno::BADF));
    assert_eq!(fs.stat_file(&file).map_err(|error| errno(&error)), Err(Errno::BADF));
    user.append(b"3");
    assert_eq!(shown(&fs)["b"], b"123", "the user's program lives on");
    fs.user_sync();
    fs.power_cut(|_| 0);
    user.append(b"4");
    assert_eq!(shown(&fs)["b"], b"123");
}

#[test]
fn the_clock_moves_with_changes_and_ticks() {
    let fs = volume();
    fs.set_tick(1_000_000_000);
    fs.user_write(&path("a"), b"1").unwrap();
    let root = fs.open_dir(None).unwrap();
    let before = fs.stat(&root, b"a").unwrap().unwrap();
    fs.user_write(&path("a"), b"2").unwrap();
    assert_eq!(fs.stat(&root, b"a").unwrap().unwrap(), before, "within one tick nothing tells");
    fs.advance(std::time::Duration::from_secs(1));
    fs.user_touch(&path("a"), before.mtime).unwrap();
    let after = fs.stat(&root, b"a").unwrap().unwrap();
    assert!(after.mtime == before.mtime && after.ctime > before.ctime);
}

#[test]
fn permissions_and_space_run_out() {
    let fs = volume();
    let hold = fs.private(Area::Hold).unwrap();
    fs.user_mkdir(&path("d")).unwrap();
    fs.user_chmod(&path("d"), Mode::new(0o555)).unwrap();
    let dir = fs.open_dir(Some(&path("d"))).unwrap();
    assert_eq!(fs.mkdir(&dir, b"x", Mode::new(0o755)).map_err(|error| errno(&error)), Err(Errno::ACCESS));
    fs.set_capacity(Some(4));
    let file = fs.create(&hold, b"f").unwrap();
    fs.write_at(&file, b"1234", 0).unwrap();
    assert_eq!(fs.write_at(&file, b"5", 4).map_err(|error| errno(&error)), Err(Errno::NOSPC));
    assert_eq!(fs.space().unwrap().free, 0);
    fs.unlink(&hold, b"f").unwrap();
    assert_eq!(fs.space().unwrap().free, 4);
}

#[test]
fn the_hook_counts_fails_and_ends_the_process() {
    let fs = volume();
    fs.set_hook(Some(Box::new(|op| match op.number {
        1 => Fault::None,
        2 => Fault::Errno(Errno::IO),
        _ => Fault::Crash,
    })));
    let mut reached = 0;
    let ended = until_crash(|| {
        let root = fs.open_dir(None).unwrap();
        reached = 1;
        assert_eq!(fs.list(&root).map_err(|error| errno(&error)), Err(Errno::IO));
        reached = 2;
        fs.stat(&root, b"a").map(|_| ())
    });
    assert!(ended.is_none() && reached == 2);
    fs.kill();
    assert!(fs.open_dir(None).is_ok(), "the next process runs without the hook");
}

#[test]
fn a_fork_goes_its_own_way() {
    let fs = volume();
    fs.user_write(&path("a"), b"1").unwrap();
    let fork = fs.fork();
    fork.user_delete(&path("a")).unwrap();
    let found = &fs.tree()[&path("a")];
    assert_eq!((found.bytes.as_slice(), found.mode), (b"1".as_slice(), Mode::new(0o644)));
    assert_ne!(*found, Found { mtime: Mtime::default(), ..found.clone() });
    assert!(fork.tree().is_empty());
    fs.set_hook(Some(Box::new(|op| if op.kind == OpKind::List { Fault::Errno(Errno::IO) } else { Fault::None })));
    assert!(fork.list(&fork.open_dir(None).unwrap()).is_ok());
}
