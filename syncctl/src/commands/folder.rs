//! `folder`: synced folders and offers.

use super::Context;
use crate::args::FolderCommand;
use crate::failure::{Outcome, Result};
use crate::home;
use crate::render::{self, count, counts, escape, number, size, table};
use protocol::wire::control::{
    Done, FolderAction, FolderAdd, FolderJoin, FolderRef, FolderSet, FolderShare, FolderStatus, Folders, JoinPreview,
    Offers, PreviewKind, Setting,
};

pub async fn run(context: &Context, command: FolderCommand) -> Result {
    match command {
        FolderCommand::Add { path, name, mode, with } => {
            let add = FolderAdd { root: home::directory(&path)?, name, mode: mode.into(), with };
            let folder: FolderStatus = context.client.post("folders/add", &add).await?;
            context.show(&folder, |folder| begun("syncing", folder));
            Ok(Outcome::Yes)
        }
        FolderCommand::List => list(context).await,
        FolderCommand::Offers => offers(context).await,
        FolderCommand::Join { folder, path, mode, preview } => {
            let join = FolderJoin { folder, root: home::directory(&path)?, mode: mode.into() };
            self::join(context, &join, preview).await
        }
        FolderCommand::Pause(name) => act(context, name.folder, FolderAction::Pause).await,
        FolderCommand::Resume(name) => act(context, name.folder, FolderAction::Resume).await,
        FolderCommand::Rescan(name) => act(context, name.folder, FolderAction::Rescan).await,
        FolderCommand::Approve(name) => act(context, name.folder, FolderAction::Approve).await,
        FolderCommand::Reject(name) => act(context, name.folder, FolderAction::Reject).await,
        FolderCommand::Override(name) => act(context, name.folder, FolderAction::Override).await,
        FolderCommand::Revert(name) => act(context, name.folder, FolderAction::Revert).await,
        FolderCommand::Remove(name) => act(context, name.folder, FolderAction::Remove).await,
        FolderCommand::Share { folder, devices, all, only } => {
            let others = (all || only).then_some(all);
            share(context, &FolderShare { folder, devices, is_in: true, others }).await
        }
        FolderCommand::Unshare { folder, devices } => {
            share(context, &FolderShare { folder, devices, is_in: false, others: None }).await
        }
        FolderCommand::Set { folder, key, value } => set(context, folder, key, &value).await,
    }
}

async fn act(context: &Context, folder: String, action: FolderAction) -> Result {
    let done: Done = context.client.post(&format!("folders/{}", action.word()), &FolderRef { folder }).await?;
    context.done(&done);
    Ok(Outcome::Yes)
}

async fn share(context: &Context, share: &FolderShare) -> Result {
    let done: Done = context.client.post("folders/share", share).await?;
    context.done(&done);
    Ok(Outcome::Yes)
}

async fn set(context: &Context, folder: String, key: String, value: &str) -> Result {
    let set = FolderSet { folder, key, value: value.to_owned() };
    let setting: Setting = context.client.post("folders/set", &set).await?;
    context.show(&setting, super::config::line);
    Ok(Outcome::Yes)
}

fn begun(verb: &str, folder: &FolderStatus) -> String {
    let with = match (folder.all_devices, folder.devices.as_slice()) {
        (true, []) => "every device you pair".to_owned(),
        (true, _) => "every paired device".to_owned(),
        (false, devices) => devices.iter().map(|device| escape(&device.name)).collect::<Vec<_>>().join(", "),
    };
    let (name, path) = (escape(&folder.name), render::path(&folder.root));
    format!("{verb} {name} at {path} ({}), with {with}", folder.mode.word())
}

async fn list(context: &Context) -> Result {
    let folders: Folders = context.client.get("folders").await?;
    context.show(&folders, |folders| {
        if folders.folders.is_empty() {
            return "no folders; `syncctl folder add PATH` adds one".to_owned();
        }
        folder_table(&folders.folders)
    });
    Ok(Outcome::Yes)
}

