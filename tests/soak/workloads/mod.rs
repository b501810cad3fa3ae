//! What programs do in a synced folder.
use tests::harness::{Verdict, World};
pub const NAMES: [&str; 1] = ["git"];
pub fn workloads(_: &World, _: &[String], _: &mut Verdict) {}
