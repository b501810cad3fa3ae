//! HTTP over the control socket: one connection per request, JSON in and out, server-sent events as an iterator.

use crate::failure::{Failure, Result};
use crate::home::Home;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use protocol::wire::control::{ControlError, ErrorCode, Ping, SOCKET_PATH_LEN_MAX};
use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;
use tokio::net::UnixStream;

/// Largest reply that is read, in bytes: far above any bounded list.
const REPLY_LEN_MAX: usize = 64 * 1024 * 1024;
/// A daemon that does not answer a ping within this hangs.
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// A way to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    home: Home,
}

impl Client {
    pub const fn new(home: Home) -> Self {
        Self { home }
    }

    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// Whether the daemon's loop turns.
    pub async fn ping(&self) -> Result<Ping> {
        match tokio::time::timeout(PING_PATIENCE, self.get("ping")).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new("syncd took the request but does not answer").hint("look into its log")),
        }
    }

    pub async fn get<A: DeserializeOwned>(&self, route: &str) -> Result<A> {
        read(self.send(Method::GET, route, &()).await?).await
    }

    pub async fn post<A: DeserializeOwned>(&self, route: &str, body: &impl Serialize) -> Result<A> {
        read(self.send(Method::POST, route, body).await?).await
    }

    pub async fn put<A: DeserializeOwned>(&self, route: &str, body: &impl Serialize) -> Result<A> {
        read(self.send(Method::PUT, route, body).await?).await
    }

    /// Opens a stream of events; dropping it hangs up.
    pub async fn stream(&self, method: Method, route: &str, body: &impl Serialize) -> Result<EventStream> {
        let response = self.send(method, route, body).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(EventStream { body: response.into_body(), text: Vec::new() })
    }

    async fn send(&self, method: Method, route: &str, body: &impl Serialize) -> Result<Response<Incoming>> {
        let stream = self.dial().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(cut)?;
        // Ends when the response is read or dropped; errors come out of the response.
        tokio::spawn(connection);
        let json = serde_json::to_vec(body).map_err(|error| Failure::new(error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/{route}"))
            .header(header::HOST, "syncd")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(json)))
            .map_err(|error| Failure::new(error.to_string()))?;
        sender.send_request(request).await.map_err(cut)
    }

    async fn dial(&self) -> Result<UnixStream> {
        let path = self.home.socket();
        if path.as_os_str().as_bytes().len() <= SOCKET_PATH_LEN_MAX {
            return UnixStream::connect(&path).await.map_err(|error| self.not_reached(&error));
        }
        let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(|| Failure::new("no usable home"))?;
        let flags = (OFlags::PATH | OFlags::DIRECTORY).bits().cast_signed();
        let directory = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(parent)
            .map_err(|error| self.not_reached(&error))?;
        let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
        UnixStream::connect(std::path::Path::new(&short).join(name)).await.map_err(|error| self.not_reached(&error))
    }

    fn not_reached(&self, error: &std::io::Error) -> Failure {
        let home = self.home.root.display();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::new(format!(
                "syncd is not running (home {home})"
            ))
            .hint(
                "start it with `syncctl start`, as a service with `syncctl service install`, or here with `syncd run`",
            ),
            ErrorKind::PermissionDenied => Failure::new(format!("the syncd at {home} belongs to another user"))
                .hint("run syncctl as that user, or name your own home with --home DIR"),
            _ => Failure::new(format!("syncd cannot be reached (home {home}): {error}")),
        }
    }
}

fn cut(error: hyper::Error) -> Failure {
    Failure::new(format!("syncd hung up: {error}")).hint("look into its log; `syncctl ping` says whether it runs")
}

async fn read<A: DeserializeOwned>(response: Response<Incoming>) -> Result<A> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let bytes = collect(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(format!("syncd's answer makes no sense: {error}"))
            .hint("syncctl and syncd may be of different versions")
    })
}

async fn refusal(response: Response<Incoming>) -> Failure {
    let status = response.status();
    let bytes = match collect(response).await {
        Ok(bytes) => bytes,
        Err(failure) => return failure,
    };
    serde_json::from_slice::<ControlError>(&bytes)
        .unwrap_or_else(|_| ControlError::new(ErrorCode::Unknown, format!("syncd answered {status}")))
        .into()
}

async fn collect(response: Response<Incoming>) -> Result<Bytes> {
    let body = http_body_util::Limited::new(response.into_body(), REPLY_LEN_MAX);
    body.collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Failure::new(format!("syncd hung up: {error}")))
}

/// Server-sent events of one response.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    text: Vec<u8>,
}

impl EventStream {
    /// The next event's JSON, parsed and as it came; `None` when the daemon ended the stream.
    pub async fn next<A: DeserializeOwned>(&mut self) -> Result<Option<A>> {
        loop {
            while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(data) = data_of(&block) {
                    let event = serde_json::from_slice(data)
                        .map_err(|error| Failure::new(format!("syncd's event makes no sense: {error}")))?;
                    return Ok(Some(event));
                }
            }
            if self.text.len() > REPLY_LEN_MAX {
                return Err(Failure::new("syncd's event is too long"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.text.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(cut(error)),
                None => return Ok(None),
            }
        }
    }
}

/// The `data:` line of one block; comments have none.
fn data_of(block: &[u8]) -> Option<&[u8]> {
    block.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "))
}
