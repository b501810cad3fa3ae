//! Tells at once when links or addresses of this machine change, where the system says so (Linux: rtnetlink(7)). It says that
//! something changed, never what: whoever hears it looks for itself. Elsewhere the hub's own look every few seconds has to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Changes come in bursts: an address, its route, its neighbours.
const SETTLE: Duration = Duration::from_millis(200);
/// A burst that does not end is reported after so long.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// A datagram socket to the runtime; that its datagrams come from the kernel makes no difference to it.
#[cfg(target_os = "linux")]
type Source = tokio::net::UdpSocket;
#[cfg(not(target_os = "linux"))]
type Source = std::convert::Infallible;

/// Notifies `news` of every change of this machine's links and addresses, once it has been quiet for a moment. Where the system
/// refuses to tell it ends at once.
pub(super) async fn report(news: Arc<Notify>, stop: CancellationToken) {
    let source = match open() {
        Ok(source) => source,
        Err(error) => {
            tracing::debug!(%error, "changes of the network are not reported");
            return;
        }
    };
    let work = async {
        loop {
            wait(&source).await;
            let quiet = async { while timeout(SETTLE, wait(&source)).await.is_ok() {} };
            // Reported even while it goes on.
            let _ = timeout(SETTLE_MAX, quiet).await;
            news.notify_one();
        }
    };
    stop.run_until_cancelled(work).await;
}

#[cfg(target_os = "linux")]
fn open() -> io::Result<Source> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink, socket_with};
    /// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (linux/rtnetlink.h).
    const GROUPS: u32 = 0x1 | 0x10 | 0x100;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Of netlink's protocols the first one, NETLINK_ROUTE, is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
    Source::from_std(socket.into())
}

#[cfg(not(target_os = "linux"))]
fn open() -> io::Result<Source> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes everything off the socket once there is something. An overrun (ENOBUFS) is a change as well.
#[cfg(target_os = "linux")]
async fn wait(source: &Source) {
    // What it says is not read: the rest of a longer one is lost.
    let mut buffer = [0; 64];
    // Of a socket that does nothing but fail no more is asked than this.
    if source.recv(&mut buffer).await.is_err() {
        sleep(SETTLE).await;
    }
    while source.try_recv(&mut buffer).is_ok() {}
}

#[cfg(not(target_os = "linux"))]
async fn wait(source: &Source) {
    match *source {}
}
