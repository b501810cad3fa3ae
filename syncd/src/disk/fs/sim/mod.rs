//! A deterministic file system in memory that can be crashed. The same seam as `RealFs`; time moves only with
//! changes; a hook sees every operation before it happens and may fail it or end the process there. What a user
//! does beside syncd is in `user.rs`. Invariant: the same calls and choices give the same bytes.

mod folding;
mod state;
#[cfg(test)]
mod tests;
mod user;

pub use folding::Folding;
pub use user::{Found, Names, UserFile};

use super::{Area, Errno, Fs, Listed, Private, RootId, Space, writable};
use protocol::model::path::PRIVATE_DIR;
use protocol::model::{Mode, Mtime, RelPath};
use protocol::sync::{Fingerprint, Kind};
use state::{Edit, Node, ROOT, State};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What is about to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Counts from 1 since `count_from_one`.
    pub number: u64,
    /// Which.
    pub kind: OpKind,
    /// The name it is about; the new one of a rename. Empty for operations on handles.
    pub name: Vec<u8>,
}

/// The operations of `Fs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum OpKind {
    OpenDir,
    List,
    Stat,
    ReadLink,
    Open,
    Create,
    Read,
    Write,
    SetLen,
    Copy,
    SetAttrs,
    Lease,
    Mkdir,
    Rmdir,
    Symlink,
    Unlink,
    Rename,
    Exchange,
    SyncFile,
    SyncDir,
    SyncAll,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It happens.
    None,
    /// It fails and changes nothing.
    Errno(Errno),
    /// A sync fails, and the kernel counts what it could not write as clean: later syncs answer well and write none
    /// of it (Rebello and others, "Can Applications Recover from fsync Failures?", ATC 2020).
    Unsynced(Errno),
    /// The process ends before it: unwinds to `until_crash`.
    Crash,
}

/// The payload of the unwinding that ends a simulated process.
#[derive(Clone, Copy, Debug)]
pub struct Crashed;

/// Ends the simulated process here.
pub fn crash() -> ! {
    panic::resume_unwind(Box::new(Crashed))
}

/// Runs a process until it ends by itself (`Some`) or is crashed (`None`). Other panics go on.
pub fn until_crash<T>(process: impl FnOnce() -> T) -> Option<T> {
    match panic::catch_unwind(AssertUnwindSafe(process)) {
        Ok(done) => Some(done),
        Err(payload) if payload.is::<Crashed>() => None,
        Err(payload) => panic::resume_unwind(payload),
    }
}

type Hook = Box<dyn FnMut(&Op) -> Fault + Send>;

struct Shared {
    state: Mutex<State>,
    hook: Mutex<(u64, Option<Hook>)>,
}

/// A simulated volume with a folder at its root. Clones are handles of the same volume.
#[derive(Clone)]
pub struct SimFs {
    shared: Arc<Shared>,
}

/// An open directory.
#[derive(Clone, Copy, Debug)]
pub struct SimDir {
    inode: u64,
    generation: u64,
}

/// An open file.
pub struct SimFile {
    fs: SimFs,
    inode: u64,
    generation: u64,
    writes: bool,
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

impl SimFs {
    /// An empty volume; its clock starts in November 2023 and never goes by itself.
    #[must_use]
    pub fn new() -> Self {
        Self::of(State::new())
    }

