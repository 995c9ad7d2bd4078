//! Assembly: from a checked plan to shards, lanes and producers.
//!
//! # Mechanism
//! Each shard is built on its own thread, after that was pinned: it lays out its region, its lanes, its tallies and
//! its scratch there, so that the system finds the pages near that CPU. It deposits the writing ends of its lanes; the
//! shard that comes last sorts them into lane sets, one for each producer, and sends each shard its ends of the mesh.
//! Only then can producers attach.
//!
//! A host that drives shards itself gets a [`Seat`] for each, and builds it on the thread that will poll it.

use super::lane_view::LaneView;
use super::plan::Plan;
use super::profile::OnPanic;
#[cfg(feature = "latency")]
use super::response::Response;
use super::settings::error::PlanErrors;
use crate::class::{ClassId, Sample};
use crate::clock::Clock;
use crate::event::{ProducerId, ShardId};
use crate::lane::{LaneConsumer, LaneId, LaneProducer, LaneSpec, shape_of};
#[cfg(feature = "latency")]
use crate::latency::ClassLatency;
use crate::latency::Recorder;
use crate::ledger::Ledger;
use crate::memory::footprint::arc_bytes;
use crate::memory::huge::Advised;
use crate::memory::region::{Builder, MemoryRefused};
use crate::memory::scratch::Scratch;
use crate::park::{Doorbell, ShardWaker};
use crate::producer::{EngineShared, LaneSet, Registry};
use crate::ring::{self, ShapeError, event_layout};
use crate::route::Routes;
use crate::shard::lanes::Lanes;
use crate::shard::mailbox::{Command, Inbox, Mailbox};
use crate::shard::parts::{ClassRule, ShardParts};
use crate::shard::placement::{self, Placement, ThreadNames};
use crate::shard::schedule::Schedule;
use crate::shard::{Handler, Shard, ShardExit};
use crate::sync::forks;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

/// Why an engine did not start.
#[non_exhaustive]
#[derive(Debug)]
pub enum StartError {
    /// The plan cannot be.
    Plan(PlanErrors),
    /// The system refused the memory of a shard.
    Memory {
        /// The shard.
        shard: ShardId,
        /// What was refused.
        error: MemoryRefused,
    },
    /// The system refused a thread.
    Thread {
        /// The shard.
        shard: ShardId,
        /// What the system said.
        error: std::io::Error,
    },
    /// There are not as many handlers as shards.
    Handlers {
        /// The handlers that were given.
        handlers: usize,
        /// The shards of the plan.
        shards: u16,
    },
    /// The factory of events or of handlers panicked.
    FactoryPanicked {
        /// The shard.
        shard: ShardId,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(errors) => errors.fmt(f),
            Self::Memory { shard, error } => write!(f, "{shard}: {error}"),
            Self::Thread { shard, error } => write!(f, "the thread of {shard} could not be started: {error}"),
            Self::Handlers { handlers, shards } => {
                write!(f, "{handlers} handlers were given for {shards} shards; each shard takes one")
            }
            Self::FactoryPanicked { shard } => {
                write!(f, "{shard}: the factory of its events or of its handler panicked")
            }
        }
    }
}

impl Error for StartError {}

impl From<PlanErrors> for StartError {
    fn from(error: PlanErrors) -> Self {
        StartError::Plan(error)
    }
}

/// What all parts of one engine share.
pub(super) struct Core<E> {
    pub plan: Plan,
    pub clock: Clock,
    pub shared: Arc<EngineShared<E>>,
    pub mailboxes: Box<[Arc<Mailbox<E>>]>,
    pub forks: u32,
    pub started: Instant,
    pub thread_names: ThreadNames,
    /// Every lane, from when the engine is complete. Read without a lock: in a forked child too, where a lock may have been
    /// copied while a thread of the parent held it.
    lanes: OnceLock<Vec<LaneView<E>>>,
    state: Mutex<State<E>>,
    changed: Condvar,
}

