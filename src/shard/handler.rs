//! What users write: the handler of a shard, what it is given, and what it may do.

use super::mesh::Mesh;
use crate::class::ClassId;
use crate::clock::Clock;
use crate::event::{Key, Outcome, ProducerId, ShardId, Verdict};
use crate::lane::{Head, PublishError};
use crate::memory::scratch::Scratch;
use crate::producer::EngineShared;
use std::any::Any;
use std::ops::{Deref, DerefMut};

/// Handles the events of one shard, on that shard's thread alone.
///
/// A handler is made on its thread by the factory that was given to [`crate::Plan::start`]; it need not be `Send`. A
/// closure `FnMut(&mut Event<E>, &mut Context<E>)` is a handler, whose `on_event` returns `()` or a [`Verdict`].
///
/// A panic in `on_event` costs that one event; a panic in another method is caught and counted too. What happens
/// then (go on, or stop the shard) is the plan's [`crate::engine::OnPanic`].
///
/// ```
/// use pelton::{Context, Event, Handler, Verdict};
///
/// #[derive(Default)]
/// struct Sum(u64);
///
/// impl Handler<u64> for Sum {
///     type Output = u64;
///     fn on_event(&mut self, event: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
///         self.0 += **event;
///         Verdict::Done
///     }
///     fn on_stop(self, _: &mut Context<'_, u64>) -> u64 {
///         self.0
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of events of type `{E}`",
    label = "expected a handler",
    note = "implement `Handler<{E}>`, or pass a closure that names its types: `|event: &mut Event<'_, {E}>, context: &mut Context<'_, {E}>| …`",
    note = "`pelton::handler(|event, context| …)` infers them; `AnyHandler::new` boxes handlers of different types"
)]
pub trait Handler<E>: 'static {
    /// What is left when the shard has stopped; [`crate::engine::Report::outputs`] has it.
    type Output: Send + 'static;

    /// Handles one event in place. With [`Verdict::Retry`] it stays at the head of its lane and comes again, as
    /// changed; what was emitted is forgotten then.
    fn on_event(&mut self, event: &mut Event<'_, E>, context: &mut Context<'_, E>) -> Verdict;

    /// After each burst of at least one event. Scratch is emptied after it.
    fn on_batch_end(&mut self, _context: &mut Context<'_, E>) {}

    /// Once, on the shard's thread, before the first event.
    fn on_start(&mut self, _context: &mut Context<'_, E>) {}

    /// After each poll in which no event left its lane: there was none, or each was answered with [`Verdict::Retry`]. With
    /// [`crate::park::Wait::Spin`] that is many million times a second.
    fn on_idle(&mut self, _context: &mut Context<'_, E>) {}

    /// Hands over what the handler holds back: a batch, a conflated value, a pending join. Returns whether nothing is held
    /// any more.
    ///
    /// Called from the moment at which the engine is closed ([`Engine::close`](crate::Engine::close), the first step of a
    /// stop), in polls in which no event left its lane: again after `false`, and again once further events have been
    /// handled. Producers are refused by then, the mesh is still open: what is emitted here is published and handled. An
    /// emit that is refused while this returns `false` does not count, as with [`Verdict::Retry`].
    ///
    /// A stop has [drained](crate::Report) an engine only if every handler has returned `true` since its last event. A
    /// panic in this method counts as `true`.
    fn on_drain(&mut self, _context: &mut Context<'_, E>) -> bool {
        true
    }

    /// Once, on the shard's thread, after the last event. Not called where `on_start` was not: on a shard of an
    /// engine that never was complete.
    fn on_stop(self, context: &mut Context<'_, E>) -> Self::Output;
}

impl<E, F, V> Handler<E> for F
where
    F: FnMut(&mut Event<'_, E>, &mut Context<'_, E>) -> V + 'static,
    V: Into<Verdict>,
{
    type Output = ();

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, E>, context: &mut Context<'_, E>) -> Verdict {
        self(event, context).into()
    }

    fn on_stop(self, _context: &mut Context<'_, E>) {}
}

/// Makes a handler of a closure, whose types are inferred.
///
/// ```
/// use pelton::{Class, Plan, Profile, handler};
/// use std::time::Duration;
///
/// let mut plan = Plan::new(Profile::Dev);
/// let class = plan.class(Class::strict("only"));
/// let engine = plan.start(|| 0u64, |shard| handler(move |event, _| println!("{shard}: {}", **event)))?;
/// engine.attach()?.publish(class, 7, |event| *event = 42)?;
/// engine.stop(Duration::from_secs(1))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[inline]
pub fn handler<E: 'static, V: Into<Verdict> + 'static>(
    handle: impl FnMut(&mut Event<'_, E>, &mut Context<'_, E>) -> V + 'static,
) -> impl Handler<E, Output = ()> {
    handle
}

/// A handler of any type, so that the shards of one engine can have different ones. Each event costs a virtual call.
/// What it leaves is boxed: [`Report::outputs`](crate::Report::outputs) gives `Box<dyn Any + Send>`.
///
/// ```
/// use pelton::{AnyHandler, Class, Plan, Profile, handler};
/// use std::time::Duration;
///
/// let mut plan = Plan::new(Profile::Dev).with_shards(2).with_overcommitted(true);
/// plan.class(Class::strict("only"));
/// let engine = plan.start(|| 0u64, move |shard| match shard.index() % 2 {
///     0 => AnyHandler::new(handler(|event, _| println!("even: {}", **event))),
///     _ => AnyHandler::new(handler(|event, _| println!("odd: {}", **event))),
/// })?;
/// engine.stop(Duration::from_secs(1))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AnyHandler<E>(Box<dyn DynHandler<E>>);

impl<E> std::fmt::Debug for AnyHandler<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnyHandler").finish_non_exhaustive()
    }
}

impl<E: 'static> AnyHandler<E> {
    /// Boxes a handler.
    pub fn new(handler: impl Handler<E>) -> Self {
        AnyHandler(Box::new(handler))
    }
}

