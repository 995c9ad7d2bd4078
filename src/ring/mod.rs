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
//! 3. The consumer sees a prefix of what was claimed. It waits for the word of one sequence after the other; single events
//!    store theirs in order, a stage from its last to its first, so a stage shows whole or not at all.
//! 4. A claim that is not published changes nothing but the contents of a slot that was the producer's anyway: it makes no
//!    difference whether it is dropped, forgotten, or unwound by a panic.
//! 5. Payload bytes are claimed and given back in the order of the slots (`payload`).
//!
//! # What it does not do
//! It does not wait, count, route or measure time: the floors above do. It cannot be cloned: a second producer gets a
//! ring of its own.
#![allow(unsafe_code, reason = "slots are read and written in place")]

pub(crate) mod payload;
pub(crate) mod slots;
pub(crate) mod shape;
mod core;
mod producer;
mod stage;
mod consumer;

#[cfg(all(test, pelton_loom))]
mod models;

pub(crate) use core::{Core, core_bytes};
pub(crate) use shape::nearest_power;
pub use slots::event_layout;

pub use consumer::{Batch, Consumer, Item};
pub use producer::{Claim, Producer};
pub use shape::{ClaimError, Shape, ShapeError};
pub use stage::Stage;

use crate::memory::region::Builder;
use crate::sync::Arc;
use payload::Bytes;
use slots::Slots;

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
    let mut region = Builder::new(shape.slots_need(event_layout::<E>()) + shape.payload_need())?;
    ring_in(shape, &mut region, make)
}

/// Makes a ring in a region that has room for it.
pub(crate) fn ring_in<E: Send + 'static>(
    shape: Shape,
    region: &mut Builder,
    make: impl FnMut() -> E,
) -> Result<(Producer<E>, Consumer<E>), ShapeError> {
    shape.check()?;
    let layout = shape.slot_layout(event_layout::<E>());
    let slots = Slots::fill(
        region.cut(layout.array(shape.capacity))?,
        layout,
        shape.capacity,
        shape.first_sequence,
        make,
    );
    let bytes =
        Bytes::new(region.cut(Bytes::layout(shape.payload_bytes))?, shape.payload_bytes, shape.payload_max());
    let core = Arc::new(Core::new(slots, bytes, shape.first_sequence));
    Ok((Producer::new(core.clone(), shape.first_sequence), Consumer::new(core, shape.first_sequence)))
}
