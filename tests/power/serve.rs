//! The kernel's requests, carried out on a `Volume`. Nothing is cached for a moment: names and attributes are asked for
//! each time and writes come at once, so that what is pending is what programs have not synced. Every request that
//! changes or syncs something passes `Shared::for_change`, where the power may go; without power all fail.

use super::disk::{Shared, Supply};
use super::volume::{Attrs, Bytes, Done, Ino, Inode, Node, Rename, Volume};
use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// Nothing stays valid.
const TTL: Duration = Duration::ZERO;
/// Largest write in one request, in bytes.
const WRITE_LEN_MAX: u32 = 1024 * 1024;
const BLOCK_LEN: u32 = 4096;
/// Blocks that it says it has: 64 GiB, so that nothing is ever short.
const BLOCKS: u64 = 16 << 20;
const KIND_BITS: u32 = 0o170_000;
const SOCKET: u32 = 0o140_000;
const REGULAR: u32 = 0o100_000;

/// What a directory held when its listing began: kinds and numbers by name.
type Listing = Vec<(Ino, FileType, Vec<u8>)>;

pub struct Server {
    shared: Shared,
    /// Listings under way, by handle. A name that is there all the time must come once, whatever happens beside it.
    listings: Mutex<(u64, BTreeMap<u64, Listing>)>,
}

impl Server {
    pub fn new(shared: Shared) -> Self {
        Self { shared, listings: Mutex::default() }
    }

    fn listings(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Listing>)> {
        self.listings.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn list(&self, ino: INodeNo) -> Done<Listing> {
        self.look(|volume| {
            let own = [(ino.0, b".".to_vec()), (ino.0, b"..".to_vec())];
            let entries = volume.entries(ino.0)?.iter().map(|(name, to)| (*to, name.clone()));
            let entries = own.into_iter().chain(entries);
            entries.map(|(to, name)| Ok((to, attributes(volume, to)?.kind, name))).collect()
        })
    }

    fn look<T>(&self, look: impl FnOnce(&Volume) -> Done<T>) -> Done<T> {
        let supply = self.shared.supply();
        if supply.is_on() { look(&supply.volume) } else { Err(Errno::IO) }
    }

    fn for_change(&self) -> Done<MutexGuard<'_, Supply>> {
        self.shared.for_change().ok_or(Errno::IO)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Volume, SystemTime) -> Done<T>) -> Done<T> {
        let mut supply = self.for_change()?;
        change(&mut supply.volume, SystemTime::now())
    }

    /// Makes something new and tells the kernel of it.
    fn make(&self, request: &Request, at: (INodeNo, &OsStr), node: Node, mode: u32) -> Done<FileAttr> {
        self.change(|volume, now| {
            let attrs = Attrs { mode: mode & 0o7777, uid: request.uid(), gid: request.gid(), mtime: now, ctime: now };
            let ino = volume.make(at.0.0, at.1.as_bytes(), node, attrs)?;
            volume.looked_up(ino);
            attributes(volume, ino)
        })
    }
}

fn attributes(volume: &Volume, ino: Ino) -> Done<FileAttr> {
    let Inode { node, attrs } = volume.inode(ino)?;
    let (kind, size) = match node {
        Node::File(bytes) => (FileType::RegularFile, bytes.len),
        Node::Directory(entries) => (FileType::Directory, entries.len() as u64),
        Node::Symlink(target) => (FileType::Symlink, target.len() as u64),
        Node::Special(SOCKET) => (FileType::Socket, 0),
        Node::Special(_) => (FileType::NamedPipe, 0),
    };
    let blocks = if let Node::File(bytes) = node { bytes.pages.len() as u64 * 8 } else { 0 };
    Ok(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks,
        atime: attrs.mtime,
        mtime: attrs.mtime,
        ctime: attrs.ctime,
        crtime: attrs.mtime,
        kind,
        perm: u16::try_from(attrs.mode & 0o7777).expect("twelve bits"),
        nlink: if kind == FileType::Directory { 2 } else { volume.links(ino) },
        uid: attrs.uid,
        gid: attrs.gid,
        rdev: 0,
        blksize: BLOCK_LEN,
        flags: 0,
    })
}

fn refusal(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw_os_error())
}

fn entry(reply: ReplyEntry, done: Done<FileAttr>) {
    match done {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(errno) => reply.error(refusal(errno)),
    }
}

fn empty(reply: ReplyEmpty, done: Done<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(refusal(errno)),
    }
}

