//! The setting `proxy`: a SOCKS5 proxy as people write it. Its password is in no message and no log.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Longest user name or password (RFC 1929).
const PART_LEN_MAX: usize = 255;

/// `socks5://[USER:PASSWORD@]IP:PORT`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub at: SocketAddr,
    /// User name and password, 1 to 255 bytes each.
    pub login: Option<(String, String)>,
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "must be empty or like socks5://127.0.0.1:9050 or socks5://USER:PASSWORD@IP:PORT";
        let text = text.trim();
        let rest = text.strip_prefix("socks5://").or_else(|| text.strip_prefix("socks5h://")).ok_or(form)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // A password may hold an @ as well.
        let (login, host) = match rest.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, rest),
        };
        let login = match login.map(|login| login.split_once(':').ok_or(form)).transpose()? {
            None => None,
            Some((user, password)) => {
                let fits = |part: &str| (1..=PART_LEN_MAX).contains(&part.len()) && !part.chars().any(char::is_control);
                if !fits(user) || !fits(password) {
                    return Err(format!(
                        "must have a user name and a password of 1 to {PART_LEN_MAX} bytes, or neither"
                    ));
                }
                Some((user.to_owned(), password.to_owned()))
            }
        };
        let local = host.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let at = match local {
            Some(port) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            None => host.parse().map_err(|_| {
                format!("{form}: {host} is no address and port (a name would have to be looked up around the proxy)")
            })?,
        };
        if at.port() == 0 || at.ip().is_unspecified() {
            return Err(format!("{form}: nothing listens at {at}"));
        }
        Ok(Self { at, login })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.login {
            Some((user, password)) => write!(f, "socks5://{user}:{password}@{}", self.at),
            None => write!(f, "socks5://{}", self.at),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let rows = [
            ("socks5://127.0.0.1:9050", Some("socks5://127.0.0.1:9050")),
            (" socks5h://localhost:9050/ ", Some("socks5://127.0.0.1:9050")),
            ("socks5://[::1]:1080", Some("socks5://[::1]:1080")),
            ("socks5://me:p@ss:word@10.0.0.1:1080", Some("socks5://me:p@ss:word@10.0.0.1:1080")),
            ("127.0.0.1:9050", None),
            ("http://127.0.0.1:9050", None),
            ("socks5://tor.example:9050", None),
            ("socks5://127.0.0.1", None),
            ("socks5://127.0.0.1:0", None),
            ("socks5://0.0.0.0:9050", None),
            ("socks5://me@127.0.0.1:9050", None),
            ("socks5://me:@127.0.0.1:9050", None),
            ("socks5://:secret@127.0.0.1:9050", None),
        ];
        for (text, expected) in rows {
            let parsed = text.parse::<Proxy>();
            assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), expected, "{text}: {parsed:?}");
            assert!(!format!("{parsed:?}").contains("p@ss"), "{text}");
        }
        assert!(format!("socks5://{}:p@127.0.0.1:1", "u".repeat(256)).parse::<Proxy>().is_err());
    }
}
