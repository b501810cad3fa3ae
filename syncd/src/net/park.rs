//! Waiting at a relay for one counterpart: joins under the token that both can compute, answers the relay's words,
//! and runs the ordinary handshake once the relay has spliced the two. The relay sees nothing of it but bytes.

use super::config::{Own, RelayWay, random, unix_now};
use super::connect::{Target, connect, targets};
use super::dial::{Gate, Missed, Reached, Route};
use super::door::{Admitted, DoorHandle};
use super::event::Via;
use super::greet::{Asked, Heard, Path, ask, hear, read_knock, tune};
use super::keys::Keys;
use super::lan::Interface;
use anyhow::{Context as _, Result, anyhow, bail};
use protocol::wire::knock::Context;
use protocol::wire::relay::{
    JoinRequest, JoinStatus, JoiningClient, MESSAGE_2_LEN, Parked, WORD_LEN, Word, preference,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// The relay pings every 60 s; without two of them it is gone.
const RELAY_SILENT: Duration = Duration::from_secs(150);

/// At a machine that is not the one to come to first a counterpart is awaited for so long.
const NEXT_BEST: Duration = Duration::from_secs(300);

/// Where a counterpart is awaited.
struct Place {
    stream: TcpStream,
    address: SocketAddr,
    parked: Parked,
    /// Of all machines behind the relay's name it is the one to come to first.
    is_first: bool,
}

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
        loop {
            let Place { mut stream, address, parked, is_first } = self.enter().await?;
            self.answers.store(true, Ordering::Relaxed);
            let splice = wait_for_splice(&mut stream, parked);
            // The counterpart may wait at the machine that comes first and is there again.
            let patience = if is_first { Duration::MAX } else { NEXT_BEST };
            if let Ok(spliced) = timeout(patience, splice).await {
                spliced?;
                return Ok((stream, Path { via: Via::Relay, address }));
            }
        }
    }

    /// Comes to the relay by one of its addresses, and is let in.
    async fn enter(&self) -> Result<Place> {
        let mut failure = anyhow!("it has no address that leads anywhere from here");
        for endpoint in self.way.within_reach(&self.near) {
            let mut targets = match targets(&self.own, endpoint).await {
                Ok(targets) => targets,
                Err(words) => {
                    failure = anyhow!(words);
                    continue;
                }
            };
            targets.sort_by_key(|target| match target {
                Target::Address(machine) => Some(preference(&self.token(), machine.ip())),
                Target::Name(_) => None,
            });
            for (at, target) in targets.iter().enumerate() {
                match self.enter_at(target).await {
                    // All addresses of a device are the same machine.
                    Ok(place) => return Ok(Place { is_first: at == 0 || self.way.of.is_some(), ..place }),
                    Err(error) => failure = error,
                }
            }
        }
        Err(failure)
    }

    async fn enter_at(&self, target: &Target) -> Result<Place> {
        let (mut stream, path) =
            connect(&self.own, target, &self.keys.circuit).await.map_err(|words| anyhow!(words))?;
        tune(&stream);
        let joined = timeout(self.own.tuning.handshake_wait, self.join(&mut stream)).await;
        let parked = joined.context("it does not answer")??;
        Ok(Place { stream, address: path.address, parked, is_first: true })
    }

    fn token(&self) -> [u8; 32] {
        self.keys.secret.relay_token(&self.way.link.relay_x, self.epoch)
    }

    async fn join(&self, stream: &mut TcpStream) -> Result<Parked> {
        let token = self.token();
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
