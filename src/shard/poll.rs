//! Polling: what the shard is called for, one burst of events, room for producers that wait. What happens to an event is in `burst`.
//!
//! # What a poll costs when there is nothing
//! One load of the waker, and for each class one load for each lane that is awake: of the slot that it wants next.

use super::burst::{Burst, may_go_on_slow, serve_lane};
use super::handler::{Context, Handler};
use super::mailbox::Command;
use super::mesh::Mesh;
use super::park_token::ParkToken;
use super::parts::{ShardExit, ShardParts};
use super::quarantine::Quarantine;
use super::schedule::{Pick, Schedule, Serve};
use crate::event::{Failure, Key, ShardId};
use crate::lane::LaneConsumer;
#[cfg(feature = "latency")]
use crate::latency::ClassLatency;
use crate::memory;
use crate::memory::seal::Seal;
use crate::park::bit;
use crate::sync::{discard, thread_token};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::ThreadId;
use std::time::Duration;

/// A shard with its handler.
///
/// Made by [`crate::Engine`] on its own threads, or by [`crate::engine::Seat::build`] for a host that drives it.
///
#[doc = include_str!("shard.md")]
pub struct Shard<E: Send + 'static, H: Handler<E>> {
    schedule: Schedule,
    work: Work<E, H>,
}

impl<E: Send + 'static, H: Handler<E>> std::fmt::Debug for Shard<E, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("started", &self.work.started)
            .field("stopping", &self.work.stopping)
            .finish_non_exhaustive()
    }
}

/// All of a shard but its schedule, which decides what to do with the rest.
struct Work<E, H> {
    parts: ShardParts<E>,
    handler: H,
    mesh: Mesh<E>,
    /// A producer waits for room in one of the lanes that are awake.
    room_wanted: bool,
    started: bool,
    /// The engine has stopped the shard, or a panic has under `OnPanic::StopShard`: no further event is served.
    stopping: bool,
    /// The engine is closed: the handler is asked for what it holds back.
    draining: bool,
    /// How many events had left the shard's lanes when the handler last held nothing back.
    drained_at: Option<u64>,
    quarantine: Quarantine,
    /// The thread that polled the shard last, as a token.
    polled_by: u64,
    /// The thread that started the shard, and its allocations so far.
    allocations_at_start: Option<(ThreadId, u64)>,
    /// Seals that were asked for, each by a caller that waits for its answer, until the handler has started.
    seals_wanted: Vec<Command<E>>,
    /// The seal of the thread.
    seal: Option<memory::Mark>,
}

