//! The buckets of an HdrHistogram: where a value is counted, and what a bucket stands for.
//!
//! # Mechanism
//! A shard counts in plain arrays that have the very buckets of an HdrHistogram (Gil Tene, <https://hdrhistogram.org>)
//! and nothing else: to count is to find the bucket and add one, in 10 instructions where the histogram's own recording
//! takes 60. Nothing is lost on the way: a histogram filled from such an array equals one that was filled directly.
//!
//! Values below 2^`exact_bits` have a bucket each; above it, each power of two has half as many buckets.

use hdrhistogram::Histogram;

/// The bits of the values that have a bucket each, for so many significant digits: 1 to 5.
pub const fn exact_bits(digits: u8) -> u32 {
    (2 * 10u64.pow(digits as u32)).next_power_of_two().ilog2()
}

/// The bucket of a value.
///
/// ```
/// use pelton::buckets::{bucket, exact_bits, value};
/// let bits = exact_bits(2);           // two significant digits
/// assert_eq!(bits, 8);
/// assert_eq!(value(bucket(255, bits), bits), 255);            // exact
/// assert_eq!(value(bucket(1_001, bits), bits), 1_000);        // within 1 %
/// ```
#[inline(always)]
pub const fn bucket(value: u64, exact_bits: u32) -> usize {
    let exact = 1 << exact_bits;
    let shift = ((exact - 1) | value).ilog2() + 1 - exact_bits;
    ((shift as u64) * (exact / 2) + (value >> shift)) as usize
}

/// The smallest value of a bucket.
pub const fn value(bucket: usize, exact_bits: u32) -> u64 {
    let half = 1 << (exact_bits - 1);
    let bucket = bucket as u64;
    let shift = (bucket / half).saturating_sub(1);
    (bucket - shift * half) << shift
}

/// Adds what was counted to a histogram with the same digits.
///
/// ```
/// use pelton::buckets::{add_to, bucket, exact_bits};
/// use pelton::hdrhistogram::Histogram;
/// let bits = exact_bits(2);
/// let mut counts = [0; 1_024];
/// counts[bucket(40, bits)] += 3;
/// let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 2)?;
/// add_to(&mut histogram, &counts, bits);
/// assert_eq!((histogram.len(), histogram.max()), (3, 40));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn add_to(histogram: &mut Histogram<u64>, counts: &[u64], exact_bits: u32) {
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        histogram.saturating_record_n(value(bucket, exact_bits), *count);
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_are_the_histogram_that_they_stand_for(
            digits in 1u8..=3,
            values in proptest::collection::vec((0u32..62, any::<u64>()), 1..300),
        ) {
            let most = 1u64 << 62;
            let bits = exact_bits(digits);
            let new = || Histogram::<u64>::new_with_bounds(1, most, digits).unwrap();
            let (mut counts, mut direct, mut filled) = (vec![0; bucket(most, bits) + 1], new(), new());
            for (shift, value) in values {
                let value = value >> (2 + shift);
                counts[bucket(value, bits)] += 1;
                direct.record(value).unwrap();
            }
            add_to(&mut filled, &counts, bits);
            prop_assert_eq!(filled, direct);
        }
    }
}
