//! A port of a real router: what `net internet on` asks for, by PCP or NAT-PMP and by UPnP, leads to the device, and is given
//! back.

use crate::devices::{PORT, are_connected, device, pair_at};
use crate::lab::{Home, Lab, Site};
use crate::nat::{Kind, Nat};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::harness::{World, skip, until, within};

/// The program of most home routers.
const ROUTER: &str = "miniupnpd";

/// What the router says of its outside: the addresses of a lab are reserved ones, for which it would give no port.
const OUTSIDE: &str = "20.0.113.1";

/// It runs until it is dropped.
struct Mapper(Child);

impl Mapper {
    /// In front of a home. `None` where the program is missing.
    fn start(world: &World, home: &Home, by: &str) -> Option<Self> {
        let switch = |protocol| if protocol == by { "yes" } else { "no" };
        let settings = format!(
            "ext_ifname=wan\next_ip={OUTSIDE}\nlistening_ip=lan\nhttp_port=0\nsystem_uptime=yes\n\
             enable_natpmp={}\nenable_upnp={}\nsecure_mode=yes\nuuid=00000000-0000-0000-0000-000000000001\n\
             upnp_table_name=ports\nupnp_nat_table_name=ports\nupnp_forward_chain=forwards\nupnp_nat_chain=maps\n\
             upnp_nat_postrouting_chain=returns\nallow 1024-65535 0.0.0.0/0 1024-65535\n",
            switch("pcp"),
            switch("upnp")
        );
        let path = world.path().join(format!("{by}.conf"));
        std::fs::write(&path, settings).expect("scratch space");
        // Its chains are filled by the program; what comes in by them passes the guard.
        home.router.space.nft(
            "table inet ports {\n chain forwards { }\n chain maps { }\n chain returns { }\n \
             chain in { type nat hook prerouting priority dstnat - 5\n jump maps\n }\n}\n\
             add rule ip guard through ct status dnat accept\n",
        );
        let under = home.router.space.under();
        let mut program = Command::new(under[0]);
        program.args(&under[1..]).args([ROUTER, "-d", "-f"]).arg(&path).arg("-P").arg(world.path().join("pid"));
        let log = std::fs::File::create(world.path().join(format!("{by}.log"))).expect("scratch space");
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        program.spawn().ok().map(Self)
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_open(home: &Home, from: &Site) -> bool {
    let at = SocketAddr::from((home.router.address, PORT));
    from.space.inside(|| TcpStream::connect_timeout(&at, Duration::from_millis(500)).is_ok())
}

fn check(test: &str, by: &str, says: &str) {
    let Some(lab) = Lab::new(test) else { return };
    if Command::new(ROUTER).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return skip(test, "it needs miniupnpd for nftables");
    }
    let world = World::new();
    let (site, home) = (lab.site("a", None), lab.home("b", Nat::silent(Kind::PortRestricted), None));
    let _mapper = Mapper::start(&world, &home, by).expect("ip starts");
    let settings = "lan = \"never\"\ninternet_nodes = [\"203.0.113.250:6881\"]\n";
    let (a, b) = (device(&world, "a", &site.space, settings), device(&world, "b", &home.host, settings));
    assert!(!is_open(&home, &site), "the router lets anybody in");
    b.ok(&["net", "internet", "on"]);
    let outside = format!("{OUTSIDE}:{PORT}");
    let said = || b.json(&["net"])["router"].as_str().unwrap_or_default().to_owned();
    let mapped = within(Duration::from_secs(30), || {
        let said = said();
        (said.contains(&outside) && said.contains(says)).then_some(said)
    });
    let log = || std::fs::read_to_string(world.path().join(format!("{by}.log"))).unwrap_or_default();
    assert!(mapped.is_some(), "the router is not said to lead here: {:?}\n{}", said(), log());
    println!("{by}: {}", said());
    assert!(is_open(&home, &site), "the port leads nowhere");
    pair_at(&b, home.router.address, &a);
    until("a reaches b by the port", || are_connected(&a, &b, "direct").then_some(()));
    b.ok(&["net", "internet", "off"]);
    until("the port is given back", || (!is_open(&home, &site)).then_some(()));
}

#[test]
fn a_router_gives_a_port_by_pcp_and_gets_it_back() {
    check("a_router_gives_a_port_by_pcp_and_gets_it_back", "pcp", "PCP");
}

#[test]
fn a_router_gives_a_port_by_upnp_and_gets_it_back() {
    check("a_router_gives_a_port_by_upnp_and_gets_it_back", "upnp", "UPnP");
}
