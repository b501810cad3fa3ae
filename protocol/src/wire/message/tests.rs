//! Every message comes back as it was; its bytes are frozen; whatever breaks a rule is refused.

use super::*;
use crate::limits::{ADDRESSES_MAX, CHUNKS_PER_FILE_MAX, PEERS_MAX, PUNCH_ADDRESSES_MAX};
use crate::model::{ChunkHash, Content, DeviceId, Entry, Event, FileContent, Mode, Mtime};
use crate::wire::frame::{FLAG_MORE, Frame};
use proptest::prelude::*;

const FOLDER: FolderId = FolderId([0x11; 16]);
const REPLICA: ReplicaId = ReplicaId([0x22; 8]);
const CONTENT: ContentHash = ContentHash([0x33; 32]);

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a valid path")
}

fn version(counter: u64) -> Version {
    Version::of(Event { replica: REPLICA, counter })
}

fn row(name: &str) -> Row {
    let chunk = Chunk { hash: ChunkHash([0x44; 32]), len: 5 };
    let content = FileContent { size: 5, hash: CONTENT, chunking: Chunking::Whole, chunks: vec![chunk] };
    let entry = Entry {
        version: version(7),
        content: Content::File(content),
        content_at: version(7),
        mode: Mode::new(0o644),
        mode_at: version(3),
        mtime: Mtime { secs: -1, nanos: 999_999_999 },
        ancestors: Vec::new(),
        found: false,
    };
    Row { path: path(name), entry }
}

fn hello() -> Hello {
    Hello {
        instance: [1; 16],
        boot: [2; 8],
        ed: [3; 32],
        name: "Kim's laptop".into(),
        software: "syncd 0.1.0".into(),
        capabilities: capability::ZSTD,
        clock: UnixSeconds(1_700_000_000),
        observed: Some(SocketAddr::from(([192, 0, 2, 1], 28_730))),
    }
}

fn index() -> Index {
    Index {
        folder: FOLDER,
        replica: REPLICA,
        from: Sequence(1),
        to: Sequence(2),
        head: Sequence(300),
        rows: vec![row("a/b")],
    }
}

fn chunk_get() -> ChunkGet {
    let item =
        ChunkItem { path: path("a/b"), content: CONTENT, first_chunk: 2, count: 3, offset: 400_000, len: 200_000 };
    ChunkGet { folder: FOLDER, items: vec![item] }
}

fn manifest() -> ManifestPart {
    let chunks = vec![Chunk { hash: ChunkHash([0x44; 32]), len: 65_536 }];
    ManifestPart { content: CONTENT, size: 1 << 20, chunking: Chunking::Avg64K, from_chunk: 4096, chunks, last: true }
}

