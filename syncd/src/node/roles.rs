//! What the devices of the realm may do. A device that only reads receives in every folder, whatever its own settings say,
//! and what it announces is taken by nobody: each device judges that by the list of devices, not by the reader's good will.

use super::Node;
use super::folders::{State, refused};
use super::realm::now;
use crate::config::FolderConfig;
use crate::control::NewEvent;
use protocol::model::{DeviceId, FolderId};
use protocol::realm::{Author, RecoveryCode, Role};
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, EventKind};
use protocol::wire::message::CloseCode;

impl Node {
    /// Whether the changes of a device count here. One that was paired as a reader is one before the list says so.
    pub(super) fn writes(&self, id: &DeviceId) -> bool {
        let admitted_as = || self.pairings.get(id).and_then(|pairing| pairing.admit);
        self.member_role(id).or_else(admitted_as) != Some(Role::Reader)
    }

    /// Whether this device only reads.
    pub(super) fn only_reads(&self) -> bool {
        self.member_role(&self.id) == Some(Role::Reader)
    }

    /// How a folder is synced here.
    pub(super) fn mode_of(&self, config: &FolderConfig) -> api::FolderMode {
        if self.only_reads() { api::FolderMode::ReceiveOnly } else { config.mode }
    }

    /// A reader's own folder would reach nobody.
    pub(super) fn may_share(&self) -> Result<(), ControlError> {
        if self.only_reads() {
            return Err(ControlError::refused("this device only reads, so nobody would take a folder of its own")
                .hint("`syncctl folder join` takes what others share; `syncctl device role` on another device lets this one write"));
        }
        Ok(())
    }

    /// Whoever may not add devices would pair with one that then belongs nowhere.
    pub(super) fn may_add(&self) -> Result<(), ControlError> {
        match self.member_role(&self.id) {
            None | Some(Role::Admin) => Ok(()),
            Some(Role::Full | Role::Reader) => {
                let words = ControlError::refused("this device may not add devices");
                let mut members = self.membership.kept().into_iter().flat_map(|kept| kept.realm().members.values());
                Err(match members.any(|member| member.role == Role::Admin) {
                    true => words.hint("pair on one that may: `syncctl device list` shows what each may do"),
                    false => words.hint("none of your devices may any more: `syncctl realm leave` here begins anew"),
                })
            }
        }
    }

    /// Gives a device another role everywhere.
    pub(super) async fn set_role(
        &mut self,
        id: DeviceId,
        role: api::DeviceRole,
        code: Option<&str>,
    ) -> Result<api::Done, ControlError> {
        let kept = self.membership.kept().ok_or_else(|| ControlError::not_found("there is no realm"))?;
        let code = self.recovery_code(code)?;
        let author = code.as_ref().map_or(Author::Device(&self.identity), Author::Recovery);
        let link = kept.roster().set(author, id, role_of(role), now()).map_err(|denied| {
            ControlError::refused(denied.to_string())
                .hint("`syncctl device role NAME ROLE --recovery-code -` asks for the code that was shown with the first pairing")
        })?;
        let mut kept = kept.clone();
        kept.insert([link.as_bytes()]).map_err(|error| ControlError::internal(error.to_string()))?;
        self.keep_realm(Some(kept)).map_err(|error| refused(&error))?;
        self.realm_changed().await;
        Ok(api::Done::said(format!("{} {}", self.device_name(&id), may_words(role))))
    }

    /// The recovery code of this realm, if one was given. Not on a device that is out: it would choose the next secret.
    pub(super) fn recovery_code(&self, code: Option<&str>) -> Result<Option<RecoveryCode>, ControlError> {
        if self.member_role(&self.id).is_none() {
            return Err(ControlError::refused("this device was removed from your devices")
                .hint("do it on one that is still among them, with the recovery code if need be"));
        }
        let Some(code) = code else { return Ok(None) };
        let code: RecoveryCode = code.parse().map_err(|error| ControlError::bad_request(format!("{error}")))?;
        let is_right = self.membership.kept().is_some_and(|kept| kept.roster().is_recovered_by(&code));
        if is_right {
            Ok(Some(code))
        } else {
            Err(ControlError::refused("that is not the recovery code of this realm"))
        }
    }

    /// The list of devices changed: folders here and sessions go on under the roles of now.
    pub(super) fn roles_changed(&mut self) {
        if self.only_reads() != self.realm.only_reads {
            self.realm.only_reads = self.only_reads();
            let words = if self.realm.only_reads {
                "this device only reads from now on: what is changed here stays here, and `syncctl folder revert` undoes it"
            } else {
                "this device writes from now on: what is changed here goes to the others"
            };
            tracing::info!("{words}");
            self.hub.publish(NewEvent::new(EventKind::ConfigChanged, words));
            let started = self.folders.iter().filter(|(_, slot)| !matches!(slot.state, State::Paused));
            let started: Vec<FolderId> = started.map(|(id, _)| *id).collect();
            started.into_iter().for_each(|id| self.restart_folder(id));
        }
        for (id, peer) in &self.peers {
            if peer.writes != self.writes(id) {
                // Both ends begin anew; what is under way comes again.
                peer.session.close(CloseCode::RENEW);
            }
        }
    }
}

/// What a device with this role may do, for people.
const fn may_words(role: api::DeviceRole) -> &'static str {
    match role {
        api::DeviceRole::Admin => "reads, writes, adds and removes devices from now on",
        api::DeviceRole::Full => "reads and writes from now on; it adds and removes no devices",
        api::DeviceRole::Reader => "only reads from now on: what is changed there stays there",
    }
}

/// As the list of devices has it.
pub(super) const fn role_of(role: api::DeviceRole) -> Role {
    match role {
        api::DeviceRole::Admin => Role::Admin,
        api::DeviceRole::Full => Role::Full,
        api::DeviceRole::Reader => Role::Reader,
    }
}
