//! placeholder until the disk branch lands
use crate::model::{ContentHash, Mtime};
/// name
pub fn conflict_name(name: &[u8], _mtime: Mtime, hash: &ContentHash, digits: usize) -> Vec<u8> {
    [name, b".cc-", &hash.to_hex().as_bytes()[..digits]].concat()
}
