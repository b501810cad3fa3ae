//! The crash sweep: every kind of change is stopped before every file system operation and on both sides of every
//! transaction, by a kill and by power cuts that lose any part of what was not synced, and then recovered. The same
//! changes meet an edit by the user at every boundary. `a_missing_fsync_is_noticed` shows that the sweep can fail.

use super::fs::sim::{Fault, Found, OpKind, SimFs, crash, until_crash};
use super::fs::{Errno, Fs};
use super::look::content_at;
use super::sim_journal::{CommitPoint, MemJournal};
use super::testing::{NOW, World, path};
use super::{recover, versions};
use protocol::model::{Content, RelPath};
use protocol::sync::{Action, Journal, Kind, Outcome, Rows};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Sim = World<SimFs>;

/// A tree as the user and earlier syncs left it, and one batch on it.
struct Scenario {
    name: &'static str,
    /// Makes the tree, records it and stages what comes from the peer.
    prepare: fn(&Sim) -> Vec<Action>,
    /// The path at which a user interferes.
    contested: &'static str,
}

const OLD: &[u8] = b"the old bytes";
const NEW: &[u8] = b"the new bytes from the peer";
const OTHER: &[u8] = b"other old bytes";
const EDIT: &[u8] = b"user's edit..";

fn file(world: &Sim, at: &str, bytes: &[u8]) {
    world.fs.user_write(&path(at), bytes).expect("room");
    world.fs.user_sync();
    world.scan(at);
}

fn directory(world: &Sim, at: &str) {
    world.fs.user_mkdir(&path(at)).expect("room");
    world.fs.user_sync();
    world.scan(at);
}

fn symlink(world: &Sim, at: &str) {
    world.fs.user_symlink(&path(at), b"old/target").expect("room");
    world.fs.user_sync();
    world.scan(at);
}

const SCENARIOS: [Scenario; 20] = [
    Scenario { name: "create", contested: "a", prepare: |world| vec![world.install(1, "a", NEW)] },
    Scenario {
        name: "create in a new directory",
        contested: "d/a",
        prepare: |world| vec![world.mkdir(1, "d"), world.install(2, "d/a", NEW)],
    },
    Scenario {
        name: "two files with one content",
        contested: "b",
        prepare: |world| vec![world.install(1, "a", NEW), world.install(2, "b", NEW)],
    },
    Scenario {
        name: "replace",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "replace by equal bytes",
        contested: "a",
        prepare: |world| {
            file(world, "a", NEW);
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "delete",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.remove(1, "a")]
        },
    },
    Scenario {
        name: "delete a directory",
        contested: "d/a",
        prepare: |world| {
            directory(world, "d");
            file(world, "d/a", OLD);
            vec![world.remove(1, "d/a"), world.remove(2, "d")]
        },
    },
    Scenario {
        name: "move",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.rename(1, "a", "b")]
        },
    },
    Scenario {
        name: "move, met at the new path",
        contested: "d/b",
        prepare: |world| {
            file(world, "a", OLD);
            directory(world, "d");
            vec![world.rename(1, "a", "d/b")]
        },
    },
    Scenario {
        name: "move onto a file",
        contested: "b",
        prepare: |world| {
            file(world, "a", OLD);
            file(world, "b", OTHER);
            vec![world.rename(1, "a", "b")]
        },
    },
    Scenario {
        name: "set aside and install",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            let aside = world.rename(1, "a", "a.sync-conflict");
            let mut install = world.install(2, "a", NEW);
            install.expected = None;
            install.entry.version = install.entry.version.join(&aside.entry.version);
            vec![aside, install]
        },
    },
    Scenario {
        name: "file to directory",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            let make = world.mkdir(1, "a");
            vec![make, world.install(2, "a/b", NEW)]
        },
    },
    Scenario {
        name: "directory to file",
        contested: "a",
        prepare: |world| {
            directory(world, "a");
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "file to link",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.link(1, "a", b"new/target")]
        },
    },
    Scenario {
        name: "link to file",
        contested: "a",
        prepare: |world| {
            symlink(world, "a");
            vec![world.install(1, "a", NEW)]
        },
    },
    Scenario {
        name: "link to link",
        contested: "a",
        prepare: |world| {
            symlink(world, "a");
            vec![world.link(1, "a", b"new/target")]
        },
    },
    Scenario { name: "make a directory", contested: "d", prepare: |world| vec![world.mkdir(1, "d")] },
    Scenario {
        name: "remove a directory",
        contested: "d",
        prepare: |world| {
            directory(world, "d");
            vec![world.remove(1, "d")]
        },
    },
    Scenario {
        name: "chmod and touch",
        contested: "a",
        prepare: |world| {
            file(world, "a", OLD);
            vec![world.chmod(1, "a", 0o600)]
        },
    },
    Scenario {
        name: "chmod a directory",
        contested: "d",
        prepare: |world| {
            directory(world, "d");
            vec![world.chmod(1, "d", 0o700)]
        },
    },
];

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    /// With the seed of what the hardware keeps.
    PowerCut(u64),
}

