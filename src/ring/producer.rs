//! The producer's end: claim, write in place, publish.
//!
//! # Mechanism
//! `tail` is the next sequence to publish; `staged` events after it are written and kept back. The producer caches
//! the consumer's released cursor as a `limit`, and loads it again only when `tail` has come to that. A publish is
//! one Release store of the slot's word; no cursor is stored.
//!
//! The usual claim makes one comparison: `tail == granted`? `granted` is the `limit`, or `tail` itself while events
//! are staged, so every unusual case takes the slow path.
//!
//! Each claim asks the CPU for the line of a slot some way ahead. The consumer read that line last, and a store to it
//! would otherwise wait until the line has come over.

use super::core::Core;
use super::shape::ClaimError;
use super::slots::{Slot, View};
use crate::sync::Arc;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// How many slots ahead the producer asks for ownership.
const PREFETCH_SLOTS: u64 = 4;

/// The writing half of a ring. `Send`, not `Sync`: one thread at a time.
///
/// Dropping it closes the ring; what is published can still be consumed.
///
/// ```
/// use pelton::ring::{ClaimError, Shape, ring};
/// let (mut tx, mut rx) = ring(Shape { payload_bytes: 64, ..Shape::slots(2) }, || 0u64)?;
/// assert_eq!(tx.try_claim_bytes(33).unwrap_err(), ClaimError::TooLarge { asked: 33, limit: 32 });
/// for i in 0..tx.capacity() {
///     assert_eq!(tx.sequence(), i);
///     tx.try_claim()?.publish();
/// }
/// assert_eq!((tx.depth(), tx.try_claim().unwrap_err()), (2, ClaimError::SlotsFull));
/// while rx.batch(2).next().is_some() {}
/// assert!(tx.is_drained());
/// drop(rx);
/// assert!(tx.is_closed() && tx.try_claim().unwrap_err() == ClaimError::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Producer<E> {
    core: Arc<Core<E>>,
    /// A copy of what the slots' addresses are made of, so that they need no look at `core`.
    slots: View<E>,
    /// The next sequence to publish.
    tail: u64,
    /// The first sequence that may not be claimed without a look around: `limit`, or `tail` while something is
    /// staged.
    granted: u64,
    /// The first sequence that may not be claimed, going by the consumer's cursor when last looked at.
    limit: u64,
    /// Events that are written and not published.
    staged: u64,
    /// The payload position after the last claimed, and after the last published event.
    bytes_next: u64,
    bytes_tail: u64,
    /// The consumer's payload position when last looked at.
    bytes_released: u64,
    _not_sync: PhantomData<Cell<()>>,
}

impl<E> std::fmt::Debug for Producer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("sequence", &self.tail).finish_non_exhaustive()
    }
}