/// One of each.
fn samples() -> Vec<Message> {
    let offer = FolderOffer { id: FOLDER, name: "Photos".into(), replica: Some(REPLICA), mode: OfferMode::SendOnly };
    let passed_on =
        FolderOffer { id: FolderId([0x12; 16]), name: "é".into(), replica: None, mode: OfferMode::SendReceive };
    let declined =
        Declined { path: path("a"), version: version(7), code: DeclineCode::NoSpace, words: "disk full".into() };
    let sequence = Sequence(2);
    let addresses =
        vec![SocketAddr::from(([192, 0, 2, 1], 28_730)), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 28_730))];
    vec![
        Message::Hello(hello()),
        Message::Ping,
        Message::Pong,
        Message::Close(CloseCode::DUPLICATE),
        Message::Heads(Heads {
            realm: Some([0x61; 32]),
            others: 3,
            heads: vec![[0x63; 32], [0x62; 32]],
            epochs: vec![[0x64; 32]],
        }),
        Message::Links(Links { links: vec![LinkBytes(vec![1, 2, 3]), LinkBytes(Vec::new())] }),
        Message::Secrets(Secrets {
            secrets: vec![EpochSecret { epoch: [0x64; 32], secret: Secret32::new([0x65; 32]) }],
        }),
        Message::Twin,
        Message::Folders(Folders { offers: vec![offer, passed_on] }),
        Message::IndexGet(IndexGet { folder: FOLDER, replica: REPLICA, from: Sequence(9), credit: 8 }),
        Message::Index(index()),
        Message::IndexAck(IndexAck { folder: FOLDER, replica: REPLICA, sequence, declined: vec![declined] }),
        Message::Digest(DigestNote {
            folder: FOLDER,
            my_seq: Sequence(5),
            your_replica: REPLICA,
            your_seq_applied: Sequence(6),
            digest: Digest::default(),
            idle: true,
        }),
        Message::Run(Run {
            folder: FOLDER,
            replica: REPLICA,
            run: RunId([0x55; 8]),
            your_replica: ReplicaId([0x23; 8]),
            yours: Some((RunId([0x56; 8]), Sequence(300))),
        }),
        Message::ManifestGet(ManifestGet { folder: FOLDER, path: path("a/b"), content: CONTENT, from_chunk: 4096 }),
        Message::Manifest(manifest()),
        Message::Partial(Partial { folder: FOLDER, content: CONTENT, ranges: vec![(0, 3), (5, 1)] }),
        Message::ChunkGet(chunk_get()),
        Message::ChunkErr(ChunkErrorCode::Busy),
        Message::Cancel,
        Message::Addresses(Addresses { addresses: addresses.clone() }),
        Message::PunchSyn(Punch { attempt: 1, addresses: addresses.clone() }),
        Message::PunchAck(Punch { attempt: 1, addresses: addresses.clone() }),
        Message::PunchGo(1),
        Message::Whereabouts(Whereabouts { devices: vec![Whereabout { device: DeviceId([0x66; 32]), addresses }] }),
        Message::OwnRelay(true),
        Message::PairAccept,
        Message::PairSecret(PairRandom(Secret32::new([9; 32]))),
        Message::PairDone([8; 32]),
    ]
}

/// A line per sample: its number and body in hexadecimal.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn every_message_comes_back_and_its_bytes_are_frozen() {
    let mut lines = String::new();
    for message in samples() {
        let (number, body) = message.encode();
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        lines += format!("{number:02x} {hex}").trim_end();
        lines += "\n";
        assert!(body.len() <= body_len_max(number));
        assert_eq!(Message::decode(number, &body), Ok(message));
    }
    assert!(lines == GOLDEN, "a body changed; it must get a new number instead:\n{lines}");
}

#[test]
fn cut_or_longer_bodies_are_refused() {
    for message in samples() {
        let (number, mut body) = message.encode();
        for len in 0..body.len() {
            assert!(Message::decode(number, &body[..len]).is_err(), "{number:#04x} cut at {len}");
        }
        body.push(0);
        assert!(Message::decode(number, &body).is_err(), "{number:#04x} with a byte behind it");
    }
    assert_eq!(Message::decode(0x77, &[]), Err(MessageError::UnknownKind(0x77)));
    assert_eq!(Message::decode(kind::DATA, &[]), Err(MessageError::UnknownKind(kind::DATA)));
}

fn check_refused(name: &str, message: &Message, expected: impl Fn(u8) -> MessageError) {
    let (number, body) = message.encode();
    assert_eq!(Message::decode(number, &body).err(), Some(expected(number)), "{name}");
}

