//! Folders come, go, pause and resume; their config files are the truth, their databases can be rebuilt.

use super::Node;
use super::errands::Errand;
use super::renewal::HomeProblem;
use super::requests::answer;
use super::roots::Stopped;
use crate::config::{FolderConfig, Links};
use crate::control::Reply;
use crate::disk::fs::{Fs, RealFs};
use crate::disk::marker::Marker;
use crate::folder::{Folder, Input, Retention, Setup, Tuning, open_root};
use crate::store::{OpenError, Store};
use crate::transfer::{Compression, Notice};
use anyhow::Result;
use protocol::model::{FolderId, ReplicaId, RunId};
use protocol::sync::Rows;
use protocol::sync::engine::{Config as EngineConfig, Event as EngineEvent, FolderMode};
use protocol::sync::reconcile::Rules;
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, ErrorCode};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A folder as the node has it.
pub(super) struct Slot {
    pub(super) config: FolderConfig,
    pub(super) state: State,
}

pub(super) enum State {
    Running(Running),
    Paused,
    /// Could not be started.
    Stopped(Stopped),
}

pub(super) struct Running {
    pub(super) folder: Folder,
    pub(super) store: Arc<Store>,
    pub(super) fs: Arc<RealFs>,
    pub(super) replica: ReplicaId,
}

impl Slot {
    pub(super) const fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running(running) => Some(running),
            State::Paused | State::Stopped(_) => None,
        }
    }

    pub(super) fn named(&self) -> api::Named {
        api::Named { id: self.config.id.to_string(), name: self.config.name.clone() }
    }
}

/// A message for the person who asked, from an error with its context.
pub(super) fn refused(error: &anyhow::Error) -> ControlError {
    ControlError::refused(format!("{error:#}"))
}

impl Node {
    /// Starts a folder, or says in its state why not.
    pub(super) fn start_folder(&mut self, mut config: FolderConfig) {
        let id = config.id;
        let state = if config.paused {
            State::Paused
        } else {
            match self.run_folder(&config) {
                Ok(running) => {
                    self.remember_root(&mut config, &running.fs);
                    State::Running(running)
                }
                Err(error) => State::Stopped(self.not_started(&config, &error)),
            }
        };
        self.folders.insert(id, Slot { config, state });
    }

    fn run_folder(&mut self, config: &FolderConfig) -> Result<Running> {
        if !self.is_in(&config.id) {
            anyhow::bail!(
                "another device of yours took this one out of the folder: the files stay and are synced no more; \
                 `syncctl folder share` there takes it in again, `syncctl folder remove` here forgets it"
            );
        }
        let effective = config.effective(self.config.settings());
        let fs = open_root(&config.root)?;
        let store = self.open_store(config)?;
        self.renew_store(&config.id, &store, random_replica());
        let replica = store.state().replica;
        let mode = match self.mode_of(config) {
            api::FolderMode::SendReceive => FolderMode::SendReceive,
            api::FolderMode::SendOnly => FolderMode::SendOnly,
            api::FolderMode::ReceiveOnly => FolderMode::ReceiveOnly,
        };
        let engine =
            EngineConfig { mode, guard: effective.mass_delete_guard, rules: Rules::default(), run: Some(random_run()) };
        let setup = Setup {
            id: config.id,
            root: config.root.clone(),
            marker: Marker { folder: config.id, nonce: config.marker },
            known_root: config.known_root.clone(),
            engine,
            watch: effective.watch,
            store: Arc::clone(&store),
            fs: Arc::clone(&fs),
            tuning: tuning(&effective, &fs),
            links_inside: config.links == Links::Inside,
            outside: Arc::clone(&self.exit) as Arc<dyn crate::folder::Outside>,
        };
        let introduce = |inbox| self.transfer.add_folder(transfer_folder(config.id, &store, &fs, inbox));
        let folder = Folder::start(setup, introduce).inspect_err(|_| self.transfer.remove_folder(config.id))?;
        Ok(Running { folder, store, fs, replica })
    }

    fn open_store(&mut self, config: &FolderConfig) -> Result<Arc<Store>> {
        let id = &config.id;
        let path = self.home.index().join(format!("{id}.redb"));
        let opened = Store::open(&path, random_replica);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error @ OpenError::Newer { .. }) => {
                self.end = Some(super::Ended::NewerDatabase);
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(aside) = opened.set_aside {
            let words = format!("the index was damaged and is being rebuilt; the old one is {}", aside.display());
            tracing::warn!(folder = %id, "{words}");
            let (words, since_ms) = (format!("folder {}: {words}", config.name), super::wall_ms());
            let code = "index_rebuilt";
            self.home_problems.push(HomeProblem { folder: *id, code, words, since_ms, needs_person: false });
        }
        Ok(Arc::new(opened.store))
    }