impl<E> Producer<E> {
    pub(super) fn new(core: Arc<Core<E>>, first: u64) -> Self {
        let limit = first.wrapping_add(core.slots.capacity());
        Producer {
            slots: core.slots.view(),
            tail: first,
            granted: limit,
            limit,
            staged: 0,
            bytes_next: 0,
            bytes_tail: 0,
            bytes_released: 0,
            core,
            _not_sync: PhantomData,
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core<E>> {
        &self.core
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u64 {
        self.core.slots.capacity()
    }

    /// The next sequence to be published.
    pub fn sequence(&self) -> u64 {
        self.tail
    }

    /// Whether one of the ends is closed, so that every further claim is refused.
    pub fn is_closed(&self) -> bool {
        self.core.refuses_claims()
    }

    /// Closes the ring: further claims are refused, what is published can still be consumed.
    pub fn close(&mut self) {
        self.core.close();
    }

    /// Events that are published and not released. Looks at the consumer's cursor.
    pub fn depth(&mut self) -> u64 {
        self.tail.wrapping_sub(self.core.released_sequence())
    }

    /// Whether the consumer has released everything that was published.
    pub fn is_drained(&mut self) -> bool {
        self.depth() == 0
    }

    /// Claims the next slot. Never waits.
    ///
    /// # Errors
    /// [`ClaimError::SlotsFull`] or [`ClaimError::Closed`].
    #[inline(always)]
    pub fn try_claim(&mut self) -> Result<Claim<'_, E>, ClaimError> {
        self.claim_or(0, |ring| ring.room_slow(0))
    }

    /// Claims the next slot with at most `bytes` bytes of payload. Never waits.
    ///
    /// # Errors
    /// [`ClaimError`]; a payload of more than half the payload ring is `TooLarge`.
    #[inline]
    pub fn try_claim_bytes(&mut self, bytes: usize) -> Result<Claim<'_, E>, ClaimError> {
        self.claim_or(bytes, |ring| ring.room_slow(bytes))
    }

    /// Claims the next slot. Where the cached cursor grants none, calls `find_room`, which looks for room by
    /// [`Self::room_slow`] as often as it likes; the claim goes on if it returns `Ok`.
    #[inline(always)]
    pub(crate) fn claim_or<X>(
        &mut self,
        bytes: usize,
        mut find_room: impl FnMut(&mut Self) -> Result<(), X>,
    ) -> Result<Claim<'_, E>, X> {
        loop {
            if let Some(position) = self.seek(bytes) {
                let sequence = self.tail;
                self.slots.at(sequence.wrapping_add(PREFETCH_SLOTS)).prefetch_write();
                return Ok(Claim {
                    slot: self.slots.at(sequence),
                    sequence,
                    position,
                    bytes,
                    producer: self,
                });
            }
            find_room(self)?;
        }
    }

    /// Where the payload of a claim at `tail` starts; `None` if the cached cursor does not grant the claim.
    #[inline(always)]
    fn seek(&mut self, bytes: usize) -> Option<u64> {
        if self.tail == self.granted || self.core.refuses_claims() {
            return None;
        }
        if bytes == 0 {
            return Some(self.bytes_next);
        }
        let position = self.core.bytes.place(self.bytes_next, bytes as u64);
        if bytes > self.core.bytes.payload_max() || !self.bytes_fit(position, bytes) {
            return None;
        }
        self.core.bytes.prefetch_write(position, bytes as u64);
        Some(position)
    }

    /// Whether a claim of this many payload bytes would be granted now, after a look at the consumer's line.
    ///
    /// A stage that was given to `mem::forget` left its events behind; they are forgotten here. Otherwise nothing is
    /// staged, since a stage borrows the producer.
    #[cold]
    #[inline(never)]
    pub(crate) fn room_slow(&mut self, bytes: usize) -> Result<(), ClaimError> {
        self.abort_staged();
        self.slot_ready()?;
        self.bytes_ready(bytes).map(|_| ())
    }

