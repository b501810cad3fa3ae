//! `device`: paired devices.

use super::{Context, confirm, need_yes, read_line};
use crate::args::{DeviceCommand, MeteredWord, RoleWord};
use crate::failure::{Failure, Outcome, Result};
use crate::render::{ago, count, escape, now_ms, size, table};
use protocol::wire::control::{
    DeviceAddress, DeviceLimit, DeviceRef, DeviceRemove, DeviceRename, DeviceRole, DeviceSetRole, DeviceStatus,
    Devices, Done, RecoveryText, Via,
};

pub async fn run(context: &Context, command: DeviceCommand) -> Result {
    let client = &context.client;
    let done: Done = match command {
        DeviceCommand::List => return list(context).await,
        DeviceCommand::Rename { device, name } => client.post("devices/rename", &DeviceRename { device, name }).await?,
        DeviceCommand::Address { device, addresses } => {
            client.post("devices/address", &DeviceAddress { device, addresses }).await?
        }
        DeviceCommand::Limit { device, up, down, metered } => {
            let metered = metered.map(|word| metered_in(word).to_owned());
            client.post("devices/limit", &DeviceLimit { device, up, down, metered }).await?
        }
        DeviceCommand::Pause { device } => client.post("devices/pause", &DeviceRef { device }).await?,
        DeviceCommand::Resume { device } => client.post("devices/resume", &DeviceRef { device }).await?,
        DeviceCommand::Role { device, role, recovery_code } => {
            let recovery_code = typed_code(recovery_code).await?;
            client.post("devices/role", &DeviceSetRole { device, role: role_in(role), recovery_code }).await?
        }
        DeviceCommand::Remove { device, disown, recovery_code, yes } => {
            need_yes(yes, "removing a device")?;
            let what = if disown { ", and every device that it added," } else { "" };
            let question =
                format!("Remove {}{what} from all your devices, for good? Files there stay there.", escape(&device));
            if !yes && !confirm(&question).await? {
                return Err(Failure::new("nothing was removed"));
            }
            let recovery_code = typed_code(recovery_code).await?;
            client.post("devices/remove", &DeviceRemove { device, recovery_code, disown }).await?
        }
    };
    context.done(&done);
    Ok(Outcome::Yes)
}

/// A recovery code as it was given, or from standard input.
async fn typed_code(code: Option<String>) -> Result<Option<RecoveryText>> {
    let code = if code.as_deref() == Some("-") { read_line("recovery code: ").await? } else { code };
    Ok(code.map(RecoveryText))
}

/// As the daemon takes it.
pub const fn role_in(role: RoleWord) -> DeviceRole {
    match role {
        RoleWord::Admin => DeviceRole::Admin,
        RoleWord::Full => DeviceRole::Full,
        RoleWord::Reader => DeviceRole::Reader,
    }
}

const fn metered_in(word: MeteredWord) -> &'static str {
    match word {
        MeteredWord::Yes => "yes",
        MeteredWord::No => "no",
        MeteredWord::Default => "default",
    }
}

async fn list(context: &Context) -> Result {
    let devices: Devices = context.client.get("devices").await?;
    context.show(&devices, |devices| {
        if devices.devices.is_empty() {
            return "no paired devices; `syncctl pair` pairs one".to_owned();
        }
        device_table(&devices.devices)
    });
    Ok(Outcome::Yes)
}

/// Where the limits stand in the table; the column is left out while no device has any.
const LIMIT_COLUMN: usize = 3;

/// Also part of `status`.
pub fn device_table(devices: &[DeviceStatus]) -> String {
    let now = now_ms();
    let mut rows: Vec<Vec<String>> = devices
        .iter()
        .map(|device| {
            let id: String = device.id.chars().skip(3).take(8).collect();
            vec![
                escape(&device.name),
                role_of(device).to_owned(),
                path_of(device),
                limits_of(device),
                seen(device, now),
                sync_of(device),
                escape(&id),
            ]
        })
        .collect();
    let limited = devices.iter().any(|device| !limits_of(device).is_empty());
    let mut head = vec!["DEVICE", "ROLE", "PATH", "LIMIT", "SEEN", "STATE", "ID"];
    if !limited {
        head.remove(LIMIT_COLUMN);
        rows.iter_mut().for_each(|row| drop(row.remove(LIMIT_COLUMN)));
    }
    table(&head, &rows, &[])
}

const fn role_of(device: &DeviceStatus) -> &'static str {
    match device.role {
        Some(DeviceRole::Admin) => "admin",
        Some(DeviceRole::Full) => "full",
        Some(DeviceRole::Reader) => "reader",
        None => "paired",
    }
}

/// How a device is reached, for people.
pub const fn via_word(via: Via) -> &'static str {
    match via {
        Via::Lan => "LAN",
        Via::Direct => "direct",
        Via::Relay => "relay",
        Via::Proxy => "proxy",
    }
}

fn path_of(device: &DeviceStatus) -> String {
    let way = match device.via {
        _ if device.paused => "paused",
        _ if !device.connected => "not connected",
        Some(via) => via_word(via),
        None => "connected",
    };
    match &device.address {
        Some(address) if device.connected => format!("{way} {}", escape(address)),
        _ => way.to_owned(),
    }
}

/// Empty: none of its own.
fn limits_of(device: &DeviceStatus) -> String {
    let way = |rate: Option<u64>, words: &str| rate.map(|rate| format!("{words} {}/s", size(rate)));
    let metered = device.metered.map(|costs| if costs { "metered" } else { "never metered" }.to_owned());
    let ways = [way(device.limit_up, "up"), way(device.limit_down, "down"), metered];
    ways.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn seen(device: &DeviceStatus, now: u64) -> String {
    match device.last_seen_ms {
        _ if device.connected => "now".to_owned(),
        Some(then) => ago(then, now),
        None => "never".to_owned(),
    }
}

fn sync_of(device: &DeviceStatus) -> String {
    if device.in_sync {
        return "in sync".to_owned();
    }
    let missing: Vec<String> = device
        .folders
        .iter()
        .filter(|folder| folder.joined && !folder.in_sync)
        .map(|folder| {
            let name = escape(&folder.name);
            match folder.need_files {
                0 => format!("{name}: not in sync"),
                files => format!("{name}: lacks {}, {}", count(files, "file"), size(folder.need_bytes)),
            }
        })
        .collect();
    if missing.is_empty() { "shares no folder".to_owned() } else { missing.join("; ") }
}
