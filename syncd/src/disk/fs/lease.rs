//! Whether a file is open for writing somewhere: a read lease (fcntl(2), F_SETLEASE) is refused while it is.
//! The only unsafe code of the disk layer, because no safe wrapper of F_SETLEASE exists.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// fcntl(2): the signal for a broken lease. The same on every Linux architecture; libc does not export it.
const F_SETSIG: libc::c_int = 10;

/// Tries a read lease on a file opened read-only, and gives it back at once.
/// EAGAIN means that a writer has it open; where leases are not offered the answer is no.
pub(super) fn is_open_for_write(file: &File) -> io::Result<bool> {
    let fd = file.as_raw_fd();
    // A writer that opens the file within this call would raise the default SIGIO, which ends a process;
    // SIGURG is ignored by default.
    // SAFETY: `fd` is open for the whole call and F_SETSIG takes a plain integer.
    unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) };
    // SAFETY: `fd` is open for the whole call and F_SETLEASE takes a plain integer.
    let taken = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) };
    if taken == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Ok(false);
    }
    let error = io::Error::last_os_error();
    Ok(error.raw_os_error() == Some(libc::EAGAIN))
}
