//! Waiting: how a shard with nothing to do sleeps, how a producer without room waits, and how neither is missed.
//!
//! # Sleep
//! A shard sleeps on its bell, after it has let all its lane sets doze (by their doorbells) and has looked at
//! everything once more: whoever publishes then rings. A publisher pays a load, a test and a branch for that; the
//! sleeper pays the barrier.
//!
//! # Room
//! A producer that waits for room in a lane says so in the lane's `RoomWait` and raises `ROOM` in the bell. It pays
//! no barrier: raising is a read-modify-write of a word that the shard reads at every poll, so the shard sees it at
//! one of its next polls, whatever it is doing, or in its last look before it sleeps. The shard then compares its
//! released cursor with the one that is enough for the producer, mostly the next after the one that it last saw: it has come
//! there, so there may be room, or a later release will wake the producer.
//!
//! Who waits is a thread, which sleeps on the word, or a task, which has left its waker (`task`). A thread is also woken
//! by a release in the middle of a burst; a task between bursts only, since its executor's code runs then.
//!
//! # Bounded sleeps
//! Every sleep ends after `NAP` at the latest, and a sleeper that finds then what nobody woke it for counts a
//! *rescue*. The count stands in reports and is 0 in every test: it would mean that the reasoning above is wrong.
#![forbid(unsafe_code)]

#[cfg(any(feature = "gateway", loom))]
mod alarm;
mod bell;
mod door;
#[cfg(feature = "async")]
mod task;

#[cfg(all(test, loom))]
mod models;

#[cfg(feature = "gateway")]
pub(crate) use alarm::Alarm;
pub(crate) use bell::{Bell, NAP, bit, settle};
pub(crate) use door::Doorbell;
#[cfg(feature = "async")]
pub(crate) use task::Limit;

use crate::clock::Clock;
use crate::sync::{
    AtomicU32, AtomicU64, Counter, Ordering, asymmetric_fences, fence, futex, spin_loop, yield_now,
};
use crossbeam_utils::CachePadded;
#[cfg(feature = "async")]
use std::task::Waker;
use std::time::Duration;

/// What the word of a [`RoomWait`] says: nobody waits, a thread sleeps on it, or a task has left its waker.
const NOBODY: u32 = 0;
const THREAD: u32 = 1;
#[cfg(feature = "async")]
const TASK: u32 = 2;

/// Where the producer of one lane waits for room.
pub(crate) struct RoomWait {
    /// Who waits.
    word: CachePadded<AtomicU32>,
    /// The released cursor from which on it is worth waking.
    enough: AtomicU64,
    /// Sleeps that ended by themselves although there was room; written by the producer alone.
    pub rescues: Counter,
    #[cfg(feature = "async")]
    pub task: task::TaskWait,
}

impl RoomWait {
    /// The clock is the one by which the limits of tasks are measured.
    pub fn new(_clock: &Clock) -> Self {
        RoomWait {
            word: CachePadded::new(AtomicU32::new(NOBODY)),
            enough: AtomicU64::new(0),
            rescues: Counter::default(),
            #[cfg(feature = "async")]
            task: task::TaskWait::new(_clock),
        }
    }

    /// Producer: says that its thread waits, having last seen the consumer at `released`. The caller must then look once
    /// more whether the lane is closed, raise `ROOM` in the shard's bell, and sleep.
    pub fn announce(&self, released: u64) {
        self.announce_as(THREAD, released.wrapping_add(1));
    }

    /// Producer: the same for a task, which is woken when the consumer's cursor has come to `enough`. Gives false where its
    /// last waker is being woken at this moment, so that there is no place for another.
    #[cfg(feature = "async")]
    pub fn announce_task(&self, enough: u64, waker: &Waker, limit: Limit) -> bool {
        let set = self.task.set(waker, limit);
        if set {
            self.announce_as(TASK, enough);
        }
        set
    }

