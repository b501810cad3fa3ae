//! The store against a reference that keeps everything in maps and recounts everything: random changes,
//! every read compared after each commit, the database reopened in between.

use super::{Store, have, manifest, open, path, version, want};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use protocol::model::{
    Content, ContentHash, DeviceId, Digest, Entry, FileContent, Manifest, Mode, RelPath, ReplicaId, Row, Sequence,
};
use protocol::sync::{
    ActionId, Change, Cursor, FolderState, Have, Held, Installing, Journal, LocalRow, Observed, Rows, Totals, Want,
};
use std::collections::{BTreeMap, BTreeSet};

const PEERS: [DeviceId; 3] = [DeviceId([5; 32]), DeviceId([6; 32]), DeviceId([7; 32])];

#[derive(Clone, Default)]
struct Reference {
    rows: BTreeMap<RelPath, LocalRow>,
    sequences: BTreeMap<Sequence, RelPath>,
    manifests: BTreeMap<ContentHash, Manifest>,
    cursors: BTreeMap<DeviceId, Cursor>,
    installing: BTreeMap<ActionId, Installing>,
    held: BTreeMap<ActionId, Held>,
    counter: u64,
    scanned: bool,
    head: Sequence,
}

impl Reference {
    fn commit(&mut self, changes: Vec<Change>) {
        let named_before = self.named();
        for change in changes {
            self.apply(change);
        }
        let named = self.named();
        self.manifests.retain(|hash, _| named.contains(hash) || !named_before.contains(hash));
    }

