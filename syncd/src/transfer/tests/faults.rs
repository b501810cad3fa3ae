//! Sources that lie, change or vanish, and disks that fail.

use super::device::{Device, FOLDER};
use super::{noise, path};
use crate::disk::fs::SimFs;
use crate::net::Session;
use crate::transfer::{Compression, Notice};
use bytes::Bytes;
use protocol::model::{FileContent, Manifest};
use protocol::sync::ProblemCode;
use protocol::wire::data::{BLOCK_ZSTD, BlockWriter};
use protocol::wire::message::{ChunkGet, ManifestPart, Message};

const MIB: usize = 1024 * 1024;

async fn pair() -> (Device, Device) {
    let (a, b) = (Device::new(1), Device::new(2));
    b.connect(2, &a, 1).await;
    (a, b)
}

/// Answers every CHUNK_GET with what `block` makes of it.
fn answers(device: &Device, block: impl Fn(&ChunkGet) -> Vec<u8> + Send + Sync + 'static) {
    device.lie(move |session: Session, req, message| {
        let Message::ChunkGet(get) = message else { return };
        let bytes = Bytes::from(block(&get));
        tokio::spawn(async move {
            let mut sink = session.data_sink(req);
            sink.send(bytes, true).await.expect("it is still wanted");
        });
    });
}

/// Bytes of the right length and the wrong content, for every chunk.
fn wrong(get: &ChunkGet, lens: &[u32]) -> Vec<u8> {
    let mut block = BlockWriter::default();
    for (number, item) in get.items.iter().enumerate() {
        for chunk in 0..u64::from(item.count) {
            let len = lens[usize::try_from(item.first_chunk + chunk).expect("few")] as usize;
            block.chunk(u16::try_from(number).expect("few"), len).fill(0xee);
        }
    }
    block.into_plain()
}

