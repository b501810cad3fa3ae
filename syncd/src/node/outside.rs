//! What folders call from their own threads: sends go straight to the peer's session, the rest becomes a note for
//! the node's loop. Nothing here blocks.

use crate::disk::fs::RealFs;
use crate::folder::{FetchRequest, Outside, Record, StopCause, What};
use crate::net::{Session, TrySendError};
use crate::transfer::Transfer;
use protocol::model::{DeviceId, FolderId, RelPath};
use protocol::sync::engine::Alarm;
use protocol::wire::message::{CloseCode, Message, capability};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use tokio::sync::mpsc;

/// What the node hears from its folders.
#[derive(Debug)]
pub(super) enum Note {
    /// A path changed.
    Changed(FolderId, Record),
    /// Idle or busy.
    State(FolderId, bool),
    /// Needs a person.
    Alarm(FolderId, Alarm),
    /// What it told of is over.
    AlarmOver(FolderId, Alarm),
    /// Something is wrong, in words.
    Problem(FolderId, String),
    /// Stopped, or goes on.
    Stopped(FolderId, Option<StopCause>),
}

/// Notes that wait for the node; events are dropped beyond, since they only tell people what happened.
const NOTES_MAX: usize = 4096;

/// Live sessions by peer, shared with the folders' threads.
#[derive(Default)]
pub(super) struct Router {
    sessions: RwLock<BTreeMap<DeviceId, Session>>,
}

impl Router {
    pub(super) fn set(&self, peer: DeviceId, session: Session) {
        self.sessions.write().expect("no thread panics while it holds the sessions").insert(peer, session);
    }

    pub(super) fn remove(&self, peer: &DeviceId) {
        self.sessions.write().expect("no thread panics while it holds the sessions").remove(peer);
    }

    pub(super) fn get(&self, peer: &DeviceId) -> Option<Session> {
        self.sessions.read().expect("no thread panics while it holds the sessions").get(peer).cloned()
    }
}

/// Which folders which peers may read: asked by the chunk server for every request.
#[derive(Default)]
pub(super) struct Grants(RwLock<BTreeMap<DeviceId, BTreeSet<FolderId>>>);

impl Grants {
    pub(super) fn set(&self, grants: BTreeMap<DeviceId, BTreeSet<FolderId>>) {
        *self.0.write().expect("no thread panics while it holds the grants") = grants;
    }

    pub(super) fn allows(&self, peer: &DeviceId, folder: &FolderId) -> bool {
        let grants = self.0.read().expect("no thread panics while it holds the grants");
        grants.get(peer).is_some_and(|folders| folders.contains(folder))
    }
}

/// The folders' way out.
pub(super) struct Exit {
    pub(super) router: Arc<Router>,
    pub(super) transfer: Arc<Transfer<RealFs>>,
    pub(super) notes: mpsc::Sender<Note>,
}

impl Exit {
    pub(super) fn new(router: Arc<Router>, transfer: Arc<Transfer<RealFs>>) -> (Self, mpsc::Receiver<Note>) {
        let (notes, inbox) = mpsc::channel(NOTES_MAX);
        (Self { router, transfer, notes }, inbox)
    }

    fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            tracing::debug!("an event was dropped: too many at once");
        }
    }
}

impl Outside for Exit {
    fn send(&self, peer: DeviceId, message: Message) {
        let Some(session) = self.router.get(&peer) else {
            return;
        };
        // Who does not know this message would take it for a breach of the protocol.
        if matches!(message, Message::Run(_)) && session.hello().capabilities & capability::RUNS == 0 {
            return;
        }
        if session.try_send(&message) == Err(TrySendError::Full) {
            tracing::debug!(peer = %peer.short(), "a session was cut: its peer does not read");
            session.close(CloseCode::BUSY);
        }
    }

    fn fetch(&self, request: FetchRequest) {
        let FetchRequest { folder, path, origin, content, sources } = request;
        self.transfer.fetch(folder, path, origin, content, sources);
    }

    fn cancel_fetch(&self, folder: FolderId, path: &RelPath) {
        self.transfer.cancel(folder, path.clone());
    }

    fn changed(&self, folder: FolderId, record: &Record) {
        self.note(Note::Changed(folder, record.clone()));
    }

    fn state_changed(&self, folder: FolderId, idle: bool) {
        self.note(Note::State(folder, idle));
    }

    fn alarm(&self, folder: FolderId, alarm: &Alarm) {
        self.note(Note::Alarm(folder, alarm.clone()));
    }

    fn alarm_over(&self, folder: FolderId, alarm: &Alarm) {
        self.note(Note::AlarmOver(folder, alarm.clone()));
    }

    fn problem(&self, folder: FolderId, words: &str) {
        self.note(Note::Problem(folder, words.to_owned()));
    }

    fn stopped(&self, folder: FolderId, cause: Option<StopCause>) {
        self.note(Note::Stopped(folder, cause));
    }
}

/// The control API's word for a change.
pub(super) const fn change_word(what: What) -> protocol::wire::control::Change {
    use protocol::wire::control::Change;
    match what {
        What::Added => Change::Added,
        What::Changed => Change::Changed,
        What::Touched => Change::Touched,
        What::Deleted => Change::Deleted,
        What::Moved => Change::Moved,
        What::Conflict => Change::Conflict,
    }
}
