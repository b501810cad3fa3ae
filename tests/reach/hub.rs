//! A link with a delay and a rate, in user space, since the kernel may have no queue that delays: two TAP devices, and a
//! thread that carries frames between them. A TAP device offloads nothing, so what it hands out is what a wire would carry.
//! Invariants: frames keep their order; what waits for the wire is bounded, and what comes on top is lost, as in a router.

use crate::lab::Space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where TAP devices come from.
pub const TUN: &str = "/dev/net/tun";
/// Frames taken from one device before the other one is looked at.
const FRAMES_AT_ONCE: usize = 64;
/// Room for a frame: an Ethernet header and 1500 bytes, and then some.
const FRAME_LEN_MAX: usize = 2048;
/// Least that may wait for the wire: some forty frames.
const QUEUE_LEN_MIN: u64 = 64 * 1024;
/// Most bytes under way in one direction; only a wire without a rate comes near it.
const UNDER_WAY_MAX: usize = 64 * 1024 * 1024;
/// The link is not to be starved by what it connects.
const NICE: i32 = -15;

/// What a link is like, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// From one end to the other.
    pub delay: Duration,
    /// Bits a second, counting whole frames; `None`: as fast as this machine carries them.
    pub rate: Option<u64>,
}

impl Wire {
    /// A wire of this delay one way.
    pub const fn delayed(delay_ms: u64) -> Self {
        Self { delay: Duration::from_millis(delay_ms), rate: None }
    }

    /// A wire of this delay one way and this rate.
    pub const fn limited(delay_ms: u64, mbit: u64) -> Self {
        Self { delay: Duration::from_millis(delay_ms), rate: Some(mbit * 1_000_000) }
    }

    /// How long `len` bytes take to get onto the wire.
    fn time_of(&self, len: u64) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_nanos(len * 8_000_000_000 / rate))
    }

    /// How long a frame may wait for the wire: for twice what is under way in a round trip.
    fn patience(&self) -> Duration {
        (4 * self.delay).max(self.time_of(QUEUE_LEN_MIN))
    }
}

/// A link that carries frames until it is dropped.
#[derive(Debug)]
pub struct Hub {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// A new interface in each of two namespaces, and the wire between them.
    pub fn between(one: (&Space, &str), other: (&Space, &str), wire: Wire) -> Self {
        let (stop, stopped) = UnixStream::pair().expect("two sockets");
        let ends = [one, other].map(|(space, name)| space.inside(|| tap(name)));
        let (ready, started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            // Without the right to it the link is only less steady.
            let _ = rustix::process::nice(NICE);
            // The maker waits for this word.
            let _ = ready.send(());
            carry(ends, wire, &stopped);
        });
        started.recv().expect("the thread of a link starts");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has said why on standard error.
            let _ = thread.join();
        }
    }
}

/// Makes a TAP device in the namespace of the calling thread; it lives as long as its handle.
fn tap(name: &str) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let device = options.open(TUN).expect("a lab is possible here");
    // SAFETY: all zeroes are a valid request of interface flags, without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < libc::IFNAMSIZ, "{name} is too long for an interface");
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_TAP | libc::IFF_NO_PI).expect("the two flags are small numbers");
    // SAFETY: the handle is open, and the request outlives the call, which reads and writes nothing else.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "make {name}: {}", std::io::Error::last_os_error());
    device
}

/// A frame on its way.
struct Frame {
    due: Instant,
    bytes: Vec<u8>,
}

/// What is under way in one direction.
struct Direction {
    wire: Wire,
    /// When the wire has nothing more to send.
    free_at: Instant,
    under_way: VecDeque<Frame>,
    len: usize,
}

impl Direction {
    fn new(wire: Wire) -> Self {
        Self { wire, free_at: Instant::now(), under_way: VecDeque::new(), len: 0 }
    }

    /// Takes a frame, unless too many wait already.
    fn take(&mut self, now: Instant, bytes: &[u8]) {
        let begins = self.free_at.max(now);
        if begins - now > self.wire.patience() || self.len + bytes.len() > UNDER_WAY_MAX {
            return;
        }
        self.free_at = begins + self.wire.time_of(bytes.len() as u64);
        self.len += bytes.len();
        self.under_way.push_back(Frame { due: self.free_at + self.wire.delay, bytes: bytes.to_vec() });
    }

    /// Hands out what has arrived; when the next frame will have.
    fn deliver(&mut self, now: Instant, mut to: &File) -> Option<Instant> {
        while let Some(frame) = self.under_way.pop_front_if(|frame| frame.due <= now) {
            self.len -= frame.bytes.len();
            // An interface that is down loses what comes.
            let _ = to.write(&frame.bytes);
        }
        self.under_way.front().map(|frame| frame.due)
    }
}

fn carry(ends: [File; 2], wire: Wire, stopped: &UnixStream) {
    let [one, other] = &ends;
    let mut ways = [(one, other, Direction::new(wire)), (other, one, Direction::new(wire))];
    let mut frame = [0; FRAME_LEN_MAX];
    loop {
        let now = Instant::now();
        let next = ways.iter_mut().filter_map(|(_, to, direction)| direction.deliver(now, to)).min();
        let wait = next.map(|next| Timespec::try_from(next.saturating_duration_since(Instant::now())));
        let wait = wait.map(|wait| wait.expect("a link's delay is short"));
        let mut waiting = [
            PollFd::new(one, PollFlags::IN),
            PollFd::new(other, PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN | PollFlags::HUP),
        ];
        match poll(&mut waiting, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("waiting for a link: {error}"),
        }
        let gone = waiting.iter().any(|end| end.revents().contains(PollFlags::ERR));
        if gone || !waiting[2].revents().is_empty() {
            return;
        }
        for (from, _, direction) in &mut ways {
            for _ in 0..FRAMES_AT_ONCE {
                // Nothing more for now, or the interface is down.
                let Ok(len) = from.read(&mut frame) else { break };
                direction.take(Instant::now(), &frame[..len]);
            }
        }
    }
}
