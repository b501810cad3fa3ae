//! One attempt to reach a device directly: its addresses are tried a quarter of a second apart, and the first that
//! answers the knock goes on. A pairing tries them one after another, since an invite stands few runs.

use super::config::Own;
use super::connect::{Target, connect, targets};
use super::greet::{Asked, Greeted, ask};
use super::keys::Keys;
use protocol::wire::knock::Context;
use protocol::wire::relay::Endpoint;
use std::fmt;
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

/// A way to a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Its address.
    Address(SocketAddr),
    /// A name that was to be looked up.
    Name(Endpoint),
    /// Waiting for it at a relay.
    Relay(Endpoint),
    /// Both dial at one moment.
    Punch,
    /// Both dial at moments that their clocks agree on.
    Clock,
}

impl Route {
    fn to(target: &Target) -> Self {
        match target {
            Target::Address(address) => Self::Address(*address),
            Target::Name(name) => Self::Name(name.clone()),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => write!(f, "{name}"),
            Self::Relay(relay) => write!(f, "relay {relay}"),
            Self::Punch => f.write_str("hole punching"),
            Self::Clock => f.write_str("hole punching by the clock"),
        }
    }
}

/// A device not reached.
pub(super) struct Missed {
    /// Why, for people; of several ways, the last one.
    pub(super) words: String,
    /// What was tried, and why each failed.
    pub(super) tried: Vec<(Route, String)>,
    /// It had answered our knock before it was lost: of an invite that is one of few runs.
    pub(super) answered: bool,
}

impl Missed {
    pub(super) fn unanswered(route: Route, words: impl Into<String>) -> Self {
        let words = words.into();
        Self { tried: vec![(route, words.clone())], words, answered: false }
    }

    fn unsought() -> Self {
        Self { words: "it is no longer sought".to_owned(), tried: Vec::new(), answered: false }
    }

    pub(super) fn answered(route: Route, words: impl Into<String>) -> Self {
        Self { answered: true, ..Self::unanswered(route, words) }
    }

    /// Goes on from `earlier`: this is the last word, and both were tried.
    fn after(mut self, mut earlier: Self) -> Self {
        earlier.tried.append(&mut self.tried);
        Self { tried: earlier.tried, ..self }
    }

    /// The same with the way in its words.
    fn placed(route: Route, words: &str, answered: bool) -> Self {
        let placed = format!("{route}: {words}");
        Self { words: placed, tried: vec![(route, words.to_owned())], answered }
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

    /// All of them, LAN first, then IPv6, then IPv4; and what could not be looked up.
    async fn resolve(&self, own: &Own) -> (Vec<Target>, Missed) {
        let mut all = Vec::new();
        let mut missed = Missed { words: "no address is known".to_owned(), tried: Vec::new(), answered: false };
        for endpoint in &self.typed {
            match targets(own, endpoint).await {
                Ok(targets) => all.extend(targets),
                Err(words) => missed = Missed::unanswered(Route::Name(endpoint.clone()), words).after(missed),
            }
        }
        all.sort_by_key(|target| matches!(target, Target::Address(address) if address.is_ipv4()));
        let mut ordered: Vec<Target> = Vec::new();
        for target in self.addresses.iter().copied().map(Target::Address).chain(all) {
            if !ordered.contains(&target) && ordered.len() < ROUTES_MAX {
                ordered.push(target);
            }
        }
        (ordered, missed)
    }
}

/// Reaches the device behind `keys`, or says why not.
pub(super) async fn dial(own: Arc<Own>, keys: Arc<Keys>, routes: Routes, gate: Gate) -> Result<Reached, Missed> {
    let (targets, nothing) = gate.unless_stopped(routes.resolve(&own)).await?;
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
            Err(error) if error.answered => return Err(error.after(missed)),
            Err(error) => error.after(missed),
        };
    }
    Err(missed)
}

async fn one_run(own: &Own, keys: &Keys, target: &Target, gate: &Gate) -> Result<Greeted, Missed> {
    let asked = gate.unless_stopped(one_ask(own, keys, target)).await??;
    let lost = |error: anyhow::Error| Missed::placed(Route::to(target), &format!("{error:#}"), true);
    asked.finish(own).await.map_err(lost)
}

async fn race(
    own: &Arc<Own>,
    keys: &Arc<Keys>,
    targets: Vec<Target>,
    gate: &Gate,
    mut missed: Missed,
) -> Result<Reached, Missed> {
    let mut running: JoinSet<Result<Box<Asked>, Missed>> = JoinSet::new();
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
                        Err(error) => error.after(missed),
                    },
                    Ok(Err(error)) => error.after(missed),
                    Err(_) => Missed { words: "an attempt stopped".to_owned(), ..missed },
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

async fn one_ask(own: &Own, keys: &Keys, target: &Target) -> Result<Box<Asked>, Missed> {
    let missed = |words: &str| {
        let words = words.strip_prefix(&format!("{target}: ")).unwrap_or(words);
        Missed::placed(Route::to(target), words, false)
    };
    let (stream, path) = connect(own, target, &keys.circuit).await.map_err(|words| missed(&words))?;
    let asked = ask(stream, path, own, keys).await;
    asked.map(Box::new).map_err(|error| missed(&format!("{error:#}")))
}

/// Sends message 3, unless another handshake with the same device is doing so.
async fn pass(own: &Own, asked: Box<Asked>, gate: &Gate) -> Result<Reached, Missed> {
    let permit = gate.pass().await?;
    let route = Route::Address(asked.address());
    let lost = |error: anyhow::Error| Missed::placed(route, &format!("{error:#}"), true);
    let greeted = asked.finish(own).await.map_err(lost)?;
    Ok(Reached { greeted, permit: Some(permit) })
}
