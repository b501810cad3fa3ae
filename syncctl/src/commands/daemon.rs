//! `id` and `ping`: who the daemon is and whether it is there.

use super::Context;
use crate::failure::{Outcome, Result};
use crate::render;
use protocol::wire::control::{Identity, SetIdentity};
use std::time::Duration;
use tokio::time::Instant;

/// How often `ping --wait` tries.
const RETRY: Duration = Duration::from_millis(50);

pub async fn id(context: &Context, name: Option<String>) -> Result {
    let identity: Identity = match name {
        Some(name) => context.client.put("identity", &SetIdentity { name }).await?,
        None => context.client.get("identity").await?,
    };
    context.show(&identity, |identity| format!("{}  {}", render::escape(&identity.name), render::escape(&identity.id)));
    Ok(Outcome::Yes)
}

pub async fn ping(context: &Context, wait_s: Option<u64>) -> Result {
    let end = Instant::now() + Duration::from_secs(wait_s.unwrap_or(0));
    loop {
        match context.client.ping().await {
            Ok(ping) => {
                context.show(&ping, |ping| {
                    format!("syncd {} answers (process {})", render::escape(&ping.version), ping.pid)
                });
                return Ok(Outcome::Yes);
            }
            Err(failure) if Instant::now() + RETRY > end => return Err(failure),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
