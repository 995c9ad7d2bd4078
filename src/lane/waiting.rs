//! Awaiting room in a lane: one future, of which every asynchronous form of publishing is made.
//!
//! # Mechanism
//! Where there is room the first poll ends the future: no waker is touched, nothing is announced. Otherwise a poll
//! announces its waker, looks once more, calls the shard, and the shard wakes it when it has released slots, when the
//! class's limit is over, or when the lane is closed. See `wait` for why no wake-up is missed.
//!
//! # Invariants
//! - Nothing is claimed before the poll that publishes, so a future that is dropped or forgotten holds nothing up.
//! - The poll that finds room (or a reason why waiting does not help) claims, writes and publishes before it returns.

use super::claim::LaneClaim;
use super::producer::LaneProducer;
use super::side::LaneSide;
use super::spec::{PublishError, TryClaimError};
use crate::class::Overflow;
use crate::event::Key;
use crate::park::{Limit, bit};
use crate::ring;
use crate::sync::spin_loop;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A lane and, while a task waits for room in it, since when. Dropped meanwhile, it gives up.
pub(crate) struct Waiting<'a, E> {
    lane: &'a mut LaneProducer<E>,
    bytes: usize,
    /// Set while it waits.
    since: Option<Limit>,
}

impl<'a, E> Waiting<'a, E> {
    #[inline(always)]
    pub fn new(lane: &'a mut LaneProducer<E>, bytes: usize) -> Self {
        Waiting { lane, bytes, since: None }
    }

    /// Claims a slot, or waits by the policy of the class.
    #[inline(always)]
    fn poll_claim(
        &mut self,
        key: Key,
        context: &mut Context<'_>,
    ) -> Poll<Result<LaneClaim<'_, E>, PublishError>> {
        let Waiting { lane, bytes, since } = self;
        match lane.claim_or(key, *bytes, |side, ring| side.await_room_slow(ring, *bytes, since, context)) {
            Ok(claim) => Poll::Ready(Ok(claim)),
            Err(TryClaimError::WouldBlock) => Poll::Pending,
            Err(TryClaimError::Refused(refusal)) => Poll::Ready(Err(refusal)),
        }
    }

    /// Waits by the policy of the class, until a claim need not.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), PublishError>> {
        let Waiting { lane: LaneProducer { ring, side }, bytes, since } = self;
        match side.await_room_slow(ring, *bytes, since, context) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(TryClaimError::WouldBlock) => Poll::Pending,
            Err(TryClaimError::Refused(refusal)) => Poll::Ready(Err(refusal)),
        }
    }

    #[cold]
    fn give_up_slow(&mut self) {
        let shared = &self.lane.side.shared;
        shared.room.withdraw_task();
        shared.ledger.producer.aborted.add(1);
    }
}

impl<E> Drop for Waiting<'_, E> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.since.is_some() {
            self.give_up_slow();
        }
    }
}

impl LaneSide {
    /// Looks around for room, waits for it where that is the policy, and counts the refusal where there is none.
    #[cold]
    #[inline(never)]
    fn await_room_slow<E>(
        &self,
        ring: &mut ring::Producer<E>,
        bytes: usize,
        since: &mut Option<Limit>,
        context: &mut Context<'_>,
    ) -> Result<(), TryClaimError> {
        if let Overflow::Block { limit } = self.overflow {
            let waited = self.poll_room(ring, bytes, limit, since, context);
            if waited.is_pending() {
                return Err(TryClaimError::WouldBlock);
            }
            if since.take().is_some() {
                self.shared.room.withdraw_task();
            }
            if waited == Poll::Ready(Waited::TooLong) {
                return Err(TryClaimError::Refused(self.time_out()));
            }
        }
        ring.room_slow(bytes).map_err(|refused| TryClaimError::Refused(self.refuse_slow(refused)))
    }

    fn poll_room<E>(
        &self,
        ring: &mut ring::Producer<E>,
        bytes: usize,
        limit: Option<Duration>,
        since: &mut Option<Limit>,
        context: &mut Context<'_>,
    ) -> Poll<Waited> {
        if !self.must_wait(ring, bytes) {
            return Poll::Ready(Waited::Enough);
        }
        let limit = *since.get_or_insert_with(|| Limit::new(&self.clock, limit));
        if limit.is_over(&self.clock) {
            return Poll::Ready(Waited::TooLong);
        }
        let enough = ring.released_seen().wrapping_add(1);
        self.ask_for_room(ring, bytes, enough, limit, context).map(|()| Waited::Enough)
    }

    /// Leaves the waker, to be woken when the consumer's cursor has come to `enough`, and looks once more.
    fn ask_for_room<E>(
        &self,
        ring: &mut ring::Producer<E>,
        bytes: usize,
        enough: u64,
        limit: Limit,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if !self.shared.room.announce_task(enough, context.waker(), limit) {
            // The shard is about to wake an older waker, maybe that of another task. It takes but an instant.
            spin_loop();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        // After the announcement: room that came before it shows here, and so does a lane that was closed.
        if !self.must_wait(ring, bytes) {
            self.shared.room.withdraw_task();
            return Poll::Ready(());
        }
        self.door.waker().raise(bit::ROOM);
        Poll::Pending
    }
}

impl<E> LaneProducer<E> {
    /// Whether a claim of `bytes` need not wait. Otherwise the waker is woken when half of what is in the lane has
    /// been released: the caller then finds room for many events, and the shard does not wake it for each.
    pub(crate) fn poll_room(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        let LaneProducer { ring, side } = self;
        if !side.must_wait(ring, bytes) {
            return Poll::Ready(());
        }
        let enough = ring.sequence().wrapping_sub(ring.depth() / 2);
        side.ask_for_room(ring, bytes, enough, Limit::new(&side.clock, None), context)
    }
}

/// How a wait for room ended.
#[derive(PartialEq)]
enum Waited {
    /// There is room, or there is a reason why waiting does not help.
    Enough,
    /// The class's limit was over first.
    TooLong,
}

/// A future that claims a slot as soon as it need not wait for it, and ends with what `finish` makes of the claim.
#[must_use = "a future does nothing unless it is polled"]
pub(crate) struct WhenClaimed<'a, E, F> {
    waiting: Waiting<'a, E>,
    key: Key,
    /// Nothing after the end.
    finish: Option<F>,
}

impl<'a, E, T, F> WhenClaimed<'a, E, F>
where
    F: FnOnce(Result<LaneClaim<'_, E>, PublishError>) -> T,
{
    #[inline(always)]
    pub fn new(lane: &'a mut LaneProducer<E>, key: Key, bytes: usize, finish: F) -> Self {
        WhenClaimed { waiting: Waiting::new(lane, bytes), key, finish: Some(finish) }
    }
}

// Nothing in it is pinned: `finish` is moved out before it is called.
impl<E, F> Unpin for WhenClaimed<'_, E, F> {}

impl<E, T, F> Future for WhenClaimed<'_, E, F>
where
    F: FnOnce(Result<LaneClaim<'_, E>, PublishError>) -> T,
{
    type Output = T;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let WhenClaimed { waiting, key, finish } = self.get_mut();
        assert!(finish.is_some(), "a publish was polled again after it had ended");
        let Poll::Ready(claimed) = waiting.poll_claim(*key, context) else { return Poll::Pending };
        Poll::Ready(finish.take().expect("it was there")(claimed))
    }
}
