//! One row per step and per way out of it, on the simulated and on the real file system.

use crate::disk::fs::sim::{Fault, Folding, OpKind};
use crate::disk::fs::{Errno, Fs, RealFs, SimFs};
use crate::disk::testing::{REMOTE_MTIME, World, path};
use protocol::model::{Content, Mode, Mtime, RelPath};
use protocol::sync::{Action, Journal, Kind, Outcome, ProblemCode, Rows, Step};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Prepares a real tree, and says what comes from the peer.
type Prepare = fn(&Path, &World<RealFs>) -> Vec<Action>;

fn write(root: &Path, world: &World<RealFs>, at: &str, bytes: &str) {
    std::fs::write(root.join(at), bytes).unwrap();
    world.scan(at);
}

fn mkdir(root: &Path, world: &World<RealFs>, at: &str) {
    std::fs::create_dir(root.join(at)).unwrap();
    world.scan(at);
}

/// Name, the tree and the batch, the outcomes, and the tree afterwards (`name=bytes`, `name/`, `name->target`).
const REAL: [(&str, Prepare, &[Outcome], &str); 17] = [
    ("create", |_, w| vec![w.install(1, "a", b"new")], &[Outcome::Done], "a=new"),
    ("create an empty file", |_, w| vec![w.install(1, "a", b"")], &[Outcome::Done], "a="),
    (
        "create below a new directory",
        |_, w| vec![w.mkdir(1, "d"), w.install(2, "d/a", b"new")],
        &[Outcome::Done, Outcome::Done],
        "d/ d/a=new",
    ),
    (
        "one content twice",
        |_, w| vec![w.install(1, "a", b"new"), w.install(2, "b", b"new")],
        &[Outcome::Done, Outcome::Done],
        "a=new b=new",
    ),
    ("no temp", |_, w| vec![no_temp(w)], &[Outcome::NoContent], ""),
    (
        "path taken",
        |root, w| {
            std::fs::write(root.join("a"), "user").unwrap();
            vec![w.install(1, "a", b"new")]
        },
        &[Outcome::DiskMoved],
        "a=user",
    ),
    ("parent missing", |_, w| vec![w.install(1, "d/a", b"new")], &[Outcome::DiskMoved], ""),
    (
        "replace",
        |root, w| {
            write(root, w, "a", "old");
            vec![w.install(1, "a", b"new")]
        },
        &[Outcome::Done],
        "a=new",
    ),
    (
        "replace what was edited",
        |root, w| {
            write(root, w, "a", "old");
            std::fs::write(root.join("a"), "mine").unwrap();
            vec![w.install(1, "a", b"new")]
        },
        &[Outcome::DiskMoved],
        "a=mine",
    ),
    (
        "remove",
        |root, w| {
            write(root, w, "a", "old");
            vec![w.remove(1, "a")]
        },
        &[Outcome::Done],
        "",
    ),
    (
        "remove a directory with something in it",
        |root, w| {
            mkdir(root, w, "d");
            std::fs::write(root.join("d/mine"), "x").unwrap();
            vec![w.remove(1, "d")]
        },
        &[Outcome::NotEmpty { items: 1 }],
        "d/ d/mine=x",
    ),
    (
        "move",
        |root, w| {
            write(root, w, "a", "old");
            vec![w.rename(1, "a", "b")]
        },
        &[Outcome::Done],
        "b=old",
    ),
    (
        "move onto a taken path",
        |root, w| {
            write(root, w, "a", "old");
            std::fs::write(root.join("b"), "user").unwrap();
            vec![w.rename(1, "a", "b")]
        },
        &[Outcome::DiskMoved],
        "a=old b=user",
    ),
    (
        "file to directory",
        |root, w| {
            write(root, w, "a", "old");
            vec![w.mkdir(1, "a")]
        },
        &[Outcome::Done],
        "a/",
    ),
    (
        "directory to link",
        |root, w| {
            mkdir(root, w, "a");
            vec![w.link(1, "a", b"/anywhere")]
        },
        &[Outcome::Done],
        "a->/anywhere",
    ),
    (
        "full directory to file",
        |root, w| {
            mkdir(root, w, "a");
            std::fs::write(root.join("a/mine"), "x").unwrap();
            vec![w.install(1, "a", b"new")]
        },
        &[Outcome::NotEmpty { items: 1 }],
        "a/ a/mine=x",
    ),
    (
        "link to link",
        |root, w| {
            symlink("old", root.join("a")).unwrap();
            w.scan("a");
            vec![w.link(1, "a", b"new")]
        },
        &[Outcome::Done],
        "a->new",
    ),
];

