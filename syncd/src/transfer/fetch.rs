//! One content on its way: who may be asked for it, and which of its chunks nobody was asked for yet.

use super::Folder;
use super::layout::{Layout, Missing, Portion, Run};
use crate::disk::fs::Fs;
use protocol::model::{DeviceId, FileContent, RelPath};
use protocol::sync::{Problem, ProblemCode};
use protocol::wire::message::ChunkItem;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Lies, or answers without an answer, after which a device is not asked for this content again.
const FAULTS_MAX: u8 = 3;

pub(super) struct Fetch<F: Fs> {
    pub folder: Arc<Folder<F>>,
    pub content: Arc<FileContent>,
    /// Paths that need it; the first one came first only by name.
    pub paths: BTreeSet<RelPath>,
    /// Where the sources have it.
    pub origin: RelPath,
    pub worker: usize,
    pub state: State,
    pub sources: Sources,
    /// It stands in its worker's queue.
    pub queued: bool,
    /// Requests under way that ask for its chunks, and whom.
    pub open: BTreeMap<u64, DeviceId>,
    /// Those that ask for nothing else.
    pub alone: BTreeSet<u64>,
    /// Who was asked for the chunk list, and who gave it.
    pub asked: Option<DeviceId>,
    pub list_from: Option<DeviceId>,
    missing_len: u64,
}

pub(super) enum State {
    /// A worker looks for it on this device, or writes the last of it.
    Searching,
    /// Its chunk list has to come from a peer.
    Listless {
        asked: bool,
    },
    Chunks {
        layout: Arc<Layout>,
        missing: Missing,
    },
}

/// The devices that announced a content.
#[derive(Default)]
pub(super) struct Sources(BTreeMap<DeviceId, Source>);

#[derive(Default)]
struct Source {
    lies: u8,
    strikes: u8,
    gone: bool,
    /// It was silent: others first.
    slow: bool,
    /// Where it goes on in the file.
    at: Option<u32>,
    /// It is still fetching and has only these chunks, first to end; `None`: it has all.
    has: Option<Vec<(u32, u32)>>,
}

impl Source {
    fn may_ask(&self) -> bool {
        !self.gone && self.lies < FAULTS_MAX && self.strikes < FAULTS_MAX
    }

    fn fault(&self) -> Option<String> {
        match self {
            Self { lies: FAULTS_MAX.., .. } => Some(format!("sent wrong bytes {} times", self.lies)),
            Self { gone: true, .. } => Some("no longer has it".to_owned()),
            Self { strikes: FAULTS_MAX.., .. } => Some("does not answer".to_owned()),
            _ => None,
        }
    }
}

impl Sources {
    /// Whether a device has all of it and is believed.
    pub fn may_ask(&self, device: &DeviceId) -> bool {
        self.0.get(device).is_some_and(|source| source.may_ask() && source.has.is_none())
    }
}

impl<F: Fs> Fetch<F> {
    pub fn new(
        folder: Arc<Folder<F>>,
        content: Arc<FileContent>,
        path: RelPath,
        origin: RelPath,
        sources: &[DeviceId],
        worker: usize,
    ) -> Self {
        let mut fetch = Self {
            folder,
            content,
            paths: BTreeSet::new(),
            origin,
            worker,
            state: State::Searching,
            sources: Sources::default(),
            queued: false,
            open: BTreeMap::new(),
            alone: BTreeSet::new(),
            asked: None,
            list_from: None,
            missing_len: 0,
        };
        fetch.add(path, sources);
        fetch
    }

    /// Another path, or more sources, for the same content.
    pub fn add(&mut self, path: RelPath, sources: &[DeviceId]) {
        self.paths.insert(path);
        for device in sources {
            let source = self.sources.0.entry(*device).or_default();
            (source.has, source.gone) = (None, false);
        }
    }

    /// A device that is fetching it too has some of its chunks.
    pub fn offer(&mut self, device: DeviceId, ranges: &[(u64, u64)]) {
        let small =
            |(first, count): &(u64, u64)| Some((u32::try_from(*first).ok()?, u32::try_from(first + count).ok()?));
        let ranges: Vec<_> = ranges.iter().filter_map(small).collect();
        let source =
            self.sources.0.entry(device).or_insert_with(|| Source { has: Some(Vec::new()), ..Source::default() });
        if let Some(has) = &mut source.has {
            *has = ranges;
            source.gone = false;
        }
    }

    /// Whether it needs something that no request is under way for.
    pub fn lacks(&self) -> bool {
        matches!(self.state, State::Listless { asked: false }) || self.has_missing()
    }

