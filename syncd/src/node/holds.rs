//! What waits for a person, in the control API's words, and the person's answers. A folder is asked what it holds
//! before it is told the answer, so that the reply says what was answered.

use super::Node;
use super::requests::answer;
use crate::control::{NewEvent, Reply};
use crate::folder::{Input, alarm_words, answered_words, answers_words, held_words};
use protocol::model::{DeviceId, FolderId};
use protocol::sync::engine::{Alarm, Event as EngineEvent, HeldWhat, Hold};
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, EventKind};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

impl Node {
    /// `folder approve` and `folder reject`.
    pub(super) fn answer_holds(&self, id: FolderId, approved: bool, reply: Reply<api::Done>) {
        let running = match self.running(id) {
            Ok(running) => running,
            Err(error) => return answer(reply, Err(error)),
        };
        let (ask, report) = oneshot::channel();
        running.folder.tell(Input::Report(ask));
        running.folder.tell(Input::Engine(if approved { EngineEvent::Approve } else { EngineEvent::Reject }));
        let names: BTreeMap<DeviceId, String> =
            self.pairings.all().iter().map(|pairing| (pairing.id(), pairing.name.clone())).collect();
        tokio::spawn(async move {
            let said = report.await.map_err(|_| ControlError::refused("the folder is stopping")).map(|report| {
                let name = |hold: &Hold| hold.peer.map_or_else(String::new, |peer| name_in(&names, &peer));
                let words = report.holds.iter().map(|(hold, _)| answered_words(hold, &name(hold), approved));
                let closed = (approved && !report.alarms.is_empty()).then(|| "the message is closed".to_owned());
                let words: Vec<String> = words.chain(closed).collect();
                api::Done::said(if words.is_empty() { "nothing was held".to_string() } else { words.join("; ") })
            });
            answer(reply, said);
        });
    }

    pub(super) fn alarm_event(&self, alarm: &Alarm) -> NewEvent {
        self.event_of(EventKind::Held, alarm, alarm_words(alarm, |id| self.device_name(id)))
    }

    pub(super) fn alarm_over_event(&self, alarm: &Alarm) -> NewEvent {
        let words = alarm_words(alarm, |id| self.device_name(id));
        self.event_of(EventKind::Released, alarm, format!("over: {words}"))
    }

    fn event_of(&self, kind: EventKind, alarm: &Alarm, words: String) -> NewEvent {
        let event = NewEvent::new(kind, words);
        let peer = match alarm {
            Alarm::Held(hold) => hold.peer,
            Alarm::Fork { peer, .. } | Alarm::Stale { peer, .. } | Alarm::Diverged { peer } => Some(*peer),
        };
        match peer {
            Some(peer) => event.device(api::Named { id: peer.to_string(), name: self.device_name(&peer) }),
            None => event,
        }
    }
}

fn name_in(names: &BTreeMap<DeviceId, String>, peer: &DeviceId) -> String {
    names.get(peer).cloned().unwrap_or_else(|| peer.short())
}

/// A hold as status shows it.
pub(super) fn held(
    hold: &Hold,
    since_ms: u64,
    folder: &str,
    devices: &BTreeMap<DeviceId, api::DeviceStatus>,
) -> api::Hold {
    let device = hold.peer.map(|peer| {
        let name = devices.get(&peer).map_or_else(|| peer.short(), |device| device.name.clone());
        api::Named { id: peer.to_string(), name }
    });
    let happened = held_words(hold, device.as_ref().map_or("", |device| &device.name));
    api::Hold {
        kind: match hold.what {
            HeldWhat::DeletionsHere => api::HoldKind::DeletionsHere,
            HeldWhat::RestoredHere => api::HoldKind::RestoredHere,
            HeldWhat::SuspectHere => api::HoldKind::SuspectHere,
            HeldWhat::DeletionsThere => api::HoldKind::DeletionsThere,
            HeldWhat::ReplacementsThere => api::HoldKind::ReplacementsThere,
        },
        device,
        paths: hold.files,
        of_files: hold.of,
        since_ms,
        words: format!("{happened}: {}", answers_words(hold, folder)),
    }
}
