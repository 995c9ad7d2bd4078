//! Waiting: how a shard with nothing to do sleeps, how a producer without room waits, and why neither misses a
//! wake-up.
//!
//! # Sleep
//! A shard sleeps on its `ShardWaker`. Before, it lets all its lane sets doze (by their `Doorbell`s) and looks at
//! everything once more, so a publisher that it has not seen rings. A publisher pays a load, a test and a branch for
//! that; the sleeper pays the barrier.
//!
//! # Room
//! A producer without room announces itself in the lane's `RoomWait` and raises `ROOM` in the waker. The shard wakes
//! it when `enough <= released`. The producer is a thread, which sleeps on a word, or a task, which leaves its waker
//! (`task`). A thread is also woken by a release in the middle of a burst; a task only between bursts, since waking
//! it runs code of its executor.
//!
//! # The words of this folder
//! | call | by | what it does |
//! |---|---|---|
//! | `Doorbell::ring` | publisher, after each publish | rings if the shard does not look at its set |
//! | `Doorbell::doze` | shard | stops looking at a set; a heavy fence and a last look must follow |
//! | `Doorbell::clear` | both | takes `DOZING` off; returns whether it was on |
//! | `ShardWaker::raise` | anyone but a publisher with room | calls the shard, and wakes it |
//! | `ShardWaker::calls`, `ShardWaker::take` | shard | reads, and takes, what it is called for |
//! | `ShardWaker::announce`, `ShardWaker::sleep`, `ShardWaker::cancel_park` | shard | prepares a sleep, sleeps, ends it |
//! | `fence_sleepers` | shard | the heavy fence after sets were let doze |
//! | `RoomWait::announce`, `RoomWait::offer` | producer, shard | waits for room, wakes |
//!
//! # Bounded sleeps
//! Every sleep ends after `SLEEP_MAX`. A sleeper that finds then something to do for which it was not woken sleeps on for
//! another `SLEEP_MAX`, so that a publisher which was preempted before it raises a bit has time to do so. If nothing rings
//! in all that time, it counts a *rescue*: a wake-up that was lost. Reports show the count.

mod alarm;
mod shard_waker;
mod doorbell;
mod room;
#[cfg(feature = "async")]
mod task;

#[cfg(all(test, pelton_loom))]
mod models;

pub use alarm::Alarm;
pub(crate) use doorbell::Doorbell;
pub(crate) use room::RoomWait;
pub(crate) use shard_waker::{SLEEP_MAX, ShardWaker, bit, fence_sleepers};
#[cfg(feature = "async")]
pub(crate) use task::Limit;

use crate::sync::{asymmetric_fences, spin_loop, yield_now};
use std::time::Duration;

/// A backoff for short waits: spins, then yields the CPU.
#[derive(Default)]
pub(crate) struct Backoff {
    step: u32,
}

impl Backoff {
    const SPINS: u32 = 6;
    const YIELDS: u32 = 16;

    /// Waits a little; returns whether it is time to sleep instead.
    pub fn pause(&mut self) -> bool {
        // The models sleep at once: loom runs a thread that yields only after all others, and would never see it
        // asleep before they end.
        if cfg!(pelton_loom) {
            return true;
        }
        if self.step < Self::SPINS {
            for _ in 0..1u32 << self.step {
                spin_loop();
            }
        } else {
            yield_now();
        }
        self.step = self.step.saturating_add(1);
        self.step >= Self::SPINS + Self::YIELDS
    }
}

/// Whether this kernel has the process-wide barrier (`membarrier`) with which a shard that goes to sleep spares every
/// publisher a fence. Without it each publish into an engine pays for one. True where no shard sleeps or lets lane
/// sets doze (no feature `park`).
///
/// A filter of system calls that is installed after an engine has started can refuse the barrier later. A shard then
/// does not sleep: it polls on, at most every 100 µs, and publishers pay nothing.
///
/// ```
/// if !pelton::park::asymmetric_barrier() {
///     eprintln!("no membarrier(2): each publish pays for a fence");
/// }
/// ```
pub fn asymmetric_barrier() -> bool {
    asymmetric_fences()
}

