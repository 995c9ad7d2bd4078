//! The ring: one producer, one consumer, publication in the slot.
//!
//! # Mechanism
//! A ring has a power of two of slots. Events are numbered by half-open `u64` *sequences* that only ever grow (and
//! wrap); sequence `s` lives in slot `s mod capacity`. Each slot starts with a *sequence word*:
//!
//! ```text
//!   slot of sequence s     word == s + 1  (or what an older lap left)     word == s + 1 after publish
//!   ┌──────────┬─────┬────────┬───────────┬─────────┐
//!   │ sequence │ key │ stamp? │ payload?  │ event E │   one or more whole cache lines
//!   └──────────┴─────┴────────┴───────────┴─────────┘
//!   producer: claim ─▶ write in place ─▶ store word = s + 1 (Release)          SYNC: publish
//!   consumer: load word == s + 1 (Acquire) ─▶ handle in place ─▶ next          SYNC: publish
//!   consumer: store released cursor (Release), now and then                    SYNC: release
//!   producer: load released cursor (Acquire), only when the ring seems full    SYNC: release
//! ```
//!
//! There is no tail cursor that both sides touch. From producer to consumer an event moves exactly the cache lines
//! that it fills, and a nearly empty ring does not make the two sides fight over a line that carries no event.
//!
//! # Invariants
//! 1. A slot is the producer's from the moment the released cursor passes its old sequence until its word is stored,
//!    and the consumer's from then until the released cursor passes it again. Never both.
//! 2. Slots are always initialised: a factory fills them before the first event, and a claim hands out the old value.
//!    There is no uninitialised memory, and nothing is dropped by the ring before the ring itself is.
//! 3. Words are stored in order, so the consumer sees a prefix of what was claimed.
//! 4. A claim that is not published changes nothing but the contents of a slot that was the producer's anyway: to
//!    drop it, to panic while writing and to forget it are all the same.
//! 5. Payload bytes are claimed and given back in the order of the slots ([`payload`]).
//!
//! # What it does not do
//! It does not wait, count, route or time: that is the business of the floors above. It cannot be cloned: a second
//! producer gets a ring of its own.

mod consumer;
pub(crate) mod payload;
mod producer;
pub(crate) mod slots;

#[cfg(all(test, loom))]
mod models;

pub use consumer::{Batch, Consumer, Item};
pub use producer::{Claim, Producer, Stage};

use crate::class::{CAPACITY_MAX, PAYLOAD_BYTES_MAX};
use crate::event::Rejection;
use crate::memory::region::{Builder, MemoryRefused, need};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use payload::Bytes;
use slots::{SlotLayout, Slots};

/// The shape of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Slots: a power of two, 1 to 2^26.
    pub capacity: u32,
    /// Bytes of the payload ring: 0 or a power of two, 64 to 2^30.
    pub payload_bytes: u32,
    /// Whether slots carry a stamp.
    pub stamped: bool,
    /// The first sequence; 0 unless a test wants to be near a wrap.
    pub first_sequence: u64,
}

impl Shape {
    /// A ring of this many slots, without payloads and stamps.
    pub fn slots(capacity: u32) -> Self {
        Shape { capacity, payload_bytes: 0, stamped: false, first_sequence: 0 }
    }
}

/// Why a ring cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The capacity is no power of two, or out of range.
    #[error(
        "capacity is {0}, but must be a power of two from 1 to {CAPACITY_MAX}; {near} would work",
        near = nearest_power(*.0, CAPACITY_MAX)
    )]
    Capacity(u32),
    /// The payload ring's size is no power of two, or out of range.
    #[error(
        "payload_bytes is {0}, but must be 0 or a power of two from 64 to {PAYLOAD_BYTES_MAX}; {near} would work",
        near = nearest_power((*.0).max(64), PAYLOAD_BYTES_MAX)
    )]
    PayloadBytes(u32),
    /// The system refused the memory.
    #[error(transparent)]
    Memory(#[from] MemoryRefused),
}

/// The power of two at or above `n`, within 1 to `max`: the value that an error proposes.
pub(crate) fn nearest_power(n: u32, max: u32) -> u32 {
    n.clamp(1, max).next_power_of_two().min(max)
}

impl Shape {
    pub(crate) fn check(&self) -> Result<(), ShapeError> {
        if !self.capacity.is_power_of_two() || self.capacity > CAPACITY_MAX {
            return Err(ShapeError::Capacity(self.capacity));
        }
        let bytes = self.payload_bytes;
        if bytes != 0 && (!bytes.is_power_of_two() || !(64..=PAYLOAD_BYTES_MAX).contains(&bytes)) {
            return Err(ShapeError::PayloadBytes(bytes));
        }
        Ok(())
    }

    fn slot_layout<E>(&self) -> SlotLayout {
        SlotLayout::of::<E>(self.stamped, self.payload_bytes > 0)
    }

    /// Bytes of one slot.
    pub(crate) fn slot_bytes<E>(&self) -> usize {
        self.slot_layout::<E>().stride
    }

