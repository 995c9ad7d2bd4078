//! Questions to a running shard: its handler's state, its latencies.
//!
//! # Mechanism
//! A question is a command in the shard's mailbox, carried out on the shard's thread between two polls. The shard gives
//! its answer by a [`Reply`], and the caller waits for it by a [`Response`]: as a thread, or as a task. The shard never
//! waits: not for a lock that the caller holds, nor for the caller to take the answer.

use super::lifecycle::Engine;
use super::response::Response;
use crate::event::ShardId;
#[cfg(feature = "latency")]
use crate::latency::{ClassLatency, Recorder};
use crate::shard::Handler;
use crate::shard::mailbox::Command;
use crate::sync::discard;
use std::error::Error;
use std::fmt;
#[cfg(feature = "async")]
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How long [`Engine::ask`] and [`Engine::latency`] wait for a shard.
pub const ASK_LIMIT: Duration = Duration::from_secs(5);

/// Why a handler could not be asked.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskError {
    /// There is no such shard.
    NoShard(ShardId),
    /// The handler is of another type than the question.
    WrongHandler(&'static str),
    /// The question panicked. The shard goes on.
    Panicked(ShardId),
    /// The shard has stopped, or did not answer within [`ASK_LIMIT`]. A shard that still runs carries the question
    /// out later, when it comes to its mailbox; its answer is dropped.
    NoAnswer(ShardId),
    /// A shard cannot wait for its own answer.
    OnShardThread(ShardId),
    /// This is a child process; the engine runs in its parent.
    Forked,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShard(shard) => write!(f, "the engine has no {shard}"),
            Self::WrongHandler(name) => write!(f, "the handler is not a {name}"),
            Self::Panicked(shard) => write!(f, "the question to {shard} panicked"),
            Self::NoAnswer(shard) => write!(f, "{shard} did not answer"),
            Self::OnShardThread(shard) => write!(f, "{shard} cannot ask from a shard's own thread"),
            Self::Forked => f.write_str("the engine belongs to the parent process"),
        }
    }
}

impl Error for AskError {}

