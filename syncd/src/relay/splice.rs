//! Two connections become one: bytes pass both ways through bounded buffers, at a bounded rate, until one end closes
//! or nothing moves for too long. A buffer exists only while bytes come: splices in which nothing moves cost none.

use super::RelayLimits;
use super::counts::Counters;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
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
    idle: Duration,
    counters: &'c Counters,
    began: Instant,
    /// Milliseconds after that when bytes last moved.
    moved_ms: AtomicU64,
    /// `None`: no limit.
    price: Option<Price>,
}

/// A bound on how fast bytes pass.
struct Price {
    /// Bytes a second.
    rate: u32,
    /// When the bytes so far would have passed at the full rate.
    paid_until: Mutex<Instant>,
}

impl Meter<'_> {
    /// Takes note of `len` bytes; when the next ones may pass, unless that is now.
    fn charge(&self, len: usize) -> Option<Instant> {
        self.counters.passed(len);
        let now = Instant::now();
        self.moved(now);
        let Price { rate, paid_until } = self.price.as_ref()?;
        let cost = Duration::from_secs_f64(len as f64 / f64::from(*rate));
        let mut paid_until = paid_until.lock().expect("no holder of the price panics");
        let from = now.checked_sub(BURST).map_or(*paid_until, |floor| (*paid_until).max(floor));
        *paid_until = from + cost;
        Some(*paid_until).filter(|next| *next > now)
    }

    fn moved(&self, at: Instant) {
        let since = u64::try_from((at - self.began).as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(since, Ordering::Relaxed);
    }

    /// Ends when nothing has moved in either direction for too long.
    async fn idle(&self) -> io::Result<()> {
        let idle_at = || self.began + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)) + self.idle;
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
    let price = Some(limits.rate).filter(|rate| *rate > 0).map(|rate| Price { rate, paid_until: Mutex::new(now) });
    let meter = Meter { idle: limits.idle, counters, began: now, moved_ms: AtomicU64::new(0), price };
    let ((a_read, a_write), (b_read, b_write)) = (a.split(), b.split());
    tokio::select! {
        // Both directions at an end, or one broken; the ends find out by themselves.
        _ = async { tokio::try_join!(pass(a_read, b_write, &meter), pass(b_read, a_write, &meter)) } => {}
        _ = meter.idle() => {}
    }
}

async fn pass(from: ReadHalf<'_>, mut to: WriteHalf<'_>, meter: &Meter<'_>) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        buffer.reserve_exact(BUFFER_LEN);
        let len = match from.try_read_buf(&mut buffer) {
            Ok(0) => return to.shutdown().await,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                buffer = Vec::new();
                from.readable().await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let next = meter.charge(len);
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let written = to.write(rest).await?;
            rest = &rest[written..];
            if !rest.is_empty() {
                meter.moved(Instant::now());
            }
        }
        if let Some(next) = next {
            sleep_until(next).await;
        }
    }
}
