//! Time: ticks of a monotonic clock, real or virtual.
//!
//! A *tick* is the raw unit of the fastest monotonic clock of the machine (the time-stamp counter where it is
//! invariant); it is turned into nanoseconds only when a figure is recorded, never on the way of an event. Wall-clock
//! time is used nowhere, so a clock that is set back or forth changes nothing.
//!
//! A virtual clock stands still until somebody moves it: tests step an engine through hours in a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A monotonic clock; clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real(quanta::Clock),
    Virtual(Arc<AtomicU64>),
}

/// The hand that moves a virtual clock.
#[derive(Clone, Debug)]
pub struct VirtualTime(Arc<AtomicU64>);

impl Default for Clock {
    fn default() -> Self {
        Clock::real()
    }
}

impl Clock {
    /// The machine's clock. The first call of a process calibrates it, which takes up to 200 ms.
    pub fn real() -> Self {
        Clock(Source::Real(quanta::Clock::new()))
    }

    /// A clock at time zero that moves only by [`VirtualTime::advance`]; one tick is one nanosecond.
    pub fn virtual_time() -> (Self, VirtualTime) {
        let time = Arc::new(AtomicU64::new(0));
        (Clock(Source::Virtual(time.clone())), VirtualTime(time))
    }

    /// The time now, in ticks.
    #[inline(always)]
    pub fn ticks(&self) -> u64 {
        match &self.0 {
            Source::Real(clock) => clock.raw(),
            Source::Virtual(time) => time.load(Ordering::Relaxed),
        }
    }

    /// Nanoseconds from `start` to `end` (both in ticks); 0 where `end` is earlier, as it may be between two CPUs.
    #[inline]
    pub fn nanos_between(&self, start: u64, end: u64) -> u64 {
        match &self.0 {
            Source::Real(clock) => clock.delta_as_nanos(start, end.max(start)),
            Source::Virtual(_) => end.saturating_sub(start),
        }
    }

    /// How many ticks `span` lasts; saturates at `u64::MAX / 2`, which no clock reaches, and is at least 1.
    pub fn ticks_of(&self, span: Duration) -> u64 {
        const PROBE_TICKS: u64 = 1 << 30;
        let probe_ns = u128::from(self.nanos_between(0, PROBE_TICKS).max(1));
        let ticks = span.as_nanos().saturating_mul(u128::from(PROBE_TICKS)) / probe_ns;
        ticks.clamp(1, u128::from(u64::MAX / 2)) as u64
    }
}

impl VirtualTime {
    /// Moves the clock on by `span`.
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_moves_by_hand_alone() {
        let (clock, time) = Clock::virtual_time();
        assert_eq!(clock.ticks(), 0);
        time.advance(Duration::from_micros(3));
        assert_eq!(clock.nanos_between(0, clock.ticks()), 3_000);
        assert_eq!(clock.nanos_between(9, 4), 0);
    }

    #[test]
    fn extreme_durations_saturate() {
        for clock in [Clock::real(), Clock::virtual_time().0] {
            assert!(clock.ticks_of(Duration::MAX) <= u64::MAX / 2);
            assert_eq!(clock.ticks_of(Duration::ZERO), 1);
            let second = clock.ticks_of(Duration::from_secs(1));
            let back = clock.nanos_between(0, second);
            assert!(back.abs_diff(1_000_000_000) < 1_000, "{back}");
        }
    }
}
