//! The waker of a shard: how it sleeps, and how it is called.
//!
//! # Mechanism
//! A word of bits on a line of its own, which the shard reads at every poll. Bit 0 says that the shard is asleep, the
//! others what it is called for. To call is a read-modify-write, so either the caller sees the sleep or the shard,
//! which announces it with one too, sees the call. Publishers do not look at the waker: each has a doorbell, which
//! raises a bit here where the shard would not see an event by itself.
//!
//! # The barrier
//! A shard that goes to sleep, or lets lane sets doze, needs a store-load barrier against publishers that pay for
//! none: the kernel's process-wide one. As that interrupts every running thread of the process, one shard at a time
//! may use it; the others poll on. So does a shard to which the kernel refuses it.

use crate::sync::{
    AtomicU32, AtomicU64, BARRIER_TURN, Counter, Ordering, fence_heavy, forks, futex, thread_token,
};
use crossbeam_utils::CachePadded;
use std::time::Duration;

/// The longest sleep without a look around.
pub(crate) const SLEEP_MAX: Duration = Duration::from_millis(100);

/// What a shard is called for.
pub(crate) mod bit {
    /// The shard sleeps, or is about to.
    pub const PARKED: u32 = 1;
    /// There is a command in the shard's mailbox.
    pub const MAIL: u32 = 1 << 1;
    /// A lane set that dozed has an event, or the engine is complete.
    pub const LANES: u32 = 1 << 2;
    /// A producer waits for room.
    pub const ROOM: u32 = 1 << 3;
    /// The shard is to stop.
    pub const STOP: u32 = 1 << 4;
    /// The engine is closed: the handler is to hand over what it holds back.
    pub const DRAIN: u32 = 1 << 5;
}

/// What wakes a shard and calls for its attention.
pub(crate) struct ShardWaker {
    word: CachePadded<AtomicU32>,
    /// Written by the shard alone.
    pub parks: Counter,
    /// Sleeps that ended by themselves although there was something to do; written by the shard alone.
    pub rescues: Counter,
    /// One more than the number of events that had left the shard's lanes when its handler last held nothing back; 0 before
    /// it was asked. Written by the shard alone.
    pub drained: Counter,
    /// The thread that polled the shard last, as a [`thread_token`]; 0 before the first poll.
    poller: AtomicU64,
}

impl ShardWaker {
    pub fn new() -> Self {
        ShardWaker {
            word: CachePadded::new(AtomicU32::new(0)),
            parks: Counter::default(),
            rescues: Counter::default(),
            drained: Counter::default(),
            poller: AtomicU64::new(0),
        }
    }

    /// The shard is polled by the thread with this token from now on.
    pub fn polled_by(&self, token: u64) {
        // Relaxed: a thread compares the token with its own, and sees what it has stored itself. That another thread polls
        // since then may show late, to a producer whose lane has been full for a while.
        self.poller.store(token, Ordering::Relaxed);
    }

    /// Whether the calling thread is the one that polls the shard, so that waiting for the shard would never end.
    pub fn is_polled_here(&self) -> bool {
        self.poller.load(Ordering::Relaxed) == thread_token()
    }

    #[cold]
    fn wake_slow(&self) {
        if self.word.fetch_and(!bit::PARKED, Ordering::Relaxed) & bit::PARKED != 0 {
            futex::wake(&self.word);
        }
    }

    /// Calls for the shard's attention, and wakes it. For the control plane and for producers that wait.
    pub fn raise(&self, bits: u32) {
        // SYNC: raise (Release); pairs with `ShardWaker::take`. A read-modify-write reads the latest value of the word, so
        // here no fence is needed to see PARKED: either this sees it, or the shard's setting of PARKED sees `bits`.
        if self.word.fetch_or(bits, Ordering::AcqRel) & bit::PARKED != 0 {
            self.wake_slow();
        }
    }

    /// What the shard is called for; nearly always 0. One load.
    #[inline(always)]
    pub fn calls(&self) -> u32 {
        self.word.load(Ordering::Relaxed)
    }

    /// Takes the given bits off; returns those that were there.
    pub fn take(&self, bits: u32) -> u32 {
        // SYNC: raise (Acquire); pairs with `ShardWaker::raise`.
        self.word.fetch_and(!bits, Ordering::AcqRel) & bits
    }

    /// Announces a sleep, for which `doze` lets the shard's lane sets doze. After it the caller looks at everything
    /// once more and then either sleeps or stays up. Returns false if the caller must not sleep now: it is called,
    /// another shard uses the barrier, or the kernel refuses it.
    pub fn announce(&self, doze: impl FnOnce()) -> bool {
        // One barrier at a time, process-wide. The loser polls on: it is late by the length of a system call.
        let Some(_turn) = BarrierTurn::take() else { return false };
        doze();
        // SYNC: doze (heavy half); pairs with the light half in `Doorbell::ring`.
        if self.word.fetch_or(bit::PARKED, Ordering::AcqRel) == 0 && fence_heavy() {
            return true;
        }
        self.cancel_park();
        false
    }

    /// Takes an announcement back.
    pub fn cancel_park(&self) {
        self.take(bit::PARKED);
    }

    /// Sleeps until a bit is raised, for `limit` at most. The caller has announced it and has found nothing to do.
    /// Returns whether one was raised.
    pub fn sleep(&self, limit: Duration) -> bool {
        self.parks.add(1);
        futex::wait(&self.word, bit::PARKED, limit);
        self.calls() != bit::PARKED
    }
}

/// Makes sure that a publisher to a set that was let doze before this call sees that, or that a look at its lanes
/// after this call sees the publisher's event. Returns false if there is no barrier now: another shard uses it, or
/// the kernel refuses it.
pub(crate) fn fence_sleepers() -> bool {
    let Some(_turn) = BarrierTurn::take() else { return false };
    // SYNC: doze (heavy half); pairs with the light half in `Doorbell::ring`.
    fence_heavy()
}

/// The right to use the heavy fence. `BARRIER_TURN` is 0 while no shard has it; otherwise one more than its process's
/// count of forks, since a child inherits the turn of a thread that it does not have.
struct BarrierTurn;

/// Only models with several shards take turns: in the others it would be steps without a question.
fn takes_turns() -> bool {
    #[cfg(pelton_loom)]
    return crate::sync::barrier::takes_turns();
    #[cfg(not(pelton_loom))]
    true
}

impl BarrierTurn {
    fn take() -> Option<Self> {
        if !takes_turns() {
            return Some(BarrierTurn);
        }
        // Relaxed, and no pair: the turn orders nothing, it only keeps two barriers from running at once.
        let mine = forks::count() + 1;
        let holder = BARRIER_TURN.load(Ordering::Relaxed);
        let free = holder != mine;
        let taken = || BARRIER_TURN.compare_exchange(holder, mine, Ordering::Relaxed, Ordering::Relaxed);
        (free && taken().is_ok()).then_some(BarrierTurn)
    }
}

impl Drop for BarrierTurn {
    fn drop(&mut self) {
        if takes_turns() {
            BARRIER_TURN.store(0, Ordering::Relaxed);
        }
    }
}
