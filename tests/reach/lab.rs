//! Networks: namespaces with one device or router each, and switches that join them. Everything is taken away when it is
//! dropped, also after a panic; what a killed run left behind is taken away by the next one.
//! Invariant: no address and no packet of a lab is seen outside of it.

use crate::hub::{Hub, TUN, Wire};
use crate::nat::{Nat, Router};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use tests::harness::{is_root, skip};

/// What every namespace of these tests begins with; then comes the process that made it.
const PREFIX: &str = "syncd-reach";
/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";
/// Where `ip` keeps the files that stand in for those in `/etc` there.
const ETC: &str = "/etc/netns";

/// A network namespace.
#[derive(Debug)]
pub struct Space {
    name: String,
}

impl Space {
    /// A new one, with loopback and nothing else.
    pub fn new(role: &str) -> Self {
        Self::try_new(role).unwrap_or_else(|| panic!("no namespace for {role}, where one was made before"))
    }

    fn try_new(role: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{count}-{role}", std::process::id());
        let added = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
        if !added.is_ok_and(|status| status.success()) {
            return None;
        }
        let space = Self { name };
        space.ip("link set lo up");
        Some(space)
    }

    /// What runs a program in it.
    pub fn under(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// `ip` in it, which must succeed.
    pub fn ip(&self, words: &str) {
        ip(&format!("-n {} {words}", self.name));
    }

    /// Loads rules of `nft`, all of them or none.
    pub fn nft(&self, rules: &str) {
        assert!(self.try_nft(rules), "{}: nft refuses {rules}", self.name);
    }

    fn try_nft(&self, rules: &str) -> bool {
        let mut nft = Command::new("ip");
        nft.args(&self.under()[1..]).args(["nft", "-f", "-"]).stdin(Stdio::piped());
        let mut nft = nft.spawn().expect("ip starts");
        let mut input = nft.stdin.take().expect("its input is a pipe");
        // One that ends early says so with its exit code.
        let _ = input.write_all(rules.as_bytes());
        drop(input);
        nft.wait().expect("a child can be waited for").success()
    }

    /// Does something on a thread that lives in it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread into it, for good.
    pub fn enter(&self) {
        let name = File::open(format!("{NAMES}/{}", self.name)).expect("a namespace has a name");
        move_into_link_name_space(name.as_fd(), Some(LinkNameSpaceType::Network)).expect("root enters it");
    }

    /// Has names looked up in this text, in the form of `/etc/hosts`, by what is run [`Self::under`] it from now on.
    pub fn names(&self, hosts: &str) {
        let etc = Path::new(ETC).join(&self.name);
        std::fs::create_dir_all(&etc).expect("root makes it");
        std::fs::write(etc.join("hosts"), hosts).expect("root writes it");
    }

    /// Passes packets on between its interfaces.
    pub fn forward(&self) {
        self.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("root sets it");
    }

    /// Counts the bytes that come in and go out from now on, see [`Self::counted`].
    pub fn count(&self) {
        self.nft(
            "table inet tally {\n counter came { }\n counter went { }\n \
             chain comes { type filter hook input priority -300\n iifname != \"lo\" counter name came\n }\n \
             chain goes { type filter hook output priority 300\n oifname != \"lo\" counter name went\n }\n}\n",
        );
    }

    /// Bytes of packets that came in and went out since [`Self::count`].
    pub fn counted(&self) -> (u64, u64) {
        let mut nft = Command::new("ip");
        nft.args(&self.under()[1..]).args(["nft", "-j", "list", "counters", "table", "inet", "tally"]);
        let said = nft.output().expect("ip starts").stdout;
        let said: serde_json::Value = serde_json::from_slice(&said).expect("nft says JSON");
        let listed = said["nftables"].as_array().expect("nft lists its counters");
        let bytes = |name: &str| {
            let mut counters = listed.iter().map(|entry| &entry["counter"]);
            counters.find(|counter| counter["name"] == name)?["bytes"].as_u64()
        };
        (bytes("came").expect("it counts"), bytes("went").expect("it counts"))
    }

    /// Lets nothing pass on between its interfaces that goes to this address or comes from it.
    pub fn wall(&self, address: Ipv4Addr) {
        self.nft(&format!(
            "table ip wall {{\n chain through {{ type filter hook forward priority -10\n \
             ip daddr {address} drop\n ip saddr {address} drop\n }}\n}}\n"
        ));
    }

    /// Takes the wall away.
    pub fn open(&self) {
        self.nft("delete table ip wall\n");
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // One that stays holds no process and no address that anything else uses.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
        // Most have none.
        let _ = std::fs::remove_dir_all(Path::new(ETC).join(&self.name));
    }
}

/// Whether labs can be made here; says so for a test when not.
pub fn is_possible(test: &str) -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let possible = *POSSIBLE.get_or_init(|| {
        sweep();
        let tun = || OpenOptions::new().read(true).write(true).open(TUN).is_ok();
        is_root() && tun() && Space::try_new("probe").is_some_and(|space| space.try_nft("add table ip probe\n"))
    });
    if !possible {
        skip(test, "it needs root, ip, nft and /dev/net/tun");
    }
    possible
}