    pub fn has_missing(&self) -> bool {
        matches!(&self.state, State::Chunks { missing, .. } if !missing.is_empty())
    }

    /// Bytes that nobody was asked for.
    pub fn missing_len(&self) -> u64 {
        self.missing_len
    }

    pub fn set_missing(&mut self, layout: Arc<Layout>, missing: Missing) {
        self.missing_len = missing.len(&layout);
        self.state = State::Chunks { layout, missing };
    }

    /// Whether a device may be asked and has something that is lacking.
    pub fn can_help(&self, device: &DeviceId) -> bool {
        let Some(source) = self.sources.0.get(device).filter(|source| source.may_ask()) else { return false };
        match (&source.has, &self.state) {
            (None, _) => true,
            (Some(has), State::Chunks { missing, .. }) => {
                has.iter().any(|(first, end)| missing.stretch_within(*first, *end).is_some())
            }
            (Some(_), _) => false,
        }
    }

    /// Whether to ask this device now: one whose bytes are dear or a silent one only when none of `connected` (with
    /// whether its bytes are dear) would be better.
    pub fn should_ask(&self, device: &DeviceId, dear: bool, connected: &[(DeviceId, bool)]) -> bool {
        let cost = |device: &DeviceId, dear: bool| {
            self.sources.0.get(device).filter(|_| self.can_help(device)).map(|source| (source.slow, dear))
        };
        let Some(own) = cost(device, dear) else { return false };
        own == (false, false) || connected.iter().all(|(other, dear)| cost(other, *dear).is_none_or(|cost| cost >= own))
    }

    /// Takes the next run for a device; each device begins away from the others.
    pub fn take(&mut self, device: DeviceId, portion: Portion) -> Option<Run> {
        let State::Chunks { layout, missing } = &mut self.state else { return None };
        let others_began = self.sources.0.iter().any(|(other, source)| *other != device && source.at.is_some());
        let source = self.sources.0.get_mut(&device)?;
        let from = source.at.unwrap_or_else(|| if others_began { missing.middle() } else { 0 });
        let stretch = match &source.has {
            None => missing.stretch(from).or_else(|| missing.stretch(0)),
            Some(ranges) => ranges.iter().find_map(|(first, end)| missing.stretch_within(*first, *end)),
        };
        let run = missing.take(stretch?, layout, portion)?;
        source.at = Some(run.first + run.count);
        self.missing_len -= u64::from(run.len);
        Some(run)
    }

    /// Chunks that were asked for in vain.
    pub fn put_back(&mut self, first: u32, count: u32) {
        let State::Chunks { layout, missing } = &mut self.state else { return };
        if count > 0 {
            missing.insert(first, count);
            self.missing_len += u64::from(layout.run(first, count).len);
        }
    }

    /// A run that is not asked for now after all; the device goes on with it, so that the file comes in its order.
    pub fn untake(&mut self, device: DeviceId, run: Run) {
        self.put_back(run.first, run.count);
        if let Some(source) = self.sources.0.get_mut(&device) {
            source.at = Some(run.first);
        }
    }

    pub fn item(&self, run: Run) -> ChunkItem {
        ChunkItem {
            path: self.origin.clone(),
            content: self.content.hash,
            first_chunk: u64::from(run.first),
            count: run.count,
            offset: run.offset,
            len: run.len,
        }
    }

    /// It does not have the content any more.
    pub fn gone(&mut self, device: DeviceId) {
        self.blame(device, |source| source.gone = true);
    }

    /// It gave a chunk that was another's.
    pub fn lied(&mut self, device: DeviceId) {
        self.blame(device, |source| source.lies = source.lies.saturating_add(1));
    }

    /// It answered without an answer.
    pub fn strike(&mut self, device: DeviceId) {
        self.blame(device, |source| source.strikes = source.strikes.saturating_add(1));
    }

    /// It is not believed any more.
    pub fn mute(&mut self, device: DeviceId) {
        self.blame(device, |source| source.lies = source.lies.max(FAULTS_MAX));
    }

    /// It is silent.
    pub fn slow(&mut self, device: DeviceId) {
        self.blame(device, |source| source.slow = true);
    }

    fn blame(&mut self, device: DeviceId, how: impl FnOnce(&mut Source)) {
        if let Some(source) = self.sources.0.get_mut(&device) {
            how(source);
        }
    }

    /// Why nobody can be asked.
    pub fn no_source(&self) -> Problem {
        let mut words = "no connected device can serve it".to_owned();
        for (device, source) in &self.sources.0 {
            if let Some(fault) = source.fault() {
                words.push_str(&format!("; {} {fault}", device.short()));
            }
        }
        Problem { code: ProblemCode::NoSource, words }
    }
}