/// Also part of `status`.
pub fn folder_table(folders: &[FolderStatus]) -> String {
    let rows: Vec<Vec<String>> = folders
        .iter()
        .map(|folder| {
            vec![
                escape(&folder.name),
                state_of(folder),
                counts(&folder.local),
                missing(folder),
                devices_of(folder),
                render::path(&folder.root),
            ]
        })
        .collect();
    table(&["FOLDER", "STATE", "HERE", "MISSING HERE", "DEVICES", "PATH"], &rows, &[])
}

fn state_of(folder: &FolderStatus) -> String {
    match folder.mode {
        protocol::wire::control::FolderMode::SendReceive => folder.state.word().to_owned(),
        mode => format!("{}, {}", folder.state.word(), mode.word()),
    }
}

fn missing(folder: &FolderStatus) -> String {
    match (folder.need_files, folder.need_deletes) {
        (0, 0) => "nothing".to_owned(),
        (0, deletes) => count(deletes, "deletion"),
        (files, _) => format!("{}, {}", count(files, "file"), size(folder.need_bytes)),
    }
}

/// `2 of 3 in sync`: counted over devices that joined; the others are no news.
fn devices_of(folder: &FolderStatus) -> String {
    let joined: Vec<_> = folder.devices.iter().filter(|device| device.joined).collect();
    let in_sync = joined.iter().filter(|device| device.in_sync).count();
    let connected = joined.iter().filter(|device| device.connected).count();
    match joined.as_slice() {
        [] => "none joined".to_owned(),
        [one] if one.in_sync => format!("{} in sync", escape(&one.name)),
        [one] if !one.connected => format!("{} away", escape(&one.name)),
        [one] => format!("{} lacks {}", escape(&one.name), count(one.need_files, "file")),
        all if connected < all.len() => format!("{in_sync} of {} in sync, {connected} connected", all.len()),
        all => format!("{in_sync} of {} in sync", all.len()),
    }
}

async fn offers(context: &Context) -> Result {
    let offers: Offers = context.client.get("folders/offers").await?;
    context.show(&offers, |offers| {
        if offers.offers.is_empty() {
            return "no offers from other devices".to_owned();
        }
        let rows: Vec<Vec<String>> = offers
            .offers
            .iter()
            .map(|offer| {
                let by: Vec<String> = offer.devices.iter().map(|device| escape(&device.name)).collect();
                let content = offer.counts.as_ref().map_or("unknown".to_owned(), counts);
                vec![escape(&offer.name), by.join(", "), content, escape(&offer.id)]
            })
            .collect();
        table(&["FOLDER", "OFFERED BY", "CONTENT", "ID"], &rows, &[])
    });
    Ok(Outcome::Yes)
}

async fn join(context: &Context, join: &FolderJoin, preview: bool) -> Result {
    if preview {
        let preview: JoinPreview = context.client.post("folders/preview", join).await?;
        context.show(&preview, preview_words);
    } else {
        let folder: FolderStatus = context.client.post("folders/join", join).await?;
        context.show(&folder, |folder| begun("joined", folder));
    }
    Ok(Outcome::Yes)
}

fn preview_words(preview: &JoinPreview) -> String {
    let rows = [
        ("added here", &preview.added),
        ("replaced here", &preview.replaced),
        ("conflicts (both are kept)", &preview.conflicts),
        ("sent to others", &preview.sent),
        ("already equal", &preview.same),
    ]
    .map(|(what, counts)| vec![what.to_owned(), number(counts.files), size(counts.bytes)]);
    let (name, path) = (escape(&preview.folder.name), render::path(&preview.root));
    let mut text = format!("joining {name} at {path} would do this:\n");
    text.push_str(&table(&["", "FILES", "BYTES"], &rows, &[1, 2]));
    for path in &preview.paths {
        let what = match path.what {
            PreviewKind::Added => "added",
            PreviewKind::Replaced => "replaced",
            PreviewKind::Conflict => "conflict",
            PreviewKind::Sent => "sent",
        };
        text.push_str(&format!("\n{what:>9}  {}", render::path(&path.at)));
    }
    let listed = preview.paths.len() as u64;
    if preview.paths_total > listed {
        text.push_str(&format!("\n... and {} more", number(preview.paths_total - listed)));
    }
    if !preview.complete {
        text.push_str("\nthe list of files is still being received: these figures will grow");
    }
    text
}
