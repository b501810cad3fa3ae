//! Sessions over real sockets: messages, requests and data, endings, and which of two connections stays.

use super::*;
use bytes::Bytes;
use protocol::model::{ContentHash, FolderId, RelPath};
use protocol::wire::message::{
    ChunkErrorCode, ChunkGet, ChunkItem, CloseCode, FolderOffer, Folders, Message, OfferMode,
};

fn folders(name: &str) -> Message {
    let offer =
        FolderOffer { id: FolderId([1; 16]), name: name.to_owned(), replica: None, mode: OfferMode::SendReceive };
    Message::Folders(Folders { offers: vec![offer] })
}

fn chunk_get(len: u32) -> Message {
    let path = RelPath::parse(b"file").expect("a relative path");
    let item = ChunkItem { path, content: ContentHash([2; 32]), first_chunk: 0, count: 8, offset: 0, len };
    Message::ChunkGet(ChunkGet { folder: FolderId([1; 16]), items: vec![item] })
}

async fn next_message(device: &mut Device) -> (u32, Message) {
    let pick = |event| match event {
        NetEvent::Message { req, message, .. } if !matches!(message, Message::Addresses(_)) => Some((req, message)),
        _ => None,
    };
    device.wait("a message", pick).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order_both_ways() {
    let ((mut a, at_a), (mut b, at_b)) = connected(1, 2).await;
    assert_eq!((at_a.peer(), at_b.peer()), (b.id(), a.id()));
    assert_eq!((at_a.name(), at_b.name()), ("device 2", "device 1"));
    assert_eq!((at_a.via(), at_a.initiated(), at_b.initiated()), (Via::Lan, false, true));
    for i in 0..100 {
        at_a.send(folders(&format!("a{i}"))).await.expect("a session");
        at_b.send(folders(&format!("b{i}"))).await.expect("a session");
    }
    for i in 0..100 {
        assert_eq!(next_message(&mut b).await.1, folders(&format!("a{i}")));
        assert_eq!(next_message(&mut a).await.1, folders(&format!("b{i}")));
    }
    let status = a.net.status().await;
    assert_eq!(status[0].connected.map(|connected| connected.via), Some(Via::Lan));
    assert_eq!(status[0].clock_ahead_secs.map(i64::abs).filter(|secs| *secs < 60), status[0].clock_ahead_secs);
    b.net.shutdown().await;
    assert_eq!(a.down(at_a.id()).await, DownReason::ClosedByPeer(CloseCode::DONE));
    assert!(at_a.send(folders("late")).await.is_err());
    assert!(at_a.request(chunk_get(8)).await.is_err());
}

/// Serves every CHUNK_GET with `len` bytes of a pattern, until its session ends.
async fn serve(mut device: Device, session: Session, len: usize) {
    let pattern = Bytes::from((0..len).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    loop {
        let event = device.events.recv().await;
        match event {
            Some(NetEvent::Message { req, message: Message::ChunkGet(_), .. }) => {
                let mut sink = session.data_sink(req);
                let payload = pattern.clone();
                tokio::spawn(async move {
                    // The test looks at what arrives.
                    let _ = sink.send(payload, true).await;
                });
            }
            Some(NetEvent::SessionDown { .. }) | None => return,
            Some(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_mebibytes_come_through_as_they_were() {
    const PART: usize = 4 * 1024 * 1024;
    const PARTS: usize = 16;
    let ((a, at_a), (b, at_b)) = connected(3, 4).await;
    let serving = tokio::spawn(serve(b, at_b, PART));
    let expected = blake3::hash(&(0..PART).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    let started = std::time::Instant::now();
    let mut fetching = tokio::task::JoinSet::new();
    for _ in 0..PARTS {
        let session = at_a.clone();
        fetching.spawn(async move {
            let mut replies = session.request(chunk_get(PART as u32)).await.expect("a session");
            let (mut hasher, mut len) = (blake3::Hasher::new(), 0);
            loop {
                match replies.recv().await {
                    Reply::Data { payload, end } => {
                        len += payload.len();
                        hasher.update(&payload);
                        if end {
                            return (len, hasher.finalize());
                        }
                    }
                    other => panic!("data was expected, not {other:?}"),
                }
            }
        });
    }
    while let Some(fetched) = timeout(PATIENCE, fetching.join_next()).await.expect("data in time") {
        assert_eq!(fetched.expect("no fetch panics"), (PART, expected));
    }
    let secs = started.elapsed().as_secs_f64();
    eprintln!("64 MiB in {secs:.2} s: {:.0} MB/s", (PART * PARTS) as f64 / secs / 1e6);
    a.net.shutdown().await;
    serving.await.expect("the server does not panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_cancelled_fail_and_end_with_the_session() {
    let ((a, at_a), (mut b, at_b)) = connected(5, 6).await;

    let replies = at_a.request(chunk_get(1 << 20)).await.expect("a session");
    let (req, _) = next_message(&mut b).await;
    let mut sink = at_b.data_sink(req);
    sink.send(Bytes::from_static(b"some"), false).await.expect("wanted");
    drop(replies);
    timeout(PATIENCE, sink.cancelled()).await.expect("the cancellation arrives");
    assert_eq!(sink.send(Bytes::new(), true).await, Err(SinkError::Cancelled));

    let mut replies = at_a.request(chunk_get(1 << 20)).await.expect("a session");
    let (req, _) = next_message(&mut b).await;
    at_b.respond(req, Message::ChunkErr(ChunkErrorCode::Busy)).await.expect("a session");
    assert!(matches!(replies.recv().await, Reply::Failed(ChunkErrorCode::Busy)));
    assert!(matches!(replies.recv().await, Reply::Closed));

    let mut replies = at_a.request(chunk_get(1 << 20)).await.expect("a session");
    let (req, _) = next_message(&mut b).await;
    drop(at_b.data_sink(req));
    assert!(matches!(replies.recv().await, Reply::Failed(ChunkErrorCode::Unreadable)), "an abandoned answer");

    let mut replies = at_a.request(chunk_get(1 << 20)).await.expect("a session");
    let (req, _) = next_message(&mut b).await;
    let sink = at_b.data_sink(req);
    a.net.shutdown().await;
    assert!(matches!(replies.recv().await, Reply::Closed));
    timeout(PATIENCE, sink.cancelled()).await.expect("the end arrives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_data_than_asked_for_ends_the_session() {
    let ((mut a, at_a), (mut b, at_b)) = connected(7, 8).await;
    let _replies = at_a.request(chunk_get(8)).await.expect("a session");
    let (req, _) = next_message(&mut b).await;
    let mut sink = at_b.data_sink(req);
    let flood = async { while sink.send(Bytes::from(vec![0; 60_000]), false).await.is_ok() {} };
    timeout(PATIENCE, flood).await.expect("the flood is stopped");
    assert!(matches!(a.down(at_a.id()).await, DownReason::Protocol(_)));
    assert_eq!(b.down(at_b.id()).await, DownReason::ClosedByPeer(CloseCode::PROTOCOL));
}

/// Live sessions of one device, by what its events say.
#[derive(Default)]
struct Ledger {
    live: Vec<Session>,
    ups: usize,
    probed: Option<(SessionId, Message)>,
}

impl Ledger {
    fn note(&mut self, event: NetEvent) {
        match event {
            NetEvent::SessionUp(session) => {
                self.ups += 1;
                self.live.push(session);
            }
            NetEvent::SessionDown { session, .. } => self.live.retain(|live| live.id() != session),
            NetEvent::Message { session, message: message @ Message::Folders(_), .. } => {
                self.probed = Some((session, message));
            }
            _ => {}
        }
    }

    fn only(&self) -> Option<&Session> {
        self.live.first().filter(|_| self.live.len() == 1)
    }
}

/// Waits until either device has one session, and it is the same one: what is sent on the one comes out of the
/// other, many times in a row.
async fn settle(a: &mut Device, b: &mut Device) -> (Ledger, Ledger) {
    let (mut at_a, mut at_b) = (Ledger::default(), Ledger::default());
    let (mut over, mut in_a_row) = (None, 0);
    while in_a_row < 50 {
        if let (Some(from), Some(to)) = (at_a.only(), at_b.only()) {
            let probe = |i| folders(&format!("probe {i} over {}", from.id().0));
            let arrived = over == Some(from.id()) && at_b.probed == Some((to.id(), probe(in_a_row)));
            if arrived || over != Some(from.id()) {
                in_a_row = if arrived { in_a_row + 1 } else { 0 };
                over = Some(from.id());
                // A session that ends meanwhile says so in an event.
                let _ = from.try_send(&probe(in_a_row));
            }
        }
        tokio::select! {
            event = a.wait("sessions to settle", Some) => at_a.note(event),
            event = b.wait("sessions to settle", Some) => at_b.note(event),
        }
    }
    (at_a, at_b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_dial_and_one_session_stays_at_both_ends() {
    for round in 0..10 {
        let mut a = Setup::new(9).peer(10, &[]).start();
        let mut b = Setup::new(10).peer(9, &[]).start();
        let (to_a, to_b) = (a.address(), b.address());
        tokio::join!(
            a.net.set_addresses(b.id(), Vec::new(), vec![to_b]),
            b.net.set_addresses(a.id(), Vec::new(), vec![to_a]),
        );
        let (at_a, at_b) = settle(&mut a, &mut b).await;
        assert!(at_a.ups <= 2 && at_b.ups <= 2, "round {round}: no flapping, {} and {}", at_a.ups, at_b.ups);
        tokio::join!(a.net.shutdown(), b.net.shutdown());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_peer_is_cut_at_once_even_in_the_middle_of_data() {
    let ((a, at_a), (mut b, at_b)) = connected(11, 12).await;
    let _replies = at_a.request(chunk_get(4 << 20)).await.expect("a session");
    let (req, _) = next_message(&mut b).await;
    let mut sink = at_b.data_sink(req);
    let peer = b.id();
    let started = std::time::Instant::now();
    let flood = async { while sink.send(Bytes::from(vec![0; 60_000]), false).await.is_ok() {} };
    let (_, ()) = tokio::join!(timeout(PATIENCE, flood), a.net.remove_peer(peer));
    let reason = b.down(at_b.id()).await;
    assert!(started.elapsed() < Duration::from_secs(1), "cut in {:?}", started.elapsed());
    assert!(matches!(reason, DownReason::ClosedByPeer(CloseCode::REMOVED) | DownReason::Cut(_)), "{reason:?}");
    assert!(a.net.status().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_peer_is_told_and_comes_back() {
    let ((mut a, at_a), (mut b, at_b)) = connected(13, 14).await;
    a.net.set_paused(b.id(), true).await;
    assert_eq!(b.down(at_b.id()).await, DownReason::ClosedByPeer(CloseCode::PAUSED));
    assert_eq!(a.down(at_a.id()).await, DownReason::Closed(CloseCode::PAUSED));
    a.net.set_addresses(b.id(), Vec::new(), vec![b.address()]).await;
    a.net.set_paused(b.id(), false).await;
    tokio::join!(a.session(), b.session());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_died_is_noticed_and_found_again() {
    let mut a = Setup::new(15).peer(16, &[]).start();
    let to_a = a.address();
    let mut b = Process::start(Setup::new(16).peer(15, &[to_a]));
    let (at_a, _) = tokio::join!(a.session(), b.device.session());
    b.kill();
    assert!(matches!(a.down(at_a.id()).await, DownReason::Cut(_)));
    let mut b = Setup::new(16).peer(15, &[to_a]).start();
    tokio::join!(a.session(), b.session());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_identity_is_refused_and_named() {
    let ((a, _at_a), (_b, _at_b)) = connected(17, 18).await;
    let mut copy = Setup { instance: 99, ..Setup::new(18).peer(17, &[a.address()]) }.start();
    let copied = |event| match event {
        NetEvent::SessionDown { reason: DownReason::ClosedByPeer(code), .. } => Some(code),
        _ => None,
    };
    // Refused at first only as a second one; named once the first has shown that it lives.
    assert_eq!(copy.wait("a refusal", copied).await, CloseCode::DUPLICATE);
    while copy.wait("the verdict", copied).await != CloseCode::IDENTITY_COPIED {}
    let words = a.net.status().await[0].last_error.clone().expect("words");
    assert!(words.contains("one identity"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_version_is_named_on_both_sides() {
    let new = |setup: Setup| Setup { tuning: Tuning { versions: (2, 3), ..setup.tuning }, ..setup };
    let older = Setup::new(70).peer(71, &[]).start();
    let newer = new(Setup::new(71).peer(70, &[older.address()])).start();
    older.net.set_addresses(newer.id(), Vec::new(), vec![newer.address()]).await;
    for (device, expected) in
        [(&older, "versions 2 to 3 of the protocol, this one 1 to 1"), (&newer, "this one 2 to 3")]
    {
        let named = async {
            while !device.net.status().await[0].last_error.as_ref().is_some_and(|words| words.contains(expected)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, named).await.unwrap_or_else(|_| panic!("{expected}"));
        assert!(device.net.status().await[0].connected.is_none());
    }
}

/// A peer that shakes hands and then only listens.
async fn mute_peer(own: u8, device: &Device) -> crate::net::greet::Greeted {
    let (identity, peer) = (identity(own), peer_config(own, device.seed, &[]));
    let keys = crate::net::keys::Keys::of_peer(&identity, &peer, &peer.secret);
    let about = About { name: String::new(), instance: [1; 16], boot: [2; 8], software: String::new() };
    let own = Own::new(Arc::new(identity), about, None, Tuning::default());
    let stream = tokio::net::TcpStream::connect(device.address()).await.expect("it listens");
    let path = crate::net::greet::Path::direct(device.address());
    let asked = crate::net::greet::ask(stream, path, &own, &keys).await.expect("an answer");
    asked.finish(&own).await.expect("a greeting")
}

/// A device that loses patience soon, and a peer that never says a word.
async fn beside_a_mute(seed: u8, idle_dead: Duration) -> (Device, Session, crate::net::greet::Greeted) {
    let liveness = Liveness {
        idle_ping: (Duration::from_millis(500), Duration::from_millis(700)),
        idle_dead,
        busy_ping: Duration::from_millis(50),
        busy_dead: Duration::from_millis(150),
    };
    let setup = Setup::new(seed).peer(seed + 1, &[]);
    let mut device = Setup { tuning: Tuning { liveness, ..setup.tuning }, ..setup }.start();
    let mute = mute_peer(seed + 1, &device).await;
    let session = device.session().await;
    (device, session, mute)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_asked_and_then_given_up() {
    let (mut device, session, mut mute) = beside_a_mute(60, Duration::from_millis(1500)).await;
    assert_eq!(device.down(session.id()).await, DownReason::Silent);
    assert!(session.silent_for() >= Duration::from_millis(1500));
    // The first one times the round trip, the second asks whether anybody is there.
    assert!(matches!(mute.channel.recv().await, Ok(Message::Ping)));
    assert!(matches!(mute.channel.recv().await, Ok(Message::Addresses(_))));
    assert!(matches!(mute.channel.recv().await, Ok(Message::Ping)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_request_open_patience_is_short() {
    let (mut device, session, _mute) = beside_a_mute(62, 10 * PATIENCE).await;
    let mut replies = session.request(chunk_get(8)).await.expect("a session");
    assert_eq!(device.down(session.id()).await, DownReason::Silent);
    assert!(matches!(replies.recv().await, Reply::Closed));
}