#[test]
fn long_lists_and_texts_are_refused() {
    let long = |text: &str, len| text.repeat(len);
    let named = |name: String| Message::Hello(Hello { name, ..hello() });
    check_refused("long name", &named(long("x", NAME_LEN_MAX + 1)), MessageError::Malformed);
    check_refused("escape in a name", &named("\u{1b}[2J".into()), MessageError::Malformed);
    let addresses = vec![SocketAddr::from(([1, 2, 3, 4], 5)); ADDRESSES_MAX + 1];
    check_refused("addresses", &Message::Addresses(Addresses { addresses }), MessageError::Malformed);
    let addresses = vec![SocketAddr::from(([1, 2, 3, 4], 5)); PUNCH_ADDRESSES_MAX + 1];
    check_refused("aims", &Message::PunchSyn(Punch { attempt: 0, addresses }), MessageError::Malformed);
    let aims = vec![Whereabout { device: DeviceId([0; 32]), addresses: Vec::new() }; PEERS_MAX + 1];
    check_refused("devices", &Message::Whereabouts(Whereabouts { devices: aims }), MessageError::Malformed);
    let items = vec![chunk_get().items[0].clone(); FILES_PER_REQUEST_MAX + 1];
    check_refused("items", &Message::ChunkGet(ChunkGet { folder: FOLDER, items }), MessageError::Malformed);
    let rows: Vec<Row> = (0..=INDEX_ROWS_MAX).map(|i| row(&i.to_string())).collect();
    check_refused("rows", &Message::Index(Index { rows, ..index() }), MessageError::Malformed);
    let ranges: Vec<(u64, u64)> = (0..=PARTIAL_RANGES_MAX as u64).map(|i| (2 * i, 1)).collect();
    check_refused(
        "ranges",
        &Message::Partial(Partial { folder: FOLDER, content: CONTENT, ranges }),
        MessageError::Malformed,
    );
    let lying = [&FOLDER.0[..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    assert_eq!(Message::decode(kind::CHUNK_GET, &lying), Err(MessageError::Malformed(kind::CHUNK_GET)));
    let rows = vec![row(&long("x/", 250)[..499]); INDEX_ROWS_MAX];
    check_refused("index bytes", &Message::Index(Index { rows, ..index() }), MessageError::TooLong);
}

#[test]
fn contradictions_are_refused() {
    let range = MessageError::Range;
    for credit in [0, INDEX_CREDIT_MAX + 1] {
        let get = IndexGet { folder: FOLDER, replica: REPLICA, from: Sequence(9), credit };
        check_refused("credit", &Message::IndexGet(get), range);
    }
    check_refused("to before from", &Message::Index(Index { from: Sequence(3), ..index() }), range);
    check_refused("to after head", &Message::Index(Index { head: Sequence(1), ..index() }), range);
    let mut impossible = row("a");
    impossible.entry.content_at = version(8);
    let rows = vec![row("b"), impossible];
    check_refused("row", &Message::Index(Index { rows, ..index() }), |_| MessageError::Row(RowError::Causality));
    let offer = FolderOffer { id: FOLDER, name: "x".into(), replica: None, mode: OfferMode::SendOnly };
    check_refused("folder twice", &Message::Folders(Folders { offers: vec![offer.clone(), offer] }), range);
    let declined =
        vec![Declined { path: path("a"), version: Version::default(), code: DeclineCode::Other, words: String::new() }];
    let ack = IndexAck { folder: FOLDER, replica: REPLICA, sequence: Sequence(2), declined };
    check_refused("declined nothing", &Message::IndexAck(ack), range);
}

#[test]
fn impossible_chunks_are_refused() {
    let range = MessageError::Range;
    let chunk = |len| vec![Chunk { hash: ChunkHash([0; 32]), len }];
    let part = |change: &dyn Fn(&mut ManifestPart)| {
        let mut part = manifest();
        change(&mut part);
        Message::Manifest(part)
    };
    check_refused("empty chunk", &part(&|part| part.chunks = chunk(0)), range);
    check_refused("chunk over its class", &part(&|part| part.chunks = chunk(131_073)), range);
    check_refused("more than the file", &part(&|part| part.size = 1), range);
    check_refused("never ends", &part(&|part| (part.chunks, part.last) = (Vec::new(), false)), range);
    let get = |change: &dyn Fn(&mut ChunkItem)| {
        let mut get = chunk_get();
        change(&mut get.items[0]);
        Message::ChunkGet(get)
    };
    check_refused("no items", &Message::ChunkGet(ChunkGet { folder: FOLDER, items: Vec::new() }), range);
    check_refused("no chunks", &get(&|item| item.count = 0), range);
    check_refused("fewer bytes than chunks", &get(&|item| item.len = 2), range);
    check_refused("too many bytes", &get(&|item| item.len = u32::MAX), range);
    check_refused("past the last chunk", &get(&|item| item.first_chunk = CHUNKS_PER_FILE_MAX), range);
    check_refused("chunk overflow", &get(&|item| item.first_chunk = u64::MAX), range);
    check_refused("offset overflow", &get(&|item| item.offset = u64::MAX), range);
}

#[test]
fn ranges_are_ascending_and_apart() {
    for (ranges, good) in [
        (vec![], true),
        (vec![(0, 1)], true),
        (vec![(0, 1), (2, 5)], true),
        (vec![(0, 1), (1, 5)], false),
        (vec![(4, 1), (0, 1)], false),
        (vec![(0, 0)], false),
        (vec![(u64::MAX, 2)], false),
        (vec![(0, CHUNKS_PER_FILE_MAX)], true),
        (vec![(1, CHUNKS_PER_FILE_MAX)], false),
    ] {
        assert_eq!(are_ranges(&ranges), good, "{ranges:?}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", Message::PairSecret(PairRandom(Secret32::new([9; 32]))));
    assert_eq!(text, "PairSecret(PairRandom(..))");
}

fn frame(kind: u8, flags: u8, req: u32, payload: &[u8]) -> Frame<'_> {
    Frame { kind, flags, req, payload }
}

#[test]
fn frames_join_into_messages() {
    let mut joiner = Joiner::default();
    let whole = [7; 100];
    assert_eq!(joiner.push(&frame(kind::INDEX, 0, 1, &whole)), Ok(Some((kind::INDEX, 1, &whole[..]))));
    assert_eq!(joiner.push(&frame(kind::INDEX, FLAG_MORE, 2, &whole[..40])), Ok(None));
    assert_eq!(joiner.push(&frame(kind::INDEX, FLAG_MORE, 2, &whole[40..70])), Ok(None));
    assert_eq!(joiner.push(&frame(kind::INDEX, 0, 2, &whole[70..])), Ok(Some((kind::INDEX, 2, &whole[..]))));
    assert_eq!(joiner.push(&frame(kind::PING, 0, 3, &[])), Ok(Some((kind::PING, 3, &[][..]))));
}

#[test]
fn frames_that_do_not_fit_together() {
    let check = |name: &str, first: Frame<'_>, second: Frame<'_>, expected| {
        let mut joiner = Joiner::default();
        assert_eq!(joiner.push(&first), Ok(None), "{name}");
        assert_eq!(joiner.push(&second), Err(expected), "{name}");
    };
    let begin = frame(kind::INDEX, FLAG_MORE, 2, b"x");
    check("another kind", begin, frame(kind::PING, 0, 2, b""), JoinError::Interleaved);
    check("another request", begin, frame(kind::INDEX, 0, 3, b""), JoinError::Interleaved);
    let much = vec![0; INDEX_BYTES_MAX + 1024];
    check("too long", begin, frame(kind::INDEX, FLAG_MORE, 2, &much), JoinError::TooLong);
    let long = [0; 1025];
    assert_eq!(Joiner::default().push(&frame(kind::HELLO, 0, 0, &long)), Err(JoinError::TooLong));
    assert_eq!(Joiner::default().push(&frame(0x77, 0, 0, b"x")), Err(JoinError::TooLong), "unknown kinds");
}

proptest! {
    #[test]
    fn garbage_never_panics(number in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(message) = Message::decode(number, &body) {
            let (again, bytes) = message.encode();
            prop_assert_eq!(again, number);
            prop_assert_eq!(Message::decode(again, &bytes), Ok(message));
        }
    }

    #[test]
    fn one_changed_byte_never_panics(which in 0usize..19, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (number, mut body) = samples().swap_remove(which).encode();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(message) = Message::decode(number, &body) {
            let (again, bytes) = message.encode();
            prop_assert_eq!(Message::decode(again, &bytes), Ok(message));
        }
    }
}
