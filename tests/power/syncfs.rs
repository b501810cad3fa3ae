//! syncfs(2) never reaches a FUSE server, so a daemon on such a disk runs under a filter that stops it at this call until
//! the disk has been synced, and then lets it go on (seccomp_unotify(2)). This program starts itself as the guard: it
//! makes the filter, hands its listener over a socket to the trial, and becomes the daemon.

use super::disk::Shared;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first argument of a guard; then come the socket and the command.
pub const GUARD: &str = "under-guard";

/// Becomes the command after its syncfs calls are watched. Returns only when that fails.
pub fn guard(args: &[OsString]) -> io::Error {
    let [socket, program, rest @ ..] = args else { return io::ErrorKind::InvalidInput.into() };
    let started = filter().and_then(|listener| hand_over(socket.as_ref(), &listener));
    match started {
        Ok(()) => Command::new(program).args(rest).exec(),
        Err(error) => error,
    }
}

/// Whether this machine can watch a process so: a guarded `true` ends well.
pub fn is_possible(scratch: &Path, own: &Path) -> bool {
    let socket = scratch.join("probe");
    let Ok(listener) = UnixListener::bind(&socket) else { return false };
    let guarded = Command::new(own).arg(GUARD).arg(&socket).arg("true").status();
    drop(listener);
    guarded.is_ok_and(|status| status.success())
}

/// Stops syncfs for whoever listens; everything else passes.
fn filter() -> io::Result<OwnedFd> {
    rustix::thread::set_no_new_privs(true)?;
    let number = u32::try_from(libc::SYS_syncfs).expect("numbers of calls are small");
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        // The call's number stands first in seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: the call reads the program, which lives until it returns, and touches nothing else of ours.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this handle just now, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a handle")) })
}

fn hand_over(socket: &Path, listener: &OwnedFd) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let handles = [std::os::fd::AsFd::as_fd(listener)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&handles));
    sendmsg(&stream, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn take_over(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let handles = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(handles) => Some(handles),
        _ => None,
    });
    handles.flatten().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Syncs the disk for each daemon that is started under a guard at its socket; ends when dropped.
pub struct Watch {
    socket: PathBuf,
}

impl Watch {
    pub fn new(socket: &Path, disk: Shared) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        std::thread::spawn(move || {
            // Whoever brings no handle is the end.
            while let Ok(calls) = listener.accept().and_then(|(stream, _)| take_over(&stream)) {
                let disk = disk.clone();
                std::thread::spawn(move || serve(&calls, &disk));
            }
        });
        Ok(Self { socket: socket.to_owned() })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Its thread may have ended already.
        let _ = UnixStream::connect(&self.socket);
    }
}

/// One daemon's calls, until it ends.
fn serve(calls: &OwnedFd, disk: &Shared) {
    loop {
        let mut waiting = [PollFd::new(calls, PollFlags::IN)];
        if poll(&mut waiting, None).is_err() || !waiting[0].revents().contains(PollFlags::IN) {
            return;
        }
        // SAFETY: all zeros is a value of this structure of integers, and the one that the kernel asks for.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills the structure, whose size is part of the request's number.
        if unsafe { libc::ioctl(calls.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) } < 0 {
            // The caller was killed meanwhile.
            continue;
        }
        if let Some(mut supply) = disk.for_change()
            && !supply.forgets.files
            && !supply.forgets.names
        {
            supply.volume.sync_all();
        }
        let flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).expect("one bit");
        let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
        // SAFETY: as above; the kernel reads it. It fails when the caller was killed, which is all the same.
        unsafe { libc::ioctl(calls.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    }
}
