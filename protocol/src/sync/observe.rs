//! What a local change means: the next version of a path, or nothing.
//! A local edit bumps the version of what this device has, never of something it only heard of.

use crate::model::{Content, Entry, Event, Mode, Mtime, Version};

/// What a user sees at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Kind and bytes.
    pub content: Content,
    /// Permission bits; ignored for tombstones and links.
    pub mode: Mode,
    /// Ignored for tombstones and directories: their times are not synced.
    pub mtime: Mtime,
}

impl Seen {
    /// Clears what is not synced for this kind, so that equal things compare equal.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        match self.content {
            Content::Tombstone => (self.mode, self.mtime) = (Mode::default(), Mtime::default()),
            Content::Directory => self.mtime = Mtime::default(),
            Content::Symlink(_) => self.mode = Mode::default(),
            Content::File(_) => {}
        }
        self
    }
}

/// The entry that records `seen` over `have` as `event`; `None` when nothing changed.
///
/// A change of content renews `content_at` (and `mode_at` when the kind changed), a chmod only `mode_at`,
/// a touch neither. `history` is false while a new replica scans for the first time: then bytes without a row
/// are marked as found, since they may be an old version of something.
#[must_use]
pub fn observe(have: Option<&Entry>, seen: Seen, event: Event, history: bool) -> Option<Entry> {
    let seen = seen.normalized();
    let Some(have) = have else {
        return seen.content.is_live().then(|| first(seen, event, !history));
    };
    let same_content = have.content.same(&seen.content);
    if same_content && have.mode == seen.mode && have.mtime == seen.mtime {
        return None;
    }
    let same_kind = std::mem::discriminant(&have.content) == std::mem::discriminant(&seen.content);
    let here = Version::of(event);
    let keeps_mode = same_kind && have.mode == seen.mode;
    Some(Entry {
        version: have.version.bumped(event),
        ancestors: have.ancestors_for(&seen.content),
        content_at: if same_content { have.content_at.clone() } else { here.clone() },
        content: seen.content,
        mode: seen.mode,
        mode_at: if keeps_mode { have.mode_at.clone() } else { here },
        mtime: seen.mtime,
        // Whoever changes the mode of bytes that were found has not written them.
        found: same_content && have.found,
    })
}

fn first(seen: Seen, event: Event, found: bool) -> Entry {
    let here = Version::of(event);
    Entry {
        version: here.clone(),
        content: seen.content,
        content_at: here.clone(),
        mode: seen.mode,
        mode_at: here,
        mtime: seen.mtime,
        ancestors: Vec::new(),
        found,
    }
}
