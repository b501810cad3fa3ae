//! Routers that translate addresses, of the kinds that matter to whoever has to be reached behind one (RFC 4787 and 5382
//! have the words), as rules of `nft`.

use std::net::Ipv4Addr;

/// How a router maps and filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One mapping for all destinations, and whoever finds it comes in.
    FullCone,
    /// One mapping for all destinations; in comes what was spoken to, at that port.
    PortRestricted,
    /// A mapping of its own for every destination.
    Symmetric,
}

/// What becomes of a connection that nobody inside asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strays {
    /// It hears nothing.
    Dropped,
    /// It is refused with a RST.
    Refused,
}

/// A router's manners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    pub kind: Kind,
    pub strays: Strays,
}

impl Nat {
    /// The usual one of this kind, which says nothing to strays.
    pub const fn silent(kind: Kind) -> Self {
        Self { kind, strays: Strays::Dropped }
    }
}

/// A router between `lan` with one device and `wan`.
pub struct Router {
    pub nat: Nat,
    pub inside: Ipv4Addr,
}

impl Router {
    /// Its rules. Linux keeps the port of a connection where it is free, so that all connections from one port share a
    /// mapping; `fully-random` takes that away. `fwd` would be a fine name for a chain, and is a word of `nft`.
    pub fn rules(&self) -> String {
        let Self { nat: Nat { kind, strays }, inside } = self;
        let masquerade = if *kind == Kind::Symmetric { "masquerade fully-random" } else { "masquerade" };
        let (everything_in, and_through) = match kind {
            Kind::FullCone => {
                let rule = format!("iifname \"wan\" meta l4proto {{ tcp, udp }} dnat to {inside}");
                (rule, "ct status dnat accept")
            }
            Kind::PortRestricted | Kind::Symmetric => (String::new(), ""),
        };
        let refuse =
            if *strays == Strays::Refused { "iifname \"wan\" meta l4proto tcp reject with tcp reset" } else { "" };
        format!(
            "table ip translate {{\n \
             chain out {{ type nat hook postrouting priority srcnat\n oifname \"wan\" {masquerade}\n }}\n \
             chain in {{ type nat hook prerouting priority dstnat\n {everything_in}\n }}\n}}\n\
             table ip guard {{\n \
             chain through {{ type filter hook forward priority filter; policy drop\n \
             ct state established,related accept\n iifname \"lan\" accept\n {and_through}\n }}\n \
             chain own {{ type filter hook input priority filter\n \
             ct state established,related accept\n {refuse}\n iifname \"wan\" drop\n }}\n}}\n"
        )
    }
}
