//! What an event of the system means for a folder. Pure. Kinds differ between systems and pairing of renames fails,
//! so every path of an event is a hint by itself and unknown kinds count as changes.

use super::coalesce::Reach;
use notify::event::{CreateKind, EventKind, ModifyKind, RenameMode};
use protocol::model::RelPath;
use protocol::model::path::PRIVATE_DIR;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const COOKIE_PREFIX: &str = "cookie-";

/// One thing learned from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Look here.
    Changed(RelPath, Reach),
    /// Look everywhere.
    Lost,
    /// Everything before this cookie has been told.
    Cookie(u64),
}

/// The name in the private directory of a file that is written to see its event come back.
pub(super) fn cookie_name(number: u64) -> String {
    format!("{COOKIE_PREFIX}{number}")
}

/// All hints in an event of the watch on `root`.
pub(super) fn hints(root: &Path, event: &notify::Event) -> Vec<Hint> {
    // Flag first: such an event often has no path at all.
    if event.need_rescan() {
        return vec![Hint::Lost];
    }
    if matches!(event.kind, EventKind::Access(_)) {
        return Vec::new();
    }
    let last = event.paths.len().saturating_sub(1);
    let paths = event.paths.iter().enumerate();
    paths.filter_map(|(index, path)| hint_of(root, path, &event.kind, index == last)).collect()
}

fn hint_of(root: &Path, path: &Path, kind: &EventKind, is_last: bool) -> Option<Hint> {
    let bytes = below(root, path)?;
    if bytes.is_empty() {
        // The root itself: gone, replaced or unmounted matters, its own mode and times do not.
        let own_attributes = matches!(kind, EventKind::Modify(ModifyKind::Metadata(_) | ModifyKind::Data(_)));
        return (!own_attributes).then_some(Hint::Lost);
    }
    match RelPath::parse(bytes) {
        Ok(path) => Some(Hint::Changed(path, reach_of(kind, is_last))),
        // Private, or a name that no folder can hold; scans list those.
        Err(_) => cookie_of(bytes).map(Hint::Cookie),
    }
}

/// The bytes of `path` after `root`; empty for the root itself.
pub(super) fn below<'a>(root: &Path, path: &'a Path) -> Option<&'a [u8]> {
    path.strip_prefix(root).ok().map(|rest| rest.as_os_str().as_bytes())
}

fn cookie_of(bytes: &[u8]) -> Option<u64> {
    let name = bytes.strip_prefix(PRIVATE_DIR.as_bytes())?.strip_prefix(b"/")?;
    std::str::from_utf8(name.strip_prefix(COOKIE_PREFIX.as_bytes())?).ok()?.parse().ok()
}

fn reach_of(kind: &EventKind, is_last: bool) -> Reach {
    match kind {
        EventKind::Create(CreateKind::Folder) => Reach::Subtree,
        EventKind::Create(CreateKind::File) | EventKind::Remove(_) => Reach::Entry,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Reach::Entry,
        // The old name comes first.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) if !is_last => Reach::Entry,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Create(_) => Reach::Moved,
        EventKind::Modify(_) => Reach::Entry,
        EventKind::Any | EventKind::Other | EventKind::Access(_) => Reach::Moved,
    }
}