fn no_temp<F: Fs>(world: &World<F>) -> Action {
    let content = Content::File(protocol::model::Manifest::of(b"absent", None).to_content());
    world.action(1, "a", content, Step::InstallFile)
}

fn show(root: &Path, dir: &str, shown: &mut Vec<String>) {
    let mut names: Vec<_> = std::fs::read_dir(root.join(dir)).unwrap().map(|item| item.unwrap()).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    for item in names {
        let name = format!("{dir}{}", item.file_name().to_string_lossy());
        let kind = item.file_type().unwrap();
        if name == ".syncd" {
        } else if kind.is_dir() {
            shown.push(format!("{name}/"));
            show(root, &format!("{name}/"), shown);
        } else if kind.is_symlink() {
            shown.push(format!("{name}->{}", std::fs::read_link(item.path()).unwrap().display()));
        } else {
            shown.push(format!("{name}={}", std::fs::read_to_string(item.path()).unwrap()));
        }
    }
}

#[test]
fn steps_on_a_real_disk() {
    for (name, prepare, expected, tree) in REAL {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(RealFs::open(dir.path()).unwrap());
        let actions = prepare(dir.path(), &world);
        let before = world.journal.rows();
        assert_eq!(world.commit(&actions), expected, "{name}");
        let mut shown = Vec::new();
        show(dir.path(), "", &mut shown);
        assert_eq!(shown.join(" "), tree, "{name}");
        assert!(world.journal.installing().is_empty(), "{name}");
        let done = expected.iter().all(|outcome| *outcome == Outcome::Done);
        assert!(done || world.journal.rows() == before, "{name}: a stopped action records nothing");
        for action in actions.iter().filter(|_| done) {
            check_recorded(dir.path(), &world, action, name);
        }
    }
}

/// The record is the entry, the attributes are the entry's, and the fingerprint is the disk's.
fn check_recorded(root: &Path, world: &World<RealFs>, action: &Action, name: &str) {
    let have = world.journal.get(&action.path).have.unwrap();
    assert_eq!(have.entry, action.entry, "{name}");
    let dir = world.fs.open_dir(action.path.parent().as_ref()).unwrap();
    let found = world.fs.stat(&dir, action.path.name()).unwrap();
    assert_eq!(found.is_some(), have.fingerprint.is_some(), "{name}");
    let Some((found, recorded)) = found.zip(have.fingerprint) else { return };
    assert!(found.unchanged_since(&recorded), "{name}");
    let meta = std::fs::symlink_metadata(root.join(action.path.display())).unwrap();
    if found.kind != Kind::Symlink {
        assert_eq!(meta.permissions().mode() & 0o777, action.entry.mode.bits(), "{name}");
    }
    if found.kind != Kind::Directory {
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (REMOTE_MTIME.secs, i64::from(REMOTE_MTIME.nanos)), "{name}");
    }
}

#[test]
fn metadata_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(RealFs::open(dir.path()).unwrap());
    write(dir.path(), &world, "a", "old");
    mkdir(dir.path(), &world, "d");
    std::fs::set_permissions(dir.path().join("d"), PermissionsExt::from_mode(0o2755)).unwrap();
    world.scan("d");
    let actions = [world.chmod(1, "a", 0o400), world.chmod(2, "d", 0o700)];
    assert_eq!(world.commit(&actions), [Outcome::Done, Outcome::Done]);
    for action in &actions {
        check_recorded(dir.path(), &world, action, "metadata");
    }
    assert!(world.have("a").racy, "an mtime set in place hides a write within the same window");
    let mode = std::fs::metadata(dir.path().join("d")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o2700, "set-id bits are the user's");
}

