//! `config.toml`: what a person may choose, typed, each with a default. Read at the start and at each `config get`,
//! rewritten by `config set` without touching comments. A wrong value is refused in words; an unknown key is a warning.

mod document;
mod folder;
mod keys;
mod proxy;
mod schedule;
#[cfg(test)]
mod tests;

pub use folder::{Effective, FolderConfig, Links};
pub use keys::{VersionsMax, size};
pub use proxy::Proxy;
pub use schedule::{Effect, Moment, Schedule, until_next_minute};

use anyhow::{Context, Result};
use keys::{Key, Kind};
use protocol::limits::{NAME_LEN_MAX, RELAYS_MAX};
use protocol::wire::control as api;
use protocol::wire::control::{ControlError, ErrorCode, PathText};
use protocol::wire::relay::Endpoint;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Default port, TCP and UDP.
pub const DEFAULT_PORT: u16 = 28730;
/// Most addresses to listen on.
const LISTEN_MAX: usize = 16;
/// Most nodes to enter a table by.
const INTERNET_NODES_MAX: usize = 16;
/// A week: longer and a file system without events would look dead.
const SCAN_INTERVAL_S: std::ops::RangeInclusive<u64> = 10..=7 * 24 * 3600;
/// A hundred years.
const VERSIONS_DAYS: std::ops::RangeInclusive<u64> = 0..=36_500;

/// Whether this device announces itself in the local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lan {
    /// In every local network.
    Always,
    /// In none; nothing is sent and nothing heard.
    Never,
}

/// What the proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFor {
    /// All but addresses of the local network.
    Internet,
    /// All connections; nothing is said in the local network.
    Everything,
}

/// How much the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what may need a person.
    Warn,
    /// And what happens.
    Info,
    /// And why; names of files and devices appear from here on.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word in the file, also `tracing`'s.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// All settings of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This device's name, as others see it.
    pub name: String,
    /// Where to listen, TCP and UDP. IPv6 sockets are v6-only, so that both wildcards can stand side by side.
    pub listen: Vec<SocketAddr>,
    /// Local network.
    pub lan: Lan,
    /// Links of relays to use.
    pub relays: Vec<String>,
    /// Whether this device is a relay for its owner's others, at the port it listens on.
    pub relay: bool,
    /// Whether strangers on the internet help: a public table in which devices find each other, and ports of the router.
    pub internet: bool,
    /// Nodes to enter that table by; none: the well-known ones.
    pub internet_nodes: Vec<String>,
    /// By which connections are made; `None`: directly.
    pub proxy: Option<Proxy>,
    /// Which of them.
    pub proxy_for: ProxyFor,
    /// Bytes of content per second to all peers together; `None`: no limit.
    pub rate_limit_up: Option<u64>,
    /// Bytes of content per second from all peers together; `None`: no limit.
    pub rate_limit_down: Option<u64>,
    /// Whether these two hold for devices in the local network as well.
    pub rate_limit_lan: bool,
    /// When other limits hold.
    pub schedule: Schedule,
    /// Whether this device's connection costs by the byte.
    pub metered: bool,
    /// Bytes of the largest file that is fetched over such a connection.
    pub metered_max: u64,
    /// How long replaced and deleted files are kept; 0: not at all.
    pub versions_days: u64,
    /// How much space they may take.
    pub versions_max: VersionsMax,
    /// Seconds between full scans.
    pub scan_interval_s: u64,
    /// Whether file system events are used.
    pub watch: bool,
    /// Whether mass deletions and replacements are held.
    pub mass_delete_guard: bool,
    /// How much the log says.
    pub log_level: LogLevel,
}

