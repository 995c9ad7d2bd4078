//! What the shards do with an event: the service's own handler first, then views, then subscribers.
#![forbid(unsafe_code)]

use super::closed::Closed;
use super::record::Record;
use super::shared::Shared;
use super::tap::TapsIn;
use crate::event::{ShardId, Verdict};
use crate::resp::pair;
use crate::shard::{Context, Event, Handler};
use crate::views::{Fields, Tally, Totals};
use std::sync::{Arc, Mutex, PoisonError};

/// An event's fields, as they lie in its payload.
struct Pairs<'a>(&'a [u8]);

impl Fields for Pairs<'_> {
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        pair(self.0, name)
    }
}

/// What the views of all shards that have ended were given, by their order of declaration.
#[derive(Clone)]
pub(super) struct Ends(Arc<Mutex<Vec<Totals>>>);

impl Ends {
    pub fn new(views: usize) -> Self {
        Ends(Arc::new(Mutex::new(vec![Totals::default(); views])))
    }

    fn add(&self, tallies: &[Tally]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut().zip(tallies).for_each(|(all, tally)| all.add(&tally.totals()));
    }

    pub fn all(&self) -> Vec<Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The handler of a shard of a gateway's engine. `H` is the service's own.
pub(super) struct Front<H> {
    own: H,
    /// By stream, the places of its views in `tallies`.
    views: Vec<Vec<usize>>,
    tallies: Vec<Tally>,
    taps: TapsIn,
    shard: ShardId,
    closed: Arc<Closed>,
    ends: Ends,
}

impl<H> Front<H> {
    pub fn new(
        own: H,
        shared: &Shared,
        taps: TapsIn,
        shard: ShardId,
        closed: Arc<Closed>,
        ends: Ends,
    ) -> Self {
        let views = &shared.options.views;
        let of = |stream: &str| (0..views.len()).filter(|at| views[*at].stream == stream).collect();
        Front {
            own,
            views: shared.streams.iter().map(|stream| of(&stream.name)).collect(),
            tallies: views.iter().map(Tally::new).collect(),
            taps,
            shard,
            closed,
            ends,
        }
    }

    /// The service's own handler.
    pub fn own(&mut self) -> &mut H {
        &mut self.own
    }

    /// The tally of a view, by its order of declaration.
    pub fn tally(&self, view: usize) -> &Tally {
        &self.tallies[view]
    }
}

impl<H: Handler<Record>> Handler<Record> for Front<H> {
    type Output = H::Output;

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Record>, context: &mut Context<'_, Record>) -> Verdict {
        // As it came: the service may write into its slot.
        let record = **event;
        let verdict = self.own.on_event(event, context);
        // What comes again is counted then. An event that the service emits may name a stream that is none.
        if let (Verdict::Done, Some(views)) = (verdict, self.views.get(usize::from(record.stream))) {
            let payload = event.payload();
            for view in views {
                self.tallies[*view].observe(&Pairs(payload), record.id.ms);
            }
            self.taps.offer(&record, payload);
        }
        verdict
    }

    fn on_batch_end(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_batch_end(context);
        self.closed.note(self.shard, &self.tallies);
        self.taps.end_batch();
    }

    fn on_start(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_start(context);
    }

    fn on_idle(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_idle(context);
    }

    fn on_stop(self, context: &mut Context<'_, Record>) -> H::Output {
        self.ends.add(&self.tallies);
        self.own.on_stop(context)
    }
}

/// A service that has nothing of its own to do.
pub(super) fn nothing(_: ShardId) -> impl Handler<Record, Output = ()> {
    |_: &mut Event<'_, Record>, _: &mut Context<'_, Record>| ()
}
