//! Starting: shards on threads of their own, or seats for a host.

use super::assembly::{Core, Seat, StartError};
use super::lifecycle::Engine;
use super::plan::Plan;
use super::validate::Threads;
use crate::event::ShardId;
use crate::ring::event_layout;
use crate::shard::driver::drive;
use crate::shard::placement::pin;
use crate::shard::{Handler, ShardExit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

impl Plan {
    /// Checks the plan, says what it starts ([`announce`](Plan::with_announce)), lays everything out, and starts a pinned
    /// thread for each shard. Blocks until every shard is ready.
    ///
    /// `make` fills the slots with events that producers will write over; `handler` makes each shard's handler, on
    /// that shard's thread.
    ///
    /// # Errors
    /// [`StartError`]; what has been started is stopped then, within the plan's `drop_deadline`.
    ///
    /// # Examples
    /// ```
    /// use pelton::{Class, Plan, Profile, engine::StartError, handler};
    /// use std::time::Duration;
    ///
    /// let mut plan = Plan::new(Profile::Dev);
    /// let class = plan.class(Class::strict("only").with_capacity(1_000));
    /// let make = |shard| handler(move |event, _| println!("{shard}: {}", **event));
    /// let Err(StartError::Plan(errors)) = plan.clone().start(|| 0u64, make) else { unreachable!() };
    /// assert_eq!(errors.0[0].works, "1024");
    ///
    /// plan.classes_mut()[class.index()] = Class::strict("only").with_capacity(1_024);
    /// let engine = plan.start(|| 0u64, make)?;
    /// engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// assert!(engine.stop(Duration::from_secs(10))?.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start<E, H>(
        self,
        make: impl Fn() -> E + Send + Sync + 'static,
        handler: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<Engine<E>, StartError>
    where
        E: Send + 'static,
        H: Handler<E>,
    {
        let advice = self.check_for::<E>(Threads::Engine)?;
        self.say(event_layout::<E>(), &advice, Threads::Engine);
        let (mut engine, seats) = self.lay_out(make);
        let core = engine.core.clone();
        let handler = Arc::new(handler);
        engine.threads.reserve_exact(seats.len());
        for seat in seats {
            let id = seat.id;
            let (core, handler) = (core.clone(), handler.clone());
            let name = core.thread_names.of(&core.plan.thread_name, id);
            let run = move || run_shard(&core, seat, &*handler);
            match std::thread::Builder::new().name(name).spawn(run) {
                Ok(thread) => engine.threads.push(thread),
                Err(error) => engine.core.change(|state| {
                    // There is no shard to wait for.
                    state.ends[id.index()] = Some(None);
                    state.failed.get_or_insert(StartError::Thread { shard: id, error });
                }),
            }
        }
        engine.hosted = false;
        core.wait_until(Duration::MAX, |state| state.assembled || state.failed.is_some());
        let failed = core.state().failed.take();
        match failed {
            None => Ok(engine),
            // Dropping the engine stops whatever has been started.
            Some(error) => Err(error),
        }
    }

    /// Starts an engine as [`start`](Plan::start) does, with one handler for each shard, in the order of the shards. Each
    /// handler, and what it owns, moves to its shard's thread.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile, handler};
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// let mut plan = Plan::new(Profile::Dev).with_shards(2).with_overcommitted(true);
    /// let class = plan.class(Class::strict("only"));
    /// let (to_file, _file) = channel();
    /// let to_screen = to_file.clone();
    /// let handlers = [to_file, to_screen].map(|tx| handler(move |event, _| drop(tx.send(**event))));
    /// let engine = plan.start_each(|| 0u64, handlers)?;
    /// engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// engine.stop(Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::Handlers`] where there are not as many handlers as shards.
    pub fn start_each<E, H>(
        self,
        make: impl Fn() -> E + Send + Sync + 'static,
        handlers: impl IntoIterator<Item = H>,
    ) -> Result<Engine<E>, StartError>
    where
        E: Send + 'static,
        H: Handler<E> + Send,
    {
        let handlers: Vec<_> = handlers.into_iter().map(Some).collect();
        if handlers.len() != usize::from(self.shards) {
            return Err(StartError::Handlers { handlers: handlers.len(), shards: self.shards });
        }
        let handlers = std::sync::Mutex::new(handlers);
        self.start(make, move |shard| {
            let mut handlers = handlers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            handlers[shard.index()].take().expect("each shard takes its handler once")
        })
    }

    /// Checks the plan for a host that drives the shards itself: on threads, or in a loop, of its own. What is about to
    /// run is said as by [`start`](Plan::start).
    ///
    /// Each [`Seat`] must be built before a producer can attach. Such an engine does not drain by itself when it is
    /// stopped: [`close`](Engine::close) it, poll its shards until [`drain`](Engine::drain) finds nothing left, stop it,
    /// finish the shards, and add what they leave to the report.
    ///
    /// ```
    /// use pelton::{Class, Context, Event, Plan, Profile};
    /// use std::time::Duration;
    ///
    /// let mut plan = Plan::new(Profile::Dev);
    /// let class = plan.class(Class::strict("only").with_capacity(16).reject());
    /// let (engine, seats) = plan.host_driven(|| 0u64)?;
    /// let handler = || |event: &mut Event<'_, u64>, _: &mut Context<'_, u64>| println!("{}", **event);
    /// let built = seats.into_iter().map(|seat| seat.build(handler()));
    /// let mut shards = built.collect::<Result<Vec<_>, _>>()?;
    ///
    /// let mut tx = engine.attach()?;
    /// tx.publish(class, 7, |event| *event = 42)?;
    /// shards.iter_mut().for_each(|shard| drop(shard.poll()));       // as often as the host likes
    ///
    /// engine.close();
    /// while !engine.drain(Duration::ZERO) {
    ///     shards.iter_mut().for_each(|shard| drop(shard.poll()));
    /// }
    /// let mut report = engine.stop(Duration::ZERO)?;
    /// shards.into_iter().for_each(|shard| report.add(shard.finish()));
    /// assert!(report.drained && report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StartError::Plan`].
    pub fn host_driven<E: Send + 'static>(
        self,
        make: impl Fn() -> E + Send + Sync + 'static,
    ) -> Result<(Engine<E>, Vec<Seat<E>>), StartError> {
        let advice = self.check_for::<E>(Threads::Host)?;
        self.say(event_layout::<E>(), &advice, Threads::Host);
        Ok(self.lay_out(make))
    }

    fn lay_out<E: Send + 'static>(
        self,
        make: impl Fn() -> E + Send + Sync + 'static,
    ) -> (Engine<E>, Vec<Seat<E>>) {
        let core = Core::new(self);
        let make: Arc<dyn Fn() -> E + Send + Sync> = Arc::new(make);
        let seat = |shard| Seat { core: core.clone(), id: ShardId(shard), make: make.clone() };
        let seats = (0..core.plan.shards).map(seat).collect();
        (Engine::new(core.clone()), seats)
    }
}

/// The whole life of a shard's thread.
fn run_shard<E: Send + 'static, H: Handler<E>>(
    core: &Core<E>,
    seat: Seat<E>,
    handler: &dyn Fn(ShardId) -> H,
) {
    let id = seat.id;
    core.change(|state| {
        state.pinned(id, pin);
        state.threads[id.index()] = Some(std::thread::current().id());
    });
    let built = catch_unwind(AssertUnwindSafe(|| seat.build(handler(id))));
    let end = match built {
        Ok(Ok(shard)) => catch_unwind(AssertUnwindSafe(|| drive(shard, core.plan.wait))).ok(),
        Ok(Err(error)) => {
            core.fail(error);
            None
        }
        Err(_) => {
            core.fail(StartError::FactoryPanicked { shard: id });
            None
        }
    };
    core.change(|state| state.ends[id.index()] = Some(end.map(ShardExit::boxed)));
}
