//! What the tests of this layer share: a folder with its database, entries and actions from few words.

use super::fs::{Fs, SimFs};
use super::look::content_at;
use super::sim_journal::MemJournal;
use super::stage::Stage;
use protocol::model::{Content, Entry, Event, Manifest, Mode, Mtime, RelPath, ReplicaId, Version};
use protocol::sync::{Action, ActionId, Change, Have, Journal, Outcome, Rows, Step};
use std::sync::Arc;

pub(super) const HERE: ReplicaId = ReplicaId([1; 8]);
pub(super) const THERE: ReplicaId = ReplicaId([2; 8]);
/// Wall clock of the tests, as the simulated volume starts.
pub(super) const NOW: i64 = 1_700_000_100;
/// mtime of everything that comes from the peer.
pub(super) const REMOTE_MTIME: Mtime = Mtime { secs: 1_600_000_000, nanos: 123_456_789 };

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a test's path is valid")
}

/// A folder under test.
#[derive(Clone)]
pub(super) struct World<F: Fs> {
    pub fs: Arc<F>,
    pub journal: MemJournal,
}

impl World<SimFs> {
    pub fn simulated() -> Self {
        Self::new(SimFs::new())
    }

    /// A copy that goes its own way.
    pub fn fork(&self) -> Self {
        Self { fs: Arc::new(self.fs.fork()), journal: self.journal.fork() }
    }
}

impl<F: Fs> World<F> {
    pub fn new(fs: F) -> Self {
        fs.prepare_private().expect("a fresh volume");
        Self { fs: Arc::new(fs), journal: MemJournal::new(HERE) }
    }

    /// What a scan of one path records.
    pub fn scan(&self, at: &str) {
        let at = path(at);
        let dir = self.fs.open_dir(at.parent().as_ref()).expect("its directory exists");
        let (found, content) = content_at(&*self.fs, &dir, at.name()).expect("it exists");
        let counter = self.journal.state().counter + 1;
        let version = Version::of(Event { replica: HERE, counter });
        let is_link = matches!(content, Content::Symlink(_));
        let mtime = if content.is_directory() { Mtime::default() } else { found.mtime };
        let mode = if is_link { Mode::new(0) } else { found.mode };
        let entry = Entry { mode, mtime, ..entry(content, version) };
        let have = Have { entry, fingerprint: Some(found), racy: false };
        self.journal.commit(vec![Change::Counter(counter), Change::Have { path: at, have }]);
    }

    pub fn stage(&self, bytes: &[u8]) -> Content {
        let content = Manifest::of(bytes, None).to_content();
        let stage = Stage::new(Arc::clone(&self.fs)).expect("the private directory exists");
        let temp = stage.open(&content).expect("a temp");
        temp.write_at(bytes, 0).expect("room");
        stage.finish(&temp).expect("the bytes are the content");
        Content::File(content)
    }

    pub fn have(&self, at: &str) -> Have {
        self.journal.get(&path(at)).have.expect("it was scanned")
    }

    /// An action of the peer's on whatever is recorded at the path now.
    pub fn action(&self, id: u64, at: &str, content: Content, step: Step) -> Action {
        let expected = self.journal.get(&path(at)).have;
        let base = expected.as_ref().map(|have| have.entry.version.clone()).unwrap_or_default();
        let entry = entry(content, base.bumped(Event { replica: THERE, counter: id }));
        Action { id: ActionId(id), path: path(at), expected, entry, step }
    }

    pub fn install(&self, id: u64, at: &str, bytes: &[u8]) -> Action {
        self.action(id, at, self.stage(bytes), Step::InstallFile)
    }

    pub fn link(&self, id: u64, at: &str, target: &[u8]) -> Action {
        self.action(id, at, Content::Symlink(target.to_vec()), Step::InstallSymlink)
    }

    pub fn mkdir(&self, id: u64, at: &str) -> Action {
        self.action(id, at, Content::Directory, Step::MakeDirectory)
    }

    pub fn remove(&self, id: u64, at: &str) -> Action {
        self.action(id, at, Content::Tombstone, Step::Remove)
    }

    pub fn chmod(&self, id: u64, at: &str, mode: u32) -> Action {
        let content = self.have(at).entry.content;
        let mut action = self.action(id, at, content, Step::SetMetadata);
        action.entry.mode = Mode::new(mode);
        action
    }

    pub fn rename(&self, id: u64, from: &str, to: &str) -> Action {
        let from_have = self.have(from);
        let content = from_have.entry.content.clone();
        let event = Event { replica: THERE, counter: id };
        let tombstone = entry(Content::Tombstone, from_have.entry.version.bumped(event));
        self.action(id, to, content, Step::MoveFrom { from: path(from), from_have, tombstone })
    }

    pub fn commit(&self, actions: &[Action]) -> Vec<Outcome> {
        super::commit(&*self.fs, &self.journal, actions, 0, NOW).expect("the simulated disk syncs")
    }
}

/// A live file is 0640 and everything else as its kind has it.
pub(super) fn entry(content: Content, version: Version) -> Entry {
    let (mode, mtime) = match &content {
        Content::File(_) => (0o640, REMOTE_MTIME),
        Content::Directory => (0o750, Mtime::default()),
        Content::Symlink(_) => (0, REMOTE_MTIME),
        Content::Tombstone => (0, Mtime::default()),
    };
    Entry {
        content_at: version.clone(),
        mode_at: version.clone(),
        version,
        content,
        mode: Mode::new(mode),
        mtime,
        ancestors: Vec::new(),
        found: false,
    }
}
