//! A pairing, from the moment both ends have shaken hands under an invite: two people compare the check number,
//! both agree, the showing side sends 32 random bytes, and each proves that it derived the same secret from them.
//! Invariant: nothing secret is sent before both have agreed; neither side is paired before both have proven.

use super::address::plausible;
use super::channel::Channel;
use super::config::{Own, random};
use super::event::{InviteId, NetEvent, PairingEvent, PairingSide, close_words};
use super::greet::Greeted;
use anyhow::{Context as _, Result, bail};
use protocol::wire::kdf::Secret32;
use protocol::wire::message::{Addresses, CloseCode, Message, PairRandom, capability};
use protocol::wire::pair::{Direction, PairSecret};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, timeout, timeout_at};

/// Keeps the connection known to whatever is on the way while people compare numbers.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Each step after both have agreed needs no person.
const STEP: Duration = Duration::from_secs(20);
/// How long the showing side lets the last message arrive before it hangs up.
const LINGER: Duration = Duration::from_secs(2);

/// One pairing under way.
pub(super) struct Pairing {
    pub(super) own: Arc<Own>,
    pub(super) invite: InviteId,
    pub(super) side: PairingSide,
    pub(super) greeted: Greeted,
    /// Our own addresses, told to the other side once both have agreed.
    pub(super) announced: Vec<SocketAddr>,
    /// People have until then.
    pub(super) until: Instant,
    pub(super) events: mpsc::Sender<NetEvent>,
}

/// What the two share now.
struct Done {
    secret: PairSecret,
    addresses: Vec<SocketAddr>,
}

impl Pairing {
    /// Goes through with it and reports how it went.
    pub(super) async fn run(mut self) {
        let invite = self.invite;
        let outcome = match self.go().await {
            Ok(done) => PairingEvent::Paired {
                invite,
                identity: self.greeted.remote,
                name: self.greeted.hello.name.clone(),
                secret: done.secret,
                addresses: done.addresses,
            },
            // What became of a stream is not yet what that means to people.
            Err(error) if error.is::<std::io::Error>() => {
                PairingEvent::Failed { invite, words: format!("the connection broke off: {error:#}") }
            }
            Err(error) => PairingEvent::Failed { invite, words: format!("{error:#}") },
        };
        let paired = matches!(outcome, PairingEvent::Paired { .. });
        // The receiver is gone only when the node is.
        let _ = self.events.send(NetEvent::Pairing(outcome)).await;
        if paired {
            // Whatever comes now, the pairing stands; the channel is only kept until the other side has read it all.
            hang_up(&mut self.greeted.channel, CloseCode::DONE).await;
        }
    }

    async fn go(&mut self) -> Result<Done> {
        self.agree().await?;
        self.compare_realms().await?;
        match self.side {
            PairingSide::Shows => self.finish_showing().await,
            PairingSide::Joins => self.finish_joining().await,
        }
    }

    /// Both people say yes, in any order.
    async fn agree(&mut self) -> Result<()> {
        let (decide, mut decision) = oneshot::channel();
        let reached = PairingEvent::Reached {
            invite: self.invite,
            side: self.side,
            name: self.greeted.hello.name.clone(),
            id: self.greeted.remote.id(),
            check_number: self.greeted.check_number,
            via: self.greeted.via,
            decide,
        };
        self.events.send(NetEvent::Pairing(reached)).await.context("the daemon stops")?;
        let (mut here, mut there) = (false, false);
        let mut keepalive = interval(KEEPALIVE);
        while !(here && there) {
            let channel = &mut self.greeted.channel;
            tokio::select! {
                answer = &mut decision, if !here => {
                    if !answer.unwrap_or(false) {
                        hang_up(channel, CloseCode::DECLINED).await;
                        bail!("the pairing was declined here");
                    }
                    here = true;
                    say(channel, &Message::PairAccept).await?;
                }
                message = timeout_at(self.until, channel.recv()), if !there => {
                    there = agreed(message.context("nobody confirmed the check number in time")??)?;
                }
                () = tokio::time::sleep_until(self.until) => bail!("nobody confirmed the check number in time"),
                _ = keepalive.tick() => say(channel, &Message::Ping).await?,
            }
        }
        Ok(())
    }

    /// Two devices that each belong to other devices already would not get along: nothing is saved then.
    async fn compare_realms(&mut self) -> Result<()> {
        if self.greeted.hello.capabilities & capability::REALM == 0 {
            return Ok(());
        }
        let ours = self.own.realm(&self.greeted.remote.id());
        say(&mut self.greeted.channel, &Message::Heads(ours.clone())).await?;
        let Message::Heads(theirs) = self.next().await? else {
            bail!("the other device broke the protocol");
        };
        if ours.realm != theirs.realm && ours.others > 0 && theirs.others > 0 {
            bail!(
                "both devices already belong to other devices: run `syncctl realm leave` on one of the two, and pair again"
            );
        }
        Ok(())
    }

