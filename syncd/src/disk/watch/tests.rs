//! What events mean, first as values, then from a real directory.

use super::hint::{Hint, hints};
use super::*;
use notify::event::{CreateKind, Event, EventKind, Flag, MetadataKind, ModifyKind, RemoveKind, RenameMode};
use protocol::model::RelPath;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// What an event on some paths below `/r` means: `x`, moved `>x`, subtree `x/`, `!` for lost, `#n` for a cookie.
fn check(name: &str, kind: EventKind, paths: &[&str], expected: &[&str]) {
    let event = paths.iter().fold(Event::new(kind), |event, path| event.add_path(PathBuf::from(path)));
    let found: Vec<String> = hints(Path::new("/r"), &event)
        .into_iter()
        .map(|hint| match hint {
            Hint::Changed(path, Reach::Entry) => path.display(),
            Hint::Changed(path, Reach::Moved) => format!(">{}", path.display()),
            Hint::Changed(path, Reach::Subtree) => format!("{}/", path.display()),
            Hint::Lost => "!".into(),
            Hint::Cookie(number) => format!("#{number}"),
        })
        .collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn what_events_mean() {
    let rename = |mode| EventKind::Modify(ModifyKind::Name(mode));
    let create = EventKind::Create;
    check("file made", create(CreateKind::File), &["/r/a/b"], &["a/b"]);
    check("directory made", create(CreateKind::Folder), &["/r/a"], &["a/"]);
    check("moved away", rename(RenameMode::From), &["/r/a"], &["a"]);
    check("moved in", rename(RenameMode::To), &["/r/a"], &[">a"]);
    check("moved", rename(RenameMode::Both), &["/r/a", "/r/b"], &["a", ">b"]);
    check("removed", EventKind::Remove(RemoveKind::File), &["/r/a"], &["a"]);
    check("the root went", EventKind::Remove(RemoveKind::Folder), &["/r"], &["!"]);
    check("the root was moved", rename(RenameMode::From), &["/r"], &["!"]);
    check("unmounted", EventKind::Remove(RemoveKind::Other), &["/r"], &["!"]);
    let times = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    check("the root's times", times, &["/r"], &[]);
    check("private", create(CreateKind::File), &["/r/.syncd/tmp/x", "/r/.SyncD/cookie-7", "/r/a/.syncd/cookie-1"], &[]);
    check("cookie", create(CreateKind::File), &["/r/.syncd/cookie-17"], &["#17"]);
    check("no cookie", create(CreateKind::File), &["/r/.syncd/cookie-x", "/r/.syncd/tmp/cookie-1"], &[]);
    check("elsewhere", create(CreateKind::File), &["/rest/a"], &[]);
    check("unknown", EventKind::Any, &["/r/a"], &[">a"]);
}

#[test]
fn a_lost_event_needs_no_path() {
    for event in [Event::new(EventKind::Other), Event::new(EventKind::Other).add_path("/r/a".into())] {
        assert_eq!(hints(Path::new("/r"), &event.set_flag(Flag::Rescan)), [Hint::Lost]);
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    watcher: Watcher,
    dirty: crossbeam_channel::Receiver<Dirty>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".syncd")).unwrap();
        let (send, dirty) = crossbeam_channel::bounded(1);
        let emit = move |dirty| match send.try_send(dirty) {
            Err(crossbeam_channel::TrySendError::Full(dirty)) => Err(dirty),
            _ => Ok(()),
        };
        let watcher = Watcher::start(dir.path(), Box::new(emit));
        assert_eq!(watcher.state(), WatchState::On);
        Self { dir, watcher, dirty }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Waits until `done` says yes about everything that came so far.
    fn until(&self, what: &str, mut done: impl FnMut(&Dirty) -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        while let Ok(dirty) = self.dirty.recv_deadline(limit) {
            if done(&dirty) {
                return;
            }
        }
        panic!("never came: {what}");
    }

    /// All that is handed over up to a barrier.
    fn barrier(&self) -> Dirty {
        let mut all = Dirty::default();
        std::thread::scope(|scope| {
            let passed = scope.spawn(|| self.watcher.barrier(Duration::from_secs(20)));
            while !passed.is_finished() || !self.dirty.is_empty() {
                if let Ok(dirty) = self.dirty.recv_timeout(Duration::from_millis(5)) {
                    all.paths.extend(dirty.paths);
                    all.subtrees.extend(dirty.subtrees);
                    all.overflow |= dirty.overflow;
                }
            }
            assert_eq!(passed.join().unwrap(), Barrier::Passed);
        });
        all
    }
}

#[test]
fn a_save_is_told_once() {
    let fixture = Fixture::new();
    std::fs::write(fixture.at("a"), "one").unwrap();
    let dirty = fixture.barrier();
    assert_eq!(dirty, Dirty { paths: vec![path("a")], ..Dirty::default() });
    std::fs::write(fixture.at("t"), "two").unwrap();
    std::fs::rename(fixture.at("t"), fixture.at("a")).unwrap();
    let dirty = fixture.barrier();
    assert_eq!((dirty.paths, dirty.subtrees), (vec![path("t")], vec![path("a")]), "an atomic save");
}

