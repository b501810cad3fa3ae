//! Looks for byte strings in the writable memory of another process, as root may.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A string to look for, and what it is.
pub type Needle = (String, Vec<u8>);

/// The needles that a process holds, by what they are. `None` where its memory may not be read.
pub fn held(process: u32, needles: &[Needle]) -> Option<BTreeSet<String>> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let memory = File::open(format!("/proc/{process}/mem")).ok()?;
    let mut held = BTreeSet::new();
    let mut read = 0;
    for line in maps.lines() {
        let Some(range) = writable(line) else { continue };
        let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("a range of this machine's memory")];
        // The kernel's own pages are listed and cannot be read; others may have gone since.
        if memory.read_exact_at(&mut bytes, range.start).is_ok() {
            read += bytes.len();
            held.extend(found(&bytes, needles));
        }
    }
    assert!(read > 1 << 20, "a program has a megabyte of memory of its own, {read} bytes were read");
    Some(held)
}

fn writable(line: &str) -> Option<std::ops::Range<u64>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    rest.starts_with("rw").then_some(number(start)?..number(end)?)
}

/// One pass over the bytes, whatever the number of needles.
fn found(bytes: &[u8], needles: &[Needle]) -> BTreeSet<String> {
    let mut by_first = [false; 256];
    needles.iter().for_each(|(_, needle)| by_first[usize::from(needle[0])] = true);
    let starts = bytes.iter().enumerate().filter(|(_, byte)| by_first[usize::from(**byte)]);
    let at = |start: usize| needles.iter().filter(move |(_, needle)| bytes[start..].starts_with(needle));
    starts.flat_map(|(start, _)| at(start)).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::harness::noise;

    #[test]
    fn needles_are_found_wherever_they_lie() {
        let needles: Vec<Needle> = [1, 2, 3].map(|seed| (seed.to_string(), noise(seed, 16))).to_vec();
        let mut hay = noise(9, 5000);
        assert_eq!(found(&hay, &needles).len(), 0);
        hay[..16].copy_from_slice(&needles[0].1);
        hay[5000 - 16..].copy_from_slice(&needles[2].1);
        assert_eq!(found(&hay, &needles), BTreeSet::from(["1".to_owned(), "3".to_owned()]));
    }
}
