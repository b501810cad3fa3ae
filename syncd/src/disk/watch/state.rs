//! How much of a folder the system watches, and what that means for polling.

use protocol::model::RelPath;
use std::path::Path;
use std::time::Duration;

/// Directories named in a status; beyond it only their number counts.
const UNWATCHED_NAMED_MAX: usize = 64;
/// How often to scan what is not watched.
pub const POLL_EVERY: Duration = Duration::from_secs(60);

/// How much of a folder the system watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchState {
    /// All of it.
    #[default]
    On,
    /// Some changes come without an event.
    Partial {
        /// Directories known to be unwatched, the first ones; everything below them is, too.
        unwatched: Vec<RelPath>,
        /// How many in all.
        count: u64,
        /// Why, and what helps.
        words: String,
    },
    /// No events.
    Off {
        /// Why.
        words: String,
    },
}

impl WatchState {
    /// How often the folder should be scanned because of this; `None` when the ordinary interval is enough.
    #[must_use]
    pub const fn poll_every(&self) -> Option<Duration> {
        match self {
            Self::On => None,
            Self::Partial { .. } | Self::Off { .. } => Some(POLL_EVERY),
        }
    }

    /// What is not watched, and what that means, for people; `None` when all is.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let (how, why) = match self {
            Self::On => return None,
            Self::Partial { count: 0, words, .. } => ("watching partially".to_owned(), words),
            Self::Partial { count, words, .. } => (format!("watching partially, not below {count} directories"), words),
            Self::Off { words } => ("not watching".to_owned(), words),
        };
        Some(format!("{how}: {why}; a scan every {} s finds the rest", POLL_EVERY.as_secs()))
    }

    /// Whether there are no events at all.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off { .. })
    }

    /// Notes an error of the system's watcher.
    pub(super) fn degrade(&mut self, root: &Path, error: &notify::Error) {
        let reason = match &error.kind {
            notify::ErrorKind::MaxFilesWatch => {
                "the system's watch limit is reached: raise fs.inotify.max_user_watches".to_owned()
            }
            kind => format!("some directories cannot be watched: {kind:?}"),
        };
        match self {
            Self::On => *self = Self::Partial { unwatched: Vec::new(), count: 0, words: reason },
            Self::Partial { words, .. } => *words = reason,
            Self::Off { .. } => return,
        }
        let Self::Partial { unwatched, count, .. } = self else { return };
        for path in &error.paths {
            let path = super::hint::below(root, path).and_then(|bytes| RelPath::parse(bytes).ok());
            *count += 1;
            if let Some(path) = path.filter(|path| unwatched.len() < UNWATCHED_NAMED_MAX && !unwatched.contains(path)) {
                unwatched.push(path);
            }
        }
    }
}

/// File systems that other machines change too: magic numbers of statfs(2).
const SHARED_FILE_SYSTEMS: [(u32, &str); 8] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6573_5546, "FUSE"),
];

/// `Partial` on file systems whose other users cause no events here.
pub(super) fn slow_events(root: &Path) -> WatchState {
    let Ok(stat) = rustix::fs::statfs(root) else { return WatchState::On };
    // The field is a signed word on some systems; the magic is its low 32 bits.
    let magic = (stat.f_type as u64 & 0xffff_ffff) as u32;
    match SHARED_FILE_SYSTEMS.iter().find(|(number, _)| *number == magic) {
        None => WatchState::On,
        Some((_, name)) => WatchState::Partial {
            unwatched: Vec::new(),
            count: 0,
            words: format!("{name} file system: changes made elsewhere are found by polling"),
        },
    }
}