    /// Claims the next slot after what is staged, to be staged itself ([`Claim::stage_len`]).
    #[inline]
    pub(crate) fn claim_staged(&mut self, bytes: usize) -> Result<Claim<'_, E>, ClaimError> {
        self.slot_ready()?;
        let position = self.bytes_ready(bytes)?;
        Ok(self.claim_at(self.tail.wrapping_add(self.staged), position, bytes))
    }

    /// The claim of a slot that is free, with payload bytes that are; asks for the slot some way ahead.
    #[inline(always)]
    fn claim_at(&mut self, sequence: u64, position: u64, bytes: usize) -> Claim<'_, E> {
        self.slots.at(sequence.wrapping_add(PREFETCH_SLOTS)).prefetch_write();
        Claim { slot: self.slots.at(sequence), sequence, position, bytes, producer: self }
    }

    /// The consumer's cursor as last seen.
    pub(crate) fn released_seen(&self) -> u64 {
        self.limit.wrapping_sub(self.slots.capacity())
    }

    /// How many events are staged.
    pub(crate) fn staged(&self) -> u64 {
        self.staged
    }

    /// Publishes what is staged; returns how many events that were.
    pub(crate) fn publish_staged(&mut self) -> u64 {
        let staged = self.staged;
        // From the last to the first: the consumer waits for the first, so it sees all of them or none.
        for i in (0..staged).rev() {
            let sequence = self.tail.wrapping_add(i);
            self.slots.at(sequence).publish(sequence);
        }
        self.tail = self.tail.wrapping_add(staged);
        self.bytes_tail = self.bytes_next;
        self.staged = 0;
        self.granted = self.limit;
        staged
    }

    /// Forgets what is staged; returns how many events that were.
    pub(crate) fn abort_staged(&mut self) -> u64 {
        self.bytes_next = self.bytes_tail;
        self.granted = self.limit;
        std::mem::take(&mut self.staged)
    }

    /// Finds a free slot after what is staged.
    #[inline]
    fn slot_ready(&mut self) -> Result<(), ClaimError> {
        // Checked before the room: a closed ring refuses with `Closed`, whether it is full or not.
        if self.core.refuses_claims() {
            return Err(ClaimError::Closed);
        }
        let next = self.tail.wrapping_add(self.staged);
        // Possibly full, going by what was last seen?
        if next == self.limit {
            self.look_at_released();
            // Really full?
            if next == self.limit {
                return Err(ClaimError::SlotsFull);
            }
        }
        Ok(())
    }

    /// Finds room for `n` contiguous bytes; returns its position.
    #[inline]
    fn bytes_ready(&mut self, n: usize) -> Result<u64, ClaimError> {
        let max = self.core.bytes.payload_max();
        if n > max {
            return Err(ClaimError::TooLarge { asked: n, limit: max });
        }
        if n == 0 {
            return Ok(self.bytes_next);
        }
        let position = self.core.bytes.place(self.bytes_next, n as u64);
        // Possibly full, and after a second look really full?
        if !self.bytes_fit(position, n) {
            // In either order: a producer that waits looks once more after its announcement, and then sees the bytes
            // of the sequence that it waits on.
            self.look_at_released();
            self.bytes_released = self.core.released_bytes();
            if !self.bytes_fit(position, n) {
                return Err(ClaimError::BytesFull);
            }
        }
        Ok(position)
    }

    #[inline(always)]
    fn bytes_fit(&self, position: u64, n: usize) -> bool {
        let end = position.wrapping_add(n as u64);
        end.wrapping_sub(self.bytes_released) <= self.core.bytes.len()
    }

    #[cold]
    fn look_at_released(&mut self) {
        self.limit = self.core.released_sequence().wrapping_add(self.slots.capacity());
        self.granted = if self.staged == 0 { self.limit } else { self.tail };
    }
}

impl<E> Drop for Producer<E> {
    fn drop(&mut self) {
        self.core.close();
    }
}

/// A claimed slot: the right to write one event in place, for as long as the guard lives.
///
/// It derefs to the event, which holds what an older event left there. Dropping it, or forgetting it, publishes
/// nothing.
///
/// ```
/// use pelton::ring::{Shape, ring};
/// let (mut tx, mut rx) = ring(Shape { payload_bytes: 64, ..Shape::slots(2) }, || 0u64)?;
/// let mut claim = tx.try_claim_bytes(16)?;
/// claim.set_key(7);
/// let (event, bytes) = claim.parts_mut();
/// *event = 42;
/// bytes[..5].copy_from_slice(b"hello");
/// claim.publish_len(5);
/// drop(tx.try_claim()?);          // publishes nothing
/// let mut batch = rx.batch(2);
/// assert_eq!(batch.next().unwrap().payload(), b"hello");
/// assert!(batch.next().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a claim that is dropped publishes nothing"]
pub struct Claim<'a, E> {
    producer: &'a mut Producer<E>,
    slot: Slot<E>,
    sequence: u64,
    position: u64,
    bytes: usize,
}

