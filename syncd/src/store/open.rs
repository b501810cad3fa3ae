//! Opening a folder's database: checked page by page, made when there is none, set aside when it is broken.
//! A database appears under its name only once it is complete, so whatever else bears the name is broken;
//! it is renamed and reported, never deleted. A new database always takes a new replica: its counters start again.

use super::codec::{decode, encode};
use super::tables::{META, META_SCHEMA, META_TALLY, Tables};
use super::tally::Tally;
use super::write::begin_write;
use super::{Fatal, Store};
use anyhow::Context;
use protocol::model::ReplicaId;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError};
use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Version of the tables and their keys. Raise it when an older syncd would misread them.
const SCHEMA: u32 = 1;
/// redb's page cache in bytes: 67k random reads a second out of a million rows with 16 MiB, little more beyond 64.
const CACHE_LEN: usize = 48 * 1024 * 1024;
/// Databases set aside for one folder; a thousand mean that something else is wrong.
const BROKEN_MAX: u32 = 1000;

/// An open database, and what the user must hear about it.
pub struct Opened {
    /// The database.
    pub store: Store,
    /// It was made just now, with a new replica: the folder's index starts again from a scan.
    pub fresh: bool,
    /// Where the broken database that stood here was moved.
    pub set_aside: Option<PathBuf>,
}

/// Why a database was not opened. Nothing was moved or made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("the folder's database is in use by another process")]
    InUse,
    /// A later syncd wrote it.
    #[error("the folder's database has format {found}; this syncd knows formats up to {known}")]
    Newer {
        /// Format of the file.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// The file system refuses: permissions, a full disk, a failing one.
    #[error("cannot {doing} the folder's database")]
    Io {
        /// What was refused.
        doing: &'static str,
        /// How.
        #[source]
        source: io::Error,
    },
}

impl Store {
    /// Opens the database at `path`, or makes one with the replica that `replica_if_new` draws.
    /// A later failure to read or write ends the process with code 75.
    ///
    /// # Errors
    /// In use, written by a later version, or refused by the file system; a broken database is no error.
    pub fn open(path: &Path, replica_if_new: impl FnOnce() -> ReplicaId) -> Result<Opened, OpenError> {
        Self::open_with(path, replica_if_new, super::exit)
    }

    /// The same with another end for failures.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(
        path: &Path,
        replica_if_new: impl FnOnce() -> ReplicaId,
        fatal: Fatal,
    ) -> Result<Opened, OpenError> {
        let mut set_aside = None;
        if exists(path)? {
            match check(path) {
                Ok(db) => return Ok(Opened { store: Self::new(db, fatal), fresh: false, set_aside }),
                Err(Trouble::Refused(error)) => return Err(error),
                Err(Trouble::Broken(why)) => {
                    tracing::error!("a folder's database is broken and is set aside: {why}");
                    set_aside = Some(move_aside(path)?);
                }
            }
        }
        create(path, replica_if_new())?;
        match check(path) {
            Ok(db) => Ok(Opened { store: Self::new(db, fatal), fresh: true, set_aside }),
            Err(Trouble::Refused(error)) => Err(error),
            Err(Trouble::Broken(why)) => Err(refused("make", io::Error::other(why))),
        }
    }
}

/// Why a file did not open.
enum Trouble {
    /// The caller must hear of it and nothing may be moved.
    Refused(OpenError),
    /// It is no whole database.
    Broken(String),
}

fn refused(doing: &'static str, source: io::Error) -> OpenError {
    OpenError::Io { doing, source }
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(refused("find", error)),
    }
}

/// Opens an existing database and verifies the checksum of every page: later reads trust them.
fn check(path: &Path) -> Result<Database, Trouble> {
    match catch_unwind(AssertUnwindSafe(|| check_unguarded(path))) {
        Ok(result) => result,
        Err(panic) => Err(Trouble::Broken(panic_words(panic.as_ref()))),
    }
}

/// A database that is no file: checked like one.
pub(super) fn settle_backend(backend: impl StorageBackend) -> anyhow::Result<Database> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_LEN).set_check_integrity_on_open(true);
    let db = builder.create_with_backend(backend)?;
    verify_tables(&db)?;
    Ok(db)
}

