//! A client of a relay, as a device is one: it knocks, joins, answers pings, and is spliced.

use protocol::wire::kdf::UnixSeconds;
use protocol::wire::pair::Direction;
use protocol::wire::relay::{
    CLIENT_RANDOM_LEN, JoinRequest, JoinStatus, JoiningClient, MESSAGE_2_LEN, Parked, RelayLink, WORD_LEN, Word,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// One that waits.
pub struct Client {
    stream: TcpStream,
    words: Parked,
}

/// Loopback addresses to come from, one after the other.
fn source() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) % 10_000;
    SocketAddr::from((Ipv4Addr::from(0x7f02_0101 + (count / 200) * 256 + count % 200), 0))
}

impl Client {
    /// Comes in and waits under `token`.
    pub async fn join(link: &RelayLink, token: u64, side: Direction) -> Self {
        let at: SocketAddr = format!("{}:{}", link.at.host(), link.at.port()).parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(source()).expect("all of 127/8 is loopback");
        let mut stream = socket.connect(at).await.expect("the relay listens");
        stream.set_nodelay(true).expect("an option of TCP");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&token.to_be_bytes());
        let mut random = [0; CLIENT_RANDOM_LEN];
        // No secret is kept here: it has to be another one each time, no more.
        let mut hasher = blake3::Hasher::new_derive_key("relayload");
        hasher.update(&bytes).update(&[side.byte()]).update(&unix().to_be_bytes());
        hasher.finalize_xof().fill(&mut random);
        let now = UnixSeconds(u64::try_from(unix() / 1_000_000_000).unwrap_or_default());
        let request = JoinRequest::Join { side, token: bytes };
        let (joining, message) = JoiningClient::start(link, request, now, &random).expect("a link that works");
        stream.write_all(&message).await.expect("the relay takes it");
        let mut reply = [0; MESSAGE_2_LEN];
        stream.read_exact(&mut reply).await.expect("the relay answers");
        let (reply, words) = joining.read_reply(&reply).expect("it is that relay");
        assert_eq!(reply.status, JoinStatus::Waiting, "it has no room");
        Self { stream, words }
    }

    async fn hear(&mut self) -> Option<Word> {
        let mut word = [0; WORD_LEN];
        self.stream.read_exact(&mut word).await.ok()?;
        Some(self.words.open(&word).expect("a word of that relay"))
    }

    async fn say(&mut self, word: Word) {
        let message = self.words.seal(word).expect("there are words left");
        self.stream.write_all(&message).await.expect("the relay takes it");
    }

    /// Answers pings until the connection ends.
    pub async fn wait(mut self) {
        while let Some(word) = self.hear().await {
            assert!(word == Word::Ping, "nobody is to come for it: {word:?}");
            self.say(Word::Pong).await;
        }
    }

    /// Waits for the other side; the connection, which is that side's by then.
    pub async fn meet(mut self) -> TcpStream {
        loop {
            match self.hear().await.expect("the relay keeps it") {
                Word::Ping => self.say(Word::Pong).await,
                Word::Matched => self.say(Word::MatchAck).await,
                Word::Spliced => return self.stream,
                other => panic!("not a word of a relay: {other:?}"),
            }
        }
    }
}

/// Two that meet under `token`.
pub async fn pair(link: &RelayLink, token: u64) -> (TcpStream, TcpStream) {
    let low = Client::join(link, token, Direction::Low).await;
    let high = Client::join(link, token, Direction::High).await;
    tokio::join!(low.meet(), high.meet())
}

/// Nanoseconds since 1970.
fn unix() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos()).unwrap_or_default()
}
