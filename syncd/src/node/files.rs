//! Single files: kept versions and their return.

use super::Node;
use crate::disk::versions::{self, StoredVersion, VersionId};
use crate::folder::Input;
use protocol::model::{FolderId, RelPath};
use protocol::sync::{Kind, Rows};
use protocol::wire::control as api;
use protocol::wire::control::ControlError;

impl Node {
    pub(super) fn versions(&self, file: &api::FileRef) -> Result<api::Versions, ControlError> {
        let (id, path) = self.locate(&file.at)?;
        let stored = self.stored(&id, &path)?;
        let versions = stored.iter().map(|version| self.file_version(&id, &path, version, stored.first())).collect();
        Ok(api::Versions { folder: self.folders[&id].named(), at: api::PathText::new(path.as_bytes()), versions })
    }

    fn stored(&self, id: &FolderId, path: &RelPath) -> Result<Vec<StoredVersion>, ControlError> {
        let running = self.folders[id].running();
        let running = running.ok_or_else(|| ControlError::refused("the folder is not running"))?;
        versions::list(&*running.fs, &*running.store, path)
            .map_err(|error| ControlError::refused(format!("the kept versions cannot be read: {error}")))
    }

    fn file_version(
        &self,
        id: &FolderId,
        path: &RelPath,
        stored: &StoredVersion,
        newest: Option<&StoredVersion>,
    ) -> api::FileVersion {
        // What was deleted and made again counts as replaced.
        let live = self.folders[id].running().is_some_and(|running| running.store.get(path).is_live());
        let replaced_ms = u64::try_from(stored.replaced_at).unwrap_or(0) * 1000;
        api::FileVersion {
            id: version_text(&stored.id),
            replaced_ms,
            modified_ms: stored.modified.secs.saturating_mul(1000) + i64::from(stored.modified.nanos / 1_000_000),
            bytes: stored.size,
            kind: if stored.kind == Kind::Symlink { api::VersionKind::Symlink } else { api::VersionKind::File },
            deleted: !live && newest == Some(stored),
            by: None,
        }
    }

    /// The newest version, that of a time, or one by its id goes back to its path, as an edit of this device.
    pub(super) fn restore(&self, restore: &api::Restore) -> Result<api::Restored, ControlError> {
        let (id, path) = self.locate(&restore.at)?;
        let stored = self.stored(&id, &path)?;
        let chosen = match (&restore.version, restore.at_ms) {
            (Some(version), _) => stored.iter().find(|stored| version_text(&stored.id) == *version),
            // Newest first: what stood there at that time is what was replaced first after it.
            (None, Some(at_ms)) => {
                stored.iter().rev().find(|stored| u64::try_from(stored.replaced_at).unwrap_or(0) * 1000 >= at_ms)
            }
            (None, None) => stored.first(),
        };
        let chosen = chosen.ok_or_else(|| {
            ControlError::not_found(format!("no such version of {} is kept", path.display()))
                .hint("`syncctl versions PATH` lists what is kept")
        })?;
        let running = self.folders[&id].running();
        let running = running.ok_or_else(|| ControlError::refused("the folder is not running"))?;
        let replaced = running.store.get(&path).is_live();
        let version = self.file_version(&id, &path, chosen, stored.first());
        let action = crate::folder::fresh_action();
        let now = i64::try_from(super::wall_ms() / 1000).unwrap_or(i64::MAX);
        versions::restore(&*running.fs, &*running.store, &path, &chosen.id, action, now)
            .map_err(|error| ControlError::refused(format!("{} cannot be restored: {error}", path.display())))?;
        running.folder.tell(Input::Look(path.clone()));
        let (folder, at) = (self.folders[&id].named(), api::PathText::new(path.as_bytes()));
        Ok(api::Restored { folder, at, version, replaced })
    }
}

fn version_text(id: &VersionId) -> String {
    match id {
        VersionId::Held(action) => format!("held-{:x}", action.0),
        VersionId::Kept(name) => String::from_utf8_lossy(name).into_owned(),
    }
}
