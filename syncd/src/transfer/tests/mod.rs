//! Two devices over real sessions on loopback: what moves, what does not, and what happens when it goes wrong.

mod device;
mod faults;
mod layout;
mod moves;

use protocol::model::RelPath;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).expect("a test's path is valid")
}

/// Bytes that no compressor shrinks, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
