//! The decision table, row by row: our entry against theirs, and what this device does.

use protocol::model::Chunking;
use protocol::model::{Content, ContentHash, Entry, Event, FileContent, Mode, Mtime, ReplicaId, Version};
use protocol::sync::observe::{Seen, observe};
use protocol::sync::reconcile::{Decision, Rules, bumped, reconcile};

const A: ReplicaId = ReplicaId([0xa; 8]);
const B: ReplicaId = ReplicaId([0xb; 8]);
const C: ReplicaId = ReplicaId([0xc; 8]);

fn version(events: &[(ReplicaId, u64)]) -> Version {
    events.iter().map(|(replica, counter)| Event { replica: *replica, counter: *counter }).collect()
}

fn file(text: &str) -> Content {
    let hash = ContentHash::of(text.as_bytes());
    Content::File(FileContent { size: text.len() as u64, hash, chunking: Chunking::Whole, chunks: Vec::new() })
}

/// An entry whose content and mode were written by the last of its events.
fn entry(content: Content, events: &[(ReplicaId, u64)]) -> Entry {
    let last = version(&events[events.len() - 1..]);
    Entry {
        version: version(events),
        content,
        content_at: last.clone(),
        mode: Mode::new(0o644),
        mode_at: last,
        mtime: Mtime::from_secs(100),
        ancestors: Vec::new(),
        found: false,
    }
}

fn later(mut entry: Entry) -> Entry {
    entry.mtime = Mtime::from_secs(200);
    entry
}

fn mode(mut entry: Entry, bits: u32, at: &[(ReplicaId, u64)]) -> Entry {
    (entry.mode, entry.mode_at) = (Mode::new(bits), version(at));
    entry
}

fn content_at(mut entry: Entry, at: &[(ReplicaId, u64)]) -> Entry {
    entry.content_at = version(at);
    entry
}

/// What the decision is, in one word and the content and mode it leads to.
fn word(decision: &Decision) -> String {
    let of = |entry: &Entry| match &entry.content {
        Content::Tombstone => "tombstone".to_string(),
        Content::Directory => "directory".to_string(),
        Content::Symlink(_) => "link".to_string(),
        Content::File(file) => format!("file {} {:o}", &file.hash.to_hex()[..4], entry.mode.bits()),
    };
    match decision {
        Decision::Nothing => "nothing".to_string(),
        Decision::Take => "take".to_string(),
        Decision::Adopt(entry) => format!("adopt {}", of(entry)),
        Decision::Write { merged, set_aside } => {
            format!("write {}{}", of(merged), if *set_aside { ", ours aside" } else { "" })
        }
    }
}

fn check(name: &str, ours: Option<Entry>, theirs: &Entry, expected: &str) {
    let decision = reconcile(ours.as_ref(), theirs, &Rules::default());
    assert_eq!(word(&decision), expected, "{name}");
}

fn hex4(text: &str) -> String {
    ContentHash::of(text.as_bytes()).to_hex()[..4].to_string()
}

#[test]
fn ordered_versions() {
    let old = entry(file("x"), &[(A, 1)]);
    let new = entry(file("y"), &[(A, 1), (B, 1)]);
    check("nothing here", None, &old, "take");
    check("before", Some(old.clone()), &new, "take");
    check("after", Some(new.clone()), &old, "nothing");
    check("equal", Some(old.clone()), &old, "nothing");
    check("a deletion of what we have", Some(old), &entry(Content::Tombstone, &[(A, 1), (B, 1)]), "take");
}

#[test]
fn concurrent_contents() {
    let a = entry(file("a"), &[(A, 2)]);
    let b = later(entry(file("b"), &[(B, 2)]));
    let b4 = hex4("b");
    check("ours is older by mtime: it is set aside", Some(a.clone()), &b, &format!("write file {b4} 644, ours aside"));
    check("theirs lost: they write", Some(b.clone()), &a, "nothing");
    check(
        "equal contents and fields meet",
        Some(entry(file("a"), &[(B, 1)])),
        &a,
        &format!("adopt file {} 644", hex4("a")),
    );
    let gone = entry(Content::Tombstone, &[(C, 1)]);
    check("an edit wins over a deletion", Some(gone.clone()), &a, &format!("write file {} 644", hex4("a")));
    check("and the deleter learns it", Some(a.clone()), &gone, "nothing");
    let directory = entry(Content::Directory, &[(C, 1)]);
    check("a directory wins over a file", Some(a), &directory, "write directory, ours aside");
}

