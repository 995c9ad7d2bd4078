//! A claim that is being asked for: how many payload bytes it needs, and how long it may wait.

use super::claim::LaneClaim;
use super::producer::LaneProducer;
use super::side::Patience;
use super::spec::{PublishError, TryClaimError};
use crate::event::Key;
use std::time::Duration;

/// A request for a slot, made by [`LaneProducer::claim`] or [`Producer::claim`](crate::Producer::claim). One of its last
/// four methods claims the slot.
///
/// ```
/// use pelton::{Class, lane::lane};
/// let class = Class::strict("only").with_capacity(8).with_payload_bytes(1_024).reject();
/// let (mut tx, mut rx) = lane(&class, || 0u64)?;
///
/// let mut claim = tx.claim(7).with_payload(5).acquire()?;
/// *claim = 42;
/// claim.payload_mut().copy_from_slice(b"hello");
/// claim.publish()?;
/// rx.poll(1, |event| assert_eq!((**event, event.payload()), (42, &b"hello"[..])));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a request claims nothing until it is asked to"]
pub struct ClaimRequest<'a, E> {
    lane: &'a mut LaneProducer<E>,
    key: Key,
    payload: usize,
}

impl<E> std::fmt::Debug for ClaimRequest<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimRequest")
            .field("key", &self.key)
            .field("payload_bytes", &self.payload)
            .finish_non_exhaustive()
    }
}

impl<E> LaneProducer<E> {
    /// Asks for a slot. The [`ClaimRequest`] says how many payload bytes it needs and how long it may wait.
    ///
    /// ```
    /// # use pelton::{Class, lane::lane};
    /// # let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(8).reject(), || [0u64; 2])?;
    /// let mut claim = tx.claim(7).acquire()?;
    /// claim[0] = 1;
    /// claim[1] = 2;
    /// claim.publish()?;
    /// drop(tx.claim(7).acquire()?);       // publishes nothing
    /// assert_eq!(rx.poll(8, |event| assert_eq!(**event, [1, 2])), 1);
    /// assert_eq!(rx.counts().aborted, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn claim(&mut self, key: impl Into<Key>) -> ClaimRequest<'_, E> {
        ClaimRequest { lane: self, key: key.into(), payload: 0 }
    }
}

impl<'a, E> ClaimRequest<'a, E> {
    /// Asks for `len` payload bytes as well; the event may be published with fewer.
    ///
    /// ```
    /// # use pelton::{Class, Rejection, lane::lane};
    /// let class = Class::strict("only").with_capacity(8).with_payload_bytes(64).reject();
    /// let (mut tx, _rx) = lane(&class, || 0u64)?;
    /// assert_eq!(tx.claim(7).with_payload(32).acquire()?.payload_mut().len(), 32);
    /// let error = tx.claim(7).with_payload(33).acquire().unwrap_err();       // more than half of the ring
    /// assert_eq!(error.reason, Rejection::TooLarge);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn with_payload(mut self, len: usize) -> Self {
        self.payload = len;
        self
    }

    /// Claims a slot. Blocks while the lane is full if the class [blocks](crate::Class::block).
    ///
    /// # Errors
    /// [`PublishError`]; the reason is [`DroppedNewest`](crate::Rejection::DroppedNewest) where the class drops the
    /// newest event.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Rejection, lane::lane};
    /// let class = Class::strict("only").with_capacity(1).drop_newest();
    /// let (mut tx, _rx) = lane(&class, || 0u64)?;
    /// tx.claim(7).acquire()?.publish()?;
    /// assert_eq!(tx.claim(7).acquire().unwrap_err().reason, Rejection::DroppedNewest);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn acquire(self) -> Result<LaneClaim<'a, E>, PublishError> {
        self.lane.claim_with(self.key, self.payload, Patience::ByPolicy)
    }

    /// Claims a slot. Never blocks, whatever the class does when its lane is full.
    ///
    /// # Errors
    /// [`PublishError`].
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Rejection, lane::lane};
    /// let (mut tx, _rx) = lane(&Class::strict("only").with_capacity(1).block(), || 0u64)?;
    /// tx.claim(7).try_acquire()?.publish()?;
    /// assert_eq!(tx.claim(7).try_acquire().unwrap_err().reason, Rejection::SlotsFull);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn try_acquire(self) -> Result<LaneClaim<'a, E>, PublishError> {
        self.lane.claim_with(self.key, self.payload, Patience::None)
    }

    /// Claims a slot. Blocks for at most `timeout` while the lane is full, whatever the class does then. A timeout of zero
    /// ends the waiting that [`poll_acquire`](Self::poll_acquire) began, and counts it.
    ///
    /// # Errors
    /// [`PublishError`]; the reason is [`TimedOut`](crate::Rejection::TimedOut) when the timeout was over.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Rejection, lane::lane};
    /// # use std::time::Duration;
    /// let (mut tx, _rx) = lane(&Class::strict("only").with_capacity(1).block(), || 0u64)?;
    /// let limit = Duration::from_millis(1);
    /// tx.claim(7).acquire_timeout(limit)?.publish()?;
    /// assert_eq!(tx.claim(7).acquire_timeout(limit).unwrap_err().reason, Rejection::TimedOut);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn acquire_timeout(self, timeout: Duration) -> Result<LaneClaim<'a, E>, PublishError> {
        self.lane.claim_with(self.key, self.payload, Patience::Wait(Some(timeout)))
    }

    /// Claims a slot. Never blocks: where a class that blocks would, the error is [`TryClaimError::WouldBlock`], and
    /// nothing is counted. For event loops that do something else meanwhile and come back
    /// ([`Producer::poll_room`](crate::Producer) wakes them).
    ///
    /// # Errors
    /// [`TryClaimError`].
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, TryClaimError, lane::lane};
    /// let (mut tx, mut rx) = lane(&Class::strict("only").with_capacity(1).block(), || 0u64)?;
    /// tx.claim(7).poll_acquire()?.publish()?;
    /// assert_eq!(tx.claim(7).poll_acquire().unwrap_err(), TryClaimError::WouldBlock);
    /// assert_eq!(rx.poll(1, |_| ()), 1);
    /// tx.claim(7).poll_acquire()?.publish()?;       // there is room again
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn poll_acquire(self) -> Result<LaneClaim<'a, E>, TryClaimError> {
        self.lane.poll_claim(self.key, self.payload)
    }
}
