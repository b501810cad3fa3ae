//! The main job: what changes on one device is soon on the other, and no more bytes move than must.

use std::fs;
use std::os::unix::fs::symlink;
use tests::harness::{
    FOLDER, Kind, World, assert_same, join, mesh, noise, pair, pair_of, settle, share, shown, until, within,
};

#[test]
fn changes_go_both_ways() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("from a/x", "1");
    b.put("from b/y", "2");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    a.put("from b/y", "changed on a");
    b.put("from a/x", noise(1, 400_000));
    fs::create_dir(a.at("empty")).expect("a directory");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    fs::remove_file(b.at("from b/y")).expect("a file to delete");
    fs::remove_dir(a.at("empty")).expect("a directory to delete");
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert!(a.get("from b/y").is_none() && !b.at("empty").exists());
}

#[test]
fn an_edit_arrives_without_being_asked_for() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let text = format!("hello from {}", from.name());
        from.put("note", &text);
        until("the edit arrives", || (to.get("note").as_deref() == Some(text.as_bytes())).then_some(()));
    }
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}

#[test]
fn a_thousand_files_in_nested_directories_arrive() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    for at in 0..1000_u64 {
        let len = usize::try_from(at * 7 % 3000).expect("small");
        a.put(format!("{}/{}/{at}", at % 7, at % 31), noise(at, len));
    }
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.folder()["local"]["files"], 1000);
}

#[test]
fn directories_made_at_once_lose_nothing() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    for at in 0..100 {
        a.put(format!("{at}/a/b/c/f"), at.to_string());
    }
    // Without a barrier, so without the scan that a barrier may end in.
    until("all files arrive", || (0..100).all(|at| b.at(format!("{at}/a/b/c/f")).exists()).then_some(()));
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}

#[test]
fn a_renamed_directory_moves_no_content() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    for at in 0..20 {
        a.put(format!("old/sub/{at}"), noise(at, 100_000));
    }
    a.put("stays", "here");
    settle(&[&a, &b]);
    let before = b.traffic();
    fs::rename(a.at("old"), a.at("new")).expect("a rename");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let moved = b.traffic().0 - before.0;
    assert!(moved < 100_000, "2 MB were renamed and {moved} bytes moved");
    assert!(!b.at("old").exists() && b.at("new/sub/19").exists());
}

#[test]
fn an_insertion_at_the_front_of_a_large_file_moves_little() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let content = noise(5, 8 << 20);
    a.put("large", &content);
    settle(&[&a, &b]);
    assert!(b.traffic().0 > 8 << 20, "noise cannot be compressed");
    let before = b.traffic().0;
    a.put("large", [noise(6, 1024), content].concat());
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let moved = b.traffic().0 - before;
    assert!(moved < 1 << 20, "1 KiB was inserted and {moved} bytes moved");
}

#[test]
fn a_copy_of_a_known_file_moves_no_content() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("original", noise(9, 2 << 20));
    settle(&[&a, &b]);
    let before = b.traffic().0;
    fs::copy(a.at("original"), a.at("copy")).expect("a copy");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let moved = b.traffic().0 - before;
    assert!(moved < 200_000, "2 MiB were copied and {moved} bytes moved");
}

#[test]
fn anything_may_become_anything_else() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("untouched", "x");
    a.put("p", "a file");
    let steps: [(&str, &dyn Fn()); 7] = [
        ("file to directory", &|| {
            fs::remove_file(a.at("p")).expect("gone");
            for name in ["1", "2", "3"] {
                a.put(format!("p/{name}"), name);
            }
        }),
        ("directory to file", &|| {
            fs::remove_dir_all(a.at("p")).expect("gone");
            a.put("p", "a file again");
        }),
        ("file to link", &|| {
            fs::remove_file(a.at("p")).expect("gone");
            symlink("untouched", a.at("p")).expect("a link");
        }),
        ("link to directory", &|| {
            fs::remove_file(a.at("p")).expect("gone");
            fs::create_dir(a.at("p")).expect("a directory");
        }),
        ("empty directory to link", &|| {
            fs::remove_dir(a.at("p")).expect("gone");
            symlink("/nowhere/at/all", a.at("p")).expect("a link");
        }),
        ("link to another link", &|| {
            fs::remove_file(a.at("p")).expect("gone");
            symlink("untouched", a.at("p")).expect("a link");
        }),
        ("link to file", &|| {
            fs::remove_file(a.at("p")).expect("gone");
            a.put("p", "the end");
        }),
    ];
    settle(&[&a, &b]);
    for (story, step) in steps {
        step();
        settle(&[&a, &b]);
        let found = tests::harness::differences(&a.tree(), &b.tree());
        assert!(found.is_empty(), "{story}: {found:?}");
        assert_eq!(b.get("untouched").as_deref(), Some(&b"x"[..]), "{story}: nothing behind a link is touched");
    }
    assert_same(&[&a, &b], 0);
}

