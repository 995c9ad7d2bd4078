//! The lane: a ring with a policy and a ledger. One lane for each (producer, shard, class).
//!
//! # Mechanism
//! The producer's end claims a slot in the ring, and where that is refused acts by the policy of the class: it waits,
//! says why not, or drops. Each outcome goes into the ledger exactly once, at the moment at which it is known. After
//! a publish it rings the shard's bell, which is one load while the shard is awake.
//!
//! The consumer's end gives out one event at a time and counts what became of it.
//!
//! # Invariants
//! - A lane has one producer: no other can hold it up, or be held up by it.
//! - `offered` is counted at the outcome: a claim that is dropped was never offered, it is `aborted`.
//! - A producer that waits is released by room, by its limit, or by the closing of the lane.
//!
//! Lanes are what an engine is made of; [`lane`] makes one alone, for a pair of threads that need nothing else.
#![forbid(unsafe_code)]

use crate::class::{Class, ClassId, Overflow};
use crate::clock::Clock;
use crate::event::{Key, Outcome, ProducerId, Rejection, ShardId};
use crate::ledger::{Counts, LaneLedger};
use crate::memory::region::Builder;
use crate::ring::{self, Item, Refused, Shape, ShapeError};
use crate::sync::Arc;
use crate::wait::{Backoff, Bell, NAP, RoomWait, bit};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

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
    /// The process that made the lane: in a child of it nobody reads.
    pid: u32,
    pub ledger: LaneLedger,
    pub room: RoomWait,
}

impl LaneShared {
    /// The refusal of this lane for its being closed, from which others are made.
    pub fn closed(&self) -> Refusal {
        Refusal { reason: Rejection::Closed, lane: self.id, capacity: self.capacity }
    }

    /// Whether this is a child of the process in which the lane's shard runs. A system call.
    fn is_forked(&self) -> bool {
        std::process::id() != self.pid
    }
}

/// How a lane is made: by the engine's plan, or by [`lane`].
pub(crate) struct LaneSpec<'a> {
    pub id: LaneId,
    pub class: &'a Class,
    pub clock: &'a Clock,
    pub bell: &'a Arc<Bell>,
}

/// The shape of the lanes of a class.
pub(crate) fn shape_of(class: &Class) -> Shape {
    Shape {
        capacity: class.capacity,
        payload_bytes: class.payload_bytes,
        stamped: class.is_stamped(),
        first_sequence: 0,
    }
}

/// Bytes of a lane outside its region: cursors, ledger, waiting place.
pub(crate) const fn lane_bytes<E>() -> usize {
    ring::core_bytes::<E>() + size_of::<LaneShared>() + 2 * size_of::<usize>()
}

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
            pid: std::process::id(),
            ledger: LaneLedger::default(),
            room: RoomWait::new(),
        });
        let producer = LaneProducer {
            ring: tx,
            shared: shared.clone(),
            bell: self.bell.clone(),
            clock: self.clock.clone(),
            stamp_mask: if self.class.ttl.is_some() {
                0
            } else {
                self.class.sample_mask().unwrap_or(u64::MAX)
            },
            overflow: self.class.overflow,
        };
        let bell = self.bell.clone();
        Ok((producer, LaneConsumer { ring: rx, shared, bell, room_wanted: false }))
    }
}

/// Makes a lane of its own, for two threads: `class` says its capacity, payload bytes, policy and stamps.
///
/// # Errors
/// [`ShapeError`] where capacity or payload bytes are out of range, or the memory is refused.
///
/// # Examples
/// ```
/// use pelton::{Class, lane::lane};
/// let (mut tx, mut rx) = lane(&Class::strict("only").capacity(8).reject(), || 0u64)?;
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
    let mut region = Builder::new(shape.slots_need::<E>() + shape.payload_need())?;
    let id = LaneId { producer: ProducerId(0), shard: ShardId(0), class: ClassId(0) };
    let clock = if class.is_stamped() { Clock::real() } else { Clock::virtual_time().0 };
    LaneSpec { id, class, clock: &clock, bell: &Arc::new(Bell::new()) }.build(shape, &mut region, make)
}

/// The writing end of a lane.
pub struct LaneProducer<E> {
    ring: ring::Producer<E>,
    shared: Arc<LaneShared>,
    bell: Arc<Bell>,
    clock: Clock,
    /// Sequences that carry a stamp are those with `sequence & mask == 0`.
    stamp_mask: u64,
    overflow: Overflow,
}

impl<E> LaneProducer<E> {
    pub(crate) fn core(&self) -> &Arc<ring::Core<E>> {
        self.ring.core()
    }

