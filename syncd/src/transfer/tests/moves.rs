//! What moves between two devices, and how many bytes that takes.

use super::device::{Device, FOLDER};
use super::noise;
use crate::disk::fs::RealFs;
use crate::transfer::{Compression, Notice};
use protocol::limits::REQUEST_BYTES_OPEN_MAX;
use protocol::model::Manifest;
use protocol::sync::Journal;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

const MIB: usize = 1024 * 1024;

async fn pair() -> (Device, Device) {
    let (a, b) = (Device::new(1), Device::new(2));
    b.connect(2, &a, 1).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_arrives_with_its_chunk_list() {
    let (a, mut b) = pair().await;
    let bytes = noise(1, 40 * MIB + 12_345);
    let content = a.put("large", &bytes);
    b.fetch("large", &content, &[a.id]);
    let Notice::Fetched { manifest: Some(manifest), .. } = b.notice().await else { panic!("with its list") };
    assert_eq!(*manifest, Manifest::of(&bytes, None));
    assert!(b.temp(&content) == bytes);
    let moved = b.received();
    assert!(moved < bytes.len() as u64 + 64 * 1024, "{moved} bytes");
    assert_eq!(b.transfer.progress(FOLDER).contents, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_share_requests() {
    let (a, mut b) = pair().await;
    let files: Vec<_> = (0..2000).map(|n| (format!("dir{}/file{n}", n % 20), noise(n, 100 + n as usize * 3))).collect();
    let contents = a.put_all(files.clone());
    for ((at, _), content) in files.iter().zip(&contents) {
        b.fetch(at, content, &[a.id]);
    }
    b.fetched(2000).await;
    for ((at, bytes), content) in files.iter().zip(&contents) {
        assert!(b.temp(content) == *bytes, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_small_files_than_a_link_may_owe() {
    let (a, mut b) = pair().await;
    // 30 MB in files that do not divide the window evenly: it once was overdrawn by the last request.
    let files: Vec<_> = (0..300).map(|n| (format!("file{n}"), noise(n, 100_000 + 37 * n as usize))).collect();
    let contents = a.put_all(files.clone());
    for ((at, _), content) in files.iter().zip(&contents) {
        b.fetch(at, content, &[a.id]);
    }
    b.fetched(300).await;
    assert!(files.iter().zip(&contents).all(|((_, bytes), content)| b.temp(content) == *bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_compressed_and_only_where_it_is_allowed() {
    let text: String = (0..200_000).map(|n| format!("line {n} of a text that is much alike\n")).collect();
    for (compression, most) in [(Compression::Auto, text.len() as u64 / 3), (Compression::Never, u64::MAX)] {
        let root = tempfile::tempdir().expect("a temporary directory");
        let a = Device::on(1, RealFs::open(root.path()).expect("a root"), compression);
        let mut b = Device::new(2);
        b.connect(2, &a, 1).await;
        std::fs::write(root.path().join("text"), &text).expect("room");
        let content = a.record("text", Manifest::of(text.as_bytes(), None));
        b.fetch("text", &content, &[a.id]);
        b.fetched(1).await;
        assert!(b.temp(&content) == text.as_bytes());
        let moved = b.received();
        let least = if compression == Compression::Never { text.len() as u64 } else { 0 };
        assert!((least..most).contains(&moved), "{compression:?}: {moved} of {} bytes", text.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_at_the_front_moves_a_few_chunks() {
    let (a, mut b) = pair().await;
    let old = noise(2, 24 * MIB);
    let new = [noise(3, 1024), old.clone()].concat();
    b.put("file", &old);
    let content = a.put("file", &new);
    b.fetch("file", &content, &[a.id]);
    b.fetched(1).await;
    assert!(b.temp(&content) == new);
    assert!(b.received() < 512 * 1024, "{} bytes", b.received());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_does_not_move() {
    let mut b = Device::new(2);
    for (at, bytes) in [("small", noise(4, 5000)), ("medium", noise(5, 3 * MIB)), ("large", noise(6, 20 * MIB))] {
        let content = b.put(at, &bytes);
        b.fetch(&format!("{at}-copy"), &content, &[]);
        b.fetched(1).await;
        assert!(b.temp(&content) == bytes, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_contents_move_once() {
    let (a, mut b) = pair().await;
    let bytes = noise(7, 2 * MIB);
    let content = a.put("one", &bytes);
    a.put("two", &bytes);
    b.fetch("one", &content, &[a.id]);
    b.fetch("two", &content, &[a.id]);
    b.fetched(2).await;
    assert!(b.received() < 3 * MIB as u64, "{} bytes", b.received());
    // Within one file: the same eight megabytes three times over.
    let part = noise(8, 8 * MIB);
    let content = a.put("thrice", &[&part[..], &part, &part].concat());
    let before = b.received();
    b.fetch("thrice", &content, &[a.id]);
    b.fetched(1).await;
    assert!(b.temp(&content) == [&part[..], &part, &part].concat());
    assert!(b.received() - before < 10 * MIB as u64, "{} bytes", b.received() - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_file_needs_nobody() {
    let mut b = Device::new(2);
    let content = Manifest::of(&[], None).to_content();
    b.fetch("empty", &content, &[]);
    b.fetched(1).await;
    assert!(b.temp(&content).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sparse_stays_sparse_and_zeros_do_not_move() {
    let (a, mut b) = pair().await;
    let mut bytes = vec![0; 48 * MIB];
    bytes[20 * MIB..21 * MIB].copy_from_slice(&noise(9, MIB));
    let content = a.put("sparse", &bytes);
    b.fetch("sparse", &content, &[a.id]);
    b.fetched(1).await;
    assert!(b.temp(&content) == bytes);
    let temp = std::fs::metadata(b.root().join(".syncd/tmp").join(content.hash.to_hex())).expect("a temp");
    assert!(temp.blocks() * 512 < 2 * MIB as u64, "{} blocks", temp.blocks());
    assert!(b.received() < 2 * MIB as u64, "{} bytes", b.received());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_in_the_middle_loses_little() {
    let (a, mut b) = pair().await;
    let bytes = noise(10, 40 * MIB);
    let content = a.put("large", &bytes);
    // The chunk list and six of ten requests.
    a.serve_only(7);
    b.fetch("large", &content, &[a.id]);
    let problem = b.failed().await;
    assert_eq!(problem.code, protocol::sync::ProblemCode::NoSource, "{problem:?}");
    let first = b.received();
    assert!(first > 4 * MIB as u64, "{first} bytes before the cut");
    a.resume(&b).await;
    b.fetch("large", &content, &[a.id]);
    b.fetched(1).await;
    assert!(b.temp(&content) == bytes);
    // A block that was cut in the middle is asked for again.
    assert!(b.received() < bytes.len() as u64 + 4 * MIB as u64, "{} bytes in all", b.received());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sources_share_the_work() {
    let (a, mut b) = pair().await;
    let c = Device::new(3);
    b.connect(2, &c, 3).await;
    let bytes = noise(11, 64 * MIB);
    let content = a.put("large", &bytes);
    c.put("large", &bytes);
    b.fetch("large", &content, &[a.id, c.id]);
    b.fetched(1).await;
    assert!(b.temp(&content) == bytes);
    let (from_a, from_c) = (a.transfer.wire().sent, c.transfer.wire().sent);
    assert!(from_a > 8 * MIB as u64 && from_c > 8 * MIB as u64, "{from_a} and {from_c} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetching_device_serves_what_it_has() {
    let (a, b) = pair().await;
    let c = Device::new(3);
    c.connect(3, &b, 2).await;
    c.connect(3, &a, 1).await;
    let bytes = noise(12, 48 * MIB);
    let content = a.put("large", &bytes);
    let (to_b, transfer) = (b.id, std::sync::Arc::downgrade(&a.transfer));
    // The source answers one device's first requests, and after that nobody.
    let answers = std::sync::atomic::AtomicUsize::new(0);
    a.lie(move |session, req, message| {
        let first = session.peer() == to_b && answers.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 8;
        if let Some(transfer) = transfer.upgrade().filter(|_| first) {
            transfer.serve(session, req, message);
        }
    });
    for device in [&b, &c] {
        device.want("large", &content, &[a.id]);
    }
    c.rows.commit(vec![protocol::sync::Change::Manifest(Manifest::of(&bytes, None))]);
    c.fetch("large", &content, &[a.id]);
    b.fetch("large", &content, &[a.id]);
    let came = async {
        while c.received() < 8 * MIB as u64 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), came).await.expect("it comes from the fetching device");
    assert!(b.transfer.wire().sent > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_asked_for_in_its_order_to_the_end() {
    let (a, mut b) = pair().await;
    let content = a.put("large", &noise(15, 64 * MIB));
    let transfer = std::sync::Arc::downgrade(&a.transfer);
    let (asked, mut gets) = tokio::sync::mpsc::unbounded_channel();
    a.lie(move |session, req, message| {
        if let protocol::wire::message::Message::ChunkGet(get) = &message {
            asked.send(get.items.iter().map(|item| item.offset).collect::<Vec<_>>()).unwrap_or_default();
        }
        if let Some(transfer) = transfer.upgrade() {
            transfer.serve(session, req, message);
        }
    });
    b.fetch("large", &content, &[a.id]);
    b.fetched(1).await;
    let (mut farthest, mut requests) = (0, 0);
    while let Ok(offsets) = gets.try_recv() {
        requests += 1;
        for offset in offsets {
            // What is left out comes last, when nothing else is under way, and has to be read back for the hash of the whole.
            assert!(offset + REQUEST_BYTES_OPEN_MAX >= farthest, "{offset} after {farthest}");
            farthest = farthest.max(offset);
        }
    }
    assert!(requests > 16 && farthest > 60 * MIB as u64, "{requests} requests, the last one at {farthest}");
}

/// `SPEED=1 cargo test --release -p syncd transfer::tests::moves::speed -- --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speed() {
    let scale = if std::env::var_os("SPEED").is_some() { 16 } else { 1 };
    let (a, mut b) = pair().await;
    let bytes = noise(13, 32 * MIB * scale);
    let content = a.put("large", &bytes);
    let began = Instant::now();
    b.fetch("large", &content, &[a.id]);
    b.fetched(1).await;
    let took = began.elapsed().as_secs_f64();
    println!("large: {:.0} MB/s", bytes.len() as f64 / took / 1e6);
    let count = 1000 * scale;
    let contents: Vec<_> = (0..count)
        .map(|n| (format!("d{}/f{n}", n % 100), noise(n as u64, 4096)))
        .map(|(at, bytes)| (a.put(&at, &bytes), at))
        .collect();
    let began = Instant::now();
    for (content, at) in &contents {
        b.fetch(at, content, &[a.id]);
    }
    b.fetched(count).await;
    println!("small: {:.0} files/s", count as f64 / began.elapsed().as_secs_f64());
    let new = [noise(14, 1024), bytes].concat();
    b.put("large", &new[1024..]);
    let content = a.put("large", &new);
    let before = b.received();
    let began = Instant::now();
    b.fetch("large", &content, &[a.id]);
    b.fetched(1).await;
    let moved = b.received() - before;
    println!("insert: {moved} bytes in {:.2} s", began.elapsed().as_secs_f64());
    assert!(moved < 2 * MIB as u64, "{moved} bytes for an insert");
}
