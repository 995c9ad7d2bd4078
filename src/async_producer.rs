//! Producers whose publish is awaited: for tasks of any executor, without a runtime of our own.
//!
//! ```
//! use pelton::{AsyncProducer, Class, Context, Event, Plan, Profile};
//! use std::time::Duration;
//!
//! let mut plan = Plan::new(Profile::Dev);
//! let ticks = plan.class(Class::strict("ticks").capacity(1_024).block());
//! let engine = plan.start(|| 0u64, |_| |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| ())?;
//!
//! let mut tx = AsyncProducer::from(engine.attach()?);
//! let publishing = async {
//!     for i in 0..10_000 {
//!         tx.publish(ticks, 42, |tick| *tick = i).await?;      // waits where the lane is full, and blocks no thread
//!     }
//!     Ok::<(), pelton::Refusal>(())
//! };
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # let block_on = |future| runtime.block_on(future);
//! block_on(publishing)?;                                        // by tokio, smol, or a loop of your own
//!
//! let report = engine.stop(Duration::from_secs(1))?;
//! assert!(report.ledger.is_closed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What awaiting costs
//! Where there is room, the first poll publishes as [`Producer`] does and looks at no waker; to be a future costs some 27
//! instructions, most of them to lay it out in its task, and no memory access to what others write. Where the lane of a
//! class that blocks is full, a poll leaves the task's waker beside the lane and calls the shard, which wakes the
//! task when it has released slots. Nobody takes a lock for that, and nothing is allocated. Waking runs the executor's own
//! code on the shard's thread, between two bursts, never in the middle of one; what it costs there (a system call,
//! where the executor sleeps) is the executor's. A waker that panics is caught and counted
//! (`waker_panics` of the [`crate::engine::ShardReport`]).
//!
//! # Giving up
//! Every future may be dropped at any time. It publishes in its last poll or not at all: dropped before that poll it has
//! published nothing, has not called its closure, and has dropped what it was given; if it had begun to wait, the ledger
//! counts it as `aborted`. Once it has said [`Outcome::Accepted`] the event is published, exactly once. There is
//! nothing in between. To keep a value that may not get lost with its future, await [`AsyncProducer::claim`] and
//! fill the claim. A future that is forgotten (`mem::forget`) publishes nothing either, and holds nothing up.
//!
//! # Limits
//! - The limit of [`crate::Class::block_for`] is measured by the engine's clock, from the first poll that found the lane
//!   full. There is no timer: it is looked at in every poll, and by the shard after each burst, which wakes the task when
//!   the limit is over. So it comes late by the length of a burst, and a handler that is stuck keeps it from coming
//!   at all; a runtime's own timeout around the future is exact and just as safe.
//! - A publish that finds room never yields. A task that publishes without end and never waits for anything else
//!   lets no other task of its thread run; yield now and then, as with every future that is always ready.
//! - In a child process (`fork`) a full lane refuses with [`crate::Rejection::Forked`] at the next poll.
#![forbid(unsafe_code)]

use crate::class::ClassId;
use crate::event::{Key, Outcome, ShardId};
use crate::lane::{LaneClaim, Refusal, Waiting, WhenClaimed, write, write_bytes};
use crate::producer::{Producer, Returned};
use std::future::poll_fn;

/// A [`Producer`] whose publish is awaited. `Send`, and so are its futures (if what they carry is); not `Sync`.
///
/// Made from a producer, and turned back into one, by [`From`]. See [the module](self) for what awaiting costs, and what
/// a dropped future leaves.
///
/// Closing or stopping the engine ends every wait with [`crate::Rejection::Closed`]. Classes that reject or drop the
/// newest never wait.
///
/// Order: events of one producer, one key and one class are handled in the order in which they were published.
///
/// # Panics
/// All methods panic if the class is none of this engine's. A future panics if it is polled after its end.
pub struct AsyncProducer<E> {
    producer: Producer<E>,
}

impl<E> AsyncProducer<E> {
    /// Publishes to the key's shard, by the policy of the class: a blocking class waits.
    ///
    /// # Errors
    /// [`Refusal`]; `fill` was not called then.
    #[inline(always)]
    pub fn publish(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> impl Future<Output = Result<Outcome, Refusal>> {
        let key = key.into();
        let lane = self.producer.lane_of(class, key);
        WhenClaimed::new(lane, key, 0, |claimed| write(claimed, |claim| fill(claim)))
    }

    /// Publishes with a payload, which is copied into the slot's payload bytes; by the policy of the class.
    ///
    /// # Errors
    /// [`Refusal`]; `fill` was not called then.
    #[inline]
    pub fn publish_bytes(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> impl Future<Output = Result<Outcome, Refusal>> {
        let key = key.into();
        let lane = self.producer.lane_of(class, key);
        WhenClaimed::new(lane, key, payload.len(), move |claimed| write_bytes(claimed, payload, fill))
    }

    /// Publishes to a shard by its number; by the policy of the class. The key is carried along.
    ///
    /// Order is kept per lane, that is, per shard and class. Events of one key that go to two shards, some by
    /// [`publish`](Self::publish) and some by this, are in no order with each other.
    ///
    /// # Errors
    /// [`Refusal`]; with [`crate::Rejection::NoRoute`] where there is no such shard. `fill` was not called then.
    #[inline]
    pub async fn publish_to(
        &mut self,
        shard: ShardId,
        class: ClassId,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, Refusal> {
        let (lane, key) = (self.producer.lane_at(shard, class)?, key.into());
        WhenClaimed::new(lane, key, 0, |claimed| write(claimed, |claim| fill(claim))).await
    }

    /// Publishes a value that exists already, by the policy of the class. The old value of the slot is dropped here. A
    /// future that is dropped takes the value along.
    ///
    /// # Errors
    /// [`Returned`] gives the value back, with the reason.
    #[inline]
    pub fn send(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        value: E,
    ) -> impl Future<Output = Result<Outcome, Returned<E>>> {
        let key = key.into();
        let lane = self.producer.lane_of(class, key);
        WhenClaimed::new(lane, key, 0, |claimed| Returned::unless_sent(claimed, value))
    }

    /// Claims a slot with at most `bytes` payload bytes, by the policy of the class. The claim is `Send` if the event is, so
    /// it may be held over an `.await`; it holds its lane up until it is published or dropped.
    ///
    /// # Errors
    /// [`Refusal`]; a class that drops the newest says [`crate::Rejection::DroppedNewest`].
    #[inline]
    pub async fn claim(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        bytes: usize,
    ) -> Result<LaneClaim<'_, E>, Refusal> {
        let key = key.into();
        let lane = self.producer.lane_of(class, key);
        let mut waiting = Waiting::new(lane, bytes);
        poll_fn(|context| waiting.poll_room(context)).await?;
        drop(waiting);
        lane.try_claim(key, bytes)
    }

    /// The producer itself: for what never waits, and for who it is.
    #[inline]
    pub fn producer(&mut self) -> &mut Producer<E> {
        &mut self.producer
    }
}

impl<E> From<Producer<E>> for AsyncProducer<E> {
    fn from(producer: Producer<E>) -> Self {
        AsyncProducer { producer }
    }
}

impl<E> From<AsyncProducer<E>> for Producer<E> {
    fn from(producer: AsyncProducer<E>) -> Self {
        producer.producer
    }
}