/// One run of a scenario.
#[derive(Clone, Copy, Debug)]
struct Run {
    end: End,
    lacks_exchange: bool,
    ignores_syncs: bool,
    edit: Option<UserEdit>,
}

const KILLED: Run = Run { end: End::Kill, lacks_exchange: false, ignores_syncs: false, edit: None };

/// What the user does at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UserEdit {
    /// Same size, in place.
    Write,
    /// A new file renamed over the old one.
    Save,
    Delete,
    Mkdir,
}

const EDITS: [UserEdit; 4] = [UserEdit::Write, UserEdit::Save, UserEdit::Delete, UserEdit::Mkdir];

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Counts boundaries over file system operations and transactions, and acts at one of them.
#[derive(Clone)]
struct Boundary {
    count: Arc<AtomicU64>,
    at: u64,
}

impl Boundary {
    fn new(at: u64) -> Self {
        Self { count: Arc::new(AtomicU64::new(0)), at }
    }

    /// Whether this is the one.
    fn is_here(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.at
    }

    fn was_reached(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.at
    }
}

fn arm(
    world: &Sim,
    lacks_exchange: bool,
    edit_at: Option<(Boundary, UserEdit, RelPath)>,
    crash_at: &Boundary,
) -> Forsaken {
    let forsaken = Forsaken::default();
    let noted = Arc::clone(&forsaken);
    let (fs, crash_here) = (SimFs::clone(&world.fs), crash_at.clone());
    world.fs.set_hook(Some(Box::new(move |op| {
        if let Some((boundary, edit, at)) = &edit_at
            && boundary.is_here()
        {
            user_edits(&fs, *edit, at, &noted);
        }
        if crash_here.is_here() {
            return Fault::Crash;
        }
        let refused = lacks_exchange && op.kind == OpKind::Exchange;
        if refused { Fault::Errno(Errno::INVAL) } else { Fault::None }
    })));
    let crash_here = crash_at.clone();
    world.journal.set_hook(Some(Box::new(move |_: CommitPoint| {
        if crash_here.is_here() {
            crash();
        }
    })));
    forsaken
}

/// What the user did away with.
type Forsaken = Arc<Mutex<BTreeSet<Vec<u8>>>>;

fn user_edits(fs: &SimFs, edit: UserEdit, at: &RelPath, forsaken: &Forsaken) {
    let before = fs.tree();
    // Impossible where the directory is gone or something else stands there: then the user does nothing.
    let _ = match edit {
        UserEdit::Write => fs.user_write(at, EDIT),
        UserEdit::Save => fs.user_save(at, EDIT),
        UserEdit::Delete => fs.user_delete(at),
        UserEdit::Mkdir => fs.user_mkdir(at),
    };
    let after = fs.tree();
    let gone = before.into_iter().filter(|(at, found)| after.get(at).map(|now| &now.bytes) != Some(&found.bytes));
    forsaken.lock().expect("no test panics here").extend(contents(gone.map(|(_, found)| found)));
}

/// What a process does: the batch, and later the release of what it displaced.
fn process(world: &Sim, actions: &[Action]) -> Vec<Outcome> {
    let outcomes = world.commit(actions);
    versions::release(&*world.fs, &world.journal, NOW + 700).expect("the simulated disk answers");
    outcomes
}

fn end(world: &Sim, how: End) {
    world.journal.set_hook(None);
    match how {
        End::Kill => world.fs.kill(),
        End::PowerCut(seed) => {
            let mut state = seed;
            world.fs.power_cut(|n| (splitmix(&mut state) % n as u64) as usize);
        }
    }
}

