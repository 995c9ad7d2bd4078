//! The running engine: attach, look, drain, stop.
//!
//! # Stopping
//! 1. The lanes of producers are closed: a publish is refused with `closed`, and a producer that waits for room is woken
//!    with it.
//! 2. Publishes that are under way end, accepted or refused (see `ledger`): no event is accepted after that.
//! 3. Shards go on until every accepted event has left its lane and every handler has handed over what it held back
//!    ([`Handler::on_drain`](crate::Handler::on_drain)), or the deadline is over. The mesh stays open meanwhile, so
//!    handlers may still emit.
//! 4. The shards are stopped, and get a little more time to end. A shard that is stuck in its handler is reported, and
//!    keeps its thread and its memory.
//! 5. The ledger is counted for the last time: events that are left in lanes are `in flight`.

use super::assembly::Core;
use super::lane_view::{LaneView, are_empty};
use super::plan::Plan;
use super::report::{ClassReport, Report, ShardReport};
use crate::class::ClassId;
use crate::clock::Clock;
use crate::event::{Key, ShardId};
use crate::ledger::Ledger;
use crate::memory::footprint::Footprint;
use crate::memory::huge::{self, HugePages};
use crate::park::bit;
use crate::producer::{AttachError, Producer};
use crate::shard::Placement;
use crate::sync::{asymmetric_fences, fence_heavy, forks, may_stop_looking};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How much longer than its deadline a stop waits for the shards to end.
pub const STOP_GRACE: Duration = Duration::from_millis(200);

/// How long publishes that are under way may take to end, and the final ledger to settle, at the least.
const SETTLE: Duration = Duration::from_millis(20);

const RUNNING: u8 = 0;
const CLOSED: u8 = 1;
const STOPPED: u8 = 2;

/// A running engine. `Send` and `Sync`: share it by reference or in an `Arc`.
///
/// Dropping it stops it, with the plan's `drop_deadline` to drain.
///
/// In a child process (`fork`) the engine is a copy without threads, and no method waits for a lock or for a shard:
/// [`attach`](Self::attach), [`ask`](Self::ask) and [`stop`](Self::stop) return an error, [`close`](Self::close) does
/// nothing, [`drain`](Self::drain) returns at once, [`ledger`](Self::ledger) counts the copy. Dropping the engine or a
/// producer there is safe and leaves their memory as it is.
///
#[doc = include_str!("engine.md")]
pub struct Engine<E: Send + 'static> {
    pub(super) core: Arc<Core<E>>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) hosted: bool,
    state: AtomicU8,
}

impl<E: Send + 'static> std::fmt::Debug for Engine<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("shards", &self.core.plan.shards)
            .field("hosted", &self.hosted)
            .finish_non_exhaustive()
    }
}

/// Why an engine could not be stopped.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopError {
    /// It has been stopped before; that call has the report.
    Stopped,
    /// A shard cannot wait for its own end.
    OnShardThread(ShardId),
    /// This is a child process; the engine runs in its parent.
    Forked,
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the engine was stopped before"),
            Self::OnShardThread(shard) => {
                write!(f, "{shard} cannot stop its own engine: it would wait for itself; tell another thread")
            }
            Self::Forked => f.write_str("the engine belongs to the parent process"),
        }
    }
}

impl Error for StopError {}

