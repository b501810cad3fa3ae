//! Folders are added, offered, joined, previewed, paused and removed; places that cannot be a folder are refused.

use std::time::Duration;
use tests::harness::{FOLDER, World, assert_same, join, pair, pair_of, settle, share, until, within};

#[test]
fn an_added_folder_is_offered_and_joined() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    a.put("docs/a.txt", "hello");
    let added = a.json(&["folder", "add", a.root(), "--name", FOLDER]);
    assert_eq!(
        (&added["name"], &added["path"], &added["mode"]),
        (&FOLDER.into(), &a.root().into(), &"send-receive".into())
    );
    let offer = until("the folder is offered", || b.json(&["folder", "offers"])["offers"].get(0).cloned());
    assert_eq!(
        (&offer["name"], &offer["id"], &offer["devices"][0]["name"]),
        (&FOLDER.into(), &added["id"], &"a".into())
    );
    let joined = b.json(&["folder", "join", FOLDER, b.root()]);
    assert_eq!(joined["id"], added["id"]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    let status = b.json(&["status"]);
    assert_eq!((&status["offers"], &status["folders"][0]["state"]), (&0.into(), &"idle".into()));
    assert_eq!(status["folders"][0]["local"]["files"], 1);
    assert_eq!(status["folders"][0]["devices"][0]["in_sync"], true);
    assert_eq!(status["devices"][0]["in_sync"], true);
}

#[test]
fn a_preview_says_what_joining_would_do_and_does_nothing() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    for device in [&a, &b] {
        device.put("same", "equal on both");
    }
    a.put("new/one", "1");
    a.put("new/two", "22");
    a.put("differs", "of a");
    b.put("differs", "of b");
    b.put("mine", "only here");
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    let before = b.tree();
    let preview = until("the preview is complete", || {
        let run = b.ctl(&["--json", "folder", "join", FOLDER, b.root(), "--preview"]);
        let preview: serde_json::Value = serde_json::from_str(&run.out).ok()?;
        (preview["complete"] == true).then_some(preview)
    });
    let files = ["added", "conflicts", "sent", "same"].map(|what| preview[what]["files"].as_u64().unwrap_or(99));
    assert_eq!(files, [2, 1, 1, 1], "{preview}");
    assert_eq!(preview["paths"][0]["what"], "conflict", "the riskiest first: {preview}");
    assert!(before == b.tree() && b.json(&["folder", "list"])["folders"][0].is_null(), "a preview does nothing");
    join(&b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 1);
}

#[test]
fn two_populated_folders_become_their_union() {
    let world = World::new();
    let (a, b) = (world.device("a"), world.device("b"));
    pair(&a, &b);
    for device in [&a, &b] {
        device.put("equal", vec![7; 300_000]);
        device.put("deep/er/equal", "too");
        device.put(format!("only on {}", device.name()), device.name());
    }
    share(&[&a, &b]);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert!(a.get("only on b").is_some() && b.get("only on a").is_some());
    assert!(b.traffic().0 < 100_000, "equal contents are not transferred: {:?}", b.traffic());
    assert!(b.events("conflict").is_empty());
}

#[test]
fn places_that_cannot_be_a_folder_are_refused() {
    let world = World::new();
    let a = world.device("a");
    a.put("sub/file", "x");
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    let text = |path: &std::path::Path| path.to_str().expect("scratch paths are text").to_owned();
    let other = world.path().join("other");
    std::fs::create_dir(&other).expect("a directory");
    let link = world.path().join("link");
    std::os::unix::fs::symlink(a.at("sub"), &link).expect("a link");
    let rows = [
        (text(&a.at("sub")), "inside folder main"),
        (text(&link), "inside folder main"),
        (text(world.path()), "around folder main"),
        (text(a.files()), "is folder main"),
        (text(&a.at("missing")), "make the directory first"),
        (text(&a.at("sub/file")), "not a directory"),
        (text(a.home()), "home"),
        (text(&a.home().join("keys")), "home"),
    ];
    for (path, words) in rows {
        let said = a.fails(1, &["folder", "add", &path, "--name", "second"]);
        assert!(said.starts_with("error: ") && said.contains(words), "{path}: {said}");
    }
    let said = a.fails(1, &["folder", "add", &text(&other), "--name", FOLDER]);
    assert!(said.contains("already a folder called main"), "{said}");
    assert_eq!(a.json(&["folder", "list"])["folders"].as_array().map(Vec::len), Some(1));
    assert!(!a.home().join(".syncd").exists() && !other.join(".syncd").exists(), "a refusal leaves nothing behind");
}

