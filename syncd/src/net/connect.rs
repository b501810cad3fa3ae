//! How a TCP connection is made from here: directly, or by a proxy. Whatever dials or looks a name up comes by here.
//! Invariants: what the proxy is for never goes around it, also when the proxy is down; with a proxy no name is looked up
//! here.

use super::config::{Own, random};
use super::event::Via;
use super::greet::Path;
use super::socks::{self, Host, Login};
use protocol::wire::relay::Endpoint;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

#[cfg(test)]
mod tests;

/// How long a proxy may take to connect: Tor builds a circuit first.
const PROXY_WAIT: Duration = Duration::from_secs(60);

/// What a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFor {
    /// All but addresses of the local network.
    Internet,
    /// All connections that are made from here.
    Everything,
}

/// A SOCKS5 proxy. It is an address, since its name would have to be looked up.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub at: SocketAddr,
    /// Who we are there. Without, each counterpart gets a random login, by which Tor keeps circuits apart.
    pub login: Option<Login>,
    /// What goes through it.
    pub what: ProxyFor,
}

impl Proxy {
    /// Whether a host at `ip` must not learn our address from a connection, or be told it.
    pub(super) fn covers(&self, ip: IpAddr) -> bool {
        self.what == ProxyFor::Everything || Via::of(ip.to_canonical()) != Via::Lan
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Address(SocketAddr),
    /// For the proxy to look up.
    Name(Endpoint),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(endpoint) => write!(f, "{endpoint}"),
        }
    }
}

/// A random login of one counterpart: connections with different ones share no circuit of Tor, so that nobody at its end
/// sees that they come from one device.
pub(super) struct Circuit(Login);

impl Circuit {
    pub(super) fn new() -> Self {
        let part = || {
            random::<16>().iter().fold(String::new(), |mut text, byte| {
                // Writing to a string does not fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        Self(Login::new(part(), part()).expect("32 digits fit"))
    }
}

/// What an endpoint stands for: its address, those of its name, or with a proxy the name itself.
pub(super) async fn targets(own: &Own, endpoint: &Endpoint) -> Result<Vec<Target>, String> {
    if let Ok(ip) = endpoint.host().parse::<IpAddr>() {
        return Ok(vec![Target::Address(SocketAddr::new(ip, endpoint.port()))]);
    }
    if own.proxy().is_some() {
        return Ok(vec![Target::Name(endpoint.clone())]);
    }
    match lookup_host((endpoint.host(), endpoint.port())).await {
        Ok(found) => Ok(found.map(Target::Address).collect()),
        Err(error) => Err(format!("{}: {error}", endpoint.host())),
    }
}

/// Connects, or says why not.
pub(super) async fn connect(own: &Own, target: &Target, circuit: &Circuit) -> Result<(TcpStream, Path), String> {
    let proxy = own.proxy();
    match (proxy, target) {
        (None, Target::Address(address)) => directly(own, *address).await,
        (Some(proxy), Target::Address(address)) if !proxy.covers(address.ip()) => directly(own, *address).await,
        (Some(proxy), target) => through(own, &proxy, target, circuit).await,
        (None, Target::Name(endpoint)) => Err(format!("{endpoint}: the proxy that was to look it up is no longer set")),
    }
}

/// Connects to `target` from `local`, the port that we listen on: what routers make of that port is what the other end aims at.
/// A proxy has no such port, so with one this is refused.
pub(super) async fn from_own_port(
    own: &Own,
    local: SocketAddr,
    target: SocketAddr,
    wait: Duration,
) -> Result<TcpStream, String> {
    if own.proxy().is_some() {
        return Err("a proxy is set".to_owned());
    }
    let socket = || -> std::io::Result<TcpSocket> {
        let socket = if local.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        #[cfg(unix)]
        socket.set_reuseport(true)?;
        socket.bind(local)?;
        Ok(socket)
    };
    let socket = socket().map_err(|error| format!("the port that this device listens on: {error}"))?;
    match timeout(wait, socket.connect(target)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("nothing answers there".to_owned()),
    }
}

async fn directly(own: &Own, address: SocketAddr) -> Result<(TcpStream, Path), String> {
    match timeout(own.tuning.connect_wait, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok((stream, Path::direct(address))),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: nothing answers there")),
    }
}

async fn through(own: &Own, proxy: &Proxy, target: &Target, circuit: &Circuit) -> Result<(TcpStream, Path), String> {
    let at = proxy.at;
    let mut stream = match timeout(own.tuning.connect_wait, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("{target}: the proxy at {at}: {error}")),
        Err(_) => return Err(format!("{target}: the proxy at {at} does not answer")),
    };
    let (host, address) = match target {
        Target::Address(address) => (Host::Ip(address.ip()), *address),
        // Where that is, the proxy knows.
        Target::Name(name) => (Host::Name(name.host()), SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), name.port())),
    };
    let port = address.port();
    let login = proxy.login.as_ref().unwrap_or(&circuit.0);
    match timeout(PROXY_WAIT, socks::connect(&mut stream, &host, port, login)).await {
        Ok(Ok(())) => Ok((stream, Path { via: Via::Proxy, address })),
        Ok(Err(trouble)) => Err(format!("{target}: the proxy at {at} {trouble}")),
        Err(_) => Err(format!("{target}: the proxy at {at} does not answer")),
    }
}
