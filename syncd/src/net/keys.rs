//! Keys of one counterpart, a paired device or an invite, derived once and shared with the tasks that use them.

use super::config::PeerConfig;
use super::connect::Circuit;
use super::event::{InviteId, PairingSide};
use protocol::model::DeviceId;
use protocol::wire::identity::{Identity, PublicIdentity};
use protocol::wire::kdf::Secret32;
use protocol::wire::knock::Context;
use protocol::wire::pair::{Direction, PairSecret};

/// Whom a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Peer(DeviceId),
    Invite(InviteId),
}

/// Everything derived from one pair secret.
pub(super) struct Keys {
    pub(super) who: Who,
    pub(super) context: Context,
    pub(super) secret: PairSecret,
    /// The direction in which we send.
    pub(super) out: Direction,
    pub(super) knock_out: Secret32,
    pub(super) knock_in: Secret32,
    pub(super) lan_out: Secret32,
    pub(super) lan_in: Secret32,
    pub(super) psk: Secret32,
    pub(super) expected: Option<PublicIdentity>,
    pub(super) circuit: Circuit,
}

impl Keys {
    pub(super) fn of_peer(own: &Identity, peer: &PeerConfig, secret: &PairSecret) -> Self {
        let out = Direction::of(&own.id(), &peer.id());
        Self::derive(Who::Peer(peer.id()), Context::Session, secret.clone(), out, Some(peer.identity))
    }

    pub(super) fn of_invite(id: InviteId, secret: PairSecret, side: PairingSide) -> Self {
        let out = match side {
            PairingSide::Shows => Direction::Low,
            PairingSide::Joins => Direction::High,
        };
        Self::derive(Who::Invite(id), Context::Pairing, secret, out, None)
    }

    fn derive(
        who: Who,
        context: Context,
        secret: PairSecret,
        out: Direction,
        expected: Option<PublicIdentity>,
    ) -> Self {
        Self {
            who,
            context,
            out,
            knock_out: secret.knock_key(out),
            knock_in: secret.knock_key(out.reverse()),
            lan_out: secret.lan_key(out),
            lan_in: secret.lan_key(out.reverse()),
            psk: secret.psk(),
            secret,
            expected,
            circuit: Circuit::new(),
        }
    }

    /// Whether we speak first inside a relay's splice: the smaller device id, or whoever joins by an invite.
    pub(super) fn initiates_at_relay(&self) -> bool {
        match self.context {
            Context::Pairing => self.out == Direction::High,
            Context::Session | Context::Relay => self.out == Direction::Low,
        }
    }
}