#[test]
fn unknown_folders_and_settings_are_refused_in_words() {
    let world = World::new();
    let a = world.device("a");
    a.ok(&["folder", "add", a.root(), "--name", FOLDER]);
    let rows: [&[&str]; 6] = [
        &["folder", "pause", "nope"],
        &["folder", "join", "nope", "/tmp"],
        &["folder", "set", "nope", "watch", "true"],
        &["folder", "remove", "nope"],
        &["wait", "nope", "--timeout", "1"],
        &["log", "--folder", "nope"],
    ];
    for args in rows {
        let said = a.fails(1, args);
        assert!(said.contains("nope") && said.contains("hint: "), "{args:?}: {said}");
    }
    let said = a.fails(1, &["folder", "set", FOLDER, "colour", "blue"]);
    assert!(said.contains("colour"), "{said}");
    let said = a.fails(1, &["folder", "set", FOLDER, "scan_interval_s", "1"]);
    assert!(said.contains("from 10 to"), "{said}");
    let said = a.fails(1, &["folder", "add", a.root(), "--name", "x", "--with", "nobody"]);
    assert!(said.contains("nobody") || said.contains("is folder main"), "{said}");
}

#[test]
fn a_setting_holds_without_a_new_start_where_it_can() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.ok(&["folder", "set", FOLDER, "watch", "false"]);
    crate::apart::meet(&a, &b);
    settle(&[&a, &b]);
    a.put("unseen", "1");
    for (key, value) in
        [("versions_days", "9"), ("versions_max", "1GB"), ("mass_delete_guard", "off"), ("mass_delete_guard", "on")]
    {
        a.ok(&["folder", "set", FOLDER, key, value]);
    }
    a.ok(&["config", "set", "versions_days", "8"]);
    // A start would look at everything, and without events nothing else does.
    assert!(within(Duration::from_secs(1), || b.get("unseen")).is_none(), "the folder was started anew");
    a.ok(&["folder", "set", FOLDER, "scan_interval_s", "10"]);
    until("the scan that is due sooner now", || b.get("unseen"));
}

#[test]
fn a_paused_folder_rests_and_catches_up_when_resumed() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    b.ok(&["folder", "pause", FOLDER]);
    assert_eq!(b.folder()["state"], "paused");
    a.put("while paused", "1");
    b.put("here too", "2");
    crate::apart::noticed(&a, "while paused", 1);
    let waited = a.ctl(&["--json", "wait", "--timeout", "1"]);
    assert_eq!(waited.code, 1, "{waited:?}");
    assert!(b.get("while paused").is_none() && a.get("here too").is_none());
    b.ok(&["folder", "resume", FOLDER]);
    settle(&[&b, &a]);
    assert_same(&[&a, &b], 0);
    assert!(a.get("here too").is_some());
}

#[test]
fn a_removed_folder_keeps_its_files_and_can_be_joined_again() {
    let world = World::new();
    let (a, b) = pair_of(&world);
    a.put("d/f", "1");
    settle(&[&a, &b]);
    b.ok(&["folder", "remove", FOLDER]);
    assert_eq!(b.get("d/f").as_deref(), Some(&b"1"[..]));
    assert_eq!(b.json(&["folder", "list"])["folders"].as_array().map(Vec::len), Some(0));
    a.put("d/f", "2");
    a.put("later", "3");
    std::fs::remove_file(b.at("d/f")).expect("an unsynced file can go");
    crate::apart::noticed(&a, "later", 1);
    assert!(b.get("later").is_none());
    join(&b);
    settle(&[&a, &b]);
    assert_same(&[&a, &b], 0);
    assert_eq!(b.get("d/f").as_deref(), Some(&b"2"[..]), "what is missing at first contact was never deleted");
}
