//! Waiting: how a shard with nothing to do sleeps, how a producer without room waits, and how neither is missed.
//!
//! # The bell
//! Each shard has one `Bell`: a word of bits on a line of its own, which is read by every publisher and written
//! almost never. Bit 0 says that the shard is asleep, the others that somebody wants its attention.
//!
//! ```text
//!   publisher                                shard that goes to sleep
//!   store the slot's word (Release)          set PARKED in the bell
//!   fence_light          ◀── SYNC: park ──▶  fence_heavy
//!   load the bell: PARKED? then wake         look at every lane once more: an event? then stay awake
//!                                            sleep while the bell says PARKED and nothing else
//! ```
//!
//! The two fences make one store-load barrier: at least one of the two sees the other's store. The shard pays for it
//! (`membarrier`), so a publisher pays a load, a test and a branch that is never taken while the shard is awake. As
//! that barrier interrupts every running thread of the process, one shard at a time may use it: the others poll on.
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

use crate::sync::{
    AtomicU32, AtomicU64, Counter, Ordering, asymmetric_fences, fence, fence_heavy, fence_light, futex,
    spin_loop, yield_now,
};
use crossbeam_utils::CachePadded;
use std::time::Duration;

/// The longest sleep without a look around.
pub(crate) const NAP: Duration = Duration::from_millis(100);

/// Bits of the bell.
pub(crate) mod bit {
    /// The shard sleeps, or is about to.
    pub const PARKED: u32 = 1;
    /// There is a command in the shard's mailbox.
    pub const MAIL: u32 = 1 << 1;
    /// Producers came or went.
    pub const LANES: u32 = 1 << 2;
    /// A producer waits for room.
    pub const ROOM: u32 = 1 << 3;
    /// The shard is to stop.
    pub const STOP: u32 = 1 << 4;
    /// The kernel has no process-wide barrier: each publish needs a fence of its own.
    pub const FENCED: u32 = 1 << 31;
}

/// What publishers and the control plane ring to wake a shard or to call for its attention.
pub(crate) struct Bell {
    word: CachePadded<AtomicU32>,
    /// Written by the shard alone.
    pub parks: Counter,
    /// Sleeps that ended by themselves although there was something to do; written by the shard alone.
    pub rescues: Counter,
}

impl Bell {
    pub fn new() -> Self {
        let fences = if asymmetric_fences() { 0 } else { bit::FENCED };
        Bell {
            word: CachePadded::new(AtomicU32::new(fences)),
            parks: Counter::default(),
            rescues: Counter::default(),
        }
    }

