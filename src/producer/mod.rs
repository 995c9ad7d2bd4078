//! Producers: handles over one lane per shard and class.
//!
//! # Mechanism
//! All lanes are laid out before the first event. A *lane set* holds the writing ends that one producer needs: a lane
//! for each shard and class. The `Registry` holds the sets that are free. To attach means to take one out, to detach
//! to put it back; neither allocates.
//!
//! # Invariants
//! - A set is given out again only when its shards have released every event of its last user, so the order of one
//!   producer is never mixed with that of another. Sequences and ledgers go on where they were; the *generation* of
//!   the set distinguishes its users.
//! - One lane, one writer: a set is in the registry or in one producer, never in both.
//! - A producer of a forked child is in neither: its lock may have been copied while a thread of the parent held it.
//!
//! Attach and detach lock the registry for an instant; they are not on the path of an event.

#[cfg(all(test, pelton_loom))]
mod models;

use crate::class::ClassId;
use crate::event::{Key, Outcome, ProducerId, Rejection, ShardId};
pub use crate::lane::SendError;
use crate::lane::{ClaimRequest, LaneId, LaneProducer, PublishError, write, write_bytes};
use crate::park::{ShardWaker, bit};
use crate::route::Routes;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The writing ends that one producer needs, shard by shard, class by class.
pub(crate) struct LaneSet<E> {
    pub id: ProducerId,
    pub generation: u32,
    pub lanes: Box<[LaneProducer<E>]>,
}

impl<E> LaneSet<E> {
    fn is_drained(&mut self) -> bool {
        // The events in a closed lane stay there, and none will follow.
        self.lanes.iter_mut().all(|lane| lane.is_closed() || lane.is_drained())
    }
}

/// Why no producer can be attached.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachError {
    /// As many producers as were planned are attached.
    AllAttached {
        /// The plan's `producers_max`.
        max: u16,
    },
    /// Lane sets are free, but each still holds events of its last user.
    Draining {
        /// How many.
        draining: u16,
    },
    /// The engine is stopping or has stopped.
    Closed,
    /// This is a child process; the engine runs in its parent.
    Forked,
    /// A host-driven shard has not been built yet.
    NotReady,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllAttached { max } => {
                write!(f, "all {max} lane sets are attached; plan more with producers_max, or detach one")
            }
            Self::Draining { draining } => write!(
                f,
                "{draining} lane sets are free, but events of their last users are still in flight; try again later"
            ),
            Self::Closed => f.write_str("the engine is closed"),
            Self::Forked => f.write_str("the engine belongs to the parent process: start one in the child"),
            Self::NotReady => f.write_str("not all host-driven shards are built yet"),
        }
    }
}

impl Error for AttachError {}

/// The lane sets that are free.
pub(crate) struct Registry<E> {
    free: Mutex<Vec<LaneSet<E>>>,
    sets: u16,
}

impl<E> Registry<E> {
    /// Bytes of a registry of so many sets, without their lanes.
    pub const fn bytes(sets: usize) -> usize {
        sets * size_of::<LaneSet<E>>()
    }

    pub fn new(sets: u16) -> Self {
        Registry { free: Mutex::new(Vec::with_capacity(usize::from(sets))), sets }
    }

    /// Puts a set in: a new one, or that of a producer that is gone.
    pub fn put(&self, set: LaneSet<E>) {
        let mut free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Within the capacity that was reserved: there are never more sets than were planned.
        free.push(set);
    }

    /// Takes a set out that holds no event.
    pub fn take(&self) -> Result<LaneSet<E>, AttachError> {
        let mut free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if free.is_empty() {
            return Err(AttachError::AllAttached { max: self.sets });
        }
        // From the end, where assembly put the first set, and where the one lies that was used last.
        let Some(at) = free.iter_mut().rposition(LaneSet::is_drained) else {
            return Err(AttachError::Draining { draining: free.len() as u16 });
        };
        let mut set = free.remove(at);
        set.generation = set.generation.wrapping_add(1);
        Ok(set)
    }
}

/// What producers share with their engine.
pub(crate) struct EngineShared<E> {
    pub routes: Arc<Routes>,
    pub registry: Registry<E>,
    pub wakers: Box<[Arc<ShardWaker>]>,
    pub classes: usize,
    /// Events that found no lane, by class: `rejected(no_route)`. Counted off the usual way, by any thread.
    pub unrouted: Box<[AtomicU64]>,
    /// All shards are built, and their lanes sorted into sets.
    complete: AtomicBool,
}

impl<E> EngineShared<E> {
    /// What an engine that is not complete yet shares.
    pub fn new(
        routes: Routes,
        registry: Registry<E>,
        wakers: Box<[Arc<ShardWaker>]>,
        classes: usize,
    ) -> Self {
        EngineShared {
            routes: Arc::new(routes),
            registry,
            wakers,
            classes,
            unrouted: (0..classes).map(|_| AtomicU64::new(0)).collect(),
            complete: AtomicBool::new(false),
        }
    }