    /// Starts to sync a directory, as a new folder.
    pub(super) async fn add_folder(&mut self, add: &api::FolderAdd) -> Result<FolderId, ControlError> {
        self.may_share()?;
        let root = self.new_root(&add.root)?;
        let name = add.name.clone().unwrap_or_else(|| {
            root.file_name().map_or_else(|| "folder".to_string(), |name| name.to_string_lossy().into_owned())
        });
        let with = add.with.iter().map(|device| self.find_device(device)).collect::<Result<BTreeSet<_>, _>>()?;
        self.is_free(&name)?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| ControlError::internal("no randomness for a folder id"))?;
        let id = FolderId(id);
        // Before anybody hears of the folder.
        if !with.is_empty() && self.say_who(id, &with, true, Some(false))? {
            self.realm_changed().await;
        }
        self.make_folder(id, &name, &root, add.mode)
    }

    fn is_free(&self, name: &str) -> Result<(), ControlError> {
        if self.folders.values().any(|slot| slot.config.name == name) {
            return Err(ControlError::new(ErrorCode::Exists, format!("there is already a folder called {name}"))
                .hint("give it another name with --name"));
        }
        Ok(())
    }

    /// Takes an offer.
    pub(super) fn join_folder(&mut self, join: &api::FolderJoin) -> Result<FolderId, ControlError> {
        let offer = self.find_offer(&join.folder)?;
        let root = self.new_root(&join.root)?;
        self.make_folder(offer.0, &offer.1, &root, join.mode)
    }

    fn make_folder(
        &mut self,
        id: FolderId,
        name: &str,
        root: &Path,
        mode: api::FolderMode,
    ) -> Result<FolderId, ControlError> {
        self.is_free(name)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| ControlError::internal("no randomness for a marker"))?;
        let mut config = FolderConfig::new(id, name, root, nonce);
        config.mode = mode;
        let fs = open_root(root).map_err(|error| refused(&error))?;
        Marker { folder: id, nonce }.create(&*fs).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                ControlError::new(ErrorCode::Exists, format!("{} is a synced folder already", root.display()))
                    .hint("another home of syncd uses it; if none does, remove .syncd/marker in it and try again")
            }
            _ => ControlError::refused(format!("cannot make .syncd in {}: {error}", root.display())),
        })?;
        config.save(&self.home.folder(&id)).map_err(|error| refused(&error))?;
        self.start_folder(config);
        if let State::Stopped(stopped) = &self.folders[&id].state {
            let words = stopped.words.clone();
            self.forget_folder(&id);
            return Err(ControlError::refused(words));
        }
        self.offer_everywhere();
        Ok(id)
    }

    /// An absolute, existing directory that is in no other folder, holds none, and is not our home.
    pub(super) fn new_root(&self, text: &api::PathText) -> Result<PathBuf, ControlError> {
        let bytes = text.bytes().ok_or_else(|| ControlError::bad_request("the path is not one"))?;
        let root = PathBuf::from(std::ffi::OsString::from_vec(bytes));
        if !root.is_absolute() {
            return Err(ControlError::bad_request(format!("{} is not an absolute path", root.display())));
        }
        let real = std::fs::canonicalize(&root).map_err(|error| {
            ControlError::refused(format!("cannot use {}: {error}", root.display())).hint("make the directory first")
        })?;
        if !real.is_dir() {
            return Err(ControlError::refused(format!("{} is not a directory", root.display())));
        }
        for slot in self.folders.values() {
            let other = std::fs::canonicalize(&slot.config.root).unwrap_or_else(|_| slot.config.root.clone());
            let name = &slot.config.name;
            if other == real {
                return Err(ControlError::new(ErrorCode::Exists, format!("{} is folder {name}", root.display())));
            }
            if real.starts_with(&other) || other.starts_with(&real) {
                let how = if real.starts_with(&other) { "inside" } else { "around" };
                let words = format!("{} is {how} folder {name} ({})", root.display(), other.display());
                return Err(ControlError::refused(words).hint("folders cannot lie inside one another"));
            }
        }
        let home = std::fs::canonicalize(self.home.root()).unwrap_or_else(|_| self.home.root().to_owned());
        if home.starts_with(&real) || real.starts_with(&home) {
            let words = format!("{} holds syncd's own home, or lies in it", root.display());
            return Err(ControlError::refused(words).hint("keep the home outside of synced folders"));
        }
        Ok(real)
    }

    /// The folder called `name`, or with that id or an unambiguous beginning of it.
    pub(super) fn find_folder(&self, name: &str) -> Result<FolderId, ControlError> {
        let found: Vec<FolderId> = self
            .folders
            .iter()
            .filter(|(id, slot)| slot.config.name == name || id.to_string() == name)
            .map(|(id, _)| *id)
            .collect();
        let found = if found.is_empty() && name.len() >= 6 {
            self.folders.keys().filter(|id| id.to_string().starts_with(name)).copied().collect()
        } else {
            found
        };
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(ControlError::not_found(format!("there is no folder {name}"))
                .hint("`syncctl folder list` shows them, `syncctl folder offers` those to join")),
            _ => Err(ControlError::new(ErrorCode::Ambiguous, format!("several folders are called {name}"))),
        }
    }

    pub(super) fn folder_action(&mut self, name: &str, action: api::FolderAction, reply: Reply<api::Done>) {
        let id = match self.find_folder(name) {
            Ok(id) => id,
            Err(error) => return answer(reply, Err(error)),
        };
        let mode = self.mode_of(&self.folders[&id].config);
        let result = match action {
            api::FolderAction::Approve => {
                self.close_home_problems(&id);
                match self.approve_root(id) {
                    None => return self.answer_holds(id, true, reply),
                    Some(done) => done,
                }
            }
            api::FolderAction::Reject => return self.answer_holds(id, false, reply),
            api::FolderAction::Pause => self.pause_folder(id),
            api::FolderAction::Resume => self.resume_folder(id),
            api::FolderAction::Remove => self.remove_folder(id),
            api::FolderAction::Rescan => self.tell(id, Input::Rescan, "looking at every file"),
            api::FolderAction::Override if mode == api::FolderMode::SendOnly => {
                self.tell(id, Input::Override, "this device's files overrule")
            }
            api::FolderAction::Override => Err(ControlError::refused("only a send-only folder can be overridden")),
            api::FolderAction::Revert if mode == api::FolderMode::ReceiveOnly => {
                self.tell(id, Input::Revert, "local changes go to the versions, the others' files come back")
            }
            api::FolderAction::Revert => Err(ControlError::refused("only a receive-only folder can be reverted")),
        };
        answer(reply, result);
    }

    pub(super) fn running(&self, id: FolderId) -> Result<&Running, ControlError> {
        let stopped = || ControlError::refused("the folder is not running").hint("`syncctl folder resume` starts it");
        self.folders[&id].running().ok_or_else(stopped)
    }

    fn tell(&self, id: FolderId, input: Input, words: &str) -> Result<api::Done, ControlError> {
        self.running(id)?.folder.tell(input);
        Ok(api::Done::said(words))
    }

    fn pause_folder(&mut self, id: FolderId) -> Result<api::Done, ControlError> {
        self.save_paused(id, true)?;
        self.stop_folder(&id, State::Paused);
        self.offer_everywhere();
        Ok(api::Done::said("paused"))
    }

    fn resume_folder(&mut self, id: FolderId) -> Result<api::Done, ControlError> {
        self.save_paused(id, false)?;
        self.restart_folder(id);
        match &self.folders[&id].state {
            State::Stopped(stopped) => Err(ControlError::refused(stopped.words.clone())),
            State::Running(_) | State::Paused => Ok(api::Done::said("resumed")),
        }
    }

    pub(super) fn restart_folder(&mut self, id: FolderId) {
        self.stop_folder(&id, State::Paused);
        // Peers must hear that it was gone: the new engine knows nothing of what they had asked for.
        self.offer_everywhere();
        let config = self.folders[&id].config.clone();
        self.start_folder(config);
        self.offer_everywhere();
    }

    fn save_paused(&mut self, id: FolderId, paused: bool) -> Result<(), ControlError> {
        let path = self.home.folder(&id);
        let slot = self.folders.get_mut(&id).expect("the caller found it");
        slot.config.paused = paused;
        slot.config.save(&path).map_err(|error| refused(&error))
    }

    pub(super) fn stop_folder(&mut self, id: &FolderId, state: State) {
        self.transfer.remove_folder(*id);
        self.unmeet(id);
        if let Some(slot) = self.folders.get_mut(id)
            && let State::Running(running) = std::mem::replace(&mut slot.state, state)
        {
            running.folder.stop();
        }
    }

    fn remove_folder(&mut self, id: FolderId) -> Result<api::Done, ControlError> {
        let root = self.folders[&id].config.root.clone();
        self.forget_folder(&id);
        self.offer_everywhere();
        Ok(api::Done::said(format!(
            "no longer synced; the files stay in {}, kept versions in its .syncd directory",
            root.display()
        )))
    }

    /// Config and database go; not a byte of the user's tree does.
    fn forget_folder(&mut self, id: &FolderId) {
        self.stop_folder(id, State::Paused);
        if let Some(slot) = self.folders.remove(id) {
            let marker = Marker { folder: slot.config.id, nonce: slot.config.marker };
            if let Err(error) = open_root(&slot.config.root).and_then(|fs| Ok(marker.remove(&*fs)?)) {
                tracing::warn!(folder = %id, "the folder's marker stays: {error:#}");
            }
        }
        for file in [self.home.folder(id), self.home.index().join(format!("{id}.redb"))] {
            if let Err(error) = std::fs::remove_file(&file)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!("{} stays: {error}", file.display());
            }
        }
    }

    pub(super) fn set_folder(&mut self, set: &api::FolderSet) -> Result<api::Setting, ControlError> {
        let id = self.find_folder(&set.folder)?;
        let path = self.home.folder(&id);
        let settings = self.config.settings().clone();
        let slot = self.folders.get_mut(&id).expect("just found");
        let setting = slot.config.set(&path, &set.key, &set.value, &settings)?;
        self.setting_changed(id, &set.key);
        Ok(setting)
    }

    /// Lets a setting hold that was changed, of one folder or of all: what can go on while the folder runs does.
    pub(super) fn setting_changed(&mut self, id: FolderId, key: &str) {
        let slot = &self.folders[&id];
        let effective = slot.config.effective(self.config.settings());
        let running = match &slot.state {
            State::Running(running) => running,
            State::Paused => return,
            State::Stopped(_) => return self.restart_folder(id),
        };
        match key {
            "name" => self.offer_everywhere(),
            "versions_days" | "versions_max" | "scan_interval_s" => {
                running.folder.tune(tuning(&effective, &running.fs));
            }
            "mass_delete_guard" => {
                let (reply, done) = oneshot::channel();
                running.folder.tell(Input::Guard(effective.mass_delete_guard, reply));
                let errands = self.errands.clone();
                tokio::spawn(async move {
                    // Without an answer the folder or the daemon stops, and starts under its settings.
                    if done.await == Ok(false) {
                        let _ = errands.send(Errand::StartAnew(id)).await;
                    }
                });
            }
            _ => self.restart_folder(id),
        }
    }
}

