//! The control API's requests, answered one after the other; what takes time runs beside the loop.

use super::Node;
use super::folders::refused;
use super::{limits, wait};
use crate::control::{NewEvent, Reply, Request};
use protocol::model::{DeviceId, RelPath};
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, ErrorCode, EventKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A client that hung up needs no answer.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, ControlError>) {
    let _ = reply.send(result);
}

impl Node {
    pub(super) async fn request(&mut self, request: Request) {
        match request {
            Request::Ping { reply } => {
                let version = env!("CARGO_PKG_VERSION").to_string();
                answer(reply, Ok(api::Ping { version, pid: std::process::id(), api: api::API_VERSION }));
            }
            Request::Identity { name, reply } => {
                let result = self.rename_self(name);
                answer(reply, result);
            }
            Request::Status { reply } => self.status_request(reply),
            Request::Stop { reply } => {
                answer(reply, Ok(api::Done::said("stopping")));
                self.stop.cancel();
            }
            Request::Device { device, action, reply } => {
                let result = self.device_action(&device, action).await;
                answer(reply, result);
            }
            Request::Net { reply } => self.net_request(reply),
            Request::Realm { reply } => answer(reply, Ok(self.realm_status())),
            Request::LeaveRealm { reply } => {
                let left = self.leave_realm().await;
                answer(reply, left);
            }
            Request::Offers { reply } => answer(reply, Ok(api::Offers { offers: self.offers() })),
            Request::FolderAdd { add, reply } => {
                let added = self.add_folder(&add).await;
                self.folder_status_request(added, reply);
            }
            Request::FolderJoin { join, reply } => {
                let joined = self.join_folder(&join);
                self.folder_status_request(joined, reply);
            }
            Request::FolderPreview { join, reply } => self.preview_request(join, reply),
            Request::Folder { folder, action, reply } => self.folder_action(&folder, action, reply),
            Request::FolderShare { share, reply } => {
                let result = self.share_folder(&share).await;
                answer(reply, result);
            }
            Request::FolderSet { set, reply } => {
                let result = self.set_folder(&set);
                answer(reply, result);
            }
            Request::PairShow { show, reply } => {
                let result = self.show_code(&show).await;
                answer(reply, result);
            }
            Request::PairJoin { join, reply } => {
                let result = self.join_code(&join).await;
                answer(reply, result);
            }
            Request::PairAnswer { answer: verdict, reply } => {
                let result = self.answer_pairing(verdict);
                answer(reply, result);
            }
            Request::Wait { wait, reply } => self.wait_request(wait, reply),
            Request::Versions { file, reply } => answer(reply, self.versions(&file)),
            Request::Restore { restore, reply } => answer(reply, self.restore(&restore)),
            Request::Log { query, reply } => self.log_request(query, reply),
            Request::IgnoreTest { file, reply } => answer(reply, self.ignore_test(&file)),
            Request::ConfigGet { reply } => {
                let reread = crate::config::ConfigFile::load(&self.home.config());
                answer(reply, reread.map(|file| limits::config_reply(&file)).map_err(|error| refused(&error)));
            }
            Request::ConfigSet { set, reply } => {
                let result = self.set_config(&set).await;
                answer(reply, result);
            }
        }
    }

    fn rename_self(&mut self, name: Option<String>) -> Result<api::Identity, ControlError> {
        if let Some(name) = name {
            self.config.set("name", Some(&name))?;
            self.net.set_name(&self.config.settings().name);
        }
        Ok(api::Identity { id: self.id.to_string(), name: self.config.settings().name.clone() })
    }

