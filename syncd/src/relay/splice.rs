//! Two connections become one: bytes pass both ways through bounded buffers, at a bounded rate, until one end closes
//! or nothing moves for too long. A buffer exists only while it holds bytes: splices in which nothing moves cost none.

use super::RelayLimits;
use super::counts::Counters;
use std::io;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

/// Bytes held for either direction.
const BUFFER_LEN: usize = 64 * 1024;
/// What may pass at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// What both directions share.
struct Meter<'c> {
    /// Bytes a second; `None`: no limit.
    rate: Option<u32>,
    idle: Duration,
    counters: &'c Counters,
    state: Mutex<State>,
}

struct State {
    /// When the bytes so far would have passed at the full rate.
    paid_until: Instant,
    moved_at: Instant,
}

impl Meter<'_> {
    /// Takes note of `len` bytes; when the next ones may pass, unless that is now.
    fn charge(&self, len: usize) -> Option<Instant> {
        self.counters.passed(len);
        let now = Instant::now();
        let mut state = self.state.lock().expect("no holder of the meter panics");
        state.moved_at = now;
        let rate = self.rate?;
        let cost = Duration::from_secs_f64(len as f64 / f64::from(rate));
        let from = now.checked_sub(BURST).map_or(state.paid_until, |floor| state.paid_until.max(floor));
        state.paid_until = from + cost;
        Some(state.paid_until).filter(|next| *next > now)
    }

    fn moved(&self) {
        self.state.lock().expect("no holder of the meter panics").moved_at = Instant::now();
    }

    /// Ends when nothing has moved in either direction for too long.
    async fn idle(&self) -> io::Result<()> {
        let idle_at = || self.state.lock().expect("no holder of the meter panics").moved_at + self.idle;
        loop {
            let at = idle_at();
            if at <= Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep_until(at).await;
        }
    }
}

/// Passes bytes between `a` and `b` until it is over.
pub(super) async fn splice(mut a: TcpStream, mut b: TcpStream, limits: &RelayLimits, counters: &Counters) {
    let now = Instant::now();
    let state = Mutex::new(State { paid_until: now, moved_at: now });
    let rate = Some(limits.rate).filter(|rate| *rate > 0);
    let meter = Meter { rate, idle: limits.idle, counters, state };
    let ((a_read, a_write), (b_read, b_write)) = (a.split(), b.split());
    tokio::select! {
        // Both directions at an end, or one broken; the ends find out by themselves.
        _ = async { tokio::try_join!(pass(a_read, b_write, &meter), pass(b_read, a_write, &meter)) } => {}
        _ = meter.idle() => {}
    }
}

async fn pass(from: ReadHalf<'_>, mut to: WriteHalf<'_>, meter: &Meter<'_>) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = Vec::with_capacity(BUFFER_LEN);
        let len = match from.try_read_buf(&mut buffer) {
            Ok(0) => return to.shutdown().await,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let next = meter.charge(len);
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let written = to.write(rest).await?;
            meter.moved();
            rest = &rest[written..];
        }
        drop(buffer);
        if let Some(next) = next {
            sleep_until(next).await;
        }
    }
}
