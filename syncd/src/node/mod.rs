//! The daemon as a whole: owns the home, the folders, the network and the pairings, wires them together, and shuts
//! them down in order. One task owns all of it; everything else reaches it by message.

mod addresses;
mod copies;
mod errands;
mod files;
mod folders;
mod holds;
mod limits;
mod log;
mod outside;
mod pairing;
mod preview;
mod reach;
mod realm;
mod relaying;
mod renewal;
mod requests;
mod roles;
mod roots;
mod sessions;
mod sharing;
mod status;
mod wait;

use crate::config::{self, ConfigFile, Lan, ProxyFor, Settings, load_folders};
use crate::control::{EventHub, Handle, NewEvent, Request, Server};
use crate::disk::fs::RealFs;
use crate::home::{Home, HomeLock};
use crate::keys::{self, Pairing, Pairings};
use crate::membership::{Kept, Membership};
use crate::net::{About, Internet, LanMode, Login, Net, NetConfig, NetEvent, PeerConfig, Proxy, Tuning};
use crate::transfer::Transfer;
use anyhow::{Context, Result};
use errands::Errand;
use folders::Slot;
use outside::{Exit, Grants, Note, Router};
use protocol::model::{DeviceId, FolderId};
use protocol::sync::engine::Alarm;
use protocol::wire::control::{ControlError, EventKind};
use protocol::wire::identity::Identity;
use protocol::wire::message::Index;
use protocol::wire::relay::{Endpoint, RelayLink};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Errands that may wait.
const ERRANDS_MAX: usize = 16;
/// Events of the network that may wait; sessions stop reading beyond.
const NET_EVENTS_MAX: usize = 256;

/// A folder that could not be started is tried again this often: its disk may be mounted by now.
const STOPPED_POLL: Duration = Duration::from_secs(5);

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything it keeps.
    pub home: Home,
    /// Addresses to listen on instead of the configured ones.
    pub listen: Vec<SocketAddr>,
}

/// A running daemon inside this process.
pub struct Daemon {
    /// The control API without its socket.
    pub handle: Handle,
    /// Where it listens; ports are resolved.
    pub listening: Vec<SocketAddr>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<Ended>>,
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was told.
    Stopped,
    /// A folder's database was written by a newer version.
    NewerDatabase,
    /// It has another identity now and wants to be started again.
    Renewed,
}

struct Node {
    home: Home,
    _lock: HomeLock,
    id: DeviceId,
    config: ConfigFile,
    identity: Arc<Identity>,
    pairings: Pairings,
    membership: Membership,
    realm: realm::Talk,
    relaying: relaying::Relaying,
    net: Net,
    transfer: Arc<Transfer<RealFs>>,
    grants: Arc<Grants>,
    exit: Arc<Exit>,
    router: Arc<Router>,
    hub: EventHub,
    folders: BTreeMap<FolderId, Slot>,
    peers: BTreeMap<DeviceId, sessions::Peer>,
    /// Bytes received from and sent to each device on sessions that are over.
    carried: BTreeMap<DeviceId, (u64, u64)>,
    /// Indexes that a preview collects.
    previews: BTreeMap<(DeviceId, FolderId), mpsc::Sender<Index>>,
    /// To ourselves, from tasks that run beside the loop.
    errands: mpsc::Sender<Errand>,
    attempts: BTreeMap<u64, pairing::Attempt>,
    skews: BTreeMap<DeviceId, i64>,
    /// What holds content up now.
    limits: crate::transfer::Limits,
    /// When another rule of the schedule may hold.
    limits_look: Instant,
    /// Identities that two devices run with.
    copies: copies::Copies,
    /// What was found wrong with indexes, and mended.
    home_problems: Vec<renewal::HomeProblem>,
    /// Indexes that went back to an earlier state, and when they were last renewed.
    renewals: BTreeMap<FolderId, renewal::Renewal>,
    /// Set when there is a reason of its own to end.
    end: Option<Ended>,
    started: Instant,
    stop: CancellationToken,
}

