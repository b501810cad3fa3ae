//! The life of a session: announced, run by two tasks, and taken leave of.

use super::read::Reader;
use super::write::Writer;
use super::{CONTROL_QUEUE, DATA_QUEUE, Inner, PunchWord, Session, SessionId};
use crate::net::channel::Channel;
use crate::net::config::Liveness;
use crate::net::event::{DownReason, NetEvent};
use crate::net::greet::Greeted;
use protocol::model::DeviceId;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A finished handshake that becomes a session.
pub(in crate::net) struct Start {
    pub(in crate::net) id: SessionId,
    pub(in crate::net) greeted: Greeted,
    pub(in crate::net) liveness: Liveness,
}

/// A session that is over.
pub(in crate::net) struct Ended {
    pub(in crate::net) id: SessionId,
    pub(in crate::net) peer: DeviceId,
    pub(in crate::net) reason: DownReason,
}

/// Aborts the writer when the session's task is dropped.
struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes a session and the future that runs it to its end.
pub(in crate::net) fn run(
    start: Start,
    events: mpsc::Sender<NetEvent>,
    punches: mpsc::Sender<PunchWord>,
) -> (Session, impl Future<Output = Ended> + Send + 'static) {
    let (control_tx, control) = mpsc::channel(CONTROL_QUEUE);
    let (data_tx, data) = mpsc::channel(DATA_QUEUE);
    let inner = Arc::new(Inner::new(&start, control_tx, data_tx));
    let Channel { read, write, sealer, opener, joiner } = start.greeted.channel;
    let mut reader =
        Reader { inner: Arc::clone(&inner), stream: read, opener, joiner, events: events.clone(), punches };
    let writer = Writer { inner: Arc::clone(&inner), stream: write, sealer, control, data };
    let session = Session(Arc::clone(&inner));
    // So that the round trip is known from the start.
    inner.desk().ping();
    let announced = session.clone();
    (session, async move {
        let mut writing = Guard(tokio::spawn(writer.run()));
        let known = tokio::select! {
            biased;
            sent = events.send(NetEvent::SessionUp(announced)) => sent.is_ok(),
            () = inner.ended.cancelled() => false,
        };
        if known {
            reader.run().await;
        }
        // The writer has the last word and stops both halves; a panic in it has been reported already.
        let _ = (&mut writing.0).await;
        let ended = end(&inner, known.then_some(&events)).await;
        if matches!(ended.reason, DownReason::Closed(_) | DownReason::Protocol(_)) {
            reader.linger().await;
        }
        ended
    })
}

/// Fails what is open and says goodbye to whoever knew of the session.
async fn end(inner: &Inner, events: Option<&mpsc::Sender<NetEvent>>) -> Ended {
    inner.ended.cancel();
    inner.request_slots.close();
    inner.request_bytes.close();
    let reason = {
        let mut desk = inner.desk();
        desk.clear();
        desk.ending().map_or(DownReason::Silent, |ending| ending.reason.clone())
    };
    let (id, peer) = (inner.id, inner.peer);
    if let Some(events) = events {
        // The receiver is gone only when the node is.
        let _ = events.send(NetEvent::SessionDown { peer, session: id, reason: reason.clone() }).await;
    }
    Ended { id, peer, reason }
}
