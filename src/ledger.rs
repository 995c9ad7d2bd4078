//! The ledger: every event that is offered ends in exactly one column.
//!
//! # The identity
//! Whenever the engine is quiet, for each lane, and so for each class, each shard and in total:
//!
//! ```text
//! offered  = accepted + rejected(reason)
//! accepted = handled + expired + failed(reason) + evicted + in flight
//! ```
//!
//! *In flight* is counted from the rings (published slots that are not released), not as a difference, so the second
//! line can be false, and a test can fail.
//!
//! # Mechanism
//! Each counter has one writer and is a plain load and store. The producer's counters and the consumer's lie on
//! cache lines of their own, which the other side never reads on the path of an event. An event is offered when its
//! claim is published or refused: a claim that is dropped is `aborted`, outside the identity, like `retried`.
//!
//! A snapshot of a running engine reads what happens later first (released and handled before accepted before
//! offered): it may lag, but it never shows more handled than accepted.
//!
//! # A publish under way
//! A producer counts the event as offered, looks whether its lane is closed, counts the event as accepted or rejected, and
//! publishes it if it is accepted. So while `offered` is greater than `accepted + rejected`, a publish is under way. A
//! stop closes the lane, runs the heavy half of a barrier whose light half is between the producer's count and its look,
//! and waits until the two sides are equal: every event that was ever accepted is then known, and none will be.

use crate::class::ClassId;
use crate::event::{Failure, ProducerId, Rejection, ShardId};
pub use crate::sync::Counter;
use crossbeam_utils::CachePadded;

/// The counters of one lane, as they run.
#[derive(Default)]
pub(crate) struct LaneLedger {
    pub producer: CachePadded<ProducerSide>,
    pub consumer: CachePadded<ConsumerSide>,
}

/// Written by the lane's producer alone.
#[derive(Default)]
pub(crate) struct ProducerSide {
    pub offered: Counter,
    pub accepted: Counter,
    pub aborted: Counter,
    pub rejected: [Counter; Rejection::ALL.len()],
}

/// Written by the lane's shard alone.
#[derive(Default)]
pub(crate) struct ConsumerSide {
    pub handled: Counter,
    pub expired: Counter,
    pub evicted: Counter,
    pub retried: Counter,
    pub failed: [Counter; Failure::ALL.len()],
}

impl ProducerSide {
    /// Counts `n` events as offered. Their outcome must follow: `accept`, or `refuse`.
    #[inline(always)]
    pub fn offer(&self, n: u64) {
        self.offered.add(n);
    }

    /// Counts the outcome of `n` events that were offered.
    #[inline(always)]
    pub fn accept(&self, n: u64) {
        self.accepted.add(n);
    }

    /// Counts the outcome of `n` events that were offered.
    pub fn refuse(&self, reason: Rejection, n: u64) {
        self.rejected[reason as usize].add(n);
    }

    /// Counts an event that is refused when it is offered.
    #[cold]
    pub fn reject(&self, reason: Rejection) {
        self.offer(1);
        self.refuse(reason, 1);
    }
}

/// What stands in a ledger, of a lane or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that producers tried to publish.
    pub offered: u64,
    /// Events that were published into a lane.
    pub accepted: u64,
    /// Events that were not, by [`Rejection`].
    pub rejected: [u64; Rejection::ALL.len()],
    /// Events whose handler said [`crate::Verdict::Done`].
    pub handled: u64,
    /// Events that waited longer than their class allows.
    pub expired: u64,
    /// Events that the handler could not handle, by [`Failure`].
    pub failed: [u64; Failure::ALL.len()],
    /// Events that a newer one displaced. No policy of today evicts; it is 0.
    pub evicted: u64,
    /// Published and not released, counted from the rings. While a shard is in the middle of a burst, events of that
    /// burst may be counted here and as handled: slots are given back in groups.
    pub in_flight: u64,
    /// Claims that were dropped without publishing, and publishes that were given up while they waited for room (with
    /// feature `async`: futures that were dropped); outside the identity.
    pub aborted: u64,
    /// How often a handler returned [`crate::Verdict::Retry`]; outside the identity. An emit that was refused in such a
    /// call is not counted: neither offered nor rejected.
    pub retried: u64,
}

impl Counts {
    /// All rejections together.
    ///
    /// ```
    /// use pelton::ledger::Counts;
    /// use pelton::{Rejection, event::Failure};
    ///
    /// let mut counts = Counts { offered: 5, accepted: 3, handled: 2, ..Counts::default() };
    /// counts.rejected[Rejection::SlotsFull as usize] = 2;
    /// counts.failed[Failure::Panic as usize] = 1;
    /// assert_eq!((counts.rejected_total(), counts.failed_total()), (2, 1));
    /// assert_eq!(counts.rejected_for(Rejection::SlotsFull), 2);
    /// assert_eq!(counts.failed_for(Failure::Retry), 0);
    /// assert!(counts.is_closed());
    /// ```
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// All failures together.
    pub fn failed_total(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Rejections for one reason.
    pub fn rejected_for(&self, reason: Rejection) -> u64 {
        self.rejected[reason as usize]
    }

    /// Failures for one reason.
    pub fn failed_for(&self, reason: Failure) -> u64 {
        self.failed[reason as usize]
    }

    /// Whether both lines of the identity hold.
    ///
    /// ```
    /// use pelton::ledger::Counts;
    /// let lost = Counts { offered: 2, accepted: 2, handled: 1, ..Counts::default() };
    /// assert!(!lost.is_closed());
    /// assert!(Counts { in_flight: 1, ..lost }.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.is_settled() && self.accepted == self.done() + self.in_flight
    }

