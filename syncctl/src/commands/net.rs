//! `net`: how each device is reached, why not better, and what was tried.

use super::Context;
use super::device::via_word;
use crate::args::{NetCommand, Switch};
use crate::failure::{Outcome, Result};
use crate::render::{ago, escape, now_ms, size};
use protocol::wire::control::{ConfigSet, NetDevice, NetPath, NetStatus, Setting};

/// Ways that failed, shown for each device; `--json` has all.
const TRIED_SHOWN: usize = 8;

pub async fn run(context: &Context, command: Option<NetCommand>) -> Result {
    match command {
        Some(NetCommand::Internet { switch }) => return internet(context, switch).await,
        Some(NetCommand::Relay { switch }) => return relay(context, switch).await,
        None => {}
    }
    let net: NetStatus = context.client.get("net").await?;
    context.show(&net, words);
    Ok(Outcome::Yes)
}

async fn internet(context: &Context, switch: Switch) -> Result {
    let (value, words) = match switch {
        Switch::On => (
            "on",
            "devices may find each other with the help of strangers now: switch it on at both ends; `syncctl net` says what came of it",
        ),
        Switch::Off => ("off", "no stranger is contacted any more"),
    };
    set(context, "internet", value, words).await
}

async fn relay(context: &Context, switch: Switch) -> Result {
    let (value, words) = match switch {
        Switch::On => (
            "true",
            "your other devices may meet through this one from now on, as soon as each has been connected to it once; they have to \
             reach its TCP port: `syncctl net` says where it listens",
        ),
        Switch::Off => ("false", "this device passes nothing on for your others any more"),
    };
    set(context, "relay", value, words).await
}

/// Sets `key` and says in `words` what that means.
async fn set(context: &Context, key: &str, value: &str, words: &str) -> Result {
    let set = ConfigSet { key: key.to_owned(), value: Some(value.to_owned()) };
    let setting: Setting = context.client.put("config", &set).await?;
    context.show(&setting, |_| words.to_owned());
    Ok(Outcome::Yes)
}

fn words(net: &NetStatus) -> String {
    let list = |items: &[String], none: &str| {
        if items.is_empty() { none.to_owned() } else { escape(&items.join(", ")) }
    };
    let mut lines = vec![
        format!("listens on    {}", list(&net.listen, "nothing: it dials, and waits at relays")),
        format!("local network {}", if net.lan { "devices find each other" } else { "silent (`lan` is never)" }),
        format!("relays        {}", list(&net.relays, "none")),
    ];
    if net.relaying {
        let when = if net.devices.is_empty() { "once there are any" } else { "at the port it listens on" };
        lines.push(format!("relays for    your other devices, {when}"));
    }
    if net.internet {
        lines.push(format!(
            "router        {}",
            net.router.as_deref().map_or("it is being asked for a port".into(), escape)
        ));
        lines.push(format!("public table  {}", net.table.as_deref().map_or("not visited yet".into(), escape)));
    }
    if !net.seen_at.is_empty() {
        lines.push(format!("seen from     {}", list(&net.seen_at, "")));
    }
    if net.devices.is_empty() {
        lines.push("no paired devices; `syncctl pair` pairs one".to_owned());
    }
    let now = now_ms();
    net.devices.iter().for_each(|device| device_lines(device, now, &mut lines));
    lines.join("\n")
}

fn device_lines(device: &NetDevice, now: u64, lines: &mut Vec<String>) {
    let state = match &device.path {
        _ if device.paused => "paused".to_owned(),
        Some(path) => path_words(path, now),
        None => "not connected".to_owned(),
    };
    lines.push(String::new());
    lines.push(format!("{}: {state}", escape(&device.name)));
    lines.extend(device.why.iter().map(|why| format!("  {}", escape(why))));
    lines.extend(device.hint.iter().map(|hint| format!("  hint: {}", escape(hint))));
    if let Some(seconds) = device.next_try_s.filter(|_| device.path.is_none()) {
        lines.push(format!("  dialled again in {seconds} s"));
    }
    for tried in device.tried.iter().take(TRIED_SHOWN) {
        let outcome = tried.words.as_deref().map_or("led there".to_owned(), escape);
        lines.push(format!("  {}, {}: {outcome}", escape(&tried.way), ago(tried.at_ms, now)));
    }
}

fn path_words(path: &NetPath, now: u64) -> String {
    let rtt = path.rtt_us.map_or(String::new(), |rtt| format!(", round trip {}", micros(rtt)));
    format!(
        "{} {}, since {}{rtt}, receives {}/s, sends {}/s ({} and {} in all)",
        via_word(path.via),
        escape(&path.address),
        ago(path.since_ms, now),
        size(path.received_bps),
        size(path.sent_bps),
        size(path.received_bytes),
        size(path.sent_bytes),
    )
}

fn micros(us: u64) -> String {
    if us < 10_000 { format!("{}.{} ms", us / 1000, us % 1000 / 100) } else { format!("{} ms", us / 1000) }
}