/// A failing operation, and what becomes of "replace `a`" or "remove `a`".
#[test]
fn failures_leave_everything_in_place() {
    let no_space = |code| move |outcome: &Outcome| matches!(outcome, Outcome::Failed(problem) if problem.code == code);
    type Expect = Box<dyn Fn(&Outcome) -> bool>;
    let rows: [(&str, OpKind, Errno, Expect); 7] = [
        ("no space in hold", OpKind::Rename, Errno::NOSPC, Box::new(no_space(ProblemCode::NoSpace))),
        ("read-only", OpKind::Exchange, Errno::ROFS, Box::new(no_space(ProblemCode::ReadOnly))),
        ("not permitted", OpKind::Exchange, Errno::PERM, Box::new(no_space(ProblemCode::Permission))),
        ("no space for the temp", OpKind::SyncFile, Errno::NOSPC, Box::new(no_space(ProblemCode::NoSpace))),
        ("the temp is lost", OpKind::SyncFile, Errno::IO, Box::new(|outcome| *outcome == Outcome::NoContent)),
        ("hold is lost", OpKind::SyncDir, Errno::IO, Box::new(no_space(ProblemCode::Io))),
        ("gone meanwhile", OpKind::Exchange, Errno::NOENT, Box::new(|outcome| *outcome == Outcome::DiskMoved)),
    ];
    for (name, kind, errno, is_expected) in rows {
        let world = World::simulated();
        world.fs.user_write(&path("a"), b"old").unwrap();
        world.scan("a");
        let action = world.install(1, "a", b"new");
        let mut failed = false;
        world.fs.set_hook(Some(Box::new(move |op| {
            let fails = op.kind == kind && !failed;
            failed |= fails;
            if fails { Fault::Errno(errno) } else { Fault::None }
        })));
        let outcomes = world.commit(&[action]);
        world.fs.set_hook(None);
        assert!(is_expected(&outcomes[0]), "{name}: {outcomes:?}");
        assert_eq!(world.fs.tree()[&path("a")].bytes, b"old", "{name}");
        assert!(world.journal.installing().is_empty() && world.journal.held().is_empty(), "{name}");
        let private: Vec<String> = world.fs.private_tree().into_keys().filter(|at| at.contains('/')).collect();
        let temp_stays = errno != Errno::IO || kind != OpKind::SyncFile;
        assert_eq!(private.len(), usize::from(temp_stays), "{name}: {private:?}");
        assert!(private.iter().all(|at| at.starts_with("tmp/")), "{name}: {private:?}");
        // Once the trouble is over, the same content can be installed.
        if temp_stays {
            assert_eq!(world.commit(&[world.install(2, "a", b"new")]), [Outcome::Done], "{name}");
        }
    }
}

#[test]
fn a_change_that_is_not_durable_is_not_recorded() {
    let world = World::simulated();
    world.fs.user_write(&path("a"), b"old").unwrap();
    world.scan("a");
    let before = world.journal.rows();
    let removal = world.remove(1, "a");
    world.fs.set_hook(Some(Box::new(
        |op| {
            if op.kind == OpKind::SyncDir { Fault::Errno(Errno::IO) } else { Fault::None }
        },
    )));
    let error = super::commit(&*world.fs, &world.journal, &[removal], 0, 0).unwrap_err();
    world.fs.set_hook(None);
    assert!(error.to_string().starts_with("a change cannot be made durable"), "{error}");
    assert_eq!(world.journal.rows(), before);
    assert_eq!(world.journal.installing().len(), 1);
    crate::disk::recover(&*world.fs, &world.journal, 0).unwrap();
    assert_eq!(world.journal.held().len(), 1, "settled by the next start");
}

