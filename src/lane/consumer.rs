//! The reading end of a lane: one event after the other, and what became of each.

use super::spec::{LaneId, LaneShared};
use crate::event::Failure;
use crate::ledger::{ConsumerSide, Counts};
use crate::park::{ShardWaker, bit};
use crate::ring::{self, Item};
use crate::sync::{Arc, Counter};

/// The reading end of a lane.
pub struct LaneConsumer<E> {
    pub(super) ring: ring::Consumer<E>,
    pub(super) shared: Arc<LaneShared>,
    pub(super) waker: Arc<ShardWaker>,
    /// The producer waits for the next release. Used by [`Self::poll`] alone: a shard keeps it for all its lanes.
    pub(super) room_wanted: bool,
    /// The event that was put off last.
    pub(super) retry: Retry,
}

impl<E> std::fmt::Debug for LaneConsumer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneConsumer").field("lane", &self.shared.id).finish_non_exhaustive()
    }
}

impl<E> LaneConsumer<E> {
    /// Handles at most `max` events in place, in order, and gives their slots back. Never blocks.
    ///
    /// # Panics
    /// Where `handle` does: that event is then counted `failed(panic)` and passed, those before it are `handled`, and
    /// the lane goes on with the next one.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// # let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(8).reject(), || 0u64)?;
    /// for i in 1..=3 {
    ///     tx.publish(7, |event| *event = i)?;
    /// }
    /// let mut seen = Vec::new();
    /// assert_eq!(rx.poll(2, |event| seen.push(**event)), 2);
    /// assert_eq!(rx.poll(2, |event| seen.push(**event)), 1);
    /// assert_eq!(seen, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn poll(&mut self, max: u64, mut handle: impl FnMut(&mut Item<'_, E>)) -> u64 {
        if self.waker.calls() != 0 {
            self.room_wanted |= self.waker.take(bit::ROOM) != 0;
        }
        let mut burst = Burst { lane: self, handling: false };
        let mut handled = 0;
        while handled < max {
            let Some(mut head) = burst.lane.head() else { break };
            burst.handling = true;
            handle(&mut head.item);
            burst.handling = false;
            head.handled();
            handled += 1;
        }
        handled
    }

    /// The lane's ledger, as it is now.
    ///
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// # let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(2).reject(), || 0u64)?;
    /// let _ = [1, 2, 3].map(|i| tx.publish(7, |event| *event = i));       // there are two slots
    /// rx.poll(1, |_| ());
    /// let counts = rx.counts();
    /// assert_eq!((counts.offered, counts.accepted, counts.rejected_total()), (3, 2, 1));
    /// assert_eq!((counts.handled, counts.in_flight), (1, 1));
    /// assert!(counts.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn counts(&self) -> Counts {
        self.shared.ledger.snapshot(|| self.ring.core().in_flight())
    }

    /// How many events have left the lane.
    pub(crate) fn done(&self) -> u64 {
        self.shared.ledger.snapshot(|| 0).done()
    }

    /// Whether the producer is gone, or the lane was closed. Events that were published before can still be handled.
    ///
    /// A loop that ends with its producer asks *before* it polls: a producer that is gone has published its last
    /// event by then. The other order can miss the events that were published in between.
    ///
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(8).block(), || 0u64)?;
    /// let producer = std::thread::spawn(move || {
    ///     for event in 1..=100 {
    ///         tx.publish(event, |slot| *slot = event).unwrap();
    ///     }
    /// });
    /// let mut sum = 0;
    /// loop {
    ///     let ended = rx.is_closed();
    ///     if rx.poll(64, |event| sum += **event) == 0 && ended {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(sum, 5_050);
    /// # producer.join().unwrap();
    /// # Ok::<(), pelton::ring::ShapeError>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Whether an event is there.
    ///
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// # let (mut tx, rx) = lane(&Class::strict("only").with_capacity(8).reject(), || 0u64)?;
    /// assert!(!rx.is_ready());
    /// tx.publish(7, |event| *event = 42)?;
    /// assert!(rx.is_ready());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        self.ring.is_ready()
    }

    /// The event at the head of the lane, if there is one. It stays there until it leaves by one of `Head`'s ways.
    #[inline(always)]
    pub(crate) fn head(&mut self) -> Option<Head<'_, E>> {
        let LaneConsumer { ring, shared, retry, .. } = self;
        ring.peek().map(|item| Head { item, shared, retry })
    }

    /// Gives back the slots that were passed.
    #[inline(always)]
    pub(crate) fn release(&mut self) {
        self.ring.release();
    }

    /// Wakes a thread that waits for room in the lane, if there is some. As in [`Head::leave`], one that begins to wait at
    /// this moment may be missed: it has raised the waker.
    #[inline(always)]
    pub(crate) fn notify_room_to_thread(&mut self) {
        self.shared.room.offer_to_thread(self.ring.released_sequence());
    }

    /// Wakes the lane's producer if it waits and there may be room; returns whether it still waits.
    #[cold]
    pub(crate) fn notify_room(&mut self) -> bool {
        self.shared.room.offer(self.ring.released_sequence())
    }

    /// What the event at its head waits for, if it was put off for that.
    #[inline(always)]
    pub(crate) fn blocked(&self) -> Option<Blocked> {
        self.retry.blocked
    }

    /// The event at its head need not wait any longer.
    pub(crate) fn unblock(&mut self) {
        self.retry.blocked = None;
    }

    pub(crate) fn close(&mut self) {
        self.ring.close();
        self.shared.room.wake_closed();
    }
}

