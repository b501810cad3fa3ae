//! Devices that cannot reach each other meet at a relay.

use super::pairing::agree_and_connect;
use super::*;
use crate::relay::{Relay, RelayConfig, RelayLimits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Running {
    relay: Relay,
    stop: CancellationToken,
}

impl Running {
    async fn start(listen: SocketAddr) -> Self {
        let stop = CancellationToken::new();
        let limits = RelayLimits { drain: Duration::from_secs(1), knocks_per_second: 1000, ..RelayLimits::default() };
        let config = RelayConfig {
            listen: vec![listen],
            seed: Secret32::new([5; 32]),
            access_keys: vec![Secret32::new([6; 32])],
            public: None,
            limits,
        };
        let relay = serve(config, stop.clone()).await.expect("loopback can be listened on");
        Self { relay, stop }
    }

    async fn on_loopback() -> Self {
        Self::start(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)).await
    }

    async fn stop(self) -> SocketAddr {
        self.stop.cancel();
        timeout(PATIENCE, self.relay.stopped()).await.expect("a relay stops");
        self.relay.listening[0]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_meet_at_a_relay_and_again_when_it_was_gone() {
    // Not a port that the system hands out meanwhile.
    let running = Running::start(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), beacon_port())).await;
    let link = running.relay.link.clone();
    let mut a = Setup::new(50).peer(51, &[]).relay(&link).start();
    let mut b = Setup::new(51).peer(50, &[]).relay(&link).start();
    let (at_a, at_b) = tokio::join!(a.session(), b.session());
    assert_eq!((at_a.via(), at_b.via()), (Via::Relay, Via::Relay));
    assert_eq!(at_a.initiated(), a.id() < b.id(), "the smaller id speaks first");
    let address = running.stop().await;
    tokio::join!(a.down(at_a.id()), b.down(at_b.id()));
    let _again = Running::start(address).await;
    let (at_a, at_b) = tokio::join!(a.session(), b.session());
    assert_eq!((at_a.via(), at_b.via()), (Via::Relay, Via::Relay));
}

/// One that heard of the next secret before the other did, which may be the one that speaks first, and may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_brings_two_together_of_whom_one_dials_with_another_secret_by_now() {
    let running = Running::on_loopback().await;
    let link = running.relay.link.clone();
    for (ahead, behind) in [(60, 61), (63, 62)] {
        let mut early = Setup::new(ahead).peer(behind, &[]).relay(&link);
        let next = PairSecret::between(&identity(ahead), &identity(behind).public(), &Secret32::new([0x78; 32]));
        let peer = early.peers.last_mut().expect("one peer");
        let old = std::mem::replace(&mut peer.secret, next.expect("two devices"));
        (peer.before, peer.also) = (Some(old.clone()), vec![old]);
        let mut late = Setup::new(behind).peer(ahead, &[]).relay(&link).start();
        let mut early = early.start();
        let (at_early, at_late) = tokio::join!(early.session(), late.session());
        assert_eq!((at_early.via(), at_late.via()), (Via::Relay, Via::Relay));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_pair_through_a_relay() {
    let running = Running::on_loopback().await;
    let link = running.relay.link.clone();
    // The shower listens nowhere, so only the relay in the link leads to it; the joiner knows no relay of its own.
    let shows = Setup { listen: Vec::new(), ..Setup::new(52) }.relay(&link).start();
    let joins = Setup { listen: Vec::new(), ..Setup::new(53) }.start();
    let handle = shows.net.open_invite(InviteCode::from_random(random()), PATIENCE).await.expect("an invite");
    joins.net.join_invite(handle.link, None, PATIENCE).await.expect("an attempt");
    joins.net.set_relays(vec![link]).await;
    agree_and_connect(shows, joins).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_takes_over_from_the_relay() {
    let running = Running::on_loopback().await;
    let link = running.relay.link.clone();
    let mut a = Setup::new(54).peer(55, &[]).relay(&link).start();
    let mut b = Setup::new(55).peer(54, &[]).relay(&link).start();
    let (at_a, _) = tokio::join!(a.session(), b.session());
    assert_eq!(at_a.via(), Via::Relay);
    b.net.set_addresses(a.id(), Vec::new(), vec![a.address()]).await;
    let (at_a, at_b) = tokio::join!(a.session(), b.session());
    assert_eq!((at_a.via(), at_b.via()), (Via::Lan, Via::Lan));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_is_silent_without_its_access_key() {
    let running = Running::on_loopback().await;
    let mut link = running.relay.link.clone();
    link.access_key = Secret32::new([7; 32]);
    let mut stranger = TcpStream::connect(running.relay.listening[0]).await.expect("it listens");
    stranger.write_all(&random::<168>()).await.expect("it reads");
    let mut all = Vec::new();
    // A reset is a close like any other.
    let _ = timeout(PATIENCE, stranger.read_to_end(&mut all)).await.expect("strangers are closed in time");
    assert!(all.is_empty());
    let a = Setup::new(56).peer(57, &[]).relay(&link).start();
    let words = async {
        loop {
            if let Some(words) = a.net.status().await[0].last_error.clone() {
                return words;
            }
            tokio::task::yield_now().await;
        }
    };
    let words = timeout(PATIENCE, words).await.expect("the failure shows");
    assert!(words.contains("access key"), "{words}");
}
