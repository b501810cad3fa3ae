//! The measurements, each with a relay of its own. They print figures and judge none: what a machine can do is its own.

use crate::Process;
use crate::client::{Client, pair};
use protocol::wire::pair::Direction;
use protocol::wire::relay::RelayLink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Clients that come in at a time.
const AT_ONCE: usize = 32;
/// Longer than the minute between two pings, so that each client is pinged once at least.
const WAITING: Duration = Duration::from_secs(65);
/// Pairs that are matched while the others wait.
const MATCHES: u64 = 200;
/// How long bytes move.
const MOVING: Duration = Duration::from_secs(10);
/// How often splice and proxy are measured, by turns.
const TURNS: u64 = 5;
const PIECE_LEN: usize = 64 * 1024;

/// Tokens of those that nobody meets.
const LONELY: u64 = 1 << 32;

/// Lets `count` clients come in, which answer pings from then on.
async fn park(link: &RelayLink, count: usize, waiting: &mut JoinSet<()>) {
    let mut coming = JoinSet::new();
    for n in 0..count as u64 {
        if coming.len() >= AT_ONCE {
            waiting.spawn(coming.join_next().await.expect("some are coming").map(Client::wait).expect("it came in"));
        }
        let link = link.clone();
        coming.spawn(async move { Client::join(&link, LONELY + n, Direction::Low).await });
    }
    while let Some(client) = coming.join_next().await {
        waiting.spawn(client.map(Client::wait).expect("it came in"));
    }
}

pub async fn parked(count: usize) {
    let (relay, link) = Process::relay();
    let mut waiting = JoinSet::new();
    // What the first ones make it set up is no cost of each.
    park(&link, AT_ONCE, &mut waiting).await;
    waiting.shutdown().await;
    let (empty, began, cpu) = (relay.memory(), Instant::now(), relay.cpu());
    park(&link, count, &mut waiting).await;
    let (took, cost) = (began.elapsed(), relay.cpu() - cpu);
    let each = relay.memory().saturating_sub(empty) / count as u64;
    println!("parked {count}: {each} bytes of memory each, {:.1} MB in all", relay.memory() as f64 / 1e6);
    println!(
        "parked {count}: came in within {:.2} s, {:.0} us of CPU each",
        took.as_secs_f64(),
        us(cost) / count as f64
    );
    let (began, cpu) = (Instant::now(), relay.cpu());
    tokio::time::sleep(WAITING).await;
    let share = (relay.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("parked {count}: {:.2} % of a core while they wait", share * 100.0);
    assert_eq!(waiting.len(), count, "all still wait");
    matches(&link, count).await;
}

/// From the knock of the second of two until both are joined.
async fn matches(link: &RelayLink, others: usize) {
    let mut times = Vec::new();
    for token in 0..MATCHES {
        let low = Client::join(link, token, Direction::Low).await;
        let met = tokio::spawn(low.meet());
        let began = Instant::now();
        let high = Client::join(link, token, Direction::High).await.meet().await;
        let low = met.await.expect("it is met");
        times.push(began.elapsed());
        drop((low, high));
    }
    times.sort_unstable();
    let at = |share: f64| us(times[(times.len() as f64 * share) as usize]) / 1000.0;
    println!("parked {others}: two more are joined within {:.2} ms (median), {:.2} ms (99 %)", at(0.5), at(0.99));
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Sends until told to stop.
async fn pour(mut to: TcpStream, stop: Arc<AtomicBool>) {
    let piece = vec![0x5a; PIECE_LEN];
    while !stop.load(Ordering::Relaxed) && to.write_all(&piece).await.is_ok() {}
}

/// Counts what comes until it ends.
async fn drink(mut from: TcpStream, count: Arc<AtomicU64>) {
    let mut piece = vec![0; PIECE_LEN];
    while let Ok(len @ 1..) = from.read(&mut piece).await {
        count.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// What moved between some pairs.
#[derive(Clone, Copy)]
struct Moved {
    /// Bytes a second.
    rate: f64,
    /// Seconds of CPU for a gigabyte, of the process in between.
    cost: f64,
    /// The most memory that it had meanwhile, in bytes.
    memory: u64,
}

async fn moved(pairs: Vec<(TcpStream, TcpStream)>, process: &Process) -> Moved {
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut moving = JoinSet::new();
    for (from, to) in pairs {
        moving.spawn(pour(from, Arc::clone(&stop)));
        moving.spawn(drink(to, Arc::clone(&count)));
    }
    // Until the first bytes are through, nothing is measured.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (began, before, cpu, mut memory) = (Instant::now(), count.load(Ordering::Relaxed), process.cpu(), 0);
    while began.elapsed() < MOVING {
        tokio::time::sleep(MOVING / 20).await;
        memory = memory.max(process.memory());
    }
    let bytes = (count.load(Ordering::Relaxed) - before) as f64;
    let rate = bytes / began.elapsed().as_secs_f64();
    let cost = (process.cpu() - cpu).as_secs_f64() / (bytes / 1e9);
    stop.store(true, Ordering::Relaxed);
    moving.shutdown().await;
    Moved { rate, cost, memory }
}

pub async fn spliced(count: usize) {
    let (relay, link) = Process::relay();
    drop(pair(&link, u64::MAX).await);
    let empty = relay.memory();
    let mut pairs = Vec::new();
    for token in 0..count as u64 {
        pairs.push(pair(&link, token).await);
    }
    let idle = relay.memory();
    let Moved { rate, cost, memory: busy } = moved(pairs, &relay).await;
    let each = |memory: u64| memory.saturating_sub(empty) / count as u64;
    println!("spliced {count}: {} bytes of memory each while idle, {} while all move", each(idle), each(busy));
    println!("spliced {count}: {:.0} MB/s in all, {cost:.2} s of the relay's CPU for a gigabyte", rate / 1e6);
}

pub async fn ratio() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
    let target = listener.local_addr().expect("it has an address").to_string();
    let proxy = Process::proxy(&target);
    let (relay, link) = Process::relay();
    let (mut by_relay, mut by_proxy) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        by_relay.push(moved(vec![pair(&link, turn).await], &relay).await);
        let (from, accepted) = tokio::join!(TcpStream::connect(&proxy.line), listener.accept());
        let (to, _) = accepted.expect("the proxy connects");
        by_proxy.push(moved(vec![(from.expect("the proxy listens"), to)], &proxy).await);
    }
    let median = |runs: &mut Vec<Moved>| {
        runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        runs[runs.len() / 2]
    };
    let (spliced, plain) = (median(&mut by_relay), median(&mut by_proxy));
    for (name, run) in [("one splice", spliced), ("a plain proxy", plain)] {
        println!("ratio: {name} {:.0} MB/s, {:.2} s of CPU for a gigabyte", run.rate / 1e6, run.cost);
    }
    println!("ratio: {:.2} of the throughput, {:.2} of the CPU", spliced.rate / plain.rate, spliced.cost / plain.cost);
}
