//! The reading end of a lane: one event after the other, and what became of each.
#![forbid(unsafe_code)]

use super::spec::LaneShared;
use crate::event::Failure;
use crate::ledger::Counts;
use crate::ring::{self, Item};
use crate::sync::Arc;
use crate::wait::{Bell, bit};

/// The reading end of a lane.
pub struct LaneConsumer<E> {
    pub(super) ring: ring::Consumer<E>,
    pub(super) shared: Arc<LaneShared>,
    pub(super) bell: Arc<Bell>,
    /// The producer waits for the next release. Used by [`Self::poll`] alone: a shard keeps it for all its lanes.
    pub(super) room_wanted: bool,
    /// The sequence of the event that was retried last, and how often.
    pub(super) retried: (u64, u32),
}

impl<E> LaneConsumer<E> {
    /// Handles at most `max` events in place, in order, and gives their slots back.
    ///
    /// # Panics
    /// Where `handle` does: that event is then counted `failed(panic)` and passed, those before it are `handled`, and
    /// the lane goes on with the next one.
    #[inline]
    pub fn poll(&mut self, max: u64, mut handle: impl FnMut(&mut Item<'_, E>)) -> u64 {
        if self.bell.calls() != 0 {
            self.room_wanted |= self.bell.take(bit::ROOM) != 0;
        }
        let mut burst = Burst { lane: self, handling: false };
        let mut handled = 0;
        while handled < max {
            let Some(mut item) = burst.lane.ring.peek() else { break };
            burst.handling = true;
            handle(&mut item);
            burst.handling = false;
            burst.lane.shared.ledger.consumer.handled.add(1);
            burst.lane.advance();
            handled += 1;
        }
        handled
    }

    /// What the lane's ledger says now.
    pub fn counts(&self) -> Counts {
        self.shared.ledger.snapshot(|| self.ring.core().in_flight())
    }

    /// Whether the producer is gone, or the lane was closed. Events published before are still to be handled.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Whether an event is there.
    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        self.ring.is_ready()
    }

    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Option<Item<'_, E>> {
        self.ring.peek()
    }

    /// Passes the event at the head. Where that gave slots back in the middle of a burst, a producer that waits is
    /// woken now: the burst may be slow. One that begins to wait at this very moment may be missed, since nothing
    /// orders this look after the release; it has raised the bell, so the end of the burst finds it.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        if self.ring.advance() && self.shared.room.waits() {
            self.offer_room();
        }
    }

    /// Counts a retry of the event at the head; says how often it has been retried now.
    pub(crate) fn retry_head(&mut self) -> u32 {
        let head = self.ring.sequence();
        let (sequence, times) = self.retried;
        self.retried = (head, if sequence == head { times.saturating_add(1) } else { 1 });
        self.shared.ledger.consumer.retried.add(1);
        self.retried.1
    }

    /// Whether the event at the head has been retried.
    pub(crate) fn is_head_retried(&self) -> bool {
        self.retried.1 > 0 && self.retried.0 == self.ring.sequence()
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &LaneShared {
        &self.shared
    }

    /// Gives back what was passed.
    #[inline(always)]
    pub(crate) fn release(&mut self) {
        self.ring.release();
    }

    /// Wakes the lane's producer if it waits and there may be room; says whether it still waits.
    #[cold]
    pub(crate) fn offer_room(&mut self) -> bool {
        self.shared.room.offer(self.ring.released_sequence())
    }

    pub(crate) fn close(&mut self) {
        self.ring.close();
        self.shared.room.wake_closed();
    }
}

/// Ends a poll in good order, also when the handler panics.
struct Burst<'a, E> {
    lane: &'a mut LaneConsumer<E>,
    handling: bool,
}

impl<E> Drop for Burst<'_, E> {
    #[inline]
    fn drop(&mut self) {
        if self.handling {
            self.lane.shared.ledger.consumer.failed[Failure::Panic as usize].add(1);
            self.lane.advance();
        }
        self.lane.ring.release();
        if self.lane.room_wanted {
            self.lane.room_wanted = self.lane.offer_room();
        }
    }
}

impl<E> Drop for LaneConsumer<E> {
    fn drop(&mut self) {
        self.close();
    }
}
