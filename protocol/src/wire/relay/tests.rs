//! Links, the join, and parked words; anything altered is refused.

use super::*;
use crate::wire::knock::Candidate;
use proptest::prelude::*;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

fn relay() -> (RelayIdentity, RelayLink) {
    let identity = RelayIdentity::from_seed(&Secret32::new([1; 32]));
    let access_key = Secret32::new([2; 32]);
    let link = RelayLink { relay_x: identity.public(), access_key, at: "relay.example:28731".parse().expect("valid") };
    (identity, link)
}

const REQUEST: JoinRequest = JoinRequest::Join { side: Direction::High, token: [9; 32] };

fn reply() -> JoinReply {
    JoinReply {
        status: JoinStatus::Waiting,
        observed: SocketAddr::from(([203, 0, 113, 5], 4711)),
        idle_secs: 150,
        rate: 10_000_000,
    }
}

/// A join as far as both ends being parked.
fn park(request: JoinRequest) -> (Parked, Parked) {
    let (identity, link) = relay();
    let (client, bytes) = JoiningClient::start(&link, request, NOW, &[3; 40]).expect("a good link");
    let (knock, message) = bytes.split_first_chunk::<KNOCK_LEN>().expect("a knock comes first");
    let knock = Knock(*knock);
    let key = knock_key(&link.access_key);
    let found = knock.find(&[Candidate { key: &key, context: Context::Relay }], NOW, 1);
    assert_eq!(found.map(|found| found.index), Some(0), "the relay knows the knock");
    let message = message.try_into().expect("message 1 is the rest");
    let (got, joining) = Joining::read(&identity, &link.access_key, &knock, message, &[4; 32]).expect("honest");
    assert!(got == request);
    let (answer, at_relay) = joining.reply(&reply()).expect("in its place");
    let (got, at_client) = client.read_reply(&answer).expect("honest");
    assert_eq!(got, reply());
    (at_client, at_relay)
}

#[test]
fn join_and_splice() {
    park(JoinRequest::Observe);
    let (mut client, mut relay) = park(REQUEST);
    for word in [Word::Ping, Word::Matched, Word::Spliced] {
        let sealed = relay.seal(word).expect("nonces last");
        assert_eq!(client.open(&sealed), Ok(word));
    }
    for word in [Word::Pong, Word::MatchAck] {
        let sealed = client.seal(word).expect("nonces last");
        assert_eq!(relay.open(&sealed), Ok(word));
    }
    let sealed = client.seal(Word::Pong).expect("nonces last");
    assert_eq!(client.open(&sealed), Err(RelayError::Unverified), "reflected");
    let mut spoiled = sealed;
    spoiled[0] ^= 1;
    assert_eq!(relay.open(&spoiled), Err(RelayError::Unverified), "altered");
    assert_eq!(relay.open(&sealed), Ok(Word::Pong));
    assert_eq!(relay.open(&sealed), Err(RelayError::Unverified), "replayed");
}

#[test]
fn strangers_are_refused() {
    let (identity, link) = relay();
    let (_, bytes) = JoiningClient::start(&link, REQUEST, NOW, &[3; 40]).expect("a good link");
    let (knock, message) = bytes.split_first_chunk::<KNOCK_LEN>().expect("a knock comes first");
    let message: [u8; MESSAGE_1_LEN] = message.try_into().expect("message 1 is the rest");
    let check = |name: &str, identity: &RelayIdentity, key: [u8; 32], knock: [u8; 24], message| {
        let read = Joining::read(identity, &Secret32::new(key), &Knock(knock), &message, &[4; 32]);
        assert_eq!(read.err(), Some(RelayError::Unverified), "{name}");
    };
    check("another key", &identity, [5; 32], *knock, message);
    check("another relay", &RelayIdentity::from_seed(&Secret32::new([6; 32])), [2; 32], *knock, message);
    check("another knock", &identity, [2; 32], [0; 24], message);
    let mut spoiled = message;
    spoiled[100] ^= 1;
    check("altered", &identity, [2; 32], *knock, spoiled);
}

