//! Damage, crashes, other versions and other processes: nothing acknowledged is lost, nothing broken is trusted.

use super::super::open::{OpenError, Opened};
use super::super::tables::{META, META_SCHEMA};
use super::{REPLICA, Store, die, file, new_store, open, path, put};
use protocol::model::{ReplicaId, Sequence};
use protocol::sync::{Change, Journal, Rows};
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, StorageBackend};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const SECOND: ReplicaId = ReplicaId([2; 8]);

fn reopen(path: &Path) -> Opened {
    Store::open_with(path, || SECOND, die).expect("it opens")
}

/// The bytes of a closed database with some rows.
fn sample() -> Vec<u8> {
    let (dir, store) = new_store();
    for n in 0..20u8 {
        let rows = (0..20u8).map(|m| put(&format!("dir{n}/file{m}"), file(n, 2), &[(1, u64::from(n) * 20 + 1)]));
        store.commit(rows.collect());
    }
    drop(store);
    fs::read(dir.path().join("db")).expect("the database")
}

/// Either everything is as it was, or the file is set aside and the replica is new.
fn check_damaged(name: &str, bytes: &[u8], intact: &Opened) -> bool {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path().join("db");
    fs::write(&at, bytes).expect("a damaged file");
    let opened = reopen(&at);
    let Some(aside) = &opened.set_aside else {
        assert_eq!(opened.store.state(), intact.store.state(), "{name}");
        assert_eq!(opened.store.below(None, None, 999), intact.store.below(None, None, 999), "{name}");
        assert!(!opened.fresh, "{name}");
        return false;
    };
    assert!(opened.fresh, "{name}");
    assert_eq!(aside, &dir.path().join("db.broken-1"), "{name}");
    assert!(aside.exists(), "{name}");
    assert_eq!((opened.store.state().replica, opened.store.state().head), (SECOND, Sequence(0)), "{name}");
    opened.store.commit(vec![put("a", file(1, 1), &[(2, 1)])]);
    assert_eq!(opened.store.children(None).len(), 1, "{name}");
    true
}

#[test]
fn a_damaged_database_is_set_aside() {
    let bytes = sample();
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("db"), &bytes).expect("a copy");
    let intact = reopen(&dir.path().join("db"));
    assert!(!intact.fresh && intact.set_aside.is_none());

    for len in [0, 1, 100, 4096, bytes.len() / 2, bytes.len() - 1] {
        assert!(check_damaged(&format!("cut to {len}"), &bytes[..len], &intact));
    }
    assert!(check_damaged("garbage", &[0x5a; 10_000], &intact));
    // The byte that names the current commit slot: an older commit would use counters again.
    for bit in 0..8 {
        let mut flipped = bytes.clone();
        flipped[9] ^= 1 << bit;
        check_damaged(&format!("bit {bit} of the slot flags flipped"), &flipped, &intact);
    }
    let mut caught = 0;
    for offset in (0..320).step_by(7).chain((4096..bytes.len()).step_by(bytes.len() / 60)) {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 0x41;
        caught += usize::from(check_damaged(&format!("byte {offset} flipped"), &flipped, &intact));
    }
    assert!(caught > 10, "only {caught} flipped bytes were noticed");
}

#[test]
fn databases_set_aside_keep_their_names() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path().join("db");
    for n in 1..=3 {
        fs::write(&at, format!("broken {n}")).expect("a broken file");
        let aside = reopen(&at).set_aside.expect("it is set aside");
        assert_eq!(aside, dir.path().join(format!("db.broken-{n}")));
        assert_eq!(fs::read(aside).expect("it is kept"), format!("broken {n}").as_bytes());
    }
}

#[test]
fn a_database_half_made_is_made_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path().join("db");
    fs::write(dir.path().join("db.new"), "torn").expect("what a crash left");
    let opened = reopen(&at);
    assert!(opened.fresh && opened.set_aside.is_none());
    assert!(!dir.path().join("db.new").exists());
}

