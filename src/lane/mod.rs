//! The lane: a ring with a policy and a ledger. One lane for each (producer, shard, class).
//!
//! # Mechanism
//! The producer's end claims a slot in the ring. If the ring refuses, it acts by the policy of the class: it waits,
//! returns a refusal, or drops the event. Each outcome goes into the ledger exactly once, when it is known. After a
//! publish the producer rings the doorbell of its lane set, which is one load while the shard looks at that set.
//!
//! The consumer's end gives out one event at a time and counts its outcome.
//!
//! # Invariants
//! - A lane has one producer, which no other producer can delay.
//! - `offered` is counted with the outcome: a claim that is dropped was never offered, it is `aborted`.
//! - A producer that waits is released by room, by its limit, or by the closing of the lane.
//!
//! An engine is made of lanes; [`lane`] makes one alone, for a pair of threads that need nothing else.

mod spec;
mod side;
mod claim;
mod request;
mod producer;
#[cfg(feature = "async")]
mod waiting;
mod send_error;
mod consumer;

#[cfg(all(test, pelton_loom))]
mod models;

pub use claim::LaneClaim;
pub(crate) use claim::{write, write_bytes};
pub use consumer::LaneConsumer;
use consumer::Retry;
pub(crate) use consumer::{Blocked, Head};
pub use producer::LaneProducer;
pub use request::ClaimRequest;
pub use send_error::SendError;
use side::LaneSide;
pub use spec::{LaneId, PublishError, TryClaimError};
pub(crate) use spec::{LaneShared, LaneSpec, shape_of};
#[cfg(feature = "async")]
pub(crate) use waiting::{Waiting, WhenClaimed};

use crate::class::{Class, ClassId, Stamp};
use crate::clock::{Clock, VirtualState};
use crate::event::{ProducerId, ShardId};
use crate::ledger::LaneLedger;
use crate::memory::footprint::arc_bytes;
use crate::memory::region::{Builder, REGION_BYTES, region_slack};
use crate::park::{Doorbell, RoomWait, ShardWaker};
use crate::ring::{self, Shape, ShapeError};
use crate::sync::{Arc, forks};
use std::alloc::Layout;

/// Bytes of a lane outside its region: its two ends, cursors, ledger, waiting place.
/// Whatever its events are: it holds pointers to them.
pub(crate) const fn lane_bytes() -> usize {
    lane_bytes_for::<()>()
}

const fn lane_bytes_for<E>() -> usize {
    size_of::<LaneProducer<E>>()
        + size_of::<LaneConsumer<E>>()
        + ring::core_bytes::<E>()
        + arc_bytes::<LaneShared>()
}

const _: () = assert!(lane_bytes() == lane_bytes_for::<[u128; 9]>());

impl LaneSpec<'_> {
    /// Makes the lane in a region that has room for it.
    pub fn build<E: Send + 'static>(
        &self,
        shape: Shape,
        region: &mut Builder,
        make: impl FnMut() -> E,
    ) -> Result<(LaneProducer<E>, LaneConsumer<E>), ShapeError> {
        let (tx, rx) = ring::ring_in(shape, region, make)?;
        let shared = Arc::new(LaneShared {
            id: self.id,
            capacity: u64::from(shape.capacity),
            forks: forks::count(),
            ledger: LaneLedger::default(),
            room: RoomWait::new(self.clock),
        });
        let side = LaneSide {
            shared: shared.clone(),
            door: self.door.clone(),
            clock: self.clock.clone(),
            stamped: self.class.stamped(),
            overflow: self.class.overflow,
        };
        let producer = LaneProducer { ring: tx, side };
        let waker = self.door.waker().clone();
        Ok((producer, LaneConsumer { ring: rx, shared, waker, room_wanted: false, retry: Retry::default() }))
    }
}

/// Bytes of the region of a lane of its own.
fn region_need<E>(shape: &Shape) -> usize {
    shape.slots_need(ring::event_layout::<E>()).saturating_add(shape.payload_need())
}

/// Bytes of one slot of the lanes of a class, for an event of this layout: its sequence, its key, a stamp and a payload's
/// descriptor where the class has them, and the event, in whole cache lines.
///
/// # Examples
/// ```
/// use pelton::{Class, lane::slot_bytes, ring::event_layout};
/// let class = Class::strict("only");
/// assert_eq!(slot_bytes(&class, event_layout::<[u64; 5]>()), 64);
/// assert_eq!(slot_bytes(&class.with_payload_bytes(1_024), event_layout::<[u64; 5]>()), 128);
/// ```
#[must_use]
pub fn slot_bytes(class: &Class, event: Layout) -> usize {
    shape_of(class).slot_bytes(event)
}

/// Bytes of memory that [`lane`] takes for a class: slots, payload ring, and what its two ends share. The ends
/// themselves are not in it: they are where you put them.
///
/// # Examples
/// ```
/// use pelton::{Class, lane::bytes_for};
/// let small = Class::strict("only").with_capacity(8);
/// assert!(bytes_for::<u64>(&small.clone().with_capacity(16)) >= bytes_for::<u64>(&small) + 8 * 64);
/// ```
#[must_use]
pub fn bytes_for<E>(class: &Class) -> u64 {
    let need = region_need::<E>(&shape_of(class));
    // Where nothing is stamped the clock is a virtual one.
    let clock = if class.is_stamped() { 0 } else { arc_bytes::<VirtualState>() };
    let shared = ring::core_bytes::<E>() + arc_bytes::<LaneShared>();
    let door = arc_bytes::<ShardWaker>() + arc_bytes::<Doorbell>();
    need.saturating_add(region_slack(need, false)).saturating_add(REGION_BYTES + shared + door + clock) as u64
}

/// Makes a lane of its own, for two threads. `class` sets its capacity, payload bytes, policy and stamps.
///
/// # Errors
/// [`ShapeError`] where capacity or payload bytes are out of range, or the memory is refused.
///
/// # Examples
/// ```
/// use pelton::{Class, lane::lane};
/// let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(8).reject(), || 0u64)?;
/// tx.publish(7, |event| *event = 42).unwrap();
/// assert_eq!(rx.poll(64, |event| assert_eq!((event.key(), **event), (7, 42))), 1);
/// assert!(rx.counts().is_closed());
/// # Ok::<(), pelton::ring::ShapeError>(())
/// ```
pub fn lane<E: Send + 'static>(
    class: &Class,
    make: impl FnMut() -> E,
) -> Result<(LaneProducer<E>, LaneConsumer<E>), ShapeError> {
    let shape = shape_of(class);
    shape.check()?;
    if let Stamp::OneIn(n) = class.stamp
        && !class.is_stamp_valid()
    {
        return Err(ShapeError::Stamp(n));
    }
    let mut region = Builder::new(region_need::<E>(&shape))?;
    let id = LaneId { producer: ProducerId(0), shard: ShardId(0), class: ClassId(0) };
    let clock = if class.is_stamped() { Clock::real() } else { Clock::virtual_time().0 };
    // The consumer polls when it likes: it is never woken.
    let door = Doorbell::awake(Arc::new(ShardWaker::new()));
    LaneSpec { id, class, clock: &clock, door: &Arc::new(door) }.build(shape, &mut region, make)
}