fn settle(world: &Sim) {
    recover(&*world.fs, &world.journal, NOW + 10).expect("the simulated disk answers");
}

fn contents(found: impl IntoIterator<Item = Found>) -> BTreeSet<Vec<u8>> {
    found.into_iter().filter(|found| found.kind != Kind::Directory).map(|found| found.bytes).collect()
}

/// Bytes that a person could get back: the tree, what is held and what is a version.
fn kept_bytes(world: &Sim) -> BTreeSet<Vec<u8>> {
    let private = world.fs.private_tree().into_iter();
    let kept = private.filter(|(at, _)| at.starts_with("hold/") || at.starts_with("versions/"));
    let mut all = contents(kept.map(|(_, found)| found));
    all.extend(contents(world.fs.tree().into_values()));
    all
}

/// What must hold after any end and its recovery.
fn check(world: &Sim, before: &Sim, actions: &[Action], edited: bool, label: &str) {
    check_but(world, before, actions, edited.then(BTreeSet::new).as_ref(), label);
}

/// The same with what the user did away with; `None`: there was no edit.
fn check_but(world: &Sim, before: &Sim, actions: &[Action], forsaken: Option<&BTreeSet<Vec<u8>>>, label: &str) {
    let edited = forsaken.is_some();
    assert!(world.journal.installing().is_empty(), "{label}: unsettled rows");
    let tree = world.fs.tree();
    let precious = contents(before.fs.tree().into_values());
    let kept = kept_bytes(world);
    for bytes in &precious {
        let is_forsaken = forsaken.is_some_and(|forsaken| forsaken.contains(bytes));
        assert!(is_forsaken || kept.contains(bytes), "{label}: lost {:?}", String::from_utf8_lossy(bytes));
    }
    let mut known = precious;
    known.extend([NEW.to_vec(), b"new/target".to_vec(), EDIT.to_vec()]);
    for (at, found) in &tree {
        let whole = found.kind == Kind::Directory || known.contains(&found.bytes);
        assert!(whole, "{label}: torn or foreign bytes at {at:?}: {:?}", found.bytes);
        let named = before.fs.tree().contains_key(at) || actions.iter().any(|action| action.path == *at);
        let is_copy = at.display().contains("sync-conflict");
        assert!(named || is_copy, "{label}: {at:?} appeared in the tree");
        assert!(!is_copy || edited || actions.len() == 2, "{label}: a needless copy {at:?}");
    }
    for (at, row) in world.journal.rows() {
        let have = row.have.expect("only haves are recorded here");
        check_row(world, &at, &have, edited, label);
    }
    for held in world.journal.held() {
        let hold = world.fs.private_tree();
        assert!(hold.contains_key(&format!("hold/{:016x}", held.id.0)), "{label}: a held row without its object");
    }
}

/// A recorded entry is what the disk shows, or the fingerprint gives away that it is not.
fn check_row(world: &Sim, at: &RelPath, have: &protocol::sync::Have, edited: bool, label: &str) {
    let found = world.fs.open_dir(at.parent().as_ref()).and_then(|dir| content_at(&*world.fs, &dir, at.name()));
    let is_shown = match (&found, have.entry.content.is_live()) {
        (Err(_), live) => !live,
        (Ok((now, content)), true) => {
            let entry = &have.entry;
            let is_link = matches!(content, Content::Symlink(_));
            content.same(&entry.content)
                && (is_link || now.mode == entry.mode)
                && (content.is_directory() || now.mtime == entry.mtime)
        }
        (Ok(_), false) => false,
    };
    let is_seen = match (&found, &have.fingerprint) {
        (Ok((now, _)), Some(recorded)) => !now.unchanged_since(recorded) || have.racy,
        (Ok(_), None) => true,
        (Err(_), _) => have.entry.content.is_live(),
    };
    assert!(is_shown || is_seen, "{label}: {at:?} is recorded as {:?} and is {found:?}", have.entry);
    // Without an edit a record of the peer's entry means that the entry is there: otherwise the next scan would
    // publish the old bytes as a new edit.
    let is_remote = have.entry.version.get(super::testing::THERE) > 0;
    assert!(edited || !is_remote || is_shown, "{label}: {at:?} is recorded and not there");
}