impl<E> std::fmt::Debug for Claim<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim")
            .field("sequence", &self.sequence)
            .field("payload_bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<E> Claim<'_, E> {
    /// The sequence that the event will have.
    #[inline(always)]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether one of the ring's ends has been closed.
    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.producer.core.is_closed()
    }

    /// Sets the event's key. Without it the slot keeps the key of an older event.
    #[inline(always)]
    pub fn set_key(&mut self, key: u64) {
        // SAFETY: the slot is claimed, and `&mut self` makes this the only access. Model: `publish_and_release`.
        unsafe { self.slot.key().write(key) }
    }

    /// Sets the event's stamp, where the ring is stamped; otherwise does nothing.
    #[inline(always)]
    pub fn set_stamp(&mut self, ticks: u64) {
        if let Some(stamp) = self.producer.slots.stamp(self.slot) {
            // SAFETY: as for the key.
            unsafe { stamp.write(ticks) }
        }
    }

    /// The claimed payload bytes; empty where none were claimed. They hold what older payloads left there.
    #[inline(always)]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        if self.bytes == 0 {
            return &mut [];
        }
        let bytes = &self.producer.core.bytes;
        // SAFETY: `bytes_ready` found these bytes released, nothing that is staged or published holds them, and
        // `&mut self` makes this the only reference. Model: `payload_wraps_without_overlap`.
        unsafe { &mut *bytes.slice(bytes.span(self.position, self.bytes)) }
    }

    /// The event and the claimed payload bytes at once.
    #[inline(always)]
    pub fn parts_mut(&mut self) -> (&mut E, &mut [u8]) {
        let event = self.producer.slots.event(self.slot);
        let payload = self.payload_mut();
        // SAFETY: as for `deref_mut`; the payload lies in another part of the region than the slot.
        (unsafe { &mut *event }, payload)
    }

    /// Publishes the event with all claimed payload bytes.
    #[inline(always)]
    pub fn publish(self) {
        let used = self.bytes;
        self.publish_len(used);
    }

    /// Publishes the event with the first `used` of the claimed payload bytes; the others are given back.
    ///
    /// # Panics
    /// If `used` is more than was claimed; nothing is published then.
    #[inline(always)]
    pub fn publish_len(mut self, used: usize) {
        self.seal(used);
        let Claim { producer, slot, sequence, bytes, .. } = self;
        producer.tail = sequence.wrapping_add(1);
        if bytes > 0 {
            producer.bytes_tail = producer.bytes_next;
        }
        slot.publish(sequence);
    }

    /// Writes the event down as staged, with the first `used` payload bytes, and keeps it back.
    pub(crate) fn stage_len(mut self, used: usize) {
        self.seal(used);
        let producer = self.producer;
        producer.staged += 1;
        producer.granted = producer.tail;
    }

    /// Writes the payload descriptor, and takes the used bytes.
    #[inline(always)]
    fn seal(&mut self, used: usize) {
        assert!(used <= self.bytes, "{used} payload bytes were used, but only {} claimed", self.bytes);
        if let Some(span) = self.producer.slots.span(self.slot) {
            let producer = &mut *self.producer;
            // No skip before an empty payload: the position stays where the last payload ended.
            let start = if used == 0 { producer.bytes_next } else { self.position };
            producer.bytes_next = start.wrapping_add(used as u64);
            // SAFETY: the slot is the producer's until its word is stored, and `&mut self` makes this the only
            // access. Model: `payload_wraps_without_overlap`.
            unsafe { span.write(producer.core.bytes.span(start, used)) }
        }
    }
}

impl<E> Deref for Claim<'_, E> {
    type Target = E;
    #[inline(always)]
    fn deref(&self) -> &E {
        // SAFETY: the slot is claimed: it is the producer's, and this guard the only way to it. Model:
        // `publish_and_release`.
        unsafe { &*self.producer.slots.event(self.slot) }
    }
}

impl<E> DerefMut for Claim<'_, E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut E {
        // SAFETY: as for `deref`, and `&mut self` makes the reference unique.
        unsafe { &mut *self.producer.slots.event(self.slot) }
    }
}