#[test]
fn a_third_device_gets_everything_from_whoever_has_it() {
    let world = World::new();
    let (mut a, b, c) = (world.device("a"), world.device("b"), world.device("c"));
    mesh(&[&a, &b, &c]);
    a.put("d/large", noise(3, 3 << 20));
    a.put("small", "1");
    share(&[&a, &b]);
    settle(&[&a, &b]);
    a.stop();
    join(&c);
    settle(&[&c, &b]);
    assert_same(&[&b, &c], 0);
    c.put("small", "changed on c");
    settle(&[&c, &b]);
    a.start();
    for peer in [&b, &c] {
        crate::apart::meet(&a, peer);
    }
    settle(&[&a, &b, &c]);
    assert_same(&[&a, &b, &c], 0);
}

#[test]
fn after_a_restart_of_both_everything_is_as_it_was_and_nothing_is_published() {
    let world = World::new();
    let (mut a, mut b) = pair_of(&world);
    for at in 0..50 {
        a.put(format!("d/{at}"), noise(at, 2000));
    }
    symlink("d/1", a.at("link")).expect("a link");
    settle(&[&a, &b]);
    let ids = [&a, &b].map(|device| device.json(&["id"]));
    a.stop();
    b.stop();
    let before = a.tree();
    b.start();
    a.start();
    crate::apart::meet(&a, &b);
    settle(&[&a, &b]);
    for device in [&a, &b] {
        for kind in ["local_change", "remote_change", "conflict", "problem"] {
            assert!(device.events(kind).is_empty(), "{}: {:?}", device.name(), device.events(kind));
        }
    }
    assert!(b.traffic().0 < 10_000, "{:?}", b.traffic());
    assert_eq!(ids, [&a, &b].map(|device| device.json(&["id"])));
    assert_eq!(before, a.tree());
    assert_same(&[&a, &b], 0);
}

#[test]
fn what_changed_while_the_daemon_was_down_is_found() {
    let world = World::new();
    let (mut a, b) = pair_of(&world);
    for name in ["changed", "deleted", "renamed", "kept"] {
        a.put(name, name);
    }
    settle(&[&a, &b]);
    a.stop();
    a.put("changed", "while down");
    a.put("new/file", "while down too");
    fs::remove_file(a.at("deleted")).expect("gone");
    fs::rename(a.at("renamed"), a.at("new/name")).expect("a rename");
    a.start();
    crate::apart::meet(&a, &b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(b.get("deleted").is_none() && b.get("renamed").is_none() && b.get("new/name").is_some());
}

#[test]
fn a_same_size_edit_with_its_old_time_is_noticed() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("f", "one two");
    tests::harness::set_mtime(&a.at("f"), 1_700_000_000, 5);
    settle(&[&a, &b]);
    a.put("f", "TWO one");
    tests::harness::set_mtime(&a.at("f"), 1_700_000_000, 5);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.get("f").as_deref(), Some(&b"TWO one"[..]));
}

#[test]
fn without_events_a_rescan_finds_everything() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.ok(&["folder", "set", FOLDER, "watch", "false"]);
    crate::apart::meet(&a, &b);
    a.put("unseen", "1");
    a.ok(&["folder", "rescan", FOLDER]);
    until("the file arrives", || b.get("unseen"));
    fs::remove_file(a.at("unseen")).expect("gone");
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(b.get("unseen").is_none());
}

#[test]
fn a_file_that_never_rests_holds_up_nobody_else() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0_u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                a.put("busy", at.to_string().repeat(1000));
            }
        });
        let quiet = within(tests::harness::PATIENCE, || {
            a.put("quiet", "1");
            b.get("quiet")
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(quiet.is_some(), "a quiet file waits for a busy one");
    });
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
}

#[test]
fn a_file_is_whole_or_absent_at_any_time() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    let sizes = [300_000_usize, 1, 2_000_000];
    let known: Vec<Kind> = sizes.iter().map(|size| Kind::File(*size as u64, blake3::hash(&vec![1; *size]))).collect();
    let save = |size: usize| {
        a.put(".new", vec![1; size]);
        fs::rename(a.at(".new"), a.at("f")).expect("a rename");
    };
    save(sizes[0]);
    settle(&[&a, &b]);
    for round in 0..6 {
        let size = sizes[(round + 1) % sizes.len()];
        save(size);
        until("the new content arrives", || {
            let bytes = b.get("f").expect("the file is never absent");
            let seen = Kind::File(bytes.len() as u64, blake3::hash(&bytes));
            assert!(known.contains(&seen), "{} bytes that nobody wrote", bytes.len());
            (bytes.len() == size).then_some(())
        });
    }
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let names: Vec<String> = b.tree().keys().map(|path| shown(path)).collect();
    assert_eq!(names, ["f"]);
}