    /// Bytes that the slots take of their region.
    pub(crate) fn slots_need<E>(&self) -> usize {
        need(self.slot_layout::<E>().array(self.capacity))
    }

    /// Bytes that the payload ring takes of its region.
    pub(crate) fn payload_need(&self) -> usize {
        need(Bytes::layout(self.payload_bytes))
    }
}

/// What both halves share.
pub(crate) struct Core<E> {
    slots: Slots<E>,
    bytes: Bytes,
    /// Written once, when either end closes; read at every claim, from a line that nobody writes.
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
    // Two words in front: the counts of the `Arc`.
    (size_of::<Core<E>>() + 2 * size_of::<usize>()).next_multiple_of(align_of::<Core<E>>())
}

impl<E> Core<E> {
    /// Published slots that are not released, counted one by one. Exact while the ring is at rest; otherwise a
    /// figure that was true of each slot at some moment of the call.
    pub fn in_flight(&self) -> u64 {
        let first = self.released_sequence();
        let slots = self.slots.view();
        let published = |i: &u64| slots.at(first.wrapping_add(*i)).is_published(first.wrapping_add(*i));
        (0..slots.capacity()).take_while(published).count() as u64
    }

    /// From now on every claim is refused. Whatever is published can still be consumed.
    pub fn close(&self) {
        // Relaxed would do for the flag itself; a stop that waits for blocked producers adds its own fence.
        self.closed.store(true, Ordering::Release);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Where the consumer is known to be.
    pub fn released_sequence(&self) -> u64 {
        // SYNC: release (Acquire); pairs with `Consumer::release`.
        self.released.sequence.load(Ordering::Acquire)
    }

    fn released_bytes(&self) -> u64 {
        // SYNC: release (Acquire); pairs with `Consumer::release`. It may be newer than a sequence that was read
        // before, hence an Acquire of its own.
        self.released.bytes.load(Ordering::Acquire)
    }

    fn release(&self, sequence: u64, bytes: u64) {
        // SYNC: release (Release); pairs with `released_bytes` and `released_sequence`.
        self.released.bytes.store(bytes, Ordering::Release);
        self.released.sequence.store(sequence, Ordering::Release);
    }
}

/// Makes a ring in memory of its own. `make` fills the slots, in order, on this thread.
///
/// # Errors
/// [`ShapeError`] names the setting, its value and one that would work.
///
/// # Examples
/// ```
/// use pelton::ring::{Shape, ring};
/// let (mut tx, mut rx) = ring(Shape::slots(8), || 0u64)?;
/// let mut claim = tx.try_claim().unwrap();
/// *claim = 42;
/// claim.publish();
/// let mut batch = rx.batch(64);
/// assert_eq!(*batch.next().unwrap(), 42);
/// assert!(batch.next().is_none());
/// # Ok::<(), pelton::ring::ShapeError>(())
/// ```
pub fn ring<E: Send + 'static>(
    shape: Shape,
    make: impl FnMut() -> E,
) -> Result<(Producer<E>, Consumer<E>), ShapeError> {
    shape.check()?;
    let mut region = Builder::new(shape.slots_need::<E>() + shape.payload_need())?;
    ring_in(shape, &mut region, make)
}

/// Makes a ring in a region that has room for it.
pub(crate) fn ring_in<E: Send + 'static>(
    shape: Shape,
    region: &mut Builder,
    make: impl FnMut() -> E,
) -> Result<(Producer<E>, Consumer<E>), ShapeError> {
    shape.check()?;
    let layout = shape.slot_layout::<E>();
    let slots = Slots::fill(region.cut(layout.array(shape.capacity))?, layout, &shape, make);
    let bytes = Bytes::new(region.cut(Bytes::layout(shape.payload_bytes))?, shape.payload_bytes);
    let core = Arc::new(Core {
        slots,
        bytes,
        closed: CachePadded::new(AtomicBool::new(false)),
        released: CachePadded::new(Released {
            sequence: AtomicU64::new(shape.first_sequence),
            bytes: AtomicU64::new(0),
        }),
    });
    Ok((Producer::new(core.clone(), shape.first_sequence), Consumer::new(core, shape.first_sequence)))
}

/// Why a claim was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No slot is free.
    #[error("all slots hold events that are not released yet")]
    SlotsFull,
    /// A slot is free, but not enough contiguous payload bytes.
    #[error("not enough contiguous payload bytes are free")]
    BytesFull,
    /// More than half of the payload ring was asked for.
    #[error("a payload of {asked} bytes is larger than the limit of {limit} (half of the payload ring)")]
    TooLarge {
        /// Bytes asked for.
        asked: usize,
        /// The most that a claim may ask for.
        limit: usize,
    },
    /// One of the two ends is closed.
    #[error("the ring is closed")]
    Closed,
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::SlotsFull => Rejection::SlotsFull,
            Refused::BytesFull => Rejection::BytesFull,
            Refused::TooLarge { .. } => Rejection::TooLarge,
            Refused::Closed => Rejection::Closed,
        }
    }
}
