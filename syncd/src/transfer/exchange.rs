//! One request and its answer: from the session's replies to the worker's queue. Holds at most one block that has no
//! permit yet, so a slow disk slows the peer down and not this device's memory up.

use super::layout::chunk_count_max;
use super::scheduler::{FetchId, ListFailure, Plan, Told};
use super::worker::{Ending, Job};
use crate::disk::fs::Fs;
use crate::net::{Replies, Reply, Session};
use protocol::limits::DATA_BLOCK_RAW_MAX;
use protocol::model::chunk::check_lengths;
use protocol::model::{FileContent, FolderId, Manifest, RelPath};
use protocol::wire::data::BlockReader;
use protocol::wire::message::{ChunkErrorCode, ChunkGet, ManifestGet, ManifestPart, Message};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc::UnboundedSender};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Silence after which others are asked (DESIGN.md: liveness).
const SILENCE: Duration = Duration::from_secs(5);
/// Wait before a busy peer is asked again.
const BUSY_WAIT: Duration = Duration::from_millis(250);
/// Longest wait for one part of a chunk list.
const LIST_WAIT: Duration = Duration::from_secs(15);

pub(super) struct Exchange<F: Fs> {
    pub session: Session,
    pub plan: Arc<Plan>,
    pub worker: crossbeam_channel::Sender<Job<F>>,
    pub budget: Arc<Semaphore>,
    pub tell: UnboundedSender<Told<F>>,
    pub stop: CancellationToken,
}

impl<F: Fs> Exchange<F> {
    /// Asks, hands every block to the worker, and says how it ended.
    pub async fn run(self, get: ChunkGet) {
        let ending = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ending::Withdrawn,
            ending = self.ask(get) => ending,
        };
        if ending == Ending::Busy {
            tokio::time::sleep(BUSY_WAIT).await;
        }
        self.hand(Job::End(Arc::clone(&self.plan), ending));
    }

    /// Workers live as long as the scheduler; without them nothing is wanted.
    fn hand(&self, job: Job<F>) {
        let _ = self.worker.send(job);
    }

    async fn ask(&self, get: ChunkGet) -> Ending {
        let chunks = self.plan.items.iter().map(|item| u64::from(item.run.count)).sum();
        let mut reader = BlockReader::new(self.plan.items.len(), chunks, self.plan.bytes);
        let Ok(mut replies) = self.session.request(Message::ChunkGet(get)).await else { return Ending::Closed };
        loop {
            match self.next(&mut replies).await {
                Reply::Data { payload, end } => {
                    if self.take(&mut reader, &payload).await.is_err() {
                        return Ending::Broken;
                    }
                    if end {
                        return if reader.finish().is_ok() { Ending::Complete } else { Ending::Broken };
                    }
                }
                Reply::Failed(ChunkErrorCode::Busy) => return Ending::Busy,
                Reply::Failed(_) => return Ending::Refused,
                Reply::Message(_) => return Ending::Broken,
                Reply::Closed => return Ending::Closed,
            }
        }
    }

    /// The next reply; says so once when it takes long.
    async fn next(&self, replies: &mut Replies) -> Reply {
        if let Ok(reply) = timeout(SILENCE, replies.recv()).await {
            return reply;
        }
        // The scheduler is gone only when the daemon stops.
        let _ = self.tell.send(Told::Stalled(self.plan.request));
        replies.recv().await
    }

    async fn take(&self, reader: &mut BlockReader, payload: &[u8]) -> Result<(), protocol::wire::data::DataError> {
        let mut blocks = Vec::new();
        reader.push(payload, |block| blocks.push(block))?;
        for block in blocks {
            let len = u32::try_from(block.raw_len.min(DATA_BLOCK_RAW_MAX)).expect("a block is a few megabytes");
            let permit = Arc::clone(&self.budget).acquire_many_owned(len).await;
            let permit = permit.expect("the budget is never closed");
            self.hand(Job::Block(Arc::clone(&self.plan), block, permit));
        }
        Ok(())
    }
}

/// Asks for a content's chunk list, part by part, and reports it.
pub(super) fn ask_for_list<F: Fs>(
    session: Session,
    tell: UnboundedSender<Told<F>>,
    fetch: FetchId,
    folder: FolderId,
    path: RelPath,
    content: Arc<FileContent>,
) {
    tokio::spawn(async move {
        let list = list(&session, folder, &path, &content).await.map(Arc::new);
        // The scheduler is gone only when the daemon stops.
        let _ = tell.send(Told::Listed { fetch, session: session.id(), list });
    });
}

async fn list(
    session: &Session,
    folder: FolderId,
    path: &RelPath,
    content: &FileContent,
) -> Result<Manifest, ListFailure> {
    let FileContent { size, hash, chunking, .. } = *content;
    let count_max = chunk_count_max(size, chunking);
    let mut chunks = Vec::new();
    loop {
        let get = ManifestGet { folder, path: path.clone(), content: hash, from_chunk: chunks.len() as u64 };
        let part = part(session, get).await?;
        let fits = part.content == hash && part.size == size && part.chunking == chunking;
        if !fits || part.from_chunk != chunks.len() as u64 || (chunks.len() + part.chunks.len()) as u64 > count_max {
            return Err(ListFailure::Lie);
        }
        chunks.extend(part.chunks);
        if part.last {
            check_lengths(&chunks, size, chunking).map_err(|_| ListFailure::Lie)?;
            return Ok(Manifest { content: hash, size, chunking, chunks });
        }
    }
}

async fn part(session: &Session, get: ManifestGet) -> Result<ManifestPart, ListFailure> {
    let asked = async {
        let mut replies = session.request(Message::ManifestGet(get)).await.map_err(|_| ListFailure::Unanswered)?;
        match replies.recv().await {
            Reply::Message(Message::Manifest(part)) => Ok(part),
            Reply::Failed(ChunkErrorCode::Busy) => {
                tokio::time::sleep(BUSY_WAIT).await;
                Err(ListFailure::Unanswered)
            }
            Reply::Failed(_) => Err(ListFailure::Gone),
            Reply::Closed => Err(ListFailure::Unanswered),
            Reply::Message(_) | Reply::Data { .. } => Err(ListFailure::Lie),
        }
    };
    timeout(LIST_WAIT, asked).await.unwrap_or(Err(ListFailure::Unanswered))
}