    /// Marks the engine complete: all shards are built, and each has been sent its mesh. Calls every shard, which starts then.
    pub fn complete(&self) {
        // SYNC: complete (Release); pairs with `EngineShared::is_complete`.
        self.complete.store(true, Ordering::Release);
        self.wakers.iter().for_each(|waker| waker.raise(bit::LANES));
    }

    /// Whether all shards are built.
    pub fn is_complete(&self) -> bool {
        // SYNC: complete (Acquire); pairs with `EngineShared::complete`.
        self.complete.load(Ordering::Acquire)
    }

    /// Counts and describes an event for a shard that is not there.
    #[cold]
    pub fn no_route(&self, producer: ProducerId, shard: ShardId, class: ClassId) -> PublishError {
        self.unrouted[class.index()].fetch_add(1, Ordering::Relaxed);
        PublishError { reason: Rejection::NoRoute, lane: LaneId { producer, shard, class }, capacity: 0 }
    }
}

/// A handle by which one thread publishes events. `Send`, not `Sync`.
///
/// Every form returns how the event ended: [`Outcome::Accepted`], or [`Outcome::Dropped`] in a class that drops the
/// newest, or a [`PublishError`] that says why. The closures that write an event are called only when there is a slot for
/// it, and write in place.
///
/// Order: events of one producer, one key and one class are handled in the order in which they were published.
///
/// Dropping the producer detaches it: what it published is still handled. In a child process (`fork`) dropping it
/// does nothing.
///
/// # Panics
/// All methods panic if the class is none of this engine's.
///
#[doc = include_str!("producer.md")]
pub struct Producer<E> {
    // The lane set, and what a publish needs of the engine, side by side.
    lanes: Box<[LaneProducer<E>]>,
    classes: usize,
    routes: Arc<Routes>,
    id: ProducerId,
    generation: u32,
    shared: Arc<EngineShared<E>>,
}

impl<E> std::fmt::Debug for Producer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("id", &self.id)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl<E> Producer<E> {
    pub(crate) fn new(set: LaneSet<E>, shared: Arc<EngineShared<E>>) -> Self {
        let LaneSet { id, generation, lanes } = set;
        Producer { lanes, classes: shared.classes, routes: shared.routes.clone(), id, generation, shared }
    }

    /// Which lane set this producer writes.
    pub fn id(&self) -> ProducerId {
        self.id
    }

    /// How often its lane set has been attached, this time included.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The shard that handles this key.
    #[inline]
    pub fn shard_of(&self, key: impl Into<Key>) -> ShardId {
        self.routes.shard(key.into())
    }

    #[inline(always)]
    fn lane(&mut self, shard: ShardId, class: ClassId) -> &mut LaneProducer<E> {
        let classes = self.classes;
        if class.index() >= classes {
            foreign_class(class, classes);
        }
        &mut self.lanes[shard.index() * classes + class.index()]
    }

    #[inline(always)]
    pub(crate) fn lane_of(&mut self, class: ClassId, key: Key) -> &mut LaneProducer<E> {
        let shard = self.routes.shard(key);
        self.lane(shard, class)
    }

    #[inline(always)]
    pub(crate) fn lane_at(
        &mut self,
        shard: ShardId,
        class: ClassId,
    ) -> Result<&mut LaneProducer<E>, PublishError> {
        if shard.index() >= self.shared.wakers.len() {
            return Err(self.shared.no_route(self.id(), shard, class));
        }
        Ok(self.lane(shard, class))
    }

    /// Publishes an event, which `fill` writes in place, to the shard that owns `key`. Blocks while the lane is full if
    /// the class [blocks](crate::Class::block).
    ///
    /// # Errors
    /// [`PublishError`]; `fill` was not called then.
    #[inline(always)]
    pub fn publish(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        let key = key.into();
        self.lane_of(class, key).publish(key, fill)
    }

    /// Publishes an event as [`publish`](Self::publish) does. Never blocks, whatever the class does when its lane is full.
    ///
    /// # Errors
    /// [`PublishError`]; `fill` was not called then.
    #[inline]
    pub fn try_publish(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        write(self.claim(class, key).try_acquire(), |claim| fill(claim))
    }

    /// Publishes an event as [`publish`](Self::publish) does. Blocks for at most `timeout` while the lane is full,
    /// whatever the class does then: in a class that drops the newest event a lane that stays full is an error here, and
    /// not [`Outcome::Dropped`].
    ///
    /// # Errors
    /// [`PublishError`]; the reason is [`Rejection::TimedOut`] when the timeout was over. `fill` was not called then.
    #[inline]
    pub fn publish_timeout(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        timeout: Duration,
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        let mut claim = self.claim(class, key).acquire_timeout(timeout)?;
        fill(&mut claim);
        claim.publish().map(|()| Outcome::Accepted)
    }

    /// Publishes an event with a payload, which is copied into the slot's payload bytes. Blocks as
    /// [`publish`](Self::publish) does.
    ///
    /// # Errors
    /// [`PublishError`]; `fill` was not called then.
    #[inline]
    pub fn publish_payload(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        write_bytes(self.claim(class, key).with_payload(payload.len()).acquire(), payload, fill)
    }

