//! The consumer's end: poll the next slot, handle in place, release.
//!
//! # Mechanism
//! `head` is the next sequence wanted. The consumer loads that slot's word and nothing else, so a look at an empty
//! ring costs one load of a line that the producer will write anyway. The released cursor is stored at the end of a
//! batch, and within it after [`RELEASE_EVERY`] slots or half of the ring, whichever is less: a slow batch does not
//! make the ring look full for its whole length.

use super::core::Core;
use super::slots::{Slot, View};
use crate::sync::Arc;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Slots after which the released cursor is stored within a batch, at the latest.
const RELEASE_EVERY: u64 = 64;

/// The reading half of a ring. `Send`, not `Sync`: one thread at a time.
///
/// Dropping it closes the ring: further claims are refused.
///
/// ```
/// use pelton::ring::{ClaimError, Shape, ring};
/// let (mut tx, mut rx) = ring(Shape::slots(2), || 0u64)?;
/// assert_eq!((rx.capacity(), rx.sequence(), rx.is_ready()), (2, 0, false));
/// tx.try_claim()?.publish();
/// assert!(rx.is_ready());
/// rx.close();
/// assert_eq!(tx.try_claim().unwrap_err(), ClaimError::Closed);
/// assert!(rx.batch(1).next().is_some());      // what was published before is still there
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consumer<E> {
    core: Arc<Core<E>>,
    /// A copy of what the slots' addresses are made of, so that they need no look at `core`.
    slots: View<E>,
    /// The next sequence wanted.
    head: u64,
    /// The released cursor as last stored.
    released: u64,
    /// The sequence at which it is to be stored again, at the latest.
    release_at: u64,
    release_every: u64,
    /// The payload position after the last event passed.
    bytes_head: u64,
    _not_sync: PhantomData<Cell<()>>,
}

impl<E> std::fmt::Debug for Consumer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("sequence", &self.head).finish_non_exhaustive()
    }
}

impl<E> Consumer<E> {
    pub(super) fn new(core: Arc<Core<E>>, first: u64) -> Self {
        let release_every = (core.slots.capacity() / 2).clamp(1, RELEASE_EVERY);
        Consumer {
            slots: core.slots.view(),
            head: first,
            released: first,
            release_at: first.wrapping_add(release_every),
            release_every,
            bytes_head: 0,
            core,
            _not_sync: PhantomData,
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core<E>> {
        &self.core
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u64 {
        self.slots.capacity()
    }

    /// The next sequence wanted.
    pub fn sequence(&self) -> u64 {
        self.head
    }

    /// Whether an event is there. One load.
    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        self.slots.at(self.head).is_published(self.head)
    }

    /// Whether one of the ends is closed. Events that were published before can still be consumed.
    ///
    /// A loop that ends with its producer asks *before* it looks for events: a producer that is gone has published
    /// its last event by then, so a ring that is closed first and empty afterwards stays empty. The other order can
    /// miss the events that were published in between.
    ///
    /// ```
    /// # use pelton::ring::{Shape, ring};
    /// let (mut tx, mut rx) = ring(Shape::slots(8), || 0u64)?;
    /// let producer = std::thread::spawn(move || {
    ///     let mut claim = tx.try_claim().unwrap();
    ///     *claim = 42;
    ///     claim.publish();
    /// });
    /// let mut seen = 0;
    /// loop {
    ///     let ended = rx.is_closed();
    ///     let mut batch = rx.batch(64);
    ///     let mut found = false;
    ///     while let Some(event) = batch.next() {
    ///         seen += *event;
    ///         found = true;
    ///     }
    ///     if ended && !found {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(seen, 42);
    /// # producer.join().unwrap();
    /// # Ok::<(), pelton::ring::ShapeError>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Closes the ring: further claims are refused.
    pub fn close(&mut self) {
        self.core.close();
    }

    /// The next event, which stays where it is until [`Item::pass`].
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Option<Item<'_, E>> {
        let slot = self.slots.at(self.head);
        if slot.is_published(self.head) { Some(Item { consumer: self, slot }) } else { None }
    }

    /// Gives everything that was passed back to the producer; returns whether there was anything.
    #[inline(always)]
    pub(crate) fn release(&mut self) -> bool {
        if self.released == self.head {
            return false;
        }
        self.core.release(self.head, self.bytes_head);
        self.released = self.head;
        self.release_at = self.head.wrapping_add(self.release_every);
        true
    }

    /// The released cursor.
    pub(crate) fn released_sequence(&self) -> u64 {
        self.released
    }

    /// A batch of at most `max` events: those that are there now or come while it is handled. Never blocks.
    ///
    /// # Panics
    /// If `max` is 0, which could only ever be a mistake.
    ///
    /// # Examples
    /// ```
    /// # use pelton::ring::{Shape, ring};
    /// # let (mut tx, mut rx) = ring(Shape::slots(8), || 0u64)?;
    /// for i in 1..=3 {
    ///     let mut claim = tx.try_claim()?;
    ///     *claim = i;
    ///     claim.publish();
    /// }
    /// let mut batch = rx.batch(2);
    /// let mut seen = Vec::new();
    /// while let Some(event) = batch.next() {
    ///     seen.push(*event);
    /// }
    /// assert_eq!(seen, [1, 2]);
    /// drop(batch);                // gives their slots back
    /// assert_eq!(tx.depth(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn batch(&mut self, max: u64) -> Batch<'_, E> {
        assert!(max > 0, "a batch has room for at least one event");
        Batch { consumer: self, left: max, taken: false }
    }
}

impl<E> Drop for Consumer<E> {
    fn drop(&mut self) {
        self.core.close();
    }
}