#[test]
fn a_newer_format_is_left_alone() {
    let (dir, store) = new_store();
    let at = dir.path().join("db");
    store.commit(vec![put("a", file(1, 1), &[(1, 1)])]);
    drop(store);
    let set_schema = |number: u32| {
        let txn = Database::open(&at).expect("a database");
        let txn = txn.begin_write().expect("a transaction");
        let mut meta = txn.open_table(META).expect("the table");
        meta.insert(META_SCHEMA, number.to_le_bytes().as_slice()).expect("a write");
        drop(meta);
        txn.commit().expect("a commit");
    };
    set_schema(7);
    let error = Store::open_with(&at, || unreachable!("no replica is drawn"), die).map(drop);
    assert!(matches!(error, Err(OpenError::Newer { found: 7, known: 1 })), "{error:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1);
    set_schema(1);
    assert_eq!(open(&at).state().head, Sequence(1));
}

#[test]
fn a_database_opens_once() {
    let (dir, store) = new_store();
    let again = Store::open_with(&dir.path().join("db"), || unreachable!("no replica is drawn"), die).map(drop);
    assert!(matches!(again, Err(OpenError::InUse)), "{again:?}");
    drop(store);
    assert_eq!(open(&dir.path().join("db")).state().replica, REPLICA);
}

/// Memory that remembers what was on disk at each sync, and fails when told to.
#[derive(Clone, Debug, Default)]
struct Disk {
    memory: Arc<InMemoryBackend>,
    images: Arc<Mutex<Vec<Vec<u8>>>>,
    fails: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
}

impl Disk {
    fn image(&self) -> Vec<u8> {
        let mut image = vec![0; self.memory.len().expect("a length") as usize];
        self.memory.read(0, &mut image).expect("memory reads");
        image
    }

    fn refuse(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(io::Error::other("the disk fails")) } else { Ok(()) }
    }

    /// A database that was made as a file, on this disk.
    fn store(&self) -> Store {
        let bytes = sample();
        self.memory.set_len(bytes.len() as u64).expect("memory grows");
        self.memory.write(0, &bytes).expect("memory writes");
        Store::new(Builder::new().create_with_backend(self.clone()).expect("it opens"), die)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.refuse()?;
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.refuse()?;
        self.images.lock().expect("no panic holds it").push(self.image());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.refuse()?;
        self.memory.write(offset, data)
    }
}

#[test]
fn a_power_cut_at_any_sync_keeps_what_was_acknowledged() {
    let disk = Disk::default();
    let store = disk.store();
    let mut acknowledged = vec![(disk.images.lock().expect("free").len(), store.state())];
    for n in 1..=6 {
        store.commit(vec![put("a", file(n, 9), &[(1, 1000 + u64::from(n))]), Change::Counter(1000 + u64::from(n))]);
        acknowledged.push((disk.images.lock().expect("free").len(), store.state()));
    }
    let images = disk.images.lock().expect("free").clone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (n, image) in images.iter().enumerate().skip(acknowledged[0].0) {
        let at = dir.path().join(n.to_string());
        fs::write(&at, image).expect("an image");
        let opened = reopen(&at);
        assert!(!opened.fresh, "sync {n}");
        let state = opened.store.state();
        // The state of the last commit that had returned by then, or of the one under way.
        let returned = acknowledged.iter().rposition(|(images, _)| *images <= n + 1).expect("the first is older");
        let allowed = &acknowledged[returned..(returned + 2).min(acknowledged.len())];
        assert!(allowed.iter().any(|(_, allowed)| *allowed == state), "sync {n}");
    }
}

#[test]
fn nothing_is_written_after_a_failed_write() {
    let disk = Disk::default();
    let store = disk.store();
    let commit = || catch_unwind(AssertUnwindSafe(|| store.commit(vec![put("a", file(1, 1), &[(1, 999)])])));
    disk.fails.store(true, Ordering::SeqCst);
    assert!(commit().is_err());
    disk.fails.store(false, Ordering::SeqCst);
    let writes = disk.writes.load(Ordering::SeqCst);
    assert!(commit().is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| store.get(&path("a")))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| store.sweep_manifests())).is_err());
    assert_eq!(disk.writes.load(Ordering::SeqCst), writes);
}