fn check_unguarded(path: &Path) -> Result<Database, Trouble> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_LEN).set_check_integrity_on_open(true);
    let db = builder.open(path).map_err(classify)?;
    let found = schema(&db).map_err(|error| Trouble::Broken(format!("{error:#}")))?;
    if found > SCHEMA {
        return Err(Trouble::Refused(OpenError::Newer { found, known: SCHEMA }));
    }
    verify_tables(&db).map_err(|error| Trouble::Broken(format!("{error:#}")))?;
    Ok(db)
}

/// A file that is no database, or a damaged one, is broken; a disk that does not answer is not.
fn classify(error: DatabaseError) -> Trouble {
    match error {
        DatabaseError::DatabaseAlreadyOpen
        | DatabaseError::LockProtocolMismatch
        | DatabaseError::TransactionInProgress => Trouble::Refused(OpenError::InUse),
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Trouble::Broken(error.to_string()),
            _ => Trouble::Refused(refused("open", error)),
        },
        error @ DatabaseError::Storage(
            StorageError::PreviousIo
            | StorageError::Backend(_)
            | StorageError::Unsupported
            | StorageError::DatabaseClosed
            | StorageError::LockPoisoned(_),
        ) => Trouble::Refused(refused("open", io::Error::other(error))),
        error => Trouble::Broken(error.to_string()),
    }
}

fn schema(db: &Database) -> anyhow::Result<u32> {
    let meta = db.begin_read()?.open_table(META)?;
    let row = meta.get(META_SCHEMA)?.context("it has no format number")?;
    Ok(u32::from_le_bytes(row.value().try_into().context("its format number is not one")?))
}

/// Every table is there with its types, and the tally decodes.
fn verify_tables(db: &Database) -> anyhow::Result<()> {
    let txn = begin_write(db)?;
    let tables = Tables::open(&txn)?;
    let _: Tally = decode(tables.meta.get(META_TALLY)?.context("it has no tally")?.value())?;
    drop(tables);
    Ok(txn.abort()?)
}

/// Makes a whole database beside `path` and moves it there. What an earlier attempt left is no database yet.
fn create(path: &Path, replica: ReplicaId) -> Result<(), OpenError> {
    let making = with_suffix(path, ".new");
    match fs::remove_file(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused("make", error)),
        _ => {}
    }
    fill(&making, replica)
        .and_then(|()| fs::rename(&making, path))
        .and_then(|()| sync_parent(path))
        .map_err(|error| refused("make", error))
}

fn fill(path: &Path, replica: ReplicaId) -> io::Result<()> {
    let backend = FileBackend::new(private_file(path)?).map_err(io::Error::other)?;
    let db = Builder::new().create_with_backend(backend).map_err(io::Error::other)?;
    write_empty(&db, replica).map_err(io::Error::other)?;
    db.close().map_err(io::Error::other)?;
    File::open(path)?.sync_all()
}

pub(super) fn write_empty(db: &Database, replica: ReplicaId) -> anyhow::Result<()> {
    let txn = begin_write(db)?;
    let mut tables = Tables::open(&txn)?;
    tables.meta.insert(META_SCHEMA, SCHEMA.to_le_bytes().as_slice())?;
    tables.meta.insert(META_TALLY, encode(&Tally::new(replica)).as_slice())?;
    drop(tables);
    Ok(txn.commit()?)
}

/// The index lists the names of the user's files.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The first free name of `NAME.broken-1`, `NAME.broken-2`, ...
fn move_aside(path: &Path) -> Result<PathBuf, OpenError> {
    for n in 1..=BROKEN_MAX {
        let aside = with_suffix(path, &format!(".broken-{n}"));
        if !exists(&aside)? {
            fs::rename(path, &aside).and_then(|()| sync_parent(path)).map_err(|error| refused("set aside", error))?;
            return Ok(aside);
        }
    }
    Err(refused("set aside", io::Error::other("too many databases were set aside already")))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a rename in the directory of `path` durable, where directories can be opened.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent().filter(|_| cfg!(unix)) {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// What a panic said.
pub(super) fn panic_words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}
