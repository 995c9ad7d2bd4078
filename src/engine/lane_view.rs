//! A lane as the control plane sees it.

use crate::lane::{LaneId, LaneProducer, LaneShared};
use crate::ledger::LaneCounts;
use crate::ring;
use crate::sync::Arc;

/// A lane as the control plane sees it: it may count and close, nothing else.
pub(super) struct LaneView<E> {
    shared: Arc<LaneShared>,
    ring: Arc<ring::Core<E>>,
}

impl<E> LaneView<E> {
    pub fn of(lane: &LaneProducer<E>) -> Self {
        LaneView { shared: lane.shared().clone(), ring: lane.core().clone() }
    }

    pub fn id(&self) -> LaneId {
        self.shared.id
    }

    pub fn counts(&self) -> LaneCounts {
        let LaneId { producer, shard, class } = self.shared.id;
        LaneCounts { producer, shard, class, counts: self.shared.ledger.snapshot(|| self.ring.in_flight()) }
    }

    /// Whether no publish is under way.
    pub fn is_settled(&self) -> bool {
        self.shared.ledger.snapshot(|| 0).is_settled()
    }

    /// Accepted events that have left the lane, and accepted events; in this order, so that equality means quiet.
    pub fn done(&self) -> u64 {
        self.shared.ledger.snapshot(|| 0).done()
    }

    pub fn accepted(&self) -> u64 {
        self.shared.ledger.producer.accepted.get()
    }

    pub fn close(&self) {
        self.ring.close();
        self.shared.room.wake_closed();
    }

    pub fn room_rescues(&self) -> u64 {
        self.shared.room.rescues.get()
    }

    #[cfg(feature = "async")]
    pub fn waker_panics(&self) -> u64 {
        self.shared.room.task.panics()
    }
}

/// Whether every accepted event has left its lane. What left is summed up before what was accepted, and both only
/// grow: if they are equal, nothing was in any lane at the moment between the two sums.
pub(super) fn are_empty<E>(lanes: &[LaneView<E>]) -> bool {
    let done: u64 = lanes.iter().map(LaneView::done).sum();
    let accepted: u64 = lanes.iter().map(LaneView::accepted).sum();
    done == accepted
}
