//! Rows of events and when they come out: a time, a path, and what is expected.

use super::coalesce::*;
use protocol::model::{RelPath, Timestamp};

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// Runs events (`time path`, with `dir/` for a made directory, `>x` for something moved in, `!` for an overflow) and
/// returns emissions as `time paths`, a subtree with a trailing slash, the whole folder as `*`.
fn run(events: &[(u64, &str)], until: u64) -> Vec<(u64, String)> {
    let mut coalescer = Coalescer::default();
    let mut out = Vec::new();
    let mut events = events.iter().peekable();
    for now in 0..=until {
        while let Some((_, what)) = events.next_if(|(at, _)| *at == now) {
            let now = Timestamp(now);
            match (*what, what.strip_prefix('>'), what.strip_suffix('/')) {
                ("!", ..) => coalescer.overflow(now),
                (_, Some(moved), _) => coalescer.touch(now, path(moved), Reach::Moved),
                (_, _, Some(made)) => coalescer.touch(now, path(made), Reach::Subtree),
                (entry, ..) => coalescer.touch(now, path(entry), Reach::Entry),
            }
        }
        let dirty = coalescer.poll(Timestamp(now));
        if !dirty.is_empty() {
            let text = |path: &RelPath| String::from_utf8(path.as_bytes().to_vec()).unwrap();
            let paths = dirty.paths.iter().map(text);
            let subtrees = dirty.subtrees.iter().map(|path| text(path) + "/");
            let all = paths.chain(subtrees).chain(dirty.overflow.then(|| "*".to_owned()));
            out.push((now, all.collect::<Vec<_>>().join(" ")));
        }
    }
    assert!(events.next().is_none(), "an event after the end of the run");
    assert_eq!(coalescer.wake_at(), None, "something is left behind");
    out
}

fn check(name: &str, events: &[(u64, &str)], expected: &[(u64, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(at, what)| (*at, (*what).to_owned())).collect();
    assert_eq!(run(events, 5_000), expected, "{name}");
}

#[test]
fn quiet_paths_come_out_after_20_ms() {
    check("one event", &[(0, "a")], &[(20, "a")]);
    check("a save is one emission", &[(0, "a"), (5, "a"), (19, "a")], &[(39, "a")]);
    check("two paths", &[(0, "b"), (10, "a")], &[(20, "b"), (30, "a")]);
    check("together", &[(0, "b"), (0, "a")], &[(20, "a b")]);
    check("edits apart", &[(0, "a"), (1000, "a"), (2000, "a")], &[(20, "a"), (1020, "a"), (2020, "a")]);
}

#[test]
fn subtrees() {
    check("new directory", &[(0, "d/")], &[(20, "d/")]);
    check("stands for what is below", &[(0, "d/"), (1, "d/a"), (2, "d/e/f"), (2, "db")], &[(22, "db d/")]);
    check("takes in what came before", &[(0, "d/a"), (0, "da"), (10, "d/")], &[(20, "da"), (30, "d/")]);
    check("nested", &[(0, "d/"), (1, "d/e/"), (2, "d/e/f/")], &[(22, "d/")]);
    check("moved in takes in nothing", &[(0, ">d"), (5, "d/x")], &[(20, "d/"), (25, "d/x")]);
    check("made over", &[(0, "d"), (1, ">d"), (2, "d")], &[(22, "d/")]);
    check("lost events", &[(0, "a"), (1, "!"), (2, "b"), (3, "d/")], &[(23, "*")]);
}

#[test]
fn a_path_that_keeps_changing_backs_off_alone() {
    let mut events: Vec<(u64, &str)> = (0..600).map(|i| (i * 100, "hot")).collect();
    events.extend((0..60).map(|i| (i * 1000 + 1, "quiet")));
    events.sort_unstable();
    let out = run(&events, 100_000);
    let times = |name: &str| out.iter().filter(|(_, text)| text.contains(name)).map(|(at, _)| *at).collect::<Vec<_>>();
    assert!(times("hot").len() < 20, "{:?}", times("hot"));
    let gaps: Vec<u64> = times("hot").windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap <= 30_100), "{gaps:?}");
    let last = *times("hot").last().unwrap();
    assert!((59_920..59_900 + 4_000).contains(&last), "what it settled on comes out soon: {last}");
    assert_eq!(times("quiet"), (0..60).map(|i| i * 1000 + 21).collect::<Vec<_>>());
}

#[test]
fn what_never_gets_quiet_comes_out_anyway() {
    let events: Vec<(u64, &str)> = (0..10_000).map(|i| (i * 10, "log")).collect();
    let out: Vec<u64> = run(&events, 140_000).into_iter().map(|(at, _)| at).collect();
    assert_eq!(out[..6], [1000, 3010, 7020, 15_030, 31_040, 61_050], "{out:?}");
}

#[test]
fn backing_off_wears_off() {
    let mut events: Vec<(u64, &str)> = (0..500).map(|i| (i * 10, "log")).collect();
    events.push((60_000, "log"));
    let out = run(&events, 61_000);
    assert_eq!(out.last().unwrap().0, 60_020);
}

#[test]
fn a_busy_subtree_waits_at_most_4_s() {
    let events: Vec<(u64, &str)> = (0..3_000).map(|i| (i * 10, "!")).collect();
    let out: Vec<u64> = run(&events, 40_000).into_iter().map(|(at, _)| at).collect();
    assert!(out.windows(2).all(|pair| pair[1] - pair[0] <= 4_010), "{out:?}");
}

#[test]
fn many_paths_collapse() {
    let mut coalescer = Coalescer::default();
    for i in 0..DIRECTORY_PATHS_MAX + 50 {
        coalescer.touch(Timestamp(0), path(&format!("big/{i}")), Reach::Entry);
        coalescer.touch(Timestamp(0), path("small/x"), Reach::Entry);
    }
    let dirty = coalescer.poll(Timestamp(20));
    assert_eq!(dirty, Dirty { paths: vec![path("small/x")], subtrees: vec![path("big")], overflow: false });

    for i in 0..DIRECTORY_PATHS_MAX + 1 {
        coalescer.touch(Timestamp(10_000), path(&i.to_string()), Reach::Entry);
    }
    let dirty = coalescer.poll(Timestamp(10_020));
    assert_eq!(dirty, Dirty { overflow: true, ..Dirty::default() }, "the root's own names");

    for i in 0..PATHS_MAX + 1 {
        coalescer.touch(Timestamp(20_000), path(&format!("{}/{i}", i % 97)), Reach::Entry);
    }
    let dirty = coalescer.poll(Timestamp(20_020));
    assert_eq!(dirty, Dirty { overflow: true, ..Dirty::default() }, "too many in all");
    assert_eq!(coalescer.wake_at(), None);
}

#[test]
fn flush_takes_everything() {
    let mut coalescer = Coalescer::default();
    coalescer.touch(Timestamp(0), path("a"), Reach::Entry);
    coalescer.touch(Timestamp(0), path("d"), Reach::Subtree);
    let dirty = coalescer.flush(Timestamp(1));
    assert_eq!(dirty, Dirty { paths: vec![path("a")], subtrees: vec![path("d")], overflow: false });
    assert!(coalescer.poll(Timestamp(100)).is_empty());
    assert_eq!(coalescer.wake_at(), None);
}
