//! The daemon around the pure core of `protocol`: disk, database, network, control.

pub mod disk;
pub mod net;
pub mod relay;
pub mod store;
