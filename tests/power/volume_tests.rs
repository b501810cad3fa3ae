//! What a cut may leave, over many seeds: nothing that was synced changes, and everything that may happen does happen.

use super::{Attrs, Bytes, Done, Ino, Node, PAGE_LEN, ROOT, Rename, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;
use tests::sim::rng::Rng;

const SEEDS: u64 = 400;

fn make(volume: &mut Volume, dir: Ino, name: &[u8], node: Node) -> Ino {
    let now = SystemTime::UNIX_EPOCH;
    let attrs = Attrs { mode: 0o644, uid: 0, gid: 0, mtime: now, ctime: now };
    volume.make(dir, name, node, attrs).expect("the name is free")
}

fn file(volume: &mut Volume, name: &[u8], bytes: &[u8]) -> Ino {
    let ino = make(volume, ROOT, name, Node::File(Bytes::default()));
    volume.write(ino, 0, bytes, SystemTime::UNIX_EPOCH).expect("a write");
    ino
}

fn content(volume: &Volume, name: &[u8]) -> Option<Vec<u8>> {
    let ino = volume.find(ROOT, name).expect("a directory")?;
    Some(volume.read(ino, 0, 1 << 20).expect("a file"))
}

/// Everything that `look` sees after cuts of a disk that `prepare` made.
fn outcomes<T: Ord>(prepare: impl Fn(&mut Volume) -> Done<()>, look: impl Fn(&Volume) -> T) -> BTreeSet<T> {
    let after = |seed| {
        let mut volume = Volume::new(SystemTime::UNIX_EPOCH);
        prepare(&mut volume).expect("it can be prepared");
        look(&volume.after_cut(&mut Rng::new(seed, 0)))
    };
    (0..SEEDS).map(after).collect()
}

fn durable(volume: &mut Volume, name: &[u8], bytes: &[u8]) -> Ino {
    let ino = file(volume, name, bytes);
    volume.sync_inode(ino);
    volume.sync_names(ROOT);
    ino
}

#[test]
fn what_was_synced_stays() {
    let prepare = |volume: &mut Volume| {
        durable(volume, b"f", b"kept");
        Ok(())
    };
    let found = outcomes(prepare, |volume| content(volume, b"f"));
    assert_eq!(found, BTreeSet::from([Some(b"kept".to_vec())]));
}

#[test]
fn a_name_without_a_sync_of_its_directory_stays_or_goes_and_data_without_a_sync_may_be_torn() {
    let prepare = |volume: &mut Volume| {
        let ino = file(volume, b"f", b"data");
        volume.sync_inode(ino);
        Ok(())
    };
    let found = outcomes(prepare, |volume| content(volume, b"f"));
    assert_eq!(found, BTreeSet::from([None, Some(b"data".to_vec())]));
    let prepare = |volume: &mut Volume| {
        file(volume, b"f", b"data");
        volume.sync_names(ROOT);
        Ok(())
    };
    let found = outcomes(prepare, |volume| content(volume, b"f"));
    assert_eq!(found, BTreeSet::from([Some(vec![]), Some(b"data".to_vec()), Some(vec![0; 4])]));
}

#[test]
fn an_exchange_happens_whole_or_not_at_all() {
    let prepare = |volume: &mut Volume| {
        durable(volume, b"f", b"one");
        durable(volume, b"g", b"two");
        volume.rename((ROOT, b"f"), (ROOT, b"g"), Rename::Exchange, SystemTime::UNIX_EPOCH)
    };
    let both = |one: &[u8], other: &[u8]| (Some(one.to_vec()), Some(other.to_vec()));
    let found = outcomes(prepare, |volume| (content(volume, b"f"), content(volume, b"g")));
    assert_eq!(found, BTreeSet::from([both(b"one", b"two"), both(b"two", b"one")]));
}

#[test]
fn a_page_that_is_overwritten_in_place_is_old_or_new() {
    let pages = |first: u8, second: u8| [vec![first; PAGE_LEN], vec![second; PAGE_LEN]].concat();
    let prepare = |volume: &mut Volume| {
        let ino = durable(volume, b"f", &pages(1, 1));
        volume.write(ino, 0, &pages(2, 2), SystemTime::UNIX_EPOCH)
    };
    let found = outcomes(prepare, |volume| content(volume, b"f"));
    let expected = [pages(1, 1), pages(1, 2), pages(2, 1), pages(2, 2)].map(Some);
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn a_directory_is_never_lost_with_what_is_durable_in_it() {
    let prepare = |volume: &mut Volume| {
        let [one, other] =
            [b"one".as_slice(), b"two"].map(|name| make(volume, ROOT, name, Node::Directory(BTreeMap::new())));
        volume.sync_names(ROOT);
        let inside = make(volume, one, b"inside", Node::Directory(BTreeMap::new()));
        volume.sync_names(one);
        volume.rename((one, b"inside"), (other, b"inside"), Rename::Plain, SystemTime::UNIX_EPOCH)?;
        volume.rename((ROOT, b"one"), (inside, b"one"), Rename::Plain, SystemTime::UNIX_EPOCH)
    };
    let entries =
        |volume: &Volume| volume.disk.values().filter(|inode| matches!(inode.node, Node::Directory(_))).count();
    assert_eq!(outcomes(prepare, entries), BTreeSet::from([4]));
}