impl Settings {
    /// The defaults on a machine called `host_name`.
    #[must_use]
    pub fn defaults(host_name: &str) -> Self {
        Self {
            name: keys::name(host_name).unwrap_or_else(|_| "device".to_owned()),
            listen: vec![(Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into(), (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into()],
            lan: Lan::Always,
            relays: Vec::new(),
            relay: false,
            internet: false,
            internet_nodes: Vec::new(),
            proxy: None,
            proxy_for: ProxyFor::Internet,
            rate_limit_up: None,
            rate_limit_down: None,
            rate_limit_lan: false,
            schedule: Schedule::default(),
            metered: false,
            metered_max: 0,
            versions_days: 30,
            versions_max: VersionsMax::Percent(10),
            scan_interval_s: 3600,
            watch: true,
            mass_delete_guard: true,
            log_level: LogLevel::Info,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::defaults(&host_name())
    }
}

/// The kernel's name of this machine, without its domain.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut name = name.trim().split('.').next().unwrap_or_default().to_owned();
    while name.len() > NAME_LEN_MAX {
        name.pop();
    }
    name
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

type Own = Key<Settings>;

const KEYS: [Own; 21] = [
    Own::new(
        "name",
        Kind::Text,
        "this device's name, as others see it",
        |s| Some(s.name.clone()),
        |s, text| {
            s.name = keys::name(text)?;
            Ok(())
        },
    ),
    Own::new(
        "listen",
        Kind::List,
        "addresses and ports to listen on",
        |s| Some(join(&s.listen)),
        |s, text| {
            let listen = keys::list(text).map(keys::socket_address).collect::<Result<Vec<_>, _>>()?;
            if listen.len() > LISTEN_MAX {
                return Err(format!("must be at most {LISTEN_MAX} addresses"));
            }
            s.listen = listen;
            Ok(())
        },
    )
    .needs_restart(),
    Own::new(
        "lan",
        Kind::Text,
        "always: find paired devices in the local network; never: stay silent there",
        |s| Some(if s.lan == Lan::Always { "always" } else { "never" }.to_owned()),
        |s, text| {
            s.lan = match text.trim() {
                "always" => Lan::Always,
                "never" => Lan::Never,
                _ => return Err("must be always or never".to_owned()),
            };
            Ok(())
        },
    ),
    Own::new(
        "relays",
        Kind::List,
        "links of the relays to use",
        |s| Some(join(&s.relays)),
        |s, text| {
            let relays: Vec<String> = keys::list(text).map(str::to_owned).collect();
            if relays.len() > RELAYS_MAX {
                return Err(format!("must be at most {RELAYS_MAX} links"));
            }
            if relays.iter().any(|link| link.chars().any(|c| c.is_whitespace() || c.is_control())) {
                return Err("must be links without blanks, as `syncd relay` prints them".to_owned());
            }
            s.relays = relays;
            Ok(())
        },
    ),
    Own::new(
        "relay",
        Kind::Switch,
        "true: your other devices may meet through this one, at the port it listens on",
        |s| Some(s.relay.to_string()),
        |s, text| {
            s.relay = keys::switch(text)?;
            Ok(())
        },
    ),
    Own::new(
        "internet",
        Kind::Text,
        "on: devices find each other in BitTorrent's public table and ask the router for a port; off: neither is ever contacted",
        |s| Some(keys::on_off_word(s.internet)),
        |s, text| {
            s.internet = keys::on_off(text)?;
            Ok(())
        },
    ),
    Own::new(
        "proxy",
        Kind::Text,
        "SOCKS5 proxy to make connections by, such as Tor: socks5://[USER:PASSWORD@]IP:PORT; empty: none",
        |s| s.proxy.as_ref().map(ToString::to_string),
        |s, text| {
            s.proxy = if text.trim().is_empty() { None } else { Some(text.parse()?) };
            Ok(())
        },
    ),
    Own::new(
        "internet_nodes",
        Kind::List,
        "HOST:PORT of nodes to enter the public table by; none: the well-known ones",
        |s| Some(join(&s.internet_nodes)),
        |s, text| {
            let nodes: Vec<String> = keys::list(text).map(str::to_owned).collect();
            if nodes.len() > INTERNET_NODES_MAX {
                return Err(format!("must be at most {INTERNET_NODES_MAX} nodes"));
            }
            if let Some(wrong) = nodes.iter().find(|node| node.parse::<Endpoint>().is_err()) {
                return Err(format!("must be nodes such as router.example.org:6881, not {wrong}"));
            }
            s.internet_nodes = nodes;
            Ok(())
        },
    ),
    Own::new(
        "proxy_for",
        Kind::Text,
        "internet: the local network is reached without the proxy; everything: nothing goes around it",
        |s| Some(if s.proxy_for == ProxyFor::Internet { "internet" } else { "everything" }.to_owned()),
        |s, text| {
            s.proxy_for = match text.trim() {
                "internet" => ProxyFor::Internet,
                "everything" => ProxyFor::Everything,
                _ => return Err("must be internet or everything".to_owned()),
            };
            Ok(())
        },
    ),
    Own::new(
        "rate_limit_up",
        Kind::Number,
        "bytes of file contents per second to all devices together, 0: no limit",
        |s| Some(s.rate_limit_up.unwrap_or(0).to_string()),
        |s, text| {
            s.rate_limit_up = Some(keys::size(text)?).filter(|rate| *rate > 0);
            Ok(())
        },
    ),
    Own::new(
        "rate_limit_down",
        Kind::Number,
        "bytes of file contents per second from all devices together, 0: no limit",
        |s| Some(s.rate_limit_down.unwrap_or(0).to_string()),
        |s, text| {
            s.rate_limit_down = Some(keys::size(text)?).filter(|rate| *rate > 0);
            Ok(())
        },
    ),
    Own::new(
        "rate_limit_lan",
        Kind::Switch,
        "the rate limits and the schedule hold in the local network too",
        |s| Some(s.rate_limit_lan.to_string()),
        |s, text| {
            s.rate_limit_lan = keys::switch(text)?;
            Ok(())
        },
    ),
    Own::new(
        "schedule",
        Kind::Rules,
        "rate limits by day and local time, the last that holds wins: mon-fri 09:00-17:00 up=200KB; 23:00-07:00 none; sun pause",
        |s| Some(s.schedule.to_string()),
        |s, text| {
            s.schedule = text.parse()?;
            Ok(())
        },
    ),
    Own::new(
        "metered",
        Kind::Switch,
        "this device's connection costs by the byte: file contents are not fetched, but in the local network",
        |s| Some(s.metered.to_string()),
        |s, text| {
            s.metered = keys::switch(text)?;
            Ok(())
        },
    ),
    Own::new(
        "metered_max",
        Kind::Number,
        "the largest file that is fetched over a connection that costs by the byte",
        |s| Some(s.metered_max.to_string()),
        |s, text| {
            s.metered_max = keys::size(text)?;
            Ok(())
        },
    ),
    Own::new(
        "versions_days",
        Kind::Number,
        "days that replaced and deleted files are kept, 0: not at all",
        |s| Some(s.versions_days.to_string()),
        |s, text| {
            s.versions_days = keys::number(text, VERSIONS_DAYS)?;
            Ok(())
        },
    ),
    Own::new(
        "versions_max",
        Kind::Text,
        "space that kept files may take: a share of the disk or a size",
        |s| Some(s.versions_max.to_string()),
        |s, text| {
            s.versions_max = text.parse()?;
            Ok(())
        },
    ),
    Own::new(
        "scan_interval_s",
        Kind::Number,
        "seconds between full scans",
        |s| Some(s.scan_interval_s.to_string()),
        |s, text| {
            s.scan_interval_s = keys::number(text, SCAN_INTERVAL_S)?;
            Ok(())
        },
    ),
    Own::new(
        "watch",
        Kind::Switch,
        "notice changes at once through file system events",
        |s| Some(s.watch.to_string()),
        |s, text| {
            s.watch = keys::switch(text)?;
            Ok(())
        },
    ),
    Own::new(
        "mass_delete_guard",
        Kind::Text,
        "on: hold back mass deletions and replacements until a person approves; off: never",
        |s| Some(keys::on_off_word(s.mass_delete_guard)),
        |s, text| {
            s.mass_delete_guard = keys::on_off(text)?;
            Ok(())
        },
    ),
    Own::new(
        "log_level",
        Kind::Text,
        "how much the log says: error, warn, info, debug (names appear), trace",
        |s| Some(s.log_level.word().to_owned()),
        |s, text| {
            let level = LogLevel::ALL.into_iter().find(|level| level.word() == text.trim());
            s.log_level = level.ok_or("must be error, warn, info, debug or trace")?;
            Ok(())
        },
    ),
];

/// The settings file and what it says.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    settings: Settings,
    warnings: Vec<String>,
}

impl ConfigFile {
    /// Reads `path` (`Home::config`); a missing file means defaults and is not made.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, or a value makes no sense; the words name file, key and what is allowed.
    pub fn load(path: &Path) -> Result<Self> {
        let document = document::read(path)?;
        let mut settings = Settings::default();
        let warnings = document::load(&document, &KEYS, path, &mut settings)?;
        Ok(Self { path: path.to_owned(), settings, warnings })
    }

    /// What it says, defaults filled in.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Unknown keys.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The answer of `GET config`. What the schedule says now is for the caller to add.
    #[must_use]
    pub fn reply(&self) -> api::Config {
        api::Config {
            file: PathText::new(self.path.as_os_str().as_bytes()),
            settings: KEYS.iter().map(|key| self.setting(key)).collect(),
            warnings: self.warnings.clone(),
        }
    }

    /// Changes one setting in the file and here; `None` takes it back to the default. The file is read again first,
    /// so an edit made by hand meanwhile counts.
    ///
    /// # Errors
    /// There is no such key, the value makes no sense (`BadRequest`), or the file cannot be written (`Io`). Nothing
    /// has changed then.
    pub fn set(&mut self, key: &str, value: Option<&str>) -> Result<api::Setting, ControlError> {
        let key = find(&KEYS, key)?;
        let io = |error: anyhow::Error| ControlError::new(ErrorCode::Io, format!("{error:#}"));
        let mut document = document::read(&self.path).map_err(io)?;
        let mut settings = Settings::default();
        if let Some(value) = value {
            (key.parse)(&mut settings, value)
                .map_err(|why| ControlError::bad_request(format!("{} {why}", key.name)))?;
        }
        let text = value.and_then(|_| (key.get)(&settings));
        document::put(&mut document, key.name, key.kind, text.as_deref());
        let mut settings = Settings::default();
        let warnings = document::load(&document, &KEYS, &self.path, &mut settings)
            .map_err(|error| ControlError::refused(format!("{error:#}")).hint("correct the file by hand first"))?;
        document::write(&self.path, &document).map_err(io)?;
        (self.settings, self.warnings) = (settings, warnings);
        Ok(self.setting(key))
    }

    fn setting(&self, key: &Key<Settings>) -> api::Setting {
        setting(key, &self.settings, (key.get)(&Settings::default()).unwrap_or_default())
    }
}

fn setting<T>(key: &Key<T>, target: &T, default: String) -> api::Setting {
    let value = (key.get)(target).unwrap_or_else(|| default.clone());
    api::Setting {
        key: key.name.to_owned(),
        value,
        default,
        words: key.words.to_owned(),
        restart: key.restart,
        now: None,
    }
}

fn find<'k, T>(keys: &'k [Key<T>], name: &str) -> Result<&'k Key<T>, ControlError> {
    let settable = || keys.iter().filter(|key| !key.fixed);
    settable().find(|key| key.name == name).ok_or_else(|| {
        let names: Vec<&str> = settable().map(|key| key.name).collect();
        ControlError::not_found(format!("there is no setting {name:?}"))
            .hint(format!("the settings are {}", names.join(", ")))
    })
}

/// Reads and writes `FolderConfig`s in one place, the folder directory of a home.
///
/// # Errors
/// A file cannot be read or makes no sense: the folder would otherwise vanish silently.
pub fn load_folders(directory: &Path) -> Result<Vec<(FolderConfig, Vec<String>)>> {
    let shown = directory.display();
    let mut folders = Vec::new();
    for file in std::fs::read_dir(directory).with_context(|| format!("cannot list {shown}"))? {
        let path = file.with_context(|| format!("cannot list {shown}"))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            folders.push(FolderConfig::load(&path)?);
        }
    }
    folders.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    Ok(folders)
}