pub(super) struct State<E> {
    /// The writing ends that each shard deposited: lane set by lane set, class by class.
    deposits: Vec<Option<Vec<Vec<LaneProducer<E>>>>>,
    pub failed: Option<StartError>,
    pub assembled: bool,
    placements: Vec<Placement>,
    /// The CPUs of the placements are not given back yet.
    holds_cpus: bool,
    pub threads: Vec<Option<ThreadId>>,
    /// For which part of each shard's region huge pages were asked for.
    pub huge_pages: Vec<Option<Advised>>,
    /// What is left of each shard: `None` while it runs, and for ever where a host drives it.
    pub ends: Vec<Option<End>>,
    /// Sums over all shards, class by class; empty until somebody asks for them.
    #[cfg(feature = "latency")]
    latency: Vec<ClassLatency>,
    /// Tallies that shards were asked for and that are not in the sums yet.
    #[cfg(feature = "latency")]
    latency_owed: Vec<Response<Vec<Recorder>>>,
}

/// What is left of a shard's thread; empty where the engine itself panicked on it.
pub(super) type End = Option<ShardExit<Box<dyn Any + Send>>>;

impl<E> State<E> {
    /// Where each shard runs. Other engines may have come to its CPU, or left it.
    pub fn placements(&mut self) -> &[Placement] {
        if self.holds_cpus {
            placement::note_shared(&mut self.placements);
        }
        &self.placements
    }

    /// The thread of a shard has its CPU, or was refused it.
    pub fn pinned(&mut self, shard: ShardId, pin: impl FnOnce(usize) -> bool) {
        let placement = &mut self.placements[shard.index()];
        placement.pinned = placement.cpu.is_some_and(pin);
    }

    /// Gives the CPUs to other engines, once.
    pub fn give_cpus_back(&mut self) {
        if std::mem::take(&mut self.holds_cpus) {
            placement::give_back(&self.placements);
        }
    }
}

impl<E> Drop for State<E> {
    fn drop(&mut self) {
        self.give_cpus_back();
    }
}

#[cfg(feature = "latency")]
impl<E> State<E> {
    /// The sums over all shards that have been asked or have ended. Laid out when they are wanted: histograms are large,
    /// and shards count in tallies of their own.
    pub fn latency(&mut self, classes: usize) -> &mut [ClassLatency] {
        self.latency.resize_with(classes, ClassLatency::default);
        let State { latency, latency_owed, .. } = self;
        latency_owed.retain_mut(|response| {
            // Asked first: an answer that comes between the two is found by the next call.
            let has_ended = response.has_ended();
            let Some(recorders) = response.take() else { return !has_ended };
            latency.iter_mut().zip(&recorders).for_each(|(sum, recorder)| sum.absorb(recorder));
            false
        });
        &mut self.latency
    }

    /// Adds tallies to the sums as soon as their shard gives them.
    pub fn owe_latency(&mut self, response: Response<Vec<Recorder>>) {
        self.latency_owed.push(response);
    }

    /// Whether a shard has not given tallies yet that it was asked for.
    pub fn is_owed_latency(&self) -> bool {
        !self.latency_owed.is_empty()
    }

    /// Adds the latencies of a shard that has ended.
    pub fn add_latency(&mut self, more: &[ClassLatency]) {
        self.latency(more.len()).iter_mut().zip(more).for_each(|(sum, more)| sum.add(more));
    }
}

/// Bytes of the core of an engine: what there is once, and what grows with shards, producers and lanes beside them.
pub(super) const fn core_bytes(shards: usize, classes: usize, producers: usize, lanes: usize) -> usize {
    core_bytes_for::<()>(shards, classes, producers, lanes)
}

const fn core_bytes_for<E>(shards: usize, classes: usize, producers: usize, lanes: usize) -> usize {
    let waker = size_of::<Arc<ShardWaker>>() + arc_bytes::<ShardWaker>();
    let mailbox = size_of::<Arc<Mailbox<E>>>() + arc_bytes::<Mailbox<E>>();
    let state = size_of::<Placement>()
        + size_of::<Option<ThreadId>>()
        + size_of::<Option<Advised>>()
        + size_of::<Option<End>>();
    let once = arc_bytes::<Core<E>>()
        + arc_bytes::<EngineShared<E>>()
        + arc_bytes::<Routes>()
        + classes * size_of::<AtomicU64>();
    once + shards * (waker + mailbox + state + size_of::<JoinHandle<()>>())
        + Registry::<E>::bytes(producers)
        + lanes * size_of::<LaneView<E>>()
}

// Whatever the events are: all of it holds pointers to them.
const _: () = assert!(core_bytes(3, 4, 5, 6) == core_bytes_for::<[u128; 9]>(3, 4, 5, 6));