/// The event at the head of a lane. It leaves as exactly one of handled, expired or failed, or is put off.
pub(crate) struct Head<'a, E> {
    pub item: Item<'a, E>,
    shared: &'a LaneShared,
    retry: &'a mut Retry,
}

/// An event that is to be given to the handler again.
#[derive(Clone, Copy, Default)]
pub(crate) struct Retry {
    sequence: u64,
    /// When it was put off first, in ticks; `None` before any event was.
    since: Option<u64>,
    /// What it waits for, if that is known: until then the handler would only put it off again, so the lane rests.
    blocked: Option<Blocked>,
}

/// Room in a lane of the mesh, which a handler did not find.
#[derive(Clone, Copy)]
pub(crate) struct Blocked {
    /// The lane's place in the mesh.
    pub lane: u32,
    /// Payload bytes that did not fit.
    pub bytes: u32,
}

impl<'a, E> Head<'a, E> {
    /// Which lane it came by.
    #[inline(always)]
    pub fn lane(&self) -> LaneId {
        self.shared.id
    }

    /// It was handled.
    #[inline(always)]
    pub fn handled(self) {
        self.leave(|counts| &counts.handled);
    }

    /// It was too old.
    pub fn expired(self) {
        self.leave(|counts| &counts.expired);
    }

    /// It could not be handled.
    pub fn failed(self, why: Failure) {
        self.leave(|counts| &counts.failed[why as usize]);
    }

    #[inline(always)]
    fn leave(self, counter: impl FnOnce(&ConsumerSide) -> &Counter) {
        let Head { item, shared, .. } = self;
        // Counted before its slot may go back.
        counter(&shared.ledger.consumer).add(1);
        let passed = item.sequence().wrapping_add(1);
        // Where slots went back in the middle of a burst, a thread that waits is woken now: the burst may be slow.
        // One that begins to wait at this moment may be missed, since nothing orders this look after the release; it
        // has raised the waker, so the end of the burst finds it.
        if item.pass() {
            shared.room.offer_to_thread(passed);
        }
    }

    /// Puts the event off; returns for how long it has been put off, in ticks.
    pub fn retry(&mut self, now: u64, blocked: Option<Blocked>) -> u64 {
        let since = now - self.retried_for(now);
        *self.retry = Retry { sequence: self.item.sequence(), since: Some(since), blocked };
        self.shared.ledger.consumer.retried.add(1);
        now - since
    }

    /// Whether it has been put off before.
    pub fn is_retried(&self) -> bool {
        self.retry.since.is_some() && self.retry.sequence == self.item.sequence()
    }

    /// For how long it has been put off, in ticks.
    pub fn retried_for(&self, now: u64) -> u64 {
        let since = self.retry.since.filter(|_| self.is_retried());
        since.map_or(0, |since| now.saturating_sub(since))
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
        if self.handling
            && let Some(head) = self.lane.head()
        {
            head.failed(Failure::Panic);
        }
        self.lane.ring.release();
        if self.lane.room_wanted {
            self.lane.room_wanted = self.lane.notify_room();
        }
    }
}

impl<E> Drop for LaneConsumer<E> {
    fn drop(&mut self) {
        self.close();
    }
}
