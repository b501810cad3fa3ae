//! The handshake over a TCP stream, from knock to HELLO, at either end.
//! Invariant: a responder writes nothing before the knock and message 1 have verified, and the knock is written down.

use super::channel::Channel;
use super::config::{Own, random, unix_now};
use super::event::{Via, close_words};
use super::keys::Keys;
use anyhow::{Context as _, Result, bail};
use protocol::wire::handshake::{
    CheckNumber, Established, HandshakeError, Initiator, MESSAGE_1_LEN, MESSAGE_2_LEN, MESSAGE_3_LEN, Params, Responder,
};
use protocol::wire::identity::PublicIdentity;
use protocol::wire::knock::{KNOCK_LEN, Knock};
use protocol::wire::message::{CloseCode, Hello, Message};
use protocol::wire::pair::PairSecret;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// TCP gives a connection up when what we sent stays unacknowledged this long.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes the kernel may hold unsent: what is queued there can no longer be overtaken by control messages.
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// A finished handshake with HELLO on both sides.
pub(super) struct Greeted {
    pub(super) channel: Channel,
    pub(super) remote: PublicIdentity,
    pub(super) hello: Hello,
    pub(super) check_number: CheckNumber,
    /// What both proved that they share.
    pub(super) secret: PairSecret,
    /// We dialled, or spoke first in a splice.
    pub(super) initiated: bool,
    pub(super) via: Via,
    pub(super) address: SocketAddr,
    /// Seconds that the other clock is ahead of ours.
    pub(super) ahead_secs: i64,
}

/// The way a stream came about.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub(super) via: Via,
    pub(super) address: SocketAddr,
}

impl Path {
    pub(super) fn direct(address: SocketAddr) -> Self {
        Self { via: Via::of(address.ip().to_canonical()), address }
    }

    fn observed(self) -> Option<SocketAddr> {
        self.via.shows_address().then_some(self.address)
    }
}

/// Options of every TCP connection. Failing to set one costs speed, not correctness.
pub(crate) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let mut results = vec![stream.set_nodelay(true)];
    #[cfg(target_os = "linux")]
    {
        results.push(socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
        results.push(socket.set_tcp_notsent_lowat(NOTSENT_LOWAT));
    }
    #[cfg(not(target_os = "linux"))]
    results.push(socket.set_keepalive(true));
    if let Some(error) = results.into_iter().find_map(Result::err) {
        tracing::debug!(%error, "setting socket options");
    }
}

/// An initiator that has message 2 and may still walk away unnoticed.
pub(super) struct Asked {
    stream: TcpStream,
    secret: PairSecret,
    path: Path,
    initiator: Initiator,
    reply: Box<[u8; MESSAGE_2_LEN]>,
}

/// A knock that nobody took for one of theirs.
const UNANSWERED: &str = "something listens there but does not answer: it no longer knows this device, is another one, \
     speaks another version of the protocol, or one of the two clocks is wrong by more than 12 hours";

/// Knocks, sends message 1 and waits for message 2.
pub(super) async fn ask(mut stream: TcpStream, path: Path, own: &Own, keys: &Keys) -> Result<Asked> {
    tune(&stream);
    let knock = Knock::make(&keys.knock_out, keys.context, random(), unix_now());
    let (initiator, message_1) = Initiator::start(&params(own, keys, &knock), &random())?;
    let opening = [knock.0.as_slice(), &message_1].concat();
    stream.write_all(&opening).await.context("sending")?;
    let mut reply = Box::new([0; MESSAGE_2_LEN]);
    match timeout(own.tuning.handshake_wait, stream.read_exact(&mut *reply)).await {
        Ok(Ok(_)) => Ok(Asked { stream, secret: keys.secret.clone(), path, initiator, reply }),
        // Strangers are hung up on when they have waited as long as we do, so either may come first.
        Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => bail!(UNANSWERED),
        Ok(Err(error)) => Err(error).context("it broke the connection off"),
        Err(_) => bail!(UNANSWERED),
    }
}

impl Asked {
    /// Where it was asked.
    pub(super) fn address(&self) -> SocketAddr {
        self.path.address
    }

