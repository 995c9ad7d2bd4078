//! A claimed slot of a lane: written in place, then published or dropped.

use super::side::LaneSide;
use super::spec::PublishError;
use crate::clock::Clock;
use crate::event::Outcome;
use crate::ring;
use std::ops::{Deref, DerefMut};

/// Lets `fill` write what was claimed, and publishes it; what a policy drops is no error.
#[inline(always)]
pub(crate) fn write<E>(
    claimed: Result<LaneClaim<'_, E>, PublishError>,
    fill: impl FnOnce(&mut LaneClaim<'_, E>),
) -> Result<Outcome, PublishError> {
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
    claimed: Result<LaneClaim<'_, E>, PublishError>,
    payload: &[u8],
    fill: impl FnOnce(&mut E),
) -> Result<Outcome, PublishError> {
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

impl<E> std::fmt::Debug for LaneClaim<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneClaim").field("lane", &self.side.shared.id).finish_non_exhaustive()
    }
}

const LIVE: &str = "a claim is whole until it is published";

impl<E> LaneClaim<'_, E> {
    /// The claimed payload bytes.
    ///
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// let class = Class::strict("only").with_capacity(8).with_payload_bytes(64).reject();
    /// let (mut tx, mut rx) = lane(&class, || 0u64)?;
    /// let mut claim = tx.claim(7).with_payload(3).acquire()?;
    /// claim.payload_mut().copy_from_slice(b"abc");
    /// claim.publish()?;
    /// assert_eq!(rx.poll(1, |event| assert_eq!(event.payload(), b"abc")), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.claim.as_mut().expect(LIVE).payload_mut()
    }

    /// The event and its payload at once.
    ///
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// # let class = Class::strict("only").with_capacity(8).with_payload_bytes(64).reject();
    /// # let (mut tx, mut rx) = lane(&class, || 0u64)?;
    /// let mut claim = tx.claim(7).with_payload(3).acquire()?;
    /// let (length, bytes) = claim.parts_mut();
    /// bytes.copy_from_slice(b"abc");
    /// *length = bytes.len() as u64;
    /// claim.publish()?;
    /// # assert_eq!(rx.poll(1, |event| assert_eq!((**event, event.payload()), (3, &b"abc"[..]))), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn parts_mut(&mut self) -> (&mut E, &mut [u8]) {
        self.claim.as_mut().expect(LIVE).parts_mut()
    }

    /// The sequence that the event will have in its lane.
    ///
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// # let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(8).reject(), || 0u64)?;
    /// tx.publish(7, |event| *event = 1)?;
    /// let claim = tx.claim(7).acquire()?;
    /// assert_eq!(claim.sequence(), 1);
    /// claim.publish()?;
    /// # assert_eq!(rx.poll(2, |_| ()), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.claim.as_ref().expect(LIVE).sequence()
    }

    /// Publishes the event with all claimed payload bytes. Never blocks.
    ///
    /// # Errors
    /// [`PublishError`] with [`Closed`](crate::Rejection::Closed) if the lane was closed after the claim. Nothing is published then.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Rejection, lane::lane};
    /// # let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(8).reject(), || 0u64)?;
    /// let mut claim = tx.claim(7).acquire()?;
    /// *claim = 42;
    /// claim.publish()?;
    /// assert_eq!(rx.poll(1, |event| assert_eq!(**event, 42)), 1);
    ///
    /// let claim = tx.claim(7).acquire()?;
    /// drop(rx);
    /// assert_eq!(claim.publish().unwrap_err().reason, Rejection::Closed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn publish(mut self) -> Result<(), PublishError> {
        let claim = self.stamped(Clock::ticks);
        self.side.accept(&claim)?;
        claim.publish();
        self.side.door.ring();
        Ok(())
    }

    /// Publishes the event with a stamp of the caller's choice, in ticks of the engine's clock, in place of the time now:
    /// wait, latency and age count from there. A source that works by a schedule gives the time that it *meant*, so that
    /// what it lost to a stall shows. Events that carry no stamp ignore it. A time to come waits for nothing, and its time to
    /// live begins when it has come. Never blocks.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Plan, Profile, clock::Clock, handler};
    /// # use std::time::Duration;
    /// let (clock, time) = Clock::virtual_time();
    /// let mut plan = Plan::new(Profile::Dev).with_clock(clock);
    /// # plan = plan.with_announce(false);
    /// let class = plan.class(Class::strict("only").with_ttl(Duration::from_millis(5)));
    /// # let (engine, mut seats) = plan.host_driven(|| 0u64)?;
    /// # let mut shard = seats.remove(0).build(handler(|_, _| ()))?;
    /// # let mut tx = engine.attach()?;
    /// let meant = engine.clock().ticks();
    /// time.advance(Duration::from_millis(10));       // the source stalls
    /// tx.claim(class, 7).acquire()?.publish_stamped(meant)?;
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
    #[inline(always)]
    pub fn publish_stamped(mut self, ticks: u64) -> Result<(), PublishError> {
        let claim = self.stamped(|_| ticks);
        self.side.accept(&claim)?;
        claim.publish();
        self.side.door.ring();
        Ok(())
    }

    /// Publishes the event with the first `used` of the claimed payload bytes. Never blocks.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    ///
    /// # Panics
    /// If `used` is more than was claimed; nothing is published then.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// # let class = Class::strict("only").with_capacity(8).with_payload_bytes(64).reject();
    /// # let (mut tx, mut rx) = lane(&class, || 0u64)?;
    /// let mut claim = tx.claim(7).with_payload(16).acquire()?;
    /// let text = b"short";
    /// claim.payload_mut()[..text.len()].copy_from_slice(text);
    /// claim.publish_len(text.len())?;
    /// assert_eq!(rx.poll(1, |event| assert_eq!(event.payload(), b"short")), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn publish_len(mut self, used: usize) -> Result<(), PublishError> {
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
    /// [`PublishError`] as for [`Self::publish`], with the value.
    #[inline(always)]
    pub(crate) fn send(mut self, value: E) -> Result<(), (PublishError, E)> {
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
    #[inline(always)]
    pub(super) fn new(claim: ring::Claim<'a, E>, side: &'a LaneSide) -> Self {
        LaneClaim { claim: Some(claim), side }
    }

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