    /// Producer: its task waits no more. A waker that is on its way to be woken still is.
    #[cfg(feature = "async")]
    pub fn withdraw_task(&self) {
        if !self.withdraw() {
            drop(self.task.take());
        }
    }

    fn announce_as(&self, who: u32, enough: u64) {
        self.enough.store(enough, Ordering::Relaxed);
        // SYNC: room (AcqRel); pairs with `RoomWait::waits`, `RoomWait::offer` and `RoomWait::wake`. A swap and no
        // store: whoever took an earlier announcement off may have found nobody to wake, and the look that follows
        // this one must see what he saw.
        self.word.swap(who, Ordering::AcqRel);
        // SYNC: close: this fence and the one in `RoomWait::wake_closed`: either the producer sees that the lane is
        // closed, or the one who closes it sees that the producer waits.
        fence(Ordering::SeqCst);
    }

    /// Producer: sleeps until woken, for `limit` at most.
    pub fn sleep(&self, limit: Duration) {
        futex::wait(&self.word, THREAD, limit);
    }

    /// Producer: waits no more. Says whether somebody had woken it.
    pub fn withdraw(&self) -> bool {
        self.word.swap(NOBODY, Ordering::Relaxed) == NOBODY
    }

    /// Shard: whether a producer's thread waits here.
    #[inline]
    pub fn waits(&self) -> bool {
        // SYNC: room (Acquire); pairs with `RoomWait::announce_as`.
        self.word.load(Ordering::Acquire) == THREAD
    }

    /// Shard: wakes the producer if it waits and `released` is enough for it, or its limit is over. Says whether it still
    /// waits.
    pub fn offer(&self, released: u64) -> bool {
        // SYNC: room (Acquire); pairs with `RoomWait::announce_as`.
        let who = self.word.load(Ordering::Acquire);
        if who == NOBODY {
            return false;
        }
        // Sequences: which of two comes first shows in their difference, also where they have gone round.
        let missing = self.enough.load(Ordering::Relaxed).wrapping_sub(released) as i64;
        if missing > 0 && !self.is_overdue(who) {
            return true;
        }
        self.wake();
        false
    }

    fn wake(&self) {
        // SYNC: room (AcqRel); pairs with `RoomWait::announce_as`.
        match self.word.swap(NOBODY, Ordering::AcqRel) {
            THREAD => futex::wake(&self.word),
            #[cfg(feature = "async")]
            TASK => self.task.wake(),
            _ => {}
        }
    }

    /// Control plane: wakes the producer because its lane was closed (before this call).
    pub fn wake_closed(&self) {
        // SYNC: close: see `RoomWait::announce_as`.
        fence(Ordering::SeqCst);
        self.wake();
    }

    /// Whether it waits for longer than it wanted to. A thread watches the time itself.
    fn is_overdue(&self, _who: u32) -> bool {
        #[cfg(feature = "async")]
        if _who == TASK {
            return self.task.is_overdue();
        }
        false
    }
}

/// A backoff for short waits: spins, then gives the CPU away.
#[derive(Default)]
pub(crate) struct Backoff {
    step: u32,
}

impl Backoff {
    const SPINS: u32 = 6;
    const YIELDS: u32 = 16;

    /// Waits a little; says whether it is time to sleep instead.
    pub fn pause(&mut self) -> bool {
        // The models sleep at once: loom runs a thread that yields only after all others, and would never see it
        // asleep before they are done.
        if cfg!(loom) {
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

/// Whether this kernel has the process-wide barrier with which a shard that goes to sleep spares every publisher a
/// fence. Without it each publish pays for one. True where no shard sleeps or lets lane sets doze (no feature `park`).
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

/// Idleness before [`Wait::Park`] sleeps. It bounds the sleeps of a shard to 20,000 a second.
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
/// How long the pause may become is a matter of taste: a long one saves transfers (a lane alone is some 15 % faster with
/// 64 than with 4), and is waited for by every event that comes during it (at half load, an engine's median latency
/// is that of a bare disruptor with 4, and several times that with 64, while its throughput is the same). Shards use
/// the default.
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
