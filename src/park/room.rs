//! Where the producer of one lane waits for room.
//!
//! # Mechanism
//! A producer without room *announces* that it waits: it stores the released cursor that is `enough` for it, and
//! swaps the word from `NOBODY` to `THREAD` or `TASK`. Then it looks for room once more, raises `ROOM` in the shard's
//! waker, and sleeps. The shard *offers* room: where a producer waits and `enough <= released`, it swaps the word back
//! and wakes the producer.
//!
//! ```text
//!   producer                                     shard
//!   word = THREAD (AcqRel)                       store the released cursor (Release)
//!   look for room: found? then do not sleep      ...
//!   raise ROOM in the waker   ── SYNC: raise ──▶  take ROOM
//!   sleep while word == THREAD                   word != NOBODY and enough <= released? then wake
//! ```
//!
//! The producer pays no barrier. Raising is a read-modify-write of a word that the shard reads at every poll, so the
//! shard sees it at one of its next polls, or in its last look before it sleeps. The shard then offers what it has
//! released. If that is not enough, it offers again after each burst, as long as a producer waits.
//!
//! # Invariants
//! - A producer that sleeps has raised `ROOM` after its announcement.
//! - Every change of the word is a swap or a compare-and-swap, so of two threads that change it the later one sees what the
//!   earlier one did before. No fence is needed for that, neither here nor for a lane that is closed: the thread that closes
//!   it sets the flag and then swaps the word, the producer swaps the word and then looks at the flag. The later swap reads
//!   from the earlier one (or from one after it), so either the producer sees the flag, or its announcement is taken off.
//! - A thread that takes an announcement off wakes the producer that made it.

#[cfg(feature = "async")]
use super::task;
#[cfg(feature = "async")]
use super::task::Limit;
use crate::clock::Clock;
use crate::sync::{AtomicU32, AtomicU64, Counter, Ordering, futex};
use crossbeam_utils::CachePadded;
#[cfg(feature = "async")]
use std::task::Waker;
use std::time::Duration;

/// Nobody waits.
const NOBODY: u32 = 0;
/// A thread sleeps on the word.
const THREAD: u32 = 1;
/// A task has left its waker.
#[cfg(feature = "async")]
const TASK: u32 = 2;

/// Where the producer of one lane waits for room.
pub(crate) struct RoomWait {
    /// Which kind of producer waits.
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

    /// Producer: announces that its thread waits, having last seen the consumer at `released`. The caller must then
    /// look for room once more, raise `ROOM` in the shard's waker, and sleep.
    pub fn announce(&self, released: u64) {
        let _before = self.announce_as(THREAD, released.wrapping_add(1));
        // A task of the same producer had left its waker. It is woken now: nothing would wake it later.
        #[cfg(feature = "async")]
        if _before == TASK {
            self.task.wake();
        }
    }

    /// Producer: announces that its task waits until the consumer's cursor has come to `enough`. Returns false if its
    /// last waker is being woken at this moment, so that there is no place for another.
    #[cfg(feature = "async")]
    pub fn announce_task(&self, enough: u64, waker: &Waker, limit: Limit) -> bool {
        let set = self.task.set(waker, limit);
        if set {
            self.announce_as(TASK, enough);
        }
        set
    }

    /// Returns which kind of producer was announced before.
    fn announce_as(&self, who: u32, enough: u64) -> u32 {
        self.enough.store(enough, Ordering::Relaxed);
        // SYNC: room (AcqRel); pairs with `RoomWait::wake`. Release for the waker. Acquire, since an earlier
        // announcement may have been taken off before this producer looked: the look that follows must see what was
        // released, or closed, before that.
        self.word.swap(who, Ordering::AcqRel)
    }

    /// Producer: sleeps until woken, for `limit` at most.
    pub fn sleep(&self, limit: Duration) {
        futex::wait(&self.word, THREAD, limit);
    }

    /// Producer: no longer waits. Returns whether it had been woken.
    pub fn withdraw(&self) -> bool {
        // Relaxed: a swap goes on with the release sequence of the swap that it reads from, so an announcement that
        // comes later still acquires from that one.
        self.word.swap(NOBODY, Ordering::Relaxed) == NOBODY
    }

    /// Producer: its task no longer waits. A waker that is about to be woken still is.
    #[cfg(feature = "async")]
    pub fn withdraw_task(&self) {
        if !self.withdraw() {
            drop(self.task.take());
        }
    }

    /// Producer: whether its announcement stands, so that its thread has not been woken.
    pub fn waits(&self) -> bool {
        self.word.load(Ordering::Relaxed) == THREAD
    }

    /// Shard: wakes the producer if it waits and `released` is enough for it, or its limit is over. Returns whether
    /// it still waits.
    pub fn offer(&self, released: u64) -> bool {
        // Relaxed: an `enough` of an earlier wait wakes too early, which is harmless, or not at all. In that case the
        // producer has not raised `ROOM` for this wait yet, or the shard has not taken it: the offer that follows the
        // taking sees its `enough`.
        let who = self.word.load(Ordering::Relaxed);
        if who == NOBODY {
            return false;
        }
        if !self.is_enough(released) && !self.is_overdue(who) {
            return true;
        }
        self.wake();
        false
    }

    /// Shard, within a burst: the same for a thread. A task is left alone: to wake it runs code of its executor,
    /// which waits until the burst is over.
    #[inline(always)]
    pub fn offer_to_thread(&self, released: u64) {
        // Relaxed, as in `offer`.
        if self.word.load(Ordering::Relaxed) == THREAD {
            self.offer_to_thread_slow(released);
        }
    }

    #[cold]
    #[inline(never)]
    fn offer_to_thread_slow(&self, released: u64) {
        // SYNC: room (AcqRel); pairs with `RoomWait::announce_as`. Compared, since the thread may have withdrawn by
        // now, and left a waker.
        if self.is_enough(released)
            && self.word.compare_exchange(THREAD, NOBODY, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            futex::wake(&self.word);
        }
    }

    /// Whether `released` is enough for the producer. Sequences: which of two comes first shows in their difference,
    /// also after they have wrapped.
    fn is_enough(&self, released: u64) -> bool {
        self.enough.load(Ordering::Relaxed).wrapping_sub(released) as i64 <= 0
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

    /// Control plane: wakes the producer because its lane was closed, before this call.
    pub fn wake_closed(&self) {
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
