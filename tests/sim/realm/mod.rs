//! The simulator of a realm: a few devices with their real rosters and the daemon's own exchange
//! (`syncd::membership::Exchange`) over a network that a seed cuts, delays and tears, people that change the realm on
//! any of them, and thieves that have one of the devices. One thread, one seed: same seed, same run, to the last hash.
//!
//! A run acts out a story (`story`, `world`), heals everything and lets it settle. What must hold is looked at after
//! every event and at the end (`oracle`). A failing story is made small by `hunt`.
//!
//! Not the daemon's but modelled (`device`): how the node acts on a changed list, pairings, sessions, and which keys a
//! session can begin with.

pub mod device;
pub mod flaw;
pub mod hunt;
pub mod ledger;
pub mod network;
pub mod oracle;
pub mod story;
pub mod thief;
pub mod world;