/// Users act on this program's first thread; a disk that lies does so to the daemon alone, so that what the checks find is
/// what became of the daemon's promises.
fn is_user(request: &Request) -> bool {
    request.pid() == std::process::id()
}

fn time(at: TimeOrNow, now: SystemTime) -> SystemTime {
    match at {
        TimeOrNow::SpecificTime(at) => at,
        TimeOrNow::Now => now,
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        config.set_max_write(WRITE_LEN_MAX).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut supply = self.shared.supply();
        let found = |volume: &mut Volume| {
            let ino = volume.find(parent.0, name.as_bytes())?.ok_or(Errno::NOENT)?;
            volume.looked_up(ino);
            attributes(volume, ino)
        };
        entry(reply, if supply.is_on() { found(&mut supply.volume) } else { Err(Errno::IO) });
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.shared.supply().volume.forget(ino.0, nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.look(|volume| attributes(volume, ino.0)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(refusal(errno)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.change(|volume, now| {
            if let Some(size) = size {
                volume.resize(ino.0, size, now)?;
            }
            let set = |attrs: &mut Attrs| {
                attrs.mode = mode.map_or(attrs.mode, |mode| mode & 0o7777);
                attrs.uid = uid.unwrap_or(attrs.uid);
                attrs.gid = gid.unwrap_or(attrs.gid);
                attrs.mtime = mtime.map_or(attrs.mtime, |at| time(at, now));
            };
            volume.set_attrs(ino.0, set, now)?;
            attributes(volume, ino.0)
        });
        match done {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(refusal(errno)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.look(|volume| match &volume.inode(ino.0)?.node {
            Node::Symlink(target) => Ok(target.clone()),
            Node::File(_) | Node::Directory(_) | Node::Special(_) => Err(Errno::INVAL),
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(refusal(errno)),
        }
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        let kind = mode & KIND_BITS;
        let node = if kind == REGULAR { Node::File(Bytes::default()) } else { Node::Special(kind) };
        entry(reply, self.make(req, (parent, name), node, mode));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.make(req, (parent, name), Node::Directory(BTreeMap::new()), mode));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.change(|volume, now| volume.unlink(parent.0, name.as_bytes(), now)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.change(|volume, now| volume.rmdir(parent.0, name.as_bytes(), now)));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let node = Node::Symlink(target.as_os_str().as_bytes().to_vec());
        entry(reply, self.make(req, (parent, name), node, 0o777));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            RenameFlags::RENAME_NOREPLACE => Rename::NoReplace,
            RenameFlags::RENAME_EXCHANGE => Rename::Exchange,
            none if none.is_empty() => Rename::Plain,
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        let (from, to) = ((parent.0, name.as_bytes()), (newparent.0, newname.as_bytes()));
        empty(reply, self.change(|volume, now| volume.rename(from, to, how, now)));
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let done = self.change(|volume, now| {
            volume.link(ino.0, newparent.0, newname.as_bytes(), now)?;
            volume.looked_up(ino.0);
            attributes(volume, ino.0)
        });
        entry(reply, done);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.look(|volume| volume.read(ino.0, offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(refusal(errno)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(|volume, now| volume.write(ino.0, offset, data, now)) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("a request's length")),
            Err(errno) => reply.error(refusal(errno)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, req: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let done = self.for_change().map(|mut supply| {
            if !supply.forgets.files || is_user(req) {
                supply.volume.sync_inode(ino.0);
            }
        });
        empty(reply, done);
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let done = self.for_change().map(|mut supply| {
            if !supply.forgets.names || is_user(req) {
                supply.volume.sync_names(ino.0);
            }
        });
        empty(reply, done);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut listings = self.listings();
        listings.0 += 1;
        reply.opened(FileHandle(listings.0), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if offset == 0 {
            match self.list(ino) {
                Ok(listing) => self.listings().1.insert(fh.0, listing),
                Err(errno) => return reply.error(refusal(errno)),
            };
        }
        let listings = self.listings();
        let listed = listings.1.get(&fh.0).map_or(&[][..], Vec::as_slice);
        let rest = listed.iter().enumerate().skip(usize::try_from(offset).unwrap_or(usize::MAX));
        for (at, (to, kind, name)) in rest {
            if reply.add(INodeNo(*to), at as u64 + 1, *kind, OsStr::from_bytes(name)) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings().1.remove(&fh.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK_LEN, 255, BLOCK_LEN);
    }

    fn create(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.make(req, (parent, name), Node::File(Bytes::default()), mode) {
            Ok(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(refusal(errno)),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }
}
