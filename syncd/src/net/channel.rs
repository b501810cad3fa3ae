//! An encrypted connection before it is a session: one message at a time, for HELLO and for pairing.

use anyhow::{Context as _, Result, bail};
use protocol::wire::frame::{Opener, Sealer, Transport};
use protocol::wire::message::{Joiner, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A stream and its keys.
pub(super) struct Channel {
    pub(super) read: OwnedReadHalf,
    pub(super) write: OwnedWriteHalf,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    pub(super) joiner: Joiner,
}

impl Channel {
    pub(super) fn new(stream: TcpStream, transport: Transport) -> Self {
        let (read, write) = stream.into_split();
        let (sealer, opener) = transport.split();
        Self { read, write, sealer, opener, joiner: Joiner::default() }
    }

    pub(super) async fn send(&mut self, message: &Message) -> Result<()> {
        let (kind, body) = message.encode();
        let mut out = Vec::new();
        self.sealer.seal_message(kind, 0, &body, &mut out)?;
        self.write.write_all(&out).await.context("sending")
    }

    /// The next message. Dropping the future loses nothing.
    pub(super) async fn recv(&mut self) -> Result<Message> {
        loop {
            while let Some(frame) = self.opener.next()? {
                if let Some((kind, _, body)) = self.joiner.push(&frame)? {
                    return Ok(Message::decode(kind, body)?);
                }
            }
            let len = self.read.read(self.opener.space()).await.context("receiving")?;
            if len == 0 {
                bail!("the other device closed the connection");
            }
            self.opener.filled(len);
        }
    }
}
