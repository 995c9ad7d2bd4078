//! The clock of a server: whatever in the gateway asks for the time asks it here.
//!
//! # Mechanism
//! A server has the clock of its plan ([`Plan::with_clock`](pelton::Plan::with_clock)). Without one, or with
//! [`Clock::real`], instants are those of the system's monotonic clock, and the time of day is the system's without its jumps
//! ([`wall_clock`](crate::server::wall_clock)). A virtual clock begins at [`VIRTUAL_EPOCH`], and instant and time of day move
//! with it alone. Both kinds return the same types, so what measures a time does not know which of them it has.
//!
//! What sleeps until a time asks for how long ([`ServerClock::sleep_limit`]): on a virtual clock forever, as no time passes
//! by itself. The hand of that clock wakes it instead ([`Clock::wake_on_advance`]): a worker through the waker of its poll,
//! the reader of views through its condition variable. Then it looks at the clock again, as after any other wake.
//!
//! # What is not measured here
//! - How long the caller of [`Server::stop`](crate::Server::stop) or [`Watch::wait`](crate::Watch::wait) is kept waiting, and
//!   the pauses of a drain that belong to a stop: they bound what threads of the system take, and their caller cannot move
//!   the clock meanwhile.
//! - How long a part of a gathering works on a shard, and how long the shard is left alone after it
//!   ([`gather`](crate::feed::gather)): that is work, and the caller waits for it.
//! - What the system measures for itself: keepalive and unacknowledged data of a socket.
//! - [`Engine::ask`](pelton::Engine::ask) and the sleeps of shards, which are the engine's.
//!
//! # Invariants
//! - A thread that is woken sees a time that is not before the one that it was woken for.
//! - No wake is missed: a worker's is kept by its poll if it comes between the last look at the clock and the sleep, and the
//!   reader's takes the lock under which it looks.
//! - An instant of the machine's clock costs a comparison more than [`Instant::now`]: nothing is locked, allocated or called
//!   through a pointer. A turn takes one for all that it does at its beginning.

use crate::server::wall_clock::WallClock;
use pelton::clock::{AdvanceGuard, Clock};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of day at which a virtual clock begins, since the Unix epoch: 2020-01-01, 00:00 UTC. The usual windows, of a second
/// to a day, begin there.
pub(crate) const VIRTUAL_EPOCH: Duration = Duration::from_secs(1_577_836_800);

/// The clock of a server.
pub(crate) struct ServerClock {
    /// The clock that moves by hand, if it is one.
    by_hand: Option<Clock>,
    /// When the server started. A virtual clock counts from here.
    begun: Instant,
    wall: WallClock,
}

impl ServerClock {
    pub fn new(clock: Option<&Clock>) -> Self {
        ServerClock {
            by_hand: clock.filter(|clock| clock.is_virtual()).cloned(),
            begun: Instant::now(),
            wall: WallClock::new(system_time().as_millis() as u64),
        }
    }

    /// The instant that it is.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.by_hand {
            None => Instant::now(),
            Some(clock) => self.begun + passed(clock),
        }
    }

    /// How long ago an instant is.
    #[inline]
    pub fn elapsed(&self, since: Instant) -> Duration {
        self.now().saturating_duration_since(since)
    }

    /// Seconds since the start.
    pub fn now_s(&self) -> u32 {
        self.s_at(self.now())
    }

    /// Seconds from the start to an instant.
    pub fn s_at(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.begun).as_secs() as u32
    }

    /// The time of day, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.ms_at(self.now())
    }

    /// The time of day at an instant that is no older than the moment, in milliseconds since the Unix epoch.
    #[inline]
    pub fn ms_at(&self, now: Instant) -> u64 {
        let monotonic_ms = now.saturating_duration_since(self.begun).as_millis() as u64;
        match &self.by_hand {
            // The monotonic clock was read first: what passes between the two readings makes no step.
            None => self.wall.read(system_time().as_millis() as u64, monotonic_ms),
            Some(_) => VIRTUAL_EPOCH.as_millis() as u64 + monotonic_ms,
        }
    }

    /// The system's time of day as it is, with its jumps, since the Unix epoch.
    pub fn system_time(&self) -> Duration {
        match &self.by_hand {
            None => system_time(),
            Some(clock) => VIRTUAL_EPOCH + passed(clock),
        }
    }

    /// Returns how often the system's clock was set by a large step since the last call.
    pub fn take_steps(&self) -> u64 {
        self.wall.take_steps()
    }

    /// For how long a thread sleeps that would look at the clock again after `limit`; `None` where the hand of a virtual clock
    /// wakes it.
    pub fn sleep_limit(&self, limit: Duration) -> Option<Duration> {
        (self.by_hand.is_none() || limit.is_zero()).then_some(limit)
    }

    /// Wakes `waker` whenever a virtual clock moves, until the guard is dropped.
    pub fn wake_on_advance(&self, waker: Waker) -> Option<AdvanceGuard> {
        self.by_hand.as_ref().map(|clock| clock.wake_on_advance(waker))
    }
}

impl std::fmt::Debug for ServerClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerClock").field("by_hand", &self.by_hand).finish_non_exhaustive()
    }
}

/// How far a virtual clock has moved.
fn passed(clock: &Clock) -> Duration {
    Duration::from_nanos(clock.nanos_between(0, clock.ticks()))
}

fn system_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_clock_moves_all_times_and_nothing_else_does() {
        let (clock, time) = Clock::virtual_time();
        time.advance(Duration::from_millis(1_500));
        let own = ServerClock::new(Some(&clock));
        let (begun, epoch_ms) = (own.now(), VIRTUAL_EPOCH.as_millis() as u64);
        assert_eq!((own.now_s(), own.now_ms(), own.elapsed(begun)), (1, epoch_ms + 1_500, Duration::ZERO));
        time.advance(Duration::from_micros(2_500_250));
        assert_eq!(own.elapsed(begun), Duration::from_micros(2_500_250));
        assert_eq!((own.now_s(), own.now_ms()), (4, epoch_ms + 4_000));
        assert_eq!(own.system_time(), VIRTUAL_EPOCH + Duration::from_micros(4_000_250));
        assert_eq!(own.sleep_limit(Duration::from_millis(1)), None);
        assert_eq!(own.sleep_limit(Duration::ZERO), Some(Duration::ZERO));
    }

    #[test]
    fn machine_clock_follows_the_system() {
        for clock in [None, Some(Clock::real())] {
            let own = ServerClock::new(clock.as_ref());
            let before = (Instant::now(), system_time().as_millis() as u64);
            let now = (own.now(), own.now_ms());
            assert!(before.0 <= now.0 && now.0 <= Instant::now());
            assert!(now.1.abs_diff(before.1) < 60_000, "{} and {}", now.1, before.1);
            assert_eq!(own.sleep_limit(Duration::from_millis(1)), Some(Duration::from_millis(1)));
            assert!(own.wake_on_advance(Waker::noop().clone()).is_none());
        }
    }
}