impl<E: Send + 'static, H: Handler<E>> Shard<E, H> {
    pub(crate) fn new(parts: ShardParts<E>, schedule: Schedule, handler: H) -> Self {
        let work = Work {
            mesh: Mesh::none(parts.rules.len()),
            room_wanted: false,
            started: false,
            stopping: false,
            draining: false,
            drained_at: None,
            quarantine: Quarantine::new(),
            polled_by: 0,
            allocations_at_start: None,
            seals_wanted: Vec::new(),
            seal: None,
            parts,
            handler,
        };
        // An engine of one shard is complete already: look at the mailbox at the first poll in any case.
        work.parts.waker.raise(bit::LANES);
        Shard { schedule, work }
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.work.parts.id
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.work.handler
    }

    /// Whether the shard has been stopped: by the engine, or by a panic under [`crate::engine::OnPanic::StopShard`].
    pub fn is_stopping(&self) -> bool {
        self.work.stopping
    }

    /// Serves at most one burst of one class; returns how many events left their lanes. Never blocks.
    ///
    /// Calls the handler's `on_idle` if no event left its lane. A shard that has been stopped serves nothing more and
    /// returns 0.
    #[inline]
    pub fn poll(&mut self) -> u64 {
        self.note_thread();
        self.poll_here()
    }

    /// The calling thread polls the shard from now on.
    #[inline(always)]
    pub(super) fn note_thread(&mut self) {
        let here = thread_token();
        if self.work.polled_by != here {
            self.work.polled_by = here;
            self.work.parts.waker.polled_by(here);
        }
    }

    /// [`poll`](Self::poll) on the thread that was noted.
    pub(super) fn poll_here(&mut self) -> u64 {
        let Shard { schedule, work } = self;
        if work.parts.waker.calls() != 0 {
            work.attend_slow();
        }
        if !work.started || work.stopping {
            return 0;
        }
        let served = schedule.next(work);
        if served == 0 {
            work.guarded(|handler, context| handler.on_idle(context));
            if work.must_drain() {
                work.drain_slow();
            }
        }
        if work.room_wanted {
            work.room_wanted = work.parts.lanes.notify_room();
        }
        work.parts.lanes.after_poll();
        served
    }

    /// Prepares a sleep. Never blocks. Returns `None` if there is something to do, or the shard [is stopping](Self::is_stopping): a
    /// loop then polls on, or ends. Otherwise [`ParkToken::wait`] sleeps until an event, a command or a stop comes; a token that
    /// is dropped does not sleep.
    pub fn arm(&mut self) -> Option<ParkToken<'_, E>> {
        // The poll before this call may have taken the stop off the waker, which would not end a sleep now.
        if self.work.stopping || self.work.must_drain() {
            return None;
        }
        ParkToken::announce(&self.work.parts.lanes, &self.work.parts.waker)
    }

    /// Sleeps, if there is nothing to do, until the waker is raised, for at most `limit`. Returns whether it may have slept.
    pub(super) fn park(&mut self, limit: Duration) -> bool {
        self.arm().map(|token| token.sleep(limit)).is_some()
    }

    /// Ends the shard: closes its lanes, so that no further event is accepted, and calls the handler's `on_stop`.
    ///
    /// A handler that has not started yet starts first. If the engine never was complete (another shard was not built),
    /// it is dropped without either, and leaves no output.
    pub fn finish(mut self) -> ShardExit<H::Output> {
        while !self.work.started && self.work.parts.shared.is_complete() {
            self.work.attend_slow();
        }
        let now = memory::allocations();
        let sealed = self.work.seal.and_then(memory::Mark::finish);
        let me = std::thread::current().id();
        let since = self.work.allocations_at_start.filter(|(thread, _)| *thread == me);
        let allocations = since.map(|(_, start)| now - start).filter(|_| memory::allocations_are_counted());
        let Work { parts, handler, mut mesh, mut quarantine, started, .. } = self.work;
        let ShardParts { id, mesh_id, shared, clock, inbox, scratch, mut lanes, .. } = parts;
        lanes.all().for_each(LaneConsumer::close);
        drop(inbox);
        let mut context = Context {
            shard: id,
            clock: &clock,
            scratch: &scratch,
            mesh: &mut mesh,
            mesh_id,
            shared: &shared,
        };
        let stop = || started.then(|| handler.on_stop(&mut context));
        let output = match catch_unwind(AssertUnwindSafe(stop)) {
            Ok(output) => {
                mesh.publish();
                output
            }
            Err(panic) => {
                mesh.abort();
                quarantine.add(None, &*panic);
                discard(panic);
                None
            }
        };
        ShardExit {
            shard: id,
            output,
            quarantine,
            allocations,
            sealed,
            scratch_refused: scratch.refused(),
            #[cfg(feature = "latency")]
            latency: parts.recorders.iter().map(ClassLatency::from).collect(),
        }
    }
}

impl<E: Send + 'static, H: Handler<E>> Serve for Work<E, H> {
    #[inline(always)]
    fn is_ready(&self, class: usize) -> bool {
        self.parts.lanes.is_ready(class)
    }

    /// Serves `pick.limit` events of a class, across its lanes that are awake.
    #[inline(never)]
    fn serve(&mut self, pick: Pick) -> u64 {
        let lanes = &self.parts.lanes;
        let mut burst = Burst {
            class: pick.class,
            place: lanes.first(pick.class),
            first: lanes.first(pick.class),
            places: lanes.awake(),
            left: pick.limit,
            limit: pick.limit,
            ending: false,
        };
        // One catch for all of it; after a panic it goes on where it was.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve_lanes(&mut burst))) {
            self.survive_slow(&mut burst, &*panic);
            discard(panic);
        }
        self.parts.scratch.reset();
        burst.served()
    }
}

