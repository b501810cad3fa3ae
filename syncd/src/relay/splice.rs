//! Two connections become one: bytes pass both ways through bounded buffers, at a bounded rate, until one end closes
//! or nothing moves for too long.

use super::RelayLimits;
use std::io;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Bytes held for either direction.
const BUFFER_LEN: usize = 64 * 1024;
/// What may pass at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// What both directions share.
struct Meter {
    rate: u32,
    idle: Duration,
    state: Mutex<State>,
}

struct State {
    /// When the bytes so far would have passed at the full rate.
    paid_until: Instant,
    moved_at: Instant,
}

impl Meter {
    /// Takes note of `len` bytes; when the next ones may pass.
    fn charge(&self, len: usize) -> Instant {
        let now = Instant::now();
        let mut state = self.state.lock().expect("no holder of the meter panics");
        let cost = Duration::from_secs_f64(len as f64 / f64::from(self.rate.max(1)));
        let from = now.checked_sub(BURST).map_or(state.paid_until, |floor| state.paid_until.max(floor));
        state.paid_until = from + cost;
        state.moved_at = now;
        state.paid_until
    }

    fn idle_at(&self) -> Instant {
        self.state.lock().expect("no holder of the meter panics").moved_at + self.idle
    }
}

/// Passes bytes between `a` and `b` until it is over.
pub(super) async fn splice(mut a: TcpStream, mut b: TcpStream, limits: &RelayLimits) {
    let now = Instant::now();
    let state = Mutex::new(State { paid_until: now, moved_at: now });
    let meter = Meter { rate: limits.rate, idle: limits.idle, state };
    let ((a_read, a_write), (b_read, b_write)) = (a.split(), b.split());
    // Either end closing, breaking or idling ends it; the ends find out by themselves.
    let _ = tokio::try_join!(pass(a_read, b_write, &meter), pass(b_read, a_write, &meter));
}

async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, meter: &Meter) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let len = unless_idle(from.read(&mut buffer), meter).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        let next = meter.charge(len);
        let mut rest = &buffer[..len];
        while !rest.is_empty() {
            let written = unless_idle(to.write(rest), meter).await?;
            meter.charge(0);
            rest = &rest[written..];
        }
        sleep_until(next).await;
    }
}

/// Waits for `work` as long as something moves in either direction.
async fn unless_idle(work: impl Future<Output = io::Result<usize>>, meter: &Meter) -> io::Result<usize> {
    tokio::pin!(work);
    loop {
        let idle_at = meter.idle_at();
        if let Ok(done) = timeout_at(idle_at, &mut work).await {
            return done;
        }
        if meter.idle_at() <= idle_at {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}
