//! Asks a SOCKS5 proxy for a connection (RFC 1928, CONNECT only) and logs in with a name and a password where the proxy
//! wants that (RFC 1929). Every read has a length that is known beforehand, the longest is 258 bytes; time is the
//! caller's business.

use std::fmt;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

#[cfg(test)]
mod tests;

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const WITH_LOGIN: u8 = 2;
const NONE_FITS: u8 = 0xff;
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// Longest user name, password or host name: their length is one byte.
pub(super) const PART_LEN_MAX: usize = 255;

/// What a proxy is told about who comes: 1 to 255 bytes each.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

impl Login {
    /// `None` when a part is empty or too long.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Option<Self> {
        let (user, password) = (user.into(), password.into());
        let fits = |part: &String| (1..=PART_LEN_MAX).contains(&part.len());
        (fits(&user) && fits(&password)).then_some(Self { user, password })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![LOGIN_VERSION];
        for part in [&self.user, &self.password] {
            bytes.push(u8::try_from(part.len()).expect("a login has parts of at most 255 bytes"));
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// Where the proxy shall connect to.
pub(super) enum Host<'a> {
    Ip(IpAddr),
    /// Looked up by the proxy; at most 255 bytes.
    Name(&'a str),
}

/// Why there is no connection; each follows the words "the proxy at HOST:PORT".
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection to it broke off.
    Broken,
    /// What listens there speaks something else.
    Foreign,
    /// It wants a login of a kind that we do not know.
    Methods,
    /// It does not take this login.
    Login,
    /// It answered with this code.
    Refused(u8),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 1928, section 6.
        let why = match self {
            Self::Broken => return f.write_str("broke the connection off"),
            Self::Foreign => return f.write_str("does not speak SOCKS5"),
            Self::Methods => return f.write_str("wants a kind of login that syncd does not know"),
            Self::Login => return f.write_str("does not take this user name and password"),
            Self::Refused(1) => "it failed",
            Self::Refused(2) => "its rules forbid it",
            Self::Refused(3) => "network unreachable",
            Self::Refused(4) => "host unreachable",
            Self::Refused(5) => "connection refused",
            Self::Refused(6) => "it took too long",
            Self::Refused(7) => "it makes no TCP connections",
            Self::Refused(8) => "it does not know this kind of address",
            Self::Refused(code) => return write!(f, "cannot reach it: reason {code}"),
        };
        write!(f, "cannot reach it: {why}")
    }
}

impl From<std::io::Error> for Trouble {
    fn from(_: std::io::Error) -> Self {
        Self::Broken
    }
}

/// Has the proxy behind `stream` connect to `host` and `port`; afterwards the stream leads there. `login` is shown only if
/// the proxy asks for one.
pub(super) async fn connect<S>(stream: &mut S, host: &Host<'_>, port: u16, login: &Login) -> Result<(), Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&[VERSION, 2, WITH_LOGIN, NO_LOGIN]).await?;
    let [version, method] = read(stream).await?;
    match (version, method) {
        (VERSION, NO_LOGIN) => {}
        (VERSION, WITH_LOGIN) => {
            stream.write_all(&login.encode()).await?;
            // The version is that of the login; some proxies send their own.
            let [_, status] = read(stream).await?;
            if status != 0 {
                return Err(Trouble::Login);
            }
        }
        (VERSION, NONE_FITS) => return Err(Trouble::Methods),
        _ => return Err(Trouble::Foreign),
    }
    stream.write_all(&request(host, port)).await?;
    let [version, code, _, kind] = read(stream).await?;
    match (version, code) {
        (VERSION, 0) => {}
        (VERSION, code) => return Err(Trouble::Refused(code)),
        _ => return Err(Trouble::Foreign),
    }
    // The address that the proxy connects from, of no use here.
    let len = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => {
            let [len] = read(stream).await?;
            usize::from(len)
        }
        _ => return Err(Trouble::Foreign),
    };
    let mut rest = [0; PART_LEN_MAX + 2];
    stream.read_exact(&mut rest[..len + 2]).await?;
    Ok(())
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], Trouble> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn request(host: &Host<'_>, port: u16) -> Vec<u8> {
    let mut bytes = vec![VERSION, CONNECT, 0];
    match host {
        Host::Ip(ip) => match ip.to_canonical() {
            IpAddr::V4(v4) => {
                bytes.push(IPV4);
                bytes.extend_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                bytes.push(IPV6);
                bytes.extend_from_slice(&v6.octets());
            }
        },
        Host::Name(name) => {
            bytes.extend_from_slice(&[NAME, u8::try_from(name.len()).expect("host names have at most 253 bytes")]);
            bytes.extend_from_slice(name.as_bytes());
        }
    }
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes
}