/// Events one after the other; dropping it releases those that were taken.
///
/// A batch that is forgotten (`mem::forget`) has not passed the event that it lent last: the next batch begins with
/// that one. So the events of a consumer that forgets batches are seen *at least once*; of one that drops them,
/// exactly once.
///
/// ```compile_fail
/// # use pelton::ring::{Shape, ring};
/// let (mut tx, mut rx) = ring(Shape::slots(8), || 0u64).unwrap();
/// let mut batch = rx.batch(8);
/// let first = batch.next();
/// let second = batch.next(); // one at a time: `first` still borrows the batch
/// drop((first, second));
/// ```
pub struct Batch<'a, E> {
    consumer: &'a mut Consumer<E>,
    left: u64,
    taken: bool,
}

impl<E> std::fmt::Debug for Batch<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<E> Batch<'_, E> {
    /// The next event, or `None` when none is there or the batch is at its end. It counts as consumed as soon as the
    /// item is dropped and the next is asked for, or the batch is dropped.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend one item at a time")]
    pub fn next(&mut self) -> Option<Item<'_, E>> {
        self.pass_taken();
        if self.left == 0 {
            return None;
        }
        let item = self.consumer.peek()?;
        self.left -= 1;
        self.taken = true;
        Some(item)
    }

    /// Passes the event that was lent last.
    #[inline(always)]
    fn pass_taken(&mut self) {
        if std::mem::take(&mut self.taken)
            && let Some(item) = self.consumer.peek()
        {
            item.pass();
        }
    }
}

impl<E> Drop for Batch<'_, E> {
    fn drop(&mut self) {
        self.pass_taken();
        self.consumer.release();
    }
}

/// One published event, in its slot.
///
/// ```
/// use pelton::ring::{Shape, ring};
/// let shape = Shape { stamped: true, payload_bytes: 64, ..Shape::slots(2) };
/// let (mut tx, mut rx) = ring(shape, || 0u64)?;
/// let mut claim = tx.try_claim_bytes(3)?;
/// claim.set_key(7);
/// claim.set_stamp(1_000);
/// claim.payload_mut().copy_from_slice(b"abc");
/// claim.publish();
/// let mut batch = rx.batch(1);
/// let mut event = batch.next().unwrap();
/// assert_eq!((event.sequence(), event.key(), event.stamp()), (0, 7, 1_000));
/// let (sum, bytes) = event.parts_mut();
/// *sum = bytes.len() as u64;
/// assert_eq!((*event, event.payload()), (3, &b"abc"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Item<'a, E> {
    consumer: &'a mut Consumer<E>,
    slot: Slot<E>,
}

impl<E> std::fmt::Debug for Item<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Item")
            .field("sequence", &self.sequence())
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

impl<E> Item<'_, E> {
    /// Passes the event. Returns whether slots were given back.
    #[inline(always)]
    pub(crate) fn pass(self) -> bool {
        let Item { consumer, slot } = self;
        if let Some(span) = consumer.slots.span(slot) {
            // SAFETY: the slot is published and not released, so it is the consumer's. Model:
            // `payload_wraps_without_overlap`.
            let span = unsafe { span.read() };
            let start = consumer.core.bytes.position_of(span, consumer.bytes_head);
            consumer.bytes_head = start.wrapping_add(u64::from(span.len));
        }
        consumer.head = consumer.head.wrapping_add(1);
        consumer.head == consumer.release_at && consumer.release()
    }

    /// The event's sequence.
    #[inline(always)]
    pub fn sequence(&self) -> u64 {
        self.consumer.head
    }

    /// The event's key.
    #[inline(always)]
    pub fn key(&self) -> u64 {
        // SAFETY: the slot is published and not released, so it is the consumer's, which never writes the key. Model:
        // `publish_and_release`.
        unsafe { self.slot.key().read() }
    }

    /// The event's stamp; 0 where the ring is not stamped.
    #[inline(always)]
    pub fn stamp(&self) -> u64 {
        // SAFETY: as for the key.
        self.consumer.slots.stamp(self.slot).map_or(0, |stamp| unsafe { stamp.read() })
    }

    /// The event's payload; empty where it has none.
    #[inline(always)]
    pub fn payload(&self) -> &[u8] {
        let Some(bytes) = self.bytes() else { return &[] };
        // SAFETY: the bytes of a published span are the consumer's until its slot is released, and the borrow of
        // `self` ends before that. Model: `payload_wraps_without_overlap`.
        unsafe { &*bytes }
    }

    /// The event and its payload at once, both to be changed in place.
    #[inline(always)]
    pub fn parts_mut(&mut self) -> (&mut E, &mut [u8]) {
        let bytes = self.bytes();
        // SAFETY: as for `deref` and `payload`, with `&mut self`: the only references; the two do not overlap.
        unsafe { (&mut *self.consumer.slots.event(self.slot), bytes.map_or(&mut [], |bytes| &mut *bytes)) }
    }

    #[inline(always)]
    fn bytes(&self) -> Option<*mut [u8]> {
        let span = self.consumer.slots.span(self.slot)?;
        // SAFETY: as for the key.
        Some(self.consumer.core.bytes.slice(unsafe { span.read() }))
    }
}

impl<E> Deref for Item<'_, E> {
    type Target = E;
    #[inline(always)]
    fn deref(&self) -> &E {
        // SAFETY: the slot is published and not released, so it is the consumer's, and this item the only way to it.
        // Model: `publish_and_release`.
        unsafe { &*self.consumer.slots.event(self.slot) }
    }
}

impl<E> DerefMut for Item<'_, E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut E {
        // SAFETY: as for `deref`, and `&mut self` makes the reference unique.
        unsafe { &mut *self.consumer.slots.event(self.slot) }
    }
}
