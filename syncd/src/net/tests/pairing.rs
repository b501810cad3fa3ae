//! Pairing by address and by beacon, and everything that must not pair.

use super::*;
use protocol::wire::handshake::CheckNumber;

const LIVES: Duration = Duration::from_secs(50);

struct Reached {
    name: String,
    id: DeviceId,
    check_number: CheckNumber,
    decide: oneshot::Sender<bool>,
}

struct Paired {
    identity: PublicIdentity,
    secret: PairSecret,
    addresses: Vec<SocketAddr>,
}

impl Device {
    async fn reached(&mut self) -> Reached {
        self.wait("the other device", |event| match event {
            NetEvent::Pairing(PairingEvent::Reached { name, id, check_number, decide, .. }) => {
                Some(Reached { name, id, check_number, decide })
            }
            NetEvent::Pairing(PairingEvent::Failed { words, .. }) => panic!("the pairing failed: {words}"),
            _ => None,
        })
        .await
    }

    async fn paired(&mut self) -> Paired {
        self.wait("the end of a pairing", |event| match event {
            NetEvent::Pairing(PairingEvent::Paired { identity, secret, addresses, .. }) => {
                Some(Paired { identity, secret, addresses })
            }
            NetEvent::Pairing(PairingEvent::Failed { words, .. }) => panic!("the pairing failed: {words}"),
            _ => None,
        })
        .await
    }

    async fn failed(&mut self) -> String {
        self.wait("a failure", |event| match event {
            NetEvent::Pairing(PairingEvent::Failed { words, .. }) => Some(words),
            NetEvent::Pairing(PairingEvent::Paired { .. }) => panic!("this must not pair"),
            _ => None,
        })
        .await
    }

    fn endpoint(&self) -> Endpoint {
        self.address().to_string().parse().expect("an address is an endpoint")
    }
}

fn code() -> InviteCode {
    InviteCode::from_random(random())
}

fn bare(code: &InviteCode) -> InviteLink {
    InviteLink { code: code.clone(), addresses: Vec::new(), relays: Vec::new() }
}

