//! `syncctl wait`: first a barrier, so that everything written before the call has been looked at, then until every
//! folder agrees with every connected peer. Runs beside the node's loop and ends when the client hangs up.

use crate::control::Reply;
use crate::folder::{Input, Report, held_words};
use crossbeam_channel::Sender;
use protocol::model::DeviceId;
use protocol::sync::DeclineCode;
use protocol::wire::control as api;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two looks.
const POLL: Duration = Duration::from_millis(15);
/// Looks become rarer while nothing changes.
const POLL_MAX: Duration = Duration::from_millis(200);
/// When the caller names no time.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// A folder that is waited for.
pub(super) struct Watched {
    pub(super) name: String,
    /// `None`: it is not running.
    pub(super) inbox: Option<Sender<Input>>,
    pub(super) names: BTreeMap<DeviceId, String>,
}

pub(super) async fn run(folders: Vec<Watched>, timeout_s: Option<u64>, mut reply: Reply<api::Waited>) {
    let started = Instant::now();
    let timeout = timeout_s.map_or(TIMEOUT, Duration::from_secs);
    let outcome = tokio::select! {
        reasons = wait(&folders, started + timeout) => reasons,
        () = reply.closed() => return,
    };
    let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    // The client may have hung up just now.
    let _ = reply.send(Ok(api::Waited { in_sync: outcome.is_empty(), waited_ms, reasons: outcome }));
}

/// Empty when in sync; else why not when the time is over.
async fn wait(folders: &[Watched], deadline: Instant) -> Vec<api::WaitReason> {
    if folders.is_empty() {
        return vec![reason("no_folder", "there is no folder to wait for", None, None)];
    }
    for folder in folders {
        let Some(inbox) = &folder.inbox else {
            continue;
        };
        let (passed, barrier) = oneshot::channel();
        if inbox.send(Input::Barrier(passed)).is_ok() {
            let left = deadline.saturating_duration_since(Instant::now());
            // A barrier that does not come in time leaves its folder busy, which the look below tells.
            let _ = tokio::time::timeout(left, barrier).await;
        }
    }
    let mut poll = POLL;
    loop {
        let mut reasons = Vec::new();
        for folder in folders {
            reasons.extend(look(folder).await);
        }
        if reasons.is_empty() || Instant::now() >= deadline {
            return reasons;
        }
        tokio::time::sleep(poll).await;
        poll = (poll * 5 / 4).min(POLL_MAX);
    }
}

async fn look(folder: &Watched) -> Vec<api::WaitReason> {
    let name = folder.name.as_str();
    let Some(inbox) = &folder.inbox else {
        return vec![reason("not_running", "the folder is paused or stopped", Some(name), None)];
    };
    let (ask, answer) = oneshot::channel();
    if inbox.send(Input::Report(ask)).is_err() {
        return vec![reason("not_running", "the folder is stopping", Some(name), None)];
    }
    match answer.await {
        Ok(report) => reasons_of(&report, name, &folder.names),
        Err(_) => vec![reason("not_running", "the folder is stopping", Some(name), None)],
    }
}

fn reasons_of(report: &Report, name: &str, names: &BTreeMap<DeviceId, String>) -> Vec<api::WaitReason> {
    let mut reasons = Vec::new();
    let mut because = |code: &str, words: &str, device: Option<&str>| {
        reasons.push(reason(code, words, Some(name), device));
    };
    if let Some(cause) = &report.stopped {
        because("stopped", &cause.words(), None);
    }
    if report.scanning {
        because("scanning", "a scan is running", None);
    } else if !report.idle {
        let needs = format!("{} entries are on their way here", report.state.need_entries);
        because("syncing", &needs, None);
    }
    for hold in &report.holds {
        let device = hold.0.peer.and_then(|peer| names.get(&peer)).map(String::as_str);
        let words = held_words(&hold.0, device.unwrap_or("a device"));
        because("held", &format!("{words}, until `folder approve` or `reject`"), device);
    }
    if !report.problems.is_empty() {
        because("problems", &format!("{} paths cannot be synced here", report.problems.len()), None);
    }
    if report.peers.is_empty() {
        because("no_peer", "no device that shares the folder is connected", None);
    }
    for (id, peer) in &report.peers {
        let device = names.get(id).map(String::as_str);
        if !peer.in_sync {
            because("peer_behind", "a device is not in sync yet", device);
        }
        let refused = peer
            .declined
            .values()
            .filter(|declined| !matches!(declined.code, Some(DeclineCode::Ignored | DeclineCode::SendOnly) | None));
        let count = refused.count();
        if count > 0 {
            because("declined", &format!("a device cannot take {count} entries"), device);
        }
    }
    reasons
}

fn reason(code: &str, words: &str, folder: Option<&str>, device: Option<&str>) -> api::WaitReason {
    api::WaitReason {
        code: code.to_string(),
        words: words.to_string(),
        folder: folder.map(str::to_string),
        device: device.map(str::to_string),
    }
}
