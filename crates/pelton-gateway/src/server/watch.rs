//! What the owner of a running server should know and no client is told: incidents with connections, and lost threads.
//!
//! # Incidents
//! Wrong passwords, and connections that were rejected or displaced, are counted, with the peer of the first since the last
//! look. A look returns one sentence for each kind, so its caller decides how often there is a line, and a flood of
//! connections does not become a flood of lines. No thread of the server ever writes one: standard error may block.
//!
//! # Lost threads
//! Each worker, and the thread that reads views, holds a [`ThreadGuard`](crate::server::state::ThreadGuard) for as long as it
//! should run. A thread that ends by a panic, or while the server runs, drops it early: the thread is recorded as lost,
//! everyone who waits at a [`Watch`] is woken, and the server begins to stop. A server that went on without a part of its
//! threads would look healthy and serve a part of its clients. `pelton run` then prints its report and exits with 1, so that
//! a supervisor starts it again.
//!
//! The first worker checks the shards, whose ends the engine records.

use crate::server::clock::ServerClock;
use crate::server::wall_clock::LASTS_MS;
use pelton::words::many;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A look at a running server, for a thread that is not the server's. It stays valid when the server is gone.
#[derive(Clone)]
pub struct Watch(pub(crate) Arc<Watched>);

impl Watch {
    /// Waits until a thread of the server is lost, for `limit` at most. Returns the first one that was lost; `None` where the
    /// server has stopped without a loss, or the time is over. ([`Self::is_over`] tells which.)
    #[must_use]
    pub fn wait(&self, limit: Duration) -> Option<LostThread> {
        self.0.lost_threads.wait(limit)
    }

    /// Whether the server has stopped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.lost_threads.is_over()
    }

    /// What went wrong with connections since the last call: at most one sentence for each kind (wrong passwords, connections
    /// that were turned away, connections that were displaced, a clock that was set), with their number and the peer of the
    /// first.
    #[must_use]
    pub fn incidents(&self) -> Vec<String> {
        let mut all = self.0.incidents.take();
        if self.0.clock.take_steps() > 0 {
            let lasts_s = LASTS_MS / 1_000;
            all.push(format!(
                "the system's clock was set: ids and windows follow when the new time has lasted for {lasts_s} s"
            ));
        }
        all
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// What a server shares with those who watch it.
pub(crate) struct Watched {
    pub incidents: Incidents,
    pub lost_threads: LostThreads,
    clock: Arc<ServerClock>,
}

impl Watched {
    pub fn new(clock: Arc<ServerClock>) -> Self {
        Watched { incidents: Incidents::default(), lost_threads: LostThreads::default(), clock }
    }
}

/// What goes wrong with a connection that its server's user should know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Incident {
    WrongPassword,
    Full,
    NoDescriptor,
    Displaced,
}

impl Incident {
    const ALL: [Incident; 4] =
        [Incident::WrongPassword, Incident::Full, Incident::NoDescriptor, Incident::Displaced];

    /// So many of them, in words.
    fn describe(self, count: u64, peer: &str) -> String {
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
pub(crate) struct Incidents([Row; Incident::ALL.len()]);

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
            Some(incident.describe(count, &locked(&row.peer)))
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
struct LossState {
    lost: Vec<LostThread>,
    is_over: bool,
}

/// The threads that were lost, and who waits for one.
#[derive(Default)]
pub(crate) struct LostThreads {
    state: Mutex<LossState>,
    changed: Condvar,
}

impl LostThreads {
    /// Waits until a thread is lost or the server has stopped, for `limit` at most. Returns the thread that was lost first.
    pub fn wait(&self, limit: Duration) -> Option<LostThread> {
        let begun = Instant::now();
        let mut state = locked(&self.state);
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            if !state.lost.is_empty() || state.is_over || left.is_zero() {
                return state.lost.first().cloned();
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the server has stopped.
    pub fn is_over(&self) -> bool {
        locked(&self.state).is_over
    }

    /// Writes a thread down, once.
    pub fn add(&self, lost: LostThread) {
        let mut state = locked(&self.state);
        if state.lost.iter().all(|known| known.name != lost.name) {
            state.lost.push(lost);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The server has stopped: nothing more is to be waited for.
    pub fn end(&self) {
        locked(&self.state).is_over = true;
        self.changed.notify_all();
    }

    /// All that were lost so far.
    pub fn all(&self) -> Vec<LostThread> {
        locked(&self.state).lost.clone()
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_are_returned_once_with_count_and_first_peer() {
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
