//! Parking: the announcement, the last look, the sleep.
//!
//! # Invariants
//! - Between an announcement and the drop of its token every publisher to a set that was awake rings, and every call for
//!   attention wakes.
//! - The last look comes after the announcement: an event that was published before it shows there, or on the waker if
//!   its set dozed. A producer that has begun to wait for room has raised the waker, so `announce` refuses, or its
//!   `raise` finds the announcement and wakes.

use super::lanes::Lanes;
use crate::park::{SLEEP_MAX, ShardWaker};
use std::time::Duration;

/// An announced sleep; see [`crate::Shard::arm`]. Dropping it goes on without sleeping.
pub struct ParkToken<'a, E> {
    lanes: &'a Lanes<E>,
    waker: &'a ShardWaker,
}

impl<E> std::fmt::Debug for ParkToken<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParkToken").finish_non_exhaustive()
    }
}

impl<'a, E> ParkToken<'a, E> {
    /// Lets publishers ring, and looks once more; `None` where there is something to do, or the barrier is not to be had.
    pub(super) fn announce(lanes: &'a Lanes<E>, waker: &'a ShardWaker) -> Option<Self> {
        if lanes.any_ready() {
            return None;
        }
        let token = ParkToken { lanes, waker };
        (waker.announce(|| lanes.all_doze()) && !lanes.any_ready()).then_some(token)
    }

    /// Sleeps until somebody rings, for at most `limit` (and 100 ms). Says whether somebody did.
    ///
    /// ```
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let (engine, mut seats) = plan.host_driven(|| 0u64)?;
    /// # let mut shard = seats.remove(0).build(handler(|_, _| ()))?;
    /// # let mut tx = engine.attach()?;
    /// while shard.poll() > 0 {}
    /// if let Some(token) = shard.arm() {
    ///     assert!(!token.wait(Duration::from_millis(1)));      // nobody rang
    /// }
    /// tx.publish(class, 7, |event| *event = 42)?;
    /// assert!(shard.arm().is_none());                          // there is something to do
    /// # engine.close();
    /// # while !engine.drain(Duration::ZERO) {
    /// #     shard.poll();
    /// # }
    /// # let mut report = engine.stop(Duration::ZERO)?;
    /// # report.add(shard.finish());
    /// # assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(self, limit: Duration) -> bool {
        self.waker.sleep(limit.min(SLEEP_MAX))
    }

    /// The same, and counts a rescue if an event is there for which the waker was not raised. Its publisher may be preempted
    /// before it does that: it has the time of another sleep.
    pub(super) fn sleep(self, limit: Duration) {
        if !self.waker.sleep(limit) && self.lanes.any_held() && !self.waker.sleep(SLEEP_MAX) {
            self.waker.rescues.add(1);
        }
    }
}

impl<E> Drop for ParkToken<'_, E> {
    fn drop(&mut self) {
        self.waker.cancel_park();
        self.lanes.cancel_park();
    }
}
