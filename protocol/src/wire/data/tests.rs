//! Blocks survive any cutting into frames; anything else is refused within bounds.

use super::*;
use proptest::prelude::*;

fn read_all(bytes: &[u8], step: usize, mut reader: BlockReader) -> Result<Vec<Block>, DataError> {
    let mut blocks = Vec::new();
    for payload in bytes.chunks(step) {
        reader.push(payload, |block| blocks.push(block))?;
    }
    reader.finish()?;
    Ok(blocks)
}

fn sample() -> BlockWriter {
    let mut writer = BlockWriter::default();
    writer.chunk(0, 3).copy_from_slice(b"abc");
    writer.push(&Record { item: 0, code: RecordCode::Ok, bytes: b"defgh" });
    writer.push(&Record { item: 1, code: RecordCode::Gone, bytes: b"" });
    writer.push(&Record { item: 2, code: RecordCode::Denied, bytes: b"" });
    writer
}

#[test]
fn golden_bytes() {
    let expected = [
        0, 36, 0, 0, 0, 36, 0, 0, 0, // plain, 36 raw, 36 stored
        0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c', // item 0, ok, 3 bytes
        0, 0, 0, 5, 0, 0, 0, b'd', b'e', b'f', b'g', b'h', // item 0, ok, 5 bytes
        1, 0, 1, 0, 0, 0, 0, // item 1, gone
        2, 0, 2, 0, 0, 0, 0, // item 2, denied
    ];
    assert_eq!(sample().plain(), expected);
    assert_eq!(sample().zstd_header(20), [1, 36, 0, 0, 0, 20, 0, 0, 0]);
}

#[test]
fn blocks_survive_any_cutting() {
    let mut bytes = sample().plain().to_vec();
    bytes.extend_from_slice(&sample().zstd_header(5));
    bytes.extend_from_slice(b"zstd!");
    for step in 1..bytes.len() + 1 {
        let blocks = read_all(&bytes, step, BlockReader::new(6, 4, 16)).expect("an honest response");
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].stored, sample().raw());
        assert_eq!(blocks[1], Block { zstd: true, raw_len: 36, stored: b"zstd!".to_vec() });
    }
    let records: Vec<_> =
        records(sample().raw()).map(|record| record.map(|r| (r.item, r.code, r.bytes.len()))).collect();
    let expected =
        [(0, RecordCode::Ok, 3), (0, RecordCode::Ok, 5), (1, RecordCode::Gone, 0), (2, RecordCode::Denied, 0)];
    assert_eq!(records, expected.map(Ok));
}

#[test]
fn a_response_over_its_request_is_refused() {
    let mut writer = sample();
    let bytes = writer.plain();
    assert!(read_all(bytes, 7, BlockReader::new(2, 2, 8)).is_ok(), "four headers and eight bytes");
    assert_eq!(read_all(bytes, 7, BlockReader::new(2, 2, 7)), Err(DataError::TooLong));
    assert_eq!(read_all(&bytes[..bytes.len() - 1], 7, BlockReader::new(2, 2, 8)), Err(DataError::Truncated));
    assert_eq!(read_all(&bytes[..4], 7, BlockReader::new(2, 2, 8)), Err(DataError::Truncated));
}

#[test]
fn contradictory_blocks_are_refused() {
    let check = |name: &str, header: [u8; BLOCK_HEADER_LEN]| {
        assert_eq!(read_all(&header, 9, BlockReader::new(1, 1, u64::MAX)), Err(DataError::Block), "{name}");
    };
    check("empty", block_header(0, 0, 0));
    check("plain, lengths differ", block_header(0, 10, 9));
    check("zstd, not smaller", block_header(BLOCK_ZSTD, 10, 10));
    check("zstd, nothing stored", block_header(BLOCK_ZSTD, 10, 0));
    check("larger than any block", block_header(BLOCK_ZSTD, DATA_BLOCK_RAW_MAX + 1, 10));
}

#[test]
fn contradictory_records_are_refused() {
    let check = |name: &str, raw: &[u8]| {
        assert_eq!(records(raw).next(), Some(Err(DataError::Record)), "{name}");
        assert!(records(raw).count() == 1, "{name}: nothing after an error");
    };
    check("cut header", &[0, 0, 0, 1, 0, 0]);
    check("cut bytes", &[0, 0, 0, 2, 0, 0, 0, 9]);
    check("empty chunk", &[0, 0, 0, 0, 0, 0, 0]);
    check("gone with bytes", &[0, 0, 1, 1, 0, 0, 0, 9]);
    check("unknown code", &[0, 0, 3, 0, 0, 0, 0]);
    check("endless", &[0, 0, 0, 255, 255, 255, 255, 9]);
}

proptest! {
    #[test]
    fn garbage_never_panics_or_swells(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
        let _ = read_all(&bytes, step, BlockReader::new(3, 3, 100)).map(|blocks| {
            let raw: usize = blocks.iter().map(|block| block.raw_len).sum();
            assert!(raw <= 142);
        });
        let _ = records(&bytes).filter_map(Result::ok).map(|record| record.bytes.len()).sum::<usize>();
    }
}
