//! A handler cannot keep an event, or its payload, past the call.

use pelton::{Context, Event, Handler, Verdict};

struct Keeper<'a> {
    kept: Vec<&'a [u8]>,
}

impl Handler<u64> for Keeper<'static> {
    type Output = ();
    fn on_event(&mut self, event: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        self.kept.push(event.payload());
        Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, u64>) {}
}

fn main() {}