impl<E: Send + 'static> Core<E> {
    pub fn new(plan: Plan) -> Arc<Self> {
        let shards = usize::from(plan.shards);
        let classes = plan.classes.len();
        let shared = EngineShared::new(
            Routes::new(plan.partitions, plan.shards),
            Registry::new(plan.producers_max),
            (0..shards).map(|_| Arc::new(ShardWaker::new())).collect(),
            classes,
        );
        let state = State {
            deposits: (0..shards).map(|_| None).collect(),
            failed: None,
            assembled: false,
            placements: placement::take(plan.shards, plan.cpus.as_deref(), plan.pins()),
            holds_cpus: true,
            threads: vec![None; shards],
            huge_pages: vec![None; shards],
            ends: (0..shards).map(|_| None).collect(),
            #[cfg(feature = "latency")]
            latency: Vec::new(),
            #[cfg(feature = "latency")]
            latency_owed: Vec::new(),
        };
        Arc::new(Core {
            clock: plan.clock.clone().unwrap_or_default(),
            shared: Arc::new(shared),
            mailboxes: (0..shards).map(|_| Arc::default()).collect(),
            forks: forks::count(),
            started: Instant::now(),
            thread_names: ThreadNames::take(&plan.thread_name),
            lanes: OnceLock::new(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            plan,
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` says so, for `limit` at most; says whether it did.
    pub fn wait_until(&self, limit: Duration, mut done: impl FnMut(&State<E>) -> bool) -> bool {
        let begun = Instant::now();
        let mut state = self.state();
        loop {
            if done(&state) {
                return true;
            }
            let left = limit.saturating_sub(begun.elapsed()).min(Duration::from_secs(1));
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Changes the state and tells whoever waits.
    pub fn change(&self, change: impl FnOnce(&mut State<E>)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Sends a command to a shard.
    pub fn send(&self, shard: ShardId, command: Command<E>) {
        self.mailboxes[shard.index()].send(command, &self.shared.wakers[shard.index()]);
    }

    /// Every lane; none before the engine is complete.
    pub fn lanes(&self) -> &[LaneView<E>] {
        self.lanes.get().map_or(&[], Vec::as_slice)
    }

    /// The whole ledger, as it is now.
    pub fn ledger(&self) -> Ledger {
        let lanes = self.lanes();
        let unrouted = self.shared.unrouted.iter().map(|n| {
            let n = n.load(Ordering::Relaxed);
            let mut counts = crate::ledger::Counts { offered: n, ..Default::default() };
            counts.rejected[crate::event::Rejection::NoRoute as usize] = n;
            counts
        });
        Ledger { lanes: lanes.iter().map(LaneView::counts).collect(), unrouted: unrouted.collect() }
    }

    /// Takes a shard's writing ends; the last one completes the engine.
    fn deposit(&self, shard: ShardId, ends: Vec<Vec<LaneProducer<E>>>) {
        let mut state = self.state();
        state.deposits[shard.index()] = Some(ends);
        if state.deposits.iter().all(Option::is_some) {
            let ends: Vec<_> = std::mem::take(&mut state.deposits).into_iter().flatten().collect();
            let lanes = self.assemble(ends);
            self.lanes.get_or_init(|| lanes);
            state.assembled = true;
            self.shared.complete();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Sorts the ends, which come shard by shard, into lane sets.
    fn assemble(&self, mut ends: Vec<Vec<Vec<LaneProducer<E>>>>) -> Vec<LaneView<E>> {
        let mut views = Vec::with_capacity(ends.iter().flatten().map(Vec::len).sum());
        views.extend(ends.iter().flatten().flatten().map(LaneView::of));
        // From the last set to the first, so that each is popped off its shard's list.
        for set in (0..self.plan.lane_sets()).rev() {
            let lanes: Box<[_]> = ends.iter_mut().flat_map(|sets| sets.pop().unwrap_or_default()).collect();
            match set.checked_sub(self.plan.producers_max) {
                Some(shard) => self.send(ShardId(shard), Command::Mesh(lanes)),
                None => self.shared.registry.put(LaneSet { id: ProducerId(set), generation: 0, lanes }),
            }
        }
        views
    }

    /// The memory of a shard's rings, not cut yet.
    fn region(&self, shard: ShardId) -> Result<Builder, MemoryRefused> {
        let bytes = self.plan.region_bytes(event_layout::<E>());
        if !self.plan.huge_pages {
            return Builder::new(bytes);
        }
        let (region, advised) = Builder::with_huge_pages(bytes)?;
        self.change(|state| state.huge_pages[shard.index()] = Some(advised));
        Ok(region)
    }

    pub fn fail(&self, error: StartError) {
        self.change(|state| {
            state.failed.get_or_insert(error);
        });
    }
}

/// The place of one shard that is not built yet.
///
/// `Send`: take it to the thread that will poll the shard, and [`build`](Seat::build) it there.
pub struct Seat<E> {
    pub(super) core: Arc<Core<E>>,
    pub(super) id: ShardId,
    pub(super) make: Arc<dyn Fn() -> E + Send + Sync>,
}

impl<E> std::fmt::Debug for Seat<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("shard", &self.id).finish_non_exhaustive()
    }
}

impl<E: Send + 'static> Seat<E> {
    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Lays out the shard's memory on this thread. Producers can attach when all shards of the engine are built.
    ///
    /// # Errors
    /// [`StartError::Memory`].
    pub fn build<H: Handler<E>>(self, handler: H) -> Result<Shard<E, H>, StartError> {
        self.lay_out().map(|(parts, schedule)| Shard::new(parts, schedule, handler))
    }

    fn lay_out(self) -> Result<(ShardParts<E>, Schedule), StartError> {
        let Seat { core, id, make } = self;
        let plan = &core.plan;
        let memory = |error| match error {
            ShapeError::Memory(error) => StartError::Memory { shard: id, error },
            // The plan was checked; a shape that is out of range all the same is memory that cannot be had.
            ShapeError::Capacity(n)
            | ShapeError::PayloadBytes(n)
            | ShapeError::PayloadMax { asked: n, .. }
            | ShapeError::Stamp(n) => {
                StartError::Memory { shard: id, error: MemoryRefused { asked: n as usize } }
            }
        };
        let mut region = core.region(id).map_err(|error| memory(error.into()))?;
        let sets = usize::from(plan.lane_sets());
        let waker = &core.shared.wakers[id.index()];
        let doors: Vec<_> = (0..sets).map(|_| Arc::new(Doorbell::new(waker.clone()))).collect();
        let classes = plan.classes.len();
        let mut writing: Vec<Vec<LaneProducer<E>>> = (0..sets).map(|_| Vec::with_capacity(classes)).collect();
        let mut reading: Vec<Vec<LaneConsumer<E>>> = Vec::with_capacity(classes);
        for (at, class) in plan.classes.iter().enumerate() {
            let mut lanes = Vec::with_capacity(sets);
            let shape = ring::Shape { first_sequence: plan.first_sequence, ..shape_of(class) };
            for (set, ends) in writing.iter_mut().enumerate() {
                let lane = LaneId { producer: ProducerId(set as u16), shard: id, class: ClassId(at as u8) };
                let spec = LaneSpec { id: lane, class, clock: &core.clock, door: &doors[set] };
                let (tx, rx) = spec.build(shape, &mut region, || make()).map_err(memory)?;
                ends.push(tx);
                lanes.push(rx);
            }
            reading.push(lanes);
        }
        let rule = |class: &crate::Class| ClassRule {
            ttl: class.ttl.map(|ttl| core.clock.ticks_of(ttl)),
            stamped: class.stamped(),
            measured: if cfg!(feature = "latency") { class.measured() } else { Sample::NONE },
        };
        let parts = ShardParts {
            id,
            mesh_id: plan.mesh_set(id),
            shared: core.shared.clone(),
            waker: waker.clone(),
            inbox: Inbox::new(core.mailboxes[id.index()].clone()),
            clock: core.clock.clone(),
            scratch: Scratch::new(plan.scratch_bytes as usize),
            rules: plan.classes.iter().map(rule).collect(),
            lanes: Lanes::new(reading, doors),
            // No ticks at all are less than a clock's shortest span.
            retry_limit: if plan.retry_limit.is_zero() { 0 } else { core.clock.ticks_of(plan.retry_limit) },
            stop_on_panic: plan.on_panic == OnPanic::StopShard,
            recorders: plan.classes.iter().map(|_| Recorder::new()).collect(),
        };
        core.deposit(id, writing);
        Ok((parts, Schedule::new(&plan.classes, plan.burst, plan.floor)))
    }
}
