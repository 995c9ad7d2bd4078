//! The alarm of a thread that sleeps elsewhere: in the system's `poll`, with its sockets.
//!
//! # Mechanism
//! The sleeper arms the alarm, checks once more for work, and sleeps. A thread that brings work first stores it, and
//! then checks whether the alarm is armed. Both put a full fence between their store and their load, so one of them
//! sees the other's store: the sleeper the work, or the other thread the alarm. It rings once for each time that it
//! was armed, so many threads that bring work cost one system call.

use crate::sync::{AtomicBool, Ordering, fence};

/// Whether a thread sleeps, and has to be woken.
///
/// ```
/// use pelton::park::Alarm;
/// let alarm = Alarm::new();
/// assert!(!alarm.must_ring());        // the sleeper is awake
/// alarm.arm();                        // the sleeper checks for work after this, and sleeps
/// assert!(alarm.must_ring());         // the first thread that brings work wakes it
/// assert!(!alarm.must_ring());        // the second need not
/// alarm.disarm();
/// ```
#[derive(Debug, Default)]
pub struct Alarm {
    armed: AtomicBool,
}

impl Alarm {
    /// An alarm that is not armed.
    pub fn new() -> Self {
        Alarm { armed: AtomicBool::new(false) }
    }

    /// Sleeper: is about to sleep. It must check for work after this.
    pub fn arm(&self) {
        // Relaxed: the fences order it, and taking it off carries no data.
        self.armed.store(true, Ordering::Relaxed);
        // SYNC: alarm: this fence and the one in `must_ring`: either the check that follows sees the work, or the
        // thread that brought it sees the alarm.
        fence(Ordering::SeqCst);
    }

    /// Sleeper: is awake.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// Whether the caller has to wake the sleeper. It calls this after it has stored the work.
    pub fn must_ring(&self) -> bool {
        // SYNC: alarm: see `arm`.
        fence(Ordering::SeqCst);
        self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed)
    }
}
