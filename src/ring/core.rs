//! What the two halves of a ring share: the slots, the payload bytes, the released cursor, and whether it is closed.

use super::payload::Bytes;
use super::slots::Slots;
use crate::memory::footprint::arc_bytes;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

/// What both halves share.
pub(crate) struct Core<E> {
    pub(super) slots: Slots<E>,
    pub(super) bytes: Bytes,
    /// Written when an end closes; read at every claim, from a line that is not written before.
    closed: CachePadded<AtomicBool>,
    released: CachePadded<Released>,
}

/// The consumer's line: written by it alone, read by the producer when its ring seems full.
struct Released {
    /// Sequences below it are the producer's again.
    sequence: AtomicU64,
    /// Payload bytes below it are the producer's again. On the same line, so that it costs no further miss.
    bytes: AtomicU64,
}

/// Bytes of the part of a ring that lies outside the region: its cursors.
pub(crate) const fn core_bytes<E>() -> usize {
    arc_bytes::<Core<E>>()
}

impl<E> Core<E> {
    pub(super) fn new(slots: Slots<E>, bytes: Bytes, first_sequence: u64) -> Self {
        Core {
            slots,
            bytes,
            closed: CachePadded::new(AtomicBool::new(false)),
            released: CachePadded::new(Released {
                sequence: AtomicU64::new(first_sequence),
                bytes: AtomicU64::new(0),
            }),
        }
    }

    /// Published slots that are not released, counted one by one. Exact while the ring is at rest; otherwise a
    /// figure that was true of each slot at some moment of the call.
    pub fn in_flight(&self) -> u64 {
        let first = self.released_sequence();
        let slots = self.slots.view();
        let published = |i: &u64| slots.at(first.wrapping_add(*i)).is_published(first.wrapping_add(*i));
        (0..slots.capacity()).take_while(published).count() as u64
    }

    /// Refuses every claim from now on. What is published can still be consumed.
    pub fn close(&self) {
        // SYNC: closed (Release); pairs with `Core::is_closed`.
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the ring is closed, for the consumer. If the producer closed it, every event that the producer
    /// published before is visible to a look that follows this one.
    pub fn is_closed(&self) -> bool {
        // SYNC: closed (Acquire); pairs with `Core::close`.
        self.closed.load(Ordering::Acquire)
    }

    /// Whether the ring is closed, for the producer. Relaxed: the flag is the whole message, and a claim that misses
    /// it is like one that came before it.
    #[inline(always)]
    pub(super) fn refuses_claims(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The consumer's released cursor.
    pub fn released_sequence(&self) -> u64 {
        // SYNC: release (Acquire); pairs with `Consumer::release`.
        self.released.sequence.load(Ordering::Acquire)
    }

    pub(super) fn released_bytes(&self) -> u64 {
        // SYNC: release (Acquire); pairs with `Consumer::release`. It may be newer than a sequence that was read
        // before, hence an Acquire of its own.
        self.released.bytes.load(Ordering::Acquire)
    }

    pub(super) fn release(&self, sequence: u64, bytes: u64) {
        // SYNC: release (Release); pairs with `released_bytes` and `released_sequence`.
        // The bytes first: a producer that waits for bytes sleeps until a sequence after the one that it has seen is
        // released. If it saw the new sequence with the old bytes, it would wait for a release that never comes.
        self.released.bytes.store(bytes, Ordering::Release);
        self.released.sequence.store(sequence, Ordering::Release);
    }
}