impl Daemon {
    /// Starts everything; returns when the control socket answers.
    ///
    /// # Errors
    /// `HomeInUse` when another daemon has the home; else what could not be opened.
    pub async fn start(options: Options) -> Result<Self> {
        let Options { home, listen } = options;
        home.create()?;
        let lock = home.lock()?;
        let keys = keys::open(&home.keys())?;
        let pairings = Pairings::open(&home.keys())?;
        let membership = Membership::open(&home.keys())?;
        let config = ConfigFile::load(&home.config())?;
        config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let server = Server::bind(&home.socket())?;
        let hub = EventHub::new();
        let (handle, requests) = Handle::new(hub.clone());
        let (events, net_events) = mpsc::channel(NET_EVENTS_MAX);
        let (id, identity) = (keys.identity.id(), Arc::new(keys.identity));
        let known = (&pairings, membership.kept());
        let net = Net::start(net_config(&identity, keys.instance, &config, &listen, known, home.knocks())?, events)?;
        net.set_realm(realm::realm_note(membership.kept()));
        let grants = Arc::new(Grants::default());
        let asked = Arc::clone(&grants);
        let grant: crate::transfer::Grant = Arc::new(move |peer, folder| asked.allows(peer, folder));
        let transfer = Arc::new(Transfer::start(grant).context("the transfer threads cannot start")?);
        let router = Arc::new(Router::default());
        let (exit, notes) = Exit::new(Arc::clone(&router), Arc::clone(&transfer));
        let stop = CancellationToken::new();
        let (errands, errand_queue) = mpsc::channel(ERRANDS_MAX);
        let mut node = Node {
            home,
            _lock: lock,
            id,
            config,
            identity,
            pairings,
            membership,
            realm: realm::Talk::default(),
            relaying: relaying::Relaying::default(),
            net,
            transfer,
            grants,
            exit: Arc::new(exit),
            router,
            hub,
            folders: BTreeMap::new(),
            peers: BTreeMap::new(),
            carried: BTreeMap::new(),
            previews: BTreeMap::new(),
            errands,
            attempts: BTreeMap::new(),
            skews: BTreeMap::new(),
            limits: crate::transfer::Limits::default(),
            limits_look: Instant::now(),
            copies: copies::Copies::default(),
            home_problems: Vec::new(),
            renewals: BTreeMap::new(),
            end: None,
            started: Instant::now(),
            stop: stop.clone(),
        };
        node.keep_limits();
        node.start_folders()?;
        let listening = node.net.listening().to_vec();
        tracing::info!(device = %id.short(), folders = node.folders.len(), "running");
        node.hub.publish(NewEvent::new(EventKind::Started, "syncd is running"));
        let control = tokio::spawn(server.serve(handle.clone(), stop.clone()));
        let task = tokio::spawn(async move {
            let ended = node.run(requests, net_events, notes, errand_queue).await;
            control.await.context("the control server panicked")?;
            Ok(ended)
        });
        Ok(Self { handle, listening, stop, task })
    }

    /// Waits until it ends by itself or is stopped.
    ///
    /// # Errors
    /// When its task panicked.
    pub async fn ended(self) -> Result<Ended> {
        self.task.await.context("the daemon's task panicked")?
    }

    /// A switch that stops it.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }
}

impl Node {
    fn start_folders(&mut self) -> Result<()> {
        self.realm.only_reads = self.only_reads();
        for (folder, warnings) in load_folders(&self.home.folders())? {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            self.start_folder(folder);
        }
        Ok(())
    }

    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut net_events: mpsc::Receiver<NetEvent>,
        mut notes: mpsc::Receiver<Note>,
        mut errands: mpsc::Receiver<Errand>,
    ) -> Ended {
        let stop = self.stop.clone();
        self.realm_settled().await;
        self.keep_relaying();
        self.keep_ways().await;
        let mut stopped = tokio::time::interval(STOPPED_POLL);
        while self.end.is_none() {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(request) = requests.recv() => self.request(request).await,
                Some(event) = net_events.recv() => self.net_event(event).await,
                Some(note) = notes.recv() => self.note(note),
                Some(errand) = errands.recv() => self.errand(errand),
                () = tokio::time::sleep_until(self.limits_look.into()) => self.keep_limits(),
                _ = stopped.tick() => {
                    self.renew_due();
                    self.expire_copies();
                    self.rotate_due().await;
                    self.retry_stopped();
                }
            }
        }
        self.hub.publish(NewEvent::new(EventKind::Stopping, "syncd is stopping"));
        self.stop.cancel();
        self.net.shutdown().await;
        self.end_relaying().await;
        let ids: Vec<FolderId> = self.folders.keys().copied().collect();
        for id in ids {
            self.stop_folder(&id, folders::State::Paused);
        }
        self.end.unwrap_or(Ended::Stopped)
    }

    fn note(&mut self, note: Note) {
        let named = |node: &Self, id: &FolderId| node.folders.get(id).map(Slot::named);
        let event = match note {
            Note::Changed(id, record) => {
                let kind = match (record.what, record.local) {
                    (crate::folder::What::Conflict, _) => EventKind::Conflict,
                    (_, true) => EventKind::LocalChange,
                    (_, false) => EventKind::RemoteChange,
                };
                let words = format!("{} {}", outside::change_word(record.what).word(), record.path.display());
                named(self, &id).map(|folder| NewEvent::new(kind, words).folder(folder).path(&record.path))
            }
            Note::State(id, idle) => {
                let words = if idle { "idle" } else { "busy" };
                named(self, &id).map(|folder| NewEvent::new(EventKind::FolderState, words).folder(folder))
            }
            Note::Alarm(id, Alarm::Stale { peer, replica }) => return self.went_back(id, &peer, replica),
            Note::Alarm(id, alarm) => named(self, &id).map(|folder| self.alarm_event(&alarm).folder(folder)),
            Note::AlarmOver(id, alarm) => named(self, &id).map(|folder| self.alarm_over_event(&alarm).folder(folder)),
            Note::Problem(id, words) => {
                named(self, &id).map(|folder| NewEvent::new(EventKind::Problem, words).folder(folder))
            }
            Note::Stopped(id, Some(cause)) if cause.asks() => return self.root_replaced(id),
            Note::Stopped(id, cause) => named(self, &id).map(|folder| match cause {
                Some(cause) => NewEvent::new(EventKind::Problem, cause.words()).folder(folder),
                None => NewEvent::new(EventKind::ProblemSolved, "the folder is back").folder(folder),
            }),
        };
        if let Some(event) = event {
            self.hub.publish(event);
        }
    }
}

