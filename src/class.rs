//! Priority classes: what a class is and what happens when one of its lanes is full.
//!
//! Classes never share a ring, so a full bulk class takes nothing from a critical one. Priority is the order of
//! declaration among strict classes; all weighted classes together form one tier below every strict class.

use std::time::Duration;

/// The largest number of classes of an engine.
pub const CLASSES_MAX: usize = 8;

/// The largest capacity of a lane, in slots.
pub const CAPACITY_MAX: u32 = 1 << 26;

/// The largest payload ring of a lane, in bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 1 << 30;

/// The rarest stamp: one event in this many.
pub const STAMP_ONE_IN_MAX: u32 = 1 << 20;

/// One of an engine's classes, in the order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub(crate) u8);

impl ClassId {
    /// The class's number, from 0 in the order of declaration.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev);
    /// let _orders = plan.class(Class::strict("orders"));
    /// let ticks = plan.class(Class::weighted("ticks", 1));
    /// assert_eq!(ticks.index(), 1);
    /// assert_eq!(plan.classes()[ticks.index()].name(), "ticks");
    /// ```
    #[inline(always)]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl std::fmt::Display for ClassId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "class {}", self.0)
    }
}

/// What the producer's side does when a lane of the class is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Wait until there is room, for ever or up to a limit.
    Block {
        /// How long; `None` waits until there is room or the engine stops.
        limit: Option<Duration>,
    },
    /// Refuse with the reason.
    Reject,
    /// Drop the event that was offered, and count it.
    DropNewest,
}

/// How a class is served among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Before everything that is declared later, and before every weighted class.
    Strict,
    /// What the strict classes leave over is shared in proportion to the weights (1 to 1,000), counted in events.
    Weighted(u32),
}

impl Share {
    /// The weight of a weighted class; `None` for a strict one.
    ///
    /// ```
    /// use pelton::class::Share;
    /// assert_eq!((Share::Weighted(3).weight(), Share::Strict.weight()), (Some(3), None));
    /// ```
    pub fn weight(self) -> Option<u32> {
        match self {
            Share::Strict => None,
            Share::Weighted(weight) => Some(weight),
        }
    }
}

/// Events of a weighted class's turn: one burst for the class with the smallest weight, more for the others in
/// proportion.
pub(crate) fn turn_events(burst: u32, weight: u32, smallest: u32) -> u64 {
    u64::from(burst) * u64::from(weight) / u64::from(smallest.max(1))
}

/// Which events of a class carry a stamp and are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Every one.
    Every,
    /// One in this many: a power of two from 2 to 2^20.
    OneIn(u32),
    /// None.
    Never,
}

/// A priority class in the making; [`crate::Plan::class`] takes it.
///
/// Every setting has its value from the start and is checked when the plan is: 1,024 slots, no payload, `block`
/// without a limit, no time to live, a stamp on one event in 64.
///
/// ```
/// use pelton::Class;
/// use pelton::class::{Overflow, Share, Stamp};
/// use std::time::Duration;
///
/// let ticks = Class::weighted("ticks", 3)
///     .with_capacity(4_096)
///     .with_payload_bytes(1 << 20)
///     .drop_newest()
///     .with_ttl(Duration::from_millis(5));
/// assert_eq!((ticks.name(), ticks.share()), ("ticks", Share::Weighted(3)));
/// assert_eq!((ticks.capacity(), ticks.payload_bytes()), (4_096, 1 << 20));
/// assert_eq!((ticks.overflow(), ticks.ttl()), (Overflow::DropNewest, Some(Duration::from_millis(5))));
/// assert_eq!(ticks.stamp(), Stamp::OneIn(64));        // unless set
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a class has no effect until a plan takes it"]
pub struct Class {
    pub(crate) name: String,
    pub(crate) share: Share,
    pub(crate) capacity: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) payload_max: Option<u32>,
    pub(crate) overflow: Overflow,
    pub(crate) ttl: Option<Duration>,
    pub(crate) stamp: Stamp,
}

impl Class {
    fn new(name: impl Into<String>, share: Share) -> Self {
        Class {
            name: name.into(),
            share,
            capacity: 1_024,
            payload_bytes: 0,
            payload_max: None,
            overflow: Overflow::Block { limit: None },
            ttl: None,
            stamp: Stamp::OneIn(64),
        }
    }

