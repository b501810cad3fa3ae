//! Frames over an in-memory stream: cut anywhere they come out whole, and one changed byte ends the channel.

use super::*;
use crate::limits::PROTOCOL_VERSIONS;
use crate::wire::handshake::{HelloHead, Initiator, Params, Responder};
use crate::wire::identity::Identity;
use crate::wire::kdf::{Secret32, UnixSeconds};
use crate::wire::knock::{Context, Knock};
use proptest::prelude::*;

/// Both ends of a fresh channel.
fn channel() -> (Transport, Transport) {
    let (a, b) = (Identity::from_seed(&Secret32::new([1; 32])), Identity::from_seed(&Secret32::new([2; 32])));
    let psk = Secret32::new([3; 32]);
    let knock = Knock::make(&psk, Context::Session, [4; 8], UnixSeconds(1));
    let params = |own| Params {
        context: Context::Session,
        knock: &knock,
        psk: &psk,
        own,
        expected: None,
        hello: HelloHead::default(),
        channel_binding: [0; 32],
        versions: PROTOCOL_VERSIONS,
    };
    let (initiator, first) = Initiator::start(&params(&a), &[5; 128]).expect("honest");
    let (responder, second) = Responder::start(&params(&b), &first, &[6; 96]).expect("honest");
    let (third, at_a) = initiator.read_message_2(&second).expect("honest");
    (at_a.transport, responder.read_message_3(&third).expect("honest").transport)
}

type Owned = (u8, u8, u32, Vec<u8>);

/// Feeds `bytes` in steps and collects every frame.
fn open_all(opener: &mut Opener, bytes: &[u8], step: usize) -> Result<Vec<Owned>, FrameError> {
    let mut frames = Vec::new();
    for mut part in bytes.chunks(step) {
        while !part.is_empty() {
            part = &part[opener.push(part)..];
            while let Some(frame) = opener.next()? {
                frames.push((frame.kind, frame.flags, frame.req, frame.payload.to_vec()));
            }
        }
    }
    Ok(frames)
}

#[test]
fn frames_survive_any_cutting() {
    let (a, b) = channel();
    let (mut sealer, mut opener) = (a.split().0, b.split().1);
    let sent: Vec<Owned> = [0, 1, 248, 249, 5000, PAYLOAD_LEN_MAX]
        .into_iter()
        .zip(0u8..)
        .map(|(len, i)| (i, i & 3, u32::from(i) * 7, vec![i; len]))
        .collect();
    for step in [1, 17, 18, 19, 1000, 65_535, 1_000_000] {
        let mut wire = Vec::new();
        for (kind, flags, req, payload) in &sent {
            sealer.seal(*kind, *flags, *req, payload, &mut wire).expect("within bounds");
        }
        assert_eq!(open_all(&mut opener, &wire, step).expect("untouched"), sent, "step {step}");
    }
}

#[test]
fn both_directions_are_apart() {
    let ((mut a_out, mut a_in), (mut b_out, mut b_in)) = {
        let (a, b) = channel();
        (a.split(), b.split())
    };
    let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
    a_out.seal(1, 0, 1, b"to b", &mut to_b).expect("short");
    b_out.seal(2, 0, 2, b"to a", &mut to_a).expect("short");
    assert_eq!(open_all(&mut b_in, &to_b, 9).expect("untouched"), [(1, 0, 1, b"to b".to_vec())]);
    assert_eq!(open_all(&mut a_in, &to_a, 9).expect("untouched"), [(2, 0, 2, b"to a".to_vec())]);
    let (_, mut reflected) = channel().0.split();
    assert_eq!(open_all(&mut reflected, &to_b, 9), Err(FrameError::Unverified), "one's own frames sent back");
}

