//! Latency: how long events wait in their lane, and how long they are handled, per shard and class.
//!
//! # Mechanism
//! A producer stamps an event (each, one in N, or never); its shard reads the clock before and after the handler and
//! counts two figures in tallies that are the shard's own: no atomics, no allocation. Of measured events that follow
//! each other one reading ends one and begins the next, so the few nanoseconds of the engine between them count as
//! handling. A snapshot swaps the shard's tallies for empty ones at a loop boundary, so nothing stops and nothing is
//! shared; whoever asked turns them into histograms.
//!
//! A tally has the buckets of an HdrHistogram of two significant digits and nothing else; see `buckets`.
//!
//! # Limits
//! Two significant digits, 1 ns to 60 s; what lies outside is recorded at the bound (saturating). A stamp is read on
//! the producer's CPU and compared on the shard's: on machines whose counters differ between sockets, so do these.

#[cfg(feature = "latency")]
pub use measured::*;

/// What a shard counts of one class. Without the feature `latency` it is nothing.
#[cfg(not(feature = "latency"))]
pub(crate) struct Recorder;

#[cfg(not(feature = "latency"))]
impl Recorder {
    pub fn new() -> Self {
        Recorder
    }
    #[inline(always)]
    pub fn handled(&mut self, _wait_ns: u64, _handling_ns: u64) {}
    pub fn expired(&mut self, _lateness_ns: u64) {}
}

#[cfg(feature = "latency")]
mod measured {
    use crate::buckets::{add_to, bucket, exact_bits};
    use hdrhistogram::Histogram;

    /// The largest latency that is told apart, in nanoseconds: one minute.
    pub const LATENCY_MAX_NS: u64 = 60_000_000_000;
    const DIGITS: u8 = 2;

    const EXACT_BITS: u32 = exact_bits(DIGITS);
    const BUCKETS: usize = bucket(LATENCY_MAX_NS, EXACT_BITS) + 1;

    /// Counts by bucket, 1 ns to [`LATENCY_MAX_NS`].
    struct Tally(Box<[u64; BUCKETS]>);

    impl Tally {
        fn new() -> Self {
            let counts = vec![0; BUCKETS].into_boxed_slice().try_into();
            // Touched at start: zeroed memory that was never written is not resident yet.
            let mut tally = Tally(counts.expect("the length is that of the array"));
            tally.0.fill(std::hint::black_box(0));
            tally
        }

        #[inline(always)]
        fn count(&mut self, ns: u64) {
            self.0[bucket(ns.clamp(1, LATENCY_MAX_NS), EXACT_BITS)] += 1;
        }

        fn add_to(&self, histogram: &mut Histogram<u64>) {
            add_to(histogram, self.0.as_slice(), EXACT_BITS);
        }
    }

    /// What a shard counts of one class.
    pub(crate) struct Recorder {
        wait: Tally,
        handling: Tally,
        lateness: Tally,
    }

    impl Recorder {
        /// Bytes of one class's tallies on one shard.
        pub const BYTES: u64 = 3 * (BUCKETS * size_of::<u64>()) as u64;

        pub fn new() -> Self {
            Recorder { wait: Tally::new(), handling: Tally::new(), lateness: Tally::new() }
        }

        #[inline(always)]
        pub fn handled(&mut self, wait_ns: u64, handling_ns: u64) {
            self.wait.count(wait_ns);
            self.handling.count(handling_ns);
        }

        pub fn expired(&mut self, lateness_ns: u64) {
            self.lateness.count(lateness_ns);
        }
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

    fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("the bounds are constant and valid")
    }

    impl Default for ClassLatency {
        fn default() -> Self {
            ClassLatency { wait_ns: histogram(), handling_ns: histogram(), lateness_ns: histogram() }
        }
    }

    impl ClassLatency {
        /// Adds another's figures to these.
        ///
        /// ```
        /// use pelton::latency::ClassLatency;
        /// let (mut sum, mut more) = (ClassLatency::default(), ClassLatency::default());
        /// sum.wait_ns.record(500)?;
        /// more.wait_ns.record(1_500)?;
        /// sum.add(&more);
        /// assert_eq!(sum.wait_ns.len(), 2);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn add(&mut self, other: &ClassLatency) {
            for (sum, more) in [
                (&mut self.wait_ns, &other.wait_ns),
                (&mut self.handling_ns, &other.handling_ns),
                (&mut self.lateness_ns, &other.lateness_ns),
            ] {
                sum.add(more).expect("all latency histograms have the same bounds");
            }
        }

        /// Adds what a shard counted.
        pub(crate) fn absorb(&mut self, recorder: &Recorder) {
            recorder.wait.add_to(&mut self.wait_ns);
            recorder.handling.add_to(&mut self.handling_ns);
            recorder.lateness.add_to(&mut self.lateness_ns);
        }
    }

    impl From<&Recorder> for ClassLatency {
        fn from(recorder: &Recorder) -> Self {
            let mut latency = ClassLatency::default();
            latency.absorb(recorder);
            latency
        }
    }

    #[cfg(all(test, not(pelton_loom)))]
    mod tests {
        use super::*;
        use proptest::prelude::*;

        #[test]
        fn figures_outside_the_bounds_are_kept_at_the_bound() {
            let mut recorder = Recorder::new();
            recorder.handled(0, u64::MAX);
            let latency = ClassLatency::from(&recorder);
            assert_eq!(latency.wait_ns.len(), 1);
            assert_eq!(latency.handling_ns.len(), 1);
            assert!(latency.handling_ns.max() >= LATENCY_MAX_NS);
            let mut sum = latency.clone();
            sum.add(&latency);
            assert_eq!(sum.wait_ns.len(), 2);
        }

        proptest! {
            #[test]
            fn a_tally_is_the_histogram_that_it_stands_for(
                figures in proptest::collection::vec((0u32..40, any::<u64>()), 1..500),
            ) {
                let mut tally = Tally::new();
                let mut direct = histogram();
                for (bits, figure) in figures {
                    let figure = figure >> (24 + bits);
                    tally.count(figure);
                    direct.saturating_record(figure.clamp(1, LATENCY_MAX_NS));
                }
                let mut filled = histogram();
                tally.add_to(&mut filled);
                prop_assert_eq!(filled.len(), direct.len());
                prop_assert_eq!((filled.min(), filled.max()), (direct.min(), direct.max()));
                let both = filled.iter_recorded().zip(direct.iter_recorded());
                for (filled, direct) in both {
                    prop_assert_eq!(filled.value_iterated_to(), direct.value_iterated_to());
                    prop_assert_eq!(filled.count_at_value(), direct.count_at_value());
                }
            }
        }
    }
}