/// With time stamps of whole seconds, a write right after our chmod leaves the stamps that the chmod left.
#[test]
fn a_file_as_young_as_our_own_chmod_is_hashed_again() {
    for (mtime, racy) in [(0, false), (3600, true)] {
        let world = World::simulated();
        world.fs.set_tick(1_000_000_000);
        world.fs.user_write(&path("a"), b"one").unwrap();
        let written = world.fs.now().secs;
        world.fs.user_touch(&path("a"), Mtime::from_secs(written + mtime)).unwrap();
        world.scan("a");
        world.fs.advance(Duration::from_secs(3600));
        let mut chmod = world.chmod(1, "a", 0o600);
        chmod.entry.mtime = world.have("a").entry.mtime;
        assert_eq!(world.commit(&[chmod]), [Outcome::Done]);
        assert_eq!(world.have("a").racy, racy, "an mtime {mtime} s after the write");
        let recorded = world.have("a").fingerprint;
        world.fs.user_write(&path("a"), b"two").unwrap();
        world.scan("a");
        assert_eq!(world.have("a").fingerprint == recorded, racy, "nothing else would tell");
    }
}

#[test]
fn a_file_as_young_as_our_own_move_is_hashed_again() {
    for (mtime, racy) in [(0, false), (3600, true)] {
        let world = World::simulated();
        world.fs.set_tick(1_000_000_000);
        world.fs.user_write(&path("a"), b"one").unwrap();
        let written = world.fs.now().secs;
        world.fs.user_touch(&path("a"), Mtime::from_secs(written + mtime)).unwrap();
        world.scan("a");
        world.fs.advance(Duration::from_secs(3600));
        let mut rename = world.rename(1, "a", "b");
        (rename.entry.mtime, rename.entry.mode) = (world.have("a").entry.mtime, world.have("a").entry.mode);
        assert_eq!(world.commit(&[rename]), [Outcome::Done]);
        assert_eq!(world.have("b").racy, racy, "an mtime {mtime} s after the write");
    }
}

#[test]
fn one_path_that_may_not_be_read_stops_no_other_at_start() {
    let world = World::simulated();
    world.fs.user_mkdir(&path("d")).unwrap();
    world.scan("d");
    for at in ["a", "d/b"] {
        world.fs.user_write(&path(at), at.as_bytes()).unwrap();
        world.scan(at);
    }
    let removals = [world.remove(1, "a"), world.remove(2, "d/b")];
    let fails = |kind: OpKind, name: &'static [u8], errno: Errno| {
        world.fs.set_hook(Some(Box::new(move |op| {
            if op.kind == kind && op.name == name { Fault::Errno(errno) } else { Fault::None }
        })));
    };
    fails(OpKind::SyncDir, b"", Errno::IO);
    super::commit(&*world.fs, &world.journal, &removals, 0, 0).unwrap_err();
    fails(OpKind::OpenDir, b"d", Errno::IO);
    // This one may pass before the scan does.
    crate::disk::recover(&*world.fs, &world.journal, 0).unwrap_err();
    fails(OpKind::OpenDir, b"d", Errno::ACCESS);
    let first = crate::disk::recover(&*world.fs, &world.journal, 0).unwrap();
    world.fs.set_hook(None);
    assert_eq!((first.recorded, first.left, first.orphans), (1, 1, 0));
    let second = crate::disk::recover(&*world.fs, &world.journal, 0).unwrap();
    assert_eq!((second.recorded, second.left, second.orphans), (1, 0, 0));
    assert_eq!(world.journal.held().len(), 2);
}

#[test]
fn a_large_file_is_looked_at_by_fingerprint_and_hashed_later() {
    let large = vec![7; 1024 * 1024 + 1];
    let world = World::simulated();
    world.fs.user_write(&path("a"), &large).unwrap();
    world.scan("a");
    let recorded = world.fs.tree()[&path("a")].mtime;
    let action = world.install(1, "a", b"new");
    // Same size and mtime, after the compare and before the swap: nothing but ctime tells, and the swap moves it.
    let (fs, mut edited) = (SimFs::clone(&world.fs), large.clone());
    edited[5] = 8;
    let bytes = edited.clone();
    world.fs.set_hook(Some(Box::new(move |op| {
        if op.kind == OpKind::Exchange {
            fs.user_write(&path("a"), &bytes).unwrap();
            fs.user_touch(&path("a"), recorded).unwrap();
        }
        Fault::None
    })));
    assert_eq!(world.commit(&[action]), [Outcome::Done]);
    world.fs.set_hook(None);
    crate::disk::versions::release(&*world.fs, &world.journal, crate::disk::testing::NOW + 700).unwrap();
    assert!(world.fs.tree().values().any(|found| found.bytes == edited), "the edit is a conflict copy");
}