    fn row(&mut self, path: RelPath) -> &mut LocalRow {
        self.rows.entry(path).or_default()
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Have { path, have } => self.record(path, have),
            Change::Seen { path, fingerprint, racy } => {
                if let Some(have) = self.row(path).have.as_mut().filter(|have| have.entry.is_live()) {
                    *have = Have { entry: have.entry.clone(), fingerprint: Some(fingerprint), racy };
                }
            }
            Change::Wants { path, wants } => self.row(path).wants = wants,
            Change::Local { path, local } => self.row(path).local = local,
            Change::Manifest(manifest) => drop(self.manifests.insert(manifest.content, manifest)),
            Change::Cursor { peer, cursor } => drop(self.cursors.insert(peer, cursor)),
            Change::Counter(counter) => self.counter = self.counter.max(counter),
            Change::Installing(action) => drop(self.installing.insert(action.id, action)),
            Change::Installed(id) => drop(self.installing.remove(&id)),
            Change::Held(held) => drop(self.held.insert(held.id, held)),
            Change::Released(id) => drop(self.held.remove(&id)),
            Change::Scanned => self.scanned = true,
            Change::Lost { path } => {
                self.sequences.retain(|_, at| *at != path);
                self.row(path).have = None;
            }
            Change::Run(_) | Change::Confirmed(_) | Change::Remember { .. } | Change::Renewed(_) => {
                unreachable!("drawn by no test of this file")
            }
            Change::Forget(peer) => {
                self.cursors.remove(&peer);
                for row in self.rows.values_mut() {
                    row.wants.iter_mut().for_each(|want| want.sources.retain(|source| *source != peer));
                    row.wants.retain(|want| !want.sources.is_empty());
                }
            }
        }
    }

    fn record(&mut self, path: RelPath, have: Have) {
        if self.row(path.clone()).entry() != Some(&have.entry) {
            self.head = self.head.next();
            self.sequences.retain(|_, at| *at != path);
            self.sequences.insert(self.head, path.clone());
        }
        let row = self.row(path);
        row.wants.retain(|want| want.entry.version.iter().any(|e| have.entry.version.get(e.replica) < e.counter));
        *row = LocalRow { have: Some(have), wants: row.wants.clone(), local: None };
    }

    /// Contents that keep their chunk lists.
    fn named(&self) -> BTreeSet<ContentHash> {
        let held = self.rows.values().filter_map(|row| row.entry()?.content.file());
        let wanted = self.rows.values().flat_map(|row| &row.wants).filter_map(|want| want.entry.content.file());
        held.chain(wanted.filter(|file| file.chunks.is_empty() && file.size > 0)).map(|file| file.hash).collect()
    }

    fn live(&self) -> impl Iterator<Item = (&RelPath, &Have)> {
        let haves = self.rows.iter().filter_map(|(path, row)| Some((path, row.have.as_ref()?)));
        haves.filter(|(_, have)| have.entry.is_live())
    }

    fn state(&self, replica: ReplicaId) -> FolderState {
        let (mut digest, mut totals) = (Digest::default(), Totals::default());
        for (path, entry) in self.rows.iter().filter_map(|(path, row)| Some((path, row.entry()?))) {
            digest.add(path, entry);
            totals.tombstones += u64::from(entry.content == Content::Tombstone);
            totals.directories += u64::from(entry.content == Content::Directory);
            totals.symlinks += u64::from(matches!(entry.content, Content::Symlink(_)));
            totals.files += u64::from(entry.content.file().is_some());
            totals.bytes += entry.content.file().map_or(0, |file| file.size);
        }
        let pending = |row: &LocalRow| row.wants.clone().into_iter().filter(|want| want.declined.is_none());
        let size = |want: Want| want.entry.content.file().map_or(0, |file| file.size);
        FolderState {
            replica,
            counter: self.counter,
            scanned: self.scanned,
            head: self.head,
            digest,
            totals,
            need_entries: self.rows.values().filter(|row| pending(row).count() > 0).count() as u64,
            need_bytes: self.rows.values().flat_map(pending).map(size).sum(),
        }
    }

    fn effective(&self, peer: &DeviceId) -> Digest {
        let mut digest = self.state(super::REPLICA).digest;
        for (path, row) in &self.rows {
            for want in row.declined_from(peer) {
                row.entry().into_iter().for_each(|entry| digest.remove(path, entry));
                digest.add(path, &want.entry);
            }
        }
        digest
    }

    fn check(&self, store: &Store, at: &RelPath, limit: usize) {
        assert_eq!(store.state(), self.state(super::REPLICA));
        assert_eq!(store.installing(), self.installing.values().cloned().collect::<Vec<_>>());
        assert_eq!(store.held(), self.held.values().cloned().collect::<Vec<_>>());
        for peer in &PEERS {
            assert_eq!(store.cursor(peer), self.cursors.get(peer).copied());
            assert_eq!(store.effective_digest(peer), self.effective(peer));
        }
        for path in &paths() {
            assert_eq!(store.get(path), self.rows.get(path).cloned().unwrap_or_default());
            self.check_tree(store, Some(path), at, limit);
        }
        self.check_tree(store, None, at, limit);
        for after in [None, Some(at)] {
            self.check_lists(store, after, limit);
        }
        for seed in 0..CONTENTS {
            self.check_content(store, &content(seed), limit);
        }
        for after in 0..=self.head.0 {
            let expected = self.sequences.range(Sequence(after + 1)..).take(limit).map(|(sequence, path)| {
                let entry = self.rows[path].entry().expect("a row with a sequence number").clone();
                (*sequence, Row { path: path.clone(), entry })
            });
            assert_eq!(store.since(Sequence(after), limit), expected.collect::<Vec<_>>());
        }
    }

    fn check_tree(&self, store: &Store, dir: Option<&RelPath>, at: &RelPath, limit: usize) {
        let owned = |(path, have): (&RelPath, &Have)| (path.clone(), have.clone());
        let below = || self.live().filter(|(path, _)| dir.is_none_or(|dir| path.is_below(dir)));
        let direct = below().filter(|(path, _)| path.parent().as_ref() == dir).map(owned);
        assert_eq!(store.children(dir), direct.collect::<Vec<_>>());
        assert_eq!(store.below(dir, None, limit), below().take(limit).map(owned).collect::<Vec<_>>());
        let after = below().filter(|(path, _)| *path > at).take(limit).map(owned);
        assert_eq!(store.below(dir, Some(at), limit), after.collect::<Vec<_>>());
        if let Some(dir) = dir {
            assert_eq!(store.live_below(dir).is_some(), below().next().is_some());
            assert!(store.live_below(dir).is_none_or(|path| below().any(|(live, _)| *live == path)));
        }
    }

    fn check_lists(&self, store: &Store, bound: Option<&RelPath>, limit: usize) {
        let wanted = || self.rows.iter().filter(|(_, row)| !row.wants.is_empty());
        let owned = |(path, row): (&RelPath, &LocalRow)| (path.clone(), row.clone());
        let after = wanted().filter(|(path, _)| bound.is_none_or(|bound| *path > bound)).take(limit).map(owned);
        assert_eq!(store.wanted(bound, limit), after.collect::<Vec<_>>());
        let before = wanted().rev().filter(|(path, _)| bound.is_none_or(|bound| *path < bound)).take(limit).map(owned);
        assert_eq!(store.wanted_reversed(bound, limit), before.collect::<Vec<_>>());
        let locals = self.rows.iter().filter_map(|(path, row)| Some((path.clone(), row.local.clone()?)));
        let locals = locals.filter(|(path, _)| bound.is_none_or(|bound| path > bound)).take(limit);
        assert_eq!(store.locals(bound, limit), locals.collect::<Vec<_>>());
    }

    fn check_content(&self, store: &Store, content: &FileContent, limit: usize) {
        let holds = |have: &Have| have.entry.content.file().is_some_and(|file| file.hash == content.hash);
        let holders: Vec<_> = self.live().filter(|(_, have)| holds(have)).map(|(path, _)| path.clone()).collect();
        assert_eq!(store.holders(content, limit), holders[..holders.len().min(limit)]);
        let inline = !content.chunks.is_empty() || content.size == 0;
        let list = inline.then(|| Manifest {
            content: content.hash,
            size: content.size,
            chunking: content.chunking,
            chunks: content.chunks.clone(),
        });
        assert_eq!(store.manifest(content), list.or_else(|| self.manifests.get(&content.hash).cloned()));
    }
}

/// Names around the separator's place in the order, three levels deep.
fn paths() -> Vec<RelPath> {
    let mut all = Vec::new();
    for a in ["a", "a\u{1}", "a!"] {
        all.push(path(a));
        for b in ["b", "\u{1}"] {
            all.push(path(&format!("{a}/{b}")));
            all.push(path(&format!("{a}/{b}/c")));
        }
    }
    all
}