impl<E: Send + 'static, H: Handler<E>> Work<E, H> {
    /// Serves the lanes of a class from where the burst is, and ends it.
    #[inline(always)]
    fn serve_lanes(&mut self, burst: &mut Burst) {
        let Work { parts, handler, mesh, .. } = self;
        let ShardParts { id, mesh_id, shared, clock, scratch, lanes, rules, recorders, retry_limit, .. } =
            parts;
        let context = &mut Context { shard: *id, clock, scratch, mesh, mesh_id: *mesh_id, shared };
        let rule = &rules[burst.class];
        let recorder = &mut recorders[burst.class];
        while burst.places > 0 && burst.left > 0 {
            let (lane, busy) = lanes.at(burst.class, burst.place);
            if lane.is_ready() {
                *busy = true;
                if lane.blocked().is_none()
                    || may_go_on_slow(lane, rule, *retry_limit, context.clock, context.mesh)
                {
                    serve_lane(lane, rule, recorder, *retry_limit, handler, context, &mut burst.left);
                    lane.release();
                    if burst.places > 1 {
                        // Other lanes follow, and may take long. After the last one the waker is looked at.
                        lane.notify_room_to_thread();
                    }
                }
            }
            if burst.served() == 0 {
                // The next place is the first that may give something to this burst.
                burst.first = lanes.after(burst.place);
            }
            burst.place = lanes.after(burst.place);
            burst.places -= 1;
        }
        if burst.served() > 0 && !burst.ending {
            burst.ending = true;
            lanes.served_first(burst.class, burst.first);
            handler.on_batch_end(context);
            context.mesh.publish();
        }
    }

    /// The handler panicked: on the event at the head of a lane, whose particulars are kept and which is passed, or
    /// after the last one.
    #[cold]
    fn survive_slow(&mut self, burst: &mut Burst, panic: &(dyn Any + Send)) {
        self.mesh.abort();
        if burst.ending {
            self.quarantine.add(None, panic);
        } else {
            let (lane, _) = self.parts.lanes.at(burst.class, burst.place);
            if let Some(head) = lane.head() {
                let item = &head.item;
                let place = (head.lane(), item.sequence(), Key(item.key()), item.payload());
                self.quarantine.add(Some(place), panic);
                head.failed(Failure::Panic);
            }
            lane.release();
            burst.left -= 1;
        }
        self.after_panic();
        if self.stopping {
            // Neither a further event nor `on_batch_end` of a handler that has just panicked.
            burst.places = 0;
            burst.ending = true;
        }
    }

    fn after_panic(&mut self) {
        if self.parts.stop_on_panic {
            self.stopping = true;
            // Nobody will handle what comes now: refuse it at the door.
            self.parts.lanes.all().for_each(LaneConsumer::close);
        }
    }

    /// Whether the handler is to be asked for what it holds back.
    fn must_drain(&mut self) -> bool {
        self.draining && self.drained_at != Some(self.parts.lanes.done())
    }

    /// Asks the handler for what it holds back. What it emits is published before the engine learns that this was all.
    #[cold]
    fn drain_slow(&mut self) {
        let done = self.parts.lanes.done();
        // Where it panics it would only panic again.
        let mut holds_nothing = true;
        self.guarded(|handler, context| {
            holds_nothing = handler.on_drain(context);
            if !holds_nothing {
                context.mesh.publish_and_forget_refusals();
            }
        });
        if holds_nothing {
            self.drained_at = Some(done);
            self.parts.waker.drained.set(done + 1);
        }
    }

    /// Calls one of the handler's methods that are given no event, and empties the scratch after it.
    #[inline]
    fn guarded(&mut self, call: impl FnOnce(&mut H, &mut Context<'_, E>)) {
        let Work { parts, handler, mesh, .. } = self;
        let ShardParts { id, mesh_id, shared, clock, scratch, .. } = parts;
        let context = &mut Context { shard: *id, clock, scratch, mesh, mesh_id: *mesh_id, shared };
        match catch_unwind(AssertUnwindSafe(|| call(handler, context))) {
            Ok(()) => self.mesh.publish(),
            Err(panic) => {
                self.mesh.abort();
                self.quarantine.add(None, &*panic);
                discard(panic);
                self.after_panic();
            }
        }
        self.parts.scratch.reset();
    }

    /// Does what the shard is called for.
    #[cold]
    fn attend_slow(&mut self) {
        let calls = self.parts.waker.take(bit::MAIL | bit::LANES | bit::ROOM | bit::STOP | bit::DRAIN);
        // Looked at after the bits are taken: a take that misses this completion leaves the `LANES` that announces it in
        // the waker, and the next poll attends again. The other order can miss both.
        let starts = !self.started && self.parts.shared.is_complete();
        // Before the mail, which has a lock: events do not wait for it.
        if calls & bit::LANES != 0 {
            self.parts.lanes.wake();
        }
        // There may be room already: the producer does not wait for the burst that comes next.
        if calls & bit::ROOM != 0 {
            self.room_wanted |= self.parts.lanes.notify_room_to_all();
        }
        // The mesh is sent before the engine is complete, so it is in the mailbox now, whether `MAIL` was taken or not:
        // the handler may emit from its start on.
        if (starts || calls & bit::MAIL != 0) && !self.read_mail() {
            // The stop waits for the mail, so that a handler which can start does so before it stops.
            self.parts.waker.raise(calls & (bit::STOP | bit::DRAIN));
            return;
        }
        self.stopping |= calls & bit::STOP != 0;
        self.draining |= calls & bit::DRAIN != 0;
        if starts {
            self.started = true;
            self.guarded(|handler, context| handler.on_start(context));
            self.allocations_at_start = Some((std::thread::current().id(), memory::allocations()));
        }
        if self.started && !self.seals_wanted.is_empty() {
            self.seal();
        }
    }

    /// Seals this thread, once for all who asked: to abort, if one of them wanted that. A seal that it has ends: what it
    /// counted was asked to be forgotten.
    fn seal(&mut self) {
        self.seal = None;
        let mut strictest = Seal::Count;
        // Before the seal, as the answers give memory back; whoever gets one finds the thread sealed, since no event is
        // looked at in between.
        for command in std::mem::take(&mut self.seals_wanted) {
            if let Command::Seal(mode, reply) = command {
                strictest = if mode == Seal::Abort { mode } else { strictest };
                reply(memory::counting());
            }
        }
        self.seal = memory::Mark::begin(strictest).ok();
    }

    /// Carries out the commands in the mailbox. Returns false if a sender holds its lock; the next poll tries again then.
    fn read_mail(&mut self) -> bool {
        let ShardParts { inbox, waker, .. } = &self.parts;
        let Some(mut commands) = inbox.try_take(waker) else { return false };
        // Seals wait where they are: a list of their own would be allocated, and that is counted.
        for command in commands.extract_if(.., |command| !matches!(command, Command::Seal(..))) {
            match command {
                Command::Ask(ask) => {
                    let handler = &mut self.handler;
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| ask(handler))) {
                        self.quarantine.add(None, &*panic);
                        discard(panic);
                    }
                }
                #[cfg(feature = "latency")]
                Command::Latency(empty, reply) => reply(std::mem::replace(&mut self.parts.recorders, empty)),
                Command::Mesh(lanes) => self.mesh = Mesh::new(lanes, self.parts.rules.len()),
                Command::Seal(..) => {}
            }
        }
        match (commands.is_empty(), self.seals_wanted.is_empty()) {
            // Not kept: a list without anything in it is memory that no plan names.
            (true, _) => {}
            (false, true) => self.seals_wanted = commands,
            // The handler has not started: nothing is counted yet.
            (false, false) => self.seals_wanted.append(&mut commands),
        }
        true
    }
}
