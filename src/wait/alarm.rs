//! The alarm of a thread that sleeps elsewhere: in a poll of the system's, beside its sockets.
//!
//! # Mechanism
//! The sleeper arms the alarm, looks once more at what could have come meanwhile, and sleeps. Whoever has something for it
//! brings that first, and then asks whether the alarm is armed. Both put a full fence between their store and their load, so
//! one of them sees the other: the sleeper what was brought, or the other the alarm. It rings once for each time that it was
//! armed, so many who bring something cost one system call.
#![forbid(unsafe_code)]

use crate::sync::{AtomicBool, Ordering, fence};

/// Whether somebody sleeps, and has to be woken.
pub(crate) struct Alarm {
    armed: AtomicBool,
}

impl Alarm {
    pub fn new() -> Self {
        Alarm { armed: AtomicBool::new(false) }
    }

    /// The sleeper is about to sleep: after it, look again.
    pub fn arm(&self) {
        // The fences order it; who takes it off says nothing by that.
        self.armed.store(true, Ordering::Relaxed);
        // SYNC: alarm: this fence and the one in `must_ring`: either what was brought shows to the look that follows, or
        // the alarm to the one who brought it.
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// Whether the sleeper has to be woken, by whoever asks this. To be asked after something was brought.
    pub fn must_ring(&self) -> bool {
        // SYNC: alarm: see `arm`.
        fence(Ordering::SeqCst);
        self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed)
    }
}