/// What a driver thread does while its shard has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Poll on. The fastest to react, and a whole CPU.
    Spin,
    /// Poll on for [`SPIN_POLLS`] polls, then give the CPU away after each.
    Yield,
    /// Poll on, then give the CPU away, then, after [`PARK_AFTER`] without an event, sleep until a publisher rings.
    Park,
}

/// Empty polls before [`Wait::Yield`] and [`Wait::Park`] give the CPU away.
pub const SPIN_POLLS: u32 = 512;

/// Idleness before [`Wait::Park`] sleeps. Each sleep is at least this long after the one before, so a shard sleeps at
/// most 20,000 times a second.
pub const PARK_AFTER: Duration = Duration::from_micros(50);

impl std::str::FromStr for Wait {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "spin" => Ok(Wait::Spin),
            "yield" => Ok(Wait::Yield),
            "park" => Ok(Wait::Park),
            _ => Err(format!("'{name}' is no wait strategy; spin, yield and park are")),
        }
    }
}

impl Wait {
    /// Its name, as files and options have it.
    ///
    /// ```
    /// use pelton::park::Wait;
    /// assert_eq!("park".parse(), Ok(Wait::Park));
    /// assert_eq!(Wait::Park.name(), "park");
    /// assert!("sleep".parse::<Wait>().is_err());
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Wait::Spin => "spin",
            Wait::Yield => "yield",
            Wait::Park => "park",
        }
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Paces a consumer that keeps up with its producers.
///
/// When a consumer polls a slot at the very moment at which the producer writes it, their CPUs pass the line to and
/// fro, and both are slowed down. Waiting for a moment lets some events gather, which then cost one transfer each.
/// But a request and its reply would wait for nothing. So the pace is learnt, at each poll that finds nothing: if
/// several events came since the last such poll there is a stream, and the pause doubles; otherwise it halves.
///
/// How long the pause may become is a matter of taste: a long one saves transfers (a lane alone is some 15 % faster
/// with 64 than with 4), and is waited for by every event that comes during it (at half load, an engine's median
/// latency is that of a bare disruptor with 4, and several times that with 64, while its throughput is the same).
/// Shards use the default.
#[derive(Debug)]
pub struct Pacer {
    spins: u32,
    spins_max: u32,
    /// Events since the last poll that found nothing.
    found: u64,
}

impl Default for Pacer {
    fn default() -> Self {
        Pacer::up_to(Self::SPINS)
    }
}

impl Pacer {
    /// The longest pause by default, in spin loops of about 10 ns on the CPUs of today.
    pub const SPINS: u32 = 4;

    /// Pauses for at most so many spin loops.
    ///
    /// ```
    /// use pelton::{Class, lane::lane, park::Pacer};
    /// let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(8).block(), || 0u64)?;
    /// # let producer = std::thread::spawn(move || (0..100).for_each(|i| drop(tx.publish(7, |event| *event = i))));
    /// let (mut pacer, mut handled) = (Pacer::up_to(16), 0);
    /// while handled < 100 {
    ///     let found = rx.poll(8, |_| ());
    ///     pacer.after(found);
    ///     handled += found;
    /// }
    /// # producer.join().unwrap();
    /// # Ok::<(), pelton::ring::ShapeError>(())
    /// ```
    pub fn up_to(spins: u32) -> Self {
        Pacer { spins: 0, spins_max: spins, found: 0 }
    }

    /// After a poll that handled `found` events: waits as learnt.
    #[inline]
    pub fn after(&mut self, found: u64) {
        self.found += found;
        if found > 0 {
            return;
        }
        match std::mem::take(&mut self.found) {
            0 | 1 => self.spins /= 2,
            _ => self.spins = (self.spins * 2).max(1).min(self.spins_max),
        }
        for _ in 0..self.spins {
            spin_loop();
        }
    }
}
