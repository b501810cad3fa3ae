//! The deterministic simulator: whole fleets of real engines over simulated disks, links, users and crashes, in one
//! thread, decided by one seed. Same seed, same run, to the last hash.
//!
//! A run agitates (`scenario`, `world`), heals everything, lets it settle and then checks (`check`, `oracle`).
//! The checker works out happens-before by itself. A failing run is made small by `shrink`.

pub mod check;
pub mod database;
pub mod device;
pub mod drive;
pub mod flaw;
pub mod flawed_fs;
pub mod hunt;
pub mod oracle;
pub mod realm;
pub mod regress;
pub mod rng;
pub mod scenario;
pub mod shrink;
pub mod tree;
pub mod user;
pub mod volume;
pub mod weather;
pub mod words;
pub mod world;
