//! Whether a block is worth compressing, and decompression that cannot be made to write more than was announced.

use std::io;

/// Samples of a block that are looked at, and their length in bytes.
const SAMPLES: usize = 4;
const SAMPLE_LEN: usize = 1024;
/// Order-0 entropy in bits per byte above which a sample counts as random. Measured: text and logs stay below 6,
/// compressed media and keys are above 7.8 even in 1 KiB samples.
const ENTROPY_MAX: f64 = 7.6;
/// The second look: high entropy, yet repetitive.
const TRIAL_LEN: usize = 8 * 1024;
/// Level of the trial and of the block: higher levels are slower than any link that is worth them.
const TRIAL_LEVEL: i32 = -5;
const LEVEL: i32 = 1;

/// Compresses blocks; keeps its context and buffer.
pub(super) struct Deflater {
    context: zstd::bulk::Compressor<'static>,
    trial: zstd::bulk::Compressor<'static>,
}

impl Deflater {
    pub fn new() -> io::Result<Self> {
        Ok(Self { context: zstd::bulk::Compressor::new(LEVEL)?, trial: zstd::bulk::Compressor::new(TRIAL_LEVEL)? })
    }

    /// `raw` compressed behind `header_len` bytes of room, if that saves at least an eighth.
    pub fn deflate(&mut self, raw: &[u8], header_len: usize) -> Option<Vec<u8>> {
        if !self.is_worth_it(raw) {
            return None;
        }
        let mut out = vec![0; header_len + zstd::zstd_safe::compress_bound(raw.len())];
        let len = self.context.compress_to_buffer(raw, &mut out[header_len..]).ok()?;
        out.truncate(header_len + len);
        (len <= raw.len() - raw.len() / 8).then_some(out)
    }

    fn is_worth_it(&mut self, raw: &[u8]) -> bool {
        if raw.len() < 256 {
            return false;
        }
        let step = raw.len() / SAMPLES;
        let sample = |index: usize| &raw[index * step..(index * step + SAMPLE_LEN).min(raw.len())];
        if (0..SAMPLES).any(|index| entropy(sample(index)) < ENTROPY_MAX) {
            return true;
        }
        let middle = raw.len() / 2;
        let part = &raw[middle..(middle + TRIAL_LEN).min(raw.len())];
        self.trial.compress(part).is_ok_and(|small| small.len() < part.len() - part.len() / 8)
    }
}

fn entropy(sample: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let total = sample.len() as f64;
    let bits = counts.iter().filter(|count| **count > 0).map(|count| {
        let share = f64::from(*count) / total;
        -share * share.log2()
    });
    bits.sum()
}

/// Decompresses blocks; keeps its context and buffer.
pub(super) struct Inflater {
    context: zstd::bulk::Decompressor<'static>,
    buffer: Vec<u8>,
}

impl Inflater {
    pub fn new() -> io::Result<Self> {
        Ok(Self { context: zstd::bulk::Decompressor::new()?, buffer: Vec::new() })
    }

    /// Exactly `raw_len` bytes out of one zstd frame, or nothing. The output buffer is the cap; it comes back with
    /// `recycle`.
    pub fn inflate(&mut self, stored: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let mut raw = std::mem::take(&mut self.buffer);
        raw.resize(raw_len, 0);
        match self.context.decompress_to_buffer(stored, &mut raw[..]) {
            Ok(len) if len == raw_len => Some(raw),
            _ => {
                self.recycle(raw);
                None
            }
        }
    }

    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }
}
