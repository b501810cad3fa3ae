//! The crash sweep: every kind of change is stopped before every file system operation and on both sides of every
//! transaction, by a kill and by power cuts that lose any part of what was not synced, and then recovered. The same
//! changes meet an edit by the user at every boundary. `a_missing_fsync_is_noticed` shows that the sweep can fail.

mod scenarios;

use super::fs::sim::{Fault, Found, OpKind, SimFs, crash, until_crash};
use super::fs::{Errno, Fs};
use super::look::content_at;
use super::sim_journal::{CommitPoint, MemJournal};
use super::testing::{NOW, THERE, World, path};
use super::{recover, versions};
use protocol::model::{Content, RelPath};
use protocol::sync::{Action, Journal, Kind, Outcome, Rows};
use scenarios::{EDIT, NEW, SCENARIOS, SECOND_EDIT, Scenario};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Sim = World<SimFs>;

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
/// Two edits that meet a swap and its way back.
const PAIRS: [(UserEdit, UserEdit); 2] = [(UserEdit::Write, UserEdit::Save), (UserEdit::Delete, UserEdit::Save)];

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

/// One edit by the user, at a boundary.
struct Planned {
    at: Boundary,
    edit: UserEdit,
    path: RelPath,
    bytes: &'static [u8],
}

impl Planned {
    fn new(start: &Start, at: u64, edit: UserEdit, bytes: &'static [u8]) -> Self {
        Self { at: Boundary::new(at), edit, path: path(start.scenario.contested), bytes }
    }
}

/// What the user did: the bytes written, and those done away with.
#[derive(Clone, Debug, Default)]
struct Done {
    written: BTreeSet<Vec<u8>>,
    forsaken: BTreeSet<Vec<u8>>,
}

type Noted = Arc<Mutex<Done>>;

/// Lets the edits happen and the process crash at their boundaries. Both count the same.
fn arm(world: &Sim, lacks_exchange: bool, edits: Vec<Planned>, crash_at: &Boundary) -> Noted {
    let done = Noted::default();
    let (fs, noted, edits) = (SimFs::clone(&world.fs), Arc::clone(&done), Arc::new(edits));
    let edit_here = move || {
        for planned in edits.iter().filter(|planned| planned.at.is_here()) {
            user_edits(&fs, planned, &noted);
        }
    };
    let (edit_there, crash_here) = (edit_here.clone(), crash_at.clone());
    world.fs.set_hook(Some(Box::new(move |op| {
        edit_here();
        if crash_here.is_here() {
            return Fault::Crash;
        }
        let refused = lacks_exchange && op.kind == OpKind::Exchange;
        if refused { Fault::Errno(Errno::INVAL) } else { Fault::None }
    })));
    let crash_here = crash_at.clone();
    world.journal.set_hook(Some(Box::new(move |_: CommitPoint| {
        edit_there();
        if crash_here.is_here() {
            crash();
        }
    })));
    done
}

