//! What a stranger sees: nothing.

use super::*;
use crate::net::keys::Keys;
use protocol::limits::PROTOCOL_VERSIONS;
use protocol::wire::handshake::{Initiator, MESSAGE_2_LEN, Params};
use protocol::wire::knock::{Context, Knock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes that come back until the connection is closed.
async fn answer(mut stream: TcpStream) -> usize {
    let mut all = Vec::new();
    // A reset is a close like any other.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("strangers are closed in time");
    all.len()
}

/// What an honest initiator of device `own` sends first.
fn opening(own: u8, other: u8) -> Vec<u8> {
    let (identity, peer) = (identity(own), peer_config(own, other, &[]));
    let keys = Keys::of_peer(&identity, &peer, &peer.secret);
    let knock = Knock::make(&keys.knock_out, Context::Session, random(), unix_now());
    let params = Params {
        context: Context::Session,
        knock: &knock,
        psk: &keys.psk,
        own: &identity,
        expected: keys.expected,
        hello: Default::default(),
        channel_binding: [0; 32],
        versions: PROTOCOL_VERSIONS,
    };
    let (_, message_1) = Initiator::start(&params, &random()).expect("honest parameters");
    [knock.0.as_slice(), &message_1].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_garbage_get_not_one_byte() {
    let device = Setup::new(20).peer(21, &[]).start();
    let mut visits = tokio::task::JoinSet::new();
    let wrong_key = opening(21, 22);
    let mut cut_short = opening(21, 20);
    cut_short.truncate(700);
    let mut spoiled = opening(21, 20);
    spoiled[100] ^= 1;
    let rows: [(&str, Vec<u8>); 6] = [
        ("a port scan", Vec::new()),
        ("a browser", b"GET / HTTP/1.1\r\nHost: example\r\n\r\n".to_vec()),
        ("noise", random::<1500>().to_vec()),
        ("another pair", wrong_key),
        ("half an opening", cut_short),
        ("a spoiled opening", spoiled),
    ];
    for (name, bytes) in rows {
        let address = device.address();
        visits.spawn(async move {
            let started = std::time::Instant::now();
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            stream.write_all(&bytes).await.expect("it reads");
            assert_eq!(answer(stream).await, 0, "{name}");
            assert!(started.elapsed() > Duration::from_millis(1200), "{name}: not before the time of strangers is up");
        });
    }
    while let Some(visit) = visits.join_next().await {
        visit.expect("no byte came back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_knock_opens_once() {
    let device = Setup::new(23).peer(24, &[]).start();
    let opening = opening(24, 23);
    let mut first = TcpStream::connect(device.address()).await.expect("it listens");
    first.write_all(&opening).await.expect("it reads");
    let mut reply = [0; MESSAGE_2_LEN];
    timeout(PATIENCE, first.read_exact(&mut reply)).await.expect("in time").expect("the first is answered");
    let mut second = TcpStream::connect(device.address()).await.expect("it listens");
    second.write_all(&opening).await.expect("it reads");
    assert_eq!(answer(second).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_neighbour_cannot_fill_the_door() {
    let setup = Setup::new(25).peer(26, &[]);
    let tuning = Tuning { drain: PATIENCE, knock_wait: PATIENCE, ..setup.tuning };
    let mut device = Setup { tuning, ..setup }.start();
    let mut strangers = Vec::new();
    for _ in 0..8 {
        strangers.push(TcpStream::connect(device.address()).await.expect("it listens"));
    }
    // A paired device still gets in, in place of the oldest stranger.
    let mut peer = Setup::new(26).peer(25, &[device.address()]).start();
    tokio::join!(device.session(), peer.session());
    assert_eq!(answer(strangers.remove(0)).await, 0);
}

/// A clock that is far off looks like a stranger's knock: the device that is not let in says what it may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_let_in_is_told_what_it_may_be() {
    let device = Setup::new(27).start();
    let stranger = Setup::new(28).peer(27, &[device.address()]).start();
    let told = async {
        while !stranger.net.status().await[0].last_error.as_ref().is_some_and(|words| words.contains("clocks is wrong"))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("the words name the clock");
}
