//! What goes wrong in a running server that no client is answered: incidents at its door, and threads that are lost.
//!
//! # Incidents
//! Wrong passwords, and connections that were turned away or displaced, are counted with the peer of the first since the last
//! look. A look gives one sentence for each kind, so its caller decides how often there is a line, and no flood of connections
//! becomes a flood of lines. No thread of the server ever writes one: standard error may block.
//!
//! # Lost threads
//! Written down once each, by the thread's [`Guard`](super::guard::Guard) or by whoever looks after it. Waiting for one is
//! waiting for [`Losses`].
#![forbid(unsafe_code)]

use crate::words::many;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What goes wrong with a connection that its server's user should know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Incident {
    WrongPassword,
    Full,
    NoDescriptor,
    Displaced,
}

impl Incident {
    const ALL: [Incident; 4] =
        [Incident::WrongPassword, Incident::Full, Incident::NoDescriptor, Incident::Displaced];

    /// So many of them, in words.
    fn tell(self, count: u64, peer: &str) -> String {
        match self {
            Incident::WrongPassword => format!("{}, the first from {peer}", many(count, "wrong password")),
            Incident::Full => {
                let connections = many(count, "connection");
                format!(
                    "{connections} turned away: all places are taken (connections_max), the first from {peer}"
                )
            }
            Incident::NoDescriptor => {
                let connections = many(count, "connection");
                format!(
                    "{connections} turned away: no file descriptor is left (`ulimit -n`), the first from {peer}"
                )
            }
            Incident::Displaced => {
                let connections = many(count, "connection");
                format!(
                    "{connections} without a password or handshake closed for newcomers, the first from {peer}"
                )
            }
        }
    }
}

/// One kind of incident since the last look.
#[derive(Default)]
struct Row {
    count: AtomicU64,
    has_peer: AtomicBool,
    peer: Mutex<String>,
}

/// Incidents since the last look, by kind.
#[derive(Default)]
pub(super) struct Incidents([Row; Incident::ALL.len()]);

impl Incidents {
    /// Counts one. `peer` is called for the first of its kind since the last look.
    pub fn note(&self, incident: Incident, peer: impl FnOnce() -> String) {
        let row = &self.0[incident as usize];
        row.count.fetch_add(1, Ordering::Relaxed);
        if !row.has_peer.swap(true, Ordering::Relaxed) {
            *locked(&row.peer) = peer();
        }
    }

    /// One sentence for each kind that there was since the last call.
    pub fn take(&self) -> Vec<String> {
        let taken = Incident::ALL.into_iter().filter_map(|incident| {
            let row = &self.0[incident as usize];
            let count = row.count.swap(0, Ordering::Relaxed);
            if count == 0 {
                return None;
            }
            row.has_peer.store(false, Ordering::Relaxed);
            Some(incident.tell(count, &locked(&row.peer)))
        });
        taken.collect()
    }
}

/// How a thread of a server ended that should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadEnd {
    /// By a panic.
    Panicked,
    /// While the server was running.
    Early,
    /// It did not end when the server stopped, and was left to itself.
    Stuck,
}

/// A thread that did not end as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostThread {
    /// Its name: `pelton-gate-0`, `pelton-views`, `shard 0`.
    pub name: String,
    /// How it ended, if it did.
    pub how: ThreadEnd,
}

impl std::fmt::Display for LostThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.how {
            ThreadEnd::Panicked => "panicked",
            ThreadEnd::Early => "ended while the server was running",
            ThreadEnd::Stuck => "did not end when the server stopped",
        };
        write!(f, "thread '{}' {how}", self.name)
    }
}

#[derive(Default)]
struct Roll {
    lost: Vec<LostThread>,
    is_over: bool,
}

/// The threads that were lost, and who waits for one.
#[derive(Default)]
pub(super) struct Losses {
    roll: Mutex<Roll>,
    changed: Condvar,
}

impl Losses {
    /// Waits until a thread is lost or the server has stopped, for `limit` at most. Returns the thread that was lost first.
    pub fn wait(&self, limit: Duration) -> Option<LostThread> {
        let begun = Instant::now();
        let mut roll = locked(&self.roll);
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            if !roll.lost.is_empty() || roll.is_over || left.is_zero() {
                return roll.lost.first().cloned();
            }
            roll = self.changed.wait_timeout(roll, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the server has stopped.
    pub fn is_over(&self) -> bool {
        locked(&self.roll).is_over
    }

    /// Writes a thread down, once.
    pub fn add(&self, lost: LostThread) {
        let mut roll = locked(&self.roll);
        if roll.lost.iter().all(|known| known.name != lost.name) {
            roll.lost.push(lost);
        }
        drop(roll);
        self.changed.notify_all();
    }

    /// The server has stopped: nothing more is to be waited for.
    pub fn end(&self) {
        locked(&self.roll).is_over = true;
        self.changed.notify_all();
    }

    /// All that were lost so far.
    pub fn all(&self) -> Vec<LostThread> {
        locked(&self.roll).lost.clone()
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_are_told_once_with_their_number_and_the_first_peer() {
        let incidents = Incidents::default();
        for peer in ["1.2.3.4:5", "6.7.8.9:10"] {
            incidents.note(Incident::WrongPassword, || peer.into());
        }
        incidents.note(Incident::Displaced, || "unix:0".into());
        let told = incidents.take();
        assert_eq!(told.len(), 2);
        assert_eq!(told[0], "2 wrong passwords, the first from 1.2.3.4:5");
        assert!(told[1].starts_with("1 connection without") && told[1].ends_with("unix:0"), "{told:?}");
        assert!(incidents.take().is_empty());
        incidents.note(Incident::WrongPassword, || "6.7.8.9:10".into());
        assert_eq!(incidents.take(), ["1 wrong password, the first from 6.7.8.9:10"]);
    }
}
