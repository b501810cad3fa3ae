//! daemon

pub mod config;
pub mod control;
pub mod home;