    async fn finish_showing(&mut self) -> Result<Done> {
        let shared = Secret32::new(random());
        let secret = PairSecret::between(&self.own.identity, &self.greeted.remote, &shared)?;
        self.announce().await?;
        say(&mut self.greeted.channel, &Message::PairSecret(PairRandom(shared))).await?;
        let addresses = self.expect_addresses().await?;
        self.expect_proof(&secret, Direction::High).await?;
        say(&mut self.greeted.channel, &Message::PairDone(secret.pairing_proof(Direction::Low))).await?;
        Ok(Done { secret, addresses })
    }

    async fn finish_joining(&mut self) -> Result<Done> {
        let addresses = self.expect_addresses().await?;
        let Message::PairSecret(PairRandom(shared)) = self.next().await? else {
            bail!("the other device broke the protocol");
        };
        let secret = PairSecret::between(&self.own.identity, &self.greeted.remote, &shared)?;
        self.announce().await?;
        say(&mut self.greeted.channel, &Message::PairDone(secret.pairing_proof(Direction::High))).await?;
        self.expect_proof(&secret, Direction::Low).await?;
        Ok(Done { secret, addresses })
    }

    async fn announce(&mut self) -> Result<()> {
        let addresses = self.announced.clone();
        say(&mut self.greeted.channel, &Message::Addresses(Addresses { addresses })).await
    }

    async fn expect_addresses(&mut self) -> Result<Vec<SocketAddr>> {
        let Message::Addresses(Addresses { addresses }) = self.next().await? else {
            bail!("the other device broke the protocol");
        };
        Ok(self.hints(&addresses))
    }

    /// What the other side names, after the port it names at the address where we see it.
    fn hints(&self, named: &[SocketAddr]) -> Vec<SocketAddr> {
        let seen = self.greeted.address.ip();
        let direct = self.greeted.via.shows_address();
        let here = named.first().filter(|_| direct).map(|first| SocketAddr::new(seen, first.port()));
        // An address that was dialled with success is the best one.
        let dialled = Some(self.greeted.address).filter(|_| direct && self.greeted.initiated);
        let all: Vec<SocketAddr> = dialled.into_iter().chain(here).chain(named.iter().copied()).collect();
        plausible(&all, direct.then_some(seen))
    }

    async fn expect_proof(&mut self, secret: &PairSecret, from: Direction) -> Result<()> {
        match self.next().await? {
            Message::PairDone(proof) if blake3::Hash::from_bytes(proof) == secret.pairing_proof(from) => Ok(()),
            _ => bail!("the other device did not prove that it holds the same secret"),
        }
    }

    /// The next message of the pairing itself.
    async fn next(&mut self) -> Result<Message> {
        let due = Instant::now() + STEP;
        loop {
            let message = timeout_at(due, self.greeted.channel.recv()).await;
            match message.context("the other device went silent in the middle of the pairing")?? {
                Message::Ping | Message::Pong => {}
                Message::Close(code) => bail!("the other device gave up: {}", close_words(code)),
                message => return Ok(message),
            }
        }
    }
}

/// Whether a message says that the person over there agreed.
fn agreed(message: Message) -> Result<bool> {
    match message {
        Message::PairAccept => Ok(true),
        Message::Ping | Message::Pong => Ok(false),
        Message::Close(CloseCode::DECLINED) => bail!("the pairing was declined on the other device"),
        Message::Close(code) => bail!("the other device gave up: {}", close_words(code)),
        _ => bail!("the other device broke the protocol"),
    }
}

/// Sends a message; when the other side has hung up, its last words are the error.
async fn say(channel: &mut Channel, message: &Message) -> Result<()> {
    let Err(error) = channel.send(message).await else { return Ok(()) };
    let last_words = async {
        while let Ok(message) = channel.recv().await {
            agreed(message)?;
        }
        anyhow::Ok(())
    };
    timeout(LINGER, last_words).await.unwrap_or(Ok(()))?;
    Err(error)
}

/// Closes a greeted connection with a word, and lets it arrive.
pub(super) async fn hang_up(channel: &mut Channel, code: CloseCode) {
    let work = async {
        channel.send(&Message::Close(code)).await?;
        channel.write.shutdown().await?;
        // Until the other side closes; closing a socket with unread bytes would take the word back.
        while channel.recv().await.is_ok() {}
        anyhow::Ok(())
    };
    // Nothing depends on it being read.
    let _ = timeout(LINGER, work).await;
}
