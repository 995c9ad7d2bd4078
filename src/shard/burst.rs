//! A burst: what happens to the events of one lane, one after the other, from its head on.
//!
//! # Invariants
//! - An event leaves its lane as exactly one of handled, expired or failed; the counter is written before the slot is
//!   released, and what it emitted is published before that.
//! - A lane whose head is to be retried rests for the rest of the poll, and if the handler found a lane of the mesh full,
//!   until that has room. Other lanes go on.
//! - An event is retried for a limited time: its first attempt after that is its last.

use super::handler::{Context, Event, Handler};
use super::mesh::Mesh;
use super::parts::ClassRule;
use crate::clock::Clock;
use crate::event::{Failure, Verdict};
use crate::lane::LaneConsumer;
use crate::latency::Recorder;

/// Whether the event at the head of a lane, which was put off because a lane of the mesh was full, is to be given to the
/// handler again: that lane has room, or the event fails now.
///
/// It takes parts of the context, so that the context itself can stay in registers.
#[cold]
pub(super) fn may_go_on_slow<E>(
    lane: &mut LaneConsumer<E>,
    rule: &ClassRule,
    retry_limit: u64,
    clock: &Clock,
    mesh: &mut Mesh<E>,
) -> bool {
    let (Some(blocked), Some(head)) = (lane.blocked(), lane.head()) else { return true };
    let now = clock.ticks();
    let is_late = rule.stamped.has(head.item.sequence())
        && rule.lateness(now.saturating_sub(head.item.stamp())).is_some();
    let goes_on = is_late || head.retried_for(now) >= retry_limit || mesh.is_unblocked(blocked);
    if goes_on {
        lane.unblock();
    }
    goes_on
}

/// Passes an event whose time to live is over, by `lateness` ticks of the clock.
#[inline(always)]
fn expire<E>(event: Event<'_, E>, recorder: &mut Recorder, clock: &Clock, lateness: u64) {
    if event.head.is_retried() {
        // It was in time, and was put off until it was too late.
        event.head.failed(Failure::Retry);
    } else {
        recorder.expired(clock.nanos_between(0, lateness));
        event.head.expired();
    }
}

/// Serves one lane until it is empty, rests, or nothing is left of the burst.
#[inline(always)]
pub(super) fn serve_lane<E: Send + 'static, H: Handler<E>>(
    lane: &mut LaneConsumer<E>,
    rule: &ClassRule,
    recorder: &mut Recorder,
    retry_limit: u64,
    handler: &mut H,
    context: &mut Context<'_, E>,
    left: &mut u64,
) {
    // The clock, as it was read when the event before had been handled.
    let mut read = None;
    while *left > 0 {
        let Some(head) = lane.head() else { break };
        let last = read.take(); // Good for the very next event alone.
        let sequence = head.item.sequence();
        let mut event = Event { head, stamp: None };
        let mut begun = 0;
        // One question for all that takes the clock: only what is stamped expires or is measured. (The slots of
        // other events keep what older ones left there.)
        if rule.stamped.has(sequence) {
            let stamp = event.head.item.stamp();
            // One reading ends an event and begins the next, if that was there by then.
            begun = match last {
                Some(read) if read >= stamp => read,
                _ if rule.takes_clock() => context.clock.ticks(),
                _ => stamp,
            };
            if let Some(lateness) = rule.lateness(begun.saturating_sub(stamp)) {
                expire(event, recorder, context.clock, lateness);
                *left -= 1;
                continue;
            }
            event.stamp = Some(stamp);
        }
        match handler.on_event(&mut event, context) {
            Verdict::Done => {
                context.mesh.publish();
                let Event { head, stamp } = event;
                head.handled();
                *left -= 1;
                if let Some(stamp) = stamp
                    && rule.measured.has(sequence)
                {
                    let ended = context.clock.ticks();
                    let wait_ns = context.clock.nanos_between(stamp, begun);
                    recorder.handled(wait_ns, context.clock.nanos_between(begun, ended));
                    read = Some(ended);
                }
            }
            Verdict::Retry => {
                let blocked = context.mesh.abort();
                if event.head.retry(context.clock.ticks(), blocked) < retry_limit {
                    break;
                }
                event.head.failed(Failure::Retry);
                *left -= 1;
            }
        }
    }
}

/// How far a burst has come.
pub(super) struct Burst {
    pub class: usize,
    /// The place of the lane that is served.
    pub place: usize,
    /// The first place that gave an event, once one has.
    pub first: usize,
    /// How many lanes are still to be looked at, this one included.
    pub places: usize,
    pub left: u64,
    pub limit: u64,
    /// All events are served.
    pub ending: bool,
}

impl Burst {
    #[inline(always)]
    pub fn served(&self) -> u64 {
        self.limit - self.left
    }
}
