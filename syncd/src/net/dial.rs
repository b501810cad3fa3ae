//! One attempt to reach a device directly: its addresses are tried a quarter of a second apart, and the first that
//! answers the knock goes on. A pairing tries them one after another, since an invite stands few runs.

use super::config::Own;
use super::connect::{Target, connect, targets};
use super::greet::{Asked, Greeted, ask};
use super::keys::Keys;
use protocol::wire::knock::Context;
use protocol::wire::relay::Endpoint;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Time between two attempts of one dial (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one dial.
const ROUTES_MAX: usize = 16;

/// A device reached; the permit is held until the hub knows, so that a pair has one handshake of ours at a time.
pub(super) struct Reached {
    pub(super) greeted: Greeted,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// A device not reached.
pub(super) struct Missed {
    /// Why, for people.
    pub(super) words: String,
    /// It had answered our knock before it was lost: of an invite that is one of few runs.
    pub(super) answered: bool,
}

impl Missed {
    pub(super) fn unanswered(words: impl Into<String>) -> Self {
        Self { words: words.into(), answered: false }
    }

    fn unsought() -> Self {
        Self::unanswered("it is no longer sought")
    }

    pub(super) fn answered(words: impl Into<String>) -> Self {
        Self { words: words.into(), answered: true }
    }
}

/// Before it sends message 3 an attempt passes the gate: one at a time, and only while the counterpart is sought.
/// Behind the gate it is never stopped, since the other end may know of the connection already.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) one: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
}

impl Gate {
    pub(super) async fn pass(&self) -> Result<OwnedSemaphorePermit, Missed> {
        let permit = self.unless_stopped(Arc::clone(&self.one).acquire_owned()).await?;
        permit.map_err(|_| Missed::unsought())
    }

    /// Carries `work` out, unless the counterpart is no longer sought.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Missed> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Missed::unsought()),
            done = work => Ok(done),
        }
    }
}

/// What to dial.
#[derive(Clone, Default)]
pub(super) struct Routes {
    /// Best first: seen on the LAN, then known addresses.
    pub(super) addresses: Vec<SocketAddr>,
    /// As the user gave them; names are looked up at each dial, or left to the proxy.
    pub(super) typed: Vec<Endpoint>,
}

impl Routes {
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.typed.is_empty()
    }

    /// All of them, LAN first, then IPv6, then IPv4. The error names what could not be looked up.
    async fn resolve(&self, own: &Own) -> (Vec<Target>, Option<String>) {
        let (mut all, mut error) = (Vec::new(), None);
        for endpoint in &self.typed {
            match targets(own, endpoint).await {
                Ok(targets) => all.extend(targets),
                Err(words) => error = Some(words),
            }
        }
        all.sort_by_key(|target| matches!(target, Target::Address(address) if address.is_ipv4()));
        let mut ordered: Vec<Target> = Vec::new();
        for target in self.addresses.iter().copied().map(Target::Address).chain(all) {
            if !ordered.contains(&target) && ordered.len() < ROUTES_MAX {
                ordered.push(target);
            }
        }
        (ordered, error)
    }
}

/// Reaches the device behind `keys`, or says why not.
pub(super) async fn dial(own: Arc<Own>, keys: Arc<Keys>, routes: Routes, gate: Gate) -> Result<Reached, Missed> {
    let (targets, error) = gate.unless_stopped(routes.resolve(&own)).await?;
    let nothing = Missed::unanswered(error.unwrap_or_else(|| "no address is known".to_owned()));
    match keys.context {
        Context::Pairing => one_by_one(&own, &keys, targets, &gate, nothing).await,
        Context::Session | Context::Relay => race(&own, &keys, targets, &gate, nothing).await,
    }
}

async fn one_by_one(
    own: &Own,
    keys: &Keys,
    targets: Vec<Target>,
    gate: &Gate,
    mut missed: Missed,
) -> Result<Reached, Missed> {
    for target in targets {
        let permit = gate.pass().await?;
        missed = match one_run(own, keys, &target, gate).await {
            Ok(greeted) => return Ok(Reached { greeted, permit: Some(permit) }),
            Err(error) if error.answered => return Err(error),
            Err(error) => error,
        };
    }
    Err(missed)
}

async fn one_run(own: &Own, keys: &Keys, target: &Target, gate: &Gate) -> Result<Greeted, Missed> {
    let asked = gate.unless_stopped(one_ask(own, keys, target)).await?.map_err(Missed::unanswered)?;
    asked.finish(own).await.map_err(|error| Missed::answered(format!("{target}: {error:#}")))
}

async fn race(
    own: &Arc<Own>,
    keys: &Arc<Keys>,
    targets: Vec<Target>,
    gate: &Gate,
    mut missed: Missed,
) -> Result<Reached, Missed> {
    let mut running = JoinSet::new();
    let mut waiting = targets.into_iter().peekable();
    let mut next_at = Instant::now();
    while waiting.peek().is_some() || !running.is_empty() {
        tokio::select! {
            biased;
            () = gate.stop.cancelled() => return Err(Missed::unsought()),
            Some(asked) = running.join_next() => {
                next_at = Instant::now();
                missed = match asked {
                    Ok(Ok(asked)) => match pass(own, asked, gate).await {
                        Ok(reached) => return Ok(reached),
                        Err(missed) => missed,
                    },
                    Ok(Err(words)) => Missed::unanswered(words),
                    Err(_) => Missed::unanswered("an attempt stopped"),
                };
            }
            () = sleep_until(next_at), if waiting.peek().is_some() => {
                let (own, keys) = (Arc::clone(own), Arc::clone(keys));
                if let Some(target) = waiting.next() {
                    running.spawn(async move { one_ask(&own, &keys, &target).await });
                }
                next_at = Instant::now() + STAGGER;
            }
        }
    }
    Err(missed)
}

async fn one_ask(own: &Own, keys: &Keys, target: &Target) -> Result<Box<Asked>, String> {
    let (stream, path) = connect(own, target, &keys.circuit).await?;
    let asked = ask(stream, path, own, keys).await;
    asked.map(Box::new).map_err(|error| format!("{target}: {error:#}"))
}

/// Sends message 3, unless another handshake with the same device is doing so.
async fn pass(own: &Own, asked: Box<Asked>, gate: &Gate) -> Result<Reached, Missed> {
    let permit = gate.pass().await?;
    let greeted = asked.finish(own).await.map_err(|error| Missed::answered(format!("{error:#}")))?;
    Ok(Reached { greeted, permit: Some(permit) })
}
