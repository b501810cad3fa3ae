//! `folder join --preview`: reads the offering device's index into memory, scans the directory that would be joined,
//! and says what would happen. Nothing is written, on either side.

use super::Node;
use super::errands::Errand;
use super::folders::refused;
use crate::control::Reply;
use crate::disk::fs::RealFs;

use crate::disk::hash::{HashOptions, granularity, wall_clock};
use crate::disk::ignore::Ignore;
use crate::disk::scan::{ScanEvent, Scanner};
use crate::disk::sim_journal::MemJournal;
use crate::folder::{ignore_rules, open_root};
use crate::net::Session;
use anyhow::{Context, Result, bail};
use protocol::model::{Content, DeviceId, Entry, FolderId, Mtime, RelPath, ReplicaId, Row, Sequence};
use protocol::sync::Observed;
use protocol::wire::control as api;
use protocol::wire::control::ControlError;
use protocol::wire::message::{FolderOffer, Index, IndexAck, IndexGet, Message, OfferMode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::mpsc;

/// The other device must go on sending.
const STALLED: Duration = Duration::from_secs(20);
/// Rows that a preview takes into memory.
const ROWS_MAX: usize = 2_000_000;
/// Paths that it names.
const PATHS_MAX: usize = 200;

impl Node {
    pub(super) fn preview_request(&mut self, join: api::FolderJoin, reply: Reply<api::JoinPreview>) {
        match self.start_preview(&join) {
            // The client may have hung up.
            Err(error) => drop(reply.send(Err(error))),
            Ok(work) => {
                tokio::spawn(async move {
                    let preview = work.run().await.map_err(|error| refused(&error));
                    // As above.
                    let _ = reply.send(preview);
                });
            }
        }
    }

    fn start_preview(&mut self, join: &api::FolderJoin) -> Result<Work, ControlError> {
        let (folder, name) = self.find_offer(&join.folder)?;
        let root = self.new_root(&join.root)?;
        let has_it = |peer: &super::sessions::Peer| peer.offers.get(&folder).and_then(|offer| offer.replica);
        let source = self.peers.iter().find_map(|(id, peer)| Some((*id, peer.session.clone(), has_it(peer)?)));
        let Some((peer, session, replica)) = source else {
            return Err(ControlError::refused("the device that offers it has paused the folder; try again later"));
        };
        let fs = open_root(&root).map_err(|error| refused(&error))?;
        let (parts, index) = mpsc::channel(usize::from(protocol::limits::INDEX_CREDIT_MAX));
        self.previews.insert((peer, folder), parts);
        // Until now the other device has not heard that we want the folder, and would not send its index.
        self.offer_to(&peer);
        let errands = self.errands.clone();
        let at = api::PathText::new(std::os::unix::ffi::OsStrExt::as_bytes(root.as_os_str()));
        Ok(Work { folder, name, root: at, peer, session, replica, index, errands, fs, path: root })
    }

    /// Folders of which only a preview is made: offered with a replica that nothing is ever written under.
    pub(super) fn preview_offers(&self, peer: &DeviceId) -> Vec<FolderOffer> {
        let of_peer = self.previews.keys().filter(|(id, _)| id == peer);
        of_peer
            .map(|(_, id)| FolderOffer {
                id: *id,
                name: "preview".to_string(),
                replica: Some(ReplicaId([0xff; 8])),
                mode: OfferMode::ReceiveOnly,
            })
            .collect()
    }

    pub(super) fn previewed(&mut self, peer: DeviceId, index: Index) {
        let key = (peer, index.folder);
        // It cannot be full: the peer has no more credit than the queue has room.
        if self.previews.get(&key).is_some_and(|parts| parts.try_send(index).is_err()) {
            self.previews.remove(&key);
        }
    }
}

struct Work {
    folder: FolderId,
    name: String,
    root: api::PathText,
    peer: DeviceId,
    session: Session,
    replica: ReplicaId,
    index: mpsc::Receiver<Index>,
    errands: mpsc::Sender<Errand>,
    fs: Arc<RealFs>,
    path: std::path::PathBuf,
}

impl Work {
    async fn run(mut self) -> Result<api::JoinPreview> {
        let theirs = self.read_index().await;
        // The node is gone only when the daemon stops.
        let _ = self.errands.send(Errand::PreviewRead(self.peer, self.folder)).await;
        let theirs = theirs?;
        let (fs, path) = (Arc::clone(&self.fs), self.path.clone());
        let (ours, complete) =
            tokio::task::spawn_blocking(move || scan(&fs, &path)).await.context("the scan failed")?;
        Ok(self.compare(&theirs, &ours, complete))
    }

    async fn read_index(&mut self) -> Result<BTreeMap<RelPath, Entry>> {
        let (folder, replica) = (self.folder, self.replica);
        let credit = protocol::limits::INDEX_CREDIT_MAX;
        let get = Message::IndexGet(IndexGet { folder, replica, from: Sequence(0), credit });
        self.session.send(get).await.context("the device went away")?;
        let mut rows = BTreeMap::new();
        loop {
            let part = tokio::time::timeout(STALLED, self.index.recv()).await.context("the device does not answer")?;
            let part = part.context("the device went away")?;
            let whole = part.to >= part.head;
            let ack = IndexAck { folder, replica, sequence: part.to, declined: Vec::new() };
            self.session.send(Message::IndexAck(ack)).await.context("the device went away")?;
            rows.extend(part.rows.into_iter().map(|Row { path, entry }| (path, entry)));
            if rows.len() > ROWS_MAX {
                bail!("the folder is too large for a preview");
            }
            if whole {
                return Ok(rows);
            }
        }
    }

    fn compare(
        self,
        theirs: &BTreeMap<RelPath, Entry>,
        ours: &BTreeMap<RelPath, Observed>,
        complete: bool,
    ) -> api::JoinPreview {
        let mut preview = api::JoinPreview {
            folder: api::Named { id: self.folder.to_string(), name: self.name },
            root: self.root,
            added: api::Counts::default(),
            replaced: api::Counts::default(),
            conflicts: api::Counts::default(),
            sent: api::Counts::default(),
            same: api::Counts::default(),
            paths: Vec::new(),
            paths_total: 0,
            complete,
        };
        for (path, entry) in theirs.iter().filter(|(_, entry)| entry.is_live()) {
            match ours.get(path).map(Observed::content) {
                None => tell(&mut preview, path, &entry.content, Some(api::PreviewKind::Added)),
                Some(content) if content.same(&entry.content) => tell(&mut preview, path, &content, None),
                Some(content) => {
                    let old = content.ancestor_hash().is_some_and(|hash| entry.ancestors.contains(&hash));
                    let kind = if old { api::PreviewKind::Replaced } else { api::PreviewKind::Conflict };
                    tell(&mut preview, path, &entry.content, Some(kind));
                }
            }
        }
        for (path, observed) in ours {
            if !theirs.get(path).is_some_and(Entry::is_live) {
                tell(&mut preview, path, &observed.content(), Some(api::PreviewKind::Sent));
            }
        }
        preview
    }
}

/// Counts one path, and names it when something would happen to it.
fn tell(preview: &mut api::JoinPreview, path: &RelPath, content: &Content, what: Option<api::PreviewKind>) {
    let counts = match what {
        None => &mut preview.same,
        Some(api::PreviewKind::Added) => &mut preview.added,
        Some(api::PreviewKind::Replaced) => &mut preview.replaced,
        Some(api::PreviewKind::Conflict) => &mut preview.conflicts,
        Some(api::PreviewKind::Sent) => &mut preview.sent,
    };
    let bytes = content.file().map_or(0, |file| file.size);
    if content.is_directory() {
        counts.dirs += 1;
    } else {
        counts.files += 1;
        counts.bytes += bytes;
    }
    if let Some(what) = what {
        preview.paths_total += 1;
        if preview.paths.len() < PATHS_MAX {
            preview.paths.push(api::PreviewPath { at: api::PathText::new(path.as_bytes()), what, bytes });
        }
    }
}

/// Everything in a directory that is no folder yet, and whether all of it could be read.
fn scan(fs: &RealFs, root: &std::path::Path) -> (BTreeMap<RelPath, Observed>, bool) {
    // Without rules more is shown than would be sent, and the answer says that it is not complete.
    let ignore = ignore_rules(fs).ok();
    let readable = ignore.is_some();
    let ignore = ignore.unwrap_or_else(|| Ignore::load(None, None));
    let (rows, cancel) = (MemJournal::new(ReplicaId([0; 8])), AtomicBool::new(false));
    let now: &(dyn Fn() -> Mtime + Sync) = &wall_clock;
    let hash = HashOptions { now, granularity: granularity(root), cancel: &cancel };
    let (mut found, mut complete) = (BTreeMap::new(), true);
    Scanner { fs, rows: &rows, ignore: &ignore, hash, workers: 2 }.scan(None, &mut |events| {
        for event in events {
            match event {
                ScanEvent::Found(observation) => drop(found.insert(observation.path, observation.observed)),
                ScanEvent::Done { complete: whole } => complete = whole,
                _ => {}
            }
        }
    });
    (found, complete && readable)
}
