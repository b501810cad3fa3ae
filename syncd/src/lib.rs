//! The daemon around the pure core of `protocol`: disk, database, network, control.

pub mod config;
pub mod control;
pub mod disk;
pub mod home;
pub mod keys;
pub mod store;
