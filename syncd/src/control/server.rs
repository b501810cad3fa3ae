//! Binds the socket, serves until told to stop, and leaves no socket file behind.

use super::socket::{BoundSocket, OwnListener, bind};
use super::{Handle, routes};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// How long open requests may finish after the stop.
const GRACE: Duration = Duration::from_secs(2);

/// A bound, not yet serving control socket: clients can connect already and are answered once `serve` runs.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    socket: BoundSocket,
}

impl Server {
    /// Binds the socket at `path` (`Home::socket`). Needs a running tokio runtime.
    ///
    /// # Errors
    /// `AlreadyAnswered` when another daemon does; otherwise what the system said.
    pub fn bind(path: &Path) -> Result<Self> {
        let (listener, socket) = bind(path)?;
        Ok(Self { listener, socket })
    }

    /// Serves until `stop`; then open streams end, other requests have two seconds, and the socket file goes.
    pub async fn serve(self, handle: Handle, stop: CancellationToken) {
        let router = routes::router(handle, stop.clone());
        let stopped = stop.clone();
        let serving = axum::serve(OwnListener::new(self.listener), router)
            .with_graceful_shutdown(async move { stopped.cancelled().await });
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = async { serving.await } => if let Err(error) = result {
                tracing::error!(%error, "the control socket stopped");
            },
            () = deadline => tracing::debug!("control requests were cut off at the stop"),
        }
        drop(self.socket);
    }
}
