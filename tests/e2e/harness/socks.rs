//! A SOCKS5 proxy (RFC 1928, RFC 1929) that knows names of its own and keeps what it was asked for. It asks for a login
//! wherever one is offered, and takes any, as Tor does.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The host as it was named: an address, or a name.
    pub host: String,
    /// And the port.
    pub port: u16,
    /// User name and password.
    pub login: (String, String),
}

#[derive(Debug, Default)]
struct Known {
    names: BTreeMap<String, String>,
    asked: Vec<Asked>,
}

/// A proxy that serves until the test's process ends.
#[derive(Clone, Debug)]
pub struct Socks {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

impl Socks {
    /// On a port of its own.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socks = Self { address: listener.local_addr().expect("a bound port"), known: Arc::default() };
        let server = socks.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                // A client that breaks off, or asks for what is not there, has been told.
                std::thread::spawn(move || drop(server.serve(client)));
            }
        });
        socks
    }

    /// What goes into a device's settings.
    #[must_use]
    pub fn setting(&self) -> String {
        format!("socks5://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whoever asks for the host `name`, at any port, is led to `target` from now on.
    ///
    /// # Panics
    /// Never: no thread panics while it holds the names.
    pub fn names(&self, name: &str, target: String) {
        self.known.lock().expect("no holder panics").names.insert(name.to_owned(), target);
    }

    /// Everything it was asked for.
    ///
    /// # Panics
    /// Never: no thread panics while it holds them.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.known.lock().expect("no holder panics").asked.clone()
    }

    fn serve(&self, mut client: TcpStream) -> Result<()> {
        let login = log_in(&mut client)?;
        let [5, 1, 0, kind] = read(&mut client)? else { return Err(ErrorKind::InvalidData.into()) };
        let host = match kind {
            1 => IpAddr::from(Ipv4Addr::from(read::<4>(&mut client)?)).to_string(),
            4 => IpAddr::from(Ipv6Addr::from(read::<16>(&mut client)?)).to_string(),
            3 => part(&mut client)?,
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        let port = u16::from_be_bytes(read(&mut client)?);
        let target = {
            let mut known = self.known.lock().expect("no holder panics");
            known.asked.push(Asked { host: host.clone(), port, login });
            let ip = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port).to_string());
            known.names.get(&host).cloned().or(ip)
        };
        match target.ok_or(4).and_then(|target| TcpStream::connect(target).map_err(|error| reason(&error))) {
            Err(code) => client.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]),
            Ok(server) => {
                client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
                let ends = (client.try_clone()?, server.try_clone()?);
                std::thread::spawn(move || pass(ends.0, ends.1));
                pass(server, client);
                Ok(())
            }
        }
    }
}

/// RFC 1928, section 6: host unreachable, refused.
fn reason(error: &Error) -> u8 {
    if error.kind() == ErrorKind::ConnectionRefused { 5 } else { 4 }
}

fn log_in(client: &mut TcpStream) -> Result<(String, String)> {
    let [5, count] = read(client)? else { return Err(ErrorKind::InvalidData.into()) };
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods)?;
    if !methods.contains(&2) {
        client.write_all(&[5, 0])?;
        return Ok(Default::default());
    }
    client.write_all(&[5, 2])?;
    let [1] = read(client)? else { return Err(ErrorKind::InvalidData.into()) };
    let login = (part(client)?, part(client)?);
    client.write_all(&[1, 0])?;
    Ok(login)
}

fn read<const N: usize>(client: &mut TcpStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A text behind its length.
fn part(client: &mut TcpStream) -> Result<String> {
    let [len] = read(client)?;
    let mut bytes = vec![0; usize::from(len)];
    client.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData.into())
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    // An end that is gone ends the other.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