#[test]
fn reading_is_no_event_and_private_files_are_none() {
    let fixture = Fixture::new();
    std::fs::write(fixture.at("a"), "one").unwrap();
    fixture.barrier();
    for _ in 0..100 {
        std::fs::read(fixture.at("a")).unwrap();
        std::fs::write(fixture.at(".syncd/tmp"), "x").unwrap();
    }
    assert!(fixture.barrier().is_empty());
}

#[test]
fn a_directory_that_moves_is_told_at_both_ends() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.at("d/e")).unwrap();
    fixture.barrier();
    std::fs::rename(fixture.at("d"), fixture.at("n")).unwrap();
    let dirty = fixture.barrier();
    assert_eq!(dirty.paths, [path("d")]);
    // What was made a moment before may be told once more.
    let told = |name: &str| dirty.subtrees.contains(&path(name));
    assert!(told("n") && dirty.subtrees.len() == 1 + usize::from(told("d/e")), "{:?}", dirty.subtrees);
    std::fs::write(fixture.at("n/e/x"), "x").unwrap();
    fixture.until("a change below the new name", |dirty| dirty.paths.contains(&path("n/e/x")));
}

/// DT1: with or without a path, a lost event means the whole folder.
#[test]
fn overflow_means_everything() {
    let fixture = Fixture::new();
    std::fs::write(fixture.at("a"), "one").unwrap();
    fixture.watcher.inject(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
    fixture.until("a full scan", |dirty| dirty.overflow);
}

/// DT4: the limit is told with the directory and leads to polling.
#[test]
fn the_watch_limit_is_told() {
    let fixture = Fixture::new();
    let error = notify::Error::new(notify::ErrorKind::MaxFilesWatch).add_path(fixture.at("deep/dir"));
    fixture.watcher.inject(Err(error));
    let WatchState::Partial { unwatched, count, words } = fixture.watcher.state() else { panic!("still on") };
    assert_eq!((unwatched, count), (vec![path("deep/dir")], 1));
    assert!(words.contains("max_user_watches"), "{words}");
    assert_eq!(fixture.watcher.state().poll_every(), Some(POLL_EVERY));
    let said = fixture.watcher.state().words().expect("something is not watched");
    assert!(said.starts_with("watching partially, not below 1 directories") && said.contains("60 s"), "{said}");
    let passed = fixture.watcher.barrier(Duration::from_secs(60));
    assert_eq!(passed, Barrier::EventsOff, "what is not watched has no event before the barrier");
    fixture.until("a full scan", |dirty| dirty.overflow);
}

#[test]
fn what_could_not_be_watched_is_tried_again() {
    let fixture = Fixture::new();
    let error = notify::Error::io(std::io::ErrorKind::NotADirectory.into()).add_path(fixture.at("d"));
    fixture.watcher.inject(Err(error));
    fixture.until("a full scan", |dirty| dirty.overflow);
    assert_ne!(fixture.watcher.state(), WatchState::On);
    fixture.watcher.try_again_now();
    fixture.until("another full scan", |dirty| dirty.overflow);
    assert_eq!(fixture.watcher.state(), WatchState::On);
    std::fs::write(fixture.at("a"), "x").unwrap();
    fixture.until("a change", |dirty| dirty.paths.contains(&path("a")));
}

#[test]
fn a_folder_that_cannot_be_watched() {
    let watcher = Watcher::start(Path::new("/nonexistent/folder"), Box::new(|_| Ok(())));
    assert!(watcher.state().is_off());
    assert_eq!(watcher.barrier(Duration::from_secs(1)), Barrier::EventsOff);
}

#[test]
fn a_barrier_without_its_directory_fails_at_once() {
    let fixture = Fixture::new();
    std::fs::remove_dir(fixture.at(".syncd")).unwrap();
    assert_eq!(fixture.watcher.barrier(Duration::from_secs(60)), Barrier::EventsOff);
}

/// A storm in one place while nobody reads: hints merge, memory stays bounded, nothing is lost.
#[test]
fn a_storm_with_a_slow_receiver() {
    let fixture = Fixture::new();
    for directory in 0..20 {
        std::fs::create_dir(fixture.at(&format!("d{directory}"))).unwrap();
        for file in 0..100 {
            std::fs::write(fixture.at(&format!("d{directory}/{file}")), "x").unwrap();
        }
    }
    let dirty = fixture.barrier();
    let subtrees: BTreeSet<RelPath> = dirty.subtrees.iter().cloned().collect();
    let covered = |directory: usize, file: usize| {
        let file = path(&format!("d{directory}/{file}"));
        dirty.overflow || dirty.paths.contains(&file) || subtrees.contains(&path(&format!("d{directory}")))
    };
    assert!((0..20).all(|directory| (0..100).all(|file| covered(directory, file))));
}
