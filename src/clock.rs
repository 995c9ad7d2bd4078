//! Time: ticks of a monotonic clock, real or virtual.
//!
//! A *tick* is the raw unit of the fastest monotonic clock of the machine (the time-stamp counter where it is
//! invariant); it is turned into nanoseconds only when a figure is recorded, never on the way of an event. Wall-clock
//! time is used nowhere, so a clock that is set back or forth changes nothing.
//!
//! A virtual clock stands still until somebody moves it: tests step an engine through hours in a moment. A thread that
//! sleeps until a time leaves a waker with the clock ([`Clock::wake_on_advance`]). The hand stores the new time first and
//! wakes then, so a thread that is woken sees the new time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// A monotonic clock; clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real(quanta::Clock),
    Virtual(Arc<VirtualState>),
}

/// What a virtual clock and its hands share.
#[derive(Debug, Default)]
pub(crate) struct VirtualState {
    nanos: AtomicU64,
    wakers: Mutex<Wakers>,
}

/// The wakers of those that sleep until a time.
#[derive(Debug, Default)]
struct Wakers {
    next: u64,
    all: Vec<(u64, Waker)>,
}

impl VirtualState {
    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hand that moves a virtual clock.
#[derive(Clone, Debug)]
pub struct VirtualTime(Arc<VirtualState>);

/// Keeps a waker with a virtual clock; see [`Clock::wake_on_advance`].
#[derive(Debug)]
#[must_use = "the clock forgets the waker when this is dropped"]
pub struct AdvanceGuard(Option<(Arc<VirtualState>, u64)>);

impl Default for Clock {
    fn default() -> Self {
        Clock::real()
    }
}

impl Clock {
    /// The machine's clock. The first call of a process calibrates it, which takes up to 200 ms.
    ///
    /// ```
    /// use pelton::clock::Clock;
    /// let clock = Clock::real();
    /// let start = clock.ticks();
    /// let sum: u64 = (0..1_000).sum();
    /// println!("{sum} in {} ns", clock.nanos_between(start, clock.ticks()));
    /// ```
    pub fn real() -> Self {
        Clock(Source::Real(quanta::Clock::new()))
    }

    /// A clock at time zero that moves only by [`VirtualTime::advance`]; one tick is one nanosecond.
    ///
    /// ```
    /// use pelton::clock::Clock;
    /// use std::time::Duration;
    /// let (clock, time) = Clock::virtual_time();
    /// assert_eq!(clock.ticks(), 0);
    /// time.advance(Duration::from_secs(3_600));       // an hour passes at once
    /// assert_eq!(clock.nanos_between(0, clock.ticks()), 3_600_000_000_000);
    /// ```
    pub fn virtual_time() -> (Self, VirtualTime) {
        let state = Arc::new(VirtualState::default());
        (Clock(Source::Virtual(state.clone())), VirtualTime(state))
    }

    /// Whether the clock moves only by [`VirtualTime::advance`].
    ///
    /// # Examples
    /// ```
    /// use pelton::clock::Clock;
    /// assert!(Clock::virtual_time().0.is_virtual() && !Clock::real().is_virtual());
    /// ```
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        matches!(self.0, Source::Virtual(_))
    }

    /// Wakes `waker` each time that a virtual clock moves, until the guard is dropped. Does nothing on the machine's clock,
    /// on which a thread sleeps for a time.
    ///
    /// A thread that would sleep until a time must do so in a way that does not miss a wake between its look at the clock and
    /// its sleep.
    ///
    /// # Examples
    /// ```
    /// use pelton::clock::Clock;
    /// use std::{sync::Arc, task::Wake, thread, time::Duration};
    ///
    /// struct Unparks(thread::Thread);
    /// impl Wake for Unparks {
    ///     fn wake(self: Arc<Self>) {
    ///         self.0.unpark();
    ///     }
    /// }
    ///
    /// let (clock, time) = Clock::virtual_time();
    /// let _guard = clock.wake_on_advance(Arc::new(Unparks(thread::current())).into());
    /// let hand = thread::spawn(move || time.advance(Duration::from_secs(3_600)));
    /// while clock.nanos_between(0, clock.ticks()) < 3_600_000_000_000 {
    ///     thread::park();
    /// }
    /// # hand.join().unwrap();
    /// ```
    pub fn wake_on_advance(&self, waker: Waker) -> AdvanceGuard {
        let Source::Virtual(state) = &self.0 else { return AdvanceGuard(None) };
        let mut wakers = state.wakers();
        let id = wakers.next;
        wakers.next += 1;
        wakers.all.push((id, waker));
        drop(wakers);
        AdvanceGuard(Some((state.clone(), id)))
    }

