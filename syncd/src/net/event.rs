//! What the network reports: sessions that come and go, messages, pairing, copied identities, wrong clocks.

use super::dial::Route;
use super::session::{Session, SessionId};
use protocol::model::DeviceId;
use protocol::wire::handshake::CheckNumber;
use protocol::wire::identity::PublicIdentity;
use protocol::wire::message::{CloseCode, Message};
use protocol::wire::pair::PairSecret;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// One report. Of one session, `SessionUp` comes first and `SessionDown` last; two sessions of one peer may overlap
/// while one takes over from the other.
pub enum NetEvent {
    /// A session is ready.
    SessionUp(Session),
    /// A session is over; all its requests have ended.
    SessionDown {
        /// With whom.
        peer: DeviceId,
        /// Which.
        session: SessionId,
        /// Why.
        reason: DownReason,
    },
    /// A message that answers no request of ours.
    Message {
        /// The session it came on.
        session: SessionId,
        /// The sender.
        peer: DeviceId,
        /// Names the answer: `Session::respond` or `Session::data_sink`.
        req: u32,
        /// What it says; never HELLO, PING, PONG, CLOSE, CANCEL or pairing.
        message: Message,
    },
    /// A pairing goes on.
    Pairing(PairingEvent),
    /// A second device came with the identity of a peer that is there, and was refused.
    Copied {
        /// Whose identity.
        peer: DeviceId,
    },
    /// A peer's clock and ours differ by more than two minutes.
    Skew {
        /// Whose.
        peer: DeviceId,
        /// Seconds that its clock is ahead of ours.
        ahead_secs: i64,
    },
}

/// Names an open invite, or an attempt to join one, on this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InviteId(pub u64);

/// Which end of a pairing this device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairingSide {
    /// It shows the code.
    Shows,
    /// The code was typed here.
    Joins,
}

/// How a pairing goes on.
pub enum PairingEvent {
    /// The other device is there; a person compares the check number on both screens.
    Reached {
        /// Which pairing.
        invite: InviteId,
        /// Our end.
        side: PairingSide,
        /// What the other device calls itself.
        name: String,
        /// The other device.
        id: DeviceId,
        /// The same on both screens, or somebody is in between.
        check_number: CheckNumber,
        /// The way it came.
        via: Via,
        /// The person's answer; dropping it declines.
        decide: oneshot::Sender<bool>,
    },
    /// Both sides agreed and hold the same secret. The code is used up.
    Paired {
        /// Which pairing.
        invite: InviteId,
        /// The other device's keys.
        identity: PublicIdentity,
        /// Its name.
        name: String,
        /// What the two now share.
        secret: PairSecret,
        /// Where the other device probably listens, best first.
        addresses: Vec<SocketAddr>,
    },
    /// It came to nothing; the code is void here.
    Failed {
        /// Which pairing.
        invite: InviteId,
        /// Why, for people.
        words: String,
    },
}

/// How a session reaches its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// Same network: a private or link-local address.
    Lan,
    /// Over the internet without anybody in between.
    Direct,
    /// Spliced by a relay, which sees addresses, times and volume.
    Relay,
    /// By the proxy that the user chose, to an address or name of the peer.
    Proxy,
}

impl Via {
    /// For a connection without a relay.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        let near = match address {
            IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        if near { Self::Lan } else { Self::Direct }
    }

    /// Whether the address of the connection is one at which the other end was met.
    #[must_use]
    pub const fn shows_address(self) -> bool {
        matches!(self, Self::Lan | Self::Direct)
    }
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// We ended it: this is what we told the peer.
    Closed(CloseCode),
    /// The peer ended it.
    ClosedByPeer(CloseCode),
    /// The connection broke, or was cut on the way.
    Cut(String),
    /// Nothing came for too long.
    Silent,
    /// The peer broke the protocol.
    Protocol(String),
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(code) => write!(f, "closed: {}", close_words(*code)),
            Self::ClosedByPeer(code) => write!(f, "the other device closed: {}", close_words(*code)),
            Self::Cut(words) => write!(f, "the connection was cut: {words}"),
            Self::Silent => f.write_str("the other device went silent"),
            Self::Protocol(words) => write!(f, "the other device broke the protocol: {words}"),
        }
    }
}

/// A close code for people.
pub(super) const fn close_words(code: CloseCode) -> &'static str {
    match code {
        CloseCode::DONE => "it stops",
        CloseCode::PROTOCOL => "a message was not understood",
        CloseCode::DECLINED => "the pairing was declined",
        CloseCode::DUPLICATE => "another connection takes over",
        CloseCode::REMOVED => "the device was removed",
        CloseCode::PAUSED => "the device is paused",
        CloseCode::RENEW => "keys are renewed",
        CloseCode::IDENTITY_COPIED => "two devices run with one identity; give one of them a new one",
        CloseCode::BUSY => "there is no room for another connection",
        _ => "for a reason that this version does not know",
    }
}

/// A peer, as people are shown it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who.
    pub peer: DeviceId,
    /// The present session, if there is one.
    pub connected: Option<Connected>,
    /// Paused by the user.
    pub paused: bool,
    /// Why the last attempt to connect failed, in words.
    pub last_error: Option<String>,
    /// Seconds that its clock was ahead of ours when last met.
    pub clock_ahead_secs: Option<i64>,
    /// What was tried lately to reach it, each way once, the latest first.
    pub tried: Vec<Tried>,
    /// How long until it is tried again, while it is sought and nothing is under way.
    pub next_try: Option<Duration>,
}

/// How this device looks from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// The port that a router maps to ours.
    pub mapped: Option<SocketAddr>,
    /// What came of asking the router, in words.
    pub router: Option<String>,
    /// How the last visit to the public table ended, in words.
    pub table: Option<String>,
    /// The address that the table sees us at.
    pub seen: Option<IpAddr>,
}

/// A way that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub route: Route,
    /// When that ended.
    pub at: SystemTime,
    /// Why it failed, in words; `None`: it led there.
    pub words: Option<String>,
}

/// A present session, as people are shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Which.
    pub session: SessionId,
    /// How.
    pub via: Via,
    /// The other end of the connection: the device's, or the relay's.
    pub address: SocketAddr,
    /// The last round trip that was timed.
    pub rtt: Option<Duration>,
    /// When it began.
    pub since: SystemTime,
}
