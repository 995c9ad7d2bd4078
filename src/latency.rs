//! Latency: how long events wait in their lane, and how long they are handled, per shard and class.
//!
//! # Mechanism
//! A producer stamps an event (each, one in N, or never); its shard reads the clock before and after the handler and
//! records two figures into plain histograms that are the shard's own: no atomics, no allocation. A snapshot swaps
//! the shard's histograms for empty ones at a loop boundary, so nothing stops and nothing is shared.
//!
//! # Limits
//! Two significant digits, 1 ns to 60 s; what lies outside is recorded at the bound (saturating). A stamp is read on
//! the producer's CPU and compared on the shard's: on machines whose counters differ between sockets, so do these.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

/// The largest latency that is told apart, in nanoseconds: one minute.
pub const LATENCY_MAX_NS: u64 = 60_000_000_000;
const DIGITS: u8 = 2;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("the bounds are constant and valid")
}

/// Bytes of one histogram's counts.
pub(crate) fn histogram_bytes() -> u64 {
    histogram().distinct_values() as u64 * size_of::<u64>() as u64
}

/// The latencies of one class, in nanoseconds.
#[derive(Clone, Debug)]
pub struct ClassLatency {
    /// From the stamp to the moment before the handler.
    pub wait_ns: Histogram<u64>,
    /// From the moment before the handler to the one after it.
    pub handling_ns: Histogram<u64>,
    /// For expired events: how much older than their time to live they were.
    pub lateness_ns: Histogram<u64>,
}

impl Default for ClassLatency {
    fn default() -> Self {
        ClassLatency { wait_ns: histogram(), handling_ns: histogram(), lateness_ns: histogram() }
    }
}

/// Histograms of a class.
pub(crate) const HISTOGRAMS_PER_CLASS: u64 = 3;

impl ClassLatency {
    #[inline]
    pub(crate) fn record(&mut self, wait_ns: u64, handling_ns: u64) {
        self.wait_ns.saturating_record(wait_ns.max(1));
        self.handling_ns.saturating_record(handling_ns.max(1));
    }

    /// Adds another's figures to these.
    pub fn add(&mut self, other: &ClassLatency) {
        for (sum, more) in [
            (&mut self.wait_ns, &other.wait_ns),
            (&mut self.handling_ns, &other.handling_ns),
            (&mut self.lateness_ns, &other.lateness_ns),
        ] {
            sum.add(more).expect("all latency histograms have the same bounds");
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn figures_outside_the_bounds_are_kept_at_the_bound() {
        let mut latency = ClassLatency::default();
        latency.record(0, u64::MAX);
        assert_eq!(latency.wait_ns.len(), 1);
        assert_eq!(latency.handling_ns.len(), 1);
        assert!(latency.handling_ns.max() >= LATENCY_MAX_NS);
        let mut sum = ClassLatency::default();
        sum.add(&latency);
        sum.add(&latency);
        assert_eq!(sum.wait_ns.len(), 2);
    }
}
