//! Two hosts on one cable, each a network namespace of its own, and captures of all that their kernels send and take in.
//! Nothing of it is connected to any other network; both go away when dropped, with whatever a test left in them.

use crate::frames::{Frame, Packet};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, recv, socket, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tests::harness::{Device, World, is_root};

/// UDP port and groups of beacons.
const BEACON_PORT: u16 = 28730;
const GROUPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(239, 255, 83, 89)), IpAddr::V6(Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x73, 0x7963))];
/// All protocols, in network order.
const ALL: u32 = 0x0003_u16.to_be() as u32;
/// Bytes the kernel holds for a capture that is slow.
const BUFFER_LEN: usize = 64 * 1024 * 1024;
/// A frame that was not cut into segments yet.
const FRAME_LEN_MAX: usize = 128 * 1024;

/// The two hosts.
pub struct Lab {
    names: [String; 2],
    network: [u8; 2],
}

impl Lab {
    /// Hosts 1 and 2 of 10.`network`.0/24 and an IPv6 network of their own, each the other's way out. `None` where this
    /// process may not.
    pub fn new(network: [u8; 2]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("syncd-privacy-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { names: ["a", "b"].map(|host| format!("{prefix}-{host}")), network };
        (is_root() && lab.build().is_some()).then_some(lab)
    }

    fn build(&self) -> Option<()> {
        let [a, b] = &self.names;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b])?;
        for (host, name) in self.names.iter().enumerate() {
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
            let [v4, v6] = self.addresses(host);
            ip(&["-n", name, "address", "add", &format!("{v4}/24"), "dev", "eth0"])?;
            ip(&["-n", name, "address", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"])?;
            let [v4, v6] = self.addresses(1 - host).map(|ip| ip.to_string());
            ip(&["-n", name, "route", "add", "default", "via", &v4])?;
            ip(&["-n", name, "-6", "route", "add", "default", "via", &v6])?;
        }
        Some(())
    }

    /// A host's own addresses, one of each family.
    pub fn addresses(&self, host: usize) -> [IpAddr; 2] {
        let number = u8::try_from(host).expect("two hosts") + 1;
        let [high, low] = self.network;
        let v6 = Ipv6Addr::new(0xfd00, 0, u16::from(high), u16::from(low), 0, 0, 0, u16::from(number));
        [Ipv4Addr::new(10, high, low, number).into(), v6.into()]
    }

    /// The same and the one that the kernel made for the cable alone.
    pub fn all_addresses(&self, host: usize) -> Vec<IpAddr> {
        let listed = self.on(host, || std::fs::read_to_string("/proc/thread-self/net/if_inet6").expect("a list"));
        let local = listed.lines().filter(|line| line.starts_with("fe80") && line.ends_with("eth0"));
        let parsed = local.map(|line| u128::from_str_radix(&line[..32], 16).expect("32 hexadecimal digits"));
        self.addresses(host).into_iter().chain(parsed.map(|bits| Ipv6Addr::from(bits).into())).collect()
    }

    /// A device on a host, with the default settings but for its name, that was not started yet.
    pub fn device(&self, world: &World, name: &str, host: usize) -> Device {
        let mut device = world.prepare(name, "");
        self.moves_in(&mut device, host);
        device.listen_as_configured();
        device
    }

    /// Starts the device's daemon on that host from now on.
    pub fn moves_in(&self, device: &mut Device, host: usize) {
        device.run_under(&["ip", "netns", "exec", &self.names[host]]);
    }

    /// Does `work` on a host.
    pub fn on<T: Send + 'static>(&self, host: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        let name_space = File::open(format!("/run/netns/{}", self.names[host])).expect("it was made");
        // A thread of its own, since it does not come back.
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(name_space.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
            work()
        });
        thread.join().expect("what is done there succeeds")
    }

    /// Everything that a host sends and takes in, on all its interfaces, from now on.
    pub fn capture(&self, host: usize) -> Capture {
        Capture::of(self.on(host, || {
            let all = Protocol::from_raw(NonZeroU32::new(ALL).expect("not zero"));
            let tap = socket(AddressFamily::PACKET, SocketType::RAW, Some(all)).expect("root captures");
            sockopt::set_socket_recv_buffer_size_force(&tap, BUFFER_LEN).expect("root may");
            sockopt::set_socket_timeout(&tap, sockopt::Timeout::Recv, Some(Duration::from_millis(50))).expect("a time");
            tap
        }))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            // One that stays holds no process and no address.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(args: &[&str]) -> Option<()> {
    let done = Command::new("ip").args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success()).then_some(())
}

/// A capture under way.
pub struct Capture {
    frames: Arc<Mutex<Vec<Frame>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    fn of(tap: OwnedFd) -> Self {
        let (frames, over) = (Arc::<Mutex<Vec<Frame>>>::default(), Arc::<AtomicBool>::default());
        let (kept, ended) = (Arc::clone(&frames), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut bytes = vec![0; FRAME_LEN_MAX];
            while !ended.load(Ordering::Relaxed) {
                // Nothing came within the time, or an interface went down: the next frame is waited for.
                let Ok((len, _)) = recv(&tap, &mut bytes[..], RecvFlags::empty()) else { continue };
                kept.lock().expect("no holder panics").extend(Frame::parse(&bytes[..len]));
            }
        });
        Self { frames, over, thread: Some(thread) }
    }

    /// What came so far.
    pub fn frames(&self) -> Vec<Frame> {
        self.frames.lock().expect("no holder panics").clone()
    }

    /// How many beacons came to each of the two groups.
    pub fn beacons(&self) -> [usize; 2] {
        let frames = self.frames();
        GROUPS.map(|group| {
            let to_group = |frame: &&Frame| matches!(frame, Frame::Ip { target, .. } if *target == group);
            frames.iter().filter(|frame| is_beacon(frame)).filter(to_group).count()
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has said why it failed.
            let _ = thread.join();
        }
    }
}

/// Whether a frame is a datagram to the group and port of beacons.
pub fn is_beacon(frame: &Frame) -> bool {
    match frame {
        Frame::Ip { target, packet: Packet::Udp { ports, .. }, .. } => {
            GROUPS.contains(target) && ports[1] == BEACON_PORT
        }
        _ => false,
    }
}

/// One direction of a TCP connection: source and target, address and port.
type Ends = ([IpAddr; 2], [u16; 2]);

/// What programs said: the bytes of each TCP connection and direction in their order, and each datagram.
pub fn payloads(frames: &[Frame]) -> Vec<Vec<u8>> {
    let mut streams: BTreeMap<Ends, (u32, BTreeMap<u32, &[u8]>)> = BTreeMap::new();
    let mut all = Vec::new();
    for frame in frames {
        let Frame::Ip { source, target, packet } = frame else { continue };
        match packet {
            Packet::Udp { payload, .. } => all.push(payload.clone()),
            Packet::Tcp { ports, seq, syn, payload } => {
                let (first, segments) = streams.entry(([*source, *target], *ports)).or_insert((*seq, BTreeMap::new()));
                if *syn {
                    (*first, *segments) = (seq.wrapping_add(1), BTreeMap::new());
                } else if !payload.is_empty() {
                    segments.insert(seq.wrapping_sub(*first), payload);
                }
            }
            Packet::Icmp6(_) | Packet::Igmp | Packet::Other(_) => {}
        }
    }
    all.extend(streams.into_values().map(|(_, segments)| segments.into_values().flatten().copied().collect()));
    all
}
