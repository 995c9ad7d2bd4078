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
//! released cursor with the one that the producer last saw: another means that there may be room, the same that the
//! next release will wake it.
//!
//! # Bounded sleeps
//! Every sleep ends after `NAP` at the latest, and a sleeper that finds then what nobody woke it for counts a
//! *rescue*. The count stands in reports and is 0 in every test: it would mean that the reasoning above is wrong.
#![forbid(unsafe_code)]

mod bell;
mod door;

pub(crate) use bell::{Bell, NAP, bit, settle};
pub(crate) use door::Doorbell;

use crate::sync::{
    AtomicU32, AtomicU64, Counter, Ordering, asymmetric_fences, fence, futex, spin_loop, yield_now,
};
use crossbeam_utils::CachePadded;
use std::time::Duration;

/// Where the producer of one lane waits for room.
pub(crate) struct RoomWait {
    /// 1 while the producer waits.
    word: CachePadded<AtomicU32>,
    /// The released cursor that it last saw.
    seen: AtomicU64,
    /// Sleeps that ended by themselves although there was room; written by the producer alone.
    pub rescues: Counter,
}

impl RoomWait {
    pub fn new() -> Self {
        RoomWait {
            word: CachePadded::new(AtomicU32::new(0)),
            seen: AtomicU64::new(0),
            rescues: Counter::default(),
        }
    }

    /// Producer: says that it waits, having last seen the consumer at `released`. The caller must then look once more
    /// whether the lane is closed, raise `ROOM` in the shard's bell, and sleep.
    pub fn announce(&self, released: u64) {
        self.seen.store(released, Ordering::Relaxed);
        // SYNC: room (Release); pairs with `RoomWait::waits`.
        self.word.store(1, Ordering::Release);
        // SYNC: close: this fence and the one in `RoomWait::wake_all`: either the producer sees that the lane is
        // closed, or the one who closes it sees that the producer waits.
        fence(Ordering::SeqCst);
    }

    /// Producer: sleeps until woken, for `limit` at most.
    pub fn sleep(&self, limit: Duration) {
        futex::wait(&self.word, 1, limit);
    }

    /// Producer: waits no more. Says whether somebody had woken it.
    pub fn withdraw(&self) -> bool {
        self.word.swap(0, Ordering::Relaxed) == 0
    }

    /// Shard: whether a producer waits here.
    #[inline]
    pub fn waits(&self) -> bool {
        // SYNC: room (Acquire); pairs with `RoomWait::announce`.
        self.word.load(Ordering::Acquire) == 1
    }

    /// Shard: wakes the producer if it waits and `released` is not what it last saw. Says whether it still waits.
    pub fn offer(&self, released: u64) -> bool {
        if !self.waits() {
            return false;
        }
        if self.seen.load(Ordering::Relaxed) == released {
            return true;
        }
        self.wake();
        false
    }

    fn wake(&self) {
        if self.word.swap(0, Ordering::AcqRel) == 1 {
            futex::wake(&self.word);
        }
    }

    /// Control plane: wakes the producer because its lane was closed (before this call).
    pub fn wake_closed(&self) {
        // SYNC: close: see `RoomWait::announce`.
        fence(Ordering::SeqCst);
        self.wake();
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
/// fence. Without it each publish pays for one. True where nobody ever sleeps (no feature `park`).
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

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Wait::Spin => "spin",
            Wait::Yield => "yield",
            Wait::Park => "park",
        })
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
