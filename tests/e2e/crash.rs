//! `kill -9` at any moment: afterwards both sides are equal, with no conflict copy and no temporary file.

use std::fs;
use std::path::Path;
use tests::harness::{Device, World, assert_same, noise, pair, set_mode, settle, share, tree, until};

fn files(root: &Path) -> usize {
    tree(root).len()
}

fn assert_no_temps(device: &Device) {
    let temps: Vec<_> = fs::read_dir(device.at(".syncd/tmp")).into_iter().flatten().flatten().collect();
    assert!(temps.is_empty(), "{}: {temps:?}", device.name());
}

#[test]
fn a_receiver_killed_again_and_again_ends_up_equal() {
    const FILES: usize = 2000;
    let world = World::new();
    let (a, mut b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    for at in 0..FILES {
        let len = if at % 100 == 0 { 300_000 } else { at % 900 };
        a.put(format!("{}/{}/{at}", at % 9, at % 13), noise(at as u64, len));
        set_mode(&a.at(format!("{}/{}/{at}", at % 9, at % 13)), if at % 3 == 0 { 0o755 } else { 0o640 });
    }
    share(&[&a, &b]);
    for round in 1..=5 {
        let enough = FILES * round / 7;
        until("the sync gets on", || (files(b.files()) >= enough).then_some(()));
        b.kill();
        b.start();
    }
    crate::apart::meet(&a, &b);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert_no_temps(&b);
    assert!(a.events("remote_change").is_empty(), "a crash there changes nothing here");
}

#[test]
fn a_sender_killed_again_and_again_loses_nothing() {
    const FILES: usize = 600;
    let world = World::new();
    let (mut a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    for at in 0..FILES {
        a.put(format!("{}/{at}", at % 9), noise(at as u64, at * 17 % 5000));
    }
    share(&[&a, &b]);
    for round in 1..=3 {
        until("the sync gets on", || (files(b.files()) >= FILES * round / 5).then_some(()));
        a.kill();
        a.put(format!("written while down {round}"), "x");
        a.start();
    }
    crate::apart::meet(&b, &a);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_no_temps(&b);
}

#[test]
fn edits_and_deletions_survive_a_kill_on_either_side() {
    let world = World::new();
    let (mut a, mut b) = tests::harness::pair_of(&world);
    for at in 0..300 {
        a.put(format!("d/{at}"), noise(at, 2000));
    }
    settle(&[&a, &b]);
    for round in 0..3 {
        for at in 0..100 {
            a.put(format!("d/{}", at * 3), noise(1000 * (round + 1) + at, 2100));
        }
        fs::remove_file(a.at(format!("d/{}", 1 + round * 3))).expect("gone");
        fs::rename(a.at(format!("d/{}", 2 + round * 3)), a.at(format!("moved {round}"))).expect("a rename");
        until("the first edits arrive", || (b.get("d/0") == a.get("d/0")).then_some(()));
        if round % 2 == 0 {
            b.kill()
        } else {
            a.kill()
        }
        if round % 2 == 0 {
            b.start()
        } else {
            a.start()
        }
        crate::apart::meet(&a, &b);
    }
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_no_temps(&b);
    assert_no_temps(&a);
}

/// What was interrupted is not sent again from the start.
#[test]
fn an_interrupted_large_file_resumes() {
    const LEN: usize = 24 << 20;
    let world = World::new();
    let (a, mut b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    a.put("large", noise(1, LEN));
    share(&[&a, &b]);
    let staged = |device: &Device| {
        let temps = fs::read_dir(device.at(".syncd/tmp")).into_iter().flatten().flatten();
        temps
            .filter_map(|temp| std::os::unix::fs::MetadataExt::blocks(&temp.metadata().ok()?).checked_mul(512))
            .sum::<u64>()
    };
    until("half of it is there", || (staged(&b) > LEN as u64 / 2 || b.at("large").exists()).then_some(()));
    b.kill();
    let had = staged(&b);
    b.start();
    crate::apart::meet(&a, &b);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    let received = b.traffic().0;
    let most = LEN as u64 - had + (4 << 20);
    assert!(received <= most, "{had} bytes were there and {received} came again");
    assert_no_temps(&b);
}