    /// A class that is served before all that are declared after it, and before every weighted class.
    ///
    /// ```
    /// # use pelton::{Class, Event, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// let bulk = plan.class(Class::weighted("bulk", 1));
    /// let orders = plan.class(Class::strict("orders"));
    /// # let (engine, mut seats) = plan.host_driven(|| 0u64)?;
    /// # let (seen, order) = std::sync::mpsc::channel();
    /// # let handler = handler(move |event: &mut Event<'_, u64>, _| drop(seen.send(event.class())));
    /// # let mut shard = seats.remove(0).build(handler)?;
    /// # let mut tx = engine.attach()?;
    /// tx.publish(bulk, 7, |event| *event = 1)?;
    /// tx.publish(orders, 7, |event| *event = 2)?;
    /// while engine.ledger().total().handled < 2 {
    ///     shard.poll();
    /// }
    /// assert_eq!(order.iter().take(2).collect::<Vec<_>>(), [orders, bulk]);
    /// # engine.close();
    /// # while !engine.drain(Duration::ZERO) {
    /// #     shard.poll();
    /// # }
    /// # let mut report = engine.stop(Duration::ZERO)?;
    /// # report.add(shard.finish());
    /// # assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn strict(name: impl Into<String>) -> Self {
        Self::new(name, Share::Strict)
    }

    /// A class that shares what strict classes leave over, in proportion to `weight` (1 to 1,000).
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev).with_burst(64);
    /// plan.class(Class::weighted("ticks", 3));
    /// plan.class(Class::weighted("bulk", 1));
    /// // Where both have events, ticks get three quarters of what strict classes leave over.
    /// assert_eq!(plan.turn_events(&plan.classes()[0]), Some(192));
    /// assert_eq!(plan.turn_events(&plan.classes()[1]), Some(64));
    /// ```
    pub fn weighted(name: impl Into<String>, weight: u32) -> Self {
        Self::new(name, Share::Weighted(weight))
    }

    /// Slots per lane: a power of two, 1 to 2^26. There is a lane for each producer and shard.
    ///
    /// ```
    /// use pelton::{Class, lane::lane, ring::ShapeError};
    /// assert!(lane(&Class::strict("only").with_capacity(1_024), || 0u64).is_ok());
    /// let error = lane(&Class::strict("only").with_capacity(1_000), || 0u64).unwrap_err();
    /// assert_eq!(error, ShapeError::Capacity(1_000));
    /// ```
    pub fn with_capacity(mut self, slots: u32) -> Self {
        self.capacity = slots;
        self
    }

    /// Bytes of each lane's payload ring: 0 (no payloads) or a power of two, 64 to 2^30. One payload takes at most
    /// half of it.
    ///
    /// ```
    /// use pelton::{Class, lane::lane};
    /// let class = Class::strict("only").with_payload_bytes(4_096).reject();
    /// let (mut tx, _rx) = lane(&class, || 0u64)?;
    /// assert!(tx.claim(7).with_payload(2_048).acquire().is_ok());
    /// assert!(tx.claim(7).with_payload(2_049).acquire().is_err());
    /// # Ok::<(), pelton::ring::ShapeError>(())
    /// ```
    pub fn with_payload_bytes(mut self, bytes: u32) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// Bytes of the largest payload: at most half of the payload ring, which it is where nothing is said. A larger one is
    /// rejected as `too_large`.
    ///
    /// ```
    /// use pelton::{Class, Rejection, lane::lane};
    /// let class = Class::strict("only").with_payload_bytes(1_024).with_payload_max(100).reject();
    /// assert_eq!(class.payload_max(), Some(100));
    /// let (mut tx, _rx) = lane(&class, || 0u64)?;
    /// let error = tx.claim(7).with_payload(101).acquire().unwrap_err();
    /// assert_eq!(error.reason, Rejection::TooLarge);
    /// # Ok::<(), pelton::ring::ShapeError>(())
    /// ```
    pub fn with_payload_max(mut self, bytes: u32) -> Self {
        self.payload_max = Some(bytes);
        self
    }

    /// When a lane is full, wait until there is room.
    pub fn block(mut self) -> Self {
        self.overflow = Overflow::Block { limit: None };
        self
    }

    /// When a lane is full, wait for at most `limit`, then reject with [`crate::Rejection::TimedOut`].
    ///
    /// ```
    /// use pelton::{Class, Rejection, lane::lane};
    /// use std::time::Duration;
    /// let class = Class::strict("only").with_capacity(1).block_for(Duration::from_millis(1));
    /// let (mut tx, _rx) = lane(&class, || 0u64)?;
    /// tx.publish(7, |event| *event = 1)?;
    /// assert_eq!(tx.publish(7, |event| *event = 2).unwrap_err().reason, Rejection::TimedOut);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn block_for(mut self, limit: Duration) -> Self {
        self.overflow = Overflow::Block { limit: Some(limit) };
        self
    }

    /// When a lane is full, refuse.
    ///
    /// ```
    /// use pelton::{Class, Rejection, lane::lane};
    /// let (mut tx, _rx) = lane(&Class::strict("only").with_capacity(1).reject(), || 0u64)?;
    /// tx.publish(7, |event| *event = 1)?;
    /// assert_eq!(tx.publish(7, |event| *event = 2).unwrap_err().reason, Rejection::SlotsFull);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reject(mut self) -> Self {
        self.overflow = Overflow::Reject;
        self
    }

    /// When a lane is full, drop what is offered, and count it.
    ///
    /// ```
    /// use pelton::{Class, Outcome, lane::lane};
    /// let (mut tx, rx) = lane(&Class::strict("only").with_capacity(1).drop_newest(), || 0u64)?;
    /// tx.publish(7, |event| *event = 1)?;
    /// assert_eq!(tx.publish(7, |event| *event = 2)?, Outcome::Dropped);
    /// assert_eq!(rx.counts().rejected_total(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drop_newest(mut self) -> Self {
        self.overflow = Overflow::DropNewest;
        self
    }

    /// Expire, instead of handling, what has waited longer than `span`. Stamps every event of the class.
    ///
    /// ```
    /// # use pelton::{Class, Plan, Profile, clock::Clock, handler};
    /// # use std::time::Duration;
    /// let (clock, time) = Clock::virtual_time();
    /// # let mut plan = Plan::new(Profile::Dev).with_clock(clock).with_announce(false);
    /// let class = plan.class(Class::strict("only").with_ttl(Duration::from_millis(5)));
    /// # let (engine, mut seats) = plan.host_driven(|| 0u64)?;
    /// # let mut shard = seats.remove(0).build(handler(|_, _| ()))?;
    /// # let mut tx = engine.attach()?;
    /// tx.publish(class, 7, |event| *event = 42)?;
    /// time.advance(Duration::from_millis(6));
    /// while shard.poll() > 0 {}
    /// assert_eq!(engine.ledger().class(class).expired, 1);
    /// # engine.close();
    /// # while !engine.drain(Duration::ZERO) {
    /// #     shard.poll();
    /// # }
    /// # let mut report = engine.stop(Duration::ZERO)?;
    /// # report.add(shard.finish());
    /// # assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_ttl(mut self, span: Duration) -> Self {
        self.ttl = Some(span);
        self
    }

    /// Which events are measured.
    ///
    /// ```
    /// use pelton::{Class, class::Stamp};
    /// assert_eq!(Class::strict("orders").with_stamp(Stamp::Every).stamp(), Stamp::Every);
    /// ```
    pub fn with_stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// The class's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the class is served among the others.
    pub fn share(&self) -> Share {
        self.share
    }

    /// Slots of each lane.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Bytes of each lane's payload ring.
    pub fn payload_bytes(&self) -> u32 {
        self.payload_bytes
    }

    /// Bytes of the largest payload, where the class names them.
    pub fn payload_max(&self) -> Option<u32> {
        self.payload_max
    }

    /// What happens when a lane is full.
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// How long an event may wait before it expires.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Which events are measured.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether the stamp is one that can be: every, never, or one in a power of two.
    pub(crate) fn is_stamp_valid(&self) -> bool {
        !matches!(self.stamp, Stamp::OneIn(n) if !n.is_power_of_two() || !(2..=STAMP_ONE_IN_MAX).contains(&n))
    }

    /// Whether slots of the class carry a stamp, which takes eight bytes of each.
    ///
    /// ```
    /// use pelton::{Class, class::Stamp};
    /// assert!(Class::strict("orders").is_stamped());
    /// assert!(!Class::strict("orders").with_stamp(Stamp::Never).is_stamped());
    /// ```
    pub fn is_stamped(&self) -> bool {
        self.ttl.is_some() || self.stamp != Stamp::Never
    }

    /// Which events are measured.
    pub(crate) fn measured(&self) -> Sample {
        match self.stamp {
            Stamp::Every => Sample::EVERY,
            Stamp::OneIn(n) => Sample { mask: u64::from(n) - 1, hit: 0 },
            Stamp::Never => Sample::NONE,
        }
    }

    /// Which events carry a stamp: those that are measured, and all of a class with a time to live.
    pub(crate) fn stamped(&self) -> Sample {
        if self.ttl.is_some() { Sample::EVERY } else { self.measured() }
    }
}

/// Some of the sequences of a lane: one comparison tells which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    mask: u64,
    hit: u64,
}

impl Sample {
    pub const EVERY: Sample = Sample { mask: 0, hit: 0 };
    pub const NONE: Sample = Sample { mask: 0, hit: 1 };

    #[inline(always)]
    pub fn has(self, sequence: u64) -> bool {
        sequence & self.mask == self.hit
    }
}
