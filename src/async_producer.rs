//! Producers whose publish is awaited: for tasks of any executor, without a runtime of our own.
//!
//! ```
//! use pelton::{AsyncProducer, Class, Context, Event, Plan, Profile};
//! use std::time::Duration;
//!
//! let mut plan = Plan::new(Profile::Dev);
//! let ticks = plan.class(Class::strict("ticks").with_capacity(1_024).block());
//! let engine = plan.start(|| 0u64, |_| |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| ())?;
//!
//! let mut tx = AsyncProducer::from(engine.attach()?);
//! let publishing = async {
//!     for i in 0..10_000 {
//!         tx.publish(ticks, 42, |tick| *tick = i).await?;      // waits where the lane is full, and blocks no thread
//!     }
//!     Ok::<(), pelton::PublishError>(())
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
//! nothing in between. To keep a value that may not get lost with its future, await a [claim](AsyncProducer::claim) and
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

use crate::class::ClassId;
use crate::event::{Key, Outcome, ShardId};
use crate::lane::{LaneClaim, LaneProducer, PublishError, Waiting, WhenClaimed, write, write_bytes};
use crate::producer::{Producer, SendError};
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

impl<E> std::fmt::Debug for AsyncProducer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncProducer").field("id", &self.producer.id()).finish_non_exhaustive()
    }
}

impl<E> AsyncProducer<E> {
    /// Publishes to the key's shard, by the policy of the class: a blocking class waits.
    ///
    /// # Errors
    /// [`PublishError`]; `fill` was not called then.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{AsyncProducer, ClassId, Outcome, PublishError};
    /// async fn publish(tx: &mut AsyncProducer<u64>, class: ClassId) -> Result<(), PublishError> {
    ///     match tx.publish(class, 7, |event| *event = 42).await? {
    ///         Outcome::Accepted => Ok(()),
    ///         Outcome::Dropped => Ok(println!("the lane was full")),     // in a class that drops the newest
    ///     }
    /// }
    /// ```
    #[inline(always)]
    pub fn publish(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> impl Future<Output = Result<Outcome, PublishError>> {
        let key = key.into();
        let lane = self.producer.lane_of(class, key);
        WhenClaimed::new(lane, key, 0, |claimed| write(claimed, |claim| fill(claim)))
    }

    /// Publishes with a payload, which is copied into the slot's payload bytes; by the policy of the class.
    ///
    /// # Errors
    /// [`PublishError`]; `fill` was not called then.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{AsyncProducer, ClassId, PublishError, Rejection};
    /// async fn publish(tx: &mut AsyncProducer<u64>, class: ClassId, text: &[u8]) -> Result<(), PublishError> {
    ///     match tx.publish_payload(class, 7, text, |event| *event = 42).await {
    ///         Err(error) if error.reason == Rejection::TooLarge => eprintln!("{} bytes are too many", text.len()),
    ///         other => drop(other?),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[inline]
    pub fn publish_payload(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> impl Future<Output = Result<Outcome, PublishError>> {
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
    /// [`PublishError`]; with [`crate::Rejection::NoRoute`] where there is no such shard. `fill` was not called then.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{AsyncProducer, Class, Plan, Profile, Rejection, ShardId, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// let mut tx = AsyncProducer::from(engine.attach()?);
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// tx.publish_to(ShardId(0), class, 7, |event| *event = 42).await?;
    /// let error = tx.publish_to(ShardId(9), class, 7, |_| unreachable!()).await.unwrap_err();
    /// assert_eq!(error.reason, Rejection::NoRoute);
    /// # Ok::<(), pelton::PublishError>(())
    /// # })?;
    /// # assert!(engine.stop(Duration::from_secs(1))?.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub async fn publish_to(
        &mut self,
        shard: ShardId,
        class: ClassId,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        let (lane, key) = (self.producer.lane_at(shard, class)?, key.into());
        WhenClaimed::new(lane, key, 0, |claimed| write(claimed, |claim| fill(claim))).await
    }

    /// Publishes a value that exists already, by the policy of the class. The old value of the slot is dropped here. A
    /// future that is dropped takes the value along.
    ///
    /// # Errors
    /// [`SendError`] gives the value back, with the reason.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{AsyncProducer, ClassId, SendError};
    /// async fn send(tx: &mut AsyncProducer<String>, class: ClassId, name: String) -> Option<String> {
    ///     match tx.send(class, 7, name).await {
    ///         Ok(_) => None,
    ///         Err(SendError { error, value }) => {
    ///             eprintln!("{error}");
    ///             Some(value)
    ///         }
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn send(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        value: E,
    ) -> impl Future<Output = Result<Outcome, SendError<E>>> {
        let key = key.into();
        let lane = self.producer.lane_of(class, key);
        WhenClaimed::new(lane, key, 0, |claimed| SendError::unless_sent(claimed, value))
    }

    /// Asks for a slot on the shard that owns `key`, to be written step by step. The [`AsyncClaimRequest`] says how many
    /// payload bytes it needs.
    #[inline]
    pub fn claim(&mut self, class: ClassId, key: impl Into<Key>) -> AsyncClaimRequest<'_, E> {
        let key = key.into();
        AsyncClaimRequest { lane: self.producer.lane_of(class, key), key, payload: 0 }
    }

    /// The producer itself: for what never waits, and for who it is.
    ///
    /// ```
    /// # use pelton::{AsyncProducer, ClassId, Producer};
    /// fn is_full(tx: &mut AsyncProducer<u64>, class: ClassId) -> bool {
    ///     tx.producer().is_full(class, 7, 0)
    /// }
    /// fn back(tx: AsyncProducer<u64>) -> Producer<u64> {
    ///     tx.into()
    /// }
    /// ```
    #[inline]
    pub fn producer(&mut self) -> &mut Producer<E> {
        &mut self.producer
    }
}

/// A request for a slot, made by [`AsyncProducer::claim`].
///
/// ```
/// use pelton::{AsyncProducer, ClassId, PublishError};
/// async fn publish(tx: &mut AsyncProducer<u64>, class: ClassId, text: &[u8]) -> Result<(), PublishError> {
///     let mut claim = tx.claim(class, 7).with_payload(text.len()).acquire().await?;
///     *claim = 42;
///     claim.payload_mut().copy_from_slice(text);
///     claim.publish()
/// }
/// ```
#[must_use = "a request claims nothing until it is asked to"]
pub struct AsyncClaimRequest<'a, E> {
    lane: &'a mut LaneProducer<E>,
    key: Key,
    payload: usize,
}