    /// The time now, in ticks.
    #[inline(always)]
    pub fn ticks(&self) -> u64 {
        match &self.0 {
            Source::Real(clock) => clock.raw(),
            Source::Virtual(state) => state.nanos.load(Ordering::Relaxed),
        }
    }

    /// Nanoseconds from `start` to `end` (both in ticks); 0 where `end` is earlier, as it may be between two CPUs.
    ///
    /// ```
    /// use pelton::clock::Clock;
    /// let (clock, _time) = Clock::virtual_time();
    /// assert_eq!(clock.nanos_between(10, 25), 15);
    /// assert_eq!(clock.nanos_between(25, 10), 0);
    /// ```
    #[inline]
    pub fn nanos_between(&self, start: u64, end: u64) -> u64 {
        match &self.0 {
            Source::Real(clock) => clock.delta_as_nanos(start, end.max(start)),
            Source::Virtual(_) => end.saturating_sub(start),
        }
    }

    /// How many ticks `span` lasts; saturates at `u64::MAX / 2`, which no clock reaches, and is at least 1.
    ///
    /// ```
    /// use pelton::clock::Clock;
    /// use std::time::Duration;
    /// let (clock, _time) = Clock::virtual_time();
    /// assert_eq!(clock.ticks_of(Duration::from_micros(3)), 3_000);
    /// assert_eq!(clock.ticks_of(Duration::ZERO), 1);
    /// ```
    pub fn ticks_of(&self, span: Duration) -> u64 {
        const PROBE_TICKS: u64 = 1 << 30;
        let probe_ns = u128::from(self.nanos_between(0, PROBE_TICKS).max(1));
        let ticks = span.as_nanos().saturating_mul(u128::from(PROBE_TICKS)) / probe_ns;
        ticks.clamp(1, u128::from(u64::MAX / 2)) as u64
    }
}

impl VirtualTime {
    /// Moves the clock on by `span`, and wakes those that wait for it.
    ///
    /// ```
    /// use pelton::clock::Clock;
    /// use std::time::Duration;
    /// let (clock, time) = Clock::virtual_time();
    /// let copy = clock.clone();
    /// time.advance(Duration::from_nanos(5));
    /// assert_eq!((clock.ticks(), copy.ticks()), (5, 5));
    /// ```
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2);
        // Relaxed: whatever wakes a thread orders what was stored before. A waker that is not in the list yet is put there
        // under its lock after this store, and its thread looks at the clock after that.
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
        // Woken without the lock: a waker is any code, and may drop a guard.
        let wakers: Vec<Waker> = self.0.wakers().all.iter().map(|(_, waker)| waker.clone()).collect();
        wakers.iter().for_each(Waker::wake_by_ref);
    }
}

impl Drop for AdvanceGuard {
    fn drop(&mut self) {
        if let Some((state, id)) = self.0.take() {
            let mut wakers = state.wakers();
            let own = wakers.all.iter().position(|(other, _)| *other == id);
            let waker = own.map(|at| wakers.all.swap_remove(at));
            drop(wakers);
            // The drop of a waker is any code too.
            drop(waker);
        }
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
    fn advance_wakes_those_that_hold_a_guard() {
        #[derive(Default)]
        struct Counted(AtomicU64);
        impl std::task::Wake for Counted {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (clock, time) = Clock::virtual_time();
        let counted = [(); 2].map(|()| Arc::new(Counted::default()));
        let counts = || counted.each_ref().map(|own| own.0.load(Ordering::Relaxed));
        let first = clock.wake_on_advance(counted[0].clone().into());
        time.advance(Duration::ZERO);
        let second = clock.clone().wake_on_advance(counted[1].clone().into());
        time.clone().advance(Duration::from_secs(1));
        assert_eq!(counts(), [2, 1]);
        drop(first);
        time.advance(Duration::from_secs(1));
        drop(second);
        time.advance(Duration::from_secs(1));
        assert_eq!(counts(), [2, 2]);
        assert!(counted.iter().all(|own| Arc::strong_count(own) == 1));
        drop(Clock::real().wake_on_advance(counted[0].clone().into()));
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
