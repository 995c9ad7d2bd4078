//! Going to sleep: the announcement, the last look, the sleep.
//!
//! # Invariants
//! - Between an announcement and the end of its nap every publisher to a set that was awake rings, and every call for
//!   attention wakes.
//! - The last look comes after the announcement: an event that was published before it shows there, or in the bell if
//!   its set dozed. A producer that has begun to wait for room has raised the bell, so `announce` refuses, or its
//!   `raise` finds the announcement and wakes.

use super::lanes::Lanes;
use crate::wait::{Bell, NAP};
use std::time::Duration;

/// An announced sleep; see [`crate::Shard::arm`]. Dropping it goes on without sleeping.
pub struct Nap<'a, E> {
    lanes: &'a Lanes<E>,
    bell: &'a Bell,
}

impl<E> std::fmt::Debug for Nap<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nap").finish_non_exhaustive()
    }
}

impl<'a, E> Nap<'a, E> {
    /// Lets publishers ring, and looks once more; `None` where there is something to do, or the barrier is not to be had.
    pub(super) fn announce(lanes: &'a Lanes<E>, bell: &'a Bell) -> Option<Self> {
        if lanes.any_ready() {
            return None;
        }
        let nap = Nap { lanes, bell };
        (bell.announce(|| lanes.all_doze()) && !lanes.any_ready()).then_some(nap)
    }

    /// Sleeps until somebody rings, for at most `limit` (and 100 ms). Says whether somebody did.
    pub fn wait(self, limit: Duration) -> bool {
        self.bell.sleep(limit.min(NAP))
    }

    /// The same, and counts a rescue if an event is there for which the bell has not rung. Its publisher may be preempted
    /// on its way to the bell: it has another nap for that.
    pub(super) fn sleep(self, limit: Duration) {
        if !self.bell.sleep(limit) && self.lanes.any_held() && !self.bell.sleep(NAP) {
            self.bell.rescues.add(1);
        }
    }
}

impl<E> Drop for Nap<'_, E> {
    fn drop(&mut self) {
        self.bell.stay_up();
        self.lanes.stay_up();
    }
}