const CONTENTS: u8 = 6;

/// Empty, one chunk, some inside the entry, and two with more than an entry holds.
fn list(seed: u8) -> Manifest {
    manifest(seed, [0, 1, 3, 8, 9, 12][usize::from(seed)])
}

fn content(seed: u8) -> FileContent {
    list(seed).to_content()
}

fn any_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        2 => Just(Content::Tombstone),
        2 => Just(Content::Directory),
        1 => vec(1u8..4, 1..4).prop_map(Content::Symlink),
        5 => (0..CONTENTS).prop_map(|seed| Content::File(content(seed))),
    ]
}

/// Few events, so that equal entries and contained versions are common.
fn any_entry() -> impl Strategy<Value = Entry> {
    let events = vec((1u8..3, 1u64..4), 1..3);
    (any_content(), events, 0..3u8, 0..4u32, any::<bool>()).prop_map(|(content, events, at, mode, found)| {
        let mut entry = have(content, &events).entry;
        entry.found = found;
        entry.mode = Mode::new(mode);
        if at > 0 {
            entry.content_at = version(&events[..1]);
        }
        if at > 1 {
            entry.mode_at = version(&[(9, 1)]);
        }
        entry
    })
}

fn any_have() -> impl Strategy<Value = Have> {
    (any_entry(), 0..3u64, any::<bool>()).prop_map(|(entry, inode, racy)| {
        let fingerprint = (entry.is_live() && inode > 0).then(|| super::fingerprint(inode));
        Have { entry, fingerprint, racy }
    })
}

fn any_want() -> impl Strategy<Value = Want> {
    (any_entry(), any::<bool>(), vec(select(&PEERS[..]), 1..3)).prop_map(|(entry, declined, sources)| {
        let declined = want(Content::Tombstone, &[], declined).declined;
        Want { entry, sources, declined }
    })
}

fn any_observed() -> impl Strategy<Value = Observed> {
    let file =
        |seed| Observed::File { fingerprint: super::fingerprint(3), content: content(seed), racy: seed % 2 == 0 };
    prop_oneof![Just(Observed::Absent), (0..CONTENTS).prop_map(file)]
}

fn any_change() -> impl Strategy<Value = Change> {
    let any_path = || select(paths());
    let id = || (0..3u64).prop_map(ActionId);
    prop_oneof![
        8 => (any_path(), any_have()).prop_map(|(path, have)| Change::Have { path, have }),
        2 => (any_path(), 0..3u64, any::<bool>()).prop_map(|(path, inode, racy)| {
            Change::Seen { path, fingerprint: super::fingerprint(inode), racy }
        }),
        6 => (any_path(), vec(any_want(), 0..3)).prop_map(|(path, wants)| Change::Wants { path, wants }),
        2 => (any_path(), proptest::option::of(any_observed())).prop_map(|(path, local)| Change::Local { path, local }),
        3 => (0..CONTENTS).prop_map(|seed| Change::Manifest(list(seed))),
        1 => (select(&PEERS[..]), 0..9u64).prop_map(|(peer, sequence)| {
            Change::Cursor { peer, cursor: Cursor { replica: ReplicaId([3; 8]), sequence: Sequence(sequence) } }
        }),
        1 => (0..99u64).prop_map(Change::Counter),
        1 => (id(), any_path(), any_entry(), proptest::option::of(any_have())).prop_map(|(id, path, entry, expected)| {
            let moved_from = expected.clone().map(|have| (path.clone(), have, entry.clone()));
            let inode = Some(id.0);
            Change::Installing(Installing { id, path, entry, expected, moved_from, inode })
        }),
        1 => id().prop_map(Change::Installed),
        1 => (id(), any_path(), any_content()).prop_map(|(id, path, content)| {
            Change::Held(Held { id, path, fingerprint: super::fingerprint(1), content, since: -5 })
        }),
        1 => id().prop_map(Change::Released),
        1 => any_path().prop_map(|path| Change::Lost { path }),
        1 => Just(Change::Scanned),
        1 => select(&PEERS[..]).prop_map(Change::Forget),
    ]
}

/// One commit, whether to reopen after it, and where to look.
fn any_step() -> impl Strategy<Value = (Vec<Change>, bool, RelPath, usize)> {
    (vec(any_change(), 0..12), proptest::bool::weighted(0.2), select(paths()), select(vec![1, 2, 99]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_its_reference(steps in vec(any_step(), 1..10)) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = dir.path().join("db");
        let mut store = open(&at);
        let mut reference = Reference::default();
        for (changes, reopen, path, limit) in steps {
            reference.commit(changes.clone());
            store.commit(changes);
            reference.check(&store, &path, limit);
            if reopen {
                drop(store);
                store = open(&at);
                reference.check(&store, &path, limit);
            }
        }
        let named = reference.named();
        reference.manifests.retain(|hash, _| named.contains(hash));
        store.sweep_manifests();
        reference.check(&store, &path("a"), 99);
    }
}