/// `ip`, which must succeed.
fn ip(words: &str) {
    let done = Command::new("ip").args(words.split_whitespace()).output().expect("ip starts");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Namespaces of processes that are gone: a test run that was killed cannot clean up.
fn sweep() {
    for entry in std::fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.trim_start_matches('-').split('-').next());
        if maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists()) {
            drop(Space { name });
        }
    }
}

/// What joins several namespaces into one network.
#[derive(Debug)]
pub struct Switch {
    space: Space,
    ports: AtomicU32,
}

impl Switch {
    /// One with nothing plugged in.
    pub fn new(role: &str) -> Self {
        let space = Space::new(role);
        space.ip("link add switch type bridge");
        space.ip("link set switch up");
        // What is switched is not routed: no rule and no table of connections looks at it. Not there: nothing to turn off.
        let _ = space.inside(|| std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0"));
        Self { space, ports: AtomicU32::new(0) }
    }

    /// Plugs a namespace in: its new interface `name` has `address`, and what leaves it goes over `wire`.
    pub fn plug(&self, space: &Space, name: &str, address: &str, wire: Option<Wire>) -> Option<Hub> {
        let port = format!("p{}", self.ports.fetch_add(1, Ordering::Relaxed));
        let hub = match wire {
            Some(wire) => Some(Hub::between((space, name), (&self.space, &port), wire)),
            None => {
                let (here, there) = (&space.name, &self.space.name);
                ip(&format!("link add {name} netns {here} type veth peer name {port} netns {there}"));
                None
            }
        };
        self.space.ip(&format!("link set {port} master switch up"));
        space.ip(&format!("address add {address} dev {name}"));
        space.ip(&format!("link set {name} up"));
        hub
    }
}

/// A namespace with an interface `wan` at an address that everybody in the lab reaches.
#[derive(Debug)]
pub struct Site {
    pub space: Space,
    pub address: Ipv4Addr,
    _hub: Option<Hub>,
}

/// Where one device lives behind a router of its own; the interface of the device is `lan`.
#[derive(Debug)]
pub struct Home {
    pub host: Space,
    pub router: Site,
}

/// A part of the internet: everything in it is made by the test.
#[derive(Debug)]
pub struct Lab {
    wan: Switch,
    sites: AtomicU8,
}

impl Lab {
    /// An empty one. `None`, said aloud, where that is not possible.
    pub fn new(test: &str) -> Option<Self> {
        is_possible(test).then(|| Self { wan: Switch::new("wan"), sites: AtomicU8::new(1) })
    }

    /// A place with a public address, behind this wire.
    pub fn site(&self, role: &str, wire: Option<Wire>) -> Site {
        let number = self.sites.fetch_add(1, Ordering::Relaxed);
        assert!(number < 255, "a lab has 254 addresses");
        let address = Ipv4Addr::new(203, 0, 113, number);
        let space = Space::new(role);
        let hub = self.wan.plug(&space, "wan", &format!("{address}/24"), wire);
        Site { space, address, _hub: hub }
    }

    /// A device's place behind a router of this kind and this wire.
    pub fn home(&self, role: &str, nat: Nat, wire: Option<Wire>) -> Home {
        let router = self.site(&format!("{role}-router"), wire);
        let host = Space::new(role);
        let network = router.address.octets()[3];
        let (gateway, inside) = (Ipv4Addr::new(192, 168, network, 1), Ipv4Addr::new(192, 168, network, 2));
        ip(&format!("link add lan netns {} type veth peer name lan netns {}", host.name, router.space.name));
        router.space.ip(&format!("address add {gateway}/24 dev lan"));
        router.space.ip("link set lan up");
        host.ip(&format!("address add {inside}/24 dev lan"));
        host.ip("link set lan up");
        host.ip(&format!("route add default via {gateway}"));
        router.space.nft(&Router { nat, inside }.rules());
        router.space.forward();
        Home { host, router }
    }
}