#[test]
fn a_directory_that_may_not_be_written_is_opened_up_and_keeps_its_mode() {
    let world = World::simulated();
    world.fs.user_mkdir(&path("d")).unwrap();
    world.fs.user_chmod(&path("d"), Mode::new(0o555)).unwrap();
    world.scan("d");
    let (seen, volume) = (Arc::new(Mutex::new(BTreeSet::new())), SimFs::clone(&world.fs));
    let modes = Arc::clone(&seen);
    world.fs.set_hook(Some(Box::new(move |_| {
        modes.lock().unwrap().insert(volume.tree()[&path("d")].mode.bits());
        Fault::None
    })));
    let outcomes = world.commit(&[world.install(1, "d/a", b"new"), world.install(2, "b", b"other")]);
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done]);
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from([0o555, 0o755]));
    assert_eq!(world.fs.tree()[&path("d")].mode, Mode::new(0o555));
}

#[test]
fn the_mode_that_a_user_gives_an_opened_directory_stays() {
    for (mode, left) in [(0o700, 0o700), (0o511, 0o511), (0o777, 0o777)] {
        let world = World::simulated();
        world.fs.user_mkdir(&path("d")).unwrap();
        world.fs.user_chmod(&path("d"), Mode::new(0o555)).unwrap();
        world.scan("d");
        let volume = SimFs::clone(&world.fs);
        world.fs.set_hook(Some(Box::new(move |op| {
            if op.kind == OpKind::Rename && op.name == b"a" {
                volume.user_chmod(&path("d"), Mode::new(mode)).unwrap();
            }
            Fault::None
        })));
        world.commit(&[world.install(1, "d/a", b"new")]);
        assert_eq!(world.fs.tree()[&path("d")].mode, Mode::new(left), "{mode:o}");
    }
}

#[test]
fn what_no_scan_reports_is_a_problem_of_the_path() {
    let code = |outcome: &Outcome| match outcome {
        Outcome::Failed(problem) => Some(problem.code),
        _ => None,
    };
    let world = World::simulated();
    world.fs.user_mkfifo(&path("pipe")).unwrap();
    let actions = [world.install(1, "pipe", b"new"), world.install(2, "pipe/a", b"newer"), world.mkdir(3, "pipe")];
    let codes: Vec<_> = world.commit(&actions).iter().map(code).collect();
    assert_eq!(codes, [Some(ProblemCode::Blocked); 3]);
    world.fs.user_mkdir(&path("real")).unwrap();
    world.fs.user_symlink(&path("link"), b"real").unwrap();
    assert_eq!(code(&world.commit(&[world.install(5, "link/a", b"new")])[0]), Some(ProblemCode::Blocked));
    assert!(!world.fs.tree().contains_key(&path("real/a")), "a link is never followed");
}

fn folding() -> World<SimFs> {
    let world = World::simulated();
    world.fs.set_folding(Folding { case: true, accents: true });
    world
}

