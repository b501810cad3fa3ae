//! Waiting at a relay for one counterpart: joins under the token that both can compute, answers the relay's words,
//! and runs the ordinary handshake once the relay has spliced the two. The relay sees nothing of it but bytes.

use super::address::is_within_reach;
use super::config::{Own, RelayWay, random, unix_now};
use super::connect::{connect, targets};
use super::dial::{Gate, Missed, Reached, Route};
use super::door::{Admitted, DoorHandle};
use super::event::Via;
use super::greet::{Asked, Heard, Path, ask, hear, read_knock, tune};
use super::keys::Keys;
use super::lan::Interface;
use anyhow::{Context as _, Result, anyhow, bail};
use protocol::wire::knock::Context;
use protocol::wire::relay::{Endpoint, JoinRequest, JoinStatus, JoiningClient, MESSAGE_2_LEN, Parked, WORD_LEN, Word};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// The relay pings every 60 s; without two of them it is gone.
const RELAY_SILENT: Duration = Duration::from_secs(150);

/// Everything one stay at a relay needs.
pub(super) struct Stay {
    pub(super) own: Arc<Own>,
    pub(super) keys: Arc<Keys>,
    pub(super) way: RelayWay,
    /// Networks that we are in.
    pub(super) near: Vec<Interface>,
    /// Set once the relay has let us in.
    pub(super) answers: Arc<AtomicBool>,
    pub(super) epoch: u64,
    pub(super) door: DoorHandle,
    pub(super) gate: Gate,
}

impl Stay {
    /// Waits until the counterpart came and was greeted, or says why that failed.
    pub(super) async fn run(self) -> Result<Reached, Missed> {
        let at = &self.way.link.at;
        let route = || Route::Relay(at.clone());
        let missed = |error: anyhow::Error| Missed::unanswered(route(), format!("relay {at}: {error:#}"));
        let lost = |error: anyhow::Error| Missed::answered(route(), format!("through relay {at}: {error:#}"));
        let (stream, path) = self.gate.unless_stopped(self.meet()).await?.map_err(missed)?;
        if self.keys.initiates_at_relay() {
            let (asked, permit) = self.gate.unless_stopped(self.speak(stream, path)).await?.map_err(lost)?;
            let greeted = asked.finish(&self.own).await.map_err(lost)?;
            return Ok(Reached { greeted, permit });
        }
        let (stream, admitted, heard) = self.gate.unless_stopped(self.listen(stream)).await?.map_err(lost)?;
        match heard.finish(stream, path, &self.own, admitted.refuse).await {
            // Whoever answers has no handshake of its own to hold back.
            Ok(greeted) => Ok(Reached { greeted, permit: None }),
            Err(error) => {
                self.door.run_failed(self.keys.who).await;
                Err(lost(error))
            }
        }
    }

    /// Waits at the relay until it has spliced us with the counterpart.
    async fn meet(&self) -> Result<(TcpStream, Path)> {
        let mut failure = anyhow!("it has no address that leads anywhere from here");
        for endpoint in self.way.endpoints().filter(|endpoint| self.is_within_reach(endpoint)) {
            match self.enter(endpoint).await {
                Ok((mut stream, address, parked)) => {
                    self.answers.store(true, Ordering::Relaxed);
                    wait_for_splice(&mut stream, parked).await?;
                    return Ok((stream, Path { via: Via::Relay, address }));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Of another device's addresses only those count that mean it here, too; what the user gave always does.
    fn is_within_reach(&self, endpoint: &Endpoint) -> bool {
        let ip = endpoint.host().parse::<IpAddr>();
        self.way.of.is_none() || ip.map_or(true, |ip| is_within_reach(ip, &self.near))
    }

    /// Comes to the relay by one of its addresses, and is let in.
    async fn enter(&self, endpoint: &Endpoint) -> Result<(TcpStream, SocketAddr, Parked)> {
        let (mut stream, address) = self.connect(endpoint).await?;
        let joined = timeout(self.own.tuning.handshake_wait, self.join(&mut stream)).await;
        let parked = joined.context("it does not answer")??;
        Ok((stream, address, parked))
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<(TcpStream, SocketAddr)> {
        let targets = targets(&self.own, endpoint).await.map_err(|words| anyhow!(words))?;
        let mut failure = anyhow!("it has no address");
        for target in targets {
            match connect(&self.own, &target, &self.keys.circuit).await {
                Ok((stream, path)) => {
                    tune(&stream);
                    return Ok((stream, path.address));
                }
                Err(words) => failure = anyhow!(words),
            }
        }
        Err(failure)
    }

    async fn join(&self, stream: &mut TcpStream) -> Result<Parked> {
        let token = self.keys.secret.relay_token(&self.way.link.relay_x, self.epoch);
        let request = JoinRequest::Join { side: self.keys.out, token };
        let (joining, opening) = JoiningClient::start(&self.way.link, request, unix_now(), &random())?;
        stream.write_all(&opening).await.context("sending")?;
        let mut reply = [0; MESSAGE_2_LEN];
        stream.read_exact(&mut reply).await.context("it does not know our access key, or is no relay")?;
        let (reply, parked) = joining.read_reply(&reply)?;
        match reply.status {
            JoinStatus::Waiting => Ok(parked),
            JoinStatus::Full => bail!("it is full"),
            JoinStatus::Rate => bail!("it wants to be asked less often"),
            JoinStatus::Denied => bail!("it refuses"),
        }
    }

    async fn speak(&self, stream: TcpStream, path: Path) -> Result<(Asked, Option<OwnedSemaphorePermit>)> {
        let pass = async { self.gate.pass().await.map_err(|missed| anyhow!(missed.words)) };
        // An invite stands few runs: they are not begun in parallel.
        let early = if self.keys.context == Context::Pairing { Some(pass.await?) } else { None };
        let asked = ask(stream, path, &self.own, &self.keys).await?;
        let permit = match early {
            Some(permit) => permit,
            None => self.gate.pass().await.map_err(|missed| anyhow!(missed.words))?,
        };
        Ok((asked, Some(permit)))
    }

    async fn listen(&self, mut stream: TcpStream) -> Result<(TcpStream, Admitted, Heard)> {
        let knock = read_knock(&mut stream, self.own.tuning.handshake_wait).await.context("nobody knocked")?;
        let who = self.keys.who;
        let admitted = self.door.admit(knock, Some(who)).await.context("somebody else knocked")?;
        match hear(&mut stream, &knock, &self.own, &admitted.keys).await {
            Ok(heard) => Ok((stream, admitted, heard)),
            Err(error) => {
                self.door.run_failed(who).await;
                Err(error.into())
            }
        }
    }
}

async fn wait_for_splice(stream: &mut TcpStream, mut parked: Parked) -> Result<()> {
    loop {
        let mut message = [0; WORD_LEN];
        timeout(RELAY_SILENT, stream.read_exact(&mut message)).await.context("it went silent")?.context("it left")?;
        let answer = match parked.open(&message)? {
            Word::Ping => Word::Pong,
            Word::Matched => Word::MatchAck,
            Word::Spliced => return Ok(()),
            Word::Pong | Word::MatchAck => bail!("it speaks out of turn"),
        };
        let answer = parked.seal(answer)?;
        stream.write_all(&answer).await.context("sending")?;
    }
}
