//! What tasks beside the node's loop ask of it.

use super::Node;
use protocol::model::{DeviceId, FolderId};

#[derive(Debug)]
pub(super) enum Errand {
    /// A preview has all it needs from a peer.
    PreviewRead(DeviceId, FolderId),
    /// A setting of a folder holds from its next start on.
    StartAnew(FolderId),
}

impl Node {
    pub(super) fn errand(&mut self, errand: Errand) {
        match errand {
            Errand::PreviewRead(peer, folder) => {
                self.previews.remove(&(peer, folder));
                self.offer_to(&peer);
            }
            Errand::StartAnew(folder) => {
                // It may have been removed or paused in between.
                if self.folders.get(&folder).is_some_and(|slot| slot.running().is_some()) {
                    self.restart_folder(folder);
                }
            }
        }
    }
}