impl<E: 'static> Handler<E> for AnyHandler<E> {
    type Output = Box<dyn Any + Send>;

    fn on_event(&mut self, event: &mut Event<'_, E>, context: &mut Context<'_, E>) -> Verdict {
        self.0.on_event(event, context)
    }

    fn on_batch_end(&mut self, context: &mut Context<'_, E>) {
        self.0.on_batch_end(context);
    }

    fn on_start(&mut self, context: &mut Context<'_, E>) {
        self.0.on_start(context);
    }

    fn on_idle(&mut self, context: &mut Context<'_, E>) {
        self.0.on_idle(context);
    }

    fn on_drain(&mut self, context: &mut Context<'_, E>) -> bool {
        self.0.on_drain(context)
    }

    fn on_stop(self, context: &mut Context<'_, E>) -> Box<dyn Any + Send> {
        self.0.on_stop(context)
    }
}

/// What a [`Handler`] does, behind a pointer.
trait DynHandler<E> {
    fn on_event(&mut self, event: &mut Event<'_, E>, context: &mut Context<'_, E>) -> Verdict;
    fn on_batch_end(&mut self, context: &mut Context<'_, E>);
    fn on_start(&mut self, context: &mut Context<'_, E>);
    fn on_idle(&mut self, context: &mut Context<'_, E>);
    fn on_drain(&mut self, context: &mut Context<'_, E>) -> bool;
    fn on_stop(self: Box<Self>, context: &mut Context<'_, E>) -> Box<dyn Any + Send>;
}

impl<E, H: Handler<E>> DynHandler<E> for H {
    fn on_event(&mut self, event: &mut Event<'_, E>, context: &mut Context<'_, E>) -> Verdict {
        Handler::on_event(self, event, context)
    }

    fn on_batch_end(&mut self, context: &mut Context<'_, E>) {
        Handler::on_batch_end(self, context);
    }

    fn on_start(&mut self, context: &mut Context<'_, E>) {
        Handler::on_start(self, context);
    }

    fn on_idle(&mut self, context: &mut Context<'_, E>) {
        Handler::on_idle(self, context);
    }

    fn on_drain(&mut self, context: &mut Context<'_, E>) -> bool {
        Handler::on_drain(self, context)
    }

    fn on_stop(self: Box<Self>, context: &mut Context<'_, E>) -> Box<dyn Any + Send> {
        Box::new(Handler::on_stop(*self, context))
    }
}

/// One event, in its slot; derefs to what the producer wrote.
///
/// ```
/// # use pelton::{Class, Plan, Profile};
/// use pelton::{Context, Event, Key};
/// # use std::time::Duration;
/// fn on_event(event: &mut Event<'_, u64>, _: &mut Context<'_, u64>) {
///     assert_eq!((event.key(), event.sequence(), event.class().index()), (Key(7), 0, 0));
///     let (sum, bytes) = event.parts_mut();
///     *sum += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
///     assert_eq!((**event, event.payload()), (42 + 6, &[1, 2, 3][..]));
/// }
/// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
/// # let class = plan.class(Class::strict("only").with_payload_bytes(64));
/// # let engine = plan.start(|| 0u64, |_| on_event)?;
/// # engine.attach()?.publish_payload(class, 7, &[1, 2, 3], |event| *event = 42)?;
/// # let report = engine.stop(Duration::from_secs(10))?;
/// # assert_eq!(report.ledger.total().handled, 1);
/// # assert!(report.ledger.is_closed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Event<'a, E> {
    pub(super) head: Head<'a, E>,
    pub(super) stamp: Option<u64>,
}

impl<E: std::fmt::Debug> std::fmt::Debug for Event<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event")
            .field("key", &self.key())
            .field("class", &self.class())
            .field("event", &**self)
            .finish_non_exhaustive()
    }
}

impl<E> Event<'_, E> {
    /// The key by which it was routed.
    #[inline]
    pub fn key(&self) -> Key {
        Key(self.head.item.key())
    }

    /// Its class.
    #[inline]
    pub fn class(&self) -> ClassId {
        self.head.lane().class
    }

    /// Who published it.
    #[inline]
    pub fn producer(&self) -> ProducerId {
        self.head.lane().producer
    }

    /// Its sequence in its lane.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.head.item.sequence()
    }