#[test]
fn lengths_fall_into_classes() {
    let (mut sealer, _) = channel().0.split();
    let mut check = |data: bool, payload: usize, body: usize| {
        let mut wire = Vec::new();
        let payload = vec![0; payload];
        let sealed = if data {
            sealer.seal_data(0x21, 0, 0, &payload, &mut wire)
        } else {
            sealer.seal(1, 0, 0, &payload, &mut wire)
        };
        sealed.expect("within bounds");
        assert_eq!(wire.len(), LENGTH_LEN + body + TAG_LEN, "payload {}", payload.len());
    };
    for (payload, body) in [(0, 256), (248, 256), (249, 1024), (1017, 4096), (16_376, 16_384), (16_377, 65_519)] {
        check(false, payload, body);
    }
    for (payload, body) in [(0, 1024), (1016, 1024), (1017, 2048), (64_504, 64_512), (64_505, 65_032), (65_024, 65_032)]
    {
        check(true, payload, body);
    }
    let mut out = Vec::new();
    assert_eq!(sealer.seal(1, 0, 0, &vec![0; PAYLOAD_LEN_MAX + 1], &mut out), Err(FrameError::TooLong));
    assert_eq!(sealer.seal_data(1, 0, 0, &vec![0; DATA_PAYLOAD_LEN_MAX + 1], &mut out), Err(FrameError::TooLong));
    assert_eq!(sealer.seal_message(1, 0, &vec![0; MESSAGE_LEN_MAX + 1], &mut out), Err(FrameError::TooLong));
    assert!(out.is_empty(), "a refused frame leaves nothing behind");
}

#[test]
fn long_messages_take_several_frames() {
    let (a, b) = channel();
    let (mut sealer, mut opener) = (a.split().0, b.split().1);
    let body: Vec<u8> = (0..MESSAGE_LEN_MAX).map(|i| i.to_le_bytes()[0]).collect();
    let mut wire = Vec::new();
    sealer.seal_message(9, 5, &body, &mut wire).expect("the longest message");
    let frames = open_all(&mut opener, &wire, 4000).expect("untouched");
    let flags: Vec<u8> = frames.iter().map(|frame| frame.1).collect();
    assert_eq!(flags[..flags.len() - 1], vec![FLAG_MORE; flags.len() - 1]);
    assert_eq!(flags.last(), Some(&0));
    let joined: Vec<u8> = frames.into_iter().flat_map(|frame| frame.3).collect();
    assert!(joined == body);
}

#[test]
fn one_changed_byte_kills_the_reader() {
    let (mut sealer, _) = channel().0.split();
    let mut wire = Vec::new();
    sealer.seal(1, 0, 0, b"hello", &mut wire).expect("short");
    for position in (0..wire.len()).step_by(7) {
        let mut opener = channel().1.split().1;
        let mut spoiled = wire.clone();
        spoiled[position] ^= 0x80;
        assert_eq!(open_all(&mut opener, &spoiled, 5), Err(FrameError::Unverified), "byte {position}");
        assert_eq!(opener.next(), Err(FrameError::Dead));
    }
}

#[test]
fn frames_cannot_be_dropped_or_swapped() {
    let (mut sealer, _) = channel().0.split();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    sealer.seal(1, 0, 0, b"first", &mut first).expect("short");
    sealer.seal(1, 0, 0, b"second", &mut second).expect("short");
    let mut opener = channel().1.split().1;
    assert_eq!(open_all(&mut opener, &second, 999), Err(FrameError::Unverified));
    let mut opener = channel().1.split().1;
    assert_eq!(open_all(&mut opener, &[first.clone(), first].concat(), 999), Err(FrameError::Unverified));
}

#[test]
fn keys_change_after_65536_nonces() {
    let (a, b) = channel();
    let (mut sealer, mut opener) = (a.split().0, b.split().1);
    let mut wire = Vec::new();
    // Two nonces a frame; past the second rekey.
    for i in 0..REKEY_NONCES + 2 {
        wire.clear();
        sealer.seal(1, 0, u32::try_from(i).expect("small"), b"", &mut wire).expect("short");
        assert_eq!(open_all(&mut opener, &wire, 4096).expect("in step").len(), 1, "frame {i}");
    }
    assert_eq!(sealer.nonce, 2 * REKEY_NONCES + 4);
}

#[test]
fn a_body_that_lies_about_its_padding_is_refused() {
    assert_eq!(parse(&[1, 0, 0, 1, 0, 0, 0, 0]), Err(FrameError::Malformed));
    assert_eq!(parse(&[1, 0, 0, 1, 0, 0, 0, 9, 0xff]).map(|frame| (frame.req, frame.payload.len())), Ok((9, 0)));
}

proptest! {
    // Each case makes a channel.
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut opener = channel().1.split().1;
        let opened = open_all(&mut opener, &bytes, 64);
        let expected = if bytes.len() < LENGTH_LEN { Ok(Vec::new()) } else { Err(FrameError::Unverified) };
        prop_assert_eq!(opened, expected);
    }
}