#[test]
fn requests_that_make_no_sense() {
    let decode = |op, side| {
        let mut payload = [0; PAYLOAD_1_LEN];
        (payload[0], payload[1]) = (op, side);
        JoinRequest::decode(&payload).err()
    };
    assert_eq!(decode(0, 0), Some(RelayError::Malformed));
    assert_eq!(decode(1, 2), Some(RelayError::Malformed));
    assert_eq!(decode(2, 7), None, "an observer has no side");
    let mut payload = reply().encode();
    payload[0] = 4;
    assert_eq!(JoinReply::decode(&payload), Err(RelayError::Malformed));
}

#[test]
fn links() {
    let (_, link) = relay();
    let text = link.to_string();
    assert_eq!(text.find('@'), Some(117));
    assert!(text.starts_with("sdrelay1"));
    assert!(text.parse::<RelayLink>() == Ok(link));
    let check =
        |name: &str, text: &str, expected| assert_eq!(text.parse::<RelayLink>().err(), Some(expected), "{name}");
    check("no address", &text[..117], RelayLinkError::Form);
    check("typo", &text.replacen('q', "p", 1), RelayLinkError::Key);
    check("a device id", &format!("{}@h:1", crate::model::DeviceId([0; 32])), RelayLinkError::Key);
    check("no port", &format!("{}@relay.example", &text[..117]), RelayLinkError::Endpoint(EndpointError::Port));
}

#[test]
fn endpoints() {
    let good = |text: &str, host: &str, port| {
        let endpoint: Endpoint = text.parse().expect(text);
        assert_eq!((endpoint.host(), endpoint.port()), (host, port));
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint), "{text} comes back");
    };
    good("10.0.0.1:1", "10.0.0.1", 1);
    good("[2001:DB8::1]:65535", "2001:db8::1", 65_535);
    good("My-nas.local:28730", "my-nas.local", 28_730);
    let bad = |text: &str, expected| assert_eq!(text.parse::<Endpoint>(), Err(expected), "{text}");
    bad("", EndpointError::Port);
    bad("host", EndpointError::Port);
    bad("host:", EndpointError::Port);
    bad("host:0", EndpointError::Port);
    bad("host:+1", EndpointError::Port);
    bad("host:65536", EndpointError::Port);
    bad(":1", EndpointError::Host);
    bad("2001:db8::1:1", EndpointError::Host);
    bad("[2001:db8::1:1", EndpointError::Host);
    bad("[host]:1", EndpointError::Host);
    bad("ho/st:1", EndpointError::Host);
    bad(&format!("{}:1", "h".repeat(254)), EndpointError::Host);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in any::<[u8; 32]>(), text in "(sdrelay1)?.{0,130}@?.{0,20}") {
        let (identity, link) = relay();
        let mut message = [0; MESSAGE_1_LEN];
        message[..32].copy_from_slice(&bytes);
        let read = Joining::read(&identity, &link.access_key, &Knock([0; 24]), &message, &[4; 32]);
        prop_assert_eq!(read.err(), Some(RelayError::Unverified));
        prop_assert!(text.parse::<RelayLink>().is_err());
    }
}

#[test]
fn pairs_spread_over_the_machines_behind_a_name() {
    let machines: Vec<IpAddr> = (1..=4).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    let first = |token: u8| machines.iter().min_by_key(|machine| preference(&[token; 32], **machine)).copied();
    let counts: Vec<usize> =
        machines.iter().map(|machine| (0..200).filter(|token| first(*token) == Some(*machine)).count()).collect();
    assert!(counts.iter().all(|count| (25..=75).contains(count)), "{counts:?}");
    let v6 = IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert!(
        (0..50).all(|token| machines.iter().all(|v4| preference(&[token; 32], *v4) < preference(&[token; 32], v6)))
    );
}

#[test]
fn the_relay_of_a_device_is_known_to_whoever_has_the_secret() {
    let (secret, device) = (Secret32::new([7; 32]), DeviceId([8; 32]));
    let own = OwnRelay::of(&secret, &device);
    let at: Endpoint = "192.0.2.1:28730".parse().expect("an endpoint");
    let link = own.link(at);
    assert_eq!(link.relay_x, RelayIdentity::from_seed(&own.seed).public());
    assert!(link.access_key == own.access_key && own.access_key != own.seed);
    let differs = |other: OwnRelay| other.access_key != own.access_key && other.seed != own.seed;
    assert!(differs(OwnRelay::of(&Secret32::new([9; 32]), &device)), "another epoch");
    assert!(differs(OwnRelay::of(&secret, &DeviceId([9; 32]))), "another device");
}
