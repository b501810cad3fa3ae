//! The rule: what goes through the proxy, what around it, and what is looked up here.

use super::*;

fn proxy(what: ProxyFor) -> Proxy {
    Proxy { at: "127.0.0.1:9050".parse().expect("an address"), login: None, what }
}

#[test]
fn what_a_proxy_covers() {
    let rows = [
        ("203.0.113.5", true),
        ("2001:db8::1", true),
        ("::ffff:203.0.113.5", true),
        ("192.168.1.7", false),
        ("10.0.0.1", false),
        ("169.254.1.1", false),
        ("127.0.0.1", false),
        ("fe80::1", false),
        ("fd00::1", false),
        ("::ffff:192.168.1.7", false),
        ("100.64.0.1", true),
    ];
    for (ip, expected) in rows {
        let ip = ip.parse().expect("an address");
        assert_eq!(proxy(ProxyFor::Internet).covers(ip), expected, "{ip}");
        assert!(proxy(ProxyFor::Everything).covers(ip), "{ip}");
    }
}

#[test]
fn counterparts_have_circuits_of_their_own() {
    let circuits: Vec<Circuit> = (0..10).map(|_| Circuit::new()).collect();
    for (at, circuit) in circuits.iter().enumerate() {
        assert!(circuits[at + 1..].iter().all(|other| other.0 != circuit.0));
    }
}
