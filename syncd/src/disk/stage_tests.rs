//! Temps and the marker, on the simulated file system and, for holes, on a real one.

use super::fs::{Area, Errno, Fs, RealFs, SimFs, errno};
use super::marker::{Marker, MarkerCheck};
use super::stage::{FinishError, Stage};
use super::testing::path;
use protocol::model::{FolderId, Manifest};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

const BYTES: &[u8] = b"ten bytes!";

fn stage() -> (Arc<SimFs>, Stage<SimFs>) {
    let fs = Arc::new(SimFs::new());
    fs.prepare_private().unwrap();
    (Arc::clone(&fs), Stage::new(fs).unwrap())
}

fn temps(fs: &SimFs) -> Vec<String> {
    fs.private_tree().into_keys().filter(|at| at.starts_with("tmp/")).collect()
}

#[test]
fn a_temp_is_named_by_its_content_and_resumed() {
    let (fs, stage) = stage();
    let content = Manifest::of(BYTES, None).to_content();
    let temp = stage.open(&content).unwrap();
    temp.write_at(&BYTES[..4], 0).unwrap();
    drop(temp);
    assert_eq!(temps(&fs), [format!("tmp/{}", content.hash.to_hex())]);
    assert!(fs.tree().is_empty(), "nothing shows in the tree");

    let temp = stage.open(&content).unwrap();
    assert_eq!(temp.len_left().unwrap(), 4);
    let mut left = [0; 10];
    assert_eq!(temp.read_at(&mut left, 0).unwrap(), 4);
    assert_eq!(left[..4], BYTES[..4]);
    temp.write_at(&BYTES[4..], 4).unwrap();
    stage.finish(&temp).unwrap();
}

#[test]
fn wrong_bytes_never_finish() {
    let (fs, stage) = stage();
    let content = Manifest::of(BYTES, None).to_content();
    let temp = stage.open(&content).unwrap();
    temp.write_at(b"ten bytes?", 0).unwrap();
    assert!(matches!(stage.finish(&temp), Err(FinishError::WrongContent)));
    assert!(temps(&fs).is_empty());
    let past_the_end = stage.open(&content).unwrap().write_at(b"x", 10);
    assert_eq!(past_the_end.map_err(|error| errno(&error)), Err(Errno::FBIG));
}

#[test]
fn local_bytes_are_copied_to_any_offset() {
    let (fs, stage) = stage();
    fs.user_write(&path("a"), b"bytes!ten ").unwrap();
    let source = fs.open(&fs.open_dir(None).unwrap(), b"a").unwrap();
    let temp = stage.open(&Manifest::of(BYTES, None).to_content()).unwrap();
    assert_eq!(temp.copy_from(&source, 6, 0, 4).unwrap(), 4);
    assert_eq!(temp.copy_from(&source, 0, 4, 6).unwrap(), 6);
    assert_eq!(temp.copy_from(&source, 10, 0, 5).unwrap(), 0, "past the source's end");
    stage.finish(&temp).unwrap();
}

#[test]
fn only_old_temps_are_swept() {
    let (fs, stage) = stage();
    let week = 7 * 86_400;
    stage.open(&Manifest::of(b"old", None).to_content()).unwrap();
    fs.advance(Duration::from_secs(100));
    stage.open(&Manifest::of(b"young", None).to_content()).unwrap();
    let now = fs.now().secs;
    assert_eq!(stage.sweep(now + week - 101).unwrap(), 0);
    assert_eq!(stage.sweep(now + week - 50).unwrap(), 1);
    assert_eq!(temps(&fs).len(), 1);
    assert_eq!(stage.sweep(now + week + 1).unwrap(), 1);
}

#[test]
fn runs_of_zeros_are_holes() {
    let dir = tempfile::tempdir().unwrap();
    let fs = Arc::new(RealFs::open(dir.path()).unwrap());
    fs.prepare_private().unwrap();
    let stage = Stage::new(Arc::clone(&fs)).unwrap();
    let mut bytes = vec![0; 4 << 20];
    bytes[3 << 20] = 1;
    let content = Manifest::of(&bytes, None).to_content();
    let temp = stage.open(&content).unwrap();
    // Something else stands where zeros belong: those are written.
    temp.write_at(&[7; 4096], 64 * 1024).unwrap();
    temp.write_at(&bytes, 0).unwrap();
    stage.finish(&temp).unwrap();
    let meta = std::fs::metadata(dir.path().join(".syncd/tmp").join(content.hash.to_hex())).unwrap();
    assert_eq!(meta.len(), bytes.len() as u64);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
}

#[test]
fn a_marker_is_ours_missing_or_foreign() {
    let fs = SimFs::new();
    let ours = Marker { folder: FolderId([1; 16]), nonce: [2; 16] };
    assert_eq!(ours.check(&fs).unwrap(), MarkerCheck::Missing);
    ours.create(&fs).unwrap();
    assert_eq!(ours.check(&fs).unwrap(), MarkerCheck::Ok);
    for other in [Marker { nonce: [3; 16], ..ours }, Marker { folder: FolderId([3; 16]), ..ours }] {
        assert_eq!(other.check(&fs).unwrap(), MarkerCheck::Foreign);
        assert_eq!(other.create(&fs).map_err(|error| errno(&error)), Err(Errno::EXIST));
        other.remove(&fs).unwrap();
        assert_eq!(ours.check(&fs).unwrap(), MarkerCheck::Ok, "only its own is removed");
    }
    ours.remove(&fs).unwrap();
    assert_eq!(ours.check(&fs).unwrap(), MarkerCheck::Missing);
    let base = fs.private(Area::Base).unwrap();
    fs.write_at(&fs.create(&base, b"marker").unwrap(), b"garbage", 0).unwrap();
    assert_eq!(ours.check(&fs).unwrap(), MarkerCheck::Foreign);
}

#[test]
fn a_marker_survives_a_power_cut() {
    let fs = SimFs::new();
    let marker = Marker { folder: FolderId([1; 16]), nonce: [2; 16] };
    marker.create(&fs).unwrap();
    fs.power_cut(|_| 0);
    assert_eq!(marker.check(&fs).unwrap(), MarkerCheck::Ok);
}
