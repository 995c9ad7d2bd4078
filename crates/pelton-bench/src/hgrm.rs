//! Percentile distributions as text, in the form that HdrHistogram's plotter and its kin read: `.hgrm` files.
//!
//! # Form
//! ```text
//!        Value     Percentile TotalCount 1/(1-Percentile)
//!                                                            an empty line
//!        0.141 0.500000000000     512340           2.00      one for each step of the distribution
//!        1.207 1.000000000000    1000000                     the last has no fourth column: it would be infinite
//! #[Mean    =        0.150, StdDeviation   =        0.031]
//! #[Max     =        1.207, Total count    =      1000000]
//! #[Buckets =           26, SubBuckets     =         2048]
//! ```
//! Steps halve their distance to 100 % as they come nearer, [`STEPS_PER_HALF`] to each halving, so the tail has as many
//! as the rest. A plotter takes every line of four columns that is no comment: the first is the value, the fourth the
//! place on a logarithmic axis. Several files are drawn in one picture only if their steps are the same, so ours always
//! are.

use hdrhistogram::Histogram;
use std::fmt;

/// Steps in each half of what is left to 100 %. HdrHistogram's own files have as many.
pub const STEPS_PER_HALF: u32 = 5;

/// A histogram of nanoseconds that is written as a percentile distribution, in microseconds with three decimals: so
/// nothing is rounded away.
#[derive(Clone, Copy, Debug)]
pub struct Hgrm<'a>(pub &'a Histogram<u64>);

impl fmt::Display for Hgrm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let histogram = self.0;
        let us = |ns: f64| ns / 1e3;
        writeln!(
            f,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        )?;
        let mut seen = 0;
        for step in histogram.iter_quantiles(STEPS_PER_HALF) {
            seen += step.count_since_last_iteration();
            let (value, quantile) = (us(step.value_iterated_to() as f64), step.quantile_iterated_to());
            write!(f, "{value:12.3} {quantile:2.12} {seen:10}")?;
            if quantile < 1.0 {
                write!(f, " {:14.2}", 1.0 / (1.0 - quantile))?;
            }
            writeln!(f)?;
        }
        let (mean, deviation, max) = (histogram.mean(), histogram.stdev(), histogram.max() as f64);
        writeln!(f, "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]", us(mean), us(deviation))?;
        writeln!(f, "#[Max     = {:12.3}, Total count    = {:12}]", us(max), histogram.len())?;
        let (buckets, sub_buckets) = (histogram.buckets(), sub_buckets(histogram.sigfig()));
        writeln!(f, "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]")
    }
}

/// Values that a bucket tells apart: the power of two that has room for twice as many as the digits ask for.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10u64.pow(digits.into())).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a plotter makes of it: the place on its axis and the value, by its own rules.
    fn read(text: &str) -> Vec<(f64, f64)> {
        let lines = text.split('\n').map(str::trim).filter(|line| !line.starts_with('#'));
        let columns = lines.map(|line| line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>());
        let of_four = columns.filter(|columns| columns.len() == 4);
        of_four.filter_map(|columns| Some((columns[3].parse().ok()?, columns[0].parse().ok()?))).collect()
    }

    fn uniform(count: u64) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        (1..=count).for_each(|n| histogram.record(n).unwrap());
        histogram
    }

    #[test]
    fn a_plotter_reads_the_whole_curve() {
        let text = Hgrm(&uniform(1_000)).to_string();
        let points = read(&text);
        // 0 to 50 % in five steps, 50 to 75 % in five, and so on: ten halvings before the last of a thousand.
        assert_eq!(points[0], (1.0, 0.001));
        assert_eq!(points[5], (2.0, 0.5));
        assert_eq!(points[10].0, 4.0);
        assert!(
            points.len() > 45
                && points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1)
        );
        for (place, value) in &points {
            let expected = 1.0 - 1.0 / place;
            assert!((value - expected).abs() < 0.002, "{value} at {place}");
        }
    }

    #[test]
    fn the_form_is_that_of_the_original() {
        let text = Hgrm(&uniform(1_000)).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       0.001 0.000000000000          1           1.00");
        assert_eq!(lines[7], "       0.500 0.500000000000        500           2.00");
        let tail = &lines[lines.len() - 4..];
        assert_eq!(tail[0], "       1.000 1.000000000000       1000");
        assert_eq!(tail[1], "#[Mean    =        0.500, StdDeviation   =        0.289]");
        assert_eq!(tail[2], "#[Max     =        1.000, Total count    =         1000]");
        assert!(tail[3].starts_with("#[Buckets = ") && tail[3].ends_with(", SubBuckets     =         2048]"));
    }

    #[test]
    fn all_files_have_the_same_steps() {
        // One value makes up 90 % of it: no step is left out for that.
        let mut lumpy = uniform(1_000);
        lumpy.record_n(250, 9_000).unwrap();
        let places =
            |histogram| read(&Hgrm(histogram).to_string()).iter().map(|point| point.0).collect::<Vec<_>>();
        let (one, other) = (places(&uniform(1_000)), places(&lumpy));
        assert_eq!(one[..], other[..one.len()]);
        let empty = Hgrm(&Histogram::new_with_bounds(1, 1_000, 2).unwrap()).to_string();
        assert!(read(&empty).is_empty() && empty.contains("Total count    =            0]"), "{empty}");
    }
}