impl<E: Send + 'static> Engine<E> {
    /// Runs a question on a shard's thread, between two polls, with the shard's handler, and waits for its result. Blocks for at
    /// most [`ASK_LIMIT`].
    ///
    /// # Errors
    /// [`AskError`]. After [`AskError::NoAnswer`] the question may still run: a shard that was only late carries it
    /// out when it comes to it, and a shard that ends drops it unread. A host-driven shard must be polled by another
    /// thread meanwhile.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Context, Event, Handler, Plan, Profile, ShardId, Verdict, engine::AskError};
    /// # use std::time::Duration;
    /// struct Sum(u64);
    /// impl Handler<u64> for Sum {
    ///     type Output = ();
    ///     fn on_event(&mut self, event: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
    ///         self.0 += **event;
    ///         Verdict::Done
    ///     }
    ///     fn on_stop(self, _: &mut Context<'_, u64>) {}
    /// }
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// let engine = plan.start(|| 0u64, |_| Sum(0))?;
    /// engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// assert!(engine.drain(Duration::from_secs(10)));
    /// assert_eq!(engine.ask(ShardId(0), |sum: &mut Sum| sum.0)?, 42);
    /// let error = engine.ask(ShardId(1), |sum: &mut Sum| sum.0).unwrap_err();
    /// assert_eq!(error, AskError::NoShard(ShardId(1)));
    /// # assert!(engine.stop(Duration::from_secs(1))?.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask<H: Handler<E>, T: Send + 'static>(
        &self,
        shard: ShardId,
        question: impl FnOnce(&mut H) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        self.may_ask(shard)?;
        let response = self.send_question(shard, question);
        response.wait(ASK_LIMIT, || self.is_running(shard));
        answer_of::<H, T>(shard, response.take())
    }

    /// [`ask`](Self::ask) for tasks: the question is sent at once, and the future awaits its result. It needs no thread and
    /// no runtime, and has no limit of its own: it ends when the shard has come to the question, or has ended. Dropped
    /// before that, it leaves the question to be carried out. The task is woken on the shard's thread, between two polls.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Context, Event, Handler, Plan, Profile, ShardId, Verdict};
    /// struct Counting(u64);
    /// impl Handler<u64> for Counting {
    ///     type Output = ();
    ///     fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
    ///         self.0 += 1;
    ///         Verdict::Done
    ///     }
    ///     fn on_stop(self, _: &mut Context<'_, u64>) {}
    /// }
    /// let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// plan.class(Class::strict("only"));
    /// let engine = plan.start(|| 0u64, |_| Counting(0))?;
    /// let count = engine.ask_async(ShardId(0), |handler: &mut Counting| handler.0);
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # let block_on = |future| runtime.block_on(future);
    /// assert_eq!(block_on(count)?, 0);
    /// # engine.stop(std::time::Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "async")]
    pub fn ask_async<H, T, Q>(
        &self,
        shard: ShardId,
        question: Q,
    ) -> impl Future<Output = Result<T, AskError>> + Send + use<E, H, T, Q>
    where
        H: Handler<E>,
        T: Send + 'static,
        Q: FnOnce(&mut H) -> T + Send + 'static,
    {
        // A task may run on a shard's thread: it waits for nothing there.
        let sent = self.has_shard(shard).map(|()| self.send_question::<H, T>(shard, question));
        async move {
            let response = sent?;
            poll_fn(|context| response.poll_end(context)).await;
            answer_of::<H, T>(shard, response.take())
        }
    }

    fn send_question<H: Handler<E>, T: Send + 'static>(
        &self,
        shard: ShardId,
        question: impl FnOnce(&mut H) -> T + Send + 'static,
    ) -> Response<Option<Result<T, ()>>> {
        let (response, reply) = Response::new();
        let ask = move |handler: &mut dyn std::any::Any| {
            // A question that panics costs its answer, and not the shard that carries it out.
            let answer = |handler| catch_unwind(AssertUnwindSafe(|| question(handler))).map_err(discard);
            reply.give(handler.downcast_mut::<H>().map(answer));
        };
        self.core.send(shard, Command::Ask(Box::new(ask)));
        response
    }

    /// Latencies by class, over all shards, since start. Waits until every shard has handed its tallies over, between two
    /// polls: for the length of a burst, up to [`ASK_LIMIT`]. [`latency_last`](Self::latency_last) does not wait.
    ///
    /// # Errors
    /// [`AskError`]. The tallies of a shard that answers, in time or late, are kept for the next call and for the
    /// report.
    ///
    /// # Examples
    /// ```
    /// # use pelton::class::Stamp;
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// let class = plan.class(Class::strict("only").with_stamp(Stamp::Every));
    /// # let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// assert!(engine.drain(Duration::from_secs(10)));
    /// let latency = &engine.latency()?[class.index()];
    /// assert_eq!(latency.wait_ns.len(), 1);
    /// println!("{} ns in the handler", latency.handling_ns.max());
    /// # assert!(engine.stop(Duration::from_secs(1))?.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "latency")]
    pub fn latency(&self) -> Result<Vec<ClassLatency>, AskError> {
        for shard in (0..self.core.plan.shards).map(ShardId) {
            self.may_ask(shard)?;
            let Some(response) = self.request_latency(shard) else { continue };
            if !response.wait(ASK_LIMIT, || self.is_running(shard)) && self.is_running(shard) {
                return Err(AskError::NoAnswer(shard));
            }
        }
        Ok(self.latency_so_far())
    }

    /// [`latency`](Self::latency) for tasks: asks all shards at once, and awaits their tallies. It has no limit of its own;
    /// a shard that ends meanwhile has left its tallies to the engine.
    ///
    /// # Errors
    /// [`AskError::Forked`].
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let latency = engine.latency_async().await?;
    /// assert_eq!(latency.len(), engine.plan().classes().len());
    /// # Ok::<(), pelton::engine::AskError>(())
    /// # })?;
    /// # assert!(engine.stop(Duration::from_secs(1))?.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(all(feature = "async", feature = "latency"))]
    pub async fn latency_async(&self) -> Result<Vec<ClassLatency>, AskError> {
        self.has_shard(ShardId(0))?;
        let shards = (0..self.core.plan.shards).map(ShardId);
        let responses: Vec<_> = shards.filter_map(|shard| self.request_latency(shard)).collect();
        for response in responses {
            // The engine takes the tallies, maybe for another caller before this one looks.
            poll_fn(|context| response.poll_end(context)).await;
        }
        Ok(self.latency_so_far())
    }

    /// Latencies by class, over all shards, as the shards handed them over last; asks the shards for newer ones, which a
    /// later call returns. Never waits for a shard, so it suits a scrape every few seconds: its figures are those of the
    /// scrape before, or older while a shard is in a long burst. The first call finds none.
    ///
    /// ```
    /// # use pelton::{Class, Context, Event, Plan, Profile};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only").with_stamp(pelton::class::Stamp::Every));
    /// # let engine = plan.start(|| 0u64, |_| |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| ())?;
    /// let mut tx = engine.attach()?;
    /// tx.publish(class, 7, |event| *event = 1)?;
    /// assert!(engine.drain(Duration::from_secs(10)));
    /// while engine.latency_last()[0].handling_ns.is_empty() {
    ///     std::thread::sleep(Duration::from_millis(1));
    /// }
    /// # engine.stop(Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "latency")]
    #[must_use]
    pub fn latency_last(&self) -> Vec<ClassLatency> {
        if self.is_forked() {
            return self.core.plan.classes.iter().map(|_| ClassLatency::default()).collect();
        }
        let last = self.latency_so_far();
        // One request at a time: a shard that is late would get a heap of them.
        if !self.core.state().is_owed_latency() {
            (0..self.core.plan.shards).for_each(|shard| drop(self.request_latency(ShardId(shard))));
        }
        last
    }

    /// Asks a shard for its tallies, which the engine adds up when they come; `None` if the shard has ended.
    #[cfg(feature = "latency")]
    fn request_latency(&self, shard: ShardId) -> Option<Response<Vec<Recorder>>> {
        if !self.is_running(shard) {
            return None;
        }
        let empty = self.core.plan.classes.iter().map(|_| Recorder::new()).collect();
        let (response, reply) = Response::new();
        // Kept by the engine, so that tallies that come after the caller has given up are not lost.
        self.core.state().owe_latency(response.share());
        self.core.send(shard, Command::Latency(empty, Box::new(move |full| reply.give(full))));
        Some(response)
    }

    /// The tallies that shards have handed over, and those of shards that have ended.
    #[cfg(feature = "latency")]
    fn latency_so_far(&self) -> Vec<ClassLatency> {
        let classes = self.core.plan.classes.len();
        // A shard that has ended left its last tallies with its end, until the report takes them.
        let mut state = self.core.state();
        let mut sum = state.latency(classes).to_vec();
        for end in state.ends.iter().flatten().flatten() {
            sum.iter_mut().zip(&end.latency).for_each(|(sum, more)| sum.add(more));
        }
        sum
    }

    fn has_shard(&self, shard: ShardId) -> Result<(), AskError> {
        if self.is_forked() {
            return Err(AskError::Forked);
        }
        if shard.index() >= usize::from(self.core.plan.shards) {
            return Err(AskError::NoShard(shard));
        }
        Ok(())
    }

    /// Whether the calling thread may wait for a shard.
    pub(super) fn may_ask(&self, shard: ShardId) -> Result<(), AskError> {
        self.has_shard(shard)?;
        self.own_shard().map_or(Ok(()), |own| Err(AskError::OnShardThread(own)))
    }
}

/// What a question came to.
fn answer_of<H, T>(shard: ShardId, answer: Option<Option<Result<T, ()>>>) -> Result<T, AskError> {
    match answer {
        Some(Some(Ok(value))) => Ok(value),
        Some(Some(Err(()))) => Err(AskError::Panicked(shard)),
        Some(None) => Err(AskError::WrongHandler(std::any::type_name::<H>())),
        None => Err(AskError::NoAnswer(shard)),
    }
}
