//! The arithmetic of chunk lists.

use super::noise;
use crate::transfer::layout::{ChunkIndex, Layout, Missing, Portion, Run, chunk_count_max, is_zeros};
use protocol::model::{Chunking, Manifest};
use std::sync::Arc;

fn layout(bytes: &[u8]) -> Layout {
    Layout::new(Arc::new(Manifest::of(bytes, None)))
}

#[test]
fn stretches_join_and_split() {
    let layout = layout(&noise(1, 4 * 1024 * 1024));
    let mut missing = Missing::default();
    for (first, count) in [(0, 3), (5, 2), (3, 2), (20, 4), (10, 0)] {
        missing.insert(first, count);
    }
    assert_eq!(missing.stretch(0), Some((0, 7)));
    assert_eq!(missing.stretch(4), Some((4, 7)));
    assert_eq!(missing.stretch(8), Some((20, 24)));
    assert_eq!(missing.stretch_within(7, 20), None);
    assert_eq!(missing.stretch_within(6, 22), Some((6, 7)));
    let one = u64::from(layout.chunk(2).len);
    let run = missing.take((2, 7), &layout, Portion { first: one, all: one }).expect("one chunk fits");
    assert_eq!(run, Run { first: 2, count: 1, offset: layout.offset(2), len: layout.chunk(2).len });
    assert_eq!((missing.stretch(0), missing.stretch(2)), (Some((0, 2)), Some((3, 7))));
    assert_eq!(missing.take((0, 2), &layout, Portion { first: 1, all: one }), None);
    missing.insert(2, 1);
    let run = missing.take((2, 7), &layout, Portion { first: one, all: 1 }).expect("the first chunk fits");
    assert_eq!((run.first, run.count), (2, 1));
    missing.insert(2, 1);
    assert_eq!(missing.stretch(0), Some((0, 7)));
    assert_eq!(missing.middle(), 3);
}

#[test]
fn hashes_are_found_where_they_first_occur() {
    let part = noise(2, 1024 * 1024);
    let layout = layout(&[&part[..], &part].concat());
    let index = ChunkIndex::new(&layout);
    for number in 0..layout.len() {
        let found = index.find(&layout, layout.chunk(number)).expect("its own chunks are there");
        assert!(found <= number && layout.chunk(found) == layout.chunk(number));
    }
    let other = self::layout(&noise(3, 1024 * 1024));
    assert_eq!(index.find(&layout, other.chunk(0)), None);
}

#[test]
fn zeros_are_known_without_bytes() {
    let zeros = Manifest::of(&vec![0; 4 * 1024 * 1024], None);
    assert!(zeros.chunks[..zeros.chunks.len() - 1].iter().all(|chunk| is_zeros(*chunk, zeros.chunking)));
    let noise = Manifest::of(&noise(4, 4 * 1024 * 1024), None);
    assert!(!noise.chunks.iter().any(|chunk| is_zeros(*chunk, noise.chunking)));
}

#[test]
fn honest_lists_are_within_the_bound() {
    for bytes in [noise(5, 300_000), noise(6, 10_000_000), vec![0; 10_000_000]] {
        let manifest = Manifest::of(&bytes, None);
        assert!(manifest.chunks.len() as u64 <= chunk_count_max(manifest.size, manifest.chunking));
    }
    assert_eq!(chunk_count_max(100, Chunking::Whole), 1);
}
