//! What the shards do with an event: the service's own handler first, then subscribers.
#![forbid(unsafe_code)]

use super::record::Record;
use super::tap::TapsIn;
use crate::event::{ShardId, Verdict};
use crate::shard::{Context, Event, Handler};

/// The handler of a shard of a gateway's engine. `H` is the service's own.
pub(super) struct Front<H> {
    own: H,
    taps: TapsIn,
}

impl<H> Front<H> {
    pub fn new(own: H, taps: TapsIn) -> Self {
        Front { own, taps }
    }
}

impl<H: Handler<Record>> Handler<Record> for Front<H> {
    type Output = H::Output;

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Record>, context: &mut Context<'_, Record>) -> Verdict {
        let verdict = self.own.on_event(event, context);
        if verdict == Verdict::Done {
            self.taps.offer(event, event.payload());
        }
        verdict
    }

    fn on_batch_end(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_batch_end(context);
        self.taps.end_batch();
    }

    fn on_start(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_start(context);
    }

    fn on_idle(&mut self, context: &mut Context<'_, Record>) {
        self.own.on_idle(context);
    }

    fn on_stop(self, context: &mut Context<'_, Record>) -> H::Output {
        self.own.on_stop(context)
    }
}

/// A service that has nothing of its own to do.
pub(super) fn nothing(_: ShardId) -> impl Handler<Record, Output = ()> {
    |_: &mut Event<'_, Record>, _: &mut Context<'_, Record>| ()
}
