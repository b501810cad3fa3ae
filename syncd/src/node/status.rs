//! The node's state in the control API's words. Folders answer from their own threads, so status is put together
//! beside the loop.

use super::folders::State;
use super::{Node, holds};
use crate::config::{ProxyFor, Settings};
use crate::control::Reply;
use crate::folder::{Input, Report, UNDURABLE_WORDS};
use crate::net::{Net, Via};
use crate::transfer::FolderProgress;
use protocol::model::{DeviceId, FolderId};
use protocol::sync::ProblemCode;
use protocol::wire::control as api;
use protocol::wire::control::ControlError;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;

/// Problems listed for one folder; the total says how many there are.
const PROBLEMS_MAX: usize = 100;
/// A folder that does not answer in this time is shown as it was configured.
const ANSWER: Duration = Duration::from_secs(5);

/// What status needs of the node, taken at once.
struct Parts {
    status: api::Status,
    folders: Vec<(FolderId, api::FolderStatus, Option<oneshot::Receiver<Report>>, FolderProgress)>,
    devices: BTreeMap<DeviceId, api::DeviceStatus>,
    /// Which devices a folder is shared with, and which of them have joined it.
    shared: BTreeMap<FolderId, Vec<(DeviceId, bool)>>,
    /// Bytes of files received in a second, now.
    rate_bps: u64,
}

impl Node {
    pub(super) fn status_request(&self, reply: Reply<api::Status>) {
        let (parts, net) = (self.parts(), self.net.clone());
        tokio::spawn(async move {
            // The client may have hung up.
            let _ = reply.send(Ok(assemble(parts, &net).await));
        });
    }

