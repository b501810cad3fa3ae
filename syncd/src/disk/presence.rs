//! Whether a directory holds the files that the index knows: a marker can be copied to another disk, the files of a
//! folder are not there by chance. Never reads a file; what cannot be looked at counts as not there.

use super::fs::Fs;
use protocol::model::{Content, RelPath};
use protocol::sync::{Have, Kind, Rows};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Percent of the entries that must be where they are expected. People edit, add and delete files while a disk is
/// elsewhere; another disk has none of them.
const ENOUGH_PERCENT: u64 = 70;
/// Fewer than so many that are missing are never asked about: as many deletions are passed on without a question.
const MISSING_MIN: u64 = 10;
/// Entries looked at, spread over the folder: enough for a share, whatever the folder's size.
const SAMPLE: u64 = 2_000;
/// Rows read at a time.
const PAGE: usize = 512;

/// How many of the entries looked at are where they are expected, as what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Entries there, of the same kind and size.
    pub there: u64,
    /// Entries looked at.
    pub of: u64,
}

impl Presence {
    /// Whether this is the folder, changed perhaps.
    #[must_use]
    pub const fn is_enough(self) -> bool {
        self.of - self.there < MISSING_MIN || self.there * 100 >= self.of * ENOUGH_PERCENT
    }
}

/// Compares the tree with the rows.
#[must_use]
pub fn presence<F: Fs, R: Rows + ?Sized>(fs: &F, rows: &R) -> Presence {
    let totals = rows.state().totals;
    let every = (totals.files + totals.directories + totals.symlinks).div_ceil(SAMPLE).max(1);
    let (mut found, mut seen) = (Presence::default(), 0_u64);
    let (mut dirs, mut after) = (Dirs(BTreeMap::new()), None);
    loop {
        let page = rows.below(None, after.as_ref(), PAGE);
        let Some((last, _)) = page.last() else { return found };
        after = Some(last.clone());
        for (path, have) in page {
            if seen.is_multiple_of(every) {
                found.of += 1;
                found.there += u64::from(dirs.is_there(fs, &path, &have));
            }
            seen += 1;
        }
        dirs.0.clear();
    }
}

/// Directories open while one page is looked at.
struct Dirs<D>(BTreeMap<Option<RelPath>, Option<Arc<D>>>);

impl<D> Dirs<D> {
    fn is_there<F: Fs<Dir = D>>(&mut self, fs: &F, path: &RelPath, have: &Have) -> bool {
        let open = |parent: &Option<RelPath>| fs.open_dir(parent.as_ref()).ok().map(Arc::new);
        let parent = path.parent();
        let dir = self.0.entry(parent.clone()).or_insert_with(|| open(&parent)).clone();
        let Some(Ok(Some(found))) = dir.map(|dir| fs.stat(&dir, path.name())) else { return false };
        match &have.entry.content {
            Content::File(file) => found.kind == Kind::File && found.size == file.size,
            Content::Directory => found.kind == Kind::Directory,
            Content::Symlink(_) => found.kind == Kind::Symlink,
            Content::Tombstone => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fs::SimFs;
    use crate::disk::testing::{World, path};

    fn world(entries: u64) -> World<SimFs> {
        let world = World::simulated();
        for at in 0..entries {
            world.fs.user_write(&path(&at.to_string()), b"twelve bytes").unwrap();
            world.scan(&at.to_string());
        }
        world
    }

    #[test]
    fn seven_tenths_in_their_place_are_the_folder() {
        type Change = fn(&World<SimFs>, &RelPath);
        let delete: Change = |world, at| world.fs.user_delete(at).unwrap();
        let cut: Change = |world, at| world.fs.user_write(at, b"other").unwrap();
        let rewrite: Change = |world, at| world.fs.user_write(at, b"TWELVE BYTES").unwrap();
        let other_kind: Change = |world, at| {
            world.fs.user_delete(at).unwrap();
            world.fs.user_mkdir(at).unwrap();
        };
        let rows: [(&str, u64, Change, u64, u64, bool); 8] = [
            ("as it was", 40, delete, 0, 0, true),
            ("three tenths deleted", 40, delete, 12, 12, true),
            ("more deleted", 40, delete, 13, 13, false),
            ("as many of another size", 40, cut, 13, 13, false),
            ("as many of another kind", 40, other_kind, 13, 13, false),
            ("all rewritten at the same size", 40, rewrite, 40, 0, true),
            ("nine are few", 9, delete, 9, 9, true),
            ("ten are not", 10, delete, 10, 10, false),
        ];
        for (name, files, change, count, missed, enough) in rows {
            let world = world(files);
            (0..count).for_each(|at| change(&world, &path(&at.to_string())));
            let found = presence(&*world.fs, &world.journal);
            assert_eq!(found, Presence { there: files - missed, of: files }, "{name}");
            assert_eq!(found.is_enough(), enough, "{name}");
        }
    }

    #[test]
    fn a_folder_without_entries_is_wherever_its_marker_is() {
        assert!(presence(&*world(0).fs, &world(0).journal).is_enough());
    }

    #[test]
    fn a_large_folder_is_sampled_from_end_to_end() {
        let world = world(SAMPLE * 2 + 1);
        let of = |found: Presence| (found.there, found.of);
        assert_eq!(of(presence(&*world.fs, &world.journal)), (1_334, 1_334));
        let gone = (0..=SAMPLE * 2).filter(|at| at.is_multiple_of(2));
        gone.for_each(|at| world.fs.user_delete(&path(&at.to_string())).unwrap());
        let (there, of) = of(presence(&*world.fs, &world.journal));
        assert!(of == 1_334 && there.abs_diff(667) < 60, "{there} of {of}");
    }
}
