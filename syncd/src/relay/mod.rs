//! A relay: lets clients with its access key meet under tokens that only the two of them can compute, and passes
//! their bytes on. It keeps no identities, no logs of addresses and nothing on disk; to everybody without the access
//! key it is a silent port.

pub use counts::Counts;

use crate::net::Stranger;
use anyhow::{Context as _, Result, ensure};
use protocol::limits::RELAY_KEYS_MAX;
use protocol::wire::kdf::Secret32;
use protocol::wire::relay::{Endpoint, RelayIdentity, RelayLink};
use serve::{Entrances, Server};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod counts;
mod machine;
mod serve;
mod splice;
#[cfg(test)]
mod tests;

/// What a relay starts with.
pub struct RelayConfig {
    /// TCP addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Its secret; the same seed is the same relay in everybody's links.
    pub seed: Secret32,
    /// Keys that let clients in, 1 to `RELAY_KEYS_MAX`; the first goes into the link.
    pub access_keys: Vec<Secret32>,
    /// Where clients reach it; without it the link names the first listener.
    pub public: Option<Endpoint>,
    /// Bounds.
    pub limits: RelayLimits,
}

/// Bounds on what clients can make a relay do.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Clients that wait, per access key.
    pub parked_per_key: usize,
    /// Clients that wait, per IPv4 address or IPv6 /64.
    pub parked_per_ip: usize,
    /// Splices, per access key.
    pub splices_per_key: usize,
    /// Knocks a second, per IPv4 address or IPv6 /64.
    pub knocks_per_second: u32,
    /// Time for knock and join, each.
    pub handshake: Duration,
    /// Strangers are read and ignored until so long after they connected.
    pub drain: Duration,
    /// A matched client answers within it.
    pub ack: Duration,
    /// Longest stay without a match.
    pub park: Duration,
    /// Between two pings of a waiting client; without an answer to two of them it is gone.
    pub ping: Duration,
    /// A splice in which nothing moves is cut.
    pub idle: Duration,
    /// Bytes a second that one splice may move, both ways together.
    pub rate: u32,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            parked_per_key: 256,
            parked_per_ip: 64,
            splices_per_key: 64,
            knocks_per_second: 10,
            handshake: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            ack: Duration::from_secs(10),
            park: Duration::from_secs(3600),
            ping: Duration::from_secs(60),
            idle: Duration::from_secs(150),
            rate: 10_000_000,
        }
    }
}

/// A running relay. It stops with the token that it was started with.
pub struct Relay {
    /// What clients need; holding it is being allowed in.
    pub link: RelayLink,
    /// Where it listens, with the ports that were picked.
    pub listening: Vec<SocketAddr>,
    keys: mpsc::Sender<Vec<Secret32>>,
    counters: Arc<counts::Counters>,
    tracker: TaskTracker,
}

impl Relay {
    /// Lets clients in by these keys from now on. Those that came in by another are cut off.
    ///
    /// # Errors
    /// When these are none or too many; then nothing has changed.
    pub async fn set_keys(&self, keys: Vec<Secret32>) -> Result<()> {
        check_count(keys.len())?;
        // It is gone only when the relay stops.
        let _ = self.keys.send(keys).await;
        Ok(())
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.counts()
    }

    /// Resolves when every task has stopped, after `shutdown`.
    pub async fn stopped(&self) {
        self.tracker.wait().await;
    }
}

/// Binds the listeners and serves clients until `shutdown`.
///
/// # Errors
/// When a listener cannot be bound, or there is no access key or too many.
pub async fn serve(config: RelayConfig, shutdown: CancellationToken) -> Result<Relay> {
    check_count(config.access_keys.len())?;
    let mut listeners = Vec::new();
    for address in &config.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        listeners.push(listener);
    }
    let listening: Vec<SocketAddr> = listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?;
    let first = listening.first().context("a relay listens somewhere")?;
    let identity = RelayIdentity::from_seed(&config.seed);
    let at = match config.public {
        Some(endpoint) => endpoint,
        None => first.to_string().parse().context("the first listener has no address that clients could use")?,
    };
    let link = RelayLink { relay_x: identity.public(), access_key: config.access_keys[0].clone(), at };
    let tracker = TaskTracker::new();
    let counters = Arc::default();
    let (keys, other_keys) = mpsc::channel(1);
    let server = Server::new(identity, config.access_keys, config.limits, Arc::clone(&counters));
    let (_, strangers) = mpsc::channel(1);
    tracker.spawn(server.run(Entrances { listeners, strangers }, other_keys, shutdown));
    tracker.close();
    Ok(Relay { link, listening, keys, counters, tracker })
}

/// Connections that wait to be looked at beside another server.
const STRANGERS: usize = 64;

/// Serves clients that come to somebody else's port and are handed over, until `shutdown`. One access key lets them in.
pub fn serve_beside(
    seed: &Secret32,
    access_key: Secret32,
    limits: RelayLimits,
    shutdown: CancellationToken,
) -> (mpsc::Sender<Stranger>, JoinHandle<()>) {
    let (hand_over, strangers) = mpsc::channel(STRANGERS);
    let (_, no_keys) = mpsc::channel(1);
    let server = Server::new(RelayIdentity::from_seed(seed), vec![access_key], limits, Arc::default());
    let task = tokio::spawn(server.run(Entrances { listeners: Vec::new(), strangers }, no_keys, shutdown));
    (hand_over, task)
}

fn check_count(keys: usize) -> Result<()> {
    ensure!((1..=RELAY_KEYS_MAX).contains(&keys), "a relay has 1 to {RELAY_KEYS_MAX} access keys, not {keys}");
    Ok(())
}
