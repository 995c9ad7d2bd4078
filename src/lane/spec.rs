//! What a lane is: which one, what its ends share, how it is made, and how it refuses.
#![forbid(unsafe_code)]

use crate::class::{Class, ClassId};
use crate::clock::Clock;
use crate::event::{Outcome, ProducerId, Rejection, ShardId};
use crate::ledger::LaneLedger;
use crate::ring::Shape;
use crate::sync::{Arc, forks};
use crate::wait::{Doorbell, RoomWait};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of class {}: rejected ({}); lane capacity {capacity}", lane.shard, lane.class.index(), reason.name())]
pub struct Refusal {
    /// The reason, as the ledger has it.
    pub reason: Rejection,
    /// The lane. Its shard is the one that was asked for where there is no such shard.
    pub lane: LaneId,
    /// The lane's capacity in slots.
    pub capacity: u64,
}

/// Why there is no claim: not yet, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclaimed {
    /// The lane is full, and its class blocks: its producer has to wait. Nothing is counted yet.
    #[error("the lane is full, and its class waits for room")]
    Waits,
    /// It is refused; the ledger has it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Refusal {
    /// What a policy that drops makes of the refusal: no error.
    #[inline]
    pub(crate) fn or_dropped(self) -> Result<Outcome, Refusal> {
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
    pub fn closed(&self) -> Refusal {
        Refusal { reason: Rejection::Closed, lane: self.id, capacity: self.capacity }
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
