//! A task that waits for room: its waker, and its limit.
//!
//! # Mechanism
//! The waker lies in a cell whose users never wait for each other. The producer finds it in use only while its last
//! waker is being taken out to be woken; it then polls again. The shard finds it in use only while the producer puts
//! a new waker in; it then leaves it, since the producer will announce that waker, and its look after the
//! announcement sees what the shard has released. Of several threads that would wake the task, the announcement
//! (`RoomWait`'s word) lets one through.

use crate::clock::Clock;
use crate::sync::{AtomicU64, Ordering, TryCell, discard};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

/// When a wait began, and how long it may last, in ticks.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    since: u64,
    ticks: u64,
}

impl Limit {
    /// No clock gets this far.
    const FOREVER: u64 = u64::MAX;

    /// A wait that begins now.
    pub fn new(clock: &Clock, limit: Option<Duration>) -> Self {
        Limit { since: clock.ticks(), ticks: limit.map_or(Self::FOREVER, |limit| clock.ticks_of(limit)) }
    }

    /// Whether it is over. An elapsed time against a limit, so that no limit is too long.
    pub fn is_over(&self, clock: &Clock) -> bool {
        self.ticks != Self::FOREVER && clock.ticks().saturating_sub(self.since) >= self.ticks
    }
}

/// What a waiting task leaves beside its lane.
pub(crate) struct TaskWait {
    waker: TryCell<Option<Waker>>,
    // The parts of its `Limit`. Relaxed: the announcement publishes them, and a mixture of two waits' costs a poll.
    since: AtomicU64,
    ticks: AtomicU64,
    clock: Clock,
    /// Written by the thread that wakes.
    panics: AtomicU64,
}

impl TaskWait {
    pub fn new(clock: &Clock) -> Self {
        TaskWait {
            waker: TryCell::new(None),
            since: AtomicU64::new(0),
            ticks: AtomicU64::new(Limit::FOREVER),
            clock: clock.clone(),
            panics: AtomicU64::new(0),
        }
    }

    /// Puts the waker in; returns false if the cell was in use.
    pub fn set(&self, waker: &Waker, limit: Limit) -> bool {
        let mut waker = Some(waker.clone());
        let set = self.waker.try_with(|held| std::mem::swap(held, &mut waker)).is_some();
        self.since.store(limit.since, Ordering::Relaxed);
        self.ticks.store(limit.ticks, Ordering::Relaxed);
        // The older waker is dropped here and not in the cell: its drop may run code of any executor.
        set
    }

    /// Takes the waker out, if it is there and the cell is not in use.
    pub fn take(&self) -> Option<Waker> {
        self.waker.try_with(Option::take).flatten()
    }

    /// Wakes the task. This runs code of its executor. A panic there is counted, and costs the caller nothing.
    pub fn wake(&self) {
        if let Some(waker) = self.take()
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake()))
        {
            self.panics.fetch_add(1, Ordering::Relaxed);
            discard(panic);
        }
    }

    /// Whether the task has waited for longer than its limit.
    pub fn is_overdue(&self) -> bool {
        let (since, ticks) = (self.since.load(Ordering::Relaxed), self.ticks.load(Ordering::Relaxed));
        Limit { since, ticks }.is_over(&self.clock)
    }

    /// How many wakers panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}