    async fn set_config(&mut self, set: &api::ConfigSet) -> Result<api::Setting, ControlError> {
        let relays = |value: &str| super::parse_relays(value.split(',').filter(|link| !link.trim().is_empty()));
        if set.key == "relays"
            && let Some(value) = &set.value
        {
            relays(value)?;
        }
        let mut setting = self.config.set(&set.key, set.value.as_deref())?;
        let words = match &self.config.settings().proxy {
            // Not its password.
            Some(proxy) if setting.key == "proxy" => format!("proxy is now at {}", proxy.at),
            _ => format!("{} is now {}", setting.key, setting.value),
        };
        self.hub.publish(NewEvent::new(EventKind::ConfigChanged, words));
        match set.key.as_str() {
            "relays" => self.net.set_relays(relays(&setting.value)?).await,
            "relay" => self.keep_relaying(),
            "name" => self.net.set_name(&self.config.settings().name),
            "internet" | "internet_nodes" => self.net.set_internet(super::internet(self.config.settings())).await,
            "lan" => self.net.set_lan(super::lan_mode(self.config.settings())).await,
            "proxy" | "proxy_for" => {
                self.net.set_lan(super::lan_mode(self.config.settings())).await;
                self.net.set_proxy(super::proxy(self.config.settings())).await;
            }
            "rate_limit_up" | "rate_limit_down" | "rate_limit_lan" | "schedule" | "metered" | "metered_max" => {
                self.keep_limits()
            }
            "versions_days" | "versions_max" | "scan_interval_s" | "watch" | "mass_delete_guard" => {
                let running = self.folders.iter().filter(|(_, slot)| slot.running().is_some());
                let running: Vec<_> = running.map(|(id, _)| *id).collect();
                running.into_iter().for_each(|id| self.setting_changed(id, &set.key));
            }
            _ => {}
        }
        limits::say_now(&mut setting, self.config.settings());
        Ok(setting)
    }