    pub(crate) fn shared(&self) -> &Arc<LaneShared> {
        &self.shared
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
        let claimed = if bytes == 0 { self.ring.try_claim() } else { self.ring.try_claim_bytes(bytes) };
        match claimed {
            Ok(mut claim) => {
                claim.set_key(key.into().0);
                Ok(LaneClaim {
                    claim: Some(claim),
                    shared: &self.shared,
                    bell: &self.bell,
                    clock: &self.clock,
                    stamp_mask: self.stamp_mask,
                })
            }
            Err(refused) => Err(refuse_slow(&self.shared, self.overflow, refused)),
        }
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
        if self.ring.seems_full(bytes) {
            self.wait_for_room_slow(bytes, limit)?;
        }
        self.try_claim(key, bytes)
    }

    /// Publishes by the class's policy: `fill` writes the event in place and is called only if there is a slot.
    ///
    /// # Errors
    /// [`Refusal`]; a class that drops the newest gives `Ok(Outcome::Dropped)` instead.
    #[inline(always)]
    pub fn publish(&mut self, key: impl Into<Key>, fill: impl FnOnce(&mut E)) -> Result<Outcome, Refusal> {
        match self.claim_by_policy(key, 0) {
            Ok(mut claim) => {
                fill(&mut claim);
                claim.publish();
                Ok(Outcome::Accepted)
            }
            Err(refusal) => refusal.or_dropped(),
        }
    }

    /// Claims as the class's policy says.
    #[inline(always)]
    pub(crate) fn claim_by_policy(
        &mut self,
        key: impl Into<Key>,
        bytes: usize,
    ) -> Result<LaneClaim<'_, E>, Refusal> {
        match self.overflow {
            Overflow::Block { limit } => self.claim_waiting(key, bytes, limit),
            Overflow::Reject | Overflow::DropNewest => self.try_claim(key, bytes),
        }
    }

    /// Writes an event down to be published with others by [`Self::publish_staged`]. Never waits.
    pub(crate) fn stage(
        &mut self,
        key: Key,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> Result<(), Refusal> {
        match self.ring.try_claim_bytes(payload.len()) {
            Ok(mut claim) => {
                claim.set_key(key.0);
                if claim.sequence() & self.stamp_mask == 0 {
                    claim.set_stamp(self.clock.ticks());
                }
                fill(&mut claim);
                claim.payload_mut().copy_from_slice(payload);
                claim.stage_len(payload.len());
                Ok(())
            }
            Err(refused) => Err(refuse_slow(&self.shared, self.overflow, refused)),
        }
    }

    pub(crate) fn staged(&self) -> u64 {
        self.ring.staged()
    }

    pub(crate) fn publish_staged(&mut self) {
        let published = self.ring.publish_staged();
        if published > 0 {
            self.shared.ledger.producer.accept(published);
            self.bell.ring();
        }
    }

    pub(crate) fn abort_staged(&mut self) {
        let aborted = self.ring.abort_staged();
        self.shared.ledger.producer.aborted.add(aborted);
    }

    /// Waits until a claim of `bytes` would not be refused for lack of room.
    #[cold]
    fn wait_for_room_slow(&mut self, bytes: usize, limit: Option<Duration>) -> Result<(), Refusal> {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            match self.ring.room(bytes) {
                Err(Refused::SlotsFull | Refused::BytesFull) if !self.shared.is_forked() => {}
                // There is room, or waiting does not help: the claim that follows says so and counts it.
                _ => return Ok(()),
            }
            // An elapsed time against a limit, never a deadline as a sum: `Duration::MAX` is a valid limit.
            let left = limit.map_or(NAP, |limit| limit.saturating_sub(started.elapsed()));
            if left.is_zero() {
                self.shared.ledger.producer.reject(Rejection::TimedOut);
                return Err(Refusal { reason: Rejection::TimedOut, ..self.shared.closed() });
            }
            if backoff.pause() && cfg!(feature = "park") {
                self.sleep_for_room(bytes, left.min(NAP));
            }
        }
    }

    /// One sleep: says that it waits, looks once more, sleeps. See `wait` for why no wake-up is missed.
    fn sleep_for_room(&mut self, bytes: usize, limit: Duration) {
        let room = &self.shared.room;
        room.announce(self.ring.released_seen());
        // After the announcement: room that came before it shows here, and so does a lane that was closed.
        if self.ring.room(bytes).is_err() && !self.ring.is_closed() {
            self.bell.raise(bit::ROOM);
            room.sleep(limit);
        }
        let woken = room.withdraw();
        if !woken && limit == NAP && self.ring.room(bytes).is_ok() {
            room.rescues.add(1);
        }
    }
}

#[cold]
fn refuse_slow(shared: &LaneShared, overflow: Overflow, refused: Refused) -> Refusal {
    let reason = match (refused, overflow) {
        (Refused::SlotsFull | Refused::BytesFull, _) if shared.is_forked() => Rejection::Forked,
        (Refused::SlotsFull | Refused::BytesFull, Overflow::DropNewest) => Rejection::DroppedNewest,
        _ => refused.into(),
    };
    shared.ledger.producer.reject(reason);
    Refusal { reason, ..shared.closed() }
}

