//! The time that ids and windows have: the system's clock without its jumps.
//!
//! # Mechanism
//! A time is that of the monotonic clock and an offset. While the system's clock runs along with it, give or take
//! [`STEP_MAX_MS`], the offset follows the system's clock at once, so that windows end when it says so. A larger step is not
//! followed at once: a clock that is set a year ahead for a second would have all events until then fall in one millisecond,
//! and no window end before that.
//!
//! | step | what follows |
//! |---|---|
//! | ahead, and back within [`LASTS_MS`] | nothing |
//! | ahead, and it lasts | the new time is taken after [`LASTS_MS`]: a clock that was wrong is right now, or the machine slept |
//! | back, and it lasts | time goes on at half its pace until both agree: it never goes back, and never stands still |
//!
//! # Invariants
//! - Between two readings of one thread, time goes back by [`STEP_MAX_MS`] at most. (Ids never do: see
//!   [`IdGenerator`](crate::feed::event::IdGenerator).)
//! - A reading takes no lock while the system's clock runs along.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The largest step that is followed at once, in milliseconds.
const STEP_MAX_MS: i64 = 1_000;

/// How long a larger step must last before it is followed, in milliseconds.
pub(crate) const LASTS_MS: u64 = 30_000;

/// A step that is not followed yet.
struct ClockStep {
    /// By how much the system's clock was ahead when it was last looked at.
    ahead_ms: i64,
    /// When it was first seen, by the monotonic clock.
    since_ms: u64,
    /// Up to when time has gone at half its pace, by the monotonic clock.
    slowed_ms: u64,
}

/// A clock that follows the system's.
pub(crate) struct WallClock {
    /// The time where the monotonic clock begins.
    offset_ms: AtomicI64,
    has_step: AtomicBool,
    step: Mutex<Option<ClockStep>>,
    /// Steps since they were last taken.
    steps: AtomicU64,
}

impl WallClock {
    /// A clock that begins now: `system_ms` is the system's time.
    pub fn new(system_ms: u64) -> Self {
        WallClock {
            offset_ms: AtomicI64::new(system_ms as i64),
            has_step: AtomicBool::new(false),
            step: Mutex::new(None),
            steps: AtomicU64::new(0),
        }
    }

    /// The time, in milliseconds since the Unix epoch, where the two clocks are at this. `monotonic_ms` is since its
    /// beginning.
    #[inline]
    pub fn read(&self, system_ms: u64, monotonic_ms: u64) -> u64 {
        let own_ms = monotonic_ms as i64 + self.offset_ms.load(Ordering::Relaxed);
        let ahead_ms = system_ms as i64 - own_ms;
        if ahead_ms.abs() > STEP_MAX_MS {
            return self.read_slow(ahead_ms, monotonic_ms);
        }
        if ahead_ms != 0 {
            self.offset_ms.store(system_ms as i64 - monotonic_ms as i64, Ordering::Relaxed);
        }
        if self.has_step.load(Ordering::Relaxed) {
            self.clear_step();
        }
        system_ms
    }

    /// Returns how many steps there were since the last call that were not followed at once.
    pub fn take_steps(&self) -> u64 {
        self.steps.swap(0, Ordering::Relaxed)
    }

