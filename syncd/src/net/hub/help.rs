//! The help of strangers, behind one switch: the public table and the router. What they are asked, and what becomes of what
//! they say.

use super::Hub;
use crate::net::config::Internet;
use crate::net::event::Outside;
use crate::net::keys::{Keys, Who};
use crate::net::portmap::{self, Mapped};
use crate::net::punch::{is_global, local_for};
use crate::net::pursuit::Wanted;
use crate::net::rendezvous::{self, Found};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Reports that wait for the hub.
const QUEUE: usize = 64;

/// Both helpers, and what is known by them.
pub(super) struct Help {
    pub(super) internet: Internet,
    pub(super) outside: Outside,
    table: watch::Sender<Arc<rendezvous::Wanted>>,
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    router: watch::Sender<portmap::Wanted>,
    mapped: (mpsc::Sender<Mapped>, mpsc::Receiver<Mapped>),
}

/// A report of one of them.
pub(super) enum Helped {
    Table(Found),
    Router(Mapped),
}

impl Help {
    pub(super) fn new(internet: Internet) -> Self {
        Self {
            internet,
            outside: Outside::default(),
            table: watch::Sender::new(Arc::default()),
            found: mpsc::channel(QUEUE),
            router: watch::Sender::new(portmap::Wanted::default()),
            mapped: mpsc::channel(QUEUE),
        }
    }

    /// Both wait until they are asked.
    pub(super) fn start(&self, tracker: &TaskTracker, stop: &CancellationToken) {
        tracker.spawn(rendezvous::run(self.table.subscribe(), self.found.0.clone(), stop.clone()));
        tracker.spawn(portmap::run(self.router.subscribe(), self.mapped.0.clone(), stop.clone()));
    }

    /// The next report.
    pub(super) async fn next(&mut self) -> Option<Helped> {
        tokio::select! {
            Some(found) = self.found.1.recv() => Some(Helped::Table(found)),
            Some(mapped) = self.mapped.1.recv() => Some(Helped::Router(mapped)),
        }
    }
}

impl Hub {
    /// Tells both what is wanted now.
    pub(super) fn ask_for_help(&mut self) {
        // The table and the router are asked past a proxy: with one they are not.
        let proxied = self.parts.own.proxy().is_some();
        let on = self.help.internet.on && !self.parts.listening.is_empty() && !proxied;
        let listening = &self.parts.listening;
        let port = local_for(listening, &Ipv4Addr::UNSPECIFIED.into()).map(|address| address.port());
        let wanted = portmap::Wanted { on, port, bursts: self.changes };
        self.help.router.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);

        let device = |keys: &Arc<Keys>| (keys.who, keys.secret.clone(), keys.out);
        let sought = self.peers.values().filter(|peer| peer.wanted() == Wanted::Anyhow);
        let peers = sought.flat_map(|peer| std::iter::once(&peer.pursuit.keys).chain(&peer.pursuit.before));
        let invites = self.invites.values().filter(|invite| invite.is_open()).map(|invite| &invite.pursuit.keys);
        let own = self.interfaces.iter().map(|interface| interface.ip).filter(|ip| is_global(*ip));
        let own = own.filter_map(|ip: IpAddr| Some(SocketAddr::new(ip, local_for(listening, &ip)?.port())));
        let wanted = rendezvous::Wanted {
            on,
            nodes: self.help.internet.nodes.clone(),
            devices: if on { invites.chain(peers).map(device).collect() } else { Vec::new() },
            own: self.help.outside.mapped.into_iter().chain(own).collect(),
            port,
            bursts: self.changes,
        };
        self.help.table.send_replace(Arc::new(wanted));
    }

    pub(super) fn helped(&mut self, helped: Helped) {
        let outside = &mut self.help.outside;
        match helped {
            Helped::Router(Mapped::At(address, how)) => {
                let usable = is_global(address.ip());
                let words = if usable {
                    format!("{how} gives {address}")
                } else {
                    format!("{how} gives {address}, which is private as well: another router is behind it")
                };
                outside.router = Some(words);
                let mapped = Some(address).filter(|_| usable);
                if std::mem::replace(&mut outside.mapped, mapped) != mapped {
                    self.ask_for_help();
                }
            }
            Helped::Router(Mapped::Not(words)) => (outside.mapped, outside.router) = (None, Some(words)),
            Helped::Table(Found::Ourselves(ip)) => outside.seen = Some(ip),
            Helped::Table(Found::State(words)) => outside.table = Some(words),
            Helped::Table(Found::Peer(who, addresses)) => {
                let now = Instant::now();
                let pursuit = match who {
                    Who::Peer(peer) => self.peers.get_mut(&peer).map(|peer| &mut peer.pursuit),
                    Who::Invite(invite) => self.invites.get_mut(&invite).map(|invite| &mut invite.pursuit),
                };
                if let Some(pursuit) = pursuit {
                    pursuit.found(&addresses, &self.interfaces, now);
                }
            }
        }
    }
}