    /// The device called `name`, or with that id or an unambiguous beginning of it.
    pub(super) fn find_device(&self, name: &str) -> Result<DeviceId, ControlError> {
        let exact =
            self.pairings.all().iter().filter(|pairing| pairing.name == name || pairing.id().to_string() == name);
        let mut found: Vec<DeviceId> = exact.map(crate::keys::Pairing::id).collect();
        if found.is_empty() && name.len() >= 6 {
            let begins = |id: &DeviceId| id.to_string().starts_with(name) || id.short().starts_with(name);
            found = self.pairings.all().iter().map(crate::keys::Pairing::id).filter(begins).collect();
        }
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(ControlError::not_found(format!("there is no paired device {name}"))
                .hint("`syncctl device list` shows them, `syncctl pair` pairs a new one")),
            _ => Err(ControlError::new(ErrorCode::Ambiguous, format!("several devices are called {name}"))),
        }
    }

    async fn device_action(&mut self, name: &str, action: api::DeviceAction) -> Result<api::Done, ControlError> {
        if let api::DeviceAction::Remove { recovery_code, disown } = &action
            && let Some(id) = self.member_named(name, *disown)
        {
            return self.remove_member(id, recovery_code.as_ref().map(|code| code.0.as_str()), *disown).await;
        }
        let id = self.find_device(name)?;
        let name = self.device_name(&id);
        let words = match action {
            api::DeviceAction::Rename(new) => {
                if self.pairings.all().iter().any(|other| other.id() != id && other.name == new) {
                    return Err(ControlError::new(ErrorCode::Exists, format!("another device is called {new}")));
                }
                let words = format!("{name} is now called {new}");
                self.update_pairing(&id, |pairing| pairing.name = new)?;
                words
            }
            api::DeviceAction::Address(addresses) => {
                let endpoints = super::parse_addresses(&addresses)?;
                self.update_pairing(&id, |pairing| {
                    pairing.addresses = addresses;
                    pairing.learned.clear();
                })?;
                self.net.set_addresses(id, endpoints, Vec::new()).await;
                self.keep_ways().await;
                format!("{name} is looked for there from now on")
            }
            api::DeviceAction::Limit(change) => {
                let known = self.pairings.get(&id).map(|pairing| pairing.limits).unwrap_or_default();
                let limits = limits::changed(known, &change)?;
                self.update_pairing(&id, |pairing| pairing.limits = limits)?;
                self.keep_limits();
                format!("{name}: {}", limits::words(limits))
            }
            api::DeviceAction::Pause => {
                self.update_pairing(&id, |pairing| pairing.paused = true)?;
                self.net.set_paused(id, true).await;
                self.keep_ways().await;
                format!("{name} is paused")
            }
            api::DeviceAction::Resume => {
                self.update_pairing(&id, |pairing| pairing.paused = false)?;
                self.net.set_paused(id, false).await;
                self.keep_ways().await;
                format!("{name} is resumed")
            }
            api::DeviceAction::Role { role, recovery_code } => {
                return self.set_role(id, role, recovery_code.as_ref().map(|code| code.0.as_str())).await;
            }
            // Of no realm yet.
            api::DeviceAction::Remove { .. } => {
                self.forget_pairing(id).await.map_err(|error| refused(&error))?;
                let words = format!("{name} is no longer trusted here; it keeps the files it already has");
                self.hub.publish(NewEvent::new(EventKind::DeviceRemoved, words.clone()));
                words
            }
        };
        Ok(api::Done::said(words))
    }

    /// Cuts a device off.
    pub(super) async fn forget_pairing(&mut self, id: DeviceId) -> anyhow::Result<()> {
        self.net.remove_peer(id).await;
        self.pairings.remove(&id)?;
        self.keep_limits();
        self.part(&id);
        self.grant();
        self.forget_device(id);
        self.keep_ways().await;
        Ok(())
    }

    fn update_pairing(
        &mut self,
        id: &DeviceId,
        change: impl FnOnce(&mut crate::keys::Pairing),
    ) -> Result<(), ControlError> {
        self.pairings.update(id, change).map_err(|error| refused(&error))
    }

    /// A removed device is no source any more.
    fn forget_device(&self, id: DeviceId) {
        use protocol::sync::Journal;
        for running in self.folders.values().filter_map(|slot| slot.running()) {
            running.store.commit(vec![protocol::sync::Change::Forget(id)]);
        }
    }

    /// The folder that holds an absolute path, and the path inside it.
    pub(super) fn locate(&self, text: &api::PathText) -> Result<(protocol::model::FolderId, RelPath), ControlError> {
        let bytes = text.bytes().ok_or_else(|| ControlError::bad_request("the path is not one"))?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
        // The file may be gone: only its directory must resolve.
        let parent = path.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
        let real = match (parent, path.file_name()) {
            (Some(parent), Some(name)) => parent.join(name),
            _ => path.clone(),
        };
        for slot in self.folders.values() {
            if let Ok(inside) = real.strip_prefix(&slot.config.root)
                && let Ok(inside) = RelPath::parse(inside.as_os_str().as_bytes())
            {
                return Ok((slot.config.id, inside));
            }
        }
        Err(ControlError::not_found(format!("{} is in no synced folder", path.display()))
            .hint("`syncctl folder list` shows the folders"))
    }

    fn ignore_test(&self, file: &api::FileRef) -> Result<api::IgnoreVerdict, ControlError> {
        let (id, path) = self.locate(&file.at)?;
        let slot = &self.folders[&id];
        let running = slot.running().ok_or_else(|| ControlError::refused("the folder is not running"))?;
        let rules = crate::folder::ignore_rules(&*running.fs)
            .map_err(|(file, problem)| ControlError::refused(crate::folder::words_of(&file, &problem)))?;
        let is_directory = slot.config.root.join(std::ffi::OsStr::from_bytes(path.as_bytes())).is_dir();
        let found = rules.matched(&path, is_directory);
        let words = found.as_ref().map_or_else(|| "synced".to_string(), |found| format!("ignored: {found}"));
        Ok(api::IgnoreVerdict {
            folder: slot.named(),
            at: api::PathText::new(path.as_bytes()),
            ignored: found.is_some(),
            file: found.as_ref().map(|found| found.file.name().to_string()),
            line: found.as_ref().map(|found| u64::from(found.line)),
            pattern: found.as_ref().map(|found| found.pattern.clone()),
            words,
        })
    }

    fn wait_request(&self, wait: api::Wait, reply: Reply<api::Waited>) {
        let folders: Result<Vec<_>, _> = match &wait.folder {
            Some(name) => self.find_folder(name).map(|id| vec![id]),
            None => Ok(self.folders.keys().copied().collect()),
        };
        match folders {
            Err(error) => answer(reply, Err(error)),
            Ok(ids) => {
                let watched = ids.iter().map(|id| self.watched(id)).collect();
                tokio::spawn(wait::run(watched, wait.timeout_s, reply));
            }
        }
    }

    fn watched(&self, id: &protocol::model::FolderId) -> wait::Watched {
        let slot = &self.folders[id];
        let names = self.pairings.all().iter().map(|pairing| (pairing.id(), pairing.name.clone())).collect();
        wait::Watched { name: slot.config.name.clone(), inbox: slot.running().map(|r| r.folder.sender()), names }
    }
}
