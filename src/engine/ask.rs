//! Questions to a running shard: its handler's state, its latencies.
//!
//! # Mechanism
//! A question is a command in the shard's mailbox, carried out on the shard's thread between two polls. The shard
//! puts its answer into a [`Response`], which the caller waits for. The shard never waits: not for a lock that the
//! caller holds, nor for the caller to take the answer.
#![forbid(unsafe_code)]

use super::lifecycle::Engine;
use crate::event::ShardId;
#[cfg(feature = "latency")]
use crate::latency::{ClassLatency, Recorder};
use crate::shard::Handler;
use crate::shard::parts::Command;
use crate::sync::{Arc, AtomicU32, Ordering, TryCell, discard, futex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long [`Engine::ask`] and [`Engine::latency`] wait for a shard.
pub const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How often a caller that waits checks that the shard still runs.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// Why a handler could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no such shard.
    #[error("the engine has no {0}")]
    NoShard(ShardId),
    /// The handler is of another type than the question.
    #[error("the handler is not a {0}")]
    WrongHandler(&'static str),
    /// The question panicked. The shard goes on.
    #[error("the question to {0} panicked")]
    Panicked(ShardId),
    /// The shard has stopped, or did not answer within [`ASK_LIMIT`]. A shard that still runs carries the question
    /// out later, when it comes to its mailbox; its answer is dropped.
    #[error("{0} did not answer")]
    NoAnswer(ShardId),
    /// A shard cannot wait for its own answer.
    #[error("{0} cannot ask from a shard's own thread")]
    OnShardThread(ShardId),
    /// This is a child process; the engine runs in its parent.
    #[error("the engine belongs to the parent process")]
    Forked,
}

/// The answer is not there yet.
const AWAITED: u32 = 0;
const GIVEN: u32 = 1;

/// One answer, given by a shard at most once, and taken by the side that asked.
pub(super) struct Response<T>(Arc<Given<T>>);

struct Given<T> {
    word: AtomicU32,
    value: TryCell<Option<T>>,
}

impl<T> Response<T> {
    pub fn new() -> Self {
        Response(Arc::new(Given { word: AtomicU32::new(AWAITED), value: TryCell::new(None) }))
    }

    /// Another handle of the same answer.
    pub fn share(&self) -> Self {
        Response(self.0.clone())
    }

    /// Shard: gives the answer. Waits for nothing: the cell is free, since nothing looks into it before the word is
    /// `GIVEN`.
    pub fn give(&self, value: T) {
        let given = self.0.value.try_with(|place| *place = Some(value));
        debug_assert!(given.is_some(), "the answer is taken before it was given");
        // SYNC: answer (Release); pairs with `Response::take`.
        self.0.word.store(GIVEN, Ordering::Release);
        futex::wake(&self.0.word);
    }

    /// Takes the answer, if it has been given and not taken yet.
    pub fn take(&self) -> Option<T> {
        // SYNC: answer (Acquire); pairs with `Response::give`.
        if self.0.word.load(Ordering::Acquire) == AWAITED {
            return None;
        }
        self.0.value.try_with(Option::take).flatten()
    }

    /// Waits until the answer has been given, for `limit` at most, and as long as `alive` finds the shard running.
    pub fn wait(&self, limit: Duration, alive: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while self.0.word.load(Ordering::Relaxed) == AWAITED {
            if begun.elapsed() >= limit || !alive() {
                return self.0.word.load(Ordering::Relaxed) == GIVEN;
            }
            futex::wait(&self.0.word, AWAITED, CHECK_EVERY);
        }
        true
    }

    /// Whether this is the last handle, so that an answer that was not given never will be.
    #[cfg(feature = "latency")]
    pub fn is_abandoned(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_some_and(|given| given.word.load(Ordering::Relaxed) == AWAITED)
    }
}

impl<E: Send + 'static> Engine<E> {
    /// Runs a question on a shard's thread, between two polls, with the shard's handler, and waits for its result.
    ///
    /// # Errors
    /// [`AskError`]. After [`AskError::NoAnswer`] the question may still run: a shard that was only late carries it
    /// out when it comes to it, and a shard that ends drops it unread. A host-driven shard must be polled by another
    /// thread meanwhile.
    pub fn ask<H: Handler<E>, T: Send + 'static>(
        &self,
        shard: ShardId,
        question: impl FnOnce(&mut H) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        self.may_ask(shard)?;
        let response = Response::new();
        let reply = response.share();
        let ask = move |handler: &mut dyn std::any::Any| {
            // A question that panics costs its answer, and not the shard that carries it out.
            let answer = |handler| catch_unwind(AssertUnwindSafe(|| question(handler))).map_err(discard);
            reply.give(handler.downcast_mut::<H>().map(answer));
        };
        self.core.send(shard, Command::Ask(Box::new(ask)));
        response.wait(ASK_LIMIT, || self.is_running(shard));
        match response.take() {
            Some(Some(Ok(value))) => Ok(value),
            Some(Some(Err(()))) => Err(AskError::Panicked(shard)),
            Some(None) => Err(AskError::WrongHandler(std::any::type_name::<H>())),
            None => Err(AskError::NoAnswer(shard)),
        }
    }

    /// Latencies by class, over all shards, since start. Stops nothing: each shard swaps its tallies between two
    /// polls.
    ///
    /// # Errors
    /// [`AskError`]. The tallies of a shard that answers, in time or late, are kept for the next call and for the
    /// report.
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> Result<Vec<ClassLatency>, AskError> {
        let classes = self.core.plan.classes.len();
        for shard in (0..self.core.plan.shards).map(ShardId) {
            self.may_ask(shard)?;
            if !self.is_running(shard) {
                continue;
            }
            let empty = self.core.plan.classes.iter().map(|_| Recorder::new()).collect();
            let response = Response::new();
            let reply = response.share();
            // Kept by the engine, so that tallies that come after this call has given up are not lost.
            self.core.state().owe_latency(response.share());
            self.core.send(shard, Command::Latency(empty, Box::new(move |full| reply.give(full))));
            if !response.wait(ASK_LIMIT, || self.is_running(shard)) && self.is_running(shard) {
                return Err(AskError::NoAnswer(shard));
            }
        }
        // A shard that has ended left its last tallies with its end, until the report takes them.
        let mut state = self.core.state();
        let mut sum = state.latency(classes).to_vec();
        for end in state.ends.iter().flatten().flatten() {
            sum.iter_mut().zip(&end.latency).for_each(|(sum, more)| sum.add(more));
        }
        Ok(sum)
    }

    pub(super) fn may_ask(&self, shard: ShardId) -> Result<(), AskError> {
        if self.is_forked() {
            return Err(AskError::Forked);
        }
        if shard.index() >= usize::from(self.core.plan.shards) {
            return Err(AskError::NoShard(shard));
        }
        self.own_shard().map_or(Ok(()), |own| Err(AskError::OnShardThread(own)))
    }
}
