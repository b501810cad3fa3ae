//! What happened: numbered, the latest kept, and told to whoever listens. Publishing never waits: a slow listener loses
//! the oldest events and is told so, and nothing else in the daemon notices.

use protocol::model::RelPath;
use protocol::wire::control::{Event, EventKind, Named, PathText};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

/// Events remembered for readers that come later.
pub const EVENTS_KEPT_MAX: usize = 1000;
/// Events that a slow reader may be behind.
const EVENTS_BEHIND_MAX: usize = 1024;

/// Where events are published and read. Clones share the same events.
#[derive(Clone, Debug)]
pub struct EventHub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    sender: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct Kept {
    last_id: u64,
    events: VecDeque<Event>,
}

/// An event before it has a number and a time.
#[derive(Clone, Debug)]
pub struct NewEvent {
    kind: EventKind,
    folder: Option<Named>,
    device: Option<Named>,
    at: Option<PathText>,
    words: String,
}

impl NewEvent {
    /// An event of a kind, in words for people.
    #[must_use]
    pub fn new(kind: EventKind, words: impl Into<String>) -> Self {
        Self { kind, folder: None, device: None, at: None, words: words.into() }
    }

    /// About this folder.
    #[must_use]
    pub fn folder(mut self, folder: Named) -> Self {
        self.folder = Some(folder);
        self
    }

    /// About this device.
    #[must_use]
    pub fn device(mut self, device: Named) -> Self {
        self.device = Some(device);
        self
    }

    /// About this path inside the folder.
    #[must_use]
    pub fn path(mut self, path: &RelPath) -> Self {
        self.at = Some(PathText::new(path.as_bytes()));
        self
    }
}

impl Default for EventHub {
    fn default() -> Self {
        Self::new()
    }
}

impl EventHub {
    /// No events yet.
    #[must_use]
    pub fn new() -> Self {
        let (sender, _) = broadcast::channel(EVENTS_BEHIND_MAX);
        Self { shared: Arc::new(Shared { kept: Mutex::default(), sender }) }
    }

    /// Numbers, keeps and tells an event; returns its number.
    pub fn publish(&self, new: NewEvent) -> u64 {
        let mut kept = self.kept();
        kept.last_id += 1;
        let event = Event {
            id: kept.last_id,
            time_ms: now_ms(),
            kind: new.kind,
            folder: new.folder,
            device: new.device,
            at: new.at,
            words: new.words,
        };
        if kept.events.len() == EVENTS_KEPT_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Under the lock, so that events are told in the order of their numbers. No listener is no error.
        let _ = self.shared.sender.send(event);
        kept.last_id
    }

    /// Remembered events with a number above `since`, oldest first.
    #[must_use]
    pub fn recent(&self, since: u64) -> Vec<Event> {
        after(&self.kept(), since)
    }

    /// Remembered events above `since` and a receiver of all later ones: none twice, none lost in between.
    #[must_use]
    pub fn subscribe(&self, since: u64) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept();
        (after(&kept, since), self.shared.sender.subscribe())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A panic while it was held left at worst one event half told; the queue is whole.
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that this run never reached belongs to an earlier run: its reader gets everything.
fn after(kept: &Kept, since: u64) -> Vec<Event> {
    let since = if since > kept.last_id { 0 } else { since };
    kept.events.iter().filter(|event| event.id > since).cloned().collect()
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
