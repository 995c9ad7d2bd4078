//! The guard that each thread of a server holds, and the watch that others keep.
//!
//! # Mechanism
//! Each gateway thread, and the thread that reads views, holds a [`Guard`] for as long as it should run. A thread that ends by a
//! panic, or while the server runs, drops it early: the thread is written down as lost, everyone who waits at a [`Watch`] is
//! woken, and the server begins to stop. A server that went on without a part of its threads would look healthy and serve a
//! part of its clients. `pelton run` then prints its report and exits with 1, so that a supervisor starts it again.
//!
//! The first gateway thread looks after the shards, whose ends the engine writes down.
#![forbid(unsafe_code)]

use super::counts::End;
use super::shared::{Shared, Stage};
use super::wall::{LASTS_MS, take_steps};
use super::watch::{LostThread, ThreadEnd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A look at a running server, for a thread that is not the server's. It stays valid when the server is gone.
#[derive(Clone)]
pub struct Watch(pub(super) Arc<Shared>);

impl Watch {
    /// Waits until a thread of the server is lost, for `limit` at most. Returns the first one that was lost; `None` where the
    /// server has stopped without a loss, or the time is over. ([`Self::is_over`] tells which.)
    #[must_use]
    pub fn wait(&self, limit: Duration) -> Option<LostThread> {
        self.0.losses.wait(limit)
    }

    /// Whether the server has stopped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.losses.is_over()
    }

    /// What went wrong with connections since the last call: at most one sentence for each kind (wrong passwords, connections
    /// that were turned away, connections that were displaced, a clock that was set), with their number and the peer of the
    /// first.
    #[must_use]
    pub fn incidents(&self) -> Vec<String> {
        let mut all = self.0.incidents.take();
        if take_steps() > 0 {
            let lasts_s = LASTS_MS / 1_000;
            all.push(format!(
                "the system's clock was set: ids and windows follow when the new time has lasted for {lasts_s} s"
            ));
        }
        all
    }
}

/// Held by a thread of a server for as long as it should run.
pub(super) struct Guard {
    pub shared: Arc<Shared>,
    pub name: String,
    /// The thread's number, of a gateway thread.
    pub gate: Option<usize>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let how = match std::thread::panicking() {
            true => ThreadEnd::Panicked,
            false if self.shared.stage() == Stage::Running => ThreadEnd::Early,
            false => return,
        };
        if let Some(thread) = self.gate {
            self.close_books(thread);
        }
        self.shared.losses.add(LostThread { name: std::mem::take(&mut self.name), how });
        self.shared.advance(Stage::Draining);
    }
}

impl Guard {
    /// The connections of a gateway thread are gone with it, and its subscribers get nothing more.
    fn close_books(&self, thread: usize) {
        let counts = &self.shared.threads[thread];
        let ended = End::ALL.iter().filter(|end| !end.is_turned_away());
        let ended: u64 = ended.map(|end| counts.ended[*end as usize].get()).sum();
        counts.ended[End::Broken as usize].add(counts.connected.get().saturating_sub(ended));
        for wanted in &self.shared.wanted {
            wanted.fetch_and(!(1 << thread), Ordering::Relaxed);
        }
    }
}
