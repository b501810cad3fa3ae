//! A device's index of a folder: rows by sequence number, and the digest that two devices compare.

use super::{ContentHash, Entry, RelPath};
use serde::{Deserialize, Serialize};

/// Position in one replica's index: every recorded change of a `have` takes the next. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Wrapping 256-bit sum of BLAKE3(row) over live rows: order does not matter, and a row can be taken out again.
/// Four little-endian limbs, least significant first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest([u64; 4]);

impl Digest {
    /// Adds a live row; tombstones do not count.
    pub fn add(&mut self, path: &RelPath, entry: &Entry) {
        if let Some(term) = term(path, entry) {
            *self = self.plus(&Self(term));
        }
    }

    /// Takes a row out that was added before.
    pub fn remove(&mut self, path: &RelPath, entry: &Entry) {
        if let Some(term) = term(path, entry) {
            let mut borrow = false;
            for (limb, part) in self.0.iter_mut().zip(term) {
                let (rest, under_a) = limb.overflowing_sub(part);
                let (rest, under_b) = rest.overflowing_sub(u64::from(borrow));
                *limb = rest;
                borrow = under_a || under_b;
            }
        }
    }

    /// The sum of both, wrapping at 256 bits.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        let mut carry = false;
        for (limb, part) in self.0.iter_mut().zip(other.0) {
            let (sum, over_a) = limb.overflowing_add(part);
            let (sum, over_b) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = over_a || over_b;
        }
        self
    }
}

/// What a row adds: everything two devices must agree on, and nothing that is local (ancestors, chunking).
fn term(path: &RelPath, entry: &Entry) -> Option<[u64; 4]> {
    if !entry.is_live() {
        return None;
    }
    let (kind, hash): (u8, ContentHash) = entry.content.identity();
    let row = (path, kind, hash, &entry.version, &entry.content_at, &entry.mode_at, entry.mode, entry.mtime);
    let bytes = postcard::to_stdvec(&row).expect("plain values of bounded size always encode");
    let hash = blake3::hash(&bytes);
    let mut limbs = [0; 4];
    for (limb, part) in limbs.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
        *limb = u64::from_le_bytes(part.try_into().expect("a chunk of exactly eight bytes"));
    }
    Some(limbs)
}