fn user_edits(fs: &SimFs, planned: &Planned, noted: &Noted) {
    let (at, bytes) = (&planned.path, planned.bytes);
    let before = fs.tree();
    // Impossible where the directory is gone or something else stands there: then the user does nothing.
    let _ = match planned.edit {
        UserEdit::Write => fs.user_write(at, bytes),
        UserEdit::Save => fs.user_save(at, bytes),
        UserEdit::Delete => fs.user_delete(at),
        UserEdit::Mkdir => fs.user_mkdir(at),
    };
    let after = fs.tree();
    let gone = before.into_iter().filter(|(at, found)| after.get(at).map(|now| &now.bytes) != Some(&found.bytes));
    let mut noted = noted.lock().expect("no test panics here");
    noted.forsaken.extend(contents(gone.map(|(_, found)| found)));
    if after.get(at).is_some_and(|found| found.bytes == bytes) {
        noted.written.insert(bytes.to_vec());
    }
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
fn check(world: &Sim, start: &Start, label: &str) {
    check_but(world, start, None, label);
}

/// The same with what the user did away with; `None`: there was no edit.
fn check_but(world: &Sim, start: &Start, forsaken: Option<&BTreeSet<Vec<u8>>>, label: &str) {
    let edited = forsaken.is_some();
    assert!(world.journal.installing().is_empty(), "{label}: unsettled rows");
    let tree = world.fs.tree();
    let precious = contents(start.tree.values().cloned());
    let kept = kept_bytes(world);
    for bytes in &precious {
        let is_forsaken = forsaken.is_some_and(|forsaken| forsaken.contains(bytes));
        assert!(is_forsaken || kept.contains(bytes), "{label}: lost {:?}", String::from_utf8_lossy(bytes));
    }
    let mut known = precious;
    known.extend([NEW, b"new/target", EDIT, SECOND_EDIT].map(<[u8]>::to_vec));
    for (at, found) in &tree {
        let whole = found.kind == Kind::Directory || known.contains(&found.bytes);
        assert!(whole, "{label}: torn or foreign bytes at {at:?}: {:?}", found.bytes);
        let named = start.tree.contains_key(at) || start.actions.iter().any(|action| action.path == *at);
        let is_copy = at.display().contains("sync-conflict");
        assert!(named || is_copy, "{label}: {at:?} appeared in the tree");
        assert!(!is_copy || edited || start.actions.len() == 2, "{label}: a needless copy {at:?}");
    }
    for (at, row) in world.journal.rows() {
        let have = row.have.expect("only haves are recorded here");
        check_row(world, &at, &have, edited, label);
    }
    for (at, before) in start.tree.iter().filter(|(_, found)| found.kind == Kind::Directory) {
        let is_set = |mode| start.actions.iter().any(|action| action.path == *at && action.entry.mode == mode);
        let now = tree.get(at).filter(|found| found.kind == Kind::Directory);
        assert!(now.is_none_or(|now| now.mode == before.mode || is_set(now.mode)), "{label}: {at:?} has another mode");
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
    let is_remote = have.entry.version.get(THERE) > 0;
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

/// A world with the scenario prepared and durable. Every run has its own copy.
struct Start {
    scenario: &'static Scenario,
    world: Sim,
    actions: Vec<Action>,
    tree: BTreeMap<RelPath, Found>,
}

impl Start {
    fn new(scenario: &'static Scenario) -> Self {
        let world = World::simulated();
        let actions = (scenario.prepare)(&world);
        let tree = world.fs.tree();
        Self { scenario, world, actions, tree }
    }

    fn all() -> impl Iterator<Item = Self> {
        SCENARIOS.iter().map(Self::new)
    }

    fn named(name: &str) -> Self {
        Self::new(SCENARIOS.iter().find(|scenario| scenario.name == name).expect("it is in the table"))
    }
}

/// Runs a scenario with one crash; false when it ended before the crash.
fn crash_once(start: &Start, run: Run, at: u64, edit_at: Option<u64>) -> bool {
    let world = start.world.fork();
    let label = format!("{}, {run:?}, crash at {at}, edit at {edit_at:?}", start.scenario.name);
    if run.ignores_syncs {
        world.fs.ignore_syncs();
    }
    let boundary = Boundary::new(at);
    let edits = edit_at.zip(run.edit).map(|(at, edit)| Planned::new(start, at, edit, EDIT));
    let done = arm(&world, run.lacks_exchange, edits.into_iter().collect(), &boundary);
    let ended = until_crash(|| process(&world, &start.actions)).is_none();
    if !ended && at != u64::MAX {
        return false;
    }
    end(&world, run.end);
    if run.lacks_exchange {
        arm(&world, true, Vec::new(), &Boundary::new(u64::MAX));
    }
    settle(&world);
    world.fs.set_hook(None);
    let done = done.lock().expect("no test panics here").clone();
    check_but(&world, start, run.edit.map(|_| &done.forsaken), &label);
    check_settled(&world, &label);
    check_edit(&world, &done, &label);
    ended
}

/// What the user wrote is in the tree, where the next scan finds it, once `hold/` is empty.
fn check_edit(world: &Sim, done: &Done, label: &str) {
    versions::release(&*world.fs, &world.journal, NOW + 2_000).expect("the simulated disk answers");
    let tree = contents(world.fs.tree().into_values());
    for bytes in done.written.difference(&done.forsaken) {
        assert!(tree.contains(bytes), "{label}: {:?} is not in the tree", String::from_utf8_lossy(bytes));
    }
}

fn sweep(start: &Start, run: Run) -> u64 {
    let mut at = 1;
    while crash_once(start, run, at, None) {
        at += 1;
        assert!(at < 1_000, "a batch has a bounded number of operations");
    }
    at
}

#[test]
fn without_a_crash_everything_is_done() {
    for start in Start::all() {
        for lacks_exchange in [false, true] {
            let world = start.world.fork();
            arm(&world, lacks_exchange, Vec::new(), &Boundary::new(u64::MAX));
            let outcomes = process(&world, &start.actions);
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done), "{}: {outcomes:?}", start.scenario.name);
            check(&world, &start, start.scenario.name);
            check_settled(&world, start.scenario.name);
            for action in &start.actions {
                let overwritten = start.actions.iter().any(|later| later.id > action.id && later.path == action.path);
                let row = world.journal.get(&action.path);
                assert!(overwritten || row.entry() == Some(&action.entry), "{}", start.scenario.name);
            }
            assert!(world.journal.held().is_empty(), "{}: released after ten minutes", start.scenario.name);
            let tmp = world.fs.private_tree().into_keys().filter(|at| at.starts_with("tmp/")).count();
            assert_eq!(tmp, 0, "{}: temps are used up", start.scenario.name);
        }
    }
}

#[test]
fn killed_anywhere() {
    for start in Start::all() {
        for lacks_exchange in [false, true] {
            assert!(sweep(&start, Run { lacks_exchange, ..KILLED }) > 5, "{}", start.scenario.name);
        }
    }
}

#[test]
fn power_cut_anywhere() {
    for start in Start::all() {
        for lacks_exchange in [false, true] {
            for seed in 0..10 {
                sweep(&start, Run { end: End::PowerCut(seed), lacks_exchange, ..KILLED });
            }
        }
    }
}

#[test]
fn crashed_again_while_recovering() {
    for start in Start::all() {
        let ends = [[End::Kill; 2], [End::PowerCut(1), End::PowerCut(101)], [End::Kill, End::PowerCut(2)]];
        for (ends, step) in ends.into_iter().zip([1, 2, 1]) {
            let mut first = 1;
            while crash_twice(&start, ends, first) {
                first += step;
            }
        }
    }
}

/// Crashes at `first`, and then recovery at each of its boundaries in turn, the last just after its end.
fn crash_twice(start: &Start, ends: [End; 2], first: u64) -> bool {
    for second in 1.. {
        let world = start.world.fork();
        let label = format!("{}, {ends:?} at {first} and {second}", start.scenario.name);
        arm(&world, false, Vec::new(), &Boundary::new(first));
        if until_crash(|| process(&world, &start.actions)).is_some() {
            return false;
        }
        end(&world, ends[0]);
        let boundary = Boundary::new(second);
        arm(&world, false, Vec::new(), &boundary);
        let settled = until_crash(|| settle(&world)).is_some();
        world.fs.set_hook(None);
        end(&world, ends[1]);
        settle(&world);
        check(&world, start, &label);
        check_settled(&world, &label);
        if settled {
            break;
        }
    }
    true
}

#[test]
fn an_edit_at_any_boundary_is_in_the_tree_afterwards() {
    for start in Start::all() {
        for lacks_exchange in [false, true] {
            for edit in EDITS {
                for at in 1.. {
                    if !edit_once(&start, lacks_exchange, edit, at) {
                        break;
                    }
                }
            }
        }
    }
}

/// Runs a scenario with one edit and no crash; false when it ended before the edit.
fn edit_once(start: &Start, lacks_exchange: bool, edit: UserEdit, at: u64) -> bool {
    let label = format!("{}, lacks exchange {lacks_exchange}, {edit:?} at {at}", start.scenario.name);
    let edits = vec![Planned::new(start, at, edit, EDIT)];
    disturb(start, lacks_exchange, edits, &Boundary::new(u64::MAX), &label)
}

/// Runs a scenario with edits and perhaps a kill; false when it ended before the first edit.
fn disturb(start: &Start, lacks_exchange: bool, edits: Vec<Planned>, crash_at: &Boundary, label: &str) -> bool {
    let world = start.world.fork();
    let first = edits.first().expect("at least one edit").at.clone();
    let done = arm(&world, lacks_exchange, edits, crash_at);
    if until_crash(|| process(&world, &start.actions)).is_none() {
        end(&world, End::Kill);
    }
    let reached = first.was_reached();
    world.fs.set_hook(None);
    world.journal.set_hook(None);
    settle(&world);
    let done = done.lock().expect("no test panics here").clone();
    check_but(&world, start, Some(&done.forsaken), label);
    check_settled(&world, label);
    check_edit(&world, &done, label);
    reached
}

#[test]
fn two_edits_and_a_kill_close_together() {
    for start in Start::all() {
        for (edits, gap) in PAIRS.iter().flat_map(|pair| (1..=3).map(move |gap| (*pair, gap))) {
            for crash_after in [1, 3, 1_000] {
                for at in 1.. {
                    let label = format!(
                        "{}, {edits:?} at {at} and {gap} later, killed {crash_after} later",
                        start.scenario.name
                    );
                    let first = Planned::new(&start, at, edits.0, EDIT);
                    let second = Planned::new(&start, at + gap, edits.1, SECOND_EDIT);
                    let crash_at = Boundary::new(at + gap + crash_after);
                    if !disturb(&start, false, vec![first, second], &crash_at, &label) {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn an_edit_before_a_crash_is_kept() {
    for start in Start::all() {
        for edit in EDITS {
            let run = Run { edit: Some(edit), ..KILLED };
            let mut at = 1;
            while crash_once(&start, run, at, Some(at.saturating_sub(1).max(1))) {
                for edit_at in (1..at).rev().skip(1).step_by(4).take(4) {
                    crash_once(&start, run, at, Some(edit_at));
                }
                at += 1;
            }
        }
    }
}

#[test]
fn a_missing_fsync_is_noticed() {
    let fails = |name: &'static str| {
        let sweep_all = || {
            let start = Start::named(name);
            for seed in 0..24 {
                sweep(&start, Run { end: End::PowerCut(seed), ignores_syncs: true, ..KILLED });
            }
        };
        std::panic::catch_unwind(sweep_all).is_err()
    };
    assert!(fails("create") && fails("replace"), "the sweep cannot tell whether anything is synced");
}

#[test]
fn a_journal_fork_is_independent() {
    let world = Start::named("replace").world;
    let fork: MemJournal = world.journal.fork();
    world.scan("a");
    assert_ne!(fork.state(), world.journal.state());
}