    /// Its payload; empty where it has none.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.head.item.payload()
    }

    /// The event and its payload at once, both to be changed in place.
    #[inline]
    pub fn parts_mut(&mut self) -> (&mut E, &mut [u8]) {
        self.head.item.parts_mut()
    }

    /// The producer's stamp in ticks of the engine's clock; `None` where this event has none.
    #[inline]
    pub fn stamp(&self) -> Option<u64> {
        self.stamp
    }
}

impl<E> Deref for Event<'_, E> {
    type Target = E;
    #[inline(always)]
    fn deref(&self) -> &E {
        &self.head.item
    }
}

impl<E> DerefMut for Event<'_, E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut E {
        &mut self.head.item
    }
}

/// What a handler may use while it is called.
pub struct Context<'a, E> {
    pub(super) shard: ShardId,
    pub(super) clock: &'a Clock,
    pub(super) scratch: &'a Scratch,
    pub(super) mesh: &'a mut Mesh<E>,
    pub(super) mesh_id: ProducerId,
    pub(super) shared: &'a EngineShared<E>,
}

impl<E> std::fmt::Debug for Context<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl<'a, E> Context<'a, E> {
    /// The shard that this is.
    #[inline]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The engine's clock.
    #[inline]
    pub fn clock(&self) -> &Clock {
        self.clock
    }