/// NS1, NS3: the volume cannot hold both, so the first stays what it is and the other is listed.
#[test]
fn nothing_is_installed_over_another_spelling() {
    let world = folding();
    for (name, bytes) in [("readme", b"old"), ("caf\u{e9}", b"cup")] {
        world.fs.user_write(&path(name), bytes).unwrap();
        world.scan(name);
    }
    world.fs.user_mkdir(&path("d")).unwrap();
    world.scan("d");
    world.fs.user_write(&path("d/x"), b"kept").unwrap();
    world.scan("d/x");
    let before = world.fs.tree();
    let actions = [
        world.install(1, "README", b"new"),
        world.link(2, "Readme", b"target"),
        world.mkdir(3, "D"),
        world.install(4, "cafe\u{301}", b"other"),
        world.rename(5, "d/x", "CAFE\u{301}"),
    ];
    for outcome in world.commit(&actions) {
        assert!(matches!(&outcome, Outcome::Failed(problem) if problem.code == ProblemCode::Name), "{outcome:?}");
    }
    // What is below the other spelling of a directory is not below this one.
    assert_eq!(world.commit(&[world.install(6, "D/x", b"new")]), [Outcome::DiskMoved]);
    // Nor is what goes by another spelling this one.
    let gone = world.commit(&[world.action(7, "README", Content::Tombstone, Step::Record), world.remove(8, "D")]);
    assert_eq!(gone, [Outcome::Done, Outcome::Done]);
    assert_eq!(world.fs.tree(), before);
    world.commit(&[world.remove(9, "readme")]);
    assert_eq!(world.commit(&[world.install(10, "README", b"new")]), [Outcome::Done], "its place is free");
}

/// NS2: a peer's change of nothing but the spelling.
#[test]
fn a_move_to_another_spelling_changes_that() {
    let world = folding();
    world.fs.user_write(&path("caf\u{e9}"), b"cup").unwrap();
    world.scan("caf\u{e9}");
    assert_eq!(world.commit(&[world.rename(1, "caf\u{e9}", "Cafe\u{301}")]), [Outcome::Done]);
    let names: Vec<RelPath> = world.fs.tree().into_keys().collect();
    assert_eq!(names, [path("Cafe\u{301}")]);
    assert_eq!(world.fs.tree()[&names[0]].bytes, b"cup");
    assert!(world.fs.private_tree().keys().all(|at| !at.starts_with("hold/")));
}

#[test]
fn unreadable_modes_are_installed_and_installed_again() {
    let world = World::simulated();
    let mut action = world.install(1, "a", b"new");
    action.entry.mode = Mode::new(0);
    // The first attempt finds the path taken, so the temp returns with its final mode.
    world.fs.user_write(&path("a"), b"user").unwrap();
    assert_eq!(world.commit(std::slice::from_ref(&action)), [Outcome::DiskMoved]);
    world.fs.user_delete(&path("a")).unwrap();
    action.id = protocol::sync::ActionId(2);
    assert_eq!(world.commit(&[action]), [Outcome::Done]);
    assert_eq!(world.fs.tree()[&path("a")].mode, Mode::new(0));
}

#[test]
fn records_need_no_disk() {
    let world = World::simulated();
    world.fs.user_write(&path("a"), b"old").unwrap();
    world.scan("a");
    let fingerprint = world.have("a").fingerprint;
    let met = world.action(1, "a", world.have("a").entry.content, Step::Record);
    let never_here = world.action(2, "b", Content::Tombstone, Step::Record);
    let outcomes = super::commit(&*world.fs, &world.journal, &[met.clone(), never_here], 77, 0).unwrap();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done]);
    assert_eq!((world.have("a").entry, world.have("a").fingerprint), (met.entry, fingerprint));
    assert_eq!(world.have("b").fingerprint, None);
    assert_eq!(world.journal.state().counter, 77);
}

#[test]
fn many_files_take_few_barriers() {
    let world = World::simulated();
    let actions: Vec<Action> =
        (1..=200).map(|n| world.install(n, &format!("f{n}"), format!("bytes {n}").as_bytes())).collect();
    let barriers = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&barriers);
    world.fs.set_hook(Some(Box::new(move |op| {
        if matches!(op.kind, OpKind::SyncFile | OpKind::SyncDir | OpKind::SyncAll) {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Fault::None
    })));
    assert!(world.commit(&actions).iter().all(|outcome| *outcome == Outcome::Done));
    assert!(barriers.load(std::sync::atomic::Ordering::Relaxed) < 10);
}