/// The same state again: recovery is idempotent.
fn check_settled(world: &Sim, label: &str) {
    let state = |world: &Sim| (world.fs.tree(), world.fs.private_tree(), world.journal.rows(), world.journal.held());
    let before = state(world);
    let again = recover(&*world.fs, &world.journal, NOW + 20).expect("the simulated disk answers");
    assert_eq!(again, Default::default(), "{label}: the second recovery did something");
    assert_eq!(state(world), before, "{label}: the second recovery changed something");
}

/// A world with the scenario prepared and durable, and its actions.
fn prepared(scenario: &Scenario) -> (Sim, Vec<Action>) {
    let world = World::simulated();
    let actions = (scenario.prepare)(&world);
    (world, actions)
}

/// Runs a scenario with one crash; false when it ended before the crash.
fn crash_once(scenario: &Scenario, run: Run, at: u64, edit_at: Option<u64>) -> bool {
    let (before, _) = prepared(scenario);
    let (world, actions) = prepared(scenario);
    let label = format!("{}, {run:?}, crash at {at}, edit at {edit_at:?}", scenario.name);
    if run.ignores_syncs {
        world.fs.ignore_syncs();
    }
    let boundary = Boundary::new(at);
    let edit = edit_at.zip(run.edit).map(|(at, edit)| (Boundary::new(at), edit, path(scenario.contested)));
    let forsaken = arm(&world, run.lacks_exchange, edit, &boundary);
    let ended = until_crash(|| process(&world, &actions)).is_none();
    if !ended && at != u64::MAX {
        return false;
    }
    end(&world, run.end);
    if run.lacks_exchange {
        arm(&world, true, None, &Boundary::new(u64::MAX));
    }
    settle(&world);
    world.fs.set_hook(None);
    let forsaken = forsaken.lock().expect("no test panics here").clone();
    check_but(&world, &before, &actions, run.edit.map(|_| &forsaken), &label);
    check_settled(&world, &label);
    ended
}

fn sweep(scenario: &Scenario, run: Run) -> u64 {
    let mut at = 1;
    while crash_once(scenario, run, at, None) {
        at += 1;
        assert!(at < 1_000, "a batch has a bounded number of operations");
    }
    at
}

#[test]
fn without_a_crash_everything_is_done() {
    for scenario in &SCENARIOS {
        for lacks_exchange in [false, true] {
            let (before, _) = prepared(scenario);
            let (world, actions) = prepared(scenario);
            arm(&world, lacks_exchange, None, &Boundary::new(u64::MAX));
            let outcomes = process(&world, &actions);
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done), "{}: {outcomes:?}", scenario.name);
            check(&world, &before, &actions, false, scenario.name);
            check_settled(&world, scenario.name);
            for action in &actions {
                let overwritten = actions.iter().any(|later| later.id > action.id && later.path == action.path);
                let row = world.journal.get(&action.path);
                assert!(overwritten || row.entry() == Some(&action.entry), "{}", scenario.name);
            }
            assert!(world.journal.held().is_empty(), "{}: released after ten minutes", scenario.name);
            let tmp = world.fs.private_tree().into_keys().filter(|at| at.starts_with("tmp/")).count();
            assert_eq!(tmp, 0, "{}: temps are used up", scenario.name);
        }
    }
}

#[test]
fn killed_anywhere() {
    for scenario in &SCENARIOS {
        for lacks_exchange in [false, true] {
            assert!(sweep(scenario, Run { lacks_exchange, ..KILLED }) > 5, "{}", scenario.name);
        }
    }
}

#[test]
fn power_cut_anywhere() {
    for scenario in &SCENARIOS {
        for lacks_exchange in [false, true] {
            for seed in 0..24 {
                sweep(scenario, Run { end: End::PowerCut(seed), lacks_exchange, ..KILLED });
            }
        }
    }
}

#[test]
fn crashed_again_while_recovering() {
    for scenario in &SCENARIOS {
        for seed in 0..3 {
            let ends = if seed == 0 { [End::Kill; 2] } else { [End::PowerCut(seed), End::PowerCut(seed + 100)] };
            let mut first = 1;
            while crash_twice(scenario, ends, first) {
                first += 1;
            }
        }
    }
}

