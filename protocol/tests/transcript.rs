//! Replays the transcript that `tests/noise/handshake.py` made with an independent Noise, X25519, AEAD and ML-KEM:
//! both ends of ours must send the same bytes, and take the other's.

use protocol::limits::PROTOCOL_VERSIONS;
use protocol::model::DeviceId;
use protocol::wire::frame::{FrameError, Opener, Sealer};
use protocol::wire::handshake::{CheckNumber, Established, HelloHead, Initiator, Params, Responder};
use protocol::wire::identity::Identity;
use protocol::wire::kdf::{Secret32, UnixSeconds};
use protocol::wire::knock::{Context, Knock};
use protocol::wire::pair::{Direction, PairSecret};
use protocol::wire::relay::{
    JoinReply, JoinRequest, JoinStatus, Joining, JoiningClient, RelayIdentity, RelayLink, Word,
};
use serde_json::Value;

fn transcript() -> Value {
    serde_json::from_str(include_str!("data/handshake.json")).expect("the committed transcript is JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is a text"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is a number"))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| u8::try_from(c.to_digit(16).expect("hex")).expect("small")).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn bytes<const N: usize>(value: &Value, key: &str) -> [u8; N] {
    unhex(text(value, key)).try_into().unwrap_or_else(|_| panic!("{key} has {N} bytes"))
}

fn secret(value: &Value, key: &str) -> Secret32 {
    Secret32::new(bytes(value, key))
}

/// Runs both ends of a handshake, comparing every message.
fn replay(run: &Value) -> (Established, Established) {
    let name = text(run, "name");
    let (a, b) =
        (Identity::from_seed(&secret(run, "seed_initiator")), Identity::from_seed(&secret(run, "seed_responder")));
    let pairing = number(run, "context") == 1;
    let shared = secret(run, "shared");
    let (context, pair, direction) = if pairing {
        (Context::Pairing, PairSecret::from_secret(shared), Direction::High)
    } else {
        let pair = PairSecret::between(&a, &b.public(), &shared).expect("honest");
        (Context::Session, pair, Direction::of(&a.id(), &b.id()))
    };
    assert!(pair.secret() == &secret(run, "pair_secret"), "{name}");
    let expected_knock: [u8; 24] = bytes(run, "knock");
    let salt = expected_knock[..8].try_into().expect("eight bytes");
    let knock = Knock::make(&pair.knock_key(direction), context, salt, UnixSeconds(number(run, "now")));
    assert_eq!(knock.0, expected_knock, "{name}");

    let hello: [u8; 28] = bytes(run, "hello");
    let hello = HelloHead {
        instance: hello[..16].try_into().expect("sixteen bytes"),
        boot: hello[16..24].try_into().expect("eight bytes"),
        capabilities: u32::from_be_bytes(hello[24..].try_into().expect("four bytes")),
    };
    let psk = pair.psk();
    let params = |own, their: &Identity| Params {
        context,
        knock: &knock,
        psk: &psk,
        own,
        expected: (!pairing).then(|| their.public()),
        hello,
        channel_binding: [0; 32],
        versions: PROTOCOL_VERSIONS,
    };
    let (initiator, first) = Initiator::start(&params(&a, &b), &bytes(run, "random_initiator")).expect("honest");
    assert!(first[..] == unhex(text(run, "message_1")), "{name}: message 1");
    let (responder, second) =
        Responder::start(&params(&b, &a), &first, &bytes(run, "random_responder")).expect("honest");
    assert!(second[..] == unhex(text(run, "message_2")), "{name}: message 2");
    let (third, at_a) = initiator.read_message_2(&second).expect("honest");
    assert!(third[..] == unhex(text(run, "message_3")), "{name}: message 3");
    let at_b = responder.read_message_3(&third).expect("honest");
    assert_eq!(at_b.hello, Some(hello), "{name}");
    assert_eq!(at_b.remote.map(|remote| remote.id()), Some::<DeviceId>(a.id()), "{name}");
    let check_number = u32::try_from(number(run, "check_number")).expect("six digits");
    assert_eq!((at_a.check_number, at_b.check_number), (CheckNumber(check_number), CheckNumber(check_number)));
    (at_a, at_b)
}

/// Opens `wire` and compares what comes out.
fn check_opens(opener: &mut Opener, wire: &[u8], expected: (u8, u8, u32, &[u8])) -> Result<(), FrameError> {
    assert_eq!(opener.push(wire), wire.len());
    let frame = opener.next()?.expect("a whole frame");
    assert_eq!((frame.kind, frame.flags, frame.req, frame.payload), expected);
    Ok(())
}

fn replay_frames(run: &Value, ends: (Established, Established)) {
    let ((mut a_out, mut a_in), (mut b_out, mut b_in)) = (ends.0.transport.split(), ends.1.transport.split());
    for frame in run["frames"].as_array().expect("a list") {
        let (sealer, opener): (&mut Sealer, &mut Opener) = match text(frame, "sender") {
            "initiator" => (&mut a_out, &mut b_in),
            _ => (&mut b_out, &mut a_in),
        };
        let small = |key| u8::try_from(number(frame, key)).expect("a byte");
        let req = u32::try_from(number(frame, "req")).expect("32 bits");
        let payload = unhex(text(frame, "payload"));
        let mut wire = Vec::new();
        sealer.seal(small("kind"), small("flags"), req, &payload, &mut wire).expect("short");
        assert!(wire == unhex(text(frame, "wire")), "frame {frame}");
        check_opens(opener, &wire, (small("kind"), small("flags"), req, &payload)).expect("untouched");
    }
    let mut pings = blake3::Hasher::new();
    for req in 0..u32::try_from(number(run, "pings")).expect("32 bits") {
        let mut wire = Vec::new();
        a_out.seal(0x02, 0, req, b"", &mut wire).expect("short");
        pings.update(&wire);
        check_opens(&mut b_in, &wire, (0x02, 0, req, b"")).expect("in step over the change of keys");
    }
    assert_eq!(pings.finalize().to_hex().as_str(), text(run, "pings_blake3"));
}

#[test]
fn handshakes_and_frames() {
    for run in transcript()["handshakes"].as_array().expect("a list") {
        replay_frames(run, replay(run));
    }
}

#[test]
fn relay_words() {
    let all = transcript();
    let run = &all["relay"];
    let identity = RelayIdentity::from_seed(&secret(run, "seed"));
    let access_key = secret(run, "access_key");
    let at = "relay.example:28731".parse().expect("valid");
    let link = RelayLink { relay_x: identity.public(), access_key: access_key.clone(), at };
    let request = JoinRequest::Join { side: Direction::High, token: bytes(run, "token") };
    let now = UnixSeconds(number(run, "now"));
    let (client, join) = JoiningClient::start(&link, request, now, &bytes(run, "random_client")).expect("honest");
    assert!(join[..] == unhex(text(run, "join")));
    let (knock, message) = join.split_first_chunk::<24>().expect("a knock comes first");
    let message = message.try_into().expect("message 1 is the rest");
    let (got, joining) =
        Joining::read(&identity, &access_key, &Knock(*knock), message, &bytes(run, "random_relay")).expect("honest");
    assert!(got == request);
    let answer = JoinReply {
        status: JoinStatus::Waiting,
        observed: std::net::SocketAddr::from(([203, 0, 113, 5], 4711)),
        idle_secs: 150,
        rate: 10_000_000,
    };
    let (reply, mut at_relay) = joining.reply(&answer).expect("in its place");
    assert!(reply[..] == unhex(text(run, "reply")));
    let (got, mut at_client) = client.read_reply(&reply).expect("honest");
    assert_eq!(got, answer);

    let sealed = |key: &str| -> Vec<Vec<u8>> {
        run[key].as_array().expect("a list").iter().map(|word| unhex(word.as_str().expect("a text"))).collect()
    };
    for (word, wire) in [Word::Ping, Word::Matched, Word::Spliced].into_iter().zip(sealed("to_client")) {
        assert_eq!(at_relay.seal(word).expect("nonces last")[..], wire);
        assert_eq!(at_client.open(&wire.try_into().expect("48 bytes")), Ok(word));
    }
    for (word, wire) in [Word::Pong, Word::MatchAck].into_iter().zip(sealed("to_relay")) {
        assert_eq!(at_client.seal(word).expect("nonces last")[..], wire);
        assert_eq!(at_relay.open(&wire.try_into().expect("48 bytes")), Ok(word));
    }
}