fn lens(content: &FileContent) -> Vec<u32> {
    content.chunks.iter().map(|chunk| chunk.len).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_is_muted_for_that_file_and_named() {
    let (a, mut b) = pair().await;
    let bytes = noise(1, 300_000);
    let content = a.put("file", &bytes);
    assert!(content.chunks.len() > 2);
    let chunks = lens(&content);
    answers(&a, move |get| wrong(get, &chunks));
    b.fetch("file", &content, &[a.id]);
    let problem = b.failed().await;
    assert_eq!(problem.code, ProblemCode::NoSource);
    assert!(problem.words.contains(&a.id.short()) && problem.words.contains("wrong bytes"), "{}", problem.words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_liar_another_source_is_enough() {
    let (a, mut b) = pair().await;
    let c = Device::new(3);
    b.connect(2, &c, 3).await;
    let bytes = noise(2, 400_000);
    let content = a.put("file", &bytes);
    c.put("file", &bytes);
    let chunks = lens(&content);
    answers(&a, move |get| wrong(get, &chunks));
    b.fetch("file", &content, &[a.id, c.id]);
    b.fetched(1).await;
    assert!(b.temp(&content) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_list_that_lies_leaves_nothing_behind() {
    let (a, mut b) = pair().await;
    let content = a.put("file", &noise(3, 3 * MIB));
    // A list of the right shape whose chunks the liar can even serve.
    let other = noise(4, 3 * MIB);
    let list = Manifest::of(&other, None);
    let (hash, size) = (content.hash, content.size);
    a.lie(move |session, req, message| {
        let (list, other) = (list.clone(), other.clone());
        tokio::spawn(async move {
            match message {
                Message::ManifestGet(_) => {
                    let chunks = list.chunks.clone();
                    let part = ManifestPart {
                        content: hash,
                        size,
                        chunking: list.chunking,
                        from_chunk: 0,
                        chunks,
                        last: true,
                    };
                    session.respond(req, Message::Manifest(part)).await.expect("it is still wanted");
                }
                Message::ChunkGet(get) => {
                    let mut sink = session.data_sink(req);
                    let mut offset = usize::try_from(get.items[0].offset).expect("few");
                    let first = usize::try_from(get.items[0].first_chunk).expect("few");
                    for chunk in &list.chunks[first..first + get.items[0].count as usize] {
                        let mut block = BlockWriter::default();
                        let len = chunk.len as usize;
                        block.chunk(0, len).copy_from_slice(&other[offset..offset + len]);
                        offset += len;
                        sink.send(Bytes::from(block.into_plain()), false).await.expect("it is still wanted");
                    }
                    sink.send(Bytes::new(), true).await.expect("it is still wanted");
                }
                _ => {}
            }
        });
    });
    b.fetch("file", &content, &[a.id]);
    let problem = b.failed().await;
    assert_eq!(problem.code, ProblemCode::NoSource, "{problem:?}");
    assert!(!b.root().join(".syncd/tmp").join(content.hash.to_hex()).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_is_not_inflated() {
    let (a, mut b) = pair().await;
    let content = a.put("file", &noise(5, 100_000));
    answers(&a, |_| {
        // Announced as less than what it inflates to.
        let bomb = zstd::bulk::compress(&vec![0; 64 * MIB], 1).expect("room");
        let mut block = vec![BLOCK_ZSTD];
        block.extend_from_slice(&100_007u32.to_le_bytes());
        block.extend_from_slice(&u32::try_from(bomb.len()).expect("small").to_le_bytes());
        block.extend_from_slice(&bomb);
        block
    });
    b.fetch("file", &content, &[a.id]);
    assert_eq!(b.failed().await.code, ProblemCode::NoSource);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_was_asked_for_is_refused() {
    let (a, mut b) = pair().await;
    let content = a.put("file", &noise(6, 1000));
    answers(&a, |_| {
        let mut block = BlockWriter::default();
        block.chunk(0, 1000).fill(1);
        block.chunk(0, 1000).fill(1);
        block.into_plain()
    });
    b.fetch("file", &content, &[a.id]);
    assert_eq!(b.failed().await.code, ProblemCode::NoSource);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changed_is_not_sent() {
    for len in [5000, 3 * MIB] {
        let (mut a, mut b) = pair().await;
        let content = a.put("file", &noise(7, len));
        std::fs::write(a.root().join("file"), noise(8, len)).expect("room");
        b.fetch("file", &content, &[a.id]);
        let problem = b.failed().await;
        assert_eq!(problem.code, ProblemCode::NoSource);
        assert!(problem.words.contains("no longer has it"), "{}", problem.words);
        assert!(matches!(a.notice().await, Notice::Look { path: at } if at == path("file")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_the_index_is_not_served() {
    let (a, mut b) = pair().await;
    let content = a.put("shown", &noise(9, 1000));
    let secret = Manifest::of(b"secret", None).to_content();
    std::fs::write(a.root().join("hidden"), b"secret").expect("room");
    std::os::unix::fs::symlink("/etc/passwd", a.root().join("link")).expect("a link");
    for (at, wanted) in [("hidden", &secret), ("shown", &secret), ("link", &secret), ("elsewhere", &content)] {
        b.fetch_from("here", at, wanted, &[a.id]);
        assert_eq!(b.failed().await.code, ProblemCode::NoSource, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_nothing_else_stops() {
    let a = Device::new(1);
    let fs = SimFs::new();
    let mut b = Device::on(2, fs.clone(), Compression::Auto);
    b.connect(2, &a, 1).await;
    let (large, small) = (a.put("large", &noise(10, 5 * MIB)), a.put("small", &noise(11, 1000)));
    fs.set_capacity(Some(2 * MIB as u64));
    b.fetch("large", &large, &[a.id]);
    let problem = b.failed().await;
    assert_eq!(problem.code, ProblemCode::NoSpace, "{problem:?}");
    fs.set_capacity(None);
    b.fetch("small", &small, &[a.id]);
    b.fetch("large", &large, &[a.id]);
    b.fetched(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_fetch_says_nothing() {
    let (a, mut b) = pair().await;
    let (large, small) = (a.put("large", &noise(12, 20 * MIB)), a.put("small", &noise(13, 1000)));
    b.fetch("large", &large, &[a.id]);
    b.transfer.cancel(FOLDER, path("large"));
    b.fetch("small", &small, &[a.id]);
    assert!(matches!(b.notice().await, Notice::Fetched { path: at, .. } if at == path("small")));
    assert_eq!(b.transfer.progress(FOLDER).contents, 0);
}

/// Nothing of an earlier fetch reaches the temp of a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_is_cancelled_and_wanted_again_is_whole() {
    let (a, mut b) = pair().await;
    let bytes = noise(16, 64 * MIB);
    let content = a.put("large", &bytes);
    for at in 1..=2 {
        b.fetch_from(&format!("place {at}"), "large", &content, &[a.id]);
        let enough = b.received() + 4 * MIB as u64;
        while b.received() < enough {
            tokio::task::yield_now().await;
        }
        b.transfer.cancel(FOLDER, path(&format!("place {at}")));
    }
    b.fetch("large", &content, &[a.id]);
    assert!(matches!(b.notice().await, Notice::Fetched { path: at, .. } if at == path("large")));
    assert!(b.temp(&content) == bytes);
    // A fetch that goes through the same threads: nothing is left of the others.
    let small = a.put("small", &noise(17, MIB));
    b.fetch("small", &small, &[a.id]);
    b.fetched(1).await;
    assert!(b.temp(&content) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_anyone_connected_it_fails_at_once() {
    let mut b = Device::new(2);
    let content = Manifest::of(&noise(14, 5 * MIB), None).to_content();
    b.fetch("file", &content, &[super::device::device_id(9)]);
    assert_eq!(b.failed().await.code, ProblemCode::NoSource);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_source_takes_over_when_the_first_vanishes() {
    let (a, mut b) = pair().await;
    let c = Device::new(3);
    b.connect(2, &c, 3).await;
    let bytes = noise(15, 24 * MIB);
    let content = a.put("file", &bytes);
    c.put("file", &bytes);
    a.serve_only(3);
    b.fetch("file", &content, &[a.id, c.id]);
    b.fetched(1).await;
    assert!(b.temp(&content) == bytes);
}
