//! The words.

pub mod control;
