//! Strings that two captures have in common: the set of all runs of eight bytes of one, and those of the other that
//! are in it. Random captures of a megabyte each share one with a chance of 2^40 / 2^64, less than one in ten million.

use std::collections::HashSet;

/// Bytes of a window: long enough that chance makes no two alike, short enough for a truncated id or a header.
pub const LEN: usize = 8;

/// Every window of some byte strings. A window never spans two of them.
pub struct Windows(HashSet<[u8; LEN]>);

impl Windows {
    /// Those of `strings`.
    pub fn of<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(strings.into_iter().flat_map(windows).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Windows of `bytes` that are among these.
    pub fn shared(&self, bytes: &[u8]) -> Vec<[u8; LEN]> {
        windows(bytes).filter(|window| self.0.contains(window)).collect()
    }
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = [u8; LEN]> {
    bytes.windows(LEN).map(|window| window.try_into().expect("windows have this length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::harness::noise;

    #[test]
    fn what_is_common_is_found_wherever_it_lies() {
        let secret = *b"12345678";
        for (place, there) in [(0, 0), (17, 3000), (2992, 1), (999, 999)] {
            let (mut one, mut other) = (noise(1, 3000), noise(2, 4000));
            assert_eq!(Windows::of([&one[..]]).shared(&other), [[0; LEN]; 0], "by chance");
            one[place..place + LEN].copy_from_slice(&secret);
            other[there..there + LEN].copy_from_slice(&secret);
            assert_eq!(Windows::of([&one[..]]).shared(&other), [secret]);
            other[there + 3] ^= 1;
            assert_eq!(Windows::of([&one[..]]).shared(&other), [[0; LEN]; 0], "seven bytes are no window");
        }
        assert_eq!(Windows::of([&b"1234"[..], b"5678"]).len(), 0, "no window spans two strings");
        assert_eq!(Windows::of([&b"12345678"[..], b"12345678"]).len(), 1);
    }
}
