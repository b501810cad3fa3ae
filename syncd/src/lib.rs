//! daemon

pub mod control;
pub mod home;