    fn of(state: State) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(state), hook: Mutex::new((0, None)) }) }
    }

    /// A copy that goes its own way: an image of the disk, with what is durable and what is not.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.state().clone())
    }

    /// Sees every operation before it happens. It may call the user's side of this file system.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.shared.hook.lock().unwrap_or_else(|poison| poison.into_inner()) = (0, hook);
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.state().advance(u64::try_from(by.as_nanos()).expect("a test's waits are short"));
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Mtime {
        self.state().now
    }

    /// Time stamps are multiples of this many nanoseconds.
    pub fn set_tick(&self, nanos: u64) {
        self.state().tick_ns = nanos.max(1);
    }

    /// Spellings that lead to one name. Set before anything stands there.
    pub fn set_folding(&self, folding: Folding) {
        self.state().folding = folding;
    }

    /// Writes that would make the sum of all file sizes exceed this fail with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Test of the tests: from now on fsync answers well and does nothing.
    pub fn ignore_syncs(&self) {
        self.state().ignores_syncs = true;
    }

    /// syncd is killed: its handles are gone, what the kernel was told survives.
    pub fn kill(&self) {
        self.set_hook(None);
        let mut state = self.state();
        state.generation += 1;
        state.opened_up.clear();
    }

    /// The power goes: of what was not synced any part may be lost. `choose(n)` returns a number below `n`.
    pub fn power_cut(&self, mut choose: impl FnMut(usize) -> usize) {
        self.set_hook(None);
        self.state().power_cut(&mut choose);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn fault(&self, kind: OpKind, name: &[u8]) -> Fault {
        let mut hook = self.shared.hook.lock().unwrap_or_else(|poison| poison.into_inner());
        hook.0 += 1;
        let op = Op { number: hook.0, kind, name: name.to_vec() };
        hook.1.as_mut().map_or(Fault::None, |hook| hook(&op))
    }

    fn enter(&self, kind: OpKind, name: &[u8]) -> io::Result<MutexGuard<'_, State>> {
        match self.fault(kind, name) {
            Fault::None => Ok(self.state()),
            Fault::Errno(errno) | Fault::Unsynced(errno) => Err(errno.into()),
            Fault::Crash => crash(),
        }
    }

    /// As `enter`, for a sync of one inode or of everything.
    fn enter_sync(&self, kind: OpKind, inode: Option<u64>) -> io::Result<MutexGuard<'_, State>> {
        match self.fault(kind, b"") {
            Fault::None => Ok(self.state()),
            Fault::Errno(errno) => Err(errno.into()),
            Fault::Unsynced(errno) => {
                self.state().count_as_clean(inode);
                Err(errno.into())
            }
            Fault::Crash => crash(),
        }
    }

    fn in_dir(&self, dir: &SimDir, kind: OpKind, name: &[u8]) -> io::Result<MutexGuard<'_, State>> {
        let state = self.enter(kind, name)?;
        if dir.generation == state.generation { Ok(state) } else { Err(Errno::BADF.into()) }
    }

    fn in_file(&self, file: &SimFile, kind: OpKind) -> io::Result<MutexGuard<'_, State>> {
        let state = self.enter(kind, b"")?;
        if file.generation == state.generation { Ok(state) } else { Err(Errno::BADF.into()) }
    }

    fn handle(&self, state: &mut State, inode: u64, writes: bool) -> SimFile {
        if writes {
            *state.writers.entry(inode).or_default() += 1;
        }
        SimFile { fs: self.clone(), inode, generation: state.generation, writes }
    }

    fn open_as(&self, dir: &SimDir, name: &[u8], writes: bool) -> io::Result<SimFile> {
        let mut state = self.in_dir(dir, OpKind::Open, name)?;
        let inode = state.existing(dir.inode, name)?;
        let found = state.inode(inode);
        match found.node {
            Node::File(_) if found.mode.bits() & 0o400 == 0 => Err(Errno::ACCESS.into()),
            Node::File(_) => Ok(self.handle(&mut state, inode, writes)),
            Node::Symlink(_) => Err(Errno::LOOP.into()),
            Node::Directory(_) => Err(Errno::ISDIR.into()),
            Node::Special => Err(Errno::NXIO.into()),
        }
    }

    fn add(&self, dir: &SimDir, kind: OpKind, name: &[u8], node: Node, mode: Mode) -> io::Result<u64> {
        let mut state = self.in_dir(dir, kind, name)?;
        if state.folded(dir.inode, name)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        let inode = state.make(node, mode);
        state.edit(vec![Edit { dir: dir.inode, name: name.to_vec(), from: None, to: Some(inode) }])?;
        Ok(inode)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.fs.state();
        if self.writes
            && self.generation == state.generation
            && let Some(count) = state.writers.get_mut(&self.inode)
        {
            *count -= 1;
        }
    }
}