    /// Whether each event that was offered has been accepted or rejected: no publish is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.offered == self.accepted + self.rejected_total()
    }

    /// Accepted events that have left their lane.
    pub(crate) fn done(&self) -> u64 {
        self.handled + self.expired + self.failed_total() + self.evicted
    }

    /// Adds another ledger to this one.
    ///
    /// ```
    /// use pelton::ledger::Counts;
    /// let mut sum = Counts { offered: 2, accepted: 2, handled: 2, ..Counts::default() };
    /// sum.add(&Counts { offered: 1, accepted: 1, in_flight: 1, ..Counts::default() });
    /// assert_eq!((sum.offered, sum.handled, sum.in_flight), (3, 2, 1));
    /// ```
    pub fn add(&mut self, other: &Counts) {
        self.offered += other.offered;
        self.accepted += other.accepted;
        self.handled += other.handled;
        self.expired += other.expired;
        self.evicted += other.evicted;
        self.in_flight += other.in_flight;
        self.aborted += other.aborted;
        self.retried += other.retried;
        for (sum, n) in self.rejected.iter_mut().zip(&other.rejected) {
            *sum += n;
        }
        for (sum, n) in self.failed.iter_mut().zip(&other.failed) {
            *sum += n;
        }
    }
}

impl LaneLedger {
    /// Reads the counters, the later ones first; `in_flight` counts the ring and is called before anything else.
    pub fn snapshot(&self, in_flight: impl FnOnce() -> u64) -> Counts {
        let consumer = &self.consumer;
        let producer = &self.producer;
        let mut counts = Counts { in_flight: in_flight(), ..Counts::default() };
        counts.handled = consumer.handled.get();
        counts.expired = consumer.expired.get();
        counts.evicted = consumer.evicted.get();
        counts.retried = consumer.retried.get();
        counts.failed = std::array::from_fn(|i| consumer.failed[i].get());
        counts.accepted = producer.accepted.get();
        counts.rejected = std::array::from_fn(|i| producer.rejected[i].get());
        counts.aborted = producer.aborted.get();
        counts.offered = producer.offered.get();
        counts
    }
}

/// The counts of one lane, and which lane it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneCounts {
    /// The lane's producer.
    pub producer: ProducerId,
    /// The lane's shard.
    pub shard: ShardId,
    /// The lane's class.
    pub class: ClassId,
    /// What its ledger says.
    pub counts: Counts,
}

/// A snapshot of an engine's whole ledger.
///
/// ```
/// use pelton::{Class, Plan, Profile, ShardId, handler};
/// use std::time::Duration;
///
/// let mut plan = Plan::new(Profile::Dev);
/// let orders = plan.class(Class::strict("orders"));
/// let ticks = plan.class(Class::weighted("ticks", 1));
/// let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
/// let mut tx = engine.attach()?;
/// tx.publish(orders, 7, |event| *event = 1)?;
/// tx.publish(ticks, 7, |event| *event = 2)?;
/// assert!(tx.publish_to(ShardId(9), ticks, 7, |event| *event = 3).is_err());
///
/// let ledger = engine.stop(Duration::from_secs(10))?.ledger;
/// assert!(ledger.is_closed());
/// assert_eq!((ledger.total().offered, ledger.total().handled), (3, 2));
/// assert_eq!((ledger.class(orders).offered, ledger.class(ticks).offered), (1, 2));
/// assert_eq!((ledger.shard(ShardId(0)).offered, ledger.producer(tx.id()).offered), (2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Every lane that was laid out.
    pub lanes: Vec<LaneCounts>,
    /// Events refused before a lane was chosen (a shard that is not there, an emit without a mesh): by class.
    pub unrouted: Vec<Counts>,
}

impl Ledger {
    fn sum(&self, which: impl Fn(&LaneCounts) -> bool) -> Counts {
        let mut total = Counts::default();
        self.lanes.iter().filter(|lane| which(lane)).for_each(|lane| total.add(&lane.counts));
        total
    }

    /// The whole engine.
    pub fn total(&self) -> Counts {
        let mut total = self.sum(|_| true);
        self.unrouted.iter().for_each(|counts| total.add(counts));
        total
    }

    /// One class.
    pub fn class(&self, class: ClassId) -> Counts {
        let mut total = self.sum(|lane| lane.class == class);
        if let Some(counts) = self.unrouted.get(class.index()) {
            total.add(counts);
        }
        total
    }

    /// One shard.
    pub fn shard(&self, shard: ShardId) -> Counts {
        self.sum(|lane| lane.shard == shard)
    }

    /// One producer.
    pub fn producer(&self, producer: ProducerId) -> Counts {
        self.sum(|lane| lane.producer == producer)
    }

    /// Whether the identity holds for every lane. It does whenever the engine is quiet.
    pub fn is_closed(&self) -> bool {
        self.lanes.iter().all(|lane| lane.counts.is_closed()) && self.unrouted.iter().all(Counts::is_closed)
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_identity_can_be_false() {
        let lane = LaneLedger::default();
        lane.producer.offer(3);
        lane.producer.accept(3);
        lane.producer.reject(Rejection::BytesFull);
        lane.consumer.handled.add(1);
        lane.consumer.failed[Failure::Panic as usize].add(1);
        let counts = lane.snapshot(|| 1);
        assert!(counts.is_closed());
        assert_eq!(counts.rejected_for(Rejection::BytesFull), 1);
        assert!(!lane.snapshot(|| 0).is_closed());
        assert!(!lane.snapshot(|| 2).is_closed());
    }
}