    /// Publishes an event to a shard by its number; the key is carried along. Blocks as [`publish`](Self::publish) does.
    ///
    /// Order is kept per lane, that is, per shard and class. Events of one key that go to two shards, some by
    /// [`publish`](Self::publish) and some by this, are in no order with each other.
    ///
    /// # Errors
    /// [`PublishError`]; the reason is [`Rejection::NoRoute`] where there is no such shard. `fill` was not called then.
    #[inline]
    pub fn publish_to(
        &mut self,
        shard: ShardId,
        class: ClassId,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        self.lane_at(shard, class)?.publish(key, fill)
    }

    /// Publishes a value that exists already. Blocks as [`publish`](Self::publish) does. The old value of the slot is
    /// dropped on this thread, after the new one is published.
    ///
    /// # Errors
    /// [`SendError`], which holds the value.
    #[inline]
    pub fn send(&mut self, class: ClassId, key: impl Into<Key>, value: E) -> Result<Outcome, SendError<E>> {
        SendError::unless_sent(self.claim(class, key).acquire(), value)
    }

    /// Publishes a value as [`send`](Self::send) does. Never blocks.
    ///
    /// # Errors
    /// [`SendError`], which holds the value.
    #[inline]
    pub fn try_send(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        value: E,
    ) -> Result<Outcome, SendError<E>> {
        SendError::unless_sent(self.claim(class, key).try_acquire(), value)
    }

    /// Publishes a value as [`send`](Self::send) does. Blocks for at most `timeout` while the lane is full.
    ///
    /// # Errors
    /// [`SendError`], which holds the value.
    #[inline]
    pub fn send_timeout(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        value: E,
        timeout: Duration,
    ) -> Result<Outcome, SendError<E>> {
        SendError::unless_sent(self.claim(class, key).acquire_timeout(timeout), value)
    }

    /// Asks for a slot on the shard that owns `key`, to be written step by step. The [`ClaimRequest`] says how many
    /// payload bytes it needs and how long it may wait. The claim is `Send` if the event is.
    #[inline(always)]
    pub fn claim(&mut self, class: ClassId, key: impl Into<Key>) -> ClaimRequest<'_, E> {
        let key = key.into();
        self.lane_of(class, key).claim(key)
    }

    /// Whether a claim of so many payload bytes need not wait for room. Where it must, `context`'s waker is woken
    /// when it is worth to come back: when half of what stood in the lane is released, or the lane is closed. For
    /// event loops that use [`ClaimRequest::poll_acquire`]; futures that publish are [`AsyncProducer`](crate::AsyncProducer)'s.
    ///
    /// A lane remembers one waker, the last that was left. It is woken once: on the shard's thread between two
    /// bursts, or on this producer's thread by a publish of its own that waits for room. It may be woken for nothing.
    /// Nothing is counted, and no limit of the class is looked at.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile, handler};
    /// use std::task::{Context, Waker};
    ///
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// let class = plan.class(Class::strict("only").with_capacity(1).block());
    /// # let (engine, mut seats) = plan.host_driven(|| 0u64)?;
    /// # let mut shard = seats.remove(0).build(handler(|_, _| ()))?;
    /// # let mut tx = engine.attach()?;
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(tx.poll_room(class, 7, 0, &mut context).is_ready());
    /// tx.publish(class, 7, |event| *event = 1)?;
    /// assert!(tx.poll_room(class, 7, 0, &mut context).is_pending());
    /// while shard.poll() > 0 {}
    /// assert!(tx.poll_room(class, 7, 0, &mut context).is_ready());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub fn poll_room(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        bytes: usize,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<()> {
        self.lane_of(class, key.into()).poll_room(bytes, context)
    }

    /// Whether a claim of so many payload bytes would find its lane full now.
    pub fn is_full(&mut self, class: ClassId, key: impl Into<Key>, bytes: usize) -> bool {
        self.lane_of(class, key.into()).is_full(bytes)
    }

    /// Events in the lane that this key and class go through: published and not released.
    pub fn depth(&mut self, class: ClassId, key: impl Into<Key>) -> u64 {
        self.lane_of(class, key.into()).depth()
    }
}

// Apart, and by value: a message that looked at the fields would keep them in memory on the way of every event.
#[cold]
#[inline(never)]
#[track_caller]
fn foreign_class(class: ClassId, classes: usize) -> ! {
    panic!("class {} is not one of this engine's {classes}", class.index())
}

impl<E> Drop for Producer<E> {
    fn drop(&mut self) {
        let lanes = std::mem::take(&mut self.lanes);
        // In a forked child the lock of the registry may have been copied while a thread of the parent held it.
        if lanes.first().is_some_and(LaneProducer::is_forked) {
            std::mem::forget(lanes);
            return;
        }
        self.shared.registry.put(LaneSet { id: self.id, generation: self.generation, lanes });
    }
}