    pub(super) fn folder_status_request(
        &self,
        folder: Result<FolderId, ControlError>,
        reply: Reply<api::FolderStatus>,
    ) {
        let id = match folder {
            Ok(id) => id,
            // The client may have hung up.
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (parts, net) = (self.parts(), self.net.clone());
        tokio::spawn(async move {
            let status = assemble(parts, &net).await;
            let found = status.folders.into_iter().find(|folder| folder.id == id.to_string());
            // The client may have hung up.
            let _ = reply.send(found.ok_or_else(|| ControlError::internal("the folder is gone again")));
        });
    }

    fn parts(&self) -> Parts {
        let folders = self.folders.iter().map(|(id, slot)| {
            let report = slot.running().map(|running| {
                let (ask, answer) = oneshot::channel();
                running.folder.tell(Input::Report(ask));
                answer
            });
            (*id, self.plain_folder(slot), report, self.transfer.progress(*id))
        });
        let shared = self.folders.keys().map(|id| {
            let joined = |device: &DeviceId| {
                self.peers
                    .get(device)
                    .is_some_and(|peer| peer.offers.get(id).is_some_and(|offer| offer.replica.is_some()))
            };
            let members = self.pairings.all().iter().map(crate::keys::Pairing::id);
            let members = members.filter(|device| self.shares(id, device));
            (*id, members.map(|device| (device, joined(&device))).collect())
        });
        let problems = self.home_problems.iter().map(|problem| api::Problem {
            at: None,
            code: problem.code.to_string(),
            words: problem.words.clone(),
            since_ms: problem.since_ms,
            needs_person: problem.needs_person,
        });
        Parts {
            folders: folders.collect(),
            devices: self.pairings.all().iter().map(|pairing| (pairing.id(), self.device_status(pairing))).collect(),
            shared: shared.collect(),
            rate_bps: self.transfer.wire().received_per_second,
            status: api::Status {
                device: api::Identity { id: self.id.to_string(), name: self.config.settings().name.clone() },
                version: env!("CARGO_PKG_VERSION").to_string(),
                pid: std::process::id(),
                uptime_s: self.started.elapsed().as_secs(),
                listen: self.net.listening().iter().map(ToString::to_string).collect(),
                proxy: proxy_words(self.config.settings()),
                folders: Vec::new(),
                devices: Vec::new(),
                problems: problems.chain(self.copies.problems()).collect(),
                offers: self.offers().len() as u64,
                limits: self.limits_status(),
            },
        }
    }

    fn plain_folder(&self, slot: &super::folders::Slot) -> api::FolderStatus {
        let (state, state_words) = match &slot.state {
            State::Running(_) => (api::FolderState::Idle, None),
            State::Paused => (api::FolderState::Paused, None),
            State::Stopped(stopped) => (api::FolderState::Stopped, Some(stopped.words.clone())),
        };
        api::FolderStatus {
            id: slot.config.id.to_string(),
            name: slot.config.name.clone(),
            root: slot.config.root_text(),
            mode: self.mode_of(&slot.config),
            state,
            state_words,
            local: api::Counts::default(),
            global: api::Counts::default(),
            need_files: 0,
            need_bytes: 0,
            need_deletes: 0,
            progress: None,
            problems: Vec::new(),
            problems_total: 0,
            holds: Vec::new(),
            differences: 0,
            all_devices: self.is_everyones(&slot.config.id),
            devices: Vec::new(),
            settings: slot.config.overrides(),
        }
    }

    fn device_status(&self, pairing: &crate::keys::Pairing) -> api::DeviceStatus {
        let id = pairing.id();
        let session = self.peers.get(&id).map(|peer| &peer.session);
        let wire = self.wire_bytes(&id);
        let skew = self.skews.get(&id).copied();
        api::DeviceStatus {
            id: id.to_string(),
            name: pairing.name.clone(),
            connected: session.is_some(),
            paused: pairing.paused,
            limit_up: Some(pairing.limits.up).filter(|rate| *rate > 0),
            limit_down: Some(pairing.limits.down).filter(|rate| *rate > 0),
            metered: pairing.limits.metered,
            via: session.map(|session| via_word(session.via())),
            address: session.filter(|session| session.via() != Via::Proxy).map(|session| session.address().to_string()),
            addresses: pairing.addresses.clone(),
            last_seen_ms: if session.is_some() { Some(super::wall_ms()) } else { pairing.last_seen_ms },
            version: session.map(|session| session.hello().software.clone()),
            in_sync: false,
            folders: Vec::new(),
            received_bytes: wire.0,
            sent_bytes: wire.1,
            rtt_ms: session.and_then(crate::net::Session::rtt).map(|rtt| rtt.as_millis() as u64),
            clock_ahead_s: skew,
            role: self.member_role(&id).map(super::realm::role_word),
            problem: self.realm_problem(&id),
        }
    }
}

async fn assemble(parts: Parts, net: &Net) -> api::Status {
    let Parts { mut status, folders, mut devices, shared, rate_bps } = parts;
    for (id, mut folder, report, progress) in folders {
        let report = match report {
            Some(answer) => tokio::time::timeout(ANSWER, answer).await.ok().and_then(Result::ok),
            None => None,
        };
        if let Some(report) = &report {
            fill_folder(&mut folder, report, progress, rate_bps);
            let held = |(hold, since): &_| holds::held(hold, since_ms(*since), &folder.name, &devices);
            folder.holds = report.holds.iter().map(held).collect();
        }
        for (device, joined) in shared.get(&id).into_iter().flatten() {
            let peer = report.as_ref().and_then(|report| report.peers.get(device));
            let in_sync = peer.is_some_and(|peer| peer.in_sync);
            let need_files = peer.map_or(0, |peer| peer.behind);
            let Some(known) = devices.get_mut(device) else {
                continue;
            };
            known.folders.push(api::DeviceFolder {
                id: folder.id.clone(),
                name: folder.name.clone(),
                joined: *joined,
                in_sync,
                need_files,
                need_bytes: 0,
            });
            folder.devices.push(api::FolderDevice {
                id: known.id.clone(),
                name: known.name.clone(),
                connected: known.connected,
                joined: *joined,
                in_sync,
                need_files,
                need_bytes: 0,
            });
        }
        status.folders.push(folder);
    }
    for peer in net.status().await {
        if let Some(device) = devices.get_mut(&peer.peer).filter(|device| !device.connected && !device.paused) {
            device.problem = peer.last_error;
            device.clock_ahead_s = device.clock_ahead_s.or(peer.clock_ahead_secs);
        }
    }
    for device in devices.values_mut() {
        let mut joined = device.folders.iter().filter(|folder| folder.joined).peekable();
        device.in_sync = device.connected && joined.peek().is_some() && joined.all(|folder| folder.in_sync);
    }
    status.devices = devices.into_values().collect();
    status
}

fn fill_folder(folder: &mut api::FolderStatus, report: &Report, progress: FolderProgress, rate_bps: u64) {
    let totals = report.state.totals;
    folder.state = match &report.stopped {
        Some(_) => api::FolderState::Stopped,
        None if report.scanning => api::FolderState::Scanning,
        None if report.idle => api::FolderState::Idle,
        None => api::FolderState::Syncing,
    };
    folder.state_words = report.stopped.as_ref().map(crate::folder::StopCause::words);
    folder.local = api::Counts { files: totals.files + totals.symlinks, dirs: totals.directories, bytes: totals.bytes };
    folder.need_files = report.state.need_entries;
    folder.need_bytes = report.state.need_bytes;
    folder.global = folder.local;
    folder.global.files += folder.need_files;
    folder.global.bytes += folder.need_bytes;
    folder.differences = report.differences;
    folder.problems_total = report.problems.len() as u64;
    folder.problems = report
        .problems
        .iter()
        .take(PROBLEMS_MAX)
        .map(|(path, problem, since)| api::Problem {
            at: Some(api::PathText::new(path.as_bytes())),
            code: problem_word(problem.code).to_string(),
            words: problem.words.clone(),
            since_ms: since_ms(*since),
            needs_person: !(problem.code == ProblemCode::Busy || problem.code.wants_source()),
        })
        .collect();
    folder.problems.extend(report.alarms.iter().map(|(words, since)| api::Problem {
        at: None,
        code: "alarm".to_string(),
        words: words.clone(),
        since_ms: since_ms(*since),
        needs_person: true,
    }));
    folder.problems.extend(report.watching.iter().map(|(words, since)| api::Problem {
        at: None,
        code: "watch_limit".to_string(),
        words: words.clone(),
        since_ms: since_ms(*since),
        needs_person: false,
    }));
    folder.problems.extend(report.undurable.iter().map(|since| api::Problem {
        at: None,
        code: "no_durability".to_string(),
        words: UNDURABLE_WORDS.to_string(),
        since_ms: since_ms(*since),
        needs_person: false,
    }));
    if !report.idle && report.state.need_entries > 0 {
        // Of what is being fetched, part is already in temps.
        let left = report.state.need_bytes.saturating_sub(progress.bytes_done);
        folder.progress = Some(api::Progress {
            done_bytes: folder.local.bytes + progress.bytes_done,
            total_bytes: folder.local.bytes + report.state.need_bytes,
            done_files: folder.local.files,
            total_files: folder.local.files + report.state.need_entries,
            rate_bps,
            eta_s: left.checked_div(rate_bps),
        });
    }
}

fn since_ms(secs: i64) -> u64 {
    u64::try_from(secs).unwrap_or(0) * 1000
}

const fn problem_word(code: ProblemCode) -> &'static str {
    match code {
        ProblemCode::NoSpace => "no_space",
        ProblemCode::Permission => "permission",
        ProblemCode::ReadOnly => "read_only",
        ProblemCode::Name => "name",
        ProblemCode::Io => "io",
        ProblemCode::Busy => "busy",
        ProblemCode::Special => "special",
        ProblemCode::NoSource => "no_source",
        ProblemCode::Metered => "metered",
        ProblemCode::Blocked => "blocked",
    }
}

/// What is different with a proxy, for a person who wonders.
fn proxy_words(settings: &Settings) -> Option<String> {
    let at = settings.proxy.as_ref()?.at;
    Some(match settings.proxy_for {
        ProxyFor::Internet => format!("the internet is reached by the proxy at {at}, the local network directly"),
        ProxyFor::Everything => {
            format!("all connections are made by the proxy at {at}; the local network is not searched")
        }
    })
}

pub(super) const fn via_word(via: Via) -> api::Via {
    match via {
        Via::Lan => api::Via::Lan,
        Via::Direct => api::Via::Direct,
        Via::Relay => api::Via::Relay,
        Via::Proxy => api::Via::Proxy,
    }
}
