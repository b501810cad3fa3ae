//! The digest as it is compared with one peer. A path that both devices ignore is left out by both: neither will take what
//! the other knows of it, so that they would differ for ever, and each knows what the other ignores.

use super::around::all_wanted;
use super::peers::Peer;
use crate::model::{DeviceId, Digest, RelPath};
use crate::sync::local::{DeclineCode, LocalRow, Rows, Want};
use std::collections::BTreeMap;

/// A device that announced nothing.
const NOBODY: DeviceId = DeviceId([0; 32]);

/// What a digest is compared with.
pub(super) struct Compared {
    /// Over live rows: what the peer announced and this device declines counts as held.
    pub digest: Digest,
    /// It may differ from the peer's though nobody is wrong: something is declined here that the peer did not announce.
    pub is_doubtful: bool,
    /// Both ignore something, and may have learnt of it one after the other.
    pub is_partial: bool,
}

/// This device's digest for a peer.
pub(super) fn compared(id: &DeviceId, peer: &Peer, rows: &dyn Rows) -> Compared {
    let left_out = left_out(peer, rows);
    let mut digest = rows.effective_digest(id);
    for (path, row) in &left_out {
        for want in row.declined_from(id) {
            digest.remove(path, &want.entry);
            row.entry().into_iter().for_each(|have| digest.add(path, have));
        }
        row.entry().into_iter().for_each(|have| digest.remove(path, have));
    }
    let is_doubtful = rows.declines_others(id) && (left_out.is_empty() || declines_others(id, &left_out, rows));
    Compared { digest, is_doubtful, is_partial: !left_out.is_empty() }
}

/// Whether an ignore rule keeps this want away.
pub(super) fn is_ignored(want: &Want) -> bool {
    want.declined.as_ref().is_some_and(|decline| decline.code == DeclineCode::Ignored)
}

/// Paths at which both decline something by their ignore rules.
fn left_out(peer: &Peer, rows: &dyn Rows) -> BTreeMap<RelPath, LocalRow> {
    if !rows.declines_others(&NOBODY) {
        return BTreeMap::new();
    }
    let theirs = peer.declined.values().filter(|declined| declined.code == Some(DeclineCode::Ignored));
    let both = theirs.map(|declined| (declined.path.clone(), rows.get(&declined.path)));
    both.filter(|(_, row)| row.wants.iter().any(is_ignored)).collect()
}

/// `Rows::declines_others` but for these paths.
fn declines_others(id: &DeviceId, left_out: &BTreeMap<RelPath, LocalRow>, rows: &dyn Rows) -> bool {
    let is_others = |want: &Want| want.declined.is_some() && !want.sources.contains(id);
    all_wanted(rows).any(|(path, row)| !left_out.contains_key(&path) && row.wants.iter().any(is_others))
}