fn net_config(
    identity: &Arc<Identity>,
    instance: [u8; 16],
    config: &ConfigFile,
    listen: &[SocketAddr],
    (pairings, kept): (&Pairings, Option<&Kept>),
    knocks: PathBuf,
) -> Result<NetConfig> {
    let settings = config.settings();
    let mut boot = [0; 8];
    getrandom::fill(&mut boot).context("no randomness")?;
    Ok(NetConfig {
        identity: Arc::clone(identity),
        hello: About {
            name: settings.name.clone(),
            instance,
            boot,
            software: format!("syncd {}", env!("CARGO_PKG_VERSION")),
        },
        listen: if listen.is_empty() { settings.listen.clone() } else { listen.to_vec() },
        lan: lan_mode(settings),
        internet: internet(settings),
        proxy: proxy(settings),
        knocks: Some(knocks),
        relays: parse_relays(settings.relays.iter().map(String::as_str))
            .map_err(|error| anyhow::anyhow!("config.toml: relays: {error}"))?,
        peers: pairings.all().iter().map(|pairing| peer_config(pairing, kept, identity)).collect(),
        tuning: Tuning::default(),
    })
}

fn internet(settings: &Settings) -> Internet {
    Internet { on: settings.internet, nodes: settings.internet_nodes.clone() }
}

/// A proxy that is for everything leaves nothing to say or hear in the local network.
fn lan_mode(settings: &Settings) -> LanMode {
    match settings.lan {
        Lan::Always if settings.proxy.is_none() || settings.proxy_for == ProxyFor::Internet => LanMode::On,
        Lan::Always | Lan::Never => LanMode::Off,
    }
}

fn proxy(settings: &Settings) -> Option<Proxy> {
    let config::Proxy { at, login } = settings.proxy.clone()?;
    let login = login.map(|(user, password)| Login::new(user, password).expect("settings hold no longer parts"));
    let what = match settings.proxy_for {
        ProxyFor::Internet => crate::net::ProxyFor::Internet,
        ProxyFor::Everything => crate::net::ProxyFor::Everything,
    };
    Some(Proxy { at, login, what })
}

/// `kept`: the realm, whose secrets of other epochs the device may dial with.
fn peer_config(pairing: &Pairing, kept: Option<&Kept>, own: &Identity) -> PeerConfig {
    let is_member = |kept: &&Kept| kept.realm().members.contains_key(&pairing.id());
    let realms = kept.filter(is_member).map(|kept| kept.pair_secrets(own, &pairing.public)).unwrap_or_default();
    let all = realms.into_iter().map(|(_, secret)| secret).chain(pairing.previous.clone());
    PeerConfig {
        identity: pairing.public,
        secret: pairing.secret.clone(),
        before: pairing.previous.clone(),
        also: all.filter(|secret| *secret != pairing.secret).collect(),
        typed: parse_addresses(&pairing.addresses).unwrap_or_default(),
        learned: pairing.learned.iter().filter_map(|address| address.parse().ok()).collect(),
        paused: pairing.paused,
    }
}

fn parse_addresses(addresses: &[String]) -> Result<Vec<Endpoint>, ControlError> {
    let parse = |text: &String| {
        text.parse::<Endpoint>().map_err(|_| {
            ControlError::bad_request(format!("{text} is not HOST:PORT")).hint("for example nas.local:28730")
        })
    };
    addresses.iter().map(parse).collect()
}

fn parse_relays<'a>(links: impl Iterator<Item = &'a str>) -> Result<Vec<RelayLink>, ControlError> {
    let parse = |link: &str| {
        link.trim().parse::<RelayLink>().map_err(|error| {
            ControlError::bad_request(format!("that is not a relay's link: {error}"))
                .hint("`syncd relay` prints its link when it starts")
        })
    };
    links.map(parse).collect()
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
