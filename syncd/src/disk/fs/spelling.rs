//! Volumes that take two spellings for one name: those that fold case (FAT, NTFS, APFS, ext4 with casefold) or accents
//! (APFS, HFS+, ZFS with a normalization). Invariant: nothing is asked for outside `.syncd/` but that itself.

use protocol::model::path::PRIVATE_DIR;
use rustix::fs::{AtFlags, Mode};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A name with an accented letter, and the same with the accent after the letter.
const PROBE: [&str; 2] = ["probe-\u{e9}", "probe-e\u{301}"];

/// Whether the volume of a folder folds names. A directory that does so on a volume that does not is not noticed.
pub(super) fn folds(root: impl AsFd, base: impl AsFd) -> bool {
    if is_known_as(&root, &PRIVATE_DIR.to_uppercase()) {
        return true;
    }
    // It may be left from a process that was killed. Where nothing can be made, nothing is changed either.
    let _ = rustix::fs::mkdirat(&base, PROBE[0], Mode::RWXU);
    let folds = is_known_as(&base, PROBE[1]);
    let _ = rustix::fs::unlinkat(&base, PROBE[0], AtFlags::REMOVEDIR);
    folds
}

fn is_known_as(dir: impl AsFd, name: &str) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Whether a directory lists exactly this name.
pub(super) fn is_listed(dir: OwnedFd, name: &[u8]) -> io::Result<bool> {
    for item in rustix::fs::Dir::new(dir)? {
        if item?.file_name().to_bytes() == name {
            return Ok(true);
        }
    }
    Ok(false)
}