impl Fs for SimFs {
    type Dir = SimDir;
    type File = SimFile;

    fn root_id(&self) -> io::Result<RootId> {
        let at = self.state().fingerprint(ROOT);
        Ok(RootId { fs: at.fs, inode: at.inode })
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state();
        let total = state.capacity.unwrap_or(1 << 40);
        Ok(Space { free: total.saturating_sub(state.used()), total })
    }

    fn granularity(&self) -> Duration {
        Duration::from_nanos(self.state().tick_ns) * 2
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn prepare_private(&self) -> io::Result<()> {
        let root = self.open_dir(None)?;
        match self.mkdir(&root, PRIVATE_DIR.as_bytes(), Mode::new(0o700)) {
            Err(error) if super::errno(&error) == Errno::EXIST => {}
            done => done?,
        }
        for area in Area::BELOW_BASE {
            self.private(area)?;
        }
        self.sync_all()
    }

    fn private(&self, area: Area) -> io::Result<Private<SimDir>> {
        let base = self.open_child(&self.open_dir(None)?, PRIVATE_DIR.as_bytes())?;
        let Some(name) = area.name() else { return Ok(Private(base)) };
        match self.open_child(&base, name.as_bytes()) {
            Err(error) if super::errno(&error) == Errno::NOENT => {
                self.mkdir(&base, name.as_bytes(), Mode::new(0o700))?;
                self.sync_dir(&base)?;
                self.open_child(&base, name.as_bytes()).map(Private)
            }
            done => done.map(Private),
        }
    }

    fn private_child(&self, dir: &Private<SimDir>, name: &[u8]) -> io::Result<Private<SimDir>> {
        let state = self.in_dir(dir, OpKind::OpenDir, name)?;
        let inode = state.reached(std::iter::once(name), dir.inode)?;
        Ok(Private(SimDir { inode, generation: state.generation }))
    }

    fn open_dir(&self, path: Option<&RelPath>) -> io::Result<SimDir> {
        let state = self.enter(OpKind::OpenDir, path.map(RelPath::as_bytes).unwrap_or_default())?;
        Ok(SimDir { inode: state.resolve(path)?, generation: state.generation })
    }

    fn open_child(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimDir> {
        let state = self.in_dir(dir, OpKind::OpenDir, name)?;
        Ok(SimDir { inode: state.child_dir(dir.inode, name)?, generation: state.generation })
    }

    fn list(&self, dir: &SimDir) -> io::Result<Vec<Listed>> {
        let state = self.in_dir(dir, OpKind::List, b"")?;
        if state.inode(dir.inode).mode.bits() & 0o400 == 0 {
            return Err(Errno::ACCESS.into());
        }
        let listed = state
            .entries(dir.inode)?
            .iter()
            .map(|(name, inode)| Listed { name: name.as_slice().into(), kind: state.fingerprint(*inode).kind });
        Ok(listed.collect())
    }

    fn stat(&self, dir: &SimDir, name: &[u8]) -> io::Result<Option<Fingerprint>> {
        let state = self.in_dir(dir, OpKind::Stat, name)?;
        Ok(state.lookup(dir.inode, name)?.map(|inode| state.fingerprint(inode)))
    }

    fn stat_folded(&self, dir: &SimDir, name: &[u8]) -> io::Result<Option<Fingerprint>> {
        let state = self.in_dir(dir, OpKind::Stat, name)?;
        Ok(state.folded(dir.inode, name)?.map(|(_, inode)| state.fingerprint(inode)))
    }

    fn stat_dir(&self, dir: &SimDir) -> io::Result<Fingerprint> {
        Ok(self.in_dir(dir, OpKind::Stat, b"")?.fingerprint(dir.inode))
    }

    fn read_link(&self, dir: &SimDir, name: &[u8]) -> io::Result<Vec<u8>> {
        let state = self.in_dir(dir, OpKind::ReadLink, name)?;
        match &state.inode(state.existing(dir.inode, name)?).node {
            Node::Symlink(target) => Ok(target.clone()),
            Node::File(_) | Node::Directory(_) | Node::Special => Err(Errno::INVAL.into()),
        }
    }

    fn open(&self, dir: &SimDir, name: &[u8]) -> io::Result<SimFile> {
        self.open_as(dir, name, false)
    }

    fn create(&self, dir: &Private<SimDir>, name: &[u8]) -> io::Result<SimFile> {
        let inode = self.add(dir, OpKind::Create, name, Node::File(Vec::new()), Mode::new(0o600))?;
        Ok(self.handle(&mut self.state(), inode, true))
    }

    fn open_write(&self, dir: &Private<SimDir>, name: &[u8]) -> io::Result<SimFile> {
        self.open_as(dir, name, true)
    }

    fn stat_file(&self, file: &SimFile) -> io::Result<Fingerprint> {
        Ok(self.in_file(file, OpKind::Stat)?.fingerprint(file.inode))
    }

    fn links(&self, file: &SimFile) -> io::Result<u64> {
        Ok(self.in_file(file, OpKind::Stat)?.links(file.inode))
    }

    fn read_at(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.in_file(file, OpKind::Read)?;
        let Node::File(bytes) = &state.inode(file.inode).node else { return Err(Errno::ISDIR.into()) };
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, file: &SimFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(Errno::FBIG))?;
        self.in_file(file, OpKind::Write)?.change(file.inode, |data| {
            data.resize(data.len().max(offset + bytes.len()), 0);
            data[offset..offset + bytes.len()].copy_from_slice(bytes);
        })
    }

    fn set_len(&self, file: &SimFile, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(Errno::FBIG))?;
        self.in_file(file, OpKind::SetLen)?.change(file.inode, |data| data.resize(len, 0))
    }

