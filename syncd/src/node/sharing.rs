//! Which devices a folder is synced with. The realm's list says it, so all devices agree: one that is out is offered
//! nothing, asked for nothing and served nothing, by none that has heard of it.

use super::Node;
use super::folders::refused;
use super::realm::now;
use crate::membership::Kept;
use protocol::limits::SHARE_DEVICES_MAX;
use protocol::model::{DeviceId, FolderId};
use protocol::realm::{Author, Denied, Realm, Whom};
use protocol::wire::control as api;
use protocol::wire::control::ControlError;
use std::collections::BTreeSet;

impl Node {
    fn listed(&self) -> Option<&Realm> {
        self.membership.kept().map(Kept::realm)
    }

    /// Whether a folder is synced with a paired device. One that the list does not have yet will be a newcomer.
    pub(super) fn shares(&self, folder: &FolderId, device: &DeviceId) -> bool {
        let Some(realm) = self.listed() else { return true };
        let Some(access) = realm.folders.get(folder) else { return true };
        let is_known = realm.members.contains_key(device);
        self.is_in(folder) && if is_known { access.devices.contains(device) } else { access.newcomers }
    }

    /// Whether this device is in a folder; one that is no member any more has its folders to itself.
    pub(super) fn is_in(&self, folder: &FolderId) -> bool {
        let realm = self.listed().filter(|realm| realm.members.contains_key(&self.id));
        realm.is_none_or(|realm| realm.is_in(&self.id, folder))
    }

    /// Whether a folder is synced with every device, now and later.
    pub(super) fn is_everyones(&self, folder: &FolderId) -> bool {
        let is_whole = |realm: &Realm| {
            let access = realm.folders.get(folder);
            access.is_none_or(|access| access.newcomers && realm.members.keys().all(|id| access.devices.contains(id)))
        };
        self.listed().is_none_or(is_whole)
    }

    /// Says in the realm's list whether devices are in a folder, and, if told, all others. Returns whether anything changed.
    pub(super) fn say_who(
        &mut self,
        folder: FolderId,
        devices: &BTreeSet<DeviceId>,
        is_in: bool,
        others: Option<bool>,
    ) -> Result<bool, ControlError> {
        let kept = self.membership.kept().ok_or_else(|| {
            ControlError::refused("this device has not been paired yet").hint("`syncctl pair` pairs it with another")
        })?;
        // Who says that everyone is out does not mean itself.
        let own = others.filter(|is_in| !is_in).map(|_| (Whom::Device(self.id), true));
        let named = devices.iter().map(|device| (Whom::Device(*device), is_in));
        let named = named.filter(|said| own.is_none_or(|own| said.0 != own.0));
        let who: Vec<(Whom, bool)> =
            others.map(|is_in| (Whom::Everyone, is_in)).into_iter().chain(own).chain(named).collect();
        let mut kept = kept.clone();
        let mut changed = false;
        for some in who.chunks(SHARE_DEVICES_MAX) {
            let mut some = some.to_vec();
            some.sort_unstable();
            match kept.roster().share(Author::Device(&self.identity), folder, &some, now()) {
                Ok(link) => {
                    kept.insert([link.as_bytes()]).map_err(|error| ControlError::internal(error.to_string()))?;
                    changed = true;
                }
                Err(Denied::Unchanged) => {}
                Err(denied) => return Err(ControlError::refused(denied.to_string())),
            }
        }
        if changed {
            self.keep_realm(Some(kept)).map_err(|error| refused(&error))?;
        }
        Ok(changed)
    }

    /// `folder share` and `folder unshare`.
    pub(super) async fn share_folder(&mut self, share: &api::FolderShare) -> Result<api::Done, ControlError> {
        let id = self.find_folder(&share.folder)?;
        let devices: BTreeSet<DeviceId> =
            share.devices.iter().map(|name| self.find_own_device(name)).collect::<Result<_, _>>()?;
        if let Some(legacy) = devices.iter().find(|device| self.member_role(device).is_none()) {
            let words = format!("{} is not in the list of your devices yet", self.device_name(legacy));
            return Err(ControlError::refused(words).hint("it is taken in when it is connected; try again then"));
        }
        let changed = self.say_who(id, &devices, share.is_in, share.others)?;
        if changed {
            self.realm_changed().await;
        }
        let mut words = self.shared_words(&id);
        if changed && !share.is_in && !devices.is_empty() {
            words += "; what was synced before stays on both sides, and a device that has not heard of it yet may still pass \
                      changes on";
        }
        Ok(api::Done::said(words))
    }

    /// Any device, this one included.
    fn find_own_device(&self, name: &str) -> Result<DeviceId, ControlError> {
        let is_this = *name == self.config.settings().name || name == self.id.to_string();
        self.find_device(name).or_else(|error| if is_this { Ok(self.id) } else { Err(error) })
    }

    fn shared_words(&self, folder: &FolderId) -> String {
        let name = &self.folders[folder].config.name;
        if self.is_everyones(folder) {
            return format!("{name} is synced with all your devices, also new ones");
        }
        let others = self.pairings.all().iter().filter(|pairing| self.shares(folder, &pairing.id()));
        let others: Vec<&str> = others.map(|pairing| pairing.name.as_str()).collect();
        let newcomers =
            self.listed().and_then(|realm| realm.folders.get(folder)).is_some_and(|access| access.newcomers);
        match (others.is_empty(), newcomers) {
            (true, true) => format!("{name} is synced with no other device until you pair a new one"),
            (true, false) => format!("{name} is synced with no other device"),
            (false, true) => format!("{name} is synced with {}, and with devices you pair later", others.join(", ")),
            (false, false) => format!("{name} is synced with {}", others.join(", ")),
        }
    }

    /// The list of devices changed: folders that this device got into or out of start or stop, and sessions go on with those
    /// that are still shared.
    pub(super) fn sharing_changed(&mut self) {
        let out: BTreeSet<FolderId> = self.folders.keys().filter(|id| !self.is_in(id)).copied().collect();
        let before = std::mem::replace(&mut self.realm.out_of, out.clone());
        for id in before.symmetric_difference(&out) {
            if self.folders.get(id).is_some_and(|slot| !slot.config.paused) {
                self.restart_folder(*id);
            }
        }
        self.offer_everywhere();
    }
}