/// Crashes at `first`, and then recovery at each of its boundaries in turn.
fn crash_twice(scenario: &Scenario, ends: [End; 2], first: u64) -> bool {
    for second in 1.. {
        let (before, _) = prepared(scenario);
        let (world, actions) = prepared(scenario);
        let label = format!("{}, {ends:?} at {first} and {second}", scenario.name);
        arm(&world, false, None, &Boundary::new(first));
        if until_crash(|| process(&world, &actions)).is_some() {
            return false;
        }
        end(&world, ends[0]);
        let boundary = Boundary::new(second);
        arm(&world, false, None, &boundary);
        if until_crash(|| settle(&world)).is_some() {
            break;
        }
        end(&world, ends[1]);
        settle(&world);
        check(&world, &before, &actions, false, &label);
        check_settled(&world, &label);
    }
    true
}

#[test]
fn an_edit_at_any_boundary_is_in_the_tree_afterwards() {
    for scenario in &SCENARIOS {
        for lacks_exchange in [false, true] {
            for edit in EDITS {
                for at in 1.. {
                    if !edit_once(scenario, lacks_exchange, edit, at) {
                        break;
                    }
                }
            }
        }
    }
}

/// Runs a scenario with one edit; false when it ended before the edit.
fn edit_once(scenario: &Scenario, lacks_exchange: bool, edit: UserEdit, at: u64) -> bool {
    let (before, _) = prepared(scenario);
    let (world, actions) = prepared(scenario);
    let label = format!("{}, lacks exchange {lacks_exchange}, {edit:?} at {at}", scenario.name);
    let boundary = Boundary::new(at);
    let edited = Arc::new(AtomicU64::new(0));
    let forsaken = Forsaken::default();
    let noted = Arc::clone(&forsaken);
    let (fs, hit, here, contested) =
        (SimFs::clone(&world.fs), Arc::clone(&edited), boundary.clone(), path(scenario.contested));
    world.fs.set_hook(Some(Box::new(move |op| {
        if here.is_here() {
            user_edits(&fs, edit, &contested, &noted);
            let now = fs.tree().get(&contested).map(|found| found.bytes.clone());
            hit.store(u64::from(now.as_deref() == Some(EDIT)), Ordering::Relaxed);
        }
        let refused = lacks_exchange && op.kind == OpKind::Exchange;
        if refused { Fault::Errno(Errno::INVAL) } else { Fault::None }
    })));
    process(&world, &actions);
    world.fs.set_hook(None);
    if !boundary.was_reached() {
        return false;
    }
    settle(&world);
    let forsaken = forsaken.lock().expect("no test panics here").clone();
    check_but(&world, &before, &actions, Some(&forsaken), &label);
    check_settled(&world, &label);
    if edited.load(Ordering::Relaxed) == 1 {
        let tree = contents(world.fs.tree().into_values());
        assert!(tree.contains(EDIT), "{label}: the edit is not in the tree");
    }
    true
}

#[test]
fn an_edit_before_a_crash_is_kept() {
    for scenario in &SCENARIOS {
        for edit in EDITS {
            let run = Run { edit: Some(edit), ..KILLED };
            let mut at = 1;
            while crash_once(scenario, run, at, Some(at.saturating_sub(1).max(1))) {
                for edit_at in (1..at).step_by(3) {
                    crash_once(scenario, run, at, Some(edit_at));
                }
                at += 1;
            }
        }
    }
}

#[test]
fn a_missing_fsync_is_noticed() {
    let fails = |scenario: &'static Scenario| {
        std::panic::catch_unwind(|| {
            for seed in 0..24 {
                sweep(scenario, Run { end: End::PowerCut(seed), ignores_syncs: true, ..KILLED });
            }
        })
        .is_err()
    };
    let create = SCENARIOS.iter().find(|scenario| scenario.name == "create").expect("it is in the table");
    let replace = SCENARIOS.iter().find(|scenario| scenario.name == "replace").expect("it is in the table");
    assert!(fails(create) && fails(replace), "the sweep cannot tell whether anything is synced");
}

#[test]
fn a_journal_fork_is_independent() {
    let (world, _) = prepared(&SCENARIOS[3]);
    let fork: MemJournal = world.journal.fork();
    world.scan("a");
    assert_ne!(fork.state(), world.journal.state());
}
