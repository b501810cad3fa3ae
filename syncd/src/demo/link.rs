//! How the two daemons come to know each other, and how their direct path is cut.

use super::Stage;
use super::side::{Side, in_words};
use crate::control::Request;
use crate::home::Home;
use crate::relay::{RelayConfig, RelayLimits};
use anyhow::{Context, Result, bail, ensure};
use protocol::wire::control as api;
use protocol::wire::control::PairingEvent;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Pairs them as two people would: A shows a code, B types it, both compare the check number and agree. The number.
pub(super) async fn pair(a: &Side, b: &Side) -> Result<String> {
    let mut shown = a.ask(|reply| Request::PairShow { show: api::PairShow::default(), reply }).await?;
    let PairingEvent::Code { code, .. } = next(&mut shown).await? else { bail!("A shows no code") };
    let address = a.address()?.map(|address| address.to_string());
    let join = api::PairJoin { code, address, timeout_s: None, role: None };
    let mut joined = b.ask(|reply| Request::PairJoin { join, reply }).await?;
    let ((pairing_a, check_a), (pairing_b, check_b)) = tokio::try_join!(check(&mut shown), check(&mut joined))?;
    ensure!(check_a == check_b, "A shows the check number {check_a}, B {check_b}");
    for (side, pairing) in [(a, pairing_a), (b, pairing_b)] {
        let answer = api::PairAnswer { pairing, accept: true };
        side.ask(|reply| Request::PairAnswer { answer, reply }).await?;
    }
    tokio::try_join!(paired(&mut shown), paired(&mut joined))?;
    tokio::try_join!(a.connected(true), b.connected(true))?;
    Ok(check_a)
}

async fn next(events: &mut mpsc::Receiver<PairingEvent>) -> Result<PairingEvent> {
    match events.recv().await.context("the pairing ended without a word")? {
        PairingEvent::Failed { why } => Err(in_words(why)),
        event => Ok(event),
    }
}

async fn check(events: &mut mpsc::Receiver<PairingEvent>) -> Result<(u64, String)> {
    loop {
        if let PairingEvent::Check { pairing, check, .. } = next(events).await? {
            return Ok((pairing, check));
        }
    }
}

async fn paired(events: &mut mpsc::Receiver<PairingEvent>) -> Result<()> {
    while !matches!(next(events).await?, PairingEvent::Paired { .. }) {}
    Ok(())
}

/// Ends the session, and keeps it from coming back until `connect`.
pub(super) async fn disconnect(stage: &Stage) -> Result<()> {
    stage.a.device(api::DeviceAction::Pause).await?;
    tokio::try_join!(stage.a.connected(false), stage.b.connected(false))?;
    Ok(())
}

/// Lets them find each other again.
pub(super) async fn connect(stage: &Stage) -> Result<()> {
    stage.a.device(api::DeviceAction::Resume).await?;
    tokio::try_join!(stage.a.connected(true), stage.b.connected(true))?;
    Ok(())
}

/// Starts a relay, tells both daemons about it, and restarts them with no open port: neither can be reached directly.
pub(super) async fn cut_direct_path(stage: &mut Stage) -> Result<()> {
    let home = Home::at(&stage.relay_home)?;
    home.create()?;
    let keys = crate::keys::RelayKeys::open(&home.keys())?;
    let config = RelayConfig {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        access_keys: keys.access(),
        seed: keys.seed,
        public: None,
        limits: RelayLimits::default(),
    };
    let stop = CancellationToken::new();
    let relay = crate::relay::serve(config, stop.clone()).await.context("the relay cannot start")?;
    let link = relay.link.to_string();
    stage.relay = Some((relay, stop));
    for side in [&mut stage.a, &mut stage.b] {
        side.config("relays", link.clone()).await?;
        side.config("listen", String::new()).await?;
        side.restart().await?;
        ensure!(side.address()?.is_none(), "{} still has an open port", side.name);
    }
    Ok(())
}

/// Both sides must say that they meet through the relay.
pub(super) async fn through_relay(stage: &Stage) -> Result<()> {
    for side in [&stage.a, &stage.b] {
        let via = side.peer().await?.via;
        ensure!(via == Some(api::Via::Relay), "{} is connected by {via:?}, not through the relay", side.name);
    }
    Ok(())
}
