//! The writing end of a lane: claim by the policy, publish, count, ring the bell; and wait for room.
#![forbid(unsafe_code)]

use super::spec::{LaneShared, Refusal, Unclaimed};
use crate::class::{Overflow, Sample};
use crate::clock::Clock;
use crate::event::{Key, Outcome, Rejection};
use crate::ring::{self, Refused};
use crate::sync::{Arc, fence_light};
use crate::wait::{Backoff, Doorbell, NAP, bit};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// The writing end of a lane.
// Whole lines, so that a look-up among many lanes is a shift, and no two share a line.
#[repr(align(64))]
pub struct LaneProducer<E> {
    pub(super) ring: ring::Producer<E>,
    pub(super) side: LaneSide,
}

/// What the writing end needs beside its ring.
pub(super) struct LaneSide {
    pub shared: Arc<LaneShared>,
    pub door: Arc<Doorbell>,
    pub clock: Clock,
    pub stamped: Sample,
    pub overflow: Overflow,
}

/// What a claim does where there is no room.
#[derive(Clone, Copy)]
enum Patience {
    /// Is refused.
    None,
    /// Waits, for at most so long.
    Wait(Option<Duration>),
    /// What the class says.
    ByPolicy,
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
    /// [`Refusal`] says why; the ledger has it.
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

    /// Claims as the class's policy says.
    #[inline(always)]
    pub(crate) fn claim_by_policy(
        &mut self,
        key: impl Into<Key>,
        bytes: usize,
    ) -> Result<LaneClaim<'_, E>, Refusal> {
        self.claim(key.into(), bytes, Patience::ByPolicy)
    }

    /// Claims as the class's policy says, but for waiting: where that says to wait, so does this.
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
        Ok(LaneClaim { claim: Some(claim), side })
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

