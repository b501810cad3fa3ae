//! Folders that were not started because of what stands at their root: why, when they are tried again, and a person's
//! answer where another disk has the marker or another marker is there. Nothing is scanned or deleted meanwhile.

use super::Node;
use super::folders::{Slot, State, refused};
use crate::config::FolderConfig;
use crate::control::NewEvent;
use crate::disk::fs::{Fs, RealFs};
use crate::disk::marker::{Marker, MarkerCheck};
use crate::folder::{StopCause, open_root};
use protocol::model::FolderId;
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, EventKind};

/// Why a folder was not started.
pub(super) struct Stopped {
    /// For people.
    pub(super) words: String,
    /// Whether `folder approve` answers it.
    asks: bool,
    /// The directory that is not believed to be the folder.
    refused: Option<String>,
}

impl Node {
    /// Says why a folder was not started, once.
    pub(super) fn not_started(&self, config: &FolderConfig, error: &anyhow::Error) -> Stopped {
        let (id, words) = (config.id, format!("{error:#}"));
        let asks = error.downcast_ref::<StopCause>().filter(|cause| cause.asks());
        let known = self
            .folders
            .get(&id)
            .is_some_and(|slot| matches!(&slot.state, State::Stopped(stopped) if stopped.words == words));
        if !known {
            match asks {
                Some(cause) => tracing::warn!(folder = %id, "a folder was not started: {cause}"),
                None => tracing::warn!(folder = %id, "a folder was not started: `syncctl status` says why"),
            }
            tracing::debug!(folder = %id, "not started: {words}");
            let folder = api::Named { id: id.to_string(), name: config.name.clone() };
            self.hub.publish(NewEvent::new(EventKind::Problem, words.clone()).folder(folder));
        }
        let root = || open_root(&config.root).ok().and_then(|fs| fs.root_id().ok());
        let refused = matches!(asks, Some(StopCause::OtherDisk(_))).then(root).flatten().map(|root| root.to_string());
        Stopped { words, asks: asks.is_some(), refused }
    }

    /// Folders that could not be started because of their root, and now can.
    pub(super) fn retry_stopped(&mut self) {
        let back: Vec<FolderConfig> =
            self.folders.values().filter(|slot| is_back(slot)).map(|slot| slot.config.clone()).collect();
        for config in back {
            let id = config.id;
            self.start_folder(config);
            self.is_back(id);
        }
    }

    fn is_back(&mut self, id: FolderId) {
        if self.folders[&id].running().is_some() {
            tracing::info!(folder = %id, "the folder is back");
            let folder = self.folders[&id].named();
            self.hub.publish(NewEvent::new(EventKind::ProblemSolved, "the folder is back").folder(folder));
            self.offer_everywhere();
        }
    }

    /// Another directory came to a running folder's place, with a marker: a start looks what it is.
    pub(super) fn root_replaced(&mut self, id: FolderId) {
        if self.folders.get(&id).is_some_and(|slot| slot.running().is_some()) {
            self.restart_folder(id);
        }
    }

    /// `folder approve`: the directory is the folder. `None`: it is not what a person was asked.
    pub(super) fn approve_root(&mut self, id: FolderId) -> Option<Result<api::Done, ControlError>> {
        let slot = &self.folders[&id];
        match &slot.state {
            State::Stopped(Stopped { asks: true, .. }) => Some(self.take_root(slot.config.clone())),
            _ => None,
        }
    }

    fn take_root(&mut self, mut config: FolderConfig) -> Result<api::Done, ControlError> {
        let id = config.id;
        let marker = Marker { folder: id, nonce: config.marker };
        open_root(&config.root).and_then(|fs| Ok(marker.replace(&*fs)?)).map_err(|error| refused(&error))?;
        config.known_root = None;
        self.start_folder(config);
        self.is_back(id);
        match &self.folders[&id].state {
            State::Stopped(stopped) => Err(ControlError::refused(stopped.words.clone())),
            State::Running(_) | State::Paused => Ok(api::Done::said("the directory is this folder from now on")),
        }
    }

    /// The directory that a folder was started on is known from now on.
    pub(super) fn remember_root(&self, config: &mut FolderConfig, fs: &RealFs) {
        let Ok(root) = fs.root_id().map(|root| root.to_string()) else { return };
        if config.known_root.as_ref() == Some(&root) {
            return;
        }
        config.known_root = Some(root);
        if let Err(error) = config.save(&self.home.folder(&config.id)) {
            tracing::warn!(folder = %config.id, "which directory the folder is in is not saved: {error:#}");
        }
    }
}

/// The marker is there, and not in the directory that a person has to answer for.
fn is_back(slot: &Slot) -> bool {
    let State::Stopped(stopped) = &slot.state else { return false };
    let marker = Marker { folder: slot.config.id, nonce: slot.config.marker };
    let Ok(fs) = open_root(&slot.config.root) else { return false };
    let is_refused = || {
        let root = fs.root_id().map(|root| root.to_string()).ok();
        stopped.refused.is_some() && stopped.refused == root
    };
    matches!(marker.check(&*fs), Ok(MarkerCheck::Ok)) && !is_refused()
}
