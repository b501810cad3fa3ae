//! Errnos: the few that decisions hang on, and how any of them reads in a status line.

use protocol::sync::{Problem, ProblemCode};
use std::io;

pub use rustix::io::Errno;

/// The errno of an error; `EIO` for one that did not come from the system.
#[must_use]
pub fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// An error as a problem of a path: `doing` is what was tried ("cannot create the file").
#[must_use]
pub fn problem(error: &io::Error, doing: &str) -> Problem {
    let errno = errno(error);
    let (code, name) = classify(errno);
    let text = io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    let name = name.map_or_else(|| format!("errno {}", errno.raw_os_error()), str::to_owned);
    Problem { code, words: format!("{doing}: {text} ({name})") }
}

fn classify(errno: Errno) -> (ProblemCode, Option<&'static str>) {
    let (code, name) = match errno {
        Errno::NOSPC => (ProblemCode::NoSpace, "ENOSPC"),
        Errno::DQUOT => (ProblemCode::NoSpace, "EDQUOT"),
        Errno::FBIG => (ProblemCode::NoSpace, "EFBIG"),
        Errno::ACCESS => (ProblemCode::Permission, "EACCES"),
        Errno::PERM => (ProblemCode::Permission, "EPERM"),
        Errno::ROFS => (ProblemCode::ReadOnly, "EROFS"),
        Errno::NAMETOOLONG => (ProblemCode::Name, "ENAMETOOLONG"),
        Errno::ILSEQ => (ProblemCode::Name, "EILSEQ"),
        Errno::INVAL => (ProblemCode::Name, "EINVAL"),
        Errno::NXIO => (ProblemCode::Special, "ENXIO"),
        Errno::BUSY => (ProblemCode::Busy, "EBUSY"),
        Errno::TXTBSY => (ProblemCode::Busy, "ETXTBSY"),
        Errno::XDEV => (ProblemCode::Blocked, "EXDEV"),
        Errno::LOOP => (ProblemCode::Blocked, "ELOOP"),
        Errno::NOTDIR => (ProblemCode::Blocked, "ENOTDIR"),
        Errno::ISDIR => (ProblemCode::Blocked, "EISDIR"),
        Errno::EXIST => (ProblemCode::Blocked, "EEXIST"),
        Errno::IO => (ProblemCode::Io, "EIO"),
        Errno::STALE => (ProblemCode::Io, "ESTALE"),
        Errno::NOENT => (ProblemCode::Io, "ENOENT"),
        Errno::NOTEMPTY => (ProblemCode::Io, "ENOTEMPTY"),
        Errno::MFILE => (ProblemCode::Io, "EMFILE"),
        Errno::NFILE => (ProblemCode::Io, "ENFILE"),
        Errno::MLINK => (ProblemCode::Io, "EMLINK"),
        Errno::NOSYS => (ProblemCode::Io, "ENOSYS"),
        Errno::OPNOTSUPP => (ProblemCode::Io, "EOPNOTSUPP"),
        _ => return (ProblemCode::Io, None),
    };
    (code, Some(name))
}