/// Both people agree; both ends hold the same, and a session follows from it.
pub(super) async fn agree_and_connect(mut shows: Device, mut joins: Device) {
    let (at_shows, at_joins) = tokio::join!(shows.reached(), joins.reached());
    assert_eq!(at_shows.check_number, at_joins.check_number);
    assert_eq!((at_shows.id, at_joins.id), (joins.id(), shows.id()));
    assert_eq!(at_shows.name, format!("device {}", joins.seed));
    at_joins.decide.send(true).expect("the pairing waits");
    at_shows.decide.send(true).expect("the pairing waits");
    let (at_shows, at_joins) = tokio::join!(shows.paired(), joins.paired());
    assert!(at_shows.secret == at_joins.secret, "one secret");
    assert_eq!(at_shows.identity.id(), joins.id());
    assert_eq!(at_joins.identity.id(), shows.id());
    let peer = |paired: Paired| PeerConfig {
        before: None,
        identity: paired.identity,
        secret: paired.secret,
        also: Vec::new(),
        typed: Vec::new(),
        learned: paired.addresses,
        paused: false,
    };
    tokio::join!(shows.net.add_peer(peer(at_shows)), joins.net.add_peer(peer(at_joins)));
    tokio::join!(shows.session(), joins.session());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_pair_by_address() {
    let (shows, joins) = (Setup::new(30).start(), Setup::new(31).start());
    let code = code();
    shows.net.open_invite(code.clone(), LIVES).await.expect("an invite");
    joins.net.join_invite(bare(&code), Some(shows.endpoint()), LIVES).await.expect("an attempt");
    agree_and_connect(shows, joins).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_pair_by_the_link_alone() {
    let (shows, joins) = (Setup::new(32).start(), Setup::new(33).start());
    let handle = shows.net.open_invite(code(), LIVES).await.expect("an invite");
    let link = handle.link.to_string().parse().expect("a link reads back");
    joins.net.join_invite(link, None, LIVES).await.expect("an attempt");
    agree_and_connect(shows, joins).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_pair_by_beacon() {
    let port = beacon_port();
    let (shows, joins) = (Setup::new(34).lan(port).start(), Setup::new(35).lan(port).start());
    let code = code();
    shows.net.open_invite(code.clone(), LIVES).await.expect("an invite");
    joins.net.join_invite(bare(&code), None, LIVES).await.expect("an attempt");
    agree_and_connect(shows, joins).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paired_devices_find_each_other_by_beacon() {
    let port = beacon_port();
    let mut a = Setup::new(36).peer(37, &[]).lan(port).start();
    let mut b = Setup::new(37).peer(36, &[]).lan(port).start();
    let _stranger = Setup::new(38).peer(39, &[]).lan(port).start();
    tokio::join!(a.session(), b.session());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_shows_a_code_is_told_of_a_device_of_another_version() {
    let (mut shows, joins) = (Setup::new(72).start(), Setup::new(73));
    let joins = Setup { tuning: Tuning { versions: (2, 3), ..joins.tuning }, ..joins }.start();
    let code = code();
    shows.net.open_invite(code.clone(), LIVES).await.expect("an invite");
    joins.net.join_invite(bare(&code), Some(shows.endpoint()), LIVES).await.expect("an attempt");
    let words = shows.failed().await;
    assert!(words.contains("versions 2 to 3 of the protocol, this one 1 to 1"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_may_decline() {
    for shown_declines in [true, false] {
        let (mut shows, mut joins) = (Setup::new(40).start(), Setup::new(41).start());
        let code = code();
        shows.net.open_invite(code.clone(), LIVES).await.expect("an invite");
        joins.net.join_invite(bare(&code), Some(shows.endpoint()), LIVES).await.expect("an attempt");
        let (at_shows, at_joins) = tokio::join!(shows.reached(), joins.reached());
        let (no, yes) = if shown_declines { (at_shows, at_joins) } else { (at_joins, at_shows) };
        yes.decide.send(true).expect("the pairing waits");
        // Dropping the question declines as well.
        drop(no.decide);
        let (words_shown, words_joined) = tokio::join!(shows.failed(), joins.failed());
        assert!(words_shown.contains("declined") && words_joined.contains("declined"), "{words_shown}, {words_joined}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_code_finds_nobody() {
    let (shows, mut joins) = (Setup::new(42).start(), Setup::new(43).start());
    shows.net.open_invite(code(), LIVES).await.expect("an invite");
    let lives = Duration::from_secs(1);
    joins.net.join_invite(bare(&code()), Some(shows.endpoint()), lives).await.expect("an attempt");
    let words = joins.failed().await;
    assert!(words.starts_with("no device answered to this code"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_works_once_and_not_after_its_time() {
    let (mut shows, mut joins) = (Setup::new(44).start(), Setup::new(45).start());
    let code = code();
    shows.net.open_invite(code.clone(), LIVES).await.expect("an invite");
    joins.net.join_invite(bare(&code), Some(shows.endpoint()), LIVES).await.expect("an attempt");
    // Used from the moment of the handshake on, whatever people decide later.
    let (_at_shows, _at_joins) = tokio::join!(shows.reached(), joins.reached());
    let mut second = Setup::new(46).start();
    second.net.join_invite(bare(&code), Some(shows.endpoint()), Duration::from_secs(1)).await.expect("an attempt");
    assert!(second.failed().await.starts_with("no device answered"));

    shows.net.open_invite(self::code(), Duration::from_millis(1)).await.expect("an invite");
    assert!(shows.failed().await.contains("expired"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_codes_are_open_at_a_time() {
    let shows = Setup::new(47).start();
    let mut open = Vec::new();
    for _ in 0..protocol::limits::INVITES_OPEN_MAX {
        open.push(shows.net.open_invite(code(), LIVES).await.expect("an invite").id);
    }
    assert!(shows.net.open_invite(code(), LIVES).await.is_err());
    shows.net.close_invite(open[0]).await;
    assert!(shows.net.open_invite(code(), LIVES).await.is_ok());
}