    /// Memory for the length of this batch. It does not borrow the context, so what is built in it can be emitted.
    ///
    /// ```
    /// # use pelton::{ClassId, Context, Event, Verdict};
    /// # fn on_event(class: ClassId, event: &mut Event<'_, u64>, context: &mut Context<'_, u64>) -> Verdict {
    /// let Ok(text) = context.scratch().slice(16, b'.') else { return Verdict::Done };
    /// text[..8].copy_from_slice(&event.to_le_bytes());
    /// match context.emit_bytes(class, event.key(), text, |_| ()) {
    ///     Ok(_) => Verdict::Done,
    ///     Err(_) => Verdict::Retry,
    /// }
    /// # }
    /// ```
    #[inline]
    pub fn scratch(&self) -> &'a Scratch {
        self.scratch.lend()
    }

    /// Emits an event to the shard of its key (which may be this one). It is published when the handler says
    /// [`Verdict::Done`]. Never waits: in a class that blocks, a full lane refuses.
    ///
    /// # Errors
    /// [`PublishError`], with [`crate::Rejection::NoRoute`] where the plan has no mesh. `fill` was not called then.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Class, Event, Plan, Profile, Verdict, handler};
    /// # use std::time::Duration;
    /// let mut plan = Plan::new(Profile::Dev).with_mesh(true);
    /// let fills = plan.class(Class::strict("fills"));
    /// let orders = plan.class(Class::weighted("orders", 1));
    /// let engine = plan.start(|| 0u64, move |_| handler(move |event: &mut Event<'_, u64>, context| {
    ///     if event.class() == orders && context.emit(fills, **event, |fill| *fill = 1).is_err() {
    ///         return Verdict::Retry;      // once there is room
    ///     }
    ///     Verdict::Done
    /// }))?;
    /// engine.attach()?.publish(orders, 7, |event| *event = 42)?;
    /// let report = engine.stop(Duration::from_secs(10))?;
    /// assert_eq!(report.ledger.class(fills).handled, 1);
    /// assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn emit(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        self.emit_bytes(class, key, &[], fill)
    }

    /// The same with a payload, which is copied.
    ///
    /// # Errors
    /// As for [`Self::emit`].
    ///
    /// # Examples
    /// ```
    /// # use pelton::{ClassId, Context, Event, Verdict};
    /// fn on_event(class: ClassId, event: &mut Event<'_, u64>, context: &mut Context<'_, u64>) -> Verdict {
    ///     match context.emit_bytes(class, event.key(), event.payload(), |copy| *copy = 1) {
    ///         Ok(_) => Verdict::Done,
    ///         Err(_) => Verdict::Retry,
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn emit_bytes(
        &mut self,
        class: ClassId,
        key: impl Into<Key>,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        let key = key.into();
        self.emit_to(self.shared.routes.shard(key), class, key, payload, fill)
    }

    /// The same to a shard by its number.
    ///
    /// # Errors
    /// As for [`Self::emit`]; `NoRoute` also where there is no such shard.
    ///
    /// # Panics
    /// If the class is none of this engine's.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{ClassId, Context, Event, Rejection, ShardId, Verdict};
    /// fn on_event(fills: ClassId, event: &mut Event<'_, u64>, context: &mut Context<'_, u64>) -> Verdict {
    ///     let (next, text) = (ShardId(context.shard().0 + 1), b"fill");
    ///     match context.emit_to(next, fills, event.key(), text, |fill| *fill = 1) {
    ///         Err(error) if error.reason != Rejection::NoRoute => Verdict::Retry,
    ///         _ => Verdict::Done,         // emitted, or this is the last shard
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn emit_to(
        &mut self,
        shard: ShardId,
        class: ClassId,
        key: impl Into<Key>,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, PublishError> {
        assert!(class.index() < self.shared.classes, "class {} is not one of this engine's", class.index());
        if !self.mesh.reaches(shard) {
            return Err(self.shared.no_route(self.mesh_id, shard, class));
        }
        self.mesh.stage(shard, class, key.into(), payload, fill)
    }
}
