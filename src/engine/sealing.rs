//! Sealing a running engine: from then on no shard allocates unseen.
//!
//! # Mechanism
//! Each shard's thread seals itself between two polls, once its handler has started, and ends the seal before the
//! handler's `on_stop`. What it noted meanwhile stands in the report.

use super::ask::{ASK_LIMIT, AskError};
use super::lifecycle::Engine;
use super::report::Report;
use super::response::Response;
use crate::event::ShardId;
use crate::memory;
use crate::memory::seal::{NotCounted, Seal, Sealed};
use crate::shard::mailbox::Command;
use std::error::Error;
use std::fmt;

/// Why an engine could not be sealed.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// Nobody counts allocations, and why.
    NotCounted(NotCounted),
    /// A shard could not be asked to.
    Ask(AskError),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCounted(error) => error.fmt(f),
            Self::Ask(error) => error.fmt(f),
        }
    }
}

impl Error for SealError {}

impl From<NotCounted> for SealError {
    fn from(error: NotCounted) -> Self {
        SealError::NotCounted(error)
    }
}

impl From<AskError> for SealError {
    fn from(error: AskError) -> Self {
        SealError::Ask(error)
    }
}

impl<E: Send + 'static> Engine<E> {
    /// Seals the threads of all shards: what is allocated on one of them from now to its stop is counted with its place,
    /// or aborts the process. Call it when the engine is warm: handlers that fill their tables with the first events do
    /// so before. Blocks until every shard has answered, for at most [`ASK_LIMIT`] each.
    ///
    /// An event that is published after this returns is handled by a sealed shard. What runs on a shard's thread counts,
    /// whoever brought it: handlers, wakers of waiting tasks, questions of [`ask`](Engine::ask), panics. A handler's
    /// `on_stop` does not. To seal again begins anew; of seals that several threads ask for at once, one that aborts
    /// wins. Threads of producers seal themselves, with
    /// `memory::audit::seal_thread`.
    ///
    /// A shard that is sealed and allocates nothing runs as one that is not. One that allocates pays a walk of its stack
    /// each time: some microseconds.
    ///
    /// # Errors
    /// [`SealError::NotCounted`] where the program does not count allocations: the feature `audit` is off, or
    /// `memory::audit::Counting` is not the global allocator. [`SealError::Ask`] where a shard did not answer; others
    /// may be sealed then. A host-driven shard must be polled by another thread meanwhile.
    ///
    /// # Examples
    /// ```
    /// # if !cfg!(feature = "audit") { return Ok(()) }
    /// use pelton::memory::seal::Seal;
    /// # #[cfg(feature = "audit")]
    /// #[global_allocator]
    /// static ALLOCATOR: pelton::memory::audit::Counting<std::alloc::System> =
    ///     pelton::memory::audit::Counting::new(std::alloc::System);
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// let mut tx = engine.attach()?;
    /// tx.publish(class, 7, |event| *event = 42)?;         // warms the handler up
    /// assert!(engine.drain(Duration::from_secs(10)));
    /// engine.seal(Seal::Count)?;
    /// tx.publish(class, 7, |event| *event = 43)?;
    /// let report = engine.stop(Duration::from_secs(10))?;
    /// report.assert_sealed();                              // and `report.sealed()` returns what was counted
    /// assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn seal(&self, mode: Seal) -> Result<(), SealError> {
        memory::counting()?;
        let shards = (0..self.plan().shards).map(ShardId);
        let mut answers = Vec::new();
        for shard in shards {
            self.may_ask(shard)?;
            let (response, reply) = Response::new();
            self.core.send(shard, Command::Seal(mode, Box::new(move |sealed| reply.give(sealed))));
            answers.push((shard, response));
        }
        for (shard, response) in answers {
            response.wait(ASK_LIMIT, || self.is_running(shard));
            response.take().ok_or(AskError::NoAnswer(shard))??;
        }
        Ok(())
    }
}

impl Report {
    /// What all shards did with the heap from their seal to their stop; `None` if any of them was not sealed, or did not
    /// stop in time.
    ///
    /// ```
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// let report = engine.stop(Duration::from_secs(1))?;
    /// assert_eq!(report.sealed(), None);          // the engine was never sealed
    /// assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sealed(&self) -> Option<Sealed> {
        let mut sum = Sealed::default();
        for shard in &self.shards {
            sum.add(shard.sealed.as_ref()?);
        }
        Some(sum)
    }

    /// Makes a test fail unless all shards were sealed and none of them allocated.
    ///
    /// # Panics
    /// If a shard was not sealed ([`Engine::seal`]), or did not stop in time, or allocated; the message names the places.
    ///
    /// # Examples
    /// ```
    /// # use pelton::Report;
    /// fn check(report: &Report) {
    ///     report.assert_sealed();      // panics with `shard 0 was sealed; expected no allocations, found …`
    /// }
    /// ```
    pub fn assert_sealed(&self) {
        for shard in &self.shards {
            let name = shard.placement.shard;
            let Some(sealed) = &shard.sealed else {
                panic!("{name} was not sealed, or did not stop in time: nobody knows whether it allocated")
            };
            assert!(sealed.allocations == 0, "{name} was sealed; expected no allocations, found {sealed}");
        }
    }
}