/// The folder as the transfer sees it; what it says comes back as inputs.
fn transfer_folder(
    id: FolderId,
    store: &Arc<Store>,
    fs: &Arc<RealFs>,
    inbox: crossbeam_channel::Sender<Input>,
) -> crate::transfer::Folder<RealFs> {
    let rows = Arc::clone(store) as Arc<dyn Rows + Send + Sync>;
    crate::transfer::Folder::new(id, rows, Arc::clone(fs), Compression::Auto, move |notice| {
        let input = match notice {
            Notice::Fetched { path, content, manifest } => Input::Fetched { path, content, manifest },
            Notice::FetchFailed { path, content, problem } => {
                Input::Engine(EngineEvent::FetchFailed { path, content, problem })
            }
            Notice::Look { path } => Input::Doubt(path),
        };
        // A folder that has ended needs to know nothing.
        let _ = inbox.send(input);
    })
}

fn tuning(effective: &crate::config::Effective, fs: &RealFs) -> Tuning {
    let total = fs.space().map_or(u64::MAX, |space| space.total);
    let secs = i64::try_from(effective.versions_days.saturating_mul(24 * 3600)).unwrap_or(i64::MAX);
    let retention = Retention { secs, bytes_max: effective.versions_max.bytes_of(total) };
    Tuning { scan_interval: Duration::from_secs(effective.scan_interval_s), retention }
}

fn random_replica() -> ReplicaId {
    ReplicaId(random_bytes())
}

fn random_run() -> RunId {
    RunId(random_bytes())
}

fn random_bytes() -> [u8; 8] {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the kernel has randomness once the daemon runs");
    bytes
}