impl LaneSide {
    /// Counts an event that is about to be published: accepted, or rejected if the lane has been closed since it was
    /// claimed. It is counted before it shows, so that a snapshot never has more handled than accepted, and an engine is
    /// never taken for quiet between the two. Once it is accepted nothing can fail.
    #[inline(always)]
    fn accept<E>(&self, claim: &ring::Claim<'_, E>) -> Result<(), Refusal> {
        let counts = &self.shared.ledger.producer;
        counts.offer(1);
        // SYNC: settle (light half); pairs with the heavy half in `Engine::settle`: either the count shows to the stop, or
        // the closed lane shows here.
        fence_light();
        if claim.is_closed() {
            return Err(self.closed_slow());
        }
        counts.accept(1);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn closed_slow(&self) -> Refusal {
        self.shared.ledger.producer.refuse(Rejection::Closed, 1);
        self.shared.closed()
    }

    /// Stamps the claim where its sequence is to be.
    #[inline(always)]
    fn stamp<E>(&self, claim: &mut ring::Claim<'_, E>, ticks: impl FnOnce(&Clock) -> u64) {
        if self.stamped.has(claim.sequence()) {
            claim.set_stamp(ticks(&self.clock));
        }
    }

    /// Looks around for room, waits for it where that is wanted, and counts the refusal where there is none.
    #[cold]
    #[inline(never)]
    fn find_room_slow<E>(
        &self,
        ring: &mut ring::Producer<E>,
        bytes: usize,
        patience: Patience,
    ) -> Result<(), Refusal> {
        match (patience, self.overflow) {
            (Patience::Wait(limit), _) | (Patience::ByPolicy, Overflow::Block { limit }) => {
                self.wait_for_room(ring, bytes, limit)?;
            }
            _ => {}
        }
        ring.room_slow(bytes).map_err(|refused| self.refuse_slow(refused))
    }

    /// The same by the class's policy, without waiting.
    #[cold]
    #[inline(never)]
    fn find_room_now_slow<E>(&self, ring: &mut ring::Producer<E>, bytes: usize) -> Result<(), Unclaimed> {
        if matches!(self.overflow, Overflow::Block { .. }) && self.must_wait(ring, bytes) {
            return Err(Unclaimed::Waits);
        }
        Ok(self.find_room_slow(ring, bytes, Patience::None)?)
    }

    /// Waits until a claim of `bytes` would not be refused for lack of room.
    fn wait_for_room<E>(
        &self,
        ring: &mut ring::Producer<E>,
        bytes: usize,
        limit: Option<Duration>,
    ) -> Result<(), Refusal> {
        let mut started = None;
        let mut backoff = Backoff::default();
        loop {
            if !self.must_wait(ring, bytes) {
                return Ok(());
            }
            let started = started.get_or_insert_with(Instant::now);
            // An elapsed time against a limit, never a deadline as a sum: `Duration::MAX` is a valid limit.
            let left = limit.map_or(NAP, |limit| limit.saturating_sub(started.elapsed()));
            if left.is_zero() {
                return Err(self.time_out());
            }
            if backoff.pause() && cfg!(feature = "park") {
                self.sleep_for_room(ring, bytes, left.min(NAP));
            }
        }
    }

    /// Whether a claim of `bytes` has to wait. If not there is room, or waiting does not help: the look that follows says
    /// so and counts it.
    pub fn must_wait<E>(&self, ring: &mut ring::Producer<E>, bytes: usize) -> bool {
        let full = matches!(ring.room_slow(bytes), Err(Refused::SlotsFull | Refused::BytesFull));
        full && !self.shared.is_forked()
    }

    /// Counts and describes a wait that was too long.
    pub fn time_out(&self) -> Refusal {
        self.shared.ledger.producer.reject(Rejection::TimedOut);
        Refusal { reason: Rejection::TimedOut, ..self.shared.closed() }
    }

    /// One sleep: says that it waits, looks once more, sleeps. See `wait` for why no wake-up is missed.
    fn sleep_for_room<E>(&self, ring: &mut ring::Producer<E>, bytes: usize, limit: Duration) {
        let room = &self.shared.room;
        room.announce(ring.released_seen());
        // After the announcement: room that came before it shows here, and so does a lane that was closed.
        if ring.room_slow(bytes).is_err() && !ring.is_closed() {
            self.door.bell().raise(bit::ROOM);
            let began = Instant::now();
            room.sleep(limit);
            // A whole nap, and room that this was not woken for? The shard may be preempted on its way to wake it: it has
            // another nap for that. (loom's sleeps have no limit, and its runs must not depend on the time.)
            let whole = !cfg!(loom) && limit == NAP && began.elapsed() >= NAP;
            if whole && room.waits() && ring.room_slow(bytes).is_ok() {
                room.sleep(NAP);
                if room.waits() {
                    room.rescues.add(1);
                }
            }
        }
        room.withdraw();
    }

    /// Counts a refusal of the ring.
    #[cold]
    pub fn refuse_slow(&self, refused: Refused) -> Refusal {
        let refusal = self.describe_slow(refused);
        self.shared.ledger.producer.reject(refusal.reason);
        refusal
    }

    /// What a refusal of the ring means under the class's policy. Counts nothing.
    #[cold]
    fn describe_slow(&self, refused: Refused) -> Refusal {
        let shared = &self.shared;
        let reason = match (refused, self.overflow) {
            (Refused::SlotsFull | Refused::BytesFull, _) if shared.is_forked() => Rejection::Forked,
            (Refused::SlotsFull | Refused::BytesFull, Overflow::DropNewest) => Rejection::DroppedNewest,
            _ => refused.into(),
        };
        Refusal { reason, ..shared.closed() }
    }
}

/// Lets `fill` write what was claimed, and publishes it; what a policy drops is no error.
#[inline(always)]
pub(crate) fn write<E>(
    claimed: Result<LaneClaim<'_, E>, Refusal>,
    fill: impl FnOnce(&mut LaneClaim<'_, E>),
) -> Result<Outcome, Refusal> {
    match claimed {
        Ok(mut claim) => {
            fill(&mut claim);
            claim.publish().map(|()| Outcome::Accepted)
        }
        Err(refusal) => refusal.or_dropped(),
    }
}

/// The same with a payload.
#[inline(always)]
pub(crate) fn write_bytes<E>(
    claimed: Result<LaneClaim<'_, E>, Refusal>,
    payload: &[u8],
    fill: impl FnOnce(&mut E),
) -> Result<Outcome, Refusal> {
    write(claimed, |claim| {
        let (event, bytes) = claim.parts_mut();
        bytes.copy_from_slice(payload);
        fill(event);
    })
}

/// A claimed slot of a lane; derefs to the event. Dropping it publishes nothing and counts as `aborted`.
#[must_use = "a claim that is dropped publishes nothing"]
pub struct LaneClaim<'a, E> {
    claim: Option<ring::Claim<'a, E>>,
    side: &'a LaneSide,
}

const LIVE: &str = "a claim is whole until it is published";

impl<E> LaneClaim<'_, E> {
    /// The claimed payload bytes.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.claim.as_mut().expect(LIVE).payload_mut()
    }

    /// The event and its payload at once.
    #[inline]
    pub fn parts_mut(&mut self) -> (&mut E, &mut [u8]) {
        self.claim.as_mut().expect(LIVE).parts_mut()
    }

    /// The sequence that the event will have in its lane.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.claim.as_ref().expect(LIVE).sequence()
    }

    /// Publishes the event with all claimed payload bytes.
    ///
    /// # Errors
    /// [`Refusal`] with [`Rejection::Closed`] if the lane was closed after the claim. Nothing is published then.
    #[inline(always)]
    pub fn publish(mut self) -> Result<(), Refusal> {
        let claim = self.stamped(Clock::ticks);
        self.side.accept(&claim)?;
        claim.publish();
        self.side.door.ring();
        Ok(())
    }

    /// Publishes the event with a stamp of the caller's choice, in ticks of the engine's clock, in place of the time now:
    /// wait, latency and age count from there. A source that works by a schedule gives the time that it *meant*, so that
    /// what it lost to a stall shows. Events that carry no stamp ignore it. A time to come waits for nothing, and its time to
    /// live begins when it has come.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    #[inline(always)]
    pub fn publish_stamped(mut self, ticks: u64) -> Result<(), Refusal> {
        let claim = self.stamped(|_| ticks);
        self.side.accept(&claim)?;
        claim.publish();
        self.side.door.ring();
        Ok(())
    }

    /// Publishes the event with the first `used` of the claimed payload bytes.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    ///
    /// # Panics
    /// If `used` is more than was claimed; nothing is published then.
    #[inline(always)]
    pub fn publish_len(mut self, used: usize) -> Result<(), Refusal> {
        let claim = self.claim.as_mut().expect(LIVE);
        assert!(
            used <= claim.payload_mut().len(),
            "{used} payload bytes were used, which is more than claimed"
        );
        let claim = self.stamped(Clock::ticks);
        self.side.accept(&claim)?;
        claim.publish_len(used);
        self.side.door.ring();
        Ok(())
    }

    /// Publishes `value` in place of the one in the slot, which is dropped after that.
    ///
    /// # Errors
    /// [`Refusal`] as for [`Self::publish`], with the value.
    #[inline(always)]
    pub(crate) fn send(mut self, value: E) -> Result<(), (Refusal, E)> {
        let older = std::mem::replace(&mut *self, value);
        let mut claim = self.stamped(Clock::ticks);
        match self.side.accept(&claim) {
            Ok(()) => {
                claim.publish();
                self.side.door.ring();
                Ok(())
            }
            Err(refusal) => Err((refusal, std::mem::replace(&mut *claim, older))),
        }
    }
}

impl<'a, E> LaneClaim<'a, E> {
    /// Takes the claim out, stamped where its sequence is to be. Stamped last: the writing is not waiting.
    #[inline(always)]
    fn stamped(&mut self, ticks: impl FnOnce(&Clock) -> u64) -> ring::Claim<'a, E> {
        let mut claim = self.claim.take().expect(LIVE);
        self.side.stamp(&mut claim, ticks);
        claim
    }
}

impl<E> Deref for LaneClaim<'_, E> {
    type Target = E;
    #[inline(always)]
    fn deref(&self) -> &E {
        self.claim.as_ref().expect(LIVE)
    }
}

impl<E> DerefMut for LaneClaim<'_, E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut E {
        self.claim.as_mut().expect(LIVE)
    }
}

impl<E> Drop for LaneClaim<'_, E> {
    #[inline]
    fn drop(&mut self) {
        if self.claim.is_some() {
            self.side.shared.ledger.producer.aborted.add(1);
        }
    }
}
