//! The daemon around the pure core of `protocol`: disk, database, network, control.

pub mod config;
pub mod control;
pub mod demo;
pub mod disk;
pub mod folder;
pub mod home;
pub mod keys;
pub mod net;
pub mod node;
pub mod relay;
pub mod store;
pub mod transfer;