#[test]
fn a_content_that_the_other_side_has_replaced_loses_silently() {
    // B saw A's write and replaced it; A meanwhile only touched its file.
    let touched = content_at(entry(file("a"), &[(A, 1), (A, 2)]), &[(A, 1)]);
    let edited = entry(file("b"), &[(A, 1), (B, 1)]);
    check("touch against edit", Some(touched.clone()), &edited, &format!("write file {} 644", hex4("b")));
    check("edit against touch", Some(edited.clone()), &touched, "nothing");
    let deleted = entry(Content::Tombstone, &[(A, 1), (B, 1)]);
    check("touch against a deletion that saw the write", Some(touched), &deleted, "write tombstone");
}

#[test]
fn modes_merge_apart_from_contents() {
    // A changed the mode, B the content, both of one version.
    let base = [(C, 1)];
    let a = mode(content_at(entry(file("x"), &[(C, 1), (A, 1)]), &base), 0o600, &[(A, 1)]);
    let b = mode(entry(file("y"), &[(C, 1), (B, 1)]), 0o644, &base);
    let merged = format!("write file {} 600", hex4("y"));
    check("chmod against edit", Some(a.clone()), &b, &merged);
    check("edit against chmod", Some(b), &a, &merged);
    let both = mode(content_at(entry(file("x"), &[(C, 1), (B, 1)]), &base), 0o755, &[(B, 1)]);
    check("two chmods: the larger", Some(a), &both, &format!("write file {} 755", hex4("x")));
}

#[test]
fn equal_versions_with_different_fields_are_a_fork_and_keep_both() {
    let a = entry(file("a"), &[(A, 1)]);
    let b = later(entry(file("b"), &[(A, 1)]));
    check(
        "the older side sets its bytes aside",
        Some(a.clone()),
        &b,
        &format!("write file {} 644, ours aside", hex4("b")),
    );
    check("the other waits", Some(b), &a, "nothing");
}

#[test]
fn found_bytes_that_are_an_old_version_give_way() {
    let mut found = later(entry(file("old"), &[(B, 1)]));
    found.found = true;
    let mut known = entry(file("new"), &[(A, 2)]);
    known.ancestors = file("old").ancestor_hash().into_iter().collect();
    check("rescan without an index", Some(found.clone()), &known, &format!("write file {} 644", hex4("new")));
    check("seen from the other side", Some(known), &found, "nothing");
    let unknown = entry(file("new"), &[(A, 2)]);
    check("not an old version: a conflict", Some(found), &unknown, "nothing");
}

#[test]
fn resolvers_agree_whatever_the_order() {
    let a = entry(file("a"), &[(A, 2)]);
    let b = later(entry(file("b"), &[(B, 2)]));
    let resolve = |ours: &Entry, theirs: &Entry, counter: u64, replica: ReplicaId| match reconcile(
        Some(ours),
        theirs,
        &Rules::default(),
    ) {
        Decision::Write { merged, .. } => bumped(merged, Some(ours), Event { replica, counter }, &Rules::default()),
        other => panic!("expected a write, not {other:?}"),
    };
    let here = resolve(&a, &b, 3, A);
    let elsewhere = resolve(&a, &b, 9, C);
    assert!(here.same_fields(&elsewhere), "two resolvers write the same");
    assert!(here.version.causal_cmp(&elsewhere.version).is_none(), "each adds an event of its own");
    check("and their bumps merge without a copy", Some(here), &elsewhere, &format!("adopt file {} 644", hex4("b")));
}

#[test]
fn local_changes() {
    let have = entry(file("x"), &[(A, 1)]);
    let event = Event { replica: A, counter: 2 };
    let seen =
        |content: Content, bits: u32, secs: i64| Seen { content, mode: Mode::new(bits), mtime: Mtime::from_secs(secs) };
    assert_eq!(observe(Some(&have), seen(file("x"), 0o644, 100), event, true), None, "nothing changed");
    let touched = observe(Some(&have), seen(file("x"), 0o644, 101), event, true).expect("a touch is a change");
    assert_eq!((&touched.content_at, &touched.mode_at), (&have.content_at, &have.mode_at), "a touch renews neither");
    let chmod = observe(Some(&have), seen(file("x"), 0o600, 100), event, true).expect("a chmod is a change");
    assert_eq!(chmod.content_at, have.content_at);
    assert_eq!(chmod.mode_at, Version::of(event));
    let edit = observe(Some(&have), seen(file("y"), 0o644, 101), event, true).expect("an edit is a change");
    assert_eq!(edit.content_at, Version::of(event));
    assert_eq!(edit.ancestors, file("x").ancestor_hash().into_iter().collect::<Vec<_>>());
    let gone = observe(Some(&have), seen(Content::Tombstone, 0, 0), event, true).expect("a deletion is a change");
    assert!(!gone.is_live() && gone.version == have.version.bumped(event));
    assert!(observe(None, seen(Content::Tombstone, 0, 0), event, true).is_none(), "nothing there, nothing known");
    let found = observe(None, seen(file("z"), 0o644, 1), event, false).expect("a new file");
    assert!(found.found, "without history its cause is unknown");
}