    /// Called after every publish.
    #[inline(always)]
    pub fn ring(&self) {
        // SYNC: park (light half); pairs with the heavy half in `Bell::announce`.
        fence_light();
        // Relaxed: the fences order it, and waking carries no data.
        if self.word.load(Ordering::Relaxed) & (bit::PARKED | bit::FENCED) != 0 {
            self.ring_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring_slow(&self) {
        // Where the light half is not enough, the publisher pays for a whole one. The bit stands from the start.
        if self.word.load(Ordering::Relaxed) & bit::FENCED != 0 {
            fence(Ordering::SeqCst);
        }
        if self.word.load(Ordering::Relaxed) & bit::PARKED != 0 {
            self.wake_slow();
        }
    }

    #[cold]
    fn wake_slow(&self) {
        if self.word.fetch_and(!bit::PARKED, Ordering::Relaxed) & bit::PARKED != 0 {
            futex::wake(&self.word);
        }
    }

    /// Calls for the shard's attention, and wakes it. For the control plane and for producers that wait.
    pub fn raise(&self, bits: u32) {
        // SYNC: raise (Release); pairs with `Bell::take`. A read-modify-write reads the latest value of the word, so
        // here no fence is needed to see PARKED: either this sees it, or the shard's setting of PARKED sees `bits`.
        if self.word.fetch_or(bits, Ordering::AcqRel) & bit::PARKED != 0 {
            self.wake_slow();
        }
    }

    /// What the shard is called for; 0 nearly always. One load.
    #[inline(always)]
    pub fn calls(&self) -> u32 {
        self.word.load(Ordering::Relaxed) & !bit::FENCED
    }

    /// Takes the given bits off; says which of them were there.
    pub fn take(&self, bits: u32) -> u32 {
        // SYNC: raise (Acquire); pairs with `Bell::raise`.
        self.word.fetch_and(!bits, Ordering::AcqRel) & bits
    }

    /// Announces a sleep. After it the caller looks at everything once more and then either sleeps or stays up.
    /// Returns false when the caller must not sleep now: somebody calls, or another shard is paying for the barrier.
    pub fn announce(&self) -> bool {
        // One barrier at a time, process-wide. The loser polls on: it is late by the length of a system call.
        let Ok(_turn) = BarrierTurn::take() else { return false };
        if self.word.fetch_or(bit::PARKED, Ordering::AcqRel) & !bit::FENCED != 0 {
            self.take(bit::PARKED);
            return false;
        }
        // SYNC: park (heavy half); pairs with the light half in `Bell::ring`.
        fence_heavy();
        true
    }

    /// Takes an announcement back.
    pub fn stay_up(&self) {
        self.take(bit::PARKED);
    }

    /// Sleeps until somebody rings, for `limit` at most. The caller has announced it and has found nothing to do.
    /// Says whether somebody rang (or wants attention).
    pub fn sleep(&self, limit: Duration) -> bool {
        self.parks.add(1);
        let fenced = self.word.load(Ordering::Relaxed) & bit::FENCED;
        futex::wait(&self.word, bit::PARKED | fenced, limit);
        self.calls() != bit::PARKED
    }

    /// Whether an announcement stands: nobody has rung since.
    pub fn is_announced(&self) -> bool {
        self.calls() & bit::PARKED != 0
    }
}

/// The right to use the heavy fence on the way to sleep.
struct BarrierTurn;

/// 0 while nobody pays for the barrier; otherwise one more than the payer's count of forks, since the child of a
/// process inherits the turn of a thread that it does not have.
#[cfg(not(loom))]
static BARRIER_TAKEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

impl BarrierTurn {
    #[cfg(not(loom))]
    fn take() -> Result<Self, ()> {
        use std::sync::atomic::Ordering::{Acquire, Relaxed};
        let mine = crate::sync::forks::count() + 1;
        let holder = BARRIER_TAKEN.load(Relaxed);
        if holder == mine || BARRIER_TAKEN.compare_exchange(holder, mine, Acquire, Relaxed).is_err() {
            return Err(());
        }
        Ok(BarrierTurn)
    }

    // The models have one shard, so its turn always comes.
    #[cfg(loom)]
    fn take() -> Result<Self, ()> {
        Ok(BarrierTurn)
    }
}

impl Drop for BarrierTurn {
    fn drop(&mut self) {
        #[cfg(not(loom))]
        BARRIER_TAKEN.store(0, std::sync::atomic::Ordering::Release);
    }
}

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
#[derive(Default)]
pub struct Pacer {
    spins: u32,
    /// Events since the last poll that found nothing.
    found: u64,
}

impl Pacer {
    /// The longest pause, in spin loops: about a microsecond on the CPUs of today.
    const SPINS_MAX: u32 = 64;

    /// After a poll that handled `found` events: waits as learnt.
    #[inline]
    pub fn after(&mut self, found: u64) {
        self.found += found;
        if found > 0 {
            return;
        }
        match std::mem::take(&mut self.found) {
            0 | 1 => self.spins /= 2,
            _ => self.spins = (self.spins * 2).clamp(1, Self::SPINS_MAX),
        }
        for _ in 0..self.spins.max(1) {
            spin_loop();
        }
    }
}