    #[cold]
    fn clear_step(&self) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.has_step.store(false, Ordering::Relaxed);
    }

    #[cold]
    fn read_slow(&self, ahead_ms: i64, monotonic_ms: u64) -> u64 {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |step: &ClockStep| (step.ahead_ms - ahead_ms).abs() <= STEP_MAX_MS;
        let mut offset_ms = self.offset_ms.load(Ordering::Relaxed);
        match &mut *step {
            Some(known) if is_same(known) => {
                known.ahead_ms = ahead_ms;
                if monotonic_ms.saturating_sub(known.since_ms) >= LASTS_MS {
                    let by_ms = match ahead_ms {
                        1.. => ahead_ms,
                        _ => -((monotonic_ms.saturating_sub(known.slowed_ms) / 2) as i64).min(-ahead_ms),
                    };
                    offset_ms += by_ms;
                    known.ahead_ms -= by_ms;
                    known.slowed_ms = monotonic_ms;
                    self.offset_ms.store(offset_ms, Ordering::Relaxed);
                }
            }
            _ => {
                let slowed_ms = monotonic_ms + LASTS_MS;
                *step = Some(ClockStep { ahead_ms, since_ms: monotonic_ms, slowed_ms });
                self.has_step.store(true, Ordering::Relaxed);
                self.steps.fetch_add(1, Ordering::Relaxed);
            }
        }
        (monotonic_ms as i64 + offset_ms).max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN_MS: u64 = 1_800_000_000_000;
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;

    #[test]
    fn clock_that_jumps_ahead_and_back_changes_nothing() {
        let wall = WallClock::new(BEGUN_MS);
        for at in (0..5_000).step_by(100) {
            assert_eq!(wall.read(BEGUN_MS + at, at), BEGUN_MS + at);
        }
        for at in (5_000..6_000).step_by(100) {
            assert_eq!(wall.read(BEGUN_MS + at + YEAR_MS, at), BEGUN_MS + at);
        }
        for at in (6_000..90_000).step_by(100) {
            assert_eq!(wall.read(BEGUN_MS + at, at), BEGUN_MS + at);
        }
        assert_eq!(wall.steps.load(Ordering::Relaxed), 1);
        // The next one has its own time.
        assert_eq!(wall.read(BEGUN_MS + 90_000 + YEAR_MS, 90_000), BEGUN_MS + 90_000);
        assert_eq!(wall.read(BEGUN_MS + 119_900 + YEAR_MS, 119_900), BEGUN_MS + 119_900);
    }

    #[test]
    fn step_ahead_that_lasts_is_taken() {
        let wall = WallClock::new(BEGUN_MS);
        let read = |at: u64| wall.read(BEGUN_MS + at + YEAR_MS, at) - BEGUN_MS - at;
        assert_eq!((read(1_000), read(1_000 + LASTS_MS - 1)), (0, 0));
        assert_eq!((read(1_000 + LASTS_MS), read(1_001 + LASTS_MS)), (YEAR_MS, YEAR_MS));
        // One step that is followed by another is not taken.
        let wall = WallClock::new(BEGUN_MS);
        for at in (0..100_000).step_by(1_000) {
            assert_eq!(wall.read(BEGUN_MS + at + YEAR_MS * (1 + at / 20_000), at), BEGUN_MS + at);
        }
    }

    #[test]
    fn step_back_that_lasts_slows_time_until_both_agree() {
        const BACK_MS: u64 = 60_000;
        let wall = WallClock::new(BEGUN_MS);
        let (mut last, mut agreed_at) = (0, None);
        for at in (0..300_000).step_by(10) {
            let system = BEGUN_MS + at - if at < 10 { 0 } else { BACK_MS };
            let now = wall.read(system, at);
            // Half its pace is 5 ms in 10.
            assert!(
                now >= last + 5 || last == 0 || agreed_at.is_none() && now + 1_000 >= last,
                "{at}: {last}, {now}"
            );
            if now == system && at > 10 && agreed_at.is_none() {
                agreed_at = Some(at);
            }
            last = now;
        }
        // It lasts, and then it takes twice as long as it was, less the step that is followed at once.
        let expected = LASTS_MS + 2 * (BACK_MS - 1_000);
        assert!(agreed_at.is_some_and(|at| at.abs_diff(expected) <= 100), "{agreed_at:?}, not {expected}");
    }

    #[test]
    fn small_steps_are_followed_at_once() {
        let wall = WallClock::new(BEGUN_MS);
        for (at, step) in [(100, 900), (200, -50), (300, -900), (400, 0), (500, 1_000)] {
            let system = (BEGUN_MS as i64 + at + step) as u64;
            assert_eq!(wall.read(system, at as u64), system, "{step}");
        }
        assert_eq!(wall.steps.load(Ordering::Relaxed), 0);
    }
}
