//! The workspace's tests: the simulator lives here as a library, so that its test and its binary share it.

#[path = "../sim/mod.rs"]
pub mod sim;

#[path = "../e2e/harness/mod.rs"]
pub mod harness;