    fn copy_range(&self, from: &SimFile, to: &SimFile, offset: u64, len: u64) -> io::Result<u64> {
        drop(self.in_file(from, OpKind::Copy)?);
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::Error::from(Errno::FBIG))?];
        let count = self.read_at(from, &mut bytes, offset)?;
        self.write_at(to, &bytes[..count], offset)?;
        Ok(count as u64)
    }

    fn set_attrs_of(&self, file: &SimFile, mode: Mode, mtime: Mtime) -> io::Result<()> {
        self.in_file(file, OpKind::SetAttrs)?.set_attrs(file.inode, Some(mode), Some(mtime));
        Ok(())
    }

    fn is_open_for_write(&self, file: &SimFile) -> io::Result<bool> {
        let state = self.in_file(file, OpKind::Lease)?;
        Ok(state.writers.get(&file.inode).is_some_and(|count| *count > 0))
    }

    fn set_attrs(
        &self,
        dir: &SimDir,
        name: &[u8],
        expected: &Fingerprint,
        mode: Mode,
        mtime: Option<Mtime>,
    ) -> io::Result<()> {
        let mut state = self.in_dir(dir, OpKind::SetAttrs, name)?;
        let inode = state.existing(dir.inode, name)?;
        let found = state.fingerprint(inode);
        if !found.unchanged_since(expected) {
            return Err(Errno::STALE.into());
        }
        let mode = (found.kind != Kind::Symlink && found.mode != mode).then_some(mode);
        let mode = mode.map(|mode| match state.opened_up.get_mut(&inode) {
            Some(own) => {
                *own = mode;
                writable(mode)
            }
            None => mode,
        });
        if mode.is_some() || mtime.is_some() {
            state.set_attrs(inode, mode, mtime);
        }
        Ok(())
    }

    fn open_up(&self, dir: &SimDir) -> io::Result<bool> {
        let mut state = self.in_dir(dir, OpKind::SetAttrs, b"")?;
        let mode = state.inode(dir.inode).mode;
        if writable(mode) == mode || state.opened_up.contains_key(&dir.inode) {
            return Ok(false);
        }
        state.opened_up.insert(dir.inode, mode);
        state.set_attrs(dir.inode, Some(writable(mode)), None);
        Ok(true)
    }

    fn close_again(&self, dir: &SimDir) -> io::Result<()> {
        let mut state = self.in_dir(dir, OpKind::SetAttrs, b"")?;
        let own = state.opened_up.remove(&dir.inode);
        if let Some(own) = own.filter(|own| writable(*own) == state.inode(dir.inode).mode) {
            state.set_attrs(dir.inode, Some(own), None);
        }
        Ok(())
    }

    fn mkdir(&self, dir: &SimDir, name: &[u8], mode: Mode) -> io::Result<()> {
        self.add(dir, OpKind::Mkdir, name, Node::Directory(Default::default()), mode).map(|_| ())
    }

    fn rmdir(&self, dir: &SimDir, name: &[u8]) -> io::Result<()> {
        let mut state = self.in_dir(dir, OpKind::Rmdir, name)?;
        let inode = state.existing(dir.inode, name)?;
        if !state.entries(inode)?.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        state.edit(vec![Edit { dir: dir.inode, name: name.to_vec(), from: Some(inode), to: None }])
    }

    fn symlink(&self, dir: &SimDir, name: &[u8], target: &[u8]) -> io::Result<()> {
        self.add(dir, OpKind::Symlink, name, Node::Symlink(target.to_vec()), Mode::new(0o777)).map(|_| ())
    }

    fn unlink(&self, dir: &Private<SimDir>, name: &[u8]) -> io::Result<()> {
        let mut state = self.in_dir(dir, OpKind::Unlink, name)?;
        let inode = state.existing(dir.inode, name)?;
        if matches!(state.inode(inode).node, Node::Directory(_)) {
            return Err(Errno::ISDIR.into());
        }
        state.edit(vec![Edit { dir: dir.inode, name: name.to_vec(), from: Some(inode), to: None }])
    }

    fn rename_noreplace(&self, from: (&SimDir, &[u8]), to: (&SimDir, &[u8])) -> io::Result<()> {
        let mut state = self.in_dir(from.0, OpKind::Rename, to.1)?;
        let inode = state.existing(from.0.inode, from.1)?;
        // As Linux has it, also where the other spelling is the file's own.
        if state.folded(to.0.inode, to.1)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        state.edit(vec![
            Edit { dir: from.0.inode, name: from.1.to_vec(), from: Some(inode), to: None },
            Edit { dir: to.0.inode, name: to.1.to_vec(), from: None, to: Some(inode) },
        ])
    }

    fn rename_exchange(&self, a: (&SimDir, &[u8]), b: (&SimDir, &[u8])) -> io::Result<()> {
        let mut state = self.in_dir(a.0, OpKind::Exchange, b.1)?;
        let at_a = state.existing(a.0.inode, a.1)?;
        let at_b = state.existing(b.0.inode, b.1)?;
        state.edit(vec![
            Edit { dir: a.0.inode, name: a.1.to_vec(), from: Some(at_a), to: Some(at_b) },
            Edit { dir: b.0.inode, name: b.1.to_vec(), from: Some(at_b), to: Some(at_a) },
        ])
    }

    fn sync_file(&self, file: &SimFile) -> io::Result<()> {
        let mut state = self.enter_sync(OpKind::SyncFile, Some(file.inode))?;
        if file.generation != state.generation {
            return Err(Errno::BADF.into());
        }
        state.sync_inode(file.inode);
        Ok(())
    }

    fn sync_dir(&self, dir: &SimDir) -> io::Result<()> {
        let mut state = self.in_dir(dir, OpKind::SyncDir, b"")?;
        state.sync_inode(dir.inode);
        state.sync_names(dir.inode);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.enter_sync(OpKind::SyncAll, None)?.sync_all();
        Ok(())
    }
}
