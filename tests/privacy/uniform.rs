//! Whether samples of fixed length look random at every offset: how often each byte value and each bit occurs there.
//!
//! Bounds for 2,000 samples of 1,292 bytes, 10,336 bits. A bit that is a fair coin is off its mean of 1,000 by 160 or
//! more with a chance of at most 2 exp(-2 * 160^2 / 2000) = 1.5e-11 (Hoeffding); all bits together: 1.6e-7. Chi squared
//! with 255 degrees of freedom is over 450 with a chance of 1e-12 (Wilson and Hilferty: seven standard deviations), all
//! offsets together: 1.3e-9; the true statistic has a third moment that is some 6 % larger than that of chi squared, which
//! makes it a few times as much there. So fewer than one run in a million fails without a cause.

/// Samples that the bounds are for.
pub const SAMPLES: usize = 2000;
/// Longest sample that the bounds are for.
const LEN_MAX: usize = 1292;
/// How far from half of the samples a bit may be set.
const BIT_OFF_MAX: usize = 160;
/// Chi squared of the 256 values of a byte.
const CHI_SQUARED_MAX: f64 = 450.0;

/// What was counted.
pub struct Tally {
    /// For each offset, how often it had each value.
    values: Vec<[u32; 256]>,
    samples: usize,
}

impl Tally {
    /// Of samples of `len` bytes.
    pub fn new(len: usize) -> Self {
        assert!(len <= LEN_MAX, "the bounds hold for {LEN_MAX} bytes");
        Self { values: vec![[0; 256]; len], samples: 0 }
    }

    /// Counts a sample.
    pub fn add(&mut self, sample: &[u8]) {
        assert_eq!(sample.len(), self.values.len(), "all samples have one length");
        self.samples += 1;
        for (values, byte) in self.values.iter_mut().zip(sample) {
            values[usize::from(*byte)] += 1;
        }
    }

    /// Offsets that are not uniform, and why. Bits that `is_zero` names (offset, bit) must be clear in every sample;
    /// their byte is judged by its other bits.
    pub fn outliers(&self, is_zero: impl Fn(usize, usize) -> bool) -> Vec<String> {
        assert_eq!(self.samples, SAMPLES, "the bounds hold for this many");
        let mut outliers = Vec::new();
        for (offset, values) in self.values.iter().enumerate() {
            let mut free = 256;
            for bit in 0..8 {
                let ones = (0..256).filter(|value| value >> bit & 1 == 1).map(|value| values[value] as usize).sum();
                if is_zero(offset, bit) {
                    free /= 2;
                    if ones > 0 {
                        outliers.push(format!("offset {offset}: bit {bit} is set {ones} times, must never be"));
                    }
                } else if (SAMPLES / 2).abs_diff(ones) >= BIT_OFF_MAX {
                    outliers.push(format!("offset {offset}: bit {bit} is set {ones} times in {SAMPLES}"));
                }
            }
            let chi_squared = chi_squared(values, free);
            if chi_squared > CHI_SQUARED_MAX {
                outliers.push(format!("offset {offset}: chi squared is {chi_squared:.0}"));
            }
        }
        outliers
    }
}

/// Against `free` values that are equally likely; those that cannot be have no count and add nothing.
fn chi_squared(values: &[u32; 256], free: u32) -> f64 {
    let total: f64 = values.iter().map(|count| f64::from(*count)).sum();
    let expected = total / f64::from(free);
    let squares: f64 = values.iter().map(|count| f64::from(*count).powi(2)).sum();
    squares / expected - total
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::harness::noise;

    fn check(name: &str, spoil: impl Fn(usize, &mut [u8]), found_at: &[usize]) {
        let mut tally = Tally::new(40);
        for sample in 0..SAMPLES {
            let mut bytes = noise(u64::try_from(sample).expect("few"), 40);
            bytes[20] &= 0x7f;
            spoil(sample, &mut bytes);
            tally.add(&bytes);
        }
        let outliers = tally.outliers(|offset, bit| (offset, bit) == (20, 7));
        let at = |offset: &usize| outliers.iter().any(|words| words.starts_with(&format!("offset {offset}:")));
        let found: Vec<usize> = (0..40).filter(at).collect();
        assert_eq!(found, found_at, "{name}: {outliers:?}");
    }

    #[test]
    fn what_is_not_uniform_is_found() {
        check("random bytes", |_, _| {}, &[]);
        check("a version byte", |_, bytes| bytes[5] = 1, &[5]);
        check("a flag", |_, bytes| bytes[9] |= 0x10, &[9]);
        check("a bit that is set in three of five", |at, bytes| bytes[9] |= u8::from(at % 5 == 0), &[9]);
        check(
            "a counter",
            |at, bytes| bytes[..2].copy_from_slice(&u16::try_from(at).expect("few").to_be_bytes()),
            &[0],
        );
        check("values that are multiples of three", |_, bytes| bytes[30] -= bytes[30] % 3, &[30]);
        check("a bit that must be clear", |at, bytes| bytes[20] |= if at == 7 { 0x80 } else { 0 }, &[20]);
    }
}
