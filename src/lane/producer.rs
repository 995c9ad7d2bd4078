//! The writing end of a lane: claims, publishes, and stages what a handler emits.
#![forbid(unsafe_code)]

use super::claim::{LaneClaim, write};
use super::side::{LaneSide, Patience};
use super::spec::{LaneShared, Refusal, Unclaimed};
use crate::clock::Clock;
use crate::event::{Key, Outcome, Rejection};
use crate::ring;
use crate::sync::Arc;
#[cfg(all(test, loom))]
use crate::wait::Doorbell;
use std::time::Duration;

/// The writing end of a lane.
// Whole lines, so that a look-up among many lanes is a shift, and no two share a line.
#[repr(align(64))]
pub struct LaneProducer<E> {
    pub(super) ring: ring::Producer<E>,
    pub(super) side: LaneSide,
}

impl<E> LaneProducer<E> {
    pub(crate) fn core(&self) -> &Arc<ring::Core<E>> {
        self.ring.core()
    }

    pub(crate) fn shared(&self) -> &Arc<LaneShared> {
        &self.side.shared
    }

    #[cfg(all(test, loom))]
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

    /// Claims a slot with at most `bytes` payload bytes. Never waits.
    ///
    /// # Errors
    /// [`Refusal`], which is counted in the ledger.
    #[inline(always)]
    pub fn try_claim(&mut self, key: impl Into<Key>, bytes: usize) -> Result<LaneClaim<'_, E>, Refusal> {
        self.claim(key.into(), bytes, Patience::None)
    }

    /// Claims a slot, and where there is none waits for it: for `limit` at most, or until the lane is closed.
    ///
    /// # Errors
    /// [`Refusal`] with `TimedOut`, `Closed` or `TooLarge`; the ledger has it.
    #[inline(always)]
    pub fn claim_waiting(
        &mut self,
        key: impl Into<Key>,
        bytes: usize,
        limit: Option<Duration>,
    ) -> Result<LaneClaim<'_, E>, Refusal> {
        self.claim(key.into(), bytes, Patience::Wait(limit))
    }

    /// Publishes by the class's policy: `fill` writes the event in place and is called only if there is a slot.
    ///
    /// # Errors
    /// [`Refusal`]; a class that drops the newest gives `Ok(Outcome::Dropped)` instead.
    #[inline(always)]
    pub fn publish(&mut self, key: impl Into<Key>, fill: impl FnOnce(&mut E)) -> Result<Outcome, Refusal> {
        write(self.claim_by_policy(key, 0), |claim| fill(claim))
    }

    /// Claims by the policy of the class.
    #[inline(always)]
    pub(crate) fn claim_by_policy(
        &mut self,
        key: impl Into<Key>,
        bytes: usize,
    ) -> Result<LaneClaim<'_, E>, Refusal> {
        self.claim(key.into(), bytes, Patience::ByPolicy)
    }

    /// Claims by the policy of the class, without waiting: returns [`Unclaimed::Waits`] if that policy would wait.
    #[inline(always)]
    pub(crate) fn claim_now(
        &mut self,
        key: impl Into<Key>,
        bytes: usize,
    ) -> Result<LaneClaim<'_, E>, Unclaimed> {
        self.claim_or(key.into(), bytes, |side, ring| side.find_room_now_slow(ring, bytes))
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
    fn claim(&mut self, key: Key, bytes: usize, patience: Patience) -> Result<LaneClaim<'_, E>, Refusal> {
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
    ) -> Result<(), Refusal> {
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
