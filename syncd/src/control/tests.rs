//! The server over a real socket with a scripted node behind it. The client is written by hand: bytes in, bytes out.

use super::socket::is_allowed;
use super::*;
use crate::home::{Home, HomeInUse};
use protocol::model::RelPath;
use protocol::wire::control::{ErrorCode, EventKind, PairingEvent};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fixture {
    _dir: tempfile::TempDir,
    home: Home,
    events: EventHub,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    inbox: mpsc::Receiver<Request>,
}

fn start() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(&dir.path().join("home")).unwrap();
    home.create().unwrap();
    start_in(dir, home)
}

fn start_in(dir: tempfile::TempDir, home: Home) -> Fixture {
    let events = EventHub::new();
    let (handle, inbox) = Handle::new(events.clone());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(Server::bind(&home.socket()).unwrap().serve(handle, stop.clone()));
    Fixture { _dir: dir, home, events, stop, serving, inbox }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

async fn dial(home: &Home) -> UnixStream {
    let (address, _directory) = socket::short_address(&home.socket()).unwrap();
    UnixStream::connect(address).await.unwrap()
}

async fn send(home: &Home, method: &str, route: &str, body: &str) -> UnixStream {
    let mut stream = dial(home).await;
    let head = format!(
        "{method} /v1/{route} HTTP/1.1\r\nHost: syncd\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The status code and the body.
async fn call(home: &Home, method: &str, route: &str, body: &str) -> (u16, String) {
    let mut stream = send(home, method, route, body).await;
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn read_until(stream: &mut UnixStream, needle: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = within(stream.read(&mut buffer)).await.unwrap();
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen);
        if text.contains(needle) {
            return text.into_owned();
        }
        assert!(count > 0, "the stream ended before {needle}: {text}");
    }
}

fn ping() -> api::Ping {
    api::Ping { version: "0".into(), pid: 1, api: api::API_VERSION }
}

#[tokio::test]
async fn requests_reach_the_node_and_answers_come_back() {
    let Fixture { _dir, home, mut inbox, .. } = start();
    tokio::spawn(async move {
        while let Some(request) = inbox.recv().await {
            match request {
                Request::Ping { reply } => reply.send(Ok(ping())).unwrap(),
                Request::Folder { folder, action, reply } => {
                    reply.send(Ok(api::Done::said(format!("{folder} {}", action.word())))).unwrap();
                }
                Request::Device { device, action, reply } => {
                    reply.send(Ok(api::Done::said(format!("{device} {action:?}")))).unwrap();
                }
                Request::FolderSet { reply, .. } => {
                    let error = ControlError::not_found("there is no folder x").hint("look");
                    reply.send(Err(error)).unwrap();
                }
                Request::Log { query, reply } => {
                    assert_eq!((query.limit, query.at), (Some(3), None));
                    reply.send(Ok(api::Log { entries: Vec::new() })).unwrap();
                }
                // Dropped without an answer, as by a node that is going down.
                other => drop(other),
            }
        }
    });
    let rows = [
        ("GET", "ping", "", 200, r#"{"version":"0","pid":1,"api":1}"#),
        ("POST", "folders/approve", r#"{"folder":"a"}"#, 200, r#"{"words":"a approve"}"#),
        ("POST", "folders/remove", r#"{"folder":"a"}"#, 200, r#"{"words":"a remove"}"#),
        ("POST", "devices/pause", r#"{"device":"d"}"#, 200, r#"{"words":"d Pause"}"#),
        ("POST", "devices/rename", r#"{"device":"d","name":"e"}"#, 200, r#"{"words":"d Rename(\"e\")"}"#),
        ("POST", "log", r#"{"limit":3}"#, 200, r#"{"entries":[]}"#),
        (
            "POST",
            "folders/set",
            r#"{"folder":"x","key":"k","value":"v"}"#,
            404,
            r#"{"error":"there is no folder x","hint":"look","code":"not_found"}"#,
        ),
        ("GET", "status", "", 503, r#"{"error":"the daemon is stopping","code":"unavailable"}"#),
    ];
    for (method, route, body, status, answer) in rows {
        assert_eq!(call(&home, method, route, body).await, (status, answer.to_owned()), "{method} {route}");
    }
}

#[tokio::test]
async fn wrong_requests_are_refused_in_json() {
    let Fixture { _dir, home, inbox: _inbox, .. } = start();
    let long = format!("{{\"folder\":\"{}\"}}", "x".repeat(api::REQUEST_LEN_MAX));
    let rows = [
        ("GET", "nothing", "", 404, "there is no route /v1/nothing"),
        ("GET", "stop", "", 405, "GET is not possible on /v1/stop"),
        ("POST", "folders/explode", "{}", 404, "there is no route"),
        ("POST", "wait", "{", 400, "JSON"),
        ("POST", "folders/pause", "{}", 400, "missing field `folder`"),
        ("POST", "folders/pause", &long, 400, "length limit"),
        ("POST", "folders/add", r#"{"path":"/a","mode":"both"}"#, 400, "unknown variant `both`"),
        ("GET", "events?since=x", "", 400, "invalid digit"),
    ];
    for (method, route, body, status, words) in rows {
        let (code, answer) = call(&home, method, route, body).await;
        let error: ControlError = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{route}: {answer}"));
        assert_eq!(code, status, "{route}: {answer}");
        assert!(error.error.contains(words), "{route}: {answer}");
    }
}

#[tokio::test]
async fn only_this_user_gets_in() {
    let Fixture { _dir, home, inbox: _inbox, .. } = start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.socket()), 0o600);
    assert_eq!(mode(&home.run()), 0o700);
    assert_eq!(mode(&home.keys()), 0o700);
    for (peer, own, allowed) in [(1000, 1000, true), (0, 1000, true), (1001, 1000, false), (1000, 0, false)] {
        assert_eq!(is_allowed(peer, own), allowed, "{peer} at {own}");
    }
    let dir = tempfile::tempdir().unwrap();
    let open = Home::at(dir.path()).unwrap();
    open.create().unwrap();
    std::fs::set_permissions(open.run(), std::fs::Permissions::from_mode(0o750)).unwrap();
    let error = format!("{:#}", Server::bind(&open.socket()).unwrap_err());
    assert!(error.contains("open to other users (mode 750): run chmod 700"), "{error}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path()).unwrap();
    home.create().unwrap();
    drop(std::os::unix::net::UnixListener::bind(home.socket()).unwrap());
    let fixture = start_in(dir, home);
    let error = Server::bind(&fixture.home.socket()).unwrap_err();
    assert!(error.downcast_ref::<AlreadyAnswered>().is_some(), "{error:#}");
    assert!(fixture.home.socket().exists(), "the refused one must not take the live one's file away");
    fixture.stop.cancel();
    within(fixture.serving).await.unwrap();
    assert!(!fixture.home.socket().exists());
    std::fs::write(fixture.home.socket(), "mine").unwrap();
    let error = format!("{:#}", Server::bind(&fixture.home.socket()).unwrap_err());
    assert!(error.contains("in the way and no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(fixture.home.socket()).unwrap(), "mine");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_works() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(&dir.path().join("x".repeat(120)).join("y".repeat(120))).unwrap();
    home.create().unwrap();
    let mut fixture = start_in(dir, home);
    let (answer, ()) = tokio::join!(call(&fixture.home, "GET", "ping", ""), async {
        let Some(Request::Ping { reply }) = fixture.inbox.recv().await else { panic!("no ping") };
        reply.send(Ok(ping())).unwrap();
    });
    assert_eq!(answer.0, 200);
    fixture.stop.cancel();
    within(fixture.serving).await.unwrap();
    assert!(!fixture.home.socket().exists());
}

#[tokio::test]
async fn a_pairing_streams_and_ends_with_its_last_event() {
    let mut fixture = start();
    let mut stream = send(&fixture.home, "POST", "pairing/show", "{}").await;
    let Some(Request::PairShow { reply, .. }) = within(fixture.inbox.recv()).await else { panic!("no request") };
    let (events, source) = mpsc::channel(4);
    reply.send(Ok(source)).unwrap();
    let code =
        PairingEvent::Code { pairing: 1, code: "k7qm".into(), link: "l".into(), expires_s: 9, recovery_code: None };
    events.send(code).await.unwrap();
    let text = read_until(&mut stream, "\n\n").await;
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    let text = if text.contains("k7qm") { text } else { read_until(&mut stream, "k7qm").await };
    assert!(text.contains("event: code\ndata: {\"event\":\"code\",\"pairing\":1,\"code\":\"k7qm\""), "{text}");
    let why = ControlError::new(ErrorCode::Timeout, "nobody came");
    events.send(PairingEvent::Failed { why }).await.unwrap();
    let mut rest = String::new();
    within(stream.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.contains("event: failed\ndata: {\"event\":\"failed\",\"error\":\"nobody came\""), "{rest}");
    within(events.closed()).await;
}

#[tokio::test]
async fn hanging_up_is_seen_by_the_node() {
    let mut fixture = start();
    let stream = send(&fixture.home, "POST", "pairing/join", r#"{"code":"c"}"#).await;
    let Some(Request::PairJoin { reply, .. }) = within(fixture.inbox.recv()).await else { panic!("no request") };
    let (events, source) = mpsc::channel(4);
    reply.send(Ok(source)).unwrap();
    drop(stream);
    within(events.closed()).await;
    let stream = send(&fixture.home, "POST", "wait", "{}").await;
    let Some(Request::Wait { mut reply, wait }) = within(fixture.inbox.recv()).await else { panic!("no request") };
    assert_eq!(wait, api::Wait::default());
    drop(stream);
    within(reply.closed()).await;
}

#[tokio::test]
async fn events_are_remembered_and_streamed_in_order() {
    let fixture = start();
    let path = RelPath::parse(b"a/b").unwrap();
    fixture.events.publish(NewEvent::new(EventKind::Started, "one"));
    fixture.events.publish(NewEvent::new(EventKind::RemoteChange, "two").path(&path));
    let (_, body) = call(&fixture.home, "GET", "events?since=1", "").await;
    let events: api::Events = serde_json::from_str(&body).unwrap();
    assert_eq!(events.events.iter().map(|event| event.words.as_str()).collect::<Vec<_>>(), ["two"]);
    let mut stream = send(&fixture.home, "GET", "events/stream", "").await;
    let text = read_until(&mut stream, "two").await;
    assert!(text.contains("event: started\nid: 1\n"), "{text}");
    fixture.events.publish(NewEvent::new(EventKind::Stopping, "three"));
    assert!(read_until(&mut stream, "three").await.contains("event: stopping\nid: 3\n"));
    fixture.stop.cancel();
    let mut rest = String::new();
    within(stream.read_to_string(&mut rest)).await.unwrap();
    within(fixture.serving).await.unwrap();
}

#[test]
fn the_hub_keeps_a_bounded_number_of_events() {
    let hub = EventHub::new();
    let count = events::EVENTS_KEPT_MAX as u64 + 10;
    for number in 0..count {
        assert_eq!(hub.publish(NewEvent::new(EventKind::InSync, "")), number + 1);
    }
    let recent = hub.recent(0);
    assert_eq!(recent.len(), events::EVENTS_KEPT_MAX);
    assert_eq!((recent[0].id, recent[recent.len() - 1].id), (11, count));
    assert_eq!(hub.recent(count - 1).len(), 1);
    assert_eq!(hub.recent(count + 5).len(), events::EVENTS_KEPT_MAX, "a number of an earlier run");
}

#[test]
fn one_daemon_per_home_and_private_keys() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path()).unwrap();
    home.create().unwrap();
    let lock = home.lock().unwrap();
    assert!(home.lock().unwrap_err().downcast_ref::<HomeInUse>().is_some());
    drop(lock);
    home.lock().unwrap();
    home.create().expect("a second start finds everything in place");
    std::fs::set_permissions(home.keys(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = format!("{:#}", home.create().unwrap_err());
    assert!(error.contains("chmod 700"), "{error}");
    std::fs::remove_dir(home.keys()).unwrap();
    std::os::unix::fs::symlink("/tmp", home.keys()).unwrap();
    assert!(format!("{:#}", home.create().unwrap_err()).contains("is not a directory"));
    assert!(Home::at(Path::new("")).is_err());
}
