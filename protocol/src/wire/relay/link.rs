//! A relay as people pass it on: `sdrelay1<bech32m of key and access key>@host:port`.

use super::Secret32;
use crate::limits::HOST_LEN_MAX;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use zeroize::Zeroizing;

const HRP: &str = "sdrelay";

/// Why text is not a host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No port from 1 to 65535 behind the last colon.
    #[error("an address ends in a colon and a port from 1 to 65535")]
    Port,
    /// Neither a name nor an IP address.
    #[error("the host is neither a name nor an IP address (IPv6 goes in brackets)")]
    Host,
}

/// A host name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Name or address; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (host, port) = text.rsplit_once(':').ok_or(EndpointError::Port)?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| is_number && *port != 0).ok_or(EndpointError::Port)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => {
                let v6 = v6.strip_suffix(']').ok_or(EndpointError::Host)?;
                v6.parse::<Ipv6Addr>().map_err(|_| EndpointError::Host)?.to_string()
            }
            None if is_name(host) => host.to_ascii_lowercase(),
            None => return Err(EndpointError::Host),
        };
        Ok(Self { host, port })
    }
}

fn is_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !host.is_empty() && host.len() <= HOST_LEN_MAX && host.bytes().all(allowed)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse() {
            Ok(IpAddr::V6(v6)) => write!(f, "[{v6}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Why text is not a relay link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayLinkError {
    /// No `@` between key and address.
    #[error("a relay link has the form sdrelay1...@host:port")]
    Form,
    /// Wrong length, letters or checksum.
    #[error("the relay's key has a typing error: copy the link again")]
    Key,
    /// The part behind `@`.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// Where a relay is, who it is, and the key that lets clients in. Holding it is being allowed to use the relay.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayLink {
    /// The relay's X25519 public key.
    pub relay_x: [u8; 32],
    /// Its clients' key.
    pub access_key: Secret32,
    /// Where it listens.
    pub at: Endpoint,
}

impl fmt::Display for RelayLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = Hrp::parse(HRP).expect("a constant lower-case prefix is a valid HRP");
        let mut bytes = Zeroizing::new([0; 64]);
        bytes[..32].copy_from_slice(&self.relay_x);
        bytes[32..].copy_from_slice(self.access_key.expose());
        let key = bech32::encode::<Bech32m>(hrp, &*bytes).expect("117 characters are below bech32's length bound");
        write!(f, "{key}@{}", self.at)
    }
}

impl FromStr for RelayLink {
    type Err = RelayLinkError;

    fn from_str(text: &str) -> Result<Self, RelayLinkError> {
        let (key, at) = text.trim().split_once('@').ok_or(RelayLinkError::Form)?;
        let checked = CheckedHrpstring::new::<Bech32m>(key).map_err(|_| RelayLinkError::Key)?;
        if !checked.hrp().as_str().eq_ignore_ascii_case(HRP) || checked.byte_iter().len() != 64 {
            return Err(RelayLinkError::Key);
        }
        let (mut relay_x, mut access_key) = ([0; 32], Zeroizing::new([0; 32]));
        for (slot, byte) in relay_x.iter_mut().chain(access_key.iter_mut()).zip(checked.byte_iter()) {
            *slot = byte;
        }
        Ok(Self { relay_x, access_key: Secret32::new(*access_key), at: at.parse()? })
    }
}