/// A claimed slot of a lane; derefs to the event. Dropping it publishes nothing and counts as `aborted`.
#[must_use = "a claim that is dropped publishes nothing"]
pub struct LaneClaim<'a, E> {
    claim: Option<ring::Claim<'a, E>>,
    shared: &'a LaneShared,
    bell: &'a Bell,
    clock: &'a Clock,
    stamp_mask: u64,
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
    #[inline(always)]
    pub fn publish(mut self) {
        let claim = self.stamped();
        claim.publish();
        self.accepted();
    }

    /// Publishes the event with the first `used` of the claimed payload bytes.
    ///
    /// # Panics
    /// If `used` is more than was claimed; nothing is published then.
    #[inline(always)]
    pub fn publish_len(mut self, used: usize) {
        let claim = self.claim.as_mut().expect(LIVE);
        assert!(
            used <= claim.payload_mut().len(),
            "{used} payload bytes were used, which is more than claimed"
        );
        self.stamped().publish_len(used);
        self.accepted();
    }
}

impl<'a, E> LaneClaim<'a, E> {
    /// Takes the claim out, stamped where its sequence is to be. Stamped last: the writing is not waiting.
    #[inline(always)]
    fn stamped(&mut self) -> ring::Claim<'a, E> {
        let mut claim = self.claim.take().expect(LIVE);
        if claim.sequence() & self.stamp_mask == 0 {
            claim.set_stamp(self.clock.ticks());
        }
        claim
    }

    #[inline(always)]
    fn accepted(&self) {
        self.shared.ledger.producer.accept(1);
        self.bell.ring();
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
            self.shared.ledger.producer.aborted.add(1);
        }
    }
}

/// The reading end of a lane.
pub struct LaneConsumer<E> {
    ring: ring::Consumer<E>,
    shared: Arc<LaneShared>,
    bell: Arc<Bell>,
    /// The producer waits for the next release. Used by [`Self::poll`] alone: a shard keeps it for all its lanes.
    room_wanted: bool,
}

impl<E> LaneConsumer<E> {
    /// Handles at most `max` events in place, in order, and gives their slots back.
    ///
    /// # Panics
    /// Where `handle` does: that event is then counted `failed(panic)` and passed, those before it are `handled`, and
    /// the lane goes on with the next one.
    #[inline]
    pub fn poll(&mut self, max: u64, mut handle: impl FnMut(&mut Item<'_, E>)) -> u64 {
        if self.bell.calls() != 0 {
            self.room_wanted |= self.bell.take(bit::ROOM) != 0;
        }
        let mut burst = Burst { lane: self, handling: false };
        let mut handled = 0;
        while handled < max {
            let Some(mut item) = burst.lane.ring.peek() else { break };
            burst.handling = true;
            handle(&mut item);
            burst.handling = false;
            burst.lane.ring.advance();
            burst.lane.shared.ledger.consumer.handled.add(1);
            handled += 1;
        }
        handled
    }

    /// What the lane's ledger says now.
    pub fn counts(&self) -> Counts {
        self.shared.ledger.snapshot(|| self.ring.core().in_flight())
    }

    /// Whether the producer is gone, or the lane was closed. Events published before are still to be handled.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Whether an event is there.
    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        self.ring.is_ready()
    }

    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Option<Item<'_, E>> {
        self.ring.peek()
    }

    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        self.ring.advance();
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &LaneShared {
        &self.shared
    }

    /// Gives back what was passed.
    #[inline(always)]
    pub(crate) fn release(&mut self) {
        self.ring.release();
    }

    /// Wakes the lane's producer if it waits and there may be room; says whether it still waits.
    #[cold]
    pub(crate) fn offer_room(&mut self) -> bool {
        self.shared.room.offer(self.ring.released_sequence())
    }

    pub(crate) fn close(&mut self) {
        self.ring.close();
        self.shared.room.wake_closed();
    }
}

/// Ends a poll in good order, also when the handler panics.
struct Burst<'a, E> {
    lane: &'a mut LaneConsumer<E>,
    handling: bool,
}

impl<E> Drop for Burst<'_, E> {
    #[inline]
    fn drop(&mut self) {
        if self.handling {
            self.lane.ring.advance();
            self.lane.shared.ledger.consumer.failed[crate::event::Failure::Panic as usize].add(1);
        }
        self.lane.ring.release();
        if self.lane.room_wanted {
            self.lane.room_wanted = self.lane.offer_room();
        }
    }
}

impl<E> Drop for LaneConsumer<E> {
    fn drop(&mut self) {
        self.close();
    }
}
