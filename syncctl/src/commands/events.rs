//! `events`: what the daemon remembers, or everything as it happens.

use super::Context;
use crate::failure::{Outcome, Result};
use crate::render::{self, escape, time_of};
use hyper::Method;
use protocol::wire::control::{Event, Events};

pub async fn run(context: &Context, follow: bool) -> Result {
    if !follow {
        let events: Events = context.client.get("events").await?;
        context.show(&events, |events| events.events.iter().map(line).collect::<Vec<_>>().join("\n"));
        return Ok(Outcome::Yes);
    }
    let mut stream = context.client.stream(Method::GET, "events/stream", &()).await?;
    while let Some(event) = stream.next::<Event>().await? {
        context.show(&event, line);
    }
    Ok(Outcome::Yes)
}

fn line(event: &Event) -> String {
    let mut text = format!("{}  {}", time_of(event.time_ms), event.kind.word());
    for named in [&event.folder, &event.device].into_iter().flatten() {
        text.push_str(&format!("  {}", escape(&named.name)));
    }
    if let Some(path) = &event.at {
        text.push_str(&format!("  {}", render::path(path)));
    }
    if !event.words.is_empty() {
        text.push_str(&format!("  {}", render::escape(&event.words)));
    }
    text
}
