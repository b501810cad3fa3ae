//! The index of a device is lost or damaged: its files are not, and nothing of the others is.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tests::harness::{Device, Mount, World, assert_same, conflict_copies, noise, pair_of, settle};

pub fn index(device: &Device) -> PathBuf {
    let mut files = fs::read_dir(device.home().join("index")).expect("the index is a directory");
    files.next().expect("one folder has one index").expect("a listing goes on").path()
}

/// D-7 with an index that is damaged: unchanged files need no copy, whatever happened to it.
#[test]
fn d7_a_damaged_index_is_set_aside_and_rebuilt() {
    let world = World::new();
    let (a, mut b) = pair_of(&world);
    for at in 0..40 {
        a.put(format!("d/{at}"), noise(at, 9000));
    }
    settle(&[&a, &b]);
    let truncated = |file: &fs::File| {
        let len = file.metadata().expect("it is there").len();
        file.set_len(len / 2).expect("cut");
    };
    let overwritten = |file: &fs::File| {
        let len = file.metadata().expect("it is there").len();
        for at in 0..len / 4096 / 2 {
            file.write_all_at(&noise(at, 4096), at * 2 * 4096).expect("written");
        }
    };
    let emptied = |file: &fs::File| file.set_len(0).expect("cut");
    let damages = [&truncated as &dyn Fn(&fs::File), &overwritten, &emptied];
    for (story, damage) in ["truncated", "overwritten", "emptied"].into_iter().zip(damages) {
        b.stop();
        let file = OpenOptions::new().read(true).write(true).open(index(&b)).expect("the index");
        damage(&file);
        drop(file);
        b.start();
        crate::apart::meet(&a, &b);
        a.put("d/7", format!("after: {story}"));
        settle(&[&b, &a]);
        assert_same(&[&a, &b], 0);
        let status = b.json(&["status"]);
        assert_eq!(status["folders"][0]["local"]["files"], 40, "{story}");
        assert!(b.events("conflict").is_empty(), "{story}");
    }
    assert!(b.traffic().0 < 100_000, "equal files do not move: {:?}", b.traffic());
}

/// D-7 with both indexes gone.
#[test]
fn d7_when_both_indexes_are_lost_the_folders_are_united() {
    let world = World::new();
    let (mut a, mut b) = pair_of(&world);
    for at in 0..20 {
        a.put(format!("d/{at}"), noise(at, 5000));
    }
    settle(&[&a, &b]);
    a.stop();
    b.stop();
    for device in [&a, &b] {
        fs::remove_file(index(device)).expect("gone");
    }
    fs::remove_file(a.at("d/1")).expect("gone");
    b.put("d/2", "edited");
    a.start();
    b.start();
    crate::apart::meet(&a, &b);
    settle(&[&a, &b]);
    let copies = conflict_copies(&a.tree());
    assert_same(&[&a, &b], copies.len());
    assert!(copies.len() <= 1, "only what differs has a copy: {copies:?}");
    assert_eq!(a.get("d/1"), Some(noise(1, 5000)), "nothing is deleted");
}

/// D-11b: the disk that holds the index is full for a while. No file is touched wrongly and none is lost.
#[test]
fn a_full_disk_under_the_index_loses_nothing() {
    let test = "a_full_disk_under_the_index_loses_nothing";
    let world = World::new();
    let mut b = world.prepare("b", "lan = \"never\"\n");
    let Some(_disk) = Mount::tmpfs(&b.home().join("index"), 24) else {
        return tests::harness::skip(test, "mounting needs root");
    };
    tests::harness::set_mode(&b.home().join("index"), 0o700);
    let a = world.device("a");
    b.start();
    tests::harness::pair(&a, &b);
    tests::harness::share(&[&a, &b]);
    a.put("before", "1");
    settle(&[&a, &b]);
    let ballast = b.home().join("index/ballast");
    fill(&ballast);
    for at in 0..2000 {
        a.put(format!("d/{at}"), noise(at, 600));
    }
    b.put("of b", "while full");
    // Of so many changes not all are remembered as events.
    tests::harness::until("a has recorded all", || (a.folder()["local"]["files"] == 2001).then_some(()));
    fs::remove_file(&ballast).expect("gone");
    if tests::harness::within(std::time::Duration::from_millis(500), || (!b.is_running()).then_some(())).is_some() {
        assert_eq!(b.ended().code(), Some(75), "a daemon that cannot write its index asks to be started again");
        b.start();
    }
    // It may give up a moment later, once it touches the index again: the service manager would start it.
    tests::harness::until("in sync again", || {
        if !b.is_running() {
            assert_eq!(b.ended().code(), Some(75));
            b.start();
        }
        (b.ctl(&["wait", "--timeout", "5"]).code == 0).then_some(())
    });
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    b.stop();
}

/// Writes until the disk is full.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("a file");
    let block = vec![1; 64 * 1024];
    while file.write_all(&block).is_ok() {}
}
