//! The doorbell: how the publishers of one lane set make their shard look at their lanes again.
//!
//! # Mechanism
//! A shard polls the lanes of sets that are *awake*. A set without events for some time *dozes*: the shard stops
//! looking at it. Each set has a doorbell for each shard, one word on a line of its own, which its publisher reads
//! after each publish and which is rarely written.
//!
//! ```text
//!   publisher                                  shard that lets a set doze, or goes to sleep itself
//!   store the slot's word (Release)            set DOZING in the doorbell (of each set, if it goes to sleep)
//!   fence_light             ◀── SYNC: doze ──▶ fence_heavy
//!   load the doorbell: DOZING? then ring       look at the set's lanes once more: an event? then stay awake
//!                                              do not look at the set until it rings
//! ```
//!
//! The two fences make one store-load barrier: at least one of the two sees the other's store. The shard pays for it
//! (`membarrier`), so a publisher pays a load, a test and a branch that is never taken while its set is awake. To
//! ring means to take `DOZING` off and to call the shard by its [`ShardWaker`], which also wakes it.
//!
//! Sets doze from the start, before they have a publisher, so the shard takes no part in attaching and detaching.

use super::shard_waker::{ShardWaker, bit};
use crate::sync::{Arc, AtomicU32, Ordering, asymmetric_fences, fence, fence_light};
use crossbeam_utils::CachePadded;

/// The shard does not look at the set.
const DOZING: u32 = 1;
/// The kernel has no process-wide barrier: each publish needs a fence of its own.
const FENCED: u32 = 1 << 31;

/// The word that a publisher loads after each publish.
pub(crate) struct Doorbell {
    word: CachePadded<AtomicU32>,
    waker: Arc<ShardWaker>,
}

impl Doorbell {
    /// The doorbell of a set that dozes.
    pub fn new(waker: Arc<ShardWaker>) -> Self {
        let fences = if asymmetric_fences() { 0 } else { FENCED };
        Doorbell { word: CachePadded::new(AtomicU32::new(fences | DOZING)), waker }
    }

    /// The doorbell of a lane whose consumer never stops looking at it, so that its publisher needs no fence.
    pub fn awake(waker: Arc<ShardWaker>) -> Self {
        Doorbell { word: CachePadded::new(AtomicU32::new(0)), waker }
    }

    /// The shard's waker.
    pub fn waker(&self) -> &Arc<ShardWaker> {
        &self.waker
    }

    /// Called after every publish.
    #[inline(always)]
    pub fn ring(&self) {
        // SYNC: doze (light half); pairs with the heavy half that follows `Doorbell::doze`.
        fence_light();
        // Relaxed: the fences order it, and ringing carries no data.
        if self.word.load(Ordering::Relaxed) != 0 {
            self.ring_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring_slow(&self) {
        // Where the light half is not enough, the publisher pays for a whole fence. The bit is set from the start.
        if self.word.load(Ordering::Relaxed) & FENCED != 0 {
            fence(Ordering::SeqCst);
        }
        if self.word.load(Ordering::Relaxed) & DOZING != 0 && self.clear() {
            self.waker.raise(bit::LANES);
        }
    }

    /// Shard: stops looking at the set. A heavy fence and a last look must follow.
    pub fn doze(&self) {
        self.word.fetch_or(DOZING, Ordering::Relaxed);
    }

    /// Takes `DOZING` off; returns whether it was on.
    pub fn clear(&self) -> bool {
        self.word.fetch_and(!DOZING, Ordering::Relaxed) & DOZING != 0
    }

    /// Shard: whether the set dozes and has not rung.
    pub fn is_dozing(&self) -> bool {
        self.word.load(Ordering::Relaxed) & DOZING != 0
    }
}