impl<E: Send + 'static> Engine<E> {
    pub(super) fn new(core: Arc<Core<E>>) -> Self {
        Engine { core, threads: Vec::new(), hosted: true, state: AtomicU8::new(RUNNING) }
    }

    /// The plan that this engine was started from.
    pub fn plan(&self) -> &Plan {
        &self.core.plan
    }

    /// The engine's clock.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// The memory that was planned for it.
    pub fn footprint(&self) -> Footprint {
        self.core.plan.footprint::<E>()
    }

    /// Where each shard runs; empty in a forked child.
    pub fn placements(&self) -> Vec<Placement> {
        if self.is_forked() {
            return Vec::new();
        }
        self.core.state().placements().to_vec()
    }

    /// What became of the wish for huge pages, shard by shard: as it is now. `None` where the plan did not ask for them,
    /// or the shard is not built yet. Reads `/proc/self/smaps`: some milliseconds for each GiB of this process. Empty in a
    /// forked child.
    pub fn huge_pages(&self) -> Vec<Option<HugePages>> {
        if self.is_forked() {
            return Vec::new();
        }
        // The lanes keep the memory where it is, as long as the engine is there.
        let advised = self.core.state().huge_pages.clone();
        huge::look(&advised)
    }

    /// Attaches a producer. Allocates nothing; takes a lock for an instant.
    ///
    /// # Errors
    /// [`AttachError`].
    ///
    /// # Examples
    /// ```
    /// use pelton::{Class, Plan, Profile, handler, producer::AttachError};
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false); plan.class(Class::strict("only"));
    /// let (engine, mut seats) = plan.host_driven(|| 0u64)?;
    /// assert_eq!(engine.attach().unwrap_err(), AttachError::NotReady);
    /// let _shard = seats.remove(0).build(handler(|_, _| ()))?;
    /// assert_eq!(engine.attach()?.generation(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach(&self) -> Result<Producer<E>, AttachError> {
        if self.is_forked() {
            return Err(AttachError::Forked);
        }
        if self.state.load(Ordering::Acquire) != RUNNING {
            return Err(AttachError::Closed);
        }
        if !self.core.shared.is_complete() {
            return Err(AttachError::NotReady);
        }
        Ok(Producer::new(self.core.shared.registry.take()?, self.core.shared.clone()))
    }

    /// The ledger now. Stops nothing; of a running engine it may lag, and is never impossible.
    pub fn ledger(&self) -> Ledger {
        self.core.ledger()
    }

    /// Waits until every accepted event has left its lane, for at most `limit`; returns whether that is so. Producers go on
    /// publishing: with a steady stream it may never be. Once the engine is [closed](Self::close) it also waits until
    /// every handler holds nothing back. It gives up early if all that is left is with shards that have ended.
    pub fn drain(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        self.drain_while(|| begun.elapsed() < limit)
    }

    /// The same, for as long as `may_wait` says so; it is asked once a millisecond or more often.
    pub fn drain_while(&self, may_wait: impl Fn() -> bool) -> bool {
        let mut nap = Duration::from_micros(20);
        let begun = Instant::now();
        while !self.is_quiet() {
            // With nothing in flight it takes a shard but a moment to ask its handler.
            let may_wait = || may_wait() || (!self.hosted && begun.elapsed() < SETTLE && self.is_empty());
            // In a forked child nothing moves, and the lock of what would be asked may have been copied while it was held.
            if self.is_forked() || !may_wait() || self.is_hopeless() {
                return self.is_quiet();
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(1));
        }
        true
    }

    /// Refuses all further events from producers, wakes those that wait, and asks handlers to hand over what they hold back
    /// ([`Handler::on_drain`](crate::Handler::on_drain)). The first step of a stop.
    pub fn close(&self) {
        // The lanes of a child are copies, but the executors that it would wake share files with the parent.
        if self.is_forked() {
            return;
        }
        let _ = self.state.compare_exchange(RUNNING, CLOSED, Ordering::AcqRel, Ordering::Relaxed);
        let producers = self.core.plan.producers_max;
        let lanes = self.core.lanes().iter();
        lanes.filter(|lane| lane.id().producer.0 < producers).for_each(|lane| lane.close());
        self.core.shared.wakers.iter().for_each(|waker| waker.raise(bit::DRAIN));
    }

    /// Stops: closes, drains for at most `deadline`, ends the shards, and accounts for everything. Blocks until then.
    ///
    /// Producers may publish meanwhile: each event is accepted, and then stands in the report, or it is refused with
    /// [`Closed`](crate::Rejection::Closed).
    ///
    /// It takes at most `deadline` and [`STOP_GRACE`]. With a deadline of zero it waits for nothing but the burst that
    /// each shard is serving: events after it stay in flight.
    ///
    /// # Errors
    /// [`StopError`].
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false); let class = plan.class(Class::strict("only"));
    /// # let (engine, mut seats) = plan.host_driven(|| 0u64)?;
    /// let _shard = seats.remove(0).build(handler(|_, _| ()))?;
    /// engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// let report = engine.stop(Duration::ZERO)?;          // nobody has polled the shard
    /// assert!(!report.drained && report.ledger.is_closed());
    /// assert_eq!(report.ledger.total().in_flight, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self, deadline: Duration) -> Result<Report, StopError> {
        let begun = Instant::now();
        self.stop_while(|| begun.elapsed() < deadline)
    }

    /// The same, where `may_wait` says how long it may drain and wait for shards; it is asked every 10 ms or more often.
    ///
    /// # Errors
    /// [`StopError`].
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Plan, Profile, handler};
    /// # use std::time::Duration;
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// # use std::sync::atomic::{AtomicBool, Ordering};
    /// # drop(engine.attach()?.publish(class, 7, |event| *event = 42)?);
    /// let is_urgent = AtomicBool::new(false);     // set by a second signal, for example
    /// let report = engine.stop_while(|| !is_urgent.load(Ordering::Relaxed))?;
    /// assert!(report.drained && report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_while(&self, may_wait: impl Fn() -> bool) -> Result<Report, StopError> {
        if self.is_forked() {
            return Err(StopError::Forked);
        }
        if let Some(shard) = self.own_shard() {
            return Err(StopError::OnShardThread(shard));
        }
        self.close();
        if self.state.swap(STOPPED, Ordering::AcqRel) == STOPPED {
            return Err(StopError::Stopped);
        }
        self.settle(&may_wait);
        let drained = self.drain_while(&may_wait);
        self.end_shards();
        if !self.hosted {
            let have_ended =
                |limit| self.core.wait_until(limit, |state| state.ends.iter().all(Option::is_some));
            while may_wait() && !have_ended(Duration::from_millis(10)) {}
            have_ended(STOP_GRACE);
        }
        Ok(self.report(drained))
    }

    /// Waits until no publish is under way in the lanes that have been closed. A producer whose thread does not run for
    /// longer than the stop may wait leaves the report's ledger open.
    fn settle(&self, may_wait: impl Fn() -> bool) {
        // SYNC: settle (heavy half); pairs with the light half in `LaneSide::accept`.
        let is_process_wide = fence_heavy() && may_stop_looking() && asymmetric_fences();
        if !is_process_wide {
            // A count may lie in a store buffer. None keeps a store for that long.
            std::thread::sleep(Duration::from_millis(1));
        }
        let begun = Instant::now();
        let lanes = self.core.lanes();
        while !lanes.iter().all(LaneView::is_settled) && (begun.elapsed() < SETTLE || may_wait()) {
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Closes the lanes that are still open and stops the shards.
    fn end_shards(&self) {
        // No lock is held meanwhile: closing a lane wakes tasks, which runs code of their executors.
        self.core.lanes().iter().for_each(|lane| lane.close());
        self.core.shared.wakers.iter().for_each(|waker| waker.raise(bit::STOP));
    }

    fn report(&self, drained: bool) -> Report {
        let ledger = self.settled_ledger();
        let huge_pages = self.huge_pages();
        // A hook of a handler may have emitted after the last look.
        let drained = drained && ledger.total().in_flight == 0;
        let lanes = self.core.lanes();
        let mut state = self.core.state();
        let row = |at: usize, placement: Placement| {
            let (shard, waker) = (placement.shard, &self.core.shared.wakers[at]);
            let own = || lanes.iter().filter(move |lane| lane.id().shard == shard);
            ShardReport {
                placement,
                hosted: self.hosted,
                stopped: false,
                counts: ledger.shard(shard),
                allocations: None,
                huge_pages: huge_pages[at].clone(),
                sealed: None,
                scratch_refused: 0,
                quarantine: None,
                parks: waker.parks.get(),
                rescues: waker.rescues.get() + own().map(|lane| lane.room_rescues()).sum::<u64>(),
                #[cfg(feature = "async")]
                waker_panics: own().map(|lane| lane.waker_panics()).sum(),
            }
        };
        let shards: Vec<_> = state.placements().iter().enumerate().map(|(at, own)| row(at, *own)).collect();
        #[cfg(feature = "latency")]
        let latency = state.latency(self.core.plan.classes.len());
        let class = |(at, class): (usize, &crate::Class)| ClassReport {
            class: ClassId(at as u8),
            name: class.name().to_string(),
            counts: ledger.class(ClassId(at as u8)),
            #[cfg(feature = "latency")]
            latency: latency[at].clone(),
        };
        let classes = self.core.plan.classes.iter().enumerate().map(class).collect();
        let elapsed = self.core.started.elapsed();
        let outputs = shards.iter().map(|_| None).collect();
        let mut report =
            Report { classes, shards, drained, elapsed, footprint: self.footprint(), outputs, ledger };
        if !self.hosted && state.ends.iter().all(Option::is_some) {
            state.give_cpus_back();
        }
        // What is left of the shards is taken out; that they have ended stays known.
        let ends: Vec<_> = state.ends.iter_mut().filter_map(|end| end.as_mut()?.take()).collect();
        for end in ends {
            #[cfg(feature = "latency")]
            state.add_latency(&end.latency);
            report.take_in(end);
        }
        report
    }

    /// The ledger once nothing moves in it. A shard that is stuck may hold an event forever: after a while the ledger is
    /// taken as it is.
    fn settled_ledger(&self) -> Ledger {
        let begun = Instant::now();
        let mut ledger = self.ledger();
        while !ledger.is_closed() && begun.elapsed() < SETTLE {
            std::thread::sleep(Duration::from_micros(100));
            ledger = self.ledger();
        }
        ledger
    }

    fn is_empty(&self) -> bool {
        are_empty(self.core.lanes())
    }

    /// The same, and of an engine that is closed: whether no handler holds anything back. A handler has said so after a
    /// number of events, and what it emitted before was accepted before it said so. If the lanes are empty after that, and
    /// no further event has left them, neither lanes nor handlers held anything.
    fn is_quiet(&self) -> bool {
        let said: Vec<u64> = self.core.shared.wakers.iter().map(|waker| waker.drained.get()).collect();
        self.is_empty() && (0..said.len()).all(|shard| self.holds_nothing(shard, said[shard]))
    }

    /// Whether a shard's handler holds nothing back, going by what it said; or the shard has ended, or need not say it.
    fn holds_nothing(&self, shard: usize, said: u64) -> bool {
        if self.state.load(Ordering::Acquire) == RUNNING {
            return true;
        }
        let state = self.core.state();
        let own = self.core.lanes().iter().filter(|lane| lane.id().shard.index() == shard);
        state.ends[shard].is_some() || said == own.map(|lane| lane.done()).sum::<u64>() + 1
    }

    /// Whether all that is left is with shards that have ended, so that waiting does not help.
    fn is_hopeless(&self) -> bool {
        let has_ended: Vec<bool> = self.core.state().ends.iter().map(Option::is_some).collect();
        if !has_ended.contains(&true) {
            return false;
        }
        let mut left = self.core.lanes().iter().filter(|lane| lane.done() < lane.accepted());
        left.all(|lane| has_ended[lane.id().shard.index()])
            && (0..has_ended.len())
                .all(|shard| self.holds_nothing(shard, self.core.shared.wakers[shard].drained.get()))
    }

    /// The shard that owns a key.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile, handler};
    /// let mut plan = Plan::new(Profile::Dev).with_shards(2).with_overcommitted(true);
    /// plan.class(Class::strict("only"));
    /// let engine = plan.start(|| 0u64, |_| handler(|_, _| ()))?;
    /// assert_eq!(engine.shard_of("orders"), engine.attach()?.shard_of("orders"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shard_of(&self, key: impl Into<Key>) -> ShardId {
        self.core.shared.routes.shard(key.into())
    }

    /// Whether a shard's thread ended by a panic that was not its handler's.
    pub fn has_panicked(&self, shard: ShardId) -> bool {
        matches!(self.core.state().ends[shard.index()], Some(None))
    }

    pub(super) fn is_running(&self, shard: ShardId) -> bool {
        self.core.state().ends[shard.index()].is_none()
    }

    pub(super) fn is_forked(&self) -> bool {
        forks::count() != self.core.forks
    }

    /// The shard whose thread this is.
    pub(super) fn own_shard(&self) -> Option<ShardId> {
        let me = Some(std::thread::current().id());
        self.core.state().threads.iter().position(|thread| *thread == me).map(|at| ShardId(at as u16))
    }
}

impl<E: Send + 'static> Drop for Engine<E> {
    fn drop(&mut self) {
        // Nobody polls the shards of a host while it is busy here: it drains them before, or not at all.
        let deadline = if self.hosted { Duration::ZERO } else { self.core.plan.drop_deadline };
        match self.stop(deadline) {
            Ok(_) | Err(StopError::Stopped) => {}
            // The threads are the parent's.
            Err(StopError::Forked) => return,
            // It cannot be waited for here; it ends after this event.
            Err(StopError::OnShardThread(_)) => {
                self.close();
                self.end_shards();
                return;
            }
        }
        // Those that ended are joined, so that no thread outlives its engine unseen; one that is stuck is left alone.
        let ended: Vec<bool> = self.core.state().ends.iter().map(Option::is_some).collect();
        for (thread, ended) in self.threads.drain(..).zip(ended) {
            if ended {
                let _ = thread.join();
            }
        }
    }
}
