//! What a scan found is made durable before anyone hears of it. Otherwise a power cut takes back an edit that other
//! devices have already, and the next scan would publish what is left of it as a newer one.

use super::fs::{Errno, Fs, errno};
use super::tree::{GROUP_SYNC_MIN, is_absence};
use protocol::model::RelPath;
use protocol::sync::{Observation, Observed};
use std::collections::BTreeSet;
use std::io;

/// Syncs what was found and the directories in which names are new or gone. What is not there any more has changed
/// again, which is a finding of its own.
///
/// # Errors
/// When the disk does not take it: then nobody may hear of these findings.
pub fn make_durable<F: Fs>(fs: &F, found: &[Observation], missing: &[RelPath]) -> io::Result<()> {
    let mut directories: BTreeSet<Option<RelPath>> = BTreeSet::new();
    let mut files: Vec<&RelPath> = Vec::new();
    for Observation { path, observed, .. } in found {
        directories.insert(path.parent());
        match observed {
            Observed::File { .. } => files.push(path),
            Observed::Directory { .. } => drop(directories.insert(Some(path.clone()))),
            Observed::Symlink { .. } | Observed::Absent => {}
        }
    }
    directories.extend(missing.iter().map(RelPath::parent));
    if files.len() + directories.len() >= GROUP_SYNC_MIN {
        return fs.sync_all();
    }
    with_ancestors(&mut directories);
    for path in files {
        let synced = fs
            .open_dir(path.parent().as_ref())
            .and_then(|dir| fs.open(&dir, path.name()))
            .and_then(|file| fs.sync_file(&file));
        after(fs, synced)?;
    }
    for path in directories {
        let synced = fs.open_dir(path.as_ref()).and_then(|dir| fs.sync_dir(&dir));
        after(fs, synced)?;
    }
    Ok(())
}

/// Adds what is above, since a directory there may be as new: one that took the place of another is no finding. What is
/// durable already costs next to nothing.
pub(super) fn with_ancestors(directories: &mut BTreeSet<Option<RelPath>>) {
    let above = |dir: &RelPath| std::iter::successors(dir.parent(), RelPath::parent).collect::<Vec<_>>();
    let all: Vec<RelPath> = directories.iter().flatten().flat_map(above).collect();
    if !directories.is_empty() {
        directories.insert(None);
    }
    directories.extend(all.into_iter().map(Some));
}

/// What may not be opened can still be synced with everything else.
fn after<F: Fs>(fs: &F, synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error) if is_absence(&error) || matches!(errno(&error), Errno::ISDIR | Errno::NXIO) => Ok(()),
        Err(error) if matches!(errno(&error), Errno::ACCESS | Errno::PERM) => fs.sync_all(),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::make_durable;
    use crate::disk::fs::sim::{Fault, OpKind, SimFs};
    use crate::disk::fs::{Errno, errno};
    use crate::disk::hash::HashOptions;
    use crate::disk::ignore::Ignore;
    use crate::disk::scan::{ScanEvent, Scanner};
    use crate::disk::testing::{World, path};
    use crate::disk::tree::GROUP_SYNC_MIN;
    use protocol::model::RelPath;
    use protocol::sync::Observation;
    use std::sync::atomic::AtomicBool;

    /// What a scan finds that nothing was recorded of, and that is gone.
    fn findings(world: &World<SimFs>) -> (Vec<Observation>, Vec<RelPath>) {
        let (ignore, cancel, clock) = (Ignore::default(), AtomicBool::new(false), || world.fs.now());
        let hash = HashOptions { now: &clock, granularity: std::time::Duration::from_millis(10), cancel: &cancel };
        let scanner = Scanner { fs: &*world.fs, rows: &world.journal, ignore: &ignore, hash, workers: 1 };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        scanner.scan(None, &mut |events| {
            for event in events {
                match event {
                    ScanEvent::Found(it) => found.push(it),
                    ScanEvent::Missing(it) => missing.push(it),
                    _ => {}
                }
            }
        });
        (found, missing)
    }

    /// A tree in which nothing but what was there at first was ever synced.
    fn careless(files: usize) -> World<SimFs> {
        let world = World::simulated();
        for name in ["gone", "old"] {
            world.fs.user_write(&path(name), b"old").unwrap();
            world.scan(name);
        }
        world.fs.user_sync();
        world.fs.user_delete(&path("gone")).unwrap();
        world.fs.user_save(&path("old"), b"new").unwrap();
        world.fs.user_mkdir(&path("d")).unwrap();
        world.fs.user_symlink(&path("d/link"), b"target").unwrap();
        for nth in 0..files {
            world.fs.user_write(&path(&format!("d/{nth}")), b"bytes").unwrap();
        }
        world
    }

    #[test]
    fn what_was_found_outlives_a_power_cut() {
        for files in [1, GROUP_SYNC_MIN] {
            for seed in 0..20_usize {
                let world = careless(files);
                let (found, missing) = findings(&world);
                assert!(found.len() == files + 3 && missing == [path("gone")], "{found:?} {missing:?}");
                make_durable(&*world.fs, &found, &missing).unwrap();
                let before = world.fs.tree();
                let mut state = seed;
                world.fs.power_cut(|n| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) % n
                });
                assert_eq!(world.fs.tree(), before, "{files} files, {seed}");
            }
        }
    }

    #[test]
    fn without_it_a_power_cut_takes_what_was_found() {
        let world = careless(1);
        let before = world.fs.tree();
        world.fs.power_cut(|_| 0);
        assert_ne!(world.fs.tree(), before);
    }

    #[test]
    fn a_disk_that_does_not_take_it_says_so() {
        let world = careless(1);
        let (found, missing) = findings(&world);
        world.fs.set_hook(Some(Box::new(|op| {
            if op.kind == OpKind::SyncFile { Fault::Errno(Errno::IO) } else { Fault::None }
        })));
        let error = make_durable(&*world.fs, &found, &missing).unwrap_err();
        assert_eq!(errno(&error), Errno::IO);
    }

    #[test]
    fn what_went_away_meanwhile_is_passed_over() {
        let world = careless(2);
        let (found, missing) = findings(&world);
        world.fs.user_delete(&path("d/0")).unwrap();
        world.fs.user_delete(&path("old")).unwrap();
        world.fs.user_mkdir(&path("old")).unwrap();
        make_durable(&*world.fs, &found, &missing).unwrap();
        world.fs.user_delete(&path("d")).unwrap();
        make_durable(&*world.fs, &found, &missing).unwrap();
    }
}
