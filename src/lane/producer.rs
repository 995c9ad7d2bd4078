//! The writing end of a lane: claims, publishes, and stages what a handler emits.

use super::claim::{LaneClaim, write};
use super::side::{LaneSide, Patience};
use super::spec::{LaneShared, PublishError, TryClaimError};
use crate::clock::Clock;
use crate::event::{Key, Outcome, Rejection};
#[cfg(all(test, pelton_loom))]
use crate::park::Doorbell;
use crate::ring;
use crate::sync::Arc;

/// The writing end of a lane.
// Whole lines, so that a look-up among many lanes is a shift, and no two share a line.
#[repr(align(64))]
pub struct LaneProducer<E> {
    pub(super) ring: ring::Producer<E>,
    pub(super) side: LaneSide,
}

impl<E> std::fmt::Debug for LaneProducer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneProducer").field("lane", &self.side.shared.id).finish_non_exhaustive()
    }
}

impl<E> LaneProducer<E> {
    pub(crate) fn core(&self) -> &Arc<ring::Core<E>> {
        self.ring.core()
    }

    pub(crate) fn shared(&self) -> &Arc<LaneShared> {
        &self.side.shared
    }

    #[cfg(all(test, pelton_loom))]
    pub(crate) fn door(&self) -> &Arc<Doorbell> {
        &self.side.door
    }

    /// Whether the lane takes no further events.
    pub(crate) fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Whether this is a child of the process in which the lane's shard runs.
    pub(crate) fn is_forked(&self) -> bool {
        self.side.shared.is_forked()
    }

    /// Whether everything that was published is released.
    pub(crate) fn is_drained(&mut self) -> bool {
        self.ring.is_drained()
    }

    /// Publishes an event, which `fill` writes in place. Blocks while the lane is full if the class
    /// [blocks](crate::Class::block).
    ///
    /// # Errors
    /// [`PublishError`]; `fill` was not called then. A class that drops the newest event returns
    /// [`Outcome::Dropped`] instead.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Outcome, lane::lane};
    /// let class = Class::strict("only").with_capacity(1).drop_newest();
    /// let (mut tx, mut rx) = lane(&class, || 0u64)?;
    /// assert_eq!(tx.publish(7, |event| *event = 42)?, Outcome::Accepted);
    /// assert_eq!(tx.publish(7, |event| *event = 43)?, Outcome::Dropped);
    /// assert_eq!(rx.poll(8, |event| assert_eq!(**event, 42)), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn publish(
        &mut self,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        write(self.claim_with(key.into(), 0, Patience::ByPolicy), |claim| fill(claim))
    }

    /// Claims without waiting, by the policy of the class.
    #[inline(always)]
    pub(super) fn poll_claim(&mut self, key: Key, payload: usize) -> Result<LaneClaim<'_, E>, TryClaimError> {
        self.claim_or(key, payload, |side, ring| side.find_room_now_slow(ring, payload))
    }

    /// Whether a claim of `bytes` has to wait for room, or would be refused for lack of it.
    pub(crate) fn is_full(&mut self, bytes: usize) -> bool {
        self.side.must_wait(&mut self.ring, bytes)
    }

    /// Events in the lane: published and not released.
    pub(crate) fn depth(&mut self) -> u64 {
        self.ring.depth()
    }

    /// Claims the slot that is there; only where there seems to be none does it matter what to do then.
    #[inline(always)]
    pub(super) fn claim_with(
        &mut self,
        key: Key,
        bytes: usize,
        patience: Patience,
    ) -> Result<LaneClaim<'_, E>, PublishError> {
        self.claim_or(key, bytes, |side, ring| side.find_room_slow(ring, bytes, patience))
    }

    /// The same, where `find_room` knows what to do.
    #[inline(always)]
    pub(super) fn claim_or<X>(
        &mut self,
        key: Key,
        bytes: usize,
        mut find_room: impl FnMut(&LaneSide, &mut ring::Producer<E>) -> Result<(), X>,
    ) -> Result<LaneClaim<'_, E>, X> {
        let LaneProducer { ring, side } = self;
        let mut claim = ring.claim_or(bytes, |ring| find_room(side, ring))?;
        claim.set_key(key.0);
        Ok(LaneClaim::new(claim, side))
    }

    /// Writes an event down to be published with others by [`Self::publish_staged`]. Never waits. A refusal is not counted.
    pub(crate) fn stage(
        &mut self,
        key: Key,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> Result<(), PublishError> {
        let LaneProducer { ring, side } = self;
        let mut claim = ring.claim_staged(payload.len()).map_err(|refused| side.describe_slow(refused))?;
        claim.set_key(key.0);
        side.stamp(&mut claim, Clock::ticks);
        fill(&mut claim);
        if !payload.is_empty() {
            claim.payload_mut().copy_from_slice(payload);
        }
        claim.stage_len(payload.len());
        Ok(())
    }

    pub(crate) fn staged(&self) -> u64 {
        self.ring.staged()
    }

    pub(crate) fn publish_staged(&mut self) {
        let staged = self.ring.staged();
        if staged > 0 {
            // Counted before the events show, as in `LaneClaim::publish`. Without a look at whether the lane is closed:
            // the shard that stages them ends before the final report is made.
            let counts = &self.side.shared.ledger.producer;
            counts.offer(staged);
            counts.accept(staged);
            self.ring.publish_staged();
            self.side.door.ring();
        }
    }

    pub(crate) fn abort_staged(&mut self) {
        let aborted = self.ring.abort_staged();
        self.side.shared.ledger.producer.aborted.add(aborted);
    }

    /// Counts refusals of [`Self::stage`], by reason, as offered and rejected.
    pub(crate) fn count_refusals(&mut self, refusals: &[u64; Rejection::ALL.len()]) {
        let counts = &self.side.shared.ledger.producer;
        for (reason, n) in Rejection::ALL.into_iter().zip(refusals).filter(|(_, n)| **n > 0) {
            counts.offer(*n);
            counts.refuse(reason, *n);
        }
    }
}
