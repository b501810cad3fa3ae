//! Server-sent events as a response body. A pump task turns typed events into text; it ends when the client hangs up,
//! when the source ends or when the server stops, and drops its source then.

use super::events::now_ms;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::header;
use protocol::wire::control::{Event, EventKind, PairingEvent};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// Text parts that may wait for a slow client.
const PARTS_QUEUED_MAX: usize = 16;
/// A comment goes out after so much silence, so that a dead client is found.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Parts(mpsc::Receiver<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn respond(parts: mpsc::Receiver<Bytes>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, axum::body::Body::new(Parts(parts))).into_response()
}

/// One server-sent event. JSON has no raw line breaks, so one `data:` line is enough.
fn part(kind: &str, id: Option<u64>, value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).expect("the API's types have string keys only");
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    Bytes::from(format!("event: {kind}\n{id}data: {json}\n\n"))
}

fn keep_alive() -> Bytes {
    Bytes::from_static(b": still here\n\n")
}

/// A pairing's events until its last one.
pub(super) fn pairing(mut source: mpsc::Receiver<PairingEvent>, stop: CancellationToken) -> Response {
    let (sender, parts) = mpsc::channel(PARTS_QUEUED_MAX);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                () = sender.closed() => return,
                () = stop.cancelled() => return,
                event = source.recv() => match event {
                    Some(event) => (part(event.word(), None, &event), event.is_last()),
                    None => return,
                },
                () = tokio::time::sleep(KEEP_ALIVE) => (keep_alive(), false),
            };
            if sender.send(next.0).await.is_err() || next.1 {
                return;
            }
        }
    });
    respond(parts)
}

/// Remembered events, then each new one.
pub(super) fn events(
    remembered: Vec<Event>,
    mut source: broadcast::Receiver<Event>,
    stop: CancellationToken,
) -> Response {
    let (sender, parts) = mpsc::channel(PARTS_QUEUED_MAX);
    tokio::spawn(async move {
        for event in remembered {
            if sender.send(part(event.kind.word(), Some(event.id), &event)).await.is_err() {
                return;
            }
        }
        loop {
            let next = tokio::select! {
                () = sender.closed() => return,
                () = stop.cancelled() => return,
                event = source.recv() => match event {
                    Ok(event) => part(event.kind.word(), Some(event.id), &event),
                    Err(broadcast::error::RecvError::Lagged(count)) => missed(count),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = tokio::time::sleep(KEEP_ALIVE) => keep_alive(),
            };
            if sender.send(next).await.is_err() {
                return;
            }
        }
    });
    respond(parts)
}

/// Has no number of its own (0), so that a reader's place in the stream stays where it was.
fn missed(count: u64) -> Bytes {
    let event = Event {
        id: 0,
        time_ms: now_ms(),
        kind: EventKind::Missed,
        folder: None,
        device: None,
        at: None,
        words: format!("{count} events were missed: this reader is too slow"),
    };
    part(event.kind.word(), None, &event)
}