impl<E> std::fmt::Debug for AsyncClaimRequest<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncClaimRequest")
            .field("key", &self.key)
            .field("payload_bytes", &self.payload)
            .finish_non_exhaustive()
    }
}

impl<'a, E> AsyncClaimRequest<'a, E> {
    /// Asks for `len` payload bytes as well; the event may be published with fewer.
    #[inline]
    pub fn with_payload(mut self, len: usize) -> Self {
        self.payload = len;
        self
    }

    /// Claims a slot. Waits while the lane is full if the class [blocks](crate::Class::block). The claim is `Send` if the
    /// event is, so it may be held over an `.await`; it holds up its lane until it is published or dropped.
    ///
    /// # Errors
    /// [`PublishError`]; the reason is [`crate::Rejection::DroppedNewest`] where the class drops the newest event.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{AsyncProducer, ClassId, PublishError};
    /// async fn publish<T>(tx: &mut AsyncProducer<T>, class: ClassId, value: impl Future<Output = T>) -> Result<(), PublishError> {
    ///     let mut claim = tx.claim(class, 7).acquire().await?;
    ///     *claim = value.await;       // the lane waits for it
    ///     claim.publish()
    /// }
    /// ```
    #[inline]
    pub async fn acquire(self) -> Result<LaneClaim<'a, E>, PublishError> {
        let AsyncClaimRequest { lane, key, payload } = self;
        let mut waiting = Waiting::new(lane, payload);
        poll_fn(|context| waiting.poll_room(context)).await?;
        drop(waiting);
        lane.claim(key).with_payload(payload).try_acquire()
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
