//! A disk in memory for a folder's database, that is killed or loses its power at any write: for the simulator. Of what
//! was not synced a power cut keeps any part, sector by sector. Invariant: what was synced stays.

use super::open::{settle_backend, write_empty};
use super::{Fatal, Store};
use anyhow::Context;
use protocol::model::ReplicaId;
use redb::{Builder, StorageBackend};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk writes this many bytes in one piece.
const SECTOR_LEN: usize = 512;

/// Asked before every write and sync: whether the process ends there.
pub type Ends = Box<dyn FnMut() -> bool + Send>;

#[derive(Clone)]
enum Pending {
    Bytes { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Default)]
struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// Handles of an earlier generation are dead: their process has ended.
    generation: u64,
    ends: Option<Ends>,
}

/// The disk. Clones are handles of the same one, until their process ends.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    generation: u64,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("generation", &self.generation).finish()
    }
}

impl SimDisk {
    /// A copy that goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.lock();
        let (live, durable, pending) = (state.live.clone(), state.durable.clone(), state.pending.clone());
        let state = State { live, durable, pending, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), generation: 0 }
    }

    /// See `Ends`.
    pub fn set_ends(&self, ends: Option<Ends>) {
        self.lock().ends = ends;
    }

    /// The process ends. Returns the handle of the next one.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.lock();
        state.ends = None;
        state.generation += 1;
        Self { state: Arc::clone(&self.state), generation: state.generation }
    }

    /// The same when the power goes: `choose(n)` returns a number below `n`.
    #[must_use]
    pub fn power_cut(&self, mut choose: impl FnMut(usize) -> usize) -> Self {
        {
            let mut state = self.lock();
            let mut disk = std::mem::take(&mut state.durable);
            for pending in std::mem::take(&mut state.pending) {
                match pending {
                    Pending::Len(len) if choose(2) == 1 => disk.resize(len, 0),
                    Pending::Len(_) => {}
                    Pending::Bytes { offset, bytes } => {
                        for (nth, sector) in bytes.chunks(SECTOR_LEN).enumerate() {
                            if choose(2) == 1 {
                                put(&mut disk, offset + nth * SECTOR_LEN, sector);
                            }
                        }
                    }
                }
            }
            state.live.clone_from(&disk);
            state.durable = disk;
        }
        self.kill()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what changes the disk.
    fn enter(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if state.generation != self.generation {
            return Err(io::Error::other("the process has ended"));
        }
        if state.ends.as_mut().is_some_and(|ends| ends()) {
            state.generation += 1;
            return Err(io::Error::other("the process ends here"));
        }
        Ok(state)
    }
}

fn put(disk: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if disk.len() < offset + bytes.len() {
        disk.resize(offset + bytes.len(), 0);
    }
    disk[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn position(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = position(offset)?;
        let state = self.lock();
        let bytes = state.live.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = position(len)?;
        let mut state = self.enter()?;
        state.live.resize(len, 0);
        state.pending.push(Pending::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.enter()?;
        for pending in std::mem::take(&mut state.pending) {
            match pending {
                Pending::Len(len) => state.durable.resize(len, 0),
                Pending::Bytes { offset, bytes } => put(&mut state.durable, offset, &bytes),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = position(offset)?;
        let mut state = self.enter()?;
        put(&mut state.live, offset, data);
        state.pending.push(Pending::Bytes { offset, bytes: data.to_vec() });
        Ok(())
    }
}

impl Store {
    /// Opens the database on a simulated disk; makes one, as a whole and durable, on an empty disk.
    ///
    /// # Errors
    /// When what is on the disk is no whole database.
    pub fn open_on(disk: &SimDisk, replica_if_new: ReplicaId, fatal: Fatal) -> anyhow::Result<Self> {
        if disk.len()? == 0 {
            let db = Builder::new().create_with_backend(disk.clone())?;
            write_empty(&db, replica_if_new)?;
            db.close().context("cannot close a new database")?;
            disk.sync_data()?;
        }
        Ok(Self::new(settle_backend(disk.clone())?, fatal))
    }
}
