//! What a lane is: which one, what its ends share, how it is made, and how it refuses.

use crate::class::{Class, ClassId};
use crate::clock::Clock;
use crate::event::{Outcome, ProducerId, Rejection, ShardId};
use crate::ledger::LaneLedger;
use crate::park::{Doorbell, RoomWait};
use crate::ring::Shape;
use crate::sync::{Arc, forks};
use std::error::Error;
use std::fmt;

/// Which lane: its producer, its shard and its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneId {
    /// Who writes it.
    pub producer: ProducerId,
    /// Who reads it.
    pub shard: ShardId,
    /// The class of its events.
    pub class: ClassId,
}

/// Why an event was not accepted, and where.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishError {
    /// The reason, as the ledger has it.
    pub reason: Rejection,
    /// The lane. Its shard is the one that was asked for where there is no such shard.
    pub lane: LaneId,
    /// The lane's capacity in slots.
    pub capacity: u64,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PublishError { reason, lane, capacity } = self;
        let (shard, class, reason) = (lane.shard, lane.class.index(), reason.name());
        write!(f, "{shard} of class {class}: rejected ({reason}); lane capacity {capacity}")
    }
}

impl Error for PublishError {}

/// Why [`ClaimRequest::poll_acquire`](super::ClaimRequest::poll_acquire) returned no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryClaimError {
    /// The lane is full, and its class blocks: the producer has to wait. Nothing is counted yet.
    WouldBlock,
    /// The event was refused, and the ledger counts it.
    Refused(PublishError),
}

impl fmt::Display for TryClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("the lane is full, and its class waits for room"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl Error for TryClaimError {}

impl From<PublishError> for TryClaimError {
    fn from(error: PublishError) -> Self {
        TryClaimError::Refused(error)
    }
}

impl PublishError {
    /// Whether there was no room: no free slot, too few free payload bytes, or none of them in time.
    ///
    /// ```
    /// use pelton::{Class, lane::lane};
    /// let (mut tx, _rx) = lane(&Class::strict("only").with_capacity(1).reject(), || 0u64)?;
    /// tx.publish(7, |event| *event = 1).unwrap();
    /// assert!(tx.publish(7, |event| *event = 2).unwrap_err().is_full());
    /// # Ok::<(), pelton::ring::ShapeError>(())
    /// ```
    pub fn is_full(&self) -> bool {
        use Rejection::{BytesFull, DroppedNewest, OnShardThread, SlotsFull, TimedOut};
        matches!(self.reason, SlotsFull | BytesFull | TimedOut | DroppedNewest | OnShardThread)
    }

    /// Whether the engine, the shard or the lane is closed: no later attempt can succeed.
    ///
    /// ```
    /// use pelton::{Class, lane::lane};
    /// let (mut tx, rx) = lane(&Class::strict("only").with_capacity(8).block(), || 0u64)?;
    /// drop(rx);
    /// assert!(tx.publish(7, |event| *event = 1).unwrap_err().is_closed());
    /// # Ok::<(), pelton::ring::ShapeError>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        matches!(self.reason, Rejection::Closed | Rejection::Forked)
    }

    /// What a policy that drops makes of the refusal: no error.
    #[inline]
    pub(crate) fn or_dropped(self) -> Result<Outcome, PublishError> {
        if self.reason == Rejection::DroppedNewest { Ok(Outcome::Dropped) } else { Err(self) }
    }
}

/// What both ends and the control plane share of a lane.
pub(crate) struct LaneShared {
    pub id: LaneId,
    pub capacity: u64,
    /// The process that made the lane, by its count of forks. In a child of it no thread reads the lane.
    pub forks: u32,
    pub ledger: LaneLedger,
    pub room: RoomWait,
}

impl LaneShared {
    /// The refusal of this lane for its being closed, from which others are made.
    pub fn closed(&self) -> PublishError {
        PublishError { reason: Rejection::Closed, lane: self.id, capacity: self.capacity }
    }

    /// Whether this is a child of the process in which the lane's shard runs.
    pub fn is_forked(&self) -> bool {
        forks::count() != self.forks
    }
}

/// How a lane is made: by the engine's plan, or by [`lane`].
pub(crate) struct LaneSpec<'a> {
    pub id: LaneId,
    pub class: &'a Class,
    pub clock: &'a Clock,
    pub door: &'a Arc<Doorbell>,
}

/// The shape of the lanes of a class.
pub(crate) fn shape_of(class: &Class) -> Shape {
    Shape {
        capacity: class.capacity,
        payload_bytes: class.payload_bytes,
        payload_max: class.payload_max,
        stamped: class.is_stamped(),
        first_sequence: 0,
    }
}
