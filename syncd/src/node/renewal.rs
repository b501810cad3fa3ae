//! What becomes of an index that peers know better than it knows itself: its folder goes on under a new replica. A
//! person hears of it, since only a person knows whether the home was restored or copied.

use super::Node;
use super::folders::State;
use crate::control::NewEvent;
use crate::store::Store;
use protocol::model::{DeviceId, FolderId, ReplicaId};
use protocol::sync::Journal;
use protocol::sync::engine::renewal;
use protocol::wire::control as api;
use protocol::wire::control::EventKind;
use std::time::{Duration, Instant};

/// A folder is renewed at most this often, whatever its peers say.
const PAUSE: Duration = Duration::from_secs(60);

/// What was found wrong with a folder's index, and mended.
pub(super) struct HomeProblem {
    pub(super) folder: FolderId,
    /// For programs.
    pub(super) code: &'static str,
    pub(super) words: String,
    pub(super) since_ms: u64,
    /// Until a person has read it.
    pub(super) needs_person: bool,
}

/// An index that went back.
pub(super) struct Renewal {
    /// By this device's word; `None` once it was renewed.
    due: Option<DeviceId>,
    last: Option<Instant>,
}

impl Node {
    /// A peer showed that a folder's index is older than it should be. Nothing, once it was renewed.
    pub(super) fn went_back(&mut self, id: FolderId, peer: &DeviceId, replica: ReplicaId) {
        let running = self.folders.get(&id).and_then(|slot| slot.running());
        if running.is_none_or(|running| running.replica != replica) {
            return;
        }
        let renewal = self.renewals.entry(id).or_insert(Renewal { due: None, last: None });
        renewal.due = Some(*peer);
        self.renew_due();
    }

    /// Renews what may be renewed again.
    pub(super) fn renew_due(&mut self) {
        let is_due = |renewal: &Renewal| renewal.due.is_some() && renewal.last.is_none_or(|at| at.elapsed() > PAUSE);
        let due: Vec<FolderId> = self.renewals.iter().filter(|(_, it)| is_due(it)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(renewal) = self.renewals.get_mut(&id) else { continue };
            renewal.last = Some(Instant::now());
            let is_running = self.folders.get(&id).is_some_and(|slot| slot.running().is_some());
            let Some(peer) = renewal.due.filter(|_| is_running) else { continue };
            self.renew(id, &peer);
        }
    }

    fn renew(&mut self, id: FolderId, peer: &DeviceId) {
        let words = words(&self.folders[&id].config.name, &self.device_name(peer));
        tracing::warn!(folder = %id, peer = %peer.short(), "an index is older than what a peer knows of it: it is renewed");
        let folder = self.folders[&id].named();
        let event = NewEvent::new(EventKind::Problem, words.clone()).folder(folder);
        self.hub.publish(event.device(api::Named { id: peer.to_string(), name: self.device_name(peer) }));
        self.home_problems.retain(|problem| problem.folder != id || problem.code != CODE);
        let since_ms = super::wall_ms();
        self.home_problems.push(HomeProblem { folder: id, code: CODE, words, since_ms, needs_person: true });
        self.stop_folder(&id, State::Paused);
        self.offer_everywhere();
        let config = self.folders[&id].config.clone();
        self.start_folder(config);
        self.offer_everywhere();
    }

    /// As the folder starts: the transactions that make another index of one that went back.
    pub(super) fn renew_store(&mut self, id: &FolderId, store: &Store, replica: ReplicaId) {
        let Some(due) = self.renewals.get_mut(id) else { return };
        if due.due.take().is_some() {
            renewal(store, replica).into_iter().for_each(|changes| store.commit(changes));
        }
    }

    /// A person has read what was found and mended.
    pub(super) fn close_home_problems(&mut self, id: &FolderId) {
        self.home_problems.retain(|problem| problem.folder != *id);
    }
}

const CODE: &str = "index_renewed";

fn words(folder: &str, device: &str) -> String {
    format!(
        "folder {folder}: the index here is older than what {device} knows of it: this device's home was restored from \
         a backup, or copied to another device. It goes on under a new identity; what both sides changed is kept twice. \
         If the home was copied, remove the copy (not its folders) and pair that device again. `syncctl folder approve \
         {folder}` closes this message"
    )
}
