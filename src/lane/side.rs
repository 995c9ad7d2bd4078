//! What the writing end of a lane needs besides its ring: the class's policy, the ledger, the doorbell; and how it waits for
//! room.

use super::spec::{LaneShared, PublishError, TryClaimError};
use crate::class::{Overflow, Sample};
use crate::clock::Clock;
use crate::event::Rejection;
use crate::park::{Backoff, Doorbell, SLEEP_MAX, bit};
use crate::ring::{self, ClaimError};
use crate::sync::{Arc, fence_light};
use std::time::{Duration, Instant};

/// What the writing end needs beside its ring.
pub(super) struct LaneSide {
    pub shared: Arc<LaneShared>,
    pub door: Arc<Doorbell>,
    pub clock: Clock,
    pub stamped: Sample,
    pub overflow: Overflow,
}

/// What a claim does if there is no room.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// Is refused.
    None,
    /// Waits, for at most so long.
    Wait(Option<Duration>),
    /// What the class says.
    ByPolicy,
}

impl LaneSide {
    /// Counts an event that is about to be published: accepted, or rejected if the lane has been closed since it was
    /// claimed. It is counted before it shows, so that a snapshot never has more handled than accepted, and an engine is
    /// never taken for quiet between the two. Once it is accepted nothing can fail.
    #[inline(always)]
    pub fn accept<E>(&self, claim: &ring::Claim<'_, E>) -> Result<(), PublishError> {
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
    fn closed_slow(&self) -> PublishError {
        self.shared.ledger.producer.refuse(Rejection::Closed, 1);
        self.shared.closed()
    }

    /// Stamps the claim where its sequence is to be.
    #[inline(always)]
    pub fn stamp<E>(&self, claim: &mut ring::Claim<'_, E>, ticks: impl FnOnce(&Clock) -> u64) {
        if self.stamped.has(claim.sequence()) {
            claim.set_stamp(ticks(&self.clock));
        }
    }

    /// Looks around for room, waits for it where that is wanted, and counts the refusal where there is none.
    #[cold]
    #[inline(never)]
    pub fn find_room_slow<E>(
        &self,
        ring: &mut ring::Producer<E>,
        bytes: usize,
        patience: Patience,
    ) -> Result<(), PublishError> {
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
    pub fn find_room_now_slow<E>(
        &self,
        ring: &mut ring::Producer<E>,
        bytes: usize,
    ) -> Result<(), TryClaimError> {
        if matches!(self.overflow, Overflow::Block { .. }) && self.must_wait(ring, bytes) {
            return Err(TryClaimError::WouldBlock);
        }
        Ok(self.find_room_slow(ring, bytes, Patience::None)?)
    }

    /// Waits until a claim of `bytes` would not be refused for lack of room.
    fn wait_for_room<E>(
        &self,
        ring: &mut ring::Producer<E>,
        bytes: usize,
        limit: Option<Duration>,
    ) -> Result<(), PublishError> {
        let mut started = None;
        let mut backoff = Backoff::default();
        loop {
            if !self.must_wait(ring, bytes) {
                return Ok(());
            }
            let started = started.get_or_insert_with(Instant::now);
            // An elapsed time against a limit, never a deadline as a sum: `Duration::MAX` is a valid limit.
            let left = limit.map_or(SLEEP_MAX, |limit| limit.saturating_sub(started.elapsed()));
            if left.is_zero() {
                return Err(self.time_out());
            }
            if self.door.waker().is_polled_here() {
                return Err(self.reject(Rejection::OnShardThread));
            }
            if backoff.pause() && cfg!(feature = "park") {
                self.sleep_for_room(ring, bytes, left.min(SLEEP_MAX));
            }
        }
    }

    /// Whether a claim of `bytes` has to wait. If not there is room, or waiting does not help: the look that follows says
    /// so and counts it.
    pub fn must_wait<E>(&self, ring: &mut ring::Producer<E>, bytes: usize) -> bool {
        let full = matches!(ring.room_slow(bytes), Err(ClaimError::SlotsFull | ClaimError::BytesFull));
        full && !self.shared.is_forked()
    }

    /// Counts and describes a wait that was too long.
    pub fn time_out(&self) -> PublishError {
        self.reject(Rejection::TimedOut)
    }

    /// Counts and describes a refusal.
    fn reject(&self, reason: Rejection) -> PublishError {
        self.shared.ledger.producer.reject(reason);
        PublishError { reason, ..self.shared.closed() }
    }

    /// One sleep: says that it waits, looks once more, sleeps. See `wait` for why no wake-up is missed.
    fn sleep_for_room<E>(&self, ring: &mut ring::Producer<E>, bytes: usize, limit: Duration) {
        let room = &self.shared.room;
        room.announce(ring.released_seen());
        // After the announcement: room that came before it shows here, and so does a lane that was closed.
        if ring.room_slow(bytes).is_err() && !ring.is_closed() {
            self.door.waker().raise(bit::ROOM);
            let began = Instant::now();
            room.sleep(limit);
            // A whole sleep, and room that this was not woken for? The shard may be preempted on its way to wake it: it has
            // another sleep for that. (loom's sleeps have no limit, and its runs must not depend on the time.)
            let whole = !cfg!(pelton_loom) && limit == SLEEP_MAX && began.elapsed() >= SLEEP_MAX;
            if whole && room.waits() && ring.room_slow(bytes).is_ok() {
                room.sleep(SLEEP_MAX);
                if room.waits() {
                    room.rescues.add(1);
                }
            }
        }
        room.withdraw();
    }

    /// Counts a refusal of the ring.
    #[cold]
    pub fn refuse_slow(&self, refused: ClaimError) -> PublishError {
        self.reject(self.describe_slow(refused).reason)
    }

    /// What a refusal of the ring means under the class's policy. Counts nothing.
    #[cold]
    pub fn describe_slow(&self, refused: ClaimError) -> PublishError {
        let shared = &self.shared;
        let reason = match (refused, self.overflow) {
            (ClaimError::SlotsFull | ClaimError::BytesFull, _) if shared.is_forked() => Rejection::Forked,
            (ClaimError::SlotsFull | ClaimError::BytesFull, Overflow::DropNewest) => Rejection::DroppedNewest,
            _ => refused.into(),
        };
        PublishError { reason, ..shared.closed() }
    }
}
