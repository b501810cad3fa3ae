//! Reach: real daemons and relays in networks of their own making, with routers, firewalls, slow links and addresses that
//! change. A device per network namespace. Needs root, `ip` and `nft`; says SKIPPED where it cannot run.
//! `SYNCD_REACH=long` makes the stretches longer that are shortened for everyday runs.

mod beacons;
mod devices;
mod hub;
mod internet;
mod lab;
mod lab_tests;
mod matrix;
mod nat;
mod own_relay;
mod portmap;
mod rates;
mod relayed;
mod roaming;
mod upgrade;

/// Whether the long form was asked for.
fn is_long() -> bool {
    std::env::var_os("SYNCD_REACH").is_some_and(|form| form == "long")
}
