//! Between the engine's events and effects and the wire's messages: the same facts in two vocabularies.

use protocol::model::{DeviceId, FolderId, ReplicaId};
use protocol::sync::DeclineCode;
use protocol::sync::engine::{Declined, DigestWords, Effect, Event, IndexBatch, RunWords};
use protocol::wire::message as wire;
use protocol::wire::message::Message;

/// A message of a peer as an engine event; `None` when it is not about a folder's index.
/// `replica` is the peer's, as its offer named it.
#[must_use]
pub fn event(peer: DeviceId, replica: ReplicaId, message: Message) -> Option<Event> {
    match message {
        Message::IndexGet(get) => {
            Some(Event::IndexGet { peer, replica: get.replica, from: get.from, credit: get.credit })
        }
        Message::Index(index) => {
            let wire::Index { replica, from, to, head, rows, .. } = index;
            Some(Event::Index { peer, batch: IndexBatch { replica, from, to, head, rows } })
        }
        Message::IndexAck(ack) => Some(Event::IndexAck {
            peer,
            replica: ack.replica,
            sequence: ack.sequence,
            declined: ack.declined.into_iter().map(declined_in).collect(),
        }),
        Message::Digest(note) => Some(Event::Digest {
            peer,
            words: DigestWords {
                replica,
                head: note.my_seq,
                your_replica: note.your_replica,
                your_applied: note.your_seq_applied,
                digest: note.digest,
                idle: note.idle,
            },
        }),
        Message::Run(told) => {
            let wire::Run { replica, run, your_replica, yours, .. } = told;
            Some(Event::Run { peer, words: RunWords { replica, run, your_replica, yours } })
        }
        _ => None,
    }
}

/// The folder that a message is about.
#[must_use]
pub fn folder_of(message: &Message) -> Option<FolderId> {
    match message {
        Message::IndexGet(get) => Some(get.folder),
        Message::Index(index) => Some(index.folder),
        Message::IndexAck(ack) => Some(ack.folder),
        Message::Digest(note) => Some(note.folder),
        Message::Run(told) => Some(told.folder),
        Message::Partial(partial) => Some(partial.folder),
        _ => None,
    }
}

/// Where an effect goes.
pub(super) enum Outgoing {
    /// To a peer.
    Message(DeviceId, Message),
    /// It is for this device.
    Here(Effect),
}

/// An effect as a message, if it goes to a peer.
pub(super) fn outgoing(folder: FolderId, effect: Effect) -> Outgoing {
    match effect {
        Effect::IndexGet { peer, replica, from } => {
            let credit = protocol::limits::INDEX_CREDIT_MAX;
            Outgoing::Message(peer, Message::IndexGet(wire::IndexGet { folder, replica, from, credit }))
        }
        Effect::Index { peer, batch } => {
            let IndexBatch { replica, from, to, head, rows } = batch;
            Outgoing::Message(peer, Message::Index(wire::Index { folder, replica, from, to, head, rows }))
        }
        Effect::IndexAck { peer, replica, sequence, declined } => {
            let declined = declined.into_iter().map(declined_out).collect();
            Outgoing::Message(peer, Message::IndexAck(wire::IndexAck { folder, replica, sequence, declined }))
        }
        Effect::Digest { peer, words } => Outgoing::Message(
            peer,
            Message::Digest(wire::DigestNote {
                folder,
                my_seq: words.head,
                your_replica: words.your_replica,
                your_seq_applied: words.your_applied,
                digest: words.digest,
                idle: words.idle,
            }),
        ),
        Effect::Run { peer, words } => {
            let RunWords { replica, run, your_replica, yours } = words;
            Outgoing::Message(peer, Message::Run(wire::Run { folder, replica, run, your_replica, yours }))
        }
        other => Outgoing::Here(other),
    }
}

fn declined_in(declined: wire::Declined) -> Declined {
    let code = match declined.code {
        wire::DeclineCode::Ignored => Some(DeclineCode::Ignored),
        wire::DeclineCode::SendOnly => Some(DeclineCode::SendOnly),
        wire::DeclineCode::NoSpace => Some(DeclineCode::NoSpace),
        wire::DeclineCode::NameImpossible => Some(DeclineCode::NameImpossible),
        wire::DeclineCode::Waiting => Some(DeclineCode::WaitingForApproval),
        wire::DeclineCode::Unreadable => Some(DeclineCode::Unreadable),
        wire::DeclineCode::LinkBlocked => Some(DeclineCode::Blocked),
        wire::DeclineCode::Other if declined.words.is_empty() => None,
        wire::DeclineCode::Other => Some(DeclineCode::Blocked),
        wire::DeclineCode::NotAWriter => Some(DeclineCode::NotAWriter),
    };
    Declined { path: declined.path, version: declined.version, code, words: declined.words }
}

fn declined_out(declined: Declined) -> wire::Declined {
    let code = match declined.code {
        Some(DeclineCode::Ignored) => wire::DeclineCode::Ignored,
        Some(DeclineCode::SendOnly) => wire::DeclineCode::SendOnly,
        Some(DeclineCode::NoSpace) => wire::DeclineCode::NoSpace,
        Some(DeclineCode::NameImpossible) => wire::DeclineCode::NameImpossible,
        Some(DeclineCode::WaitingForApproval) => wire::DeclineCode::Waiting,
        Some(DeclineCode::Unreadable) => wire::DeclineCode::Unreadable,
        Some(DeclineCode::Blocked) => wire::DeclineCode::LinkBlocked,
        Some(DeclineCode::NotAWriter) => wire::DeclineCode::NotAWriter,
        // Taken back: no code of its own, so no words either.
        None => wire::DeclineCode::Other,
    };
    let words = declined.words.chars().take(protocol::limits::NAME_LEN_MAX).collect();
    wire::Declined { path: declined.path, version: declined.version, code, words }
}