    /// Sends message 3 and exchanges HELLO: from here on the responder knows that we are there.
    pub(super) async fn finish(self, own: &Own) -> Result<Greeted> {
        let Self { mut stream, secret, path, initiator, reply } = self;
        let (message_3, established) = initiator.read_message_2(&reply)?;
        stream.write_all(&message_3).await.context("sending")?;
        let greeting = exchange_hello(stream, established, secret, path, own, true);
        timeout(own.tuning.handshake_wait, greeting).await.context("no greeting came")?
    }
}

/// Reads the 24 bytes of a knock.
pub(crate) async fn read_knock(stream: &mut TcpStream, wait: Duration) -> Option<Knock> {
    let mut bytes = [0; KNOCK_LEN];
    timeout(wait, stream.read_exact(&mut bytes)).await.ok()?.ok()?;
    Some(Knock(bytes))
}

/// A responder that has message 1 and has not answered.
pub(super) struct Heard {
    secret: PairSecret,
    knock: Knock,
    responder: Responder,
    reply: Box<[u8; MESSAGE_2_LEN]>,
}

/// Reads message 1 behind a knock that `keys` matched. After an error stay silent.
pub(super) async fn hear(
    stream: &mut TcpStream,
    knock: &Knock,
    own: &Own,
    keys: &Keys,
) -> Result<Heard, HandshakeError> {
    let mut message_1 = Box::new([0; MESSAGE_1_LEN]);
    let read = timeout(own.tuning.knock_wait, stream.read_exact(&mut *message_1)).await;
    read.ok().and_then(Result::ok).ok_or(HandshakeError::Unverified)?;
    let (responder, reply) = Responder::start(&params(own, keys, knock), &message_1, &random())?;
    Ok(Heard { secret: keys.secret.clone(), knock: *knock, responder, reply: Box::new(reply) })
}

impl Heard {
    /// Answers and exchanges HELLO. With `refuse` the initiator is told why instead, once it has proven itself.
    pub(super) async fn finish(
        self,
        mut stream: TcpStream,
        path: Path,
        own: &Arc<Own>,
        refuse: Option<CloseCode>,
    ) -> Result<Greeted> {
        let work = async {
            own.answers(self.knock).await;
            stream.write_all(&*self.reply).await.context("sending")?;
            let mut message_3 = [0; MESSAGE_3_LEN];
            stream.read_exact(&mut message_3).await.context("receiving")?;
            let established = self.responder.read_message_3(&message_3)?;
            if let Some(code) = refuse {
                Channel::new(stream, established.transport).send(&Message::Close(code)).await?;
                bail!("refused: {}", close_words(code));
            }
            exchange_hello(stream, established, self.secret, path, own, false).await
        };
        timeout(own.tuning.handshake_wait, work).await.context("the handshake took too long")?
    }
}

fn params<'a>(own: &'a Own, keys: &'a Keys, knock: &'a Knock) -> Params<'a> {
    Params {
        context: keys.context,
        knock,
        psk: &keys.psk,
        own: &own.identity,
        expected: keys.expected,
        hello: own.head(),
        channel_binding: [0; 32],
        versions: own.tuning.versions,
    }
}

async fn exchange_hello(
    stream: TcpStream,
    established: Established,
    secret: PairSecret,
    path: Path,
    own: &Own,
    initiated: bool,
) -> Result<Greeted> {
    let Established { transport, remote_x, remote, hello: head, check_number, .. } = established;
    let mut channel = Channel::new(stream, transport);
    channel.send(&Message::Hello(own.hello(path.observed()))).await?;
    let hello = match channel.recv().await? {
        Message::Hello(hello) => hello,
        Message::Close(code) => bail!("the other device closed: {}", close_words(code)),
        _ => bail!("the other device did not greet"),
    };
    let named = PublicIdentity { ed: hello.ed, x: remote_x };
    if remote.is_some_and(|known| known != named) {
        bail!("the other device is not the one that was expected");
    }
    if head.is_some_and(|head| head.instance != hello.instance || head.boot != hello.boot) {
        bail!("the other device contradicts itself");
    }
    let ahead = i128::from(hello.clock.0) - i128::from(unix_now().0);
    let ahead_secs = i64::try_from(ahead).unwrap_or(if ahead > 0 { i64::MAX } else { i64::MIN });
    let Path { via, address } = path;
    Ok(Greeted { channel, remote: named, hello, check_number, secret, initiated, via, address, ahead_secs })
}
